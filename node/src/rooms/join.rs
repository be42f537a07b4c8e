//! How a session becomes a peer of the room.
//!
//! Opening a WebSocket changes nothing for anybody; joining does. A name that is taken is given to whoever shows the
//! secret that its holder was given, or a token that says so. Without either the holder is asked for a sign of life: if
//! it gives one it stays, and the newcomer is refused; else it is a ghost and gives way. A holder on another node is
//! asked by its node, which hears of the claim by roster and says by roster what it found. But a holder whom a token
//! names gives way to such a token only: it is not asked, and stays however silent it is.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use sluice_proto::ids::PeerId;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Guest;
use super::api::{CloseReason, Join, Others, PeerReply, Refusal, Subscription};
use super::peer::{Joined, Peer};
use super::requests::{Asker, Outcome, gone};
use super::room::{Continuation, Opened, Reply, Room, SessionId};
use super::view::Told;
use crate::events::audit::{Entry, Who};
use crate::events::{LeaveReason, Session};
use crate::support::random_text;
use crate::telemetry::current_traceparent;

/// For how long after a client's coming what other nodes tell is taken for its doing, in traces.
const JOIN_TRACE: Duration = Duration::from_secs(10);

/// How much longer than the sign of life itself the way there and back may take, where another node has to ask for it.
const CLAIM_MARGIN: Duration = Duration::from_secs(1);

/// For how long one that has not joined keeps its place in the namespace from others: while it answers a question, not
/// for as long as it may take. Then it takes another place when it joins, if there is one.
const PLACE_KEPT: Duration = Duration::from_secs(30);

/// Characters of a secret: 130 bits.
const SECRET_LEN: usize = 26;

/// By which a peer's client is known again.
#[derive(Clone)]
pub(crate) struct PeerSecret {
    text: Arc<str>,
    digest: Arc<[u8]>,
}

impl std::fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PeerSecret")
    }
}

impl PeerSecret {
    fn new() -> Self {
        Self::from(random_text(SECRET_LEN))
    }

    /// What other nodes may know of it. Digests are compared, so that the time it takes tells nothing of the secret.
    pub(super) fn digest(&self) -> &[u8] {
        &self.digest
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

impl From<String> for PeerSecret {
    fn from(text: String) -> Self {
        Self { digest: digest(&SHA256, text.as_bytes()).as_ref().into(), text: text.into() }
    }
}

/// What a peer's client was told. It shows it in URLs, which proxies write down: so each time that it comes it is told
/// another, and what it showed before is worth nothing once it has heard that.
pub(super) struct Secrets {
    latest: PeerSecret,
    /// What it showed when it was told the latest, which may not have reached it.
    shown: Option<PeerSecret>,
}

impl Secrets {
    fn new() -> Self {
        Self { latest: PeerSecret::new(), shown: None }
    }

    /// The client comes again, and is told this.
    pub(super) fn renew(&mut self, shown: Option<PeerSecret>) -> PeerSecret {
        let shown = shown.filter(|shown| self.include(shown));
        *self = Self { shown, ..Self::new() };
        self.latest.clone()
    }

    /// The client has heard of the latest.
    pub(super) fn are_heard(&mut self) {
        self.shown = None;
    }

    /// Whether this is of the client.
    pub(super) fn include(&self, secret: &PeerSecret) -> bool {
        let mut all = self.shown.iter().chain([&self.latest]);
        all.any(|known| known.digest() == secret.digest())
    }

    /// Of the latest, for other nodes.
    pub(super) fn digest(&self) -> &[u8] {
        self.latest.digest()
    }
}

/// What somebody has of a name that another has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Title {
    /// It is the same peer.
    Own,
    /// It has the name if the other gives no sign of life.
    Claim,
    /// Whom the tenant's server names, only that server names again.
    Nothing,
}

impl Title {
    /// Of one whom a token names, or not, and that shows the holder's secret, or not.
    pub(super) fn new(holder_is_named: bool, is_named: bool, is_shown: bool) -> Self {
        match (holder_is_named, is_named) {
            (_, true) => Self::Own,
            (true, false) => Self::Nothing,
            (false, false) if is_shown => Self::Own,
            (false, false) => Self::Claim,
        }
    }
}

/// What is left to do once it is known whether a session gave a sign of life.
pub(super) type Probed = Box<dyn FnOnce(&mut Room, bool) + Send>;

/// A join that waits for what another node says of its peer.
pub(super) struct Claim {
    at: Instant,
    /// Of that peer when it was claimed.
    pub(super) signs_of_life: u32,
}

/// A join that waits until it is known whether its name is free.
pub(super) struct Joining {
    join: Join,
    /// The requests that wait for the answer.
    replies: Vec<Reply>,
}

impl Room {
    pub(super) fn open(&mut self, opened: Opened) {
        let _entered = opened.span.clone().entered();
        opened.wait.note(opened.came.elapsed());
        if opened.desk.is_left() {
            return;
        }
        // It may have ended on the way.
        if let Some(words) = opened.guest.rights.ended() {
            return self.refuse(&opened, words.to_owned());
        }
        let Some(mut opened) = self.resume(opened) else { return };
        let Guest { peer, secret, rights, place, .. } = &mut opened.guest;
        let holder = self.peers.session_of(peer);
        let is_holder = |session| {
            let title = self.peers.get(session).map(|peer| peer.title_of(rights.names_peer(), secret.as_ref()));
            title == Some(Title::Own)
        };
        if place.is_none() && !holder.is_some_and(is_holder) {
            match rights.namespace().admit() {
                Ok(taken) => *place = Some(taken),
                Err(words) => return self.refuse(&opened, words.to_owned()),
            }
        }
        self.latest_join = current_traceparent().map(|trace| (trace, Instant::now() + JOIN_TRACE));
        let limit = self.context.limits.peers_per_room;
        // Those who have not joined are bounded as peers are.
        if self.peers.unjoined_count() >= limit || self.is_full() && holder.is_none() {
            return self.refuse(&opened, self.full());
        }
        if let Some(reason) = self.context.overload().filter(|_| holder.is_none()) {
            return self.refuse(&opened, reason);
        }
        let Some(load) = self.context.place(|worker| self.routers.contains_key(&worker)) else {
            return self.refuse(&opened, "the node has no media worker that works".to_owned());
        };
        if !self.ensure_router(load.worker()) {
            return self.refuse(&opened, "the node's media worker is too busy".to_owned());
        }
        opened.desk.await_join();
        opened.desk.complete();
        let session = opened.session;
        if opened.guest.rights.until().is_some() {
            self.watch_tokens();
        }
        let changes = self.context.limits.changes_per_minute;
        self.peers.insert(session, Peer::new(opened, load, changes));
        self.keep_place(session);
    }

    /// Gives a session's place back, unless it joins soon.
    fn keep_place(&mut self, session: SessionId) {
        self.after(PLACE_KEPT, move |room| {
            let Some(peer) = room.peers.get_mut(session) else { return };
            if peer.joined.is_none() && peer.joining.is_none() {
                peer.place = None;
            }
        });
    }

    fn refuse(&self, opened: &Opened, words: String) {
        let Opened { guest, desk, .. } = opened;
        self.record_refusal(guest.remote, &guest.peer, &words);
        desk.close(CloseReason::Full, words);
        desk.complete();
    }

    fn record_refusal(&self, remote: SocketAddr, peer: &PeerId, words: &str) {
        self.context.events.audit().record(&Entry::refused(remote, Who::new(&self.key, peer), words));
    }

    fn is_full(&self) -> bool {
        self.peers.joined_count() >= self.context.limits.peers_per_room
    }

    fn full(&self) -> String {
        format!("the room has {} peers on this node already", self.context.limits.peers_per_room)
    }

    pub(super) fn on_join_due(&mut self, session: SessionId) {
        let late = self.peers.get(session).is_some_and(|peer| peer.joined.is_none() && peer.joining.is_none());
        if late {
            let words = format!("no join within {} s", self.context.limits.join_within.as_secs());
            self.dismiss(session, CloseReason::NotJoined, &words);
        }
    }

    /// A client whose connection broke while it asked its user for permission goes on twice on the next one, so one
    /// that joins again is answered again.
    pub(super) fn join(&mut self, asker: &mut Asker, join: Join) -> Result<Outcome, Refusal> {
        let limit = self.context.limits.joins_per_session;
        let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
        peer.joins += 1;
        if peer.joins > limit {
            return Err(Refusal::new(409, format!("a session may join {limit} times")));
        }
        if let Some(joined) = &peer.joined {
            let (secret, subscription) = (joined.secrets.latest.clone(), joined.subscription);
            let others = self.others(&asker.peer, subscription).1;
            return Ok(Some(Ok(self.joined_reply(others, secret))));
        }
        if let Some(joining) = &mut peer.joining {
            joining.replies.extend(asker.answer_later());
            return Ok(None);
        }
        peer.joining = Some(Joining { join, replies: asker.answer_later().into_iter().collect() });
        self.try_join(asker.session);
        Ok(None)
    }

    /// Lets a session join if its name is free, or begins to find out whether it is.
    pub(super) fn try_join(&mut self, session: SessionId) {
        let Some(peer) = self.peers.get(session) else { return };
        let (id, is_named, shown) = (peer.id.clone(), peer.rights.names_peer(), peer.shown_secret.as_ref());
        if let Some(holder) = self.peers.session_of(&id) {
            match self.peers.get(holder).map_or(Title::Own, |holder| holder.title_of(is_named, shown)) {
                Title::Nothing => return self.refuse_join(session),
                Title::Claim => return self.ask_holder(session, holder),
                Title::Own => {}
            }
            if let Some(desk) = self.peers.desk(holder) {
                desk.close(CloseReason::Replaced, "the same peer joined again".to_owned());
            }
            let place = self.peers.get_mut(holder).and_then(|holder| holder.place.take());
            if let Some(peer) = self.peers.get_mut(session) {
                peer.place = peer.place.take().or(place);
            }
            // Other nodes are told with the new beginning: in between the name would look free there.
            self.end_peer(holder, LeaveReason::Replaced);
        } else if !self.others_known {
            return;
        } else if let Some(holder) = self.elsewhere.holder(&id) {
            let is_shown = shown.map(PeerSecret::digest) == Some(&holder.secret_digest);
            let signs_of_life = holder.signs_of_life;
            match Title::new(holder.named, is_named, is_shown) {
                Title::Nothing => return self.refuse_join(session),
                Title::Claim => return self.claim(session, signs_of_life),
                Title::Own => {}
            }
        }
        self.admit(session);
    }

    /// Goes on with those who came before it was known who is on other nodes.
    pub(super) fn know_others(&mut self) {
        if std::mem::replace(&mut self.others_known, true) {
            return;
        }
        let waiting = self.peers.iter().filter(|(_, peer)| peer.joining.is_some()).map(|(session, _)| session);
        self.for_each(waiting.collect(), Self::try_join);
    }

    fn ask_holder(&mut self, session: SessionId, holder: SessionId) {
        self.probe(holder, move |room, alive| {
            let name = room.peers.get(session).map(|peer| &peer.id);
            let holds = name.is_some_and(|name| room.peers.session_of(name) == Some(holder));
            if holds && alive {
                room.refuse_join(session);
                return;
            }
            if holds {
                room.dismiss(holder, CloseReason::Replaced, "the same peer joined again and this client was silent");
            }
            room.try_join(session);
        });
    }

    /// Waits for a sign of life of a session, which is asked for one at a time: however many want its name, that fills
    /// no queue of its.
    fn probe<F>(&mut self, session: SessionId, go_on: F)
    where
        F: FnOnce(&mut Self, bool) + Send + 'static,
    {
        if self.peers.get(session).is_some_and(|peer| peer.broken_at.is_some()) {
            return go_on(self, false);
        }
        let desk = self.peers.get(session).map(|peer| Arc::clone(peer.desk()));
        let waiting = self.probes.entry(session).or_default();
        waiting.push(Box::new(go_on));
        if waiting.len() > 1 {
            return;
        }
        let (answer, answered) = oneshot::channel();
        if let Some(desk) = self.peers.desk(session) {
            desk.probe(answer);
        }
        let within = self.context.limits.sign_of_life;
        self.pending.push(Box::pin(async move {
            let alive = matches!(timeout(within, answered).await, Ok(Ok(())));
            Box::new(move |room: &mut Self| {
                // One that went on over another connection meanwhile has shown that it is there.
                let now = room.peers.get(session).map(Peer::desk);
                let went_on = now.zip(desk.as_ref()).is_some_and(|(now, before)| !Arc::ptr_eq(now, before));
                let waiting = room.probes.remove(&session).into_iter().flatten();
                waiting.for_each(|go_on| go_on(room, alive || went_on));
            }) as Continuation
        }));
    }

    /// Lets the node that has the peer ask for its sign of life. One that says nothing is stalled or out of reach, and
    /// gives the peer no sign of life either.
    fn claim(&mut self, session: SessionId, signs_of_life: u32) {
        let claimed = Instant::now();
        let Some(id) = self.peers.get(session).map(|peer| peer.id.clone()) else { return };
        self.claims.insert(session, Claim { at: claimed, signs_of_life });
        self.publish(&id);
        self.after(self.context.limits.sign_of_life + CLAIM_MARGIN, move |room| {
            if room.claims.get(&session).is_none_or(|claim| claim.at != claimed) {
                return;
            }
            room.take_back_claim(session);
            let name = room.peers.get(session).map(|peer| &peer.id);
            match name.and_then(|name| room.peers.session_of(name)) {
                Some(_) => room.try_join(session),
                None => room.admit(session),
            }
        });
    }

    /// Another node has somebody who wants to be a peer of this one.
    pub(super) fn on_claim(&mut self, id: &PeerId) {
        let Some(holder) = self.peers.session_of(id) else { return };
        if self.peers.get(holder).is_some_and(|holder| holder.rights.names_peer()) {
            // The other node has not heard of that yet.
            return self.keep_name(id);
        }
        let id = id.clone();
        self.probe(holder, move |room, alive| {
            // One that has taken its own place meanwhile is alive.
            if room.peers.session_of(&id) == Some(holder) && !alive {
                let words = "the same peer joined elsewhere and this client was silent";
                room.dismiss(holder, CloseReason::Replaced, words);
            } else {
                room.keep_name(&id);
            }
        });
    }

    /// Tells whoever claims a name that its peer is there.
    fn keep_name(&mut self, id: &PeerId) {
        let holder = self.peers.session_of(id).and_then(|holder| self.peers.get_mut(holder));
        if let Some(joined) = holder.and_then(|holder| holder.joined.as_mut()) {
            joined.signs_of_life += 1;
            self.publish(id);
        }
    }

    /// Goes on with those of whose name another node has said what becomes of it.
    pub(super) fn settle_claims(&mut self) {
        let settled = self.claims.iter().filter_map(|(session, claim)| {
            let name = self.peers.get(*session).map(|peer| &peer.id);
            let name = name.filter(|name| self.peers.session_of(name).is_none());
            let holder = name.and_then(|name| self.elsewhere.holder(name));
            let waits = holder.is_some_and(|holder| !holder.named && holder.signs_of_life == claim.signs_of_life);
            (!waits).then_some((*session, holder.is_some()))
        });
        for (session, alive) in settled.collect::<Vec<_>>() {
            self.take_back_claim(session);
            if alive {
                self.refuse_join(session);
            } else {
                self.try_join(session);
            }
        }
    }

    /// One that other nodes went on hearing of would hide the next one.
    fn take_back_claim(&mut self, session: SessionId) {
        if self.claims.remove(&session).is_some()
            && let Some(id) = self.peers.get(session).map(|peer| peer.id.clone())
        {
            self.publish(&id);
        }
    }

    fn refuse_join(&mut self, session: SessionId) {
        let words = "the peer is in the room already";
        let Some(peer) = self.peers.get_mut(session) else { return };
        let (id, remote, joining) = (peer.id.clone(), peer.remote, peer.joining.take());
        self.record_refusal(remote, &id, words);
        for reply in joining.into_iter().flat_map(|joining| joining.replies) {
            self.reply(Some(reply), Err(Refusal::new(409, words)));
        }
        if let Some(desk) = self.peers.desk(session) {
            desk.await_join();
        }
        self.keep_place(session);
    }

    fn admit(&mut self, session: SessionId) {
        // Of a session that ended meanwhile.
        let Ok(()) = self.reconsider_rights(session) else { return };
        let full = self.is_full().then(|| self.full());
        let Some(peer) = self.peers.get_mut(session) else { return };
        if let Some(words) = full.or_else(|| peer.take_place().err()) {
            let (id, remote) = (peer.id.clone(), peer.remote);
            self.record_refusal(remote, &id, &words);
            return self.dismiss(session, CloseReason::Full, &words);
        }
        let Some(Joining { join, replies }) = peer.joining.take() else { return };
        let (id, remote) = (peer.id.clone(), peer.remote);
        let span = peer.span.take();
        let _entered = span.as_ref().map(tracing::Span::enter);
        let newest_elsewhere = self.elsewhere.newest_join(&id);
        let number = self.context.clock.now_ms().max(newest_elsewhere.map_or(0, |newest| newest.saturating_add(1)));
        let secrets = Secrets::new();
        let secret = secrets.latest.clone();
        let client = Session { number: session.0, remote };
        let display_name = peer.rights.name().map_or(join.display_name, str::to_owned);
        let joined = Joined {
            attendance: self.events.join(client, &id, &display_name),
            display_name,
            device: join.device,
            rtp_capabilities: join.rtp_capabilities.map(Arc::new),
            subscription: join.subscription,
            adapts_encodings: join.adapts_encodings,
            number,
            asked_onto_stage: peer.rights.grants().stage,
            secrets,
            signs_of_life: 0,
            _counted: self.context.count_peer(),
        };
        self.peers.set_joined(session, joined);
        self.publish(&id);
        // The same peer on another node is outdone now: the others see it go before it comes again.
        self.refresh_elsewhere_of(&id);
        self.present(&id);
        let (told, others) = self.others(&id, join.subscription);
        for reply in replies {
            self.reply(Some(reply), Ok(self.joined_reply(others.clone(), secret.clone())));
        }
        // After the answer: what has changed since that is news.
        if let Some(desk) = self.peers.desk(session) {
            desk.follow(told);
        }
        self.offer_everything(session);
    }

    /// Who is told of to a peer, and the version of the view that this is.
    pub(super) fn others(&self, but: &PeerId, subscription: Subscription) -> (Told, Others) {
        let (told, peers) = self.view.others(but, subscription);
        let producers = (subscription == Subscription::OnRequest).then(|| self.view.producers(but));
        (told, Others { peers, producers })
    }

    fn joined_reply(&self, others: Others, secret: PeerSecret) -> PeerReply {
        let (node, region) = (self.context.node().clone(), self.context.region.clone());
        PeerReply::Joined { others, node, region, secret }
    }
}
