//! The v3 dialect on one node: the order of calls, what others see, and every kind of bad input.

use std::time::Duration;

use serde_json::{Value, json};
use sluice_media::messages::{ConsumerScores, EncodingScore, Request, RequestError, StreamScores, WorkerEvent};
use sluice_proto::ids::TransportId;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

use super::client::{Connection, opening};
use super::fakes::World;
use super::{SOON, TestNode, rtp};
use crate::limits::Limits;

fn node() -> TestNode {
    TestNode::start(&World::default(), "eu-1", 1)
}

#[tokio::test(start_paused = true)]
async fn candidates_are_of_udp_first_or_of_tcp_only_if_that_is_asked_for() {
    let node = node();
    let mut alice = node.open("room", "alice");
    alice.greeted().await;
    let candidate = |protocol: &str, priority: u32| {
        json!({
            "foundation": format!("{protocol}candidate"), "priority": priority, "ip": "192.0.2.1", "address": "192.0.2.1",
            "protocol": protocol, "port": 4_444, "type": "host",
        })
    };
    let mut tcp = candidate("tcp", 1_076_302_079 - (1_000 << 8) - 1);
    tcp["tcpType"] = json!("passive");
    let any = alice.request("createWebRtcTransport", json!({"forceTcp": false, "producing": true})).await.unwrap();
    assert_eq!(any["iceCandidates"], json!([candidate("udp", 1_076_302_079), tcp]));
    let forced = alice.request("createWebRtcTransport", json!({"forceTcp": true, "producing": true})).await.unwrap();
    tcp["priority"] = json!(1_076_302_079 - (1_000 << 8));
    assert_eq!(forced["iceCandidates"], json!([tcp]));
}

#[tokio::test(start_paused = true)]
async fn two_peers_meet() {
    let node = node();
    let mut alice = node.open("room", "alice");
    alice.greeted().await;
    let capabilities = alice.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    assert_eq!(capabilities["codecs"], rtp::capabilities()["codecs"]);
    assert_eq!(capabilities["headerExtensions"], rtp::capabilities()["headerExtensions"]);
    let data = json!({"forceTcp": false, "producing": true, "consuming": false});
    let transport = alice.request("createWebRtcTransport", data).await.unwrap();
    assert_eq!(transport["iceCandidates"][0]["ip"], "192.0.2.1");
    assert_eq!(transport["iceCandidates"][0]["port"], 4444);
    assert_eq!(transport["iceParameters"]["iceLite"], true);
    assert!(transport["iceParameters"]["usernameFragment"].as_str().unwrap().starts_with("0000"), "the worker's index");
    assert_eq!(transport["dtlsParameters"]["role"], "auto");
    assert_eq!(transport["dtlsParameters"]["fingerprints"][0]["algorithm"], "sha-256");
    assert!(transport.get("sctpParameters").is_none(), "nothing was said of data");
    alice.send_transport = transport["id"].as_str().unwrap().to_owned();
    alice.recv_transport = alice.create_transport(true).await;
    let join = json!({"displayName": "Alice", "device": {"flag": "safari"}, "rtpCapabilities": rtp::capabilities()});
    let joined = alice.request("join", join).await.unwrap();
    let secret = joined["peerSecret"].as_str().unwrap();
    assert!(secret.len() >= 26, "{secret}");
    assert_eq!(joined, json!({"peers": [], "node": "eu-1", "region": "region-of-eu-1", "peerSecret": secret}));
    let video = alice.produce("video", rtp::vp8(1111)).await;

    let mut bob = node.open("room", "bob");
    let joined = bob.join().await;
    let expected = json!({"id": "alice", "displayName": "Alice", "device": {"flag": "safari"}, "node": "eu-1", "region": "region-of-eu-1"});
    assert_eq!(joined["peers"], json!([expected]));
    assert_eq!(alice.next_notification("newPeer").await["id"], "bob");

    let (request, consumer) = bob.next_consumer().await;
    assert_eq!((&consumer["peerId"], &consumer["producerId"]), (&json!("alice"), &json!(video)));
    assert_eq!((&consumer["type"], &consumer["producerPaused"]), (&json!("simple"), &json!(false)));
    assert_eq!(consumer["appData"], json!({"share": false, "hops": 0}));
    assert_eq!(consumer["rtpParameters"]["codecs"][1]["mimeType"], "video/rtx");
    let worker = &node.workers[0];
    let paused = worker.asked(|request| match request {
        Request::Consume { paused, .. } => Some(*paused),
        _ => None,
    });
    assert!(paused.await, "until the client is ready");
    assert!(worker.take(|request| matches!(request, Request::ResumeConsumer { .. }).then_some(())).is_none());
    bob.send(json!({"response": true, "id": request, "ok": true, "data": {}})).await;
    worker.asked(|request| matches!(request, Request::ResumeConsumer { .. }).then_some(())).await;
    let score = bob.next_notification("consumerScore").await;
    assert_eq!((&score["consumerId"], &score["score"]["score"]), (&consumer["id"], &json!(10)));

    // Audio from the one who came later, to the one who was there.
    bob.produce("audio", rtp::opus(2222)).await;
    assert_eq!(alice.accept_consumer().await["kind"], "audio");
    assert_eq!(worker.refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_answer_to_join_comes_before_its_consumers() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    alice.produce("video", rtp::vp8(1)).await;
    alice.produce("audio", rtp::opus(3)).await;
    let mut bob = node.open("room", "bob");
    bob.greeted().await;
    bob.create_transport(true).await;
    bob.send(json!({"request": true, "id": 5, "method": "join", "data": {"displayName": "B", "rtpCapabilities": rtp::capabilities()}})).await;
    let kinds: Vec<_> =
        bob.settle().await.iter().map(|message| (message["id"].as_u64(), message["method"].clone())).collect();
    assert_eq!(kinds, [(Some(5), json!(null)), (Some(0), json!("newConsumer")), (Some(1), json!("newConsumer"))]);
}

#[tokio::test(start_paused = true)]
async fn pause_close_rename_and_leave_show() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let video = alice.produce("video", rtp::vp8(1)).await;
    let consumer = bob.accept_consumer().await["id"].clone();

    alice.request("pauseProducer", json!({"producerId": video})).await.unwrap();
    assert_eq!(bob.next_notification("consumerPaused").await, json!({"consumerId": consumer}));
    alice.request("resumeProducer", json!({"producerId": video})).await.unwrap();
    assert_eq!(bob.next_notification("consumerResumed").await, json!({"consumerId": consumer}));
    alice.request("changeDisplayName", json!({"displayName": "Alicia"})).await.unwrap();
    let renamed = bob.next_notification("peerDisplayNameChanged").await;
    assert_eq!(renamed, json!({"peerId": "alice", "displayName": "Alicia", "oldDisplayName": "A name"}));
    for (method, expected) in [
        ("pauseConsumer", "PauseConsumer"),
        ("resumeConsumer", "ResumeConsumer"),
        ("requestConsumerKeyFrame", "RequestKeyFrame"),
    ] {
        bob.request(method, json!({"consumerId": consumer})).await.unwrap();
        node.workers[0].asked(|request| format!("{request:?}").starts_with(expected).then_some(())).await;
    }
    let ice = bob.request("restartIce", json!({"transportId": bob.recv_transport})).await.unwrap();
    assert_eq!(ice["iceLite"], true);

    alice.request("closeProducer", json!({"producerId": video})).await.unwrap();
    assert_eq!(bob.next_notification("consumerClosed").await, json!({"consumerId": consumer}));
    assert_eq!(alice.request("closeProducer", json!({"producerId": video})).await.unwrap_err().0, 404);
    alice.produce("video", rtp::vp8(1)).await;
    bob.accept_consumer().await;
    alice.hang_up();
    assert_eq!(bob.next_notification("peerClosed").await, json!({"peerId": "alice"}));
    bob.next_notification("consumerClosed").await;
    bob.hang_up();
    node.workers[0].asked(|request| matches!(request, Request::CloseRouter { .. }).then_some(())).await;
    assert_eq!(node.workers[0].counts().0, 0);
    assert_eq!(node.rooms.snapshot().rooms, 0);
}

#[tokio::test(start_paused = true)]
async fn bad_requests_are_answered_in_words_and_harm_nothing() {
    let node = node();
    let mut alice = node.open("room", "alice");
    alice.greeted().await;
    for (text, expected) in
        [("{", "not JSON"), ("[]", "JSON object"), ("{\"id\":3}", "request, response or notification")]
    {
        alice.send_frame(Message::Text(text.into())).await;
        let answer = alice.next(|message| message["response"] == true).await;
        assert_eq!(answer["errorCode"], 400);
        assert!(answer["errorReason"].as_str().unwrap().contains(expected), "{answer}");
    }
    let nobody = TransportId::from_random_bytes([9; 16]).to_string();
    let send = alice.create_transport(false).await;
    let produce = json!({"transportId": send, "kind": "video", "rtpParameters": rtp::vp8(1)});
    let cases = [
        ("explode", json!({}), 404, "unknown method \"explode\""),
        ("applyNetworkThrottle", json!({}), 501, "applyNetworkThrottle is not supported"),
        ("setConsumerPreferredLayers", json!({}), 400, "spatialLayer"),
        ("setConsumerPriority", json!({"consumerId": nobody, "priority": 0}), 400, "from 1 to 255"),
        ("setConsumerPriority", json!({"consumerId": nobody, "priority": 255}), 404, "not found"),
        ("createWebRtcTransport", json!({"consuming": "yes"}), 400, "consuming must be true or false"),
        ("createWebRtcTransport", json!({"forceTcp": "yes"}), 400, "forceTcp must be true or false"),
        ("connectWebRtcTransport", json!({"transportId": nobody, "dtlsParameters": rtp::dtls()}), 404, "not found"),
        ("connectWebRtcTransport", json!({"transportId": "x", "dtlsParameters": rtp::dtls()}), 404, "not found"),
        (
            "connectWebRtcTransport",
            json!({"transportId": 5, "dtlsParameters": rtp::dtls()}),
            400,
            "transportId must be a string",
        ),
        ("connectWebRtcTransport", json!({"transportId": send}), 400, "fingerprints must be an array"),
        ("produce", produce.clone(), 409, "join comes before produce"),
        ("join", json!({"displayName": 5}), 400, "displayName must be a string"),
        ("join", json!({"device": "Chrome"}), 400, "device must be an object"),
        ("join", json!({"rtpCapabilities": []}), 400, "rtpCapabilities"),
        ("restartIce", json!({"transportId": nobody}), 404, "not found"),
        ("closeProducer", json!({"producerId": nobody}), 404, "not found"),
        ("pauseConsumer", json!({"consumerId": nobody}), 404, "not found"),
        ("getTransportStats", json!({"transportId": nobody}), 404, "not found"),
        ("changeDisplayName", json!({"displayName": "x"}), 409, "join comes before"),
    ];
    for (method, data, code, words) in cases {
        let (refused, reason) = alice.request(method, data).await.unwrap_err();
        assert_eq!(refused, code, "{method}: {reason}");
        assert!(reason.contains(words), "{method}: {reason:?} does not say {words:?}");
    }
    alice.create_transport(true).await;
    alice.request("join", json!({"rtpCapabilities": rtp::capabilities()})).await.unwrap();
    alice.connect(&send).await.unwrap();
    assert_eq!(alice.connect(&send).await.unwrap_err().0, 409, "connect twice");
    let mut simulcast = produce.clone();
    for (rids, words) in [("aa", "rid \"a\" is used twice"), ("abcde", "at most 4 encodings")] {
        let encodings: Vec<_> = rids.chars().map(|rid| json!({"rid": rid})).collect();
        simulcast["rtpParameters"]["encodings"] = json!(encodings);
        let (code, reason) = alice.request("produce", simulcast.clone()).await.unwrap_err();
        assert_eq!(code, 400);
        assert!(reason.contains(words), "{reason}");
    }
    node.workers[0].refuse_next_produce(RequestError::StreamInUse("SSRC 1".to_owned()));
    assert_eq!(alice.request("produce", produce.clone()).await.unwrap_err().0, 409);
    alice.request("produce", produce).await.unwrap();
    assert_eq!(node.rooms.snapshot().malformed_messages, 3);
}

#[tokio::test(start_paused = true)]
async fn names_lose_what_would_turn_the_text_around_them() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    alice.request("changeDisplayName", json!({"displayName": "a\u{202e}b\nc\u{2028}d"})).await.unwrap();
    assert_eq!(bob.next_notification("peerDisplayNameChanged").await["displayName"], "abcd");
}

#[tokio::test(start_paused = true)]
async fn what_is_anothers_is_not_found() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let video = alice.produce("video", rtp::vp8(1)).await;
    let consumer = bob.accept_consumer().await["id"].clone();
    assert_eq!(bob.request("closeProducer", json!({"producerId": video})).await.unwrap_err().0, 404);
    assert_eq!(bob.request("pauseProducer", json!({"producerId": video})).await.unwrap_err().0, 404);
    assert_eq!(alice.request("pauseConsumer", json!({"consumerId": consumer})).await.unwrap_err().0, 404);
    let transport = alice.send_transport.clone();
    assert_eq!(bob.connect(&transport).await.unwrap_err().0, 404);
    assert_eq!(bob.request("restartIce", json!({"transportId": transport})).await.unwrap_err().0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_binary_message_ends_the_session() {
    let node = node();
    let mut bob = node.join("room", "bob").await;
    bob.send_frame(Message::Binary(vec![0; 10].into())).await;
    assert_eq!(bob.closed().await.0, 1003);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_the_client_refuses_or_ignores_is_closed() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    alice.produce("video", rtp::vp8(1)).await;
    alice.produce("audio", rtp::opus(3)).await;
    let (request, _) = bob.next_consumer().await;
    bob.send(json!({"response": true, "id": request, "errorCode": 403, "errorReason": "I do not want to consume"}))
        .await;
    let closed = || node.workers[0].asked(|request| matches!(request, Request::CloseConsumer { .. }).then_some(()));
    closed().await;
    bob.next_consumer().await;
    tokio::time::sleep(Duration::from_secs(31)).await;
    closed().await;
    assert_eq!(node.workers[0].counts().3, 0);
}

#[tokio::test(start_paused = true)]
async fn scores_and_speakers_are_told() {
    let node = node();
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let producer = alice.produce("audio", rtp::opus(77)).await.parse().unwrap();
    let consumer = bob.accept_consumer().await["id"].as_str().unwrap().parse().unwrap();
    bob.next_notification("consumerScore").await;
    let scores = vec![EncodingScore { encoding: 0, ssrc: 77, rid: None, score: 6 }];
    node.tell(0, WorkerEvent::ProducerScore { producer, scores }).await;
    let told = alice.next_notification("producerScore").await;
    assert_eq!(told["score"], json!([{"encodingIdx": 0, "ssrc": 77, "score": 6}]));
    let scores = ConsumerScores { consumer: 5, producer: 6, streams: StreamScores::from_iter([6]) };
    node.tell(0, WorkerEvent::ConsumerScore { consumer, scores }).await;
    let told = bob.next_notification("consumerScore").await;
    assert_eq!(told["score"], json!({"score": 5, "producerScore": 6, "producerScores": [6]}));
    let router = node.workers[0].asked(|request| match request {
        Request::CreateRouter { router, .. } => Some(*router),
        _ => None,
    });
    let router = router.await;
    node.tell(0, WorkerEvent::AudioLevels { router, volumes: vec![(producer, -35)] }).await;
    assert_eq!(bob.next_notification("activeSpeaker").await, json!({"peerId": "alice", "volume": -35}));
    node.tell(0, WorkerEvent::AudioLevels { router, volumes: vec![] }).await;
    assert_eq!(bob.next_notification("activeSpeaker").await, json!({"peerId": null}));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_dropped_and_nobody_waits_for_it() {
    let node = node();
    let mut alice = node.join("room", "alice").await;
    let _idle = node.join("room", "idle").await;
    // More than the connection holds.
    for round in 0..100 {
        alice.request("changeDisplayName", json!({"displayName": format!("{round}")})).await.unwrap();
        tokio::task::yield_now().await;
    }
    let Limits { write_within, resume_within, .. } = Limits::default();
    assert_eq!(alice.wait(write_within + resume_within + SOON).await, None);
    assert_eq!(alice.next_notification("peerClosed").await["peerId"], "idle");
    assert_eq!(node.rooms.snapshot().sessions_dropped, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_takes_no_answers_is_read_no_further_and_answered_when_it_does() {
    let node = node();
    let Connection { to_server, mut from_server } = Connection::open(&node.rooms, opening("room", "deaf", None));
    let request = |id: u64, method: &str| {
        let request = json!({"request": true, "id": id, "method": method, "data": {}});
        Message::Text(request.to_string().into())
    };
    to_server.send(request(0, "join")).await.unwrap();
    let mut asked = 1;
    while timeout(SOON, to_server.send(request(asked, "getPeers"))).await.is_ok() {
        asked += 1;
    }
    let answered = node.rooms.snapshot().requests_ok;
    assert!(answered <= 20, "{answered} answers wait, and the connection has room for 16");
    for expected in 0..asked {
        let id = loop {
            match timeout(SOON, from_server.recv()).await.unwrap().unwrap() {
                Message::Text(text) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if message["response"] == true {
                        break message["id"].clone();
                    }
                }
                other => assert!(matches!(other, Message::Ping(_)), "{other:?}"),
            }
        };
        assert_eq!(id, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_for_a_while_is_told_what_is_and_not_what_was() {
    let limits = Limits { changes_per_minute: 1_000, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut alice = node.join("room", "alice").await;
    let mut slow = node.join("room", "slow").await;
    for round in 0..500 {
        alice.request("changeDisplayName", json!({"displayName": format!("{round}")})).await.unwrap();
        node.join("room", &format!("guest-{round}")).await.hang_up();
    }
    let _last = node.join("room", "last").await;
    let told = slow.settle().await;
    assert!(told.len() < 100, "{}", told.len());
    let renamed = told.iter().rfind(|message| message["method"] == "peerDisplayNameChanged").unwrap();
    assert_eq!(renamed["data"]["displayName"], "499");
    let count = |method: &str| told.iter().filter(|message| message["method"] == method).count();
    assert_eq!(count("newPeer"), count("peerClosed") + 1, "the last one is there");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_too_fast_is_read_slower() {
    let limits = Limits { request_burst: 10, requests_per_second: 10, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut alice = node.join("room", "alice").await;
    let started = tokio::time::Instant::now();
    for _ in 0..30 {
        alice.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    }
    assert!(started.elapsed() >= Duration::from_millis(2_200), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_too_much_is_read_slower() {
    let limits = Limits { bytes_per_second: 10_000, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut alice = node.join("room", "alice").await;
    let started = tokio::time::Instant::now();
    for _ in 0..10 {
        alice.request("getRouterRtpCapabilities", json!({"padding": "x".repeat(10_000)})).await.unwrap();
    }
    // Four of them may come at once, of which joining took a part.
    assert!(started.elapsed() >= Duration::from_secs(6), "{:?}", started.elapsed());
    assert!(started.elapsed() <= Duration::from_millis(7_500), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn pings_are_rated_as_messages_are() {
    let limits = Limits { request_burst: 10, requests_per_second: 10, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let mut alice = node.join("room", "alice").await;
    let started = tokio::time::Instant::now();
    for _ in 0..50 {
        alice.send_frame(Message::Ping(Vec::new().into())).await;
    }
    alice.request("getRouterRtpCapabilities", json!({})).await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn limits_are_refused_by_name() {
    let limits = Limits {
        rooms: 1,
        peers_per_room: 2,
        transports_per_peer: 3,
        producers_per_peer: 1,
        consumers_per_peer: 1,
        ..Limits::default()
    };
    let node = TestNode::start_with(&World::default(), "eu-1", 1, limits);
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    assert_eq!(node.open("another", "alice").closed().await, (1013, "the node has 1 rooms already".to_owned()));
    assert_eq!(node.open("room", "carol").closed().await.0, 1013);
    alice.create_transport(false).await;
    let refused = alice.request("createWebRtcTransport", json!({"producing": true})).await.unwrap_err();
    assert_eq!(refused, (403, "a peer may have 3 transports".to_owned()));
    alice.produce("video", rtp::vp8(1)).await;
    let second = json!({"transportId": alice.send_transport, "kind": "audio", "rtpParameters": rtp::opus(9)});
    assert_eq!(alice.request("produce", second).await.unwrap_err(), (403, "a peer may have 1 producers".to_owned()));
    bob.accept_consumer().await;
}
