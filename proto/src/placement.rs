//! The protobuf messages and gRPC services of placement, generated from `placement.proto`.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::too_many_lines)]

include!(concat!(env!("OUT_DIR"), "/sluice.placement.v1.rs"));
