//! Bandwidth towards receivers, simulated against the real core on virtual time: bottlenecks that change, lose and are
//! shared, clients that tell what arrives as browsers do, and what they get to see.
//!
//! `SLUICE_SEED=<number>` runs one seed, which is how a failing one is replayed; `SLUICE_SEEDS=<number>` sets how many
//! are tried.

mod cases;
mod control;
mod publisher;
mod statistics;
mod tcp;
mod viewer;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Seeds that a plain `cargo test` tries: some seconds.
const DEFAULT_SEEDS: u64 = 3;

/// What the environment says.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

/// Runs a case for every seed. A failing seed is printed.
fn for_each_seed(name: &str, case: impl Fn(u64)) {
    let seeds = match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLUICE_SEEDS").unwrap_or(DEFAULT_SEEDS),
    };
    for seed in seeds {
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| case(seed))) {
            eprintln!("{name} failed with seed {seed}; replay it with SLUICE_SEED={seed}");
            resume_unwind(failure);
        }
    }
}
