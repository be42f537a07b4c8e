//! What a peer can ask of its room and what it is told: the one interface that every signalling dialect translates.

use std::sync::Arc;

use serde_json::Value;
use sluice_proto::ids::{ConsumerId, NodeId, PeerId, ProducerId, Region, TransportId};
use sluice_proto::ortc::{
    DtlsFingerprint, DtlsParameters, IceParameters, MediaKind, RtpCapabilities, RtpCapabilitiesFinalized, RtpParameters,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use sluice_media::messages::{RequestError, StreamStats, TransportStats};

/// A request of a peer, parsed.
#[derive(Debug)]
pub(crate) enum PeerRequest {
    RouterRtpCapabilities,
    CreateTransport { consuming: bool },
    ConnectTransport { transport: TransportId, dtls: DtlsParameters },
    Join(Box<Join>),
    RestartIce { transport: TransportId },
    Produce { transport: TransportId, kind: MediaKind, rtp: Box<RtpParameters>, app_data: Value },
    CloseProducer { producer: ProducerId },
    SetProducerPaused { producer: ProducerId, paused: bool },
    SetConsumerPaused { consumer: ConsumerId, paused: bool },
    RequestKeyFrame { consumer: ConsumerId },
    ChangeDisplayName { display_name: String },
    TransportStats { transport: TransportId },
    ProducerStats { producer: ProducerId },
    ConsumerStats { consumer: ConsumerId },
}

/// What a peer says of itself when it joins.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) display_name: String,
    /// JSON object.
    pub(crate) device: Value,
    /// Without them the peer receives nothing.
    pub(crate) rtp_capabilities: Option<RtpCapabilities>,
}

/// The answer to a [`PeerRequest`].
#[derive(Debug)]
pub(crate) enum PeerReply {
    Done,
    RouterRtpCapabilities(&'static RtpCapabilitiesFinalized),
    Transport(Box<NewTransport>),
    Joined {
        peers: Vec<PeerInfo>,
        /// Where the peer itself is connected.
        node: NodeId,
        region: Region,
        /// What the client shows to take its own place again; nobody else is told.
        secret: String,
    },
    Ice(IceParameters),
    Produced(ProducerId),
    TransportStats(TransportId, Box<TransportStats>),
    ProducerStats(MediaKind, Box<StreamStats>),
    ConsumerStats(MediaKind, Box<StreamStats>),
}

/// What a client needs to connect a transport.
#[derive(Debug)]
pub(crate) struct NewTransport {
    pub(crate) id: TransportId,
    pub(crate) ice: IceParameters,
    /// Best first.
    pub(crate) addresses: Arc<[std::net::SocketAddr]>,
    pub(crate) fingerprints: Arc<[DtlsFingerprint]>,
}

/// Another peer of the room.
#[derive(Debug, Clone)]
pub(crate) struct PeerInfo {
    pub(crate) id: PeerId,
    pub(crate) display_name: String,
    pub(crate) device: Value,
    pub(crate) node: NodeId,
    pub(crate) region: Option<Region>,
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

/// What a peer is told without having asked.
#[derive(Debug, Clone)]
pub(crate) enum Notice {
    NewPeer(PeerInfo),
    PeerClosed { peer: PeerId },
    DisplayNameChanged { peer: PeerId, display_name: String, old: String },
    ConsumerClosed { consumer: ConsumerId },
    ConsumerPaused { consumer: ConsumerId },
    ConsumerResumed { consumer: ConsumerId },
    ConsumerScore { consumer: ConsumerId, score: u8, producer_score: u8 },
    ProducerScore { producer: ProducerId, ssrc: Option<u32>, score: u8 },
    ActiveSpeaker { loudest: Option<(PeerId, i8)> },
}

/// A consumer that the client is asked to set up; it answers.
#[derive(Debug, Clone)]
pub(crate) struct NewConsumer {
    pub(crate) id: ConsumerId,
    pub(crate) peer: PeerId,
    pub(crate) producer: ProducerId,
    pub(crate) kind: MediaKind,
    pub(crate) rtp: Arc<RtpParameters>,
    /// The producer's, with `hops`: how many pipes between nodes the media crosses.
    pub(crate) app_data: Value,
    pub(crate) producer_paused: bool,
}

/// Why the room ends a session. Each is a close code of the WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// The same peer opened another WebSocket: this client shall not come back.
    Replaced,
    /// The client opened its WebSocket and did not join.
    NotJoined,
    /// A worker did not take what the peer needs; the client may come back.
    Overloaded,
    /// The node stops: the client shall come back, to another node or this one's next life.
    Shutdown,
    /// A limit of the node or room.
    Full,
}

/// From a room to one session, in order.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Reply {
        id: u32,
        result: Result<PeerReply, Refusal>,
    },
    Notice(Notice),
    NewConsumer(Box<NewConsumer>),
    /// It is the client's turn to join, within [`crate::config::LimitsConfig::join_within_ms`] from now on.
    JoinAwaited,
    /// Whatever is heard of the client from now on is a sign of life.
    Probe(oneshot::Sender<()>),
    Close(CloseReason, String),
}

/// A room's end of a session's queue.
#[derive(Debug, Clone)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    /// Ends the session at once.
    abort: CancellationToken,
}

impl Outbox {
    pub(crate) fn new(capacity: usize) -> (Self, mpsc::Receiver<Outgoing>, CancellationToken) {
        let (queue, outgoing) = mpsc::channel(capacity);
        let abort = CancellationToken::new();
        (Self { queue, abort: abort.clone() }, outgoing, abort)
    }

    /// Queues without waiting. A client that lets its queue fill up does not read: its session ends, and the room hears
    /// of it as of any other end. False if the session has ended.
    pub(crate) fn send(&self, outgoing: Outgoing) -> bool {
        match self.queue.try_send(outgoing) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.abort.cancel();
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }

    /// The session has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}
