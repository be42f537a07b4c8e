//! The pipes between nodes: frames of media as QUIC datagrams, messages on a control stream, gossip.
//!
//! It knows peers, routes and frames; it knows no room and no placement. `ALGORITHM.md` beside this crate has the
//! drawings.
//!
//! # Layout
//! Pure, always built; time and randomness are arguments:
//! - `frame`, `data_message`: what a pipe carries.
//! - `route`: the two ends of a route: sequence numbers and repair.
//! - `shed`: what is left out when a path cannot carry all that is wanted.
//! - `pace`: how fast data may leave beside media.
//! - `message`: the framing of a control stream.
//! - `redundancy`: audio twice, where repairs come too late.
//! - [`wan`]: what a wide-area path does to packets; its relays over real sockets need the feature `relay`, which `io`
//!   includes.
//!
//! With the feature `io`:
//! - `io`: the endpoint over quinn, links, route table.
//! - [`ca`]: the cluster's CA and the certificates of its nodes.

#[cfg(feature = "io")]
pub mod ca;
mod data_message;
mod frame;
#[cfg(feature = "io")]
mod io;
mod link_key;
mod message;
mod pace;
mod redundancy;
mod route;
mod shed;
pub mod wan;
mod windowed;

pub use data_message::{
    DataDecoder, DataError, DataMessage, MAX_DATA_PAYLOAD_LEN, encode_data_message, encode_data_route,
};
pub use frame::{
    DecodeError, Encoded, Frame, FrameClass, FrameEncoder, FrameFlags, Half, MAX_SPATIAL, MAX_TEMPORAL, Reassembler,
    decode_datagram, decode_nack, encode_nacks,
};
#[cfg(feature = "io")]
pub use io::{
    BindError, FrameSink, Gossip, Inbox, LinkDownReason, LinkState, LinkStatus, Mesh, MeshConfig, MeshEvent,
    MeshLimits, MeshTls, Newer, PeerAddress, Standing,
};
pub use link_key::LinkKey;
pub use message::{MessageDecoder, MessageError, encode_message};
pub use pace::DataPace;
pub use redundancy::AudioRedundancy;
pub use route::{Accept, REPAIR_WINDOW, RouteReceiver, RouteSender};
pub use shed::{CapacityEstimator, PathSample, RepairLimit, ShedEvent, Shedder, Verdict};
