//! Formats: bytes in, values out, and back. Nothing here knows a connection, a key or the time. Every reader is total:
//! any bytes give an answer and none a panic.

pub mod codec;
pub mod framing;
pub mod rtcp;
pub mod rtp;
pub mod sctp;
pub mod seq;
pub mod stun;
