//! Of two simultaneous dials one connection is kept: that of the lower node id.
#![cfg(feature = "io")]

mod common;

use std::time::Duration;

use common::{Cluster, Node, relay_to, until};
use sluice_mesh::wan::{ImpairmentConfig, UdpRelay};
use sluice_mesh::{MeshEvent, PeerAddress};
use sluice_proto::pipe::{PipeBody, PipeMessage};

/// Stands for a node's address, and takes so long that two dials cross for certain.
fn far_away(node: &Node) -> UdpRelay {
    relay_to(node, ImpairmentConfig { delay: Duration::from_millis(30), ..Default::default() }, 1).0
}

fn message(route: u32) -> PipeMessage {
    PipeMessage { route, epoch: 0, body: PipeBody::Unsubscribe }
}

/// The next message; panics when the link goes down before.
async fn heard(node: &mut Node) -> PipeMessage {
    loop {
        match node.event().await {
            MeshEvent::Message { message, .. } => return message,
            MeshEvent::LinkUp { .. } => {}
            MeshEvent::LinkDown { reason, .. } => panic!("the link went down: {reason:?}"),
        }
    }
}

#[tokio::test]
async fn the_dial_of_the_lower_id_is_kept() {
    let cluster = Cluster::new();
    for _ in 0..3 {
        let (mut a, mut b) = (cluster.node("a"), cluster.node("b"));
        let (to_a, to_b) = (far_away(&a), far_away(&b));
        a.mesh.connect(PeerAddress { node: b.instance.node.clone(), addr: to_b.local_addr() });
        b.mesh.connect(PeerAddress { node: a.instance.node.clone(), addr: to_a.local_addr() });
        let (key_of_b, ..) = a.link_up().await;
        let (key_of_a, ..) = b.link_up().await;
        until("both keep a's", || {
            a.status("b").is_some_and(|link| link.dialled_here) && b.status("a").is_some_and(|link| !link.dialled_here)
        })
        .await;
        a.mesh.send_message(key_of_b, message(1));
        assert_eq!(heard(&mut b).await, message(1));
        b.mesh.send_message(key_of_a, message(2));
        assert_eq!(heard(&mut a).await, message(2));
        assert_eq!((a.metric("mesh_dials_total"), b.metric("mesh_dials_total")), (1.0, 1.0));
    }
}

#[tokio::test]
async fn a_dial_of_the_higher_id_does_not_replace_a_link() {
    let cluster = Cluster::new();
    let (mut a, mut b) = (cluster.node("a"), cluster.node("b"));
    a.mesh.connect(b.address());
    a.link_up().await;
    b.link_up().await;
    // b has a link already: it does not even dial.
    b.mesh.connect(a.address());
    a.mesh.send_gossip(b.mesh.advertised(), vec![1].into());
    common::within("gossip", b.inbox.gossip.recv()).await.unwrap();
    assert_eq!((b.metric("mesh_dials_total"), b.metric("mesh_link_connections_total")), (0.0, 1.0));
}
