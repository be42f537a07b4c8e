//! The dialects of mediasoup-demo: method names and the shapes of their data, translated from and to the room's own
//! terms. Clients say the same in both, but for `createWebRtcTransport`; what they are told has other shapes in each.
//!
//! # Layout
//! - `request`: what clients say.
//! - `reply`, `notice`: what they are told; `stats`: statistics in replies.
//! - `v3`: shapes of the JavaScript server, which mobile apps and most third-party clients know.
//! - `ts`: shapes of the TypeScript server that took its place in 2025, which the present web app knows.

mod notice;
mod reply;
mod request;
mod stats;
mod ts;
mod v3;

use serde_json::Value;
use sluice_proto::ids::{ConsumerId, ProducerId};
use sluice_proto::ortc::{IceParameters, SctpStreamParameters};
use sluice_proto::pipe::Layers;

use crate::ortc::DataChannel;
use crate::rooms::api::{NewConsumer, NewTransport, Notice, PeerInfo, PeerReply, Received, ReceivedMedia, Speaker};
use crate::rooms::seat::Resumption;

pub(super) use notice::greeting;
pub(super) use request::{Request, notification, request};

/// A message's method and data.
type Words = (&'static str, Value);

/// Which dialect a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    V3,
    Ts,
}

/// What the dialects write in shapes of their own.
trait Shapes {
    /// A peer in the answer to `join`.
    fn peer(&self, peer: &PeerInfo) -> Value;

    /// `newPeer`.
    fn new_peer(&self, peer: &PeerInfo) -> Value;

    /// Who speaks loudest, if anybody does.
    fn speaker(&self, loudest: Option<&Speaker>) -> Vec<Words>;

    /// `newConsumer`.
    fn new_consumer(&self, consumer: &NewConsumer, media: &ReceivedMedia) -> Value;

    /// `newDataConsumer`, on a stream of the client's.
    fn new_data_consumer(&self, consumer: &NewConsumer, channel: &DataChannel, stream: &SctpStreamParameters) -> Value;

    /// `consumerLayersChanged`.
    fn consumer_layers(&self, consumer: ConsumerId, layers: Option<Layers>) -> Words;

    /// The answer to `createWebRtcTransport`.
    fn transport(&self, transport: &NewTransport) -> Value;

    /// The answer to `restartIce`.
    fn ice(&self, ice: &IceParameters) -> Value;

    /// The answer to `produce`.
    fn produced(&self, producer: ProducerId) -> Value;

    /// The answer to `produceData`.
    fn produced_data(&self, producer: ProducerId) -> Value;

    /// The answer to a request for statistics.
    fn stats(&self, stats: Value) -> Value;
}

impl Dialect {
    /// What a client's URL lets expect: only apps of the TypeScript server have `usePipeTransports` there.
    pub(crate) fn expected(uses_pipe_transports: bool) -> Self {
        if uses_pipe_transports { Self::Ts } else { Self::V3 }
    }

    /// Which one a client speaks that makes this request, if it was taken to speak this one until now. That may be
    /// wrong before its first `createWebRtcTransport`: what it is told until then is right in both.
    pub(super) fn told_by(self, method: &str, data: &Value) -> Self {
        match method {
            "getRtcStatsUrl" => Self::Ts,
            "createWebRtcTransport" if data.get("producing").or(data.get("consuming")).is_some() => Self::V3,
            "createWebRtcTransport" if data.pointer("/appData/direction").is_some() => Self::Ts,
            _ => self,
        }
    }

    /// Its number among those that word [`crate::rooms::api::Announcement`]s.
    pub(super) fn wording(self) -> usize {
        match self {
            Self::V3 => 0,
            Self::Ts => 1,
        }
    }

    /// Writes a reply.
    pub(super) fn reply(self, reply: PeerReply) -> Value {
        reply::reply(self.shapes(), reply)
    }

    /// Writes the notifications of a notice.
    pub(super) fn notices(self, notice: &Notice) -> Vec<Words> {
        notice::notices(self.shapes(), notice)
    }

    /// Writes what becomes of a client that wants to go on.
    pub(super) fn resumption(self, resumption: &Resumption) -> Words {
        reply::resumption(self.shapes(), resumption)
    }

    /// Writes the request by which a client sets a consumer up.
    pub(super) fn new_consumer(self, consumer: &NewConsumer) -> Words {
        match &consumer.content {
            Received::Media(media) => ("newConsumer", self.shapes().new_consumer(consumer, media)),
            Received::Data { channel, stream } => {
                ("newDataConsumer", self.shapes().new_data_consumer(consumer, channel, stream))
            }
        }
    }

    fn shapes(self) -> &'static dyn Shapes {
        match self {
            Self::V3 => &v3::V3,
            Self::Ts => &ts::Ts,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dialect_is_told_by_the_url_the_first_request_and_the_first_transport() {
        assert_eq!(Dialect::expected(false), Dialect::V3);
        assert_eq!(Dialect::expected(true), Dialect::Ts);
        let nothing = json!({});
        assert_eq!(Dialect::V3.told_by("getRtcStatsUrl", &nothing), Dialect::Ts);
        for expected in [Dialect::V3, Dialect::Ts] {
            assert_eq!(expected.told_by("getRouterRtpCapabilities", &nothing), expected);
            assert_eq!(expected.told_by("createWebRtcTransport", &nothing), expected);
            let v3 = json!({"forceTcp": false, "producing": false, "consuming": true});
            assert_eq!(expected.told_by("createWebRtcTransport", &v3), Dialect::V3);
            let ts = json!({"forceTcp": false, "appData": {"direction": "consumer"}});
            assert_eq!(expected.told_by("createWebRtcTransport", &ts), Dialect::Ts);
        }
    }
}
