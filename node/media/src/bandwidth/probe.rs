//! Finding out whether more passes than is sent: for some milliseconds packets leave at a higher rate, as
//! retransmissions and padding beside the media, and the rate at which they arrive is the answer.

use super::sent_history::PacketReport;

/// Between two pulses of a probe.
pub(super) const PULSE_US: u64 = 5_000;

/// A probe lasts so long at least: as long as from picture to picture, so that it meets what others send as well.
const MIN_US: u64 = 30_000;
/// And at most.
const MAX_US: u64 = 100_000;

/// Bytes of a probe: as many as the estimate carries in so long. Even if no more than that passes, no packet waits
/// longer for it than what that is above the time that it takes.
const BYTES_US: u64 = 90_000;

/// The rate of a probe is at most so many times the estimate: then it takes the least time.
const MAX_FACTOR: u64 = BYTES_US / MIN_US;

/// Time to the next probe after one that found what it looked for, and after one that did not.
const AGAIN_US: u64 = 500_000;
const AGAIN_IN_VAIN_US: u64 = 3_000_000;

/// How long the answer to a probe may take.
const ANSWER_US: u64 = 1_000_000;

/// Of a probe so much must be told of.
const MIN_ANSWERED: f64 = 0.8;

/// Packets that arrive at this share of the rate that they were sent at have met no bottleneck.
const PASSES: f64 = 0.9;
/// Of a bottleneck that was met, this much is used.
const USED: f64 = 0.95;

/// Probes, one at a time.
#[derive(Debug, Default)]
pub(super) struct Prober {
    cluster: Option<Cluster>,
    last_id: u8,
    next_us: u64,
}

#[derive(Debug)]
struct Cluster {
    id: u8,
    bits_per_second: u64,
    begun_us: u64,
    ends_us: u64,
    pulse_us: u64,
    /// Sent within it, media too.
    sent: u64,
    arrived: u64,
    /// First and last as sent, with the bytes of the last pulse.
    sent_span: Option<(u64, u64, u64)>,
    /// First and last as arrived, with the bytes of the first packet.
    arrived_span: Option<(i64, i64, u64)>,
}

impl Prober {
    /// When a probe can begin, if none is under way.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.cluster.is_none().then_some(self.next_us)
    }

    /// Begins a probe for so many bits per second, or as many as can be probed for with the estimate that there is.
    pub(super) fn begin(&mut self, now_us: u64, estimate: u64, wanted: u64) {
        let bits_per_second = wanted.min(estimate * MAX_FACTOR).max(1);
        let lasts = (estimate * BYTES_US / bits_per_second).clamp(MIN_US, MAX_US);
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        self.cluster = Some(Cluster {
            id: self.last_id,
            bits_per_second,
            begun_us: now_us,
            ends_us: now_us + lasts,
            pulse_us: now_us,
            sent: 0,
            arrived: 0,
            sent_span: None,
            arrived_span: None,
        });
    }

    /// A packet is sent; of which probe it is, 0 for none.
    #[inline]
    pub(super) fn count(&mut self, now_us: u64, len: u16) -> u8 {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| now_us < cluster.ends_us) else { return 0 };
        cluster.sent += u64::from(len);
        cluster.id
    }

    /// Bytes that are to be sent now beside the media; 0 if it is not the time.
    pub(super) fn take_pulse(&mut self, now_us: u64) -> u64 {
        let Some(cluster) = &mut self.cluster else { return 0 };
        if now_us >= cluster.ends_us {
            // Who is called late has missed the last pulses, and waits for none of them any more.
            cluster.pulse_us = cluster.ends_us;
            return 0;
        }
        if now_us < cluster.pulse_us {
            return 0;
        }
        cluster.pulse_us = now_us + PULSE_US;
        let due_us = (cluster.pulse_us - cluster.begun_us).min(cluster.ends_us - cluster.begun_us);
        (cluster.bits_per_second * due_us / 8_000_000).saturating_sub(cluster.sent)
    }

    /// When something is to be done next of a probe that is under way.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let cluster = self.cluster.as_ref()?;
        Some(if cluster.pulse_us < cluster.ends_us { cluster.pulse_us } else { cluster.ends_us + ANSWER_US })
    }

    /// What the client says of a packet.
    pub(super) fn hear(&mut self, report: &PacketReport) {
        let Some(cluster) = self.cluster.as_mut().filter(|cluster| cluster.id == report.cluster) else { return };
        let Some(arrived_us) = report.arrived_us else { return };
        let len = u64::from(report.len);
        cluster.arrived += len;
        let (first, last, last_bytes) = cluster.sent_span.unwrap_or((report.sent_us, report.sent_us, 0));
        let is_same_pulse = report.sent_us == last;
        cluster.sent_span = Some((first, report.sent_us.max(last), if is_same_pulse { last_bytes + len } else { len }));
        let (first, last, first_bytes) = cluster.arrived_span.unwrap_or((arrived_us, arrived_us, len));
        cluster.arrived_span = Some((first.min(arrived_us), last.max(arrived_us), first_bytes));
    }

    /// What a probe has shown to pass, once it is over and answered.
    pub(super) fn take_result(&mut self, now_us: u64) -> Option<u64> {
        let cluster = self.cluster.as_ref().filter(|cluster| now_us >= cluster.ends_us)?;
        let is_answered = cluster.arrived as f64 >= MIN_ANSWERED * cluster.sent as f64;
        if !is_answered && now_us < cluster.ends_us + ANSWER_US {
            return None;
        }
        let (result, wanted) = (cluster.result().filter(|_| is_answered), cluster.bits_per_second);
        let is_found = result.is_some_and(|found| found as f64 >= PASSES * wanted as f64);
        self.cluster = None;
        self.next_us = now_us + if is_found { AGAIN_US } else { AGAIN_IN_VAIN_US };
        result
    }

    /// No probe for so long.
    pub(super) fn wait(&mut self, now_us: u64, us: u64) {
        self.next_us = self.next_us.max(now_us + us);
    }
}

impl Cluster {
    /// The last pulse ends the time of sending, the first packet begins that of arrival: neither counts.
    fn result(&self) -> Option<u64> {
        let ((sent_first, sent_last, last_bytes), (first, last, first_bytes)) =
            self.sent_span.zip(self.arrived_span)?;
        let rate = |bytes: u64, us: u64| (us > 0).then(|| bytes.saturating_mul(8_000_000) / us);
        let sent = rate(self.arrived - last_bytes, sent_last - sent_first)?;
        let arrived = rate(self.arrived - first_bytes, last.abs_diff(first))?;
        let passes = arrived as f64 >= PASSES * sent as f64;
        Some(if passes { sent.min(arrived) } else { (USED * arrived as f64) as u64 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probes a bottleneck, with an estimate of 600 kbit/s.
    fn probe(capacity: u64, wanted: u64) -> Option<u64> {
        let (mut prober, mut reports, mut busy_until) = (Prober::default(), Vec::new(), 0);
        prober.begin(0, 600_000, wanted);
        for now_us in (0..MAX_US).step_by(5_000) {
            let mut left = prober.take_pulse(now_us);
            while left > 0 {
                let len = left.min(330) as u16;
                left -= u64::from(len);
                let cluster = prober.count(now_us, len);
                busy_until = now_us.max(busy_until) + u64::from(len) * 8_000_000 / capacity;
                let arrived_us = Some(busy_until as i64);
                reports.push(PacketReport { sent_us: now_us, arrived_us, was_missing: false, len, cluster });
            }
        }
        let bytes: u64 = reports.iter().map(|report| u64::from(report.len)).sum();
        assert!(bytes <= 600_000 * BYTES_US / 8_000_000, "{bytes}");
        assert_eq!(prober.take_result(MAX_US), None);
        reports.iter().for_each(|report| prober.hear(report));
        prober.take_result(MAX_US)
    }

    #[test]
    fn finds_what_passes_up_to_what_is_wanted() {
        let wide = probe(50_000_000, 1_200_000).unwrap();
        assert!((1_100_000..=1_300_000).contains(&wide), "{wide}");
        let wider = probe(50_000_000, 20_000_000).unwrap();
        assert!((1_650_000..=1_950_000).contains(&wider), "{wider}");
        let narrow = probe(800_000, 2_400_000).unwrap();
        assert!((700_000..=800_000).contains(&narrow), "{narrow}");
    }

    #[test]
    fn who_is_called_late_waits_for_the_answer_and_not_for_pulses() {
        let mut prober = Prober::default();
        prober.begin(0, 1_000_000, 2_000_000);
        assert!(prober.take_pulse(0) > 0);
        prober.count(0, 1_000);
        let end = prober.cluster.as_ref().unwrap().ends_us;
        assert_eq!((prober.take_pulse(end + 1), prober.poll_timeout()), (0, Some(end + ANSWER_US)));
    }

    #[test]
    fn a_probe_without_an_answer_is_over_after_a_second() {
        let mut prober = Prober::default();
        prober.begin(0, 1_000_000, 2_000_000);
        prober.count(0, 1_000);
        assert_eq!(prober.next_us(), None);
        let end = prober.cluster.as_ref().unwrap().ends_us + ANSWER_US;
        assert_eq!((prober.take_result(end - 1), prober.next_us()), (None, None));
        assert_eq!((prober.take_result(end), prober.next_us()), (None, Some(end + AGAIN_IN_VAIN_US)));
    }
}
