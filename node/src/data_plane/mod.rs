//! Media: what happens to a packet between the socket it came in by and the sockets it leaves by.

pub mod demux;
pub mod drop_reason;
pub mod dtls;
pub mod ice;
pub mod io;
pub mod key_frame_request_manager;
pub mod media;
pub mod messages;
pub mod nack_generator;
pub mod rate;
pub mod rtcp;
pub mod rtp;
pub mod rtp_cache;
pub mod rtp_stream_recv;
pub mod score;
pub mod seq;
pub mod seq_manager;
pub mod srtp;
pub mod stun;
pub mod transport_feedback_generator;
pub mod webrtc_transport;
#[cfg(feature = "io")]
pub mod worker;
