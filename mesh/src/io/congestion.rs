//! QUIC congestion control for media: a window that follows the queue before the bottleneck, and nothing else.
//!
//! What a pipe sends is given by cameras and held down by shedding; the window is the backstop. Most of the time there
//! is less to send than the window allows, which must not shrink it: quinn's BBR takes the little that was sent for
//! what the path carries and then holds back the next key frame, and anything based on loss starves at 1% of it
//! (Mathis).

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use crate::windowed::WindowedMin;

/// 200 packets, as quinn's BBR: 24 Mbit/s on a path of 80 ms from the first round trip on.
const INITIAL_WINDOW: u64 = 200 * 1200;

/// Enough for audio and control on any path, and for a small picture in one go.
const MIN_WINDOW: u64 = 32 * 1024;

/// 1 Gbit/s over half a second.
const MAX_WINDOW: u64 = 64 * 1024 * 1024;

/// A standing queue longer than this takes the window back. Shedding begins at half of it.
const QUEUE_LIMIT: Duration = Duration::from_millis(60);

/// Half a queue's time: the window that leaves this much of it.
const QUEUE_TARGET: Duration = Duration::from_millis(30);

/// Below this queue a window that is full may double within a round trip, above it grow by an eighth.
const QUEUE_NONE: Duration = Duration::from_millis(15);

/// A round trip in which less was acknowledged says nothing: a late acknowledgement of a keep-alive is no queue.
const MIN_ROUND: u64 = 16 * 1024;

/// Half-windows: of what is the path's own time, and of what queues at the moment. A queue that stands is in the lowest
/// of several samples, a late acknowledgement is not.
const BASE_WINDOW: Duration = Duration::from_secs(15);
const STANDING_WINDOW: Duration = Duration::from_millis(50);

/// Makes [`PipeController`]s.
#[derive(Debug, Default)]
pub(super) struct PipeControllerFactory;

impl ControllerFactory for PipeControllerFactory {
    fn build(self: Arc<Self>, now: Instant, _current_mtu: u16) -> Box<dyn Controller> {
        Box::new(PipeController::new(now))
    }
}

/// The controller of one path.
#[derive(Debug, Clone)]
pub(super) struct PipeController {
    window: u64,
    base: WindowedMin,
    standing: WindowedMin,
    delivered: u64,
    newest_sent: u64,
    round: Round,
}

/// From a packet's sending to its acknowledgement.
#[derive(Debug, Clone)]
struct Round {
    began: Instant,
    /// The round ends when this packet, or a later one, is acknowledged.
    until: u64,
    delivered_before: u64,
}

impl PipeController {
    fn new(now: Instant) -> Self {
        Self {
            window: INITIAL_WINDOW,
            base: WindowedMin::new(BASE_WINDOW),
            standing: WindowedMin::new(STANDING_WINDOW),
            delivered: 0,
            newest_sent: 0,
            round: Round { began: now, until: 0, delivered_before: 0 },
        }
    }

    fn on_acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        let sample = now.saturating_duration_since(sent);
        self.delivered += bytes;
        self.base.note(now, sample);
        self.standing.note(now, sample);
    }

    /// Bytes that the other end acknowledged.
    pub(super) fn delivered_bytes(&self) -> u64 {
        self.delivered
    }

    /// The lowest round-trip time of the last moments, before the first sample nothing.
    pub(super) fn standing_rtt(&self) -> Option<Duration> {
        self.standing.get()
    }

    fn end_round(&mut self, now: Instant, in_flight: u64) {
        let (Some(base), Some(standing)) = (self.base.get(), self.standing.get()) else { return };
        let delivered = self.delivered - self.round.delivered_before;
        if delivered >= MIN_ROUND {
            let queue = standing.saturating_sub(base);
            let seconds = now.saturating_duration_since(self.round.began).as_secs_f64().max(0.001);
            let fitting = |time: Duration| (delivered as f64 / seconds * time.as_secs_f64()) as u64;
            if queue > QUEUE_LIMIT {
                // The bottleneck was busy all the time, so this is its rate.
                self.window = self.window.min(fitting(base + QUEUE_TARGET));
            } else if in_flight + delivered > self.window {
                // It was in use: what is under way now and what this round trip took out of it together exceed it.
                self.window += if queue < QUEUE_NONE { self.window } else { self.window / 8 };
            }
            self.window = self.window.clamp(MIN_WINDOW, MAX_WINDOW);
        }
        self.round = Round { began: now, until: self.newest_sent, delivered_before: self.delivered };
    }
}

impl Controller for PipeController {
    fn on_sent(&mut self, _now: Instant, _bytes: u64, last_packet_number: u64) {
        self.newest_sent = last_packet_number;
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, _app_limited: bool, _rtt: &RttEstimator) {
        self.on_acked(now, sent, bytes);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, _app_limited: bool, largest_packet_num_acked: Option<u64>) {
        if largest_packet_num_acked.is_some_and(|largest| largest >= self.round.until) {
            self.end_round(now, in_flight);
        }
    }

    /// Loss alone says nothing: if it is that of a bottleneck without a queue, shedding sees to it.
    fn on_congestion_event(&mut self, _now: Instant, _sent: Instant, is_persistent_congestion: bool, _lost_bytes: u64) {
        if is_persistent_congestion {
            self.window = MIN_WINDOW;
        }
    }

    fn on_mtu_update(&mut self, _new_mtu: u16) {}

    fn window(&self) -> u64 {
        self.window
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        INITIAL_WINDOW
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    const PACKET: u64 = 1200;
    const RTT: Duration = Duration::from_millis(80);

    /// A bottleneck with a deep queue and a sender that always has more.
    struct Path {
        controller: PipeController,
        start: Instant,
        now: Instant,
        bits_per_second: u64,
        busy_until: Instant,
        /// When acknowledged, when sent, number.
        under_way: VecDeque<(Instant, Instant, u64)>,
        number: u64,
    }

    impl Path {
        #[expect(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
        fn new(bits_per_second: u64) -> Self {
            let start = Instant::now();
            let controller = PipeController::new(start);
            Self {
                controller,
                start,
                now: start,
                bits_per_second,
                busy_until: start,
                under_way: VecDeque::new(),
                number: 0,
            }
        }

        /// Loses every `lose`th packet. Gives the share of the path that was used and the longest queue.
        fn run(&mut self, time: Duration, lose: u64, most_under_way: u64) -> (f64, Duration) {
            let (end, before) = (self.now + time, self.controller.delivered_bytes());
            let mut worst = Duration::ZERO;
            while self.now < end {
                self.now += Duration::from_millis(1);
                let mut acked = None;
                while let Some((_, sent, number)) = self.under_way.pop_front_if(|(at, ..)| *at <= self.now) {
                    if lose > 0 && number % lose == 0 {
                        self.controller.on_congestion_event(self.now, sent, false, PACKET);
                    } else {
                        self.controller.on_acked(self.now, sent, PACKET);
                        acked = Some(number);
                    }
                }
                let in_flight = self.under_way.len() as u64 * PACKET;
                self.controller.on_end_acks(self.now, in_flight, false, acked);
                while (self.under_way.len() as u64 * PACKET) < self.controller.window().min(most_under_way) {
                    self.number += 1;
                    self.controller.on_sent(self.now, PACKET, self.number);
                    let passing = Duration::from_secs_f64(PACKET as f64 * 8.0 / self.bits_per_second as f64);
                    self.busy_until = self.busy_until.max(self.now) + passing;
                    worst = worst.max(self.busy_until - self.now);
                    self.under_way.push_back((self.busy_until + RTT, self.now, self.number));
                }
            }
            let bits = (self.controller.delivered_bytes() - before) as f64 * 8.0;
            (bits / time.as_secs_f64() / self.bits_per_second as f64, worst)
        }
    }

    #[test]
    fn fills_a_bottleneck_without_filling_its_queue() {
        let mut path = Path::new(5_000_000);
        path.run(Duration::from_secs(3), 0, u64::MAX);
        let (used, worst) = path.run(Duration::from_secs(20), 0, u64::MAX);
        assert!(used > 0.9, "{used}");
        assert!(worst < Duration::from_millis(150), "{worst:?}");
        assert!(path.now > path.start);
    }

    #[test]
    fn random_loss_does_not_hold_it_back() {
        let mut path = Path::new(50_000_000);
        path.run(Duration::from_secs(3), 50, u64::MAX);
        let (used, _) = path.run(Duration::from_secs(10), 50, u64::MAX);
        assert!(used > 0.85, "{used}");
    }

    #[test]
    fn little_to_send_does_not_shrink_the_window_nor_much_grow_it() {
        let mut path = Path::new(50_000_000);
        path.run(Duration::from_secs(10), 0, 20_000);
        assert_eq!(path.controller.window(), INITIAL_WINDOW);
    }

    #[test]
    fn follows_a_path_that_becomes_wider() {
        let mut path = Path::new(2_000_000);
        path.run(Duration::from_secs(5), 0, u64::MAX);
        path.bits_per_second = 40_000_000;
        path.run(Duration::from_secs(3), 0, u64::MAX);
        let (used, _) = path.run(Duration::from_secs(5), 0, u64::MAX);
        assert!(used > 0.9, "{used}");
    }
}
