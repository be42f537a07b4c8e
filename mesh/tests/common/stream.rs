//! The two ends of routes as workers have them: sequence numbers, a cache, repair, and the account of what arrived
//! when.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use sluice_mesh::{
    Accept, DataMessage, Frame, FrameClass, FrameFlags, FrameSink, LinkKey, Mesh, RouteReceiver, RouteSender,
};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{FeedbackBody, Layers, RouteFeedback, RouteStats};
use tokio::sync::mpsc;

/// How often the sending worker has packets: bursts, as a media socket brings them.
const BURST: Duration = Duration::from_millis(10);

#[allow(clippy::disallowed_methods, reason = "what is measured here is time")]
fn clock() -> Instant {
    Instant::now()
}

/// Microseconds since the process began to measure; both ends are in one process.
fn micros() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(clock).elapsed().as_micros() as u64
}

/// What one source sends.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    /// Bytes of a packet.
    pub(crate) size: usize,
    /// Packets in a burst, every `every` bursts.
    pub(crate) packets: usize,
    pub(crate) every: u64,
    /// Three temporal layers; otherwise audio.
    pub(crate) video: bool,
}

pub(crate) const AUDIO: Source = Source { size: 120, packets: 1, every: 2, video: false };

struct Sending {
    source: Source,
    route: RouteSender,
    /// Of the whole run: tests are short.
    cache: Vec<(Bytes, FrameClass)>,
    pictures: u64,
}

impl Sending {
    fn burst(&mut self, frames: &mut Vec<Frame>) {
        self.pictures += 1;
        let temporal = [0, 2, 1, 2][self.pictures as usize % 4];
        let class = if self.source.video {
            FrameClass::Video { temporal, spatial: 0, key: self.pictures.is_multiple_of(40) }
        } else {
            FrameClass::Audio
        };
        for _ in 0..self.source.packets {
            let mut packet = BytesMut::zeroed(self.source.size);
            packet[4..8].copy_from_slice(&(self.pictures as u32).to_be_bytes());
            packet[12..20].copy_from_slice(&micros().to_be_bytes());
            let packet = packet.freeze();
            let seq = self.route.next(self.cache.len() as u64);
            self.cache.push((packet.clone(), class));
            frames.push(self.frame(seq, false, class, packet));
        }
    }

    fn frame(&self, seq: u16, retransmission: bool, class: FrameClass, packet: Bytes) -> Frame {
        let flags = FrameFlags { retransmission };
        Frame { route: self.route.route(), epoch: self.route.epoch(), seq, flags, class, packet }
    }

    fn answer(&self, seqs: &[u16], frames: &mut Vec<Frame>) {
        for (seq, cookie) in self.route.on_nack(seqs) {
            let (packet, class) = self.cache[cookie as usize].clone();
            frames.push(self.frame(seq, true, class, packet));
        }
    }
}

/// The sending worker. Runs until it is dropped; gives how many packets each route had sent when `time` was over.
pub(crate) struct SendingWorker {
    sending: Vec<Sending>,
    mesh: Mesh,
    link: LinkKey,
    heard: mpsc::UnboundedReceiver<RouteFeedback>,
}

/// Takes what the other ends say.
struct Heard(mpsc::UnboundedSender<RouteFeedback>);

impl FrameSink for Heard {
    fn deliver(&self, _link: LinkKey, frames: &mut Vec<Frame>) {
        frames.clear();
    }

    fn feedback(&self, _link: LinkKey, feedback: RouteFeedback) {
        // The test may have sent enough.
        let _ = self.0.send(feedback);
    }

    fn data(&self, _link: LinkKey, _message: DataMessage) {}
}

impl SendingWorker {
    pub(crate) fn new(mesh: Mesh, link: LinkKey, routes: &[((RouteId, RouteEpoch), Source)]) -> Self {
        let sending = routes.iter().map(|&((route, epoch), source)| Sending {
            source,
            route: RouteSender::new(route, epoch),
            cache: Vec::new(),
            pictures: 0,
        });
        let (hear, heard) = mpsc::unbounded_channel();
        let sink = Arc::new(Heard(hear));
        for ((route, epoch), _) in routes {
            mesh.open_route_out(link, *route, *epoch, sink.clone());
        }
        Self { sending: sending.collect(), mesh, link, heard }
    }

    pub(crate) fn sent(&self) -> Vec<u64> {
        self.sending.iter().map(|sending| sending.cache.len() as u64).collect()
    }

    /// Sends for this long, answering what comes back.
    pub(crate) async fn run(&mut self, time: Duration) {
        let mut ticks = tokio::time::interval(BURST);
        let end = clock() + time;
        let mut burst = 0;
        let mut frames = Vec::new();
        while clock() < end {
            tokio::select! {
                _ = ticks.tick() => {
                    burst += 1;
                    let due = self.sending.iter_mut().filter(|sending| burst % sending.source.every == 0);
                    due.for_each(|sending| sending.burst(&mut frames));
                }
                Some(feedback) = self.heard.recv() => self.hear(&feedback, &mut frames),
            }
            self.mesh.send_frames(self.link, &mut frames);
        }
    }

    fn hear(&self, message: &RouteFeedback, frames: &mut Vec<Frame>) {
        let sending = self.sending.iter().find(|sending| sending.route.route().0 == message.route);
        if let (Some(sending), FeedbackBody::Nack(seqs)) = (sending, &message.body) {
            sending.answer(seqs, frames);
        }
    }
}

/// What a route's receiving end saw.
pub(crate) struct Receiving {
    receiver: RouteReceiver,
    pub(crate) used: u64,
    pub(crate) shed: u64,
    /// One-way time of packets that arrived without having been asked for, with the time of arrival, in microseconds.
    pub(crate) delays: Vec<(u64, u64)>,
}

/// The receiving worker: a sink, and a task that asks for what is missing.
pub(crate) struct ReceivingWorker {
    routes: Mutex<HashMap<u32, Receiving>>,
    layers_told: Mutex<Vec<(u32, Option<Layers>)>>,
}

impl ReceivingWorker {
    pub(crate) fn start(mesh: &Mesh, link: LinkKey, count: usize) -> (Arc<Self>, Vec<(RouteId, RouteEpoch)>) {
        let worker = Arc::new(Self { routes: Mutex::default(), layers_told: Mutex::default() });
        let routes: Vec<_> = (0..count).map(|_| mesh.allocate_route(worker.clone()).unwrap()).collect();
        for (route, _) in &routes {
            let receiving = Receiving { receiver: RouteReceiver::new(clock()), used: 0, shed: 0, delays: Vec::new() };
            worker.routes.lock().unwrap().insert(route.0, receiving);
        }
        let (asking, mesh) = (worker.clone(), mesh.clone());
        tokio::spawn(async move {
            let mut ticks = tokio::time::interval(Duration::from_millis(5));
            loop {
                ticks.tick().await;
                asking.ask(&mesh, link);
            }
        });
        (worker, routes)
    }

    fn ask(&self, mesh: &Mesh, link: LinkKey) {
        for (&route, receiving) in self.routes.lock().unwrap().iter_mut() {
            if let Some(seqs) = receiving.receiver.poll_nack(clock(), Duration::from_millis(100)) {
                mesh.send_feedback(link, RouteFeedback { route, epoch: 0, body: FeedbackBody::Nack(seqs) });
            }
        }
    }

    pub(crate) fn with<T>(&self, route: (RouteId, RouteEpoch), read: impl FnOnce(&Receiving) -> T) -> T {
        read(&self.routes.lock().unwrap()[&route.0.0])
    }

    pub(crate) fn stats(&self, route: (RouteId, RouteEpoch)) -> RouteStats {
        self.with(route, |receiving| receiving.receiver.stats())
    }

    /// What the far end said about layers, by route.
    pub(crate) fn layers_told(&self) -> Vec<(u32, Option<Layers>)> {
        self.layers_told.lock().unwrap().clone()
    }

    /// One-way times in milliseconds of what arrived from `after` the first arrival on, ascending.
    pub(crate) fn delays_ms(&self, after: Duration) -> Vec<f64> {
        let routes = self.routes.lock().unwrap();
        let all = || routes.values().flat_map(|receiving| &receiving.delays);
        let from = all().map(|(at, _)| *at).min().unwrap_or(0) + after.as_micros() as u64;
        let mut delays: Vec<f64> =
            all().filter(|(at, _)| *at >= from).map(|(_, delay)| *delay as f64 / 1000.0).collect();
        delays.sort_by(f64::total_cmp);
        delays
    }
}

impl FrameSink for ReceivingWorker {
    fn deliver(&self, _link: LinkKey, frames: &mut Vec<Frame>) {
        let (now, at) = (clock(), micros());
        let mut routes = self.routes.lock().unwrap();
        for frame in frames.drain(..) {
            let receiving = routes.get_mut(&frame.route.0).unwrap();
            let accept = receiving.receiver.receive(now, frame.seq, frame.flags.retransmission);
            if !matches!(accept, Accept::New | Accept::Repaired) {
                continue;
            }
            if frame.is_shed() {
                receiving.shed += 1;
                continue;
            }
            receiving.used += 1;
            if !frame.flags.retransmission {
                let sent = u64::from_be_bytes(frame.packet[12..20].try_into().unwrap());
                receiving.delays.push((at, at - sent));
            }
        }
    }

    fn feedback(&self, _link: LinkKey, feedback: RouteFeedback) {
        if let FeedbackBody::LayersCarried(carried) = feedback.body {
            self.layers_told.lock().unwrap().push((feedback.route, carried));
        }
    }

    fn data(&self, _link: LinkKey, _message: DataMessage) {}
}

pub(crate) fn percentile(sorted: &[f64], share: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * share) as usize]
}
