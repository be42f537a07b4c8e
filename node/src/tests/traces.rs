//! What an operator reads of a peer's packets.

use std::pin::Pin;
use std::time::Duration;

use axum::body::Bytes;
use futures_util::{Stream, StreamExt};
use serde_json::{Value, json};
use sluice_media::messages::Request;
use sluice_media::trace::{TraceEvent, TraceInfo, TraceSubject, TraceType, TraceTypes, Traced, TracedPacket};
use sluice_media::wire::rtcp::SenderInfo;
use sluice_media::wire::rtp::RtpHeader;
use sluice_proto::ids::{NamespaceId, PeerId, ProducerId, RoomId, RoomKey, TransportId};
use tokio::time::{Instant, timeout};

use super::client::Client;
use super::fakes::World;
use super::{SOON, TestNode, rtp};
use crate::admin::trace::{Asked, Traces};
use crate::http::HttpError;

type Lines = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

async fn begin(node: &TestNode, traces: &Traces, peer: &str, asked: Asked) -> Result<Lines, (u16, String)> {
    let (namespace, room) = (NamespaceId::new("default").unwrap(), RoomId::new("room").unwrap());
    let peer = (RoomKey { namespace, room }, PeerId::new(peer).unwrap());
    let begun = traces.begin(&node.rooms, peer, &asked).await;
    begun.map(|lines| Box::pin(lines) as Lines).map_err(|HttpError(status, words)| (status.as_u16(), words))
}

/// The next lines.
async fn next(lines: &mut Lines) -> Vec<Value> {
    let text = timeout(SOON, lines.next()).await.unwrap().expect("it goes on");
    String::from_utf8(text.to_vec()).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn event(subject: TraceSubject, info: TraceInfo) -> TraceEvent {
    TraceEvent { at: Duration::from_millis(1_700_000_000_123), subject, info }
}

fn traced(events: Vec<TraceEvent>) -> Traced {
    Traced { events, dropped: 0 }
}

/// What a worker was asked to trace since that was looked at last: of which transport, and what.
fn asked(node: &TestNode) -> Vec<(TransportId, TraceTypes)> {
    std::iter::from_fn(|| {
        node.workers[0].take(|request| match request {
            Request::Trace { transport, types, .. } => Some((*transport, *types)),
            _ => None,
        })
    })
    .collect()
}

fn switched_off(node: &TestNode, client: &Client) -> bool {
    let off = |transport: &str| (transport.parse().unwrap(), TraceTypes::NONE);
    let asked = asked(node);
    [&client.send_transport, &client.recv_transport].iter().all(|transport| asked.contains(&off(transport)))
}

#[tokio::test(start_paused = true)]
async fn each_event_is_a_line_as_mediasoup_has_it() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let mut alice = node.join("room", "alice").await;
    let producer = alice.produce("video", rtp::vp8(1)).await;
    let transport: TransportId = alice.send_transport.parse().unwrap();
    let mut lines = begin(&node, &Traces::default(), "alice", Asked::default()).await.unwrap();
    let packet = TracedPacket {
        header: RtpHeader { marker: true, payload_type: 101, sequence_number: 1, timestamp: 2, ssrc: 3 },
        size: 520,
        payload_size: 500,
        is_key_frame: true,
        spatial_layer: 0,
        temporal_layer: 1,
        wide_sequence_number: Some(7),
        is_rtx: false,
    };
    let of_producer = TraceSubject::Producer(producer.parse::<ProducerId>().unwrap());
    let sender_report = SenderInfo { ssrc: 3, ntp: 5 << 32 | 6, rtp_timestamp: 7, packets: 8, octets: 9 };
    let bwe = TraceInfo::Bwe {
        is_transport_wide: true,
        desired_bitrate: 3,
        effective_desired_bitrate: 2,
        available_bitrate: 1,
    };
    let rtp_packet = json!({
        "payloadType": 101, "sequenceNumber": 1, "timestamp": 2, "marker": true, "ssrc": 3, "isKeyFrame": true,
        "size": 520, "payloadSize": 500, "spatialLayer": 0, "temporalLayer": 1, "wideSequenceNumber": 7,
    });
    let is_rtx = false;
    let packet_info = json!({"rtpPacket": rtp_packet, "isRtx": is_rtx});
    let bwe_info = json!({
        "bweType": "transport-cc", "desiredBitrate": 3, "effectiveDesiredBitrate": 2, "availableBitrate": 1,
    });
    let sr_info = json!({"ssrc": 3, "ntpSec": 5, "ntpFrac": 6, "rtpTs": 7, "packetCount": 8, "octetCount": 9});
    let cases = [
        (of_producer, TraceInfo::KeyFrame(packet.clone()), "keyframe", "in", packet_info.clone()),
        (of_producer, TraceInfo::Rtp(packet), "rtp", "in", packet_info),
        (of_producer, TraceInfo::Nack { ssrc: 3, packets: 4 }, "nack", "out", json!({"ssrc": 3, "packets": 4})),
        (of_producer, TraceInfo::Pli { ssrc: 3 }, "pli", "out", json!({"ssrc": 3})),
        (of_producer, TraceInfo::Fir { ssrc: 3 }, "fir", "out", json!({"ssrc": 3})),
        (of_producer, TraceInfo::Sr(sender_report), "sr", "in", sr_info),
        (TraceSubject::Transport, TraceInfo::Probation { packets: 5 }, "probation", "out", json!({"packets": 5})),
        (TraceSubject::Transport, bwe, "bwe", "out", bwe_info),
    ];
    let events = cases.iter().map(|(subject, info, ..)| event(*subject, info.clone())).collect();
    node.workers[0].happened(transport, Traced { events, dropped: 6 });
    let mut expected: Vec<Value> = cases
        .into_iter()
        .map(|(subject, _, kind, direction, info)| {
            let mut line = json!({
                "type": kind, "timestamp": 1_700_000_000_123_u64, "direction": direction, "transportId": transport,
                "info": info,
            });
            if subject != TraceSubject::Transport {
                line["producerId"] = json!(producer);
            }
            line
        })
        .collect();
    expected.push(json!({"type": "dropped", "transportId": transport, "count": 6}));
    assert_eq!(next(&mut lines).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_trace_ends_with_its_time_its_peer_and_its_reader() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (mut alice, bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let traces = Traces::default();
    let begun = Instant::now();
    let lines = begin(&node, &traces, "alice", Asked::new(Some("nack,pli"), Some(7))).await.unwrap();
    let types = TraceTypes::from_iter([TraceType::Nack, TraceType::Pli]);
    assert_eq!(asked(&node).iter().filter(|(_, asked)| *asked == types).count(), 2, "both transports");
    assert_eq!(lines.count().await, 0);
    assert_eq!(begun.elapsed(), Duration::from_secs(7));
    assert!(switched_off(&node, &alice));
    // What comes later is traced too.
    let mut lines = begin(&node, &traces, "alice", Asked::default()).await.unwrap();
    let third = alice.create_transport(true).await.parse().unwrap();
    node.workers[0].happened(third, traced(vec![event(TraceSubject::Transport, TraceInfo::Probation { packets: 1 })]));
    assert_eq!(next(&mut lines).await[0]["transportId"], json!(third));
    // Its reader goes away.
    drop(lines);
    assert!(switched_off(&node, &alice));
    // Its peer goes.
    let lines = begin(&node, &traces, "bob", Asked::default()).await.unwrap();
    let begun = Instant::now();
    drop(bob);
    assert_eq!(lines.count().await, 0);
    assert!(begun.elapsed() < Duration::from_secs(1));
    // The node does.
    let lines = begin(&node, &traces, "alice", Asked::default()).await.unwrap();
    node.rooms.shutdown().await;
    assert_eq!(timeout(SOON, lines.count()).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_has_nothing_asked() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let alice = node.join("room", "alice").await;
    let transport = alice.send_transport.parse().unwrap();
    let mut lines = begin(&node, &Traces::default(), "alice", Asked::default()).await.unwrap();
    asked(&node);
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert!(asked(&node).is_empty());
    let events = vec![event(TraceSubject::Transport, TraceInfo::Probation { packets: 1 })];
    node.workers[0].happened(transport, Traced { events, dropped: 1_000 });
    let told = next(&mut lines).await;
    assert_eq!((told.len(), &told[1]["count"]), (2, &json!(1_000)));
    assert_eq!(timeout(Duration::from_secs(10), lines.count()).await, Ok(0), "its time is over all the same");
}

#[tokio::test(start_paused = true)]
async fn few_are_traced_at_a_time_and_each_for_one_reader() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (traces, mut clients, mut readers) = (Traces::default(), Vec::new(), Vec::new());
    for peer in ["a", "b", "c", "d"] {
        clients.push(node.join("room", peer).await);
        readers.push(begin(&node, &traces, peer, Asked::default()).await.unwrap());
    }
    clients.push(node.join("room", "e").await);
    let refused = async |peer: &str| begin(&node, &traces, peer, Asked::default()).await.err().unwrap();
    assert_eq!(refused("e").await, (429, "4 peers are traced already".to_owned()));
    assert_eq!(refused("a").await, (409, "the peer is traced already".to_owned()));
    readers.pop();
    drop(begin(&node, &traces, "e", Asked::default()).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_traced_is_refused_in_words() {
    let world = World::default();
    let (node, other) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&node.instance, &other.instance);
    let (mut alice, _bob) = (node.join("room", "alice").await, other.join("room", "bob").await);
    alice.next_notification("newPeer").await;
    let traces = Traces::default();
    let refused = async |peer: &str, asked| begin(&node, &traces, peer, asked).await.err().unwrap();
    let unknown = refused("alice", Asked::new(Some("nack,sli"), None)).await;
    let words = "\"sli\" is none of the types probation, bwe, rtp, keyframe, nack, pli, fir, sr";
    assert_eq!(unknown, (400, words.to_owned()));
    assert_eq!(refused("alice", Asked::new(Some(""), None)).await.0, 400);
    for seconds in [0, 301, u64::MAX] {
        let words = "seconds must be from 1 to 300".to_owned();
        assert_eq!(refused("alice", Asked::new(None, Some(seconds))).await, (400, words));
    }
    assert_eq!(refused("carol", Asked::default()).await, (404, "peer carol not found".to_owned()));
    assert_eq!(refused("bob", Asked::default()).await, (421, "the peer is on the node us-1".to_owned()));
    // None of these took a place.
    for _ in 0..5 {
        drop(begin(&node, &traces, "alice", Asked::default()).await.unwrap());
    }
}
