//! The objects of a worker and [`media::Media`], which owns them: producers, consumers, the ends of routes, routers.

pub(crate) mod consumer;
pub(crate) mod counters;
pub(crate) mod data_channels;
pub(crate) mod data_consumer;
pub(crate) mod data_log;
pub(crate) mod data_producer;
pub(crate) mod frames;
pub(crate) mod loudest;
pub(crate) mod media;
pub(crate) mod overload;
pub(crate) mod parameters;
pub(crate) mod pipe_consumer;
pub(crate) mod pipe_data_consumer;
pub(crate) mod pipe_data_origin;
pub(crate) mod pipe_origin;
pub(crate) mod producer;
pub(crate) mod router;
pub(crate) mod rtp_stream_send;
pub(crate) mod timers;
pub(crate) mod user_origin;
pub(crate) mod user_transport;
