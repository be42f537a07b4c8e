//! Media cores of two to three nodes with simulated pipes and clients between them, on virtual time and from one seed:
//! what goes in on one node comes out on the others, whatever the paths do to it. [`shipped`] has loadtest's scenarios
//! on the same ground.
//!
//! `SLUICE_SEED=<number>` runs one seed, which is how a failing one is replayed; `SLUICE_SEEDS=<number>` sets how many
//! are tried.

mod client;
mod judge;
mod malice;
mod mesh;
mod parameters;
mod publication;
mod publishers;
mod scenarios;
mod shipped;
mod subscription;
mod traffic;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Seeds that a plain `cargo test` tries: half a minute on two cores.
const DEFAULT_SEEDS: u64 = 500;

/// What the environment says.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

/// Runs a scenario for every seed. A failing seed is printed.
fn for_each_seed(name: &str, scenario: impl Fn(u64)) {
    let seeds = match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLUICE_SEEDS").unwrap_or(DEFAULT_SEEDS),
    };
    for seed in seeds {
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
            eprintln!("{name} failed with seed {seed}; replay it with SLUICE_SEED={seed}");
            resume_unwind(failure);
        }
    }
}
