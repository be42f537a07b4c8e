//! What a peer may publish, and in which order.

use serde_json::{Value, json};
use sluice_media::messages::Request;

use super::client::Client;
use super::fakes::World;
use super::{TestNode, rtp};
use crate::limits::Limits;

fn produce(client: &Client, ssrc: u32, app_data: Value) -> Value {
    let mut rtp = rtp::opus(ssrc);
    rtp["mid"] = json!(ssrc.to_string());
    json!({"transportId": client.send_transport, "kind": "audio", "rtpParameters": rtp, "appData": app_data})
}

#[tokio::test(start_paused = true)]
async fn produce_may_come_before_connect() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let request = produce(&alice, 1, json!({}));
    let producer = alice.request("produce", request).await.unwrap()["id"].clone();
    assert_eq!(bob.accept_consumer().await["producerId"], producer);
    let transport = alice.send_transport.clone();
    alice.connect(&transport).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn app_data_of_all_producers_of_a_peer_is_bounded() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let mut alice = node.join("room", "alice").await;
    let app_data = json!({"x": "x".repeat(1_350)});
    let mut producers = Vec::new();
    for ssrc in 1..=3 {
        let request = produce(&alice, ssrc, app_data.clone());
        producers.push(alice.request("produce", request).await.unwrap()["id"].clone());
    }
    let request = produce(&alice, 4, app_data);
    let (code, reason) = alice.request("produce", request.clone()).await.unwrap_err();
    assert_eq!(code, 400);
    assert!(reason.contains("appData") && reason.contains("4096"), "{reason}");
    alice.request("closeProducer", json!({"producerId": producers[0]})).await.unwrap();
    alice.request("produce", request).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn limits_hold_for_requests_that_are_sent_all_at_once() {
    let limits = Limits { changes_per_minute: 1_000, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut alice = node.join("room", "alice").await;
    for ssrc in 1..=30 {
        let data = produce(&alice, ssrc, json!({}));
        alice.send(json!({"request": true, "id": ssrc, "method": "produce", "data": data})).await;
    }
    let answers = alice.settle().await;
    let made = answers.iter().filter(|answer| answer["ok"] == true).count();
    let refused = answers.iter().filter(|answer| answer["errorCode"] == 403).count();
    assert_eq!((made, refused), (12, 18));
    let worker = &node.workers[0];
    while worker.take(|request| matches!(request, Request::CloseProducer { .. }).then_some(())).is_some() {}
    assert_eq!(worker.counts().2, 12, "what was made in vain is closed");
    assert_eq!(worker.refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn while_a_producer_is_offered_to_many_the_room_serves_others() {
    const LISTENERS: usize = 500;
    let node = TestNode::start_with(&World::default(), "eu-1", 1, Limits { small_room: 3, ..Limits::default() });
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let mut listeners = Vec::new();
    for number in 0..LISTENERS {
        listeners.push(node.join("room", &format!("listener-{number}")).await);
    }
    let data = produce(&alice, 1, json!({}));
    alice.send(json!({"request": true, "id": 1, "method": "produce", "data": data})).await;
    let worker = &node.workers[0];
    worker.asked(|request| matches!(request, Request::Consume { .. }).then_some(())).await;
    bob.request("getPeers", json!({"limit": 1})).await.unwrap();
    let offered = worker.counts().3;
    assert!(offered < LISTENERS, "all {offered} came first");
    for listener in &mut listeners {
        listener.next_consumer().await;
    }
}
