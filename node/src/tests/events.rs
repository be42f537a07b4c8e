//! What rooms tell of what happens in them: each beginning and its end, in order, however it ends.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::Client;
use super::fakes::World;
use super::{SOON, TestNode, rtp};

/// How soon anything is told that is going to be.
const PATIENCE: Duration = Duration::from_secs(600);

impl TestNode {
    /// The next event.
    async fn told(&mut self) -> Value {
        let told = tokio::time::timeout(PATIENCE, self.told.recv()).await.expect("something is told");
        serde_json::from_slice(&told.unwrap().body).unwrap()
    }

    /// The next event's name and what counts of it.
    async fn told_as(&mut self, key: &str) -> (String, Value) {
        let event = self.told().await;
        (event["event"].as_str().unwrap().to_owned(), event[key].clone())
    }

    async fn leave(&self, mut client: Client) {
        client.hang_up();
        client.settle().await;
    }
}

fn event(name: &str, value: impl Into<Value>) -> (String, Value) {
    (name.to_owned(), value.into())
}

#[tokio::test(start_paused = true)]
async fn a_part_of_a_room_is_told_from_its_first_peer_to_its_last() {
    let mut node = TestNode::start(&World::default(), "eu-1", 1);
    let idle = node.open("room", "idle");
    let mut alice = node.join("room", "alice").await;
    let producer = alice.produce("audio", rtp::opus(1)).await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    let bob = node.join("room", "bob").await;
    alice.request("closeProducer", json!({"producerId": producer})).await.unwrap();
    let second = alice.produce("video", rtp::vp8(1)).await;
    node.leave(alice).await;
    node.leave(bob).await;
    node.leave(idle).await;

    let mut events = Vec::new();
    for _ in 0..10 {
        events.push(node.told().await);
    }
    let names: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "room.started",
            "peer.joined",
            "producer.published",
            "peer.joined",
            "producer.unpublished",
            "producer.published",
            "producer.unpublished",
            "peer.left",
            "peer.left",
            "room.ended"
        ]
    );
    for (number, event) in (1..).zip(&events) {
        assert_eq!(event["sequence"], number);
        assert_eq!((&event["namespace"], &event["room"]), (&json!("default"), &json!("room")));
        assert_eq!((&event["node"], &event["incarnation"]), (&json!("eu-1"), &json!(1)));
        assert_eq!(event["part"], events[0]["part"]);
        assert!(event["timeMs"].as_u64() > Some(1_700_000_000_000));
    }
    let ids: std::collections::HashSet<&str> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), events.len());
    assert_eq!((&events[1]["peer"], &events[1]["displayName"]), (&json!("alice"), &json!("A name")));
    assert_eq!((&events[2]["producer"], &events[2]["kind"]), (&json!(producer), &json!("audio")));
    assert!(events[4]["durationMs"].as_u64() >= Some(30_000), "{}", events[4]);
    assert_eq!((&events[6]["producer"], &events[6]["kind"]), (&json!(second), &json!("video")));
    assert_eq!((&events[7]["peer"], &events[7]["reason"]), (&json!("alice"), &json!("left")));
    assert!(events[9]["durationMs"].as_u64() >= events[7]["durationMs"].as_u64());

    let again = node.join("room", "alice").await;
    let started = node.told().await;
    assert_eq!((&started["event"], &started["sequence"]), (&json!("room.started"), &json!(1)));
    assert_ne!(started["part"], events[0]["part"]);
    drop(again);
}

#[tokio::test(start_paused = true)]
async fn why_a_peer_left_is_told() {
    let mut node = TestNode::start(&World::default(), "eu-1", 1);
    let stays = node.join("room", "stays").await;
    let mut alice = node.join("room", "alice").await;
    for name in ["room.started", "peer.joined", "peer.joined"] {
        assert_eq!(node.told().await["event"], name);
    }
    let mut successor = node.reopen("room", "alice", &alice.secret);
    successor.join().await;
    assert_eq!(alice.closed().await.0, 4000);
    assert_eq!(node.told_as("reason").await, event("peer.left", "replaced"));
    assert_eq!(node.told_as("peer").await, event("peer.joined", "alice"));

    successor.go_deaf();
    successor.closed_within(PATIENCE).await;
    let mut left = [node.told_as("reason").await, node.told_as("reason").await];
    left.sort_by_key(|(_, reason)| reason.to_string());
    // The other one was not listened to meanwhile.
    assert_eq!(left, [event("peer.left", "silent"), event("peer.left", "silent")]);
    assert_eq!(node.told().await["event"], "room.ended");
    drop(stays);

    let peer = node.join("other", "peer").await;
    node.rooms.shutdown().await;
    for name in ["room.started", "peer.joined"] {
        assert_eq!(node.told().await["event"], name);
    }
    assert_eq!(node.told_as("reason").await, event("peer.left", "shutdown"));
    assert_eq!(node.told().await["event"], "room.ended");
    drop(peer);
}

#[tokio::test(start_paused = true)]
async fn a_room_that_panics_ends_all_that_it_has_told() {
    let mut node = TestNode::start(&World::default(), "eu-1", 1);
    let mut alice = node.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    node.workers[0].explode();
    let restart = json!({"transportId": alice.send_transport});
    alice.send(json!({"request": true, "id": 5, "method": "restartIce", "data": restart})).await;
    assert_eq!(alice.closed_within(SOON).await.0, 1012);
    for name in ["room.started", "peer.joined", "producer.published", "producer.unpublished"] {
        assert_eq!(node.told().await["event"], name);
    }
    assert_eq!(node.told_as("reason").await, event("peer.left", "failed"));
    assert_eq!(node.told().await["event"], "room.ended");
}

#[tokio::test(start_paused = true)]
async fn participant_time_is_that_of_joined_peers() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let idle = node.open("room", "idle");
    let alice = node.join("room", "alice").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    node.leave(alice).await;
    let totals = node.rooms.events().usage().totals();
    let [used] = &totals.namespaces[..] else { panic!("{totals:?}") };
    assert_eq!(used.namespace.as_ref().unwrap().as_str(), "default");
    assert_eq!((used.peers, used.peak_peers), (0, 1));
    assert!((30_000..40_000).contains(&used.participant_ms), "{used:?}");
    drop(idle);
}
