//! What a client says itself of how much passes (REMB, draft-alvestrand-rmcat-remb-03): an estimate of all the streams
//! together that it names. Browsers name all that they receive; others estimate for each video by itself, and what they
//! say adds up.
//!
//! A client knows of no more than a half above what it receives, and of nothing while it receives nothing. So what it
//! says is no limit for ever where it does not get much of that: more is tried, until it says less.

/// Streams that an estimate names at most: some videos with their retransmissions. Who names more means the whole path.
const MAX_NAMED: usize = 8;

/// Estimates for different streams, as many as videos that are looked at at once. The oldest gives way.
const MAX_ESTIMATES: usize = 16;

/// What was said before is past when something newer is there, and it was not said again for so long: libwebrtc repeats
/// itself each second, and what was made by hand each three.
const FRESH_US: u64 = 5_000_000;

/// The least: of less no video can be made. mediasoup's.
const MIN: u64 = 30_000;

/// Where the client says more than this part of what its videos get, in percent, more is tried: libwebrtc and aiortc
/// say at most 150% of what they receive, and near that they know no more.
const KNOWN_PERCENT: u64 = 125;

/// That begins so long after the client found that less passes: whoever has no video should have a picture again within
/// some ten seconds. Who tries in vain waits twice as long, up to a limit.
const CALM_US: u64 = 5_000_000;
const MAX_CALM_US: u64 = 20_000_000;

/// Then the estimate grows so much each second, in percent: without any video from the least to the lowest encoding in
/// five steps, otherwise as libwebrtc's own do.
const STEP_PERCENT: u64 = 150;
const SMALL_STEP_PERCENT: u64 = 108;

/// A client that gets more than it believed in finds that more passes, and says more and more. If for so long it does
/// not, it is right.
const RISE_US: u64 = 2_000_000;

/// One that a client has told.
#[derive(Debug)]
struct Estimate {
    /// None is the whole path.
    named: Vec<u32>,
    bits_per_second: u64,
    told_us: u64,
}

impl Estimate {
    fn overlaps(&self, named: &[u32]) -> bool {
        self.named.is_empty() || named.is_empty() || self.named.iter().any(|ssrc| named.contains(ssrc))
    }
}

/// All that hold, none of them of a stream of another one.
#[derive(Debug)]
pub(super) struct Remb {
    estimates: Vec<Estimate>,
    /// What is tried beyond them, and since when the client has not said more.
    tried: Option<(u64, u64)>,
    lowered_us: u64,
    calm_us: u64,
}

impl Default for Remb {
    fn default() -> Self {
        Self { estimates: Vec::new(), tried: None, lowered_us: 0, calm_us: CALM_US }
    }
}

impl Remb {
    /// So much passes of the streams that are named. What was said of any of them before is past.
    pub(super) fn tell(&mut self, now_us: u64, bits_per_second: u64, named: impl Iterator<Item = u32>) {
        let mut named: Vec<u32> = named.take(MAX_NAMED + 1).collect();
        if named.len() > MAX_NAMED {
            named.clear();
        }
        let of_these = self.estimates.iter().filter(|estimate| estimate.overlaps(&named));
        let before = of_these.map(|estimate| estimate.bits_per_second).reduce(u64::saturating_add);
        self.follow(now_us, bits_per_second, before);
        let is_fresh = |estimate: &Estimate| now_us.saturating_sub(estimate.told_us) < FRESH_US;
        self.estimates.retain(|estimate| is_fresh(estimate) && !estimate.overlaps(&named));
        if self.estimates.len() >= MAX_ESTIMATES {
            // They are in the order in which they were told.
            self.estimates.remove(0);
        }
        self.estimates.push(Estimate { named, bits_per_second, told_us: now_us });
    }

    /// Ends what is tried, if the client finds that it does not pass.
    fn follow(&mut self, now_us: u64, bits_per_second: u64, before: Option<u64>) {
        if before.is_none_or(|before| bits_per_second < before) {
            self.lowered_us = now_us;
            if self.tried.take().is_some() {
                self.calm_us = (2 * self.calm_us).min(MAX_CALM_US);
            }
        } else if let Some((_, risen_us)) = &mut self.tried {
            if before.is_some_and(|before| bits_per_second > before) {
                *risen_us = now_us;
            } else if now_us.saturating_sub(*risen_us) >= RISE_US {
                self.tried = None;
            }
        }
    }

    /// To be asked about once a second where more is wanted than what videos get, which is so many bits per second:
    /// tries more if the client has not lowered its estimate of late. Returns whether that is so.
    pub(super) fn try_more(&mut self, now_us: u64, granted: u64) -> bool {
        let Some((told, now)) = self.told().zip(self.bits_per_second()) else { return false };
        if self.tried.is_some_and(|(tried, _)| tried <= told) {
            (self.tried, self.calm_us) = (None, CALM_US);
        }
        let is_calm = now_us.saturating_sub(self.lowered_us) >= self.calm_us;
        if !is_calm || told.saturating_mul(100) < granted.saturating_mul(KNOWN_PERCENT) {
            return false;
        }
        let percent = if granted == 0 { STEP_PERCENT } else { SMALL_STEP_PERCENT };
        self.tried = Some(((now / 100).saturating_mul(percent), now_us));
        true
    }

    /// Whether anything was said.
    pub(super) fn is_known(&self) -> bool {
        !self.estimates.is_empty()
    }

    /// Bits per second that pass, of all that is said; `None` if nothing is.
    pub(super) fn bits_per_second(&self) -> Option<u64> {
        Some(self.told()?.max(MIN).max(self.tried.map_or(0, |(tried, _)| tried)))
    }

    fn told(&self) -> Option<u64> {
        self.estimates.iter().map(|estimate| estimate.bits_per_second).reduce(u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn tell(remb: &mut Remb, second: u64, bits_per_second: u64, named: &[u32]) -> u64 {
        remb.tell(second * SECOND, bits_per_second, named.iter().copied());
        remb.bits_per_second().unwrap()
    }

    #[test]
    fn estimates_of_different_streams_add_up_and_newer_ones_of_the_same_count() {
        let mut remb = Remb::default();
        assert_eq!(remb.bits_per_second(), None);
        assert_eq!(tell(&mut remb, 0, 500_000, &[1]), 500_000);
        assert_eq!(tell(&mut remb, 0, 300_000, &[3, 4]), 800_000);
        assert_eq!(tell(&mut remb, 0, 400_000, &[1, 2]), 700_000, "with its retransmissions");
        assert_eq!(tell(&mut remb, 0, 1_000_000, &[2, 3]), 1_000_000, "of streams of both");
        assert_eq!(tell(&mut remb, 0, 100_000, &[9]), 1_100_000);
        assert_eq!(tell(&mut remb, 0, 200_000, &[]), 200_000, "of the whole path");
        assert_eq!(tell(&mut remb, 0, 300_000, &[9]), 300_000, "which it was not");
        assert_eq!(tell(&mut remb, 0, 0, &[9]), MIN);
        assert_eq!(tell(&mut remb, 0, u64::MAX, &[1]), u64::MAX);
        assert_eq!(tell(&mut remb, 0, u64::MAX, &[2]), u64::MAX);
    }

    #[test]
    fn what_is_not_said_again_is_past_when_something_else_is_said() {
        let mut remb = Remb::default();
        tell(&mut remb, 0, 100_000, &[1]);
        assert_eq!(tell(&mut remb, 4, 500_000, &[2]), 600_000);
        assert_eq!(tell(&mut remb, 6, 500_000, &[2]), 500_000);
        assert_eq!(tell(&mut remb, 60, 300_000, &[3]), 300_000);
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let mut remb = Remb::default();
        (0..100).for_each(|ssrc| _ = tell(&mut remb, 0, 100_000, &[ssrc]));
        assert_eq!(remb.bits_per_second(), Some(100_000 * MAX_ESTIMATES as u64));
        let many: Vec<u32> = (1_000..1_200).collect();
        assert_eq!(tell(&mut remb, 0, 50_000, &many), 50_000, "the whole path");
        assert!(remb.estimates.iter().all(|estimate| estimate.named.is_empty()));
    }

    /// One that has fallen to the least, and tries more until there is room for a video.
    fn trying() -> Remb {
        let mut remb = Remb::default();
        tell(&mut remb, 0, 500_000, &[1]);
        tell(&mut remb, 10, 20_000, &[1]);
        let tried = (11..=20).filter(|second| remb.try_more(second * SECOND, 0)).count();
        assert_eq!((tried, remb.bits_per_second()), (6, Some(341_550)));
        remb
    }

    #[test]
    fn who_gets_no_video_tries_more_until_the_client_finds_less() {
        let mut remb = trying();
        assert_eq!(tell(&mut remb, 21, 20_000, &[1]), 341_550);
        assert_eq!(tell(&mut remb, 22, 24_000, &[1]), 341_550, "more and more");
        assert!(!remb.try_more(22 * SECOND, 150_000), "it gets more than it knows of already");
        assert_eq!(tell(&mut remb, 24, 23_000, &[1]), MIN);
        assert!(!remb.try_more(33 * SECOND, 0) && remb.try_more(34 * SECOND, 0), "not so soon again");
    }

    #[test]
    fn who_gets_little_of_what_passes_tries_more_by_small_steps() {
        let mut remb = Remb::default();
        tell(&mut remb, 0, 235_000, &[1]);
        assert!(!remb.try_more(4 * SECOND, 150_000) && !remb.try_more(5 * SECOND, 200_000));
        assert!(remb.try_more(5 * SECOND, 150_000) && remb.try_more(6 * SECOND, 150_000));
        assert_eq!(remb.bits_per_second(), Some(274_104));
        assert_eq!(tell(&mut remb, 7, 280_000, &[1]), 280_000);
        assert!(!remb.try_more(7 * SECOND, 250_000) && remb.tried.is_none(), "that is known now");
    }

    #[test]
    fn a_client_that_stays_with_what_it_said_is_right() {
        let mut remb = trying();
        assert_eq!(tell(&mut remb, 21, 20_000, &[1]), 341_550);
        assert_eq!(tell(&mut remb, 22, 20_000, &[1]), MIN);
    }
}
