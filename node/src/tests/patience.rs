//! How long a client may take: minutes for the person who is asked for a camera, and for ever while it answers pings;
//! not long when nothing is heard of it.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use super::fakes::World;
use super::{TestNode, rtp};
use crate::limits::Limits;

const MINUTE: Duration = Duration::from_secs(60);

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

#[tokio::test(start_paused = true)]
async fn a_person_may_take_minutes_to_answer_the_browsers_question() {
    let node = node();
    let mut alice = node.open("room", "alice");
    alice.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    assert_eq!(alice.wait(9 * MINUTE).await, None);
    alice.join().await;
    assert_eq!(alice.wait(60 * MINUTE).await, None, "and stays as long as it likes");
}

#[tokio::test(start_paused = true)]
async fn a_peer_must_join_at_last() {
    let node = node();
    let mut alice = node.open("room", "alice");
    let opened = Instant::now();
    assert_eq!(alice.wait(20 * MINUTE).await, Some((4002, "no join within 600 s".to_owned())));
    assert_eq!(opened.elapsed(), 10 * MINUTE);
}

#[tokio::test(start_paused = true)]
async fn pings_come_oftener_than_proxies_give_up() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    alice.settle().await;
    let mut last = Instant::now();
    for _ in 0..10 {
        alice.ping().await;
        assert!(last.elapsed() <= Duration::from_secs(25), "{:?}", last.elapsed());
        last = Instant::now();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_nothing_is_dropped() {
    let limits = Limits { silence: 2 * MINUTE, ..Limits::default() };
    for (limits, patience) in [(Limits::default(), MINUTE), (limits, 2 * MINUTE)] {
        let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
        let mut alice = node.join("room", "alice").await;
        alice.settle().await;
        alice.go_deaf();
        alice.request("getRouterRtpCapabilities", json!({})).await.unwrap();
        let last_word = Instant::now();
        assert_eq!(alice.closed_within(10 * MINUTE).await, (4003, "nothing was heard of the client".to_owned()));
        assert_eq!(last_word.elapsed(), patience);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_answers_pings_only_is_there() {
    let node = node();
    let mut bob = node.join("room", "bob").await;
    bob.produce("audio", rtp::opus(1)).await;
    assert_eq!(bob.wait(30 * MINUTE).await, None);
    let mut alice = node.join("room", "alice").await;
    alice.accept_consumer().await;
}
