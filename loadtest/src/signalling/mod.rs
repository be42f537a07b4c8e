//! How a user and a server agree on media: protoo and ORTC, in the dialect of mediasoup-demo's v3 server.

mod delayed;
pub mod demo_v3;
pub mod ortc;
mod protoo;
mod tls;

pub use protoo::{Incoming, ProtooClient, ProtooError, Responder};
pub use tls::{trust_anyone, trust_system};
