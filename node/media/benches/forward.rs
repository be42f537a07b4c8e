//! The hops of a packet within a node, per packet out: from a publisher through the router to 50 receivers, sealed and
//! ready to send; and from a publisher into a pipe and out of it on the other node. Bursts of 10 packets of 1,200
//! bytes, AES-128-GCM.
//!
//! `cargo bench -p sluice-media --bench forward`
#![allow(missing_docs, reason = "criterion's macros make public items")]

#[path = "../tests/allocations/fan_out.rs"]
mod fan_out;

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fan_out::{BURST, Core, Video};

const PAYLOAD_LEN: usize = 1_160;

fn benchmark(criterion: &mut Criterion) {
    fan_out_to(criterion, Video::Plain, 50);
    fan_out_to(criterion, Video::Layered, 50);
    fan_out_to(criterion, Video::Plain, 1);
    hop(criterion);
}

fn fan_out_to(criterion: &mut Criterion, video: Video, receivers: usize) {
    let mut group = criterion.benchmark_group("producer to router to consumers, sealed");
    group.throughput(Throughput::Elements((video.packets_sent() * receivers) as u64));
    let mut core = Core::new(video);
    let mut publisher = core.add_publisher(PAYLOAD_LEN);
    core.add_receivers(receivers);
    let (mut burst, mut frames) = (Default::default(), Vec::new());
    group.bench_function(format!("{receivers} consumers, {video:?}"), |bencher| {
        bencher.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                publisher.seal(&mut burst);
                total += timed(|| core.forward(&publisher, &mut burst, &mut frames));
            }
            total
        });
    });
    group.finish();
}

/// Per packet: received from the publisher and framed; and then received from the pipe and put into the other node's
/// cache.
fn hop(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("pipe hop");
    group.throughput(Throughput::Elements(BURST as u64));
    for side in ["producer to pipe", "pipe to producer"] {
        let (mut home, mut away) = (Core::new(Video::Plain), Core::new(Video::Plain));
        let mut publisher = home.add_publisher(PAYLOAD_LEN);
        home.add_route_out();
        away.add_route_in();
        let (mut burst, mut frames) = (Default::default(), Vec::new());
        group.bench_function(side, |bencher| {
            bencher.iter_custom(|rounds| {
                let (mut sending, mut receiving) = (Duration::ZERO, Duration::ZERO);
                for _ in 0..rounds {
                    publisher.seal(&mut burst);
                    sending += timed(|| home.forward(&publisher, &mut burst, &mut frames));
                    receiving += timed(|| away.receive(&mut frames));
                }
                if side == "producer to pipe" { sending } else { receiving }
            });
        });
    }
    group.finish();
}

/// How long it takes.
#[allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(step: impl FnOnce()) -> Duration {
    let start = Instant::now();
    step();
    start.elapsed()
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
