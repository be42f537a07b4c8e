//! Clients whose connection breaks, and who come back.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_media::messages::{Request, WorkerEvent};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Connection, entrance, opening};
use super::fakes::World;
use super::{SOON, TestNode, rtp};
use crate::access::Namespaces;
use crate::config::{NodeConfig, Sources};
use crate::entrance::{Entrance, Opening};
use crate::limits::Limits;
use crate::rooms::PeerSecret;

/// How long a peer keeps its place, by default.
const RESUME_WITHIN: Duration = Duration::from_secs(15);

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

/// Comes back and wants to go on.
fn resume(node: &TestNode, peer: &str, secret: &str) -> Client {
    let opening = Opening { resumes: true, ..opening("room", peer, Some(secret)) };
    Client::admit(&entrance(&node.rooms), opening).unwrap()
}

/// Of everything that was said, what concerns this method.
fn of<'a>(told: &'a [Value], method: &str) -> Vec<&'a Value> {
    told.iter().filter(|message| message["method"] == method).map(|message| &message["data"]).collect()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_goes_on_and_nobody_else_notices() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let of_alice = alice.produce("audio", rtp::opus(1)).await;
    bob.accept_consumer().await;
    let of_bob = bob.produce("video", rtp::vp8(2)).await;
    let set_up = alice.accept_consumer().await["id"].clone();
    bob.produce("audio", rtp::opus(3)).await;
    let (_, unanswered) = alice.next_consumer().await;
    bob.settle().await;
    alice.break_off();
    assert_eq!(bob.wait(RESUME_WITHIN / 2).await, None);
    bob.request("pauseProducer", json!({"producerId": of_bob})).await.unwrap();
    bob.request("changeDisplayName", json!({"displayName": "Robert"})).await.unwrap();
    let mut again = resume(&node, "alice", &alice.secret);
    let resumed = again.next_notification("resumed").await;
    assert_eq!(resumed["producers"], json!([{"id": of_alice, "paused": false, "muted": false}]));
    assert_eq!(resumed["consumers"], json!([{"id": set_up, "producerPaused": true}]));
    assert_eq!((&resumed["peers"][0]["id"], &resumed["peers"][0]["displayName"]), (&json!("bob"), &json!("Robert")));
    assert_eq!(again.accept_consumer().await["id"], unanswered["id"], "what it had not set up it is asked again");
    // It is the same peer, as far as workers and others are concerned.
    bob.request("resumeProducer", json!({"producerId": of_bob})).await.unwrap();
    assert_eq!(again.next_notification("consumerResumed").await["consumerId"], set_up);
    again.request("pauseProducer", json!({"producerId": of_alice})).await.unwrap();
    again.request("getTransportStats", json!({"transportId": alice.send_transport})).await.unwrap();
    let told = bob.settle().await;
    assert!(of(&told, "peerClosed").is_empty() && of(&told, "newPeer").is_empty(), "{told:?}");
    assert_eq!(of(&told, "consumerPaused").len(), 1);
    assert_eq!(again.wait(2 * RESUME_WITHIN).await, None, "it stays");
    assert!(node.workers[0].take(|request| matches!(request, Request::CloseTransport { .. }).then_some(())).is_none());
    // And may break again.
    again.break_off();
    resume(&node, "alice", resumed["peerSecret"].as_str().unwrap()).next_notification("resumed").await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_hears_again_which_of_its_encodings_anybody_receives() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let mut camera = rtp::vp8(1);
    camera["encodings"] = json!([{"ssrc": 1}, {"ssrc": 2}, {"ssrc": 3}]);
    let producer = alice.produce("video", camera).await;
    node.tell(0, WorkerEvent::StreamsWanted { producer: producer.parse().unwrap(), streams: 0b101 }).await;
    let wanted = json!({"producerId": producer, "wanted": [true, false, true]});
    assert_eq!(alice.next_notification("producerEncodingsWanted").await, wanted);
    alice.break_off();
    let mut again = resume(&node, "alice", &alice.secret);
    again.next_notification("resumed").await;
    assert_eq!(again.next_notification("producerEncodingsWanted").await, wanted);
    assert_eq!(again.wait(SOON).await, None, "once");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_showed_is_worth_nothing_once_it_has_heard_of_another() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    alice.break_off();
    let mut second = resume(&node, "alice", &alice.secret);
    second.next_notification("resumed").await;
    // For all that is known, this did not reach it.
    second.break_off();
    let mut third = resume(&node, "alice", &alice.secret);
    let secret = third.next_notification("resumed").await["peerSecret"].as_str().unwrap().to_owned();
    assert_ne!(secret, alice.secret);
    third.request("getPeers", json!({})).await.unwrap();
    resume(&node, "alice", &alice.secret).next_notification("notResumed").await;
    let mut stranger = node.reopen("room", "alice", &alice.secret);
    stranger.ask_to_join().await;
    let (answer, none) = tokio::join!(stranger.join_answer(), third.wait(SOON));
    assert_eq!((answer["errorCode"].as_u64(), none), (Some(409), None));
    third.break_off();
    resume(&node, "alice", &secret).next_notification("resumed").await;
}

#[test]
fn nobody_reads_a_secret_in_a_log() {
    let secret = PeerSecret::from("a secret".to_owned());
    assert_eq!(format!("{secret:?}"), "PeerSecret");
}

/// A client of which the test does what clients do not.
async fn join_by_hand(node: &TestNode, peer: &str) -> (Connection, String) {
    let mut connection = Connection::open(&node.rooms, opening("room", peer, None));
    connection.to_server.send(request(0, "join", &json!({}))).await.unwrap();
    loop {
        if let Message::Text(text) = connection.from_server.recv().await.unwrap() {
            let message: Value = serde_json::from_str(&text).unwrap();
            if let Some(secret) = message["data"]["peerSecret"].as_str() {
                return (connection, secret.to_owned());
            }
        }
    }
}

fn request(id: u64, method: &str, data: &Value) -> Message {
    let request = json!({"request": true, "id": id, "method": method, "data": data});
    Message::Text(request.to_string().into())
}

#[tokio::test(start_paused = true)]
async fn one_that_takes_no_answers_goes_on_or_leaves_as_one_whose_connection_broke() {
    let mut node = node();
    let Limits { write_within, .. } = Limits::default();
    for comes_back in [true, false] {
        let peer = format!("alice-{comes_back}");
        let (Connection { to_server, from_server }, secret) = join_by_hand(&node, &peer).await;
        for id in 1.. {
            if timeout(SOON / 10, to_server.send(request(id, "getPeers", &json!({})))).await.is_err() {
                break;
            }
        }
        tokio::time::sleep(write_within + SOON).await;
        assert!(to_server.is_closed());
        if comes_back {
            resume(&node, &peer, &secret).next_notification("resumed").await;
        } else {
            tokio::time::sleep(RESUME_WITHIN).await;
            let left = node.audit.take().into_iter().rfind(|line| line["event"] == "peer.left").unwrap();
            assert_eq!((&left["peer"], &left["reason"]), (&json!(peer), &json!("silent")));
        }
        drop(from_server);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_client_asked_at_last_costs_it_no_place() {
    let node = node();
    let mut bob = node.join("room", "bob").await;
    let (Connection { to_server, from_server }, secret) = join_by_hand(&node, "alice").await;
    drop(from_server);
    // It cannot be told of this, and what it said before that is still on the way.
    bob.request("changeDisplayName", json!({"displayName": "Robert"})).await.unwrap();
    for id in 1..5 {
        to_server.send(request(id, "getPeers", &json!({}))).await.unwrap();
    }
    assert_eq!(bob.wait(SOON).await, None);
    drop(to_server);
    resume(&node, "alice", &secret).next_notification("resumed").await;
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_away_leaves_in_the_end() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    bob.settle().await;
    alice.break_off();
    assert_eq!(bob.wait(RESUME_WITHIN - Duration::from_secs(1)).await, None);
    assert!(of(&bob.settle().await, "peerClosed").is_empty());
    assert_eq!(bob.next_notification("peerClosed").await["peerId"], "alice");
    let mut late = resume(&node, "alice", &alice.secret);
    late.next_notification("notResumed").await;
    late.join().await;
}

#[tokio::test(start_paused = true)]
async fn nobody_else_goes_on_in_its_place() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let mut stranger = resume(&node, "alice", "guessed");
    stranger.next_notification("notResumed").await;
    stranger.ask_to_join().await;
    let (answer, none) = tokio::join!(stranger.join_answer(), alice.wait(SOON));
    assert_eq!((answer["errorCode"].as_u64(), none), (Some(409), None));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_broke_unnoticed_is_given_up() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let produced = alice.produce("audio", rtp::opus(1)).await;
    let mut again = resume(&node, "alice", &alice.secret);
    assert_eq!(again.next_notification("resumed").await["producers"][0]["id"], produced);
    assert_eq!(alice.closed().await.0, 4000);
    assert_eq!(again.wait(SOON).await, None, "the end of the former connection is not its own");
    again.request("closeProducer", json!({"producerId": produced})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_only_joins_takes_its_broken_place_at_once() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    alice.produce("audio", rtp::opus(1)).await;
    bob.accept_consumer().await;
    bob.settle().await;
    alice.break_off();
    assert!(of(&bob.settle().await, "consumerClosed").is_empty(), "media go on until it is back");
    let mut again = Client::open(&node.rooms, "room", "alice", None);
    again.join().await;
    let told = bob.settle().await;
    assert_eq!((of(&told, "peerClosed").len(), of(&told, "newPeer").len()), (1, 1), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_on_needs_no_second_place_and_one_that_does_not_needs_one() {
    let node = node();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[namespaces.default]\nopen = true\npeers = 1\n").unwrap();
    let sources = Sources { file: Some(file.path().to_owned()), ..Sources::default() };
    let config = NodeConfig::load(&sources).unwrap();
    let namespaces = Namespaces::new(&config.namespaces, config.region).unwrap();
    let entrance = Entrance::new(node.rooms.clone(), namespaces.into());
    let mut alice = Client::admit(&entrance, opening("room", "alice", None)).unwrap();
    alice.join().await;
    alice.break_off();
    let resuming = Opening { resumes: true, ..opening("room", "alice", Some(&alice.secret)) };
    let mut again = Client::admit(&entrance, resuming).unwrap();
    again.next_notification("resumed").await;
    let other = Opening { resumes: true, ..opening("room", "bob", Some("no secret")) };
    assert_eq!(Client::admit(&entrance, other).unwrap().closed().await.0, 1013);
}
