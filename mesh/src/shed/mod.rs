//! Shedding: what a pipe leaves out when its path cannot carry all that is wanted.
//!
//! [`CapacityEstimator`] says how much the path carries, [`Shedder`] which layers of which route that is,
//! [`RepairLimit`] what of it may be sent again.

mod capacity;
mod ladder;
mod rates;
mod repairs;
mod shedder;

pub use capacity::{CapacityEstimator, PathSample};
pub use repairs::RepairLimit;
pub use shedder::{ShedEvent, Shedder, Verdict};
