//! A node's part of a room as a value: its order, the difference of two, and one from a difference.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sluice_proto::placement::{PeerEntry, RosterDelta, RosterPart};

/// Brings a part into the order that every node keeps it in: by peer id, each once (the last one counts).
pub(crate) fn canonical(part: RosterPart) -> RosterPart {
    let peers: BTreeMap<String, PeerEntry> = part.peers.into_iter().map(|peer| (peer.id.clone(), peer)).collect();
    RosterPart { peers: peers.into_values().collect() }
}

/// What leads from one canonical part to another; `None` if they are equal.
pub(crate) fn difference(old: &RosterPart, new: &RosterPart) -> Option<RosterDelta> {
    let mut delta = RosterDelta::default();
    let (mut old, mut new) = (old.peers.iter().peekable(), new.peers.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(was), Some(is)) => was.id.cmp(&is.id),
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { new.next() } else { None };
        match (was, is) {
            (Some(was), None) => delta.removed.push(was.id.clone()),
            (was, Some(is)) if was != Some(is) => delta.upserted.push(is.clone()),
            _ => {}
        }
    }
    (!delta.upserted.is_empty() || !delta.removed.is_empty()).then_some(delta)
}

/// The part that a difference leads to.
pub(crate) fn apply(part: &RosterPart, delta: RosterDelta) -> RosterPart {
    let mut peers: BTreeMap<&str, &PeerEntry> = part.peers.iter().map(|peer| (peer.id.as_str(), peer)).collect();
    for id in &delta.removed {
        peers.remove(id.as_str());
    }
    for peer in &delta.upserted {
        peers.insert(&peer.id, peer);
    }
    RosterPart { peers: peers.into_values().cloned().collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = RosterPart> {
        let peer =
            ("[a-e]", "[xy]").prop_map(|(id, display_name)| PeerEntry { id, display_name, ..PeerEntry::default() });
        prop::collection::vec(peer, 0..6).prop_map(|peers| canonical(RosterPart { peers }))
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_part_to_the_other(old in part(), new in part()) {
            match difference(&old, &new) {
                Some(delta) => {
                    prop_assert_ne!(&old, &new);
                    prop_assert_eq!(apply(&old, delta), new);
                }
                None => prop_assert_eq!(old, new),
            }
        }
    }

    #[test]
    fn only_what_changed_travels() {
        let peer =
            |id: &str, name: &str| PeerEntry { id: id.into(), display_name: name.into(), ..PeerEntry::default() };
        let old = canonical(RosterPart { peers: vec![peer("c", "1"), peer("a", "1"), peer("b", "1")] });
        let new = canonical(RosterPart { peers: vec![peer("a", "1"), peer("b", "0"), peer("b", "2"), peer("d", "1")] });
        let delta = difference(&old, &new).unwrap();
        assert_eq!(delta, RosterDelta { upserted: vec![peer("b", "2"), peer("d", "1")], removed: vec!["c".into()] });
    }
}
