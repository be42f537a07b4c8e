//! SCTP by DTLS, as a client with keys may have it: packets of a true association that are lost, repeated or changed,
//! others that are made up around its tags and numbers, and anything. Whatever comes, nobody but that client is sent
//! what it did not send, what one packet makes is bounded, and the implementation behind it does not fail.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, Socket, SocketEvent, SocketState, SocketTime, StreamId,
};
use sluice_media::drop_reason::DropReason;
use sluice_media::messages::{
    Account, PipeEnd, Request, RequestId, Response, WorkerCommand, WorkerEvent, WorkerIndex, WorkerSnapshot,
};
use sluice_media::secure::dtls::Association;
use sluice_media::secure::ice::IceCredentials;
use sluice_media::{
    AudioLimits, DataLimits, Datagram, Input, Media, MediaConfig, Output, TransportAddress, make_ufrag,
};
use sluice_mesh::LinkKey;
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId, TransportId};
use sluice_proto::ortc::{DtlsParameters, DtlsRole, SctpStreamParameters};
use sluice_proto::pipe::{FeedbackBody, RouteFeedback, Wanted};

use crate::dtls_ends::{certificate, client_certificate, origin};
use crate::reader::Reader;
use crate::stun::Check;

/// What a run may have: it is to take some milliseconds.
const MAX_STEPS: usize = 200;

/// What one input makes: the messages that are read at once, to their consumer and their route, and what is said of it.
const MAX_OUTPUTS: usize = 1_024;

const PASSWORD: &str = "a password of 24 letters";
const ROUTER: RouterId = RouterId::from_bytes([1; 16]);
const TRANSPORT: TransportId = TransportId::from_bytes([2; 16]);
const ROUTE: (RouteId, RouteEpoch) = (RouteId(1), RouteEpoch(1));

/// What the client sends on, of each kind, and gets on.
const RELIABLE: u16 = 0;
const UNRELIABLE: u16 = 1;
const RECEIVED: [u16; 2] = [2, 3];

/// A core and its client.
struct World {
    now: Instant,
    media: Media,
    dtls: Association,
    sctp: Socket,
    /// Packets of the client's own that are not sent yet.
    own: VecDeque<Vec<u8>>,
    /// Of its association: the node's tag, and the newest numbers of both.
    tag: u32,
    own_tsn: u32,
    node_tsn: u32,
    response: Option<Response>,
}

/// The bytes are what the client does.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut world = World::new(reader.flag());
    for _ in 0..MAX_STEPS {
        if reader.is_empty() {
            break;
        }
        step(&mut reader, &mut world);
    }
    world.finish();
}

fn step(reader: &mut Reader<'_>, world: &mut World) {
    match reader.u8() % 16 {
        // Most of what is sent arrives.
        0..=3 => {
            let packets = std::mem::take(&mut world.own);
            packets.iter().for_each(|packet| world.send(packet));
        }
        4 => drop(world.own.pop_front()),
        5 => world.own.extend(world.own.front().cloned()),
        6 => {
            let Some(mut packet) = world.own.pop_front() else { return };
            let (at, bits) = (usize::from(reader.u16()) % packet.len(), reader.u8());
            packet[at] ^= bits;
            world.send_unchecked(packet);
        }
        7 | 8 => {
            let (choice, len) = (reader.u8(), reader.u16());
            let len = if choice & 0x80 == 0 { len % 2_048 } else { len };
            world.say(u16::from(choice & 7), choice & 8 != 0, usize::from(len) + 1);
        }
        9 => world.pass(Duration::from_millis(u64::from(reader.u8()).pow(2))),
        10 => {
            let packet = made_up(reader, world);
            world.send_unchecked(packet);
        }
        11 => {
            let (choice, packet) = (reader.u8(), made_up(reader, world));
            for _ in 0..choice {
                world.send_unchecked(packet.clone());
                world.own_tsn = world.own_tsn.wrapping_add(1);
            }
        }
        12 => world.send(reader.long()),
        13 => world.close_stream(u16::from(reader.u8() % 8)),
        14 => {
            let next = u64::from(reader.u8());
            let (route, epoch) = (ROUTE.0.0, ROUTE.1.0);
            let feedback = RouteFeedback {
                route,
                epoch,
                body: FeedbackBody::DataReceived { next, missed: (next % 2 == 0).then_some(0) },
            };
            world.give(Input::Feedback { from: PipeEnd::Node(LinkKey(1)), feedback });
        }
        _ => ask(reader, world),
    }
}

/// A packet of the association with chunks that its client never made.
fn made_up(reader: &mut Reader<'_>, world: &World) -> Vec<u8> {
    let choice = reader.u8();
    let tag = if choice & 0xc0 == 0xc0 { reader.u32() } else { world.tag };
    let mut packet = vec![0x13, 0x88, 0x13, 0x88];
    packet.extend(tag.to_be_bytes());
    packet.extend([0; 4]);
    for _ in 0..=choice % 8 {
        let (kind, flags) = (reader.u8(), reader.u8());
        let near = |tsn: u32, by: u8| tsn.wrapping_add_signed(i32::from(by.cast_signed())).to_be_bytes();
        let mut value = Vec::new();
        let kind = match kind {
            0..=99 => {
                value.extend(near(world.own_tsn, reader.u8()));
                value.extend([0, reader.u8() % 8, 0, reader.u8(), 0, 0, 0, 50 + reader.u8() % 8]);
                value.extend(reader.short());
                0
            }
            100..=149 => {
                value.extend(near(world.node_tsn, reader.u8()));
                value.extend([0, reader.u8(), 0, 0, 0, reader.u8() % 4, 0, reader.u8() % 4]);
                value.extend(reader.short());
                3
            }
            150..=179 => {
                value.extend(near(world.own_tsn, reader.u8()));
                value.extend(reader.short());
                192
            }
            180..=209 => {
                // An outgoing reset request: the client's numbers of requests begin with its first TSN.
                let parameter = [0, 13 + reader.u8() % 5, 0, 16 + (reader.u8() & 2)];
                value.extend(parameter);
                value.extend(near(world.own_tsn, reader.u8()));
                value.extend(near(world.node_tsn, reader.u8()));
                value.extend(near(world.own_tsn, reader.u8()));
                value.extend([0, reader.u8() % 8]);
                130
            }
            any => {
                value.extend(reader.short());
                if any & 1 == 0 { any & 15 } else { reader.u8() }
            }
        };
        packet.extend([kind, flags]);
        packet.extend((value.len() as u16 + 4).to_be_bytes());
        packet.extend(&value);
        packet.resize(packet.len().next_multiple_of(4), 0);
    }
    packet
}

/// Requests of whoever decides which channels there are.
fn ask(reader: &mut Reader<'_>, world: &mut World) {
    let choice = reader.u8();
    let number = choice >> 4 & 1;
    let (producer, consumer) = (producer(number.into()), consumer(number.into()));
    match choice % 6 {
        0 => world.request(Request::CloseProducer { producer }),
        1 => world.request(Request::CloseConsumer { consumer }),
        2 => world.set_up(),
        3 => world.request(Request::TransportStats { transport: TRANSPORT }),
        4 => world.request(Request::DataConsumerStats { consumer }),
        _ => world.request(Request::SendData { producer, to: None, ppid: 51, payload: vec![1].into() }),
    };
}

fn producer(number: usize) -> ProducerId {
    ProducerId::from_bytes([0x30 + number as u8; 16])
}

fn consumer(number: usize) -> ConsumerId {
    ConsumerId::from_bytes([0x40 + number as u8; 16])
}

fn stream(stream_id: u16, is_reliable: bool) -> SctpStreamParameters {
    let max_retransmits = (!is_reliable).then_some(1);
    SctpStreamParameters { stream_id, ordered: is_reliable, max_packet_life_time: None, max_retransmits }
}

fn address() -> TransportAddress {
    TransportAddress::Udp(([192, 0, 2, 1], 1_000).into())
}

impl World {
    /// A client that is connected, with the channels of [`set_up`](Self::set_up). The node calls, or the client.
    fn new(node_calls: bool) -> Self {
        let now = origin();
        let media = Media::new(MediaConfig {
            worker: WorkerIndex(0),
            certificate: certificate(),
            epoch: (now, Duration::from_secs(1_700_000_000)),
            seed: 1,
            audio: AudioLimits::default(),
            data: DataLimits::default(),
        });
        let mut dtls = Association::new(client_certificate());
        dtls.accept_application_data();
        let sctp = Socket::new("", &Options::default());
        let (own, response) = (VecDeque::new(), None);
        let mut world = Self { now, media, dtls, sctp, own, tag: 0, own_tsn: 0, node_tsn: 0, response };
        let ufrag = make_ufrag(WorkerIndex(0), "client00");
        let ice = IceCredentials { ufrag: ufrag.clone(), pwd: PASSWORD.to_owned() };
        world.request(Request::CreateRouter { router: ROUTER, account: Account(0) });
        let (router, transport) = (ROUTER, TRANSPORT);
        world.request(Request::CreateWebRtcTransport { router, transport, ice, data_channels: true });
        let dtls = DtlsParameters { role: DtlsRole::Client, fingerprints: client_certificate().fingerprints() };
        world.request(Request::ConnectWebRtcTransport { transport, dtls });
        world.datagram(Check::new(&format!("{ufrag}:client")).with(0x0025, &[]).sign(PASSWORD));
        let node = DtlsParameters { role: DtlsRole::Server, fingerprints: certificate().fingerprints() };
        world.dtls.connect(now, &node, true);
        world.drain_client();
        if node_calls {
            world.set_up();
        } else {
            world.sctp.connect();
        }
        world.exchange();
        world.set_up();
        world.exchange();
        assert_eq!(world.sctp.state(), SocketState::Connected);
        world
    }

    /// Two data producers of the client, which gets them back, and a route of each.
    fn set_up(&mut self) -> Option<Response> {
        for (number, (from, to)) in [RELIABLE, UNRELIABLE].into_iter().zip(RECEIVED).enumerate() {
            let (producer, consumer, is_reliable) = (producer(number), consumer(number), from == RELIABLE);
            let transport = TRANSPORT;
            self.request(Request::ProduceData { transport, producer, stream: stream(from, is_reliable) });
            self.request(Request::ConsumeData {
                transport,
                consumer,
                producer,
                stream: stream(to, is_reliable),
                paused: false,
            });
        }
        let ((route, epoch), to, wanted) = (ROUTE, PipeEnd::Node(LinkKey(1)), Wanted::ALL);
        self.request(Request::CreatePipeConsumer { producer: producer(0), to, route, epoch, wanted })
    }

    /// Both ends get what the other sends until there is nothing more.
    fn exchange(&mut self) {
        while !self.own.is_empty() {
            for packet in std::mem::take(&mut self.own) {
                self.send(&packet);
            }
        }
    }

    /// The answer to a request, if it was granted.
    fn request(&mut self, request: Request) -> Option<Response> {
        self.give(Input::Command(WorkerCommand::Request { id: RequestId(1), request }));
        self.response.take()
    }

    fn datagram(&mut self, mut data: Vec<u8>) {
        self.give(Input::Datagrams(&mut [Datagram { source: address(), data: &mut data }]));
    }

    fn give(&mut self, input: Input<'_>) {
        let is_timeout = matches!(input, Input::Timeout);
        self.media.handle_input(self.now, input);
        let mut outputs = 0;
        let mut to_client = Vec::new();
        while let Some(output) = self.media.poll_output() {
            match output {
                Output::Transmit(transmit) => {
                    assert_eq!(transmit.destination, address());
                    let size = transmit.segment_size.unwrap_or(transmit.contents.len());
                    assert!(size <= 1_472);
                    to_client.extend(transmit.contents.chunks(size).map(<[u8]>::to_vec));
                    outputs += transmit.contents.len().div_ceil(size);
                }
                Output::Data { to, message } => {
                    assert_eq!((to, message.route, message.epoch), (PipeEnd::Node(LinkKey(1)), ROUTE.0, ROUTE.1));
                    outputs += 1;
                }
                Output::Event(WorkerEvent::Response { result, .. }) => self.response = result.ok(),
                Output::Event(_) | Output::Feedback { .. } | Output::AddressOwned { .. } => outputs += 1,
                Output::Frames { .. } | Output::Forward { .. } => panic!("there is nobody else"),
            }
        }
        assert!(outputs <= MAX_OUTPUTS, "one input makes {outputs} outputs");
        if is_timeout {
            assert!(self.media.poll_timeout().is_none_or(|at| at > self.now), "it would be woken for ever");
        }
        to_client.iter().for_each(|datagram| self.receive(datagram));
    }

    /// The client gets a datagram.
    fn receive(&mut self, datagram: &[u8]) {
        if datagram[0] <= 3 {
            return;
        }
        let _ = self.dtls.handle(self.now, datagram);
        while let Some(packet) = self.dtls.poll_application_data() {
            self.watch(&packet, true);
            self.sctp.advance_time(SocketTime::zero() + (self.now - origin()));
            self.sctp.handle_input(&packet);
        }
        self.drain_client();
    }

    fn drain_client(&mut self) {
        while let Some(event) = self.sctp.poll_event() {
            if let SocketEvent::SendPacket(packet) = event {
                self.watch(&packet, false);
                self.own.push_back(packet);
            }
        }
        while self.sctp.get_next_message().is_some() {}
        let handshake: Vec<_> = std::iter::from_fn(|| self.dtls.poll_transmit()).collect();
        handshake.into_iter().for_each(|datagram| self.datagram(datagram.to_vec()));
    }

    /// Learns tags and numbers of a packet.
    fn watch(&mut self, packet: &[u8], of_node: bool) {
        let number = |at: usize| Some(u32::from_be_bytes(*packet.get(at..)?.first_chunk()?));
        let tsn = match packet.get(12) {
            Some(0) => number(16),
            Some(1 | 2) => number(28),
            _ => None,
        };
        let newest = if of_node { &mut self.node_tsn } else { &mut self.own_tsn };
        *newest = tsn.unwrap_or(*newest);
        if !of_node {
            self.tag = number(4).filter(|tag| *tag != 0).unwrap_or(self.tag);
        }
    }

    /// A packet goes to the node.
    fn send(&mut self, packet: &[u8]) {
        let mut record = vec![0; packet.len() + Association::RECORD_OVERHEAD];
        if self.dtls.seal_application_data(packet, &mut record).is_ok() {
            self.datagram(record);
        }
    }

    /// The same, without a checksum, so that it is read whatever is in it.
    fn send_unchecked(&mut self, mut packet: Vec<u8>) {
        packet.iter_mut().skip(8).take(4).for_each(|byte| *byte = 0);
        self.send(&packet);
    }

    fn say(&mut self, stream_id: u16, unordered: bool, len: usize) {
        let message = Message::new(StreamId(stream_id), PpId(53), vec![7; len]);
        let _ = self.sctp.send(message, &SendOptions { unordered, ..SendOptions::default() });
        self.drain_client();
    }

    fn close_stream(&mut self, stream: u16) {
        let _ = self.sctp.reset_streams(&[StreamId(stream)]);
        self.drain_client();
    }

    /// Time passes for both. What the client sends then waits.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.media.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::Timeout);
        }
        self.now = end;
        self.sctp.advance_time(SocketTime::zero() + (self.now - origin()));
        self.drain_client();
    }

    /// Ends a run: nothing failed, and nothing is left.
    fn finish(&mut self) {
        self.pass(Duration::from_secs(2));
        let failed = self.snapshot().drops.into_iter().find(|(reason, _)| *reason == DropReason::SctpFault.label());
        assert_eq!(failed, None, "the implementation of SCTP panicked");
        self.request(Request::CloseRouter { router: ROUTER });
        let left = self.snapshot();
        assert_eq!([left.transports, left.data_producers, left.data_consumers, left.pipe_data_consumers], [0; 4]);
        self.pass(Duration::from_secs(120));
        assert_eq!(self.media.poll_timeout(), None, "somebody who is gone is waited for");
    }

    fn snapshot(&mut self) -> WorkerSnapshot {
        match self.request(Request::Snapshot) {
            Some(Response::Snapshot(snapshot)) => *snapshot,
            other => panic!("{other:?}"),
        }
    }
}

/// Messages both ways, closed channels, an association that is made anew, and packets that are made up.
pub fn seeds() -> Vec<Vec<u8>> {
    let talk: &[u8] = &[7, 0, 0, 200, 0, 7, 9, 1, 0, 0, 0, 9, 20, 0, 7, 0x80, 255, 255, 0, 9, 14, 0, 0, 0, 0];
    let data = [10, 0, 0, 3, 1, 0, 0, 3, 5, 1, 2, 3, 4, 5, 9, 5];
    let fragments = [11, 200, 5, 0, 2, 1, 0, 0, 3, 1, 9, 0, 0, 1, 0, 0, 3, 1, 9, 9, 30];
    let forward = [10, 0, 160, 0, 3, 4, 0, 0, 0, 1, 10, 0, 120, 0, 0, 255, 1, 1, 4, 0, 2, 0, 3, 9, 20];
    let reset = [10, 0, 190, 0, 0, 2, 0, 0, 0, 0, 0, 13, 1, 0, 0, 9, 30, 13, 2, 0, 0];
    let others = [10, 2, 210, 0, 4, 0, 1, 0, 4, 211, 0, 2, 9, 9, 64, 212, 0, 0, 6, 7, 0, 200, 0];
    let mut seeds = Vec::new();
    for node_calls in [0, 1] {
        for more in
            [&data[..], &fragments, &forward, &reset, &others, &[15, 0, 15, 2, 4, 5, 6, 0, 20, 9], &[12, 3, 1, 2, 3]]
        {
            seeds.push([&[node_calls][..], talk, more, talk].concat());
        }
    }
    seeds
}
