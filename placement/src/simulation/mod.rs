//! Many cores on virtual time, from a seed: calls are lost and reordered, streams break half-open, nodes die and come
//! back, the network splits and heals. What must hold at every event is checked by [`node::SimNode`], what must hold in
//! the end here.

mod node;
mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use sluice_proto::ids::NodeInstance;

use crate::testing::room;
use world::{Chaos, World};

const SEEDS: u64 = 500;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Prints the seed of a run that fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the failing seed is {}", self.0);
        }
    }
}

#[test]
fn everybody_comes_to_know_the_truth() {
    for seed in 0..SEEDS {
        let _seed = Seed(seed);
        let mut world = World::new(seed, 5, Chaos::FULL);
        world.run_with_actions(ms(20_000));
        world.calm_down();
        world.run_for(ms(15_000));
        world.assert_truth();
        world.leave_everything();
        world.run_for(ms(15_000));
        world.assert_nothing_left();
    }
}

#[test]
fn a_run_replays_exactly() {
    let run = || {
        let mut world = World::new(7, 5, Chaos::FULL);
        world.run_with_actions(ms(10_000));
        world.fingerprint()
    };
    assert_eq!(run(), run());
}

/// Two round trips: to the directory, to the other node. No timer is in the way.
#[test]
fn a_join_waits_for_no_timer() {
    let mut world = World::new(1, 6, Chaos::NONE);
    world.one_way = ms(50);
    world.run_for(ms(1_000));
    world.enter(0, "r");
    world.publish(0, "r", 3);
    world.run_for(ms(1_000));
    world.enter(1, "r");
    world.publish(1, "r", 2);
    world.run_for(ms(201));
    world.assert_sees(1, "r", 0);
    world.run_for(ms(50));
    world.assert_sees(0, "r", 1);
    world.publish(1, "r", 4);
    world.run_for(ms(51));
    world.assert_sees(0, "r", 1);
}

#[test]
fn a_room_does_not_notice_that_its_owners_die() {
    for seed in 0..50 {
        let _seed = Seed(seed);
        let mut world = World::new(seed, 6, Chaos::NONE);
        world.run_for(ms(1_000));
        let owners: BTreeSet<usize> = world.owners("r").into_iter().collect();
        let users: Vec<usize> = (0..6).filter(|node| !owners.contains(node)).take(2).collect();
        for &user in &users {
            world.enter(user, "r");
            world.publish(user, "r", 1);
        }
        world.run_for(ms(1_000));
        owners.iter().for_each(|&owner| world.kill(owner));
        let events = world.events();
        world.run_for(ms(10_000));
        assert_eq!(world.events(), events, "nobody was told anything");
        world.publish(users[0], "r", 2);
        world.run_for(ms(200));
        world.assert_sees(users[1], "r", users[0]);
        world.assert_truth();
    }
}

#[test]
fn a_node_back_within_a_second_leaves_nothing_of_its_former_self() {
    for seed in 0..100 {
        let _seed = Seed(seed);
        let mut world = World::new(seed, 4, Chaos::NONE);
        world.run_for(ms(1_000));
        for node in 0..3 {
            world.enter(node, "r");
            world.publish(node, "r", 2);
        }
        world.run_for(ms(1_000));
        world.kill(2);
        world.run_for(ms(100 + seed * 9));
        world.start(2);
        world.run_for(ms(1_500));
        assert_eq!(world.seen(0, "r"), BTreeSet::from([world.instance(1)]));
        world.enter(2, "r");
        world.run_for(ms(500));
        assert_eq!(world.seen(0, "r"), BTreeSet::from([world.instance(1), world.instance(2)]));
        world.assert_truth();
    }
}

#[test]
fn each_side_of_a_split_goes_on_and_both_heal() {
    for seed in 0..50 {
        let _seed = Seed(seed);
        let mut world = World::new(seed, 6, Chaos::NONE);
        world.run_for(ms(1_000));
        for node in 0..6 {
            world.enter(node, "r");
            world.publish(node, "r", 1);
        }
        world.run_for(ms(1_000));
        world.split([0, 1, 2]);
        world.run_for(ms(8_000));
        let side =
            |nodes: [usize; 2]| nodes.map(|node| world.instance(node)).into_iter().collect::<BTreeSet<NodeInstance>>();
        assert_eq!(world.seen(0, "r"), side([1, 2]));
        assert_eq!(world.seen(5, "r"), side([3, 4]));
        world.publish(1, "r", 5);
        world.run_for(ms(200));
        world.assert_sees(0, "r", 1);
        world.heal();
        world.run_for(ms(10_000));
        world.assert_truth();
        assert_eq!(world.seen(5, "r").len(), 5);
    }
}

#[test]
fn followers_that_miss_deltas_ask_for_snapshots() {
    let mut gaps = 0;
    for seed in 0..100 {
        let _seed = Seed(seed);
        let mut world = World::new(seed, 4, Chaos { deltas: 0.2, ..Chaos::NONE });
        world.run_for(ms(1_000));
        for node in 0..4 {
            world.enter(node, "r");
        }
        for step in 0..40 {
            world.publish(step % 4, "r", step % 7);
            world.run_for(ms(300));
        }
        world.calm_down();
        for node in 0..4 {
            // A lost last update shows with the next one.
            world.publish(node, "r", 20);
            world.publish(node, "r", 21);
        }
        world.run_for(ms(3_000));
        world.assert_truth();
        gaps += world.gaps();
    }
    assert!(gaps > 100, "{gaps}");
}

#[test]
fn rooms_do_not_mix() {
    let mut world = World::new(3, 3, Chaos::NONE);
    world.run_for(ms(1_000));
    world.enter(0, "r");
    world.publish(0, "r", 1);
    world.enter(1, "s");
    world.run_for(ms(1_000));
    assert_eq!(world.seen(1, "s"), BTreeSet::new());
    assert_eq!(world.parts_followed(1), 0);
    assert_eq!(world.lookup(&room("s")), BTreeSet::from([world.instance(1)]));
}
