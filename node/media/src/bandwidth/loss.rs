//! How much gets lost. Loss alone says little: wireless paths lose a tenth of all packets with room to spare. It is
//! congestion where a queue stands beside it, or where it is more than any path loses by itself.

/// A reading is of so many packets and so long at least: of 10% lost, one in three readings is 3% off.
const MIN_PACKETS: u32 = 100;
const MIN_US: u64 = 300_000;

/// Or of this long, with whatever came.
const MAX_US: u64 = 2_000_000;

/// How much of the smoothed share is of the readings before.
const SMOOTHING: f64 = 0.6;

/// Loss that is congestion by itself: 10% at random do not come near.
const MAX_RANDOM: f64 = 0.17;
/// Loss that is congestion where packets wait longer than that. Who shares a full queue with TCP loses a little now and
/// then, which is TCP's signal and not ours.
const WITH_QUEUE: f64 = 0.05;
const QUEUE_MS: f64 = 50.0;

/// Counts what is missing.
#[derive(Debug, Default)]
pub(super) struct LossMeter {
    begun_us: Option<u64>,
    arrived: u32,
    missing: u32,
    smoothed: Option<f64>,
}

impl LossMeter {
    /// A packet arrived.
    pub(super) fn arrived(&mut self, was_missing: bool) {
        self.arrived += 1;
        if was_missing {
            self.missing = self.missing.saturating_sub(1);
        }
    }

    /// A packet is missing.
    pub(super) fn missing(&mut self) {
        self.missing += 1;
    }

    /// The share of the reading that goes on, if it tells anything yet.
    pub(super) fn share(&self) -> f64 {
        let told = self.arrived + self.missing;
        if told < MIN_PACKETS / 2 { 0.0 } else { f64::from(self.missing) / f64::from(told) }
    }

    /// The share that is lost to congestion, if a reading is complete and finds it so.
    pub(super) fn congestion(&mut self, now_us: u64, queue_ms: f64) -> Option<f64> {
        let begun = *self.begun_us.get_or_insert(now_us);
        let (told, lasted) = (self.arrived + self.missing, now_us.saturating_sub(begun));
        if told == 0 || ((told < MIN_PACKETS || lasted < MIN_US) && lasted < MAX_US) {
            return None;
        }
        let share = f64::from(self.missing) / f64::from(told);
        *self = Self { begun_us: Some(now_us), smoothed: self.smoothed, ..Self::default() };
        let smoothed = self.smoothed.map_or(share, |before| SMOOTHING * before + (1.0 - SMOOTHING) * share);
        self.smoothed = Some(smoothed);
        let most = if queue_ms > QUEUE_MS { WITH_QUEUE } else { MAX_RANDOM };
        // What was lost in an outage before is past.
        (smoothed.min(share) > most).then_some(smoothed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The share of readings that find congestion, of ten seconds with this loss.
    fn found(loss: f64, queue_ms: f64) -> usize {
        let (mut meter, mut owed, mut found) = (LossMeter::default(), 0.0, 0);
        for tick in 0..100_u64 {
            for _ in 0..20 {
                owed += loss;
                if owed >= 1.0 {
                    owed -= 1.0;
                    meter.missing();
                } else {
                    meter.arrived(false);
                }
            }
            found += usize::from(meter.congestion(tick * 100_000, queue_ms).is_some());
        }
        found
    }

    #[test]
    fn a_tenth_is_no_congestion_unless_packets_wait() {
        assert_eq!((found(0.1, 0.0), found(0.0, 200.0)), (0, 0));
        assert!(found(0.1, 80.0) > 10 && found(0.25, 0.0) > 10);
    }

    #[test]
    fn an_outage_is_over_when_it_is_over() {
        let mut meter = LossMeter::default();
        let mut reading = |second: u64, is_lost: bool| {
            (0..100).for_each(|_| if is_lost { meter.missing() } else { meter.arrived(false) });
            meter.congestion(second * 1_000_000, 0.0).is_some()
        };
        assert_eq!(
            [(0, true), (1, true), (2, false), (3, false)].map(|(at, lost)| reading(at, lost)),
            [false, true, false, false]
        );
    }

    #[test]
    fn what_comes_late_was_not_lost() {
        let mut meter = LossMeter::default();
        meter.congestion(0, 0.0);
        (0..100).for_each(|_| meter.missing());
        (0..100).for_each(|_| meter.arrived(true));
        meter.arrived(true);
        assert_eq!(meter.congestion(1_000_000, 0.0), None);
    }
}
