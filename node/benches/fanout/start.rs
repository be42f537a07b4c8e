//! How long a node takes to be of use.

use std::time::Instant;

use crate::Options;
use crate::report::median;
use crate::server::{Server, free_udp};

/// Starts of which one counts as much as another; the first finds the binary cold and is left out.
const STARTS_PER_RUN: usize = 4;

pub(crate) async fn run(options: Options) {
    let mut times = Vec::new();
    for start in 0..=options.runs * STARTS_PER_RUN {
        let begin = Instant::now();
        let server = Server::start("start", free_udp(), &[]).await;
        if start > 0 {
            times.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        drop(server);
    }
    let slowest = times.iter().copied().fold(0.0, f64::max);
    println!("start to ready: median {:.1} ms, slowest {slowest:.1} ms ({} starts)", median(&times), times.len());
}
