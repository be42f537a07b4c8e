//! What peers ask for.

use std::sync::Arc;

use serde_json::Value;
use sluice_media::TransportAddress;
use sluice_media::messages::{Request, Response};
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use tracing::{Instrument, Span, info_span};

use super::api::{PeerReply, PeerRequest, Refusal};
use super::context::Subject;
use super::media::{Consumer, Form, NewProducer, Producer};
use super::room::{Reply, Room, SessionId};
use crate::access::{Namespace, Quota};
use crate::ortc::{DataChannel, allowed_capabilities, check_codecs, negotiate_producer};
use crate::pipes::Content;

/// Answered at once, or by a continuation.
pub(super) type Outcome = Option<Result<PeerReply, Refusal>>;

/// Who asks.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) session: SessionId,
    pub(super) peer: PeerId,
    /// Until somebody has taken it who answers later.
    reply: Option<Reply>,
}

impl Asker {
    /// Leaves the answer for later.
    pub(super) fn answer_later(&mut self) -> Option<Reply> {
        self.reply.take()
    }
}

impl Room {
    pub(super) fn on_request(&mut self, session: SessionId, request: PeerRequest, reply: Reply) {
        let Some(peer) = self.peers.get_mut(session) else { return self.reply(Some(reply), Err(gone())) };
        if peer.is_gone() {
            return self.close_left(session);
        }
        peer.hear();
        let mut asker = Asker { session, peer: peer.id.clone(), reply: Some(reply) };
        let outcome = self.request(&mut asker, request).unwrap_or_else(|refusal| Some(Err(refusal)));
        if let Some(result) = outcome {
            self.reply(asker.reply, result);
        }
    }

    fn request(&mut self, asker: &mut Asker, request: PeerRequest) -> Result<Outcome, Refusal> {
        let changes = changes(&request);
        if changes > 0 {
            let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
            peer.take_changes(changes, &self.context.address_limits)?;
        }
        let reply = match request {
            PeerRequest::RouterRtpCapabilities => {
                let of_tenant = self.namespace(asker)?.codecs();
                let capabilities = allowed_capabilities(&self.context.codecs, &of_tenant);
                PeerReply::RouterRtpCapabilities(Box::new(capabilities))
            }
            PeerRequest::CreateTransport { consuming, force_tcp, data_streams } => {
                self.create_transport(asker, consuming, force_tcp, data_streams)?
            }
            PeerRequest::ConnectTransport { transport, dtls } => return self.connect_transport(asker, transport, dtls),
            PeerRequest::Join(join) => return self.join(asker, *join),
            PeerRequest::RestartIce { transport } => self.restart_ice(asker, transport)?,
            PeerRequest::Produce { transport, kind, rtp, app_data } => {
                return self.produce(asker, transport, kind, *rtp, app_data);
            }
            PeerRequest::ProduceData { transport, channel, app_data } => {
                return self.produce_data(asker, transport, *channel, app_data);
            }
            PeerRequest::CloseProducer { producer } => self.close_producer(asker, producer)?,
            PeerRequest::SetProducerPaused { producer, paused } => self.pause_producer(asker, producer, paused)?,
            PeerRequest::Subscribe { producer, mid } => self.subscribe(asker, producer, mid)?,
            PeerRequest::Unsubscribe { producer } => self.unsubscribe(asker, producer)?,
            PeerRequest::SetConsumerPaused { consumer, paused } => {
                let request =
                    if paused { Request::PauseConsumer { consumer } } else { Request::ResumeConsumer { consumer } };
                self.tell_consumer(asker, consumer, request)?
            }
            PeerRequest::RequestKeyFrame { consumer } => {
                self.tell_consumer(asker, consumer, Request::RequestKeyFrame { consumer })?
            }
            PeerRequest::SetPreferredLayers { consumer, layers } => {
                self.tell_consumer(asker, consumer, Request::SetPreferredLayers { consumer, layers })?
            }
            PeerRequest::SetConsumerPriority { consumer, priority } => {
                self.tell_consumer(asker, consumer, Request::SetConsumerPriority { consumer, priority })?
            }
            PeerRequest::ChangeDisplayName { display_name } => self.change_display_name(asker, display_name)?,
            PeerRequest::TransportStats { transport } => return self.transport_stats(asker, transport),
            PeerRequest::ProducerStats { producer } => return self.producer_stats(asker, producer),
            PeerRequest::ConsumerStats { consumer } => return self.consumer_stats(asker, consumer),
            PeerRequest::DataProducerStats { producer } => return self.data_producer_stats(asker, producer),
            PeerRequest::DataConsumerStats { consumer } => return self.data_consumer_stats(asker, consumer),
            PeerRequest::Renew(rights) => self.renew_rights(asker, *rights)?,
            PeerRequest::Peers { after, limit } => self.list_peers(asker, after.as_ref(), limit)?,
        };
        Ok(Some(Ok(reply)))
    }

    fn produce(
        &mut self,
        asker: &mut Asker,
        transport: TransportId,
        kind: MediaKind,
        rtp: RtpParameters,
        app_data: Value,
    ) -> Result<Outcome, Refusal> {
        let span = info_span!("produce", room = %self.key, peer = %asker.peer, ?kind);
        let _entered = span.clone().entered();
        self.transport_of(asker, transport)?;
        let peer = self.peers.get(asker.session).ok_or_else(gone)?;
        if peer.joined.is_none() {
            return Err(Refusal::new(409, "join comes before produce"));
        }
        if !peer.rights.grants().may_publish(kind, &app_data) {
            return Err(Refusal::new(403, "the token does not allow to publish this"));
        }
        self.check_room_for_producer(peer, 0, &app_data)?;
        let negotiated = negotiate_producer(kind, &rtp, rand::random(), &peer.cname)?;
        check_codecs(&negotiated.consumable, &self.context.codecs, &peer.rights.namespace().codecs())?;
        let place = peer.rights.namespace().take(Quota::Producer).map_err(|words| Refusal::new(403, words))?;
        let producer = ProducerId::from_random_bytes(rand::random());
        let mapping = negotiated.mapping;
        let request = Request::Produce { transport, producer, kind, rtp, mapping, paused: false };
        let content = Content::Media { kind, rtp: Arc::new(negotiated.consumable) };
        let new = NewProducer { producer, transport, content, app_data, place };
        self.make_producer(asker, request, new, PeerReply::Produced(producer), span.clone())
    }

    fn produce_data(
        &mut self,
        asker: &mut Asker,
        transport: TransportId,
        channel: DataChannel,
        app_data: Value,
    ) -> Result<Outcome, Refusal> {
        let span = info_span!("produce data", room = %self.key, peer = %asker.peer, label = channel.label);
        let peer = self.peers.get(asker.session).ok_or_else(gone)?;
        if peer.joined.is_none() {
            return Err(Refusal::new(409, "join comes before produceData"));
        }
        if !peer.rights.grants().may_publish_data() {
            return Err(Refusal::new(403, "the token does not allow to publish data"));
        }
        if !self.spreads_data(&asker.peer) {
            return Err(Refusal::new(403, "in a large room only those on the stage send data"));
        }
        let channel = Arc::new(channel);
        let content = Content::Data(Arc::clone(&channel));
        self.check_room_for_producer(peer, content.names_len(), &app_data)?;
        let place = peer.rights.namespace().take(Quota::Producer).map_err(|words| Refusal::new(403, words))?;
        let stream = channel.sctp_stream_parameters;
        self.peers.get_mut(asker.session).ok_or_else(gone)?.reserve_stream(transport, stream.stream_id)?;
        let producer = ProducerId::from_random_bytes(rand::random());
        let request = Request::ProduceData { transport, producer, stream };
        let new = NewProducer { producer, transport, content, app_data, place };
        self.make_producer(asker, request, new, PeerReply::ProducedData(producer), span)
    }

    /// Has the peer's worker make a producer, and makes it known when it has.
    fn make_producer(
        &mut self,
        asker: &mut Asker,
        request: Request,
        new: NewProducer,
        done: PeerReply,
        span: Span,
    ) -> Result<Outcome, Refusal> {
        let worker = self.peers.get(asker.session).ok_or_else(gone)?.worker();
        // Its client may close it before the worker's answer is heard.
        let listener = self.context.listen(Subject::Producer(new.producer), &self.me);
        self.making.insert(new.producer);
        let answer = self.context.worker(worker).request(request);
        let (session, id, reply) = (asker.session, asker.peer.clone(), asker.answer_later());
        self.later(Box::pin(answer.instrument(span.clone())), move |room, result| {
            let _entered = span.enter();
            let (producer, transport, stream) = (new.producer, new.transport, new.content.stream());
            let is_there = room.making.remove(&producer);
            let result = result.map_err(Refusal::from).and_then(|_| {
                if !is_there {
                    return Err(Refusal::new(409, "its channel is closed already"));
                }
                let added = room.add_local_producer(session, new, listener);
                added.inspect_err(|_| room.context.worker(worker).send(Request::CloseProducer { producer }))
            });
            let added = result.is_ok();
            room.reply(reply, result.map(|()| done));
            if added {
                room.offer_to_everybody(producer);
                room.publish(&id);
            } else if let Some(stream) = stream
                && let Some(peer) = room.peers.get_mut(session)
            {
                peer.give_back_stream(transport, stream.stream_id);
            }
        });
        Ok(None)
    }

    fn close_producer(&mut self, asker: &Asker, producer: ProducerId) -> Result<PeerReply, Refusal> {
        self.own_producer(asker, producer)?;
        self.close_own_producer(asker.session, producer);
        Ok(PeerReply::Done)
    }

    /// Ends a producer of a peer that goes on.
    pub(super) fn close_own_producer(&mut self, session: SessionId, producer: ProducerId) {
        self.command(session, Request::CloseProducer { producer });
        self.forget_own_producer(session, producer);
    }

    /// The same of one that its worker has not any more.
    pub(super) fn forget_own_producer(&mut self, session: SessionId, producer: ProducerId) {
        if let Some(peer) = self.peers.get_mut(session) {
            peer.producers.remove(&producer);
        }
        self.remove_producer(producer);
        if let Some(owner) = self.peers.get(session).map(|peer| peer.id.clone()) {
            self.publish(&owner);
        }
    }

    fn pause_producer(&mut self, asker: &Asker, producer: ProducerId, paused: bool) -> Result<PeerReply, Refusal> {
        self.own_producer(asker, producer)?.coding().ok_or_else(|| Refusal::not_found("producer", producer))?;
        let local = self.producers.get(&producer).and_then(|found| found.local.as_ref());
        if !paused && local.is_some_and(|local| local.muted) {
            return Err(Refusal::new(403, "the producer was muted"));
        }
        let request = if paused { Request::PauseProducer { producer } } else { Request::ResumeProducer { producer } };
        self.command(asker.session, request);
        if self.set_producer_paused(producer, paused) {
            self.publish(&asker.peer);
        }
        Ok(PeerReply::Done)
    }

    fn tell_consumer(&mut self, asker: &Asker, consumer: ConsumerId, request: Request) -> Result<PeerReply, Refusal> {
        self.own_consumer(asker, consumer)?;
        self.command(asker.session, request);
        Ok(PeerReply::Done)
    }

    fn change_display_name(&mut self, asker: &Asker, display_name: String) -> Result<PeerReply, Refusal> {
        let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
        let joined = peer.joined.as_mut();
        let joined = joined.ok_or_else(|| Refusal::new(409, "join comes before changeDisplayName"))?;
        if peer.rights.name().is_some() {
            return Err(Refusal::new(403, "the token says the display name"));
        }
        joined.display_name = display_name;
        self.rename(&asker.peer);
        self.publish(&asker.peer);
        Ok(PeerReply::Done)
    }

    fn list_peers(&self, asker: &Asker, after: Option<&PeerId>, limit: Option<usize>) -> Result<PeerReply, Refusal> {
        let peer = self.peers.get(asker.session).ok_or_else(gone)?;
        if peer.joined.is_none() {
            return Err(Refusal::new(409, "join comes before getPeers"));
        }
        Ok(PeerReply::Peers(Box::new(self.page(after, limit, false))))
    }

    fn transport_stats(&mut self, asker: &mut Asker, transport: TransportId) -> Result<Outcome, Refusal> {
        self.transport_of(asker, transport)?;
        let addresses = self.context.media_addresses();
        self.ask(asker, Request::TransportStats { transport }, move |response| match response {
            Response::TransportStats(stats) => {
                let local = stats.remote_address.and_then(|remote| local_address(&addresses, remote));
                Some(PeerReply::TransportStats { id: transport, local, stats })
            }
            _ => None,
        })
    }

    fn producer_stats(&mut self, asker: &mut Asker, producer: ProducerId) -> Result<Outcome, Refusal> {
        let coding = self.own_producer(asker, producer)?.coding();
        let coding = coding.ok_or_else(|| Refusal::not_found("producer", producer))?;
        self.ask(asker, Request::ProducerStats { producer }, move |response| match response {
            Response::ProducerStats(stats) => Some(PeerReply::ProducerStats(coding, stats)),
            _ => None,
        })
    }

    fn consumer_stats(&mut self, asker: &mut Asker, consumer: ConsumerId) -> Result<Outcome, Refusal> {
        let own = self.own_consumer(asker, consumer)?;
        let sent = own.coding().ok_or_else(|| Refusal::not_found("consumer", consumer))?;
        let received = self.producers.get(&own.producer).and_then(Producer::coding).unwrap_or(sent);
        self.ask(asker, Request::ConsumerStats { consumer }, move |response| match response {
            Response::ConsumerStats(stats) => Some(PeerReply::ConsumerStats { sent, received, stats }),
            _ => None,
        })
    }

    fn data_producer_stats(&mut self, asker: &mut Asker, producer: ProducerId) -> Result<Outcome, Refusal> {
        let channel = self.own_producer(asker, producer)?.channel().cloned();
        let channel = channel.ok_or_else(|| Refusal::not_found("data producer", producer))?;
        self.ask(asker, Request::DataProducerStats { producer }, move |response| match response {
            Response::DataStats(stats) => Some(PeerReply::DataProducerStats(producer, channel, stats)),
            _ => None,
        })
    }

    fn data_consumer_stats(&mut self, asker: &mut Asker, consumer: ConsumerId) -> Result<Outcome, Refusal> {
        let Form::Data { channel, .. } = self.own_consumer(asker, consumer)?.form.clone() else {
            return Err(Refusal::not_found("data consumer", consumer));
        };
        self.ask(asker, Request::DataConsumerStats { consumer }, move |response| match response {
            Response::DataStats(stats) => Some(PeerReply::DataConsumerStats(consumer, channel, stats)),
            _ => None,
        })
    }

    /// Answers a peer with what its worker says.
    fn ask<F>(&mut self, asker: &mut Asker, request: Request, read: F) -> Result<Outcome, Refusal>
    where
        F: FnOnce(Response) -> Option<PeerReply> + Send + 'static,
    {
        let peer = self.peers.get(asker.session).ok_or_else(gone)?;
        let answer = self.context.worker(peer.worker()).request(request);
        let reply = asker.answer_later();
        self.later(answer, move |room, result| {
            let unexpected = || Refusal::new(500, "the media worker gave another answer");
            let result = result.map_err(Refusal::from).and_then(|response| read(response).ok_or_else(unexpected));
            room.reply(reply, result);
        });
        Ok(None)
    }

    fn namespace(&self, asker: &Asker) -> Result<&Namespace, Refusal> {
        Ok(self.peers.get(asker.session).ok_or_else(gone)?.rights.namespace())
    }

    fn own_producer(&self, asker: &Asker, producer: ProducerId) -> Result<&Producer, Refusal> {
        let own = self.peers.get(asker.session).is_some_and(|peer| peer.producers.contains(&producer));
        let found = self.producers.get(&producer).filter(|_| own);
        found.ok_or_else(|| Refusal::not_found("producer", producer))
    }

    fn own_consumer(&self, asker: &Asker, consumer: ConsumerId) -> Result<&Consumer, Refusal> {
        let found = self.consumers.get(&consumer).filter(|found| found.session == asker.session);
        found.ok_or_else(|| Refusal::not_found("consumer", consumer))
    }
}

/// The best of the node's addresses of the kind that a client has: to which of several it sends is not seen.
fn local_address(addresses: &[TransportAddress], remote: TransportAddress) -> Option<TransportAddress> {
    let is_v4 = |address: TransportAddress| address.socket_addr().ip().to_canonical().is_ipv4();
    let mut same_protocol = addresses.iter().copied().filter(|local| local.is_tcp() == remote.is_tcp());
    same_protocol.clone().find(|local| is_v4(*local) == is_v4(remote)).or(same_protocol.next())
}

/// What a request costs others, who are told of it.
fn changes(request: &PeerRequest) -> u32 {
    match request {
        // A consumer for everybody; or it comes or goes, with all of them.
        PeerRequest::Produce { .. } | PeerRequest::ProduceData { .. } | PeerRequest::Renew(_) => 6,
        PeerRequest::CloseProducer { .. }
        | PeerRequest::SetProducerPaused { .. }
        | PeerRequest::ChangeDisplayName { .. } => 1,
        _ => 0,
    }
}

/// A peer that was closed while its request was on the way; nobody reads this.
pub(super) fn gone() -> Refusal {
    Refusal::new(410, "the peer has left")
}
