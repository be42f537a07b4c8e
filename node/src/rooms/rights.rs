//! What peers may do in a room, and what follows when that changes while they are in it.

use std::time::Duration;

use sluice_media::messages::Request;
use sluice_proto::ids::{ConsumerId, ProducerId};
use tokio::time::Instant;

use super::api::{CloseReason, PeerReply, Refusal};
use super::requests::{Asker, gone};
use super::room::{Room, SessionId};
use crate::access::{Grants, Rights};

/// How often it is looked whether tokens have expired.
const TOKENS_INTERVAL: Duration = Duration::from_secs(1);

impl Room {
    /// Ends sessions when their tokens do: one look for all, as long as there are any, however often they are renewed.
    pub(super) fn watch_tokens(&mut self) {
        if std::mem::replace(&mut self.watches_tokens, true) {
            return;
        }
        self.after(TOKENS_INTERVAL, |room| {
            room.watches_tokens = false;
            let now = Instant::now();
            let tokens = room.peers.iter().filter_map(|(session, peer)| Some((session, peer.rights.until()?)));
            let (expired, valid): (Vec<_>, Vec<_>) = tokens.partition(|(_, until)| *until <= now);
            if !valid.is_empty() {
                room.watch_tokens();
            }
            let expired: Vec<SessionId> = expired.into_iter().map(|(session, _)| session).collect();
            room.for_each(expired, Self::end_without_rights);
        });
    }

    /// The tenants' settings are others now.
    pub(super) fn reauthorise(&mut self) {
        self.for_each(self.peers.sessions(), Self::end_without_rights);
    }

    fn end_without_rights(&mut self, session: SessionId) {
        let ended = self.peers.get(session).and_then(|peer| peer.rights.ended());
        if let Some(words) = ended {
            self.dismiss(session, CloseReason::Unauthorised, words);
        }
    }

    /// A client showed a newer token.
    pub(super) fn renew_rights(&mut self, asker: &Asker, rights: Rights) -> Result<PeerReply, Refusal> {
        if let Some(words) = rights.ended() {
            return Err(Refusal::new(403, words));
        }
        self.watch_tokens();
        self.set_rights(asker.session, rights)?;
        Ok(PeerReply::Done)
    }

    /// What operators decided of a peer may be something else now, or it has only come.
    pub(super) fn reconsider_rights(&mut self, session: SessionId) -> Result<(), Refusal> {
        let peer = self.peers.get(session).ok_or_else(gone)?;
        let rights = peer.rights.with_grants(peer.granted.clone());
        self.set_rights(session, rights)
    }

    /// Lets a peer do what these rights allow, unless operators decided otherwise, and no more.
    pub(super) fn set_rights(&mut self, session: SessionId, rights: Rights) -> Result<(), Refusal> {
        let peer = self.peers.get_mut(session).ok_or_else(gone)?;
        peer.granted = rights.grants().clone();
        let rights = match self.imposed.grants(&peer.id) {
            Some(grants) => rights.with_grants(grants.clone()),
            None => rights,
        };
        let before = std::mem::replace(&mut peer.rights, rights);
        let (id, rights) = (peer.id.clone(), peer.rights.clone());
        let (grants, granted) = (rights.grants(), before.grants());
        if let Some(joined) = &mut peer.joined {
            if let Some(name) = rights.name() {
                name.clone_into(&mut joined.display_name);
            }
            if grants.stage != granted.stage {
                joined.asked_onto_stage = grants.stage;
            }
        }
        if grants != granted {
            self.close_what_is_not_granted(session, grants);
            if grants.subscribe && !granted.subscribe {
                self.offer_everything(session);
            }
        }
        let said_before = (before.names_peer(), before.name(), before.metadata());
        let said = (rights.names_peer(), rights.name(), rights.metadata());
        let is_told_otherwise = grants != granted || said != said_before;
        if is_told_otherwise && self.peers.session_of(&id) == Some(session) {
            self.publish(&id);
            self.present(&id);
            self.rename(&id);
        }
        Ok(())
    }

    fn close_what_is_not_granted(&mut self, session: SessionId, grants: &Grants) {
        let Some(peer) = self.peers.get(session) else { return };
        let is_refused = |id: &&ProducerId| {
            let producer = self.producers.get(id);
            producer.is_some_and(|found| !grants.may_produce(&found.source.content, &found.app_data))
        };
        let producers: Vec<ProducerId> = peer.producers.iter().filter(is_refused).copied().collect();
        let consumers: Vec<ConsumerId> = match grants.subscribe {
            true => Vec::new(),
            false => peer.consumers.iter().copied().collect(),
        };
        for producer in producers {
            self.close_own_producer(session, producer);
            self.peers.desk(session).into_iter().for_each(|desk| desk.end_producer(producer));
        }
        for consumer in consumers {
            self.command(session, Request::CloseConsumer { consumer });
            self.close_consumer(consumer);
        }
    }
}
