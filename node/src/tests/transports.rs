//! Transports that lose their network, end, or are replaced: the peer stays, and what can go on goes on.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_media::messages::{Request, WorkerEvent};
use sluice_media::secure::dtls::DtlsState;
use sluice_media::secure::ice::IceState;
use sluice_proto::ids::TransportId;

use super::client::Client;
use super::fakes::World;
use super::{TestNode, rtp};

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

impl TestNode {
    async fn ice(&self, transport: &str, state: IceState) {
        let transport = transport.parse().unwrap();
        self.tell(0, WorkerEvent::IceStateChanged { transport, state, remote: None }).await;
    }

    async fn dtls(&self, transport: &str, state: DtlsState) {
        let transport = transport.parse().unwrap();
        self.tell(0, WorkerEvent::DtlsStateChanged { transport, state }).await;
    }

    /// The transport that the latest consumer was put on.
    async fn consumes_on(&self) -> TransportId {
        let consume = |request: &Request| match request {
            Request::Consume { transport, .. } => Some(*transport),
            _ => None,
        };
        self.workers[0].asked(consume).await
    }
}

/// Alice sends and bob receives, each over a transport that is connected.
async fn alice_and_bob(node: &TestNode) -> (Client, Client) {
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    alice.produce("video", rtp::vp8(1)).await;
    bob.accept_consumer().await;
    for client in [&alice, &bob] {
        node.ice(&client.send_transport, IceState::Connected).await;
        node.ice(&client.recv_transport, IceState::Connected).await;
    }
    assert_eq!(node.consumes_on().await.to_string(), bob.recv_transport);
    bob.settle().await;
    (alice, bob)
}

/// Lets time pass; the close frames of those who are closed in it.
async fn wait(alice: &mut Client, bob: &mut Client, seconds: u64) -> (Option<(u16, String)>, Option<(u16, String)>) {
    let time = Duration::from_secs(seconds);
    tokio::join!(alice.wait(time), bob.wait(time))
}

#[tokio::test(start_paused = true)]
async fn a_peer_stays_while_its_network_is_gone_and_restarts_ice_when_it_likes() {
    let node = node();
    let (mut alice, mut bob) = alice_and_bob(&node).await;
    for transport in [&alice.send_transport, &alice.recv_transport] {
        node.ice(transport, IceState::Disconnected).await;
    }
    assert_eq!(wait(&mut alice, &mut bob, 240).await, (None, None));
    let transport = alice.send_transport.clone();
    alice.request("restartIce", json!({"transportId": transport})).await.unwrap();
    node.ice(&transport, IceState::Connected).await;
    assert_eq!(wait(&mut alice, &mut bob, 600).await, (None, None), "a second loss would count anew");
    let told: Vec<_> = bob.settle().await.iter().map(|message| message["method"].clone()).collect();
    assert_eq!(told, Vec::<Value>::new(), "nobody was told of anything");
    alice.request("restartIce", json!({"transportId": transport})).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_transport_whose_network_does_not_come_back_ends_and_the_peer_stays() {
    let node = node();
    let (mut alice, mut bob) = alice_and_bob(&node).await;
    let transport = alice.send_transport.clone();
    node.ice(&transport, IceState::Disconnected).await;
    assert_eq!(wait(&mut alice, &mut bob, 299).await, (None, None));
    alice.request("getTransportStats", json!({"transportId": transport})).await.unwrap();
    assert_eq!(wait(&mut alice, &mut bob, 2).await, (None, None));
    assert_eq!(alice.request("restartIce", json!({"transportId": transport})).await.unwrap_err().0, 404);
    bob.next_notification("consumerClosed").await;
    // What is left works, and the producer can come back over another transport.
    alice.send_transport = alice.create_transport(false).await;
    alice.produce("video", rtp::vp8(1)).await;
    bob.accept_consumer().await;
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_ends_takes_only_its_own_streams_along() {
    for state in [DtlsState::Closed, DtlsState::Failed] {
        let node = node();
        let (mut alice, mut bob) = alice_and_bob(&node).await;
        bob.produce("audio", rtp::opus(7)).await;
        alice.accept_consumer().await;
        alice.settle().await;
        let transport = alice.send_transport.clone();
        node.dtls(&transport, state).await;
        bob.next_notification("consumerClosed").await;
        assert_eq!(alice.connect(&transport).await.unwrap_err().0, 404);
        assert_eq!(alice.settle().await, Vec::<Value>::new(), "what it receives goes on");
        assert_eq!(node.workers[0].counts(), (1, 3, 1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn consumers_go_to_the_newest_transport() {
    let node = node();
    let (mut alice, mut bob) = alice_and_bob(&node).await;
    for round in 0..10 {
        // The client has noticed that the old one is dead, the node has not.
        let newest = bob.create_transport(true).await;
        let producer = alice.produce("audio", rtp::opus(100 + round)).await;
        bob.accept_consumer().await;
        assert_eq!(node.consumes_on().await.to_string(), newest);
        alice.request("closeProducer", json!({"producerId": producer})).await.unwrap();
        node.dtls(&newest, DtlsState::Closed).await;
        bob.settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_transport_takes_over_from_one_whose_network_is_gone() {
    for noticed_first in [true, false] {
        let node = node();
        let (_alice, mut bob) = alice_and_bob(&node).await;
        let old = bob.recv_transport.clone();
        let new = if noticed_first {
            node.ice(&old, IceState::Disconnected).await;
            assert_eq!(bob.settle().await, Vec::<Value>::new());
            bob.create_transport(true).await
        } else {
            let new = bob.create_transport(true).await;
            assert_eq!(bob.settle().await, Vec::<Value>::new());
            node.ice(&old, IceState::Disconnected).await;
            new
        };
        bob.next_notification("consumerClosed").await;
        bob.accept_consumer().await;
        assert_eq!(node.consumes_on().await.to_string(), new);
        assert_eq!(bob.request("restartIce", json!({"transportId": old})).await.unwrap_err().0, 404);
    }
}

#[tokio::test(start_paused = true)]
async fn one_transport_more_than_allowed_takes_the_place_of_a_dead_one() {
    let node = node();
    let (_alice, mut bob) = alice_and_bob(&node).await;
    let unused = [bob.create_transport(false).await, bob.create_transport(false).await];
    let full = (403, "a peer may have 4 transports".to_owned());
    let create = json!({"producing": true, "consuming": false});
    assert_eq!(bob.request("createWebRtcTransport", create.clone()).await.unwrap_err(), full, "all may be in use yet");
    let send = bob.send_transport.clone();
    node.ice(&send, IceState::Disconnected).await;
    bob.create_transport(false).await;
    assert_eq!(bob.request("getTransportStats", json!({"transportId": send})).await.unwrap_err().0, 404);
    assert_eq!(bob.request("createWebRtcTransport", create.clone()).await.unwrap_err(), full);
    // What never connected gives way after a while, the oldest first.
    bob.wait(Duration::from_secs(30)).await;
    bob.create_transport(false).await;
    assert_eq!(bob.request("getTransportStats", json!({"transportId": unused[0]})).await.unwrap_err().0, 404);
    bob.request("getTransportStats", json!({"transportId": unused[1]})).await.unwrap();
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}
