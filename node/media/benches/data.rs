//! Data channels: reliable messages of 1 KiB, ordered, a hundred at a time.
//!
//! - *a bare pair*: two dcsctp sockets, of which one sends to the other, without DTLS: what SCTP itself takes.
//! - *through the core*: what the core takes from the datagrams of a publisher to those for its viewers,
//!   acknowledgements included: for one viewer as much SCTP as a bare pair has, one half of it at each side; and DTLS,
//!   and the way between.
//! - *across a pipe*: what each of two cores takes, the publisher's and the viewer's, for one half of a bare pair's
//!   SCTP and one end of a route. What the pipe itself takes, `data_hop` of mesh's benchmark `pipe` tells.
//!
//! `cargo bench -p sluice-media --bench data`
#![allow(missing_docs, reason = "criterion's macros make public items")]

#[path = "../tests/data/client.rs"]
#[allow(dead_code, reason = "what tests need of it")]
mod client;
#[path = "../tests/data/world.rs"]
#[allow(dead_code, reason = "what tests need of it")]
mod world;

use std::time::{Duration, Instant};

use client::BINARY;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use dcsctp::api::{DcSctpSocket, Message, Options, PpId, SendOptions, Socket, SocketEvent, SocketTime, StreamId};
use sluice_media::DataLimits;
use world::{World, reliable};

const LEN: usize = 1_024;
const BATCH: usize = 100;

#[allow(clippy::disallowed_methods, reason = "a benchmark")]
fn now() -> Instant {
    Instant::now()
}

fn benchmark(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("messages of 1 KiB");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("a bare pair", |bencher| {
        let mut pair = Pair::new();
        bencher.iter(|| pair.send(BATCH));
    });
    for viewers in [1, 10] {
        group.bench_function(format!("through the core, to {viewers}"), |bencher| {
            let mut world = through_the_core(viewers);
            bencher.iter_custom(|rounds| (0..rounds).map(|_| send(&mut world, viewers, 0)).sum());
        });
    }
    for (core, whose) in [(0, "publisher's"), (1, "viewer's")] {
        group.bench_function(format!("across a pipe, the {whose} core"), |bencher| {
            let mut world = across_a_pipe();
            bencher.iter_custom(|rounds| (0..rounds).map(|_| send(&mut world, 1, core)).sum());
        });
    }
    group.finish();
}

/// Two sockets that are connected.
struct Pair {
    sockets: [Socket; 2],
    time: Duration,
    received: usize,
}

impl Pair {
    fn new() -> Self {
        let socket = || Socket::new("", &Options::default());
        let mut pair = Self { sockets: [socket(), socket()], time: Duration::ZERO, received: 0 };
        pair.sockets[0].connect();
        pair.exchange();
        pair
    }

    fn send(&mut self, count: usize) {
        let wanted = self.received + count;
        for _ in 0..count {
            let message = Message::new(StreamId(1), PpId(BINARY), vec![7; LEN]);
            self.sockets[0].send(message, &SendOptions::default()).expect("room");
        }
        while self.received < wanted {
            self.exchange();
            self.time += Duration::from_millis(10);
            self.sockets.iter_mut().for_each(|socket| socket.advance_time(SocketTime::zero() + self.time));
        }
    }

    fn exchange(&mut self) {
        let mut is_quiet = false;
        while !is_quiet {
            is_quiet = true;
            for (from, to) in [(0, 1), (1, 0)] {
                while let Some(event) = self.sockets[from].poll_event() {
                    if let SocketEvent::SendPacket(packet) = event {
                        is_quiet = false;
                        self.sockets[to].handle_input(&packet);
                    }
                }
            }
            while self.sockets[1].get_next_message().is_some() {
                self.received += 1;
            }
        }
    }
}

/// Clients send as much as they like.
fn world(cores: usize) -> World {
    let limits = DataLimits { bitrate: u32::MAX, messages_per_second: 10_000_000, ..DataLimits::default() };
    World::with_limits(cores, 1, limits)
}

/// A publisher at one core, and a viewer of its stream 0 at another.
fn across_a_pipe() -> World {
    let mut world = world(2);
    let (publisher, viewer) = (world.add_client(0, true), world.add_client(1, true));
    world.produce(publisher, 1, reliable(0));
    world.route(1, (0, 1), 1, reliable(0));
    world.consume(viewer, 1, 1, reliable(0));
    world.stopwatch = Some(now);
    world
}

/// A publisher and viewers of what it sends on stream 0.
fn through_the_core(viewers: usize) -> World {
    let mut world = world(1);
    let publisher = world.add_client(0, true);
    world.produce(publisher, 1, reliable(0));
    for number in 0..viewers {
        let viewer = world.add_client(0, true);
        world.consume(viewer, number as u8, 1, reliable(0));
    }
    world.stopwatch = Some(now);
    world
}

/// How long one of the cores takes for a batch.
fn send(world: &mut World, viewers: usize, core: usize) -> Duration {
    let before = world.cores[core].spent;
    world.act(0, |client, now| (0..BATCH).for_each(|_| client.send(now, &reliable(0), BINARY, &[7; LEN])));
    let came = |world: &World| world.clients[1..].iter().all(|client| client.received.len() == BATCH);
    while !came(world) {
        world.pass(Duration::from_millis(10));
    }
    world.pass(Duration::from_millis(300));
    for viewer in 1..=viewers {
        world.clients[viewer].received.clear();
    }
    world.cores[core].spent - before
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
