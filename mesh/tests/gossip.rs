//! Gossip: to whoever advertises an address, over the link there is or one that is made for it.
#![cfg(feature = "io")]

mod common;

use bytes::Bytes;
use common::{Cluster, linked_pair, until, within};

#[tokio::test]
async fn gossip_dials_and_is_answered_over_the_same_link() {
    let cluster = Cluster::new();
    let (mut a, mut b) = (cluster.node("a"), cluster.node("b"));
    a.mesh.send_gossip(b.mesh.advertised(), Bytes::from_static(b"syn"));
    let heard = within("gossip", b.inbox.gossip.recv()).await.unwrap();
    assert_eq!((heard.from, heard.payload.as_ref()), (a.mesh.advertised(), b"syn".as_slice()));
    b.mesh.send_gossip(heard.from, Bytes::from_static(b"ack"));
    let heard = within("gossip", a.inbox.gossip.recv()).await.unwrap();
    assert_eq!((heard.from, heard.payload.as_ref()), (b.mesh.advertised(), b"ack".as_slice()));
    assert_eq!((a.metric("mesh_dials_total"), b.metric("mesh_dials_total")), (1.0, 0.0));
}

#[tokio::test]
async fn the_longest_message_arrives_and_a_longer_one_is_refused_here() {
    let (a, _, mut b, _) = linked_pair(&Cluster::new()).await;
    let longest = Bytes::from(vec![7; 65_507]);
    a.mesh.send_gossip(b.mesh.advertised(), longest.clone());
    assert_eq!(within("gossip", b.inbox.gossip.recv()).await.unwrap().payload, longest);
    a.mesh.send_gossip(b.mesh.advertised(), Bytes::from(vec![7; 65_508]));
    assert_eq!(a.metric("mesh_gossip_undeliverable_total"), 1.0);
}

#[tokio::test]
async fn more_than_fits_is_dropped_and_counted() {
    let (a, _, mut b, _) = linked_pair(&Cluster::new()).await;
    // Nothing runs in between: the link's queue of 32 fills.
    for n in 0..100_u8 {
        a.mesh.send_gossip(b.mesh.advertised(), Bytes::from(vec![n]));
    }
    let dropped = a.dropped("gossip_full");
    assert!(dropped > 0);
    for _ in 0..100 - dropped {
        within("gossip", b.inbox.gossip.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn nobody_there_and_oneself_are_no_trouble() {
    let cluster = Cluster::new();
    let a = cluster.node("a");
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    a.mesh.send_gossip(a.mesh.advertised(), Bytes::from_static(b"me"));
    assert_eq!(a.metric("mesh_dials_total"), 0.0);
    for _ in 0..20 {
        a.mesh.send_gossip(nobody, Bytes::from_static(b"anybody?"));
    }
    until("what cannot be sent is counted", || a.metric("mesh_gossip_undeliverable_total") >= 16.0).await;
}
