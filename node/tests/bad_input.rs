//! What users may do wrong, by accident or on purpose, and what comes of it: an answer that says so, and nothing else.

mod common;

use std::sync::{Arc, Mutex};

use common::{SOON, VIDEO, consumes, driver, join, lone_node, receives, transport, url};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use sluice_loadtest::driver::{Direction, DriverError, LaneConfig};
use sluice_loadtest::media::Codec;
use sluice_loadtest::signalling::ProtooError;
use sluice_loadtest::signalling::demo_v3::{TransportOptions, dtls_parameters};
use sluice_loadtest::signalling::ortc::{Kind, send_parameters};
use sluice_loadtest::transport::{DtlsRole, TransportState};
use sluice_loadtest::user::{User, UserConfig};
use sluice_node::Node;

/// Makes a request that must be refused, and returns why it was.
async fn refused(user: &User, method: &str, data: Value) -> String {
    match user.protoo().request(method, data).await {
        Err(ProtooError::Refused { reason, .. }) => reason,
        other => panic!("{method}: {other:?}"),
    }
}

#[tokio::test]
async fn a_wrong_dtls_fingerprint_is_refused() {
    let (node, driver) = (lone_node().await, driver());
    let user = join(&driver, &node, "room", "mallory").await;
    let request = json!({ "forceTcp": false, "producing": true, "consuming": false });
    let options: TransportOptions = user.protoo().call("createWebRtcTransport", request).await.unwrap();
    let config = transport();
    let another = transport();
    let lane = driver.open(&config, options.remote().unwrap(), LaneConfig::default()).await.unwrap();
    let dtls = dtls_parameters(DtlsRole::Client, another.certificate.fingerprint());
    let connect = json!({ "transportId": options.id, "dtlsParameters": dtls });
    user.protoo().request("connectWebRtcTransport", connect).await.unwrap();
    let result = lane.connected(SOON).await;
    assert!(matches!(result, Err(DriverError::NotConnected(TransportState::Failed(_)))), "{result:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn produce_may_come_before_connect_and_a_second_connect_is_refused() {
    let (node, driver) = (lone_node().await, driver());
    let user = join(&driver, &node, "room", "alice").await;
    let bob = join(&driver, &node, "room", "bob").await;

    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let rtp = send_parameters(user.router(), (Codec::Vp8, 1), "0", "alice", &mut rng).unwrap();
    let request = user.produce_request(Kind::Video, &rtp).await;
    user.protoo().request("produce", request.clone()).await.unwrap();
    let lane = user.lane(true).await.unwrap();
    lane.connected(SOON).await.unwrap();
    let reason = refused(&user, "produce", request).await;
    assert!(reason.contains("used by another stream"), "the same SSRC again: {reason}");
    let parameters = rtp.to_send().unwrap();
    lane.with(move |session, now| session.publish(now, parameters.into_iter().zip([VIDEO]), 1)).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    receives(&bob, &consumer, "media", |stats| stats.packets >= 50 && stats.lost() == 0).await;

    let dtls = dtls_parameters(DtlsRole::Client, transport().certificate.fingerprint());
    let connect = json!({ "transportId": user.transport_id(true).await, "dtlsParameters": dtls });
    let reason = refused(&user, "connectWebRtcTransport", connect).await;
    assert!(reason.contains("connected"), "{reason}");
    let target = bob.consumer_stats(&consumer).await.unwrap().unwrap().packets + 50;
    receives(&bob, &consumer, "media after the refusal", |stats| stats.packets >= target && stats.lost() == 0).await;
    node.shutdown().await;
}

#[tokio::test]
async fn nonsense_in_signalling_is_answered_and_harms_nobody() {
    let (node, driver) = (lone_node().await, driver());
    let user = join(&driver, &node, "room", "alice").await;
    let nobody = "00000000-0000-4000-8000-000000000000";
    for (method, data) in [
        (
            "connectWebRtcTransport",
            json!({ "transportId": nobody, "dtlsParameters": dtls_parameters(DtlsRole::Client, "AA") }),
        ),
        ("connectWebRtcTransport", json!({ "transportId": 7 })),
        ("restartIce", json!({ "transportId": nobody })),
        ("produce", json!({ "transportId": nobody, "kind": "video", "rtpParameters": {} })),
        ("produce", json!({ "transportId": user.transport_id(true).await, "kind": "smell", "rtpParameters": {} })),
        ("pauseProducer", json!({ "producerId": nobody })),
        ("closeProducer", json!({})),
        ("pauseConsumer", json!({ "consumerId": nobody })),
        ("requestConsumerKeyFrame", json!({ "consumerId": nobody })),
        ("makeCoffee", json!({})),
    ] {
        let reason = refused(&user, method, data.clone()).await;
        assert!(!reason.is_empty(), "{method} {data}");
    }
    // After all of that the user is as good as any.
    let bob = join(&driver, &node, "room", "bob").await;
    user.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    receives(&bob, &consumer, "media", |stats| stats.packets >= 50 && stats.lost() == 0).await;
    node.shutdown().await;
}

#[tokio::test]
async fn replayed_srtp_is_forwarded_once() {
    let (node, driver) = (lone_node().await, driver());
    let (alice, bob) = (join(&driver, &node, "room", "alice").await, join(&driver, &node, "room", "bob").await);
    alice.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    let lane = alice.lane(true).await.unwrap();
    let recorded = Arc::new(Mutex::new(Vec::new()));
    let recorder = recorded.clone();
    lane.set_filter(Some(Box::new(move |direction, datagram| {
        if direction == Direction::Out && matches!(datagram.first(), Some(128..=191)) {
            recorder.lock().unwrap().push(datagram.to_vec());
        }
        true
    })));
    receives(&bob, &consumer, "media", |stats| stats.packets >= 100).await;
    lane.set_filter(None);
    let recorded = std::mem::take(&mut *recorded.lock().unwrap());
    assert!(recorded.len() >= 50);
    for _ in 0..3 {
        for datagram in &recorded {
            lane.send_raw(datagram.clone());
        }
    }
    let target = bob.consumer_stats(&consumer).await.unwrap().unwrap().packets + 100;
    let stats = receives(&bob, &consumer, "media after the replay", |stats| stats.packets >= target).await;
    assert_eq!((stats.lost(), stats.duplicates), (0, 0), "{stats:?}");
    let metrics = common::admin(&node, "/metrics").await;
    let dropped = dropped(&metrics, "replay");
    assert!(dropped >= 3 * recorded.len() as u64 * 9 / 10, "{dropped} of {} replays are counted", 3 * recorded.len());
    node.shutdown().await;
}

#[tokio::test]
async fn a_second_connection_of_a_peer_replaces_the_first_by_its_secret_only() {
    let (node, driver) = (lone_node().await, driver());
    let bob = join(&driver, &node, "room", "bob").await;
    let first = join(&driver, &node, "room", "alice").await;
    first.produce(VIDEO).await.unwrap();
    consumes(&bob, "alice", Kind::Video).await;
    let refusal = match User::join(&driver, user("alice", &node)).await {
        Err(error) => error.to_string(),
        Ok(_) => panic!("a stranger took the name of a peer that lives"),
    };
    assert!(refusal.contains("409"), "{refusal}");
    assert_eq!(first.room().borrow().closed, None);

    let mut again = user("alice", &node);
    again.secret = first.secret().map(str::to_owned);
    let second = User::join(&driver, again).await.unwrap();
    first.wait(SOON, "the end of the first", |room| room.closed.is_some()).await.unwrap();
    bob.wait(SOON, "the second", |room| room.consumers.is_empty() && room.peers.contains_key("alice")).await.unwrap();
    second.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    receives(&bob, &consumer, "media of the second", |stats| stats.packets >= 50).await;
    assert_eq!(second.room().borrow().closed, None);
    node.shutdown().await;
}

/// A user of "room" who is about to join.
fn user(peer: &str, node: &Node) -> UserConfig {
    UserConfig::new(&url(node), "room", peer, transport(), 1)
}

/// The sum of the drop counters whose reason contains `reason`.
fn dropped(metrics: &str, reason: &str) -> u64 {
    let lines = metrics.lines().filter(|line| !line.starts_with('#') && line.contains("drop"));
    let ours = lines.filter(|line| line.contains("reason=\"") && line.contains(reason));
    ours.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64
}
