//! Shapes of mediasoup-demo's TypeScript server.

use serde_json::{Value, json};
use sluice_proto::ids::{ConsumerId, ProducerId};
use sluice_proto::ortc::{IceParameters, MediaKind, SctpStreamParameters};
use sluice_proto::pipe::Layers;

use super::{Shapes, Words, notice, reply};
use crate::access::source;
use crate::ortc::DataChannel;
use crate::rooms::api::{NewConsumer, NewTransport, PeerInfo, ReceivedMedia, Speaker};

pub(super) struct Ts;

impl Shapes for Ts {
    /// Users are not told each other's addresses: what the dialect has a name for is empty.
    fn peer(&self, peer: &PeerInfo) -> Value {
        let mut data = reply::peer("peerId", peer);
        data["remoteAddress"] = json!("");
        data
    }

    fn new_peer(&self, peer: &PeerInfo) -> Value {
        json!({"peer": self.peer(peer)})
    }

    fn speaker(&self, loudest: Option<&Speaker>) -> Vec<Words> {
        let active = loudest.map_or_else(|| json!({}), |speaker| json!({"peerId": speaker.peer}));
        let volumes: Vec<Value> =
            loudest.iter().map(|speaker| json!({"peerId": speaker.peer, "volume": speaker.volume})).collect();
        vec![("activeSpeaker", active), ("speakingPeers", json!({"peerVolumes": volumes}))]
    }

    fn new_consumer(&self, consumer: &NewConsumer, media: &ReceivedMedia) -> Value {
        json!({
            "peerId": consumer.peer,
            "transportId": consumer.transport,
            "consumerId": consumer.id,
            "producerId": consumer.producer,
            "kind": media.kind,
            "rtpParameters": &*media.rtp,
            "type": notice::consumer_type(media),
            "producerPaused": consumer.producer_paused,
            "consumerScore": notice::consumer_score(&media.scores),
            "appData": app_data(consumer, media.kind),
        })
    }

    fn new_data_consumer(&self, consumer: &NewConsumer, channel: &DataChannel, stream: &SctpStreamParameters) -> Value {
        let mut app_data = consumer.app_data.clone();
        app_data["peerId"] = json!(consumer.peer);
        // Clients tell what a channel is for by `channel`, which those of version 3 do not say.
        if app_data.get("channel").is_none() {
            app_data["channel"] = json!(channel.label);
        }
        json!({
            "peerId": consumer.peer,
            "transportId": consumer.transport,
            "dataConsumerId": consumer.id,
            "dataProducerId": consumer.producer,
            "sctpStreamParameters": stream,
            "label": channel.label,
            "protocol": channel.protocol,
            "appData": app_data,
        })
    }

    fn consumer_layers(&self, consumer: ConsumerId, layers: Option<Layers>) -> Words {
        ("consumerLayersChanged", json!({"consumerId": consumer, "layers": layers.map(|it| notice::layers(Some(it)))}))
    }

    fn transport(&self, transport: &NewTransport) -> Value {
        reply::new_transport("transportId", transport)
    }

    fn ice(&self, ice: &IceParameters) -> Value {
        json!({"iceParameters": ice})
    }

    fn produced(&self, producer: ProducerId) -> Value {
        json!({"producerId": producer})
    }

    fn produced_data(&self, producer: ProducerId) -> Value {
        json!({"dataProducerId": producer})
    }

    fn stats(&self, stats: Value) -> Value {
        json!({"stats": stats})
    }
}

/// Clients tell a screen from a camera by `source`, which those of version 3 do not say.
fn app_data(consumer: &NewConsumer, kind: MediaKind) -> Value {
    let mut data = consumer.app_data.clone();
    data["source"] = json!(source(kind, &consumer.app_data));
    data["peerId"] = json!(consumer.peer);
    data
}
