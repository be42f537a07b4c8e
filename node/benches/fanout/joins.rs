//! Thousands of users who join one room and publish nothing: signalling alone.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use sluice_loadtest::media::Histogram;
use sluice_loadtest::signalling::ProtooClient;
use tokio::task::JoinSet;

use crate::busy::Busy;
use crate::server::{Server, free_udp};
use crate::usage::{process_time, resident_bytes};

const USERS: usize = 5_000;

/// Joins that are under way at a time.
const AT_ONCE: usize = 16;

/// How long they may take to leave.
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// How long what they left behind may take to be given back.
const SETTLE: Duration = Duration::from_secs(3);

pub(crate) async fn run() {
    println!("joins: {USERS} users into one room, {AT_ONCE} at a time");
    let server = Server::start("bench", free_udp(), &[]).await;
    let (before, busy, start) = (resident_bytes(server.pid()), Busy::read(&server).await, Instant::now());
    let (mut joining, mut users, mut delays) = (JoinSet::new(), Vec::new(), Histogram::default());
    for number in 0..USERS {
        if joining.len() == AT_ONCE {
            take(&mut joining, &mut users, &mut delays).await;
        }
        joining.spawn(join(format!("{}/?roomId=room&peerId=peer-{number}", server.url())));
        if number % 1_000 == 999 {
            progress(&server, number + 1, start, before);
        }
    }
    while !joining.is_empty() {
        take(&mut joining, &mut users, &mut delays).await;
    }
    let (joined, cpu) = (start.elapsed(), process_time(server.pid()));
    println!(
        "  {:.0} joins/s, join p50 {:.1} ms, p99 {:.1} ms; {:.1} s of the node's processor; {:.1} KB a user",
        USERS as f64 / joined.as_secs_f64(),
        milliseconds(&delays, 0.5),
        milliseconds(&delays, 0.99),
        cpu.as_secs_f64(),
        (resident_bytes(server.pid()).saturating_sub(before)) as f64 / USERS as f64 / 1e3,
    );
    let steps = Busy::read(&server).await.in_steps_since(&busy);
    println!(
        "  the room's own task took {:.2} s of that, {:.1}%: {:.0} us a join",
        steps.as_secs_f64(),
        steps.as_secs_f64() / cpu.as_secs_f64() * 100.0,
        steps.as_secs_f64() / USERS as f64 * 1e6,
    );
    let start = Instant::now();
    join_all(users.iter().map(ProtooClient::close)).await;
    while server.peers().await > 0 {
        assert!(start.elapsed() < GONE_WITHIN, "who closes its connection leaves");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let gone = start.elapsed();
    tokio::time::sleep(SETTLE).await;
    let left = process_time(server.pid()) - cpu;
    println!(
        "  all gone after {:.1} s: {:.1} s of the node's processor more, {:.1} MB more than at first",
        gone.as_secs_f64(),
        left.as_secs_f64(),
        resident_bytes(server.pid()).saturating_sub(before) as f64 / 1e6,
    );
}

pub(crate) fn milliseconds(delays: &Histogram, quantile: f64) -> f64 {
    delays.quantile(quantile).map_or(f64::NAN, |delay| delay.as_secs_f64() * 1e3)
}

fn progress(server: &Server, users: usize, start: Instant, before: u64) {
    println!(
        "  {users} asked after {:.1} s, {:.1} s of the node's processor, {:.1} MB",
        start.elapsed().as_secs_f64(),
        process_time(server.pid()).as_secs_f64(),
        resident_bytes(server.pid()).saturating_sub(before) as f64 / 1e6,
    );
}

async fn take(joining: &mut JoinSet<(ProtooClient, Duration)>, users: &mut Vec<ProtooClient>, delays: &mut Histogram) {
    if let Some(joined) = joining.join_next().await {
        let (user, delay) = joined.expect("joining does not panic");
        users.push(user);
        delays.record(delay);
    }
}

/// From the WebSocket's opening to the answer to `join`.
pub(crate) async fn join(url: String) -> (ProtooClient, Duration) {
    let start = Instant::now();
    let (user, mut incoming) = ProtooClient::connect(&url, None, None).await.expect("connecting");
    tokio::spawn(async move { while incoming.recv().await.is_some() {} });
    user.request("join", json!({"displayName": "A name", "device": {"flag": "bench"}})).await.expect("joining");
    (user, start.elapsed())
}
