//! Virtual publishers and subscribers, sans-IO.

mod histogram;
mod publisher;
mod receiver;
mod rtp;
mod source;
mod stamp;
mod twcc;
mod vp8;

pub use histogram::Histogram;
pub(crate) use publisher::Outgoing;
pub use publisher::{Publisher, PublisherStats, SendParameters};
pub use receiver::{ReceiveParameters, StreamReceiver, StreamStats};
pub use rtp::{RtpHeader, Unwrapper};
pub use source::{AudioSource, Source, VideoSource};
pub use stamp::{STAMP_LEN, read_stamp, write_stamp};
pub(crate) use twcc::TwccReceiver;
pub use vp8::{Vp8Descriptor, parse_descriptor};

#[cfg(test)]
mod tests;
