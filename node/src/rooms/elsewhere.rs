//! The peers that other nodes have in the room, out of their rosters. Pure: parts go in, changes come out.
//!
//! A peer id can be in several parts for a moment, when somebody comes back through another node: the newest join is
//! the peer, the older ones are nobody, and their nodes dismiss them as soon as they hear of it.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use sluice_proto::ids::{NodeInstance, PeerId, ProducerId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::placement::{MediaKind as RosterKind, PeerEntry, ProducerEntry, RosterPart};

use crate::ortc::parse_consumable_rtp_parameters;

/// A peer of another node.
#[derive(Debug, Clone)]
pub(super) struct RemotePeer {
    pub(super) instance: NodeInstance,
    joined_at_ms: u64,
    /// Of the secret by which its client is known again.
    pub(super) secret_digest: Vec<u8>,
    /// How often its client gave one because of claims.
    pub(super) signs_of_life: u32,
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
    Renamed(PeerId),
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
    /// Names that other nodes' clients would like to have, with the signs of life that are known there of who has them.
    claims: HashMap<NodeInstance, HashMap<PeerId, u32>>,
    /// The winners, as the room was told.
    shown: HashMap<PeerId, Arc<RemotePeer>>,
}

impl Elsewhere {
    pub(super) fn new(me: NodeInstance) -> Self {
        Self { me, parts: HashMap::new(), claims: HashMap::new(), shown: HashMap::new() }
    }

    /// A node's part is now this. [`Self::refresh`] tells what follows. Answers with the names that it claims anew.
    pub(super) fn put(&mut self, instance: &NodeInstance, part: &RosterPart) -> Vec<PeerId> {
        let old = self.parts.remove(instance).unwrap_or_default();
        let (claims, peers): (Vec<_>, Vec<_>) = part.peers.iter().partition(|entry| entry.claim);
        let peers = peers.into_iter().filter_map(|entry| read_peer(instance, entry, &old));
        self.parts.insert(instance.clone(), peers.collect());
        let claims = claims.into_iter().filter_map(|entry| Some((PeerId::new(&entry.id).ok()?, entry.signs_of_life)));
        let claims: HashMap<PeerId, u32> = claims.collect();
        let before = self.claims.remove(instance).unwrap_or_default();
        // Of a claim that was settled and made again nothing may be heard but the number.
        let new =
            claims.iter().filter(|(id, signs)| before.get(*id) != Some(*signs)).map(|(id, _)| id.clone()).collect();
        if !claims.is_empty() {
            self.claims.insert(instance.clone(), claims);
        }
        new
    }

    /// A node has no part any more.
    pub(super) fn remove(&mut self, instance: &NodeInstance) {
        self.parts.remove(instance);
        self.claims.remove(instance);
    }

    /// How many peers the room was told of.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
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
            changes.push(Change::Renamed(id.clone()));
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
        secret_digest: entry.secret_digest.clone(),
        signs_of_life: entry.signs_of_life,
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use sluice_proto::ids::NodeId;

    use super::*;

    const RTP: &str = r#"{"codecs":[],"headerExtensions":[],"encodings":[{"ssrc":1}],"rtcp":{"reducedSize":true}}"#;

    fn instance(number: u8) -> NodeInstance {
        NodeInstance { node: NodeId::new(format!("n{number}")).unwrap(), incarnation: 1 }
    }

    /// A peer of a part: number, when it joined, version of its name, its producers and whether they are paused.
    type Entry = (u8, u64, u8, BTreeMap<u8, bool>);

    fn part(node: u8, entries: &[Entry]) -> RosterPart {
        let peers = entries.iter().map(|(peer, joined_at_ms, name, producers)| PeerEntry {
            id: format!("p{peer}"),
            display_name: format!("name {name}"),
            device: "not JSON".to_owned(),
            producers: producers
                .iter()
                .map(|(producer, paused)| ProducerEntry {
                    id: producer_id(node, *peer, *producer).to_bytes().to_vec(),
                    consumable_rtp_parameters: RTP.to_owned(),
                    paused: *paused,
                    ..ProducerEntry::default()
                })
                .collect(),
            joined_at_ms: *joined_at_ms,
            ..PeerEntry::default()
        });
        RosterPart { peers: peers.collect() }
    }

    fn producer_id(node: u8, peer: u8, producer: u8) -> ProducerId {
        ProducerId::from_bytes([node, peer, producer, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
    }

    /// What somebody believes who hears of nothing but changes.
    #[derive(Default, PartialEq, Debug)]
    struct Believed {
        peers: BTreeSet<PeerId>,
        producers: BTreeMap<ProducerId, PeerId>,
        paused: BTreeMap<ProducerId, bool>,
    }

    impl Believed {
        fn hear(&mut self, change: Change, elsewhere: &Elsewhere) {
            match change {
                Change::PeerCame(peer) => assert!(self.peers.insert(peer), "a peer came twice"),
                Change::PeerGone(peer) => {
                    assert!(self.producers.values().all(|owner| *owner != peer), "producers go before their peer");
                    assert!(self.peers.remove(&peer), "a peer went that had not come");
                }
                Change::ProducerCame(peer, producer) => {
                    assert!(self.peers.contains(&peer), "peers come before their producers");
                    let paused = elsewhere.peer(&peer).unwrap().producers[&producer].paused;
                    self.paused.insert(producer, paused);
                    assert!(self.producers.insert(producer, peer).is_none(), "a producer came twice");
                }
                Change::ProducerGone(producer) => {
                    self.paused.remove(&producer);
                    assert!(self.producers.remove(&producer).is_some(), "a producer went that had not come");
                }
                Change::ProducerPaused(producer, paused) => {
                    assert_eq!(self.paused.insert(producer, paused), Some(!paused), "a pause is told once");
                }
                Change::Renamed(peer) => assert!(self.peers.contains(&peer)),
                Change::Outdone(_) => {}
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(u8, Option<Vec<Entry>>)>> {
        let producers = prop::collection::btree_map(0..3_u8, any::<bool>(), 0..3);
        let entry = (0..4_u8, 0..4_u64, 0..2_u8, producers);
        let part = prop::collection::vec(entry, 0..4).prop_map(|mut entries| {
            entries.sort_by_key(|entry| entry.0);
            entries.dedup_by_key(|entry| entry.0);
            entries
        });
        prop::collection::vec((0..3_u8, prop::option::weighted(0.8, part)), 1..20)
    }

    proptest! {
        #[test]
        fn whoever_hears_every_change_knows_the_truth(steps in steps(), local_peer in 0..4_u8, local_joined in 0..5_u64) {
            let local_id = PeerId::new(format!("p{local_peer}")).unwrap();
            let mut elsewhere = Elsewhere::new(instance(9));
            let mut believed = Believed::default();
            let mut truth: BTreeMap<u8, Vec<Entry>> = BTreeMap::new();
            for (node, new) in steps {
                match new {
                    Some(entries) => {
                        elsewhere.put(&instance(node), &part(node, &entries));
                        truth.insert(node, entries);
                    }
                    None => {
                        elsewhere.remove(&instance(node));
                        truth.remove(&node);
                    }
                }
                let changes = elsewhere.refresh(|id| (*id == local_id).then_some(local_joined));
                for change in changes {
                    believed.hear(change, &elsewhere);
                }
                // The newest join of each peer, with ties going to the node whose name is greater.
                let mut winners: BTreeMap<u8, (u64, u8, &BTreeMap<u8, bool>)> = BTreeMap::new();
                for (node, (peer, at, _, producers)) in truth.iter().flat_map(|(node, entries)| entries.iter().map(move |entry| (*node, entry))) {
                    let winner = winners.entry(*peer).or_insert((*at, node, producers));
                    if (*at, node) > (winner.0, winner.1) {
                        *winner = (*at, node, producers);
                    }
                }
                winners.retain(|peer, (at, ..)| *peer != local_peer || *at > local_joined);
                let mut expected = Believed::default();
                for (peer, (_, node, producers)) in winners {
                    let id = PeerId::new(format!("p{peer}")).unwrap();
                    for (producer, paused) in producers {
                        expected.paused.insert(producer_id(node, peer, *producer), *paused);
                        expected.producers.insert(producer_id(node, peer, *producer), id.clone());
                    }
                    expected.peers.insert(id);
                }
                prop_assert_eq!(&believed, &expected);
            }
        }
    }

    #[test]
    fn a_claim_is_told_once_and_is_no_peer() {
        let mut elsewhere = Elsewhere::new(instance(9));
        let mut claiming = part(1, &[(1, 5, 0, BTreeMap::new()), (2, 0, 0, BTreeMap::new())]);
        claiming.peers[1].claim = true;
        assert_eq!(elsewhere.put(&instance(1), &claiming), [PeerId::new("p2").unwrap()]);
        assert_eq!(elsewhere.put(&instance(1), &claiming), []);
        // It was settled, and somebody else makes it again; parts between the two may never be heard.
        claiming.peers[1].signs_of_life = 1;
        assert_eq!(elsewhere.put(&instance(1), &claiming), [PeerId::new("p2").unwrap()]);
        assert_eq!(
            elsewhere.refresh(|_| Some(1)),
            [Change::Outdone(PeerId::new("p1").unwrap()), Change::PeerCame(PeerId::new("p1").unwrap())]
        );
        elsewhere.remove(&instance(1));
        assert_eq!(elsewhere.put(&instance(1), &claiming), [PeerId::new("p2").unwrap()]);
    }

    #[test]
    fn what_another_node_says_wrong_costs_only_that() {
        let mut elsewhere = Elsewhere::new(instance(9));
        let mut broken =
            part(1, &[(1, 5, 0, BTreeMap::from([(0, false), (1, false), (2, false)])), (2, 5, 0, BTreeMap::new())]);
        broken.peers[0].producers[0].id = vec![1, 2, 3];
        broken.peers[0].producers[1].consumable_rtp_parameters = "{".to_owned();
        broken.peers[1].id = "a\nb".to_owned();
        elsewhere.put(&instance(1), &broken);
        let changes = elsewhere.refresh(|_| None);
        let peer = PeerId::new("p1").unwrap();
        assert_eq!(changes, [Change::PeerCame(peer.clone()), Change::ProducerCame(peer, producer_id(1, 1, 2))]);
    }
}
