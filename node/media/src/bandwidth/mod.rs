//! How much passes to one client, and what becomes of that: what is sent to it is remembered by transport-wide sequence
//! number, what it says of that gives an estimate, and by that its videos get their shares and their pace. It is there
//! from the client's first feedback on: of who tells nothing, nothing is known. Nothing is limited before the path has
//! shown that it has a limit.
//!
//! # Layout
//! - [`Bandwidth`]: all of it, for one client. `sent_history` is what was sent.
//! - [`estimator`]: the estimate, behind the trait [`BandwidthEstimator`], by `delay`, `loss` and `rate_control`;
//!   `rate_window` measures for it.
//! - `remb`: what a client says that has no transport-wide feedback.
//! - `probe`: finds out whether more would pass. `pacer`: how fast video leaves.
//! - [`allocation`]: who of a client's videos gets how much.
//!
//! Times are microseconds since the core's epoch, rates bits per second of what passes on the path: see [`OVERHEAD`].

pub(crate) mod allocation;
mod delay;
pub(crate) mod estimator;
mod loss;
mod pacer;
mod probe;
mod rate_control;
mod rate_window;
mod remb;
mod sent_history;

use std::time::Duration;

use rand::{Rng, RngExt};

use self::allocation::Allocation;
use self::estimator::{BandwidthEstimator, TrendlineEstimator};
use self::pacer::Pacer;
use self::probe::{PULSE_US, Prober};
use self::remb::Remb;
use self::sent_history::SentHistory;
use crate::clock::Clock;
use crate::wire::rtcp::TransportFeedback;

/// Bytes of a packet on the path beside its RTP: SRTP's tag, and the headers of UDP and IPv4.
pub(crate) const OVERHEAD: usize = 16 + 8 + 20;

/// The shares are looked at anew so often while the estimate does not fall. It comes ten times a second, and there are
/// many clients.
const ALLOCATION_INTERVAL_US: u64 = 500_000;

/// And so often where it falls.
const MIN_ALLOCATION_INTERVAL_US: u64 = 50_000;

/// No video is raised for so long after one was lowered.
const HOLD_US: u64 = 1_500_000;

/// What had to be lowered so soon after something was raised should not have been: probes wait longer, up to twice as
/// long each time, but no longer than a user would.
const SHORT_LIVED_US: u64 = 10_000_000;
const MAX_BACKOFF_US: u64 = 12_000_000;
const MIN_BACKOFF_US: u64 = 3_000_000;

/// Feedback comes ten times a second or oftener: of what was sent so long ago, and was not spoken of since, nobody
/// knows whether it arrives.
const SILENCE_US: u64 = 1_000_000;

/// A change of less is not worth telling of, in percent.
const TOLD_PERCENT: u64 = 5;
/// And how often it is told at most.
const TELL_INTERVAL_US: u64 = 1_000_000;

/// What the control plane is told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Downlink {
    /// What all that is wanted would take.
    pub desired: u64,
    /// What is granted, and the next step if there is one.
    pub effective_desired: u64,
    /// The estimate.
    pub available: u64,
}

/// What is known of the way to a client.
#[derive(Debug)]
pub(crate) struct Bandwidth<E = TrendlineEstimator> {
    /// From the first transport-wide feedback on.
    sent: Option<SentHistory>,
    /// The last of it.
    heard_us: u64,
    estimator: E,
    /// By a client without transport-wide feedback.
    remb: Remb,
    rtt_us: u64,
    prober: Prober,
    pacer: Pacer,
    /// Video waits for its turn.
    is_holding: bool,
    /// Is in the list of those whose videos are to get their shares anew.
    is_listed: bool,
    allocation: Allocation,
    /// Of all that is no video.
    reserve: u64,
    /// The estimate by which the shares were made, and when that was.
    allocated: Option<(u64, u64)>,
    lowered_us: Option<u64>,
    raised_us: Option<u64>,
    backoff_us: u64,
    told: Option<(Downlink, u64)>,
}

impl<E: BandwidthEstimator> Bandwidth<E> {
    /// Of a client that gives its first feedback.
    pub(crate) fn new() -> Self {
        Self {
            sent: None,
            heard_us: 0,
            estimator: E::default(),
            remb: Remb::default(),
            rtt_us: 100_000,
            prober: Prober::default(),
            pacer: Pacer::default(),
            is_holding: false,
            is_listed: false,
            allocation: Allocation::default(),
            reserve: 0,
            allocated: None,
            lowered_us: None,
            raised_us: None,
            backoff_us: MIN_BACKOFF_US,
            told: None,
        }
    }

    /// A packet of `len` bytes of RTP was sent.
    #[inline]
    pub(crate) fn sent(&mut self, clock: &Clock, sequence: u16, len: usize) {
        let (now_us, len) = (clock.micros, (len + OVERHEAD) as u16);
        self.pacer.spend(len);
        let cluster = self.prober.count(now_us, len);
        if let Some(sent) = &mut self.sent {
            sent.insert(now_us, sequence, len, cluster);
        }
    }

    /// The client says what arrived. At most `left` packets are looked at, which it lessens.
    pub(crate) fn receive_feedback(&mut self, clock: &Clock, feedback: &TransportFeedback<'_>, left: &mut usize) {
        let now_us = clock.micros;
        self.heard_us = now_us;
        let sent = self.sent.get_or_insert_with(SentHistory::new);
        let mut newest_us = None;
        for status in feedback.statuses().take(*left) {
            *left -= 1;
            let Some(report) = sent.tell(status) else { continue };
            newest_us = newest_us.max(report.arrived_us.map(|_| report.sent_us));
            self.estimator.hear(&report);
            if report.cluster != 0 {
                self.prober.hear(&report);
            }
        }
        if sent.take_clock_change() {
            self.estimator.change_clock();
        }
        if let Some(newest_us) = newest_us {
            self.rtt_us = (3 * self.rtt_us + now_us.saturating_sub(newest_us)) / 4;
        }
        self.estimator.update(now_us, self.rtt_us);
        self.end_probe(now_us);
    }

    /// To be asked about once a second: lowers the estimate while the client does not tell any more what becomes of
    /// what it is sent, or tries more where what it says itself may be no limit. Returns whether that is so.
    pub(crate) fn look_for_feedback(&mut self, clock: &Clock) -> bool {
        if self.sent.is_none() {
            return self.allocation.next.is_some() && self.remb.try_more(clock.micros, self.allocation.granted);
        }
        let (heard_us, sent_us) = (self.heard_us, clock.micros.saturating_sub(SILENCE_US));
        let is_silent = self.sent.as_ref().is_some_and(|sent| sent.lacks_answer(heard_us, sent_us));
        if is_silent {
            self.estimator.miss_feedback(clock.micros);
        }
        is_silent
    }

    /// A client without transport-wide feedback says how much it thinks passes of the streams that it names.
    pub(crate) fn receive_remb(&mut self, clock: &Clock, bitrate: u64, named: impl Iterator<Item = u32>) {
        // Who tells of each packet is believed that instead.
        if self.sent.is_none() {
            self.remb.tell(clock.micros, bitrate, named);
        }
    }

    /// Bits per second that pass; `None` while nothing is known.
    pub(crate) fn estimate(&self) -> Option<u64> {
        if self.sent.is_some() { self.estimator.estimate() } else { self.remb.bits_per_second() }
    }

    /// Whether no more may be sent than is known to pass: the path, or the client, has said that there is a limit.
    fn is_limited(&self) -> bool {
        if self.sent.is_some() { self.estimator.limited_us().is_some() } else { self.remb.is_known() }
    }

    /// Nothing can be sent that would tell more of the limit but what it holds back.
    pub(crate) fn forget_limit(&mut self) {
        self.estimator.forget_limit();
        self.remb = Remb::default();
    }

    /// Whether less passes than what was sent a moment ago: nothing is to be sent that is not needed.
    pub(crate) fn is_scarce(&self, clock: &Clock) -> bool {
        clock.micros < self.held_until_us()
    }

    /// Whether video may leave now. If not, some waits from now on.
    #[inline]
    pub(crate) fn has_room(&mut self, clock: &Clock) -> bool {
        if !self.is_limited() {
            return true;
        }
        let (has_history, estimator, remb) = (self.sent.is_some(), &self.estimator, &self.remb);
        self.pacer.has_room(clock.micros, || if has_history { estimator.estimate() } else { remb.bits_per_second() })
    }

    /// Video waits for its turn, or none does any more.
    pub(crate) fn set_holding(&mut self, is_holding: bool) {
        self.is_holding = is_holding;
    }

    /// Whether video waits for its turn.
    pub(crate) fn is_holding(&self) -> bool {
        self.is_holding
    }

    /// Its videos are to get their shares anew. Returns whether that is news.
    pub(crate) fn list(&mut self) -> bool {
        !std::mem::replace(&mut self.is_listed, true)
    }

    /// Whether the estimate is such that the shares are to be looked at.
    pub(crate) fn is_allocation_due(&self, clock: &Clock) -> bool {
        let Some(estimate) = self.estimate() else { return false };
        let Some((by, at_us)) = self.allocated else { return true };
        let interval = if estimate < by { MIN_ALLOCATION_INTERVAL_US } else { ALLOCATION_INTERVAL_US };
        clock.micros.saturating_sub(at_us) >= interval
    }

    /// No video is raised before that, since one was lowered.
    fn held_until_us(&self) -> u64 {
        self.lowered_us.map_or(0, |at| at + HOLD_US)
    }

    /// What all would take with the next video that would be raised, and what passes.
    fn next_step(&self) -> Option<(u64, u64)> {
        Some((self.allocation.next? + self.reserve, self.estimate()?))
    }

    /// When a video may be raised that had to wait although there is room: nothing else may come that tells of it.
    fn raise_at_us(&self) -> Option<u64> {
        let (_, allocated_us) = self.allocated?;
        let (wanted, estimate) = self.next_step()?;
        (estimate >= wanted).then(|| self.held_until_us().max(allocated_us + ALLOCATION_INTERVAL_US))
    }

    /// Whether it is time for that.
    pub(crate) fn is_raise_due(&self, clock: &Clock) -> bool {
        self.raise_at_us().is_some_and(|at| at <= clock.micros)
    }

    /// Bits per second for videos, if there is a limit, beside `reserve` for everything else; and whether some of them
    /// may be raised. `None` while nothing is known.
    pub(crate) fn begin_allocation(&mut self, clock: &Clock, reserve: u64) -> Option<(Option<u64>, bool)> {
        self.is_listed = false;
        let (estimate, now_us) = (self.estimate()?, clock.micros);
        self.allocated = Some((estimate, now_us));
        self.reserve = reserve;
        if !self.is_limited() {
            return Some((None, true));
        }
        Some((Some(estimate.saturating_sub(reserve)), now_us >= self.held_until_us()))
    }

    /// Videos got their shares: some were lowered, or raised. `rng` decides how long it takes until what was raised in
    /// vain is tried again.
    pub(crate) fn end_allocation(
        &mut self,
        clock: &Clock,
        allocation: Allocation,
        (lowered, raised): (bool, bool),
        rng: &mut impl Rng,
    ) {
        let now_us = clock.micros;
        self.allocation = allocation;
        if allocation.next.is_none() {
            self.estimator.satisfy(now_us);
        }
        let is_within = |at: Option<u64>| at.is_some_and(|at| now_us.saturating_sub(at) < SHORT_LIVED_US);
        if lowered {
            if is_within(self.raised_us.take()) {
                // Who sees nothing at all does not wait for long.
                let wait_us = if allocation.granted == 0 { MIN_BACKOFF_US } else { self.backoff_us };
                // Those that share a path fall together, and would rise together again and again.
                self.prober.wait(now_us, rng.random_range(wait_us / 2..=wait_us));
                self.backoff_us = (2 * self.backoff_us).min(MAX_BACKOFF_US);
            }
            self.lowered_us = Some(now_us);
        } else if raised {
            self.raised_us = Some(now_us);
        } else if self.raised_us.is_some() && !is_within(self.raised_us) {
            self.raised_us = None;
            self.backoff_us = MIN_BACKOFF_US;
        }
    }

    /// What is to be probed for, since it is not known to pass, and what is.
    fn lacking_step(&self) -> Option<(u64, u64)> {
        self.next_step().filter(|(wanted, estimate)| estimate < wanted)
    }

    fn probe_at_us(&self) -> Option<u64> {
        self.lacking_step()?;
        Some(self.prober.next_us()?.max(self.estimator.can_be_probed_at()))
    }

    /// Bytes that are to be sent now beside the media, to see whether more would pass.
    pub(crate) fn take_probe(&mut self, clock: &Clock) -> u64 {
        let now_us = clock.micros;
        if self.probe_at_us().is_some_and(|at| at <= now_us)
            && let Some((wanted, estimate)) = self.lacking_step()
        {
            // So much more that whatever counts as passing is enough: beside what fills a queue it gets less than it
            // sends.
            self.prober.begin(now_us, estimate, wanted + wanted / 8);
        }
        self.end_probe(now_us);
        self.prober.take_pulse(now_us)
    }

    fn end_probe(&mut self, now_us: u64) {
        if let Some(found) = self.prober.take_result(now_us) {
            self.estimator.prove(now_us, found);
        }
    }

    /// When something is to be done next: video that waits, a probe.
    pub(crate) fn poll_timeout(&self, clock: &Clock) -> Option<Duration> {
        let now_us = clock.micros;
        let held = self.is_holding.then_some(now_us + PULSE_US);
        let next = [held, self.prober.poll_timeout(), self.probe_at_us(), self.raise_at_us()];
        next.into_iter().flatten().min().map(Duration::from_micros)
    }

    /// How much passes, and what is done with that; `None` while nothing is known.
    pub(crate) fn downlink(&self) -> Option<Downlink> {
        let Allocation { granted, desired, next } = self.allocation;
        Some(Downlink {
            desired: desired + self.reserve,
            effective_desired: next.map_or(desired, |next| next.max(granted)) + self.reserve,
            available: self.estimate()?,
        })
    }

    /// Whether the client tells of each packet, and not only how much it thinks passes.
    pub(crate) fn is_transport_wide(&self) -> bool {
        self.sent.is_some()
    }

    /// What the control plane is to be told, if it is time and that is news.
    pub(crate) fn take_downlink(&mut self, clock: &Clock) -> Option<Downlink> {
        let (now_us, downlink) = (clock.micros, self.downlink()?);
        if let Some((told, at_us)) = self.told {
            let is_near = |a: u64, b: u64| a.abs_diff(b) * 100 <= b * TOLD_PERCENT;
            let is_same = is_near(downlink.desired, told.desired)
                && is_near(downlink.effective_desired, told.effective_desired)
                && is_near(downlink.available, told.available);
            if is_same || now_us.saturating_sub(at_us) < TELL_INTERVAL_US {
                return None;
            }
        }
        self.told = Some((downlink, now_us));
        Some(downlink)
    }
}
