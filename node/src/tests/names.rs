//! Whose name it is: who holds one keeps it while it lives, gives it back to itself at once, and a ghost gives way.

use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, join_data};
use super::fakes::World;
use super::{SOON, TestNode, rtp};
use crate::limits::Limits;

const MINUTE: Duration = Duration::from_secs(60);

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

/// Asks to join while the others answer pings.
async fn join_beside(newcomer: &mut Client, others: &mut [&mut Client]) -> Result<Value, (u64, String)> {
    let pings = async {
        loop {
            for other in &mut *others {
                assert_eq!(other.wait(Duration::from_millis(10)).await, None, "it stays");
            }
        }
    };
    tokio::select! {
        answer = newcomer.request("join", join_data()) => answer,
        () = pings => unreachable!(),
    }
}

fn methods(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["method"].as_str().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn opening_a_websocket_changes_nothing_for_anybody() {
    let node = node();
    let mut watcher = node.join("room", "watcher").await;
    let mut alice = node.join("room", "alice").await;
    assert!(!watcher.next_notification("newPeer").await.to_string().contains(&alice.secret));
    let mut stranger = node.open("room", "alice");
    stranger.create_transport(true).await;
    let closed = tokio::join!(alice.wait(5 * MINUTE), watcher.wait(5 * MINUTE), stranger.wait(5 * MINUTE));
    assert_eq!(closed, (None, None, None));
    stranger.hang_up();
    assert_eq!(watcher.settle().await, Vec::<Value>::new());
    alice.produce("audio", rtp::opus(1)).await;
    watcher.accept_consumer().await;
}

#[tokio::test(start_paused = true)]
async fn a_living_peer_keeps_its_name_from_whoever_lacks_the_secret() {
    let mut node = node();
    let mut watcher = node.join("room", "watcher").await;
    let mut alice = node.join("room", "alice").await;
    watcher.settle().await;
    node.audit.take();
    let wrong = "x".repeat(alice.secret.len());
    for mut stranger in [node.open("room", "alice"), node.reopen("room", "alice", &wrong)] {
        let refused = (409, "the peer is in the room already".to_owned());
        assert_eq!(join_beside(&mut stranger, &mut [&mut alice]).await, Err(refused.clone()));
        // Two tabs with one name do not push each other out, however often the second tries.
        assert_eq!(join_beside(&mut stranger, &mut [&mut alice]).await, Err(refused));
        // Once the name is free it may have it.
        drop(stranger);
    }
    assert_eq!(watcher.settle().await, Vec::<Value>::new(), "nobody was told of anything");
    let recorded = node.audit.take();
    let refused: Vec<_> = recorded.iter().filter(|line| line["event"] == "session.refused").collect();
    assert_eq!(refused.len(), 4, "{recorded:?}");
    assert_eq!(
        (&refused[0]["peer"], &refused[0]["reason"]),
        (&json!("alice"), &json!("the peer is in the room already"))
    );
    let mut second = node.open("room", "alice");
    alice.hang_up();
    second.join().await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_many_ask_for_at_once_is_asked_once() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let mut strangers: Vec<_> = (0..40).map(|_| node.open("room", "alice")).collect();
    for stranger in &mut strangers {
        stranger.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    }
    for stranger in &mut strangers {
        stranger.ask_to_join().await;
    }
    assert_eq!(alice.wait(Duration::from_secs(1)).await, None, "it stays");
    for stranger in &mut strangers {
        assert_eq!(stranger.join_answer().await["errorCode"], 409);
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_gives_way() {
    let node = node();
    let mut watcher = node.join("room", "watcher").await;
    let mut ghost = node.join("room", "alice").await;
    ghost.produce("audio", rtp::opus(1)).await;
    watcher.accept_consumer().await;
    watcher.settle().await;
    let mut second = node.open("room", "alice");
    let asked = tokio::time::Instant::now();
    second.join().await;
    assert_eq!(asked.elapsed(), Duration::from_secs(2));
    ghost.go_deaf();
    assert_eq!(ghost.closed().await.0, 4000, "it must not come back");
    assert_eq!(methods(&watcher.settle().await), ["consumerClosed", "peerClosed", "newPeer"]);
    // Nothing of the first is left, and what it still says is nobody's.
    second.produce("audio", rtp::opus(1)).await;
    watcher.accept_consumer().await;
    assert_eq!(node.workers[0].counts(), (1, 4, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_shows_the_secret_takes_its_own_place_at_once() {
    let limits = Limits { peers_per_room: 2, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut watcher = node.join("room", "watcher").await;
    let mut first = node.join("room", "alice").await;
    watcher.settle().await;
    let mut second = node.reopen("room", "alice", &first.secret);
    let asked = tokio::time::Instant::now();
    second.join().await;
    assert!(asked.elapsed() < Duration::from_secs(1), "no ping is waited for, nor a place in a full room");
    assert_eq!(first.closed().await.0, 4000);
    assert_eq!(methods(&watcher.settle().await), ["peerClosed", "newPeer"]);
    assert_ne!(first.secret, second.secret);
    let mut third = node.reopen("room", "alice", &second.secret);
    third.join().await;
    assert_eq!(second.closed().await.0, 4000);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_do_not_join_are_bounded_as_peers_are() {
    let limits = Limits { peers_per_room: 2, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut idle = [node.open("room", "a"), node.open("room", "b")];
    for client in &mut idle {
        client.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    }
    assert_eq!(node.open("room", "c").closed().await.0, 1013);
    for client in &mut idle {
        client.join().await;
    }
    assert_eq!(node.open("room", "d").closed().await.0, 1013);
}

#[tokio::test(start_paused = true)]
async fn a_name_on_another_node_is_kept_or_given_up_likewise() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&eu.instance, &us.instance);
    let mut watcher = us.join("room", "watcher").await;
    let mut alice = eu.join("room", "alice").await;
    watcher.next_notification("newPeer").await;
    let mut stranger = us.open("room", "alice");
    let refused = (409, "the peer is in the room already".to_owned());
    assert_eq!(join_beside(&mut stranger, &mut [&mut alice, &mut watcher]).await, Err(refused));
    assert_eq!(watcher.settle().await, Vec::<Value>::new(), "a claim is no peer");
    // The same stranger asks again, and this time the peer is gone without a word.
    alice.go_deaf();
    assert_eq!(join_beside(&mut stranger, &mut [&mut watcher]).await.map(|_| ()), Ok(()));
    assert_eq!(alice.closed().await.0, 4000);
    assert_eq!(methods(&watcher.settle().await), ["peerClosed", "newPeer"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_on_a_dead_node_is_free() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&eu.instance, &us.instance);
    let _watcher = us.join("room", "watcher").await;
    let _alice = eu.join("room", "alice").await;
    let mut again = us.open("room", "alice");
    again.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    again.ask_to_join().await;
    assert_eq!(again.wait(Duration::from_millis(500)).await, None);
    world.die(&eu.instance);
    let answer = again.join_answer().await;
    assert_eq!(answer["ok"], true, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_name_on_a_node_that_says_nothing_is_free() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&eu.instance, &us.instance);
    let mut watcher = us.join("room", "watcher").await;
    let mut ghost = eu.join("room", "alice").await;
    watcher.next_notification("newPeer").await;
    world.set_mute();
    let mut again = us.open("room", "alice");
    assert_eq!(join_beside(&mut again, &mut [&mut ghost, &mut watcher]).await.map(drop), Ok(()));
    assert_eq!(methods(&watcher.settle().await), ["peerClosed", "newPeer"]);
    // The node is back, and its client is not.
    ghost.go_deaf();
    world.set_split(false);
    let closed = tokio::join!(again.wait(MINUTE / 2), watcher.wait(MINUTE / 2), ghost.closed());
    assert_eq!((closed.0, closed.1, closed.2.0), (None, None, 4000));
    assert_eq!(watcher.settle().await, Vec::<Value>::new());
}

#[tokio::test(start_paused = true)]
async fn a_claim_hides_nobody_who_takes_the_name_on_the_same_node() {
    let world = World::default();
    let [eu, us, ap] = ["eu-1", "us-1", "ap-1"].map(|name| TestNode::start(&world, name, 1));
    let mut watcher = ap.join("room", "watcher").await;
    let mut ghost = eu.join("room", "alice").await;
    let mut bob = us.join("room", "bob").await;
    assert_eq!(tokio::join!(watcher.wait(SOON), bob.wait(SOON), ghost.wait(SOON)), (None, None, None));
    watcher.settle().await;
    ghost.go_deaf();
    let mut stranger = us.open("room", "alice");
    stranger.ask_to_join().await;
    assert_eq!(watcher.wait(Duration::from_millis(500)).await, None);
    let mut second = us.reopen("room", "alice", &ghost.secret);
    second.join().await;
    assert_eq!(tokio::join!(second.wait(SOON), watcher.wait(SOON), bob.wait(SOON)), (None, None, None));
    assert_eq!(stranger.join_answer().await["errorCode"], 409);
    assert_eq!(methods(&watcher.settle().await), ["peerClosed", "newPeer"]);
}

#[tokio::test(start_paused = true)]
async fn no_name_is_given_away_before_it_is_known_who_is_on_other_nodes() {
    let world = World::default();
    let [eu, us] = ["eu-1", "us-1"].map(|name| TestNode::start(&world, name, 1));
    let mut alice = eu.join("room", "alice").await;
    world.set_late(Duration::from_millis(300));
    // The first of its node in the room.
    let mut stranger = us.open("room", "alice");
    let refused = (409, "the peer is in the room already".to_owned());
    assert_eq!(join_beside(&mut stranger, &mut [&mut alice]).await, Err(refused));
    assert_eq!(alice.wait(MINUTE).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_nothing_is_not_waited_for_long() {
    let world = World::default();
    let [eu, us] = ["eu-1", "us-1"].map(|name| TestNode::start(&world, name, 1));
    let _alice = eu.join("room", "alice").await;
    world.set_late(5 * MINUTE);
    us.join("room", "bob").await;
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_has_come_to_nothing_is_taken_back() {
    let limits = Limits { peers_per_room: 2, ..Limits::default() };
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start_with(&world, "us-1", 1, limits));
    let mut watcher = us.join("room", "watcher").await;
    let mut alice = eu.join("room", "alice").await;
    watcher.next_notification("newPeer").await;
    // By the time that its node has said nothing for long the name is free, and the room is full.
    let mut stranger = us.open("room", "alice");
    stranger.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    let mut bob = us.join("room", "bob").await;
    world.set_mute();
    stranger.ask_to_join().await;
    let ended = tokio::join!(stranger.closed(), alice.wait(MINUTE), bob.wait(MINUTE), watcher.wait(MINUTE));
    assert_eq!((ended.0.0, ended.1, ended.2, ended.3), (1013, None, None, None));
    let part = world.part("room", &us.instance);
    assert_eq!(part.keys().collect::<Vec<_>>(), ["bob", "watcher"]);
}

#[tokio::test(start_paused = true)]
async fn a_claimant_that_leaves_leaves_no_claim() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&eu.instance, &us.instance);
    let mut watcher = us.join("room", "watcher").await;
    let mut alice = eu.join("room", "alice").await;
    watcher.next_notification("newPeer").await;
    let mut stranger = us.open("room", "alice");
    stranger.ask_to_join().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stranger.hang_up();
    assert_eq!(tokio::join!(alice.wait(MINUTE), watcher.wait(MINUTE)), (None, None));
    alice.hang_up();
    watcher.next_notification("peerClosed").await;
    assert_eq!(eu.rooms.snapshot().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_takes_its_own_place_while_it_is_claimed_keeps_it() {
    let world = World::default();
    let (eu, us) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&eu.instance, &us.instance);
    let mut watcher = us.join("room", "watcher").await;
    let mut first = eu.join("room", "alice").await;
    watcher.next_notification("newPeer").await;
    first.go_deaf();
    let mut stranger = us.open("room", "alice");
    stranger.ask_to_join().await;
    assert_eq!(watcher.wait(Duration::from_secs(1)).await, None);
    let mut second = eu.reopen("room", "alice", &first.secret);
    second.join().await;
    assert_eq!(tokio::join!(second.wait(MINUTE), watcher.wait(MINUTE)), (None, None));
    assert_eq!(stranger.join_answer().await["errorCode"], 409);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_connection_broke_while_it_asked_its_user_ends_well() {
    let node = node();
    let mut watcher = node.join("room", "watcher").await;
    let mut first = node.open("room", "alice");
    first.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    let half_a_minute = Duration::from_secs(30);
    assert_eq!(tokio::join!(first.wait(half_a_minute), watcher.wait(half_a_minute)), (None, None));
    first.hang_up();
    // The application was told twice that it is connected, and so asks for everything twice once the user has agreed.
    let mut second = node.open("room", "alice");
    second.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    assert_eq!(tokio::join!(second.wait(half_a_minute), watcher.wait(half_a_minute)), (None, None));
    for _ in 0..2 {
        second.send_transport = second.create_transport(false).await;
        second.recv_transport = second.create_transport(true).await;
    }
    let answers = [second.request("join", join_data()).await, second.request("join", join_data()).await];
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0].as_ref().unwrap()["peers"][0]["id"], "watcher");
    second.produce("audio", rtp::opus(1)).await;
    watcher.accept_consumer().await;
    let news = watcher.settle().await;
    assert_eq!(news.iter().filter(|message| message["method"] == "newPeer").count(), 1);
    // Not for ever: the answer is long.
    for _ in 2..8 {
        second.request("join", join_data()).await.unwrap();
    }
    assert_eq!(second.request("join", join_data()).await.unwrap_err().0, 409);
}

#[tokio::test(start_paused = true)]
async fn requests_to_join_that_wait_are_all_answered() {
    let node = node();
    let mut ghost = node.join("room", "alice").await;
    ghost.go_deaf();
    let mut second = node.open("room", "alice");
    for id in 1..=3 {
        second.send(json!({"request": true, "id": id, "method": "join", "data": join_data()})).await;
    }
    for id in 1..=3 {
        assert_eq!(second.next(|message| message["id"] == id).await["ok"], true);
    }
}
