//! Transports of peers: how they come, which one consumers are put on, and how they end.
//!
//! A transport is a path and not the peer: one that ends takes its own producers and consumers along and nothing else.
//! One whose network is gone may come back by an ICE restart, so it ends only after a long time, or when the client has
//! made another in its place.

use std::sync::Arc;

use sluice_media::TransportAddress;
use sluice_media::make_ufrag;
use sluice_media::messages::{Request, SctpState, WorkerIndex};
use sluice_media::secure::dtls::DtlsState;
use sluice_media::secure::ice::{IceCredentials, IceState};
use sluice_proto::ids::{ConsumerId, ProducerId, TransportId};
use sluice_proto::ortc::{DtlsParameters, IceParameters};
use tokio::time::Instant;

use super::api::{NewTransport, PeerReply, Refusal};
use super::context::{Listener, Subject};
use super::peer::Peer;
use super::requests::{Asker, Outcome, gone};
use super::room::{Room, SessionId};
use super::streams::Streams;
use crate::ortc::sctp_parameters;
use crate::support::random_text;

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
    /// Those of its data channels, if it has any.
    streams: Option<Streams>,
    _listener: Listener,
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
    /// Whether data reach it.
    pub(super) fn receives_data(&self) -> bool {
        let transport = self.consuming_transport().and_then(|id| self.transports().get(&id));
        transport.is_some_and(|transport| transport.streams.is_some())
    }

    /// A stream of a transport for a data consumer; `None` if the transport carries no data, or all are used.
    pub(super) fn take_stream(&mut self, transport: TransportId) -> Option<u16> {
        self.transport_mut(transport).ok()?.streams.as_mut()?.take()
    }

    /// Whether the client can have a data producer on this stream of a transport, which is taken then.
    ///
    /// # Errors
    /// When the transport carries no data, or the stream is used.
    pub(super) fn reserve_stream(&mut self, transport: TransportId, stream: u16) -> Result<(), Refusal> {
        let streams = self.transport_mut(transport)?.streams.as_mut();
        let streams = streams.ok_or_else(|| Refusal::new(409, "the transport was made without sctpCapabilities"))?;
        let taken = || Refusal::new(409, format!("stream {stream} is used by another data channel of the transport"));
        streams.reserve(stream).then_some(()).ok_or_else(taken)
    }

    /// A data channel of a transport has ended.
    pub(super) fn give_back_stream(&mut self, transport: TransportId, stream: u16) {
        let streams = self.transport_mut(transport).ok().and_then(|transport| transport.streams.as_mut());
        streams.into_iter().for_each(|streams| streams.give_back(stream));
    }

    /// The transport that consumers are put on: the one that the client made last, of those whose network is not gone.
    pub(super) fn consuming_transport(&self) -> Option<TransportId> {
        let consuming = self.transports().iter().filter(|(_, transport)| transport.consuming);
        let best = consuming.max_by_key(|(_, transport)| (!transport.is_lost(), transport.number));
        best.map(|(id, _)| *id)
    }

    /// Consuming transports whose network is gone and that the client has made another for.
    fn replaced_transports(&self) -> Vec<TransportId> {
        let newest =
            self.transports().values().filter(|transport| transport.consuming).map(|transport| transport.number);
        let newest = newest.max();
        let replaced = self
            .transports()
            .iter()
            .filter(|(_, transport)| transport.consuming && transport.is_lost() && Some(transport.number) != newest);
        replaced.map(|(id, _)| *id).collect()
    }

    /// The transport to give up for a new one: the oldest of those whose network is gone, else of those that never had
    /// one in the time that a client needs to connect.
    fn dead_transport(&self, unused: std::time::Duration) -> Option<TransportId> {
        let dead = self.transports().iter().filter(|(_, transport)| {
            transport.is_lost() || transport.path == Path::None && transport.made.elapsed() >= unused
        });
        dead.min_by_key(|(_, transport)| (!transport.is_lost(), transport.number)).map(|(id, _)| *id)
    }
}

impl Room {
    pub(super) fn create_transport(
        &mut self,
        asker: &Asker,
        consuming: bool,
        force_tcp: bool,
        data_streams: Option<u16>,
    ) -> Result<PeerReply, Refusal> {
        let addresses = candidates(&self.context.media_addresses(), force_tcp)?;
        let limits = &self.context.limits;
        let limit = limits.transports_per_peer;
        let peer = self.peers.get(asker.session).ok_or_else(gone)?;
        if peer.transports().len() >= limit {
            let dead = peer.dead_transport(limits.transport_unused);
            let dead = dead.ok_or_else(|| Refusal::new(403, format!("a peer may have {limit} transports")))?;
            self.end_transport(asker.session, dead);
        }
        let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
        let id = TransportId::from_random_bytes(rand::random());
        let ice_server = peer.ice_server(self.context.turn.as_ref());
        let ice = ice_credentials(peer.worker());
        let router = self.routers.get(&peer.worker()).ok_or_else(gone)?.id;
        let data = self.context.data.as_ref().filter(|_| data_streams.is_some());
        let (data_channels, sctp) = (data.is_some(), data.map(sctp_parameters));
        let transport = Transport {
            consuming,
            number: peer.number_transport(),
            made: Instant::now(),
            connected: false,
            path: Path::None,
            streams: data_streams.filter(|_| data_channels).map(Streams::new),
            _listener: self.context.listen(Subject::Transport(id), &self.me),
        };
        self.peers.add_transport(asker.session, id, transport);
        let request = Request::CreateWebRtcTransport { router, transport: id, ice: ice.clone(), data_channels };
        self.command(asker.session, request);
        if consuming {
            self.end_replaced_transports(asker.session);
            self.offer_everything(asker.session);
        }
        Ok(PeerReply::Transport(Box::new(NewTransport {
            id,
            ice: ice_parameters(ice),
            addresses,
            fingerprints: Arc::clone(&self.context.fingerprints),
            ice_server,
            sctp,
        })))
    }

    pub(super) fn connect_transport(
        &mut self,
        asker: &mut Asker,
        transport: TransportId,
        dtls: DtlsParameters,
    ) -> Result<Outcome, Refusal> {
        let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
        let worker = peer.worker();
        let state = peer.transport_mut(transport)?;
        if state.connected {
            return Err(Refusal::new(409, format!("transport {transport} is connected already")));
        }
        state.connected = true;
        let answer = self.context.worker(worker).request(Request::ConnectWebRtcTransport { transport, dtls });
        let (session, reply) = (asker.session, asker.answer_later());
        self.later(answer, move |room, result| {
            if result.is_err()
                && let Some(peer) = room.peers.get_mut(session)
                && let Ok(state) = peer.transport_mut(transport)
            {
                state.connected = false;
            }
            room.reply(reply, result.map(|_| PeerReply::Done).map_err(Refusal::from));
        });
        Ok(None)
    }

    pub(super) fn restart_ice(&mut self, asker: &Asker, transport: TransportId) -> Result<PeerReply, Refusal> {
        let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
        peer.transport_mut(transport)?;
        let ice = ice_credentials(peer.worker());
        self.command(asker.session, Request::RestartIce { transport, ice: ice.clone() });
        Ok(PeerReply::Ice(ice_parameters(ice)))
    }

    pub(super) fn transport_of(&mut self, asker: &Asker, transport: TransportId) -> Result<&mut Transport, Refusal> {
        let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
        peer.transport_mut(transport)
    }

    pub(super) fn on_ice_state(&mut self, id: TransportId, state: IceState) {
        let Some(session) = self.peers.owner_of(id) else { return };
        let Some(peer) = self.peers.get_mut(session) else { return };
        let Ok(transport) = peer.transport_mut(id) else { return };
        match state {
            IceState::Connected => transport.path = Path::Up,
            IceState::Disconnected => {
                let lost = Path::LostSince(Instant::now());
                transport.path = lost;
                tracing::info!(room = %self.key, peer = %peer.id, transport = %id, "the network path of a transport is gone");
                self.end_replaced_transports(session);
                self.after(self.context.limits.transport_lost, move |room| {
                    let transport = room.peers.get(session).and_then(|peer| peer.transports().get(&id));
                    if transport.is_some_and(|transport| transport.path == lost) {
                        room.end_transport(session, id);
                    }
                });
            }
        }
    }

    pub(super) fn on_dtls_state(&mut self, id: TransportId, state: DtlsState) {
        if !matches!(state, DtlsState::Connected(_))
            && let Some(session) = self.peers.owner_of(id)
            && let Some(peer) = self.peers.get(session)
        {
            tracing::info!(room = %self.key, peer = %peer.id, transport = %id, ?state, "a transport has ended");
            self.end_transport(session, id);
        }
    }

    /// Without its association a transport goes on with its media. The worker tells of each data channel that ended
    /// with it, and the client may make another association.
    pub(super) fn on_sctp_state(&self, id: TransportId, state: SctpState) {
        let (SctpState::Failed | SctpState::Closed) = state else { return };
        let peer = self.peers.owner_of(id).and_then(|session| self.peers.get(session));
        if let Some(peer) = peer {
            tracing::info!(room = %self.key, peer = %peer.id, transport = %id, ?state, "the data channels of a transport have ended");
        }
    }

    fn end_replaced_transports(&mut self, session: SessionId) {
        let replaced = self.peers.get(session).map(Peer::replaced_transports);
        for transport in replaced.into_iter().flatten() {
            self.end_transport(session, transport);
        }
    }

    /// Ends a transport with its producers and consumers. What was received over it is offered anew over another, if
    /// the peer has one.
    fn end_transport(&mut self, session: SessionId, id: TransportId) {
        if self.peers.remove_transport(session, id).is_none() {
            return;
        }
        let Some(peer) = self.peers.get_mut(session) else { return };
        let name = peer.id.clone();
        let (producers, consumers) = (&self.producers, &self.consumers);
        let producers: Vec<ProducerId> = peer
            .producers
            .extract_if(|producer| producers.get(producer).is_some_and(|producer| producer.is_on(id)))
            .collect();
        let consumers: Vec<ConsumerId> = {
            let on_it = |consumer: &&ConsumerId| consumers.get(*consumer).is_some_and(|found| found.transport == id);
            peer.consumers.iter().filter(on_it).copied().collect()
        };
        self.command(session, Request::CloseTransport { transport: id });
        consumers.into_iter().for_each(|consumer| self.close_consumer(consumer));
        for producer in &producers {
            self.remove_producer(*producer);
        }
        if !producers.is_empty() {
            self.publish(&name);
        }
        self.offer_everything(session);
    }
}

fn ice_credentials(worker: WorkerIndex) -> IceCredentials {
    IceCredentials { ufrag: make_ufrag(worker, &random_text(UFRAG_RANDOM_LEN)), pwd: random_text(PWD_LEN) }
}

fn ice_parameters(ice: IceCredentials) -> IceParameters {
    IceParameters { username_fragment: ice.ufrag, password: ice.pwd, ice_lite: Some(true) }
}

/// Where a client may send to.
fn candidates(addresses: &Arc<[TransportAddress]>, force_tcp: bool) -> Result<Arc<[TransportAddress]>, Refusal> {
    if !force_tcp {
        return Ok(Arc::clone(addresses));
    }
    let by_tcp: Arc<[_]> = addresses.iter().copied().filter(|address| address.is_tcp()).collect();
    if by_tcp.is_empty() {
        return Err(Refusal::new(501, "forceTcp: media over TCP is not set up here"));
    }
    Ok(by_tcp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_tcp_where_there_is_none_is_told() {
        let [udp, tcp] = [TransportAddress::Udp, TransportAddress::Tcp].map(|of| of(([192, 0, 2, 1], 4_444).into()));
        assert_eq!(candidates(&[udp, tcp].into(), false).unwrap().len(), 2);
        assert_eq!(*candidates(&[udp, tcp].into(), true).unwrap(), [tcp]);
        assert_eq!(candidates(&[udp].into(), true).unwrap_err().code, 501);
    }
}
