//! The sending end of a connection's datagrams: takes what the workers queued, leaves out what the path cannot carry,
//! and keeps what waits in QUIC's buffer short.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, SendDatagramError};
use sluice_proto::pipe::{FeedbackBody, RouteFeedback};
use tracing::info;

use super::clock;
use super::congestion::PipeController;
use super::counters::{DropReason, LinkCounters};
use super::link::{Current, Link};
use super::tls::DATAGRAM_BUFFER;
use crate::frame::FrameEncoder;
use crate::pace::DataPace;
use crate::redundancy::AudioRedundancy;
use crate::shed::{CapacityEstimator, PathSample, RepairLimit, ShedEvent, Shedder, Verdict};
use crate::{Frame, FrameClass};

/// How often the path is looked at while frames flow, and while none do.
const BUSY_TICK: Duration = Duration::from_millis(50);
const IDLE_TICK: Duration = Duration::from_secs(1);

/// What may wait in QUIC's buffer, as time at the path's rate: video gives way before audio does.
const VIDEO_BUFFER: Duration = Duration::from_millis(100);
const AUDIO_BUFFER: Duration = Duration::from_millis(150);

/// A burst of a key frame may wait whatever the rate seems to be.
const MIN_BUFFER: u64 = 64 * 1024;

/// What QUIC accounts for each waiting datagram besides its bytes.
const DATAGRAM_OVERHEAD: u64 = 32;

/// Bitrates are shown over this time.
const BITRATE_WINDOW: Duration = Duration::from_secs(1);

pub(super) struct Sender<'a> {
    link: &'a Link,
    current: &'a Current,
    connection: &'a Connection,
    shedder: &'a mut Shedder,
    estimator: CapacityEstimator,
    redundancy: AudioRedundancy,
    encoder: FrameEncoder,
    queued: Vec<Frame>,
    audio: Vec<Frame>,
    video: Vec<Frame>,
    /// Bits per second that the path is taken to carry.
    path_rate: u64,
    dropped_bytes: u64,
    repairs: RepairLimit,
    data_pace: DataPace,
    idle: bool,
    bitrates: Bitrates,
}

impl<'a> Sender<'a> {
    pub(super) fn new(link: &'a Link, current: &'a Current, shedder: &'a mut Shedder) -> Self {
        let bitrates = Bitrates::new(clock(), &link.counters);
        Self {
            link,
            current,
            connection: &current.connection,
            shedder,
            estimator: CapacityEstimator::new(),
            redundancy: AudioRedundancy::new(),
            encoder: FrameEncoder::new(),
            queued: Vec::new(),
            audio: Vec::new(),
            video: Vec::new(),
            path_rate: 0,
            dropped_bytes: 0,
            repairs: RepairLimit::new(),
            data_pace: DataPace::new(),
            idle: false,
            bitrates,
        }
    }

    /// Runs for as long as it is polled.
    pub(super) async fn run(mut self) -> Infallible {
        self.tick();
        let mut next_tick = tokio::time::Instant::now() + BUSY_TICK;
        loop {
            tokio::select! {
                () = self.link.queue.ready() => {
                    self.flush();
                    if std::mem::take(&mut self.idle) {
                        next_tick = tokio::time::Instant::now() + BUSY_TICK;
                    }
                }
                () = tokio::time::sleep_until(next_tick) => {
                    self.tick();
                    next_tick = tokio::time::Instant::now() + if self.idle { IDLE_TICK } else { BUSY_TICK };
                }
            }
        }
    }

    /// Sends what is queued.
    fn flush(&mut self) {
        let now = clock();
        let mut queued = std::mem::take(&mut self.queued);
        self.link.queue.take(&mut queued);
        for mut frame in queued.drain(..) {
            if frame.flags.retransmission && !self.repairs.allows(&frame) {
                self.link.counters.drop(DropReason::RepairLimit, 1);
                continue;
            }
            if frame.class == FrameClass::Audio {
                self.redundancy.push(frame, &mut self.audio);
                continue;
            }
            if self.shedder.offer(now, &frame) == Verdict::Shed {
                self.link.counters.drop(DropReason::Shed, 1);
                frame.shed();
            }
            self.video.push(frame);
        }
        for frame in &self.audio {
            // It is never shed, but takes its share.
            self.shedder.offer(now, frame);
        }
        self.queued = queued;
        if let Some(max_size) = self.connection.max_datagram_size() {
            let audio = std::mem::take(&mut self.audio);
            self.audio = self.send(audio, max_size, AUDIO_BUFFER);
            let video = std::mem::take(&mut self.video);
            self.video = self.send(video, max_size, VIDEO_BUFFER);
        } else {
            // The peer takes no datagrams.
            self.link.counters.drop(DropReason::TooLarge, (self.audio.len() + self.video.len()) as u64);
            self.audio.clear();
            self.video.clear();
        }
        self.tell_shed();
    }

    /// Gives the vector back, empty.
    fn send(&mut self, mut frames: Vec<Frame>, max_size: usize, allowance: Duration) -> Vec<Frame> {
        let counters = &self.link.counters;
        let mut room = self.room(allowance);
        let mut rest = frames.as_slice();
        while let Some(encoded) = self.encoder.encode_next(rest, max_size) {
            let (taken, remaining) = rest.split_at(encoded.frames.min(rest.len()));
            rest = remaining;
            let Some((first, second)) = encoded.datagrams else {
                counters.drop(DropReason::TooLarge, taken.len() as u64);
                continue;
            };
            let cost = cost(&first) + second.as_ref().map_or(0, cost);
            if cost > room {
                counters.drop(DropReason::BufferFull, taken.len() as u64);
                self.dropped_bytes += cost;
                continue;
            }
            room -= cost;
            let sent = send_datagram(self.connection, first).and_then(|()| match second {
                Some(second) => send_datagram(self.connection, second),
                None => Ok(()),
            });
            match sent {
                Ok(()) => count_sent(counters, taken),
                Err(reason) => counters.drop(reason, taken.len() as u64),
            }
        }
        frames.clear();
        frames
    }

    /// Bytes that may still be added to what waits.
    fn room(&self, allowance: Duration) -> u64 {
        let waiting = self.backlog();
        let at_rate = (self.path_rate as f64 / 8.0 * allowance.as_secs_f64()) as u64;
        at_rate.max(MIN_BUFFER).min(DATAGRAM_BUFFER as u64).saturating_sub(waiting)
    }

    /// Bytes that wait in QUIC's buffer.
    fn backlog(&self) -> u64 {
        DATAGRAM_BUFFER.saturating_sub(self.connection.datagram_send_buffer_space()) as u64
    }

    /// Looks at the path.
    fn tick(&mut self) {
        let now = clock();
        let stats = self.connection.stats();
        self.redundancy.look(now, stats.path.rtt, stats.path.sent_packets, stats.path.lost_packets);
        let (standing_rtt, delivered_bytes) = path_view(self.connection);
        let sample = PathSample {
            rtt: standing_rtt.unwrap_or(stats.path.rtt),
            sent_bytes: stats.udp_tx.bytes,
            delivered_bytes,
            lost_bytes: stats.path.lost_bytes,
            backlog_bytes: self.backlog(),
            dropped_bytes: self.dropped_bytes,
            offered: self.shedder.offered(),
        };
        let capacity = self.estimator.sample(now, sample);
        let window_rate = stats.path.cwnd as f64 * 8.0 / stats.path.rtt.as_secs_f64().max(0.001);
        self.path_rate = capacity.unwrap_or(window_rate as u64);
        self.repairs.set_capacity(now, capacity);
        let data = &self.current.data.window;
        data.set_rate(self.data_pace.sample(now, sample, capacity, data.has_waited()));
        self.link.counters.capacity.set(capacity.unwrap_or(0));
        self.shedder.rebalance(now, capacity);
        self.tell_shed();
        if self.bitrates.update(now, &self.link.counters) {
            // Nothing for a second, and nothing to recover from.
            self.idle = self.shedder.offered() == 0 && capacity.is_none() && !self.shedder.is_shedding();
        }
    }

    fn tell_shed(&mut self) {
        while let Some(event) = self.shedder.poll_event() {
            match event {
                ShedEvent::LayersCarried { route, epoch, carried } => {
                    info!(peer = %self.link.instance, route = route.0, ?carried, "the path carries other layers now");
                    let body = FeedbackBody::LayersCarried(carried);
                    self.link.send_feedback(self.current.key, RouteFeedback { route: route.0, epoch: epoch.0, body });
                }
                ShedEvent::KeyFrameNeeded { route, epoch } => {
                    let body = FeedbackBody::KeyFrameRequest(u8::MAX);
                    // A route that has ended meanwhile needs none.
                    self.current.hear_of_route_out(RouteFeedback { route: route.0, epoch: epoch.0, body });
                }
            }
        }
    }
}

/// What the congestion controller saw: standing round-trip time and acknowledged bytes.
fn path_view(connection: &Connection) -> (Option<Duration>, u64) {
    let controller = connection.congestion_state().into_any().downcast::<PipeController>();
    controller.map_or((None, 0), |controller| (controller.standing_rtt(), controller.delivered_bytes()))
}

fn cost(datagram: &Bytes) -> u64 {
    datagram.len() as u64 + DATAGRAM_OVERHEAD
}

fn send_datagram(connection: &Connection, datagram: Bytes) -> Result<(), DropReason> {
    connection.send_datagram(datagram).map_err(|error| match error {
        SendDatagramError::TooLarge => DropReason::TooLarge,
        SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled | SendDatagramError::ConnectionLost(_) => {
            DropReason::LinkDown
        }
    })
}

fn count_sent(counters: &LinkCounters, frames: &[Frame]) {
    counters.datagrams_sent.add(1);
    counters.frames_sent.add(frames.len() as u64);
    counters.frame_bytes_sent.add(frames.iter().map(|frame| frame.packet.len() as u64).sum());
}

/// Turns byte counts into bitrates.
struct Bitrates {
    began: Instant,
    sent: u64,
    received: u64,
    /// Of messages of data.
    data_sent: u64,
}

impl Bitrates {
    fn new(now: Instant, counters: &LinkCounters) -> Self {
        Self {
            began: now,
            sent: counters.frame_bytes_sent.get(),
            received: counters.frame_bytes_received.get(),
            data_sent: counters.data_sent.get(),
        }
    }

    /// Whether a window ended in which nothing was sent.
    fn update(&mut self, now: Instant, counters: &LinkCounters) -> bool {
        let elapsed = now.saturating_duration_since(self.began);
        if elapsed < BITRATE_WINDOW {
            return false;
        }
        let next = Self::new(now, counters);
        let rate = |bytes: u64| (bytes as f64 * 8.0 / elapsed.as_secs_f64()) as u64;
        counters.send_bitrate.set(rate(next.sent - self.sent));
        counters.recv_bitrate.set(rate(next.received - self.received));
        let silent = next.sent == self.sent && next.data_sent == self.data_sent;
        *self = next;
        silent
    }
}
