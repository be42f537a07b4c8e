//! Seeds of simulations. `SLUICE_SEED=<number>` runs one, which is how a failing one is replayed;
//! `SLUICE_SEEDS=<number>` sets how many are tried.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// What the environment says.
pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

/// Runs a case for every seed, the first `default` of them if the environment says nothing. A failing seed is printed.
pub(crate) fn for_each_seed(name: &str, default: u64, case: impl Fn(u64)) {
    let seeds = match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLUICE_SEEDS").unwrap_or(default),
    };
    for seed in seeds {
        if let Err(failure) = catch_unwind(AssertUnwindSafe(|| case(seed))) {
            eprintln!("{name} failed with seed {seed}; replay it with SLUICE_SEED={seed}");
            resume_unwind(failure);
        }
    }
}
