//! Everybody comes at once into one room: what that costs those who enter others.

use std::time::{Duration, Instant};

use serde_json::json;
use sluice_loadtest::media::Histogram;
use sluice_loadtest::signalling::ProtooClient;
use tokio::task::JoinSet;

use crate::joins::{join, milliseconds};
use crate::server::{Server, free_udp};
use crate::usage::process_time;

/// Who comes at once.
const USERS: usize = 2_000;

/// How often somebody enters another room meanwhile.
const OTHERS_INTERVAL: Duration = Duration::from_millis(20);

/// What is measured of the others at least, the storm included.
const OTHERS: usize = 200;

/// When somebody who was asked to come later does: as long as a node asks for, at most.
const COME_BACK: Duration = Duration::from_secs(4);

pub(crate) async fn run() {
    println!("storm: {USERS} users into one room at once, and one into a room of its own each {OTHERS_INTERVAL:?}");
    let server = Server::start("bench", free_udp(), &[]).await;
    let url = server.url();
    let calm = others(&url, "calm", async || false).await;
    println!("  before: others' join p50 {:.1} ms, p99 {:.1} ms", milliseconds(&calm, 0.5), milliseconds(&calm, 0.99));
    let (start, before) = (Instant::now(), process_time(server.pid()));
    let mut storm = JoinSet::new();
    for number in 0..USERS {
        storm.spawn(come(format!("{url}/?roomId=storm&peerId=peer-{number}")));
    }
    let storm = tokio::spawn(async move {
        let came = storm.join_all().await;
        (start.elapsed(), came.iter().map(|(_, refused)| refused).sum::<usize>(), came)
    });
    let meanwhile = others(&url, "meanwhile", async || !storm.is_finished()).await;
    let (took, refused, _came) = storm.await.expect("joining does not panic");
    let cpu = process_time(server.pid()) - before;
    println!(
        "  all in after {:.1} s, {refused} times asked to come later; {:.1} s of the node's processor",
        took.as_secs_f64(),
        cpu.as_secs_f64(),
    );
    println!(
        "  meanwhile: others' join p50 {:.1} ms, p99 {:.1} ms, of {}",
        milliseconds(&meanwhile, 0.5),
        milliseconds(&meanwhile, 0.99),
        meanwhile.count(),
    );
}

/// Enters as often as it takes, and how often it was refused.
async fn come(url: String) -> (ProtooClient, usize) {
    let mut refused = 0;
    loop {
        if let Ok((user, mut incoming)) = ProtooClient::connect(&url, None, None).await {
            tokio::spawn(async move { while incoming.recv().await.is_some() {} });
            let joined = user.request("join", json!({"displayName": "A name", "device": {"flag": "bench"}})).await;
            if joined.is_ok() {
                return (user, refused);
            }
        }
        refused += 1;
        tokio::time::sleep(COME_BACK.mul_f64(rand::random())).await;
    }
}

/// How long it takes to enter rooms that nobody is in, one after the other, as long as something goes on.
async fn others(url: &str, name: &str, goes_on: impl AsyncFn() -> bool) -> Histogram {
    let mut delays = Histogram::default();
    let mut number = 0;
    while number < OTHERS || goes_on().await {
        let (user, delay) = join(format!("{url}/?roomId={name}-{number}&peerId=other")).await;
        delays.record(delay);
        drop(user);
        number += 1;
        tokio::time::sleep(OTHERS_INTERVAL).await;
    }
    delays
}
