//! Data channels: clients with real DTLS and SCTP around one core, and cores with routes between them.
//!
//! `SLUICE_SEED=<number>` runs one seed of the simulations, which is how a failing one is replayed;
//! `SLUICE_SEEDS=<number>` sets how many are tried.
#![allow(missing_docs, reason = "a test")]

mod channels;
mod client;
mod limits;
mod routes;
mod simulation;
mod world;
