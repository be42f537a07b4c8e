//! A room's media on one worker: from each producer to everybody who wants it.

use slotmap::SlotMap;
use sluice_proto::ids::RouterId;

use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::counters::Counters;
use crate::core::frames::FrameBatches;
use crate::core::overload::Shed;
use crate::core::pipe_consumer::PipeConsumer;
use crate::core::producer::Producer;
use crate::core::timers::Timer;
use crate::core::user_transport::UserTransport;
use crate::drop_reason::DropReason;
use crate::keys::{ConsumerKey, PipeConsumerKey, ProducerKey};
use crate::stream::buffer_pool::BufferPool;
use crate::transport::demux::TransportKey;

/// A room's media on one worker.
#[derive(Debug)]
pub(crate) struct Router {
    /// Its id.
    pub id: RouterId,
    /// The users of the room on this worker.
    pub transports: Vec<TransportKey>,
    /// Their producers, and those that live elsewhere.
    pub producers: Vec<ProducerKey>,
    /// Wakes it up for the next audio levels.
    pub timer: Timer,
    /// Whether the next audio levels are on their way.
    pub observing: bool,
    /// Whether somebody was audible in the last report.
    pub audible: bool,
}

impl Router {
    /// An empty one.
    pub(crate) fn new(id: RouterId) -> Self {
        Self {
            id,
            transports: Vec::new(),
            producers: Vec::new(),
            timer: Timer::default(),
            observing: false,
            audible: false,
        }
    }
}

/// Where packets go.
pub(crate) struct Destinations<'a> {
    /// All of the worker's.
    pub consumers: &'a mut SlotMap<ConsumerKey, Consumer>,
    /// All of the worker's.
    pub pipe_consumers: &'a mut SlotMap<PipeConsumerKey, PipeConsumer>,
    /// All of the worker's.
    pub transports: &'a mut SlotMap<TransportKey, UserTransport>,
    /// Those with something to flush.
    pub dirty: &'a mut Vec<TransportKey>,
    /// What they send in.
    pub buffers: &'a mut BufferPool,
    /// What leaves by pipes.
    pub frames: &'a mut FrameBatches,
    /// The account.
    pub counters: &'a mut Counters,
}

/// Sends what a producer has pending to all its consumers: consumer by consumer, so that each one's state and keys are touched once
/// a batch and its packets leave in one system call.
pub(crate) fn route_rtp(producer: &mut Producer, clock: &Clock, to: &mut Destinations<'_>) {
    let mut somebody_waits = false;
    for key in &producer.consumers {
        let Some(consumer) = to.consumers.get_mut(*key) else { continue };
        if !consumer.active {
            count_shed(consumer.shed, producer, to.counters);
            continue;
        }
        let Some(transport) = to.transports.get_mut(consumer.transport) else { continue };
        mark_dirty(transport, consumer.transport, to.dirty, to.buffers);
        match beginning(producer, consumer.waits_for_key_frame()) {
            Some(packets) => send(consumer, transport, producer, packets, clock, to.counters),
            None => send(consumer, transport, producer, producer.pending.iter().copied(), clock, to.counters),
        }
        somebody_waits |= consumer.waits_for_key_frame();
    }
    for key in &producer.pipe_consumers {
        let Some(pipe_consumer) = to.pipe_consumers.get_mut(*key) else { continue };
        if pipe_consumer.shed == Shed::Yes {
            count_shed(pipe_consumer.shed, producer, to.counters);
            continue;
        }
        match beginning(producer, pipe_consumer.waits_for_key_frame()) {
            Some(packets) => send_by_pipe(pipe_consumer, producer, packets, to.frames, to.counters),
            None => send_by_pipe(pipe_consumer, producer, producer.pending.iter().copied(), to.frames, to.counters),
        }
        somebody_waits |= pipe_consumer.waits_for_key_frame();
    }
    producer.needs_key_frame |= somebody_waits && !producer.pending.is_empty();
    producer.pending.clear();
}

/// Counts what is not sent to whom the worker is too busy for.
#[cold]
fn count_shed(shed: Shed, producer: &Producer, counters: &mut Counters) {
    if shed == Shed::Yes {
        counters.drops.count_many(DropReason::Overload, producer.pending.len() as u64);
    }
}

/// What whoever waits for a key frame gets instead of what is pending.
fn beginning(producer: &Producer, waits: bool) -> Option<impl Iterator<Item = u16> + use<>> {
    let sequences = if waits { producer.pending_key_frame() } else { None };
    sequences.map(|sequences| sequences.map(|sequence| sequence as u16))
}

/// Sends some of a producer's packets to one of its consumers.
pub(crate) fn send(
    consumer: &mut Consumer,
    transport: &mut UserTransport,
    producer: &Producer,
    packets: impl Iterator<Item = u16>,
    clock: &Clock,
    counters: &mut Counters,
) {
    for packet in packets.filter_map(|seq| producer.cache.get(seq)) {
        match consumer.send_rtp(&packet, transport, clock) {
            Ok(packets) => counters.rtp_packets_sent += packets,
            Err(reason) => counters.drops.count(reason),
        }
    }
}

/// Sends some of a producer's packets by one of its pipes.
pub(crate) fn send_by_pipe(
    pipe_consumer: &mut PipeConsumer,
    producer: &Producer,
    packets: impl Iterator<Item = u16>,
    frames: &mut FrameBatches,
    counters: &mut Counters,
) {
    for packet in packets.filter_map(|seq| producer.cache.get(seq)) {
        match pipe_consumer.send_rtp(&packet, frames) {
            Ok(frames) => counters.pipe_packets_sent += frames,
            Err(reason) => counters.drops.count(reason),
        }
    }
}

/// Enters a transport in the list of those to be flushed. To be called before something is sent.
pub(crate) fn mark_dirty(
    transport: &mut UserTransport,
    key: TransportKey,
    dirty: &mut Vec<TransportKey>,
    buffers: &mut BufferPool,
) {
    if !transport.dirty {
        transport.dirty = true;
        transport.webrtc.prepare(buffers);
        dirty.push(key);
    }
}
