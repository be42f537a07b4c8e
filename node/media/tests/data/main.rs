//! Data channels: clients with real DTLS and SCTP around one core, and cores with routes between them.
#![allow(missing_docs, reason = "a test")]

mod channels;
mod client;
mod limits;
mod routes;
#[path = "../common/seeds.rs"]
mod seeds;
mod simulation;
mod world;
