//! What happened, for `/metrics`.

use std::sync::atomic::AtomicU64;

use super::protocol::ErrorCode;

/// Why a message or a datagram is not relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DropReason {
    /// A message of a client that is none of TURN, or makes no sense.
    Malformed,
    /// To a peer that is not this node's media port.
    ForeignPeer,
    /// To or from a peer that the client did not permit, or by a channel that is not bound.
    NoPermission,
    /// More from a client than may be.
    TooMany,
    /// To a client that does not take what waits for it.
    SlowClient,
    /// To a media port that takes nothing.
    SlowPeer,
}

impl DropReason {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Malformed, "malformed"),
        (Self::ForeignPeer, "foreign_peer"),
        (Self::NoPermission, "no_permission"),
        (Self::TooMany, "too_many"),
        (Self::SlowClient, "slow_client"),
        (Self::SlowPeer, "slow_peer"),
    ];
}

/// Since the start, but for `open`.
#[derive(Debug, Default)]
pub(crate) struct TurnCounters {
    /// Allocations now.
    pub(crate) open: AtomicU64,
    /// Allocations ever.
    pub(crate) made: AtomicU64,
    /// Requests refused because of their credentials.
    pub(crate) unauthenticated: AtomicU64,
    /// Allocations that there was no place for: of all, or of the session.
    pub(crate) no_place: AtomicU64,
    /// Requests that name a peer that is not this node's media port.
    pub(crate) foreign_peers: AtomicU64,
    /// Bytes of datagrams from clients to the media port.
    pub(crate) bytes_from_clients: AtomicU64,
    /// Bytes of datagrams from the media port to clients.
    pub(crate) bytes_to_clients: AtomicU64,
    dropped: [AtomicU64; DropReason::ALL.len()],
}

impl TurnCounters {
    /// What was dropped, by reason.
    pub(crate) fn dropped(&self) -> impl Iterator<Item = (&'static str, &AtomicU64)> {
        DropReason::ALL.iter().map(|(_, name)| *name).zip(&self.dropped)
    }

    pub(super) fn of(&self, reason: DropReason) -> &AtomicU64 {
        &self.dropped[reason as usize]
    }

    /// What counts the requests that are refused so, if that is counted.
    pub(super) fn refused(&self, code: ErrorCode) -> Option<&AtomicU64> {
        match code {
            ErrorCode::Unauthenticated | ErrorCode::WrongCredentials => Some(&self.unauthenticated),
            ErrorCode::AllocationQuotaReached | ErrorCode::InsufficientCapacity => Some(&self.no_place),
            ErrorCode::Forbidden => Some(&self.foreign_peers),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_stand_in_their_order() {
        assert!(DropReason::ALL.iter().enumerate().all(|(index, (reason, _))| *reason as usize == index));
    }
}
