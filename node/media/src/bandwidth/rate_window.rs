//! The bit rate of the last moments, by times that feedback brings: in steps, since packets of many moments are told of
//! at once.

const STEP_US: i64 = 20_000;
const STEPS: usize = 32;

/// Steps of the usual reading: half a second, so that a picture more or less makes no difference.
pub(super) const LONG: i64 = 25;
/// Steps of the reading that follows at once where packets come close together anyway: 200 ms.
pub(super) const SHORT: i64 = 10;

/// Bytes of the last steps.
#[derive(Debug, Default)]
pub(super) struct RateWindow {
    bytes: [u32; STEPS],
    /// The first step, and the newest.
    span: Option<(i64, i64)>,
    /// When the step began that was added to last, and where its bytes are: most packets are of the same one.
    latest: Option<(i64, usize)>,
}

impl RateWindow {
    /// So many bytes at a time. What is older than the window is not counted.
    #[inline]
    pub(super) fn add(&mut self, at_us: i64, bytes: u16) {
        let is_of = |(begun_us, _): &(i64, usize)| (0..STEP_US).contains(&(at_us - begun_us));
        let latest = self.latest.filter(is_of).or_else(|| self.go_to(at_us));
        if let Some((_, index)) = latest {
            self.bytes[index] += u32::from(bytes);
        }
    }

    /// The step of a time, which is the latest from now on; `None` if it is older than the window.
    fn go_to(&mut self, at_us: i64) -> Option<(i64, usize)> {
        let step = at_us.div_euclid(STEP_US);
        let (first, newest) = self.span.unwrap_or((step, step));
        if step + (STEPS as i64) <= newest {
            return None;
        }
        for empty in (newest + 1..=step).rev().take(STEPS) {
            self.bytes[index(empty)] = 0;
        }
        self.span = Some((first, newest.max(step)));
        self.latest = Some((step * STEP_US, index(step)));
        self.latest
    }

    /// Bits per second of the last so many steps, without the one that goes on. `None` before there are five, 100 ms.
    pub(super) fn bits_per_second(&self, steps: i64) -> Option<f64> {
        let (first, newest) = self.span?;
        let steps = steps.min(newest - first);
        if steps < 5 {
            return None;
        }
        let bytes: u32 = (newest - steps..newest).map(|step| self.bytes[index(step)]).sum();
        Some(f64::from(bytes) * 8.0 * 1e6 / (steps * STEP_US) as f64)
    }

    /// The next times are of another clock.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn index(step: i64) -> usize {
    step.rem_euclid(STEPS as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_rate_of_the_last_steps() {
        let mut window = RateWindow::default();
        for step in 0..100 {
            window.add(step * 10_000 - 300_000, if step < 50 { 1_250 } else { 2_500 });
        }
        assert_eq!(window.bits_per_second(SHORT), Some(2_000_000.0));
        window.add(10_000_000, 1);
        window.add(0, u16::MAX);
        assert_eq!(window.bits_per_second(LONG), Some(0.0), "a gap is a gap, and what is too old is not counted");
        window.clear();
        assert_eq!(window.bits_per_second(LONG), None);
    }
}
