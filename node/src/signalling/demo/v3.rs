//! Shapes of mediasoup-demo's JavaScript server, version 3.

use serde_json::{Value, json};
use sluice_proto::ids::{ConsumerId, ProducerId};
use sluice_proto::ortc::{IceParameters, SctpStreamParameters};
use sluice_proto::pipe::Layers;

use super::{Shapes, Words, notice, reply};
use crate::ortc::DataChannel;
use crate::rooms::api::{NewConsumer, NewTransport, PeerInfo, ReceivedMedia, Speaker};

pub(super) struct V3;

impl Shapes for V3 {
    fn peer(&self, peer: &PeerInfo) -> Value {
        reply::peer("id", peer)
    }

    fn new_peer(&self, peer: &PeerInfo) -> Value {
        self.peer(peer)
    }

    fn speaker(&self, loudest: Option<&Speaker>) -> Vec<Words> {
        let data = match loudest {
            Some(Speaker { peer, volume }) => json!({"peerId": peer, "volume": volume}),
            None => json!({"peerId": null}),
        };
        vec![("activeSpeaker", data)]
    }

    fn new_consumer(&self, consumer: &NewConsumer, media: &ReceivedMedia) -> Value {
        json!({
            "peerId": consumer.peer,
            "producerId": consumer.producer,
            "id": consumer.id,
            "kind": media.kind,
            "rtpParameters": &*media.rtp,
            "type": notice::consumer_type(media),
            "appData": consumer.app_data,
            "producerPaused": consumer.producer_paused,
        })
    }

    fn new_data_consumer(&self, consumer: &NewConsumer, channel: &DataChannel, stream: &SctpStreamParameters) -> Value {
        json!({
            "peerId": consumer.peer,
            "dataProducerId": consumer.producer,
            "id": consumer.id,
            "sctpStreamParameters": stream,
            "label": channel.label,
            "protocol": channel.protocol,
            "appData": consumer.app_data,
        })
    }

    fn consumer_layers(&self, consumer: ConsumerId, layers: Option<Layers>) -> Words {
        let mut data = notice::layers(layers);
        data.insert("consumerId".to_owned(), json!(consumer));
        ("consumerLayersChanged", Value::Object(data))
    }

    fn transport(&self, transport: &NewTransport) -> Value {
        reply::new_transport("id", transport)
    }

    fn ice(&self, ice: &IceParameters) -> Value {
        json!(ice)
    }

    fn produced(&self, producer: ProducerId) -> Value {
        json!({"id": producer})
    }

    fn produced_data(&self, producer: ProducerId) -> Value {
        json!({"id": producer})
    }

    fn stats(&self, stats: Value) -> Value {
        stats
    }
}
