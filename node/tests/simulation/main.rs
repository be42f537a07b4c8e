//! Media cores of two to three nodes with simulated pipes and clients between them, on virtual time and from one seed:
//! what goes in on one node comes out on the others, whatever the paths do to it. [`shipped`] has loadtest's scenarios
//! on the same ground.

mod client;
mod judge;
mod malice;
mod mesh;
mod parameters;
mod publication;
mod publishers;
mod scenarios;
#[path = "../../media/tests/common/seeds.rs"]
mod seeds;
mod shipped;
mod subscription;
mod traffic;
mod world;

/// Seeds that a plain `cargo test` tries: half a minute on two cores.
const DEFAULT_SEEDS: u64 = 500;
