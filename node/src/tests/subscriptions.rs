//! Peers that receive what they ask for.

use serde_json::{Value, json};
use sluice_media::messages::{Request, WorkerEvent};
use sluice_media::secure::dtls::DtlsState;

use super::client::{Client, join_data};
use super::fakes::World;
use super::{TestNode, rtp};
use crate::limits::Limits;

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

fn on_request() -> Value {
    let mut data = join_data();
    data["subscription"] = json!("onRequest");
    data
}

/// Joins as one who asks for what it receives; the answer.
async fn join(node: &TestNode, peer: &str) -> (Client, Value) {
    let mut client = node.open("room", peer);
    client.greeted().await;
    client.recv_transport = client.create_transport(true).await;
    let joined = client.request("join", on_request()).await.unwrap();
    (client, joined)
}

fn methods(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["method"].as_str()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_peer_receives_what_it_asked_for_until_it_asks_no_longer() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let video = alice.produce("video", rtp::vp8(1)).await;
    let (mut bob, joined) = join(&node, "bob").await;
    let expected =
        json!([{"producerId": video, "kind": "video", "appData": {"share": false, "hops": 0}, "paused": false}]);
    assert_eq!(joined["peers"][0]["producers"], expected);
    let audio = alice.produce("audio", rtp::opus(3)).await;
    let told = bob.next_notification("newProducer").await;
    assert_eq!(
        (&told["peerId"], &told["producerId"], &told["kind"]),
        (&json!("alice"), &json!(audio), &json!("audio"))
    );
    assert_eq!(bob.settle().await, Vec::<Value>::new(), "nothing that was not asked for");

    bob.request("subscribe", json!({"producerId": video})).await.unwrap();
    let consumer = bob.accept_consumer().await;
    assert_eq!(consumer["producerId"], json!(video));
    bob.next_notification("consumerScore").await;
    bob.request("subscribe", json!({"producerId": video})).await.unwrap();
    assert_eq!(bob.settle().await, Vec::<Value>::new(), "it receives that already");

    bob.request("unsubscribe", json!({"producerId": video})).await.unwrap();
    assert_eq!(bob.next_notification("consumerClosed").await["consumerId"], consumer["id"]);
    node.workers[0].asked(|request| matches!(request, Request::CloseConsumer { .. }).then_some(())).await;
    assert_eq!(bob.request("unsubscribe", json!({"producerId": video})).await.unwrap_err().0, 404);
    bob.request("subscribe", json!({"producerId": video})).await.unwrap();
    bob.accept_consumer().await;
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_others_send_is_told_as_it_changes() {
    let node = node();
    let (mut bob, _) = join(&node, "bob").await;
    let mut alice = node.join("room", "alice").await;
    let producer = alice.produce("audio", rtp::opus(3)).await;
    assert_eq!(methods(&bob.settle().await), ["newPeer", "newProducer"]);
    for (method, told) in [("pauseProducer", "producerPaused"), ("resumeProducer", "producerResumed")] {
        alice.request(method, json!({"producerId": producer})).await.unwrap();
        assert_eq!(bob.next_notification(told).await, json!({"producerId": producer}));
    }
    alice.request("closeProducer", json!({"producerId": producer})).await.unwrap();
    assert_eq!(bob.next_notification("producerClosed").await, json!({"producerId": producer}));
    alice.produce("audio", rtp::opus(3)).await;
    bob.settle().await;
    alice.hang_up();
    assert_eq!(methods(&bob.settle().await), ["producerClosed", "peerClosed"]);
}

#[tokio::test(start_paused = true)]
async fn producers_of_other_nodes_can_be_asked_for() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&eu.instance, &us.instance);
    let (mut bob, _) = join(&eu, "bob").await;
    let mut alice = us.join("room", "alice").await;
    let producer = alice.produce("video", rtp::vp8(1)).await;
    let told = bob.next_notification("newProducer").await;
    assert_eq!((&told["producerId"], &told["appData"]["hops"]), (&json!(producer), &json!(1)));
    let wanted = |node: &TestNode| node.workers[0].counts().3;
    assert_eq!(wanted(&eu), 0);
    bob.request("subscribe", json!({"producerId": producer})).await.unwrap();
    bob.accept_consumer().await;
    assert_eq!(wanted(&eu), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_for_comes_with_the_transport_and_stays_when_that_is_replaced() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let producer = alice.produce("video", rtp::vp8(1)).await;
    let mut bob = node.open("room", "bob");
    bob.request("join", on_request()).await.unwrap();
    bob.request("subscribe", json!({"producerId": producer})).await.unwrap();
    bob.settle().await;
    let transport = bob.create_transport(true).await;
    bob.accept_consumer().await;
    bob.create_transport(true).await;
    let transport = transport.parse().unwrap();
    node.tell(0, WorkerEvent::DtlsStateChanged { transport, state: DtlsState::Closed }).await;
    bob.next_notification("consumerClosed").await;
    assert_eq!(bob.accept_consumer().await["producerId"], json!(producer));
}

#[tokio::test(start_paused = true)]
async fn who_asks_again_before_it_has_answered_is_told_of_the_end_first() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let video = alice.produce("video", rtp::vp8(1)).await;
    let (mut bob, _) = join(&node, "bob").await;
    bob.request("subscribe", json!({"producerId": video})).await.unwrap();
    let (question, former) = bob.next_consumer().await;
    bob.request("unsubscribe", json!({"producerId": video})).await.unwrap();
    bob.request("subscribe", json!({"producerId": video})).await.unwrap();
    assert_eq!(bob.settle().await, Vec::<Value>::new(), "one consumer of a producer at a time");
    bob.send(json!({"response": true, "id": question, "ok": true, "data": {}})).await;
    let told = bob.settle().await;
    assert_eq!(methods(&told), ["consumerClosed", "newConsumer"]);
    assert_eq!(told[0]["data"]["consumerId"], former["id"]);
    assert_eq!(told[1]["data"]["producerId"], json!(video));
}

#[tokio::test(start_paused = true)]
async fn a_client_names_the_mids_that_it_likes() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let mut producers = Vec::new();
    for ssrc in [1, 5, 9, 13] {
        producers.push(alice.produce("audio", rtp::opus(ssrc)).await);
    }
    let (mut bob, _) = join(&node, "bob").await;
    let subscribe = |index: usize, mid: &str| json!({"producerId": producers[index], "mid": mid});
    bob.request("subscribe", subscribe(0, "0")).await.unwrap();
    assert_eq!(bob.accept_consumer().await["rtpParameters"]["mid"], "0");
    bob.request("subscribe", json!({"producerId": producers[1]})).await.unwrap();
    assert_eq!(bob.accept_consumer().await["rtpParameters"]["mid"], "1", "the next that is free");
    for taken in ["0", "1"] {
        let refused = bob.request("subscribe", subscribe(2, taken)).await.unwrap_err();
        assert_eq!(refused, (409, format!("mid {taken:?} is taken")));
    }
    for (mid, reason) in [("", "1 to 16 bytes"), ("a b", "a token"), (&"x".repeat(17), "1 to 16 bytes")] {
        let refused = bob.request("subscribe", subscribe(2, mid)).await.unwrap_err();
        assert!(refused.0 == 400 && refused.1.contains(reason), "{refused:?}");
    }
    bob.request("subscribe", subscribe(2, "camera")).await.unwrap();
    assert_eq!(bob.accept_consumer().await["rtpParameters"]["mid"], "camera");
    // One that is given back is free.
    bob.request("unsubscribe", json!({"producerId": producers[2]})).await.unwrap();
    bob.request("subscribe", subscribe(3, "camera")).await.unwrap();
    assert_eq!(bob.accept_consumer().await["rtpParameters"]["mid"], "camera");
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_asked_for_is_refused_in_words() {
    let limits = Limits { consumers_per_peer: 1, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut alice = node.join("room", "alice").await;
    let (first, second) = (alice.produce("audio", rtp::opus(1)).await, alice.produce("audio", rtp::opus(3)).await);
    let subscribe = |producer: &str| json!({"producerId": producer});
    let (mut bob, _) = join(&node, "bob").await;
    let nobody = alice.send_transport.clone();
    assert_eq!(bob.request("subscribe", subscribe(&nobody)).await.unwrap_err().0, 404);
    bob.request("subscribe", subscribe(&first)).await.unwrap();
    bob.accept_consumer().await;
    let full = (403, "a peer may have 1 consumers".to_owned());
    assert_eq!(bob.request("subscribe", subscribe(&second)).await.unwrap_err(), full);
    // One that ended makes room.
    alice.request("closeProducer", json!({"producerId": first})).await.unwrap();
    bob.request("subscribe", subscribe(&second)).await.unwrap();

    let everything = alice.request("subscribe", subscribe(&second)).await.unwrap_err();
    assert_eq!(everything, (409, "join with subscription onRequest comes before subscribe".to_owned()));
    let mut deaf = node.open("room", "deaf");
    deaf.request("join", json!({"displayName": "D", "subscription": "onRequest"})).await.unwrap();
    assert_eq!(deaf.request("subscribe", subscribe(&second)).await.unwrap_err().0, 400);
    let mut odd = node.open("room", "odd");
    assert_eq!(odd.request("join", json!({"subscription": "some"})).await.unwrap_err().0, 400);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_does_not_answer_for_counts_though_it_asks_for_it_no_longer() {
    let limits = Limits { consumers_per_peer: 2, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut alice = node.join("room", "alice").await;
    let audio = json!({"producerId": alice.produce("audio", rtp::opus(1)).await});
    let video = json!({"producerId": alice.produce("video", rtp::vp8(3)).await});
    let (mut bob, _) = join(&node, "bob").await;
    let mut asked = Vec::new();
    for producer in [&audio, &video] {
        bob.request("subscribe", producer.clone()).await.unwrap();
        asked.push(bob.next_consumer().await.0);
        bob.request("unsubscribe", producer.clone()).await.unwrap();
    }
    let full = (403, "a peer may have 2 consumers".to_owned());
    assert_eq!(bob.request("subscribe", audio.clone()).await.unwrap_err(), full);
    bob.send(json!({"response": true, "id": asked[0], "ok": true, "data": {}})).await;
    bob.next_notification("consumerClosed").await;
    bob.request("subscribe", audio).await.unwrap();
    bob.accept_consumer().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_refused_is_wanted_no_longer() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let producer = alice.produce("audio", rtp::opus(1)).await;
    let (mut bob, _) = join(&node, "bob").await;
    bob.request("subscribe", json!({"producerId": producer})).await.unwrap();
    let (request, _) = bob.next_consumer().await;
    bob.send(json!({"response": true, "id": request, "errorCode": 403, "errorReason": "no"})).await;
    node.workers[0].asked(|request| matches!(request, Request::CloseConsumer { .. }).then_some(())).await;
    bob.settle().await;
    bob.create_transport(true).await;
    assert_eq!(methods(&bob.settle().await), Vec::<&str>::new());
    bob.request("subscribe", json!({"producerId": producer})).await.unwrap();
    bob.accept_consumer().await;
}
