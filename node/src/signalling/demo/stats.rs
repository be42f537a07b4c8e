//! Statistics of transports and streams. The names are mediasoup's.

use serde_json::{Value, json};
use sluice_media::messages::{StreamStats, TransportStats};
use sluice_media::secure::dtls::DtlsState;
use sluice_media::secure::ice::IceState;
use sluice_proto::ids::TransportId;
use sluice_proto::ortc::MediaKind;

use crate::support::unix_ms;

/// What `getTransportStats` is answered with.
pub(super) fn transport(id: TransportId, stats: &TransportStats) -> Value {
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
        "transportId": id,
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
        "availableOutgoingBitrate": stats.available_outgoing_bitrate,
    })
}

/// What `getProducerStats` is answered with.
pub(super) fn producer(kind: MediaKind, stats: &StreamStats) -> Value {
    stream("inbound-rtp", kind, stats)
}

/// What `getConsumerStats` is answered with.
pub(super) fn consumer(kind: MediaKind, stats: &StreamStats) -> Value {
    stream("outbound-rtp", kind, stats)
}

fn stream(direction: &str, kind: MediaKind, stats: &StreamStats) -> Value {
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
