//! What happens next.

use std::time::Duration;

use bytes::Bytes;
use sluice_media::messages::{Request, WorkerIndex};
use sluice_media::wire::rtp::{AudioLevel, CarriedExtensions, RtpHeader, write_canonical_header};
use sluice_media::{Input, TransportAddress};
use sluice_mesh::{DataMessage, Frame, FrameClass, FrameFlags};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::ortc::SctpStreamParameters;
use sluice_proto::pipe::RouteFeedback;

use super::cast::{self, ADDRESSES, CONSUMERS, ENDS, EPOCHS, PRODUCERS, ROUTERS, ROUTES, SSRCS, Stream, USERS};
use super::packets;
use super::world::{PASSWORD, World, credentials, route_in};
use crate::dtls_ends::fragment;
use crate::pipe_messages;
use crate::reader::Reader;
use crate::stun::Check;

/// Datagrams of a user that may come again.
const MAX_SAVED: usize = 64;

/// One step, of what is chosen.
pub(super) fn step(reader: &mut Reader<'_>, world: &mut World) {
    match reader.u8() % 19 {
        0..=4 => send_rtp(reader, world),
        5 => send_burst(reader, world),
        6 => send_rtcp(reader, world),
        7 => request(reader, world),
        8 => world.pass(time(reader)),
        9 => world.sleep(Duration::from_millis(u64::from(reader.u16())) * (1 + u32::from(reader.u8() % 64) * 1_000)),
        10 | 11 => send_frames(reader, world),
        12 => send_check(reader, world),
        13 => send_any(reader, world),
        14 => send_again(reader, world),
        15 => {
            let (from, route) = (ENDS[reader.below(ENDS.len())], reader.below(ROUTES) as u32);
            let epoch = reader.below(EPOCHS) as u8;
            world.feedback(from, RouteFeedback { route, epoch, body: pipe_messages::feedback(reader) });
        }
        16 => {
            let address = cast::address(reader.below(ADDRESSES));
            let (worker, owned) = (WorkerIndex(1 + reader.u16() % 3), reader.flag());
            match address {
                TransportAddress::Udp(address) => world.give(Input::AddressOwned { address, worker, owned }),
                TransportAddress::Tcp(remote) => {
                    world.witness.forget(address);
                    world.give(Input::ConnectionEnded(remote));
                }
            }
        }
        18 => data(reader, world),
        _ => {
            let waited = Duration::from_millis(reader.u8().into());
            let idle = Duration::from_millis(u64::from(reader.u8() / 16));
            world.give(Input::Lag { waited, idle });
        }
    }
}

/// From a millisecond to a minute.
fn time(reader: &mut Reader<'_>) -> Duration {
    const MILLIS: [u64; 14] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 21_000, 60_000];
    Duration::from_millis(MILLIS[reader.below(MILLIS.len())])
}

/// Seals a packet of a user and hands it over, now or together with the next one.
fn send_sealed(world: &mut World, user: usize, mut packet: Vec<u8>, is_rtcp: bool, is_held: bool) {
    let Some(sealer) = &mut world.users[user].sealer else { return };
    let lengths = sealer.lengths();
    packet.resize(packet.len() + if is_rtcp { lengths.rtcp_overhead } else { lengths.rtp_overhead }, 0);
    let sealed = if is_rtcp { sealer.seal_rtcp(&mut packet) } else { sealer.seal_rtp(&mut packet).map(|_| ()) };
    // A number that was used before.
    if sealed.is_err() {
        return;
    }
    let saved = &mut world.users[user].saved;
    if saved.len() < MAX_SAVED {
        saved.push(packet.clone());
    }
    if is_held {
        world.hold(cast::address(user), packet);
    } else {
        world.datagram(cast::address(user), packet);
    }
}

fn send_rtp(reader: &mut Reader<'_>, world: &mut World) {
    let choice = reader.u8();
    let (user, ssrc) = (usize::from(choice & 3), usize::from(choice >> 3) % SSRCS);
    let packet = packets::rtp(reader, world, user, ssrc);
    send_sealed(world, user, packet, false, choice & 4 != 0);
}

/// Packets of one stream, all of the same choices.
fn send_burst(reader: &mut Reader<'_>, world: &mut World) {
    let choice = reader.u8();
    let (user, ssrc) = (usize::from(choice & 3), usize::from(choice >> 3) % SSRCS);
    let count = reader.u8();
    let mut after = reader.clone();
    for _ in 0..count {
        after = reader.clone();
        let packet = packets::rtp(&mut after, world, user, ssrc);
        send_sealed(world, user, packet, false, choice & 4 != 0);
    }
    *reader = after;
}

fn send_rtcp(reader: &mut Reader<'_>, world: &mut World) {
    let choice = reader.u8();
    let compound = packets::compound(reader, world);
    send_sealed(world, usize::from(choice & 3), compound, true, choice & 4 != 0);
}

fn send_frames(reader: &mut Reader<'_>, world: &mut World) {
    let end = reader.below(ENDS.len());
    let frames = (0..=reader.below(8)).map(|_| frame(reader, world, end)).collect();
    world.frames(ENDS[end], frames);
}

fn frame(reader: &mut Reader<'_>, world: &mut World, end: usize) -> Frame {
    let choice = reader.u8();
    let route = usize::from(choice & 3) % ROUTES;
    let sent = &mut world.sent_frames[end][route];
    let seq = sent.wrapping_add_signed(i16::from(reader.u8().cast_signed()) + 1);
    if seq.wrapping_sub(*sent) < 0x8000 {
        *sent = seq;
    }
    let layers = reader.u8();
    let class = match layers & 3 {
        0 => FrameClass::Audio,
        kind => FrameClass::Video { temporal: layers >> 4 & 3, spatial: 0, key: kind == 1 },
    };
    let (payload_type, timestamp) = ([100, 101, 103][usize::from(layers >> 6) % 3], u32::from(seq / 4) * 3_000);
    let sequence_number = if choice & 4 == 0 { seq } else { reader.u16() };
    let header =
        RtpHeader { marker: layers & 8 != 0, payload_type, sequence_number, timestamp, ssrc: cast::mapped_ssrc(route) };
    let mut packet = Vec::new();
    let level = (choice & 8 != 0).then(|| AudioLevel::from_byte(reader.u8()));
    let descriptor = (choice & 0x20 != 0).then(|| reader.short());
    let carried = CarriedExtensions { dependency_descriptor: descriptor, ..CarriedExtensions::default() };
    write_canonical_header(header, level, carried.checked().as_ref(), &mut packet);
    packet.extend(packets::payload(reader));
    let epoch = RouteEpoch(1 + (choice >> 6) % 2);
    let flags = FrameFlags { retransmission: choice & 0x10 != 0 };
    let mut frame = Frame { route: RouteId(route as u32), epoch, seq, flags, class, packet: packet.into() };
    match layers & 0x0c {
        0x0c => frame.shed(),
        0x04 => frame.packet = Bytes::copy_from_slice(reader.short()),
        _ => {}
    }
    frame
}

/// A connectivity check, of whoever knows the password or does not.
fn send_check(reader: &mut Reader<'_>, world: &mut World) {
    let (user, from, options, age) = (reader.below(USERS), reader.below(ADDRESSES), reader.u8(), reader.u8());
    let generation = world.users[user].generation.saturating_sub(u32::from(age % 3));
    let mut ufrag = credentials(user, generation).ufrag;
    if options & 0xc0 == 0xc0 {
        // Of another worker.
        ufrag.replace_range(3..4, "1");
    }
    let mut check = Check::new(&format!("{ufrag}:client")).with(0x0024, &[0x6e, reader.u8(), 0, 1]);
    if options & 1 != 0 {
        check = check.with(0x0025, &[]);
    }
    if options & 2 != 0 {
        check = check.with(0xc001, &[0, 0, 0, reader.u8()]);
    }
    if options & 4 != 0 {
        check = check.with(reader.u16(), reader.short());
    }
    let knows = options & 0x30 != 0x30;
    let message = check.sign(if knows { PASSWORD } else { "a guess" });
    let address = cast::address(from);
    if knows {
        world.witness.authenticate(user, address);
    }
    world.datagram(address, message);
}

/// Anything, or a part of a DTLS handshake.
fn send_any(reader: &mut Reader<'_>, world: &mut World) {
    let choice = reader.u8();
    let source = cast::address(usize::from(choice) % ADDRESSES);
    let data = match choice >> 6 {
        0 | 1 => reader.long().to_vec(),
        2 => {
            let (kind, message, body) = (reader.u8() % 24, reader.u8() % 8, reader.long());
            fragment(kind, message.into(), body.len(), 0, body)
        }
        _ => {
            let mut packet = vec![0x80 | reader.u8() & 0x3f, reader.u8()];
            packet.extend(reader.short());
            packet
        }
    };
    if choice & 8 == 0 { world.datagram(source, data) } else { world.hold(source, data) }
}

/// What a user sent before comes again, from where it likes, and maybe not as it was.
fn send_again(reader: &mut Reader<'_>, world: &mut World) {
    let (user, from, which) = (reader.below(USERS), reader.below(ADDRESSES), usize::from(reader.u8()));
    let saved = &world.users[user].saved;
    let Some(mut packet) = saved.get(which % saved.len().max(1)).cloned() else { return };
    let (at, bits) = (usize::from(reader.u16()) % packet.len(), reader.u8());
    packet[at] ^= bits;
    world.datagram(cast::address(from), packet);
}

fn stream(reader: &mut Reader<'_>) -> Stream {
    Stream::ALL[reader.below(Stream::ALL.len())]
}

fn route(reader: &mut Reader<'_>) -> (usize, u32, u8) {
    (reader.below(ENDS.len()), reader.below(ROUTES) as u32, 1 + reader.below(2) as u8)
}

fn request(reader: &mut Reader<'_>, world: &mut World) {
    match reader.below(16) {
        0 => world.create_router(reader.below(ROUTERS)),
        1 => world.close_router(reader.below(ROUTERS)),
        2 => world.create_transport(reader.below(ROUTERS), reader.below(USERS)),
        3 => world.connect(reader.below(USERS), reader.flag()),
        4 => world.connect_by_dtls(reader.below(USERS), reader.flag()),
        5 => world.restart_ice(reader.below(USERS)),
        6 => world.close_transport(reader.below(USERS)),
        7 | 8 => {
            let (user, producer, stream) = (reader.below(USERS), reader.below(PRODUCERS), stream(reader));
            let ssrc = reader.below(SSRCS);
            world.produce(user, producer, stream, Some(ssrc).filter(|ssrc| ssrc % 2 == 0), reader.flag());
        }
        9 | 10 => {
            let (user, consumer, producer) = (reader.below(USERS), reader.below(CONSUMERS), reader.below(PRODUCERS));
            world.consume(user, consumer, producer, stream(reader), reader.flag());
        }
        11 => {
            let (router, producer, stream) = (reader.below(ROUTERS), reader.below(PRODUCERS), stream(reader));
            let route = reader.flag().then(|| route(reader));
            world.create_pipe_producer(router, producer, stream, route, reader.flag());
        }
        12 => {
            let producer = reader.below(PRODUCERS);
            let route = reader.flag().then(|| route(reader));
            world.move_pipe_producer(producer, route);
        }
        13 => {
            let (producer, (end, route, epoch)) = (reader.below(PRODUCERS), route(reader));
            world.open_route_out(producer, end, route, epoch);
        }
        _ => ask(reader, world),
    }
}

/// Data channels: who there is, what is said, and what comes by routes.
fn data(reader: &mut Reader<'_>, world: &mut World) {
    let (choice, number) = (reader.below(8), reader.u8());
    let (producer, consumer) =
        (cast::producer(usize::from(number) % PRODUCERS), cast::consumer(usize::from(number >> 4) % CONSUMERS));
    let (router, transport) =
        (cast::router(usize::from(number) % ROUTERS), cast::transport(usize::from(number) % USERS));
    let is_reliable = number & 8 == 0;
    let max_retransmits = (!is_reliable).then_some(0);
    let stream_id = u16::from(number >> 6);
    let stream = SctpStreamParameters { stream_id, ordered: is_reliable, max_packet_life_time: None, max_retransmits };
    let _ = match choice {
        0 => world.request(Request::CreateDirectDataProducer { router, producer, stream }),
        1 => {
            let route = reader.flag().then(|| route_in(route(reader)));
            world.request(Request::CreatePipeDataProducer { router, producer, stream, route })
        }
        2 => {
            let payload = vec![number; 1 << (reader.u8() % 19)].into();
            world.request(Request::SendData { producer, to: None, ppid: 53, payload })
        }
        3 => world.request(Request::ProduceData { transport, producer, stream }),
        4 => world.request(Request::ConsumeData { transport, consumer, producer, stream, paused: false }),
        5 => world.request(Request::DataProducerStats { producer }),
        _ => {
            let (end, route, epoch) = route(reader);
            let number = match reader.u8() {
                255 => u64::MAX,
                number => number.into(),
            };
            let (route, epoch, ppid) = (RouteId(route), RouteEpoch(epoch), 51);
            // The same number is the same message, as senders have it.
            let payload = vec![number as u8; number as usize % 7].into();
            let message = DataMessage { route, epoch, number, ppid, payload };
            return world.give(Input::Data { from: ENDS[end], message });
        }
    };
}

/// Requests that say nothing new of whom there is.
fn ask(reader: &mut Reader<'_>, world: &mut World) {
    let choice = reader.below(14);
    let number = reader.u8();
    let producer = cast::producer(usize::from(number) % PRODUCERS);
    let consumer = cast::consumer(usize::from(number) % CONSUMERS);
    let transport = cast::transport(usize::from(number) % USERS);
    let _ = world.request(match choice {
        0 => Request::CloseProducer { producer },
        1 | 2 => Request::PauseProducer { producer },
        3 | 4 => Request::ResumeProducer { producer },
        5 => Request::CloseConsumer { consumer },
        6 => Request::PauseConsumer { consumer },
        7 => Request::ResumeConsumer { consumer },
        8 if number >= 0x80 => Request::SetConsumerPriority { consumer, priority: number },
        8 => Request::RequestKeyFrame { consumer },
        9 => Request::TransportStats { transport },
        10 => Request::ProducerStats { producer },
        11 => Request::ConsumerStats { consumer },
        12 => Request::Snapshot,
        _ => {
            let (end, route, epoch) = route(reader);
            Request::ClosePipeConsumer { to: ENDS[end], route: RouteId(route), epoch: RouteEpoch(epoch) }
        }
    });
}

/// A stream of `key` and `delta` payloads, by a pipe or of the first user, with what its receivers say of it.
pub(super) fn write_stream(out: &mut Vec<u8>, by_pipe: bool, key: u8, delta: u8) {
    for number in 0..12 {
        let payload = if number % 6 == 0 { key } else { delta };
        // One is lost, and comes late.
        let skip = match number {
            4 => 1,
            5 => 0xfd,
            6 => 1,
            _ => 0,
        };
        if by_pipe {
            out.extend([10, 0, 0, 0x40, skip, if payload == key { 0x41 } else { 0x42 }, payload, 20]);
        } else {
            out.extend([0, 0, 0x11, skip, 0x02, payload, 20]);
        }
        out.extend([8, 4]);
    }
    // Of the first consumer: some packets again, a key frame, a report, and transport-wide feedback.
    let user = u8::from(!by_pipe);
    out.extend([6, user, 2, 0, 0, 0, 0, 4, 2, 0, 4, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 1]);
    out.extend([8, 7, 6, user, 0, 6, 0, 0, 0, 30, 8, 9]);
    // The other end of a route: what it misses, and a key frame.
    out.extend([15, 0, 0, 1, 3, 0, 0, 5, 15, 0, 0, 1, 2, 8, 9]);
    // Paused and carried on, shed and taken up again, and closed.
    out.extend([7, 14, 1, 0, 8, 9, 7, 14, 3, 0, 17, 200, 0, 8, 4, 17, 200, 0, 8, 4, 17, 200, 0, 8, 11, 7, 14, 0, 0]);
}
