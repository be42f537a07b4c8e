//! What peers ask for.

use std::sync::Arc;

use serde_json::Value;
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use sluice_proto::ortc::{DtlsParameters, IceParameters, MediaKind, RtpParameters};
use tracing::{Instrument, info_span};

use super::api::{Join, NewTransport, Notice, PeerReply, PeerRequest, Refusal};
use super::context::{Subject, random_text, unix_ms};
use super::media::NewProducer;
use super::peer::{Joined, Transport};
use super::room::{Room, SessionId};
use crate::control_plane::ortc::{negotiate_producer, router_rtp_capabilities};
use crate::data_plane::demux::make_ufrag;
use crate::data_plane::messages::{IceCredentials, Request, Response, WorkerIndex};

/// Random characters of a ufrag beside the worker's; RFC 8445 wants 24 bits at least, these are 80.
const UFRAG_RANDOM_LEN: usize = 16;

/// Characters of an ICE password: 160 bits, RFC 8445 wants 128.
const PWD_LEN: usize = 32;

/// Answered at once, or by a continuation.
type Outcome = Option<Result<PeerReply, Refusal>>;

/// Who asks, and what the answer is to be marked with.
#[derive(Debug, Clone)]
struct Asker {
    session: SessionId,
    id: u32,
    peer: PeerId,
    worker: WorkerIndex,
}

impl Room {
    pub(super) fn on_request(&mut self, session: SessionId, id: u32, request: PeerRequest) {
        let Some((peer, state)) = self.peer_of(session) else { return };
        let asker = Asker { session, id, peer, worker: state.worker };
        let outcome = self.request(&asker, request).unwrap_or_else(|refusal| Some(Err(refusal)));
        if let Some(result) = outcome {
            self.reply(session, id, result);
        }
    }

    fn request(&mut self, asker: &Asker, request: PeerRequest) -> Result<Outcome, Refusal> {
        let reply = match request {
            PeerRequest::RouterRtpCapabilities => PeerReply::RouterRtpCapabilities(router_rtp_capabilities()),
            PeerRequest::CreateTransport { consuming } => self.create_transport(asker, consuming)?,
            PeerRequest::ConnectTransport { transport, dtls } => return self.connect_transport(asker, transport, dtls),
            PeerRequest::Join(join) => return self.join(asker, *join),
            PeerRequest::RestartIce { transport } => self.restart_ice(asker, transport)?,
            PeerRequest::Produce { transport, kind, rtp, app_data } => {
                return self.produce(asker, transport, kind, *rtp, app_data);
            }
            PeerRequest::CloseProducer { producer } => self.close_producer(asker, producer)?,
            PeerRequest::SetProducerPaused { producer, paused } => self.pause_producer(asker, producer, paused)?,
            PeerRequest::SetConsumerPaused { consumer, paused } => {
                let request =
                    if paused { Request::PauseConsumer { consumer } } else { Request::ResumeConsumer { consumer } };
                self.tell_consumer(asker, consumer, request)?
            }
            PeerRequest::RequestKeyFrame { consumer } => {
                self.tell_consumer(asker, consumer, Request::RequestKeyFrame { consumer })?
            }
            PeerRequest::ChangeDisplayName { display_name } => self.change_display_name(asker, display_name)?,
            PeerRequest::TransportStats { transport } => return self.transport_stats(asker, transport),
            PeerRequest::ProducerStats { producer } => return self.producer_stats(asker, producer),
            PeerRequest::ConsumerStats { consumer } => return self.consumer_stats(asker, consumer),
        };
        Ok(Some(Ok(reply)))
    }

    fn create_transport(&mut self, asker: &Asker, consuming: bool) -> Result<PeerReply, Refusal> {
        let limit = self.context.limits.transports_per_peer;
        let peer = self.peers.get_mut(&asker.peer).ok_or_else(gone)?;
        if peer.transports.len() >= limit {
            return Err(Refusal::new(403, format!("a peer may have {limit} transports")));
        }
        let transport = TransportId::from_random_bytes(rand::random());
        let ice = ice_credentials(asker.worker);
        peer.transports.insert(transport, Transport { consuming, connected: false });
        let joined = peer.joined.is_some();
        let router = *self.routers.get(&asker.worker).ok_or_else(gone)?;
        self.context.addresses.insert(Subject::Transport(transport), self.me.clone());
        let request = Request::CreateWebRtcTransport { router, transport, ice: ice.clone() };
        self.context.worker(asker.worker).send(request);
        if joined && consuming {
            self.offer_everything(&asker.peer);
        }
        Ok(PeerReply::Transport(Box::new(NewTransport {
            id: transport,
            ice: ice_parameters(ice),
            addresses: Arc::clone(&self.context.media_addresses),
            fingerprints: Arc::clone(&self.context.fingerprints),
        })))
    }

    fn connect_transport(
        &mut self,
        asker: &Asker,
        transport: TransportId,
        dtls: DtlsParameters,
    ) -> Result<Outcome, Refusal> {
        let state = self.transport_of(asker, transport)?;
        if state.connected {
            return Err(Refusal::new(409, format!("transport {transport} is connected already")));
        }
        state.connected = true;
        let answer = self.context.worker(asker.worker).request(Request::ConnectWebRtcTransport { transport, dtls });
        let asker = asker.clone();
        self.later(answer, move |room, result| {
            if result.is_err()
                && let Ok(state) = room.transport_of(&asker, transport)
            {
                state.connected = false;
            }
            room.reply(asker.session, asker.id, result.map(|_| PeerReply::Done).map_err(Refusal::from));
        });
        Ok(None)
    }

    fn join(&mut self, asker: &Asker, join: Join) -> Result<Outcome, Refusal> {
        let peer = self.peers.get_mut(&asker.peer).ok_or_else(gone)?;
        if peer.joined.is_some() {
            return Err(Refusal::new(409, "the peer has joined already"));
        }
        let span = peer.span.take();
        let _entered = span.as_ref().map(tracing::Span::enter);
        let newest_elsewhere = self.elsewhere.newest_join(&asker.peer);
        let at_ms = unix_ms().max(newest_elsewhere.map_or(0, |newest| newest.saturating_add(1)));
        peer.joined = Some(Joined {
            display_name: join.display_name,
            device: join.device,
            rtp_capabilities: join.rtp_capabilities.map(Arc::new),
            at_ms,
        });
        self.count_joined();
        self.publish();
        // The same peer on another node is outdone now: the others see it go before it comes again.
        self.refresh_elsewhere();
        if let Some(info) = self.local_info(&asker.peer) {
            self.tell_others(Some(&asker.peer), &Notice::NewPeer(info));
        }
        let mut peers: Vec<_> =
            self.peers.keys().filter(|id| **id != asker.peer).filter_map(|id| self.local_info(id)).collect();
        peers.extend(self.elsewhere.peers().map(|(id, remote)| self.remote_info(id, remote)));
        let (node, region) = (self.context.node().clone(), self.context.region.clone());
        self.reply(asker.session, asker.id, Ok(PeerReply::Joined { peers, node, region }));
        self.offer_everything(&asker.peer);
        // What was brought here on the chance that this peer wants it is given back if it does not.
        self.reconcile_worker(asker.worker);
        Ok(None)
    }

    fn restart_ice(&mut self, asker: &Asker, transport: TransportId) -> Result<PeerReply, Refusal> {
        self.transport_of(asker, transport)?;
        let ice = ice_credentials(asker.worker);
        self.context.worker(asker.worker).send(Request::RestartIce { transport, ice: ice.clone() });
        Ok(PeerReply::Ice(ice_parameters(ice)))
    }

    fn produce(
        &mut self,
        asker: &Asker,
        transport: TransportId,
        kind: MediaKind,
        rtp: RtpParameters,
        app_data: Value,
    ) -> Result<Outcome, Refusal> {
        let span = info_span!("produce", room = %self.key, peer = %asker.peer, ?kind);
        let _entered = span.clone().entered();
        self.transport_of(asker, transport)?;
        let peer = self.peers.get(&asker.peer).ok_or_else(gone)?;
        if peer.joined.is_none() {
            return Err(Refusal::new(409, "join comes before produce"));
        }
        self.check_room_for_producer(peer, &app_data)?;
        let negotiated = negotiate_producer(kind, &rtp, rand::random(), &peer.cname)?;
        let producer = ProducerId::from_random_bytes(rand::random());
        let ssrc = rtp.encodings.first().and_then(|encoding| encoding.ssrc);
        let mapping = negotiated.mapping;
        let request = Request::Produce { transport, producer, kind, rtp, mapping, paused: false };
        let answer = self.context.worker(asker.worker).request(request);
        let asker = asker.clone();
        self.later(Box::pin(answer.instrument(span.clone())), move |room, result| {
            let _entered = span.enter();
            let result = result.map_err(Refusal::from).and_then(|_| {
                let new = NewProducer { producer, transport, kind, rtp: negotiated.consumable, app_data, ssrc };
                let added = room.add_local_producer(&asker.peer, asker.session, new);
                added.inspect_err(|_| room.context.worker(asker.worker).send(Request::CloseProducer { producer }))
            });
            let added = result.is_ok();
            room.reply(asker.session, asker.id, result.map(|()| PeerReply::Produced(producer)));
            if added {
                room.offer_to_everybody(producer);
                room.publish();
            }
        });
        Ok(None)
    }

    fn close_producer(&mut self, asker: &Asker, producer: ProducerId) -> Result<PeerReply, Refusal> {
        self.own_producer(asker, producer)?;
        if let Some(peer) = self.peers.get_mut(&asker.peer) {
            peer.producers.remove(&producer);
        }
        self.context.worker(asker.worker).send(Request::CloseProducer { producer });
        self.remove_producer(producer);
        self.publish();
        Ok(PeerReply::Done)
    }

    fn pause_producer(&mut self, asker: &Asker, producer: ProducerId, paused: bool) -> Result<PeerReply, Refusal> {
        self.own_producer(asker, producer)?;
        let request = if paused { Request::PauseProducer { producer } } else { Request::ResumeProducer { producer } };
        self.context.worker(asker.worker).send(request);
        if self.set_producer_paused(producer, paused) {
            self.publish();
        }
        Ok(PeerReply::Done)
    }

    fn tell_consumer(&mut self, asker: &Asker, consumer: ConsumerId, request: Request) -> Result<PeerReply, Refusal> {
        self.own_consumer(asker, consumer)?;
        self.context.worker(asker.worker).send(request);
        Ok(PeerReply::Done)
    }

    fn change_display_name(&mut self, asker: &Asker, display_name: String) -> Result<PeerReply, Refusal> {
        let joined = self.peers.get_mut(&asker.peer).and_then(|peer| peer.joined.as_mut());
        let joined = joined.ok_or_else(|| Refusal::new(409, "join comes before changeDisplayName"))?;
        let old = std::mem::replace(&mut joined.display_name, display_name.clone());
        let notice = Notice::DisplayNameChanged { peer: asker.peer.clone(), display_name, old };
        self.tell_others(Some(&asker.peer), &notice);
        self.publish();
        Ok(PeerReply::Done)
    }

    fn transport_stats(&mut self, asker: &Asker, transport: TransportId) -> Result<Outcome, Refusal> {
        self.transport_of(asker, transport)?;
        self.ask(asker, Request::TransportStats { transport }, move |response| match response {
            Response::TransportStats(stats) => Some(PeerReply::TransportStats(transport, stats)),
            _ => None,
        })
    }

    fn producer_stats(&mut self, asker: &Asker, producer: ProducerId) -> Result<Outcome, Refusal> {
        let kind = self.own_producer(asker, producer)?;
        self.ask(asker, Request::ProducerStats { producer }, move |response| match response {
            Response::ProducerStats(stats) => Some(PeerReply::ProducerStats(kind, stats)),
            _ => None,
        })
    }

    fn consumer_stats(&mut self, asker: &Asker, consumer: ConsumerId) -> Result<Outcome, Refusal> {
        let kind = self.own_consumer(asker, consumer)?;
        self.ask(asker, Request::ConsumerStats { consumer }, move |response| match response {
            Response::ConsumerStats(stats) => Some(PeerReply::ConsumerStats(kind, stats)),
            _ => None,
        })
    }

    /// Answers a peer with what its worker says.
    fn ask<F>(&mut self, asker: &Asker, request: Request, read: F) -> Result<Outcome, Refusal>
    where
        F: FnOnce(Response) -> Option<PeerReply> + Send + 'static,
    {
        let answer = self.context.worker(asker.worker).request(request);
        let (session, id) = (asker.session, asker.id);
        self.later(answer, move |room, result| {
            let unexpected = || Refusal::new(500, "the media worker gave another answer");
            let result = result.map_err(Refusal::from).and_then(|response| read(response).ok_or_else(unexpected));
            room.reply(session, id, result);
        });
        Ok(None)
    }

    fn transport_of(&mut self, asker: &Asker, transport: TransportId) -> Result<&mut Transport, Refusal> {
        let peer = self.peers.get_mut(&asker.peer).filter(|peer| peer.session == asker.session).ok_or_else(gone)?;
        peer.transports.get_mut(&transport).ok_or_else(|| Refusal::not_found("transport", transport))
    }

    fn own_producer(&self, asker: &Asker, producer: ProducerId) -> Result<MediaKind, Refusal> {
        let own = self.peers.get(&asker.peer).is_some_and(|peer| peer.producers.contains(&producer));
        let found = self.producers.get(&producer).filter(|_| own);
        found.map(|found| found.source.kind).ok_or_else(|| Refusal::not_found("producer", producer))
    }

    fn own_consumer(&self, asker: &Asker, consumer: ConsumerId) -> Result<MediaKind, Refusal> {
        let found = self.consumers.get(&consumer).filter(|found| found.peer == asker.peer);
        found.map(|found| found.kind).ok_or_else(|| Refusal::not_found("consumer", consumer))
    }
}

/// A peer that was closed while its request was on the way; nobody reads this.
fn gone() -> Refusal {
    Refusal::new(410, "the peer has left")
}

fn ice_credentials(worker: WorkerIndex) -> IceCredentials {
    IceCredentials { ufrag: make_ufrag(worker, &random_text(UFRAG_RANDOM_LEN)), pwd: random_text(PWD_LEN) }
}

fn ice_parameters(ice: IceCredentials) -> IceParameters {
    IceParameters { username_fragment: ice.ufrag, password: ice.pwd, ice_lite: Some(true) }
}
