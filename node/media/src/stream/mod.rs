//! One RTP stream: what is kept of it, how it arrives, what is asked for again, and how it is numbered on.

pub(crate) mod buffer_pool;
pub(crate) mod header_template;
pub(crate) mod key_frame_request_manager;
pub(crate) mod left_out;
pub(crate) mod nack_generator;
pub(crate) mod rate;
pub(crate) mod rtp_cache;
pub(crate) mod rtp_stream_recv;
pub(crate) mod score;
pub(crate) mod segments;
pub(crate) mod sender_reports;
pub(crate) mod sent_packets;
pub(crate) mod seq_manager;
