//! How many instructions the media core takes to forward a packet, counted by valgrind's callgrind: beside figures of
//! time, which are noisy, one that is the same on every run. `deploy/instructions.sh` runs it and compares.
//!
//! `cargo bench -p sluice-media --bench instructions -- <case>` makes the run that is to be counted and prints how many
//! packets it forwarded; what counts is [`measured`].
#![allow(missing_docs, reason = "a benchmark")]

#[path = "../tests/allocations/fan_out.rs"]
mod fan_out;

use std::process::ExitCode;

use fan_out::{BURST, Core, Publisher};
use sluice_mesh::Frame;

/// To 50 receivers, packets of video and, where encryption weighs least, of audio's size; to one; and by a route to
/// another core.
const CASES: [&str; 4] = ["fan-out-50", "fan-out-50-small", "fan-out-1", "route"];

const PAYLOAD_LEN: usize = 1_160;
const SMALL_PAYLOAD_LEN: usize = 80;

/// Six seconds, with reports, key frames and all else that comes by the second.
const BURSTS: usize = 300;

/// What is forwarded.
struct Run {
    home: Core,
    /// Where it goes by a route, if it does.
    away: Option<Core>,
    publisher: Publisher,
    /// Packets that a burst makes.
    packets: usize,
}

impl Run {
    fn new(case: &str) -> Option<Self> {
        let (receivers, payload_len, away) = match case {
            "fan-out-50" => (50, PAYLOAD_LEN, None),
            "fan-out-50-small" => (50, SMALL_PAYLOAD_LEN, None),
            "fan-out-1" => (1, PAYLOAD_LEN, None),
            "route" => (0, PAYLOAD_LEN, Some(Core::new())),
            _ => return None,
        };
        let mut home = Core::new();
        let publisher = home.add_publisher(payload_len);
        home.add_receivers(receivers);
        let mut run = Self { home, away, publisher, packets: BURST * receivers.max(1) };
        if let Some(away) = &mut run.away {
            run.home.add_route_out();
            away.add_route_in();
        }
        Some(run)
    }

    fn forward(&mut self, bursts: usize) {
        let (mut burst, mut frames) = (Default::default(), Vec::new());
        for _ in 0..bursts {
            self.publisher.seal(&mut burst);
            measured(&mut self.home, self.away.as_mut(), &self.publisher, &mut burst, &mut frames);
        }
    }
}

/// The core's part of a burst: what is counted.
#[inline(never)]
fn measured(
    home: &mut Core,
    away: Option<&mut Core>,
    publisher: &Publisher,
    burst: &mut [Vec<u8>; BURST],
    frames: &mut Vec<Frame>,
) {
    home.forward(publisher, burst, frames);
    if let Some(away) = away {
        away.receive(frames);
    }
}

fn main() -> ExitCode {
    // Cargo adds a flag of its own.
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let cases = if asked.is_empty() { CASES.map(str::to_owned).to_vec() } else { asked };
    for case in cases {
        let Some(mut run) = Run::new(&case) else {
            eprintln!("there is no case {case:?}, but {CASES:?}");
            return ExitCode::FAILURE;
        };
        run.forward(BURSTS);
        println!("{}", run.packets * BURSTS);
    }
    ExitCode::SUCCESS
}
