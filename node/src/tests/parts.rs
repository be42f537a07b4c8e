//! Parts of rooms as placement tells them: whole ones are kept, differences are told.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_placement::PartDelta;
use sluice_proto::placement::PeerEntry;

/// The peers of a part, by id.
pub(crate) type Entries = BTreeMap<String, Arc<PeerEntry>>;

/// Changes a part.
pub(crate) fn apply(part: &mut Entries, delta: PartDelta) {
    delta.removed.iter().for_each(|id| drop(part.remove(id)));
    part.extend(delta.upserted.into_iter().map(|peer| (peer.id.clone(), peer)));
}

/// What leads from one part to another.
pub(crate) fn difference(told: &Entries, now: &Entries) -> PartDelta {
    let is_told =
        |peer: &Arc<PeerEntry>| told.get(&peer.id).is_some_and(|told| Arc::ptr_eq(told, peer) || told == peer);
    PartDelta {
        upserted: now.values().filter(|peer| !is_told(peer)).cloned().collect(),
        removed: told.keys().filter(|id| !now.contains_key(*id)).cloned().collect(),
    }
}
