//! How long rooms are busy at a time, and how late what runs beside them is for it.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds in seconds. A packet of audio comes every 20 ms; nothing shall keep others waiting for longer.
const BOUNDS: [f64; 13] = [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0];

/// Of all rooms of a node.
#[derive(Debug)]
pub(super) struct Timing {
    /// What a room does before it looks at its mailbox again.
    step: Histogram,
    /// A timer of the control plane.
    lag: Histogram,
}

impl Default for Timing {
    fn default() -> Self {
        Self { step: Histogram::new(BOUNDS), lag: Histogram::new(BOUNDS) }
    }
}

impl Timing {
    /// A room was busy for so long.
    pub(super) fn note_step(&self, took: Duration) {
        self.step.observe(took.as_secs_f64());
    }

    /// A timer was so late.
    pub(super) fn note_lag(&self, late: Duration) {
        self.lag.observe(late.as_secs_f64());
    }

    pub(super) fn register_metrics(&self, registry: &mut Registry) {
        let help = "How long a room was busy before it looked at its mailbox again";
        registry.register_with_unit("room_step", help, Unit::Seconds, self.step.clone());
        let help = "How late a timer of the control plane was that is due every 10 ms";
        registry.register_with_unit("control_lag", help, Unit::Seconds, self.lag.clone());
    }
}
