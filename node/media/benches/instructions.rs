//! How many instructions the media core takes to forward a packet, counted by valgrind's callgrind: beside figures of
//! time, which are noisy, one that is the same on every run. `deploy/instructions.sh` runs it and compares.
//!
//! `cargo bench -p sluice-media --bench instructions -- <case>` makes the run that is to be counted and prints how many
//! packets it forwarded; what counts is [`measured`].
#![allow(missing_docs, reason = "a benchmark")]

#[path = "../tests/allocations/fan_out.rs"]
mod fan_out;

use std::process::ExitCode;

use fan_out::{BURST, Core, Feedback, Publisher, Video};
use sluice_mesh::Frame;

/// To 50 receivers, packets of video, those of some of its layers and, where encryption weighs least, packets of
/// audio's size; to as many that tell what arrives, which is read in it; to one; and by a route to another core.
const CASES: [&str; 6] =
    ["fan-out-50", "fan-out-50-layers", "fan-out-50-small", "fan-out-50-estimated", "fan-out-1", "route"];

const PAYLOAD_LEN: usize = 1_160;
const SMALL_PAYLOAD_LEN: usize = 80;

/// Six seconds, with reports, key frames and all else that comes by the second.
const BURSTS: usize = 300;

/// Bursts that one feedback tells of: those of 100 ms.
const BURSTS_TOLD: usize = 5;

/// What is forwarded.
struct Run {
    home: Core,
    /// Where it goes by a route, if it does.
    away: Option<Core>,
    publisher: Publisher,
    /// What the receivers tell, if they do.
    feedback: Option<Feedback>,
    /// Packets that a burst makes.
    packets: usize,
}

impl Run {
    fn new(case: &str) -> Option<Self> {
        let (video, receivers, payload_len) = match case {
            "fan-out-50" | "fan-out-50-estimated" => (Video::Plain, 50, PAYLOAD_LEN),
            "fan-out-50-layers" => (Video::Layered, 50, PAYLOAD_LEN),
            "fan-out-50-small" => (Video::Plain, 50, SMALL_PAYLOAD_LEN),
            "fan-out-1" => (Video::Plain, 1, PAYLOAD_LEN),
            "route" => (Video::Plain, 0, PAYLOAD_LEN),
            _ => return None,
        };
        let away = (receivers == 0).then(|| Core::new(video));
        let mut home = Core::new(video);
        let publisher = home.add_publisher(payload_len);
        home.add_receivers(receivers);
        let feedback = (case == "fan-out-50-estimated").then(|| Feedback::new(receivers));
        let mut run = Self { home, away, publisher, feedback, packets: video.packets_sent() * receivers.max(1) };
        if let Some(away) = &mut run.away {
            run.home.add_route_out();
            away.add_route_in();
        }
        Some(run)
    }

    fn forward(&mut self, bursts: usize) {
        let (mut burst, mut frames) = (Default::default(), Vec::new());
        for number in 1..=bursts {
            self.publisher.seal(&mut burst);
            let feedback = self.feedback.as_mut().filter(|_| number % BURSTS_TOLD == 0);
            let mut told = feedback.map(|feedback| feedback.seal(BURSTS_TOLD as u16)).unwrap_or_default();
            measured(&mut self.home, self.away.as_mut(), &self.publisher, &mut burst, &mut told, &mut frames);
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
    told: &mut [(usize, Vec<u8>)],
    frames: &mut Vec<Frame>,
) {
    home.forward(publisher, burst, frames);
    if !told.is_empty() {
        home.receive_rtcp(told);
    }
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
