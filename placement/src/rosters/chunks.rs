//! What is too long for one message is told in several: a part has a few KiB a user, and a message that is bounded so
//! that a stranger cannot fill the memory must not keep a large room from being known.

use prost::Message;
use sluice_proto::placement::roster_update::Change;
use sluice_proto::placement::{PeerEntry, RosterDelta, RosterPart, RosterUpdate};

/// Bytes of entries in one message, unless one entry alone has more.
const CHUNK_LEN: usize = 1024 * 1024;

/// Largest entry of a peer: its producers, with 1 to 2 KiB each.
pub(crate) const MAX_ENTRY_LEN: usize = 4 * 1024 * 1024;

/// Largest part: some 10,000 users of one node in one room with three producers each.
pub(crate) const MAX_PART_LEN: usize = 64 * 1024 * 1024;

/// Largest message: a full chunk, one more entry, and the names.
pub(crate) const MAX_MESSAGE_LEN: usize = CHUNK_LEN + MAX_ENTRY_LEN + 4096;

/// The messages that tell a change, in order.
pub(crate) fn split(update: RosterUpdate) -> Vec<RosterUpdate> {
    if update.encoded_len() <= CHUNK_LEN {
        return vec![update];
    }
    let RosterUpdate { owner, room, version, change, .. } = update;
    let mut chunks = match change {
        Some(Change::Snapshot(part)) => {
            let mut chunks = split_entries(part.peers).into_iter();
            let peers = chunks.next().unwrap_or_default();
            let first = Change::Snapshot(RosterPart { peers, unlisted: part.unlisted });
            let rest = chunks.map(|upserted| Change::Delta(RosterDelta { upserted, ..RosterDelta::default() }));
            std::iter::once(first).chain(rest).collect()
        }
        Some(Change::Delta(delta)) => {
            let RosterDelta { upserted, removed, since, unlisted } = delta;
            // An id is short: those who left fit into the chunk of any entry.
            let removed = removed.chunks(CHUNK_LEN / 256).map(<[String]>::to_vec);
            let removed =
                removed.map(|removed| Change::Delta(RosterDelta { upserted: Vec::new(), removed, since, unlisted }));
            let upserted = split_entries(upserted).into_iter();
            let upserted =
                upserted.map(|upserted| Change::Delta(RosterDelta { upserted, removed: Vec::new(), since, unlisted }));
            removed.chain(upserted).collect::<Vec<_>>()
        }
        other => other.into_iter().collect(),
    };
    let count = chunks.len();
    let numbered = chunks.drain(..).zip(0_u32..).map(|(change, chunk)| RosterUpdate {
        owner: owner.clone(),
        room: room.clone(),
        version,
        change: Some(change),
        chunk,
        more: chunk as usize + 1 < count,
    });
    numbered.collect()
}

fn split_entries(entries: Vec<PeerEntry>) -> Vec<Vec<PeerEntry>> {
    let (mut chunks, mut len) = (Vec::<Vec<PeerEntry>>::new(), CHUNK_LEN);
    for entry in entries {
        if len >= CHUNK_LEN {
            chunks.push(Vec::new());
            len = 0;
        }
        len += entry.encoded_len();
        if let Some(chunk) = chunks.last_mut() {
            chunk.push(entry);
        }
    }
    chunks
}

/// The chunks of a change that is not whole yet.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    version: u64,
    next: u32,
    len: usize,
    change: Option<Change>,
}

/// What a chunk makes of a change.
#[derive(Debug, PartialEq)]
pub(crate) enum Joined {
    /// This is all of it.
    Whole(Change),
    /// More has to come.
    Partial,
    /// It does not follow on what came before, or is too much.
    Broken,
}

impl Chunks {
    /// Forgets what came.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes the next message about a part.
    pub(crate) fn join(&mut self, update: RosterUpdate) -> Joined {
        let Self { version, next, len, change } = std::mem::take(self);
        let received = len + update.encoded_len();
        let joined = match (update.chunk, change, update.change) {
            (0, _, Some(change)) => change,
            (chunk, Some(change), Some(Change::Delta(delta))) if (version, next) == (update.version, chunk) => {
                extend(change, delta)
            }
            _ => return Joined::Broken,
        };
        if !update.more {
            return Joined::Whole(joined);
        }
        if received > MAX_PART_LEN + MAX_ENTRY_LEN {
            return Joined::Broken;
        }
        *self = Self { version: update.version, next: update.chunk + 1, len: received, change: Some(joined) };
        Joined::Partial
    }
}

fn extend(change: Change, delta: RosterDelta) -> Change {
    match change {
        Change::Snapshot(mut part) => {
            part.peers.extend(delta.upserted);
            Change::Snapshot(part)
        }
        Change::Delta(mut whole) => {
            whole.upserted.extend(delta.upserted);
            whole.removed.extend(delta.removed);
            Change::Delta(whole)
        }
        gone => gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entries of a quarter of a chunk each.
    fn entries(count: usize) -> Vec<PeerEntry> {
        let entry = |i| PeerEntry { id: format!("{i:04}"), device: "x".repeat(CHUNK_LEN / 4), ..PeerEntry::default() };
        (0..count).map(entry).collect()
    }

    fn update(change: Change) -> RosterUpdate {
        RosterUpdate { version: 7, change: Some(change), ..RosterUpdate::default() }
    }

    fn join(chunks: Vec<RosterUpdate>) -> Joined {
        let mut joined = Joined::Broken;
        let mut joiner = Chunks::default();
        for chunk in chunks {
            assert!(chunk.encoded_len() <= MAX_MESSAGE_LEN);
            joined = joiner.join(chunk);
        }
        joined
    }

    #[test]
    fn a_change_comes_out_as_it_went_in() {
        for count in [0, 1, 3, 4, 5, 50] {
            let snapshot = Change::Snapshot(RosterPart { peers: entries(count), unlisted: 3 });
            let chunks = split(update(snapshot.clone()));
            assert_eq!(chunks.len(), count.div_ceil(4).max(1), "{count}");
            assert_eq!(join(chunks), Joined::Whole(snapshot));
            let removed = (0..20_000).map(|i| format!("{i:0100}")).collect();
            let delta = Change::Delta(RosterDelta { upserted: entries(count), removed, since: 5, unlisted: 3 });
            assert_eq!(join(split(update(delta.clone()))), Joined::Whole(delta));
        }
    }

    #[test]
    fn what_does_not_follow_is_broken() {
        let chunks = split(update(Change::Snapshot(RosterPart { peers: entries(12), unlisted: 0 })));
        let mut joiner = Chunks::default();
        assert_eq!(joiner.join(chunks[1].clone()), Joined::Broken, "it has no beginning");
        assert_eq!(joiner.join(chunks[0].clone()), Joined::Partial);
        assert_eq!(joiner.join(chunks[2].clone()), Joined::Broken, "one is missing");
        assert_eq!(joiner.join(chunks[1].clone()), Joined::Broken, "it was given up");
        assert_eq!(joiner.join(chunks[0].clone()), Joined::Partial);
        let newer = RosterUpdate { version: 8, ..chunks[1].clone() };
        assert_eq!(joiner.join(newer), Joined::Broken, "it is of another version");
    }

    #[test]
    fn nobody_tells_more_than_a_part() {
        let entry = vec![PeerEntry { device: "x".repeat(MAX_ENTRY_LEN), ..PeerEntry::default() }];
        let mut joiner = Chunks::default();
        let joined = (0..).map(|chunk| {
            let change = match chunk {
                0 => Change::Snapshot(RosterPart { peers: entry.clone(), unlisted: 0 }),
                _ => Change::Delta(RosterDelta { upserted: entry.clone(), ..RosterDelta::default() }),
            };
            joiner.join(RosterUpdate { chunk, more: true, ..update(change) })
        });
        assert!(joined.take(20).any(|joined| joined == Joined::Broken));
    }
}
