//! Quality of a stream's reception as a number that people can read: 0 (nothing arrives) to 10 (perfect), as mediasoup
//! computes it.

/// The score, smoothed over the last reports.
#[derive(Debug)]
pub(crate) struct Score {
    smoothed: f32,
}

impl Default for Score {
    fn default() -> Self {
        Self { smoothed: 10.0 }
    }
}

impl Score {
    /// A report interval: packets expected, lost by the first count, and repaired of those.
    pub(crate) fn update(&mut self, expected: u64, lost: u64, repaired: u64) {
        if expected == 0 {
            return;
        }
        let lost = lost.saturating_sub(repaired).min(expected);
        let delivered = (expected - lost) as f32 / expected as f32;
        // The fourth power makes 5% lost an 8 and 20% a 4, about what people perceive.
        let score = delivered.powi(4) * 10.0;
        self.smoothed += (score - self.smoothed) * 0.25;
    }

    /// 0 to 10.
    pub(crate) fn get(&self) -> u8 {
        self.smoothed.round() as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn falls_with_loss_and_recovers() {
        let mut score = Score::default();
        assert_eq!(score.get(), 10);
        (0..20).for_each(|_| score.update(100, 20, 0));
        assert_eq!(score.get(), 4);
        (0..20).for_each(|_| score.update(100, 20, 20));
        assert_eq!(score.get(), 10);
        score.update(0, 0, 0);
        assert_eq!(score.get(), 10);
    }
}
