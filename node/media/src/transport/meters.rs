//! What is measured of a transport from one round of reports to the next, so that a packet costs no more than an
//! addition.

use std::time::Instant;

use crate::messages::Flow;
use crate::stream::rate::RateMeter;

/// Bytes of RTP of one kind.
#[derive(Debug, Default)]
pub(crate) struct FlowMeter {
    bytes: u64,
    rate: RateMeter,
}

impl FlowMeter {
    /// A packet went by.
    #[inline]
    pub(crate) fn add(&mut self, len: usize) {
        self.bytes += len as u64;
    }

    /// Ends an interval.
    pub(crate) fn sample(&mut self, now: Instant) {
        self.rate.sample(now, self.bytes);
    }

    /// The bytes, and the rate of the last whole interval.
    pub(crate) fn flow(&self) -> Flow {
        Flow { bytes: self.bytes, bitrate: self.rate.bits_per_second() }
    }
}

/// Packets that came and that did not, by their transport-wide numbers.
#[derive(Debug, Default)]
pub(crate) struct LossShare {
    received: u64,
    lost: u64,
    loss: Option<f32>,
}

impl LossShare {
    /// So many more of each.
    pub(crate) fn add(&mut self, (received, lost): (u16, u16)) {
        self.received += u64::from(received);
        self.lost += u64::from(lost);
    }

    /// Ends an interval.
    pub(crate) fn sample(&mut self) {
        let (received, lost) = (std::mem::take(&mut self.received), std::mem::take(&mut self.lost));
        let told = received + lost;
        self.loss = (told > 0).then(|| lost as f32 / told as f32);
    }

    /// The share that was lost in the last whole interval, if there was anything.
    pub(crate) fn loss(&self) -> Option<f32> {
        self.loss
    }
}
