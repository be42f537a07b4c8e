//! Two nodes link up: messages in order both ways, frames of every size, a status that says so.
#![cfg(feature = "io")]

mod common;

use common::{Cluster, Collect, audio, control, feedback, linked_pair, until, within};
use sluice_mesh::{FrameClass, LinkKey, LinkState, MeshEvent};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, FeedbackBody, RouteControl, RouteStats};

fn message(route: u32) -> RouteControl {
    control((RouteId(route), RouteEpoch(0)), ControlBody::Unsubscribe)
}

#[tokio::test]
async fn messages_arrive_in_order_both_ways() {
    let (mut a, key_of_b, mut b, key_of_a) = linked_pair(&Cluster::new()).await;
    for n in 0..500 {
        assert!(a.mesh.send_control(key_of_b, message(n)) && b.mesh.send_control(key_of_a, message(n + 5000)));
    }
    for n in 0..500 {
        let MeshEvent::Control { key, message: heard } = b.event().await else { panic!("not a message") };
        assert_eq!((key, heard), (key_of_a, message(n)));
        let MeshEvent::Control { message: heard, .. } = a.event().await else { panic!("not a message") };
        assert_eq!(heard, message(n + 5000));
    }
}

#[tokio::test]
async fn feedback_goes_to_the_ends_of_the_route_and_to_nobody_else() {
    let (a, key_of_b, b, key_of_a) = linked_pair(&Cluster::new()).await;
    // b receives on the route, a sends.
    let ((sending, _), (receiving, _)) = (Collect::new(), Collect::new());
    let route = b.mesh.allocate_route(receiving.clone()).unwrap();
    a.mesh.open_route_out(key_of_b, route.0, route.1, sending.clone());
    let back =
        [FeedbackBody::KeyFrameRequest(1), FeedbackBody::Stats(RouteStats { received: 1, lost: 2, repaired: 3 })];
    let forth = [FeedbackBody::SenderReport { ssrc: 1, ntp: 2, rtp_timestamp: 3 }, FeedbackBody::LayersCarried(None)];
    back.iter().for_each(|body| b.mesh.send_feedback(key_of_a, feedback(route, body.clone())));
    forth.iter().for_each(|body| a.mesh.send_feedback(key_of_b, feedback(route, body.clone())));
    for (end, link, bodies) in [(&sending, key_of_b, &back[..]), (&receiving, key_of_a, &forth[..])] {
        until("all is heard", || end.heard.lock().unwrap().len() >= bodies.len()).await;
        let wanted: Vec<_> = bodies.iter().map(|body| (link, feedback(route, body.clone()))).collect();
        assert_eq!(*end.heard.lock().unwrap(), wanted);
    }
    // What is missed is asked for in datagrams: as many as it takes.
    sending.heard.lock().unwrap().clear();
    let missing: Vec<u16> = (0..1_000).collect();
    b.mesh.send_feedback(key_of_a, feedback(route, FeedbackBody::Nack(missing.clone())));
    let asked = || -> Vec<u16> {
        let heard = sending.heard.lock().unwrap();
        let seqs = heard.iter().filter_map(|(_, feedback)| match &feedback.body {
            FeedbackBody::Nack(seqs) => Some(seqs.clone()),
            _ => None,
        });
        seqs.flatten().collect()
    };
    until("all is asked for", || asked().len() >= missing.len()).await;
    assert_eq!(asked(), missing);
    let elsewhere = (RouteId(route.0.0 + 1), route.1);
    b.mesh.send_feedback(key_of_a, feedback(elsewhere, FeedbackBody::Nack(vec![1])));
    until("of a route that is none", || a.dropped("unknown_route") == 1).await;
    assert_eq!(receiving.heard.lock().unwrap().len(), forth.len());
}

#[tokio::test]
async fn frames_of_every_size_arrive_whole() {
    let (a, key_of_b, b, key_of_a) = linked_pair(&Cluster::new()).await;
    let (sink, mut arrived) = Collect::new();
    let route = b.mesh.allocate_route(sink).unwrap();
    // Small ones are packed, those beyond the path's MTU are cut in two.
    let sizes: Vec<usize> = (1..2400).step_by(37).collect();
    let video = FrameClass::Video { temporal: 1, spatial: 2, key: false };
    let mut sent = Vec::new();
    for (seq, &size) in (0..).zip(&sizes) {
        let mut frame = audio(route, seq, (0..size).map(|n| n as u8).collect::<Vec<u8>>());
        frame.class = if seq % 3 == 0 { FrameClass::Audio } else { video };
        sent.push(frame.clone());
        a.mesh.send_frames(key_of_b, &mut vec![frame]);
    }
    let mut got = Vec::new();
    for _ in &sizes {
        let (link, frame) = within("a frame", arrived.recv()).await.unwrap();
        assert_eq!(link, key_of_a);
        got.push(frame);
    }
    got.sort_by_key(|frame| frame.seq);
    assert_eq!(got, sent);
}

#[tokio::test]
async fn the_status_says_what_the_link_does() {
    let (a, key_of_b, b, _) = linked_pair(&Cluster::new()).await;
    let (sink, mut arrived) = Collect::new();
    let route = b.mesh.allocate_route(sink).unwrap();
    a.mesh.send_frames(key_of_b, &mut vec![audio(route, 0, vec![1; 100])]);
    within("the frame", arrived.recv()).await.unwrap();
    let status = a.status("b").unwrap();
    assert_eq!((status.state, status.key, status.addr), (LinkState::Up, Some(key_of_b), b.mesh.advertised()));
    assert!(status.rtt.is_some() && status.congestion_window > 0);
    assert!(status.max_datagram_size.unwrap() >= 1280, "a full video packet fits from the start: {status:?}");
    assert_eq!((a.metric("mesh_link_up"), a.metric("mesh_link_frames_sent_total")), (1.0, 1.0));
    until("the rate", || b.status("a").is_some_and(|status| status.recv_bitrate > 0)).await;
}

#[tokio::test]
async fn what_is_sent_to_no_link_is_counted() {
    let cluster = Cluster::new();
    let (a, key_of_b, b, _) = linked_pair(&cluster).await;
    let route = (sluice_proto::ids::RouteId(1), sluice_proto::ids::RouteEpoch(0));
    let mut frames = vec![audio(route, 0, vec![1; 100]); 3];
    a.mesh.send_frames(LinkKey(key_of_b.0 + 77), &mut frames);
    assert!(frames.is_empty());
    assert_eq!(a.metric("mesh_unknown_link_dropped_total"), 3.0);
    b.mesh.shutdown().await;
    until("the link is down", || a.status("b").unwrap().state != LinkState::Up).await;
    until("frames are refused", || {
        a.mesh.send_frames(key_of_b, &mut vec![audio(route, 0, vec![1; 100])]);
        a.dropped("link_down") > 0
    })
    .await;
}
