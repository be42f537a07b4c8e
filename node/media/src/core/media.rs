//! The media core of one worker: it owns the transports, routers, producers and consumers, and hands inputs to them. No
//! I/O: inputs and time go in by [`Media::handle_input`], outputs are drained by [`Media::poll_output`] after each.
//!
//! A batch of packets goes through in one straight line: `receive` leaves each in its producer's cache, `finish_batch`
//! then calls the router once for every producer that got something, and flushes every transport that was sent to.

#[cfg(test)]
mod address_tests;
mod allocation;
mod close;
mod data;
mod feedback;
mod last_n;
mod layers;
mod lifecycle;
mod overload;
mod pipes;
mod receive;
mod requests;
mod snapshot;
mod timeouts;
mod traces;

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rustc_hash::FxHashMap;
use slotmap::SlotMap;
use sluice_mesh::Frame;
use sluice_proto::ids::{ConsumerId, ProducerId, RouteId, RouterId, TransportId};

use crate::bandwidth::allocation::Demand;
use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::counters::Counters;
use crate::core::frames::FrameBatches;
use crate::core::media::data::DataPlane;
use crate::core::overload::Overload;
use crate::core::pipe_consumer::PipeConsumer;
use crate::core::producer::Producer;
use crate::core::router::{Destinations, Router, mark_dirty, route_rtp};
use crate::core::timers::{TimerKey, Timers};
use crate::core::user_transport::UserTransport;
use crate::io::{Input, Output, Transmit};
use crate::keys::{ConsumerKey, PipeConsumerKey, ProducerKey, RouterKey};
use crate::messages::{Account, PipeEnd, Traffic, WorkerCommand, WorkerEvent, WorkerIndex};
use crate::secure::dtls::DtlsCertificate;
use crate::stream::packet::StreamSet;
use crate::transport::buffer_pool::BufferPool;
use crate::transport::data_limits::DataLimits;
use crate::transport::demux::{Demux, TransportKey};
use crate::wire::rtcp::ReportBlock;

/// What a media core is told once.
#[derive(Clone)]
pub struct MediaConfig {
    /// Which worker it is.
    pub worker: WorkerIndex,
    /// The node's certificate.
    pub certificate: Arc<DtlsCertificate>,
    /// One instant on both clocks: the monotonic one that inputs come with, and the time since the Unix epoch then.
    pub epoch: (Instant, Duration),
    /// Where all randomness of the core comes from.
    pub seed: u64,
    /// Which audio gets through.
    pub audio: AudioLimits,
    /// How much data channels may carry.
    pub data: DataLimits,
}

/// Which audio gets through. None of it is ever held back for want of room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLimits {
    /// Of the people of a room only so many are heard, the loudest; `None`: all.
    pub last_n: Option<NonZeroU8>,
    /// Bits per second of all that one client sends by one transport, with what is around it on the path.
    pub bitrate: u32,
}

impl Default for AudioLimits {
    /// Everybody, and 600 kbit/s: music in stereo with redundancy.
    fn default() -> Self {
        Self { last_n: None, bitrate: 600_000 }
    }
}

/// The media core of one worker.
pub struct Media {
    config: MediaConfig,
    rng: ChaCha8Rng,
    demux: Demux,
    timers: Timers,
    counters: Counters,
    /// Of transports that are no more.
    closed_traffic: FxHashMap<Account, Traffic>,
    overload: Overload,

    // What there is, and by which names.
    routers: SlotMap<RouterKey, Router>,
    transports: SlotMap<TransportKey, UserTransport>,
    producers: SlotMap<ProducerKey, Producer>,
    consumers: SlotMap<ConsumerKey, Consumer>,
    pipe_consumers: SlotMap<PipeConsumerKey, PipeConsumer>,
    routers_by_id: FxHashMap<RouterId, RouterKey>,
    transports_by_id: FxHashMap<TransportId, TransportKey>,
    producers_by_id: FxHashMap<ProducerId, ProducerKey>,
    consumers_by_id: FxHashMap<ConsumerId, ConsumerKey>,
    /// By where they come from too: the mesh and the in-process routes of this node count apart.
    routes_in: FxHashMap<(PipeEnd, RouteId), ProducerKey>,
    routes_out: FxHashMap<(PipeEnd, RouteId), PipeConsumerKey>,
    data: DataPlane,

    // What the batch touched, and what came of it.
    touched_producers: Vec<ProducerKey>,
    dirty_transports: Vec<TransportKey>,
    switched: Vec<ConsumerKey>,
    wanted_anew: Vec<ProducerKey>,
    /// Whose videos are to get their shares anew.
    allocated_anew: Vec<TransportKey>,
    frames: FrameBatches,
    outputs: VecDeque<Output>,
    transmits: VecDeque<Transmit>,

    // Buffers that are used again.
    due: Vec<(Instant, TimerKey)>,
    buffers: BufferPool,
    compound: Vec<u8>,
    missing: Vec<u16>,
    blocks: Vec<ReportBlock>,
    reported: Vec<ConsumerKey>,
    demanding: Vec<ConsumerKey>,
    demands: Vec<Demand>,
    demand_order: Vec<usize>,
}

impl Media {
    /// A core without anything in it.
    pub fn new(config: MediaConfig) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(config.seed),
            demux: Demux::new(config.worker),
            config,
            timers: Timers::default(),
            counters: Counters::default(),
            closed_traffic: FxHashMap::default(),
            overload: Overload::default(),
            routers: SlotMap::with_key(),
            transports: SlotMap::with_key(),
            producers: SlotMap::with_key(),
            consumers: SlotMap::with_key(),
            pipe_consumers: SlotMap::with_key(),
            routers_by_id: FxHashMap::default(),
            transports_by_id: FxHashMap::default(),
            producers_by_id: FxHashMap::default(),
            consumers_by_id: FxHashMap::default(),
            routes_in: FxHashMap::default(),
            routes_out: FxHashMap::default(),
            data: DataPlane::default(),
            touched_producers: Vec::new(),
            dirty_transports: Vec::new(),
            switched: Vec::new(),
            wanted_anew: Vec::new(),
            allocated_anew: Vec::new(),
            frames: FrameBatches::default(),
            outputs: VecDeque::new(),
            transmits: VecDeque::new(),
            due: Vec::new(),
            buffers: BufferPool::default(),
            compound: Vec::new(),
            missing: Vec::new(),
            blocks: Vec::new(),
            reported: Vec::new(),
            demanding: Vec::new(),
            demands: Vec::new(),
            demand_order: Vec::new(),
        }
    }

    /// Does what the input asks for. Outputs are to be drained before the next one, but for [`Input::Lag`], which what
    /// has waited may follow.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let clock = Clock::new(now, self.config.epoch);
        match input {
            Input::Command(WorkerCommand::Request { id, request }) => {
                let result = self.handle_request(&clock, request);
                self.event(WorkerEvent::Response { id, result });
            }
            Input::Datagrams(datagrams) => self.receive_datagrams(&clock, datagrams),
            Input::Frames { from, frames } => self.receive_frames(&clock, from, frames),
            Input::Feedback { from, feedback } => self.receive_feedback(&clock, from, feedback),
            Input::Data { from, message } => self.receive_data(&clock, from, message),
            Input::AddressOwned { address, worker, owned } => self.receive_address(&clock, address, worker, owned),
            Input::ConnectionEnded(remote) => self.end_connection(&clock, remote),
            Input::Lag { waited, idle } => self.hear_lag(&clock, waited, idle),
            Input::Timeout => {}
        }
        self.finish_batch(&clock);
    }

    /// The next output.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(transmit) = self.transmits.pop_front() {
            let len = transmit.contents.len();
            self.counters.bytes_sent += len as u64;
            self.counters.datagrams_sent += transmit.segment_size.map_or(1, |size| len.div_ceil(size.max(1))) as u64;
            return Some(Output::Transmit(transmit));
        }
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is to be given next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.next_at(), self.overload.poll_timeout()].into_iter().flatten().min()
    }

    /// Takes a buffer of a [`Transmit`] or [`Output::Forward`] back, so that the next one needs no allocation.
    pub fn recycle(&mut self, buffer: Vec<u8>) {
        self.buffers.give(buffer);
    }

    /// Takes the vector of an [`Output::Frames`] back.
    pub fn recycle_frames(&mut self, frames: Vec<Frame>) {
        self.frames.recycle(frames);
    }

    fn finish_batch(&mut self, clock: &Clock) {
        let mut touched = std::mem::take(&mut self.touched_producers);
        for key in touched.drain(..) {
            self.producers.get_mut(key).into_iter().for_each(Producer::untouch);
            self.route(clock, key);
            self.look_what_is_offered(clock, key);
            self.serve_producer(clock, key);
        }
        self.touched_producers = touched;
        self.handle_timeouts(clock);
        self.send_data(clock);
        self.end_shedding(clock);
        self.allocate(clock);
        self.tell_layers();
        self.tell_wanted();
        self.outputs.extend(self.frames.drain().map(|(to, frames)| Output::Frames { to, frames }));
        for key in self.dirty_transports.drain(..) {
            if let Some(transport) = self.transports.get_mut(key) {
                transport.flush(clock.now, &mut self.transmits, &mut self.buffers);
                transport.arm_bandwidth(clock, key, &mut self.timers);
            }
        }
    }

    /// Calls the router for what a producer has pending.
    fn route(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let restarted = producer.take_restarted();
        if restarted != StreamSet::NONE {
            for consumer in producer.consumers() {
                let consumer = self.consumers.get_mut(*consumer);
                let consumer = consumer.filter(|consumer| restarted.contains(consumer.cut().stream()));
                consumer.into_iter().for_each(Consumer::restart);
            }
            for consumer in producer.pipe_consumers() {
                self.pipe_consumers.get_mut(*consumer).into_iter().for_each(|pipe| pipe.require_sync(restarted));
            }
        }
        let mut destinations = Destinations {
            consumers: &mut self.consumers,
            pipe_consumers: &mut self.pipe_consumers,
            transports: &mut self.transports,
            switched: &mut self.switched,
            dirty: &mut self.dirty_transports,
            buffers: &mut self.buffers,
            frames: &mut self.frames,
            counters: &mut self.counters,
        };
        route_rtp(producer, clock, &mut destinations);
    }

    fn event(&mut self, event: WorkerEvent) {
        self.outputs.push_back(Output::Event(event));
    }

    fn mark_dirty(&mut self, key: TransportKey) {
        if let Some(transport) = self.transports.get_mut(key) {
            mark_dirty(transport, key, &mut self.dirty_transports, &mut self.buffers);
        }
    }

    fn arm_transport(&mut self, key: TransportKey) {
        if let Some(transport) = self.transports.get_mut(key) {
            transport.arm(key, &mut self.timers);
        }
    }

    fn arm_producer(&mut self, now: Instant, key: ProducerKey) {
        if let Some(producer) = self.producers.get_mut(key) {
            producer.arm(now, key, &mut self.timers);
        }
    }
}
