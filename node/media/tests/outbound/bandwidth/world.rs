//! A core, publishers with one viewer each, and the path to the viewers, which they share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use sluice_media::secure::srtp::SrtpProfile;
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig, Loss, Rate};

use super::publisher::Publisher;
use super::tcp::Tcp;
use super::viewer::{Arrival, Viewer, say_to};
use crate::core::{Core, Stream};

const TICK: Duration = Duration::from_millis(1);

/// One way.
const DELAY: Duration = Duration::from_millis(20);

/// What the bottleneck holds.
const QUEUE: Duration = Duration::from_millis(300);

/// Something under way.
enum Event {
    Arrives(usize, Arrival),
    Says(usize, Vec<u8>),
}

/// A packet that went to a viewer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) viewer: usize,
    /// Of media.
    pub(super) encoding: Option<u8>,
    pub(super) len: usize,
    /// How long it waited at the bottleneck; `None` if it was lost.
    pub(super) queue: Option<Duration>,
}

/// All of it.
pub(super) struct World {
    pub(super) core: Core,
    pub(super) start: Instant,
    pub(super) viewers: Vec<Viewer>,
    pub(super) sent: Vec<Sent>,
    pub(super) tcp: Option<Tcp>,
    /// The viewers tell nothing.
    pub(super) is_silent: bool,
    /// What each viewer's estimate was, each 100 ms.
    pub(super) estimates: Vec<(Instant, Vec<Option<u64>>)>,
    publishers: Vec<Publisher>,
    path: Impairment,
    back: Impairment,
    bottleneck: u64,
    under_way: BTreeMap<(Instant, u64), Event>,
    count: u64,
}

/// A path of so many bits per second.
pub(super) fn link(bits_per_second: u64, loss: f64) -> ImpairmentConfig {
    let loss = if loss > 0.0 { Loss::Random(loss) } else { Loss::None };
    let rate = Some(Rate::new(bits_per_second, QUEUE));
    ImpairmentConfig { delay: DELAY, jitter: Duration::from_millis(2), loss, rate, ..ImpairmentConfig::default() }
}

impl World {
    /// So many viewers, of a publisher each.
    pub(super) fn new(viewers: usize, bits_per_second: u64, seed: u64) -> Self {
        let mut core = Core::new(0);
        let (mut publishers, mut all) = (Vec::new(), Vec::new());
        for number in 0..viewers {
            let (user, receiver) = (core.connect(SrtpProfile::AeadAes128Gcm), core.connect(SrtpProfile::AeadAes128Gcm));
            let (publisher, producer) = Publisher::new(&mut core, user, number as u8 + 1, seed + number as u64);
            publishers.push(publisher);
            let (_, ssrc) = core.consume(&receiver, producer, Stream::Vp8Simulcast);
            all.push(Viewer::new(receiver, ssrc));
        }
        let back = ImpairmentConfig { delay: DELAY, ..ImpairmentConfig::default() };
        Self {
            start: core.now,
            core,
            viewers: all,
            sent: Vec::new(),
            tcp: None,
            is_silent: false,
            estimates: Vec::new(),
            publishers,
            path: Impairment::new(link(bits_per_second, 0.0), seed),
            back: Impairment::new(back, seed + 1),
            bottleneck: bits_per_second,
            under_way: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn set_link(&mut self, bits_per_second: u64, loss: f64) {
        self.bottleneck = bits_per_second;
        self.path.set_config(link(bits_per_second, loss));
        let loss = if loss > 0.0 { Loss::Random(loss) } else { Loss::None };
        self.back.set_config(ImpairmentConfig { delay: DELAY, loss, ..ImpairmentConfig::default() });
    }

    pub(super) fn now(&self) -> Instant {
        self.core.now
    }

    pub(super) fn run(&mut self, seconds: f64) {
        let end = self.now() + Duration::from_secs_f64(seconds);
        while self.now() < end {
            self.core.advance(TICK);
            self.step();
        }
    }

    fn step(&mut self) {
        let now = self.now();
        while let Some(entry) = self.under_way.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Event::Arrives(viewer, arrival) => self.viewers[viewer].receive(now, self.start, &arrival),
                Event::Says(viewer, compound) => say_to(&mut self.core, &mut self.viewers[viewer], compound),
            }
        }
        let ms = (now - self.start).as_millis() as u64;
        for publisher in &mut self.publishers {
            if publisher.due_ms() <= ms {
                publisher.send(&mut self.core);
            }
        }
        if let Some(tcp) = &mut self.tcp {
            tcp.run(now, &mut self.path);
        }
        for viewer in 0..self.viewers.len() {
            self.send_to(viewer);
            for compound in self.viewers[viewer].say(now) {
                if !self.is_silent
                    && let Decision::Deliver { at, .. } = self.back.submit(now, compound.len())
                {
                    self.put(at, Event::Says(viewer, compound));
                }
            }
        }
        if ms.is_multiple_of(100) {
            let transports: Vec<_> = self.viewers.iter().map(|viewer| viewer.user.transport).collect();
            let stats = transports.into_iter().map(|id| self.core.transport_stats(id).available_outgoing_bitrate);
            let estimates = stats.collect();
            self.estimates.push((now, estimates));
        }
    }

    fn send_to(&mut self, viewer: usize) {
        let now = self.now();
        let ssrc = self.viewers[viewer].ssrc;
        for received in self.core.received(&mut self.viewers[viewer].user) {
            let arrival = Arrival::new(&received, ssrc);
            let (encoding, len) = (arrival.encoding, arrival.len);
            let mut queue = None;
            if let Decision::Deliver { at, .. } = self.path.submit(now, len) {
                let sending = Duration::from_secs_f64(len as f64 * 8.0 / self.bottleneck as f64);
                queue = Some((at - now).saturating_sub(DELAY + sending));
                self.put(at, Event::Arrives(viewer, arrival));
            }
            self.sent.push(Sent { at: now, viewer, encoding, len, queue });
        }
    }

    fn put(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.under_way.insert((at, self.count), event);
    }

    /// Bits per second of media to a viewer in this span that arrived.
    pub(super) fn rate(&self, viewer: usize, from: Instant, to: Instant) -> f64 {
        let sent = self.sent.iter().filter(|sent| sent.viewer == viewer && sent.encoding.is_some());
        let bytes: usize =
            sent.filter(|sent| sent.queue.is_some() && (from..to).contains(&sent.at)).map(|sent| sent.len).sum();
        bytes as f64 * 8.0 / (to - from).as_secs_f64()
    }

    /// The longest that a packet waited at the bottleneck.
    pub(super) fn longest_queue(&self, from: Instant, to: Instant) -> Duration {
        let sent = self.sent.iter().filter(|sent| (from..to).contains(&sent.at));
        sent.filter_map(|sent| sent.queue).max().unwrap_or_default()
    }
}
