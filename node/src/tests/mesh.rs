//! Rooms over several workers and nodes: who sees whom, and which routes are made and given back.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sluice_media::messages::{PipeEnd, Request, RouteIn, WorkerIndex};
use sluice_proto::ids::{NodeInstance, ProducerId, RoomKey, RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, RouteCloseReason, RouteControl, Wanted};

use super::fakes::{FakeWorker, ROUTES, World};
use super::{TestNode, rtp};

/// Two nodes with a pipe between them.
fn two_nodes(workers: u16) -> (World, TestNode, TestNode) {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", workers), TestNode::start(&world, "us-1", workers));
    world.link_up(&eu.instance, &us.instance);
    (world, eu, us)
}

async fn pipe_producer(worker: &FakeWorker) -> (ProducerId, Option<RouteIn>) {
    let made = worker.asked(|request| match request {
        Request::CreatePipeProducer { producer, route, .. } => Some((*producer, *route)),
        _ => None,
    });
    made.await
}

/// The next change of the way that a producer comes by.
async fn moved(worker: &FakeWorker) -> (ProducerId, Option<RouteIn>) {
    let moved = worker.asked(|request| match request {
        Request::MovePipeProducer { producer, route } => Some((*producer, *route)),
        _ => None,
    });
    moved.await
}

async fn pipe_consumer(worker: &FakeWorker) -> (ProducerId, PipeEnd, RouteId, RouteEpoch) {
    let made = worker.asked(|request| match request {
        Request::CreatePipeConsumer { producer, to, route, epoch, .. } => Some((*producer, *to, *route, *epoch)),
        _ => None,
    });
    made.await
}

fn bodies(world: &World) -> Vec<(NodeInstance, ControlBody)> {
    world.said().into_iter().map(|(from, _, message)| (from, message.body)).collect()
}

fn subscriptions(world: &World) -> usize {
    bodies(world).into_iter().filter(|(_, body)| matches!(body, ControlBody::Subscribe { .. })).count()
}

fn closed(route: RouteIn, reason: RouteCloseReason) -> RouteControl {
    RouteControl { route: route.route.0, epoch: route.epoch.0, body: ControlBody::RouteClosed(reason) }
}

#[tokio::test(start_paused = true)]
async fn peers_of_two_nodes_meet_through_one_route() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    let video = alice.produce("video", rtp::vp8(1)).await;
    let producer: ProducerId = video.parse().unwrap();

    let mut bob = us.open("room", "bob");
    bob.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    assert_eq!(us.rooms.snapshot().routes_in, 0, "nothing is brought for somebody who has not joined");
    let joined = bob.join().await;
    assert_eq!(pipe_producer(&us.workers[0]).await, (producer, None));
    let (piped, Some(RouteIn { from, route, epoch })) = moved(&us.workers[0]).await else { panic!("no route") };
    assert_eq!(piped, producer);
    let served = pipe_consumer(&eu.workers[0]).await;
    assert_eq!((served.0, served.2, served.3), (producer, route, epoch));
    assert!(matches!((from, served.1), (PipeEnd::Node(_), PipeEnd::Node(_))));

    assert_eq!((&joined["peers"][0]["id"], &joined["peers"][0]["region"]), (&json!("alice"), &json!("region-of-eu-1")));
    let newcomer = alice.next_notification("newPeer").await;
    assert_eq!(
        (&newcomer["id"], &newcomer["node"], &newcomer["region"]),
        (&json!("bob"), &json!("us-1"), &json!("region-of-us-1"))
    );
    let consumer = bob.accept_consumer().await;
    assert_eq!((&consumer["producerId"], &consumer["appData"]["hops"]), (&json!(video), &json!(1)));

    // A second peer of the node costs no second route.
    let mut carol = us.join("room", "carol").await;
    carol.accept_consumer().await;
    assert_eq!(subscriptions(&world), 1);

    alice.request("pauseProducer", json!({"producerId": video})).await.unwrap();
    bob.next_notification("consumerPaused").await;
    us.workers[0].asked(|request| matches!(request, Request::PauseProducer { .. }).then_some(())).await;
    alice.request("changeDisplayName", json!({"displayName": "Alicia"})).await.unwrap();
    assert_eq!(bob.next_notification("peerDisplayNameChanged").await["oldDisplayName"], "A name");

    alice.request("closeProducer", json!({"producerId": video})).await.unwrap();
    bob.next_notification("consumerClosed").await;
    carol.next_notification("consumerClosed").await;
    alice.hang_up();
    assert_eq!(bob.next_notification("peerClosed").await["peerId"], "alice");
    assert_eq!((us.rooms.snapshot().routes_in, eu.rooms.snapshot().routes_out), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_last_consumer_gives_the_route_back() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("audio", rtp::opus(1)).await;
    let (mut bob, mut carol) = (us.join("room", "bob").await, us.join("room", "carol").await);
    bob.accept_consumer().await;
    carol.accept_consumer().await;
    let (_, _, route, epoch) = pipe_consumer(&eu.workers[0]).await;
    bob.hang_up();
    alice.next(|message| message["method"] == "peerClosed" && message["data"]["peerId"] == "bob").await;
    assert_eq!(us.rooms.snapshot().routes_in, 1, "carol still listens");
    carol.hang_up();
    let closed = eu.workers[0].asked(|request| match request {
        Request::ClosePipeConsumer { route, epoch, .. } => Some((*route, *epoch)),
        _ => None,
    });
    assert_eq!(closed.await, (route, epoch));
    assert!(bodies(&world).iter().any(|(_, body)| *body == ControlBody::Unsubscribe));
    assert_eq!((us.rooms.snapshot().routes_in, eu.rooms.snapshot().routes_out), (0, 0));
    assert_eq!(us.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn further_workers_branch_off_the_entry_worker() {
    let (world, eu, us) = two_nodes(2);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    // A room stays on one worker until that has much more to do than the other.
    let mut listeners = Vec::new();
    for number in 0..40 {
        let mut listener = us.join("room", &format!("listener-{number}")).await;
        listener.accept_consumer().await;
        listeners.push(listener);
    }
    let (entry_of, _) = pipe_producer(&us.workers[0]).await;
    assert!(matches!(moved(&us.workers[0]).await, (_, Some(RouteIn { from: PipeEnd::Node(_), .. }))));
    let (branch_of, branch) = pipe_producer(&us.workers[1]).await;
    let RouteIn { from, route, epoch } = branch.expect("a branch has its route at once");
    assert_eq!((branch_of, from), (entry_of, PipeEnd::Worker(WorkerIndex(0))));
    assert_eq!(pipe_consumer(&us.workers[0]).await, (entry_of, PipeEnd::Worker(WorkerIndex(1)), route, epoch));
    assert_eq!(subscriptions(&world), 1, "one copy per node");

    // Everybody of the entry worker leaves: the producer still comes in there.
    let on_branch = listeners.split_off(33);
    drop(listeners);
    alice.settle().await;
    assert_eq!((us.workers[0].counts().0, us.workers[0].counts().2), (1, 1));
    assert_eq!(us.rooms.snapshot().routes_in, 1);
    drop(on_branch);
    alice.settle().await;
    assert_eq!((us.workers[0].counts(), us.workers[1].counts()), ((0, 0, 0, 0), (0, 0, 0, 0)));
    assert_eq!((us.rooms.snapshot().routes_in, us.rooms.snapshot().rooms), (0, 0));
    assert_eq!([us.workers[0].refused(), us.workers[1].refused()].concat(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_entry_worker_that_nobody_is_on_is_left_with_the_last_that_enters_there() {
    let (_world, eu, us) = two_nodes(2);
    let mut alice = eu.join("room", "alice").await;
    let videos = [alice.produce("video", rtp::vp8(1)).await, alice.produce("video", rtp::vp8(2)).await];
    let mut listeners = Vec::new();
    for number in 0..34 {
        let mut listener = us.join("room", &format!("listener-{number}")).await;
        listener.accept_consumer().await;
        listener.accept_consumer().await;
        listeners.push(listener);
    }
    let mut on_branch = listeners.pop().unwrap();
    drop(listeners);
    on_branch.settle().await;
    assert_eq!((us.workers[0].counts().0, us.workers[0].counts().2), (1, 2));
    for (video, left) in videos.into_iter().zip([1, 0]) {
        alice.request("closeProducer", json!({"producerId": video})).await.unwrap();
        on_branch.next_notification("consumerClosed").await;
        assert_eq!((us.workers[0].counts().0, us.workers[0].counts().2), (left, left));
    }
}

#[tokio::test(start_paused = true)]
async fn peers_on_two_workers_of_one_node_meet() {
    let world = World::default();
    let node = TestNode::start(&world, "eu-1", 2);
    let mut peers = Vec::new();
    for number in 0..34 {
        peers.push(node.join("room", &format!("peer-{number}")).await);
    }
    let mut on_other_worker = peers.pop().unwrap();
    assert_eq!(node.workers[1].counts().0, 1, "the room spread");
    peers[0].produce("video", rtp::vp8(1)).await;
    on_other_worker.accept_consumer().await;
    let (_, Some(RouteIn { from, route, .. })) = pipe_producer(&node.workers[1]).await else { panic!("no route") };
    assert_eq!(from, PipeEnd::Worker(WorkerIndex(0)));
    on_other_worker.hang_up();
    let closed = node.workers[0].asked(|request| match request {
        Request::ClosePipeConsumer { to, route, .. } => Some((*to, *route)),
        _ => None,
    });
    assert!([(PipeEnd::Worker(WorkerIndex(1)), route)].contains(&closed.await));
}

#[tokio::test(start_paused = true)]
async fn a_pipe_that_is_back_is_subscribed_anew() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    let (producer, Some(before)) = moved(&us.workers[0]).await else { panic!("no route") };
    pipe_consumer(&eu.workers[0]).await;
    world.said();
    world.link_down(&eu.instance, &us.instance);
    assert_eq!(moved(&us.workers[0]).await, (producer, None));
    eu.workers[0].asked(|request| matches!(request, Request::ClosePipeConsumer { .. }).then_some(())).await;
    assert_eq!((us.rooms.snapshot().routes_in, eu.rooms.snapshot().routes_out), (0, 0));
    assert_eq!(us.rooms.snapshot().subscriptions_waiting, 1);

    world.link_up(&eu.instance, &us.instance);
    let (_, Some(after)) = moved(&us.workers[0]).await else { panic!("no route") };
    assert_ne!(
        (after.from, after.route),
        (before.from, before.route),
        "what is sent on the one is not taken for the other"
    );
    let (_, to, route, epoch) = pipe_consumer(&eu.workers[0]).await;
    assert_eq!(RouteIn { from: to, route, epoch }, after);
    assert_eq!(subscriptions(&world), 1);
    // Bob's consumer has seen nothing of all that.
    assert!(bob.settle().await.iter().all(|message| message["method"] != "consumerClosed"));
    assert_eq!([us.workers[0].refused(), eu.workers[0].refused()].concat(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_while_the_pipe_is_down_is_not_sent_when_it_is_back() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    pipe_consumer(&eu.workers[0]).await;
    world.link_down(&eu.instance, &us.instance);
    bob.hang_up();
    alice.next_notification("peerClosed").await;
    world.link_up(&eu.instance, &us.instance);
    alice.settle().await;
    assert_eq!((us.rooms.snapshot().routes_in, eu.rooms.snapshot().routes_out), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn consumers_do_not_wait_for_the_pipe_to_a_producers_node() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    assert_eq!((us.rooms.snapshot().routes_in, us.rooms.snapshot().subscriptions_waiting), (0, 1));
    world.link_up(&eu.instance, &us.instance);
    pipe_consumer(&eu.workers[0]).await;
    assert_eq!((us.rooms.snapshot().routes_in, us.rooms.snapshot().subscriptions_waiting), (1, 0));
    assert_eq!(us.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_is_tried_again_for_as_long_as_the_producer_is_wanted() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    world.set_deaf(&eu.instance, true);
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    let (producer, mut route) = moved(&us.workers[0]).await;
    world.said();
    for refusals in 1..=7 {
        let refused = route.expect("a route");
        world.say(&eu.instance, &us.instance, closed(refused, RouteCloseReason::ProducerGone));
        // An answer that comes twice is of a route that is no more.
        world.say(&eu.instance, &us.instance, closed(refused, RouteCloseReason::ProducerGone));
        assert_eq!(moved(&us.workers[0]).await, (producer, None));
        route = moved(&us.workers[0]).await.1;
        assert_ne!(
            route.map(|route| route.route),
            Some(refused.route),
            "each subscription has a use of a route of its own"
        );
        assert_eq!(subscriptions(&world), 1);
        let snapshot = us.rooms.snapshot();
        assert_eq!((snapshot.routes_in, snapshot.subscriptions_refused), (1, refusals));
        assert_eq!(snapshot.subscriptions_retried, refusals);
    }
    world.set_deaf(&eu.instance, false);
    world.say(&eu.instance, &us.instance, closed(route.expect("a route"), RouteCloseReason::Limit));
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    pipe_consumer(&eu.workers[0]).await;
    // Bob's consumer was there all the time.
    assert!(bob.settle().await.iter().all(|message| message["method"] != "consumerClosed"));
    assert_eq!(us.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_its_sender_ends_is_made_anew() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    let producer: ProducerId = alice.produce("video", rtp::vp8(1)).await.parse().unwrap();
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    let (_, to, route, epoch) = pipe_consumer(&eu.workers[0]).await;
    // Rosters say that the node has left, and are late with it.
    world.die(&us.instance);
    alice.settle().await;
    assert_eq!(eu.rooms.snapshot().routes_out, 1, "the subscriber says what it wants, and nobody else");
    // And whatever else may end a route, the subscriber hears of it.
    world.say(&eu.instance, &us.instance, closed(RouteIn { from: to, route, epoch }, RouteCloseReason::ProducerGone));
    let (again, _, other, _) = pipe_consumer(&eu.workers[0]).await;
    assert_eq!(again, producer);
    assert_ne!(other, route);
}

#[tokio::test(start_paused = true)]
async fn producers_wait_for_a_free_route() {
    let (_world, eu, us) = two_nodes(1);
    let mut speakers = Vec::new();
    for number in 0..=ROUTES {
        let mut speaker = eu.join("room", &format!("speaker-{number}")).await;
        speaker.produce("audio", rtp::opus(1)).await;
        speakers.push(speaker);
    }
    let mut bob = us.join("room", "bob").await;
    bob.settle().await;
    let counts = || (us.rooms.snapshot().routes_in, us.rooms.snapshot().subscriptions_waiting);
    assert_eq!(counts(), (ROUTES as u64, 1));
    // One of those that came leaves; whichever it is, all others come then.
    speakers.pop().unwrap().hang_up();
    speakers.swap_remove(0).hang_up();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(counts(), (ROUTES as u64 - 1, 0));
}

#[tokio::test(start_paused = true)]
async fn producers_that_wait_for_a_route_do_not_depend_on_each_other() {
    let (world, eu, us) = two_nodes(1);
    let ap = TestNode::start(&world, "ap-1", 1);
    world.link_up(&ap.instance, &us.instance);
    let mut bob = us.join("room", "bob").await;
    let mut far = ap.join("room", "far").await;
    far.produce("audio", rtp::opus(1)).await;
    bob.accept_consumer().await;
    let mut speakers = BTreeMap::new();
    for number in 0..ROUTES + 2 {
        let mut speaker = eu.join("room", &format!("speaker-{number}")).await;
        let producer: ProducerId = speaker.produce("audio", rtp::opus(1)).await.parse().unwrap();
        bob.accept_consumer().await;
        speakers.insert(producer, speaker);
    }
    bob.settle().await;
    let counts = || (us.rooms.snapshot().routes_in, us.rooms.snapshot().subscriptions_waiting);
    assert_eq!(counts(), (ROUTES as u64, 3));
    // They have been tried together since.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let fed: BTreeSet<ProducerId> = bodies(&world)
        .into_iter()
        .filter_map(|(_, body)| match body {
            ControlBody::Subscribe { producer, .. } => Some(ProducerId::from_bytes(producer)),
            _ => None,
        })
        .collect();
    let mut waiting: Vec<_> = speakers.iter_mut().filter(|(producer, _)| !fed.contains(producer)).collect();
    assert_eq!(waiting.len(), 3);
    // The one that is tried first of them leaves, and then one of another node, whose route is free.
    waiting[0].1.hang_up();
    bob.settle().await;
    far.hang_up();
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(counts(), (ROUTES as u64, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_a_producer_before_its_worker_has_it_comes_back() {
    // Without a pipe, whose commands would send on what waits.
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    let mut bob = us.join("room", "bob").await;
    let mut alice = eu.join("room", "alice").await;
    bob.settle().await;
    us.workers[0].refuse_next_send();
    alice.produce("video", rtp::vp8(1)).await;
    assert_eq!(bob.closed().await, (1013, "the media worker is too busy".to_owned()));
    let mut again = us.reopen("room", "bob", &bob.secret);
    again.join().await;
    again.accept_consumer().await;
    assert_eq!(us.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn commands_about_pipes_wait_for_a_busy_worker() {
    let (_world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    let video = alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    bob.settle().await;
    us.workers[0].set_full(true);
    alice.request("pauseProducer", json!({"producerId": video})).await.unwrap();
    bob.next_notification("consumerPaused").await;
    alice.request("resumeProducer", json!({"producerId": video})).await.unwrap();
    bob.next_notification("consumerResumed").await;
    assert_eq!(us.rooms.snapshot().pipe_commands_waiting, 2);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    us.workers[0].set_full(false);
    let about_pauses = |request: &Request| match request {
        Request::PauseProducer { .. } => Some(true),
        Request::ResumeProducer { .. } => Some(false),
        _ => None,
    };
    assert!(us.workers[0].asked(about_pauses).await);
    assert!(!us.workers[0].asked(about_pauses).await);
    assert_eq!(us.rooms.snapshot().pipe_commands_waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_to_what_is_not_there_or_not_in_the_room_are_refused() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    let producer: ProducerId = alice.produce("video", rtp::vp8(1)).await.parse().unwrap();
    let subscribe = |producer: ProducerId, namespace: &str, room: &str| RouteControl {
        route: 77,
        epoch: 1,
        body: ControlBody::Subscribe {
            producer: producer.to_bytes(),
            namespace: namespace.to_owned(),
            room: room.to_owned(),
            wanted: Wanted::ALL,
            traceparent: Some("garbage".to_owned()),
        },
    };
    let nobody = ProducerId::from_random_bytes([1; 16]);
    for (subscription, reason) in [
        (subscribe(nobody, "default", "room"), RouteCloseReason::ProducerGone),
        (subscribe(producer, "default", "another"), RouteCloseReason::WrongRoom),
        (subscribe(producer, "tenant", "room"), RouteCloseReason::WrongRoom),
    ] {
        world.said();
        world.say(&us.instance, &eu.instance, subscription);
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        assert_eq!(bodies(&world), [(eu.instance.clone(), ControlBody::RouteClosed(reason))]);
    }
    assert_eq!(eu.rooms.snapshot().routes_out, 0);
    world.say(&us.instance, &eu.instance, subscribe(producer, "default", "room"));
    pipe_consumer(&eu.workers[0]).await;
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_peers_go_and_its_routes_are_closed() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.produce("video", rtp::vp8(5)).await;
    bob.accept_consumer().await;
    alice.accept_consumer().await;
    world.die(&us.instance);
    assert_eq!(alice.next_notification("peerClosed").await["peerId"], "bob");
    alice.next_notification("consumerClosed").await;
    world.link_down(&eu.instance, &us.instance);
    eu.workers[0].asked(|request| matches!(request, Request::ClosePipeConsumer { .. }).then_some(())).await;
    assert_eq!((eu.rooms.snapshot().routes_in, eu.rooms.snapshot().routes_out), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_comes_back_on_another_node_replaces_itself() {
    let (_world, eu, us) = two_nodes(1);
    let mut watcher = eu.join("room", "watcher").await;
    let mut first = eu.join("room", "alice").await;
    first.produce("audio", rtp::opus(1)).await;
    watcher.accept_consumer().await;
    watcher.settle().await;
    let mut second = us.reopen("room", "alice", &first.secret);
    second.join().await;
    assert_eq!(first.closed().await.0, 4000);
    let told: Vec<_> = watcher
        .settle()
        .await
        .into_iter()
        .map(|message| (message["method"].clone(), message["data"]["node"].clone()))
        .collect();
    assert_eq!(
        told,
        [(json!("consumerClosed"), json!(null)), (json!("peerClosed"), json!(null)), (json!("newPeer"), json!("us-1"))]
    );
    // And back again.
    let mut third = eu.reopen("room", "alice", &second.secret);
    third.join().await;
    assert_eq!(second.closed().await.0, 4000);
    let told: Vec<_> = watcher.settle().await.into_iter().map(|message| message["method"].clone()).collect();
    assert_eq!(told, ["peerClosed", "newPeer"]);
    let peers: Vec<_> = eu.rooms.overview(None, None, None).await.rooms[0]
        .peers
        .iter()
        .map(|peer| (peer.id.to_string(), peer.node.to_string()))
        .collect();
    assert_eq!(peers, [("alice".to_owned(), "eu-1".to_owned()), ("watcher".to_owned(), "eu-1".to_owned())]);
    third.produce("audio", rtp::opus(1)).await;
    watcher.accept_consumer().await;
}

#[tokio::test(start_paused = true)]
async fn after_a_split_the_newer_session_stays_whatever_the_machines_clocks_say() {
    for ahead in [5_000, 3_600_000] {
        let (world, eu, us) = two_nodes(1);
        // The clock of the first is ahead, and gossip has told the second.
        eu.clock.hear(eu.clock.now_ms() + ahead);
        us.clock.hear(eu.clock.now_ms());
        let mut watcher = us.join("room", "watcher").await;
        let mut old = eu.join("room", "alice").await;
        watcher.settle().await;
        world.set_split(true);
        watcher.settle().await;
        let mut new = us.join("room", "alice").await;
        watcher.settle().await;
        world.set_split(false);
        assert_eq!(old.closed().await.0, 4000);
        assert!(watcher.settle().await.is_empty(), "alice was here already");
        new.produce("audio", rtp::opus(1)).await;
        watcher.accept_consumer().await;
    }
}

/// Neither gossip nor anything else but joins tells the second node of the first one's clock.
#[tokio::test(start_paused = true)]
async fn a_join_is_newer_than_all_that_its_node_has_heard_of() {
    for (eu_ahead, us_ahead) in [(3_600_000, 0), (0, 3_600_000)] {
        let (world, eu, us) = two_nodes(1);
        eu.clock.hear(eu_ahead);
        us.clock.hear(us_ahead);
        let mut watcher = us.join("room", "watcher").await;
        let mut bob = eu.join("room", "bob").await;
        watcher.settle().await;
        bob.settle().await;
        world.set_split(true);
        // On the one side, then on the other, where nobody heard of the first.
        let mut old = eu.join("room", "alice").await;
        watcher.settle().await;
        let mut new = us.join("room", "alice").await;
        watcher.settle().await;
        world.set_split(false);
        assert_eq!(old.closed().await.0, 4000, "{eu_ahead} and {us_ahead} ms ahead");
        new.produce("audio", rtp::opus(1)).await;
        watcher.accept_consumer().await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_overview_is_told_a_page_at_a_time() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let mut clients = Vec::new();
    for room in 0..150 {
        clients.push(node.join(&format!("room-{room:03}"), "alice").await);
    }
    let first = node.rooms.overview(None, None, None).await;
    assert_eq!((first.rooms.len(), first.next.as_deref()), (100, Some("default/room-099")));
    let last = first.rooms.last().unwrap();
    let after = RoomKey { namespace: last.namespace.clone(), room: last.room.clone() };
    let second = node.rooms.overview(None, Some(&after), None).await;
    assert_eq!((second.rooms.len(), second.next), (50, None));
    assert_eq!(second.rooms[0].room.to_string(), "room-100");
    let one = node.rooms.overview(None, Some(&after), Some(1)).await;
    assert_eq!((one.rooms.len(), one.next.as_deref()), (1, Some("default/room-100")));
}

#[tokio::test(start_paused = true)]
async fn the_overview_says_where_everything_lives() {
    let (_world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    let video = alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    let overview = serde_json::to_value(us.rooms.overview(None, None, None).await).unwrap();
    assert_eq!((&overview["node"], &overview["region"]), (&json!("us-1"), &json!("region-of-us-1")));
    let room = &overview["rooms"][0];
    assert_eq!((&room["namespace"], &room["room"]), (&json!("default"), &json!("room")));
    let alice_there = &room["peers"][0];
    assert_eq!(
        (&alice_there["id"], &alice_there["node"], &alice_there["region"]),
        (&json!("alice"), &json!("eu-1"), &json!("region-of-eu-1"))
    );
    assert_eq!(alice_there["producers"][0], json!({"id": video, "kind": "video", "paused": false, "worker": null}));
    assert_eq!((&room["peers"][1]["id"], &room["peers"][1]["consumers"]), (&json!("bob"), &json!(1)));
    let overview = serde_json::to_value(eu.rooms.overview(None, None, None).await).unwrap();
    assert_eq!(overview["rooms"][0]["peers"][0]["producers"][0]["worker"], 0);
}
