//! Which layers of which route a pipe carries.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::Layers;

use super::ladder::Rung;
use super::rates::{LayerRates, RateMeter, Window};
use crate::{Frame, FrameClass};

/// Share of the capacity that media may take, in percent: the rest is for repairs, control and QUIC's own headers.
const USABLE_PERCENT: u64 = 97;

/// A layer is taken up again only if all then take at most this share of what is usable, in percent. The gap to 100
/// keeps a video whose rate moves about from being shed and taken up in turn.
const RAISE_PERCENT: u64 = 90;

/// Between two layers that are taken up again, of all routes: the path's answer to the first must be seen before the
/// second.
const RAISE_INTERVAL: Duration = Duration::from_millis(500);

/// How long a route stays as it is after a step down. Doubles each time that it was taken up too early, up to the
/// second one; for a step that takes no key frame up to the third: it is how a pipe finds out that its path became
/// wider, and costs a moment's queue at most.
const MIN_HOLD: Duration = Duration::from_secs(2);
const MAX_HOLD: Duration = Duration::from_secs(60);
const MAX_TEMPORAL_HOLD: Duration = Duration::from_secs(5);

/// A step down this soon after a step up means that the step up came too early.
const TOO_EARLY: Duration = Duration::from_secs(5);

/// How often a key frame is asked for, while one is waited for.
const KEY_FRAME_INTERVAL: Duration = Duration::from_millis(1000);

/// A route on which nothing is offered for this long is forgotten.
const FORGET_AFTER: Duration = Duration::from_secs(10);

/// What is to be done with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Carry,
    /// Leave it out and say so: send it without its packet.
    Shed,
}

/// What the ends of a route must be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShedEvent {
    /// To the receiving end: these layers are carried now.
    LayersCarried {
        /// The route.
        route: RouteId,
        /// The use of its id.
        epoch: RouteEpoch,
        /// As in [`FeedbackBody::LayersCarried`](sluice_proto::pipe::FeedbackBody::LayersCarried).
        carried: Option<Layers>,
    },
    /// To the sending end's producer: layers can be carried again as soon as there is a key frame.
    KeyFrameNeeded {
        /// The route.
        route: RouteId,
        /// The use of its id.
        epoch: RouteEpoch,
    },
}

#[derive(Debug)]
struct Route {
    offered: LayerRates,
    carried: Rung,
    /// What shall be carried from the next fitting frame on; never below `carried`.
    target: Rung,
    /// RTP timestamp of the latest frame: layers begin with a whole picture.
    timestamp: u32,
    asked_key_frame: Option<Instant>,
    last_up: Option<Instant>,
    last_down: Option<Instant>,
    hold: Duration,
    last_offer: Instant,
}

/// Decides for one link which layers of which route go over it.
#[derive(Debug, Default)]
pub struct Shedder {
    routes: FxHashMap<(RouteId, RouteEpoch), Route>,
    audio: RateMeter,
    window: Window,
    last_raise: Option<Instant>,
    events: VecDeque<ShedEvent>,
}

impl Shedder {
    /// A shedder that carries everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame is offered. Every frame must be, shed ones included: they are what recovery is judged by.
    pub fn offer(&mut self, now: Instant, frame: &Frame) -> Verdict {
        let FrameClass::Video { temporal, spatial, key } = frame.class else {
            self.audio.add(frame.packet.len());
            return Verdict::Carry;
        };
        let route = self.routes.entry((frame.route, frame.epoch)).or_insert_with(|| Route::new(now));
        route.last_offer = now;
        if frame.flags.retransmission {
            // It counted when it was new.
            return route.verdict((spatial, temporal));
        }
        route.offered.add(frame.class, frame.packet.len());
        if let Some(carried) = route.begin_picture(frame, key) {
            self.events.push_back(ShedEvent::LayersCarried { route: frame.route, epoch: frame.epoch, carried });
        }
        route.verdict((spatial, temporal))
    }

    /// Weighs what is offered against what the path carries in bits per second (`None`: no limit is known). To be
    /// called every few dozen milliseconds.
    pub fn rebalance(&mut self, now: Instant, capacity: Option<u64>) {
        if let Some(elapsed) = self.window.end(now) {
            self.audio.roll(elapsed);
            self.routes.values_mut().for_each(|route| route.offered.roll(elapsed));
            self.forget_silent(now);
        }
        let budget = capacity.map(|capacity| (capacity / 100 * USABLE_PERCENT).saturating_sub(self.audio.get()));
        if !self.lower(now, budget) {
            self.raise(now, budget);
        }
        self.ask_key_frames(now);
    }

    /// Bits per second that are offered, shed or not.
    pub fn offered(&self) -> u64 {
        self.audio.get() + self.routes.values().map(|route| route.rate(Rung::Everything)).sum::<u64>()
    }

    /// Whether anything is shed.
    pub fn is_shedding(&self) -> bool {
        self.routes.values().any(|route| route.carried != Rung::Everything)
    }

    /// What there is to tell. To be drained after [`rebalance`](Self::rebalance) and after a batch of
    /// [`offer`](Self::offer)s.
    pub fn poll_event(&mut self) -> Option<ShedEvent> {
        self.events.pop_front()
    }

    /// Whatever is offered on a route that was forgotten is carried at first, as on a new one: its other end must know.
    fn forget_silent(&mut self, now: Instant) {
        let events = &mut self.events;
        self.routes.retain(|&(route, epoch), state| {
            let silent = now >= state.last_offer + FORGET_AFTER;
            if silent && state.carried != Rung::Everything {
                events.push_back(ShedEvent::LayersCarried { route, epoch, carried: Rung::Everything.layers() });
            }
            !silent
        });
    }

    /// Takes layers from the routes that have most of them until the rest fits. Says whether any had to go.
    fn lower(&mut self, now: Instant, budget: Option<u64>) -> bool {
        let Some(budget) = budget else { return false };
        let mut total: u64 = self.routes.values().map(|route| route.rate(route.target)).sum();
        let mut lowered = false;
        while total > budget {
            let candidates = self
                .routes
                .iter_mut()
                .filter(|(_, route)| route.target != Rung::Nothing && route.rate(route.target) > 0);
            // Those with the same layers: the one that takes most, so that few are hit; the id makes it the same
            // everywhere.
            let Some((key, route)) =
                candidates.max_by_key(|(key, route)| (route.target, route.rate(route.target), Reverse(**key)))
            else {
                break;
            };
            let before = route.rate(route.target);
            if route.step_down(now) {
                let (id, epoch) = *key;
                self.events.push_back(ShedEvent::LayersCarried { route: id, epoch, carried: route.carried.layers() });
            }
            total = total - before + route.rate(route.target);
            lowered = true;
        }
        lowered
    }

    /// Gives one layer back to the route that has fewest of them, if it fits with room to spare.
    fn raise(&mut self, now: Instant, budget: Option<u64>) {
        if self.last_raise.is_some_and(|last| now < last + RAISE_INTERVAL) {
            return;
        }
        let total: u64 = self.routes.values().map(|route| route.rate(route.target)).sum();
        let room = budget.map_or(u64::MAX, |budget| (budget / 100 * RAISE_PERCENT).saturating_sub(total));
        let candidates = self.routes.iter_mut().filter(|(_, route)| {
            route.target != Rung::Everything && !route.is_held(now) && route.cost_of_raise() <= room
        });
        if let Some((_, route)) = candidates.min_by_key(|(key, route)| (route.target, route.cost_of_raise(), **key)) {
            route.step_up(now);
            self.last_raise = Some(now);
        }
    }

    fn ask_key_frames(&mut self, now: Instant) {
        for (&(route, epoch), state) in &mut self.routes {
            let waiting = state.carried != state.target && state.needs_key_frame();
            let due = state.asked_key_frame.is_none_or(|asked| now >= asked + KEY_FRAME_INTERVAL);
            if waiting && due {
                state.asked_key_frame = Some(now);
                self.events.push_back(ShedEvent::KeyFrameNeeded { route, epoch });
            }
        }
    }
}

impl Route {
    fn new(now: Instant) -> Self {
        Self {
            offered: LayerRates::default(),
            carried: Rung::Everything,
            target: Rung::Everything,
            timestamp: 0,
            asked_key_frame: None,
            last_up: None,
            last_down: None,
            hold: MIN_HOLD,
            last_offer: now,
        }
    }

    fn verdict(&self, layer: (u8, u8)) -> Verdict {
        if self.carried.carries(layer) { Verdict::Carry } else { Verdict::Shed }
    }

    /// Takes up what is to be carried if this frame is the first of a picture that allows it. Gives what is carried
    /// then.
    fn begin_picture(&mut self, frame: &Frame, key: bool) -> Option<Option<Layers>> {
        let timestamp = rtp_timestamp(frame).unwrap_or(self.timestamp);
        let new_picture = std::mem::replace(&mut self.timestamp, timestamp) != timestamp;
        if !new_picture || self.carried == self.target || (!key && self.needs_key_frame()) {
            return None;
        }
        self.carried = self.target;
        self.asked_key_frame = None;
        Some(self.carried.layers())
    }

    /// Whether the way from what is carried to what shall be begins with a key frame.
    fn needs_key_frame(&self) -> bool {
        self.carried.needs_key_frame(self.target, self.offered.highest().0)
    }

    fn rate(&self, rung: Rung) -> u64 {
        match rung {
            Rung::Nothing => 0,
            Rung::UpTo { spatial, temporal } => self.offered.up_to(spatial, temporal),
            Rung::Everything => self.offered.up_to(u8::MAX, u8::MAX),
        }
    }

    fn cost_of_raise(&self) -> u64 {
        self.rate(self.target.up(self.offered.highest())).saturating_sub(self.rate(self.target))
    }

    /// Whether the carried layers changed with it.
    fn step_down(&mut self, now: Instant) -> bool {
        let too_early = self.last_up.is_some_and(|up| now < up + TOO_EARLY);
        self.hold = if too_early { (self.hold * 2).min(MAX_HOLD) } else { self.hold };
        self.last_up = None;
        self.last_down = Some(now);
        self.target = self.target.down(self.offered.highest());
        let changed = self.target < self.carried;
        self.carried = self.carried.min(self.target);
        changed
    }

    fn step_up(&mut self, now: Instant) {
        if self.last_up.is_some() {
            self.hold = MIN_HOLD;
        }
        self.last_up = Some(now);
        self.target = self.target.up(self.offered.highest());
    }

    fn is_held(&self, now: Instant) -> bool {
        let highest = self.offered.highest();
        let is_temporal = !self.carried.needs_key_frame(self.target.up(highest), highest.0);
        let hold = if is_temporal { self.hold.min(MAX_TEMPORAL_HOLD) } else { self.hold };
        self.last_down.is_some_and(|down| now < down + hold)
    }
}

/// RFC 3550 section 5.1.
fn rtp_timestamp(frame: &Frame) -> Option<u32> {
    frame.packet.get(4..8)?.try_into().ok().map(u32::from_be_bytes)
}
