//! What a pipe carries: frames, one RTP packet each, and what shedding needs to know of them.

mod decode;
mod encode;
mod header;
mod nack;
mod reassembly;

use bytes::Bytes;
use sluice_proto::ids::{RouteEpoch, RouteId};

pub use decode::{DecodeError, Half, decode_datagram};
pub use encode::{Encoded, FrameEncoder};
pub use nack::{decode_nack, encode_nacks};
pub use reassembly::Reassembler;

/// Bytes of a shed packet that still travel: its RTP header up to the timestamp (RFC 3550 section 5.1), by which the
/// receiving end closes the gap in sequence numbers and pictures.
const SHED_LEN: usize = 8;

/// Bytes of the length before each packet of a packed datagram.
const LENGTH_LEN: usize = 2;

/// Bytes of the cut in a datagram that carries half a packet.
const CUT_LEN: usize = 2;

/// Highest spatial layer that a frame header can name.
pub const MAX_SPATIAL: u8 = 3;

/// Highest temporal layer that a frame header can name. A higher one is clamped: it is shed together with this one.
pub const MAX_TEMPORAL: u8 = 5;

/// One RTP packet on its way over a pipe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The route, as allocated by the destination.
    pub route: RouteId,
    /// The use of the route id that is meant.
    pub epoch: RouteEpoch,
    /// Pipe sequence number: counts the packets of this route, without gaps at the sender.
    pub seq: u16,
    /// How the frame comes to be here.
    pub flags: FrameFlags,
    /// What shedding goes by.
    pub class: FrameClass,
    /// The RTP packet in the mesh's canonical form. **Only its first bytes when the sender shed it**: the sequence
    /// number is accounted for, it is neither lost nor worth a `Nack`, and nothing will come.
    pub packet: Bytes,
}

impl Frame {
    /// Sheds the packet: what remains only says so.
    pub fn shed(&mut self) {
        self.packet.truncate(SHED_LEN);
    }

    /// Whether the pipe shed the packet and only says so.
    pub fn is_shed(&self) -> bool {
        self.packet.len() <= SHED_LEN
    }
}

/// Properties of a frame other than its class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameFlags {
    /// The answer to a `Nack`.
    pub retransmission: bool,
}

/// What shedding goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameClass {
    /// Never shed.
    Audio,
    /// Shed from the highest temporal layer down, then from the highest spatial layer down.
    Video {
        /// Temporal layer, at most [`MAX_TEMPORAL`]; 0 when the packet belongs to a key frame.
        temporal: u8,
        /// Spatial layer, at most [`MAX_SPATIAL`].
        spatial: u8,
        /// The packet belongs to a key frame.
        key: bool,
    },
}
