//! `wan`: what a wide-area path does to packets. The core is pure: packets go in with the time, decisions come out, the same
//! for the same seed; [`UdpRelay`] does it to real datagrams.

mod config;
mod impairment;
#[cfg(feature = "io")]
mod relay;

pub use config::{ImpairmentConfig, Loss, Rate, Timeline};
pub use impairment::{Decision, DropCause, Impairment, ImpairmentStats};
#[cfg(feature = "io")]
pub use relay::{RelayConfig, UdpRelay};
