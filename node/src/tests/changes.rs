//! What happens to a producer while a client sets its consumer up: the client knows the truth once it has answered.

use serde_json::{Value, json};
use sluice_media::messages::{ConsumerScores, EncodingScore, StreamScores, WorkerEvent};

use super::client::Client;
use super::fakes::World;
use super::{TestNode, rtp};

/// Alice with a producer, and bob, who has been asked to receive it and has not answered: the question's id and the
/// consumer's.
async fn asked(node: &TestNode, paused: bool) -> (Client, String, Client, u64, Value) {
    let mut alice = node.join("room", "alice").await;
    let producer = alice.produce("video", rtp::vp8(1)).await;
    if paused {
        alice.request("pauseProducer", json!({"producerId": producer})).await.unwrap();
    }
    let mut bob = node.join("room", "bob").await;
    let (question, consumer) = bob.next_consumer().await;
    assert_eq!(consumer["producerPaused"], paused);
    (alice, producer, bob, question, consumer["id"].clone())
}

/// What bob is told from his answer on.
async fn told_after_answer(bob: &mut Client, question: u64) -> Vec<(String, Value)> {
    bob.settle().await;
    bob.send(json!({"response": true, "id": question, "ok": true, "data": {}})).await;
    let told = bob.settle().await;
    told.iter()
        .map(|message| (message["method"].as_str().unwrap().to_owned(), message["data"]["consumerId"].clone()))
        .collect()
}

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

#[tokio::test(start_paused = true)]
async fn a_producer_that_is_closed_meanwhile_is_told_after_the_answer() {
    let node = node();
    let (mut alice, producer, mut bob, question, consumer) = asked(&node, false).await;
    alice.request("closeProducer", json!({"producerId": producer})).await.unwrap();
    assert_eq!(told_after_answer(&mut bob, question).await, [("consumerClosed".to_owned(), consumer)]);
    // The peer itself, too.
    alice.produce("video", rtp::vp8(1)).await;
    let (question, consumer) = bob.next_consumer().await;
    alice.hang_up();
    assert_eq!(told_after_answer(&mut bob, question).await, [("consumerClosed".to_owned(), consumer["id"].clone())]);
}

#[tokio::test(start_paused = true)]
async fn a_pause_and_a_resumption_meanwhile_are_told_after_the_answer() {
    for (paused, method, notice) in
        [(false, "pauseProducer", "consumerPaused"), (true, "resumeProducer", "consumerResumed")]
    {
        let node = node();
        let (mut alice, producer, mut bob, question, consumer) = asked(&node, paused).await;
        alice.request(method, json!({"producerId": producer})).await.unwrap();
        let told = told_after_answer(&mut bob, question).await;
        assert_eq!(told, [(notice.to_owned(), consumer.clone()), ("consumerScore".to_owned(), consumer)]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_as_the_client_was_told_is_not_said_again() {
    let node = node();
    let (mut alice, producer, mut bob, question, consumer) = asked(&node, false).await;
    for method in ["pauseProducer", "resumeProducer"] {
        alice.request(method, json!({"producerId": producer})).await.unwrap();
    }
    assert_eq!(told_after_answer(&mut bob, question).await, [("consumerScore".to_owned(), consumer)]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_consumer_is_not_spoken_of_again() {
    let node = node();
    let (mut alice, producer, mut bob, question, _) = asked(&node, false).await;
    alice.request("closeProducer", json!({"producerId": producer})).await.unwrap();
    bob.settle().await;
    bob.send(json!({"response": true, "id": question, "errorCode": 403, "errorReason": "no"})).await;
    assert_eq!(bob.settle().await, Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn the_score_after_the_answer_is_the_present_one() {
    let node = node();
    let (_alice, producer, mut bob, question, consumer) = asked(&node, false).await;
    let scores = vec![EncodingScore { encoding: 0, ssrc: 1, rid: None, score: 3 }];
    node.tell(0, WorkerEvent::ProducerScore { producer: producer.parse().unwrap(), scores }).await;
    bob.settle().await;
    bob.send(json!({"response": true, "id": question, "ok": true, "data": {}})).await;
    let score = bob.next_notification("consumerScore").await;
    assert_eq!((&score["consumerId"], &score["score"]["producerScore"]), (&consumer, &json!(3)));
    // And what follows.
    let id = consumer.as_str().unwrap().parse().unwrap();
    let scores = ConsumerScores { consumer: 0, producer: 0, streams: StreamScores::from_iter([0]) };
    node.tell(0, WorkerEvent::ConsumerScore { consumer: id, scores }).await;
    assert_eq!(bob.next_notification("consumerScore").await["score"]["score"], 0);
}
