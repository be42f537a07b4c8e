//! Of whom clients are told in large rooms: of those who publish.

use serde_json::{Value, json};

use super::fakes::World;
use super::{TestNode, rtp};
use crate::limits::Limits;

fn limits() -> Limits {
    Limits { small_room: 3, ..Limits::default() }
}

/// Method and peer of what a client was told.
fn told(messages: &[Value]) -> Vec<(String, String)> {
    let peer = |data: &Value| {
        data["id"].as_str().filter(|_| data["kind"].is_null()).or(data["peerId"].as_str()).unwrap_or("").to_owned()
    };
    let method = |message: &Value| message["method"].as_str().unwrap_or("").to_owned();
    messages.iter().map(|message| (method(message), peer(&message["data"]))).collect()
}

fn said(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter().map(|(method, peer)| ((*method).to_owned(), (*peer).to_owned())).collect()
}

fn names(joined: &Value) -> Vec<&str> {
    let mut names: Vec<&str> =
        joined["peers"].as_array().unwrap().iter().map(|peer| peer["id"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[tokio::test(start_paused = true)]
async fn in_a_large_room_clients_are_told_of_those_who_publish() {
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits());
    let mut alice = node.join("room", "alice").await;
    let mut bob = node.join("room", "bob").await;
    let mut carol = node.open("room", "carol");
    assert_eq!(names(&carol.join().await), ["alice", "bob"]);
    assert_eq!(told(&alice.settle().await), said(&[("newPeer", "bob"), ("newPeer", "carol")]));

    let mut dave = node.open("room", "dave");
    assert_eq!(names(&dave.join().await), ["alice", "bob", "carol"]);
    let mut eve = node.open("room", "eve");
    assert_eq!(names(&eve.join().await), ["alice", "bob", "carol"], "dave is of the audience");
    dave.request("changeDisplayName", json!({"displayName": "anybody"})).await.unwrap();
    assert_eq!(told(&alice.settle().await), []);
    dave.produce("audio", rtp::opus(1)).await;
    assert_eq!(
        told(&alice.settle().await),
        said(&[("newPeer", "dave"), ("newConsumer", "dave")]),
        "before what it sends"
    );
    bob.hang_up();
    assert_eq!(told(&alice.settle().await), said(&[("peerClosed", "bob")]));

    // It is small again: everybody is told of.
    carol.hang_up();
    let mut news = told(&alice.settle().await);
    news.sort();
    assert_eq!(news, said(&[("newPeer", "eve"), ("peerClosed", "carol")]));
}

#[tokio::test(start_paused = true)]
async fn whoever_left_a_large_room_unseen_is_not_spoken_of() {
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits());
    let mut clients = Vec::new();
    for number in 0..40 {
        clients.push(node.join("room", &format!("peer-{number}")).await);
    }
    clients[0].settle().await;
    for client in clients.drain(20..) {
        drop(client);
    }
    assert_eq!(told(&clients[0].settle().await), []);
}

#[tokio::test(start_paused = true)]
async fn those_on_other_nodes_count_too() {
    let world = World::default();
    let eu = TestNode::start_with(&world, "eu-1", 1, limits());
    let us = TestNode::start_with(&world, "us-1", 1, limits());
    world.link_up(&eu.instance, &us.instance);
    let mut alice = eu.join("room", "alice").await;
    let mut others = Vec::new();
    for number in 0..5 {
        others.push(us.join("room", &format!("peer-{number}")).await);
        alice.settle().await;
    }
    let mut late = eu.open("room", "late");
    assert_eq!(names(&late.join().await), ["alice", "peer-0", "peer-1"]);
    others[4].produce("audio", rtp::opus(1)).await;
    assert_eq!(told(&alice.settle().await), said(&[("newPeer", "peer-4"), ("newConsumer", "peer-4")]));
    drop(others);
    let mut news = told(&alice.settle().await);
    news.sort();
    let mut expected = said(&[("newPeer", "late")]);
    expected.extend(["peer-0", "peer-1", "peer-4"].map(|peer| ("peerClosed".to_owned(), peer.to_owned())));
    assert_eq!(news, expected);
}
