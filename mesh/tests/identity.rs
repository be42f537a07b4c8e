//! Who is not of the cluster, or not who they say, is refused.
#![cfg(feature = "io")]

mod common;

use common::{Cluster, Node, any_addr, node_id, until};
use sluice_mesh::{BindError, LinkState, Mesh, PeerAddress};

fn assert_no_link(node: &Node) {
    assert!(node.mesh.links().iter().all(|link| link.state != LinkState::Up), "{:?}", node.mesh.links());
}

#[tokio::test]
async fn a_certificate_of_another_ca_is_refused_by_both_ends() {
    let (home, stranger) = (Cluster::new().node("a"), Cluster::new().node("b"));
    stranger.mesh.connect(home.address());
    until("the dialler refuses", || stranger.metric("mesh_identity_refused_total") > 0.0).await;
    home.mesh.connect(stranger.address());
    until("the dialled refuses", || home.metric("mesh_identity_refused_total") > 0.0).await;
    assert_no_link(&home);
    assert_no_link(&stranger);
}

#[tokio::test]
async fn a_client_of_another_ca_that_trusts_ours_is_refused() {
    let (cluster, other) = (Cluster::new(), Cluster::new());
    let home = cluster.node("a");
    let mut config = other.config("b");
    config.tls.ca_pem = cluster.ca.cert_pem().to_owned();
    let stranger = Node::start(config);
    stranger.mesh.connect(home.address());
    until("the dialled refuses", || home.metric("mesh_identity_refused_total") > 0.0).await;
    assert_no_link(&home);
}

#[tokio::test]
async fn another_node_than_the_dialled_one_is_refused() {
    let cluster = Cluster::new();
    let (a, b) = (cluster.node("a"), cluster.node("b"));
    a.mesh.connect(PeerAddress { node: node_id("c"), addr: b.mesh.advertised() });
    until("refused", || a.metric("mesh_identity_refused_total") > 0.0).await;
    assert_no_link(&a);
}

#[tokio::test]
async fn a_node_with_the_certificate_of_another_does_not_start() {
    let cluster = Cluster::new();
    let mut config = cluster.config("a");
    config.tls = cluster.tls("b");
    let Err(BindError::Tls(error)) = Mesh::bind(config) else { panic!("it started") };
    assert_eq!(error, "the certificate is that of node b, but this node is a");
}

#[tokio::test]
async fn another_cluster_under_the_same_ca_is_refused() {
    let cluster = Cluster::new();
    let home = cluster.node("a");
    let mut config = cluster.config("b");
    config.tls.cluster = "elsewhere".to_owned();
    let b = Node::start(config);
    b.mesh.connect(home.address());
    until("the name is refused", || b.metric("mesh_identity_refused_total") > 0.0).await;
    assert_no_link(&b);
}

#[tokio::test]
async fn a_taken_address_is_a_clear_error() {
    let cluster = Cluster::new();
    let a = cluster.node("a");
    let mut config = cluster.config("b");
    config.listen = a.mesh.local_addr();
    let Err(error) = Mesh::bind(config) else { panic!("it started") };
    assert!(error.to_string().contains(&a.mesh.local_addr().to_string()), "{error}");
    assert_ne!(a.mesh.local_addr(), any_addr());
}
