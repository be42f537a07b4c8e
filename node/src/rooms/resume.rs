//! What becomes of a peer whose connection broke: for a while it keeps its place, its transports and all that is on
//! them, and nobody is told. Its client may come back and go on, on another connection, with what it has.

use std::sync::Arc;

use sluice_proto::ids::ProducerId;
use tokio::time::Instant;

use super::Guest;
use super::room::{Opened, Room, SessionId};
use super::seat::{OwnProducer, Resumed};
use crate::events::LeaveReason;

impl Room {
    /// Media go on until the client is back, or its time is over. One that has not joined has nothing to go on with.
    pub(super) fn on_broken(&mut self, session: SessionId) {
        let within = self.context.limits.resume_within;
        let Some(peer) = self.peers.get_mut(session) else { return };
        if peer.joined.is_none() || within.is_zero() {
            return self.close_peer(session, LeaveReason::Left);
        }
        let broken = Some(Instant::now());
        peer.broken_at = broken;
        self.after(within, move |room| {
            if room.peers.get(session).is_some_and(|peer| peer.broken_at == broken) {
                room.close_peer(session, LeaveReason::Silent);
            }
        });
    }

    /// Lets a client go on that wants to. One that does not, was not here or is somebody else is given back: it has to
    /// join.
    pub(super) fn resume(&mut self, opened: Opened) -> Option<Opened> {
        if !opened.guest.resumes {
            return Some(opened);
        }
        let Guest { peer, secret, rights, .. } = &opened.guest;
        let holder = self.peers.session_of(peer).filter(|session| {
            // What one whom nobody named has is nobody's but whose secret it is: a token only takes its name.
            self.peers.get(*session).is_some_and(|holder| match holder.rights.names_peer() {
                true => rights.names_peer(),
                false => holder.is_shown(secret.as_ref()),
            })
        });
        let Some(session) = holder else {
            opened.desk.refuse_to_resume();
            return Some(opened);
        };
        self.go_on(session, opened);
        None
    }

    /// The client of a session reads on at another desk.
    fn go_on(&mut self, session: SessionId, Opened { guest, desk, .. }: Opened) {
        let Some(peer) = self.peers.get_mut(session) else { return };
        let Some(joined) = &mut peer.joined else { return };
        let (secret, subscription) = (joined.secrets.renew(guest.secret.clone()), joined.subscription);
        let former = Arc::clone(peer.desk());
        let (producers, data_producers) = self.own_producers(session);
        let rights = guest.rights.clone();
        let (told, others) = self.others(&guest.peer, subscription);
        let resumed = |consumers, data_consumers| Resumed {
            others,
            producers,
            consumers,
            data_producers,
            data_consumers,
            secret,
        };
        former.hand_over(&desk, told, |consumer| self.question(consumer), resumed);
        self.watch_tokens();
        // Other nodes know the secret's digest.
        self.publish(&guest.peer);
        if let Some(peer) = self.peers.get_mut(session) {
            peer.go_on(guest, desk);
        }
        // Its token may say something else than the former one.
        let _ = self.set_rights(session, rights);
        self.peers.desk(session);
    }

    /// Those of media, and those of data.
    fn own_producers(&self, session: SessionId) -> (Vec<OwnProducer>, Vec<ProducerId>) {
        let own = self.peers.get(session).into_iter().flat_map(|peer| &peer.producers);
        let own = own.filter_map(|id| Some((*id, self.producers.get(id)?)));
        let (data, media): (Vec<_>, Vec<_>) = own.partition(|(_, producer)| producer.channel().is_some());
        let media = media.into_iter().map(|(id, producer)| {
            let muted = producer.local.as_ref().is_some_and(|local| local.muted);
            OwnProducer { id, paused: producer.source.paused, muted }
        });
        (media.collect(), data.into_iter().map(|(id, _)| id).collect())
    }
}
