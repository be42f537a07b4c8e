//! DTLS 1.2 around one client (rtc-dtls), whose only purpose is the SRTP keys that come out of it (RFC 5764).

mod association;
mod certificate;
mod client_hello;

pub use association::{Association, Outcome};
pub use certificate::DtlsCertificate;
pub use client_hello::{ClientHello, HelloCollector};

#[cfg(test)]
mod tests;
