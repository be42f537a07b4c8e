//! What each namespace uses of this node: participant time, the most participants at a time, and users' bytes. With a
//! data directory it outlives a restart; a crash loses the last minute at most.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sluice_media::messages::{Traffic, WorkerSnapshot};
use sluice_proto::ids::NamespaceId;
use tokio::time::Instant;

use crate::support::{lock, millis, replace_file, unix_ms};

pub(crate) use sluice_media::messages::Account;

/// The file of the data directory.
const FILE: &str = "usage.json";

/// Between two writings of the file.
pub(crate) const WRITE_EVERY: Duration = Duration::from_secs(60);

/// Namespaces with an account of their own: each has lines in every scrape of the metrics. What further ones use is
/// added up as one.
const NAMESPACES: usize = 1_024;

/// The account of those who have none of their own.
const OTHERS: Account = Account(0);

/// The account book of a node.
#[derive(Debug)]
pub(crate) struct Usage {
    book: Mutex<Book>,
    /// `None`: nothing outlives the process.
    file: Option<PathBuf>,
}

#[derive(Debug)]
struct Book {
    since_ms: u64,
    /// By number.
    pages: Vec<Page>,
    accounts: HashMap<NamespaceId, Account>,
}

/// What one account has used.
#[derive(Debug)]
struct Page {
    used: NamespaceUsage,
    /// When the time was last added up.
    at: Instant,
    /// The latest count of each worker, which began with this process.
    workers: HashMap<u16, Traffic>,
}

/// Everything that was used: the answer to `GET /v1/usage`, and what the file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeUsage {
    /// Since when, in milliseconds since the Unix epoch.
    pub(crate) since_ms: u64,
    /// By name.
    pub(crate) namespaces: Vec<NamespaceUsage>,
}

/// What a namespace has used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NamespaceUsage {
    /// `None`: all those together for which there was no account left.
    pub(crate) namespace: Option<NamespaceId>,
    /// Peers now.
    #[serde(skip_deserializing)]
    pub(crate) peers: u64,
    /// The most peers at a time.
    pub(crate) peak_peers: u64,
    /// Time for which peers were joined, each one's added up, in milliseconds.
    pub(crate) participant_ms: u64,
    /// Bytes of datagrams' payload from users.
    pub(crate) bytes_received: u64,
    /// Bytes of datagrams' payload to users.
    pub(crate) bytes_sent: u64,
}

/// A joined peer, until it is dropped.
pub(crate) struct Presence {
    usage: Arc<Usage>,
    account: Account,
}

impl Default for Usage {
    fn default() -> Self {
        Self { book: Mutex::new(Book::new(NodeUsage { since_ms: unix_ms(), namespaces: Vec::new() })), file: None }
    }
}

impl Usage {
    /// Goes on where the file of the data directory ends.
    ///
    /// # Errors
    /// When the file cannot be read: what was used is not to be forgotten without a word.
    pub(super) fn open(data_dir: Option<&Path>) -> io::Result<Self> {
        let Some(file) = data_dir.map(|dir| dir.join(FILE)) else { return Ok(Self::default()) };
        let former = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)
                .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("{}: {error}", file.display())))?,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                NodeUsage { since_ms: unix_ms(), namespaces: Vec::new() }
            }
            Err(error) => return Err(error),
        };
        Ok(Self { book: Mutex::new(Book::new(former)), file: Some(file) })
    }

    /// The account of a namespace, which is made if need be.
    pub(crate) fn account(&self, namespace: &NamespaceId) -> Account {
        lock(&self.book).account(namespace)
    }

    /// A peer of a namespace has joined.
    pub(super) fn attend(self: &Arc<Self>, namespace: &NamespaceId) -> Presence {
        let mut book = lock(&self.book);
        let account = book.account(namespace);
        book.update(account, |used| {
            used.peers += 1;
            used.peak_peers = used.peak_peers.max(used.peers);
        });
        Presence { usage: Arc::clone(self), account }
    }

    /// Workers tell what they have counted.
    pub(crate) fn set_traffic(&self, workers: &[(u16, WorkerSnapshot)]) {
        let mut book = lock(&self.book);
        for (worker, snapshot) in workers {
            for (account, traffic) in &snapshot.traffic {
                if let Some(page) = book.pages.get_mut(usize::from(account.0)) {
                    page.workers.insert(*worker, *traffic);
                }
            }
        }
    }

    /// What was used until now.
    pub(crate) fn totals(&self) -> NodeUsage {
        lock(&self.book).totals()
    }

    /// Writes the file, if there is one. Blocks.
    pub(crate) fn write(&self) {
        let Some(file) = &self.file else { return };
        let text = serde_json::to_vec_pretty(&self.totals()).map_err(io::Error::from);
        if let Err(error) = text.and_then(|text| replace_file(file, &text)) {
            tracing::error!(file = %file.display(), %error, "what namespaces use cannot be written");
        }
    }
}

impl Book {
    fn new(former: NodeUsage) -> Self {
        let mut book = Self { since_ms: former.since_ms, pages: Vec::new(), accounts: HashMap::new() };
        book.open_page(NamespaceUsage::default());
        for used in former.namespaces {
            match used.namespace.clone() {
                Some(namespace) => {
                    let account = book.open_page(used);
                    book.accounts.insert(namespace, account);
                }
                None => book.pages[usize::from(OTHERS.0)].used = used,
            }
        }
        book
    }

    fn account(&mut self, namespace: &NamespaceId) -> Account {
        if let Some(account) = self.accounts.get(namespace) {
            return *account;
        }
        if self.accounts.len() >= NAMESPACES {
            return OTHERS;
        }
        let used = NamespaceUsage { namespace: Some(namespace.clone()), ..NamespaceUsage::default() };
        let account = self.open_page(used);
        self.accounts.insert(namespace.clone(), account);
        account
    }

    fn open_page(&mut self, used: NamespaceUsage) -> Account {
        self.pages.push(Page { used, at: Instant::now(), workers: HashMap::new() });
        // There are few more than [`NAMESPACES`].
        u16::try_from(self.pages.len() - 1).map_or(OTHERS, Account)
    }

    /// The number of peers changes: the time until now was with the former one.
    fn update(&mut self, account: Account, change: impl FnOnce(&mut NamespaceUsage)) {
        if let Some(page) = self.pages.get_mut(usize::from(account.0)) {
            page.add_time(Instant::now());
            change(&mut page.used);
        }
    }

    fn totals(&mut self) -> NodeUsage {
        let now = Instant::now();
        let mut namespaces: Vec<NamespaceUsage> = self.pages.iter_mut().map(|page| page.total(now)).collect();
        namespaces.retain(|used| used.namespace.is_some() || *used != NamespaceUsage::default());
        namespaces.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        NodeUsage { since_ms: self.since_ms, namespaces }
    }
}

impl Page {
    fn add_time(&mut self, now: Instant) {
        // Whole milliseconds: the rest is left for the next time.
        let passed = millis(now.saturating_duration_since(self.at));
        self.used.participant_ms += self.used.peers * passed;
        self.at += Duration::from_millis(passed);
    }

    fn total(&mut self, now: Instant) -> NamespaceUsage {
        self.add_time(now);
        let mut traffic = Traffic { received: self.used.bytes_received, sent: self.used.bytes_sent };
        self.workers.values().for_each(|counted| traffic += *counted);
        NamespaceUsage { bytes_received: traffic.received, bytes_sent: traffic.sent, ..self.used.clone() }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        lock(&self.usage.book).update(self.account, |used| used.peers -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> NamespaceId {
        NamespaceId::new(name).unwrap()
    }

    fn snapshot(account: Account, received: u64, sent: u64) -> WorkerSnapshot {
        WorkerSnapshot { traffic: vec![(account, Traffic { received, sent })], ..WorkerSnapshot::default() }
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn time_and_peak_are_those_of_joined_peers() {
        let usage = Arc::new(Usage::default());
        let first = usage.attend(&namespace("one"));
        pass(10).await;
        let second = usage.attend(&namespace("one"));
        let other = usage.attend(&namespace("two"));
        pass(5).await;
        drop((first, second));
        pass(100).await;
        let totals = usage.totals().namespaces;
        let [one, two] = &totals[..] else { panic!("{totals:?}") };
        assert_eq!((one.peers, one.peak_peers, one.participant_ms), (0, 2, 20_000));
        assert_eq!((two.peers, two.peak_peers, two.participant_ms), (1, 1, 105_000), "without leaving");
        drop(other);
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_goes_on_where_the_file_ends() {
        let dir = tempfile::tempdir().unwrap();
        let usage = Arc::new(Usage::open(Some(dir.path())).unwrap());
        let account = usage.account(&namespace("one"));
        let presence = usage.attend(&namespace("one"));
        usage.set_traffic(&[(0, snapshot(account, 10, 20)), (1, snapshot(account, 1, 2))]);
        usage.set_traffic(&[(0, snapshot(account, 30, 40))]);
        pass(60).await;
        usage.write();
        // Killed here: nothing after that is known.
        drop(presence);

        let usage = Arc::new(Usage::open(Some(dir.path())).unwrap());
        let _presence = usage.attend(&namespace("one"));
        usage.set_traffic(&[(0, snapshot(usage.account(&namespace("one")), 100, 200))]);
        pass(60).await;
        let totals = usage.totals().namespaces;
        let [one] = &totals[..] else { panic!("{totals:?}") };
        assert_eq!((one.peers, one.peak_peers, one.participant_ms), (1, 1, 120_000));
        assert_eq!((one.bytes_received, one.bytes_sent), (131, 242));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "{").unwrap();
        assert!(Usage::open(Some(dir.path())).unwrap_err().to_string().contains(FILE));
    }

    #[tokio::test]
    async fn namespaces_beyond_the_bound_share_an_account() {
        let usage = Arc::new(Usage::default());
        for number in 0..NAMESPACES + 10 {
            drop(usage.attend(&namespace(&format!("n{number}"))));
        }
        let totals = usage.totals().namespaces;
        assert_eq!(totals.len(), NAMESPACES + 1);
        assert_eq!((&totals[0].namespace, totals[0].peak_peers), (&None, 1));
        assert_eq!(usage.account(&namespace("n0")), Account(1));
        assert_eq!(usage.account(&namespace("further")), OTHERS);
    }
}
