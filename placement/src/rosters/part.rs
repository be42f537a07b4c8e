//! A node's part of a room as a value: its peers by id, what leads from one state to another, and what is left of one
//! that is too large to be told.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use sluice_proto::placement::{PeerEntry, RosterPart};

use super::chunks::MAX_PART_LEN;

/// The peers of a part that it names.
pub(crate) type Entries = BTreeMap<String, Arc<PeerEntry>>;

/// Peers of a part that are new or changed, whole, and ids of those that left. No peer is in both.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PartDelta {
    /// Who is new, or is not what was told before.
    pub upserted: Vec<Arc<PeerEntry>>,
    /// Who is there no longer.
    pub removed: Vec<String>,
}

impl PartDelta {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.upserted.is_empty() && self.removed.is_empty()
    }
}

/// A part as another node told it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Part {
    pub(crate) entries: Entries,
    /// How many more there are than those.
    pub(crate) unlisted: u32,
}

impl From<RosterPart> for Part {
    fn from(part: RosterPart) -> Self {
        let entries = part.peers.into_iter().map(|peer| (peer.id.clone(), Arc::new(peer)));
        Self { entries: entries.collect(), unlisted: part.unlisted }
    }
}

/// What can be told of a part whose entries are too many or too large. The stage goes before the audience, who was told
/// before who was not. Of whom there is no place for all, the producers are left out; the others wait.
pub(crate) fn bound(whole: &Entries, is_told: impl Fn(&str) -> bool) -> Entries {
    let mut peers: Vec<&Arc<PeerEntry>> = whole.values().collect();
    peers.sort_by_key(|peer| (!peer.on_stage, !is_told(&peer.id)));
    let mut left = MAX_PART_LEN;
    let mut told = Entries::new();
    for peer in peers {
        let fits = [Arc::clone(peer), without_producers(peer)].into_iter().find(|peer| peer.encoded_len() <= left);
        if let Some(peer) = fits {
            left -= peer.encoded_len();
            told.insert(peer.id.clone(), peer);
        }
    }
    told
}

/// A peer of which it is not told what it sends.
pub(crate) fn without_producers(peer: &PeerEntry) -> Arc<PeerEntry> {
    let PeerEntry { id, display_name, device, secret_digest, metadata, .. } = peer.clone();
    Arc::new(PeerEntry { id, display_name, device, secret_digest, metadata, producers: Vec::new(), ..*peer })
}
