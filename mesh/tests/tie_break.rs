//! Of two simultaneous dials one connection is kept: that of the lower node id.
#![cfg(feature = "io")]

mod common;

use std::time::Duration;

use common::{Cluster, Node, control, relay_to, until};
use sluice_mesh::wan::{ImpairmentConfig, UdpRelay};
use sluice_mesh::{LinkDownReason, LinkKey, MeshEvent, PeerAddress};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, RouteControl};

/// Stands for a node's address, and takes so long that two dials cross for certain.
fn far_away(node: &Node) -> UdpRelay {
    relay_to(node, ImpairmentConfig { delay: Duration::from_millis(30), ..Default::default() }, 1).0
}

fn message(route: u32) -> RouteControl {
    control((RouteId(route), RouteEpoch(0)), ControlBody::Unsubscribe)
}

/// The next message; links may only take each other's place before it.
async fn heard(node: &mut Node) -> RouteControl {
    loop {
        match node.event().await {
            MeshEvent::Control { message, .. } => return message,
            MeshEvent::LinkUp { .. } | MeshEvent::LinkDown { reason: LinkDownReason::Replaced, .. } => {}
            MeshEvent::LinkDown { reason, .. } => panic!("the link went down: {reason:?}"),
        }
    }
}

/// The key of the link that is kept.
fn key(node: &Node, peer: &str) -> LinkKey {
    node.status(peer).and_then(|link| link.key).expect("the link is up")
}

#[tokio::test]
async fn the_dial_of_the_lower_id_is_kept() {
    let cluster = Cluster::new();
    for _ in 0..3 {
        let (mut a, mut b) = (cluster.node("a"), cluster.node("b"));
        let (to_a, to_b) = (far_away(&a), far_away(&b));
        a.mesh.connect(PeerAddress { node: b.instance.node.clone(), addr: to_b.local_addr() });
        b.mesh.connect(PeerAddress { node: a.instance.node.clone(), addr: to_a.local_addr() });
        a.link_up().await;
        b.link_up().await;
        until("both keep a's", || {
            a.status("b").is_some_and(|link| link.dialled_here) && b.status("a").is_some_and(|link| !link.dialled_here)
        })
        .await;
        assert!(a.mesh.send_control(key(&a, "b"), message(1)));
        assert_eq!(heard(&mut b).await, message(1));
        assert!(b.mesh.send_control(key(&b, "a"), message(2)));
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
