//! Data channels: messages from users to users, and between nodes and workers. What a user sends is pulled out of its
//! association, so that what is not pulled has the user wait; what a user does not take waits in its data consumers.

mod lifecycle;
mod routes;

use std::time::Duration;

use rustc_hash::FxHashMap;
use slotmap::SlotMap;
use sluice_proto::ids::{ConsumerId, ProducerId, RouteId};

use super::Media;
use crate::clock::Clock;
use crate::core::data_channels::Channel;
use crate::core::data_consumer::{DataConsumer, Full};
use crate::core::data_log::Message;
use crate::core::data_producer::{DataOrigin, DataProducer};
use crate::core::user_transport::UserTransport;
use crate::drop_reason::DropReason;
use crate::keys::{DataConsumerKey, DataProducerKey};
use crate::messages::{PipeEnd, SctpState, WorkerEvent};
use crate::transport::demux::TransportKey;
use crate::transport::sctp_association::Incoming;

/// Messages times receivers that one transport may make at once. With more to do others come first.
const MAX_DELIVERIES: usize = 256;

/// When it goes on then.
const TURN: Duration = Duration::from_millis(1);

/// What may wait for one client in all, in data consumers that are full: who does not read fills this many, and not as
/// many as there are producers in the room.
const FULL_CONSUMERS: usize = 2;

/// Of what a data consumer may hold, the share while its client has not said that it has the channel: that takes a
/// round trip, or for ever.
const UNANSWERED_SHARE: usize = 4;

/// Payload protocol identifier of the data channel establishment protocol, RFC 8832 section 8.1.
const PPID_DCEP: u32 = 50;

/// All data channels of a worker.
#[derive(Debug, Default)]
pub(crate) struct DataPlane {
    pub(super) producers: SlotMap<DataProducerKey, DataProducer>,
    pub(super) consumers: SlotMap<DataConsumerKey, DataConsumer>,
    producers_by_id: FxHashMap<ProducerId, DataProducerKey>,
    consumers_by_id: FxHashMap<ConsumerId, DataConsumerKey>,
    /// By where they come from, as those of media.
    pub(super) routes_in: FxHashMap<(PipeEnd, RouteId), DataProducerKey>,
    pub(super) routes_out: FxHashMap<(PipeEnd, RouteId), DataProducerKey>,
    /// Whose clients something came for since they were served last.
    waited_for: Vec<TransportKey>,
}

impl DataPlane {
    pub(super) fn producer_key(&self, id: ProducerId) -> Option<DataProducerKey> {
        self.producers_by_id.get(&id).copied()
    }

    pub(super) fn consumer_key(&self, id: ConsumerId) -> Option<DataConsumerKey> {
        self.consumers_by_id.get(&id).copied()
    }
}

impl Media {
    /// A client that there is something to send to, or will be, gets an association as soon as it can: long before it
    /// calls itself, for aiortc takes a call that crosses its own for another association.
    pub(super) fn open_sctp(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        if transport.channels().is_some_and(|channels| channels.has_consumers())
            && let Err(reason) = transport.webrtc().open_sctp(clock.now)
        {
            self.counters.drops.count(reason);
        }
    }

    /// Reads what a client has sent by data channels, as far as it may be read now.
    pub(super) fn read_channels(&mut self, clock: &Clock, key: TransportKey) {
        let (limits, mut deliveries) = (self.config.data, 0);
        if let Some(channels) = self.transports.get_mut(key).and_then(UserTransport::channels)
            && !channels.is_time_to_read(clock.now)
        {
            return;
        }
        while self.has_incoming(key) && !self.is_held_up(key) {
            let Some((association, channels)) = self.transports.get_mut(key).and_then(UserTransport::data) else {
                return;
            };
            let turn_ends = (deliveries >= MAX_DELIVERIES).then(|| clock.now + TURN);
            if let Some(at) = channels.allowance.waits_until(clock.now, &limits).or(turn_ends) {
                channels.read_at = Some(at);
                return self.arm_transport(key);
            }
            match association.next_incoming() {
                Some(Incoming::Message { stream, ppid, payload }) => {
                    channels.allowance.take(clock.now, payload.len(), &limits);
                    let channel = channels.on(stream);
                    deliveries += 1 + self.receive_message(clock, channel, Message { ppid, payload });
                }
                Some(Incoming::Reset(streams)) => self.hear_reset(clock, key, &streams),
                None => return,
            }
        }
    }

    fn has_incoming(&mut self, key: TransportKey) -> bool {
        let data = self.transports.get_mut(key).and_then(UserTransport::data);
        data.is_some_and(|(association, _)| association.has_incoming())
    }

    /// Whether a client is to wait, because the other end of a route takes less than it sends.
    fn is_held_up(&mut self, key: TransportKey) -> bool {
        let Some(channels) = self.transports.get_mut(key).and_then(UserTransport::channels) else { return false };
        let is_held_up = |key| self.data.producers.get(key).is_some_and(DataProducer::is_held_up);
        channels.producers().any(is_held_up)
    }

    /// A message of a client came. Returns how many receivers it had.
    fn receive_message(&mut self, clock: &Clock, channel: Option<Channel>, message: Message) -> usize {
        if message.ppid == PPID_DCEP {
            // Channels are announced by signalling. Who opens one in this way too needs no answer to send on it.
            self.counters.drops.count(DropReason::DcepUnwanted);
            return 0;
        }
        let Some(Channel::Producer(key)) = channel else {
            self.counters.drops.count(DropReason::UnknownStream);
            return 0;
        };
        if message.payload.len() > self.config.data.max_message_size {
            self.counters.drops.count(DropReason::DataTooLarge);
            return 0;
        }
        self.counters.data_messages_received += 1;
        self.counters.data_bytes_received += message.payload.len() as u64;
        self.route_message(clock, key, None, message)
    }

    /// Gives a producer's message to all who get it. Returns how many consumers that are.
    fn route_message(&mut self, clock: &Clock, key: DataProducerKey, number: Option<u64>, message: Message) -> usize {
        let (mut full, mut consumers) = (Vec::new(), 0);
        let nth = |data: &DataPlane, n| data.producers.get(key)?.consumers().get(n).copied();
        while let Some(key) = nth(&self.data, consumers) {
            consumers += 1;
            if self.deliver_message(key, &message).is_err() {
                full.push(key);
            }
        }
        let Some(producer) = self.data.producers.get_mut(key) else { return consumers };
        producer.push(clock.now, number, message);
        self.serve_data_producer(clock, key);
        for key in full {
            self.lose_of(clock, key);
        }
        consumers
    }

    /// Gives a consumer a message.
    fn deliver_message(&mut self, key: DataConsumerKey, message: &Message) -> Result<(), Full> {
        let Some(consumer) = self.data.consumers.get_mut(key) else { return Ok(()) };
        let (had_waiting, buffer) = (consumer.has_waiting(), self.config.data.consumer_buffer);
        let channels = self.transports.get_mut(consumer.transport()).and_then(UserTransport::channels);
        let Some(channels) = channels else { return Ok(()) };
        let room = if consumer.is_paused() { buffer / UNANSWERED_SHARE } else { buffer };
        if let Err(full) = consumer.push(message.clone(), room, |cost| channels.hold(cost, FULL_CONSUMERS * buffer)) {
            self.counters.drops.count(DropReason::DataConsumerFull);
            return Err(full);
        }
        if !had_waiting && consumer.has_waiting() {
            self.await_turn(key);
        }
        Ok(())
    }

    /// A consumer has something to send.
    fn await_turn(&mut self, key: DataConsumerKey) {
        let Some(transport) = self.data.consumers.get(key).map(DataConsumer::transport) else { return };
        let channels = self.transports.get_mut(transport).and_then(UserTransport::channels);
        channels.into_iter().for_each(|channels| channels.wait(key));
        self.data.waited_for.push(transport);
    }

    /// Something is lost of what a consumer was to get. If that loses nothing, it is closed.
    fn lose_of(&mut self, clock: &Clock, key: DataConsumerKey) {
        let Some(consumer) = self.data.consumers.get(key).filter(|consumer| consumer.is_reliable()) else { return };
        let consumer = consumer.id();
        self.event(WorkerEvent::DataConsumerClosed { consumer, by_client: false });
        self.close_data_consumer(clock, key);
    }

    /// Sends what came for clients.
    pub(super) fn send_data(&mut self, clock: &Clock) {
        // What comes of it is sent at the next turn.
        let mut waited_for = std::mem::take(&mut self.data.waited_for);
        for key in waited_for.drain(..) {
            self.mark_dirty(key);
            self.send_channels(clock, key);
            self.arm_transport(key);
        }
        if self.data.waited_for.is_empty() {
            self.data.waited_for = waited_for;
        }
    }

    /// Sends what waits for a client, as far as it takes that.
    pub(super) fn send_channels(&mut self, clock: &Clock, key: TransportKey) {
        let (mut sent, mut lost) = (false, Vec::new());
        let transport = self.transports.get_mut(key);
        if let Some((association, channels)) = transport.and_then(UserTransport::data) {
            while association.has_room()
                && let Some(key) = channels.next_waiting()
            {
                let Some(consumer) = self.data.consumers.get_mut(key) else { continue };
                let Some(message) = consumer.pop() else { continue };
                channels.release(message.cost());
                if consumer.has_waiting() {
                    channels.wait(key);
                }
                sent = true;
                match association.send(clock.now, consumer.stream(), message.ppid, &message.payload) {
                    Ok(()) => {
                        self.counters.data_messages_sent += 1;
                        self.counters.data_bytes_sent += message.payload.len() as u64;
                    }
                    Err(reason) => {
                        self.counters.drops.count(reason);
                        lost.push(key);
                    }
                }
            }
        }
        if sent {
            self.after_channels(clock, key);
        }
        for key in lost {
            self.lose_of(clock, key);
        }
    }

    /// The association of a transport was used.
    fn after_channels(&mut self, clock: &Clock, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        transport.webrtc().after_sctp();
        self.tell_transport(clock, key);
        self.mark_dirty(key);
        self.arm_transport(key);
    }

    /// The client has closed these channels, or all.
    fn hear_reset(&mut self, clock: &Clock, key: TransportKey, streams: &[u16]) {
        let Some(channels) = self.transports.get_mut(key).and_then(UserTransport::channels) else { return };
        let closed = match streams {
            [] => channels.all(),
            streams => streams.iter().filter_map(|stream| channels.closed_by_client(*stream)).collect(),
        };
        self.close_by_client(clock, closed);
        // Those are reset from here now, too.
        let channels = self.transports.get_mut(key).and_then(UserTransport::channels);
        channels.into_iter().for_each(|channels| channels.both_closed(streams));
    }

    /// The association came to a state. With it its channels end.
    pub(super) fn end_channels(&mut self, clock: &Clock, key: TransportKey, state: SctpState) {
        if let SctpState::Failed | SctpState::Closed = state {
            let channels = self.transports.get_mut(key).and_then(UserTransport::channels);
            let all = channels.map(|channels| channels.all()).unwrap_or_default();
            self.close_by_client(clock, all);
            let channels = self.transports.get_mut(key).and_then(UserTransport::channels);
            channels.into_iter().for_each(|channels| channels.both_closed(&[]));
        }
    }

    fn close_by_client(&mut self, clock: &Clock, channels: Vec<Channel>) {
        for channel in channels {
            match channel {
                Channel::Producer(key) => {
                    if let Some(producer) = self.data.producers.get(key).map(DataProducer::id) {
                        self.event(WorkerEvent::DataProducerClosed { producer });
                        self.close_data_producer(clock, key);
                    }
                }
                Channel::Consumer(key) => {
                    if let Some(consumer) = self.data.consumers.get(key).map(DataConsumer::id) {
                        self.event(WorkerEvent::DataConsumerClosed { consumer, by_client: true });
                        self.close_data_consumer(clock, key);
                    }
                }
            }
        }
    }

    /// Tells the client that a channel is closed.
    fn reset_stream(&mut self, clock: &Clock, key: TransportKey, stream: u16) {
        if let Some((association, channels)) = self.transports.get_mut(key).and_then(UserTransport::data) {
            if association.reset(clock.now, stream) {
                channels.close(stream);
            }
            self.after_channels(clock, key);
        }
    }

    /// It is time for something to be said again, or given up, on a route.
    pub(super) fn wake_data_producer(&mut self, clock: &Clock, key: DataProducerKey) {
        self.serve_data_producer(clock, key);
        self.go_on(clock, key);
    }

    /// Does what a data producer and its routes have to say and to send.
    pub(super) fn serve_data_producer(&mut self, clock: &Clock, key: DataProducerKey) {
        let Some(producer) = self.data.producers.get_mut(key) else { return };
        let dropped = producer.serve_routes(clock.now, &mut self.outputs);
        self.counters.drops.count_many(DropReason::DataRouteFull, dropped);
        producer.arm(key, &mut self.timers);
    }

    /// A client that waited for the other end of a route may go on.
    fn go_on(&mut self, clock: &Clock, key: DataProducerKey) {
        if let Some(DataOrigin::User(transport)) = self.data.producers.get(key).map(DataProducer::origin) {
            let transport = *transport;
            self.read_channels(clock, transport);
        }
    }
}
