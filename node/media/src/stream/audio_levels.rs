//! Who is audible, as mediasoup's AudioLevelObserver tells it: the mean of each producer's levels over an interval.

use std::time::Duration;

use crate::wire::rtp::AudioLevel;

/// Time between two reports.
pub(crate) const INTERVAL: Duration = Duration::from_millis(800);

/// What is quieter is not heard.
pub(crate) const THRESHOLD_DBOV: i8 = -80;

/// Fewer packets than this in an interval tell nothing.
const MIN_PACKETS: u32 = 10;

/// The levels of one producer since the last report.
#[derive(Debug, Default)]
pub(crate) struct AudioLevelMeter {
    sum: u32,
    count: u32,
}

impl AudioLevelMeter {
    /// A packet said how loud it is.
    pub(crate) fn add(&mut self, level: AudioLevel) {
        self.sum += u32::from(level.level);
        self.count += 1;
    }

    /// Whether there is anything to report on.
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The mean in dBov if it is audible. Begins the next interval.
    pub(crate) fn take(&mut self) -> Option<i8> {
        let Self { sum, count } = std::mem::take(self);
        let mean = (count >= MIN_PACKETS).then(|| -((sum / count) as i8))?;
        (mean >= THRESHOLD_DBOV).then_some(mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(packets: u32, level: u8) -> Option<i8> {
        let mut meter = AudioLevelMeter::default();
        (0..packets).for_each(|_| meter.add(AudioLevel { voice: true, level }));
        let mean = meter.take();
        assert!(meter.is_empty());
        mean
    }

    #[test]
    fn only_what_is_loud_and_long_enough_counts() {
        assert_eq!(mean(10, 30), Some(-30));
        assert_eq!(mean(40, 80), Some(-80));
        assert_eq!(mean(40, 81), None);
        assert_eq!(mean(9, 30), None);
        assert_eq!(mean(0, 0), None);
    }
}
