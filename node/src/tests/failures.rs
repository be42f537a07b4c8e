//! What fails takes nothing else along and leaves nothing behind: sessions and rooms that panic, workers without room,
//! nodes that stop.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use sluice_media::messages::Request;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::client::{EXPLOSION, entrance, opening};
use super::fakes::World;
use super::{SOON, TestNode, rtp};
use crate::rooms::api::{Join, PeerRequest, Subscription};
use crate::rooms::room::RoomMessage;

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

#[tokio::test(start_paused = true)]
async fn a_session_that_panics_is_heard_of() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    alice.produce("audio", rtp::opus(1)).await;
    bob.accept_consumer().await;
    alice.send_frame(Message::Binary(EXPLOSION.into())).await;
    bob.next_notification("consumerClosed").await;
    assert_eq!(bob.next_notification("peerClosed").await["peerId"], "alice");
    let snapshot = node.rooms.snapshot();
    assert_eq!((snapshot.sessions, snapshot.peers), (1, 1));
    assert_eq!(node.workers[0].counts(), (1, 2, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_room_that_panics_sends_its_peers_back_and_leaves_nothing() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&eu.instance, &us.instance);
    let mut other = eu.join("other", "other").await;
    let (mut alice, mut bob) = (eu.join("room", "alice").await, us.join("room", "bob").await);
    let mut idle = eu.open("room", "idle");
    idle.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    alice.produce("video", rtp::vp8(1)).await;
    bob.produce("video", rtp::vp8(1)).await;
    alice.accept_consumer().await;
    bob.accept_consumer().await;
    assert_eq!((eu.rooms.snapshot().routes_in, eu.rooms.snapshot().routes_out), (1, 1));
    eu.workers[0].explode();
    let restart = json!({"transportId": alice.send_transport});
    alice.send(json!({"request": true, "id": 5, "method": "restartIce", "data": restart})).await;
    assert_eq!(alice.closed().await, (1012, "the room has ended".to_owned()));
    assert_eq!(idle.closed().await.0, 1012);
    assert_eq!(bob.next_notification("peerClosed").await["peerId"], "alice");
    bob.settle().await;
    alice.hang_up();
    idle.hang_up();
    other.settle().await;
    let snapshot = eu.rooms.snapshot();
    assert_eq!((snapshot.rooms, snapshot.sessions, snapshot.peers), (1, 1, 1), "the other room's");
    assert_eq!((snapshot.routes_in, snapshot.routes_out), (0, 0));
    assert_eq!(eu.workers[0].counts(), (1, 2, 0, 0), "the other room's");
    assert_eq!(us.rooms.snapshot().routes_in, 0);

    // They come back into a room that works, and so does the rest.
    let mut alice = eu.reopen("room", "alice", &alice.secret);
    alice.join().await;
    alice.produce("video", rtp::vp8(1)).await;
    bob.accept_consumer().await;
    alice.accept_consumer().await;
    other.produce("audio", rtp::opus(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_room_that_panics_while_it_waits_does_no_less() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    node.workers[0].explode_late();
    let connect = json!({"transportId": alice.send_transport, "dtlsParameters": rtp::dtls()});
    alice.send(json!({"request": true, "id": 5, "method": "connectWebRtcTransport", "data": connect})).await;
    assert_eq!(alice.closed().await, (1012, "the room has ended".to_owned()));
    alice.hang_up();
    let mut again = node.reopen("room", "alice", &alice.secret);
    again.join().await;
    again.produce("audio", rtp::opus(1)).await;
    assert_eq!(node.workers[0].counts(), (1, 2, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_does_not_take_ends_the_session_that_it_was_for() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    alice.produce("audio", rtp::opus(1)).await;
    let (question, _) = bob.next_consumer().await;
    let mut carol = node.open("room", "carol");
    carol.greeted().await;
    node.workers[0].set_full(true);
    bob.send(json!({"response": true, "id": question, "ok": true, "data": {}})).await;
    let busy = (1013, "the media worker is too busy".to_owned());
    assert_eq!(bob.closed().await, busy, "its consumer would be paused for ever");
    carol.send(json!({"request": true, "id": 5, "method": "createWebRtcTransport", "data": {"consuming": true}})).await;
    assert_eq!(carol.closed().await, busy, "its transport would never connect");
    assert_eq!(alice.next_notification("peerClosed").await["peerId"], "bob");
    assert_eq!(node.workers[0].counts(), (1, 2, 1, 0), "what ends is ended");
    node.workers[0].set_full(false);
    let mut bob = node.join("room", "bob").await;
    bob.accept_consumer().await;
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_a_worker_does_not_take_is_not_missing_for_ever() {
    let node = TestNode::start(&World::default(), "eu-1", 2);
    let mut peers = Vec::new();
    for number in 0..34 {
        peers.push(node.join("room", &format!("peer-{number}")).await);
    }
    assert_eq!(node.workers[1].counts().0, 1, "the room spread");
    node.workers[1].set_full(true);
    peers[0].produce("audio", rtp::opus(1)).await;
    assert_eq!(peers[33].closed().await.0, 1013);
    peers[1].accept_consumer().await;
    node.workers[1].set_full(false);
    let mut again = node.reopen("room", "peer-33", &peers[33].secret);
    again.join().await;
    again.accept_consumer().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_without_workers_refuses_and_goes_on() {
    let node = TestNode::start(&World::default(), "eu-1", 0);
    for _ in 0..2 {
        assert_eq!(
            node.open("room", "alice").closed().await,
            (1013, "the node has no media worker that works".to_owned())
        );
    }
    assert_eq!(node.rooms.snapshot().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_done_for_a_session_that_has_ended() {
    let node = node();
    let mut watcher = node.join("room", "watcher").await;
    // One that ended before its turn, and one that ended between opening and joining.
    drop(entrance(&node.rooms).admit(opening("room", "ghost-1", None)).unwrap());
    let seat = entrance(&node.rooms).admit(opening("room", "ghost-2", None)).unwrap();
    tokio::task::yield_now().await;
    let join = Join {
        display_name: String::new(),
        device: json!({}),
        rtp_capabilities: None,
        subscription: Subscription::Everything,
        adapts_encodings: false,
    };
    let answer = seat.ask(PeerRequest::Join(Box::new(join))).await.unwrap();
    drop(seat);
    assert!(answer.await.is_err(), "nobody is there to be answered");
    assert_eq!(watcher.settle().await, Vec::<serde_json::Value>::new());
    let room = node.rooms.way_into("room");
    let (answer, overview) = oneshot::channel();
    room.send(RoomMessage::Overview(answer)).await.unwrap();
    assert_eq!(overview.await.unwrap().peers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_node_sends_everybody_away_but_not_in_one_moment() {
    let node = node();
    let mut clients = Vec::new();
    for number in 0..200 {
        clients.push(node.join(&format!("room-{}", number % 3), &format!("peer-{number}")).await);
    }
    let (rooms, begun) = (node.rooms.clone(), Instant::now());
    let stopping = tokio::spawn(async move { rooms.shutdown().await });
    let closed = join_all(clients.iter_mut().map(async |client| {
        let (code, _) = client.closed().await;
        client.hang_up();
        (code, begun.elapsed())
    }));
    let closed = closed.await;
    assert!(closed.iter().all(|(code, _)| *code == 1012));
    let (first, last) = (closed.iter().map(|at| at.1).min().unwrap(), closed.iter().map(|at| at.1).max().unwrap());
    assert!(last - first > Duration::from_millis(100) && last <= Duration::from_millis(201), "{first:?} to {last:?}");
    tokio::time::timeout(SOON, stopping).await.unwrap().unwrap();
    assert_eq!(node.open("room", "late").closed().await.0, 1013);
    assert_eq!((node.rooms.snapshot().sessions, node.rooms.snapshot().rooms), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stopping_node_sends_away_those_who_do_not_answer_too() {
    let node = node();
    let _deaf = node.join("room", "deaf").await;
    let mut joining = node.open("room", "deaf");
    joining.ask_to_join().await;
    let rooms = node.rooms.clone();
    tokio::time::timeout(SOON, async move { rooms.shutdown().await }).await.unwrap();
    assert_eq!(node.workers[0].take(|request| matches!(request, Request::CloseRouter { .. }).then_some(())), Some(()));
    assert_eq!((node.rooms.snapshot().sessions, node.rooms.snapshot().peers), (0, 0));
}
