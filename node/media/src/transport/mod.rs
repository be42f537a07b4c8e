//! What a user's datagrams pass on their way in and out: whose they are, whose streams are in them, what is said back.

pub(crate) mod audio_allowance;
pub(crate) mod buffer_pool;
pub(crate) mod data_allowance;
pub(crate) mod data_limits;
pub(crate) mod demux;
pub(crate) mod meters;
pub(crate) mod retransmission_budget;
pub(crate) mod rtp_listener;
pub(crate) mod sctp_association;
pub(crate) mod transport_feedback_generator;
pub(crate) mod webrtc_transport;
