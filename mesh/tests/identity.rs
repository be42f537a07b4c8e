//! Who is not of the cluster, or not who they say, is refused.
#![cfg(feature = "io")]

mod common;

use common::{Cluster, Node, any_addr, linked_pair, node_id, until, within};
use sluice_mesh::{BindError, LinkState, Mesh, MeshTls, Newer, PeerAddress, Standing};

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

/// What others say of a newer incarnation, as soon as it is this.
async fn says(node: &Node, newer: Newer) {
    let mut said = node.mesh.newer();
    within("others know a newer incarnation", said.wait_for(|said| *said == Some(newer))).await.unwrap();
}

#[tokio::test]
async fn an_older_incarnation_learns_of_the_newer_and_whether_it_lives() {
    let cluster = Cluster::new();
    let mut home = cluster.node("a");
    let incarnation = |incarnation| {
        let mut config = cluster.config("b");
        config.instance.incarnation = incarnation;
        Node::start(config)
    };
    let newer = incarnation(7);
    newer.mesh.connect(home.address());
    home.link_up().await;
    let older = incarnation(3);
    assert_eq!(older.mesh.standing(), Standing::Good, "nobody was met");
    older.mesh.connect(home.address());
    says(&older, Newer { incarnation: 7, is_alive: true }).await;
    assert_eq!(older.mesh.standing(), Standing::Refused);
    newer.mesh.shutdown().await;
    says(&older, Newer { incarnation: 7, is_alive: false }).await;
    assert_eq!(*newer.mesh.newer().borrow(), None);
}

#[tokio::test]
async fn an_incarnation_whose_place_is_taken_learns_of_the_newer() {
    let cluster = Cluster::new();
    let mut home = cluster.node("a");
    let older = cluster.node("b");
    older.mesh.connect(home.address());
    home.link_up().await;
    let mut config = cluster.config("b");
    config.instance.incarnation = 7;
    let newer = Node::start(config);
    newer.mesh.connect(home.address());
    says(&older, Newer { incarnation: 7, is_alive: true }).await;
}

#[tokio::test]
async fn a_node_that_nobody_lets_in_knows() {
    let home = Cluster::new().node("a");
    let stranger = Cluster::new().node("b");
    stranger.mesh.connect(home.address());
    until("refused", || stranger.mesh.standing() == Standing::Refused).await;
    home.mesh.shutdown().await;
    // Nobody is there any more, which is no refusal.
    until("alone", || stranger.mesh.standing() == Standing::Good).await;
}

#[tokio::test]
async fn certificates_are_replaced_while_a_link_is_up() {
    let (cluster, renewed) = (Cluster::new(), Cluster::new());
    let (a, _, mut b, _) = linked_pair(&cluster).await;
    let before = a.mesh.arrived(&b.instance).unwrap();
    for (node, name) in [(&a, "a"), (&b, "b")] {
        assert!(node.mesh.set_tls(&MeshTls { cert_pem: "nonsense".to_owned(), ..renewed.tls(name) }).is_err());
        assert!(node.mesh.set_tls(&renewed.tls("c")).is_err(), "it is another node's");
        node.mesh.set_tls(&renewed.tls(name)).unwrap();
    }
    until("the link goes on", || a.mesh.arrived(&b.instance).is_some_and(|now| now > before)).await;
    // Whoever comes now needs one of the new ones.
    let mut c = renewed.node("c");
    c.mesh.connect(b.address());
    assert_eq!(c.link_up().await.1, b.instance);
    assert_eq!(b.link_up().await.1, c.instance);
    a.mesh.connect(c.address());
    assert_eq!(c.link_up().await.1, a.instance);
    let late = cluster.node("d");
    late.mesh.connect(a.address());
    until("refused", || late.mesh.standing() == Standing::Refused).await;
}
