//! `wan`: what a wide-area path does to packets. The core is pure: packets go in with the time, decisions come out, the
//! same for the same seed.
//!
//! With the feature `relay`: [`UdpRelay`] and [`TcpRelay`] do it to real datagrams and connections, and [`Wan`] puts
//! them between the nodes of a mesh on this machine.

mod config;
mod impairment;
#[cfg(feature = "relay")]
mod local;
#[cfg(feature = "relay")]
mod path;
#[cfg(feature = "relay")]
mod relay;
#[cfg(feature = "relay")]
mod socket;
mod spec;
#[cfg(feature = "relay")]
mod tcp;
#[cfg(feature = "relay")]
mod udp;

pub use config::{ImpairmentConfig, Loss, Rate, Timeline};
pub use impairment::{Decision, DropCause, Impairment, ImpairmentStats, Passage};
#[cfg(feature = "relay")]
pub use local::{Wan, WanNode, region_name};
#[cfg(feature = "relay")]
pub use path::{Path, PathPair};
#[cfg(feature = "relay")]
pub use relay::RelayConfig;
pub use spec::{PathSpec, SpecError};
#[cfg(feature = "relay")]
pub use tcp::TcpRelay;
#[cfg(feature = "relay")]
pub use udp::UdpRelay;
