//! 10 Mbit/s over a path of 80 ms (round trip) that loses 1% in each direction: all of it arrives, and nothing queues
//! up.
#![cfg(feature = "io")]

mod common;

use std::time::Duration;

use common::stream::{AUDIO, ReceivingWorker, SendingWorker, Source, percentile};
use common::{Cluster, Linked, linked_over};
use sluice_mesh::wan::{ImpairmentConfig, Loss};

const ONE_WAY: Duration = Duration::from_millis(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_arrives_and_nothing_queues() {
    let path = ImpairmentConfig { delay: ONE_WAY, loss: Loss::Random(0.01), ..Default::default() };
    let Linked { a, key_of_b, b, key_of_a, path, _relay } = linked_over(&Cluster::new(), path, 1).await;
    // Four videos of 2.5 Mbit/s and two of audio.
    let (worker, routes) = ReceivingWorker::start(&b.mesh, key_of_a, 6);
    let video = Source { size: 1200, packets: 5, every: 2, video: true };
    let video: Vec<_> = routes[..4].iter().map(|&route| (route, Source { packets: 5, ..video })).collect();
    let audio: Vec<_> = routes[4..].iter().map(|&route| (route, AUDIO)).collect();
    let mut sender = SendingWorker::new(a.mesh.clone(), key_of_b, &[video, audio].concat());
    sender.run(Duration::from_secs(8)).await;
    let wanted = sender.sent();
    // What follows shows the loss of the last ones.
    sender.run(Duration::from_millis(1500)).await;

    let delays = worker.delays_ms(Duration::ZERO);
    let (median, p995, worst) = (percentile(&delays, 0.5), percentile(&delays, 0.995), percentile(&delays, 1.0));
    println!(
        "one way: median {median:.1} ms, 99.5% {p995:.1} ms, worst {worst:.1} ms; path {:?}",
        path.forward.stats()
    );
    println!("{:?}", a.status("b"));
    for (route, wanted) in routes.into_iter().zip(wanted) {
        let stats = worker.stats(route);
        println!("{route:?}: sent {wanted}, {stats:?}");
        assert_eq!(stats.lost, 0);
        assert!(stats.received >= wanted && stats.repaired > 0 || wanted < 1000, "{stats:?} of {wanted}");
    }
    assert_eq!(a.dropped("shed"), 0, "the path has no limit");
    // The path takes 40 ms. What a busy machine adds to a few packets is not the pipe's queue.
    assert!(p995 - 40.0 < 150.0, "{p995:.1} ms");
}
