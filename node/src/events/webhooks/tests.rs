//! Deliveries to receivers that are slow, down or answer 500: scripted ones on virtual time, and a real one behind a
//! socket.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, digest};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::post;
use serde_json::{Value, json};
use sluice_proto::ids::{NamespaceId, RoomId};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::post::{PostError, Receiver};
use super::*;
use crate::config::Secret;
use crate::support::{lock, unix_ms};

/// Far longer than anything takes on a real clock.
const PATIENCE: Duration = Duration::from_secs(60);

fn limits() -> DeliveryLimits {
    DeliveryLimits { queue_bytes: 1 << 20, concurrency: 4, max_age: Duration::from_secs(24 * 3_600) }
}

/// The event with this number of a room.
fn event(room: &str, number: u32) -> Outgoing {
    let body = json!({"id": format!("{room}-{number}"), "timeMs": unix_ms(), "namespace": "n", "room": room,
        "number": number});
    let room = RoomKey { namespace: NamespaceId::new("n").unwrap(), room: RoomId::new(room).unwrap() };
    Outgoing { room, body: body.to_string().into() }
}

/// A delivery, as one life of a node has it.
struct Life {
    webhooks: Webhooks,
    task: JoinHandle<()>,
}

impl Life {
    fn begin(dir: Option<&Path>, limits: DeliveryLimits, receiver: impl Receiver) -> Self {
        let (webhooks, events) = Webhooks::unsent();
        let counters = webhooks.counters.clone();
        let delivery = Delivery::open(dir.map(Path::to_owned), limits, receiver, counters).unwrap();
        let task = tokio::spawn(delivery.run(events, webhooks.stop.clone()));
        Self { webhooks, task }
    }

    fn tell(&self, room: &str, numbers: std::ops::Range<u32>) {
        numbers.for_each(|number| self.webhooks.tell(event(room, number)));
    }

    fn counted(&self, counter: fn(&WebhookCounters) -> &AtomicU64) -> u64 {
        counter(self.webhooks.counters()).load(Ordering::Relaxed)
    }

    /// Nothing tells it that it ends.
    async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A receiver without a network.
#[derive(Clone, Default)]
struct Scripted {
    state: Arc<Mutex<Script>>,
    news: Arc<Notify>,
}

#[derive(Default)]
struct Script {
    taken: Vec<String>,
    /// Rooms of which nothing is taken.
    refused: HashSet<String>,
    /// When something was asked for, of rooms of which nothing is taken.
    asked: Vec<Instant>,
    under_way: HashSet<String>,
}

impl Receiver for Scripted {
    async fn post(&self, id: &str, _: Bytes) -> Result<(), PostError> {
        let room = id.split_once('-').unwrap().0.to_owned();
        assert!(lock(&self.state).under_way.insert(room.clone()), "one event of a room at a time");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let state = &mut *lock(&self.state);
        state.under_way.remove(&room);
        if state.refused.contains(&room) {
            state.asked.push(Instant::now());
            return Err(PostError::Status(500));
        }
        state.taken.push(id.to_owned());
        self.news.notify_waiters();
        Ok(())
    }
}

impl Scripted {
    fn refuse(&self, rooms: &[&str]) {
        lock(&self.state).refused = rooms.iter().map(|room| (*room).to_owned()).collect();
    }

    /// Waits until so much was taken; what it was.
    async fn taken(&self, count: usize) -> Vec<String> {
        loop {
            let news = self.news.notified();
            let taken = lock(&self.state).taken.clone();
            if taken.len() >= count {
                return taken;
            }
            news.await;
        }
    }
}

/// The numbers of a room's events, in the order in which they were taken.
fn numbers(taken: &[String], room: &str) -> Vec<u32> {
    let of_room = taken.iter().filter_map(|id| id.strip_prefix(room)?.strip_prefix('-'));
    of_room.map(|number| number.parse().unwrap()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_room_that_is_refused_holds_no_other_back_and_keeps_its_order() {
    let receiver = Scripted::default();
    receiver.refuse(&["bad"]);
    let life = Life::begin(None, limits(), receiver.clone());
    life.tell("bad", 0..20);
    life.tell("good", 0..20);
    let taken = receiver.taken(20).await;
    assert_eq!(numbers(&taken, "good"), (0..20).collect::<Vec<_>>());
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let asked = lock(&receiver.state).asked.clone();
    let gaps: Vec<_> = asked.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    assert!((0.5..1.1).contains(&gaps[0]) && gaps.iter().all(|gap| *gap < 121.0), "{gaps:?}");
    assert!((30..80).contains(&asked.len()), "an hour of waits of one to two minutes: {}", asked.len());
    receiver.refuse(&[]);
    assert_eq!(numbers(&receiver.taken(40).await, "bad"), (0..20).collect::<Vec<_>>());
    assert_eq!(life.counted(|c| &c.failed), asked.len() as u64);
    life.webhooks.stop.cancel();
    life.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_given_up_and_counted() {
    let receiver = Scripted::default();
    receiver.refuse(&["bad"]);
    let max_age = Duration::from_secs(600);
    let life = Life::begin(None, DeliveryLimits { max_age, ..limits() }, receiver.clone());
    life.tell("bad", 0..3);
    tokio::time::sleep(2 * max_age).await;
    assert_eq!((life.counted(|c| &c.expired), life.counted(|c| &c.pending)), (3, 0));
    receiver.refuse(&[]);
    life.tell("bad", 3..4);
    assert_eq!(receiver.taken(1).await, ["bad-3"]);
    life.webhooks.stop.cancel();
    life.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_gives_up_the_oldest_and_counts_them() {
    let receiver = Scripted::default();
    receiver.refuse(&["bad"]);
    let life = Life::begin(None, DeliveryLimits { queue_bytes: 65_536, ..limits() }, receiver.clone());
    for batch in 0..20 {
        life.tell("bad", 100 * batch..100 * (batch + 1));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let (dropped, pending) = (life.counted(|c| &c.dropped), life.counted(|c| &c.pending));
    assert!(dropped > 0 && dropped + pending == 2_000 && life.counted(|c| &c.queue_bytes) <= 65_536);
    receiver.refuse(&[]);
    let taken = numbers(&receiver.taken(pending as usize).await, "bad");
    assert_eq!(taken, (dropped as u32..2_000).collect::<Vec<_>>(), "the newest, in order");
    life.webhooks.stop.cancel();
    life.task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_place_before_the_disk_is_counted() {
    let (webhooks, mut events) = Webhooks::unsent();
    for number in 0..QUEUE as u32 + 5 {
        webhooks.tell(event("room", number));
    }
    assert_eq!(webhooks.counters().lost.load(Ordering::Relaxed), 5);
    assert!(events.recv().await.is_some());
}

#[tokio::test]
async fn a_life_that_is_killed_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for round in 0..3 {
        let receiver = Scripted::default();
        receiver.refuse(&["bad"]);
        let life = Life::begin(Some(dir.path()), limits(), receiver.clone());
        life.tell("good", 50 * round..50 * (round + 1));
        life.tell("bad", 50 * round..50 * (round + 1));
        let before = life.webhooks.counters.clone();
        // Some are delivered, some are under way, some wait.
        all.extend(receiver.taken(10).await);
        while before.pending.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        life.kill().await;
    }
    let receiver = Scripted::default();
    let life = Life::begin(Some(dir.path()), limits(), receiver.clone());
    life.webhooks.stop.cancel();
    life.task.await.unwrap();
    let last = lock(&receiver.state).taken.clone();
    assert_eq!(numbers(&last, "bad"), (0..150).collect::<Vec<_>>());
    let rest = numbers(&last, "good");
    assert!(rest.windows(2).all(|pair| pair[0] < pair[1]), "in order: {rest:?}");
    all.extend(last);
    let all: HashSet<u32> = numbers(&all, "good").into_iter().collect();
    assert_eq!(all.len(), 150, "each at least once");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file stays");
}

const KEY: &str = "a-key-for-the-tests";

/// A real receiver's state: what it took, by room, and what it answers next.
#[derive(Default)]
struct Server {
    taken: Mutex<HashMap<String, Vec<u64>>>,
    answers: Mutex<Vec<Answer>>,
    news: Notify,
}

#[derive(Clone, Copy)]
enum Answer {
    Status(u16),
    /// None within the delivery's patience.
    Never,
    Redirect,
    /// More than anybody wants to read.
    Endless,
}

/// HMAC-SHA256 as RFC 2104 writes it.
fn hmac_sha256(key: &[u8], text: &[u8]) -> String {
    let mut block = [0; 64];
    block[..key.len()].copy_from_slice(key);
    let inner = digest(&SHA256, &[&block.map(|byte| byte ^ 0x36)[..], text].concat());
    let outer = digest(&SHA256, &[&block.map(|byte| byte ^ 0x5c)[..], inner.as_ref()].concat());
    outer.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn receive(State(server): State<Arc<Server>>, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, timestamp) = (header("sluice-event-id"), header("sluice-timestamp"));
    let signed = [format!("{timestamp}.{id}.").as_bytes(), &body].concat();
    assert_eq!(header("sluice-signature"), format!("v1={}", hmac_sha256(KEY.as_bytes(), &signed)));
    assert!(unix_ms() / 1_000 - timestamp.parse::<u64>().unwrap() < 60);
    assert_eq!(header("content-type"), "application/json");
    let event: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(event["id"], id);
    let answer = lock(&server.answers).pop();
    match answer {
        Some(Answer::Status(status)) => return StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Never) => std::future::pending().await,
        Some(Answer::Redirect) => return Redirect::temporary("/").into_response(),
        Some(Answer::Endless) | None => {}
    }
    let number = event["number"].as_u64().unwrap();
    lock(&server.taken).entry(event["room"].as_str().unwrap().to_owned()).or_default().push(number);
    server.news.notify_waiters();
    match answer {
        Some(Answer::Endless) => axum::body::Body::from_stream(futures_util::stream::repeat_with(|| {
            Ok::<_, io::Error>(Bytes::from_static(&[b'x'; 1_024]))
        }))
        .into_response(),
        _ => StatusCode::NO_CONTENT.into_response(),
    }
}

impl Server {
    async fn taken(&self, count: usize) -> HashMap<String, Vec<u64>> {
        let waiting = async {
            loop {
                let news = self.news.notified();
                let taken = lock(&self.taken).clone();
                if taken.values().map(Vec::len).sum::<usize>() >= count {
                    return taken;
                }
                news.await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("all is delivered")
    }
}

fn http_receiver(port: u16) -> HttpReceiver {
    let url = format!("http://127.0.0.1:{port}/hooks?of=tests").parse().unwrap();
    let key: Secret = crate::config::SettingValue::parse(KEY).unwrap();
    HttpReceiver::new(&url, &key, Duration::from_millis(300)).unwrap()
}

fn serve(listener: TcpListener) -> Arc<Server> {
    let server = Arc::new(Server::default());
    let router = Router::new().route("/hooks", post(receive)).with_state(server.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });
    server
}

#[tokio::test]
async fn a_receiver_that_was_down_slow_and_in_trouble_gets_everything_in_order() {
    let dir = tempfile::tempdir().unwrap();
    // Bound and not listened on: nobody answers there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let life = Life::begin(Some(dir.path()), limits(), http_receiver(port));
    life.tell("a", 0..1);
    while life.counted(|c| &c.failed) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let server = serve(socket.listen(64).unwrap());
    let trouble = [Answer::Status(500), Answer::Never, Answer::Redirect, Answer::Status(404), Answer::Endless];
    *lock(&server.answers) = trouble.to_vec();
    for room in ["a", "b", "c", "d", "e"] {
        life.tell(room, 1..20);
    }
    let taken = server.taken(96).await;
    assert_eq!(taken["a"], (0..20).collect::<Vec<_>>());
    for room in ["b", "c", "d", "e"] {
        assert_eq!(taken[room], (1..20).collect::<Vec<_>>(), "{room}");
    }
    life.webhooks.stop.cancel();
    life.task.await.unwrap();
}

#[tokio::test]
async fn a_node_that_stops_delivers_its_last_events_and_keeps_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = serve(listener);
    let config = |port| WebhooksConfig {
        url: Some(format!("http://127.0.0.1:{port}/hooks").parse().unwrap()),
        key: crate::config::SettingValue::parse(KEY),
        ..WebhooksConfig::default()
    };
    let webhooks = Webhooks::start(&config(port), Some(dir.path()), &Vitals::default()).unwrap().unwrap();
    webhooks.tell(event("room", 0));
    webhooks.shutdown().await;
    assert_eq!(lock(&server.taken)["room"], [0]);

    let webhooks = Webhooks::start(&config(1), Some(dir.path()), &Vitals::default()).unwrap().unwrap();
    webhooks.tell(event("room", 1));
    webhooks.shutdown().await;
    let webhooks = Webhooks::start(&config(port), Some(dir.path()), &Vitals::default()).unwrap().unwrap();
    assert_eq!(server.taken(2).await["room"], [0, 1]);
    drop(webhooks);
    assert!(Webhooks::start(&WebhooksConfig::default(), None, &Vitals::default()).unwrap().is_none());
}
