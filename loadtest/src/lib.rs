//! The client half of a WebRTC meeting: virtual users that drive Sluice or any SFU with mediasoup-demo's signalling.
//!
//! # Layout
//! - [`transport`]: ICE, DTLS and SRTP of one transport, sans-IO.
//! - [`media`]: virtual publishers and subscribers, RTP and RTCP, sans-IO.
//! - [`session`]: a transport with the media on it, sans-IO; the unit that a driver drives.
//! - [`driver`]: sockets and the clock, many sessions on one thread.
//! - [`signalling`]: protoo, and ORTC negotiation on the client's side.
//! - [`user`]: a participant that does all of the above in mediasoup-demo's call order.
//! - [`scenario`]: what a run does.
//! - [`tally`]: what users sent and received, on the way to the results.
//! - [`results`]: what a run measured, as it is kept in JSON.

pub mod clock;
pub mod driver;
pub mod media;
pub mod results;
pub mod scenario;
pub mod session;
pub mod signalling;
pub mod tally;
pub mod transport;
pub mod user;
