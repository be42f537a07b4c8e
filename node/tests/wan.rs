//! Users of nodes that are far from each other meet over real sockets, through relays that delay and lose.

mod common;

use std::time::Duration;

use common::{AUDIO, SOON, VIDEO, admin, consumes, driver, join, mesh_over, receives};
use serde_json::Value;
use sluice_loadtest::signalling::ortc::Kind;
use sluice_node::Node;

/// The round-trip time, in milliseconds, of the only pipe of a node, once it is up.
async fn rtt_ms(node: &Node) -> f64 {
    let ask = async {
        loop {
            let answer = admin(node, "/v1/cluster").await;
            let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
            let cluster: Value = serde_json::from_str(body).expect("JSON");
            if let (Some("up"), Some(rtt)) =
                (cluster["pipes"][0]["state"].as_str(), cluster["pipes"][0]["rttMs"].as_f64())
            {
                return rtt;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(SOON, ask).await.expect("a pipe")
}

#[tokio::test]
async fn media_cross_a_long_and_lossy_path() {
    let (mesh, driver) = (mesh_over(2, &["eu-us=40ms,1%"]).await, driver());
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
        assert_eq!(stats.key_frames > 0, kind == Kind::Video, "{stats:?}");
    }
    for user in [&alice, &bob] {
        let lane = user.lane(false).await.unwrap();
        let tally = lane.with(|session, now| session.tally(now)).await.unwrap();
        assert!(tally.video.delay.quantile(0.5) > Some(Duration::from_millis(38)), "{:?}", tally.video.delay);
    }
    for node in [here, there] {
        let rtt = rtt_ms(node).await;
        assert!(rtt >= 80.0, "{}: {rtt} ms", node.instance());
    }
    mesh.shutdown().await;
}
