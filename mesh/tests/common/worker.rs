//! Workers at the ends of a pipe, as far as the pipe sees of them: cameras and microphones that send, and viewers who
//! show each picture that is complete and builds on nothing that is missing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_mesh::{
    Accept, DataMessage, Frame, FrameClass, FrameFlags, FrameSink, LinkKey, Mesh, RouteReceiver, RouteSender,
};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{FeedbackBody, RouteFeedback};
use tokio::sync::mpsc;

use super::network::clock;

const PACKET: usize = 1150;
const PICTURE: Duration = Duration::from_nanos(33_333_333);
const SPEECH: Duration = Duration::from_millis(20);
const SPEECH_PACKET: usize = 100;
/// A key frame takes this much time of the bitrate, and leaves at this multiple of it.
const KEY_FRAME: f64 = 0.3;
const PACE: f64 = 2.5;
/// A picture later than this is a freeze.
const FREEZE: Duration = Duration::from_millis(500);
/// Between two requests for a key frame.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(300);
const ASSUMED_RTT: Duration = Duration::from_millis(100);

/// What one source sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source {
    Camera { bits_per_second: u32, temporal_layers: u8 },
    Microphone,
}

enum Event {
    Frames(Vec<Frame>),
    Feedback(RouteFeedback),
}

struct Sink(mpsc::UnboundedSender<Event>);

impl FrameSink for Sink {
    fn deliver(&self, _link: LinkKey, frames: &mut Vec<Frame>) {
        // The test may be over.
        let _ = self.0.send(Event::Frames(std::mem::take(frames)));
    }

    fn feedback(&self, _link: LinkKey, feedback: RouteFeedback) {
        let _ = self.0.send(Event::Feedback(feedback));
    }

    fn data(&self, _link: LinkKey, _message: DataMessage) {}
}

struct Sending {
    source: Source,
    route: RouteSender,
    /// The latest packets, by cookie.
    cache: VecDeque<(Instant, Bytes, FrameClass)>,
    forgotten: u64,
    waiting: VecDeque<(Instant, BytesMut, FrameClass)>,
    next: Instant,
    picture: u32,
    since_key: u32,
    base: u32,
    key_wanted: bool,
    debt: f64,
}

impl Sending {
    fn next_due(&self) -> Instant {
        self.waiting.front().map_or(self.next, |(at, ..)| self.next.min(*at))
    }

    fn advance(&mut self, now: Instant, rng: &mut ChaCha8Rng, frames: &mut Vec<Frame>) {
        while self.next <= now {
            match self.source {
                Source::Camera { bits_per_second, temporal_layers } => {
                    self.shoot(bits_per_second, temporal_layers, rng)
                }
                Source::Microphone => {
                    self.picture += 1;
                    self.waiting.push_back((self.next, self.packet(SPEECH_PACKET, 0, 1, 0), FrameClass::Audio));
                    self.next += SPEECH;
                }
            }
        }
        while let Some((_, mut packet, class)) = self.waiting.pop_front_if(|(at, ..)| *at <= now) {
            packet[12..20].copy_from_slice(&micros(now).to_be_bytes());
            let packet = packet.freeze();
            let seq = self.route.next(self.forgotten + self.cache.len() as u64);
            self.cache.push_back((now, packet.clone(), class));
            if self.cache.len() > 2048 {
                self.cache.pop_front();
                self.forgotten += 1;
            }
            frames.push(self.frame(seq, false, class, packet));
        }
    }

    fn shoot(&mut self, bits_per_second: u32, layers: u8, rng: &mut ChaCha8Rng) {
        let key = std::mem::take(&mut self.key_wanted);
        self.since_key = if key { 0 } else { self.since_key + 1 };
        let position = self.since_key as usize % 4;
        let (temporal, share) = match layers {
            1 => (0, 1.0),
            2 => [(0, 1.2), (1, 0.8)][position % 2],
            _ => [(0, 1.6), (2, 0.8), (1, 0.8), (2, 0.8)][position],
        };
        let rate = f64::from(bits_per_second) / 8.0;
        let mean = rate * PICTURE.as_secs_f64();
        let size = if key {
            rate * KEY_FRAME
        } else {
            (mean - self.debt / 30.0).clamp(mean * 0.5, mean * 1.5) * share * rng.random_range(0.5..1.5)
        };
        self.debt = (self.debt + size - mean).clamp(-rate, rate);
        self.picture += 1;
        let count = (size / PACKET as f64).ceil().max(1.0) as u16;
        let class = FrameClass::Video { temporal, spatial: 0, key };
        let base = if key { 0 } else { self.base };
        let length = (size / f64::from(count)) as usize;
        let mut at = self.waiting.back().map_or(self.next, |(at, ..)| self.next.max(*at));
        for index in 0..count {
            self.waiting.push_back((at, self.packet(length.max(64), index, count, base), class));
            // An ordinary picture leaves at once.
            if usize::from(index) * length > (2.0 * mean) as usize {
                at += Duration::from_secs_f64(length as f64 / rate / PACE);
            }
        }
        if temporal == 0 {
            self.base = self.picture;
        }
        self.next += PICTURE;
    }

    fn packet(&self, length: usize, index: u16, count: u16, base: u32) -> BytesMut {
        let mut packet = BytesMut::zeroed(length);
        packet[4..8].copy_from_slice(&self.picture.to_be_bytes());
        packet[20..22].copy_from_slice(&index.to_be_bytes());
        packet[22..24].copy_from_slice(&count.to_be_bytes());
        packet[24..28].copy_from_slice(&base.to_be_bytes());
        packet
    }

    fn frame(&self, seq: u16, retransmission: bool, class: FrameClass, packet: Bytes) -> Frame {
        let flags = FrameFlags { retransmission };
        Frame { route: self.route.route(), epoch: self.route.epoch(), seq, flags, class, packet }
    }

    fn hear(&mut self, now: Instant, body: &FeedbackBody, frames: &mut Vec<Frame>) {
        match body {
            FeedbackBody::Nack(missing) => {
                for (seq, cookie) in self.route.on_nack(missing) {
                    let packet = cookie.checked_sub(self.forgotten).and_then(|index| self.cache.get(index as usize));
                    if let Some((at, packet, class)) = packet
                        && now < *at + Duration::from_secs(1)
                    {
                        frames.push(self.frame(seq, true, *class, packet.clone()));
                    }
                }
            }
            FeedbackBody::KeyFrameRequest(_) => self.key_wanted = true,
            _ => {}
        }
    }
}

/// A picture on its way to be shown.
#[derive(Debug, Default)]
struct Picture {
    came: u16,
    count: u16,
    base: u32,
    /// Some of it was shed: it will never be complete.
    is_base: bool,
}

/// What a viewer or listener got.
#[derive(Debug, Default, Clone)]
pub(crate) struct Received {
    pub(crate) packets: u64,
    /// Bytes of those.
    pub(crate) bytes: u64,
    pub(crate) shed: u64,
    pub(crate) lost: u64,
    pub(crate) repaired: u64,
    pub(crate) shown: u64,
    pub(crate) freezes: u64,
    pub(crate) longest: Duration,
    pub(crate) key_frames_asked: u64,
    /// From leaving to arriving, repairs included, in microseconds.
    pub(crate) delays: Vec<u64>,
    /// When something was shed last.
    pub(crate) last_shed: Option<Instant>,
}

struct Receiving {
    route: (RouteId, RouteEpoch),
    receiver: RouteReceiver,
    received: Received,
    pictures: BTreeMap<u32, Picture>,
    /// Base pictures that were shown.
    shown_bases: VecDeque<u32>,
    newest_shown: Option<(u32, Instant)>,
    key_frame_asked: Option<Instant>,
    key_wanted: bool,
}

impl Receiving {
    fn receive(&mut self, now: Instant, frame: &Frame) {
        let accept = self.receiver.receive(now, frame.seq, frame.flags.retransmission);
        if !matches!(accept, Accept::New | Accept::Repaired) {
            return;
        }
        if frame.is_shed() {
            self.received.shed += 1;
            self.received.last_shed = Some(now);
            return;
        }
        let packet = &frame.packet;
        self.received.packets += 1;
        self.received.bytes += packet.len() as u64;
        let sent = u64::from_be_bytes(packet[12..20].try_into().unwrap());
        self.received.delays.push(micros(now).saturating_sub(sent));
        let FrameClass::Video { temporal, .. } = frame.class else { return };
        let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let number = word(4);
        let picture = self.pictures.entry(number).or_default();
        picture.came += 1;
        picture.count = u16::from_be_bytes(packet[22..24].try_into().unwrap());
        picture.base = word(24);
        picture.is_base = temporal == 0;
        self.show(now);
    }

    /// Shows all that can be shown.
    fn show(&mut self, now: Instant) {
        loop {
            let can = |picture: &Picture| {
                picture.came == picture.count && (picture.base == 0 || self.shown_bases.contains(&picture.base))
            };
            let Some(number) = self.pictures.iter().find(|(_, picture)| can(picture)).map(|(number, _)| *number) else {
                break;
            };
            let picture = self.pictures.remove(&number).unwrap();
            self.received.shown += 1;
            if picture.is_base {
                self.shown_bases.push_back(number);
                if self.shown_bases.len() > 64 {
                    self.shown_bases.pop_front();
                }
            }
            match self.newest_shown {
                Some((newest, _)) if newest > number => {}
                Some((_, at)) => {
                    let gap = now - at;
                    self.received.freezes += u64::from(gap > FREEZE);
                    self.received.longest = self.received.longest.max(gap);
                    self.newest_shown = Some((number, now));
                }
                None => self.newest_shown = Some((number, now)),
            }
        }
        while self.pictures.len() > 90 {
            self.pictures.pop_first();
        }
    }

    fn poll(&mut self, now: Instant) -> Option<FeedbackBody> {
        if let Some(missing) = self.receiver.poll_nack(now, ASSUMED_RTT) {
            return Some(FeedbackBody::Nack(missing));
        }
        self.key_wanted |= self.receiver.take_lost() > 0;
        let due = self.key_frame_asked.is_none_or(|asked| now >= asked + KEY_FRAME_INTERVAL);
        if self.key_wanted && due {
            self.key_wanted = false;
            self.received.key_frames_asked += 1;
            self.key_frame_asked = Some(now);
            return Some(FeedbackBody::KeyFrameRequest(1));
        }
        None
    }

    fn received(&self) -> Received {
        let stats = self.receiver.stats();
        Received { lost: stats.lost, repaired: stats.repaired, ..self.received.clone() }
    }
}

/// One end of a pipe.
pub(crate) struct Worker {
    mesh: Mesh,
    link: LinkKey,
    sink: Arc<Sink>,
    events: mpsc::UnboundedReceiver<Event>,
    sending: Vec<Sending>,
    receiving: BTreeMap<u32, Receiving>,
    rng: ChaCha8Rng,
}

impl Worker {
    pub(crate) fn new(mesh: &Mesh, link: LinkKey, seed: u64) -> Self {
        let (sink, events) = mpsc::unbounded_channel();
        let (sink, rng) = (Arc::new(Sink(sink)), ChaCha8Rng::seed_from_u64(seed));
        Self { mesh: mesh.clone(), link, sink, events, sending: Vec::new(), receiving: BTreeMap::new(), rng }
    }

    /// Sends to another worker from now on.
    pub(crate) fn send_to(&mut self, other: &mut Self, source: Source) {
        let (route, epoch) = other.mesh.allocate_route(other.sink.clone()).unwrap();
        other.receiving.insert(
            route.0,
            Receiving {
                route: (route, epoch),
                receiver: RouteReceiver::new(clock()),
                received: Received::default(),
                pictures: BTreeMap::new(),
                shown_bases: VecDeque::new(),
                newest_shown: None,
                key_frame_asked: None,
                key_wanted: false,
            },
        );
        self.mesh.open_route_out(self.link, route, epoch, self.sink.clone());
        self.sending.push(Sending {
            source,
            route: RouteSender::new(route, epoch),
            cache: VecDeque::new(),
            forgotten: 0,
            waiting: VecDeque::new(),
            next: clock() + PICTURE.mul_f64(self.rng.random()),
            picture: 0,
            since_key: 0,
            base: 0,
            key_wanted: true,
            debt: 0.0,
        });
    }

    /// What each route brought so far: of cameras and of microphones.
    pub(crate) fn received(&self) -> (Vec<Received>, Vec<Received>) {
        let all = self.receiving.values().map(Receiving::received);
        all.partition(|received| received.shown > 0 || received.shed > 0)
    }

    /// Works for this long.
    pub(crate) async fn run(&mut self, time: Duration) {
        let end = clock() + time;
        let mut frames = Vec::new();
        while clock() < end {
            let sources = self.sending.iter().map(Sending::next_due);
            let receivers = self.receiving.values().filter_map(|receiving| receiving.receiver.poll_timeout());
            let due = sources.chain(receivers).min().unwrap_or(end).min(end);
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                Some(event) = self.events.recv() => self.handle(event, &mut frames),
            }
            let now = clock();
            self.sending.iter_mut().for_each(|sending| sending.advance(now, &mut self.rng, &mut frames));
            if !frames.is_empty() {
                self.mesh.send_frames(self.link, &mut frames);
            }
            for receiving in self.receiving.values_mut() {
                let (route, epoch) = receiving.route;
                while let Some(body) = receiving.poll(now) {
                    self.mesh.send_feedback(self.link, RouteFeedback { route: route.0, epoch: epoch.0, body });
                }
            }
        }
    }

    fn handle(&mut self, event: Event, frames: &mut Vec<Frame>) {
        let now = clock();
        match event {
            Event::Frames(arrived) => {
                for frame in &arrived {
                    if let Some(receiving) = self.receiving.get_mut(&frame.route.0) {
                        receiving.receive(now, frame);
                    }
                }
            }
            Event::Feedback(feedback) => {
                let of_route = self.sending.iter_mut().filter(|of| of.route.route().0 == feedback.route);
                of_route.for_each(|sending| sending.hear(now, &feedback.body, frames));
            }
        }
    }
}

/// Since the clock's first reading; both ends are in one process.
fn micros(now: Instant) -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    // A run's clock may begin before that of another thread.
    let start = *START.get_or_init(|| now - Duration::from_secs(3600));
    now.saturating_duration_since(start).as_micros() as u64
}
