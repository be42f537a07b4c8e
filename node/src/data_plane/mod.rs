//! Media: what happens to a packet between the socket it came in by and the sockets it leaves by.

pub mod demux;
pub mod drop_reason;
pub mod dtls;
pub mod ice;
pub mod io;
pub mod media;
pub mod messages;
pub mod rtp;
pub mod srtp;
pub mod stun;
pub mod webrtc_transport;
#[cfg(feature = "io")]
pub mod worker;
