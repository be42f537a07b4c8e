//! Producers and consumers of a room, wherever the producers live.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sluice_media::messages::{ConsumerScores, EncodingScore, Request, RequestError, StreamScores, WorkerIndex};
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpCodecParameters, RtpParameters, SctpStreamParameters};
use sluice_proto::placement::ProducerEntry;
use tracing::{Instrument, info_span};

use super::api::{Coding, NewConsumer, ProducerInfo, Received, ReceivedMedia, Refusal, Subscription};
use super::context::{Listener, Subject};
use super::encodings_wanted::EncodingsWanted;
use super::peer::{Joined, Peer};
use super::requests::gone;
use super::room::{Room, SessionId};
use super::roster::producer_entry;
use crate::access::Place;
use crate::events::Publication;
use crate::ortc::{DataChannel, Layering, can_consume, consumer_rtp_parameters, layering};
use crate::pipes::{Content, Home, Source};

/// The score of a stream that nothing is known of yet.
pub(super) const PERFECT: u8 = 10;

/// After which time a data consumer begins anew that did not get all that there was: a client that is too slow gets a
/// second's worth at a time, and is told of each gap.
const DATA_ANEW: Duration = Duration::from_secs(1);

/// Longest `appData`, labels and protocols of all producers of a peer together, in bytes: every node and every viewer
/// in the room gets them.
const MAX_APP_DATA_LEN: usize = 4_096;

pub(super) struct Producer {
    pub(super) source: Source,
    /// Whose it is; `None`: it has what the tenant's server sends.
    pub(super) owner: Option<PeerId>,
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
    worker: WorkerIndex,
    pub(super) transport: TransportId,
    pub(super) form: Form,
    pub(super) score: u8,
    _listener: Listener,
}

/// In which form a consumer's client gets what the producer sends.
#[derive(Clone)]
pub(super) enum Form {
    Media { kind: MediaKind, rtp: Arc<RtpParameters> },
    Data { channel: Arc<DataChannel>, stream: SctpStreamParameters },
}

/// A producer that a worker has made for a peer of this node.
pub(super) struct NewProducer {
    pub(super) producer: ProducerId,
    pub(super) transport: TransportId,
    pub(super) content: Content,
    pub(super) app_data: Value,
    /// Among the producers of its namespace.
    pub(super) place: Place,
}

impl Producer {
    pub(super) fn new(source: Source, owner: Option<PeerId>, app_data: Value) -> Self {
        let encodings = source.content.rtp().map_or(0, |rtp| rtp.encodings.len());
        let scores = std::iter::repeat_n(PERFECT, encodings).collect();
        Self { source, owner, app_data, local: None, scores, consumers: HashMap::new(), consumers_on: HashMap::new() }
    }

    /// What its streams carry, if it is of media.
    pub(super) fn coding(&self) -> Option<Coding> {
        match &self.source.content {
            Content::Media { kind, rtp } => Some(coding(*kind, rtp)),
            Content::Data(_) => None,
        }
    }

    /// What it sends, if that is data.
    pub(super) fn channel(&self) -> Option<&Arc<DataChannel>> {
        match &self.source.content {
            Content::Media { .. } => None,
            Content::Data(channel) => Some(channel),
        }
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
    /// What its stream carries, if it is of media.
    pub(super) fn coding(&self) -> Option<Coding> {
        match &self.form {
            Form::Media { kind, rtp } => Some(coding(*kind, rtp)),
            Form::Data { .. } => None,
        }
    }

    /// As far as the room knows; of several streams the best may be the one that it gets.
    fn scores(&self, producer: &Producer) -> ConsumerScores {
        ConsumerScores { consumer: self.score, producer: producer.scores.best(), streams: producer.scores }
    }
}

/// Whether a peer can receive this, of data if its transport carries any.
pub(super) fn receives(joined: &Joined, content: &Content) -> bool {
    match content {
        Content::Media { rtp, .. } => {
            joined.rtp_capabilities.as_deref().is_some_and(|capabilities| can_consume(rtp, capabilities))
        }
        Content::Data(_) => true,
    }
}

/// How a peer is to get what a producer sends, over one of its transports.
fn form(peer: &mut Peer, transport: TransportId, source: &Source) -> Option<Form> {
    match &source.content {
        Content::Media { kind, rtp } => {
            let capabilities = peer.joined.as_ref()?.rtp_capabilities.clone()?;
            let (mid, ssrc) = peer.next_stream(source.producer);
            let rtp = consumer_rtp_parameters(rtp, &capabilities, mid, ssrc).ok()?;
            Some(Form::Media { kind: *kind, rtp: Arc::new(rtp) })
        }
        Content::Data(channel) => {
            let stream = channel.on_stream(peer.take_stream(transport)?);
            Some(Form::Data { channel: Arc::clone(channel), stream })
        }
    }
}

fn coding(kind: MediaKind, rtp: &RtpParameters) -> Coding {
    Coding { kind, mime_type: rtp.codecs.first().map(RtpCodecParameters::mime_type) }
}

impl Room {
    /// Makes a producer of this node known to the room.
    pub(super) fn add_local_producer(
        &mut self,
        session: SessionId,
        new: NewProducer,
        listener: Listener,
    ) -> Result<(), Refusal> {
        let NewProducer { producer, transport, content, app_data, place } = new;
        let peer = self.peers.get(session).ok_or_else(gone)?;
        if !peer.transports().contains_key(&transport) {
            return Err(Refusal::not_found("transport", transport));
        }
        // Others may have been made since this one was asked for.
        self.check_room_for_producer(peer, content.names_len(), &app_data)?;
        let peer = self.peers.get_mut(session).ok_or_else(gone)?;
        let joined = peer.joined.as_ref().ok_or_else(gone)?;
        // Its rights may be others by now.
        if !peer.rights.grants().may_produce(&content, &app_data) {
            return Err(Refusal::new(403, "this is not granted"));
        }
        let muted = self.imposed.mute(&peer.id, content.kind());
        let _publication = joined.attendance.publish(producer, content.kind());
        peer.producers.insert(producer);
        let (owner, worker) = (peer.id.clone(), peer.worker());
        let source = Source { producer, room: self.key.clone(), content, paused: muted, home: Home::Worker(worker) };
        let local = LocalProducer {
            session,
            transport,
            entry: producer_entry(&source, &app_data),
            muted,
            encodings_wanted: EncodingsWanted::default(),
            _place: place,
            _publication,
            _listener: listener,
        };
        let new = Producer { local: Some(local), ..Producer::new(source, Some(owner.clone()), app_data) };
        self.producers.insert(producer, new);
        self.context.pipes.publish(producer, self.key.clone(), worker);
        self.show_producer(&owner, producer);
        if muted {
            self.command(session, Request::PauseProducer { producer });
            self.peers.desk(session).into_iter().for_each(|desk| desk.set_muted(producer, true));
        }
        Ok(())
    }

    /// Whether a peer may have one more producer, with names of this length and such data for everybody.
    pub(super) fn check_room_for_producer(
        &self,
        peer: &Peer,
        names_len: usize,
        app_data: &Value,
    ) -> Result<(), Refusal> {
        let limit = self.context.limits.producers_per_peer;
        if peer.producers.len() >= limit {
            return Err(Refusal::new(403, format!("a peer may have {limit} producers")));
        }
        let local = peer.producers.iter().filter_map(|id| self.producers.get(id)?.local.as_ref());
        let own = peer.producers.iter().filter_map(|id| Some(self.producers.get(id)?.source.content.names_len()));
        let len = app_data.to_string().len() + local.map(|local| local.entry.app_data.len()).sum::<usize>();
        let len = len + names_len + own.sum::<usize>();
        if len > MAX_APP_DATA_LEN {
            let reason = format!(
                "appData, labels and protocols of a peer's producers may have {MAX_APP_DATA_LEN} bytes together, not {len}"
            );
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

    /// Tells everybody of a producer and, if it is of media, of its peer.
    pub(super) fn show_producer(&mut self, owner: &PeerId, id: ProducerId) {
        let Some(producer) = self.producers.get(&id) else { return };
        if producer.channel().is_none() {
            self.show(owner);
            self.view.set_on_stage(owner);
        }
        let (kind, app_data, paused) = (producer.source.content.kind(), producer.app_data(), producer.source.paused);
        self.view.show_producer(ProducerInfo { id, peer: owner.clone(), kind, app_data, paused });
    }

    /// Whether everybody may get what a peer sends as data: in a large room that is of the stage alone, or a message of
    /// each would be a message to each.
    pub(super) fn spreads_data(&self, peer: &PeerId) -> bool {
        let is_staged = || self.stage.contains(peer) || self.elsewhere.peer(peer).is_some_and(|peer| peer.on_stage);
        self.is_small() || is_staged()
    }

    /// Who may get a data producer may be others now. Whoever got it before the room was large gets it on, until its
    /// peer leaves the stage.
    pub(super) fn spread_data(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get(&id) else { return };
        if producer.owner.as_ref().is_none_or(|owner| self.spreads_data(owner)) {
            return self.offer_to_everybody(id);
        }
        let consumers: Vec<(SessionId, ConsumerId)> =
            producer.consumers.iter().map(|(session, consumer)| (*session, *consumer)).collect();
        for (session, consumer) in consumers {
            self.command(session, Request::CloseConsumer { consumer });
            self.close_consumer(consumer);
        }
    }

    /// Shows a peer a producer, if it shall receive it and can.
    pub(super) fn offer(&mut self, session: SessionId, producer_id: ProducerId) {
        let Some(producer) = self.producers.get(&producer_id) else { return };
        let spreads = |owner: &PeerId| producer.channel().is_none() || self.spreads_data(owner);
        if !producer.owner.as_ref().is_none_or(spreads) {
            return;
        }
        let (Some(producer), Some(peer)) = (self.producers.get_mut(&producer_id), self.peers.get_mut(session)) else {
            return;
        };
        if producer.owner.as_ref() == Some(&peer.id) || producer.consumers.contains_key(&session) {
            return;
        }
        // What the tenant's server sends is sent to each worker by itself.
        if producer.owner.is_none() && producer.source.home != Home::Worker(peer.worker()) {
            return;
        }
        let Some(joined) = peer.joined.as_ref().filter(|_| peer.rights.grants().subscribe) else { return };
        if joined.subscription == Subscription::OnRequest && !peer.wanted.contains(producer_id) {
            return;
        }
        if !receives(joined, &producer.source.content) {
            return;
        }
        let Some(transport) = peer.consuming_transport() else { return };
        if peer.has_all_consumers(self.context.limits.consumers_per_peer) {
            tracing::debug!(peer = %peer.id, producer = %producer_id, "the peer has as many consumers as it may have");
            return;
        }
        let Some(form) = form(peer, transport, &producer.source) else { return };
        let id = ConsumerId::from_random_bytes(rand::random());
        let worker = peer.worker();
        peer.consumers.insert(id);
        producer.consumers.insert(session, id);
        let is_first = producer.count_consumer_on(worker);
        let consumer = Consumer {
            session,
            producer: producer_id,
            worker,
            transport,
            form,
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
        let content = match &consumer.form {
            Form::Media { kind, rtp } => Received::Media(Box::new(ReceivedMedia {
                kind: *kind,
                rtp: Arc::clone(rtp),
                layering: producer.source.content.rtp().map_or(Layering::None, layering),
                scores: consumer.scores(producer),
            })),
            Form::Data { channel, stream } => Received::Data { channel: Arc::clone(channel), stream: *stream },
        };
        Some(NewConsumer {
            id,
            transport: consumer.transport,
            peer: producer.owner.clone(),
            producer: consumer.producer,
            content,
            app_data: producer.app_data(),
            producer_paused: producer.source.paused,
        })
    }

    /// Makes a consumer, paused, and asks its client to do the same; neither waits for the other. Messages of data wait
    /// until the client has.
    fn set_up(&mut self, id: ConsumerId) {
        let (Some(consumer), Some(question)) = (self.consumers.get(&id), self.question(id)) else { return };
        let Some(peer) = self.peers.get(consumer.session) else { return };
        let session = consumer.session;
        let (producer, transport) = (consumer.producer, consumer.transport);
        let span = info_span!("consume", room = %self.key, peer = %peer.id, %producer);
        let request = match &consumer.form {
            Form::Media { kind, rtp } => {
                Request::Consume { transport, consumer: id, producer, kind: *kind, rtp: (**rtp).clone(), paused: true }
            }
            Form::Data { stream, .. } => {
                Request::ConsumeData { transport, consumer: id, producer, stream: *stream, paused: true }
            }
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
                && matches!(consumer.form, Form::Media { .. })
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
            if let Form::Data { stream, .. } = consumer.form {
                peer.give_back_stream(consumer.transport, stream.stream_id);
            }
        }
        if let Some(producer) = self.producers.get_mut(&consumer.producer) {
            producer.consumers.remove(&consumer.session);
            if producer.discount_consumer_on(consumer.worker) {
                self.context.pipes.release(consumer.producer, consumer.worker);
                self.entry_ended = true;
            }
        }
    }

    /// A data consumer was ended by its worker.
    pub(super) fn on_data_consumer_closed(&mut self, id: ConsumerId, by_client: bool) {
        let Some(consumer) = self.consumers.get(&id) else { return };
        let (session, producer) = (consumer.session, consumer.producer);
        self.close_consumer(id);
        if !by_client {
            tracing::debug!(room = %self.key, %producer, "a data consumer did not get all that there was: it begins anew");
            self.after(DATA_ANEW, move |room| room.offer(session, producer));
        }
    }

    /// A client closed the channel of one of its data producers, perhaps of one that is not known here yet.
    pub(super) fn on_data_producer_closed(&mut self, id: ProducerId) {
        self.making.remove(&id);
        let local = self.producers.get(&id).and_then(|producer| producer.local.as_ref());
        let Some(session) = local.map(|local| local.session) else { return };
        self.forget_own_producer(session, id);
    }

    /// Ends a producer for the whole room. Its own worker has been told, or it lives elsewhere.
    pub(super) fn remove_producer(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.remove(&id) else { return };
        if let (Some(channel), Some(local)) = (producer.channel(), &producer.local)
            && let Some(peer) = self.peers.get_mut(local.session)
        {
            peer.give_back_stream(local.transport, channel.sctp_stream_parameters.stream_id);
        }
        producer.owner.iter().for_each(|owner| self.view.remove_producer(owner, id));
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
        producer.owner.iter().for_each(|owner| self.view.pause_producer(owner, id, paused));
        self.context.pipes.set_paused(id, paused);
        for (session, consumer) in &producer.consumers {
            self.peers.desk(*session).into_iter().for_each(|desk| desk.set_paused(*consumer, paused));
        }
        true
    }
}
