//! Of whom clients are told in large rooms: of the stage, and how many there are. Of the others they can ask.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_proto::ids::{NamespaceId, PeerId, RoomId, RoomKey};

use super::fakes::World;
use super::{TestNode, rtp};
use crate::limits::Limits;
use crate::rooms::operations::Operation;

fn limits() -> Limits {
    Limits { small_room: 3, ..Limits::default() }
}

/// Method and peer of what a client was told of others.
fn told(messages: &[Value]) -> Vec<(String, String)> {
    let peer = |data: &Value| {
        data["id"].as_str().filter(|_| data["kind"].is_null()).or(data["peerId"].as_str()).unwrap_or("").to_owned()
    };
    let method = |message: &Value| message["method"].as_str().unwrap_or("").to_owned();
    let told = messages.iter().map(|message| (method(message), peer(&message["data"])));
    told.filter(|(method, _)| method != "audience").collect()
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

#[tokio::test(start_paused = true)]
async fn whoever_is_asked_onto_the_stage_is_told_of() {
    let world = World::default();
    let eu = TestNode::start_with(&world, "eu-1", 1, limits());
    let us = TestNode::start_with(&world, "us-1", 1, limits());
    let mut alice = eu.join("room", "alice").await;
    let mut others = Vec::new();
    for number in 0..5 {
        others.push(us.join("room", &format!("peer-{number}")).await);
        alice.settle().await;
    }
    let entry = |peer: &str| world.part("room", &us.instance)[peer].clone();
    assert_eq!((entry("peer-4").device.as_str(), entry("peer-4").on_stage), ("", false), "it is told in short");
    let room = key();
    let on_stage = |node: &TestNode, peer: &str, on: bool| {
        let (rooms, room, peer) = (node.rooms.clone(), room.clone(), PeerId::new(peer).unwrap());
        async move { rooms.operate(&room, Operation::SetStage { peer, on }).await.map_err(|refusal| refusal.code) }
    };
    assert_eq!(on_stage(&us, "peer-4", true).await, Ok(()));
    assert_eq!(told(&alice.settle().await), said(&[("newPeer", "peer-4")]));
    assert_eq!(told(&others[0].settle().await), said(&[("newPeer", "peer-1"), ("newPeer", "peer-4")]));
    assert_eq!(entry("peer-4").device, r#"{"flag":"chrome"}"#);
    // Whoever was told of stays so.
    assert_eq!(on_stage(&us, "peer-4", false).await, Ok(()));
    assert_eq!(told(&alice.settle().await), []);
    assert!(!entry("peer-4").on_stage);
    assert_eq!(on_stage(&us, "alice", true).await, Err(421), "she is on another node");
    assert_eq!(on_stage(&us, "nobody", true).await, Err(404));
}

#[tokio::test(start_paused = true)]
async fn a_room_that_becomes_small_tells_what_it_told_in_short() {
    let world = World::default();
    let eu = TestNode::start_with(&world, "eu-1", 1, limits());
    let us = TestNode::start_with(&world, "us-1", 1, limits());
    let mut alice = eu.join("room", "alice").await;
    let mut others = Vec::new();
    for number in 0..5 {
        others.push(us.join("room", &format!("peer-{number}")).await);
        alice.settle().await;
    }
    drop(others.drain(..3));
    let news = alice.settle().await;
    let came: Vec<_> = news.iter().filter(|message| message["method"] == "newPeer").collect();
    assert_eq!(
        came.iter().map(|message| message["data"]["id"].as_str().unwrap()).collect::<Vec<_>>(),
        ["peer-3", "peer-4"]
    );
    assert!(came.iter().all(|message| message["data"]["device"]["flag"] == "chrome"));
}

#[tokio::test(start_paused = true)]
async fn clients_of_a_large_room_hear_how_many_there_are_once_a_second() {
    let world = World::default();
    let eu = TestNode::start_with(&world, "eu-1", 1, limits());
    let us = TestNode::start_with(&world, "us-1", 1, limits());
    let mut alice = eu.join("room", "alice").await;
    let audience = |messages: Vec<Value>| -> Vec<Value> {
        messages
            .into_iter()
            .filter(|message| message["method"] == "audience")
            .map(|message| message["data"].clone())
            .collect()
    };
    let mut bob = us.join("room", "bob").await;
    assert_eq!(audience(alice.settle().await), [] as [Value; 0], "the room is small");
    let mut others = Vec::new();
    for number in 0..20 {
        others.push(us.join("room", &format!("peer-{number:02}")).await);
    }
    bob.produce("audio", rtp::opus(1)).await;
    let a_second = Duration::from_millis(1_100);
    assert_eq!(tokio::join!(alice.wait(a_second), others[7].wait(a_second)), (None, None));
    let expected = [json!({"total": 22, "stage": 1, "byRegion": {"region-of-eu-1": 1, "region-of-us-1": 21}})];
    assert_eq!(audience(alice.settle().await), expected);
    assert_eq!(audience(others[7].settle().await), expected);
    assert_eq!(audience(alice.settle().await), [] as [Value; 0], "nothing changed");

    let page = |after: &str| json!({"after": after, "limit": 2});
    let listed = alice.request("getPeers", page("bob")).await.unwrap();
    let peer = |id: &str| {
        let (node, region) = ("us-1", "region-of-us-1");
        json!({"id": id, "displayName": "A name", "node": node, "region": region, "onStage": false})
    };
    assert_eq!(listed["peers"], json!([peer("peer-00"), peer("peer-01")]));
    assert_eq!((&listed["next"], &listed["total"], &listed["stage"]), (&json!("peer-01"), &json!(22), &json!(1)));
    let last = alice.request("getPeers", page("peer-18")).await.unwrap();
    assert_eq!((&last["peers"], &last["next"]), (&json!([peer("peer-19")]), &Value::Null));
    let all = alice.request("getPeers", json!({})).await.unwrap();
    assert_eq!(all["peers"].as_array().unwrap().len(), 22);
    assert_eq!(all["peers"][1]["onStage"], true);
    for wrong in [json!({"after": 7}), json!({"after": ""}), json!({"limit": "all"}), json!({"limit": -1})] {
        assert_eq!(alice.request("getPeers", wrong).await.unwrap_err().0, 400);
    }
    let mut stranger = us.open("room", "stranger");
    assert_eq!(stranger.request("getPeers", json!({})).await.unwrap_err().0, 409);
}

#[tokio::test(start_paused = true)]
async fn who_wants_the_stage_alone_hears_of_no_others_in_a_small_room_either() {
    let world = World::default();
    let limits = Limits { small_room: 10, ..Limits::default() };
    let eu = TestNode::start_with(&world, "eu-1", 1, limits.clone());
    let us = TestNode::start_with(&world, "us-1", 1, limits);
    world.link_up(&eu.instance, &us.instance);
    let (mut alice, mut bob) = (eu.join("room", "alice").await, us.join("room", "bob").await);
    alice.produce("audio", rtp::opus(1)).await;
    let mut eve = eu.open("room", "eve");
    eve.create_transport(true).await;
    let data = json!({"subscription": "stage", "rtpCapabilities": rtp::capabilities()});
    assert_eq!(names(&eve.request("join", data).await.unwrap()), ["alice"]);
    assert_eq!(eve.accept_consumer().await["peerId"], "alice");
    eve.settle().await;
    let mut carol = eu.join("room", "carol").await;
    carol.request("changeDisplayName", json!({"displayName": "Caroline"})).await.unwrap();
    carol.hang_up();
    assert_eq!(eve.wait(Duration::from_secs(1)).await, None);
    let news = eve.settle().await;
    assert_eq!(told(&news), []);
    let census = json!({"total": 3, "stage": 1, "byRegion": {"region-of-eu-1": 2, "region-of-us-1": 1}});
    assert_eq!(news.last().unwrap()["data"], census);
    // Whoever comes onto the stage is told of then, and stays so.
    let audio = bob.produce("audio", rtp::opus(3)).await;
    assert_eq!(eve.accept_consumer().await["peerId"], "bob");
    assert_eq!(told(&eve.settle().await), said(&[("newPeer", "bob"), ("consumerScore", "")]));
    bob.request("closeProducer", json!({"producerId": audio})).await.unwrap();
    bob.request("changeDisplayName", json!({"displayName": "Robert"})).await.unwrap();
    assert_eq!(told(&eve.settle().await), said(&[("consumerClosed", ""), ("peerDisplayNameChanged", "bob")]));
    bob.hang_up();
    assert_eq!(told(&eve.settle().await), said(&[("peerClosed", "bob")]));
    assert!(told(&alice.settle().await).contains(&said(&[("newPeer", "carol")])[0]), "others hear of all");
}

#[tokio::test(start_paused = true)]
async fn no_more_are_listed_at_a_time_than_is_set() {
    let limits = Limits { peers_per_page: 3, ..limits() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut clients = Vec::new();
    for number in 0..5 {
        clients.push(node.join("room", &format!("peer-{number}")).await);
    }
    let page = node.rooms.peers(&key(), None, Some(1_000)).await.unwrap();
    assert_eq!((page.peers.len(), page.next.unwrap().as_str(), page.census.total), (3, "peer-2", 5));
    let overview = node.rooms.overview(None, None, None).await;
    assert_eq!((overview.rooms[0].peers.len(), overview.rooms[0].census.total), (3, 5));
    let nowhere = RoomKey { room: RoomId::new("nowhere").unwrap(), ..key() };
    assert!(node.rooms.peers(&nowhere, None, None).await.is_none());
}

fn key() -> RoomKey {
    RoomKey { namespace: NamespaceId::new("default").unwrap(), room: RoomId::new("room").unwrap() }
}
