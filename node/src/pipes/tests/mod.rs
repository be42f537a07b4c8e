//! The pipes of two nodes with two media cores each, and the [mesh in memory](crate::tests::net) between them whose
//! links go up and down. Whatever happened, and in whichever order its parts were heard: what flows in the end is what
//! is wanted, and nothing else does.
//!
//! `SLUICE_SEED=<number>` runs one seed, which is how a failing one is replayed; `SLUICE_SEEDS=<number>` sets how many
//! are tried.

mod cores;
mod world;

use std::time::Duration;

use self::world::World;
use crate::tests::seeds::seeds;

/// Seeds that a plain `cargo test` tries: some seconds.
const DEFAULT_SEEDS: u64 = 24;

/// The time in which anything may happen.
const TURMOIL: Duration = Duration::from_secs(8);

/// By then the longest pause between two attempts is over, and what was sent before has arrived.
const QUIET: Duration = Duration::from_secs(7);

/// Some round trips.
const SETTLE: Duration = Duration::from_millis(400);

/// Over this time it is counted what flows.
const WATCH: Duration = Duration::from_secs(2);

#[tokio::test(start_paused = true)]
async fn what_flows_in_the_end_is_what_is_wanted_and_nothing_else() {
    for seed in seeds(DEFAULT_SEEDS) {
        println!("seed {seed}");
        let mut world = World::new(seed, 20);
        world.run(TURMOIL, true).await;
        world.heal();
        world.run(QUIET, false).await;
        let before = world.counts();
        world.run(WATCH, false).await;
        world.judge(&before, WATCH);
        // A new link needs no time to forget what was on the one before.
        world.reconnect();
        world.run(SETTLE, false).await;
        let before = world.counts();
        world.run(WATCH, false).await;
        world.judge(&before, WATCH);
    }
}

#[tokio::test(start_paused = true)]
async fn a_link_that_takes_little_at_a_time_takes_everything_in_the_end() {
    let mut world = World::new(1, 1_000);
    // Far more than the control stream's queue, the workers' queues, or both have room for.
    world.publish_many(0, 600);
    world.run(QUIET, false).await;
    world.want_everything(1);
    world.run(QUIET, false).await;
    for _ in 0..3 {
        world.reconnect();
        world.run(Duration::from_millis(300), false).await;
    }
    world.run(QUIET, false).await;
    let before = world.counts();
    world.run(WATCH, false).await;
    world.judge(&before, WATCH);
}
