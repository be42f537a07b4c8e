//! What may be sent again over a path that is congested.

use std::time::{Duration, Instant};

use rustc_hash::FxHashSet;
use sluice_proto::ids::{RouteEpoch, RouteId};

use crate::{Frame, FrameClass};

/// Share of what a path carries that repairs of video may take, in percent: what is lost where there is no room is not
/// to be sent again and again. A path that loses a tenth on its own needs half of it.
const SHARE_PERCENT: u64 = 25;

/// What may be sent at once, as time of that share: a burst of losses is asked for at once.
const BURST: Duration = Duration::from_secs(1);

/// A question that is repeated this soon has no other answer: there is no room for two.
const REPETITION: Duration = Duration::from_millis(50);

type Packets = FxHashSet<(RouteId, RouteEpoch, u16)>;

/// Bounds the repairs of a link while its path shows a limit. Otherwise each is let through, and nothing is remembered.
#[derive(Debug, Default)]
pub struct RepairLimit {
    /// Bits per second that the path carries.
    capacity: Option<u64>,
    /// Bytes that may be sent, and since when that holds.
    allowance: f64,
    since: Option<Instant>,
    /// Sent again lately, and before that: at most what the allowance lets through.
    repaired: Packets,
    repaired_before: Packets,
    began: Option<Instant>,
}

impl RepairLimit {
    /// Of a path without a limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the path carries now, in bits per second; `None`: it has shown no limit.
    pub fn set_capacity(&mut self, now: Instant, capacity: Option<u64>) {
        let Some(capacity) = capacity else {
            *self = Self::new();
            return;
        };
        let share = (capacity / 8 * SHARE_PERCENT / 100) as f64;
        let most = share * BURST.as_secs_f64();
        let before = self.since.replace(now);
        let earned = before.map_or(most, |since| share * now.saturating_duration_since(since).as_secs_f64());
        (self.capacity, self.allowance) = (Some(capacity), (self.allowance + earned).min(most));
        let began = *self.began.get_or_insert(now);
        if now >= began + REPETITION {
            self.began = Some(now);
            self.repaired_before = std::mem::take(&mut self.repaired);
        }
    }

    /// Whether a retransmission may be sent. Audio always may: it takes little.
    pub fn allows(&mut self, frame: &Frame) -> bool {
        if self.capacity.is_none() || frame.class == FrameClass::Audio {
            return true;
        }
        let packet = (frame.route, frame.epoch, frame.seq);
        let len = frame.packet.len() as f64;
        if len > self.allowance || self.repaired_before.contains(&packet) || !self.repaired.insert(packet) {
            return false;
        }
        self.allowance -= len;
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::FrameFlags;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn frame(seq: u16, class: FrameClass) -> Frame {
        let (route, epoch, flags) = (RouteId(1), RouteEpoch(0), FrameFlags { retransmission: true });
        Frame { route, epoch, seq, flags, class, packet: Bytes::from_static(&[0; 1000]) }
    }

    const VIDEO: FrameClass = FrameClass::Video { temporal: 0, spatial: 0, key: false };

    #[test]
    fn a_wide_path_has_no_limit() {
        let mut limit = RepairLimit::new();
        assert!((0..1000).all(|_| limit.allows(&frame(1, VIDEO))));
        assert!(limit.repaired.is_empty());
    }

    #[test]
    fn a_narrow_path_carries_its_share_once() {
        let (mut limit, mut now) = (RepairLimit::new(), origin());
        limit.set_capacity(now, Some(800_000));
        // A quarter of 100,000 bytes a second.
        assert_eq!((0..100).filter(|&seq| limit.allows(&frame(seq, VIDEO))).count(), 25);
        assert!(limit.allows(&frame(1, FrameClass::Audio)));
        for _ in 0..20 {
            now += Duration::from_millis(50);
            limit.set_capacity(now, Some(800_000));
        }
        assert_eq!((0..100).filter(|&seq| limit.allows(&frame(seq, VIDEO))).count(), 25);
        assert!(limit.repaired.len() <= 26 && limit.repaired_before.len() <= 26);
        limit.set_capacity(now, None);
        assert!((0..100).all(|seq| limit.allows(&frame(seq, VIDEO))));
    }

    #[test]
    fn a_repeated_question_has_one_answer() {
        let (mut limit, mut now) = (RepairLimit::new(), origin());
        limit.set_capacity(now, Some(8_000_000));
        assert!(limit.allows(&frame(1, VIDEO)) && !limit.allows(&frame(1, VIDEO)));
        for is_new in [false, true] {
            now += REPETITION;
            limit.set_capacity(now, Some(8_000_000));
            assert_eq!(limit.allows(&frame(1, VIDEO)), is_new);
        }
    }
}
