//! 10 Mbit/s wanted, 5 Mbit/s to be had: the pipe sheds layers and says so, audio stays whole, and the queue stays
//! short.
#![cfg(feature = "io")]

mod common;

use std::time::Duration;

use common::stream::{AUDIO, ReceivingWorker, SendingWorker, Source, percentile};
use common::{Cluster, Linked, linked_over};
use sluice_mesh::wan::{ImpairmentConfig, Loss, Rate};

const ONE_WAY: Duration = Duration::from_millis(40);

/// The time in which the pipe may find out.
const SETTLE: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_are_shed_and_audio_is_whole() {
    // 200 ms of queue before the bottleneck, as much as cheap routers have at least.
    let rate = Some(Rate { bits_per_second: 5_000_000, queue_bytes: 125_000 });
    let path = ImpairmentConfig { delay: ONE_WAY, loss: Loss::Random(0.01), rate, ..Default::default() };
    let Linked { a, key_of_b, b, key_of_a, path, _relay } = linked_over(&Cluster::new(), path, 1).await;
    let (worker, routes) = ReceivingWorker::start(&b.mesh, key_of_a, 6);
    let video = Source { size: 1200, packets: 5, every: 2, video: true };
    let mut sources: Vec<_> = routes[..4].iter().map(|&route| (route, video)).collect();
    sources.extend(routes[4..].iter().map(|&route| (route, AUDIO)));
    let mut sender = SendingWorker::new(a.mesh.clone(), key_of_b, &sources);
    sender.run(Duration::from_secs(8)).await;
    let wanted = sender.sent();
    sender.run(Duration::from_millis(1500)).await;

    let delays = worker.delays_ms(SETTLE);
    let (median, p99, worst) = (percentile(&delays, 0.5), percentile(&delays, 0.99), percentile(&delays, 1.0));
    println!(
        "one way, settled: median {median:.1} ms, 99% {p99:.1} ms, worst {worst:.1} ms; path {:?}",
        path.forward.stats()
    );
    println!("{:?}", a.status("b"));
    let mut used = 0;
    for (&route, wanted) in routes.iter().zip(&wanted) {
        let (stats, shed) = (worker.stats(route), worker.with(route, |receiving| receiving.shed));
        println!("{route:?}: sent {wanted}, shed {shed}, {stats:?}");
        used += worker.with(route, |receiving| receiving.used);
    }
    for (&route, &wanted) in routes.iter().zip(&wanted).skip(4) {
        let stats = worker.stats(route);
        assert!(stats.lost == 0 && stats.received >= wanted, "audio: {stats:?} of {wanted}");
        assert_eq!(worker.with(route, |receiving| receiving.shed), 0);
    }
    assert!(a.dropped("shed") > 0);
    let told = worker.layers_told();
    println!("told: {told:?}");
    assert!(told.iter().any(|(_, carried)| carried.is_none_or(|layers| layers.temporal < 2)), "{told:?}");
    let carried = used as f64 * 1200.0 * 8.0 / 9.5;
    assert!(carried > 2_000_000.0, "the pipe uses what there is: {carried:.0} bit/s");
    assert!(p99 - 40.0 < 150.0, "{p99:.1} ms");
}
