//! When to ask a publisher for a key frame. Any number of consumers may want one: while a request is on its way they
//! share it, and one that comes to nothing is repeated once. Whoever then still gets packets that it cannot begin with
//! has need again; to a publisher that sends nothing, nothing more is said. Key frames cost everybody who watches a
//! part of the picture's quality: in the long run a publisher is asked once a second at most.

use std::time::{Duration, Instant};

use crate::rate_limit::RateLimit;

/// A browser's encoder ignores a request within this time of the one before it (libwebrtc: 300 ms), so asking earlier
/// would only cost the wait for the repetition.
pub(crate) const MIN_INTERVAL: Duration = Duration::from_millis(300);

/// In the long run there is one request in this time.
const MEAN_INTERVAL: Duration = Duration::from_secs(1);

/// So many requests may come sooner: when a room fills, or a path changes, several need a key frame one after the
/// other.
const BURST: u32 = 4;

/// The repetition: longer than the encoder's interval and than most round trips.
const RETRY: Duration = Duration::from_millis(400);

/// Time that the repetition has until the request has come to nothing.
const GIVE_UP: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy, Default)]
enum State {
    /// Nobody waits.
    #[default]
    Idle,
    /// Somebody waits; asked at the last request, to be repeated then.
    Requested { retry_at: Instant },
    /// Asked twice.
    Repeated { until: Instant },
    /// Somebody waits, but it is too early for another request.
    Deferred { until: Instant },
}

/// The key-frame requests of one producer.
#[derive(Debug)]
pub(crate) struct KeyFrameRequestManager {
    state: State,
    last_request: Option<Instant>,
    limit: RateLimit,
}

impl Default for KeyFrameRequestManager {
    fn default() -> Self {
        let limit = RateLimit::new(BURST, MEAN_INTERVAL);
        Self { state: State::default(), last_request: None, limit }
    }
}

impl KeyFrameRequestManager {
    /// Somebody needs a key frame. Returns whether to ask for it now.
    pub(crate) fn need(&mut self, now: Instant) -> bool {
        match self.state {
            State::Requested { .. } | State::Repeated { .. } | State::Deferred { .. } => false,
            State::Idle => {
                let heard_at = self.last_request.map_or(now, |last| last + MIN_INTERVAL);
                let until = heard_at.max(self.limit.next_at(now));
                if until > now {
                    self.state = State::Deferred { until };
                    return false;
                }
                self.request(now, State::Requested { retry_at: now + RETRY })
            }
        }
    }

    /// Whether a request would be made at once.
    pub(crate) fn may_ask(&self, now: Instant) -> bool {
        self.limit.next_at(now) <= now
    }

    fn request(&mut self, now: Instant, state: State) -> bool {
        self.state = state;
        self.last_request = Some(now);
        // A repetition comes whether it is its turn or not, once.
        let _ = self.limit.allow(now);
        true
    }

    /// A key frame began: whoever waits has it.
    pub(crate) fn received(&mut self) {
        self.state = State::Idle;
    }

    /// Nobody wants one any more, or none can come.
    pub(crate) fn cancel(&mut self) {
        self.state = State::Idle;
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Requested { retry_at: at } | State::Repeated { until: at } | State::Deferred { until: at } => {
                Some(at)
            }
        }
    }

    /// Returns whether to ask now.
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> bool {
        match self.state {
            State::Requested { retry_at } if retry_at <= now => {
                self.request(now, State::Repeated { until: now + GIVE_UP })
            }
            State::Deferred { until } if until <= now => self.request(now, State::Requested { retry_at: now + RETRY }),
            State::Repeated { until } if until <= now => {
                self.state = State::Idle;
                false
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;

    #[test]
    fn one_request_serves_all_and_is_repeated_once() {
        let start = Instant::now();
        let mut manager = KeyFrameRequestManager::default();
        assert!(manager.need(start));
        assert!((0..50).all(|_| !manager.need(start)));
        assert!(!manager.handle_timeout(start + Duration::from_millis(399)));
        assert!(manager.handle_timeout(start + RETRY));
        assert!(!manager.need(start + RETRY + MIN_INTERVAL));
        assert_eq!(manager.poll_timeout(), Some(start + RETRY + GIVE_UP));
        assert!(!manager.handle_timeout(start + RETRY + GIVE_UP));
        assert_eq!(manager.poll_timeout(), None);
        assert!(manager.need(start + RETRY + GIVE_UP));
        manager.received();
        assert_eq!(manager.poll_timeout(), None);
    }

    #[test]
    fn the_next_request_waits_until_the_encoder_would_hear_it() {
        let start = Instant::now();
        let mut manager = KeyFrameRequestManager::default();
        assert!(manager.need(start));
        manager.received();
        assert!(!manager.need(start + Duration::from_millis(100)));
        assert_eq!(manager.poll_timeout(), Some(start + MIN_INTERVAL));
        assert!(manager.handle_timeout(start + MIN_INTERVAL));
        manager.received();
        assert!(manager.need(start + Duration::from_secs(1)));
    }

    #[test]
    fn in_the_long_run_there_is_one_request_a_second() {
        let start = Instant::now();
        let mut manager = KeyFrameRequestManager::default();
        let mut requests = 0;
        for tick in 0..10_000 {
            let now = start + Duration::from_millis(tick);
            requests += u32::from(manager.need(now) || manager.handle_timeout(now));
            manager.received();
        }
        assert_eq!(requests, 9 + BURST);
    }
}
