//! What is promised, on paths that change, lose and are shared.

use std::time::{Duration, Instant};

use super::publisher::RATES;
use super::tcp::Tcp;
use super::world::World;
use crate::seeds::for_each_seed;

/// Seeds that a plain `cargo test` tries: some seconds.
const SEEDS: u64 = 3;

/// How long a path that has become narrower may show it: until the client has told of it, and what is under way is
/// through.
const NARROWING: Duration = Duration::from_millis(1_500);

/// Most that may wait at the bottleneck for our sake.
const MAX_QUEUE: Duration = Duration::from_millis(150);

/// A phase of a path, and the encoding that fits.
struct Phase {
    seconds: f64,
    bits_per_second: u64,
    encoding: u8,
}

const fn phase(seconds: f64, bits_per_second: u64, encoding: u8) -> Phase {
    Phase { seconds, bits_per_second, encoding }
}

#[test]
fn layers_follow_a_path_that_narrows_and_widens() {
    for_each_seed("narrowing", SEEDS, |seed| {
        let phases =
            [phase(20.0, 5_000_000, 2), phase(20.0, 1_000_000, 1), phase(20.0, 300_000, 0), phase(25.0, 5_000_000, 2)];
        let mut world = World::new(1, phases[0].bits_per_second, seed);
        let start = world.now();
        for (number, phase) in phases.iter().enumerate() {
            let begin = world.now();
            world.set_link(phase.bits_per_second, 0.0);
            world.run(phase.seconds);
            let is_narrower = number > 0 && phase.encoding < phases[number - 1].encoding;
            let within = Duration::from_millis(if is_narrower { 1_000 } else { 10_000 });
            check(&world, phase, (begin, within), is_narrower);
        }
        let freeze = world.viewers[0].longest_freeze(start);
        assert!(freeze <= Duration::from_millis(500), "a freeze of {freeze:?}");
    });
}

fn check(world: &World, phase: &Phase, (begin, within): (Instant, Duration), is_narrower: bool) {
    let end = world.now();
    let after = |sent: &&super::world::Sent| sent.at >= begin + within && sent.at < end;
    let wrong = world.sent.iter().filter(after).find(|sent| sent.encoding.is_some_and(|it| it != phase.encoding));
    let wrong = wrong.map(|sent| (sent.at - begin, sent.encoding));
    assert!(wrong.is_none(), "at {} bit/s encoding {wrong:?}", phase.bits_per_second);
    let calm = begin + if is_narrower { NARROWING } else { Duration::ZERO };
    let queue = world.longest_queue(calm, end);
    assert!(queue <= MAX_QUEUE, "{queue:?} wait at {} bit/s", phase.bits_per_second);
    let used = world.rate(0, begin + within, end) / f64::from(RATES[usize::from(phase.encoding)]);
    assert!(used >= 0.85, "{used:.2} of what fits into {} bit/s", phase.bits_per_second);
}

#[test]
fn random_loss_is_no_congestion() {
    for_each_seed("loss", SEEDS, |seed| {
        let mut world = World::new(1, 4_000_000, seed);
        world.run(10.0);
        let before = world.estimates.last().expect("some").1[0].expect("it is known");
        world.set_link(4_000_000, 0.1);
        let begin = world.now();
        world.run(60.0);
        let lowest = world.estimates.iter().filter(|(at, _)| *at >= begin).filter_map(|(_, of)| of[0]).min();
        assert!(lowest.expect("it is known") * 2 > before, "from {before} to {lowest:?}");
        let rate = world.rate(0, begin, world.now());
        assert!(rate >= 0.8 * f64::from(RATES[2]), "{rate} bit/s");
    });
}

#[test]
fn much_loss_is_congestion() {
    for_each_seed("much loss", SEEDS, |seed| {
        let mut world = World::new(1, 4_000_000, seed);
        world.run(10.0);
        world.set_link(4_000_000, 0.35);
        world.run(15.0);
        let last = world.estimates.last().expect("some").1[0].expect("it is known");
        assert!(last < 1_500_000, "{last}");
    });
}

#[test]
fn two_clients_share_a_path() {
    for_each_seed("two", SEEDS, |seed| {
        let mut world = World::new(2, 3_500_000, seed);
        world.run(80.0);
        let (from, to) = (world.start + Duration::from_secs(20), world.now());
        let rates = [0, 1].map(|viewer| world.rate(viewer, from, to));
        assert!(rates.iter().all(|rate| *rate >= 0.85 * f64::from(RATES[1])), "{rates:?}");
        // Both may have gone too high together, and wait for a while before they try again.
        assert!(rates.iter().sum::<f64>() >= 0.5 * f64::from(RATES[1] + RATES[2]), "{rates:?}");
        let freezes = world.viewers.iter().map(|viewer| viewer.longest_freeze(from)).max();
        assert!(freezes <= Some(Duration::from_millis(500)), "{freezes:?}");
    });
}

#[test]
fn neither_starves_beside_tcp() {
    for_each_seed("tcp", SEEDS, |seed| {
        let mut world = World::new(1, 4_000_000, seed);
        world.run(5.0);
        world.tcp = Some(Tcp::new());
        let from = world.now();
        world.run(90.0);
        let ours = world.rate(0, from, world.now());
        let delivered = world.tcp.as_ref().expect("it runs").delivered;
        let theirs = delivered as f64 * 8.0 / (world.now() - from).as_secs_f64();
        assert!(ours >= 300_000.0, "{ours:.0} of ours, {theirs:.0} of TCP");
        assert!(theirs >= 1_000_000.0, "{ours:.0} of ours, {theirs:.0} of TCP");
    });
}
