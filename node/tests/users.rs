//! Virtual users as load tests use them: what they watch, how long they take to join, how they learn that it is over.

mod common;

use std::sync::Arc;

use common::{SOON, VIDEO, consumes, driver, join, lone_node, lone_node_so, mesh, receives, transport, url};
use serde_json::{Value, json};
use sluice_loadtest::driver::Driver;
use sluice_loadtest::media::{Codec, MediaFile, Source, StreamStats, VideoSource};
use sluice_loadtest::results::Ended;
use sluice_loadtest::run::{Quiet, RunOptions, run};
use sluice_loadtest::scenario::{Overrides, ScenarioFile, VideoCodec, Watch};
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::tally::Tally;
use sluice_loadtest::user::{User, UserConfig, UserEnd};
use sluice_node::Node;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// A user who only receives.
fn watcher_config(node: &Node, name: &str, watch: Watch) -> UserConfig {
    UserConfig { watch_video: watch, produce: false, ..UserConfig::new(&url(node), "room", name, transport(), 1) }
}

async fn watcher(driver: &Driver, node: &Node, watch: Watch) -> User {
    User::join(driver, watcher_config(node, "watcher", watch)).await.unwrap()
}

async fn tally(user: &User) -> Tally {
    user.lane(false).await.unwrap().with(|session, now| session.tally(now)).await.unwrap()
}

#[tokio::test]
async fn a_join_takes_its_steps_in_order() {
    let (node, driver) = (lone_node().await, driver());
    let user = join(&driver, &node, "empty", "alice").await;
    let times = user.connected().await.unwrap();
    assert!(times.websocket <= times.joined && times.joined <= times.connected, "{times:?}");
    user.leave().await;
}

#[tokio::test]
async fn h264_is_carried_as_vp8_is() {
    let (node, driver) = (lone_node().await, driver());
    let alice = join(&driver, &node, "room", "alice").await;
    let video = VideoSource { codec: VideoCodec::H264, ..VideoSource::at_bitrate(300_000) };
    alice.produce(Source::Video(video)).await.unwrap();
    let watcher = watcher(&driver, &node, Watch::All).await;
    let consumer = consumes(&watcher, "alice", Kind::Video).await;
    let stats = receives(&watcher, &consumer, "a second of pictures", |stats| stats.frames >= 30).await;
    assert!(stats.key_frames > 0 && stats.time_to_first_frame.is_some() && stats.lost() == 0, "{stats:?}");
}

#[tokio::test]
async fn h265_is_carried_as_vp8_is() {
    let (mesh, driver) = (mesh(2).await, driver());
    let [here, there] = mesh.nodes() else { panic!("two nodes") };
    let alice = join(&driver, here, "room", "alice").await;
    // Ten seconds of 15 frames, of which each fifteenth is a key frame and the first has the only parameter sets.
    let recorded = include_bytes!("../../loadtest/tests/media/h265.ivf");
    let file = MediaFile::parse(recorded.to_vec().into(), Codec::H265).unwrap();
    alice.produce(Source::File(Arc::new(file))).await.unwrap();
    let early = watcher(&driver, there, Watch::All).await;
    let consumer = consumes(&early, "alice", Kind::Video).await;
    let stats = receives(&early, &consumer, "two seconds of pictures", |stats| stats.frames >= 30).await;
    assert!(stats.key_frames > 0 && stats.time_to_first_frame.is_some() && stats.lost() == 0, "{stats:?}");

    for (node, name) in [(here, "late"), (there, "later")] {
        let late = User::join(&driver, watcher_config(node, name, Watch::All)).await.unwrap();
        let consumer = consumes(&late, "alice", Kind::Video).await;
        let stats = receives(&late, &consumer, "a picture", |stats| stats.time_to_first_frame.is_some()).await;
        assert_eq!(stats.lost(), 0, "{stats:?}");
    }
    let lane = alice.lane(true).await.unwrap();
    let sent: Tally = lane.with(|session, now| session.tally(now)).await.unwrap();
    let frames = sent.sent_video.sums.frames;
    assert!(frames < 150, "the file began anew: {frames} frames");
    mesh.shutdown().await;
}

#[tokio::test]
async fn who_prefers_a_spatial_layer_of_vp9_gets_it() {
    let (node, driver) = (lone_node().await, driver());
    let alice = join(&driver, &node, "room", "alice").await;
    let scalability_mode = "L3T3_KEY".parse().unwrap();
    let video = VideoSource { codec: VideoCodec::Vp9, scalability_mode, ..VideoSource::at_bitrate(600_000) };
    alice.produce(Source::Video(video)).await.unwrap();
    let watcher = watcher(&driver, &node, Watch::All).await;
    let consumer = consumes(&watcher, "alice", Kind::Video).await;
    let gets = async |layer: u8| {
        let is_so = |stats: &StreamStats| stats.spatial_layer == Some(layer);
        let before = receives(&watcher, &consumer, "the layer", is_so).await.frames;
        let after = receives(&watcher, &consumer, "more of it", |stats| stats.frames >= before + 30).await;
        assert!(is_so(&after) && after.lost() == 0, "layer {layer}: {after:?}");
    };
    gets(2).await;
    for layer in [0, 1, 2] {
        let preferred = json!({"consumerId": consumer, "spatialLayer": layer, "temporalLayer": 2});
        watcher.protoo().request("setConsumerPreferredLayers", preferred).await.unwrap();
        gets(layer).await;
    }
    let stats = watcher.consumer_stats(&consumer).await.unwrap().unwrap();
    assert!(stats.layer_switches >= 3, "{stats:?}");
}

#[tokio::test]
async fn encodings_that_nobody_receives_are_not_sent() {
    let (node, driver) = (lone_node().await, driver());
    let alice = join(&driver, &node, "room", "alice").await;
    let encodings = [100_000, 200_000, 400_000].map(|bitrate| Source::Video(VideoSource::at_bitrate(bitrate)));
    alice.produce_encodings(encodings.into()).await.unwrap();
    let watcher = watcher(&driver, &node, Watch::All).await;
    let consumer = consumes(&watcher, "alice", Kind::Video).await;
    receives(&watcher, &consumer, "pictures", |stats| stats.frames >= 30 && stats.lost() == 0).await;
    let lane = alice.lane(true).await.unwrap();
    let sent = async || {
        let tally: Tally = lane.with(|session, now| session.tally(now)).await.unwrap();
        tally.sent_video.sums.streams
    };
    // The lowest is always sent.
    tokio::time::timeout(SOON, async { while sent().await != 2 {} }).await.expect("the one between is not sent");

    let lowest = json!({"consumerId": consumer, "spatialLayer": 0, "temporalLayer": 2});
    watcher.protoo().request("setConsumerPreferredLayers", lowest).await.unwrap();
    tokio::time::timeout(SOON, async { while sent().await > 1 {} }).await.expect("the others are not sent any more");
    let before = watcher.consumer_stats(&consumer).await.unwrap().unwrap().frames;
    receives(&watcher, &consumer, "the lowest", |stats| stats.frames >= before + 30 && stats.lost() == 0).await;

    let highest = json!({"consumerId": consumer, "spatialLayer": 2, "temporalLayer": 2});
    watcher.protoo().request("setConsumerPreferredLayers", highest).await.unwrap();
    tokio::time::timeout(SOON, async { while sent().await != 2 {} }).await.expect("what is wanted is sent again");
}

#[tokio::test]
async fn what_is_told_of_streams_and_transports_is_what_went_by() {
    let (node, driver) = (lone_node().await, driver());
    let alice = join(&driver, &node, "room", "alice").await;
    let encodings = [100_000, 200_000, 400_000].map(|bitrate| Source::Video(VideoSource::at_bitrate(bitrate)));
    let production = alice.produce_encodings(encodings.into()).await.unwrap();
    let watcher = watcher(&driver, &node, Watch::All).await;
    let consumer = consumes(&watcher, "alice", Kind::Video).await;
    receives(&watcher, &consumer, "pictures", |stats| stats.frames >= 30).await;

    let query = json!({"producerId": production.id});
    let streams = alice.protoo().request("getProducerStats", query).await.unwrap();
    assert!(!streams.as_array().unwrap().is_empty());
    for stream in streams.as_array().unwrap() {
        assert!(stream["rtxSsrc"].is_u64() && stream["packetCount"].as_u64() > Some(0), "{stream}");
        assert_eq!((&stream["type"], &stream["mimeType"]), (&json!("inbound-rtp"), &json!("video/VP8")));
    }
    let streams = watcher.protoo().request("getConsumerStats", json!({"consumerId": consumer})).await.unwrap();
    assert_eq!((&streams[0]["type"], &streams[1]["type"]), (&json!("outbound-rtp"), &json!("inbound-rtp")));
    assert!(streams[0]["packetCount"].as_u64() > Some(0), "{streams}");
    let transport = watcher.transport_id(false).await;
    let told = watcher.protoo().request("getTransportStats", json!({"transportId": transport})).await.unwrap();
    let number = |field: &str| told[0][field].as_u64().unwrap();
    assert!(number("rtpBytesSent") > 0 && number("rtpBytesSent") < number("bytesSent"), "{told}");
    assert!(told[0]["iceSelectedTuple"]["localPort"].as_u64() > Some(0), "{told}");
}

/// A trace of a peer that is read, from behind the answer's header on.
struct Trace(tokio::io::Lines<BufReader<TcpStream>>);

impl Trace {
    async fn begin(node: &Node, peer: &str, query: &str) -> Self {
        let mut stream = TcpStream::connect(node.config().admin.listen).await.unwrap();
        let path = format!("/v1/rooms/default/room/peers/{peer}/trace?{query}");
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(stream).lines();
        let mut header = String::new();
        while let Some(line) = lines.next_line().await.unwrap().filter(|line| !line.is_empty()) {
            header += &line.to_lowercase();
        }
        assert!(header.contains("200 ok") && header.contains("application/x-ndjson"), "{header}");
        Self(lines)
    }

    /// The next event, sizes of chunks left out; `None` when it is over.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let line = timeout(SOON, self.0.next_line()).await.expect("it goes on").unwrap()?;
            if line.starts_with('{') {
                return Some(serde_json::from_str(&line).unwrap());
            }
        }
    }

    /// The next event of a type and direction.
    async fn event(&mut self, kind: &str, direction: &str) -> Value {
        loop {
            let event = self.next().await.expect("it goes on");
            if event["type"] == kind && event["direction"] == direction {
                return event;
            }
        }
    }
}

#[tokio::test]
async fn what_happens_to_the_packets_of_a_peer_can_be_read_meanwhile() {
    let (node, driver) = (lone_node().await, driver());
    let alice = join(&driver, &node, "room", "alice").await;
    let mut of_alice = Trace::begin(&node, "alice", "types=rtp,keyframe,sr&seconds=60").await;
    // What is made later is traced too.
    let production = alice.produce(VIDEO).await.unwrap();
    let transport = alice.transport_id(true).await;
    for kind in ["keyframe", "rtp", "sr"] {
        let event = of_alice.event(kind, "in").await;
        assert_eq!((&event["producerId"], &event["transportId"]), (&json!(production.id), &json!(transport)));
        assert!(event["timestamp"].as_u64() > Some(1_700_000_000_000), "{event}");
        let ssrc = if kind == "sr" { &event["info"]["ssrc"] } else { &event["info"]["rtpPacket"]["ssrc"] };
        assert!(ssrc.is_u64(), "{event}");
    }
    let watcher = watcher(&driver, &node, Watch::All).await;
    let mut of_watcher = Trace::begin(&node, "watcher", "types=rtp,bwe&seconds=60").await;
    let consumer = consumes(&watcher, "alice", Kind::Video).await;
    let packet = of_watcher.event("rtp", "out").await;
    assert_eq!((&packet["consumerId"], &packet["info"]["isRtx"]), (&json!(consumer), &json!(false)));
    let estimate = of_watcher.event("bwe", "out").await;
    assert!(estimate["info"]["availableBitrate"].as_u64() > Some(0), "{estimate}");

    alice.leave().await;
    while of_alice.next().await.is_some() {}
    node.shutdown().await;
    while of_watcher.next().await.is_some() {}
}

#[tokio::test]
async fn who_watches_one_gets_the_next_when_that_ends() {
    let (node, driver) = (lone_node().await, driver());
    let watcher = watcher(&driver, &node, Watch::First(1)).await;
    let alice = join(&driver, &node, "room", "alice").await;
    alice.produce(VIDEO).await.unwrap();
    let first = consumes(&watcher, "alice", Kind::Video).await;
    let bob = join(&driver, &node, "room", "bob").await;
    bob.produce(VIDEO).await.unwrap();
    let second = consumes(&watcher, "bob", Kind::Video).await;
    watcher.wait(SOON, "one is watched", |room| !room.consumers[&second].watched).await.unwrap();
    receives(&watcher, &first, "what is watched", |stats| stats.frames >= 20).await;
    // Whatever was under way has come: nothing more does.
    let before = watcher.consumer_stats(&second).await.unwrap().unwrap().packets;
    receives(&watcher, &first, "more of it", |stats| stats.frames >= 40).await;
    assert_eq!(watcher.consumer_stats(&second).await.unwrap().unwrap().packets, before);
    assert_eq!(tally(&watcher).await.video.sums.streams, 1);

    alice.leave().await;
    watcher.wait(SOON, "the other is watched", |room| room.consumers[&second].watched).await.unwrap();
    let stats = receives(&watcher, &second, "what was paused", |stats| stats.frames >= 20).await;
    assert!(stats.key_frames > 0, "{stats:?}");
}

#[tokio::test]
async fn a_scenario_goes_well_where_only_the_loudest_are_heard() {
    let node = lone_node_so(|config| config.media.last_n = 2).await;
    let text = format!(
        "ramp = \"1s\"\nduration = \"5s\"\n[[target.nodes]]\nurl = \"{}\"\n\
         [[rooms]]\n[[rooms.users]]\ncount = 6\naudio = true\n[slo]\nresidual_loss = 0\nfailed_joins = 0\n",
        url(&node)
    );
    let scenario = ScenarioFile::parse("loudest.toml", &text).unwrap().with(&Overrides::default()).unwrap();
    let results = run(&scenario, &RunOptions::default(), CancellationToken::new(), &mut Quiet).await.unwrap();
    assert_eq!((results.ended, results.joins.failures()), (Ended::Completed, 0));
    assert!(results.slo.iter().all(|objective| objective.met), "{:?}", results.slo);
    let audio = &results.steady[0].audio;
    assert_eq!((audio.streams, audio.lost, audio.freezes_500ms), (30, 0, 0), "{audio:?}");
    // Two of six, and these each the other one, at 50 packets a second: a third of what all would be.
    assert!((1_500..=3_000).contains(&audio.packets), "{audio:?}");
}

#[tokio::test]
async fn users_learn_that_their_server_is_gone() {
    let (node, driver) = (lone_node().await, driver());
    let user = join(&driver, &node, "room", "alice").await;
    user.connected().await.unwrap();
    node.shutdown().await;
    let end = tokio::time::timeout(SOON, user.ended()).await.unwrap();
    assert!(matches!(end, UserEnd::Closed(_)), "{end:?}");
}
