//! The messages of a pipe's control stream, encoded with rkyv.
//!
//! Each message is preceded by its length as a little-endian `u32`, at most [`MAX_MESSAGE_LEN`]. The types are frozen
//! per protocol version: a change makes a new version, and a node speaks its own and the one before. It speaks neither
//! version 1, which could not tell the subscriptions of one connection from those of the next, nor version 2, which
//! knew of one stream a producer, nor version 3, which asked for lost packets on the control stream, nor version 4,
//! which knew of no data.
//!
//! A *route* is one producer's way into one node. The receiving node allocates its id, names it in
//! [`ControlBody::Subscribe`], and every later message about it, in either direction, carries the same `route` and
//! `epoch`. Each subscription is made with an epoch of its own, and all of them end with the connection that they were
//! made on: whoever still wants something then subscribes anew.

#![allow(missing_docs, reason = "rkyv derives a struct for the fields of a variant without their docs")]

use rkyv::{Archive, Deserialize, Serialize};

/// The protocol version of these messages; the ALPN is `sluice/<version>`.
pub const VERSION: u16 = 5;

/// Largest encoded message. A `Nack` of a whole cache (2 bytes a packet, 1,024 packets) is 2 KiB, the longest names
/// make a `Subscribe` of under 1 KiB: 16 KiB leaves room, and bounds what a broken peer can make a node hold.
pub const MAX_MESSAGE_LEN: usize = 16 * 1024;

/// The first message in either direction of a new pipe.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Hello {
    /// The sender's node id; it must be the one in its certificate.
    pub node: String,
    /// The sender's incarnation.
    pub incarnation: u64,
    /// Where the sender can be dialled, `address:port` of its mesh socket.
    pub advertised: String,
}

/// Most streams of a producer: there is one for each encoding.
pub const MAX_STREAMS: usize = 4;

/// Which layers of a producer or of one of its streams somebody behind a pipe wants or gets. `u8::MAX` in both means
/// everything. Of a producer with several streams these are the spatial layers. Audio has two, that are no layers:
/// spatial 0 is what is sent while it is among the loudest, where not all are heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Layers {
    /// Highest spatial layer.
    pub spatial: u8,
    /// Highest temporal layer.
    pub temporal: u8,
}

impl Layers {
    /// Every layer.
    pub const ALL: Self = Self { spatial: u8::MAX, temporal: u8::MAX };

    /// Of audio, while it is among the loudest.
    pub const WHILE_LOUD: Self = Self { spatial: 0, temporal: u8::MAX };
}

/// What somebody behind a pipe wants of a producer: of each of its streams nothing, or layers up to some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Wanted(pub [Option<Layers>; MAX_STREAMS]);

impl Wanted {
    /// Everything.
    pub const ALL: Self = Self([Some(Layers::ALL); MAX_STREAMS]);

    /// Audio while it is among the loudest.
    pub const WHILE_LOUD: Self = Self([Some(Layers::WHILE_LOUD), None, None, None]);

    /// Nothing.
    pub const NOTHING: Self = Self([None; MAX_STREAMS]);

    /// What is wanted of one stream.
    pub fn of(&self, stream: usize) -> Option<Layers> {
        self.0.get(stream).copied().flatten()
    }

    /// Somebody wants this of one stream too.
    pub fn add(&mut self, stream: usize, layers: Layers) {
        if let Some(wanted) = self.0.get_mut(stream) {
            let before = wanted.unwrap_or(Layers { spatial: 0, temporal: 0 });
            let (spatial, temporal) = (before.spatial.max(layers.spatial), before.temporal.max(layers.temporal));
            *wanted = Some(Layers { spatial, temporal });
        }
    }
}

/// Why a route ended or never began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum RouteCloseReason {
    /// The producer does not exist on this node, or no longer.
    ProducerGone,
    /// The producer is not part of the room that was named.
    WrongRoom,
    /// The namespace's policy forbids it.
    Forbidden,
    /// The node has as many routes as it is configured to have.
    Limit,
}

/// What one end of a route measured, for the console and for metrics of the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RouteStats {
    /// Packets that arrived, repaired ones included.
    pub received: u64,
    /// Packets that never arrived in time.
    pub lost: u64,
    /// Packets that arrived only after a `Nack`.
    pub repaired: u64,
}

/// What is said on a pipe's control stream after the hellos.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum PipeMessage {
    /// Between the nodes.
    Control(RouteControl),
    /// Between the two ends of a route.
    Feedback(RouteFeedback),
    /// Between the two ends of the link: so many bytes of messages of data were taken off their streams here since the
    /// link came up.
    DataConsumed(u64),
}

/// What the control planes of two nodes say of a route. Nothing of it may get lost while the connection lives.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RouteControl {
    /// The route, as allocated by the receiving end of its media.
    pub route: u32,
    /// The use of the route id that is meant.
    pub epoch: u8,
    /// What is said.
    pub body: ControlBody,
}

/// Whether a route carries anything.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum ControlBody {
    /// Receiver to sender: send this producer's packets on this route. It is said once for each epoch.
    Subscribe {
        /// The producer, living on the node that this is sent to.
        producer: [u8; 16],
        /// The namespace that the subscriber believes the producer to be in.
        namespace: String,
        /// The room that the subscriber believes the producer to be in.
        room: String,
        /// What somebody wants of it.
        wanted: Wanted,
        /// W3C trace context of the join that caused this, if it is traced.
        traceparent: Option<String>,
    },
    /// Receiver to sender: nobody wants this any more. Also the answer to frames and feedback of a route that is none.
    Unsubscribe,
    /// Sender to receiver: the subscription was refused or has ended. Also the answer to feedback about a route that is
    /// none. The next one has another epoch.
    RouteClosed(RouteCloseReason),
}

/// What the two ends of a route tell each other about its packets. It goes the way of the packets, past the control
/// planes; any of it may get lost, and is said again if it still matters.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RouteFeedback {
    /// The route, as allocated by the receiving end of its media.
    pub route: u32,
    /// The use of the route id that is meant.
    pub epoch: u8,
    /// What is said.
    pub body: FeedbackBody,
}

/// What is said about a route's packets.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub enum FeedbackBody {
    /// Receiver to sender: this is wanted from now on.
    LayersWanted(Wanted),
    /// Sender to receiver: the streams that the publisher sends now, a bit for each. The others are not worth waiting
    /// for.
    StreamsOffered(u8),
    /// Sender to receiver: the layers that the pipe carries now; fewer than wanted when its rate does not suffice.
    /// `None`: nothing at all for now.
    LayersCarried(Option<Layers>),
    /// Receiver to sender: somebody needs a key frame of these streams, a bit for each.
    KeyFrameRequest(u8),
    /// Receiver to sender: these pipe sequence numbers are missing. At most 1,024. Between nodes it goes as datagrams,
    /// not on the control stream.
    Nack(Vec<u16>),
    /// Sender to receiver: the publisher's clock mapping, RFC 3550 section 6.4.1.
    SenderReport {
        /// SSRC of the stream as it travels on the pipe.
        ssrc: u32,
        /// NTP time of the publisher's clock, 32.32 fixed point.
        ntp: u64,
        /// The RTP timestamp of the same instant.
        rtp_timestamp: u32,
    },
    /// Receiver to sender, once a second.
    Stats(RouteStats),
    /// Receiver to sender, of a route of data: every message before this number came, and may be forgotten.
    DataReceived {
        /// Of the first message that is not here.
        next: u64,
        /// That message was lost on its way: others came that were sent behind it, in this round. What is sent after it
        /// asked is another round.
        missed: Option<u32>,
    },
    /// Sender to receiver, of a route of data: what can be sent. It is answered with `DataReceived`.
    DataOffered {
        /// The number of the oldest message that there is.
        oldest: u64,
        /// Of the first that is sent to who has none yet.
        next: u64,
    },
}

impl FeedbackBody {
    /// Whether it is said by the end that the packets go to.
    pub fn is_of_receiver(&self) -> bool {
        match self {
            Self::LayersWanted(_)
            | Self::KeyFrameRequest(_)
            | Self::Nack(_)
            | Self::Stats(_)
            | Self::DataReceived { .. } => true,
            Self::StreamsOffered(_) | Self::LayersCarried(_) | Self::SenderReport { .. } | Self::DataOffered { .. } => {
                false
            }
        }
    }
}
