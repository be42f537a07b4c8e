//! The client half of a WebRTC meeting: virtual users that drive Sluice or any SFU with mediasoup-demo's signalling.
//!
//! # Layout
//! - [`transport`]: ICE, DTLS and SRTP of one transport, sans-IO.
//! - [`media`]: virtual publishers and subscribers, RTP and RTCP, sans-IO.
//! - [`session`]: a transport with the media on it, sans-IO; the unit that a driver drives.

pub mod clock;
pub mod media;
pub mod session;
pub mod transport;
