//! Of two simultaneous dials one connection is kept: that of the lower node id.
#![cfg(feature = "io")]

mod common;

use common::{Cluster, until};
use sluice_mesh::{LinkState, MeshEvent};
use sluice_proto::pipe::{PipeBody, PipeMessage};

#[tokio::test]
async fn simultaneous_dials_end_in_one_connection() {
    let cluster = Cluster::new();
    for round in 0..5 {
        let (mut a, mut b) = (cluster.node("a"), cluster.node("b"));
        a.mesh.connect(b.address());
        b.mesh.connect(a.address());
        let (key_of_b, ..) = a.link_up().await;
        let (key_of_a, ..) = b.link_up().await;
        // Whatever was replaced meanwhile, a message said again until it is heard is heard, and both ends stay up.
        let message = |route| PipeMessage { route, epoch: 0, body: PipeBody::Unsubscribe };
        until("both ends settle", || a.metric("mesh_dials_total") >= 1.0 && b.metric("mesh_dials_total") >= 1.0).await;
        let mut heard = false;
        while !heard {
            a.mesh.send_message(key_of_b, message(round));
            tokio::select! {
                event = b.event() => heard = matches!(event, MeshEvent::Message { .. }),
                () = tokio::time::sleep(std::time::Duration::from_millis(20)) => {}
            }
        }
        b.mesh.send_message(key_of_a, message(round));
        loop {
            match a.event().await {
                MeshEvent::Message { .. } => break,
                MeshEvent::LinkDown { reason, .. } => panic!("round {round}: the link went down: {reason:?}"),
                MeshEvent::LinkUp { .. } => b.mesh.send_message(key_of_a, message(round)),
            }
        }
        assert_eq!(a.status("b").unwrap().state, LinkState::Up);
        assert_eq!(b.status("a").unwrap().state, LinkState::Up);
        a.mesh.shutdown().await;
        b.mesh.shutdown().await;
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
