//! A bulk transfer as TCP makes it (Reno): it sends what its window allows, which grows by a packet a round trip, and
//! is halved when one gets lost.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sluice_mesh::wan::{Decision, Impairment};

const PACKET: usize = 1_500;
/// How long an acknowledgement is under way, and after how long a loss is noticed.
const BACK: Duration = Duration::from_millis(20);

/// The sender.
pub(super) struct Tcp {
    window: f64,
    threshold: f64,
    in_flight: usize,
    /// When it is known of a packet whether it arrived.
    answers: VecDeque<(Instant, bool)>,
    halved_at: Option<Instant>,
    /// Bytes that arrived.
    pub(super) delivered: u64,
}

impl Tcp {
    pub(super) fn new() -> Self {
        let answers = VecDeque::new();
        Self { window: 10.0, threshold: f64::MAX, in_flight: 0, answers, halved_at: None, delivered: 0 }
    }

    pub(super) fn run(&mut self, now: Instant, path: &mut Impairment) {
        self.answers.make_contiguous().sort_by_key(|(at, _)| *at);
        while self.answers.front().is_some_and(|(at, _)| *at <= now) {
            let (_, arrived) = self.answers.pop_front().expect("there is one");
            self.in_flight -= 1;
            if arrived {
                self.delivered += PACKET as u64;
                self.window += if self.window < self.threshold { 1.0 } else { 1.0 / self.window };
            } else if self.halved_at.is_none_or(|at| now - at > Duration::from_millis(150)) {
                self.halved_at = Some(now);
                self.window = (self.window / 2.0).max(2.0);
                self.threshold = self.window;
            }
        }
        while (self.in_flight as f64) < self.window {
            self.in_flight += 1;
            self.answers.push_back(match path.submit(now, PACKET) {
                Decision::Deliver { at, .. } => (at + BACK, true),
                Decision::Drop(_) => (now + Duration::from_millis(150), false),
            });
        }
    }
}
