//! What a peer can ask of its room and what it is told: the one interface that every signalling dialect translates.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::Serialize;
use serde_json::{Map, Value};
use sluice_proto::ids::{ConsumerId, NodeId, PeerId, ProducerId, Region, TransportId};
use sluice_proto::ortc::{
    DtlsFingerprint, DtlsParameters, IceParameters, MediaKind, MimeType, RtpCapabilities, RtpCapabilitiesFinalized,
    RtpParameters, SctpStreamParameters,
};
use sluice_proto::pipe::Layers;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use utoipa::ToSchema;

use super::join::PeerSecret;
use crate::access::Rights;
use crate::ortc::{DataChannel, Layering, ProducerKind};
use crate::turn::IceServer;
use sluice_media::TransportAddress;
use sluice_media::messages::{
    ConsumerScores, ConsumerStats, DataStats, EncodingScore, RequestError, StreamStats, TransportStats,
};

/// A request of a peer, parsed.
#[derive(Debug)]
pub(crate) enum PeerRequest {
    RouterRtpCapabilities,
    CreateTransport {
        consuming: bool,
        /// Whether the client wants to be told of TCP only.
        force_tcp: bool,
        /// How many streams of data the client takes, if it wants any.
        data_streams: Option<u16>,
    },
    ConnectTransport {
        transport: TransportId,
        dtls: DtlsParameters,
    },
    Join(Box<Join>),
    RestartIce {
        transport: TransportId,
    },
    Produce {
        transport: TransportId,
        kind: MediaKind,
        rtp: Box<RtpParameters>,
        app_data: Value,
    },
    ProduceData {
        transport: TransportId,
        channel: Box<DataChannel>,
        app_data: Value,
    },
    /// Of media or data.
    CloseProducer {
        producer: ProducerId,
    },
    SetProducerPaused {
        producer: ProducerId,
        paused: bool,
    },
    /// Of a peer whose [`Subscription`] is on request. It is asked to set a consumer up, with the MID that it wants.
    Subscribe {
        producer: ProducerId,
        mid: Option<String>,
    },
    Unsubscribe {
        producer: ProducerId,
    },
    SetConsumerPaused {
        consumer: ConsumerId,
        paused: bool,
    },
    RequestKeyFrame {
        consumer: ConsumerId,
    },
    /// The client wants layers up to these.
    SetPreferredLayers {
        consumer: ConsumerId,
        layers: Layers,
    },
    /// Whose video gets its share before that of others: 1 to 255.
    SetConsumerPriority {
        consumer: ConsumerId,
        priority: u8,
    },
    ChangeDisplayName {
        display_name: String,
    },
    TransportStats {
        transport: TransportId,
    },
    ProducerStats {
        producer: ProducerId,
    },
    ConsumerStats {
        consumer: ConsumerId,
    },
    DataProducerStats {
        producer: ProducerId,
    },
    DataConsumerStats {
        consumer: ConsumerId,
    },
    /// A newer token allows this.
    Renew(Box<Rights>),
    /// Who is in the room, from after a peer on, and at most so many.
    Peers {
        after: Option<PeerId>,
        limit: Option<usize>,
    },
}

/// What a peer says of itself when it joins.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) display_name: String,
    /// JSON object.
    pub(crate) device: Value,
    /// Without them the peer receives nothing.
    pub(crate) rtp_capabilities: Option<RtpCapabilities>,
    pub(crate) subscription: Subscription,
    /// The client turns encodings off that nobody receives, so it is told which those are.
    pub(crate) adapts_encodings: bool,
}

/// What a peer receives, and of whom it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subscription {
    /// Every producer that it can receive, as far as limits allow.
    Everything,
    /// What it asks for. It is told what there is.
    OnRequest,
    /// Every producer likewise; but in a small room too it is told of the stage alone, and how many there are.
    Stage,
}

/// The answer to a [`PeerRequest`].
#[derive(Debug)]
pub(crate) enum PeerReply {
    Done,
    RouterRtpCapabilities(Box<RtpCapabilitiesFinalized>),
    Transport(Box<NewTransport>),
    Joined {
        others: Others,
        /// Where the peer itself is connected.
        node: NodeId,
        region: Region,
        /// What the client shows to take its own place again; nobody else is told.
        secret: PeerSecret,
    },
    Ice(IceParameters),
    Produced(ProducerId),
    ProducedData(ProducerId),
    TransportStats {
        id: TransportId,
        /// Of this end, as clients know it.
        local: Option<TransportAddress>,
        stats: Box<TransportStats>,
    },
    ProducerStats(Coding, Vec<StreamStats>),
    ConsumerStats {
        sent: Coding,
        /// Of the producer.
        received: Coding,
        stats: Box<ConsumerStats>,
    },
    DataProducerStats(ProducerId, Arc<DataChannel>, DataStats),
    DataConsumerStats(ConsumerId, Arc<DataChannel>, DataStats),
    Peers(Box<PeersPage>),
}

/// What a stream carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Coding {
    pub(crate) kind: MediaKind,
    pub(crate) mime_type: Option<MimeType>,
}

/// Who and what is in the room beside the peer itself, as far as it is told.
#[derive(Debug, Clone)]
pub(crate) struct Others {
    pub(crate) peers: Vec<Arc<PeerInfo>>,
    /// What those peers send, if it has to be asked for.
    pub(crate) producers: Option<Vec<Arc<ProducerInfo>>>,
}

/// What a client needs to connect a transport.
#[derive(Debug)]
pub(crate) struct NewTransport {
    pub(crate) id: TransportId,
    pub(crate) ice: IceParameters,
    /// Best first.
    pub(crate) addresses: Arc<[TransportAddress]>,
    pub(crate) fingerprints: Arc<[DtlsFingerprint]>,
    /// For a client that does not reach the addresses.
    pub(crate) ice_server: Option<IceServer>,
    /// If the client wants data channels, and there are any.
    pub(crate) sctp: Option<Value>,
}

/// Another peer of the room.
#[derive(Debug, Clone)]
pub(crate) struct PeerInfo {
    pub(crate) id: PeerId,
    pub(crate) display_name: String,
    pub(crate) device: Value,
    pub(crate) node: NodeId,
    pub(crate) region: Option<Region>,
    /// What the tenant's server says of it.
    pub(crate) metadata: Option<Map<String, Value>>,
}

/// A producer of another peer.
#[derive(Debug, Clone)]
pub(crate) struct ProducerInfo {
    pub(crate) id: ProducerId,
    pub(crate) peer: PeerId,
    pub(crate) kind: ProducerKind,
    /// See [`NewConsumer::app_data`].
    pub(crate) app_data: Value,
    pub(crate) paused: bool,
}

/// Who speaks loudest.
#[derive(Debug, Clone)]
pub(crate) struct Speaker {
    pub(crate) peer: PeerId,
    /// In dBov: 0 is the loudest that there can be, -127 silence.
    pub(crate) volume: i8,
}

/// Some of those who are in a room, wherever they are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct PeersPage {
    /// In the order of their ids.
    pub(crate) peers: Vec<PeerSummary>,
    /// After whom to go on, if there are more.
    #[schema(value_type = Option<String>)]
    pub(crate) next: Option<PeerId>,
    #[serde(flatten)]
    pub(crate) census: Census,
    /// How many there are beside those of whom clients are told; clients are not told that either.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hidden: Option<usize>,
}

/// One of them.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerSummary {
    #[schema(value_type = String)]
    pub(crate) id: PeerId,
    pub(crate) display_name: String,
    #[schema(value_type = String)]
    pub(crate) node: NodeId,
    #[schema(value_type = Option<String>)]
    pub(crate) region: Option<Region>,
    /// It publishes, or was asked onto the stage.
    pub(crate) on_stage: bool,
    /// Clients are not told of it.
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) hidden: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

/// How many are in a room, of whom clients are told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Census {
    /// All of them.
    pub(crate) total: usize,
    /// Of those, on the stage.
    pub(crate) stage: usize,
    /// All of them by region; those of whom it is not known under the empty name.
    pub(crate) by_region: BTreeMap<String, usize>,
}

/// Why a request was refused: a code after HTTP's and the reason in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

impl Refusal {
    pub(crate) fn new(code: u16, reason: impl Into<String>) -> Self {
        Self { code, reason: reason.into() }
    }

    pub(crate) fn not_found(what: &str, id: impl std::fmt::Display) -> Self {
        Self::new(404, format!("{what} {id} not found"))
    }

    pub(crate) fn bad_request(reason: impl Into<String>) -> Self {
        Self::new(400, reason)
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        let code = match error {
            RequestError::RouterNotFound(_)
            | RequestError::TransportNotFound(_)
            | RequestError::ProducerNotFound(_)
            | RequestError::ConsumerNotFound(_) => 404,
            RequestError::AlreadyExists(_) | RequestError::AlreadyConnected(_) | RequestError::StreamInUse(_) => 409,
            RequestError::Invalid(_) => 400,
            RequestError::Unavailable => 503,
        };
        Self::new(code, error.to_string())
    }
}

impl From<crate::ortc::OrtcError> for Refusal {
    fn from(error: crate::ortc::OrtcError) -> Self {
        Self::bad_request(error.to_string())
    }
}

/// How much passes to a peer, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Downlink {
    /// What all that it receives would take.
    pub(crate) desired: u64,
    /// The same of what it is sent, and of the next step if more is wanted.
    pub(crate) effective_desired: u64,
    /// What passes.
    pub(crate) available: u64,
}

/// What a peer is told without having asked.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    NewPeer(Arc<PeerInfo>),
    PeerClosed {
        peer: PeerId,
    },
    /// Its display name or metadata are others now.
    PeerRenamed {
        info: Arc<PeerInfo>,
        old: String,
    },
    NewProducer(Arc<ProducerInfo>),
    ProducerClosed {
        producer: ProducerId,
    },
    ProducerPaused {
        producer: ProducerId,
    },
    ProducerResumed {
        producer: ProducerId,
    },
    /// A producer of the peer itself that was muted, and that it may resume.
    ProducerResumable {
        producer: ProducerId,
    },
    ConsumerClosed {
        consumer: ConsumerId,
    },
    DataConsumerClosed {
        consumer: ConsumerId,
    },
    ConsumerPaused {
        consumer: ConsumerId,
    },
    ConsumerResumed {
        consumer: ConsumerId,
    },
    ConsumerScore {
        consumer: ConsumerId,
        scores: ConsumerScores,
    },
    /// A consumer is sent these layers now, or none.
    ConsumerLayers {
        consumer: ConsumerId,
        layers: Option<Layers>,
    },
    Downlink(Downlink),
    ProducerScore {
        producer: ProducerId,
        scores: Vec<EncodingScore>,
    },
    /// Of a producer of the peer itself: which of its encodings, in their order, anybody anywhere receives.
    ProducerEncodingsWanted {
        producer: ProducerId,
        wanted: Vec<bool>,
    },
    ActiveSpeaker {
        loudest: Option<Speaker>,
    },
    /// How many there are, where not all are told of everybody.
    Audience(Census),
}

/// A consumer that the client is asked to set up; it answers.
#[derive(Debug, Clone)]
pub(crate) struct NewConsumer {
    pub(crate) id: ConsumerId,
    /// That it is put on.
    pub(crate) transport: TransportId,
    /// Whose producer it is of; `None`: the tenant's server sends it.
    pub(crate) peer: Option<PeerId>,
    pub(crate) producer: ProducerId,
    pub(crate) content: Received,
    /// The producer's, with `hops`: how many pipes between nodes the media crosses.
    pub(crate) app_data: Value,
    pub(crate) producer_paused: bool,
}

/// What a client gets of a producer, and in which form.
#[derive(Debug, Clone)]
pub(crate) enum Received {
    Media(Box<ReceivedMedia>),
    Data {
        channel: Arc<DataChannel>,
        /// On the client's own transport.
        stream: SctpStreamParameters,
    },
}

/// What a client gets of a producer of media.
#[derive(Debug, Clone)]
pub(crate) struct ReceivedMedia {
    pub(crate) kind: MediaKind,
    pub(crate) rtp: Arc<RtpParameters>,
    /// What spatial layers its producer has.
    pub(crate) layering: Layering,
    pub(crate) scores: ConsumerScores,
}

/// Why the room ends a session. Each is a close code of the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The same peer opened another WebSocket: this client shall not come back.
    Replaced,
    /// The client opened its WebSocket and did not join.
    NotJoined,
    /// Its token has ended, or was revoked.
    Unauthorised,
    /// An operator or the tenant's server sent it away: this client shall not come back.
    Removed,
    /// A worker did not take what the peer needs; the client may come back.
    Overloaded,
    /// The node stops: the client shall come back, to another node or this one's next life.
    Shutdown,
    /// A limit of the node or room.
    Full,
}

/// A notice for many clients, which each dialect words once.
#[derive(Debug)]
pub(crate) struct Announcement {
    notice: Notice,
    wordings: [OnceLock<Vec<Utf8Bytes>>; WORDINGS],
}

/// Dialects that may each keep a wording of their own.
const WORDINGS: usize = 2;

impl Announcement {
    pub(crate) fn new(notice: Notice) -> Arc<Self> {
        Arc::new(Self { notice, wordings: [const { OnceLock::new() }; WORDINGS] })
    }

    #[cfg(test)]
    pub(crate) fn notice(&self) -> &Notice {
        &self.notice
    }

    /// The messages that a dialect makes of it; `dialect` is below [`WORDINGS`].
    pub(crate) fn wording(&self, dialect: usize, word: impl FnOnce(&Notice) -> Vec<Utf8Bytes>) -> Vec<Utf8Bytes> {
        match self.wordings.get(dialect) {
            Some(wording) => wording.get_or_init(|| word(&self.notice)).clone(),
            None => word(&self.notice),
        }
    }
}
