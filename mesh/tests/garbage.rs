//! Whatever comes over the network is counted and dropped; the node goes on, and strangers cannot fill it.
#![cfg(feature = "io")]

mod common;

use std::time::Duration;

use common::raw::{RawPeer, hello};
use common::{Cluster, Collect, Node, audio, control, feedback, linked_pair, until, within};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_mesh::{LinkDownReason, LinkState, MeshEvent};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, FeedbackBody, MAX_MESSAGE_LEN, Wanted};

/// That a node still does what it is for.
async fn assert_serves(cluster: &Cluster, node: &mut Node) {
    let mut peer = cluster.node("peer");
    peer.mesh.connect(node.address());
    let (key, ..) = peer.link_up().await;
    loop {
        let (_, instance) = node.link_up().await;
        if instance == peer.instance {
            break;
        }
    }
    let (sink, mut arrived) = Collect::new();
    let route = node.mesh.allocate_route(sink).unwrap();
    peer.mesh.send_frames(key, &mut vec![audio(route, 0, vec![1; 10])]);
    within("the frame", arrived.recv()).await.unwrap();
}

#[tokio::test]
async fn any_bytes_on_the_socket_are_ignored() {
    let cluster = Cluster::new();
    let mut node = cluster.node("a");
    let seed = 1;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for len in (0..1400).step_by(3) {
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        if let Some(first) = bytes.first_mut() {
            // Also what looks like the long header of an initial packet of version 1.
            *first = [*first, 0xc3, 0x43][len % 3];
        }
        if let (1, Some(version)) = (len % 3, bytes.get_mut(1..5)) {
            version.copy_from_slice(&[0, 0, 0, 1]);
        }
        socket.send_to(&bytes, node.mesh.local_addr()).unwrap();
    }
    assert_serves(&cluster, &mut node).await;
}

#[tokio::test]
async fn who_has_no_certificate_gets_nowhere() {
    let cluster = Cluster::new();
    let mut node = cluster.node("a");
    let stranger = RawPeer::new(&cluster, None);
    if let Ok(connection) = stranger.connect(&node).await {
        // TLS 1.3: the client may believe that it is through before the server has looked.
        within("closed", connection.closed()).await;
    }
    until("refused", || node.metric("mesh_identity_refused_total") > 0.0).await;
    assert!(node.mesh.links().is_empty());
    assert_serves(&cluster, &mut node).await;
}

#[tokio::test]
async fn a_hello_that_is_none_is_refused() {
    let cluster = Cluster::new();
    let mut node = cluster.node("a");
    let peer = RawPeer::new(&cluster, Some(cluster.certificate("b")));
    let too_long = ((MAX_MESSAGE_LEN + 1) as u32).to_le_bytes();
    assert_eq!(peer.say_and_be_closed(&node, &too_long).await, "protocol violation");
    assert_eq!(
        peer.say_and_be_closed(&node, &[16, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
            .await,
        "protocol violation"
    );
    assert_eq!(peer.say_and_be_closed(&node, &hello("b", "nowhere")).await, "protocol violation");
    assert_eq!(peer.say_and_be_closed(&node, &hello("c", "127.0.0.1:1")).await, "not who it should be");
    assert_eq!(peer.say_and_be_closed(&node, &hello("b b", "127.0.0.1:1")).await, "not who it should be");
    // A node cannot be its own peer, whoever stole its key.
    let twin = RawPeer::new(&cluster, Some(cluster.certificate("a")));
    assert_eq!(twin.say_and_be_closed(&node, &hello("a", "127.0.0.1:1")).await, "not who it should be");
    assert!(node.mesh.links().is_empty());
    assert_serves(&cluster, &mut node).await;
}

#[tokio::test]
async fn a_peer_that_talks_nonsense_is_closed() {
    let cluster = Cluster::new();
    let mut node = cluster.node("a");
    let peer = RawPeer::new(&cluster, Some(cluster.certificate("b")));
    let mut bytes = hello("b", "127.0.0.1:1");
    bytes.extend_from_slice(&[8, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(peer.say_and_be_closed(&node, &bytes).await, "protocol violation");
    node.link_up().await;
    assert_eq!(node.link_down().await.1, LinkDownReason::ClosedHere);
    assert_serves(&cluster, &mut node).await;
}

#[tokio::test]
async fn garbage_datagrams_and_overlong_gossip_are_counted() {
    let cluster = Cluster::new();
    let mut node = cluster.node("a");
    let peer = RawPeer::new(&cluster, Some(cluster.certificate("b")));
    let (connection, _control, _) = peer.link(&mut node, "b").await;
    let seed = 2;
    println!("seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    for len in 0..600 {
        let mut bytes = vec![0; len];
        rng.fill_bytes(&mut bytes);
        connection.send_datagram_wait(bytes.into()).await.unwrap();
    }
    until("all are counted", || {
        let counted = node.dropped("malformed") + node.dropped("unknown_route");
        node.metric("mesh_link_datagrams_received_total") >= 500.0 && counted >= 500
    })
    .await;
    let mut stream = connection.open_uni().await.unwrap();
    // The node stops the stream as soon as it is too long.
    let _ = stream.write_all(&vec![0; 70_000]).await;
    let _ = stream.finish();
    until("overlong gossip", || node.dropped("gossip_too_long") == 1).await;
    assert!(connection.close_reason().is_none());
    assert_serves(&cluster, &mut node).await;
}

#[tokio::test]
async fn frames_for_a_peer_that_takes_none_are_dropped_and_counted() {
    let cluster = Cluster::new();
    let mut node = cluster.node("a");
    let peer = RawPeer::new(&cluster, Some(cluster.certificate("b"))).without_datagrams();
    let (_connection, _control, key) = peer.link(&mut node, "b").await;
    for seq in 0..10 {
        node.mesh.send_frames(key, &mut vec![audio((RouteId(0), RouteEpoch(0)), seq, vec![1; 10])]);
    }
    until("all are dropped", || node.dropped("too_large") == 10).await;
}

#[tokio::test]
async fn silent_strangers_cannot_take_all_places() {
    let cluster = Cluster::new();
    let mut config = cluster.config("a");
    config.limits.handshakes = 4;
    let mut node = Node::start(config);
    let strangers: Vec<RawPeer> = (0..8).map(|_| RawPeer::new(&cluster, Some(cluster.certificate("b")))).collect();
    let mut connections = Vec::new();
    for stranger in &strangers {
        // They get through TLS and then say nothing.
        connections.push(stranger.connect(&node).await);
    }
    assert!(connections.iter().any(Result::is_err));
    assert!(node.metric("mesh_handshakes_turned_away_total") > 0.0);
    assert!(node.metric("mesh_handshakes_retried_total") > 0.0);
    // Their places are free again when their time is over; a peer gets in without help.
    assert_serves(&cluster, &mut node).await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_takes_no_more_and_loses_nothing() {
    let (mut a, key_of_b, mut b, key_of_a) = linked_pair(&Cluster::new()).await;
    let message = |route| {
        let (namespace, room) = ("n".repeat(60), "r".repeat(120));
        let wanted = Wanted::ALL;
        let body = ControlBody::Subscribe { producer: [7; 16], namespace, room, wanted, traceparent: None };
        control((RouteId(route), RouteEpoch(0)), body)
    };
    // Nobody reads b's events: its queue, the stream's window and a's queue fill, one after the other.
    let mut said = 0;
    let mut full = 0;
    within("it is full", async {
        while full < 200 {
            full += 1;
            while a.mesh.send_control(key_of_b, message(said)) {
                said += 1;
                full = 0;
            }
            a.mesh.send_feedback(key_of_b, feedback((RouteId(0), RouteEpoch(0)), FeedbackBody::KeyFrameRequest(1)));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    assert!(said > 4_096);
    // Other links, and this one's other direction, do not mind.
    assert!(b.mesh.send_control(key_of_a, message(1)));
    let MeshEvent::Control { .. } = a.event().await else { panic!("not a message") };
    for route in 0..said {
        let MeshEvent::Control { message: heard, .. } = b.event().await else { panic!("not a message") };
        assert_eq!(heard, message(route));
    }
    until("there is room again", || a.mesh.send_control(key_of_b, message(said))).await;
    assert_eq!((a.metric("mesh_link_connections_total"), a.status("b").unwrap().state), (1.0, LinkState::Up));
}
