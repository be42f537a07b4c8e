//! What a media core sends towards subscribers, packet by packet on virtual time: numbers, retransmissions, beginnings,
//! and what their feedback can make it do.
#![allow(missing_docs, reason = "tests")]

mod audio_limit;
mod bandwidth;
mod core;
mod extensions;
mod g711;
mod h265;
mod key_frames;
mod last_n;
mod layers;
mod numbering;
mod overload;
mod parameter_sets;
mod redundancy;
mod retransmission;
#[path = "../common/seeds.rs"]
mod seeds;
mod simulcast;
mod traces;
mod traffic;
