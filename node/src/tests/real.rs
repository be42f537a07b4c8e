//! Two whole nodes on loopback: real workers, mesh and placement beneath the rooms, signalling over real WebSockets.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_loadtest::signalling::{Incoming, ProtooClient};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::rtp;
use crate::Node;
use crate::dev::{DevError, DevMesh, DevOptions};

/// Nothing that is waited for takes this long, on any machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Two nodes on a free range of ports.
async fn two_nodes() -> DevMesh {
    // Other tests search at the same time: each process begins elsewhere.
    let begin = std::process::id() % 1_000;
    for attempt in 0..100 {
        let base_port = u16::try_from(30_000 + (begin + attempt * 7) % 1_000 * 20).unwrap();
        match DevMesh::start(&DevOptions { nodes: 2, workers: 1, base_port, ..DevOptions::default() }).await {
            Ok(mesh) => return mesh,
            Err(DevError::PortTaken { .. } | DevError::Start { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    panic!("no free range of ports");
}

struct User {
    protoo: ProtooClient,
    incoming: mpsc::Receiver<Incoming>,
    /// Notifications that came while something else was awaited.
    aside: VecDeque<(String, Value)>,
    /// Of the answer to `join`.
    secret: String,
}

impl User {
    async fn open(node: &Node, peer: &str, secret: &str) -> Self {
        let url = format!("ws://{}/?roomId=room&peerId={peer}&peerSecret={secret}", node.config().users.listen);
        let (protoo, incoming) = ProtooClient::connect(&url, None, None).await.unwrap();
        Self { protoo, incoming, aside: VecDeque::new(), secret: String::new() }
    }

    async fn join(node: &Node, peer: &str) -> Self {
        Self::join_again(node, peer, "").await
    }

    async fn join_again(node: &Node, peer: &str, secret: &str) -> Self {
        let mut user = Self::open(node, peer, secret).await;
        for consuming in [false, true] {
            let data = json!({"forceTcp": false, "producing": !consuming, "consuming": consuming});
            user.ask("createWebRtcTransport", data).await;
        }
        let join = json!({"displayName": peer, "rtpCapabilities": rtp::capabilities()});
        user.secret = user.ask("join", join).await["peerSecret"].as_str().unwrap().to_owned();
        user
    }

    async fn ask(&mut self, method: &str, data: Value) -> Value {
        self.protoo.request(method, data).await.unwrap()
    }

    async fn produce(&mut self, ssrc: u32) -> String {
        let data = json!({"forceTcp": false, "producing": true, "consuming": false});
        let transport = self.ask("createWebRtcTransport", data).await["id"].clone();
        self.ask("connectWebRtcTransport", json!({"transportId": transport, "dtlsParameters": rtp::dtls()})).await;
        let data = json!({"transportId": transport, "kind": "audio", "rtpParameters": rtp::opus(ssrc), "appData": {}});
        self.ask("produce", data).await["id"].as_str().unwrap().to_owned()
    }

    /// Waits for a notification or request, which is accepted.
    async fn hears(&mut self, wanted: &str) -> Value {
        if let Some(index) = self.aside.iter().position(|(method, _)| method == wanted) {
            return self.aside.remove(index).unwrap().1;
        }
        loop {
            let heard = timeout(PATIENCE, self.incoming.recv()).await;
            let (method, data) = match heard {
                Ok(Some(Incoming::Notification { method, data })) => (method, data),
                Ok(Some(Incoming::Request { method, data, responder })) => {
                    responder.accept(json!({})).await;
                    (method, data)
                }
                other => panic!("{other:?} instead of {wanted}; before it {:?}", self.aside),
            };
            if method == wanted {
                return data;
            }
            self.aside.push_back((method, data));
        }
    }

    async fn close_code(&mut self) -> Option<u16> {
        loop {
            match timeout(PATIENCE, self.incoming.recv()).await.unwrap() {
                Some(Incoming::Closed(code)) => return code,
                Some(_) => {}
                None => return None,
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_happens_on_one_node_shows_on_the_other() {
    let mesh = two_nodes().await;
    let (eu, us) = (&mesh.nodes()[0], &mesh.nodes()[1]);
    let mut alice = User::join(eu, "alice").await;
    let producer = alice.produce(1).await;
    let mut bob = User::join(us, "bob").await;
    assert_eq!(alice.hears("newPeer").await["region"], us.config().region.as_str());
    let consumer = bob.hears("newConsumer").await;
    assert_eq!((&consumer["producerId"], &consumer["appData"]["hops"]), (&json!(producer), &json!(1)));
    // The consumer is there at its worker, which is on the other node than the producer.
    let stats = bob.ask("getConsumerStats", json!({"consumerId": consumer["id"]})).await;
    assert_eq!(stats[0]["type"], "outbound-rtp");

    alice.ask("pauseProducer", json!({"producerId": producer})).await;
    assert_eq!(bob.hears("consumerPaused").await["consumerId"], consumer["id"]);
    alice.ask("changeDisplayName", json!({"displayName": "Alicia"})).await;
    assert_eq!(bob.hears("peerDisplayNameChanged").await["displayName"], "Alicia");
    alice.ask("closeProducer", json!({"producerId": producer})).await;
    assert_eq!(bob.hears("consumerClosed").await["consumerId"], consumer["id"]);

    // Alice comes back through the other node, and through the first again.
    let stranger = User::open(us, "alice", "guessed").await;
    let refused = stranger.protoo.request("join", json!({})).await.unwrap_err();
    assert!(refused.to_string().contains("in the room already"), "{refused}");
    stranger.protoo.close().await;
    let mut again = User::join_again(us, "alice", &alice.secret).await;
    assert_eq!(alice.close_code().await, Some(4000));
    bob.hears("peerClosed").await;
    // The first of these may be of before: whoever joins before the rosters are there hears of the others afterwards.
    while bob.hears("newPeer").await["node"] != us.config().id.as_str() {}
    let producer = again.produce(2).await;
    assert_eq!(bob.hears("newConsumer").await["producerId"], producer);
    let mut carol = User::join(eu, "carol").await;
    assert_eq!(carol.hears("newConsumer").await["producerId"], producer);
    again.protoo.close().await;
    assert_eq!(carol.hears("peerClosed").await["peerId"], "alice");
    mesh.shutdown().await;
}
