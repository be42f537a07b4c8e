//! A room's exchange with placement: this node's part goes out, the other nodes' parts come in.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use sluice_placement::{PartDelta, RosterEvent};
use sluice_proto::ids::{PeerId, ProducerId};
use sluice_proto::ortc::MediaKind;
use sluice_proto::placement::{MediaKind as RosterKind, PeerEntry, ProducerEntry, ProducerType};

use super::api::{CloseReason, PeerInfo};
use super::elsewhere::{Change, RemotePeer};
use super::media::Producer;
use super::room::{Room, SLICE};
use crate::pipes::{Content, Home, Source};
use crate::telemetry::set_parent;

impl Room {
    /// Something about a peer, or about who wants its name, is another now. Other nodes hear of it when all that is
    /// going on is done.
    pub(super) fn publish(&mut self, id: &PeerId) {
        self.note_place(id);
        self.unpublished.insert(id.clone());
        self.census_due = true;
    }

    /// Tells other nodes of what is unpublished, if it is time.
    pub(super) fn publish_in_time(&mut self) {
        if !self.published_in_short.is_empty() && self.is_small() {
            self.unpublished.extend(self.published_in_short.drain());
        }
        if self.unpublished.is_empty() {
            return;
        }
        self.tell_at(|room| &mut room.publications, Self::publish_now);
    }

    /// In a part each name is once: of one that is held here nobody else has to hear that it is claimed too.
    fn publish_now(&mut self) {
        let mut delta = PartDelta::default();
        let claims: HashMap<PeerId, u32> = self
            .claims
            .iter()
            .filter_map(|(session, claim)| Some((self.peers.get(*session)?.id.clone(), claim.signs_of_life)))
            .collect();
        for id in std::mem::take(&mut self.unpublished) {
            let claimed = || claims.get(&id).map(|signs_of_life| claim_entry(&id, *signs_of_life));
            match self.peer_entry(&id).or_else(claimed) {
                Some(entry) => delta.upserted.push(Arc::new(entry)),
                None => delta.removed.push(id.to_string()),
            }
        }
        if let Some(publisher) = &self.publisher {
            publisher.publish(delta);
        }
    }

    /// What other nodes are told of a peer: of one of the audience of a large room in short.
    fn peer_entry(&mut self, id: &PeerId) -> Option<PeerEntry> {
        self.published_in_short.remove(id);
        let peer = self.peers.get(self.peers.session_of(id)?)?;
        let joined = peer.joined.as_ref()?;
        let on_stage = self.stage.contains(id);
        let mut entry = PeerEntry {
            id: id.to_string(),
            display_name: joined.display_name.clone(),
            join_number: joined.number,
            named: peer.rights.names_peer(),
            secret_digest: joined.secrets.digest().to_vec(),
            signs_of_life: joined.signs_of_life,
            on_stage,
            hidden: peer.rights.grants().hidden,
            ..PeerEntry::default()
        };
        if on_stage || self.is_small() {
            let local = peer.producers.iter().filter_map(|producer| self.producers.get(producer)?.local.as_ref());
            entry.producers = local.map(|local| local.entry.clone()).collect();
            entry.producers.sort_by(|a, b| a.id.cmp(&b.id));
            entry.device = joined.device.to_string();
            entry.metadata =
                peer.rights.metadata().map_or_else(String::new, |object| Value::from(object.clone()).to_string());
        } else {
            self.published_in_short.insert(id.clone());
        }
        Some(entry)
    }

    pub(super) fn on_roster_event(&mut self, event: RosterEvent) {
        // The other nodes' parts come because somebody joins here: what follows from them belongs to that join.
        let span = tracing::info_span!("roster", room = %self.key);
        if let Some(join) = self.recent_join() {
            set_parent(&span, join);
        }
        let _entered = span.entered();
        match event {
            RosterEvent::PartChanged { instance, delta, unlisted } => {
                let newest = delta.upserted.iter().map(|entry| entry.join_number).max();
                newest.into_iter().for_each(|number| self.context.clock.hear(number));
                for claimed in self.elsewhere.change(&instance, &delta, unlisted) {
                    self.on_claim(&claimed);
                }
            }
            RosterEvent::PartGone { instance } => self.elsewhere.remove(&instance),
            RosterEvent::Complete => return self.know_others(),
        }
        self.refresh_elsewhere();
    }

    /// Draws the consequences of what other nodes say of who is where, a slice at a time.
    fn refresh_elsewhere(&mut self) {
        let peers = &self.peers;
        let changes = self.elsewhere.refresh(SLICE, |id| peers.standing(id));
        self.on_changes(changes);
        if self.elsewhere.is_behind() && !std::mem::replace(&mut self.refreshing, true) {
            self.soon(|room| {
                room.refreshing = false;
                room.refresh_elsewhere();
            });
        }
    }

    /// The same at once, where one peer came or left here: another node may have it too.
    pub(super) fn refresh_elsewhere_of(&mut self, peer: &PeerId) {
        let peers = &self.peers;
        let changes = self.elsewhere.refresh_one(peer, |id| peers.standing(id));
        self.on_changes(changes);
    }

    fn on_changes(&mut self, changes: Vec<Change>) {
        self.census_due = true;
        for change in changes {
            self.on_change(change);
        }
        self.settle_claims();
    }

    fn on_change(&mut self, change: Change) {
        match change {
            Change::Outdone(peer) => {
                if let Some(session) = self.peers.session_of(&peer) {
                    self.dismiss(session, CloseReason::Replaced, "the same peer is on another node");
                }
            }
            Change::PeerGone(peer) => self.hide(&peer),
            Change::PeerCame(peer) | Change::PeerPresented(peer) => self.present(&peer),
            Change::Renamed(peer) => self.rename(&peer),
            Change::ProducerGone(producer) => {
                if self.is_remote(producer) {
                    self.remove_producer(producer);
                }
            }
            Change::ProducerCame(peer, producer) => self.add_remote_producer(&peer, producer),
            Change::ProducerPaused(producer, paused) => {
                if self.is_remote(producer) {
                    self.set_producer_paused(producer, paused);
                }
            }
        }
    }

    fn add_remote_producer(&mut self, peer: &PeerId, producer: ProducerId) {
        if self.producers.contains_key(&producer) {
            tracing::warn!(room = %self.key, %peer, %producer, "another node claims a producer id that is taken");
            return;
        }
        let Some(remote) = self.elsewhere.peer(peer) else { return };
        let Some(found) = remote.producers.get(&producer) else { return };
        let source = Source {
            producer,
            room: self.key.clone(),
            content: found.content.clone(),
            paused: found.paused,
            home: Home::Node(remote.instance.clone()),
        };
        self.producers.insert(producer, Producer::new(source, Some(peer.clone()), found.app_data.clone()));
        self.show_producer(peer, producer);
        self.offer_to_everybody(producer);
    }

    fn is_remote(&self, producer: ProducerId) -> bool {
        self.producers.get(&producer).is_some_and(|found| matches!(found.source.home, Home::Node(_)))
    }

    /// What others are told of a peer of another node; `None` of one whom nobody is told of.
    pub(super) fn remote_info(&self, id: &PeerId, remote: &RemotePeer) -> Option<PeerInfo> {
        (!remote.hidden).then(|| PeerInfo {
            id: id.clone(),
            display_name: remote.display_name.clone(),
            device: remote.device.clone().unwrap_or_else(|| Value::Object(Map::new())),
            node: remote.instance.node.clone(),
            region: self.context.region_of(&remote.instance),
            metadata: remote.metadata.clone(),
        })
    }
}

/// What other nodes are told of somebody who wants the name of a peer of theirs.
fn claim_entry(id: &PeerId, signs_of_life: u32) -> PeerEntry {
    PeerEntry { id: id.to_string(), claim: true, signs_of_life, ..PeerEntry::default() }
}

/// What other nodes are told of a producer of this one.
pub(super) fn producer_entry(source: &Source, app_data: &Value) -> ProducerEntry {
    let entry = ProducerEntry {
        id: source.producer.to_bytes().to_vec(),
        paused: source.paused,
        app_data: app_data.to_string(),
        ..ProducerEntry::default()
    };
    // Serialising our own parameters cannot fail: their keys are strings.
    match &source.content {
        Content::Media { kind, rtp } => ProducerEntry {
            kind: match kind {
                MediaKind::Audio => RosterKind::Audio,
                MediaKind::Video => RosterKind::Video,
            }
            .into(),
            consumable_rtp_parameters: serde_json::to_string(&**rtp).unwrap_or_default(),
            r#type: if rtp.encodings.len() > 1 { ProducerType::Simulcast } else { ProducerType::Simple }.into(),
            ..entry
        },
        Content::Data(channel) => ProducerEntry {
            kind: RosterKind::Data.into(),
            data_channel: serde_json::to_string(&**channel).unwrap_or_default(),
            ..entry
        },
    }
}
