//! When newcomers are asked to come later: before those who are inside notice how many want in. It is told by what they
//! would notice, how late the node is, and how long a room lets wait.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::timing::Timing;

/// How often the node's lateness is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);

/// When newcomers shall come again: within this, each at another time. A room takes hundreds in a second.
const COME_BACK: std::ops::Range<u64> = 1_000..4_000;

/// How late something is, lately: in microseconds.
#[derive(Debug, Default)]
pub(super) struct Lateness(AtomicU64);

impl Lateness {
    /// It was so late now. What was before counts half.
    pub(super) fn note(&self, late: Duration) {
        let late = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        let before = self.0.load(Ordering::Relaxed);
        self.0.store(late.max(before / 2), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// Looks for ever how late the runtime is that this runs on.
    pub(super) async fn watch(&self, timing: &Timing) {
        loop {
            let due = Instant::now() + LOOK_INTERVAL;
            sleep_until(due).await;
            let late = due.elapsed();
            self.note(late);
            timing.note_lag(late);
        }
    }
}

/// What a newcomer is told who is to come again.
pub(super) fn come_back(busy: &str) -> String {
    format!("{busy} is busy: come back in {} ms", rand::random_range(COME_BACK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_forgotten_by_and_by() {
        let (lateness, ms) = (Lateness::default(), Duration::from_millis);
        lateness.note(ms(80));
        lateness.note(ms(1));
        assert_eq!(lateness.get(), ms(40));
        lateness.note(ms(90));
        assert_eq!(lateness.get(), ms(90));
        (0..10).for_each(|_| lateness.note(ms(0)));
        assert!(lateness.get() < ms(1));
    }

    #[test]
    fn not_all_come_back_at_once() {
        let told: std::collections::HashSet<String> = (0..100).map(|_| come_back("the room")).collect();
        assert!(told.len() > 50, "{told:?}");
        assert!(told.iter().all(|told| told.starts_with("the room is busy: come back in ") && told.ends_with(" ms")));
    }
}
