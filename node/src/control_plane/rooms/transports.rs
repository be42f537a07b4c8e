//! Transports of peers: how they come, which one consumers are put on, and how they end.
//!
//! A transport is a path and not the peer: one that ends takes its own producers and consumers along and nothing else. One whose
//! network is gone may come back by an ICE restart, so it ends only after a long time, or when the client has made another in its place.

use std::sync::Arc;

use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, TransportId};
use sluice_proto::ortc::{DtlsParameters, IceParameters};
use tokio::time::Instant;

use super::api::{NewTransport, PeerReply, Refusal};
use super::context::{Subject, random_text};
use super::peer::Peer;
use super::requests::{Asker, Outcome, gone};
use super::room::Room;
use crate::data_plane::demux::make_ufrag;
use crate::data_plane::messages::{DtlsState, IceCredentials, IceState, Request, WorkerIndex};

/// Random characters of a ufrag beside the worker's; RFC 8445 wants 24 bits at least, these are 80.
const UFRAG_RANDOM_LEN: usize = 16;

/// Characters of an ICE password: 160 bits, RFC 8445 wants 128.
const PWD_LEN: usize = 32;

/// A transport of a peer.
pub(super) struct Transport {
    consuming: bool,
    /// Those of a peer that were made later have greater numbers.
    number: u64,
    made: Instant,
    /// `connect` was said.
    pub(super) connected: bool,
    path: Path,
}

/// What ICE says of a transport's network path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Path {
    /// There has been none yet.
    None,
    Up,
    LostSince(Instant),
}

impl Transport {
    fn is_lost(&self) -> bool {
        matches!(self.path, Path::LostSince(_))
    }
}

impl Peer {
    /// The transport that consumers are put on: the one that the client made last, of those whose network is not gone.
    pub(super) fn consuming_transport(&self) -> Option<TransportId> {
        let consuming = self.transports.iter().filter(|(_, transport)| transport.consuming);
        let best = consuming.max_by_key(|(_, transport)| (!transport.is_lost(), transport.number));
        best.map(|(id, _)| *id)
    }

    /// Consuming transports whose network is gone and that the client has made another for.
    fn replaced_transports(&self) -> Vec<TransportId> {
        let newest = self.transports.values().filter(|transport| transport.consuming).map(|transport| transport.number);
        let newest = newest.max();
        let replaced = self
            .transports
            .iter()
            .filter(|(_, transport)| transport.consuming && transport.is_lost() && Some(transport.number) != newest);
        replaced.map(|(id, _)| *id).collect()
    }

    /// The transport to give up for a new one: the oldest of those whose network is gone, else of those that never had one
    /// in the time that a client needs to connect.
    fn dead_transport(&self, unused: std::time::Duration) -> Option<TransportId> {
        let dead = self.transports.iter().filter(|(_, transport)| {
            transport.is_lost() || transport.path == Path::None && transport.made.elapsed() >= unused
        });
        dead.min_by_key(|(_, transport)| (!transport.is_lost(), transport.number)).map(|(id, _)| *id)
    }
}

impl Room {
    pub(super) fn create_transport(&mut self, asker: &Asker, consuming: bool) -> Result<PeerReply, Refusal> {
        let limits = &self.context.limits;
        let limit = limits.transports_per_peer;
        let peer = self.peers.get(&asker.peer).ok_or_else(gone)?;
        if peer.transports.len() >= limit {
            let dead = peer.dead_transport(limits.transport_unused);
            let dead = dead.ok_or_else(|| Refusal::new(403, format!("a peer may have {limit} transports")))?;
            self.end_transport(&asker.peer, dead);
        }
        let transport = TransportId::from_random_bytes(rand::random());
        let ice = ice_credentials(asker.worker);
        let router = *self.routers.get(&asker.worker).ok_or_else(gone)?;
        let peer = self.peers.get_mut(&asker.peer).ok_or_else(gone)?;
        let made = Instant::now();
        let number = peer.number_transport();
        peer.transports.insert(transport, Transport { consuming, number, made, connected: false, path: Path::None });
        self.context.addresses.insert(Subject::Transport(transport), self.me.clone());
        let request = Request::CreateWebRtcTransport { router, transport, ice: ice.clone() };
        self.context.worker(asker.worker).send(request);
        if consuming {
            self.end_replaced_transports(&asker.peer);
            self.offer_everything(&asker.peer);
        }
        Ok(PeerReply::Transport(Box::new(NewTransport {
            id: transport,
            ice: ice_parameters(ice),
            addresses: Arc::clone(&self.context.media_addresses),
            fingerprints: Arc::clone(&self.context.fingerprints),
        })))
    }

    pub(super) fn connect_transport(
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

    pub(super) fn restart_ice(&mut self, asker: &Asker, transport: TransportId) -> Result<PeerReply, Refusal> {
        self.transport_of(asker, transport)?;
        let ice = ice_credentials(asker.worker);
        self.context.worker(asker.worker).send(Request::RestartIce { transport, ice: ice.clone() });
        Ok(PeerReply::Ice(ice_parameters(ice)))
    }

    pub(super) fn transport_of(&mut self, asker: &Asker, transport: TransportId) -> Result<&mut Transport, Refusal> {
        let peer = self.peers.get_mut(&asker.peer).filter(|peer| peer.session == asker.session).ok_or_else(gone)?;
        peer.transports.get_mut(&transport).ok_or_else(|| Refusal::not_found("transport", transport))
    }

    pub(super) fn on_ice_state(&mut self, id: TransportId, state: IceState) {
        let Some((owner, transport)) = self.owned_transport(id) else { return };
        match state {
            IceState::Connected => transport.path = Path::Up,
            IceState::Disconnected => {
                let lost = Path::LostSince(Instant::now());
                transport.path = lost;
                tracing::info!(room = %self.key, peer = %owner, transport = %id, "the network path of a transport is gone");
                self.end_replaced_transports(&owner);
                self.after(self.context.limits.transport_lost, move |room| {
                    if let Some((owner, transport)) = room.owned_transport(id)
                        && transport.path == lost
                    {
                        room.end_transport(&owner, id);
                    }
                });
            }
        }
    }

    pub(super) fn on_dtls_state(&mut self, id: TransportId, state: DtlsState) {
        if !matches!(state, DtlsState::Connected(_))
            && let Some((owner, _)) = self.owned_transport(id)
        {
            tracing::info!(room = %self.key, peer = %owner, transport = %id, ?state, "a transport has ended");
            self.end_transport(&owner, id);
        }
    }

    fn end_replaced_transports(&mut self, owner: &PeerId) {
        let replaced = self.peers.get(owner).map(Peer::replaced_transports);
        for transport in replaced.into_iter().flatten() {
            self.end_transport(owner, transport);
        }
    }

    /// Ends a transport with its producers and consumers. What was received over it is offered anew over another, if the peer has one.
    fn end_transport(&mut self, owner: &PeerId, id: TransportId) {
        let Some(peer) = self.peers.get_mut(owner) else { return };
        if peer.transports.remove(&id).is_none() {
            return;
        }
        self.context.worker(peer.worker).send(Request::CloseTransport { transport: id });
        self.context.addresses.remove(Subject::Transport(id));
        let producers: Vec<ProducerId> = {
            let on_it = self.producers.iter().filter(|(_, producer)| producer.transport == Some(id));
            on_it.map(|(id, _)| *id).collect()
        };
        peer.producers.retain(|producer| !producers.contains(producer));
        let consumers: Vec<ConsumerId> = {
            let on_it = peer
                .consumers
                .iter()
                .filter(|consumer| self.consumers.get(*consumer).is_some_and(|consumer| consumer.transport == id));
            on_it.copied().collect()
        };
        consumers.into_iter().for_each(|consumer| self.close_consumer(consumer));
        for producer in &producers {
            self.remove_producer(*producer);
        }
        if !producers.is_empty() {
            self.publish();
        }
        self.offer_everything(owner);
    }

    fn owned_transport(&mut self, id: TransportId) -> Option<(PeerId, &mut Transport)> {
        self.peers.iter_mut().find_map(|(owner, peer)| Some((owner.clone(), peer.transports.get_mut(&id)?)))
    }
}

fn ice_credentials(worker: WorkerIndex) -> IceCredentials {
    IceCredentials { ufrag: make_ufrag(worker, &random_text(UFRAG_RANDOM_LEN)), pwd: random_text(PWD_LEN) }
}

fn ice_parameters(ice: IceCredentials) -> IceParameters {
    IceParameters { username_fragment: ice.ufrag, password: ice.pwd, ice_lite: Some(true) }
}
