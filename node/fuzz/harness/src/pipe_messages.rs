//! The control stream of a pipe: any bytes in pieces of any size, and messages that this node could have written.

use sluice_mesh::{MessageDecoder, MessageError, encode_message};
use sluice_proto::pipe::{
    ControlBody, FeedbackBody, Hello, Layers, MAX_MESSAGE_LEN, PipeMessage, RouteCloseReason, RouteControl,
    RouteFeedback, RouteStats, Wanted,
};

use crate::reader::Reader;

/// The bytes are a stream, or choices of which messages are in it.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    if reader.flag() {
        let message = message(&mut reader);
        let bytes = encode_message(&message).expect("it is short");
        assert_eq!(read(&bytes, usize::MAX), (vec![message], None));
        return;
    }
    let piece = 1 + usize::from(reader.u8());
    let stream = reader.rest();
    let (messages, error) = read(stream, usize::MAX);
    assert_eq!(read(stream, piece), (messages.clone(), error), "how a stream is cut says nothing");
    for message in messages {
        let again = encode_message(&message).expect("it came in a message");
        assert_eq!(read(&again, usize::MAX), (vec![message], None));
    }
    let mut hello = stream;
    if let Ok(Some(hello)) = MessageDecoder::new().decode::<Hello>(&mut hello) {
        assert!(hello.node.len() + hello.advertised.len() <= MAX_MESSAGE_LEN);
    }
}

/// The messages of a stream, and what ended it.
fn read(stream: &[u8], piece: usize) -> (Vec<PipeMessage>, Option<MessageError>) {
    let mut decoder = MessageDecoder::new();
    let mut messages = Vec::new();
    for mut bytes in stream.chunks(piece.min(stream.len().max(1))) {
        while !bytes.is_empty() {
            match decoder.decode(&mut bytes) {
                Ok(message) => messages.extend(message),
                // Where the bytes lie is part of what is said of them.
                Err(MessageError::Malformed(_)) => return (messages, Some(MessageError::Malformed(String::new()))),
                Err(error) => return (messages, Some(error)),
            }
        }
    }
    (messages, None)
}

fn message(reader: &mut Reader<'_>) -> PipeMessage {
    let (route, epoch) = (reader.u32(), reader.u8());
    match control(reader) {
        Some(body) => PipeMessage::Control(RouteControl { route, epoch, body }),
        None => PipeMessage::Feedback(RouteFeedback { route, epoch, body: feedback(reader) }),
    }
}

fn control(reader: &mut Reader<'_>) -> Option<ControlBody> {
    let text = |reader: &mut Reader<'_>| String::from_utf8_lossy(reader.short()).into_owned();
    Some(match reader.below(4) {
        0 => ControlBody::Subscribe {
            producer: [reader.u8(); 16],
            namespace: text(reader),
            room: text(reader),
            wanted: wanted(reader),
            traceparent: reader.flag().then(|| text(reader)),
        },
        1 => ControlBody::Unsubscribe,
        2 => ControlBody::RouteClosed(
            [
                RouteCloseReason::ProducerGone,
                RouteCloseReason::WrongRoom,
                RouteCloseReason::Forbidden,
                RouteCloseReason::Limit,
            ][reader.below(4)],
        ),
        _ => return None,
    })
}

fn layers(reader: &mut Reader<'_>) -> Layers {
    Layers { spatial: reader.u8(), temporal: reader.u8() }
}

fn wanted(reader: &mut Reader<'_>) -> Wanted {
    Wanted(std::array::from_fn(|_| reader.flag().then(|| layers(reader))))
}

/// Of a message of data: one of the first, or any.
fn number(reader: &mut Reader<'_>) -> u64 {
    match reader.u8() {
        255 => reader.u64(),
        254 => u64::MAX,
        number => number.into(),
    }
}

/// What one end of a route may say to the other.
pub(crate) fn feedback(reader: &mut Reader<'_>) -> FeedbackBody {
    match reader.below(9) {
        0 => FeedbackBody::LayersWanted(wanted(reader)),
        1 => FeedbackBody::LayersCarried(reader.flag().then(|| layers(reader))),
        2 => FeedbackBody::KeyFrameRequest(reader.u8()),
        3 => {
            let (first, count) = (reader.u16(), reader.u8());
            FeedbackBody::Nack((0..u16::from(count)).map(|number| first.wrapping_add(number)).collect())
        }
        4 => FeedbackBody::SenderReport { ssrc: reader.u32(), ntp: reader.u64(), rtp_timestamp: reader.u32() },
        5 => FeedbackBody::StreamsOffered(reader.u8()),
        7 => FeedbackBody::DataReceived { next: number(reader), missed: reader.flag().then(|| reader.u32()) },
        8 => FeedbackBody::DataOffered { oldest: number(reader), next: number(reader) },
        _ => FeedbackBody::Stats(RouteStats { received: reader.u64(), lost: reader.u64(), repaired: reader.u64() }),
    }
}

/// A stream with every kind of message, and choices that make one each.
pub fn seeds() -> Vec<Vec<u8>> {
    let choices: [&[u8]; 9] = [
        &[
            1, 0, 0, 0, 7, 1, 0, 9, 7, b'd', b'e', b'f', b'a', b'u', b'l', b't', 4, b'r', b'o', b'o', b'm', 255, 255,
            1, 2, b'0', b'0',
        ],
        &[1, 0, 0, 0, 7, 1, 1],
        &[1, 0, 0, 0, 7, 1, 2, 1],
        &[1, 0, 0, 0, 7, 1, 3, 0, 255, 1],
        &[1, 0, 0, 0, 7, 1, 3, 1, 1, 0, 1],
        &[1, 0, 0, 0, 7, 1, 3, 2],
        &[1, 0, 0, 0, 7, 1, 3, 3, 0xff, 0xf0, 20],
        &[1, 0, 0, 0, 7, 1, 3, 4, 0, 0, 0, 77, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 9],
        &[1, 0, 0, 0, 7, 1, 3, 5, 0, 0, 0, 0, 0, 0, 0, 9],
    ];
    let messages = choices.iter().map(|choices| message(&mut Reader::new(&choices[1..])));
    let streams: Vec<_> = messages.map(|message| encode_message(&message).expect("it is short")).collect();
    let hello = Hello { node: "node-1".to_owned(), incarnation: 9, advertised: "192.0.2.1:4445".to_owned() };
    let hello = encode_message(&hello).expect("it is short");
    let mut seeds: Vec<_> = choices.iter().map(|choices| choices.to_vec()).collect();
    seeds.extend(streams.iter().map(|stream| [&[0, 255], &stream[..]].concat()));
    seeds.push([&[0, 6], &streams.concat()[..]].concat());
    seeds.push([&[0, 0], &hello[..]].concat());
    seeds
}
