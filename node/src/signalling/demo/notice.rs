//! What clients are told without having asked.

use serde_json::{Map, Value, json};
use sluice_media::messages::{ConsumerScores, EncodingScore};
use sluice_proto::pipe::Layers;

use super::stats::known;
use super::{Shapes, Words};
use crate::ortc::Layering;
use crate::rooms::api::{Downlink, Notice, ProducerInfo, ReceivedMedia};

/// What the server says first, in both dialects: clients log what they do not know.
pub(in crate::signalling) fn greeting() -> [Words; 2] {
    ["mediasoup-version", "mediasoupVersion"].map(|method| (method, json!({"version": env!("CARGO_PKG_VERSION")})))
}

pub(super) fn notices(shapes: &dyn Shapes, notice: &Notice) -> Vec<Words> {
    let words = match notice {
        Notice::ActiveSpeaker { loudest } => return shapes.speaker(loudest.as_ref()),
        Notice::NewPeer(peer) => ("newPeer", shapes.new_peer(peer)),
        Notice::PeerClosed { peer } => ("peerClosed", json!({"peerId": peer})),
        Notice::PeerRenamed { info, old } => {
            let mut data = json!({"peerId": info.id, "displayName": info.display_name, "oldDisplayName": old});
            if let Some(metadata) = &info.metadata {
                data["metadata"] = json!(metadata);
            }
            ("peerDisplayNameChanged", data)
        }
        Notice::NewProducer(info) => {
            let mut data = producer(info);
            data.insert("peerId".to_owned(), json!(info.peer));
            ("newProducer", Value::Object(data))
        }
        Notice::ProducerClosed { producer } => ("producerClosed", json!({"producerId": producer})),
        Notice::ProducerPaused { producer } => ("producerPaused", json!({"producerId": producer})),
        Notice::ProducerResumable { producer } => ("producerResumable", json!({"producerId": producer})),
        Notice::ProducerResumed { producer } => ("producerResumed", json!({"producerId": producer})),
        Notice::ConsumerClosed { consumer } => ("consumerClosed", json!({"consumerId": consumer})),
        Notice::DataConsumerClosed { consumer } => ("dataConsumerClosed", json!({"dataConsumerId": consumer})),
        Notice::ConsumerPaused { consumer } => ("consumerPaused", json!({"consumerId": consumer})),
        Notice::ConsumerResumed { consumer } => ("consumerResumed", json!({"consumerId": consumer})),
        Notice::ConsumerScore { consumer, scores } => {
            ("consumerScore", json!({"consumerId": consumer, "score": consumer_score(scores)}))
        }
        Notice::ConsumerLayers { consumer, layers } => return vec![shapes.consumer_layers(*consumer, *layers)],
        Notice::Downlink(Downlink { desired, effective_desired, available }) => (
            "downlinkBwe",
            json!({
                "desiredBitrate": desired, "effectiveDesiredBitrate": effective_desired, "availableBitrate": available,
            }),
        ),
        Notice::ProducerEncodingsWanted { producer, wanted } => {
            ("producerEncodingsWanted", json!({"producerId": producer, "wanted": wanted}))
        }
        Notice::Audience(census) => ("audience", json!(census)),
        Notice::ProducerScore { producer, scores } => {
            let scores: Vec<_> = scores.iter().map(encoding_score).collect();
            ("producerScore", json!({"producerId": producer, "score": scores}))
        }
    };
    vec![words]
}

/// Layers; without a temporal one where all are sent, and without any where none are.
pub(super) fn layers(layers: Option<Layers>) -> Map<String, Value> {
    let temporal = layers.map(|layers| layers.temporal).filter(|temporal| *temporal != u8::MAX);
    let spatial = layers.map(|layers| layers.spatial);
    let fields = [("spatialLayer", json!(spatial)), ("temporalLayer", json!(temporal))];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The type of a consumer, as mediasoup names it.
pub(super) fn consumer_type(media: &ReceivedMedia) -> &'static str {
    match media.layering {
        Layering::None => "simple",
        Layering::Simulcast => "simulcast",
        Layering::Svc => "svc",
    }
}

/// A producer, as those are told who ask for what they receive.
pub(super) fn producer(info: &ProducerInfo) -> Map<String, Value> {
    let ProducerInfo { id, peer: _, kind, app_data, paused } = info;
    let fields =
        [("producerId", json!(id)), ("kind", json!(kind)), ("appData", app_data.clone()), ("paused", json!(paused))];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The scores of a consumer and its producer.
pub(super) fn consumer_score(scores: &ConsumerScores) -> Value {
    let ConsumerScores { consumer, producer, streams } = scores;
    json!({"score": consumer, "producerScore": producer, "producerScores": streams.as_slice()})
}

/// The score of an encoding, which has a RID only if its client named it so.
fn encoding_score(of: &EncodingScore) -> Value {
    known(json!({"encodingIdx": of.encoding, "ssrc": of.ssrc, "rid": of.rid, "score": of.score}))
}
