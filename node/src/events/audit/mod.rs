//! The audit log: who came, who was refused, who left, and what operators asked for. An object a line, in a file that
//! is rotated, or in the log where no file is set.
//!
//! Telling it of sessions never waits: what a full queue does not take goes to the log, counted. What operators ask for
//! waits until it is taken.

mod file;

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::Serialize;
use sluice_media::rate_limit::RateLimit;
use sluice_proto::ids::{NamespaceId, NodeId, PeerId, RoomId, RoomKey};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use self::file::RotatedFile;
use super::event::LeaveReason;
use super::part::Session;
use crate::config::AuditConfig;
use crate::support::{count, lock, unix_ms};
use crate::vitals::Vitals;

/// Lines that wait for the disk: a burst of 8,000 joins with 300 bytes each, 5 MB.
const QUEUE: usize = 16_384;

/// Lines that are written at once.
const BATCH: usize = 1_024;

/// Refusals that are recorded at once, and the time between further ones: strangers who ask for nothing but refusals
/// are not to rotate everything else out of the file. The others are counted.
const REFUSALS: u32 = 1_000;
const REFUSAL_EVERY: Duration = Duration::from_millis(20);

/// The audit log. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    shared: Arc<Shared>,
    /// `None`: the log has it.
    file: Option<mpsc::Sender<Message>>,
}

#[derive(Debug)]
struct Shared {
    node: NodeId,
    refusals: Mutex<RateLimit>,
    suppressed: AtomicU64,
    overflowed: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(String),
    /// All that came before is written.
    Flush(oneshot::Sender<()>),
    /// The file may be another one now.
    Reopen,
}

/// What is recorded.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all_fields = "camelCase")]
pub(crate) enum Entry {
    /// A WebSocket, or a place in a room, was refused.
    #[serde(rename = "session.refused")]
    SessionRefused {
        remote: SocketAddr,
        /// As far as it got.
        #[serde(flatten)]
        who: Option<Who>,
        /// Of HTTP, if it got no further than that.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        reason: String,
    },
    /// A WebSocket has a place in a room.
    #[serde(rename = "session.opened")]
    SessionOpened {
        #[serde(flatten)]
        session: SessionEntry,
        #[serde(flatten)]
        who: Who,
    },
    /// It is a peer of the room now.
    #[serde(rename = "peer.joined")]
    PeerJoined {
        #[serde(flatten)]
        session: SessionEntry,
        #[serde(flatten)]
        who: Who,
    },
    /// It is no more.
    #[serde(rename = "peer.left")]
    PeerLeft {
        #[serde(flatten)]
        session: SessionEntry,
        #[serde(flatten)]
        who: Who,
        reason: LeaveReason,
        duration_ms: u64,
    },
    /// An operator asked for something, or a tenant's server.
    #[serde(rename = "admin.call")]
    AdminCall {
        remote: SocketAddr,
        method: String,
        /// With its query.
        path: String,
        /// What HTTP it was answered with.
        status: u16,
    },
}

impl Entry {
    /// A refusal of somebody whose name is known.
    pub(crate) fn refused(remote: SocketAddr, who: Who, reason: &str) -> Self {
        Self::SessionRefused { remote, who: Some(who), status: None, reason: reason.to_owned() }
    }
}

/// Whom an entry is about.
#[derive(Debug, Serialize)]
pub(crate) struct Who {
    namespace: NamespaceId,
    room: RoomId,
    peer: PeerId,
}

impl Who {
    pub(crate) fn new(key: &RoomKey, peer: &PeerId) -> Self {
        Self { namespace: key.namespace.clone(), room: key.room.clone(), peer: peer.clone() }
    }
}

/// One WebSocket.
#[derive(Debug, Serialize)]
pub(crate) struct SessionEntry {
    /// Its number within this life of the node.
    session: u64,
    remote: SocketAddr,
}

impl From<Session> for SessionEntry {
    fn from(session: Session) -> Self {
        Self { session: session.number, remote: session.remote }
    }
}

/// A line.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    time_ms: u64,
    node: &'a NodeId,
    #[serde(flatten)]
    entry: &'a Entry,
    /// Refusals before this one that are not recorded.
    #[serde(skip_serializing_if = "is_zero")]
    suppressed: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Audit {
    /// Opens the file, if one is set. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn start(config: &AuditConfig, node: &NodeId, vitals: &Vitals) -> io::Result<Self> {
        let mut audit = Self::to_log(node);
        if let Some(path) = &config.file {
            let file = RotatedFile::open(path.clone(), config.file_bytes, config.files)?;
            let (sender, messages) = mpsc::channel(QUEUE);
            audit.file = Some(sender);
            vitals.spawn("the audit log", write(file, messages, audit.shared.clone()));
        }
        Ok(audit)
    }

    /// One that the log has.
    pub(super) fn to_log(node: &NodeId) -> Self {
        let shared = Shared {
            node: node.clone(),
            refusals: Mutex::new(RateLimit::new(REFUSALS, REFUSAL_EVERY)),
            suppressed: AtomicU64::new(0),
            overflowed: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared), file: None }
    }

    /// Records what happened to a session; never waits.
    pub(crate) fn record(&self, entry: &Entry) {
        let Some(line) = self.line(entry) else { return };
        let Some(file) = &self.file else { return log(entry, &line) };
        if let Err(
            mpsc::error::TrySendError::Full(Message::Line(line))
            | mpsc::error::TrySendError::Closed(Message::Line(line)),
        ) = file.try_send(Message::Line(line))
        {
            count(&self.shared.overflowed);
            log(entry, &line);
        }
    }

    /// Records what must not be lost; waits for room.
    pub(crate) async fn record_surely(&self, entry: &Entry) {
        let Some(line) = self.line(entry) else { return };
        let Some(file) = &self.file else { return log(entry, &line) };
        if let Err(mpsc::error::SendError(Message::Line(line))) = file.send(Message::Line(line)).await {
            log(entry, &line);
        }
    }

    /// Lines that queue or file did not take since the start.
    pub(crate) fn overflowed(&self) -> u64 {
        self.shared.overflowed.load(Ordering::Relaxed)
    }

    /// Goes on in the file that has the name now.
    pub(crate) async fn reopen(&self) {
        if let Some(file) = &self.file {
            // An error is the end of the task, which has been told.
            let _ = file.send(Message::Reopen).await;
        }
    }

    /// Waits until all that was recorded is written.
    pub(super) async fn flush(&self) {
        let (written, done) = oneshot::channel();
        if let Some(file) = &self.file
            && file.send(Message::Flush(written)).await.is_ok()
        {
            // An error is the end of the task, which has been told.
            let _ = done.await;
        }
    }

    /// `None` if it is one refusal too many.
    fn line(&self, entry: &Entry) -> Option<String> {
        let Shared { node, refusals, suppressed, .. } = &*self.shared;
        let mut before = 0;
        if matches!(entry, Entry::SessionRefused { .. }) {
            if !lock(refusals).allow(Instant::now().into_std()) {
                count(suppressed);
                return None;
            }
            before = suppressed.swap(0, Ordering::Relaxed);
        }
        // Keys are strings and values plain, so that this cannot fail.
        serde_json::to_string(&Line { time_ms: unix_ms(), node, entry, suppressed: before }).ok()
    }
}

/// Refusals and operators are news, sessions are not.
fn log(entry: &Entry, line: &dyn Display) {
    match entry {
        Entry::SessionRefused { .. } | Entry::AdminCall { .. } => tracing::info!(target: "audit", "{line}"),
        _ => tracing::debug!(target: "audit", "{line}"),
    }
}

async fn write(mut file: RotatedFile, mut messages: mpsc::Receiver<Message>, shared: Arc<Shared>) {
    let mut batch = Vec::new();
    while messages.recv_many(&mut batch, BATCH).await > 0 {
        let (mut lines, mut flushed, mut reopens) = (Vec::new(), Vec::new(), false);
        for message in batch.drain(..) {
            match message {
                Message::Line(line) => lines.push(line),
                Message::Flush(written) => flushed.push(written),
                Message::Reopen => reopens = true,
            }
        }
        let shared = shared.clone();
        let writing = tokio::task::spawn_blocking(move || {
            if reopens && let Err(error) = file.reopen() {
                tracing::error!(%error, "the audit log cannot be opened anew: it goes on in the former file");
            }
            if let Err(error) = file.append(&lines) {
                shared.overflowed.fetch_add(lines.len() as u64, Ordering::Relaxed);
                tracing::error!(%error, lines = lines.len(), "the audit log cannot be written");
                lines.iter().for_each(|line| tracing::warn!(target: "audit", "{line}"));
            }
            file
        });
        match writing.await {
            Ok(back) => file = back,
            Err(_) => return,
        }
        // Whoever waited may have gone.
        for written in flushed {
            let _ = written.send(());
        }
    }
}

#[cfg(test)]
impl Audit {
    /// One whose lines a test reads.
    pub(super) fn heard(node: &NodeId) -> (Self, Lines) {
        let (sender, lines) = mpsc::channel(QUEUE);
        (Self { file: Some(sender), ..Self::to_log(node) }, Lines(lines))
    }
}

/// What is recorded, for a test.
#[cfg(test)]
pub(crate) struct Lines(mpsc::Receiver<Message>);

#[cfg(test)]
impl Lines {
    /// What was recorded since this was asked last.
    pub(crate) fn take(&mut self) -> Vec<serde_json::Value> {
        let messages = std::iter::from_fn(|| self.0.try_recv().ok());
        let lines = messages.filter_map(|message| match message {
            Message::Line(line) => serde_json::from_str(&line).ok(),
            Message::Flush(_) | Message::Reopen => None,
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn remote() -> SocketAddr {
        ([192, 0, 2, 7], 5_000).into()
    }

    fn refused(reason: &str) -> Entry {
        Entry::SessionRefused { remote: remote(), who: None, status: Some(403), reason: reason.to_owned() }
    }

    fn start(dir: &std::path::Path, config: AuditConfig) -> Audit {
        let config = AuditConfig { file: Some(dir.join("audit.jsonl")), ..config };
        Audit::start(&config, &NodeId::new("n1").unwrap(), &Vitals::default()).unwrap()
    }

    fn lines(dir: &std::path::Path, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(dir.join(name)).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn entries_are_lines_of_json() {
        let dir = tempfile::tempdir().unwrap();
        let audit = start(dir.path(), AuditConfig::default());
        let key = RoomKey { namespace: NamespaceId::new("shop").unwrap(), room: RoomId::new("r").unwrap() };
        let who = || Who::new(&key, &PeerId::new("ann").unwrap());
        let session = Session { number: 4, remote: remote() };
        audit.record(&refused("no\nsuch \"origin\""));
        audit.record(&Entry::PeerLeft {
            session: session.into(),
            who: who(),
            reason: LeaveReason::Silent,
            duration_ms: 5,
        });
        let (method, path) = ("POST".to_owned(), "/v1/rooms".to_owned());
        audit.record_surely(&Entry::AdminCall { remote: remote(), method, path, status: 401 }).await;
        audit.flush().await;
        let mut lines = lines(dir.path(), "audit.jsonl");
        for line in &mut lines {
            assert!(line["timeMs"].as_u64() > Some(0), "{line}");
            line.as_object_mut().unwrap().remove("timeMs");
        }
        let expected = [
            serde_json::json!({"node": "n1", "event": "session.refused", "remote": "192.0.2.7:5000", "status": 403,
                "reason": "no\nsuch \"origin\""}),
            serde_json::json!({"node": "n1", "event": "peer.left", "session": 4, "remote": "192.0.2.7:5000",
                "namespace": "shop", "room": "r", "peer": "ann", "reason": "silent", "durationMs": 5}),
            serde_json::json!({"node": "n1", "event": "admin.call", "remote": "192.0.2.7:5000", "method": "POST",
                "path": "/v1/rooms", "status": 401}),
        ];
        assert_eq!(lines, expected);
    }

    #[tokio::test(start_paused = true)]
    async fn refusals_beyond_the_rate_are_counted_and_other_entries_are_not_limited() {
        let dir = tempfile::tempdir().unwrap();
        let audit = start(dir.path(), AuditConfig::default());
        for _ in 0..REFUSALS + 30 {
            audit.record(&refused("a"));
        }
        tokio::time::advance(REFUSAL_EVERY).await;
        audit.record(&refused("b"));
        audit.flush().await;
        let lines = lines(dir.path(), "audit.jsonl");
        assert_eq!(lines.len(), REFUSALS as usize + 1);
        let last = lines.last().unwrap();
        assert_eq!((&last["reason"], &last["suppressed"]), (&"b".into(), &30.into()));
    }

    #[tokio::test]
    async fn a_full_queue_is_counted_and_operators_calls_wait_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let audit = start(dir.path(), AuditConfig::default());
        let session = || SessionEntry { session: 1, remote: remote() };
        let key = RoomKey { namespace: NamespaceId::new("shop").unwrap(), room: RoomId::new("r").unwrap() };
        // The writer has no turn on this thread until this test waits.
        for _ in 0..QUEUE + 3 {
            let who = Who::new(&key, &PeerId::new("ann").unwrap());
            audit.record(&Entry::SessionOpened { session: session(), who });
        }
        assert_eq!(audit.overflowed(), 3);
        let (method, path) = ("GET".to_owned(), "/v1/rooms".to_owned());
        audit.record_surely(&Entry::AdminCall { remote: remote(), method, path, status: 200 }).await;
        audit.flush().await;
        assert_eq!(lines(dir.path(), "audit.jsonl").len(), QUEUE + 1);
        assert_eq!(audit.overflowed(), 3);
    }

    #[tokio::test]
    async fn lines_that_the_file_does_not_take_are_counted_and_it_may_be_moved_away() {
        let dir = tempfile::tempdir().unwrap();
        let audit = start(dir.path(), AuditConfig { file_bytes: 1, ..AuditConfig::default() });
        audit.record(&refused("a"));
        audit.flush().await;
        // The file is full, and where the next would be there is none.
        let away = dir.path().with_extension("away");
        std::fs::rename(dir.path(), &away).unwrap();
        audit.record(&refused("b"));
        audit.reopen().await;
        audit.flush().await;
        assert_eq!(audit.overflowed(), 1);
        std::fs::create_dir(dir.path()).unwrap();
        audit.reopen().await;
        audit.record(&refused("c"));
        audit.flush().await;
        assert_eq!((lines(dir.path(), "audit.jsonl").len(), audit.overflowed()), (1, 1));
        assert_eq!(lines(&away, "audit.jsonl").len(), 1);
        std::fs::remove_dir_all(away).unwrap();
    }
}
