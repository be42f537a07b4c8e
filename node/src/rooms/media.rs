//! Producers and consumers of a room, wherever the producers live.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use serde_json::Value;
use sluice_media::messages::{ConsumerScores, EncodingScore, Request, RequestError, StreamScores, WorkerIndex};
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpCodecParameters, RtpParameters};
use sluice_proto::placement::ProducerEntry;
use tracing::{Instrument, info_span};

use super::api::{Coding, NewConsumer, ProducerInfo, Refusal, Subscription};
use super::context::{Listener, Subject};
use super::encodings_wanted::EncodingsWanted;
use super::peer::Peer;
use super::requests::gone;
use super::room::{Room, SessionId};
use super::roster::producer_entry;
use crate::access::Place;
use crate::events::Publication;
use crate::ortc::{can_consume, consumer_rtp_parameters, layering};
use crate::pipes::{Home, Source};

/// The score of a stream that nothing is known of yet.
pub(super) const PERFECT: u8 = 10;

/// Longest `appData` of all producers of a peer together, in bytes of JSON: every node and every viewer in the room
/// gets them.
const MAX_APP_DATA_LEN: usize = 4_096;

pub(super) struct Producer {
    pub(super) source: Source,
    pub(super) owner: PeerId,
    /// JSON object as the client gave it.
    pub(super) app_data: Value,
    /// Only of this node's producers.
    pub(super) local: Option<LocalProducer>,
    pub(super) scores: StreamScores,
    pub(super) consumers: HashMap<SessionId, ConsumerId>,
    consumers_on: HashMap<WorkerIndex, usize>,
}

/// What only its own node has to know of a producer.
pub(super) struct LocalProducer {
    pub(super) session: SessionId,
    /// Where it comes in.
    transport: TransportId,
    /// As other nodes are told of it, which is often and each time whole.
    pub(super) entry: ProducerEntry,
    /// An operator paused it.
    pub(super) muted: bool,
    pub(super) encodings_wanted: EncodingsWanted,
    _place: Place,
    _publication: Publication,
    _listener: Listener,
}

pub(super) struct Consumer {
    pub(super) session: SessionId,
    pub(super) producer: ProducerId,
    pub(super) kind: MediaKind,
    worker: WorkerIndex,
    pub(super) transport: TransportId,
    rtp: Arc<RtpParameters>,
    pub(super) score: u8,
    _listener: Listener,
}

/// A producer that a worker has made for a peer of this node.
pub(super) struct NewProducer {
    pub(super) producer: ProducerId,
    pub(super) transport: TransportId,
    pub(super) kind: MediaKind,
    pub(super) rtp: RtpParameters,
    pub(super) app_data: Value,
    /// Among the producers of its namespace.
    pub(super) place: Place,
}

impl Producer {
    pub(super) fn new(source: Source, owner: PeerId, app_data: Value) -> Self {
        let scores = source.rtp.encodings.iter().map(|_| PERFECT).collect();
        Self { source, owner, app_data, local: None, scores, consumers: HashMap::new(), consumers_on: HashMap::new() }
    }

    /// What its streams carry.
    pub(super) fn coding(&self) -> Coding {
        coding(self.source.kind, &self.source.rtp)
    }

    /// These of its encodings come in, and the others do not.
    pub(super) fn set_scores(&mut self, scores: &[EncodingScore]) {
        let streams = self.scores.as_mut_slice();
        streams.fill(0);
        for EncodingScore { encoding, score, .. } in scores {
            streams.get_mut(*encoding).into_iter().for_each(|place| *place = *score);
        }
    }

    /// Whether it comes in over this transport.
    pub(super) fn is_on(&self, transport: TransportId) -> bool {
        self.local.as_ref().is_some_and(|local| local.transport == transport)
    }

    /// One more is at this worker. Whether it is the first for which the producer has to be brought there.
    fn count_consumer_on(&mut self, worker: WorkerIndex) -> bool {
        let count = self.consumers_on.entry(worker).or_default();
        *count += 1;
        *count == 1 && self.source.home != Home::Worker(worker)
    }

    /// One fewer is at this worker. Whether it was the last for which the producer was brought there.
    fn discount_consumer_on(&mut self, worker: WorkerIndex) -> bool {
        let Entry::Occupied(mut count) = self.consumers_on.entry(worker) else { return false };
        *count.get_mut() -= 1;
        if *count.get() > 0 {
            return false;
        }
        count.remove();
        self.source.home != Home::Worker(worker)
    }

    /// What consumers are told of it: the client's own data, and over how many pipes it comes.
    fn app_data(&self) -> Value {
        let mut app_data = self.app_data.clone();
        if let Value::Object(fields) = &mut app_data {
            let hops = match self.source.home {
                Home::Worker(_) => 0,
                Home::Node(_) => 1,
            };
            fields.insert("hops".to_owned(), hops.into());
        }
        app_data
    }
}

impl Consumer {
    /// What its stream carries.
    pub(super) fn coding(&self) -> Coding {
        coding(self.kind, &self.rtp)
    }

    /// As far as the room knows; of several streams the best may be the one that it gets.
    fn scores(&self, producer: &Producer) -> ConsumerScores {
        ConsumerScores { consumer: self.score, producer: producer.scores.best(), streams: producer.scores }
    }
}

fn coding(kind: MediaKind, rtp: &RtpParameters) -> Coding {
    Coding { kind, mime_type: rtp.codecs.first().map(RtpCodecParameters::mime_type) }
}

impl Room {
    /// Makes a producer of this node known to the room.
    pub(super) fn add_local_producer(&mut self, session: SessionId, new: NewProducer) -> Result<(), Refusal> {
        let NewProducer { producer, transport, kind, rtp, app_data, place } = new;
        let peer = self.peers.get(session).ok_or_else(gone)?;
        if !peer.transports().contains_key(&transport) {
            return Err(Refusal::not_found("transport", transport));
        }
        // Others may have been made since this one was asked for.
        self.check_room_for_producer(peer, &app_data)?;
        let peer = self.peers.get_mut(session).ok_or_else(gone)?;
        let joined = peer.joined.as_ref().ok_or_else(gone)?;
        // Its rights may be others by now.
        if !peer.rights.grants().may_publish(kind, &app_data) {
            return Err(Refusal::new(403, "this is not granted"));
        }
        let muted = self.imposed.mute(&peer.id, kind);
        let _publication = joined.attendance.publish(producer, kind);
        peer.producers.insert(producer);
        let (owner, worker) = (peer.id.clone(), peer.worker());
        let (room, rtp) = (self.key.clone(), Arc::new(rtp));
        let source = Source { producer, room, kind, rtp, paused: muted, home: Home::Worker(worker) };
        let local = LocalProducer {
            session,
            transport,
            entry: producer_entry(&source, &app_data),
            muted,
            encodings_wanted: EncodingsWanted::default(),
            _place: place,
            _publication,
            _listener: self.context.listen(Subject::Producer(producer), &self.me),
        };
        let new = Producer { local: Some(local), ..Producer::new(source, owner.clone(), app_data) };
        self.producers.insert(producer, new);
        self.context.pipes.publish(producer, self.key.clone(), worker);
        self.show_producer(&owner, producer);
        if muted {
            self.command(session, Request::PauseProducer { producer });
            self.peers.desk(session).into_iter().for_each(|desk| desk.set_muted(producer, true));
        }
        Ok(())
    }

    /// Whether a peer may have one more producer, with such data for everybody.
    pub(super) fn check_room_for_producer(&self, peer: &Peer, app_data: &Value) -> Result<(), Refusal> {
        let limit = self.context.limits.producers_per_peer;
        if peer.producers.len() >= limit {
            return Err(Refusal::new(403, format!("a peer may have {limit} producers")));
        }
        let local = peer.producers.iter().filter_map(|id| self.producers.get(id)?.local.as_ref());
        let len = app_data.to_string().len() + local.map(|local| local.entry.app_data.len()).sum::<usize>();
        if len > MAX_APP_DATA_LEN {
            let reason = format!("appData of a peer's producers may have {MAX_APP_DATA_LEN} bytes together, not {len}");
            return Err(Refusal::bad_request(reason));
        }
        Ok(())
    }

    /// Shows a producer to everybody who can receive it.
    pub(super) fn offer_to_everybody(&mut self, producer: ProducerId) {
        self.for_each(self.peers.joined_sessions(), move |room, session| room.offer(session, producer));
    }

    /// Shows a peer every producer that it shall receive.
    pub(super) fn offer_everything(&mut self, session: SessionId) {
        let Some(peer) = self.peers.get(session) else { return };
        let Some(joined) = &peer.joined else { return };
        let everything: Vec<ProducerId> = match joined.subscription {
            Subscription::Everything | Subscription::Stage => self.producers.keys().copied().collect(),
            Subscription::OnRequest => peer.wanted.producers().collect(),
        };
        for producer in everything {
            self.offer(session, producer);
        }
    }

    /// Tells everybody of a producer and its peer.
    pub(super) fn show_producer(&mut self, owner: &PeerId, id: ProducerId) {
        self.show(owner);
        self.view.set_on_stage(owner);
        if let Some(producer) = self.producers.get(&id) {
            let (kind, app_data, paused) = (producer.source.kind, producer.app_data(), producer.source.paused);
            self.view.show_producer(ProducerInfo { id, peer: owner.clone(), kind, app_data, paused });
        }
    }

    /// Shows a peer a producer, if it shall receive it and can.
    pub(super) fn offer(&mut self, session: SessionId, producer_id: ProducerId) {
        let (Some(producer), Some(peer)) = (self.producers.get_mut(&producer_id), self.peers.get_mut(session)) else {
            return;
        };
        if producer.owner == peer.id || producer.consumers.contains_key(&session) {
            return;
        }
        let Some(joined) = peer.joined.as_ref().filter(|_| peer.rights.grants().subscribe) else { return };
        if joined.subscription == Subscription::OnRequest && !peer.wanted.contains(producer_id) {
            return;
        }
        let capabilities = joined.rtp_capabilities.clone();
        let (Some(capabilities), Some(transport)) = (capabilities, peer.consuming_transport()) else { return };
        if !can_consume(&producer.source.rtp, &capabilities) {
            return;
        }
        if peer.has_all_consumers(self.context.limits.consumers_per_peer) {
            tracing::debug!(peer = %peer.id, producer = %producer_id, "the peer has as many consumers as it may have");
            return;
        }
        let (mid, ssrc) = peer.next_stream(producer_id);
        let Ok(rtp) = consumer_rtp_parameters(&producer.source.rtp, &capabilities, mid, ssrc) else { return };
        let id = ConsumerId::from_random_bytes(rand::random());
        let (worker, kind) = (peer.worker(), producer.source.kind);
        peer.consumers.insert(id);
        producer.consumers.insert(session, id);
        let is_first = producer.count_consumer_on(worker);
        let rtp = Arc::new(rtp);
        let consumer = Consumer {
            session,
            producer: producer_id,
            kind,
            worker,
            transport,
            rtp,
            score: PERFECT,
            _listener: self.context.listen(Subject::Consumer(id), &self.me),
        };
        self.consumers.insert(id, consumer);
        if is_first && let Some(router) = self.routers.get(&worker) {
            self.context.pipes.want(&producer.source, worker, router.id);
        }
        self.set_up(id);
    }

    /// What a client is asked to set up.
    pub(super) fn question(&self, id: ConsumerId) -> Option<NewConsumer> {
        let consumer = self.consumers.get(&id)?;
        let producer = self.producers.get(&consumer.producer)?;
        Some(NewConsumer {
            id,
            transport: consumer.transport,
            peer: producer.owner.clone(),
            producer: consumer.producer,
            kind: consumer.kind,
            rtp: Arc::clone(&consumer.rtp),
            layering: layering(&producer.source.rtp),
            app_data: producer.app_data(),
            producer_paused: producer.source.paused,
            scores: consumer.scores(producer),
        })
    }

    /// Makes a consumer, paused, and asks its client to do the same; neither waits for the other.
    fn set_up(&mut self, id: ConsumerId) {
        let (Some(consumer), Some(question)) = (self.consumers.get(&id), self.question(id)) else { return };
        let Some(peer) = self.peers.get(consumer.session) else { return };
        let session = consumer.session;
        let (kind, rtp, transport) = (consumer.kind, Arc::clone(&consumer.rtp), consumer.transport);
        let span = info_span!("consume", room = %self.key, peer = %peer.id, producer = %consumer.producer, ?kind);
        let request = Request::Consume {
            transport,
            consumer: id,
            producer: consumer.producer,
            kind,
            rtp: (*rtp).clone(),
            paused: true,
        };
        let answer = self.context.pipes.consume(consumer.worker, request);
        if let Some(desk) = self.peers.desk(session) {
            desk.ask(question);
        }
        self.later(Box::pin(answer.instrument(span.clone())), move |room, result| {
            let Err(error) = result else { return };
            span.in_scope(|| tracing::warn!(%error, "a consumer could not be made"));
            room.close_consumer(id);
            if error == RequestError::Unavailable {
                // It would never be offered again: the peer is to come back to a worker that has room for it.
                room.peers.set_unserved(session);
            }
        });
    }

    pub(super) fn on_consumer_answered(&mut self, session: SessionId, id: ConsumerId, accepted: bool) {
        self.peers.get_mut(session).into_iter().for_each(Peer::hear);
        if let Some(desk) = self.peers.desk(session) {
            if let Some(consumer) = self.consumers.get(&id)
                && let Some(producer) = self.producers.get(&consumer.producer)
            {
                desk.set_scores(id, consumer.scores(producer));
            }
            desk.answered(id, accepted);
        }
        // It may have ended while the client set it up, of which that is told.
        let Some(consumer) = self.consumers.get(&id).filter(|consumer| consumer.session == session) else { return };
        if accepted {
            return self.command(session, Request::ResumeConsumer { consumer: id });
        }
        if let Some(peer) = self.peers.get_mut(session) {
            peer.wanted.remove(consumer.producer);
        }
        self.command(session, Request::CloseConsumer { consumer: id });
        self.forget_consumer(id);
    }

    /// Ends a consumer whose producer or transport ended, or which its worker does not have: the worker needs no word.
    pub(super) fn close_consumer(&mut self, id: ConsumerId) {
        let desk = self.consumers.get(&id).and_then(|consumer| self.peers.desk(consumer.session));
        desk.into_iter().for_each(|desk| desk.close_consumer(id));
        self.forget_consumer(id);
    }

    /// Takes a consumer out of every table.
    pub(super) fn forget_consumer(&mut self, id: ConsumerId) {
        let Some(consumer) = self.consumers.remove(&id) else { return };
        if let Some(peer) = self.peers.get_mut(consumer.session) {
            peer.consumers.remove(&id);
        }
        if let Some(producer) = self.producers.get_mut(&consumer.producer) {
            producer.consumers.remove(&consumer.session);
            if producer.discount_consumer_on(consumer.worker) {
                self.context.pipes.release(consumer.producer, consumer.worker);
                self.entry_ended = true;
            }
        }
    }

    /// Ends a producer for the whole room. Its own worker has been told, or it lives elsewhere.
    pub(super) fn remove_producer(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.remove(&id) else { return };
        self.view.remove_producer(&producer.owner, id);
        // At once, and the rest by and by: nobody shall be asked to receive a peer who is gone meanwhile.
        for (session, consumer) in &producer.consumers {
            self.peers.get(*session).into_iter().for_each(|peer| peer.desk().withdraw(*consumer));
        }
        self.for_each(producer.consumers.into_values().collect(), Self::close_consumer);
        self.speakers.forget_producer(id);
        if let Some(desk) = producer.local.as_ref().and_then(|local| self.peers.desk(local.session)) {
            desk.forget_producer(id);
        }
        self.context.pipes.gone(id);
        self.entry_ended = true;
        if matches!(producer.source.home, Home::Worker(_)) {
            self.context.pipes.unpublish(id);
        }
    }

    /// Notes that a producer was paused or resumed and tells whoever receives it; false if it was so already.
    pub(super) fn set_producer_paused(&mut self, id: ProducerId, paused: bool) -> bool {
        let Some(producer) = self.producers.get_mut(&id) else { return false };
        if producer.source.paused == paused {
            return false;
        }
        producer.source.paused = paused;
        if let Some(local) = &mut producer.local {
            local.entry.paused = paused;
        }
        self.view.pause_producer(&producer.owner, id, paused);
        self.context.pipes.set_paused(id, paused);
        for (session, consumer) in &producer.consumers {
            self.peers.desk(*session).into_iter().for_each(|desk| desk.set_paused(*consumer, paused));
        }
        true
    }
}
