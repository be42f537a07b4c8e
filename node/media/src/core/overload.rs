//! What a worker leaves undone when it is offered more than it can do: a share of the video that it sends, so that
//! audio and the rest of the video stay in time. Pure: how late the worker is comes in, what is not to be sent comes
//! out.
//!
//! Sending is what costs, so video is shed by consumer, the same ones first each time, and by pipes last: one of those
//! feeds many. Overload is a queue that does not empty, as in CoDel (RFC 8289), and does not shrink either: a burst or
//! a stall is made up for and sheds nothing. Shedding grows while that is so. It ends step by step, and only as far as
//! the worker's idle time has room for what comes back.

use std::time::{Duration, Instant};

use slotmap::{Key as _, KeyData};

use crate::keys::{ConsumerKey, PipeConsumerKey};

/// Packets that wait longer stand in a queue.
const STANDING: Duration = Duration::from_millis(30);

/// A queue that stands for longer is overload: that of a burst is gone before the next picture of its publisher comes.
const PERSISTENT: Duration = Duration::from_millis(60);

/// Packets that wait longer have all video shed at once: what waits is worked off while more comes, and nothing shall
/// wait 150 ms.
const ALARM: Duration = Duration::from_millis(80);

/// The same for a worker without video. It can only turn away who comes next, which helps nobody at once and need not
/// be hurried.
const PERSISTENT_AUDIO: Duration = Duration::from_secs(1);

/// Between two looks: long enough to see whether the last step was enough.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Share of the video in a step.
const STEP: f32 = 0.125;

/// Between two steps back. Each has publishers asked for key frames.
const RELEASE_INTERVAL: Duration = Duration::from_secs(1);

/// From the last late packet to the first step back, doubled by each step back that proves to have come too early.
const MIN_HOLD: Duration = Duration::from_secs(2);
const MAX_HOLD: Duration = Duration::from_secs(16);

/// What audio and everything else that is not shed costs, as a share of the video. It is guessed: less than that and a
/// step back may come too early, more and it comes too late.
const UNSHED: f32 = 0.25;

/// Share of its time that a worker may be busy after a step back.
const MAX_BUSY: f32 = 0.9;

/// Share of the shedding in which consumers go; pipes go in the rest of it.
const CONSUMERS_SHARE: f32 = 0.75;

/// The highest lag is told of one to two of these.
const PEAK_INTERVAL: Duration = Duration::from_secs(1);

/// How late a worker is, and what it sheds.
#[derive(Debug)]
pub(crate) struct Overload {
    /// Share of the video, 0 to 1.
    shed: f32,
    /// Since when there was a queue at all times.
    standing_since: Option<Instant>,
    /// When was looked last, and how long packets waited then.
    looked: Option<(Instant, Duration)>,
    /// Next step back; `None` while nothing is shed.
    release_at: Option<Instant>,
    hold: Duration,
    /// There was a step back and no relapse since.
    on_probation: bool,
    /// Since when idle time is added up.
    since: Option<Instant>,
    idle: Duration,
    heard_at: Option<Instant>,
    peak: Peak,
}

impl Default for Overload {
    fn default() -> Self {
        Self {
            shed: 0.0,
            standing_since: None,
            looked: None,
            release_at: None,
            hold: MIN_HOLD,
            on_probation: false,
            since: None,
            idle: Duration::ZERO,
            heard_at: None,
            peak: Peak::default(),
        }
    }
}

impl Overload {
    /// What is taken up now has waited this long, and the worker had nothing to do for `idle` since it was asked last.
    /// `has_video` tells whether there is anything to shed. Returns whether other consumers are to be shed from now on.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        waited: Duration,
        idle: Duration,
        has_video: impl FnOnce() -> bool,
    ) -> bool {
        self.peak.add(now, waited);
        self.idle += idle;
        self.heard_at = Some(now);
        // One that was idle has emptied its queue: it is late because something else has its processor, and doing less
        // would make it no earlier.
        if waited <= STANDING || !idle.is_zero() {
            (self.standing_since, self.looked) = (None, None);
            return false;
        }
        let standing_since = *self.standing_since.get_or_insert(now);
        let (looked_at, before) = *self.looked.get_or_insert((now, waited));
        let elapsed = now.saturating_duration_since(looked_at);
        if elapsed < LOOK_INTERVAL {
            return false;
        }
        self.looked = Some((now, waited));
        let shrinks = waited + elapsed / 4 <= before;
        let stands_for = now.saturating_duration_since(standing_since);
        if shrinks || !(stands_for >= PERSISTENT || waited > ALARM) {
            return false;
        }
        if stands_for < PERSISTENT_AUDIO && !has_video() {
            return false;
        }
        self.release_at = self.release_at.map(|at| at.max(now + self.hold));
        if self.shed >= 1.0 {
            return false;
        }
        self.raise(now);
        self.shed = if waited > ALARM { 1.0 } else { (self.shed + STEP).min(1.0) };
        true
    }

    fn raise(&mut self, now: Instant) {
        if std::mem::take(&mut self.on_probation) {
            self.hold = (self.hold * 2).min(MAX_HOLD);
        }
        if self.release_at.is_none() {
            self.since = Some(now);
            self.idle = Duration::ZERO;
        }
        self.release_at = Some(now + self.hold);
    }

    /// Takes a step back if it is time and there is room, or all of them if there is nothing to shed. Returns whether
    /// other consumers are to be shed from now on.
    pub(crate) fn release(&mut self, now: Instant, has_video: impl FnOnce() -> bool) -> bool {
        if self.release_at.is_none_or(|at| now < at) {
            return false;
        }
        self.release_at = Some(now + RELEASE_INTERVAL);
        let elapsed = self.since.replace(now).map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        // When nothing comes, nothing is heard.
        let silence = self.heard_at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let idle = (std::mem::take(&mut self.idle) + silence).div_duration_f32(elapsed.max(LOOK_INTERVAL));
        let costs = 1.0 - self.shed + UNSHED;
        if (1.0 - idle) * (costs + STEP) / costs > MAX_BUSY {
            return false;
        }
        self.on_probation = true;
        self.shed = if has_video() { (self.shed - STEP).max(0.0) } else { 0.0 };
        if self.shed == 0.0 {
            self.release_at = None;
        }
        true
    }

    /// When [`release`](Self::release) is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.release_at
    }

    /// Whether anything is shed.
    pub(crate) fn is_shedding(&self) -> bool {
        self.shed > 0.0
    }

    /// Whether a consumer of video is shed.
    pub(crate) fn sheds(&self, consumer: ConsumerKey) -> bool {
        CONSUMERS_SHARE * rank(consumer.data()) < self.shed
    }

    /// Whether a pipe with video is shed.
    pub(crate) fn sheds_pipe(&self, pipe_consumer: PipeConsumerKey) -> bool {
        CONSUMERS_SHARE + (1.0 - CONSUMERS_SHARE) * rank(pipe_consumer.data()) < self.shed
    }

    /// The longest that a packet has waited in the last second or two.
    pub(crate) fn lag(&self, now: Instant) -> Duration {
        self.peak.get(now)
    }
}

/// Spreads keys over 0 to 1, neighbours far apart (Fibonacci hashing), so that any share of the keys is the same share
/// of their ranks.
fn rank(key: KeyData) -> f32 {
    let index = key.as_ffi() as u32;
    (index.wrapping_mul(0x9e37_79b9) >> 8) as f32 / (1 << 24) as f32
}

/// The highest of the last interval and of this one.
#[derive(Debug, Default)]
struct Peak {
    since: Option<Instant>,
    last: Duration,
    current: Duration,
}

impl Peak {
    fn add(&mut self, now: Instant, value: Duration) {
        let since = *self.since.get_or_insert(now);
        let age = now.saturating_duration_since(since);
        if age >= PEAK_INTERVAL {
            let current = std::mem::take(&mut self.current);
            self.last = if age < PEAK_INTERVAL * 2 { current } else { Duration::ZERO };
            self.since = Some(now);
        }
        self.current = self.current.max(value);
    }

    fn get(&self, now: Instant) -> Duration {
        let is_recent = self.since.is_some_and(|since| now.saturating_duration_since(since) < PEAK_INTERVAL * 2);
        if is_recent { self.last.max(self.current) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests;
