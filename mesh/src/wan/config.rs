//! What a path is like, and how that changes over time.

use std::time::Duration;

/// One direction of a path. The default passes everything on at once.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ImpairmentConfig {
    /// Propagation delay.
    pub delay: Duration,
    /// Up to this much is added to the delay of each packet, uniformly. Order is kept: a packet waits for the one
    /// before it.
    pub jitter: Duration,
    /// What gets lost on the way, before any queue.
    pub loss: Loss,
    /// Share of packets (0 to 1) that are overtaken by those within `reorder_by` after them.
    pub reorder: f64,
    /// How late an overtaken packet is.
    pub reorder_by: Duration,
    /// Share of packets (0 to 1) that arrive twice.
    pub duplicate: f64,
    /// The bottleneck, if there is one.
    pub rate: Option<Rate>,
    /// Nothing passes.
    pub blackout: bool,
}

/// A bottleneck with a drop-tail queue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Bits per second that pass, counted in the bytes that are submitted. Zero passes nothing.
    pub bits_per_second: u64,
    /// Bytes that may wait; what comes on top is dropped.
    pub queue_bytes: usize,
}

impl Rate {
    /// A bottleneck whose queue holds what it sends in `queue`.
    pub fn new(bits_per_second: u64, queue: Duration) -> Self {
        let queue_bytes = u128::from(bits_per_second) * queue.as_nanos() / 8_000_000_000;
        Self { bits_per_second, queue_bytes: queue_bytes.try_into().unwrap_or(usize::MAX) }
    }
}

/// How packets get lost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Loss {
    /// None do.
    #[default]
    None,
    /// Each with the same probability (0 to 1), independently.
    Random(f64),
    /// In bursts: a channel that is good or bad, after Gilbert and Elliott. All are probabilities, per packet.
    GilbertElliott {
        /// Of a good channel to turn bad.
        to_bad: f64,
        /// Of a bad channel to turn good: the reciprocal of the mean length of a burst.
        to_good: f64,
        /// Of loss while the channel is good.
        loss_good: f64,
        /// Of loss while the channel is bad.
        loss_bad: f64,
    },
}

impl Loss {
    /// Of all packets the share `overall` (0 to 1) is lost, in bursts of `length` (at least 1) on average: a channel
    /// that loses all while it is bad and nothing while it is good.
    pub fn bursts(overall: f64, length: f64) -> Self {
        let to_good = 1.0 / length;
        // The channel is bad for to_bad / (to_bad + to_good) of the packets.
        Self::GilbertElliott { to_bad: overall * to_good / (1.0 - overall), to_good, loss_good: 0.0, loss_bad: 1.0 }
    }
}

/// How a path changes: configurations, each from a time after the start on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timeline {
    steps: Vec<(Duration, ImpairmentConfig)>,
}

impl Timeline {
    /// A path that is `config` from the start on.
    pub fn new(config: ImpairmentConfig) -> Self {
        Self { steps: vec![(Duration::ZERO, config)] }
    }

    /// From `at` after the start on the path is `config`. Steps may be added in any order.
    #[must_use]
    pub fn then(mut self, at: Duration, config: ImpairmentConfig) -> Self {
        let index = self.steps.partition_point(|(before, _)| *before <= at);
        self.steps.insert(index, (at, config));
        self
    }

    /// What the path is `elapsed` after the start.
    pub fn at(&self, elapsed: Duration) -> Option<&ImpairmentConfig> {
        let index = self.steps.partition_point(|(at, _)| *at <= elapsed);
        self.steps.get(index.checked_sub(1)?).map(|(_, config)| config)
    }
}
