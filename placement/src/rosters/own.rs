//! This node's part of a room, and how to bring a follower from any version to the present one.
//!
//! Of each peer it is known in which version it changed last, and of the latest that left, in which. So a follower is
//! told the difference in one delta, however far behind it is, and a change costs what it is and not what the part is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use prost::Message;
use sluice_proto::placement::roster_update::Change;
use sluice_proto::placement::{PeerEntry, RosterDelta, RosterPart};

use super::chunks::{MAX_ENTRY_LEN, MAX_PART_LEN};
use super::part::{Entries, PartDelta, bound, without_producers};

/// Peers that left are remembered, this many at least, and as many as there are peers. Whoever is further behind gets
/// the snapshot, which is no longer than the names of all who left.
const REMEMBERED: usize = 1_024;

/// See the module.
#[derive(Debug)]
pub(crate) struct OwnPart {
    /// What there is to tell.
    whole: Entries,
    /// Its length as a message.
    len: usize,
    /// What is told. It is the same, unless that is too much.
    told: BTreeMap<String, Told>,
    unlisted: u32,
    version: u64,
    /// Those that are told, by the version in which they changed last.
    changed: BTreeSet<(u64, String)>,
    /// Those that left, in order, by version. Some may have come back.
    left: VecDeque<(u64, String)>,
    /// Who left in this version or before may be forgotten.
    forgotten: u64,
}

#[derive(Debug)]
struct Told {
    entry: Arc<PeerEntry>,
    version: u64,
}

impl OwnPart {
    /// An empty part; `version` must be greater than any that this node ever used for the room.
    pub(crate) fn new(version: u64) -> Self {
        Self {
            whole: Entries::new(),
            len: 0,
            told: BTreeMap::new(),
            unlisted: 0,
            version,
            changed: BTreeSet::new(),
            left: VecDeque::new(),
            // Nobody has been told anything of it.
            forgotten: version,
        }
    }

    /// The peers that are told of.
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Arc<PeerEntry>> {
        self.told.values().map(|told| &told.entry)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// Changes the part. Returns how many of its peers cannot be told of whole.
    pub(crate) fn publish(&mut self, delta: PartDelta) -> usize {
        let was_too_long = self.len > MAX_PART_LEN;
        let mut cut = 0;
        let mut touched: Vec<String> = Vec::with_capacity(delta.upserted.len() + delta.removed.len());
        for id in delta.removed {
            self.len -= self.whole.remove(&id).map_or(0, |entry| entry.encoded_len());
            touched.push(id);
        }
        for mut entry in delta.upserted {
            if entry.encoded_len() > MAX_ENTRY_LEN {
                entry = without_producers(&entry);
                cut += 1;
            }
            touched.push(entry.id.clone());
            self.len += entry.encoded_len();
            self.len -= self.whole.insert(entry.id.clone(), entry).map_or(0, |entry| entry.encoded_len());
        }
        if self.len <= MAX_PART_LEN && !was_too_long {
            self.tell(touched);
            return cut;
        }
        self.tell_bounded();
        cut + self.whole.iter().filter(|(id, entry)| !self.tells(id, entry)).count()
    }

    fn tells(&self, id: &str, entry: &PeerEntry) -> bool {
        self.told.get(id).is_some_and(|told| *told.entry == *entry)
    }

    fn tell(&mut self, touched: Vec<String>) {
        let next = self.version + 1;
        for id in touched {
            let entry = self.whole.get(&id).cloned();
            self.set(next, id, entry);
        }
    }

    /// The same of a part that is too large, or was until now.
    fn tell_bounded(&mut self) {
        let next = self.version + 1;
        let bounded = bound(&self.whole, |id| self.told.contains_key(id));
        let cut: Vec<String> = self.told.keys().filter(|id| !bounded.contains_key(*id)).cloned().collect();
        cut.into_iter().for_each(|id| self.set(next, id, None));
        let unlisted = u32::try_from(self.whole.len() - bounded.len()).unwrap_or(u32::MAX);
        if std::mem::replace(&mut self.unlisted, unlisted) != unlisted {
            self.version = next;
        }
        bounded.into_iter().for_each(|(id, entry)| self.set(next, id, Some(entry)));
    }

    /// Tells something else of a peer in the next version, if it is something else.
    fn set(&mut self, next: u64, id: String, entry: Option<Arc<PeerEntry>>) {
        let before = self.told.get(&id);
        if before.map(|told| &told.entry) == entry.as_ref() {
            return;
        }
        self.version = next;
        if let Some(before) = before {
            self.changed.remove(&(before.version, id.clone()));
        }
        match entry {
            Some(entry) => {
                self.changed.insert((next, id.clone()));
                self.told.insert(id, Told { entry, version: next });
            }
            None => {
                self.told.remove(&id);
                self.left.push_back((next, id));
                while self.left.len() > self.told.len().max(REMEMBERED) {
                    self.forgotten = self.left.pop_front().map_or(self.forgotten, |(version, _)| version);
                }
            }
        }
    }

    /// What a follower that was told `told` has to be told, to know the present version; `None` when it does.
    pub(crate) fn change_since(&self, told: Option<u64>) -> Option<Change> {
        match told {
            Some(told) if told >= self.version => None,
            Some(since) if since >= self.forgotten => Some(Change::Delta(self.delta_since(since))),
            _ => {
                let peers = self.peers().map(|peer| (**peer).clone()).collect();
                Some(Change::Snapshot(RosterPart { peers, unlisted: self.unlisted }))
            }
        }
    }

    fn delta_since(&self, since: u64) -> RosterDelta {
        let changed = self.changed.range((since + 1, String::new())..).filter_map(|(_, id)| self.told.get(id));
        let left = self.left.partition_point(|(version, _)| *version <= since);
        let left: BTreeSet<&String> = self.left.range(left..).map(|(_, id)| id).collect();
        RosterDelta {
            upserted: changed.map(|told| (*told.entry).clone()).collect(),
            removed: left.into_iter().filter(|id| !self.told.contains_key(*id)).cloned().collect(),
            since,
            unlisted: self.unlisted,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluice_proto::placement::ProducerEntry;

    use super::*;
    use crate::rosters::part::Part;

    fn peer(id: &str, name: &str) -> Arc<PeerEntry> {
        Arc::new(PeerEntry { id: id.into(), display_name: name.into(), ..PeerEntry::default() })
    }

    fn upsert(upserted: Vec<Arc<PeerEntry>>) -> PartDelta {
        PartDelta { upserted, removed: Vec::new() }
    }

    fn remove(id: &str) -> PartDelta {
        PartDelta { upserted: Vec::new(), removed: vec![id.to_owned()] }
    }

    /// What a follower knows.
    #[derive(Default)]
    struct Follower {
        told: Option<u64>,
        part: Part,
        snapshots: usize,
    }

    impl Follower {
        /// Its client takes what it has to be told.
        fn look(&mut self, own: &OwnPart) {
            match own.change_since(self.told) {
                None => {}
                Some(Change::Snapshot(part)) => {
                    self.part = part.into();
                    self.snapshots += 1;
                }
                Some(Change::Delta(delta)) => {
                    assert_eq!(Some(delta.since), self.told);
                    for id in delta.removed {
                        self.part.entries.remove(&id);
                    }
                    let upserted = delta.upserted.into_iter().map(|peer| (peer.id.clone(), Arc::new(peer)));
                    self.part.entries.extend(upserted);
                    self.part.unlisted = delta.unlisted;
                }
                Some(Change::Gone(_)) => panic!("it is not gone"),
            }
            self.told = Some(own.version());
        }
    }

    fn peers(own: &OwnPart) -> Entries {
        own.peers().map(|peer| (peer.id.clone(), Arc::clone(peer))).collect()
    }

    proptest! {
        #[test]
        fn whoever_looks_now_and_then_knows_the_part(
            steps in prop::collection::vec((0..8_u8, 0..3_u8, any::<bool>()), 1..60),
        ) {
            let mut own = OwnPart::new(7);
            let mut followers: [Follower; 3] = Default::default();
            for (number, follower, looks) in steps {
                let id = format!("{}", number / 4);
                own.publish(match number % 2 {
                    0 => upsert(vec![peer(&id, &format!("{number}{looks}"))]),
                    _ => remove(&id),
                });
                if looks {
                    followers[usize::from(follower)].look(&own);
                }
            }
            for follower in &mut followers {
                follower.look(&own);
                prop_assert_eq!(&follower.part.entries, &peers(&own));
                prop_assert_eq!(follower.snapshots, 1, "the first time only");
                prop_assert_eq!(own.change_since(follower.told), None);
            }
        }
    }

    #[test]
    fn a_follower_far_behind_gets_one_delta() {
        let mut own = OwnPart::new(1);
        own.publish(upsert((0..5_000).map(|number| peer(&format!("{number:04}"), "")).collect()));
        let mut slow = Follower::default();
        slow.look(&own);
        for number in 0..3_000 {
            own.publish(upsert(vec![peer(&format!("{:04}", number % 50), &format!("{number}"))]));
            own.publish(upsert(vec![peer("came and went", "")]));
            own.publish(remove("came and went"));
        }
        let Some(Change::Delta(delta)) = own.change_since(slow.told) else { panic!("no delta") };
        assert_eq!((delta.upserted.len(), delta.removed), (50, vec!["came and went".to_owned()]));
        own.publish(upsert(vec![peer("0000", "2950")]));
        assert_eq!(own.version(), 9_002, "what is the same is no change");
    }

    #[test]
    fn of_those_who_left_no_more_are_remembered_than_there_are_peers() {
        let mut own = OwnPart::new(1);
        own.publish(upsert((0..3_000).map(|number| peer(&format!("{number:04}"), "")).collect()));
        let mut slow = Follower::default();
        slow.look(&own);
        for number in 0..3_000 {
            own.publish(remove(&format!("{number:04}")));
            assert!(own.left.len() <= own.told.len().max(REMEMBERED));
        }
        slow.look(&own);
        assert_eq!((slow.part.entries.len(), slow.snapshots), (0, 2), "a snapshot is shorter");
    }

    /// A peer whose entry has about this many bytes.
    fn large(id: &str, len: usize) -> Arc<PeerEntry> {
        let producer = ProducerEntry { app_data: "x".repeat(len), ..ProducerEntry::default() };
        let producers = vec![producer];
        Arc::new(PeerEntry { id: id.into(), producers, on_stage: true, ..PeerEntry::default() })
    }

    const ALMOST: usize = MAX_ENTRY_LEN - 100;

    #[test]
    fn of_a_part_that_is_too_large_the_audience_becomes_a_number_first() {
        let mut own = OwnPart::new(1);
        let mut follower = Follower::default();
        let audience = || (0..10).map(|number| peer(&format!("audience {number}"), &"x".repeat(100_000))).collect();
        assert_eq!(own.publish(upsert(audience())), 0);
        follower.look(&own);
        let stage: Vec<_> = (0..16).map(|number| large(&format!("stage {number:02}"), ALMOST)).collect();
        assert_eq!(own.publish(upsert(stage)), 10);
        follower.look(&own);
        assert_eq!((follower.part.entries.len(), follower.part.unlisted), (16, 10));
        // Who comes now waits, and who leaves is told.
        let late = own.publish(upsert(vec![large("late", ALMOST)]));
        assert_eq!(late, 11);
        own.publish(remove("stage 00"));
        follower.look(&own);
        assert!(!follower.part.entries.contains_key("stage 00"));
        assert!(!follower.part.entries["late"].producers.is_empty(), "there is a place now");
        own.publish(remove("late"));
        follower.look(&own);
        assert_eq!((follower.part.entries.len(), follower.part.unlisted), (25, 0), "who was a number has a name again");
        assert_eq!(follower.snapshots, 1);
    }

    #[test]
    fn of_entries_that_grow_too_large_the_producers_are_left_out() {
        let mut own = OwnPart::new(1);
        let peers = |len| upsert((0..40).map(|number| large(&format!("{number:02}"), len)).collect());
        assert_eq!(own.publish(peers(1_000_000)), 0);
        let mut follower = Follower::default();
        follower.look(&own);
        let before = follower.part.clone();
        assert_eq!(own.publish(peers(ALMOST)), 24);
        follower.look(&own);
        assert_eq!(follower.part.entries.len(), 40, "all are told of, and not of all that they have");
        assert_eq!(own.publish(peers(1_000_000)), 0);
        follower.look(&own);
        assert_eq!(follower.part, before, "what was cut comes back");
        assert_eq!(own.publish(upsert(vec![large("one", MAX_ENTRY_LEN)])), 1);
        assert_eq!(peers_of(&own, "one").producers.len(), 0, "one alone is too large");
    }

    fn peers_of(own: &OwnPart, id: &str) -> Arc<PeerEntry> {
        Arc::clone(&own.told[id].entry)
    }
}
