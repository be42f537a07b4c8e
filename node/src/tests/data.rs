//! Data channels: who may have them, who is told, and how they end.

use serde_json::{Value, json};
use sluice_media::messages::{Request, SctpState, WorkerEvent, WorkerIndex};
use sluice_proto::ids::{ConsumerId, NamespaceId, PeerId, RoomId, RoomKey, TransportId};

use super::client::{Client, join_data, opening};
use super::fakes::World;
use super::{TestNode, rtp};
use crate::limits::Limits;
use crate::rooms::operations::Operation;
use crate::rooms::server_data::{ServerContent, ServerMessage};
use crate::signalling::demo::Dialect;

/// Joins with transports that carry no data.
async fn join_without(node: &TestNode, room: &str, peer: &str) -> Client {
    let mut client = node.open(room, peer);
    client.greeted().await;
    client.request("createWebRtcTransport", json!({"consuming": true})).await.unwrap();
    client.request("join", join_data()).await.unwrap();
    client
}

fn chat(client: &Client, stream: u16) -> Value {
    json!({
        "transportId": client.send_transport, "sctpStreamParameters": {"streamId": stream, "ordered": true},
        "label": "chat", "protocol": "text", "appData": {"mine": 1},
    })
}

async fn produce(client: &mut Client, stream: u16) -> String {
    let request = chat(client, stream);
    client.request("produceData", request).await.unwrap()["id"].as_str().unwrap().to_owned()
}

/// Accepts the next `newDataConsumer`; its data.
async fn accept(client: &mut Client) -> Value {
    let asked = client.next(|message| message["request"] == true && message["method"] == "newDataConsumer").await;
    client.send(json!({"response": true, "id": asked["id"], "ok": true, "data": {}})).await;
    asked["data"].clone()
}

fn id<T: std::str::FromStr>(value: &Value) -> T {
    value.as_str().and_then(|text| text.parse().ok()).expect("an id")
}

async fn tell(node: &TestNode, event: WorkerEvent) {
    node.events.send((WorkerIndex(0), event)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_offered_to_all_who_receive_data_and_begins_when_they_have_it() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let mut deaf = join_without(&node, "room", "carol").await;
    let producer = produce(&mut alice, 7).await;
    let asked = bob.next(|message| message["method"] == "newDataConsumer").await;
    let data = &asked["data"];
    assert_eq!(
        *data,
        json!({
            "peerId": "alice", "dataProducerId": producer, "id": data["id"], "label": "chat", "protocol": "text",
            "sctpStreamParameters": {"streamId": 0, "ordered": true}, "appData": {"mine": 1, "hops": 0},
        })
    );
    let (consumer, transport): (ConsumerId, TransportId) = (id(&data["id"]), id(&json!(bob.recv_transport)));
    let worker = &node.workers[0];
    let made = worker.take(|request| match request {
        Request::ConsumeData { consumer, transport, producer, stream, paused: true } => {
            Some((*consumer, *transport, *producer, stream.stream_id))
        }
        _ => None,
    });
    assert_eq!(made, Some((consumer, transport, id(&json!(producer)), 0)));
    let begun = |request: &Request| matches!(request, Request::ResumeConsumer { consumer: of } if *of == consumer);
    assert_eq!(worker.take(|request| begun(request).then_some(())), None, "the client has no channel yet");
    bob.send(json!({"response": true, "id": asked["id"], "ok": true, "data": {}})).await;
    worker.asked(|request| begun(request).then_some(())).await;
    assert!(deaf.settle().await.iter().all(|message| message["method"] != "newDataConsumer"), "it takes no data");
    let told = bob.settle().await;
    assert!(told.iter().all(|message| message["method"] == "newPeer"), "of scores and layers nothing: {told:?}");

    let stats = bob.request("getDataConsumerStats", json!({"dataConsumerId": data["id"]})).await.unwrap();
    assert_eq!(stats[0]["type"], "data-consumer");
    assert_eq!((&stats[0]["messagesSent"], &stats[0]["bufferedAmount"]), (&json!(3), &json!(11)));
    let stats = alice.request("getDataProducerStats", json!({"dataProducerId": producer})).await.unwrap();
    assert_eq!((&stats[0]["label"], &stats[0]["bytesReceived"]), (&json!("chat"), &json!(33)));
    for (method, name) in [("getConsumerStats", "consumerId"), ("getDataConsumerStats", "dataConsumerId")] {
        assert_eq!(alice.request(method, json!({name: data["id"]})).await.unwrap_err().0, 404, "bob's");
    }
    assert_eq!(bob.request("getConsumerStats", json!({"consumerId": data["id"]})).await.unwrap_err().0, 404);
    assert_eq!(alice.request("pauseProducer", json!({"producerId": producer})).await.unwrap_err().0, 404);

    alice.request("closeDataProducer", json!({"dataProducerId": producer})).await.unwrap();
    assert_eq!(bob.next_notification("dataConsumerClosed").await, json!({"dataConsumerId": data["id"]}));
    assert_eq!(worker.refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn the_other_dialect_has_names_of_its_own() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let mut alice = node.join("room", "alice").await;
    let mut bob = Client::open_as(&node.rooms, Dialect::Ts, opening("room", "bob", None));
    let transport = |direction: &str| json!({"appData": {"direction": direction}, "sctpCapabilities": {"numStreams": {"OS": 16, "MIS": 16}}});
    let sending = bob.request("createWebRtcTransport", transport("producer")).await.unwrap();
    bob.request("createWebRtcTransport", transport("consumer")).await.unwrap();
    bob.request("join", join_data()).await.unwrap();
    let request = json!({
        "transportId": sending["transportId"], "sctpStreamParameters": {"streamId": 0, "maxRetransmits": 2},
        "label": "chat", "appData": {"channel": "chat"},
    });
    let producer = bob.request("produceData", request).await.unwrap()["dataProducerId"].clone();
    let heard = accept(&mut alice).await;
    assert_eq!(heard["dataProducerId"], producer);
    assert_eq!(heard["sctpStreamParameters"], json!({"streamId": 0, "ordered": false, "maxRetransmits": 2}));
    produce(&mut alice, 0).await;
    let heard = accept(&mut bob).await;
    assert_eq!(heard["appData"], json!({"mine": 1, "hops": 0, "peerId": "alice", "channel": "chat"}));
    assert!(heard["dataConsumerId"].is_string() && heard["transportId"].is_string());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_refused_in_words() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let mut alice = node.join("room", "alice").await;
    produce(&mut alice, 7).await;
    let mut refused = async |change: fn(&mut Value)| {
        let mut request = chat(&alice, 9);
        change(&mut request);
        alice.request("produceData", request).await.unwrap_err()
    };
    let (code, words) = refused(|request| request["sctpStreamParameters"]["streamId"] = json!(7)).await;
    assert_eq!((code, words.contains("stream 7 is used")), (409, true), "{words}");
    assert_eq!(refused(|request| request["sctpStreamParameters"]["streamId"] = json!(1_024)).await.0, 409);
    assert_eq!(refused(|request| request["sctpStreamParameters"] = json!(null)).await.0, 400);
    assert_eq!(refused(|request| request["label"] = json!("l".repeat(257))).await.0, 400);
    assert_eq!(refused(|request| request["transportId"] = json!("nobody's")).await.0, 404);

    let data = json!({"producing": true});
    let without = alice.request("createWebRtcTransport", data).await.unwrap();
    assert!(without.get("sctpParameters").is_none());
    let mut request = chat(&alice, 9);
    request["transportId"] = without["id"].clone();
    let (code, words) = alice.request("produceData", request).await.unwrap_err();
    assert_eq!((code, words.contains("sctpCapabilities")), (409, true), "{words}");
    let nonsense = json!({"producing": true, "sctpCapabilities": {"numStreams": {"MIS": "many"}}});
    assert_eq!(alice.request("createWebRtcTransport", nonsense).await.unwrap_err().0, 400);

    let mut early = node.open("room", "early");
    early.greeted().await;
    early.send_transport = early.create_transport(false).await;
    let request = chat(&early, 0);
    assert_eq!(early.request("produceData", request).await.unwrap_err().0, 409, "join comes first");
}

#[tokio::test(start_paused = true)]
async fn a_refused_channel_leaves_its_stream_free() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let mut alice = node.join("room", "alice").await;
    node.workers[0].refuse_next_produce(sluice_media::messages::RequestError::Unavailable);
    let request = chat(&alice, 3);
    assert_eq!(alice.request("produceData", request).await.unwrap_err().0, 503);
    produce(&mut alice, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closes_its_end_ends_the_channel() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let producer = produce(&mut alice, 7).await;
    let consumer = accept(&mut bob).await["id"].clone();
    tell(&node, WorkerEvent::DataConsumerClosed { consumer: id(&consumer), by_client: true }).await;
    assert_eq!(bob.next_notification("dataConsumerClosed").await, json!({"dataConsumerId": consumer}));
    assert!(bob.settle().await.is_empty(), "it wanted that");
    tell(&node, WorkerEvent::DataProducerClosed { producer: id(&json!(producer)) }).await;
    alice.settle().await;
    let again = produce(&mut alice, 7).await;
    assert_eq!(accept(&mut bob).await["dataProducerId"], json!(again));
}

#[tokio::test(start_paused = true)]
async fn who_missed_messages_is_told_and_gets_what_comes_next() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    produce(&mut alice, 7).await;
    let first = accept(&mut bob).await;
    tell(&node, WorkerEvent::DataConsumerClosed { consumer: id(&first["id"]), by_client: false }).await;
    assert_eq!(bob.next_notification("dataConsumerClosed").await, json!({"dataConsumerId": first["id"]}));
    let second = accept(&mut bob).await;
    assert_eq!((&second["dataProducerId"], second["id"] != first["id"]), (&first["dataProducerId"], true));
    assert_eq!(second["sctpStreamParameters"]["streamId"], 1, "the former stream is being reset");
}

#[tokio::test(start_paused = true)]
async fn data_channels_end_with_their_association_and_media_go_on() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let producer = produce(&mut alice, 7).await;
    let consumer = accept(&mut bob).await["id"].clone();
    alice.produce("audio", rtp::opus(1)).await;
    bob.accept_consumer().await;
    tell(
        &node,
        WorkerEvent::SctpStateChanged { transport: id(&json!(alice.send_transport)), state: SctpState::Failed },
    )
    .await;
    tell(&node, WorkerEvent::DataProducerClosed { producer: id(&json!(producer)) }).await;
    assert_eq!(bob.next_notification("dataConsumerClosed").await, json!({"dataConsumerId": consumer}));
    // She may begin anew.
    let request = chat(&alice, 7);
    alice.request("produceData", request).await.unwrap();
    accept(&mut bob).await;
    assert!(bob.settle().await.iter().all(|message| message["method"] != "consumerClosed"));
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn in_a_large_room_only_the_stage_sends_data() {
    let node = TestNode::start_with(&World::default(), "eu-1", 1, Limits { small_room: 2, ..Limits::default() });
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    produce(&mut bob, 0).await;
    accept(&mut alice).await;
    let mut carol = node.join("room", "carol").await;
    let request = chat(&alice, 7);
    let (code, words) = alice.request("produceData", request.clone()).await.unwrap_err();
    assert_eq!((code, words.contains("stage")), (403, true), "{words}");
    alice.produce("audio", rtp::opus(1)).await;
    alice.request("produceData", request).await.unwrap();
    assert_eq!(accept(&mut carol).await["peerId"], "alice", "who is on the stage now");
    let told = carol.settle().await;
    assert!(told.iter().all(|message| message["data"]["peerId"] != "bob"), "who is of the audience: {told:?}");
}

#[tokio::test(start_paused = true)]
async fn data_alone_put_nobody_on_the_stage() {
    let node = TestNode::start_with(&World::default(), "eu-1", 1, Limits { small_room: 2, ..Limits::default() });
    let (mut alice, _bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    produce(&mut alice, 0).await;
    let mut carol = node.join("room", "carol").await;
    let census = carol.next_notification("audience").await;
    assert_eq!((&census["total"], &census["stage"]), (&json!(3), &json!(0)));
}

#[tokio::test(start_paused = true)]
async fn a_channel_is_told_to_other_nodes_and_comes_from_there() {
    let world = World::default();
    let (here, there) = (TestNode::start(&world, "eu-1", 1), TestNode::start(&world, "us-1", 1));
    world.link_up(&here.instance, &there.instance);
    let (mut alice, mut bob) = (here.join("room", "alice").await, there.join("room", "bob").await);
    let producer = produce(&mut alice, 7).await;
    let heard = accept(&mut bob).await;
    assert_eq!(heard["dataProducerId"], json!(producer));
    assert_eq!((&heard["label"], &heard["protocol"]), (&json!("chat"), &json!("text")));
    assert_eq!(heard["appData"], json!({"mine": 1, "hops": 1}));
    let piped = |request: &Request| match request {
        Request::CreatePipeDataProducer { producer, stream, .. } => Some((*producer, stream.ordered)),
        _ => None,
    };
    assert_eq!(there.workers[0].asked(piped).await, (id(&json!(producer)), true));
    let out = |request: &Request| match request {
        Request::CreatePipeConsumer { producer, .. } => Some(*producer),
        _ => None,
    };
    assert_eq!(here.workers[0].asked(out).await, id(&json!(producer)));
    alice.hang_up();
    assert_eq!(bob.next_notification("dataConsumerClosed").await, json!({"dataConsumerId": heard["id"]}));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_comes_back_is_told_which_channels_it_has() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let own = produce(&mut bob, 0).await;
    accept(&mut alice).await;
    produce(&mut alice, 7).await;
    let consumer = accept(&mut bob).await["id"].clone();
    let begun = |request: &Request| match request {
        Request::ResumeConsumer { consumer: of } => (*of == id(&consumer)).then_some(()),
        _ => None,
    };
    node.workers[0].asked(begun).await;
    let secret = bob.secret.clone();
    bob.break_off();
    let resuming = crate::entrance::Opening { resumes: true, ..opening("room", "bob", Some(&secret)) };
    let mut back = Client::open_as(&node.rooms, Dialect::V3, resuming);
    let resumed = back.next_notification("resumed").await;
    assert_eq!(resumed["dataProducers"], json!([{"id": own}]));
    assert_eq!(resumed["dataConsumers"], json!([{"id": consumer}]));
    assert_eq!((&resumed["producers"], &resumed["consumers"]), (&json!([]), &json!([])));
}

fn key() -> RoomKey {
    RoomKey { namespace: NamespaceId::new("default").unwrap(), room: RoomId::new("room").unwrap() }
}

fn from_server(label: &str, content: ServerContent) -> ServerMessage {
    ServerMessage { label: label.to_owned(), protocol: String::new(), content }
}

#[tokio::test(start_paused = true)]
async fn a_tenants_server_sends_to_all_who_receive_data_or_to_one() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let (mut alice, mut bob) = (node.join("room", "alice").await, node.join("room", "bob").await);
    let _carol = join_without(&node, "room", "carol").await;
    let send = async |to: Option<&str>, content| {
        let to = to.map(|peer| PeerId::new(peer).unwrap());
        node.rooms.operate(&key(), Operation::SendData { to, message: from_server("news", content) }).await
    };
    let sent = |request: &Request| match request {
        Request::SendData { producer, to, ppid, payload } => Some((*producer, *to, *ppid, payload.clone())),
        _ => None,
    };
    send(None, ServerContent::Text("hello".to_owned())).await.unwrap();
    let heard = accept(&mut alice).await;
    assert_eq!(
        (&heard["peerId"], &heard["label"], &heard["appData"]),
        (&json!(null), &json!("news"), &json!({"hops": 0}))
    );
    let to_bob: ConsumerId = id(&accept(&mut bob).await["id"]);
    let (producer, to, ppid, payload) = node.workers[0].take(sent).unwrap();
    assert_eq!((producer, to, ppid, &*payload), (id(&heard["dataProducerId"]), None, 51, &b"hello"[..]));

    send(Some("bob"), ServerContent::Binary(Vec::new().into())).await.unwrap();
    let (producer, to, ppid, payload) = node.workers[0].take(sent).unwrap();
    assert_eq!((producer, to, ppid, &*payload), (id(&heard["dataProducerId"]), Some(to_bob), 57, &[0][..]));
    let refused = |result: Result<(), crate::rooms::api::Refusal>| result.unwrap_err().code;
    assert_eq!(refused(send(Some("carol"), ServerContent::Text(String::new())).await), 409);
    assert_eq!(refused(send(Some("nobody"), ServerContent::Text(String::new())).await), 404);
    assert_eq!(refused(send(None, ServerContent::Binary(vec![0; 262_145].into())).await), 413);

    let mut dave = node.join("room", "dave").await;
    assert_eq!(accept(&mut dave).await["dataProducerId"], heard["dataProducerId"], "who comes later too");
    for label in ["a", "b", "c", "d", "e", "f", "g"] {
        let message = from_server(label, ServerContent::Text("x".to_owned()));
        node.rooms.operate(&key(), Operation::SendData { to: None, message }).await.unwrap();
    }
    let message = from_server("one too many", ServerContent::Text("x".to_owned()));
    assert_eq!(refused(node.rooms.operate(&key(), Operation::SendData { to: None, message }).await), 409);
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn servers_channels_end_with_the_last_who_is_there() {
    let node = TestNode::start(&World::default(), "eu-1", 1);
    let mut alice = node.join("room", "alice").await;
    let message = from_server("news", ServerContent::Text("x".to_owned()));
    node.rooms.operate(&key(), Operation::SendData { to: None, message }).await.unwrap();
    accept(&mut alice).await;
    alice.hang_up();
    let closed = |request: &Request| matches!(request, Request::CloseRouter { .. }).then_some(());
    node.workers[0].asked(closed).await;
    assert_eq!(node.workers[0].counts(), (0, 0, 0, 0));
    assert_eq!(node.workers[0].refused(), Vec::<String>::new());
}
