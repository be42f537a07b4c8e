//! Statistics and what is told of bandwidth, field by field, as clients of both dialects read them.

use serde_json::{Value, json};
use sluice_media::TransportAddress;
use sluice_media::messages::{
    ConsumerScores, ConsumerStats, DataStats, EncodingScore, Flow, LayerBitrate, Request, StreamScores, StreamStats,
    TransportStats, WorkerEvent,
};
use sluice_media::secure::dtls::DtlsState;
use sluice_media::secure::ice::IceState;
use sluice_media::secure::srtp::SrtpProfile;
use sluice_proto::pipe::Layers;

use super::client::Client;
use super::fakes::World;
use super::{TestNode, dialects, rtp};

/// What scripted workers answer of a producer: two encodings, of which one has layers.
pub(super) fn of_producer() -> Vec<StreamStats> {
    let layer = |temporal, bitrate| LayerBitrate { spatial: 0, temporal, bitrate };
    let low = StreamStats {
        ssrc: 11,
        rtx_ssrc: Some(12),
        rid: Some("l".to_owned()),
        packets: 100,
        bytes: 90_000,
        packets_lost: 3,
        fraction_lost: 7,
        jitter: 5,
        packets_retransmitted: 4,
        packets_repaired: 2,
        packets_discarded: 1,
        nack_count: 6,
        nack_packet_count: 8,
        pli_count: 9,
        fir_count: 10,
        key_frames: 2,
        bitrate: 150_000,
        bitrate_by_layer: vec![layer(0, 100_000), layer(1, 150_000)],
        round_trip_time_ms: Some(12.5),
        score: 9,
    };
    let high = StreamStats { ssrc: 21, rid: Some("h".to_owned()), score: 10, ..StreamStats::default() };
    vec![low, high]
}

/// What scripted workers answer of a consumer.
pub(super) fn of_consumer() -> Box<ConsumerStats> {
    let sent = StreamStats { ssrc: 31, rtx_ssrc: Some(32), packets: 7, score: 8, ..StreamStats::default() };
    Box::new(ConsumerStats { sent, received: of_producer().pop() })
}

/// What scripted workers answer of a data producer or consumer.
pub(super) fn of_data() -> DataStats {
    DataStats { messages: 3, bytes: 33, buffered: 11, dropped: 1 }
}

/// What scripted workers answer of a transport.
pub(super) fn of_transport() -> Box<TransportStats> {
    let flow = |bytes, bitrate| Flow { bytes, bitrate };
    Box::new(TransportStats {
        sctp_state: None,
        bytes_received: 1_000,
        bytes_sent: 2_000,
        rtp_packets_received: 10,
        rtp_packets_sent: 20,
        rtp_received: flow(700, 70),
        rtp_sent: flow(1_400, 140),
        rtx_received: flow(30, 3),
        rtx_sent: flow(60, 6),
        probation_sent: flow(80, 8),
        recv_bitrate: 100,
        send_bitrate: 200,
        recv_loss: Some(0.25),
        send_loss: Some(0.5),
        available_outgoing_bitrate: Some(300),
        remote_address: Some(TransportAddress::Udp(([198, 51, 100, 7], 5_555).into())),
        ice_state: Some(IceState::Connected),
        dtls_state: Some(DtlsState::Connected(SrtpProfile::AeadAes128Gcm)),
    })
}

/// A node, and a client of each dialect that sends video in two encodings and receives the other's; with what both
/// call their producer and consumer.
struct Pair {
    node: TestNode,
    v3: (Client, String, String),
    ts: (Client, String, String),
}

impl Pair {
    async fn new() -> Self {
        let node = TestNode::start(&World::default(), "eu-1", 1);
        let mut v3 = node.join("room", "old").await;
        let of_v3 = v3.produce("video", rtp::simulcast(&["l", "h"])).await;
        let mut ts = dialects::open(&node, "new");
        dialects::join(&mut ts).await;
        let of_ts = dialects::produce(&mut ts, "video", rtp::simulcast(&["l", "h"]), "video").await;
        let received_by_ts = text(&ts.accept_consumer().await["consumerId"]);
        let received_by_v3 = text(&v3.accept_consumer().await["id"]);
        Self { node, v3: (v3, of_v3, received_by_v3), ts: (ts, of_ts, received_by_ts) }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Statistics as each dialect has them, when they were made left out.
async fn stats(client: &mut Client, is_ts: bool, method: &str, data: Value) -> Value {
    let mut answer = client.request(method, data).await.unwrap();
    let mut stats = if is_ts { answer["stats"].take() } else { answer };
    for entry in stats.as_array_mut().unwrap() {
        let timestamp = entry.as_object_mut().unwrap().remove("timestamp").unwrap();
        assert!(timestamp.as_u64().unwrap() > 1_600_000_000_000, "{timestamp}");
    }
    stats
}

/// A stream with nothing in it, for both directions.
fn nothing(direction: &str, ssrc: u32) -> Value {
    json!({
        "type": direction, "ssrc": ssrc, "kind": "video", "mimeType": "video/VP8", "packetCount": 0, "byteCount": 0,
        "bitrate": 0, "packetsLost": 0, "fractionLost": 0, "jitter": 0, "packetsDiscarded": 0,
        "packetsRetransmitted": 0, "packetsRepaired": 0, "nackCount": 0, "nackPacketCount": 0, "pliCount": 0,
        "firCount": 0, "keyFrames": 0, "score": 0,
    })
}

/// With these fields in place of what is there.
fn with(mut entry: Value, fields: Value) -> Value {
    entry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    entry
}

fn high() -> Value {
    with(nothing("inbound-rtp", 21), json!({"rid": "h", "bitrateByLayer": {}, "score": 10}))
}

#[tokio::test(start_paused = true)]
async fn of_a_producer_there_is_an_entry_for_each_encoding() {
    let Pair { node: _node, mut v3, mut ts } = Pair::new().await;
    for ((client, producer, _), is_ts) in [(&mut v3, false), (&mut ts, true)] {
        let told = stats(client, is_ts, "getProducerStats", json!({"producerId": producer})).await;
        let low = json!({
            "rtxSsrc": 12, "rid": "l", "packetCount": 100, "byteCount": 90_000, "bitrate": 150_000, "packetsLost": 3,
            "fractionLost": 7, "jitter": 5, "packetsDiscarded": 1, "packetsRetransmitted": 4, "packetsRepaired": 2,
            "nackCount": 6, "nackPacketCount": 8, "pliCount": 9, "firCount": 10, "keyFrames": 2,
            "bitrateByLayer": {"0.0": 100_000, "0.1": 150_000}, "roundTripTime": 12.5, "score": 9,
        });
        assert_eq!(told, json!([with(nothing("inbound-rtp", 11), low), high()]));
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_consumer_there_are_what_is_sent_and_what_that_is_made_of() {
    let Pair { node: _node, mut v3, mut ts } = Pair::new().await;
    for ((client, _, consumer), is_ts) in [(&mut v3, false), (&mut ts, true)] {
        let told = stats(client, is_ts, "getConsumerStats", json!({"consumerId": consumer})).await;
        let sent = with(nothing("outbound-rtp", 31), json!({"rtxSsrc": 32, "packetCount": 7, "score": 8}));
        assert_eq!(told, json!([sent, high()]));
    }
}

#[tokio::test(start_paused = true)]
async fn of_a_transport_there_are_media_retransmissions_and_probes_and_both_ends_of_its_path() {
    let Pair { node: _node, mut v3, mut ts } = Pair::new().await;
    for ((client, ..), is_ts) in [(&mut v3, false), (&mut ts, true)] {
        let id = client.recv_transport.clone();
        let told = stats(client, is_ts, "getTransportStats", json!({"transportId": id})).await;
        let expected = json!({
            "type": "webrtc-transport", "transportId": id, "iceRole": "controlled", "iceState": "completed",
            "dtlsState": "connected",
            "iceSelectedTuple": {
                "localIp": "192.0.2.1", "localAddress": "192.0.2.1", "localPort": 4444,
                "remoteIp": "198.51.100.7", "remotePort": 5555, "protocol": "udp",
            },
            "bytesReceived": 1000, "recvBitrate": 100, "bytesSent": 2000, "sendBitrate": 200,
            "rtpPacketsReceived": 10, "rtpPacketsSent": 20,
            "rtpBytesReceived": 700, "rtpRecvBitrate": 70, "rtpBytesSent": 1400, "rtpSendBitrate": 140,
            "rtxBytesReceived": 30, "rtxRecvBitrate": 3, "rtxBytesSent": 60, "rtxSendBitrate": 6,
            "probationBytesSent": 80, "probationSendBitrate": 8,
            "rtpPacketLossReceived": 0.25, "rtpPacketLossSent": 0.5, "availableOutgoingBitrate": 300,
        });
        assert_eq!(told, json!([expected]));
    }
}

#[tokio::test(start_paused = true)]
async fn each_encoding_has_its_score_in_both_dialects() {
    let Pair { node, mut v3, mut ts } = Pair::new().await;
    for (client, producer, consumer) in [&mut v3, &mut ts] {
        let score =
            |encoding, ssrc, rid: &str, score| EncodingScore { encoding, ssrc, rid: Some(rid.to_owned()), score };
        let scores = vec![score(0, 11, "l", 9), score(1, 21, "h", 4)];
        node.tell(0, WorkerEvent::ProducerScore { producer: producer.parse().unwrap(), scores }).await;
        let told = client.next_notification("producerScore").await;
        let expected = json!([
            {"encodingIdx": 0, "ssrc": 11, "rid": "l", "score": 9}, {"encodingIdx": 1, "ssrc": 21, "rid": "h", "score": 4},
        ]);
        assert_eq!(told, json!({"producerId": producer, "score": expected}));

        let streams = StreamScores::from_iter([9, 4]);
        let scores = ConsumerScores { consumer: 7, producer: 4, streams };
        client.settle().await;
        node.tell(0, WorkerEvent::ConsumerScore { consumer: consumer.parse().unwrap(), scores }).await;
        let told = client.next_notification("consumerScore").await;
        let expected = json!({"score": 7, "producerScore": 4, "producerScores": [9, 4]});
        assert_eq!(told, json!({"consumerId": consumer, "score": expected}));
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_of_what_is_sent_is_told_as_each_dialect_has_it() {
    let Pair { node, mut v3, mut ts } = Pair::new().await;
    for ((client, _, consumer), is_ts) in [(&mut v3, false), (&mut ts, true)] {
        for layers in [Some(Layers { spatial: 1, temporal: 2 }), None] {
            let event = WorkerEvent::ConsumerLayersChanged { consumer: consumer.parse().unwrap(), layers };
            node.tell(0, event).await;
            let told = client.next_notification("consumerLayersChanged").await;
            let expected = match (is_ts, layers.is_some()) {
                (false, true) => json!({"consumerId": consumer, "spatialLayer": 1, "temporalLayer": 2}),
                (false, false) => json!({"consumerId": consumer, "spatialLayer": null, "temporalLayer": null}),
                (true, true) => json!({"consumerId": consumer, "layers": {"spatialLayer": 1, "temporalLayer": 2}}),
                (true, false) => json!({"consumerId": consumer, "layers": null}),
            };
            assert_eq!(told, expected);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_passes_to_a_client_is_told_to_it() {
    let Pair { node, mut v3, mut ts } = Pair::new().await;
    for (client, ..) in [&mut v3, &mut ts] {
        let event = WorkerEvent::DownlinkChanged {
            transport: client.recv_transport.parse().unwrap(),
            desired_bitrate: 3_000_000,
            effective_desired_bitrate: 2_000_000,
            available_bitrate: 1_000_000,
        };
        node.tell(0, event).await;
        let expected = json!({
            "desiredBitrate": 3_000_000, "effectiveDesiredBitrate": 2_000_000, "availableBitrate": 1_000_000,
        });
        assert_eq!(client.next_notification("downlinkBwe").await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_priority_reaches_the_worker_as_request_and_as_notification() {
    let Pair { node, v3: (mut v3, _, of_v3), ts: (mut ts, _, of_ts) } = Pair::new().await;
    let priority = || {
        node.workers[0].asked(|request| match request {
            Request::SetConsumerPriority { consumer, priority } => Some((consumer.to_string(), *priority)),
            _ => None,
        })
    };
    v3.request("setConsumerPriority", json!({"consumerId": of_v3, "priority": 9})).await.unwrap();
    assert_eq!(priority().await, (of_v3, 9));
    ts.notify("setConsumerPriority", json!({"consumerId": of_ts, "priority": 255})).await;
    assert_eq!(priority().await, (of_ts, 255));
}
