//! Memory that went with its users is given back to the system. The allocator keeps what was freed, whole pages of it
//! between what is still used: of 5,000 users who left some 100 MB.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::interval;

use crate::rooms::Rooms;

/// How often it is looked how many sessions there are.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Sessions that have ended are at least so many when their memory is worth looking for: some 20 MB.
const MANY: u64 = 1_000;

/// Gives back what many sessions leave behind, for ever.
pub(super) async fn give_back(rooms: Rooms) {
    let (mut ticks, mut most) = (interval(LOOK_INTERVAL), 0);
    loop {
        ticks.tick().await;
        let now = rooms.counters().sessions.load(Ordering::Relaxed);
        most = most.max(now);
        if is_worth_it(most, now) {
            most = now;
            // It looks through all that was ever allocated: tens of milliseconds of a thread that nobody waits for.
            let _ = spawn_blocking(trim).await;
        }
    }
}

/// Many, and most of those, are gone who were there at a time since memory was given back last.
fn is_worth_it(most: u64, now: u64) -> bool {
    most - now >= MANY && now <= most / 2
}

#[cfg(target_env = "gnu")]
fn trim() {
    // SAFETY: it may be called at any time, by any thread.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators do so by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_who_leave_are_not_worth_it() {
        assert!(is_worth_it(MANY, 0) && is_worth_it(10 * MANY, 5 * MANY));
        assert!(!is_worth_it(MANY - 1, 0) && !is_worth_it(10 * MANY, 6 * MANY) && !is_worth_it(MANY, MANY));
    }
}
