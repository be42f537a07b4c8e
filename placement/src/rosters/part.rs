//! A node's part of a room as a value: its order, the difference of two, and one from a difference.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use prost::Message;
use sluice_proto::placement::{PeerEntry, RosterDelta, RosterPart};

use super::chunks::{MAX_ENTRY_LEN, MAX_PART_LEN};

/// Brings a part into the order that every node keeps it in: by peer id, each once (the last one counts).
pub(crate) fn canonical(part: RosterPart) -> RosterPart {
    let peers: BTreeMap<String, PeerEntry> = part.peers.into_iter().map(|peer| (peer.id.clone(), peer)).collect();
    RosterPart { peers: peers.into_values().collect() }
}

/// Makes a part small enough to be told, and counts the entries that had to be cut for it. One that is too large loses
/// its producers. If all together are too many, those that have grown since they were told lose theirs, and those that
/// were not told yet wait: who left, and what changed, is always told.
pub(crate) fn bound(part: RosterPart, told: &RosterPart) -> (RosterPart, usize) {
    let told_len = |entry: &PeerEntry| {
        let index = told.peers.binary_search_by(|other| other.id.cmp(&entry.id)).ok()?;
        Some(told.peers[index].encoded_len())
    };
    let mut cut = 0;
    let mut left = MAX_PART_LEN;
    let (mut kept, mut grown, mut new) = (Vec::with_capacity(part.peers.len()), Vec::new(), Vec::new());
    for mut entry in part.peers {
        let mut len = entry.encoded_len();
        if len > MAX_ENTRY_LEN {
            entry.producers.clear();
            len = entry.encoded_len();
            cut += 1;
        }
        match told_len(&entry) {
            Some(before) if len <= before => {
                left = left.saturating_sub(len);
                kept.push(entry);
            }
            Some(_) => grown.push(entry),
            None => new.push(entry),
        }
    }
    for mut entry in grown {
        if entry.encoded_len() > left {
            entry.producers.clear();
            cut += 1;
        }
        left = left.saturating_sub(entry.encoded_len());
        kept.push(entry);
    }
    for entry in new {
        match left.checked_sub(entry.encoded_len()) {
            Some(rest) => {
                left = rest;
                kept.push(entry);
            }
            None => cut += 1,
        }
    }
    (canonical(RosterPart { peers: kept }), cut)
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
    use sluice_proto::placement::ProducerEntry;

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

    /// A peer whose entry has about this many bytes.
    fn large(id: &str, len: usize) -> PeerEntry {
        let producer = ProducerEntry { app_data: "x".repeat(len), ..ProducerEntry::default() };
        PeerEntry { id: id.into(), producers: vec![producer], ..PeerEntry::default() }
    }

    #[test]
    fn who_left_is_told_however_large_the_part_is() {
        let peers: Vec<_> = (0..20).map(|i| large(&format!("{i:02}"), MAX_ENTRY_LEN - 100)).collect();
        let (told, cut) = bound(RosterPart { peers: peers.clone() }, &RosterPart::default());
        assert_eq!((told.peers.len(), cut), (16, 4));
        // One of those that were told leaves, and two come before all others: a small one, and one that takes the room
        // that is left.
        let now = [vec![large("000", 10), large("001", MAX_ENTRY_LEN - 100)], peers[1..].to_vec()].concat();
        let (next, cut) = bound(canonical(RosterPart { peers: now }), &told);
        let delta = difference(&told, &next).unwrap();
        assert_eq!(delta.removed, ["00"]);
        assert_eq!(delta.upserted.iter().map(|peer| peer.id.as_str()).collect::<Vec<_>>(), ["000", "001"]);
        assert_eq!((next.peers.len(), cut), (17, 4));
    }

    #[test]
    fn a_part_whose_entries_grow_stays_small_enough() {
        let peers = |len| (0..40).map(|i| large(&format!("{i:02}"), len)).collect();
        let (told, cut) = bound(RosterPart { peers: peers(1_000_000) }, &RosterPart::default());
        assert_eq!((told.peers.len(), cut), (40, 0));
        let (grown, cut) = bound(RosterPart { peers: peers(MAX_ENTRY_LEN - 100) }, &told);
        assert_eq!((grown.peers.len(), cut), (40, 24), "all are told of, and not of all that they have");
        assert!(grown.encoded_len() <= MAX_PART_LEN + MAX_ENTRY_LEN, "{}", grown.encoded_len());
        let (shrunk, cut) = bound(RosterPart { peers: peers(1_000_000) }, &grown);
        assert_eq!((shrunk, cut), (told, 0), "what was cut comes back");
    }

    #[test]
    fn an_entry_that_is_too_large_loses_its_producers() {
        let (told, cut) = bound(RosterPart { peers: vec![large("a", MAX_ENTRY_LEN)] }, &RosterPart::default());
        assert_eq!((told.peers[0].producers.len(), cut), (0, 1));
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
