//! The client half of a WebRTC meeting: virtual users that drive Sluice or any SFU with mediasoup-demo's signalling.
//!
//! # Layout
//! - [`transport`]: ICE, DTLS, SRTP and SCTP of one transport, sans-IO.
//! - [`media`]: virtual publishers and subscribers, RTP and RTCP, sans-IO.
//! - [`data`]: messages on data channels, sans-IO.
//! - [`session`]: a transport with the media and data on it, sans-IO; the unit that a driver drives.
//! - [`driver`]: sockets and the clock, many sessions on one thread.
//! - [`signalling`]: protoo, and ORTC negotiation on the client's side.
//! - [`user`]: a participant that does all of the above in mediasoup-demo's call order.
//! - [`fleet`]: a mesh of processes on this machine, to put load on.
//! - [`scenario`]: what a run does.
//! - [`plan`]: what that comes to, user by user and in order of time.
//! - [`preflight`]: whether this machine's limits let it run.
//! - [`tally`]: what users sent and received, on the way to the results.
//! - [`results`]: what a run measured, as it is kept in JSON.
//! - [`verdict`]: what follows from that.
//! - [`report`]: what becomes of results: files, text, a page with charts.
//! - [`run`]: carries a scenario out in real time; [`capacity`]: again and again, until the target cannot do more.

pub mod capacity;
pub mod cli;
pub mod clock;
pub mod data;
pub mod driver;
pub mod fleet;
mod http;
pub mod media;
pub mod plan;
pub mod preflight;
pub mod report;
pub mod results;
pub mod run;
pub mod scenario;
pub mod session;
pub mod signalling;
pub mod tally;
pub mod transport;
pub mod user;
pub mod verdict;
