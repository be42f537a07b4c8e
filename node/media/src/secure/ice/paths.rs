//! The addresses of one client: which of them were authenticated, which one media go to, and what moves media to
//! another.
//!
//! Media go where the client says that they shall: to the address that it nominated, the higher of two by NOMINATION or
//! by candidate priority, else to the one that its own media come from, else to the one that it checked first. When
//! that one has fallen silent, any other that is heard from takes its place.

use std::time::{Duration, Instant};

use crate::address::TransportAddress;
use crate::rate_limit::RateLimit;
use crate::wire::stun::BindingRequest;

/// Addresses of one client at a time: Wi-Fi, mobile and wired, IPv4 and IPv6 each, and two to spare. The one that is
/// longest silent goes first, the selected one never.
const MAX_PATHS: usize = 8;

/// New addresses: as many as a client may have at once, then five in 10 s. What is learned is told to others.
const NEW_PATHS: RateLimit = RateLimit::new(MAX_PATHS as u32, Duration::from_secs(2));

/// How soon it is told again that an address is in use, so that whoever lost it knows it again.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// How long a nomination counts when another address is nominated with a lower priority. Who nominates several (RFC
/// 5245 section 8.1.1.2) repeats each of them more often than this, and who moves on does not.
const NOMINATION_HOLDS: Duration = Duration::from_secs(5);

/// After a nomination: what was still under way from the former address does not move media back.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// An authenticated address.
#[derive(Debug)]
struct Path {
    address: TransportAddress,
    /// The last authenticated check, or media that came when it was selected.
    heard_at: Instant,
    /// When others are to be told (again) that it is in use, if it is heard from then.
    tell_at: Instant,
    priority: u32,
    nominated_at: Option<Instant>,
}

/// The authenticated addresses of a client.
#[derive(Debug)]
pub(super) struct Paths {
    /// The selected one first.
    known: Vec<Path>,
    new: RateLimit,
    /// The highest NOMINATION.
    nomination: u32,
    /// How long an address counts as alive after it was heard from.
    timeout: Duration,
}

/// The place of the selected path among the known ones.
pub(super) const SELECTED: usize = 0;

impl Paths {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { known: Vec::with_capacity(2), new: NEW_PATHS, nomination: 0, timeout }
    }

    pub(super) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
    }

    pub(super) fn find(&self, address: TransportAddress) -> Option<usize> {
        self.known.iter().position(|path| path.address == address)
    }

    pub(super) fn selected(&self) -> Option<TransportAddress> {
        self.known.first().map(|path| path.address)
    }

    /// When the client has been silent for too long on the selected path.
    pub(super) fn silent_at(&self) -> Option<Instant> {
        self.known.first()?.heard_at.checked_add(self.timeout)
    }

    /// Whether the client was heard from there lately.
    pub(super) fn is_alive(&self, now: Instant, address: TransportAddress) -> bool {
        self.known
            .iter()
            .any(|path| path.address == address && now.saturating_duration_since(path.heard_at) < self.timeout)
    }

    /// Enters a new address, and yields its place and the one that had to go for it. `None` if too many came lately.
    pub(super) fn learn(
        &mut self,
        now: Instant,
        address: TransportAddress,
    ) -> Option<(usize, Option<TransportAddress>)> {
        if !self.new.allow(now) {
            return None;
        }
        let mut forgotten = None;
        if self.known.len() >= MAX_PATHS
            && let Some((at, _)) =
                self.known.iter().enumerate().skip(SELECTED + 1).min_by_key(|(_, path)| path.heard_at)
        {
            forgotten = Some(self.known.remove(at).address);
        }
        self.known.push(Path { address, heard_at: now, tell_at: now, priority: 0, nominated_at: None });
        Some((self.known.len() - 1, forgotten))
    }

    /// The client was heard from there. Whether others are to be told that the address is in use.
    #[must_use]
    pub(super) fn hear(&mut self, now: Instant, at: usize) -> bool {
        let Some(path) = self.known.get_mut(at) else { return false };
        path.heard_at = now;
        let tell = now >= path.tell_at;
        if tell {
            path.tell_at = now + TELL_INTERVAL;
        }
        tell
    }

    /// Notes what a check says of its path, and tells whether it moves media there.
    pub(super) fn is_moved_by_check(&mut self, now: Instant, at: usize, check: &BindingRequest<'_>) -> bool {
        let Some(selected) = self.known.first() else { return false };
        let since = |at: Instant| now.saturating_duration_since(at);
        let (nominates, moves) = match check.nomination {
            Some(nomination) => {
                let newer = nomination > self.nomination;
                self.nomination = self.nomination.max(nomination);
                (newer, newer)
            }
            None if check.use_candidate => {
                let holds = selected.nominated_at.is_some_and(|at| since(at) < NOMINATION_HOLDS);
                (true, !holds || check.priority >= selected.priority)
            }
            None => (false, since(selected.heard_at) >= self.timeout / 5 * 2),
        };
        if let Some(path) = self.known.get_mut(at) {
            path.priority = check.priority;
            path.nominated_at = if nominates { Some(now) } else { path.nominated_at };
        }
        moves && at != SELECTED
    }

    /// Whether media that came from there move media there.
    pub(super) fn is_moved_by_media(&self, now: Instant, at: usize) -> bool {
        let nominated_at = self.known.first().and_then(|selected| selected.nominated_at);
        at != SELECTED && nominated_at.is_none_or(|at| now.saturating_duration_since(at) >= UNDER_WAY)
    }

    pub(super) fn select(&mut self, at: usize) {
        if at < self.known.len() {
            self.known.swap(SELECTED, at);
        }
    }

    /// Nobody is at the address any more. Tells whether media went there.
    pub(super) fn forget(&mut self, at: usize) -> bool {
        if at < self.known.len() {
            self.known.remove(at);
        }
        at == SELECTED
    }

    /// Selects the address that was heard from last, if it is alive.
    pub(super) fn fall_back(&mut self, now: Instant) -> bool {
        let last = self.known.iter().enumerate().max_by_key(|(_, path)| path.heard_at);
        let alive = last.filter(|(_, path)| now.saturating_duration_since(path.heard_at) < self.timeout);
        let Some((at, _)) = alive else { return false };
        self.select(at);
        true
    }

    /// A new ICE session: former nominations do not outrank its own.
    pub(super) fn forget_nominations(&mut self) {
        self.nomination = 0;
        self.known.iter_mut().for_each(|path| path.nominated_at = None);
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = TransportAddress> + '_ {
        self.known.drain(..).map(|path| path.address)
    }
}
