//! What the fuzz targets do. Each takes any bytes, gives them to a part of the node that reads what the network brings,
//! and checks what has to be true of it whatever the bytes are. A panic is a finding.
//!
//! No fuzzer is needed here: the tests of this crate replay the corpora that fuzzing has left in `../corpus`, one
//! directory a target. The fuzzer's half, `..`, is a workspace of its own; `deploy/fuzz.sh` runs it.
//!
//! # Layout
//! - `reader`: bytes as a source of choices.
//! - [`stun`], [`rtp`], [`header_extensions`], [`dependency_descriptor`], [`rtcp`], [`vp8`], [`vp9`], [`h264`],
//!   [`h265`]: parsers of one packet.
//! - [`framing`]: datagrams on a connection.
//! - [`client_hello`], [`dtls`]: the node's end of a handshake; `dtls_ends` are both.
//! - [`sctp`]: what a client with keys may send by DTLS, and the data channels in it.
//! - [`pipe_frames`], [`pipe_messages`]: what nodes tell each other.
//! - [`media_core`]: sequences of inputs into the media core of a worker; [`demux`]: datagrams only.
//! - `protoo`, with the feature `node`: what clients say in signalling, and what negotiation makes of it.

pub mod client_hello;
pub mod demux;
pub mod dependency_descriptor;
pub mod dtls;
mod dtls_ends;
pub mod framing;
pub mod h264;
pub mod h265;
pub mod header_extensions;
pub mod media_core;
pub mod pipe_frames;
pub mod pipe_messages;
#[cfg(feature = "node")]
pub mod protoo;
mod reader;
pub mod rtcp;
pub mod rtp;
pub mod sctp;
pub mod stun;
pub mod vp8;
pub mod vp9;

/// A fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name: of the binary and of its directory in the corpus.
    pub name: &'static str,
    /// Does with the bytes what the target is for.
    pub run: fn(&[u8]),
    /// Real inputs, so that fuzzing begins deep.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "stun", run: stun::run, seeds: stun::seeds },
    Target { name: "framing", run: framing::run, seeds: framing::seeds },
    Target { name: "rtp", run: rtp::run, seeds: rtp::seeds },
    Target { name: "header_extensions", run: header_extensions::run, seeds: header_extensions::seeds },
    Target { name: "rtcp", run: rtcp::run, seeds: rtcp::seeds },
    Target { name: "vp8", run: vp8::run, seeds: vp8::seeds },
    Target { name: "vp9", run: vp9::run, seeds: vp9::seeds },
    Target { name: "h264", run: h264::run, seeds: h264::seeds },
    Target { name: "h265", run: h265::run, seeds: h265::seeds },
    Target { name: "dependency_descriptor", run: dependency_descriptor::run, seeds: dependency_descriptor::seeds },
    Target { name: "client_hello", run: client_hello::run, seeds: client_hello::seeds },
    Target { name: "dtls", run: dtls::run, seeds: dtls::seeds },
    Target { name: "sctp", run: sctp::run, seeds: sctp::seeds },
    Target { name: "pipe_frames", run: pipe_frames::run, seeds: pipe_frames::seeds },
    Target { name: "pipe_messages", run: pipe_messages::run, seeds: pipe_messages::seeds },
    Target { name: "demux", run: demux::run, seeds: demux::seeds },
    Target { name: "media_core", run: media_core::run, seeds: media_core::seeds },
    #[cfg(feature = "node")]
    Target { name: "protoo", run: protoo::run, seeds: protoo::seeds },
];

/// Whether a slice that was read out of `whole` lies within it.
fn lies_within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    part.is_empty() || (whole.start <= part.start && part.end <= whole.end)
}
