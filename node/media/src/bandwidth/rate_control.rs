//! The estimate by what the delay does: up in steps that grow with what is unknown, down to a share of what arrives
//! (draft-ietf-rmcat-gcc-02 section 5.5). Where the path's capacity was met before, it comes near to it carefully.

use super::delay::Usage;

/// The least estimate: of less no video can be made. mediasoup's.
const MIN: f64 = 30_000.0;

/// The highest: nobody is sent more. Ten videos of 10 Mbit/s each.
const MAX: f64 = 100_000_000.0;

/// What is kept of what arrives when more is sent than passes: the rest empties the queue.
const KEEP: f64 = 0.85;

/// Growth in a second while nothing is known of the capacity.
const GROWTH: f64 = 1.08;

/// Bytes that are added for each response of the path near the capacity: a packet.
const STEP_BITS: f64 = 1_200.0 * 8.0;
/// And in a second at least.
const MIN_STEP_BITS: f64 = 4_000.0;

/// The estimate does not grow beyond this much of what arrives, by itself: nothing proves it.
const UNPROVEN: f64 = 1.5;
const UNPROVEN_BITS: f64 = 10_000.0;

/// Whoever sends less than this share of the estimate is limited by what there is to send.
const APPLICATION_LIMITED: f64 = 0.65;

/// Where packets arrive at this share of the rate that they were sent with, a queue grows slowly, if at all.
const PASSES: f64 = 0.9;

/// Whoever sends so many times what it did before was raised, or sends a key frame: a queue that grows is likely its
/// own. Pictures that vary do not come near in 200 ms.
const RISES: f64 = 1.5;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measured {
    /// What the delay does.
    pub usage: Usage,
    /// Bits per second that arrive.
    pub acknowledged: f64,
    /// The same in the last moments.
    pub recent: Option<f64>,
    /// With which what arrives was sent.
    pub sent: f64,
    /// The same of what was sent in the last moments of that.
    pub sent_recently: f64,
    /// From sending to feedback.
    pub rtt_us: u64,
}

/// The estimate.
#[derive(Debug)]
pub(super) struct RateControl {
    bits_per_second: f64,
    changed_us: u64,
    lowered_us: Option<u64>,
    grows: bool,
    capacity: Capacity,
}

impl RateControl {
    /// Begins with an estimate.
    pub(super) fn new(now_us: u64, bits_per_second: f64) -> Self {
        let (capacity, bits_per_second) = (Capacity::default(), bits_per_second.clamp(MIN, MAX));
        Self { bits_per_second, changed_us: now_us, lowered_us: None, grows: false, capacity }
    }

    /// The estimate.
    pub(super) fn bits_per_second(&self) -> f64 {
        self.bits_per_second
    }

    /// When it was lowered last.
    pub(super) fn lowered_us(&self) -> Option<u64> {
        self.lowered_us
    }

    /// Follows what was measured.
    pub(super) fn update(&mut self, now_us: u64, measured: Measured) {
        match measured.usage {
            Usage::Over | Usage::FarOver => {
                if self.may_lower(now_us, &measured) {
                    self.lower_by_delay(now_us, &measured);
                }
                self.grows = false;
            }
            Usage::Under => self.grows = false,
            Usage::Normal if self.grows => self.grow(now_us, &measured),
            Usage::Normal => {
                self.grows = true;
                self.changed_us = now_us;
            }
        }
    }

    /// What was lowered shows after a round trip. Unless it is far from enough.
    fn may_lower(&self, now_us: u64, measured: &Measured) -> bool {
        let wait = measured.rtt_us.clamp(10_000, 200_000);
        self.lowered_us.is_none_or(|at| now_us.saturating_sub(at) >= wait)
            || measured.acknowledged < self.bits_per_second / 2.0
    }

    fn lower_by_delay(&mut self, now_us: u64, measured: &Measured) {
        let acknowledged = measured.acknowledged;
        if measured.sent < APPLICATION_LIMITED * self.bits_per_second {
            let is_far_over = measured.usage == Usage::FarOver || acknowledged < PASSES * measured.sent;
            let rises = measured.sent_recently > RISES * measured.sent;
            // If it is somebody else who sends more now, nobody gives up for that what passes.
            let to = match (is_far_over, rises) {
                (true, true) => KEEP * acknowledged,
                (true, false) => acknowledged,
                (false, _) => KEEP * self.bits_per_second,
            };
            return self.lower(now_us, to);
        }
        // Behind a queue packets come close together, so a short while tells: less of a path that has become narrower,
        // more of who was just raised.
        let arrives = measured.recent.map_or(acknowledged, |recent| recent.max(acknowledged / 2.0));
        self.capacity.meet(arrives);
        self.lower(now_us, KEEP * arrives);
    }

    /// Not more than this from now on.
    pub(super) fn lower(&mut self, now_us: u64, to: f64) {
        let to = to.max(MIN);
        if to < self.bits_per_second {
            self.bits_per_second = to;
            self.lowered_us = Some(now_us);
        }
        self.changed_us = now_us;
        self.grows = false;
    }

    /// So much has been shown to pass.
    pub(super) fn prove(&mut self, now_us: u64, bits_per_second: f64) {
        if bits_per_second > self.bits_per_second {
            self.bits_per_second = bits_per_second.min(MAX);
            self.changed_us = now_us;
            self.capacity.pass(bits_per_second);
        }
    }

    fn grow(&mut self, now_us: u64, measured: &Measured) {
        let seconds = (now_us.saturating_sub(self.changed_us) as f64 / 1e6).min(1.0);
        self.changed_us = now_us;
        self.capacity.pass(measured.acknowledged);
        let step = if self.capacity.is_known() {
            let response = 2.0 * (measured.rtt_us as f64 / 1e6 + 0.1);
            (STEP_BITS / response).max(MIN_STEP_BITS) * seconds
        } else {
            self.bits_per_second * (GROWTH.powf(seconds) - 1.0)
        };
        let unproven = UNPROVEN * measured.acknowledged + UNPROVEN_BITS;
        self.bits_per_second = (self.bits_per_second + step).min(unproven.max(self.bits_per_second)).min(MAX);
    }
}

/// What passed when a queue had grown, in kbit/s, and how much that varies.
#[derive(Debug, Default)]
struct Capacity {
    mean: Option<f64>,
    variance: f64,
}

impl Capacity {
    fn is_known(&self) -> bool {
        self.mean.is_some()
    }

    /// This passed while a queue grew.
    fn meet(&mut self, bits_per_second: f64) {
        const WEIGHT: f64 = 0.05;
        let sample = bits_per_second / 1_000.0;
        let known = self.mean.filter(|mean| sample >= mean - self.deviation(*mean));
        let Some(before) = known else {
            // Of a path that has become narrower nothing is known yet.
            return *self = Self { mean: Some(sample), variance: 0.4 };
        };
        let mean = (1.0 - WEIGHT) * before + WEIGHT * sample;
        let error = (before - sample).powi(2) / mean.max(1.0);
        *self = Self { mean: Some(mean), variance: ((1.0 - WEIGHT) * self.variance + WEIGHT * error).clamp(0.4, 2.5) };
    }

    /// This passed without a queue: if it is more than was met, that is past.
    fn pass(&mut self, bits_per_second: f64) {
        if self.mean.is_some_and(|mean| bits_per_second / 1_000.0 > mean + self.deviation(mean)) {
            self.mean = None;
        }
    }

    fn deviation(&self, mean: f64) -> f64 {
        3.0 * (self.variance * mean).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: u64 = 50_000;

    fn measured(usage: Usage, acknowledged: f64) -> Measured {
        Measured {
            usage,
            acknowledged,
            recent: Some(acknowledged),
            sent: acknowledged,
            sent_recently: acknowledged,
            rtt_us: RTT,
        }
    }

    fn run(control: &mut RateControl, from_ms: u64, ms: u64, usage: Usage, acknowledged: impl Fn(f64) -> f64) {
        for at in (from_ms..from_ms + ms).step_by(50) {
            let acknowledged = acknowledged(control.bits_per_second());
            control.update(at * 1_000, measured(usage, acknowledged));
        }
    }

    #[test]
    fn grows_with_what_is_sent_and_not_beyond_what_that_proves() {
        let mut control = RateControl::new(0, 1e6);
        run(&mut control, 0, 10_000, Usage::Normal, |estimate| estimate);
        let grown = control.bits_per_second();
        assert!((2.0e6..2.3e6).contains(&grown), "{grown}");
        run(&mut control, 10_000, 60_000, Usage::Normal, |_| 1e5);
        assert_eq!(control.bits_per_second(), grown, "little is sent: neither up nor down");
        run(&mut control, 70_000, 60_000, Usage::Normal, |_| 2e6);
        assert!((2.9e6..3.1e6).contains(&control.bits_per_second()), "{}", control.bits_per_second());
    }

    #[test]
    fn is_lowered_to_what_arrives_and_comes_near_to_it_slowly() {
        let mut control = RateControl::new(0, 2e6);
        control.update(1_000_000, Measured { recent: Some(1e6), sent: 2e6, ..measured(Usage::Over, 1.2e6) });
        assert_eq!(control.bits_per_second(), 0.85e6);
        control.update(1_020_000, measured(Usage::Over, 0.8e6));
        assert_eq!(control.bits_per_second(), 0.85e6, "the answer to that is not there yet");
        run(&mut control, 1_100, 2_000, Usage::Normal, |estimate| estimate);
        assert!((0.86e6..0.95e6).contains(&control.bits_per_second()), "{}", control.bits_per_second());
    }

    #[test]
    fn who_was_just_raised_is_lowered_to_what_arrives_now() {
        let mut control = RateControl::new(0, 2e6);
        control.update(1_000_000, Measured { recent: Some(1.8e6), sent: 1.4e6, ..measured(Usage::Over, 1.2e6) });
        assert_eq!(control.bits_per_second(), 0.85 * 1.8e6);
    }

    #[test]
    fn whoever_sends_little_that_passes_loses_little() {
        let mut control = RateControl::new(0, 2e6);
        control.update(1_000_000, measured(Usage::Over, 2e5));
        assert_eq!(control.bits_per_second(), 1.7e6);
        control.update(2_000_000, Measured { sent: 5e5, ..measured(Usage::Over, 3e5) });
        assert_eq!(control.bits_per_second(), 3e5);
    }

    #[test]
    fn whoever_sends_little_that_is_still_far_too_much_loses_all_above_what_arrives() {
        let mut control = RateControl::new(0, 4e6);
        control.update(1_000_000, measured(Usage::FarOver, 2e6));
        assert_eq!(control.bits_per_second(), 2e6);
        let mut control = RateControl::new(0, 4e6);
        control.update(1_000_000, Measured { sent_recently: 3.1e6, ..measured(Usage::FarOver, 2e6) });
        assert_eq!(control.bits_per_second(), 0.85 * 2e6, "by itself");
    }
}
