//! Audio twice: where paths are long and lose, a repair of audio comes too late to be heard, so each packet brings the
//! one before it along (as RFC 2198 does, but as frames of their own).

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use sluice_proto::ids::{RouteEpoch, RouteId};

use crate::Frame;

/// A repair that takes this long is late: what plays audio out waits for a few packets, not for more.
const LONG_PATH: Duration = Duration::from_millis(50);

/// Loss from which on audio is sent twice, and below which it is no more, per mille. Concealment hides less.
const LOSS_ON: u64 = 10;
const LOSS_OFF: u64 = 5;

/// Loss is judged over so many packets and so much time at least.
const MIN_PACKETS: u64 = 400;
const WINDOW: Duration = Duration::from_secs(2);

/// Sends audio twice where that helps. It holds one packet of each route while it does.
#[derive(Debug, Default)]
pub struct AudioRedundancy {
    is_on: bool,
    /// When the window began, and what had been sent and lost by then.
    began: Option<(Instant, u64, u64)>,
    /// The latest packet of each route, and whether it is of this window: of routes that ended nothing stays.
    latest: FxHashMap<(RouteId, RouteEpoch), (Frame, bool)>,
}

impl AudioRedundancy {
    /// Of a path that nothing is known of: audio is sent once.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a look at the path: its round-trip time, and how many packets were sent and lost since it began.
    pub fn look(&mut self, now: Instant, rtt: Duration, sent: u64, lost: u64) {
        let &mut (began, sent_before, lost_before) = self.began.get_or_insert((now, sent, lost));
        let (sent_now, lost_now) = (sent.saturating_sub(sent_before), lost.saturating_sub(lost_before));
        if now < began + WINDOW || sent_now < MIN_PACKETS {
            return;
        }
        self.began = Some((now, sent, lost));
        let limit = if self.is_on { LOSS_OFF } else { LOSS_ON };
        self.is_on = rtt >= LONG_PATH && lost_now * 1000 >= sent_now * limit;
        let is_on = self.is_on;
        self.latest.retain(|_, (_, is_new)| std::mem::take(is_new) && is_on);
    }

    /// Adds a frame of audio to what is to be sent, behind the one before it if that is to go again.
    pub fn push(&mut self, frame: Frame, out: &mut Vec<Frame>) {
        if self.is_on && !frame.flags.retransmission {
            let before = self.latest.insert((frame.route, frame.epoch), (frame.clone(), true));
            out.extend(before.map(|(before, _)| before).filter(|before| before.seq.wrapping_add(1) == frame.seq));
        }
        out.push(frame);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{FrameClass, FrameFlags};

    const LONG: Duration = Duration::from_millis(160);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    fn origin() -> Instant {
        Instant::now()
    }

    fn frame(route: u32, seq: u16) -> Frame {
        let (route, epoch, flags) = (RouteId(route), RouteEpoch(0), FrameFlags::default());
        Frame { route, epoch, seq, flags, class: FrameClass::Audio, packet: Bytes::from_static(&[0; 20]) }
    }

    /// After a look at a path that loses so much of a thousand packets.
    fn after(rtt: Duration, lost: u64) -> (AudioRedundancy, Instant) {
        let (mut redundancy, now) = (AudioRedundancy::new(), origin());
        redundancy.look(now, rtt, 0, 0);
        redundancy.look(now + WINDOW, rtt, 1000, lost);
        (redundancy, now + WINDOW)
    }

    fn pushed(redundancy: &mut AudioRedundancy, route: u32, seq: u16) -> Vec<u16> {
        let mut out = Vec::new();
        redundancy.push(frame(route, seq), &mut out);
        out.into_iter().map(|frame| frame.seq).collect()
    }

    #[test]
    fn only_a_long_path_that_loses_is_given_more() {
        for (rtt, lost, twice) in [(LONG, 9, false), (LONG, 10, true), (Duration::from_millis(5), 100, false)] {
            let (mut redundancy, _) = after(rtt, lost);
            pushed(&mut redundancy, 1, 65_535);
            assert_eq!(pushed(&mut redundancy, 1, 0).len(), if twice { 2 } else { 1 });
        }
    }

    #[test]
    fn each_packet_brings_the_one_before_it() {
        let (mut redundancy, now) = after(LONG, 50);
        assert_eq!(pushed(&mut redundancy, 1, 7), [7]);
        assert_eq!(pushed(&mut redundancy, 2, 3), [3]);
        assert_eq!(pushed(&mut redundancy, 1, 8), [7, 8]);
        assert_eq!(pushed(&mut redundancy, 1, 10), [10], "another one came between");
        // It loses less than before, but not nothing.
        redundancy.look(now + WINDOW, LONG, 2000, 57);
        assert_eq!(pushed(&mut redundancy, 1, 11), [10, 11]);
        redundancy.look(now + WINDOW * 2, LONG, 3000, 57);
        assert_eq!(pushed(&mut redundancy, 1, 12), [12]);
    }

    #[test]
    fn nothing_is_kept_of_routes_that_ended() {
        let (mut redundancy, mut now) = after(LONG, 50);
        for route in 0..1000 {
            pushed(&mut redundancy, route, 0);
        }
        for (sent, lost) in [(2000, 100), (3000, 150)] {
            now += WINDOW;
            redundancy.look(now, LONG, sent, lost);
        }
        assert!(redundancy.latest.is_empty());
    }
}
