//! From core to core.

use std::time::Duration;

use sluice_media::drop_reason::DropReason;
use sluice_media::messages::{Request, RequestError, WorkerEvent};
use sluice_mesh::DataMessage;
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::ortc::SctpStreamParameters;
use sluice_proto::pipe::{FeedbackBody, RouteFeedback};

use crate::client::BINARY;
use crate::world::{Losses, World, end, producer, reliable, unreliable};

const SECOND: Duration = Duration::from_secs(1);

/// A publisher on the first core, viewers on all others, of which each gets it from the one before.
fn chain(cores: usize, seed: u64, stream: fn(u16) -> SctpStreamParameters) -> World {
    let mut world = World::new(cores, seed);
    let publisher = world.add_client(0, true);
    world.produce(publisher, 1, stream(0));
    for core in 1..cores {
        let viewer = world.add_client(core, true);
        world.route(1, (core - 1, core), core as u32, stream(0));
        world.consume(viewer, core as u8, 1, stream(9));
    }
    world.pass(SECOND);
    world
}

fn send(world: &mut World, numbers: std::ops::Range<u32>, stream: fn(u16) -> SctpStreamParameters) {
    for number in numbers {
        world.act(0, |client, now| client.send(now, &stream(0), BINARY, &number.to_be_bytes()));
        world.pass(Duration::from_millis(5));
    }
}

fn numbers(world: &World, client: usize) -> Vec<u32> {
    let number = |payload: &Vec<u8>| u32::from_be_bytes(payload[..4].try_into().expect("four bytes"));
    world.clients[client].received.iter().map(|message| number(&message.payload)).collect()
}

#[test]
fn messages_go_along_a_chain_of_cores() {
    let mut world = chain(3, 1, reliable);
    let large = vec![7; 262_144];
    send(&mut world, 0..20, reliable);
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, &large));
    world.pass(5 * SECOND);
    for client in [1, 2] {
        assert_eq!(numbers(&world, client)[..20], (0..20).collect::<Vec<_>>());
        assert_eq!(world.clients[client].received[20].payload, large);
    }
    let [home, middle, last] = [0, 1, 2].map(|core| world.snapshot(core));
    assert_eq!((home.data_producers, home.pipe_data_producers, home.pipe_data_consumers), (1, 0, 1));
    assert_eq!((middle.data_producers, middle.pipe_data_producers, middle.pipe_data_consumers), (0, 1, 1));
    assert_eq!((last.pipe_data_producers, last.pipe_data_consumers, last.data_consumers), (1, 0, 1));
    assert_eq!(world.producer_stats(0, 1).buffered, 0, "all of it is acknowledged");
}

#[test]
fn nobody_misses_what_a_new_producer_says_first() {
    let mut world = World::new(2, 1);
    let publisher = world.add_client(0, true);
    let viewer = world.add_client(1, true);
    world.produce(publisher, 1, reliable(0));
    world.pass(SECOND);
    send(&mut world, 0..3, reliable);
    world.pass(SECOND);
    world.route(1, (0, 1), 1, reliable(0));
    world.consume(viewer, 1, 1, reliable(9));
    world.pass(SECOND);
    send(&mut world, 3..5, reliable);
    world.pass(SECOND);
    assert_eq!(numbers(&world, 1), (0..5).collect::<Vec<_>>());
}

#[test]
fn what_is_lost_on_the_way_is_sent_again() {
    let mut world = chain(3, 1, reliable);
    world.losses = Losses { messages: 0.05, feedback: 0.2, datagrams: 0.0 };
    send(&mut world, 0..500, reliable);
    world.pass(60 * SECOND);
    for client in [1, 2] {
        assert_eq!(numbers(&world, client), (0..500).collect::<Vec<_>>());
    }
    assert!(world.drops(1, DropReason::DataGap) > 0);
}

#[test]
fn unreliable_messages_are_not_asked_for_again() {
    let mut world = chain(2, 1, unreliable);
    world.losses = Losses { messages: 0.2, feedback: 0.3, datagrams: 0.0 };
    send(&mut world, 0..500, unreliable);
    world.pass(20 * SECOND);
    let came = numbers(&world, 1);
    assert!((300..480).contains(&came.len()) && came.is_sorted(), "{} came", came.len());
    assert!(!world.is_closed(1, 1));
    world.losses = Losses::default();
    send(&mut world, 500..510, unreliable);
    world.pass(SECOND);
    assert_eq!(numbers(&world, 1)[came.len()..], (500..510).collect::<Vec<_>>());
}

#[test]
fn who_comes_new_gets_no_history() {
    let mut world = chain(2, 1, reliable);
    send(&mut world, 0..10, reliable);
    let later = world.add_client(1, true);
    world.consume(later, 7, 1, reliable(9));
    // Another node, with nothing of that producer yet.
    let mut fresh = World::new(2, 2);
    let publisher = fresh.add_client(0, true);
    fresh.produce(publisher, 1, reliable(0));
    send(&mut fresh, 0..10, reliable);
    // It is not as new as that everybody who was there is to get all.
    fresh.pass(5 * SECOND);
    let viewer = fresh.add_client(1, true);
    fresh.route(1, (0, 1), 1, reliable(0));
    fresh.consume(viewer, 1, 1, reliable(9));
    for (world, client) in [(&mut world, later), (&mut fresh, viewer)] {
        send(world, 10..20, reliable);
        world.pass(SECOND);
        assert_eq!(numbers(world, client), (10..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_route_that_is_moved_goes_on_where_the_former_one_ended() {
    let mut world = chain(2, 1, reliable);
    send(&mut world, 0..10, reliable);
    // The pipe breaks: what is under way is lost, and for a while there is no route.
    world.losses.messages = 1.0;
    send(&mut world, 10..20, reliable);
    world.close_route((0, 1), 1);
    world.request(1, Request::MovePipeProducer { producer: producer(1), route: None });
    send(&mut world, 20..30, reliable);
    world.losses.messages = 0.0;
    world.route(1, (0, 1), 2, reliable(0));
    send(&mut world, 30..40, reliable);
    world.pass(2 * SECOND);
    assert_eq!(numbers(&world, 1), (0..40).collect::<Vec<_>>());
    assert!(!world.is_closed(1, 1));
    // Again, and what both ends say at the beginning is lost.
    world.close_route((0, 1), 2);
    send(&mut world, 40..50, reliable);
    world.losses.feedback = 1.0;
    world.route(1, (0, 1), 3, reliable(0));
    send(&mut world, 50..60, reliable);
    world.losses.feedback = 0.0;
    world.pass(2 * SECOND);
    assert_eq!(numbers(&world, 1), (0..60).collect::<Vec<_>>());
}

#[test]
fn a_route_that_is_moved_before_anything_came_loses_nothing() {
    let mut world = chain(2, 1, reliable);
    // It is not as new as that everybody who was there is to get all.
    world.pass(6 * SECOND);
    world.losses.messages = 1.0;
    send(&mut world, 0..3, reliable);
    world.losses.messages = 0.0;
    world.close_route((0, 1), 1);
    world.request(1, Request::MovePipeProducer { producer: producer(1), route: None });
    world.route(1, (0, 1), 2, reliable(0));
    world.pass(SECOND);
    assert_eq!(numbers(&world, 1), [0, 1, 2]);
    // Of the first that there are one finds a queue full.
    let mut world = chain(2, 1, reliable);
    world.losses.messages = 1.0;
    send(&mut world, 0..1, reliable);
    world.losses.messages = 0.0;
    send(&mut world, 1..3, reliable);
    world.pass(SECOND);
    assert_eq!((numbers(&world, 1), world.is_closed(1, 1)), (vec![0, 1, 2], false));
}

/// What ends tell each other overtakes the messages.
#[test]
fn a_narrow_pipe_carries_each_message_once_however_long_that_takes() {
    let mut world = chain(2, 1, reliable);
    world.pipe_rate = Some(12_500);
    for size in [200_000, 1_000, 40_000] {
        world.act(0, |client, now| client.send(now, &reliable(0), BINARY, &vec![7; size]));
    }
    world.pass(16 * SECOND);
    assert!(world.clients[1].received.is_empty());
    world.pass(6 * SECOND);
    let sizes: Vec<_> = world.clients[1].received.iter().map(|message| message.payload.len()).collect();
    assert_eq!(sizes, [200_000, 1_000, 40_000]);
    let again = [DropReason::DataGap, DropReason::PipeDuplicate].map(|reason| world.drops(1, reason));
    assert_eq!((again, world.is_closed(1, 1)), ([0, 0], false));
}

#[test]
fn what_was_lost_for_ever_closes_those_who_were_to_lose_nothing() {
    let mut world = chain(3, 1, reliable);
    send(&mut world, 0..10, reliable);
    world.pass(SECOND);
    world.close_route((0, 1), 1);
    send(&mut world, 10..20, reliable);
    world.pass(31 * SECOND);
    send(&mut world, 20..30, reliable);
    world.route(1, (0, 1), 2, reliable(0));
    send(&mut world, 30..40, reliable);
    world.pass(2 * SECOND);
    assert!(world.is_closed(1, 1) && world.is_closed(2, 2));
    assert_eq!(numbers(&world, 1), (0..10).collect::<Vec<_>>());
    // Whoever begins now loses nothing.
    let viewer = world.add_client(2, true);
    world.consume(viewer, 9, 1, reliable(9));
    send(&mut world, 40..50, reliable);
    world.pass(2 * SECOND);
    assert_eq!(numbers(&world, viewer), (40..50).collect::<Vec<_>>());
}

#[test]
fn a_route_that_takes_nothing_has_its_publisher_wait_and_is_given_up() {
    let mut world = chain(2, 1, reliable);
    let near = world.add_client(0, true);
    world.consume(near, 2, 1, reliable(9));
    world.losses.messages = 1.0;
    let began = world.now;
    let mut sent = 0;
    while world.now < began + 9 * SECOND {
        if world.clients[0].buffered(0) < 200_000 {
            world.act(0, |client, now| client.send(now, &reliable(0), BINARY, &[7; 20_000]));
            sent += 1;
        }
        world.pass(Duration::from_millis(5));
    }
    let waiting = world.producer_stats(0, 1).buffered;
    assert!((512 * 1024..700 * 1024).contains(&waiting), "{waiting} bytes");
    let before = world.clients[near].received.len();
    assert!(before < 40 && sent > before, "{before} of {sent}");
    world.losses.messages = 0.0;
    world.pass(30 * SECOND);
    // Nothing of it was lost: the other end came back before it was given up.
    assert_eq!((world.clients[near].received.len(), world.clients[1].received.len()), (sent, sent));

    world.losses.messages = 1.0;
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, b"lost"));
    world.pass(12 * SECOND);
    assert_eq!(world.producer_stats(0, 1).buffered, 0, "it is stuck");
    world.losses.messages = 0.0;
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, b"newest"));
    world.pass(2 * SECOND);
    assert!(world.is_closed(1, 1) && !world.is_closed(0, 2));
    assert_eq!(world.clients[near].received.len(), sent + 2);
}

#[test]
fn routes_end_with_what_they_are_of() {
    let mut world = chain(3, 1, reliable);
    let taken = Request::CreatePipeDataProducer {
        router: crate::world::ROUTER,
        producer: producer(2),
        stream: reliable(0),
        route: Some(sluice_media::messages::RouteIn { from: end(0), route: RouteId(1), epoch: RouteEpoch(1) }),
    };
    assert!(matches!(world.try_request(1, taken), Err(RequestError::AlreadyExists(_))));
    world.request(1, Request::CloseProducer { producer: producer(1) });
    let middle = world.snapshot(1);
    assert_eq!((middle.pipe_data_producers, middle.pipe_data_consumers, middle.data_consumers), (0, 0, 0));
    send(&mut world, 0..10, reliable);
    world.pass(SECOND);
    assert!(world.drops(1, DropReason::UnknownRoute) > 0);
    assert!(world.drops(0, DropReason::StaleFeedback) == 0);
    world.close_route((0, 1), 1);
    assert_eq!(world.snapshot(0).pipe_data_consumers, 0);
}

#[test]
fn what_is_no_ones_is_counted_and_changes_nothing() {
    let mut world = chain(2, 1, reliable);
    send(&mut world, 0..3, reliable);
    world.pass(SECOND);
    let message = |route: u32, epoch: u8, number: u64| DataMessage {
        route: RouteId(route),
        epoch: RouteEpoch(epoch),
        number,
        ppid: BINARY,
        payload: vec![0; 4].into(),
    };
    for (reason, message) in [
        (DropReason::UnknownRoute, message(7, 1, 3)),
        (DropReason::StaleRoute, message(1, 2, 3)),
        (DropReason::PipeDuplicate, message(1, 1, 2)),
        (DropReason::DataGap, message(1, 1, 4)),
        (DropReason::DataNumberTooLarge, message(1, 1, u64::MAX)),
    ] {
        world.deliver(1, end(0), message);
        assert_eq!(world.drops(1, reason), 1, "{reason:?}");
    }
    for (core, from, epoch, body) in [
        (1, 0, 2, FeedbackBody::DataOffered { oldest: 9, next: 9 }),
        (0, 1, 2, FeedbackBody::DataReceived { next: 9, missed: Some(0) }),
        (0, 1, 1, FeedbackBody::DataReceived { next: u64::MAX, missed: None }),
        (1, 0, 1, FeedbackBody::DataOffered { oldest: u64::MAX, next: 0 }),
    ] {
        world.tell(core, end(from), RouteFeedback { route: 1, epoch, body });
    }
    assert_eq!((world.drops(0, DropReason::StaleFeedback), world.drops(1, DropReason::StaleFeedback)), (1, 1));
    send(&mut world, 3..10, reliable);
    world.pass(SECOND);
    assert_eq!(numbers(&world, 1), (0..10).collect::<Vec<_>>());
    assert!(world.cores[1].events.iter().all(|event| !matches!(event, WorkerEvent::DataConsumerClosed { .. })));
}
