//! Properties: what is encoded decodes to itself, any bytes decode to something, a route loses nothing that can be
//! repaired.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig, Loss, Rate};
use sluice_mesh::{
    Accept, DataDecoder, DataError, DataMessage, Frame, FrameClass, FrameEncoder, FrameFlags, MAX_DATA_PAYLOAD_LEN,
    MessageDecoder, Reassembler, RouteReceiver, RouteSender, decode_datagram, decode_nack, encode_data_message,
    encode_data_route, encode_message, encode_nacks,
};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{
    ControlBody, FeedbackBody, Hello, Layers, PipeMessage, RouteCloseReason, RouteControl, RouteFeedback, RouteStats,
    Wanted,
};

fn class() -> impl Strategy<Value = FrameClass> {
    let video = (0..=5_u8, 0..=3_u8, any::<bool>()).prop_map(|(temporal, spatial, key)| FrameClass::Video {
        temporal: if key { 0 } else { temporal },
        spatial,
        key,
    });
    prop_oneof![Just(FrameClass::Audio), video]
}

/// Frames as a link's queue has them: runs of a few routes.
fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let packet = prop_oneof![
        3 => vec(any::<u8>(), 0..200),
        1 => vec(any::<u8>(), 1100..2300),
    ];
    let run = (0..3_u32, any::<u8>(), any::<u16>(), any::<bool>(), class(), vec(packet, 1..8));
    let runs = vec(run, 0..6);
    runs.prop_map(|runs| {
        let runs = runs.into_iter().map(|(route, epoch, first, retransmission, class, packets)| {
            let frame = move |(n, packet): (u16, Vec<u8>)| Frame {
                route: RouteId(route),
                epoch: RouteEpoch(epoch),
                seq: first.wrapping_add(n),
                flags: FrameFlags { retransmission },
                class,
                packet: Bytes::from(packet),
            };
            (0..).zip(packets).map(frame).collect::<Vec<_>>()
        });
        runs.flatten().collect()
    })
}

fn encode_all(frames: &[Frame], max_size: usize) -> Vec<Bytes> {
    let mut encoder = FrameEncoder::new();
    let mut rest = frames;
    let mut datagrams = Vec::new();
    while let Some(encoded) = encoder.encode_next(rest, max_size) {
        let (first, second) = encoded.datagrams.expect("two datagrams suffice");
        datagrams.extend([Some(first), second].into_iter().flatten());
        rest = &rest[encoded.frames..];
    }
    datagrams
}

fn layers() -> impl Strategy<Value = Layers> {
    (any::<u8>(), any::<u8>()).prop_map(|(spatial, temporal)| Layers { spatial, temporal })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    proptest::array::uniform4(proptest::option::of(layers())).prop_map(Wanted)
}

fn control_body() -> impl Strategy<Value = ControlBody> {
    prop_oneof![
        (any::<[u8; 16]>(), ".{0,32}", ".{0,32}", wanted(), proptest::option::of(".{0,55}")).prop_map(
            |(producer, namespace, room, wanted, traceparent)| ControlBody::Subscribe {
                producer,
                namespace,
                room,
                wanted,
                traceparent
            }
        ),
        Just(ControlBody::Unsubscribe),
        Just(ControlBody::RouteClosed(RouteCloseReason::WrongRoom)),
    ]
}

fn feedback_body() -> impl Strategy<Value = FeedbackBody> {
    prop_oneof![
        wanted().prop_map(FeedbackBody::LayersWanted),
        any::<u8>().prop_map(FeedbackBody::StreamsOffered),
        proptest::option::of(layers()).prop_map(FeedbackBody::LayersCarried),
        any::<u8>().prop_map(FeedbackBody::KeyFrameRequest),
        vec(any::<u16>(), 0..1024).prop_map(FeedbackBody::Nack),
        (any::<u32>(), any::<u64>(), any::<u32>()).prop_map(|(ssrc, ntp, rtp_timestamp)| FeedbackBody::SenderReport {
            ssrc,
            ntp,
            rtp_timestamp
        }),
        (any::<u64>(), any::<u64>(), any::<u64>())
            .prop_map(|(received, lost, repaired)| FeedbackBody::Stats(RouteStats { received, lost, repaired })),
        any::<(u64, Option<u32>)>().prop_map(|(next, missed)| FeedbackBody::DataReceived { next, missed }),
        any::<(u64, u64)>().prop_map(|(oldest, next)| FeedbackBody::DataOffered { oldest, next }),
    ]
}

fn message() -> impl Strategy<Value = PipeMessage> {
    let of = (any::<u32>(), any::<u8>());
    prop_oneof![
        (of, control_body()).prop_map(|((route, epoch), body)| PipeMessage::Control(RouteControl {
            route,
            epoch,
            body
        })),
        (of, feedback_body()).prop_map(|((route, epoch), body)| PipeMessage::Feedback(RouteFeedback {
            route,
            epoch,
            body
        })),
        any::<u64>().prop_map(PipeMessage::DataConsumed),
    ]
}

/// Every path that a person can describe.
fn path() -> impl Strategy<Value = ImpairmentConfig> {
    let time = || (0..=60_000_000_000_u64).prop_map(Duration::from_nanos);
    let share = || 0.0..=1.0_f64;
    let gilbert_elliott = (share(), share(), share(), share()).prop_map(|(to_bad, to_good, loss_good, loss_bad)| {
        Loss::GilbertElliott { to_bad, to_good, loss_good, loss_bad }
    });
    let loss = prop_oneof![
        Just(Loss::None),
        share().prop_map(Loss::Random),
        (0.0..0.5_f64, 1.0..100.0_f64).prop_map(|(overall, length)| Loss::bursts(overall, length)),
        gilbert_elliott,
    ];
    let rate = (1..=8_000_000_000_u64, time()).prop_map(|(rate, queue)| Rate::new(rate, queue));
    let path = (time(), time(), loss, share(), time(), share(), proptest::option::of(rate), any::<bool>());
    path.prop_map(|(delay, jitter, loss, reorder, reorder_by, duplicate, rate, blackout)| ImpairmentConfig {
        delay,
        jitter,
        loss,
        reorder,
        reorder_by,
        duplicate,
        rate,
        blackout,
    })
}

/// Feeds a decoder in pieces of the given sizes.
fn decode_in_pieces(bytes: &[u8], pieces: &[usize]) -> Result<Vec<PipeMessage>, sluice_mesh::MessageError> {
    let mut decoder = MessageDecoder::new();
    let mut messages = Vec::new();
    let mut rest = bytes;
    for &piece in pieces.iter().cycle() {
        let (mut input, after) = rest.split_at(piece.min(rest.len()));
        while let Some(message) = decoder.decode(&mut input)? {
            messages.push(message);
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    Ok(messages)
}

/// Feeds a decoder of data in pieces of the given sizes; gives what came before the error, if there was one.
fn decode_data_in_pieces(bytes: &[u8], pieces: &[usize]) -> (Vec<DataMessage>, Result<(), DataError>) {
    let (mut decoder, mut messages, mut rest) = (DataDecoder::new(), Vec::new(), bytes);
    for &piece in pieces.iter().cycle() {
        let (mut input, after) = rest.split_at(piece.min(rest.len()));
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => return (messages, Err(error)),
            }
            assert!(decoder.held() <= MAX_DATA_PAYLOAD_LEN);
        }
        rest = after;
        if rest.is_empty() {
            break;
        }
    }
    (messages, decoder.finish())
}

/// Messages of one route, encoded as a stream.
fn data_stream(route: (RouteId, RouteEpoch), messages: &[DataMessage]) -> BytesMut {
    let mut bytes = BytesMut::new();
    encode_data_route(route.0, route.1, &mut bytes);
    messages.iter().for_each(|message| encode_data_message(message, &mut bytes).unwrap());
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn frames_come_back(frames in frames(), max_size in 1162..1400_usize) {
        let datagrams = encode_all(&frames, max_size);
        let (mut decoded, mut halves) = (Vec::new(), Reassembler::new());
        for datagram in datagrams {
            prop_assert!(datagram.len() <= max_size);
            if let Some(half) = decode_datagram(datagram, &mut decoded).unwrap() {
                decoded.extend(halves.insert(half));
            }
        }
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn halves_meet_in_any_order(packet in vec(any::<u8>(), 1400..2200), swap in any::<bool>()) {
        let frame = Frame {
            route: RouteId(1), epoch: RouteEpoch(2), seq: 3,
            flags: FrameFlags::default(), class: FrameClass::Audio, packet: Bytes::from(packet),
        };
        let mut datagrams = encode_all(std::slice::from_ref(&frame), 1200);
        prop_assert_eq!(datagrams.len(), 2);
        if swap {
            datagrams.swap(0, 1);
        }
        let mut halves = Reassembler::new();
        let mut joined = datagrams.into_iter().filter_map(|d| halves.insert(decode_datagram(d, &mut Vec::new()).unwrap().unwrap()));
        prop_assert_eq!(joined.next(), Some(frame));
        prop_assert_eq!(joined.next(), None);
    }

    #[test]
    fn any_datagram_decodes_or_changes_nothing(bytes in vec(any::<u8>(), 0..1500)) {
        let mut frames = Vec::new();
        match decode_datagram(Bytes::from(bytes.clone()), &mut frames) {
            Ok(Some(half)) => { prop_assert!(frames.is_empty()); Reassembler::new().insert(half); }
            Ok(None) => prop_assert!(frames.iter().map(|frame| frame.packet.len()).sum::<usize>() <= bytes.len()),
            Err(_) => prop_assert!(frames.is_empty()),
        }
    }

    #[test]
    fn a_question_is_no_frame(mut bytes in vec(any::<u8>(), 0..100), is_question: bool) {
        if let (true, Some(flags)) = (is_question, bytes.get_mut(7)) {
            *flags = 0b0000_1111;
        }
        if let Some(nack) = decode_nack(&bytes) {
            let FeedbackBody::Nack(missing) = nack.body else { panic!("something else") };
            let (route, epoch) = (RouteId(nack.route), RouteEpoch(nack.epoch));
            let again: Vec<Bytes> = encode_nacks(route, epoch, &missing, bytes.len()).collect();
            prop_assert_eq!(again.concat(), &bytes[..bytes.len() - bytes.len() % 2]);
            prop_assert!(decode_datagram(Bytes::from(bytes), &mut Vec::new()).is_err());
        }
    }

    #[test]
    fn messages_come_back_in_pieces(messages in vec(message(), 0..5), pieces in vec(1..400_usize, 1..10)) {
        let bytes: Vec<u8> = messages.iter().flat_map(|message| encode_message(message).unwrap()).collect();
        prop_assert_eq!(decode_in_pieces(&bytes, &pieces).unwrap(), messages);
    }

    #[test]
    fn data_comes_back_in_pieces(
        (route, epoch) in (any::<u32>(), any::<u8>()),
        messages in vec((any::<u64>(), any::<u32>(), vec(any::<u8>(), 0..300)), 0..6),
        pieces in vec(1..400_usize, 1..10),
    ) {
        let (route, epoch) = (RouteId(route), RouteEpoch(epoch));
        let message = |(number, ppid, payload)| DataMessage { route, epoch, number, ppid, payload: Bytes::from(payload) };
        let messages: Vec<DataMessage> = messages.into_iter().map(message).collect();
        let bytes = data_stream((route, epoch), &messages);
        prop_assert_eq!(decode_data_in_pieces(&bytes, &pieces), (messages, Ok(())));
    }

    #[test]
    fn any_data_decodes_to_itself_or_is_refused(
        lengths in vec(0..300_u32, 0..4), noise in vec(any::<u8>(), 0..600), pieces in vec(1..100_usize, 1..5),
    ) {
        // Lengths that make sense let the rest through.
        let mut bytes = noise;
        for (length, at) in lengths.into_iter().zip((5..).step_by(100)) {
            if let Some(place) = bytes.get_mut(at..at + 4) {
                place.copy_from_slice(&length.to_le_bytes());
            }
        }
        let whole = decode_data_in_pieces(&bytes, &[usize::MAX]);
        prop_assert_eq!(decode_data_in_pieces(&bytes, &pieces), whole.clone(), "how a stream is cut says nothing");
        if let (messages, Ok(())) = whole {
            let (route, epoch) = messages.first().map_or_else(
                || (RouteId(u32::from_le_bytes(*bytes.first_chunk().unwrap())), RouteEpoch(bytes[4])),
                |message| (message.route, message.epoch),
            );
            prop_assert_eq!(&data_stream((route, epoch), &messages)[..], &bytes[..]);
        }
    }

    #[test]
    fn any_stream_decodes_or_is_refused(bytes in vec(any::<u8>(), 0..600), length in 0..600_u32, pieces in vec(1..100_usize, 1..5)) {
        let _ = decode_in_pieces(&bytes, &pieces);
        // A length that makes sense lets the rest through to the check of the message itself.
        let framed: Vec<u8> = length.to_le_bytes().into_iter().chain(bytes).collect();
        let _ = decode_in_pieces(&framed, &pieces);
        let mut input = framed.as_slice();
        let _ = MessageDecoder::new().decode::<Hello>(&mut input);
    }

    #[test]
    fn a_changed_message_is_refused_or_another_message(message in message(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = encode_message(&message).unwrap();
        let index = at.index(bytes.len());
        bytes[index] = to;
        let _ = decode_in_pieces(&bytes, &[64]);
    }

    #[test]
    fn a_path_is_read_as_it_was_written(path in path()) {
        prop_assert_eq!(path.to_string().parse(), Ok(path));
    }

    #[test]
    fn any_text_is_a_path_or_refused_in_a_line(text in "[0-9a-z.,=%/±>-]{0,40}") {
        match text.parse::<ImpairmentConfig>() {
            Ok(path) => prop_assert_eq!(path.to_string().parse(), Ok(path)),
            Err(error) => prop_assert!(!error.to_string().contains('\n')),
        }
    }

    #[test]
    fn a_route_accounts_for_every_packet(seed in any::<u64>(), loss in 0.0..0.3_f64, reorder in 0.0..0.1_f64, delay in 1..100_u64) {
        let outcome = simulate(seed, loss, reorder, Duration::from_millis(delay));
        prop_assert_eq!(outcome.used + outcome.lost, u64::from(PACKETS), "{:?}", outcome);
        prop_assert_eq!(outcome.used, outcome.received);
        if loss < 0.05 {
            prop_assert!(outcome.lost <= 2, "{:?}", outcome);
        }
    }
}

const PACKETS: u16 = 2000;

#[derive(Debug, Default)]
struct Outcome {
    used: u64,
    received: u64,
    lost: u64,
}

/// 500 packets a second over a path that loses in both directions.
#[allow(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
fn simulate(seed: u64, loss: f64, reorder: f64, delay: Duration) -> Outcome {
    let config = ImpairmentConfig {
        delay,
        loss: Loss::Random(loss),
        reorder,
        reorder_by: Duration::from_millis(8),
        duplicate: 0.01,
        ..Default::default()
    };
    // Control messages are reliable: they are only late.
    let back = ImpairmentConfig { delay, ..Default::default() };
    let (mut path, mut back) = (Impairment::new(config, seed), Impairment::new(back, seed));
    let start = Instant::now();
    let mut sender = RouteSender::new(RouteId(0), RouteEpoch(0));
    let mut receiver = RouteReceiver::new(start);
    let mut under_way: Vec<(Instant, u16, bool)> = Vec::new();
    let mut asked: Vec<(Instant, Vec<u16>)> = Vec::new();
    let mut outcome = Outcome::default();
    let mut sent = 0;
    // What is sent in the last second and lost has time to be repaired; the very last packet has nothing after it to
    // show its loss.
    for step in 0..u32::from(PACKETS) * 2 + 3000 {
        let now = start + Duration::from_millis(1) * step;
        let mut submit = |seq, retransmission, reliable: bool| {
            let mut decision = path.submit(now, 1000);
            if let (true, Decision::Drop(_)) = (reliable, decision) {
                decision = Decision::Deliver { at: now + delay, again: None };
            }
            if let Decision::Deliver { at, again } = decision {
                under_way.extend([Some(at), again].into_iter().flatten().map(|at| (at, seq, retransmission)));
            }
        };
        if step % 2 == 0 && sent < PACKETS {
            let seq = sender.next(u64::from(sent));
            sent += 1;
            submit(seq, false, sent == PACKETS);
        }
        for (_, seqs) in asked.extract_if(.., |(at, _)| *at <= now) {
            for (seq, cookie) in sender.on_nack(&seqs) {
                assert_eq!(cookie, u64::from(seq));
                submit(seq, true, false);
            }
        }
        for (_, seq, retransmission) in under_way.extract_if(.., |(at, ..)| *at <= now) {
            if matches!(receiver.receive(now, seq, retransmission), Accept::New | Accept::Repaired) {
                outcome.used += 1;
            }
        }
        if let Some(seqs) = receiver.poll_nack(now, delay * 2)
            && let Decision::Deliver { at, .. } = back.submit(now, 100)
        {
            asked.push((at, seqs));
        }
    }
    outcome.received = receiver.stats().received;
    outcome.lost = receiver.stats().lost;
    outcome
}
