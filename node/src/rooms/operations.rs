//! What operators and tenants' servers can do to a room while people are in it.

use sluice_media::messages::Request;
use sluice_proto::ids::{PeerId, ProducerId, RoomKey};
use sluice_proto::ortc::MediaKind;
use tokio::sync::oneshot;

use super::Rooms;
use super::api::{CloseReason, Refusal};
use super::imposed::Imposed;
use super::overview::ask;
use super::room::{Room, RoomMessage, SessionId};
use super::server_data::ServerMessage;
use crate::access::Grants;
use crate::ortc::ProducerKind;

/// Something to be done to this node's part of a room.
#[derive(Debug)]
pub(crate) enum Operation {
    /// Everybody leaves, and shall not come back.
    Close,
    /// The peer leaves, and shall not come back.
    Remove(PeerId),
    /// What the peer sends is paused, all of it or that of one kind, and its client cannot resume it; or may again. It
    /// stays muted when it leaves and comes again, as long as the room has anybody here.
    SetMuted { peer: PeerId, kind: Option<MediaKind>, muted: bool },
    /// The peer is on the stage even if it sends nothing, or no longer.
    SetStage { peer: PeerId, on: bool },
    /// Everybody who receives data gets this, or one peer.
    SendData { to: Option<PeerId>, message: ServerMessage },
    /// The peer may do this from now on, whatever its token says, for as long; or what its token says again.
    SetGrants { peer: PeerId, grants: Option<Grants> },
}

impl Rooms {
    /// Does something to this node's part of a room.
    ///
    /// # Errors
    /// When it has no such room or peer, or the room does not answer.
    pub(crate) async fn operate(&self, key: &RoomKey, operation: Operation) -> Result<(), Refusal> {
        let room = self.room(key).ok_or_else(|| Refusal::new(404, "this node is not in the room"))?;
        let operated = ask(room, |reply| RoomMessage::Operate { operation, reply }).await;
        operated.unwrap_or_else(|| Err(Refusal::new(503, "the room does not answer")))
    }
}

impl Room {
    pub(super) fn on_operation(&mut self, operation: Operation, reply: oneshot::Sender<Result<(), Refusal>>) {
        // Whoever asked may have gone.
        let _ = reply.send(self.operate(operation));
    }

    fn operate(&mut self, operation: Operation) -> Result<(), Refusal> {
        match operation {
            Operation::Close => {
                self.for_each(self.peers.sessions(), |room, session| {
                    room.dismiss(session, CloseReason::Removed, "the room was closed");
                });
                Ok(())
            }
            Operation::Remove(peer) => {
                let session = self.session_here(&peer)?;
                self.dismiss(session, CloseReason::Removed, "you were removed from the room");
                Ok(())
            }
            Operation::SetMuted { peer, kind, muted } => self.set_muted(&peer, kind, muted),
            Operation::SetStage { peer, on } => {
                self.session_here(&peer)?;
                self.set_stage(&peer, on);
                Ok(())
            }
            Operation::SendData { to, message } => self.send_data(to.as_ref(), message),
            Operation::SetGrants { peer, grants } => {
                let session = self.impose(&peer, grants.is_none(), |imposed| imposed.grants = grants)?;
                session.map_or(Ok(()), |session| self.reconsider_rights(session))
            }
        }
    }

    /// Decides something of a peer, whose session is the answer. Of one who is not here it can only be taken back.
    fn impose(
        &mut self,
        peer: &PeerId,
        takes_back: bool,
        change: impl FnOnce(&mut Imposed),
    ) -> Result<Option<SessionId>, Refusal> {
        let session = match self.session_here(peer) {
            Err(_) if takes_back && self.imposed.contain(peer) => None,
            session => Some(session?),
        };
        self.imposed.change(peer, change);
        self.imposed.trim(|id| self.peers.session_of(id).is_some());
        Ok(session)
    }

    pub(super) fn session_here(&self, peer: &PeerId) -> Result<SessionId, Refusal> {
        self.peers.session_of(peer).ok_or_else(|| match self.elsewhere.peer(peer) {
            Some(remote) => Refusal::new(421, format!("the peer is on the node {}", remote.instance.node)),
            None => Refusal::not_found("peer", peer),
        })
    }

    fn set_muted(&mut self, peer: &PeerId, kind: Option<MediaKind>, muted: bool) -> Result<(), Refusal> {
        let kinds = kind.map_or(vec![MediaKind::Audio, MediaKind::Video], |kind| vec![kind]);
        let kinds: Vec<ProducerKind> = kinds.into_iter().map(ProducerKind::from).collect();
        let session = self.impose(peer, !muted, |imposed| {
            imposed.muted.retain(|kind| !kinds.contains(kind));
            if muted {
                imposed.muted.extend(&kinds);
            }
        })?;
        let Some(session) = session else { return Ok(()) };
        let of_kind = |id: &&ProducerId| {
            self.producers.get(id).is_some_and(|producer| kinds.contains(&producer.source.content.kind()))
        };
        let own = self.peers.get(session).into_iter().flat_map(|peer| &peer.producers);
        for producer in own.filter(of_kind).copied().collect::<Vec<_>>() {
            if let Some(local) = self.producers.get_mut(&producer).and_then(|found| found.local.as_mut()) {
                local.muted = muted;
            }
            // What is muted no longer its client resumes when its user wants to be heard.
            if muted {
                self.command(session, Request::PauseProducer { producer });
                self.set_producer_paused(producer, true);
            }
            self.peers.desk(session).into_iter().for_each(|desk| desk.set_muted(producer, muted));
        }
        self.publish(peer);
        Ok(())
    }
}
