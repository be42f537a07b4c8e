//! How much passes to a client, found out from what it says of each packet: by the delay, by loss, and by what has been
//! shown to pass.

use super::delay::DelayDetector;
use super::loss::LossMeter;
use super::rate_control::{Measured, RateControl};
use super::rate_window::{LONG, RateWindow, SHORT};
use super::sent_history::PacketReport;

/// For so long after the first feedback nothing is estimated unless a queue grows or much is lost: what is sent shows
/// best what passes.
const BEGINNING_US: u64 = 1_000_000;

/// Unless this share is lost, too: the bottleneck may have been full before anything was heard.
const MAX_LOSS_AT_FIRST: f64 = 0.05;

/// The estimate then at least: a picture of a camera, which most paths carry. Probes tell the rest within a second.
const INITIAL: f64 = 1_000_000.0;

/// Losses show after a round trip, so the estimate is lowered for them no oftener than this.
const LOSS_INTERVAL_US: u64 = 300_000;

/// What is kept of the estimate for each time that feedback is missed.
const KEEP_UNHEARD: f64 = 0.5;

/// More would only fill the queue, for so long after the estimate was lowered.
const RECOVERY_US: u64 = 1_000_000;

/// And for so long as packets wait longer than that, in milliseconds, but no longer than this after it was lowered or
/// they began to wait: who shares a path with TCP finds a queue there always.
const MAX_PROBED_QUEUE_MS: f64 = 50.0;
const MAX_RECOVERY_US: u64 = 3_000_000;

/// A path on which all that is wanted has passed for so long has no limit that is known.
const FORGET_US: u64 = 10_000_000;

/// Estimates how much passes.
pub(crate) trait BandwidthEstimator: Default {
    /// What the client says of a packet. They come in the order in which they were sent, but for those that come late.
    fn hear(&mut self, report: &PacketReport);

    /// The client's clock is another one from now on.
    fn change_clock(&mut self);

    /// A message of the client was heard whole. `rtt_us` is from sending to feedback.
    fn update(&mut self, now_us: u64, rtt_us: u64);

    /// Nothing was heard for long of what was sent: less of it, if any, passes.
    fn miss_feedback(&mut self, now_us: u64);

    /// A probe has shown that so many bits per second pass.
    fn prove(&mut self, now_us: u64, bits_per_second: u64);

    /// Bits per second; `None` while nothing is known.
    fn estimate(&self) -> Option<u64>;

    /// When the path has shown last that no more passes: only then the estimate is a limit.
    fn limited_us(&self) -> Option<u64>;

    /// The path has no limit that is known.
    fn forget_limit(&mut self);

    /// All that is wanted is sent. If that has gone well for long, the path has no limit that is known.
    fn satisfy(&mut self, now_us: u64);

    /// From when on a probe does no harm.
    fn can_be_probed_at(&self) -> u64;
}

/// By the trend of the delay, and by loss.
#[derive(Debug, Default)]
pub(crate) struct TrendlineEstimator {
    delay: DelayDetector,
    loss: LossMeter,
    arrived: RateWindow,
    /// The same packets by when they were sent.
    sent: RateWindow,
    begun_us: Option<u64>,
    lowered_for_loss_us: Option<u64>,
    control: Option<RateControl>,
    /// Since when packets wait too long for a probe.
    waits_us: Option<u64>,
    /// When the path showed last that no more passes.
    limited_us: Option<u64>,
}

impl TrendlineEstimator {
    fn begin(&mut self, now_us: u64, acknowledged: f64) {
        let begun = *self.begun_us.get_or_insert(now_us);
        let is_over = self.delay.usage().is_over() || self.loss.share() > MAX_LOSS_AT_FIRST;
        if is_over || now_us.saturating_sub(begun) >= BEGINNING_US {
            // What the rate control would have grown to by what arrives. If a queue grows it lowers that at once.
            let estimate = if is_over { acknowledged } else { (1.5 * acknowledged).max(INITIAL) };
            self.control = Some(RateControl::new(now_us, estimate));
        }
    }

    fn follow_loss(&mut self, now_us: u64, acknowledged: f64) {
        let Some(share) = self.loss.congestion(now_us, self.delay.queue_ms()) else { return };
        if self.lowered_for_loss_us.is_some_and(|at| now_us.saturating_sub(at) < LOSS_INTERVAL_US) {
            return;
        }
        self.lowered_for_loss_us = Some(now_us);
        self.limited_us = Some(now_us);
        let sent = acknowledged / (1.0 - share).max(0.1);
        let control = self.control.get_or_insert_with(|| RateControl::new(now_us, sent));
        // It is what was sent that was too much.
        let to = control.bits_per_second().min(sent) * (1.0 - share / 2.0);
        control.lower(now_us, to);
    }
}

impl BandwidthEstimator for TrendlineEstimator {
    #[inline]
    fn hear(&mut self, report: &PacketReport) {
        let Some(arrived_us) = report.arrived_us else { return self.loss.missing() };
        self.loss.arrived(report.was_missing);
        self.arrived.add(arrived_us, report.len);
        self.sent.add(report.sent_us.cast_signed(), report.len);
        // A probe makes a queue of its own, which is no news.
        if report.cluster == 0 {
            self.delay.add(report.sent_us, arrived_us);
        }
    }

    fn change_clock(&mut self) {
        self.delay = DelayDetector::default();
        self.arrived.clear();
        self.sent.clear();
    }

    fn update(&mut self, now_us: u64, rtt_us: u64) {
        let Some(acknowledged) = self.arrived.bits_per_second(LONG) else { return };
        if self.control.is_none() {
            self.begin(now_us, acknowledged);
        }
        self.follow_loss(now_us, acknowledged);
        let waits = self.delay.queue_ms() > MAX_PROBED_QUEUE_MS;
        self.waits_us = waits.then(|| self.waits_us.unwrap_or(now_us));
        let (usage, recent) = (self.delay.usage(), self.arrived.bits_per_second(SHORT));
        let sent = self.sent.bits_per_second(LONG).unwrap_or(acknowledged);
        let sent_recently = self.sent.bits_per_second(SHORT).unwrap_or(sent);
        if usage.is_over() {
            self.limited_us = Some(now_us);
        }
        let is_limit = self.limited_us.is_some();
        if let Some(control) = &mut self.control {
            if !is_limit {
                control.prove(now_us, acknowledged);
            }
            control.update(now_us, Measured { usage, acknowledged, recent, sent, sent_recently, rtt_us });
        }
    }

    fn miss_feedback(&mut self, now_us: u64) {
        self.limited_us = Some(now_us);
        let control = self.control.get_or_insert_with(|| RateControl::new(now_us, INITIAL));
        control.lower(now_us, KEEP_UNHEARD * control.bits_per_second());
    }

    fn prove(&mut self, now_us: u64, bits_per_second: u64) {
        if let Some(control) = &mut self.control {
            control.prove(now_us, bits_per_second as f64);
        }
    }

    fn estimate(&self) -> Option<u64> {
        self.control.as_ref().map(|control| control.bits_per_second() as u64)
    }

    fn limited_us(&self) -> Option<u64> {
        self.limited_us
    }

    fn forget_limit(&mut self) {
        self.limited_us = None;
    }

    fn satisfy(&mut self, now_us: u64) {
        self.limited_us = self.limited_us.filter(|at| now_us.saturating_sub(*at) < FORGET_US);
    }

    fn can_be_probed_at(&self) -> u64 {
        let lowered_us = self.control.as_ref().and_then(RateControl::lowered_us);
        let recovery_us = if self.waits_us.is_some() { MAX_RECOVERY_US } else { RECOVERY_US };
        lowered_us.max(self.waits_us).map_or(0, |at| at + recovery_us)
    }
}
