//! What requests are answered with.

use serde::Serialize;
use serde_json::{Value, json};
use sluice_proto::ortc::RtpCapabilitiesFinalized;

use super::notice::producer;
use super::{Shapes, Words, stats};
use crate::rooms::api::{NewTransport, Others, PeerInfo, PeerReply};
use crate::rooms::seat::Resumption;

/// The priority of the first host candidate over UDP, RFC 8445 section 5.1.2, as mediasoup announces it.
const FIRST_CANDIDATE_PRIORITY: usize = 1_076_302_079;

/// How much less one over TCP has: a thousand of local preference, as with mediasoup's `preferUdp`.
const TCP_PRIORITY_LESS: usize = 1_000 << 8;

pub(super) fn reply(shapes: &dyn Shapes, reply: PeerReply) -> Value {
    match reply {
        PeerReply::Done => json!({}),
        PeerReply::RouterRtpCapabilities(capabilities) => router_rtp_capabilities(&capabilities),
        PeerReply::Transport(transport) => shapes.transport(&transport),
        PeerReply::Joined { others, node, region, secret } => {
            json!({"peers": peers(shapes, &others), "node": node, "region": region, "peerSecret": secret.text()})
        }
        PeerReply::Ice(ice) => shapes.ice(&ice),
        PeerReply::Produced(id) => shapes.produced(id),
        PeerReply::ProducedData(id) => shapes.produced_data(id),
        PeerReply::Peers(page) => json!(page),
        PeerReply::TransportStats { id, local, stats } => shapes.stats(stats::transport(id, local, &stats)),
        PeerReply::ProducerStats(coding, stats) => shapes.stats(stats::producer(coding, &stats)),
        PeerReply::DataProducerStats(id, channel, stats) => shapes.stats(stats::data_producer(id, &channel, stats)),
        PeerReply::DataConsumerStats(id, channel, stats) => shapes.stats(stats::data_consumer(id, &channel, stats)),
        PeerReply::ConsumerStats { sent, received, stats } => shapes.stats(stats::consumer(sent, received, &stats)),
    }
}

/// For both dialects: it is asked for before it is certain which of them a client speaks.
fn router_rtp_capabilities(capabilities: &RtpCapabilitiesFinalized) -> Value {
    let capabilities = json!(capabilities);
    let mut both = capabilities.clone();
    both["routerRtpCapabilities"] = capabilities;
    both
}

/// Those who ask for what they receive are told what there is.
fn peers(shapes: &dyn Shapes, others: &Others) -> Vec<Value> {
    let with_producers = |info: &PeerInfo| {
        let mut peer = shapes.peer(info);
        if let Some(producers) = &others.producers {
            let own = producers.iter().filter(|producer| producer.peer == info.id);
            peer["producers"] = own.map(|own| Value::Object(producer(own))).collect();
        }
        peer
    };
    others.peers.iter().map(|info| with_producers(info)).collect()
}

/// A peer, with what names it under this name.
pub(super) fn peer(id_name: &str, peer: &PeerInfo) -> Value {
    let mut data = json!({
        id_name: peer.id,
        "displayName": peer.display_name,
        "device": peer.device,
        "node": peer.node,
        "region": peer.region,
    });
    if let Some(metadata) = &peer.metadata {
        data["metadata"] = json!(metadata);
    }
    data
}

/// What becomes of a client that wants to go on after its connection broke: an extension of the dialects.
pub(super) fn resumption(shapes: &dyn Shapes, resumption: &Resumption) -> Words {
    let Resumption::Resumed(resumed) = resumption else { return ("notResumed", json!({})) };
    let consumers = resumed.consumers.iter();
    let data = json!({
        "peers": peers(shapes, &resumed.others),
        "peerSecret": resumed.secret.text(),
        "producers": resumed.producers,
        "consumers": consumers.map(|(id, paused)| json!({"id": id, "producerPaused": paused})).collect::<Vec<_>>(),
        "dataProducers": ids(&resumed.data_producers),
        "dataConsumers": ids(&resumed.data_consumers),
    });
    ("resumed", data)
}

fn ids<T: Serialize>(ids: &[T]) -> Vec<Value> {
    ids.iter().map(|id| json!({"id": id})).collect()
}

/// A transport, with what names it under this name. `ip` is what clients before 2024 read, `address` the later ones.
/// Without data channels there are no `sctpParameters`. `iceServers` are an extension of the dialects.
pub(super) fn new_transport(id_name: &str, transport: &NewTransport) -> Value {
    let candidates = transport.addresses.iter().enumerate().map(|(index, address)| {
        let (protocol, ip) = (address.protocol(), address.socket_addr().ip());
        let less = index + if address.is_tcp() { TCP_PRIORITY_LESS } else { 0 };
        stats::known(json!({
            "foundation": format!("{protocol}candidate"),
            "priority": FIRST_CANDIDATE_PRIORITY.saturating_sub(less),
            "ip": ip,
            "address": ip,
            "protocol": protocol,
            "port": address.socket_addr().port(),
            "type": "host",
            "tcpType": address.is_tcp().then_some("passive"),
        }))
    });
    let mut data = json!({
        id_name: transport.id,
        "iceParameters": transport.ice,
        "iceCandidates": candidates.collect::<Vec<_>>(),
        "dtlsParameters": {"role": "auto", "fingerprints": &*transport.fingerprints},
    });
    if let Some(sctp) = &transport.sctp {
        data["sctpParameters"] = sctp.clone();
    }
    if let Some(server) = &transport.ice_server {
        data["iceServers"] = json!([server]);
    }
    data
}
