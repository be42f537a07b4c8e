//! What peers receive that ask for it.

use std::collections::HashMap;

use sluice_media::messages::Request;
use sluice_proto::ids::ProducerId;

use super::api::{PeerReply, Refusal, Subscription};
use super::media::receives;
use super::requests::{Asker, gone};
use super::room::Room;

/// The producers that a peer asked to receive, each with the MID that it wants for it.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    mids: HashMap<ProducerId, Option<String>>,
}

impl Wanted {
    pub(super) fn contains(&self, producer: ProducerId) -> bool {
        self.mids.contains_key(&producer)
    }

    pub(super) fn producers(&self) -> impl Iterator<Item = ProducerId> {
        self.mids.keys().copied()
    }

    /// The MID that the client chose for a producer.
    pub(super) fn mid(&self, producer: ProducerId) -> Option<String> {
        self.mids.get(&producer).cloned().flatten()
    }

    /// Whether the client chose this MID for anything.
    pub(super) fn has_mid(&self, mid: &str) -> bool {
        self.mids.values().flatten().any(|chosen| chosen == mid)
    }

    /// Whether it was wanted.
    pub(super) fn remove(&mut self, producer: ProducerId) -> bool {
        self.mids.remove(&producer).is_some()
    }
}

impl Room {
    /// Lets a peer receive a producer, at once or as soon as it has a transport for that. Asked again, it changes
    /// nothing.
    pub(super) fn subscribe(
        &mut self,
        asker: &Asker,
        producer: ProducerId,
        mid: Option<String>,
    ) -> Result<PeerReply, Refusal> {
        let producers = &self.producers;
        let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
        let joined = peer.joined.as_ref().filter(|joined| joined.subscription == Subscription::OnRequest);
        let joined =
            joined.ok_or_else(|| Refusal::new(409, "join with subscription onRequest comes before subscribe"))?;
        if !peer.rights.grants().subscribe {
            return Err(Refusal::new(403, "the token does not allow to receive"));
        }
        let found = producers.get(&producer).filter(|found| found.owner.as_ref() != Some(&peer.id));
        let found = found.ok_or_else(|| Refusal::not_found("producer", producer))?;
        if !receives(joined, &found.source.content) {
            return Err(Refusal::bad_request("the capabilities of join have nothing for this producer"));
        }
        // Those that ended meanwhile are wanted no longer.
        peer.wanted.mids.retain(|wanted, _| producers.contains_key(wanted));
        if peer.wanted.contains(producer) {
            return Ok(PeerReply::Done);
        }
        let limit = self.context.limits.consumers_per_peer;
        if peer.wanted.mids.len() >= limit || peer.has_all_consumers(limit) {
            return Err(Refusal::new(403, format!("a peer may have {limit} consumers")));
        }
        if let Some(mid) = mid.as_deref().filter(|mid| !peer.is_free_mid(mid)) {
            return Err(Refusal::new(409, format!("mid {mid:?} is taken")));
        }
        peer.wanted.mids.insert(producer, mid);
        self.offer(asker.session, producer);
        Ok(PeerReply::Done)
    }

    /// Ends what a peer receives of a producer. Its client hears of that as if the producer had ended.
    pub(super) fn unsubscribe(&mut self, asker: &Asker, producer: ProducerId) -> Result<PeerReply, Refusal> {
        let peer = self.peers.get_mut(asker.session).ok_or_else(gone)?;
        if !peer.wanted.remove(producer) {
            return Err(Refusal::new(404, format!("producer {producer} is not subscribed to")));
        }
        let consumers = self.producers.get(&producer).map(|found| &found.consumers);
        if let Some(consumer) = consumers.and_then(|consumers| consumers.get(&asker.session)).copied() {
            self.command(asker.session, Request::CloseConsumer { consumer });
            self.close_consumer(consumer);
        }
        Ok(PeerReply::Done)
    }
}
