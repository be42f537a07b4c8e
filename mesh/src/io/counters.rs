//! What a link and an endpoint count.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something was dropped on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DropReason {
    /// Frames: the link's queue was full.
    QueueFull,
    /// Frames and messages, of data too: the link is down.
    LinkDown,
    /// Frames: too much waits for the path already.
    BufferFull,
    /// Frames: does not even fit into two datagrams, or the peer takes none. Messages of data: longer than allowed.
    TooLarge,
    /// Frames: the path cannot carry this layer; the receiver is told.
    Shed,
    /// Frames: more would be repaired than a congested path has room for.
    RepairLimit,
    /// Datagrams that arrived and are none of ours.
    Malformed,
    /// Frames, messages of data and questions that arrived for a route that does not exist.
    UnknownRoute,
    /// Frames and messages of data that arrived for a former use of a route.
    StaleEpoch,
    /// Halves of packets whose other half did not arrive.
    HalfLost,
    /// Feedback of routes that did not fit into the queue of the link, or questions into QUIC's buffer.
    FeedbackFull,
    /// Messages of data that did not fit into the queue of their route.
    DataFull,
    /// Messages of data that waited when their route was closed.
    RouteClosed,
    /// Gossip that did not fit into the queue of the link, or of this node.
    GossipFull,
    /// Gossip that arrived longer than allowed.
    GossipTooLong,
}

impl DropReason {
    pub(crate) const ALL: [Self; 15] = [
        Self::QueueFull,
        Self::LinkDown,
        Self::BufferFull,
        Self::TooLarge,
        Self::Shed,
        Self::RepairLimit,
        Self::Malformed,
        Self::UnknownRoute,
        Self::StaleEpoch,
        Self::HalfLost,
        Self::FeedbackFull,
        Self::DataFull,
        Self::RouteClosed,
        Self::GossipFull,
        Self::GossipTooLong,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::LinkDown => "link_down",
            Self::BufferFull => "buffer_full",
            Self::TooLarge => "too_large",
            Self::Shed => "shed",
            Self::RepairLimit => "repair_limit",
            Self::Malformed => "malformed",
            Self::UnknownRoute => "unknown_route",
            Self::StaleEpoch => "stale_epoch",
            Self::HalfLost => "half_lost",
            Self::FeedbackFull => "feedback_full",
            Self::DataFull => "data_full",
            Self::RouteClosed => "route_closed",
            Self::GossipFull => "gossip_full",
            Self::GossipTooLong => "gossip_too_long",
        }
    }
}

/// A count that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Of one link, over all its connections. The gauges are of the present connection, as of its last look at the path.
#[derive(Debug, Default)]
pub(crate) struct LinkCounters {
    drops: [Count; DropReason::ALL.len()],
    pub(crate) frames_sent: Count,
    pub(crate) frames_received: Count,
    pub(crate) frame_bytes_sent: Count,
    pub(crate) frame_bytes_received: Count,
    pub(crate) datagrams_sent: Count,
    pub(crate) datagrams_received: Count,
    pub(crate) messages_sent: Count,
    pub(crate) messages_received: Count,
    pub(crate) data_sent: Count,
    pub(crate) data_received: Count,
    pub(crate) data_bytes_sent: Count,
    pub(crate) data_bytes_received: Count,
    pub(crate) gossip_sent: Count,
    pub(crate) gossip_received: Count,
    pub(crate) connections: Count,
    pub(crate) unknown_routes_answered: Count,
    /// Gauge: bits per second.
    pub(crate) send_bitrate: Count,
    /// Gauge: bits per second.
    pub(crate) recv_bitrate: Count,
    /// Gauge: bits per second that the path carries, 0 while it showed no limit.
    pub(crate) capacity: Count,
}

impl LinkCounters {
    pub(crate) fn drop(&self, reason: DropReason, n: u64) {
        if let Some(count) = self.drops.get(reason as usize) {
            count.add(n);
        }
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).map_or(0, Count::get)
    }

    /// By label; those that happened.
    pub(crate) fn drops(&self) -> Vec<(&'static str, u64)> {
        let labelled = DropReason::ALL.iter().zip(&self.drops).map(|(reason, count)| (reason.label(), count.get()));
        labelled.filter(|(_, count)| *count > 0).collect()
    }
}

/// Of the endpoint.
#[derive(Debug, Default)]
pub(crate) struct EndpointCounters {
    pub(crate) dials: Count,
    pub(crate) dials_failed: Count,
    pub(crate) accepted: Count,
    /// Handshakes or hellos that failed.
    pub(crate) handshakes_failed: Count,
    /// Asked to prove their address because many handshakes were under way.
    pub(crate) retried: Count,
    /// Turned away because too many handshakes were under way.
    pub(crate) turned_away: Count,
    /// Certificates that name another node than was dialled or than the hello says, or none.
    pub(crate) identity_refused: Count,
    /// Frames for links that do not exist.
    pub(crate) unknown_link: Count,
    /// Gossip that could not be sent: no link, and too many dials or messages wait already.
    pub(crate) gossip_undeliverable: Count,
}
