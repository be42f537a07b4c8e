//! What becomes of a peer whose connection broke: for a while it keeps its place, its transports and all that is on
//! them, and nobody is told. Its client may come back and go on, on another connection, with what it has.

use tokio::time::Instant;

use super::join::Secret;
use super::room::{Opened, Room, SessionId};
use super::seat::Resumed;
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
        let holder = self.peers.session_of(&opened.guest.peer).and_then(|session| {
            let peer = self.peers.get(session)?;
            let joined = peer.joined.as_ref()?;
            let shown = opened.guest.secret.as_ref().map(Secret::digest);
            let is_it = opened.guest.rights.names_peer() || shown == Some(joined.secret.digest());
            is_it.then_some((session, peer, joined.subscription))
        });
        let Some((session, peer, subscription)) = holder else {
            opened.desk.refuse_to_resume();
            return Some(opened);
        };
        let Opened { guest, desk, .. } = opened;
        let (told, others) = self.others(&guest.peer, subscription);
        let producers = peer.producers.iter().copied().collect();
        let resumed = |consumers| Resumed { others, producers, consumers };
        peer.desk().hand_over(&desk, told, |consumer| self.question(consumer), resumed);
        let rights = guest.rights.clone();
        self.watch_tokens();
        if let Some(peer) = self.peers.get_mut(session) {
            peer.go_on(guest, desk);
        }
        // Its token may say something else than the former one.
        let _ = self.set_rights(session, rights);
        self.peers.desk(session);
        None
    }
}
