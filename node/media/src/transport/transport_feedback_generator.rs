//! Tells a publisher when its packets arrived, by transport-wide sequence number, so that its congestion control can
//! find out how much it may send. Chromium's begins at 300 kbit/s and needs steady feedback to go up.

use std::time::{Duration, Instant};

use crate::wire::rtcp::TransportFeedbackBuilder;
use crate::wire::seq::{FIRST_CYCLE, unwrap};

/// Longest time from an arrival to the feedback about it.
const INTERVAL: Duration = Duration::from_millis(100);

/// Packets after which feedback goes out sooner: at 10 Mbit/s still one in 50 ms.
const MAX_PENDING: u64 = 50;

/// Arrivals that are remembered: those since the last feedback, and as many before it that could yet be filled in.
const WINDOW: usize = 1 << 9;

/// Arrivals of a transport's packets.
#[derive(Debug)]
pub(crate) struct TransportFeedbackGenerator {
    epoch: Instant,
    /// By sequence number modulo [`WINDOW`]: the number and its arrival in microseconds.
    arrivals: Box<[(u64, i64)]>,
    /// First number that no feedback was about, or that came after it.
    next: u64,
    highest: Option<u64>,
    pending: u64,
    due_at: Option<Instant>,
    feedback_count: u8,
    builder: TransportFeedbackBuilder,
}

impl TransportFeedbackGenerator {
    /// `epoch` is the zero of the arrival times; it must not be after the first arrival.
    pub(crate) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            arrivals: vec![(0, 0); WINDOW].into_boxed_slice(),
            next: 0,
            highest: None,
            pending: 0,
            due_at: None,
            feedback_count: 0,
            builder: TransportFeedbackBuilder::default(),
        }
    }

    /// A packet arrived.
    pub(crate) fn receive(&mut self, now: Instant, seq: u16) {
        let seq = match self.highest {
            Some(highest) => unwrap(highest, seq),
            None => FIRST_CYCLE + u64::from(seq),
        };
        let highest = *self.highest.get_or_insert_with(|| {
            self.next = seq;
            seq
        });
        let is_beyond_window = seq + WINDOW as u64 / 2 <= highest;
        let Some(slot) = self.arrivals.get_mut(seq as usize % WINDOW) else { return };
        if is_beyond_window || slot.0 == seq {
            return;
        }
        let arrival = now.saturating_duration_since(self.epoch).as_micros() as i64;
        *slot = (seq, arrival);
        self.highest = Some(highest.max(seq));
        // One that was told missing came late: tell again from there.
        self.next = self.next.min(seq);
        self.pending += 1;
        let due = if self.pending >= MAX_PENDING { now } else { now + INTERVAL };
        self.due_at = Some(self.due_at.map_or(due, |at| at.min(due)));
    }

    /// When [`write_next`](Self::write_next) has something to say.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due_at
    }

    /// Appends one message if it is time. To be called until it returns `None`. Returns how many packets the message
    /// says have come, and how many have not.
    pub(crate) fn write_next(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        sender_ssrc: u32,
        media_ssrc: u32,
    ) -> Option<(u16, u16)> {
        let highest = self.highest.filter(|_| self.due_at.is_some_and(|at| at <= now))?;
        // After a jump what is beyond the window was overwritten.
        self.next = self.next.max((highest + 1).saturating_sub(WINDOW as u64));
        self.builder.begin(self.next as u16);
        let (mut seq, mut received) = (self.next, 0);
        while seq <= highest {
            match self.arrivals.get(seq as usize % WINDOW) {
                Some(&(number, arrival)) if number == seq => {
                    if !self.builder.add_received(arrival) {
                        break;
                    }
                    received += 1;
                }
                _ => self.builder.add_missing(),
            }
            seq += 1;
        }
        let told = self.builder.status_count();
        let count = u64::from(told);
        self.builder.write(out, sender_ssrc, media_ssrc, self.feedback_count);
        self.feedback_count = self.feedback_count.wrapping_add(1);
        // Nothing fitted: the gap is too long for one message, which then says nothing about it.
        self.next = if count == 0 { seq } else { self.next + count };
        if self.next > highest {
            self.pending = 0;
            self.due_at = None;
        }
        (told > 0).then(|| (received, told.saturating_sub(received)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use super::*;
    use crate::wire::rtcp::{Compound, Packet};

    fn drain(generator: &mut TransportFeedbackGenerator, now: Instant) -> Vec<(u16, u16, u16)> {
        let mut out = Vec::new();
        let counts: Vec<_> = std::iter::from_fn(|| generator.write_next(now, &mut out, 1, 2)).collect();
        let about = |(packet, counts)| match packet {
            Ok(Packet::TransportFeedback(f)) => {
                assert_eq!(f.counts(), counts);
                (f.base_sequence, f.counts().0, f.counts().1)
            }
            other => panic!("{other:?}"),
        };
        Compound::new(&out).zip(counts).map(about).collect()
    }

    #[test]
    fn tells_after_100_ms_or_50_packets() {
        let start = Instant::now();
        let mut generator = TransportFeedbackGenerator::new(start);
        for seq in [65_534, 65_535, 1] {
            generator.receive(start + Duration::from_millis(5), seq);
        }
        assert_eq!(generator.poll_timeout(), Some(start + Duration::from_millis(105)));
        assert_eq!(drain(&mut generator, start + Duration::from_millis(104)), []);
        assert_eq!(drain(&mut generator, start + Duration::from_millis(105)), [(65_534, 3, 1)]);
        assert_eq!(generator.poll_timeout(), None);
        for seq in 2..52 {
            generator.receive(start + Duration::from_millis(110), seq);
        }
        assert_eq!(drain(&mut generator, start + Duration::from_millis(110)), [(2, 50, 0)]);
    }

    #[test]
    fn a_late_one_is_told_again_and_a_jump_is_survived() {
        let start = Instant::now();
        let later = start + INTERVAL;
        let mut generator = TransportFeedbackGenerator::new(start);
        generator.receive(start, 10);
        generator.receive(start, 12);
        assert_eq!(drain(&mut generator, later), [(10, 2, 1)]);
        generator.receive(later, 11);
        assert_eq!(drain(&mut generator, later + INTERVAL), [(11, 2, 0)]);
        generator.receive(later, 30_000);
        assert_eq!(drain(&mut generator, later + INTERVAL), [(30_000 - 511, 1, 511)]);
    }
}
