//! Links come back: after the peer restarted, with a new key; after the path failed, with the same.
#![cfg(feature = "io")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{
    Cluster, Collect, Linked, Node, audio, control, feedback, linked_impatiently, linked_pair, until, within,
};
use sluice_mesh::{DataMessage, Frame, FrameSink, LinkDownReason, LinkKey, LinkState, MeshEvent};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, FeedbackBody, RouteFeedback};

#[tokio::test]
async fn a_restarted_peer_is_linked_again_as_a_new_incarnation() {
    let cluster = Cluster::new();
    let (mut a, key_of_b, b, _) = linked_pair(&cluster).await;
    let addr = b.mesh.local_addr();
    b.mesh.shutdown().await;
    drop(b);
    assert_eq!(a.link_down().await, (key_of_b, LinkDownReason::ClosedByPeer("the node stops".to_owned())));

    let mut config = cluster.config("b");
    config.instance.incarnation = 2;
    config.listen = addr;
    let mut b = start_when_free(config).await;
    let (key, instance) = a.link_up().await;
    assert_ne!(key, key_of_b);
    assert_eq!(instance, b.instance);
    b.link_up().await;
    assert_eq!(a.status("b").unwrap().incarnation, Some(2));
}

#[tokio::test]
async fn what_is_for_whoever_is_where_a_peer_was_does_not_go_to_the_peer() {
    let cluster = Cluster::new();
    let (mut a, _, b, _) = linked_pair(&cluster).await;
    let former = b.mesh.advertised();
    b.mesh.shutdown().await;
    drop(b);
    a.link_down().await;
    let mut config = cluster.config("b");
    config.instance.incarnation = 2;
    let b = Node::start(config);
    b.mesh.connect(a.address());
    a.link_up().await;
    let mut config = cluster.config("c");
    config.listen = former;
    let mut c = start_when_free(config).await;
    a.mesh.send_gossip(former, "x".into());
    assert_eq!(within("gossip", c.inbox.gossip.recv()).await.unwrap().payload, "x");
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
    // Its process is gone without a word, and back within the idle time-out: the first one is simply not heard any
    // more.
    let mut config = cluster.config("b");
    config.instance.incarnation = 2;
    let mut second = Node::start(config);
    second.mesh.connect(a.address());
    assert_eq!(a.link_down().await, (key, LinkDownReason::NewIncarnation));
    let (new_key, instance) = a.link_up().await;
    assert_ne!(new_key, key);
    assert_eq!(instance, second.instance);
    second.link_up().await;
    // The former life is told, and not let in again.
    first.link_down().await;
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
async fn a_path_that_heals_brings_a_new_link() {
    let Linked { mut a, key_of_b: key, mut b, path, _relay, .. } = linked_impatiently(&Cluster::new()).await;
    path.forward.cut();
    path.backward.cut();
    assert_eq!(a.link_down().await, (key, LinkDownReason::TimedOut));
    assert_eq!(a.status("b").unwrap().state, LinkState::Dialling);
    path.forward.heal();
    path.backward.heal();
    let (again, instance) = a.link_up().await;
    assert_ne!(again, key, "what was said before is of another link");
    assert_eq!(instance, b.instance);
    b.link_down().await;
    b.link_up().await;
    // What is for the link that was goes nowhere.
    let message = control((RouteId(1), RouteEpoch(0)), ControlBody::Unsubscribe);
    assert!(a.mesh.send_control(key, message.clone()) && a.mesh.send_control(again, message));
    let MeshEvent::Control { .. } = b.event().await else { panic!("not a message") };
    tokio::task::yield_now().await;
    assert!(b.inbox.events.try_recv().is_err());
}

#[tokio::test]
async fn a_link_that_is_given_up_stays_down() {
    let (mut a, key_of_b, mut b, key_of_a) = linked_pair(&Cluster::new()).await;
    a.mesh.disconnect(&b.instance.node);
    assert_eq!(a.link_down().await, (key_of_b, LinkDownReason::ClosedHere));
    assert_eq!(b.link_down().await, (key_of_a, LinkDownReason::ClosedByPeer("the link is not wanted".to_owned())));
    assert_eq!((a.status("b").unwrap().state, b.status("a").unwrap().state), (LinkState::Down, LinkState::Down));
    assert_eq!(a.metric("mesh_dials_total"), 1.0);
}

/// Panics at the first frame that it is given, as if it had a bug.
struct Exploding;

impl FrameSink for Exploding {
    fn deliver(&self, _: LinkKey, _: &mut Vec<Frame>) {
        panic!("as a test");
    }

    fn feedback(&self, _: LinkKey, _: RouteFeedback) {
        panic!("as a test");
    }

    fn data(&self, _: LinkKey, _: DataMessage) {
        panic!("as a test");
    }
}

#[tokio::test]
async fn a_link_of_which_a_task_panics_goes_down_and_comes_back() {
    let (mut a, mut key_of_b, mut b, mut key_of_a) = linked_pair(&Cluster::new()).await;
    for by_frame in [true, false] {
        let route = b.mesh.allocate_route(Arc::new(Exploding)).unwrap();
        if by_frame {
            a.mesh.send_frames(key_of_b, &mut vec![audio(route, 1, "x")]);
        } else {
            let report = FeedbackBody::SenderReport { ssrc: 1, ntp: 2, rtp_timestamp: 3 };
            a.mesh.send_feedback(key_of_b, feedback(route, report));
        }
        assert_eq!(b.link_down().await, (key_of_a, LinkDownReason::ClosedHere));
        assert_eq!(a.link_down().await, (key_of_b, LinkDownReason::ClosedByPeer("this end has failed".to_owned())));
        (key_of_b, _) = a.link_up().await;
        (key_of_a, _) = b.link_up().await;
        b.mesh.release_route(route.0);
    }
    let (sink, mut arrived) = Collect::new();
    let route = b.mesh.allocate_route(sink).unwrap();
    a.mesh.send_frames(key_of_b, &mut vec![audio(route, 1, "x")]);
    assert_eq!(within("a frame", arrived.recv()).await.unwrap().0, key_of_a);
}

#[tokio::test]
async fn nodes_that_do_not_come_back_take_no_places() {
    let cluster = Cluster::new();
    let mut config = cluster.config("a");
    config.limits.peers = 3;
    config.limits.forget_after = Duration::from_millis(200);
    let mut a = Node::start(config);
    let wanted = cluster.node("wanted");
    a.mesh.connect(wanted.address());
    a.link_up().await;
    // Many more than there are places come and go.
    for number in 0..6 {
        let mut pod = cluster.node(&format!("pod-{number}"));
        pod.mesh.connect(a.address());
        pod.link_up().await;
        assert_eq!(a.link_up().await.1, pod.instance);
        assert_eq!(a.mesh.links().len(), 2);
        pod.mesh.shutdown().await;
        a.link_down().await;
        until("it is forgotten", || a.mesh.links().len() == 1).await;
    }
    wanted.mesh.shutdown().await;
    a.link_down().await;
    // One that is wanted is not forgotten, however long it is down, and one whose link is up is not either.
    let mut linked = cluster.node("linked");
    linked.mesh.connect(a.address());
    linked.link_up().await;
    // A third one that leaves after that is.
    let mut pod = cluster.node("pod");
    pod.mesh.connect(a.address());
    pod.link_up().await;
    until("it is linked", || a.mesh.links().len() == 3).await;
    pod.mesh.shutdown().await;
    until("it is forgotten", || a.mesh.links().len() == 2).await;
    let links: Vec<String> = a.mesh.links().into_iter().map(|link| link.node.to_string()).collect();
    assert_eq!(links, ["linked", "wanted"]);
}
