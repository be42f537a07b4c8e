//! Our last flight, and when it is to be repeated.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::BytesMut;

/// The first retransmission of a flight; browsers begin with 50 ms.
pub(super) const FLIGHT_INTERVAL: Duration = Duration::from_millis(100);

/// Repetitions come twice as late each time, up to this.
const MAX_FLIGHT_INTERVAL: Duration = Duration::from_secs(3);

/// Repetitions of a flight, the last 9 s after the first sending. It is rtc-dtls's own bound.
const MAX_REPEATS: u32 = 7;

/// Nothing is sent again before, whoever asks: browsers repeat theirs after 50 ms.
pub(super) const MIN_GAP: Duration = Duration::from_millis(50);

/// Repetitions that the client asks for by repeating its own flight: as many as it does in a handshake that takes long,
/// twice over.
const MAX_ANSWERS: u32 = 24;

/// The datagrams of a flight.
///
/// rtc-dtls repeats flights too, but it gives up after seven times at one interval, before a slow client has answered;
/// and it forgets its timer when part of the next flight has come. So it is asked later each time, and what it sent is
/// sent again when it no longer would.
#[derive(Debug, Default)]
pub(super) struct Flight {
    datagrams: Vec<BytesMut>,
    sent_at: Option<Instant>,
    repeat_at: Option<Instant>,
    interval: Duration,
    repeats: u32,
    answers: u32,
}

impl Flight {
    /// A flight that was just sent.
    pub(super) fn new(now: Instant, datagrams: Vec<BytesMut>) -> Self {
        let (sent_at, repeat_at) = (Some(now), Some(now + FLIGHT_INTERVAL));
        Self { datagrams, sent_at, repeat_at, interval: FLIGHT_INTERVAL, ..Self::default() }
    }

    /// When it is to be repeated.
    pub(super) fn repeat_at(&self) -> Option<Instant> {
        self.repeat_at
    }

    /// Whether it was repeated often enough and is due again.
    pub(super) fn is_exhausted(&self, now: Instant) -> bool {
        self.repeats >= MAX_REPEATS && self.repeat_at.is_some_and(|at| at <= now)
    }

    /// Sends it again because it is due: as `fresh` if the endpoint has numbered its records anew. Otherwise it looks
    /// like datagrams that the network doubled: a client that missed the first takes either.
    pub(super) fn repeat(&mut self, now: Instant, fresh: Vec<BytesMut>, out: &mut VecDeque<BytesMut>) {
        out.extend(if fresh.is_empty() { self.datagrams.clone() } else { fresh });
        self.sent_at = Some(now);
        self.repeats += 1;
        self.interval = (self.interval * 2).min(MAX_FLIGHT_INTERVAL);
        self.repeat_at = Some(now + self.interval);
    }

    /// Sends it again because the client repeats its own flight, and may have missed the answer.
    pub(super) fn answer(&mut self, now: Instant, out: &mut VecDeque<BytesMut>) {
        if self.sent_at.is_none_or(|at| at + MIN_GAP <= now) && self.answers < MAX_ANSWERS {
            self.answers += 1;
            self.sent_at = Some(now);
            out.extend(self.datagrams.iter().cloned());
        }
    }

    /// The datagrams.
    pub(super) fn into_datagrams(self) -> Vec<BytesMut> {
        self.datagrams
    }
}
