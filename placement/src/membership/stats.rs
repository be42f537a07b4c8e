//! What gossip counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Why something in gossip was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GossipRefused {
    /// A message that makes no sense.
    Malformed,
    /// An id that is none.
    Name,
    /// A newer incarnation is known.
    Superseded,
    /// Too many incarnations of the id within a short time.
    Incarnations,
    /// More nodes than a digest has room for.
    Full,
}

impl GossipRefused {
    pub(crate) const ALL: [Self; 5] = [Self::Malformed, Self::Name, Self::Superseded, Self::Incarnations, Self::Full];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Name => "name",
            Self::Superseded => "superseded",
            Self::Incarnations => "incarnations",
            Self::Full => "full",
        }
    }
}

/// Shared by the parts of a membership and its metrics.
#[derive(Debug, Default)]
pub(crate) struct GossipStats {
    digest_len: AtomicU64,
    refused: [AtomicU64; GossipRefused::ALL.len()],
}

impl GossipStats {
    pub(super) fn set_digest_len(&self, len: usize) {
        self.digest_len.store(len as u64, Ordering::Relaxed);
    }

    pub(super) fn refuse(&self, reason: GossipRefused) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Bytes of the nodes in a digest.
    pub(crate) fn digest_len(&self) -> u64 {
        self.digest_len.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self, reason: GossipRefused) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }
}
