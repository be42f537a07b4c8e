//! Statistics of transports and streams. The names are mediasoup's; what is not known is left out, as there.

use serde_json::{Map, Value, json};
use sluice_media::TransportAddress;
use sluice_media::messages::{ConsumerStats, DataStats, Flow, SctpState, StreamStats, TransportStats};
use sluice_media::secure::dtls::DtlsState;
use sluice_media::secure::ice::IceState;
use sluice_proto::ids::{ConsumerId, ProducerId, TransportId};
use sluice_proto::ortc::MimeType;

use crate::ortc::DataChannel;
use crate::rooms::api::Coding;
use crate::support::unix_ms;

/// What `getTransportStats` is answered with.
pub(super) fn transport(id: TransportId, local: Option<TransportAddress>, stats: &TransportStats) -> Value {
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
    let mut told = json!({
        "type": "webrtc-transport",
        "transportId": id,
        "timestamp": unix_ms(),
        "iceRole": "controlled",
        "iceState": ice_state,
        "dtlsState": dtls_state,
        "sctpState": stats.sctp_state.map(sctp_state),
        "iceSelectedTuple": stats.remote_address.map(|remote| tuple(local, remote)),
        "bytesReceived": stats.bytes_received,
        "recvBitrate": stats.recv_bitrate,
        "bytesSent": stats.bytes_sent,
        "sendBitrate": stats.send_bitrate,
        "rtpPacketsReceived": stats.rtp_packets_received,
        "rtpPacketsSent": stats.rtp_packets_sent,
        "rtpPacketLossReceived": stats.recv_loss,
        "rtpPacketLossSent": stats.send_loss,
        "availableOutgoingBitrate": stats.available_outgoing_bitrate,
    });
    for (bytes_name, bitrate_name, Flow { bytes, bitrate }) in [
        ("rtpBytesReceived", "rtpRecvBitrate", stats.rtp_received),
        ("rtpBytesSent", "rtpSendBitrate", stats.rtp_sent),
        ("rtxBytesReceived", "rtxRecvBitrate", stats.rtx_received),
        ("rtxBytesSent", "rtxSendBitrate", stats.rtx_sent),
        ("probationBytesSent", "probationSendBitrate", stats.probation_sent),
    ] {
        (told[bytes_name], told[bitrate_name]) = (json!(bytes), json!(bitrate));
    }
    json!([known(told)])
}

fn sctp_state(state: SctpState) -> &'static str {
    match state {
        SctpState::New => "new",
        SctpState::Connecting => "connecting",
        SctpState::Connected => "connected",
        SctpState::Failed => "failed",
        SctpState::Closed => "closed",
    }
}

/// `localIp` is what clients before 2024 read, `localAddress` the later ones.
fn tuple(local: Option<TransportAddress>, remote: TransportAddress) -> Value {
    let protocol = remote.protocol();
    let (local, remote) = (local.map(TransportAddress::socket_addr), remote.socket_addr());
    known(json!({
        "localIp": local.map(|local| local.ip()),
        "localAddress": local.map(|local| local.ip()),
        "localPort": local.map(|local| local.port()),
        "remoteIp": remote.ip(),
        "remotePort": remote.port(),
        "protocol": protocol,
    }))
}

/// What `getProducerStats` is answered with.
pub(super) fn producer(coding: Coding, stats: &[StreamStats]) -> Value {
    stats.iter().map(|stats| inbound(coding, stats)).collect()
}

/// What `getConsumerStats` is answered with.
pub(super) fn consumer(sent: Coding, received: Coding, stats: &ConsumerStats) -> Value {
    let inbound = stats.received.as_ref().map(|stats| inbound(received, stats));
    std::iter::once(stream("outbound-rtp", sent, &stats.sent)).chain(inbound).collect()
}

fn inbound(coding: Coding, stats: &StreamStats) -> Value {
    let mut told = stream("inbound-rtp", coding, stats);
    let layers = stats.bitrate_by_layer.iter();
    let by_layer: Map<_, _> = layers.map(|of| (format!("{}.{}", of.spatial, of.temporal), json!(of.bitrate))).collect();
    told["bitrateByLayer"] = Value::Object(by_layer);
    told
}

fn stream(direction: &str, Coding { kind, mime_type }: Coding, stats: &StreamStats) -> Value {
    known(json!({
        "type": direction,
        "timestamp": unix_ms(),
        "ssrc": stats.ssrc,
        "rtxSsrc": stats.rtx_ssrc,
        "rid": stats.rid,
        "kind": kind,
        "mimeType": mime_type.map(MimeType::as_str),
        "packetCount": stats.packets,
        "byteCount": stats.bytes,
        "bitrate": stats.bitrate,
        "packetsLost": stats.packets_lost,
        "fractionLost": stats.fraction_lost,
        "jitter": stats.jitter,
        "packetsDiscarded": stats.packets_discarded,
        "packetsRetransmitted": stats.packets_retransmitted,
        "packetsRepaired": stats.packets_repaired,
        "nackCount": stats.nack_count,
        "nackPacketCount": stats.nack_packet_count,
        "pliCount": stats.pli_count,
        "firCount": stats.fir_count,
        "keyFrames": stats.key_frames,
        "roundTripTime": stats.round_trip_time_ms,
        "score": stats.score,
    }))
}

/// What `getDataProducerStats` is answered with.
pub(super) fn data_producer(id: ProducerId, channel: &DataChannel, stats: DataStats) -> Value {
    json!([{
        "type": "data-producer",
        "timestamp": unix_ms(),
        "dataProducerId": id,
        "label": channel.label,
        "protocol": channel.protocol,
        "messagesReceived": stats.messages,
        "bytesReceived": stats.bytes,
    }])
}

/// What `getDataConsumerStats` is answered with; of a channel that may lose some, with what was dropped here.
pub(super) fn data_consumer(id: ConsumerId, channel: &DataChannel, stats: DataStats) -> Value {
    json!([{
        "type": "data-consumer",
        "timestamp": unix_ms(),
        "dataConsumerId": id,
        "label": channel.label,
        "protocol": channel.protocol,
        "messagesSent": stats.messages,
        "bytesSent": stats.bytes,
        "bufferedAmount": stats.buffered,
        "messagesDropped": stats.dropped,
    }])
}

/// Without the fields that have no value.
pub(super) fn known(mut fields: Value) -> Value {
    fields.as_object_mut().into_iter().for_each(|fields| fields.retain(|_, value| !value.is_null()));
    fields
}
