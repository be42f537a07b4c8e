//! What clients say to the node: any text, and requests of real clients of which some parts are others. What is refused
//! is said so in words, and what negotiation accepts the media core can work with.

mod client;

use serde_json::Value;
use sluice_media::messages::{Account, Request, RequestError, Response};
use sluice_media::secure::ice::IceCredentials;
use sluice_node::fuzzing::protoo_refusal;
use sluice_node::ortc::{
    Negotiated, consumer_rtp_parameters, negotiate_producer, parse_consumable_rtp_parameters, parse_dtls_parameters,
    parse_rtp_capabilities, parse_rtp_parameters,
};
use sluice_proto::ids::{ConsumerId, ProducerId, RouterId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpCapabilities, RtpParameters};

use crate::media_core::World;
use crate::reader::Reader;

/// Around what a refusal repeats of the text.
const REFUSAL_LEN: usize = 1_024;

/// The bytes are messages, a line each, or choices of what is other in real ones.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    if reader.flag() {
        let messages = client::messages(&mut reader);
        messages.iter().for_each(|message| check_answer(&message.to_string()));
        negotiate(&messages);
    } else if let Ok(text) = std::str::from_utf8(reader.rest()) {
        text.lines().for_each(check_answer);
        negotiate(&text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect::<Vec<_>>());
    }
}

/// A refusal is a response to that request, with a code and a reason.
fn check_answer(text: &str) {
    let Some(answer) = protoo_refusal(text) else { return };
    assert!(answer.len() <= 8 * text.len() + REFUSAL_LEN, "{answer}");
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(answer["response"], true);
    assert!(answer["errorCode"].as_u64().is_some_and(|code| (400..600).contains(&code)), "{answer}");
    assert!(answer["errorReason"].as_str().is_some_and(|reason| !reason.is_empty()), "{answer}");
    let asked: Value = serde_json::from_str(text).unwrap_or_default();
    let id = asked["id"].as_u64().filter(|id| u32::try_from(*id).is_ok());
    assert!(answer["id"].is_null() || answer["id"].as_u64() == id, "{answer}");
}

/// Brings together what is to be sent and what can be received.
fn negotiate(messages: &[Value]) {
    let data = |method: &'static str| {
        messages.iter().filter(move |message| message["method"] == method).map(|message| &message["data"])
    };
    for connect in data("connectWebRtcTransport") {
        let _ = parse_dtls_parameters(&connect["dtlsParameters"]);
    }
    let capabilities: Vec<RtpCapabilities> =
        data("join").filter_map(|join| parse_rtp_capabilities(join["rtpCapabilities"].clone()).ok()).take(4).collect();
    for produce in data("produce").take(4) {
        let kind = if produce["kind"] == "audio" { MediaKind::Audio } else { MediaKind::Video };
        if let Ok(rtp) = parse_rtp_parameters(produce["rtpParameters"].clone()) {
            send(kind, &rtp, &capabilities);
        }
    }
}

/// From a client to another node's clients, as far as each step accepts it.
fn send(kind: MediaKind, rtp: &RtpParameters, capabilities: &[RtpCapabilities]) {
    let Ok(Negotiated { mapping, consumable }) = negotiate_producer(kind, rtp, 7_000, "cname") else { return };
    let json = serde_json::to_string(&consumable).expect("JSON");
    assert_eq!(parse_consumable_rtp_parameters(&json).as_ref(), Ok(&consumable), "another node reads it as it is");
    let mut world = World::new();
    let (router, transport) = (RouterId::from_bytes([1; 16]), TransportId::from_bytes([1; 16]));
    let ice = IceCredentials { ufrag: "0000user".to_owned(), pwd: "p".repeat(24) };
    accept(world.request(Request::CreateRouter { router, account: Account(0) }));
    accept(world.request(Request::CreateWebRtcTransport { router, transport, ice, data_channels: false }));
    let [producer, elsewhere] = [1, 2].map(|number| ProducerId::from_bytes([number; 16]));
    let produce = Request::Produce { transport, producer, kind, rtp: rtp.clone(), mapping, paused: false };
    accept(world.request(produce));
    accept(world.request(pipe_producer(router, elsewhere, kind, &consumable)));
    for (number, capabilities) in capabilities.iter().enumerate() {
        let number = number as u8;
        let Ok(rtp) =
            consumer_rtp_parameters(&consumable, capabilities, number.to_string(), 9_000 + 2 * u32::from(number))
        else {
            continue;
        };
        let consumer = ConsumerId::from_bytes([number; 16]);
        accept(world.request(Request::Consume { transport, consumer, producer: elsewhere, kind, rtp, paused: false }));
    }
}

fn pipe_producer(router: RouterId, producer: ProducerId, kind: MediaKind, consumable: &RtpParameters) -> Request {
    Request::CreatePipeProducer { router, producer, kind, rtp: consumable.clone(), route: None, paused: false }
}

fn accept(result: Result<Response, RequestError>) {
    result.expect("negotiation accepted what the media core cannot work with");
}

/// All messages of a client as they are, some of them changed, and what is no message.
pub fn seeds() -> Vec<Vec<u8>> {
    let messages = client::messages(&mut Reader::new(&[]));
    let mut seeds: Vec<_> = messages.iter().map(|message| [&[0], message.to_string().as_bytes()].concat()).collect();
    let offer: Vec<_> =
        messages.iter().filter(|message| matches!(message["method"].as_str(), Some("join" | "produce"))).collect();
    seeds.extend(
        offer
            .iter()
            .map(|message| [&[0], offer[0].to_string().as_bytes(), b"\n", message.to_string().as_bytes()].concat()),
    );
    seeds.extend(
        [&b"\0{"[..], b"\0[]", br#"x{"id":4}"#, br#"x{"response":true,"id":7,"ok":true,"data":{}}"#]
            .map(<[u8]>::to_vec),
    );
    seeds.push(vec![1, 3, 2, 1, 0, 0]);
    seeds.push(vec![1, 5, 2, 3, 1, 4, 2, 7, 3, 5, 3, 2, 0, 1]);
    seeds
}
