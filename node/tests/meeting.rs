//! Users meet over real sockets: ICE, DTLS, SRTP, RTCP and signalling from end to end.

mod common;

use std::time::Duration;

use common::{
    AUDIO, SOON, VIDEO, admin, consumes, driver, join, join_with, lone_node, mesh, mesh_with, receives, transport, url,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use sluice_loadtest::driver::{Direction, Driver};
use sluice_loadtest::media::PublisherStats;
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::transport::{DtlsRole, SrtpProfile, TransportConfig};
use sluice_loadtest::user::{Production, RoomState, User, UserConfig};
use sluice_node::Node;
use sluice_node::dev::DevOptions;
use tokio::time::Instant;

#[tokio::test]
async fn two_users_of_one_node_see_and_hear_each_other() {
    let (node, driver) = (lone_node().await, driver());
    let (alice, bob) = (join(&driver, &node, "room", "alice").await, join(&driver, &node, "room", "bob").await);
    alice.wait(SOON, "bob", |room| room.peers.contains_key("bob")).await.unwrap();
    assert!(bob.room().borrow().peers.contains_key("alice"));

    for user in [&alice, &bob] {
        user.produce(AUDIO).await.unwrap();
        user.produce(VIDEO).await.unwrap();
    }
    for (user, other) in [(&alice, "bob"), (&bob, "alice")] {
        for kind in [Kind::Audio, Kind::Video] {
            let consumer = consumes(user, other, kind).await;
            let stats = receives(user, &consumer, "a second of media", |stats| stats.packets >= 50).await;
            assert_eq!(stats.lost(), 0, "{other}'s {kind:?}: {stats:?}");
            assert_eq!(stats.key_frames > 0, kind == Kind::Video, "{stats:?}");
            assert_eq!(stats.unexpected_payload_type, 0);
        }
        let profile = user.lane(false).await.unwrap().connected(SOON).await.unwrap();
        assert_eq!(profile, SrtpProfile::AeadAes128Gcm);
        let session = user.lane(true).await.unwrap().with(|session, _| session.stats()).await.unwrap();
        assert!(session.feedback_received > 0 && session.feedback_packets > 50, "transport-wide feedback: {session:?}");
    }

    alice.leave().await;
    bob.wait(SOON, "alice's end", |room| room.peers.is_empty() && room.consumers.is_empty()).await.unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn users_of_two_nodes_meet_through_a_pipe() {
    let (mesh, driver) = (mesh(2).await, driver());
    let [here, there] = mesh.nodes() else { panic!("two nodes") };
    let alice = join(&driver, here, "room", "alice").await;
    let bob = join(&driver, there, "room", "bob").await;
    alice.produce(AUDIO).await.unwrap();
    alice.produce(VIDEO).await.unwrap();
    bob.produce(VIDEO).await.unwrap();

    for (user, other, kind) in
        [(&bob, "alice", Kind::Audio), (&bob, "alice", Kind::Video), (&alice, "bob", Kind::Video)]
    {
        let consumer = consumes(user, other, kind).await;
        let stats = receives(user, &consumer, "a second of media", |stats| stats.packets >= 50).await;
        assert_eq!(stats.lost(), 0, "{other}'s {kind:?}: {stats:?}");
        assert_eq!(stats.key_frames > 0, kind == Kind::Video, "{stats:?}");
    }

    bob.leave().await;
    alice.wait(SOON, "bob's end", |room| room.peers.is_empty() && room.consumers.is_empty()).await.unwrap();
    mesh.shutdown().await;
}

/// A user whose network lets no UDP out.
async fn join_by_tcp(driver: &Driver, node: &Node, peer: &str) -> User {
    let config = UserConfig { tcp: true, ..UserConfig::new(&url(node), "room", peer, transport(), 1) };
    User::join(driver, config).await.unwrap_or_else(|error| panic!("{peer} joins: {error}"))
}

#[tokio::test]
async fn users_over_tcp_meet_each_other_and_those_over_udp_on_two_nodes() {
    let mesh = mesh_with(DevOptions { nodes: 2, workers: 2, ..DevOptions::default() }).await;
    let driver = driver();
    let [here, there] = mesh.nodes() else { panic!("two nodes") };
    let alice = join_by_tcp(&driver, here, "alice").await;
    let others = fill_a_worker(&driver, here).await;
    let (bob, carol) = (join_by_tcp(&driver, here, "bob").await, join_by_tcp(&driver, there, "carol").await);
    let dave = join(&driver, there, "room", "dave").await;
    let users = [(&alice, "alice"), (&bob, "bob"), (&carol, "carol"), (&dave, "dave")];
    for (user, _) in users {
        user.produce(AUDIO).await.unwrap();
        user.produce(VIDEO).await.unwrap();
    }
    for (user, name) in users {
        for (_, other) in users.into_iter().filter(|(_, other)| *other != name) {
            for kind in [Kind::Audio, Kind::Video] {
                let consumer = consumes(user, other, kind).await;
                let stats = receives(user, &consumer, "a second of media", |stats| stats.packets >= 50).await;
                assert_eq!(stats.key_frames > 0, kind == Kind::Video, "{name} of {other}: {stats:?}");
            }
        }
        for sending in [true, false] {
            let query = json!({ "transportId": user.transport_id(sending).await });
            let told = user.protoo().request("getTransportStats", query).await.unwrap();
            let protocol = if name == "dave" { "udp" } else { "tcp" };
            assert_eq!(told[0]["iceSelectedTuple"]["protocol"], protocol, "{told}");
        }
    }
    let metrics = admin(here, "/metrics").await;
    assert!(metrics.contains("sluice_media_connections 4\n"), "two of each: {metrics}");
    drop(others);
    bob.leave().await;
    alice.wait(SOON, "bob's end", |room| !room.peers.contains_key("bob")).await.unwrap();
    mesh.shutdown().await;
}

/// Peers of a node's room who only take places, so that whoever comes next is put on another worker.
async fn fill_a_worker(driver: &Driver, node: &Node) -> Vec<User> {
    let mut peers = Vec::new();
    for index in 0..33 {
        let name = format!("{}-{index}", node.config().id);
        let config = UserConfig {
            produce: false,
            consume: false,
            ..UserConfig::new(&url(node), "room", &name, transport(), index)
        };
        peers.push(User::join(driver, config).await.unwrap());
    }
    peers
}

#[tokio::test]
async fn everybody_hears_everybody_in_a_room_on_two_workers_of_each_of_two_nodes() {
    let mesh = mesh_with(DevOptions { nodes: 2, workers: 2, ..DevOptions::default() }).await;
    let driver = driver();
    let (mut users, mut others) = (Vec::new(), Vec::new());
    for node in mesh.nodes() {
        let first = format!("first-{}", node.config().id);
        users.push((join(&driver, node, "room", &first).await, first));
        others.extend(fill_a_worker(&driver, node).await);
        let second = format!("second-{}", node.config().id);
        users.push((join(&driver, node, "room", &second).await, second));
    }
    // Producers of this node, of its other worker and of the other node come in at the same time, in every order.
    for (user, _) in &users {
        user.produce(AUDIO).await.unwrap();
        user.produce(VIDEO).await.unwrap();
    }
    for node in mesh.nodes() {
        let metrics = admin(node, "/metrics").await;
        for worker in 0..2 {
            let line = format!("sluice_worker_producers{{worker=\"{worker}\"}} 2\n");
            assert!(metrics.contains(&line), "both workers have users: {metrics}");
        }
    }
    for (user, name) in &users {
        let everybody = |room: &RoomState| room.consumers.len() == 2 * (users.len() - 1);
        let room = user.wait(SOON, "everybody else", everybody).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        for consumer in room.consumers.keys() {
            receives(user, consumer, "media", |stats| stats.packets >= 50).await;
        }
    }
    mesh.shutdown().await;
}

#[tokio::test]
async fn a_latecomer_gets_a_key_frame() {
    let (mesh, driver) = (mesh(2).await, driver());
    let [here, there] = mesh.nodes() else { panic!("two nodes") };
    let alice = join(&driver, here, "room", "alice").await;
    let production = alice.produce(VIDEO).await.unwrap();
    // Long after her first key frame.
    sends(&alice, &production, 100).await;
    for (node, peer) in [(here, "bob"), (there, "carol")] {
        let user = join(&driver, node, "room", peer).await;
        let consumer = consumes(&user, "alice", Kind::Video).await;
        let stats = receives(&user, &consumer, "a key frame", |stats| stats.key_frames > 0).await;
        assert!(stats.time_to_first_frame.unwrap() < Duration::from_secs(3), "{stats:?}");

        // And one more whenever the application asks.
        let before = stats.key_frames;
        user.protoo().request("requestConsumerKeyFrame", json!({ "consumerId": consumer })).await.unwrap();
        receives(&user, &consumer, "another key frame", |stats| stats.key_frames > before).await;
    }
    let sent = sent(&alice, &production).await;
    assert!(sent.key_frame_requests >= 2, "{sent:?}");
    // Nobody asked for thirty a second.
    assert!(sent.key_frames <= 10, "{sent:?}");
    mesh.shutdown().await;
}

#[tokio::test]
async fn losses_of_both_users_links_are_repaired() {
    let (node, driver) = (lone_node().await, driver());
    let (alice, bob) = (join(&driver, &node, "room", "alice").await, join(&driver, &node, "room", "bob").await);
    let production = alice.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    receives(&bob, &consumer, "the first frame", |stats| stats.key_frames > 0).await;

    let (uplink, downlink) = (alice.lane(true).await.unwrap(), bob.lane(false).await.unwrap());
    let drop_some = |lossy: Direction, seed| {
        println!("loss with seed {seed}");
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Only media: a lost handshake or check is another test's matter.
        Box::new(move |direction, datagram: &[u8]| {
            direction != lossy || !matches!(datagram.first(), Some(128..=191)) || !rng.random_bool(0.1)
        })
    };
    uplink.set_filter(Some(drop_some(Direction::Out, 1)));
    downlink.set_filter(Some(drop_some(Direction::In, 2)));
    let target = bob.consumer_stats(&consumer).await.unwrap().unwrap().packets + 400;
    receives(&bob, &consumer, "400 packets", |stats| stats.packets >= target).await;
    uplink.set_filter(None);
    downlink.set_filter(None);

    let stats = receives(&bob, &consumer, "the last repair", |stats| stats.lost() == 0).await;
    assert!(stats.repaired >= 20, "{stats:?}");
    let sent = uplink.with(move |session, _| session.publisher_mut(production.ssrc).unwrap().stats()).await.unwrap();
    assert!(sent.retransmitted >= 20, "the node asks the publisher: {sent:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_client_with_only_sha1_80_is_served() {
    let (node, driver) = (lone_node().await, driver());
    let only = TransportConfig { srtp_profiles: vec![SrtpProfile::Aes128CmSha1_80], ..transport() };
    let alice = join_with(&driver, &node, "room", "alice", only.clone()).await;
    let bob = join_with(&driver, &node, "room", "bob", only).await;
    let carol = join(&driver, &node, "room", "carol").await;
    alice.produce(VIDEO).await.unwrap();
    for (user, profile) in [(&bob, SrtpProfile::Aes128CmSha1_80), (&carol, SrtpProfile::AeadAes128Gcm)] {
        let consumer = consumes(user, "alice", Kind::Video).await;
        receives(user, &consumer, "media", |stats| stats.packets >= 50 && stats.lost() == 0).await;
        assert_eq!(user.lane(false).await.unwrap().connected(SOON).await.unwrap(), profile);
    }
    node.shutdown().await;
}

#[tokio::test]
async fn a_client_that_waits_for_the_client_hello_is_served() {
    let (node, driver) = (lone_node().await, driver());
    let passive = TransportConfig { dtls_role: DtlsRole::Server, ..transport() };
    let alice = join_with(&driver, &node, "room", "alice", passive).await;
    let bob = join(&driver, &node, "room", "bob").await;
    alice.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    receives(&bob, &consumer, "media", |stats| stats.packets >= 50 && stats.lost() == 0).await;
    node.shutdown().await;
}

#[tokio::test]
async fn an_ice_restart_loses_nothing() {
    let (node, driver) = (lone_node().await, driver());
    let (alice, bob) = (join(&driver, &node, "room", "alice").await, join(&driver, &node, "room", "bob").await);
    alice.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    receives(&bob, &consumer, "media", |stats| stats.packets >= 50).await;

    let ufrag = |user: std::sync::Arc<sluice_loadtest::driver::Lane>| async move {
        user.with(|session, _| session.transport().local_ice().ufrag.clone()).await.unwrap()
    };
    let before = (ufrag(alice.lane(true).await.unwrap()).await, ufrag(bob.lane(false).await.unwrap()).await);
    alice.restart_ice(true).await.unwrap();
    bob.restart_ice(false).await.unwrap();
    let after = (ufrag(alice.lane(true).await.unwrap()).await, ufrag(bob.lane(false).await.unwrap()).await);
    assert!(before.0 != after.0 && before.1 != after.1);

    let target = bob.consumer_stats(&consumer).await.unwrap().unwrap().packets + 100;
    let stats = receives(&bob, &consumer, "media after the restart", |stats| stats.packets >= target).await;
    assert_eq!(stats.lost(), 0, "{stats:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn pause_and_resume_reach_the_others() {
    let (mesh, driver) = (mesh(2).await, driver());
    let [here, there] = mesh.nodes() else { panic!("two nodes") };
    let alice = join(&driver, here, "room", "alice").await;
    let bob = join(&driver, there, "room", "bob").await;
    let production = alice.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    receives(&bob, &consumer, "media", |stats| stats.packets >= 50).await;

    alice.protoo().request("pauseProducer", json!({ "producerId": production.id })).await.unwrap();
    let paused = |wanted| {
        let id = consumer.clone();
        move |room: &sluice_loadtest::user::RoomState| {
            room.consumers.get(&id).is_some_and(|consumer| consumer.paused == wanted)
        }
    };
    bob.wait(SOON, "the pause", paused(true)).await.unwrap();
    // What was under way arrives; then nothing does, whatever she sends.
    let start = Instant::now();
    let before = loop {
        let before = bob.consumer_stats(&consumer).await.unwrap().unwrap();
        sends(&alice, &production, 50).await;
        if bob.consumer_stats(&consumer).await.unwrap().unwrap().packets == before.packets {
            break before;
        }
        assert!(start.elapsed() < SOON, "it goes on");
    };

    alice.protoo().request("resumeProducer", json!({ "producerId": production.id })).await.unwrap();
    bob.wait(SOON, "the resumption", paused(false)).await.unwrap();
    let stats = receives(&bob, &consumer, "a new key frame", |stats| stats.key_frames > before.key_frames).await;
    assert_eq!(stats.lost(), 0, "sequence numbers go on without a gap: {stats:?}");

    alice.protoo().request("closeProducer", json!({ "producerId": production.id })).await.unwrap();
    bob.wait(SOON, "the end", |room| room.consumers.is_empty() && room.peers.contains_key("alice")).await.unwrap();
    mesh.shutdown().await;
}

#[tokio::test]
async fn a_user_whose_path_fails_for_longer_than_consent_stays_and_comes_back() {
    let (node, driver) = (lone_node().await, driver());
    let (alice, bob) = (join(&driver, &node, "room", "alice").await, join(&driver, &node, "room", "bob").await);
    alice.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    receives(&bob, &consumer, "media", |stats| stats.packets >= 50).await;

    // The WebSocket stays: only ICE can tell.
    let lane = alice.lane(true).await.unwrap();
    lane.set_filter(Some(Box::new(|_, _| false)));
    ice_is(&alice, "disconnected").await;
    lane.set_filter(None);
    ice_is(&alice, "completed").await;
    let known = bob.consumer_stats(&consumer).await.unwrap().unwrap().packets;
    receives(&bob, &consumer, "media after the silence", |stats| stats.packets >= known + 50).await;
    assert!(bob.room().borrow().peers.contains_key("alice"));
    node.shutdown().await;
}

/// What a user's stream has sent.
async fn sent(user: &User, production: &Production) -> PublisherStats {
    let ssrc = production.ssrc;
    let lane = user.lane(true).await.unwrap();
    lane.with(move |session, _| session.publisher_mut(ssrc).unwrap().stats()).await.unwrap()
}

/// Waits until a user's stream has sent so many packets more.
async fn sends(user: &User, production: &Production, packets: u64) {
    let (start, target) = (Instant::now(), sent(user, production).await.packets + packets);
    while sent(user, production).await.packets < target {
        assert!(start.elapsed() < SOON, "waited {SOON:?} for {packets} packets");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until the node says that of the path that a user sends by.
async fn ice_is(user: &User, state: &str) {
    let query = json!({ "transportId": user.transport_id(true).await });
    let start = Instant::now();
    loop {
        let stats = user.protoo().request("getTransportStats", query.clone()).await.unwrap();
        if stats[0]["iceState"] == state {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "waited for {state}: {stats}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
