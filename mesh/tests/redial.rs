//! Links come back: after the peer restarted, with a new key; after the path failed, with the same.
#![cfg(feature = "io")]

mod common;

use std::time::Duration;

use common::{Cluster, Node, linked_pair, relay_to, within};
use sluice_mesh::wan::ImpairmentConfig;
use sluice_mesh::{LinkDownReason, LinkState, MeshEvent, PeerAddress};

#[tokio::test]
async fn a_restarted_peer_is_linked_again_as_a_new_incarnation() {
    let cluster = Cluster::new();
    let (mut a, key_of_b, b, _) = linked_pair(&cluster).await;
    let addr = b.mesh.local_addr();
    b.mesh.shutdown().await;
    drop(b);
    let MeshEvent::LinkDown { key, reason, .. } = a.event().await else { panic!("no link down") };
    assert_eq!((key, reason), (key_of_b, LinkDownReason::ClosedByPeer("the node stops".to_owned())));

    let mut config = cluster.config("b");
    config.instance.incarnation = 2;
    config.listen = addr;
    let mut b = start_when_free(config).await;
    let MeshEvent::LinkDown { key, reason, .. } = a.event().await else { panic!("the old life is not voided") };
    assert_eq!((key, reason), (key_of_b, LinkDownReason::NewIncarnation));
    let (key, instance, reconnected) = a.link_up().await;
    assert!(key != key_of_b && !reconnected);
    assert_eq!(instance, b.instance);
    b.link_up().await;
    assert_eq!(a.status("b").unwrap().incarnation, Some(2));
}

/// The former endpoint's task lets go of the socket a moment after its shutdown.
async fn start_when_free(config: sluice_mesh::MeshConfig) -> Node {
    within("the address is free again", async {
        loop {
            match sluice_mesh::Mesh::bind(config.clone()) {
                Ok((mesh, inbox)) => return Node { instance: config.instance, mesh, inbox },
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_killed_peer_is_voided_by_its_next_life_even_before_the_time_out() {
    let cluster = Cluster::new();
    let mut a = cluster.node("a");
    let mut first = cluster.node("b");
    first.mesh.connect(a.address());
    let (key, ..) = a.link_up().await;
    first.link_up().await;
    // Its process is gone without a word, and back within the idle time-out: the first one is simply not heard any more.
    let mut config = cluster.config("b");
    config.instance.incarnation = 2;
    let mut second = Node::start(config);
    second.mesh.connect(a.address());
    let MeshEvent::LinkDown { key: down, reason, .. } = a.event().await else { panic!("no link down") };
    assert_eq!((down, reason), (key, LinkDownReason::NewIncarnation));
    let (new_key, instance, reconnected) = a.link_up().await;
    assert_ne!(new_key, key);
    assert_eq!((instance, reconnected), (second.instance.clone(), false));
    second.link_up().await;
    // The former life is told, and not let in again.
    let MeshEvent::LinkDown { .. } = first.event().await else { panic!("the former life is not told") };
    within("the former life is refused", async {
        while first.metric("mesh_dials_total") < 3.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    assert_ne!(first.status("a").unwrap().state, LinkState::Up);
    assert_eq!(a.status("b").unwrap().incarnation, Some(2));
}

#[tokio::test]
async fn a_path_that_heals_brings_the_same_link_back() {
    let cluster = Cluster::new();
    let config = |node| {
        let mut config = cluster.config(node);
        config.limits.idle_timeout = Duration::from_secs(1);
        config
    };
    let (mut a, mut b) = (Node::start(config("a")), Node::start(config("b")));
    let (relay, path) = relay_to(&b, ImpairmentConfig::default(), 1);
    a.mesh.connect(PeerAddress { node: b.instance.node.clone(), addr: relay.local_addr() });
    let (key, ..) = a.link_up().await;
    b.link_up().await;

    path.forward.cut();
    path.backward.cut();
    let MeshEvent::LinkDown { reason, .. } = a.event().await else { panic!("no link down") };
    assert_eq!(reason, LinkDownReason::TimedOut);
    assert_eq!(a.status("b").unwrap().state, LinkState::Dialling);
    path.forward.heal();
    path.backward.heal();
    let (again, _, reconnected) = a.link_up().await;
    assert_eq!((again, reconnected), (key, true));
    let (_, _, reconnected) = b.link_up().await;
    assert!(reconnected);
}

#[tokio::test]
async fn a_link_that_is_given_up_stays_down() {
    let (mut a, _, mut b, _) = linked_pair(&Cluster::new()).await;
    a.mesh.disconnect(&b.instance.node);
    let MeshEvent::LinkDown { reason, .. } = a.event().await else { panic!("no link down") };
    assert_eq!(reason, LinkDownReason::ClosedHere);
    let MeshEvent::LinkDown { reason, .. } = b.event().await else { panic!("no link down") };
    assert_eq!(reason, LinkDownReason::ClosedByPeer("the link is not wanted".to_owned()));
    assert_eq!((a.status("b").unwrap().state, b.status("a").unwrap().state), (LinkState::Down, LinkState::Down));
    assert_eq!(a.metric("mesh_dials_total"), 1.0);
}
