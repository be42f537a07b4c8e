//! What operators and tenants' servers do to a room while people are in it.

use serde_json::{Value, json};
use sluice_proto::ids::{NamespaceId, PeerId, RoomId, RoomKey};
use sluice_proto::ortc::MediaKind;

use super::client::{Client, entrance, opening};
use super::fakes::World;
use super::{SOON, TestNode, rtp};
use crate::access::Grants;
use crate::entrance::Opening;
use crate::rooms::api::Refusal;
use crate::rooms::operations::Operation;

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

async fn operate(node: &TestNode, operation: Operation) -> Result<(), Refusal> {
    let (namespace, room) = (NamespaceId::new("default").unwrap(), RoomId::new("room").unwrap());
    node.rooms.operate(&RoomKey { namespace, room }, operation).await
}

fn id(peer: &str) -> PeerId {
    PeerId::new(peer).unwrap()
}

async fn resume(client: &mut Client, producer: &str) -> Result<Value, (u64, String)> {
    client.request("resumeProducer", json!({"producerId": producer})).await
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_is_removed_is_told_not_to_come_back() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    operate(&node, Operation::Remove(id("bob"))).await.unwrap();
    assert_eq!(bob.closed().await, (4000, "you were removed from the room".to_owned()));
    assert_eq!(alice.next_notification("peerClosed").await["peerId"], "bob");
    assert_eq!(operate(&node, Operation::Remove(id("bob"))).await.unwrap_err().code, 404);
}

#[tokio::test(start_paused = true)]
async fn a_room_is_closed_for_everybody() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    operate(&node, Operation::Close).await.unwrap();
    assert_eq!(alice.closed().await, (4000, "the room was closed".to_owned()));
    assert_eq!(bob.closed().await.0, 4000);
    tokio::time::sleep(SOON).await;
    assert_eq!(operate(&node, Operation::Close).await.unwrap_err().code, 404, "it has ended");
}

#[tokio::test(start_paused = true)]
async fn who_is_muted_cannot_be_heard_before_that_is_taken_back() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let audio = alice.produce("audio", rtp::opus(1)).await;
    let video = alice.produce("video", rtp::vp8(2)).await;
    bob.accept_consumer().await;
    bob.accept_consumer().await;
    let muted = |muted| Operation::SetMuted { peer: id("alice"), kind: Some(MediaKind::Audio), muted };
    operate(&node, muted(true)).await.unwrap();
    bob.next_notification("consumerPaused").await;
    assert_eq!(alice.next_notification("producerPaused").await["producerId"], audio);
    assert_eq!(resume(&mut alice, &audio).await, Err((403, "the producer was muted".to_owned())));
    resume(&mut alice, &video).await.unwrap();
    // Nor by something new of the same kind.
    let second = alice.produce("audio", rtp::opus(3)).await;
    assert_eq!(bob.accept_consumer().await["producerPaused"], true);
    assert_eq!(resume(&mut alice, &second).await.unwrap_err().0, 403);
    alice.request("closeProducer", json!({"producerId": second})).await.unwrap();
    operate(&node, muted(false)).await.unwrap();
    assert_eq!(alice.next_notification("producerResumable").await["producerId"], audio);
    resume(&mut alice, &audio).await.unwrap();
    bob.next_notification("consumerResumed").await;
}

#[tokio::test(start_paused = true)]
async fn who_was_muted_while_it_did_not_hear_of_it_is_told_when_it_goes_on() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let audio = alice.produce("audio", rtp::opus(1)).await;
    let video = alice.produce("video", rtp::vp8(2)).await;
    alice.request("pauseProducer", json!({"producerId": video})).await.unwrap();
    let again = async |secret: &str| {
        let opening = Opening { resumes: true, ..opening("room", "alice", Some(secret)) };
        let mut again = Client::admit(&entrance(&node.rooms), opening).unwrap();
        let resumed = again.next_notification("resumed").await;
        let mut producers = resumed["producers"].as_array().unwrap().clone();
        producers.sort_by_key(|producer| producer["id"] == video);
        (again, resumed["peerSecret"].as_str().unwrap().to_owned(), producers)
    };
    let muted = |muted| Operation::SetMuted { peer: id("alice"), kind: Some(MediaKind::Audio), muted };
    let expected = |is_muted| {
        let [audio, video] =
            [(&audio, is_muted), (&video, false)].map(|(id, muted)| json!({"id": id, "paused": true, "muted": muted}));
        vec![audio, video]
    };
    // Its connection may be broken, or only thought to be whole.
    alice.break_off();
    operate(&node, muted(true)).await.unwrap();
    let (second, secret, producers) = again(&alice.secret).await;
    assert_eq!(producers, expected(true));
    operate(&node, muted(false)).await.unwrap();
    let (mut third, _, producers) = again(&secret).await;
    assert_eq!(producers, expected(false));
    resume(&mut third, &audio).await.unwrap();
    drop(second);
}

#[tokio::test(start_paused = true)]
async fn grants_that_change_have_their_effect_at_once() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let audio = alice.produce("audio", rtp::opus(1)).await;
    let consumer = bob.accept_consumer().await["id"].clone();
    let set = |peer: &str, grants: Value| Operation::SetGrants {
        peer: id(peer),
        grants: serde_json::from_value::<Option<Grants>>(grants).unwrap(),
    };
    operate(&node, set("bob", json!({"subscribe": false}))).await.unwrap();
    assert_eq!(bob.next_notification("consumerClosed").await["consumerId"], consumer);
    operate(&node, set("bob", json!({}))).await.unwrap();
    bob.accept_consumer().await;
    operate(&node, set("alice", json!({"publish": false}))).await.unwrap();
    assert_eq!(alice.next_notification("producerClosed").await["producerId"], audio);
    bob.next_notification("consumerClosed").await;
    operate(&node, set("alice", json!({"hidden": true}))).await.unwrap();
    assert_eq!(bob.next_notification("peerClosed").await["peerId"], "alice");
    operate(&node, set("alice", json!({}))).await.unwrap();
    assert_eq!(bob.next_notification("newPeer").await["id"], "alice");
}

#[tokio::test(start_paused = true)]
async fn what_was_decided_of_a_peer_outlives_its_leaving() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let muted = |muted| Operation::SetMuted { peer: id("alice"), kind: Some(MediaKind::Audio), muted };
    let granted = |grants: Value| Operation::SetGrants {
        peer: id("alice"),
        grants: serde_json::from_value::<Option<Grants>>(grants).unwrap(),
    };
    operate(&node, muted(true)).await.unwrap();
    operate(&node, granted(json!({"publish": ["audio"]}))).await.unwrap();
    let video = |client: &Client| {
        let transport = client.send_transport.clone();
        json!({"transportId": transport, "kind": "video", "rtpParameters": rtp::vp8(2), "appData": {}})
    };
    // By leaving, and in its own place.
    for leaves in [true, false] {
        let secret = alice.secret.clone();
        if leaves {
            alice.hang_up();
            bob.next_notification("peerClosed").await;
            bob.settle().await;
        }
        let mut again = node.reopen("room", "alice", &secret);
        again.join().await;
        alice = again;
        let audio = alice.produce("audio", rtp::opus(1)).await;
        assert_eq!(bob.accept_consumer().await["producerPaused"], true);
        assert_eq!(alice.next_notification("producerPaused").await["producerId"], audio);
        assert_eq!(resume(&mut alice, &audio).await.unwrap_err().0, 403);
        let video = video(&alice);
        assert_eq!(alice.request("produce", video).await.unwrap_err().0, 403);
    }
    // It is taken back of one who is away.
    alice.hang_up();
    bob.next_notification("peerClosed").await;
    operate(&node, muted(false)).await.unwrap();
    operate(&node, granted(Value::Null)).await.unwrap();
    assert_eq!(operate(&node, granted(Value::Null)).await.unwrap_err().code, 404, "nothing is left to take back");
    assert_eq!(operate(&node, muted(true)).await.unwrap_err().code, 404);
    bob.settle().await;
    let mut alice = node.join("room", "alice").await;
    alice.produce("audio", rtp::opus(1)).await;
    assert_eq!(bob.accept_consumer().await["producerPaused"], false);
    // And of one who is here.
    operate(&node, granted(json!({"publish": false}))).await.unwrap();
    bob.next_notification("consumerClosed").await;
    operate(&node, granted(Value::Null)).await.unwrap();
    alice.produce("video", rtp::vp8(2)).await;
    bob.accept_consumer().await;
}
