//! A node dies that had half of a large room: what the other half notices.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_loadtest::media::Histogram;
use sluice_loadtest::signalling::ProtooClient;
use tokio::task::JoinSet;

use crate::busy::Busy;
use crate::joins::milliseconds;
use crate::meeting::mesh_arguments;
use crate::server::{Server, free_udp};
use crate::usage::process_time;

/// Users of each node, who only signal.
const USERS: usize = 2_500;

/// Joins that are under way at a time.
const AT_ONCE: usize = 16;

/// How long the survivors are watched: death is told after a second or two, and consumers of it for seconds.
const WATCHED: Duration = Duration::from_secs(15);

/// Between two requests of one survivor, by which it is seen how long the node is busy with something else.
const ASKED_EVERY: Duration = Duration::from_millis(2);

pub(crate) async fn run() {
    println!("death: {USERS} users on each of two nodes in one room, of which one is killed");
    let directory = tempfile::tempdir().expect("a directory");
    let (first, second) = (free_udp(), free_udp());
    let dies = mesh_arguments(&directory, "dies", second);
    let lives = mesh_arguments(&directory, "lives", first);
    let (dies, lives) = tokio::join!(Server::start("dies", first, &dies), Server::start("lives", second, &lives));
    let closed = Arc::new(AtomicUsize::new(0));
    let (gone, survivors) = (fill(&dies, "dies", &Arc::default()).await, fill(&lives, "lives", &closed).await);
    let calm = ask(&survivors[0], WATCHED / 3).await;
    let (before, busy) = (process_time(lives.pid()), Busy::read(&lives).await);
    drop(dies);
    let watched = ask(&survivors[0], WATCHED).await;
    let cpu = process_time(lives.pid()) - before;
    println!(
        "  a survivor's requests: before p50 {:.2} ms, p99 {:.2} ms, longest {:.2} ms; meanwhile {:.2}, {:.2}, {:.2} ms",
        milliseconds(&calm, 0.5),
        milliseconds(&calm, 0.99),
        calm.max().as_secs_f64() * 1e3,
        milliseconds(&watched, 0.5),
        milliseconds(&watched, 0.99),
        watched.max().as_secs_f64() * 1e3,
    );
    Busy::read(&lives).await.print_since(&busy);
    println!(
        "  {} of {} survivors were closed; {:.1} s of the node's processor",
        closed.load(Ordering::Relaxed),
        survivors.len(),
        cpu.as_secs_f64(),
    );
    drop(gone);
}

/// Joins a node's users. `closed` counts those whose connection ends.
async fn fill(server: &Server, name: &str, closed: &Arc<AtomicUsize>) -> Vec<ProtooClient> {
    let (mut joining, mut users) = (JoinSet::new(), Vec::new());
    for number in 0..USERS {
        if joining.len() == AT_ONCE {
            users.extend(joining.join_next().await.map(|joined| joined.expect("joining does not panic")));
        }
        joining.spawn(join(format!("{}/?roomId=room&peerId={name}-{number}", server.url()), closed.clone()));
    }
    users.extend(joining.join_all().await);
    users
}

async fn join(url: String, closed: Arc<AtomicUsize>) -> ProtooClient {
    let (user, mut incoming) = ProtooClient::connect(&url, None, None).await.expect("connecting");
    tokio::spawn(async move {
        while incoming.recv().await.is_some() {}
        closed.fetch_add(1, Ordering::Relaxed);
    });
    user.request("join", json!({"displayName": "A name", "device": {"flag": "bench"}})).await.expect("joining");
    user
}

/// How long each of many requests takes.
async fn ask(user: &ProtooClient, time: Duration) -> Histogram {
    let (mut delays, start) = (Histogram::default(), Instant::now());
    while start.elapsed() < time {
        let asked = Instant::now();
        user.request("getPeers", json!({"limit": 1})).await.expect("an answer");
        delays.record(asked.elapsed());
        tokio::time::sleep(ASKED_EVERY).await;
    }
    delays
}
