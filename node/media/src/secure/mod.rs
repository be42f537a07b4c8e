//! How two ends find and trust each other: ICE for the path, DTLS for the keys, SRTP for the packets.

pub mod dtls;
pub mod ice;
pub mod srtp;
