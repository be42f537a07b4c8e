//! Stage and audience. On the stage is who publishes or was asked there. In a small room everybody is told of
//! everybody, but those who want the stage alone; in a large one of the stage, and how many there are. Whoever has been
//! told of stays so until it leaves. Of the others one can ask, a page at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_proto::ids::{PeerId, ProducerId};

use super::api::{Census, PeerInfo, PeerSummary, PeersPage, Subscription};
use super::elsewhere::RemotePeer;
use super::media::Producer;
use super::peer::Peer;
use super::room::Room;

/// How often clients are told how many there are in a large room.
const CENSUS_PACE: Duration = Duration::from_secs(1);

impl Room {
    /// Whether everybody is told of everybody.
    pub(super) fn is_small(&self) -> bool {
        self.size() <= self.context.limits.small_room
    }

    /// Joined peers, wherever they are.
    fn size(&self) -> usize {
        self.peers.joined_count() + self.elsewhere.len()
    }

    /// Tells everybody of a peer, who publishes or is in a small room.
    pub(super) fn show(&self, peer: &PeerId) {
        if !self.view.shows(peer)
            && let Some(info) = self.info(peer)
        {
            self.view.show(info);
        }
    }

    /// Tells everybody of a peer that came, or of which more is known, if it is to be told of.
    pub(super) fn present(&self, peer: &PeerId) {
        if self.info(peer).is_none() {
            return self.view.remove(peer);
        }
        let is_staged = self.stage.contains(peer) || self.elsewhere.peer(peer).is_some_and(|remote| remote.on_stage);
        if is_staged || self.is_small() && self.is_known(peer) {
            self.show(peer);
        }
        if is_staged {
            self.view.set_on_stage(peer);
        }
    }

    /// Of some on other nodes not all is known yet that clients are told.
    fn is_known(&self, peer: &PeerId) -> bool {
        self.elsewhere.peer(peer).is_none_or(|remote| remote.device.is_some())
    }

    /// Tells those who know of a peer that it left. A room that becomes small by it has not many to tell of.
    pub(super) fn hide(&mut self, peer: &PeerId) {
        self.view.remove(peer);
        if self.is_small() && self.view.len() < self.size() {
            self.peers.joined_ids().for_each(|peer| self.present(peer));
            self.elsewhere.peers().for_each(|(peer, _)| self.present(peer));
            let is_data = |(_, producer): &(_, &Producer)| producer.channel().is_some();
            let data: Vec<ProducerId> = self.producers.iter().filter(is_data).map(|(id, _)| *id).collect();
            data.into_iter().for_each(|producer| self.spread_data(producer));
        }
    }

    /// Tells those who know of a peer that it has another name, or that something else is said of it.
    pub(super) fn rename(&self, peer: &PeerId) {
        if let Some(info) = self.info(peer) {
            self.view.rename(info);
        }
    }

    /// `None` of one whom nobody is told of.
    fn info(&self, peer: &PeerId) -> Option<PeerInfo> {
        match self.peers.joined(peer) {
            Some(_) => self.local_info(peer),
            None => self.elsewhere.peer(peer).and_then(|remote| self.remote_info(peer, remote)),
        }
    }

    /// Asks a peer of this node onto the stage, or says that it need not be there; whoever publishes is.
    pub(super) fn set_stage(&mut self, peer: &PeerId, on: bool) {
        let session = self.peers.session_of(peer);
        let joined = session.and_then(|session| self.peers.get_mut(session)?.joined.as_mut());
        let Some(joined) = joined else { return };
        joined.asked_onto_stage = on;
        self.publish(peer);
        self.present(peer);
    }

    /// Whether a peer is on the stage, or hidden, may be otherwise now.
    pub(super) fn note_place(&mut self, id: &PeerId) {
        let peer = self.peers.session_of(id).and_then(|session| self.peers.get(session));
        let asked = |peer: &Peer| peer.joined.as_ref().is_some_and(|joined| joined.asked_onto_stage);
        let hidden = peer.is_some_and(|peer| peer.rights.grants().hidden);
        let is_media = |id: &ProducerId| self.producers.get(id).is_some_and(|producer| producer.channel().is_none());
        let publishes = |peer: &Peer| peer.producers.iter().any(is_media);
        let on_stage = !hidden && peer.is_some_and(|peer| asked(peer) || publishes(peer));
        let data: Vec<ProducerId> = match on_stage == self.stage.contains(id) {
            true => Vec::new(),
            false => peer.iter().flat_map(|peer| &peer.producers).copied().filter(|id| !is_media(id)).collect(),
        };
        for (set, is_in) in [(&mut self.stage, on_stage), (&mut self.hidden, hidden)] {
            match is_in {
                true => drop(set.insert(id.clone())),
                false => drop(set.remove(id)),
            }
        }
        data.into_iter().for_each(|producer| self.spread_data(producer));
    }

    /// How many are in the room, of whom clients are told.
    pub(super) fn census(&self) -> Census {
        let here = self.peers.joined_count() - self.hidden.len();
        let mut by_region = BTreeMap::from([(self.context.region.to_string(), here)]);
        for (node, count) in self.elsewhere.by_node() {
            let region = self.context.region_of(node).map(|region| region.to_string());
            *by_region.entry(region.unwrap_or_default()).or_default() += count;
        }
        by_region.retain(|_, count| *count > 0);
        let total = by_region.values().sum();
        Census { total, stage: self.stage.len() + self.elsewhere.stage(), by_region }
    }

    /// Tells how many there are, now and then, where not all are told of everybody. Where it was told once it is told
    /// on.
    pub(super) fn tell_census_in_time(&mut self) {
        if !std::mem::take(&mut self.census_due) || self.counting {
            return;
        }
        let follows_stage = |(_, peer): (_, &Peer)| {
            peer.joined.as_ref().is_some_and(|joined| joined.subscription == Subscription::Stage)
        };
        if self.is_small() && !self.view.has_census() && !self.peers.iter().any(follows_stage) {
            return;
        }
        self.counting = true;
        self.after(CENSUS_PACE, |room| {
            room.counting = false;
            room.view.set_census(room.census());
        });
    }

    /// How many there are beside those.
    pub(super) fn hidden(&self, census: &Census) -> usize {
        self.size().saturating_sub(census.total)
    }

    /// Some of the peers, in the order of their ids, from after one of them on: all of them, or those of whom clients
    /// are told. `limit` may be less than is allowed.
    pub(super) fn page(&self, after: Option<&PeerId>, limit: Option<usize>, all: bool) -> PeersPage {
        let most = self.context.limits.peers_per_page;
        let limit = limit.unwrap_or(most).clamp(1, most);
        let here = self.peers.joined_after(after).filter_map(|id| self.local_summary(id));
        let here = here.filter(|peer| all || !peer.hidden);
        let elsewhere = self.elsewhere.peers_after(after).filter(|(_, remote)| all || !remote.hidden);
        let elsewhere = elsewhere.map(|(id, remote)| self.remote_summary(id, remote));
        let mut peers: Vec<PeerSummary> = here.take(limit + 1).chain(elsewhere.take(limit + 1)).collect();
        peers.sort_by(|a, b| a.id.cmp(&b.id));
        let is_last = peers.len() <= limit;
        peers.truncate(limit);
        let next = peers.last().filter(|_| !is_last).map(|peer| peer.id.clone());
        let census = self.census();
        PeersPage { peers, next, hidden: all.then(|| self.hidden(&census)), census }
    }

    /// Of a peer of this node no more than a list has: metadata are long.
    fn local_summary(&self, id: &PeerId) -> Option<PeerSummary> {
        let peer = self.peers.get(self.peers.session_of(id)?)?;
        Some(PeerSummary {
            id: id.clone(),
            display_name: peer.joined.as_ref()?.display_name.clone(),
            node: self.context.node().clone(),
            region: Some(self.context.region.clone()),
            on_stage: self.stage.contains(id),
            hidden: peer.rights.grants().hidden,
        })
    }

    /// The same of a peer of another node.
    fn remote_summary(&self, id: &PeerId, remote: &RemotePeer) -> PeerSummary {
        PeerSummary {
            id: id.clone(),
            display_name: remote.display_name.clone(),
            node: remote.instance.node.clone(),
            region: self.context.region_of(&remote.instance),
            on_stage: remote.on_stage,
            hidden: remote.hidden,
        }
    }
}
