//! The dialect of the TypeScript server: the call order of its app, how it is told from version 3's, and both in one
//! room.

use serde_json::{Value, json};
use sluice_media::messages::{Request, WorkerEvent};

use super::client::{Client, join_data, opening};
use super::fakes::World;
use super::{TestNode, rtp};
use crate::signalling::demo::Dialect;

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

/// Opens a WebSocket as an app of the TypeScript server does.
pub(super) fn open(node: &TestNode, peer: &str) -> Client {
    Client::open_as(&node.rooms, Dialect::Ts, opening("room", peer, None))
}

async fn create_transport(client: &mut Client, direction: &str) -> Value {
    let data = json!({
        "forceTcp": false, "appData": {"direction": direction},
        "sctpCapabilities": {"numStreams": {"OS": 1024, "MIS": 1024}},
    });
    client.request("createWebRtcTransport", data).await.unwrap()
}

/// Goes through the app's order of calls up to the answer to `join`, which is returned.
pub(super) async fn join(client: &mut Client) -> Value {
    client.greeted().await;
    assert_eq!(client.request("getRtcStatsUrl", json!({})).await.unwrap(), json!({}));
    let capabilities = client.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    assert_eq!(capabilities["routerRtpCapabilities"], rtp::capabilities());
    for (direction, producing) in [("producer", true), ("consumer", false)] {
        let transport = create_transport(client, direction).await;
        assert_eq!(transport.get("id"), None, "{transport}");
        let id = transport["transportId"].as_str().unwrap().to_owned();
        let kept = if producing { &mut client.send_transport } else { &mut client.recv_transport };
        *kept = id;
    }
    client.request("join", join_data()).await.unwrap()
}

pub(super) async fn produce(client: &mut Client, kind: &str, rtp: Value, source: &str) -> String {
    let transport = client.send_transport.clone();
    client.connect(&transport).await.unwrap();
    let data = json!({"transportId": transport, "kind": kind, "rtpParameters": rtp, "appData": {"source": source}});
    client.request("produce", data).await.unwrap()["producerId"].as_str().unwrap().to_owned()
}

fn peer(name: &str) -> Value {
    json!({
        "peerId": name, "displayName": "A name", "device": {"flag": "chrome"}, "remoteAddress": "",
        "node": "eu-1", "region": "region-of-eu-1",
    })
}

#[tokio::test(start_paused = true)]
async fn two_apps_of_the_typescript_server_meet() {
    let node = node();
    let mut alice = open(&node, "alice");
    assert_eq!(join(&mut alice).await["peers"], json!([]));
    let video = produce(&mut alice, "video", rtp::vp8(1), "video").await;

    let mut bob = open(&node, "bob");
    assert_eq!(join(&mut bob).await["peers"], json!([peer("alice")]));
    assert_eq!(alice.next_notification("newPeer").await, json!({"peer": peer("bob")}));
    let consumer = bob.accept_consumer().await;
    let score = json!({"score": 10, "producerScore": 10, "producerScores": [10]});
    assert_eq!((&consumer["peerId"], &consumer["producerId"]), (&json!("alice"), &json!(video)));
    assert_eq!((&consumer["transportId"], &consumer["id"]), (&json!(bob.recv_transport), &Value::Null));
    assert_eq!((&consumer["consumerScore"], &consumer["producerPaused"]), (&score, &json!(false)));
    assert_eq!(consumer["appData"], json!({"peerId": "alice", "source": "video", "hops": 0}));
    let consumed_on = node.workers[0].asked(|request| match request {
        Request::Consume { transport, .. } => Some(transport.to_string()),
        _ => None,
    });
    assert_eq!(consumed_on.await, bob.recv_transport);

    let ice = bob.request("restartIce", json!({"transportId": bob.recv_transport})).await.unwrap();
    assert_eq!(ice["iceParameters"]["iceLite"], true);
    let router = node.workers[0].asked(|request| match request {
        Request::CreateRouter { router, .. } => Some(*router),
        _ => None,
    });
    let (router, producer) = (router.await, video.parse().unwrap());
    node.tell(0, WorkerEvent::AudioLevels { router, volumes: vec![(producer, -35)] }).await;
    assert_eq!(bob.next_notification("activeSpeaker").await, json!({"peerId": "alice"}));
    let speaking = json!({"peerVolumes": [{"peerId": "alice", "volume": -35}]});
    assert_eq!(bob.next_notification("speakingPeers").await, speaking);
    node.tell(0, WorkerEvent::AudioLevels { router, volumes: vec![] }).await;
    assert_eq!(bob.next_notification("activeSpeaker").await, json!({}));
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn what_is_said_by_notification_is_done() {
    let node = node();
    let (mut alice, mut bob) = (open(&node, "alice"), open(&node, "bob"));
    join(&mut alice).await;
    join(&mut bob).await;
    let producer = produce(&mut alice, "audio", rtp::opus(1), "audio").await;
    let consumer = bob.accept_consumer().await["consumerId"].clone();

    alice.notify("pauseProducer", json!({"producerId": producer})).await;
    assert_eq!(bob.next_notification("consumerPaused").await, json!({"consumerId": consumer}));
    alice.notify("resumeProducer", json!({"producerId": producer})).await;
    assert_eq!(bob.next_notification("consumerResumed").await, json!({"consumerId": consumer}));
    alice.notify("changeDisplayName", json!({"displayName": "Alicia"})).await;
    assert_eq!(bob.next_notification("peerDisplayNameChanged").await["displayName"], "Alicia");
    for (method, expected) in [
        ("pauseConsumer", "PauseConsumer"),
        ("resumeConsumer", "ResumeConsumer"),
        ("requestConsumerKeyFrame", "RequestKeyFrame"),
    ] {
        bob.notify(method, json!({"consumerId": consumer})).await;
        node.workers[0].asked(|request| format!("{request:?}").starts_with(expected).then_some(())).await;
    }
    alice.notify("closeProducer", json!({"producerId": producer})).await;
    assert_eq!(bob.next_notification("consumerClosed").await, json!({"consumerId": consumer}));
}

#[tokio::test(start_paused = true)]
async fn a_notification_that_is_refused_is_counted_and_not_answered() {
    let node = node();
    let mut alice = open(&node, "alice");
    join(&mut alice).await;
    alice.settle().await;
    let failed = node.rooms.snapshot().requests_failed;
    alice.notify("closeProducer", json!({"producerId": "nobody's"})).await;
    alice.notify("closeProducer", json!({"producerId": alice.send_transport})).await;
    alice.notify("setConsumerPreferredLayers", json!({"consumerId": "x", "spatialLayer": 0})).await;
    alice.notify("whatever", json!({})).await;
    assert_eq!(alice.settle().await, Vec::<Value>::new());
    assert_eq!(node.rooms.snapshot().requests_failed, failed + 3, "all but what means nothing");
}

#[tokio::test(start_paused = true)]
async fn a_dialect_is_told_by_url_first_request_or_first_transport() {
    let node = node();
    let mut stay = Vec::new();
    // By its transports, though its URL let expect the other.
    for (number, expected) in [Dialect::V3, Dialect::Ts].into_iter().enumerate() {
        let open = |name: &str| {
            let opening = opening("room", &format!("{name}-{number}"), None);
            Client::open_as(&node.rooms, expected, opening)
        };
        let mut v3 = open("v3");
        v3.join().await;
        let mut ts = open("ts");
        assert!(create_transport(&mut ts, "consumer").await["transportId"].is_string());
        assert!(ts.request("join", join_data()).await.unwrap()["peers"][0]["peerId"].is_string());
        assert_eq!(v3.next_notification("newPeer").await["id"], format!("ts-{number}"));
        stay.extend([v3, ts]);
    }
    // A client that makes no transport.
    let mut by_url = open(&node, "by-url");
    assert!(by_url.request("join", join_data()).await.unwrap()["peers"][0]["peerId"].is_string());
    let mut by_request = node.open("room", "by-request");
    by_request.request("getRtcStatsUrl", json!({})).await.unwrap();
    assert!(by_request.request("join", join_data()).await.unwrap()["peers"][0]["peerId"].is_string());
    let mut neither = node.open("room", "neither");
    assert!(neither.request("join", join_data()).await.unwrap()["peers"][0]["id"].is_string());
}

#[tokio::test(start_paused = true)]
async fn both_dialects_meet_in_one_room() {
    let node = node();
    let mut old = node.join("room", "old").await;
    let mut new = open(&node, "new");
    assert_eq!(join(&mut new).await["peers"], json!([peer("old")]));
    assert_eq!(old.next_notification("newPeer").await["id"], "new");

    // What says nothing of its source is a camera, unless it is shared.
    let old_transport = old.send_transport.clone();
    old.produce("video", rtp::vp8(1)).await;
    assert_eq!(new.accept_consumer().await["appData"]["source"], "video");
    let screen = json!({
        "transportId": old_transport, "kind": "video", "rtpParameters": rtp::vp8(5), "appData": {"share": true},
    });
    old.request("produce", screen).await.unwrap();
    assert_eq!(new.accept_consumer().await["appData"]["source"], "screensharing");

    produce(&mut new, "audio", rtp::opus(9), "audio").await;
    let consumer = old.accept_consumer().await;
    assert_eq!((&consumer["peerId"], &consumer["appData"]["source"]), (&json!("new"), &json!("audio")));
    assert!(consumer["id"].is_string());
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}
