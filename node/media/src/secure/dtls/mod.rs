//! DTLS 1.2 around one client: for the SRTP keys that come out of it (RFC 5764), and for the SCTP packets of data
//! channels, which are its application data (RFC 8261).
//!
//! rtc-dtls does the handshake. It never sees what the network brought, only whole messages in their turn (`inbound`),
//! and it is gone once there are keys: from there on records are protected here (`session`, `protection`).

mod association;
mod certificate;
mod client_hello;
mod cookie;
mod flight;
mod handshake;
mod inbound;
mod message;
mod protection;
mod record;
mod session;

pub use association::{Association, Outcome, SrtpKeyMaterial};
pub use certificate::{CertificateError, DtlsCertificate};

use crate::secure::srtp::SrtpProfile;

#[cfg(test)]
mod tests;

/// How far an association is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsState {
    /// Keys are in place.
    Connected(SrtpProfile),
    /// The handshake failed or the fingerprint was not the announced one.
    Failed,
    /// The client said goodbye.
    Closed,
}
