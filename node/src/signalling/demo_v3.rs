//! The dialect of mediasoup-demo's version 3 server, which mobile apps and most third-party clients speak: method names
//! and the shapes of their data, translated from and to the room's own terms.
//!
//! Beyond that, for clients that know of it:
//! - the answer to `join` has `node`, `region` and `peerSecret`, and peers have `node` and `region`;
//! - `getPeers {after?, limit?}` lists who is in the room, in the order of their ids: `{peers: [{id, displayName, node,
//!   region, onStage}], next, total, stage, byRegion}`, where `next` is the `after` of the next page, or null;
//! - the notification `audience {total, stage, byRegion}`, at most once a second, says how many are in a large room.

use std::str::FromStr;

use serde_json::{Map, Value, json};
use sluice_media::messages::{StreamStats, TransportStats};
use sluice_media::secure::dtls::DtlsState;
use sluice_media::secure::ice::IceState;
use sluice_proto::ids::{PeerId, is_plain};
use sluice_proto::ortc::MediaKind;

use crate::ortc::{parse_dtls_parameters, parse_rtp_capabilities, parse_rtp_parameters};
use crate::rooms::api::{Join, NewConsumer, NewTransport, Notice, PeerInfo, PeerReply, PeerRequest, Refusal};
use crate::support::unix_ms;

/// Longest display name, in bytes; every peer of the room gets it.
const MAX_DISPLAY_NAME_LEN: usize = 256;

/// Longest JSON object that a client attaches to itself or a producer, in bytes; every node of the room gets it.
const MAX_OBJECT_LEN: usize = 4096;

/// The priority of the first host candidate over UDP, RFC 8445 section 5.1.2, as mediasoup announces it.
const FIRST_CANDIDATE_PRIORITY: usize = 1_076_302_079;

/// Methods that the dialect has and this node has not.
const NOT_YET: [&str; 8] = [
    "produceData",
    "getDataProducerStats",
    "getDataConsumerStats",
    "setConsumerPreferredLayers",
    "setConsumerPriority",
    "applyNetworkThrottle",
    "resetNetworkThrottle",
    "stopNetworkThrottle",
];

/// The dialect's number among those that word [`crate::rooms::api::Announcement`]s.
pub(super) const WORDING: usize = 0;

/// What the server says first.
pub(super) fn greeting() -> (&'static str, Value) {
    ("mediasoup-version", json!({"version": env!("CARGO_PKG_VERSION")}))
}

/// Reads a request.
pub(super) fn request(method: &str, data: Value) -> Result<PeerRequest, Refusal> {
    let mut data = Data(data);
    Ok(match method {
        "getRouterRtpCapabilities" => PeerRequest::RouterRtpCapabilities,
        "createWebRtcTransport" => create_transport(&data)?,
        "connectWebRtcTransport" => {
            let dtls = parse_dtls_parameters(&data.take("dtlsParameters"))?;
            PeerRequest::ConnectTransport { transport: data.id("transportId")?, dtls }
        }
        "join" => PeerRequest::Join(Box::new(join(&mut data)?)),
        "restartIce" => PeerRequest::RestartIce { transport: data.id("transportId")? },
        "produce" => produce(&mut data)?,
        "closeProducer" => PeerRequest::CloseProducer { producer: data.id("producerId")? },
        "pauseProducer" => PeerRequest::SetProducerPaused { producer: data.id("producerId")?, paused: true },
        "resumeProducer" => PeerRequest::SetProducerPaused { producer: data.id("producerId")?, paused: false },
        "pauseConsumer" => PeerRequest::SetConsumerPaused { consumer: data.id("consumerId")?, paused: true },
        "resumeConsumer" => PeerRequest::SetConsumerPaused { consumer: data.id("consumerId")?, paused: false },
        "requestConsumerKeyFrame" => PeerRequest::RequestKeyFrame { consumer: data.id("consumerId")? },
        "changeDisplayName" => PeerRequest::ChangeDisplayName { display_name: data.display_name()? },
        "getTransportStats" => PeerRequest::TransportStats { transport: data.id("transportId")? },
        "getProducerStats" => PeerRequest::ProducerStats { producer: data.id("producerId")? },
        "getConsumerStats" => PeerRequest::ConsumerStats { consumer: data.id("consumerId")? },
        "getPeers" => get_peers(&data)?,
        known if NOT_YET.contains(&known) => return Err(Refusal::new(501, format!("{known} is not supported"))),
        unknown => return Err(Refusal::new(404, format!("unknown method {unknown:?}"))),
    })
}

/// Writes a reply.
pub(super) fn reply(reply: PeerReply) -> Value {
    match reply {
        PeerReply::Done => json!({}),
        PeerReply::RouterRtpCapabilities(capabilities) => json!(capabilities),
        PeerReply::Transport(transport) => new_transport(&transport),
        PeerReply::Joined { peers, node, region, secret } => json!({
            "peers": peers.iter().map(|peer| peer_info(peer)).collect::<Vec<_>>(),
            "node": node,
            "region": region,
            "peerSecret": secret,
        }),
        PeerReply::Ice(ice) => json!(ice),
        PeerReply::Produced(id) => json!({"id": id}),
        PeerReply::TransportStats(id, stats) => {
            let mut stats = transport_stats(&stats);
            stats["transportId"] = json!(id);
            json!([stats])
        }
        PeerReply::ProducerStats(kind, stats) => json!([stream_stats("inbound-rtp", kind, &stats)]),
        PeerReply::ConsumerStats(kind, stats) => json!([stream_stats("outbound-rtp", kind, &stats)]),
        PeerReply::Peers(page) => json!(page),
    }
}

/// Writes a notification.
pub(super) fn notice(notice: &Notice) -> (&'static str, Value) {
    match notice {
        Notice::NewPeer(peer) => ("newPeer", peer_info(peer)),
        Notice::PeerClosed { peer } => ("peerClosed", json!({"peerId": peer})),
        Notice::DisplayNameChanged { peer, display_name, old } => {
            ("peerDisplayNameChanged", json!({"peerId": peer, "displayName": display_name, "oldDisplayName": old}))
        }
        Notice::ConsumerClosed { consumer } => ("consumerClosed", json!({"consumerId": consumer})),
        Notice::ConsumerPaused { consumer } => ("consumerPaused", json!({"consumerId": consumer})),
        Notice::ConsumerResumed { consumer } => ("consumerResumed", json!({"consumerId": consumer})),
        Notice::ConsumerScore { consumer, score, producer_score } => {
            let score = json!({"score": score, "producerScore": producer_score, "producerScores": [producer_score]});
            ("consumerScore", json!({"consumerId": consumer, "score": score}))
        }
        Notice::ProducerScore { producer, ssrc, score } => {
            let scores = json!([{"encodingIdx": 0, "ssrc": ssrc, "score": score}]);
            ("producerScore", json!({"producerId": producer, "score": scores}))
        }
        Notice::ActiveSpeaker { loudest: Some((peer, volume)) } => {
            ("activeSpeaker", json!({"peerId": peer, "volume": volume}))
        }
        Notice::ActiveSpeaker { loudest: None } => ("activeSpeaker", json!({"peerId": null})),
        Notice::Audience(census) => ("audience", json!(census)),
    }
}

/// Writes the request by which a client sets a consumer up.
pub(super) fn new_consumer(consumer: &NewConsumer) -> (&'static str, Value) {
    let data = json!({
        "peerId": consumer.peer,
        "producerId": consumer.producer,
        "id": consumer.id,
        "kind": consumer.kind,
        "rtpParameters": &*consumer.rtp,
        "type": "simple",
        "appData": consumer.app_data,
        "producerPaused": consumer.producer_paused,
    });
    ("newConsumer", data)
}

fn create_transport(data: &Data) -> Result<PeerRequest, Refusal> {
    if data.flag("forceTcp")? {
        return Err(Refusal::new(501, "forceTcp: media over TCP is not supported"));
    }
    data.flag("producing")?;
    Ok(PeerRequest::CreateTransport { consuming: data.flag("consuming")? })
}

fn join(data: &mut Data) -> Result<Join, Refusal> {
    let rtp_capabilities = match data.take("rtpCapabilities") {
        Value::Null => None,
        capabilities => Some(parse_rtp_capabilities(capabilities)?),
    };
    Ok(Join { display_name: data.display_name()?, device: data.object("device")?, rtp_capabilities })
}

/// An extension: a large room is read a page at a time.
fn get_peers(data: &Data) -> Result<PeerRequest, Refusal> {
    let after = match data.0.get("after") {
        None | Some(Value::Null) => None,
        Some(id) => {
            let id = id.as_str().and_then(|id| PeerId::new(id).ok());
            Some(id.ok_or_else(|| Refusal::bad_request("after must be the id of a peer"))?)
        }
    };
    let limit = match data.0.get("limit") {
        None | Some(Value::Null) => None,
        Some(limit) => {
            let limit = limit.as_u64().and_then(|limit| usize::try_from(limit).ok());
            Some(limit.ok_or_else(|| Refusal::bad_request("limit must be a number"))?)
        }
    };
    Ok(PeerRequest::Peers { after, limit })
}

fn produce(data: &mut Data) -> Result<PeerRequest, Refusal> {
    let kind = match data.0.get("kind").and_then(Value::as_str) {
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => return Err(Refusal::bad_request("kind must be audio or video")),
    };
    let transport = data.id("transportId")?;
    let app_data = data.object("appData")?;
    let rtp = Box::new(parse_rtp_parameters(data.take("rtpParameters"))?);
    Ok(PeerRequest::Produce { transport, kind, rtp, app_data })
}

/// A request's data, read field by field.
struct Data(Value);

impl Data {
    fn take(&mut self, name: &str) -> Value {
        self.0.get_mut(name).map(Value::take).unwrap_or_default()
    }

    /// An id that this node gave. One that is not even an id is not found either.
    fn id<T: FromStr>(&self, name: &str) -> Result<T, Refusal> {
        let text = self.0.get(name).and_then(Value::as_str);
        let text = text.ok_or_else(|| Refusal::bad_request(format!("{name} must be a string")))?;
        text.parse().map_err(|_| Refusal::not_found(name, format!("{:?}", text.chars().take(64).collect::<String>())))
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Refusal::bad_request(format!("{name} must be true or false"))),
        }
    }

    fn display_name(&self) -> Result<String, Refusal> {
        match self.0.get("displayName") {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(name)) if name.len() <= MAX_DISPLAY_NAME_LEN => {
                Ok(name.chars().filter(|c| is_plain(*c)).collect())
            }
            Some(_) => Err(Refusal::bad_request(format!(
                "displayName must be a string of at most {MAX_DISPLAY_NAME_LEN} bytes"
            ))),
        }
    }

    fn object(&mut self, name: &str) -> Result<Value, Refusal> {
        match self.take(name) {
            Value::Null => Ok(Value::Object(Map::new())),
            object @ Value::Object(_) if object.to_string().len() <= MAX_OBJECT_LEN => Ok(object),
            _ => Err(Refusal::bad_request(format!("{name} must be an object of at most {MAX_OBJECT_LEN} bytes"))),
        }
    }
}

fn peer_info(peer: &PeerInfo) -> Value {
    json!({
        "id": peer.id,
        "displayName": peer.display_name,
        "device": peer.device,
        "node": peer.node,
        "region": peer.region,
    })
}

/// `ip` is what clients before 2024 read, `address` the later ones. Without data channels there are no
/// `sctpParameters`.
fn new_transport(transport: &NewTransport) -> Value {
    let candidates = transport.addresses.iter().enumerate().map(|(index, address)| {
        json!({
            "foundation": "udpcandidate",
            "priority": FIRST_CANDIDATE_PRIORITY.saturating_sub(index),
            "ip": address.ip(),
            "address": address.ip(),
            "protocol": "udp",
            "port": address.port(),
            "type": "host",
        })
    });
    json!({
        "id": transport.id,
        "iceParameters": transport.ice,
        "iceCandidates": candidates.collect::<Vec<_>>(),
        "dtlsParameters": {"role": "auto", "fingerprints": &*transport.fingerprints},
    })
}

/// The names are mediasoup's.
fn transport_stats(stats: &TransportStats) -> Value {
    let ice_state = match stats.ice_state {
        None => "new",
        Some(IceState::Connected) => "completed",
        Some(IceState::Disconnected) => "disconnected",
    };
    let dtls_state = match stats.dtls_state {
        None => "new",
        Some(DtlsState::Connected(_)) => "connected",
        Some(DtlsState::Failed) => "failed",
        Some(DtlsState::Closed) => "closed",
    };
    json!({
        "type": "webrtc-transport",
        "timestamp": unix_ms(),
        "iceRole": "controlled",
        "iceState": ice_state,
        "dtlsState": dtls_state,
        "iceSelectedTuple": stats.remote_address.map(|remote| json!({
            "remoteIp": remote.ip(), "remotePort": remote.port(), "protocol": "udp",
        })),
        "bytesReceived": stats.bytes_received,
        "recvBitrate": stats.recv_bitrate,
        "bytesSent": stats.bytes_sent,
        "sendBitrate": stats.send_bitrate,
        "rtpPacketsReceived": stats.rtp_packets_received,
        "rtpPacketsSent": stats.rtp_packets_sent,
    })
}

/// The names are mediasoup's.
fn stream_stats(direction: &str, kind: MediaKind, stats: &StreamStats) -> Value {
    json!({
        "type": direction,
        "timestamp": unix_ms(),
        "ssrc": stats.ssrc,
        "kind": kind,
        "packetCount": stats.packets,
        "byteCount": stats.bytes,
        "bitrate": stats.bitrate,
        "packetsLost": stats.packets_lost,
        "fractionLost": stats.fraction_lost,
        "jitter": stats.jitter,
        "packetsRetransmitted": stats.packets_retransmitted,
        "packetsRepaired": stats.packets_repaired,
        "nackCount": stats.nack_count,
        "nackPacketCount": stats.nack_packet_count,
        "pliCount": stats.pli_count,
        "firCount": stats.fir_count,
        "keyFrames": stats.key_frames,
        "roundTripTime": stats.round_trip_time_ms,
        "score": stats.score,
    })
}
