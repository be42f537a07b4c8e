//! What happens in the simulated meetings.

use std::time::Duration;

use rand::RngExt;
use sluice_media::messages::{Request, WorkerEvent};
use sluice_mesh::wan::{ImpairmentConfig, Loss};
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::Layers;

use crate::DEFAULT_SEEDS;
use crate::seeds::for_each_seed;
use crate::world::{Happening, World};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn path(delay_ms: u64) -> ImpairmentConfig {
    ImpairmentConfig { delay: ms(delay_ms), ..ImpairmentConfig::default() }
}

/// A pipe that loses, reorders, duplicates and delays, some seeds more than others.
fn bad_pipe(rng: &mut impl RngExt) -> ImpairmentConfig {
    ImpairmentConfig {
        delay: ms(rng.random_range(1..60)),
        jitter: ms(rng.random_range(0..10)),
        loss: if rng.random() {
            Loss::Random(rng.random_range(0.0..0.05))
        } else {
            Loss::GilbertElliott { to_bad: 0.01, to_good: 0.3, loss_good: 0.0, loss_bad: 0.6 }
        },
        reorder: rng.random_range(0.0..0.05),
        reorder_by: ms(rng.random_range(1..30)),
        duplicate: rng.random_range(0.0..0.05),
        ..ImpairmentConfig::default()
    }
}

fn bad_access(rng: &mut impl RngExt) -> ImpairmentConfig {
    ImpairmentConfig {
        delay: ms(rng.random_range(1..25)),
        jitter: ms(rng.random_range(0..5)),
        loss: Loss::Random(rng.random_range(0.0..0.03)),
        reorder: rng.random_range(0.0..0.02),
        reorder_by: ms(rng.random_range(1..15)),
        duplicate: rng.random_range(0.0..0.02),
        ..ImpairmentConfig::default()
    }
}

/// Everybody publishes and receives everybody.
fn meeting(world: &mut World, users: usize) {
    for user in 0..users {
        let node = if user < world.mesh.len() { user } else { world.mesh.rng.random_range(0..world.mesh.len()) };
        let client = world.add_client(node);
        world.add_publication(client, MediaKind::Video);
        if world.mesh.rng.random::<bool>() {
            world.add_publication(client, MediaKind::Audio);
        }
    }
    for client in 0..users {
        for publication in 0..world.publications.len() {
            if world.publications[publication].client != client {
                world.add_subscription(client, publication);
            }
        }
    }
}

fn nothing(_: &mut World, _: usize) {}

/// Ends a run: paths heal for a while so that every loss can show, then everything comes to rest.
fn settle(world: &mut World) {
    let healed = path(5);
    world.mesh.pipes.values_mut().for_each(|pipe| pipe.set_config(healed));
    for access in world.mesh.access.values_mut() {
        access.up.set_config(healed);
        access.down.set_config(healed);
    }
    let now = world.mesh.now;
    world.run_until(now + ms(700), nothing);
    world.quiet = true;
    world.run_until(now + ms(2_500), nothing);
}

fn stormy_meeting(seed: u64) -> World {
    let mut chance = rand_chacha::ChaCha8Rng::from_seed_u64(seed);
    let nodes = chance.random_range(2..4);
    let (pipe, access) = (bad_pipe(&mut chance), bad_access(&mut chance));
    let mut world = World::new(seed, nodes, pipe, access);
    let users = chance.random_range(2..4).max(nodes);
    meeting(&mut world, users);
    world.run_until(ms(1_000), nothing);
    settle(&mut world);
    world
}

trait FromSeed {
    fn from_seed_u64(seed: u64) -> Self;
}

impl FromSeed for rand_chacha::ChaCha8Rng {
    fn from_seed_u64(seed: u64) -> Self {
        // Apart from the world's own, which has the same seed.
        rand::SeedableRng::seed_from_u64(seed ^ 0x5eed_5eed_5eed_5eed)
    }
}

#[test]
fn what_goes_in_comes_out_on_every_node() {
    for_each_seed("what_goes_in_comes_out_on_every_node", DEFAULT_SEEDS, |seed| stormy_meeting(seed).judge());
}

#[test]
fn a_seed_replays_exactly() {
    for_each_seed("a_seed_replays_exactly", DEFAULT_SEEDS, |seed| {
        if seed % 10 == 0 {
            assert_eq!(stormy_meeting(seed).mesh.finish(), stormy_meeting(seed).mesh.finish());
        }
    });
}

#[test]
fn a_clean_network_loses_nothing() {
    for_each_seed("a_clean_network_loses_nothing", DEFAULT_SEEDS, |seed| {
        let mut world = World::new(seed, 3, path(30), path(10));
        meeting(&mut world, 4);
        world.run_until(ms(600), nothing);
        settle(&mut world);
        world.judge();
        for node in 0..3 {
            let drops = world.mesh.snapshot(node).drops;
            let only_waiting = drops.iter().all(|(reason, _)| *reason == "waiting_for_key_frame");
            assert!(only_waiting, "{drops:?}");
            assert_eq!(world.mesh.snapshot(node).retransmissions_sent, 0);
        }
    });
}

#[test]
fn things_change_while_media_flow() {
    for_each_seed("things_change_while_media_flow", DEFAULT_SEEDS, |seed| {
        let mut chance = rand_chacha::ChaCha8Rng::from_seed_u64(seed);
        let (pipe, access) = (bad_pipe(&mut chance), bad_access(&mut chance));
        let mut world = World::new(seed, 2, pipe, access);
        meeting(&mut world, 3);
        for step in 1..16 {
            world.mesh.schedule(ms(step * 100), Happening::Act { action: chance.random_range(0..7) });
        }
        world.run_until(ms(1_600), act);
        resume_everything(&mut world);
        settle(&mut world);
        world.judge();
    });
}

/// One change of the meeting, chosen by the world's own chance.
fn act(world: &mut World, action: usize) {
    let open: Vec<usize> = (0..world.subscriptions.len()).filter(|s| !world.subscriptions[*s].closed).collect();
    if open.is_empty() {
        return;
    }
    let subscription = open[world.mesh.rng.random_range(0..open.len())];
    let (client, publication) =
        (world.subscriptions[subscription].client, world.subscriptions[subscription].publication);
    let node = world.clients[client].receiving.node;
    match action {
        0 | 1 => set_paused(world, subscription, action == 0),
        2 => pause_producer_for_a_while(world, publication),
        3 => world.send_pli(subscription),
        // A route ends and the next one has its id.
        4 | 5 if world.home(publication) != node => {
            let receivers: Vec<usize> = (0..world.subscriptions.len())
                .filter(|s| {
                    let s = &world.subscriptions[*s];
                    s.publication == publication && !s.closed && world.clients[s.client].receiving.node == node
                })
                .map(|s| world.subscriptions[s].client)
                .collect();
            world.close_route(publication, node);
            for client in receivers {
                world.add_subscription(client, publication);
            }
        }
        _ => {
            let consumer = world.subscriptions[subscription].consumer;
            world.mesh.request(node, Request::CloseConsumer { consumer }).expect("it is open");
            world.subscriptions[subscription].closed = true;
            world.add_subscription(client, publication);
        }
    }
}

fn set_paused(world: &mut World, index: usize, paused: bool) {
    let subscription = &mut world.subscriptions[index];
    subscription.allowed_jumps += usize::from(subscription.paused && !paused);
    subscription.paused = paused;
    let (consumer, node) = (subscription.consumer, world.clients[subscription.client].receiving.node);
    let request = if paused { Request::PauseConsumer { consumer } } else { Request::ResumeConsumer { consumer } };
    world.mesh.request(node, request).expect("it is open");
}

/// On every node at once, as if their control planes had agreed.
fn pause_producer_for_a_while(world: &mut World, publication: usize) {
    let producer = world.publications[publication].id;
    for node in 0..world.mesh.len() {
        let _ = world.mesh.request(node, Request::PauseProducer { producer });
        let at = world.mesh.now + ms(130);
        world.mesh.schedule_request(at, node, Request::ResumeProducer { producer });
    }
    world.publications[publication].was_paused = true;
    for subscription in world.subscriptions.iter_mut().filter(|s| s.publication == publication) {
        // Once for the pipe and once for the consumer: they resume at different packets.
        subscription.allowed_jumps += 2;
    }
}

fn resume_everything(world: &mut World) {
    let now = world.mesh.now;
    world.run_until(now + ms(200), nothing);
    for index in 0..world.subscriptions.len() {
        if world.subscriptions[index].paused && !world.subscriptions[index].closed {
            set_paused(world, index, false);
        }
    }
}

#[test]
fn many_who_ask_share_one_key_frame_request() {
    let mut world = World::new(7, 2, path(20), path(5));
    let publisher = world.add_client(0);
    let publication = world.add_publication(publisher, MediaKind::Video);
    // By now the first key frame is too old to begin with.
    world.run_until(ms(1_500), nothing);
    let joined_at = world.mesh.now;
    for user in 0..40 {
        let client = world.add_client(user % 2);
        world.add_subscription(client, publication);
    }
    world.run_until(ms(1_750), nothing);
    assert_eq!(world.publications[publication].key_frame_requests, [joined_at + ms(5)], "one, and at once");
    // From there on nobody waits for anything else: the request, the next frame, and the ways.
    for subscription in &world.subscriptions {
        let waited = subscription.first_packet.expect("everybody has begun") - joined_at;
        assert!(waited <= ms(5 + 33 + 5 + 20 + 5 + 2), "waited {waited:?}");
    }
    settle(&mut world);
    world.judge();
}

#[test]
fn a_joiner_right_after_a_key_frame_needs_none_of_its_own() {
    let mut world = World::new(8, 2, path(20), path(5));
    let publisher = world.add_client(0);
    let publication = world.add_publication(publisher, MediaKind::Video);
    for _ in 0..3 {
        let client = world.add_client(1);
        let now = world.mesh.now;
        let subscription = world.add_subscription(client, publication);
        world.run_until(now + ms(120), nothing);
        assert!(world.subscriptions[subscription].first_packet.is_some());
    }
    assert!(world.publications[publication].key_frame_requests.len() <= 1);
    settle(&mut world);
    world.judge();
}

#[test]
fn a_closed_producer_takes_its_routes_along() {
    let mut world = World::new(9, 2, path(20), path(5));
    meeting(&mut world, 2);
    world.run_until(ms(300), nothing);
    let (home, producer) = (world.home(0), world.publications[0].id);
    world.mesh.request(home, Request::CloseProducer { producer }).expect("it exists");
    world.run_until(ms(600), nothing);
    let snapshot = world.mesh.snapshot(home);
    let video_and_audio = world.publications.iter().filter(|p| p.client == 0).count() as u64;
    assert_eq!((snapshot.producers, snapshot.pipe_consumers), (video_and_audio - 1, video_and_audio - 1));
    assert!(world.drops(home, "unknown_ssrc") > 0, "what comes late is counted");
    // The other end is told, and asks for nothing more of it.
    let requests = world.mesh.snapshot(1).key_frame_requests;
    world.run_until(ms(2_000), nothing);
    assert_eq!(world.mesh.snapshot(1).key_frame_requests, requests);
    let router = world.routers[home];
    world.mesh.request(home, Request::CloseRouter { router }).expect("it exists");
    let snapshot = world.mesh.snapshot(home);
    assert_eq!((snapshot.routers, snapshot.transports, snapshot.producers), (0, 0, 0));
    assert_eq!((snapshot.consumers, snapshot.pipe_producers, snapshot.pipe_consumers), (0, 0, 0));
}

#[test]
fn loud_users_are_told_and_then_their_silence() {
    let mut world = World::new(10, 2, path(20), path(5));
    let client = world.add_client(0);
    let publication = world.add_publication(client, MediaKind::Audio);
    let listener = world.add_client(1);
    world.add_subscription(listener, publication);
    world.run_until(ms(2_000), nothing);
    world.quiet = true;
    world.run_until(ms(5_000), nothing);
    for node in 0..world.mesh.len() {
        let levels = |event: &WorkerEvent| match event {
            WorkerEvent::AudioLevels { volumes, .. } => Some(volumes.clone()),
            _ => None,
        };
        let told: Vec<_> = world.mesh.events(node).iter().filter_map(levels).collect();
        let loud = vec![(world.publications[publication].id, -40)];
        assert!(told.len() >= 3, "{told:?}");
        assert_eq!((told.first(), told.last()), (Some(&loud), Some(&Vec::new())));
    }
}

#[test]
fn what_a_pipe_leaves_out_leaves_no_gap() {
    let mut world = World::new(11, 2, path(20), path(5));
    let publisher = world.add_client(0);
    let publication = world.add_publication(publisher, MediaKind::Video);
    let receiver = world.add_client(1);
    let subscription = world.add_subscription(receiver, publication);
    world.run_until(ms(600), nothing);

    world.mesh.shedding.insert((0, 1));
    world.say_carried(publication, 1, None);
    world.run_until(ms(800), nothing);
    let asked = world.publications[publication].key_frame_requests.len();
    for _ in 0..5 {
        world.send_pli(subscription);
        let now = world.mesh.now;
        world.run_until(now + ms(100), nothing);
    }
    assert_eq!(world.publications[publication].key_frame_requests.len(), asked, "nothing could come of it");

    // There is room again, from a key frame on: the sending end asks for it.
    world.say_carried(publication, 1, Some(Layers::ALL));
    let now = world.mesh.now;
    world.publications[publication].request_key_frame(now);
    world.mesh.shedding.clear();
    world.subscriptions[subscription].allowed_jumps += 1;
    settle(&mut world);
    world.judge();
    let outputs: Vec<u64> = world.subscriptions[subscription].received.keys().copied().collect();
    assert!(outputs.windows(2).all(|pair| pair[1] == pair[0] + 1), "output numbers have no gap");
    let pictures: Vec<u16> = world.subscriptions[subscription].pictures.values().copied().collect();
    let steps = pictures.windows(2).map(|pair| pair[1].wrapping_sub(pair[0]) & 0x7fff);
    assert!(steps.into_iter().all(|step| step <= 1), "picture ids have no gap: {pictures:?}");
    assert!(world.drops(1, "pipe_shed") > 10);
    assert_eq!(world.mesh.snapshot(1).retransmissions_sent, 0);
}
