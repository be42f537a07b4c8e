//! One file of the queue: events one after the other, each with its length and checksum, and in a second file which of
//! them are done. What a crash cut off or a disk spoilt is told by the checksum, and passed over.

use std::collections::{BTreeMap, HashSet};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// Of each event: length and checksum, little-endian.
const HEADER: usize = 4 + 8;

/// Part of the queue. All of it blocks.
#[derive(Debug)]
pub(super) struct Segment {
    store: Store,
    /// Bytes of events, done ones included.
    len: u64,
    /// Events that are not done.
    pending: usize,
}

#[derive(Debug)]
enum Store {
    /// As long as this process lives.
    Memory(BTreeMap<u64, Bytes>),
    Disk {
        paths: [PathBuf; 2],
        events: Arc<File>,
        done: File,
    },
}

/// How an event is got back.
#[derive(Debug)]
pub(super) enum Stored {
    Here(Bytes),
    OnDisk { events: Arc<File>, at: u64 },
}

impl Segment {
    pub(super) fn in_memory() -> Self {
        Self { store: Store::Memory(BTreeMap::new()), len: 0, pending: 0 }
    }

    /// Makes the files of a new one; `path` has no extension.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let paths = paths(path);
        let events = OpenOptions::new().read(true).append(true).create_new(true).open(&paths[0])?;
        let done = OpenOptions::new().append(true).create(true).open(&paths[1])?;
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(Self { store: Store::Disk { paths, events: Arc::new(events), done }, len: 0, pending: 0 })
    }

    /// Opens one of a former life and gives `found` each event that is not done, with its place. Nothing is appended to
    /// it any more. Returns also how many parts of it are lost, each of one event or more.
    pub(super) fn load(path: &Path, mut found: impl FnMut(u64, &[u8])) -> io::Result<(Self, u64)> {
        let paths = paths(path);
        let text = std::fs::read(&paths[0])?;
        let numbers = match std::fs::read(&paths[1]) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            read => read?,
        };
        let done: HashSet<u64> = numbers.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number)).collect();
        let (mut at, mut pending, mut lost) = (0, 0, 0);
        while at < text.len() {
            let is_done = done.contains(&(at as u64));
            let Some(body) = decode(&text[at..]) else {
                // Its length may be what is wrong: the next event is where the checksum says so.
                let next = (at + 1..text.len()).find(|next| decode(&text[*next..]).is_some()).unwrap_or(text.len());
                tracing::warn!(file = %paths[0].display(), at, bytes = next - at, "a part of a file of events is broken");
                lost += u64::from(!is_done);
                at = next;
                continue;
            };
            if !is_done {
                found(at as u64, body);
                pending += 1;
            }
            at += HEADER + body.len();
        }
        let events = Arc::new(File::open(&paths[0])?);
        let done = OpenOptions::new().append(true).create(true).open(&paths[1])?;
        let segment = Self { store: Store::Disk { paths, events, done }, len: text.len() as u64, pending };
        Ok((segment, lost))
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn pending(&self) -> usize {
        self.pending
    }

    /// Appends events, which survive a crash of the machine after that. Gives the place of each.
    ///
    /// # Errors
    /// When the disk does not take them: the segment is at its end then.
    pub(super) fn append(&mut self, bodies: &[Bytes]) -> io::Result<Vec<u64>> {
        let mut places = Vec::with_capacity(bodies.len());
        let mut text = Vec::new();
        let mut len = self.len;
        for body in bodies {
            places.push(len);
            match &mut self.store {
                Store::Memory(events) => drop(events.insert(len, body.clone())),
                Store::Disk { .. } => encode(body, &mut text),
            }
            len += (HEADER + body.len()) as u64;
        }
        if let Store::Disk { events, .. } = &self.store {
            (&**events).write_all(&text)?;
            events.sync_data()?;
        }
        self.len = len;
        self.pending += bodies.len();
        Ok(places)
    }

    /// The event at a place, if it is not done.
    pub(super) fn get(&self, at: u64) -> Option<Stored> {
        match &self.store {
            Store::Memory(events) => events.get(&at).cloned().map(Stored::Here),
            Store::Disk { events, .. } => Some(Stored::OnDisk { events: Arc::clone(events), at }),
        }
    }

    /// These events are done. If that cannot be written they come again after a restart.
    pub(super) fn set_done(&mut self, places: &[u64]) {
        self.pending -= places.len();
        match &mut self.store {
            Store::Memory(events) => places.iter().for_each(|at| drop(events.remove(at))),
            Store::Disk { done, paths, .. } => {
                let numbers: Vec<u8> = places.iter().flat_map(|at| at.to_le_bytes()).collect();
                if let Err(error) = done.write_all(&numbers) {
                    tracing::warn!(file = %paths[1].display(), %error, "delivered events may be delivered again");
                }
            }
        }
    }

    /// Gives up all of it.
    pub(super) fn remove(self) {
        let Store::Disk { paths, .. } = self.store else { return };
        // Events first: without them the other file says nothing, and without that they would come again.
        for path in paths {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(file = %path.display(), %error, "a file of events cannot be removed");
            }
        }
    }
}

impl Stored {
    /// Reads the event; blocks.
    pub(super) fn read(self) -> io::Result<Bytes> {
        let (events, at) = match self {
            Self::Here(body) => return Ok(body),
            Self::OnDisk { events, at } => (events, at),
        };
        let mut header = [0; HEADER];
        events.read_exact_at(&mut header, at)?;
        let mut text = vec![0; HEADER + length(&header)];
        events.read_exact_at(&mut text, at)?;
        let body = decode(&text).ok_or(ErrorKind::InvalidData)?;
        Ok(Bytes::copy_from_slice(body))
    }
}

/// Of events, and of which are done.
fn paths(path: &Path) -> [PathBuf; 2] {
    ["events", "done"].map(|extension| path.with_extension(extension))
}

fn length(header: &[u8; HEADER]) -> usize {
    let [a, b, c, d, ..] = *header;
    u32::from_le_bytes([a, b, c, d]) as usize
}

fn encode(body: &[u8], out: &mut Vec<u8>) {
    // An event is a few names.
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    out.extend(len.to_le_bytes());
    out.extend(xxh3_64(body).to_le_bytes());
    out.extend(body);
}

/// The first event of this text, if it is whole.
fn decode(text: &[u8]) -> Option<&[u8]> {
    let (header, rest) = text.split_first_chunk()?;
    let body = rest.get(..length(header))?;
    (header[4..] == xxh3_64(body).to_le_bytes()).then_some(body)
}
