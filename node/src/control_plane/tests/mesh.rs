//! Rooms over several workers and nodes: who sees whom, and which routes are made and given back.

use serde_json::json;
use sluice_proto::ids::{NodeInstance, ProducerId, RouteEpoch, RouteId};
use sluice_proto::pipe::{Layers, PipeBody, PipeMessage, RouteCloseReason};

use super::TestNode;
use super::fakes::{FakeWorker, World};
use super::rtp;
use crate::data_plane::messages::{PipeEnd, Request, WorkerEvent, WorkerIndex};

/// Two nodes with a pipe between them.
fn two_nodes(workers: u16) -> (World, TestNode, TestNode) {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", workers), TestNode::start(&world, "us-1", workers));
    world.link_up(&eu.instance, &us.instance);
    (world, eu, us)
}

async fn pipe_producer(worker: &FakeWorker) -> (ProducerId, PipeEnd, RouteId, RouteEpoch) {
    let made = worker.asked(|request| match request {
        Request::CreatePipeProducer { producer, from, route, epoch, .. } => Some((*producer, *from, *route, *epoch)),
        _ => None,
    });
    made.await
}

async fn pipe_consumer(worker: &FakeWorker) -> (ProducerId, PipeEnd, RouteId, RouteEpoch) {
    let made = worker.asked(|request| match request {
        Request::CreatePipeConsumer { producer, to, route, epoch, .. } => Some((*producer, *to, *route, *epoch)),
        _ => None,
    });
    made.await
}

fn bodies(world: &World) -> Vec<(NodeInstance, PipeBody)> {
    world.said().into_iter().map(|(from, _, message)| (from, message.body)).collect()
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
    let (piped, from, route, epoch) = pipe_producer(&us.workers[0]).await;
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
    let subscriptions =
        bodies(&world).into_iter().filter(|(_, body)| matches!(body, PipeBody::Subscribe { .. })).count();
    assert_eq!(subscriptions, 1);

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
    assert!(bodies(&world).iter().any(|(_, body)| *body == PipeBody::Unsubscribe));
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
    let (entry_of, from, ..) = pipe_producer(&us.workers[0]).await;
    assert!(matches!(from, PipeEnd::Node(_)));
    let (branch_of, from, route, epoch) = pipe_producer(&us.workers[1]).await;
    assert_eq!((branch_of, from), (entry_of, PipeEnd::Worker(WorkerIndex(0))));
    assert_eq!(pipe_consumer(&us.workers[0]).await, (entry_of, PipeEnd::Worker(WorkerIndex(1)), route, epoch));
    let subscriptions =
        bodies(&world).into_iter().filter(|(_, body)| matches!(body, PipeBody::Subscribe { .. })).count();
    assert_eq!(subscriptions, 1, "one copy per node");
    // What the ends of the branch say to each other goes through the control plane.
    let message = PipeMessage { route: route.0, epoch: epoch.0, body: PipeBody::KeyFrameRequest };
    us.tell(1, WorkerEvent::Pipe { to: PipeEnd::Worker(WorkerIndex(0)), message: message.clone() }).await;
    let heard = us.workers[0].said(|from, said| (*said == message).then_some(*from)).await;
    assert_eq!(heard, PipeEnd::Worker(WorkerIndex(1)));

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
    let (_, from, route, _) = pipe_producer(&node.workers[1]).await;
    assert_eq!(from, PipeEnd::Worker(WorkerIndex(0)));
    on_other_worker.hang_up();
    let closed = node.workers[0].asked(|request| match request {
        Request::ClosePipeConsumer { to, route, .. } => Some((*to, *route)),
        _ => None,
    });
    assert!([(PipeEnd::Worker(WorkerIndex(1)), route)].contains(&closed.await));
}

#[tokio::test(start_paused = true)]
async fn messages_about_routes_find_their_workers() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    let (_, from_eu, route, epoch) = pipe_producer(&us.workers[0]).await;
    let message = |body| PipeMessage { route: route.0, epoch: epoch.0, body };
    let nack = message(PipeBody::Nack(vec![1, 2]));
    us.tell(0, WorkerEvent::Pipe { to: from_eu, message: nack.clone() }).await;
    eu.workers[0].said(|_, said| (*said == nack).then_some(())).await;
    let report = message(PipeBody::SenderReport { ssrc: 1, ntp: 2, rtp_timestamp: 3 });
    let (_, to_us, ..) = pipe_consumer(&eu.workers[0]).await;
    eu.tell(0, WorkerEvent::Pipe { to: to_us, message: report.clone() }).await;
    assert_eq!(us.workers[0].said(|from, said| (*said == report).then_some(*from)).await, from_eu);
    // Another epoch is another route: nobody hears of it.
    let late = PipeMessage { epoch: epoch.0 + 1, ..nack.clone() };
    world.say(&us.instance, &eu.instance, late.clone());
    world.say(&us.instance, &eu.instance, nack.clone());
    let heard = eu.workers[0].said(|_, said| (*said == late || *said == nack).then_some(said.clone())).await;
    assert_eq!(heard, nack);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_said_again_when_the_pipe_is_back() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    let (_, _, route, epoch) = pipe_producer(&us.workers[0]).await;
    world.said();
    world.link_down(&eu.instance, &us.instance);
    world.link_up(&eu.instance, &us.instance);
    eu.workers[0].said(|_, said| (said.body == PipeBody::LayersWanted(Layers::ALL)).then_some(())).await;
    let said: Vec<_> = world.said().into_iter().map(|(_, _, message)| (message.route, message.epoch)).collect();
    assert_eq!(said, [(route.0, epoch.0)], "the same route, once");
}

#[tokio::test(start_paused = true)]
async fn a_producer_waits_for_the_pipe_to_its_node() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    assert!(bob.settle().await.iter().all(|message| message["method"] != "newConsumer"));
    world.link_up(&eu.instance, &us.instance);
    bob.accept_consumer().await;
    assert_eq!(us.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_refused_subscription_is_tried_again_and_then_given_up() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    world.set_deaf(&eu.instance, true);
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    let (_, _, route, epoch) = pipe_producer(&us.workers[0]).await;
    let refusal =
        PipeMessage { route: route.0, epoch: epoch.0, body: PipeBody::RouteClosed(RouteCloseReason::ProducerGone) };
    for attempt in 0..6 {
        world.said();
        world.say(&eu.instance, &us.instance, refusal.clone());
        tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        let again = bodies(&world).into_iter().any(|(_, body)| matches!(body, PipeBody::Subscribe { .. }));
        assert!(again, "attempt {attempt}");
    }
    world.say(&eu.instance, &us.instance, refusal);
    bob.next_notification("consumerClosed").await;
    assert_eq!((us.rooms.snapshot().routes_in, us.rooms.snapshot().subscriptions_refused), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn subscriptions_to_what_is_not_there_or_not_in_the_room_are_refused() {
    let (world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    let producer: ProducerId = alice.produce("video", rtp::vp8(1)).await.parse().unwrap();
    let subscribe = |producer: ProducerId, namespace: &str, room: &str| PipeMessage {
        route: 77,
        epoch: 1,
        body: PipeBody::Subscribe {
            producer: producer.to_bytes(),
            namespace: namespace.to_owned(),
            room: room.to_owned(),
            wanted: Layers::ALL,
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
        assert_eq!(bodies(&world), [(eu.instance.clone(), PipeBody::RouteClosed(reason))]);
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
        [(json!("peerClosed"), json!(null)), (json!("consumerClosed"), json!(null)), (json!("newPeer"), json!("us-1"))]
    );
    // And back again.
    let mut third = eu.reopen("room", "alice", &second.secret);
    third.join().await;
    assert_eq!(second.closed().await.0, 4000);
    let told: Vec<_> = watcher.settle().await.into_iter().map(|message| message["method"].clone()).collect();
    assert_eq!(told, ["peerClosed", "newPeer"]);
    let peers: Vec<_> = eu.rooms.overview().await.rooms[0]
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

#[tokio::test(start_paused = true)]
async fn the_overview_says_where_everything_lives() {
    let (_world, eu, us) = two_nodes(1);
    let mut alice = eu.join("room", "alice").await;
    let video = alice.produce("video", rtp::vp8(1)).await;
    let mut bob = us.join("room", "bob").await;
    bob.accept_consumer().await;
    let overview = serde_json::to_value(us.rooms.overview().await).unwrap();
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
    let overview = serde_json::to_value(eu.rooms.overview().await).unwrap();
    assert_eq!(overview["rooms"][0]["peers"][0]["producers"][0]["worker"], 0);
}
