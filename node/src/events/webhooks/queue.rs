//! Events that wait for their receiver, in files of a directory or, without one, in memory. Bounded: where there is no
//! room, the oldest file goes.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::segment::{Segment, Stored};

/// Files that a full queue is made of at least: so much of it is dropped at once.
const SEGMENTS: u64 = 16;

/// Longest file: larger ones would only stay longer for one event that is left in them.
const MAX_SEGMENT_LEN: u64 = 4 << 20;

/// Where an event is. Later ones are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    segment: u64,
    at: u64,
}

/// Events that wait. All of it blocks.
#[derive(Debug)]
pub(super) struct Queue {
    dir: Option<PathBuf>,
    max_len: u64,
    segments: BTreeMap<u64, Segment>,
    /// The one that is appended to; it has been made if it is among the segments.
    current: u64,
    /// Events that had to go since the start.
    dropped: u64,
    /// Parts of what a former life left that cannot be read.
    lost: u64,
}

impl Queue {
    /// Opens what a former life left in `dir` and gives `found` each event that was not done, in order.
    ///
    /// # Errors
    /// When the directory or a file of it cannot be read.
    pub(super) fn open(dir: Option<PathBuf>, max_len: u64, mut found: impl FnMut(Position, &[u8])) -> io::Result<Self> {
        let mut queue = Self { dir, max_len, segments: BTreeMap::new(), current: 0, dropped: 0, lost: 0 };
        let Some(dir) = &queue.dir else { return Ok(queue) };
        std::fs::create_dir_all(dir)?;
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(dir)? {
            numbers.extend(number_of(&entry?.path()));
        }
        numbers.sort_unstable();
        for number in numbers {
            let (segment, lost) = Segment::load(&segment_path(dir, number), |at, body| {
                found(Position { segment: number, at }, body);
            })?;
            queue.lost += lost;
            queue.segments.insert(number, segment);
            queue.current = number + 1;
        }
        queue.segments.extract_if(.., |_, segment| segment.pending() == 0).for_each(|(_, segment)| segment.remove());
        Ok(queue)
    }

    /// Appends events. What the disk does not take is kept in memory. Gives the place of each; those of them that had
    /// to go at once are not there any more.
    pub(super) fn append(&mut self, bodies: &[Bytes]) -> Vec<Position> {
        if self.segments.get(&self.current).is_some_and(|segment| segment.len() >= self.segment_len()) {
            self.begin_segment();
        }
        let places = self.current().append(bodies).unwrap_or_else(|error| {
            tracing::error!(%error, "events cannot be written to disk: they are kept in memory");
            self.begin_segment();
            let segment = self.segments.entry(self.current).or_insert_with(Segment::in_memory);
            // Which takes everything.
            segment.append(bodies).unwrap_or_default()
        });
        let segment = self.current;
        while self.len() > self.max_len
            && let Some((_, oldest)) = self.segments.pop_first()
        {
            self.dropped += oldest.pending() as u64;
            oldest.remove();
        }
        places.into_iter().map(|at| Position { segment, at }).collect()
    }

    /// The event there; `None` if it had to go.
    pub(super) fn get(&self, position: Position) -> Option<Stored> {
        self.segments.get(&position.segment)?.get(position.at)
    }

    /// Whether the event there has not had to go.
    pub(super) fn has(&self, position: Position) -> bool {
        self.segments.contains_key(&position.segment)
    }

    /// These events need no delivery any more.
    pub(super) fn set_done(&mut self, positions: &[Position]) {
        let mut by_segment: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for position in positions {
            by_segment.entry(position.segment).or_default().push(position.at);
        }
        for (number, places) in by_segment {
            let Some(segment) = self.segments.get_mut(&number) else { continue };
            segment.set_done(&places);
            if segment.pending() == 0 && number != self.current {
                self.segments.remove(&number).into_iter().for_each(Segment::remove);
            }
        }
    }

    /// Bytes of it, those of events that are done among them until all of a file are.
    pub(super) fn len(&self) -> u64 {
        self.segments.values().map(Segment::len).sum()
    }

    /// Events that wait.
    pub(super) fn pending(&self) -> usize {
        self.segments.values().map(Segment::pending).sum()
    }

    /// Events that had to go since the start, as there was no room.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Parts of what a former life left that cannot be read, each of one event or more.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn segment_len(&self) -> u64 {
        (self.max_len / SEGMENTS).min(MAX_SEGMENT_LEN)
    }

    fn begin_segment(&mut self) {
        if self.segments.get(&self.current).is_some_and(|segment| segment.pending() == 0) {
            self.segments.remove(&self.current).into_iter().for_each(Segment::remove);
        }
        self.current += 1;
    }

    fn current(&mut self) -> &mut Segment {
        let (dir, number) = (&self.dir, self.current);
        self.segments.entry(number).or_insert_with(|| {
            let created = dir.as_ref().map(|dir| Segment::create(&segment_path(dir, number)));
            created.map_or_else(Segment::in_memory, |created| {
                created.unwrap_or_else(|error| {
                    tracing::error!(%error, "events cannot be written to disk: they are kept in memory");
                    Segment::in_memory()
                })
            })
        })
    }
}

/// Named so that their order is that of their names.
fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.events"))
}

fn number_of(path: &Path) -> Option<u64> {
    let is_one = path.extension().is_some_and(|extension| extension == "events");
    path.file_stem()?.to_str()?.parse().ok().filter(|_| is_one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(number: u32) -> Bytes {
        format!("{{\"number\": {number}}}").into()
    }

    /// Opens a queue and reads what is in it.
    fn open(dir: Option<&Path>, max_len: u64) -> (Queue, Vec<(Position, Bytes)>) {
        let mut found = Vec::new();
        let queue = Queue::open(dir.map(Path::to_owned), max_len, |position, body| {
            found.push((position, Bytes::copy_from_slice(body)));
        });
        (queue.unwrap(), found)
    }

    fn files(dir: &Path) -> usize {
        std::fs::read_dir(dir).unwrap().count()
    }

    #[test]
    fn what_is_not_done_is_there_after_a_crash() {
        let dir = tempfile::tempdir().unwrap();
        let (mut queue, _) = open(Some(dir.path()), 16_000);
        let mut positions = Vec::new();
        for number in 0..100 {
            positions.extend(queue.append(&[body(number)]));
        }
        queue.set_done(&positions[..10]);
        queue.set_done(&[positions[50]]);
        assert_eq!((queue.pending(), queue.get(positions[20]).unwrap().read().unwrap()), (89, body(20)));
        // Nothing tells it that it ends.
        std::mem::forget(queue);

        let (mut queue, found) = open(Some(dir.path()), 16_000);
        let expected: Vec<_> = (10..100).filter(|number| *number != 50).collect();
        assert_eq!(
            found.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>(),
            expected.iter().map(|n| body(*n)).collect::<Vec<_>>()
        );
        for (position, body) in &found {
            assert_eq!(queue.get(*position).unwrap().read().unwrap(), body);
        }
        let [new] = queue.append(&[body(100)])[..] else { panic!() };
        assert!(found.iter().all(|(position, _)| *position < new));
        let all: Vec<_> = found.into_iter().map(|(position, _)| position).chain([new]).collect();
        queue.set_done(&all);
        assert_eq!(queue.pending(), 0);
        drop(queue);
        let (_, found) = open(Some(dir.path()), 16_000);
        assert_eq!((found.len(), files(dir.path())), (0, 0), "no file stays");
    }

    #[test]
    fn what_is_broken_in_the_midst_is_passed_over_and_counted() {
        let of = |spoilt: &[usize]| {
            let dir = tempfile::tempdir().unwrap();
            let (mut queue, _) = open(Some(dir.path()), 16_000);
            let positions = queue.append(&(0..10).map(body).collect::<Vec<_>>());
            queue.set_done(&positions[..1]);
            let path = segment_path(dir.path(), 0);
            let mut text = std::fs::read(&path).unwrap();
            spoilt.iter().for_each(|at| text[*at] ^= 1);
            std::fs::write(path, text).unwrap();
            let (queue, found) = open(Some(dir.path()), 16_000);
            (found.iter().map(|(_, body)| body.clone()).collect::<Vec<_>>(), queue.lost())
        };
        // 12 bytes of header and 13 of body each: in a body, a checksum, a length.
        let but = |lost: &[u32]| (1..10).filter(|number| !lost.contains(number)).map(body).collect::<Vec<_>>();
        assert_eq!(of(&[5 * 25 + 20]), (but(&[5]), 1));
        assert_eq!(of(&[5 * 25 + 8]), (but(&[5]), 1));
        assert_eq!(of(&[5 * 25]), (but(&[5]), 1));
        assert_eq!(of(&[3 * 25 + 3, 7 * 25 + 14]), (but(&[3, 7]), 2));
        assert_eq!(of(&[3 * 25, 4 * 25]), (but(&[3, 4]), 1), "nobody can tell how many they were");
        assert_eq!(of(&[14]), (but(&[]), 0), "that one was done");
    }

    #[test]
    fn a_line_that_was_cut_off_or_changed_ends_its_file_alone() {
        let dir = tempfile::tempdir().unwrap();
        for (life, spoil) in [
            (0, |text: &mut Vec<u8>| text.truncate(text.len() - 3)),
            (1, |text: &mut Vec<u8>| *text.last_mut().unwrap() ^= 1),
            (2, |text: &mut Vec<u8>| text.extend([255; 20])),
        ] as [(u32, fn(&mut Vec<u8>)); 3]
        {
            let (mut queue, found) = open(Some(dir.path()), 16_000);
            assert_eq!(found.len() as u32, 2 * life);
            queue.append(&[body(1), body(2), body(3)]);
            let path = segment_path(dir.path(), life.into());
            let mut text = std::fs::read(&path).unwrap();
            spoil(&mut text);
            std::fs::write(path, text).unwrap();
        }
        let (queue, found) = open(Some(dir.path()), 16_000);
        assert_eq!((found.len(), queue.lost()), (2 + 2 + 3, 3));
    }

    #[test]
    fn a_full_queue_drops_its_oldest_file_and_counts_what_waited_there() {
        for dir in [Some(tempfile::tempdir().unwrap()), None] {
            let dir = dir.as_ref().map(tempfile::TempDir::path);
            let (mut queue, _) = open(dir, 16_000);
            let mut positions = Vec::new();
            for batch in 0..100 {
                let bodies: Vec<_> = (20 * batch..20 * (batch + 1)).map(body).collect();
                positions.extend(queue.append(&bodies));
                assert!(queue.len() <= 16_000);
                if batch == 0 {
                    queue.set_done(&positions[..1]);
                }
            }
            let left = positions.iter().filter(|position| queue.has(**position)).count();
            assert!((300..1_000).contains(&left), "{left}");
            assert_eq!(queue.pending(), left);
            assert_eq!(queue.dropped() as usize, 2_000 - 1 - left, "the first one was done");
            assert!(queue.has(*positions.last().unwrap()) && queue.get(positions[1]).is_none());
            if let Some(dir) = dir {
                assert!(files(dir) <= 2 * (SEGMENTS as usize + 1));
            }
        }
    }

    #[test]
    fn what_the_disk_does_not_take_is_kept_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (mut queue, _) = open(Some(dir.path()), 16_000);
        std::fs::remove_dir_all(dir.path()).unwrap();
        let positions = queue.append(&[body(1), body(2)]);
        assert_eq!(queue.get(positions[1]).unwrap().read().unwrap(), body(2));
    }
}
