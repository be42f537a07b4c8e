//! Whole nodes but for their sockets: real rooms, real pipes and real workers of several nodes on virtual time, with
//! real clients' halves as their users. Users come, publish, pause, roam, come back elsewhere and leave; links break,
//! the network splits, nodes and workers stand still. In the end everybody has what the others send and nothing else,
//! and when all have left nothing is left of them.
//!
//! What is not real: the mesh's QUIC ([`net`](super::net)), placement's gossip and streams
//! ([`rosters`](super::rosters)), sockets and threads ([`simulated`](crate::worker::simulated)).
//!
//! `SLUICE_SEED=<number>` runs one seed, which is how a failing one is replayed; `SLUICE_SEEDS=<number>` sets how many
//! are tried. A seed decides all that happens, and when. What it does not decide is what the node draws for itself, ids
//! and ICE credentials, the order of its hash maps, DTLS's randomness and which of several ready branches
//! `tokio::select!` takes: a seed that fails in one run of ten may need some more to fail again.

mod access;
mod judge;
mod lane;
mod node;
mod presence;
mod turmoil;
mod world;

use std::time::Duration;

use self::world::World;
use super::seeds::seeds;

/// Seeds that a plain `cargo test` tries: some ten seconds.
const DEFAULT_SEEDS: u64 = 40;

/// The time in which anything may happen.
const TURMOIL: Duration = Duration::from_secs(12);

/// By then the longest pause between two attempts is over, on a node as with a user, everybody is back, and it is found
/// out that what an outage seemed to show of a path is not so.
const QUIET: Duration = Duration::from_secs(20);

/// Over this time it is looked what everybody hears.
const WATCH: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn everybody_who_is_there_has_everybody_else_and_nothing_is_left_of_those_who_are_not() {
    for seed in seeds(DEFAULT_SEEDS) {
        println!("seed {seed}");
        let mut world = World::new(seed);
        world.run(TURMOIL, true).await;
        world.heal();
        world.run(QUIET, false).await;
        world.watch(WATCH).await;
        world.judge().await;
        world.disperse();
        world.run(QUIET, false).await;
        world.judge_emptiness().await;
        world.shut_down().await;
    }
}
