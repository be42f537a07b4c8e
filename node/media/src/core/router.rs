//! A room's media on one worker: from each producer to everybody who wants it.

use std::borrow::Borrow;
use std::ops::RangeInclusive;
use std::time::Instant;

use slotmap::SlotMap;
use sluice_proto::ids::{ProducerId, RouterId};

use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::counters::Counters;
use crate::core::frames::FrameBatches;
use crate::core::loudest::Loudest;
use crate::core::pipe_consumer::PipeConsumer;
use crate::core::producer::Producer;
use crate::core::timers::{Timer, TimerKey, Timers};
use crate::core::user_transport::UserTransport;
use crate::drop_reason::DropReason;
use crate::keys::{ConsumerKey, DataProducerKey, PipeConsumerKey, ProducerKey, RouterKey};
use crate::messages::Account;
use crate::stream::audio_levels;
use crate::stream::packet::{StreamIndex, StreamSet};
use crate::stream::rtp_cache::CachedPacket;
use crate::stream::{MAX_PENDING, Stream};
use crate::transport::buffer_pool::BufferPool;
use crate::transport::demux::TransportKey;

/// A room's media on one worker.
#[derive(Debug)]
pub(crate) struct Router {
    id: RouterId,
    account: Account,
    /// The users of the room on this worker.
    transports: Vec<TransportKey>,
    /// Their producers, and those that live elsewhere.
    producers: Vec<ProducerKey>,
    /// Likewise, and those that have no client.
    data_producers: Vec<DataProducerKey>,
    /// Where not all are heard.
    loudest: Option<Box<Loudest>>,
    timer: Timer,
    /// Whether the next audio levels are on their way.
    observing: bool,
    /// Whether somebody was audible in the last report.
    audible: bool,
}

impl Router {
    /// An empty one.
    pub(crate) fn new(id: RouterId, account: Account, loudest: Option<Loudest>) -> Self {
        let (transports, producers, data_producers) = Default::default();
        let (loudest, timer) = (loudest.map(Box::new), Timer::default());
        Self { id, account, transports, producers, data_producers, loudest, timer, observing: false, audible: false }
    }

    /// Its id.
    pub(crate) fn id(&self) -> RouterId {
        self.id
    }

    /// On whose account its users' traffic goes.
    pub(crate) fn account(&self) -> Account {
        self.account
    }

    /// The users of the room on this worker.
    pub(crate) fn transports(&self) -> &[TransportKey] {
        &self.transports
    }

    /// A user comes.
    pub(crate) fn add_transport(&mut self, key: TransportKey) {
        self.transports.push(key);
    }

    /// A user goes.
    pub(crate) fn remove_transport(&mut self, key: TransportKey) {
        self.transports.retain(|other| *other != key);
    }

    /// The users' producers, and those that live elsewhere.
    pub(crate) fn producers(&self) -> &[ProducerKey] {
        &self.producers
    }

    /// A producer comes.
    pub(crate) fn add_producer(&mut self, key: ProducerKey) {
        self.producers.push(key);
    }

    /// A producer goes.
    pub(crate) fn remove_producer(&mut self, key: ProducerKey) {
        self.producers.retain(|other| *other != key);
        self.loudest.iter_mut().for_each(|loudest| loudest.forget(key));
    }

    /// The users' data producers, those that live elsewhere, and those that have no client.
    pub(crate) fn data_producers(&self) -> &[DataProducerKey] {
        &self.data_producers
    }

    /// A data producer comes.
    pub(crate) fn add_data_producer(&mut self, key: DataProducerKey) {
        self.data_producers.push(key);
    }

    /// A data producer goes.
    pub(crate) fn remove_data_producer(&mut self, key: DataProducerKey) {
        self.data_producers.retain(|other| *other != key);
    }

    /// Who is heard, where that are not all.
    pub(crate) fn loudest(&mut self) -> Option<&mut Loudest> {
        self.loudest.as_deref_mut()
    }

    /// Somebody said something of how loud it is: that is to be told of in a while.
    pub(crate) fn observe(&mut self, now: Instant, key: RouterKey, timers: &mut Timers) {
        if !std::mem::replace(&mut self.observing, true) {
            timers.arm(&mut self.timer, TimerKey::Router(key), Some(now + audio_levels::INTERVAL));
        }
    }

    /// These, the loudest first, were audible; nobody else is observed until somebody says something again. Returns
    /// whether that is to be told: somebody is audible, or was the last time.
    pub(crate) fn heard(&mut self, volumes: &[(ProducerId, i8)]) -> bool {
        self.observing = false;
        let was_audible = std::mem::replace(&mut self.audible, !volumes.is_empty());
        was_audible || self.audible
    }

    /// Whether it waits for this time.
    pub(crate) fn fire(&mut self, at: Instant) -> bool {
        self.timer.fire(at)
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
    /// Consumers that have begun or ended, or are sent another stream or other layers than before.
    pub switched: &'a mut Vec<ConsumerKey>,
    /// Those with something to flush.
    pub dirty: &'a mut Vec<TransportKey>,
    /// What they send in.
    pub buffers: &'a mut BufferPool,
    /// What leaves by pipes.
    pub frames: &'a mut FrameBatches,
    /// The account.
    pub counters: &'a mut Counters,
}

/// What a stream has pending, looked up once for all consumers that come behind one another and get it.
struct Pending<'p> {
    stream: StreamIndex,
    /// `None` in place of what is not kept any more.
    packets: [Option<CachedPacket<'p>>; MAX_PENDING],
    count: usize,
}

impl<'p> Pending<'p> {
    fn new(index: StreamIndex, stream: &'p Stream) -> Self {
        let mut packets = [None; MAX_PENDING];
        let pending = stream.pending();
        let count = pending.len();
        packets.iter_mut().zip(pending).for_each(|(place, packet)| *place = packet.ok());
        Self { stream: index, packets, count }
    }

    #[inline]
    fn packets(&self) -> impl Iterator<Item = Result<&CachedPacket<'p>, DropReason>> {
        self.packets.iter().take(self.count).map(|packet| packet.as_ref().ok_or(DropReason::Evicted))
    }
}

/// Sends what a producer has pending to all its consumers: consumer by consumer, so that each one's state and keys are
/// touched once a batch and its packets leave in one system call.
pub(crate) fn route_rtp(producer: &mut Producer, clock: &Clock, to: &mut Destinations<'_>) {
    let (mut waited_for, mut pending) = (StreamSet::NONE, None::<Pending<'_>>);
    let is_heard = producer.is_heard();
    if !is_heard {
        count_unheard(producer, to.counters);
    }
    for key in producer.consumers() {
        let Some(consumer) = to.consumers.get_mut(*key) else { continue };
        if !is_heard && !consumer.is_pinned() {
            continue;
        }
        let Some(stream) = producer.source_of(consumer.cut()) else { continue };
        if !consumer.is_active() {
            if consumer.cut().is_shed_wholly() {
                count_shed(stream, to.counters);
            }
            continue;
        }
        let Some(transport) = to.transports.get_mut(consumer.transport()) else { continue };
        mark_dirty(transport, consumer.transport(), to.dirty, to.buffers);
        if let Some(next) = consumer.cut().next_stream() {
            if let Some(stream) = producer.stream(next)
                && let Some(packets) = stream.pending_key_frame()
            {
                consumer.switch(producer);
                send(consumer, transport, stream.kept(packets).map(Ok), clock, to.counters);
                to.switched.push(*key);
                continue;
            }
            waited_for.insert(next);
        }
        let waited = consumer.waits_for_key_frame();
        match beginning(stream, waited) {
            Some(packets) => send(consumer, transport, stream.kept(packets).map(Ok), clock, to.counters),
            None => {
                let index = consumer.cut().stream();
                pending.take_if(|pending| pending.stream != index);
                let pending = pending.get_or_insert_with(|| Pending::new(index, stream));
                send(consumer, transport, pending.packets(), clock, to.counters);
            }
        }
        if consumer.waits_for_key_frame() || consumer.waits_for_layer() {
            waited_for.insert(consumer.cut().stream());
        }
        if consumer.take_layers_changed() || (waited && !consumer.waits_for_key_frame()) {
            to.switched.push(*key);
        }
    }
    for key in producer.pipe_consumers() {
        let Some(pipe_consumer) = to.pipe_consumers.get_mut(*key) else { continue };
        if !is_heard && !pipe_consumer.is_pinned() {
            continue;
        }
        for index in producer.stream_indices() {
            if let Some(stream) = producer.stream(index)
                && route_by_pipe(stream, index, pipe_consumer, to.frames, to.counters)
            {
                waited_for.insert(index);
            }
        }
    }
    producer.routed(waited_for);
}

/// Sends what a stream has pending by a pipe, if it is wanted there. Returns whether it is waited for a key frame.
fn route_by_pipe(
    stream: &Stream,
    index: StreamIndex,
    pipe_consumer: &mut PipeConsumer,
    frames: &mut FrameBatches,
    counters: &mut Counters,
) -> bool {
    let Some(cut) = pipe_consumer.cut(index).filter(|cut| cut.is_wanted()) else { return false };
    if cut.is_shed_wholly() {
        count_shed(stream, counters);
        return false;
    }
    match beginning(stream, cut.waits_for_key_frame()) {
        Some(packets) => send_by_pipe(pipe_consumer, index, stream.kept(packets).map(Ok), frames, counters),
        None => send_by_pipe(pipe_consumer, index, stream.pending(), frames, counters),
    }
    pipe_consumer.waits_for_key_frame(index)
}

/// Counts what is not sent to whom the worker is too busy for.
#[cold]
fn count_shed(stream: &Stream, counters: &mut Counters) {
    counters.drops.count_many(DropReason::Overload, stream.pending().len() as u64);
}

/// Counts what is passed on only to whom it is pinned, since others are louder.
#[cold]
fn count_unheard(producer: &Producer, counters: &mut Counters) {
    let pending = producer.stream(StreamIndex::ZERO).map_or(0, |stream| stream.pending().len());
    counters.drops.count_many(DropReason::NotLoudest, pending as u64);
}

/// What whoever waits for a key frame gets instead of what is pending.
fn beginning(stream: &Stream, waits: bool) -> Option<RangeInclusive<u64>> {
    if waits { stream.pending_key_frame() } else { None }
}

/// Sends packets of a producer to one of its consumers.
#[inline]
pub(crate) fn send<'p>(
    consumer: &mut Consumer,
    transport: &mut UserTransport,
    packets: impl Iterator<Item = Result<impl Borrow<CachedPacket<'p>>, DropReason>>,
    clock: &Clock,
    counters: &mut Counters,
) {
    for packet in packets {
        let sent = &mut counters.rtp_packets_sent;
        if let Err(reason) = packet.and_then(|packet| consumer.send_rtp(packet.borrow(), transport, clock, sent)) {
            counters.drops.count(reason);
        }
    }
}

/// Sends packets of a producer by one of its pipes.
pub(crate) fn send_by_pipe<'p>(
    pipe_consumer: &mut PipeConsumer,
    index: StreamIndex,
    packets: impl Iterator<Item = Result<CachedPacket<'p>, DropReason>>,
    frames: &mut FrameBatches,
    counters: &mut Counters,
) {
    for packet in packets {
        let sent = &mut counters.pipe_packets_sent;
        if let Err(reason) = packet.and_then(|packet| pipe_consumer.send_rtp(index, &packet, frames, sent)) {
            counters.drops.count(reason);
        }
    }
}

/// Enters a transport in the list of those to be flushed. To be called before something is sent.
#[inline]
pub(crate) fn mark_dirty(
    transport: &mut UserTransport,
    key: TransportKey,
    dirty: &mut Vec<TransportKey>,
    buffers: &mut BufferPool,
) {
    if transport.prepare(buffers) {
        dirty.push(key);
    }
}
