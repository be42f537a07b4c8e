//! The peers that other nodes have in the room, out of their rosters. Pure: parts go in, changes come out.
//!
//! A peer id can be in several parts for a moment, when somebody comes back through another node: the newest join is the peer, the older
//! ones are nobody, and their nodes dismiss them as soon as they hear of it.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use sluice_proto::ids::{NodeInstance, PeerId, ProducerId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::placement::{MediaKind as RosterKind, PeerEntry, ProducerEntry, RosterPart};

use crate::control_plane::ortc::parse_consumable_rtp_parameters;

/// A peer of another node.
#[derive(Debug, Clone)]
pub(super) struct RemotePeer {
    pub(super) instance: NodeInstance,
    joined_at_ms: u64,
    pub(super) display_name: String,
    pub(super) device: Value,
    pub(super) producers: HashMap<ProducerId, RemoteProducer>,
}

/// A producer of another node.
#[derive(Debug, Clone)]
pub(super) struct RemoteProducer {
    pub(super) kind: MediaKind,
    pub(super) rtp: Arc<RtpParameters>,
    pub(super) app_data: Value,
    pub(super) paused: bool,
}

/// What became different, in an order in which it can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    PeerGone(PeerId),
    PeerCame(PeerId),
    Renamed {
        peer: PeerId,
        old: String,
    },
    ProducerGone(ProducerId),
    ProducerCame(PeerId, ProducerId),
    ProducerPaused(ProducerId, bool),
    /// A peer of this node joined again on another one.
    Outdone(PeerId),
}

#[derive(Debug)]
pub(super) struct Elsewhere {
    me: NodeInstance,
    parts: HashMap<NodeInstance, HashMap<PeerId, Arc<RemotePeer>>>,
    /// The winners, as the room was told.
    shown: HashMap<PeerId, Arc<RemotePeer>>,
}

impl Elsewhere {
    pub(super) fn new(me: NodeInstance) -> Self {
        Self { me, parts: HashMap::new(), shown: HashMap::new() }
    }

    /// A node's part is now this. [`Self::refresh`] tells what follows.
    pub(super) fn put(&mut self, instance: &NodeInstance, part: &RosterPart) {
        let old = self.parts.remove(instance).unwrap_or_default();
        let peers = part.peers.iter().filter_map(|entry| read_peer(instance, entry, &old));
        self.parts.insert(instance.clone(), peers.collect());
    }

    /// A node has no part any more.
    pub(super) fn remove(&mut self, instance: &NodeInstance) {
        self.parts.remove(instance);
    }

    /// The peers that the room was told of.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&PeerId, &RemotePeer)> {
        self.shown.iter().map(|(id, peer)| (id, &**peer))
    }

    pub(super) fn peer(&self, id: &PeerId) -> Option<&RemotePeer> {
        self.shown.get(id).map(|peer| &**peer)
    }

    /// When the peer joined last on another node.
    pub(super) fn newest_join(&self, id: &PeerId) -> Option<u64> {
        self.parts.values().filter_map(|part| part.get(id)).map(|peer| peer.joined_at_ms).max()
    }

    /// Brings what is shown up to date. `local` says when a peer of this node joined.
    pub(super) fn refresh(&mut self, local: impl Fn(&PeerId) -> Option<u64>) -> Vec<Change> {
        let mut winners: HashMap<PeerId, Arc<RemotePeer>> = HashMap::new();
        for (id, peer) in self.parts.values().flatten() {
            if winners.get(id).is_none_or(|winner| winner.rank() < peer.rank()) {
                winners.insert(id.clone(), Arc::clone(peer));
            }
        }
        let mut changes = Vec::new();
        winners.retain(|id, peer| match local(id) {
            Some(at) if (at, &self.me) > peer.rank() => false,
            Some(_) => {
                changes.push(Change::Outdone(id.clone()));
                true
            }
            None => true,
        });
        let shown = std::mem::replace(&mut self.shown, winners);
        for (id, old) in &shown {
            if self.shown.get(id).is_none_or(|new| new.rank() != old.rank()) {
                changes.extend(old.producers.keys().map(|producer| Change::ProducerGone(*producer)));
                changes.push(Change::PeerGone(id.clone()));
            }
        }
        for (id, new) in &self.shown {
            let old = shown.get(id).filter(|old| old.rank() == new.rank()).map(|old| &**old);
            compare(id, old, new, &mut changes);
        }
        changes
    }
}

impl RemotePeer {
    fn rank(&self) -> (u64, &NodeInstance) {
        (self.joined_at_ms, &self.instance)
    }
}

fn compare(id: &PeerId, old: Option<&RemotePeer>, new: &RemotePeer, changes: &mut Vec<Change>) {
    match old {
        None => changes.push(Change::PeerCame(id.clone())),
        Some(old) if old.display_name != new.display_name => {
            changes.push(Change::Renamed { peer: id.clone(), old: old.display_name.clone() });
        }
        Some(_) => {}
    }
    let before = |producer: &ProducerId| old.and_then(|old| old.producers.get(producer));
    for producer in old.into_iter().flat_map(|old| old.producers.keys()) {
        if !new.producers.contains_key(producer) {
            changes.push(Change::ProducerGone(*producer));
        }
    }
    for (producer, state) in &new.producers {
        match before(producer) {
            None => changes.push(Change::ProducerCame(id.clone(), *producer)),
            Some(old) if old.paused != state.paused => changes.push(Change::ProducerPaused(*producer, state.paused)),
            Some(_) => {}
        }
    }
}

fn read_peer(
    instance: &NodeInstance,
    entry: &PeerEntry,
    old: &HashMap<PeerId, Arc<RemotePeer>>,
) -> Option<(PeerId, Arc<RemotePeer>)> {
    let id = PeerId::new(&entry.id).ok()?;
    let known = old.get(&id);
    let mut producers = HashMap::with_capacity(entry.producers.len());
    for producer in &entry.producers {
        let known = known.map(|known| &known.producers);
        match read_producer(producer, known) {
            Ok((id, producer)) => drop(producers.insert(id, producer)),
            Err(reason) => {
                tracing::warn!(node = %instance, peer = %id, reason, "a producer of another node is unreadable")
            }
        }
    }
    let peer = RemotePeer {
        instance: instance.clone(),
        joined_at_ms: entry.joined_at_ms,
        display_name: entry.display_name.clone(),
        device: object(&entry.device),
        producers,
    };
    Some((id, Arc::new(peer)))
}

/// What cannot change about a producer is taken over from the last reading.
fn read_producer(
    entry: &ProducerEntry,
    known: Option<&HashMap<ProducerId, RemoteProducer>>,
) -> Result<(ProducerId, RemoteProducer), String> {
    let id: [u8; 16] = entry.id.as_slice().try_into().map_err(|_| "its id is not 16 bytes".to_owned())?;
    let id = ProducerId::from_bytes(id);
    if let Some(known) = known.and_then(|known| known.get(&id)) {
        return Ok((id, RemoteProducer { paused: entry.paused, ..known.clone() }));
    }
    let kind = match entry.kind() {
        RosterKind::Audio => MediaKind::Audio,
        RosterKind::Video => MediaKind::Video,
    };
    let rtp = parse_consumable_rtp_parameters(&entry.consumable_rtp_parameters).map_err(|error| error.to_string())?;
    Ok((id, RemoteProducer { kind, rtp: Arc::new(rtp), app_data: object(&entry.app_data), paused: entry.paused }))
}

/// A JSON object, an empty one if it is something else.
fn object(json: &str) -> Value {
    match serde_json::from_str(json) {
        Ok(object @ Value::Object(_)) => object,
        _ => Value::Object(serde_json::Map::new()),
    }
}
