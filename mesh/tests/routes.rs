//! The route table: frames of another use of a route id, or of none, reach nobody, and their sender is told.
#![cfg(feature = "io")]

mod common;

use common::{Cluster, Collect, audio, control, feedback, linked_pair, until, within};
use sluice_mesh::{LinkKey, MeshEvent};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, FeedbackBody, RouteCloseReason, RouteFeedback, Wanted};

#[tokio::test]
async fn late_frames_of_a_former_use_are_dropped() {
    let (a, key_of_b, b, _) = linked_pair(&Cluster::new()).await;
    let (sink, mut arrived) = Collect::new();
    let mut last = b.mesh.allocate_route(sink.clone()).unwrap();
    let first = last;
    b.mesh.release_route(first.0);
    a.mesh.send_frames(key_of_b, &mut vec![audio(first, 0, vec![1; 10])]);
    until("a freed route", || b.dropped("unknown_route") == 1).await;
    // Ids are used again only after all others.
    while last.0 != first.0 || last.1 == first.1 {
        last = b.mesh.allocate_route(sink.clone()).unwrap();
        if last.0 != first.0 {
            b.mesh.release_route(last.0);
        }
    }
    a.mesh.send_frames(key_of_b, &mut vec![audio(first, 0, vec![1; 10])]);
    until("a former use", || b.dropped("stale_epoch") == 1).await;
    a.mesh.send_frames(key_of_b, &mut vec![audio((RouteId(u32::MAX), RouteEpoch(0)), 0, vec![1; 10])]);
    until("a route that never was", || b.dropped("unknown_route") == 2).await;
    a.mesh.send_frames(key_of_b, &mut vec![audio(last, 7, vec![1; 10])]);
    let (_, frame) = within("the frame", arrived.recv()).await.unwrap();
    assert_eq!((frame.route, frame.epoch, frame.seq), (last.0, last.1, 7));
    assert!(arrived.try_recv().is_err());
}

#[tokio::test]
async fn whoever_speaks_of_a_route_that_is_none_is_told_so() {
    let (mut a, key_of_b, mut b, key_of_a) = linked_pair(&Cluster::new()).await;
    let (sink, _arrived) = Collect::new();
    let route = b.mesh.allocate_route(sink.clone()).unwrap();
    a.mesh.open_route_out(key_of_b, route.0, route.1, sink);
    b.mesh.release_route(route.0);
    // b has given the route up and a does not know: neither a thousand frames nor feedback bring more than an answer
    // each.
    for seq in 0..1_000 {
        a.mesh.send_frames(key_of_b, &mut vec![audio(route, seq, vec![1; 10])]);
    }
    a.mesh.send_feedback(key_of_b, feedback(route, FeedbackBody::LayersCarried(None)));
    for _ in 0..2 {
        let MeshEvent::Control { key, message } = a.event().await else { panic!("not a message") };
        assert_eq!((key, message), (key_of_b, control(route, ControlBody::Unsubscribe)));
    }
    until("all have come", || b.dropped("unknown_route") >= 900).await;
    assert!(b.metric("mesh_link_unknown_routes_answered_total") < 10.0);

    // The other way round: a has closed the route and b does not know.
    a.mesh.close_route_out(key_of_b, route.0, route.1);
    for _ in 0..100 {
        b.mesh.send_feedback(key_of_a, feedback(route, FeedbackBody::KeyFrameRequest(1)));
    }
    let MeshEvent::Control { key, message } = b.event().await else { panic!("not a message") };
    assert_eq!((key, message), (key_of_a, control(route, ControlBody::RouteClosed(RouteCloseReason::ProducerGone))));
    assert!(a.metric("mesh_link_unknown_routes_answered_total") < 10.0);
}

#[tokio::test]
async fn what_follows_a_subscription_closely_is_not_about_an_unknown_route() {
    let (mut a, key_of_b, b, key_of_a) = linked_pair(&Cluster::new()).await;
    let (sink, _arrived) = Collect::new();
    let route = b.mesh.allocate_route(sink.clone()).unwrap();
    let (namespace, room) = ("default".to_owned(), "room".to_owned());
    let subscribe =
        ControlBody::Subscribe { producer: [7; 16], namespace, room, wanted: Wanted::ALL, traceparent: None };
    // Both wait for the stream before it is written to, and more than fits into one turn of it.
    for _ in 0..100 {
        assert!(b.mesh.send_control(key_of_a, control(route, subscribe.clone())));
    }
    b.mesh.send_feedback(key_of_a, feedback(route, FeedbackBody::KeyFrameRequest(1)));
    // a's control plane takes its time.
    for _ in 0..100 {
        assert!(matches!(a.event().await, MeshEvent::Control { .. }));
    }
    a.mesh.open_route_out(key_of_b, route.0, route.1, sink.clone());
    b.mesh.send_feedback(key_of_a, feedback(route, FeedbackBody::Nack(vec![1])));
    let is_nack = |(_, heard): &(LinkKey, RouteFeedback)| matches!(heard.body, FeedbackBody::Nack(_));
    until("it is heard", || sink.heard.lock().unwrap().iter().any(is_nack)).await;
    assert_eq!(a.metric("mesh_link_unknown_routes_answered_total"), 0.0);
}

#[tokio::test]
async fn routes_are_limited() {
    let cluster = Cluster::new();
    let mut config = cluster.config("a");
    config.limits.routes = 3;
    let a = common::Node::start(config);
    let (sink, _arrived) = Collect::new();
    let routes: Vec<_> = (0..4).map(|_| a.mesh.allocate_route(sink.clone())).collect();
    assert_eq!(routes.iter().flatten().count(), 3);
    a.mesh.release_route(routes[1].unwrap().0);
    assert_eq!(a.mesh.allocate_route(sink).unwrap(), (routes[1].unwrap().0, RouteEpoch(1)));
    assert_eq!(a.metric("mesh_routes"), 3.0);
}
