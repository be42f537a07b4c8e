//! Virtual publishers and subscribers, sans-IO.
//!
//! A [`Publisher`] turns a [`Source`] into an RTP stream. Synthetic sources follow congestion control and stamp each
//! packet with the time at which it is sent, from which a [`StreamReceiver`] measures the one-way delay. A
//! [`MediaFile`] is sent as it is, so that a browser can watch it: it has its own bitrate, its key frames are where
//! they are, and its packets carry no stamp, so that no delay is measured of them.

mod bandwidth;
mod codec;
mod continuity;
mod encoder;
mod file;
mod frames;
mod gaps;
mod generator;
mod histogram;
mod layers;
mod nal;
mod pacer;
mod packetizer;
mod parts;
mod publisher;
mod receiver;
mod rtp;
mod simulcast;
mod source;
mod speech;
mod stamp;
mod trendline;
mod twcc;
mod vp8;
mod vp9;

pub(crate) use bandwidth::{BandwidthController, MIN_BITS_PER_SECOND};
pub use codec::Codec;
pub use file::{ContentProblem, MediaFile, MediaFileError};
pub use histogram::Histogram;
pub use nal::{NalPayload, parse_nal_payload};
pub(crate) use publisher::Outgoing;
pub use publisher::{Publisher, PublisherStats, SendParameters};
pub(crate) use receiver::Incoming;
pub use receiver::{ReceiveParameters, StreamReceiver, StreamStats};
pub use rtp::{RtpHeader, Unwrapper};
pub(crate) use simulcast::Sending;
pub use source::{AudioSource, Source, SourceError, VideoSource};
pub use stamp::{STAMP_LEN, Stamp, read_stamp, write_stamp};
pub(crate) use twcc::TwccReceiver;
pub use vp8::{Vp8Descriptor, parse_descriptor};
pub use vp9::{Vp9Descriptor, parse_vp9_descriptor};

#[cfg(test)]
mod tests;
