//! How much data may be under way on a link, and how fast they leave.
//!
//! QUIC has one window for all streams of a connection, and one buffer for all that was sent: data alone would fill
//! both, and the control stream would wait for them. So no more is sent than the other end has room for beside
//! everything else, and it says what it has consumed.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::Instant;

use crate::pace::INITIAL_RATE;

/// Bytes of messages that are sent before the other end is heard to have consumed them: 300 Mbit/s over 100 ms. It is
/// also what the receiving end may hold of messages that are not complete.
pub(in crate::io) const WINDOW: u32 = 4 * 1024 * 1024;

/// What leaves at once after a pause, as time at the rate.
const BURST: Duration = Duration::from_millis(50);

/// What is consumed is told when it is this much: as small as not to matter to the window.
const TELL_EVERY: u64 = 64 * 1024;

/// The sending end.
#[derive(Debug)]
pub(in crate::io) struct SendWindow {
    room: Semaphore,
    /// What the other end said last.
    consumed: AtomicU64,
    /// Bits per second.
    rate: AtomicU64,
    /// Who leaves next has it; and when what left before has passed at the rate.
    turn: Mutex<Option<Instant>>,
    /// Somebody had to wait for the rate.
    has_waited: AtomicBool,
}

impl Default for SendWindow {
    fn default() -> Self {
        Self {
            room: Semaphore::new(WINDOW as usize),
            consumed: AtomicU64::new(0),
            rate: AtomicU64::new(INITIAL_RATE),
            turn: Mutex::default(),
            has_waited: AtomicBool::new(false),
        }
    }
}

impl SendWindow {
    /// Waits until so many bytes may be sent; whoever asks first is first.
    pub(super) async fn take(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(WINDOW).min(WINDOW);
        // Fails only once the semaphore is closed, which nobody does.
        if let Ok(taken) = self.room.acquire_many(bytes).await {
            taken.forget();
        }
    }

    /// Waits until so many bytes may leave at the rate; whoever asks first is first.
    pub(super) async fn pace(&self, bytes: usize) {
        let mut turn = self.turn.lock().await;
        let now = Instant::now();
        let due = turn.map_or(now, |at| at.max(now.checked_sub(BURST).unwrap_or(now)));
        if due > now {
            self.has_waited.store(true, Ordering::Relaxed);
            tokio::time::sleep_until(due).await;
        }
        let rate = self.rate.load(Ordering::Relaxed).max(1);
        *turn = Some(due + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64));
    }

    /// Sets the rate in bits per second.
    pub(in crate::io) fn set_rate(&self, rate: u64) {
        self.rate.store(rate, Ordering::Relaxed);
    }

    /// Whether somebody had to wait for the rate since this was last asked.
    pub(in crate::io) fn has_waited(&self) -> bool {
        self.has_waited.swap(false, Ordering::Relaxed)
    }

    /// The other end says how much it has consumed since the link came up. False if that is more than was sent, or less
    /// than it said before.
    #[must_use]
    pub(in crate::io) fn hear_consumed(&self, total: u64) -> bool {
        let before = self.consumed.swap(total, Ordering::Relaxed);
        let under_way = (WINDOW as usize).saturating_sub(self.room.available_permits());
        let newly = total.checked_sub(before).and_then(|newly| usize::try_from(newly).ok());
        let Some(newly) = newly.filter(|newly| *newly <= under_way) else { return false };
        self.room.add_permits(newly);
        true
    }
}

/// The receiving end.
#[derive(Debug, Default)]
pub(in crate::io) struct Consumed {
    total: AtomicU64,
    told: AtomicU64,
    due: Notify,
}

impl Consumed {
    pub(super) fn add(&self, bytes: usize) {
        let bytes = bytes as u64;
        let total = self.total.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if total.saturating_sub(self.told.load(Ordering::Relaxed)) >= TELL_EVERY {
            self.due.notify_one();
        }
    }

    /// Waits until there is something to tell: all that was consumed since the link came up.
    pub(in crate::io) async fn due(&self) -> u64 {
        self.due.notified().await;
        let total = self.total.load(Ordering::Relaxed);
        self.told.store(total, Ordering::Relaxed);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn bytes_leave_at_the_rate_after_a_burst() {
        let window = SendWindow::default();
        window.set_rate(800_000);
        let start = Instant::now();
        window.pace(5_000).await;
        assert!(start.elapsed().is_zero() && !window.has_waited());
        for _ in 0..9 {
            window.pace(10_000).await;
        }
        // The last ones are still leaving.
        assert_eq!(start.elapsed(), Duration::from_millis(850));
        assert!(window.has_waited() && !window.has_waited());
        tokio::time::sleep(Duration::from_secs(10)).await;
        let pause = Instant::now();
        window.pace(5_000).await;
        window.pace(5_000).await;
        assert!(pause.elapsed().is_zero());
    }

    #[tokio::test]
    async fn what_is_consumed_makes_room_and_no_more_than_that() {
        let (sending, receiving) = (SendWindow::default(), Consumed::default());
        sending.take(WINDOW as usize).await;
        receiving.add(TELL_EVERY as usize);
        let total = receiving.due().await;
        assert!(sending.hear_consumed(total) && sending.hear_consumed(total));
        assert_eq!(sending.room.available_permits() as u64, TELL_EVERY);
        assert!(!sending.hear_consumed(total - 1), "less than before");
        assert!(!SendWindow::default().hear_consumed(1), "more than was sent");
    }
}
