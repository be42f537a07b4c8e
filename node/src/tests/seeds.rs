//! Which runs of a simulation are tried, as the environment says.

/// A number out of the environment.
pub(super) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|number| number.parse().expect("a number"))
}

/// The seed `SLUICE_SEED`, or the first `SLUICE_SEEDS`.
pub(crate) fn seeds(default: u64) -> std::ops::Range<u64> {
    match number("SLUICE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SLUICE_SEEDS").unwrap_or(default),
    }
}
