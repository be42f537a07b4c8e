//! The peers that other nodes have in the room, out of their rosters. Pure: what became different in parts goes in,
//! changes come out, at the cost of what became different.
//!
//! A peer id can be in several parts for a moment, when somebody comes back through another node: the newest join is
//! the peer, the older ones are nobody, and their nodes dismiss them as soon as they hear of it. But whom no token
//! names is nobody beside whom one does, however new: a node that could not be heard of may have had the name all the
//! time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use serde_json::{Map, Value};
use sluice_placement::PartDelta;
use sluice_proto::ids::{NodeInstance, PeerId, ProducerId};
use sluice_proto::ortc::MediaKind;
use sluice_proto::placement::{MediaKind as RosterKind, PeerEntry, ProducerEntry};

use crate::ortc::{DataChannel, OrtcError, parse_consumable_rtp_parameters};
use crate::pipes::Content;

/// A peer of another node.
#[derive(Debug, Clone)]
pub(super) struct RemotePeer {
    pub(super) instance: NodeInstance,
    join_number: u64,
    /// A token says that this is its id.
    pub(super) named: bool,
    /// Of the secret by which its client is known again.
    pub(super) secret_digest: Vec<u8>,
    /// How often its client gave one because of claims.
    pub(super) signs_of_life: u32,
    pub(super) display_name: String,
    /// Not known of one of the audience of a large room.
    pub(super) device: Option<Value>,
    /// It publishes, or was asked onto the stage.
    pub(super) on_stage: bool,
    /// Clients are not told of it.
    pub(super) hidden: bool,
    /// What the tenant's server says of it.
    pub(super) metadata: Option<Map<String, Value>>,
    pub(super) producers: HashMap<ProducerId, RemoteProducer>,
}

/// A producer of another node.
#[derive(Debug, Clone)]
pub(super) struct RemoteProducer {
    pub(super) content: Content,
    pub(super) app_data: Value,
    pub(super) paused: bool,
}

/// What became different, in an order in which it can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    PeerGone(PeerId),
    PeerCame(PeerId),
    /// More is known of a peer than when it came, or it is on the stage now.
    PeerPresented(PeerId),
    /// Its display name or metadata are others now.
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
    parts: HashMap<NodeInstance, Part>,
    /// Peers of whom other parts were told than the room.
    touched: BTreeSet<PeerId>,
    /// The winners, as the room was told.
    shown: BTreeMap<PeerId, Arc<RemotePeer>>,
    /// Of those, how many each node has.
    counts: HashMap<NodeInstance, Count>,
    /// Of those, how many are on the stage.
    stage: usize,
}

/// How many peers of a node the room was told of.
#[derive(Debug, Default)]
struct Count {
    shown: usize,
    /// Of those, how many clients are not told of.
    hidden: usize,
}

/// What a node has in the room.
#[derive(Debug, Default)]
struct Part {
    peers: HashMap<PeerId, Arc<RemotePeer>>,
    /// Names that its clients would like to have, with the signs of life that are known there of who has them.
    claims: HashMap<PeerId, u32>,
    /// How many peers it has beyond those.
    unlisted: usize,
}

impl Elsewhere {
    pub(super) fn new(me: NodeInstance) -> Self {
        let (parts, touched, shown, counts) = Default::default();
        Self { me, parts, touched, shown, counts, stage: 0 }
    }

    /// A node's part changed, and it has so many peers more than it names. [`Self::refresh`] tells what follows.
    /// Answers with the names that it claims anew.
    pub(super) fn change(&mut self, instance: &NodeInstance, delta: &PartDelta, unlisted: u32) -> Vec<PeerId> {
        let part = self.parts.entry(instance.clone()).or_default();
        part.unlisted = unlisted as usize;
        for id in delta.removed.iter().filter_map(|id| PeerId::new(id).ok()) {
            part.claims.remove(&id);
            part.peers.remove(&id);
            self.touched.insert(id);
        }
        let mut claimed = Vec::new();
        for entry in &delta.upserted {
            let Ok(id) = PeerId::new(&entry.id) else { continue };
            self.touched.insert(id.clone());
            if !entry.claim {
                part.claims.remove(&id);
                let peer = read_peer(instance, entry, part.peers.get(&id).map(|peer| &**peer));
                part.peers.insert(id, Arc::new(peer));
                continue;
            }
            part.peers.remove(&id);
            // Of a claim that was settled and made again nothing may be heard but the number.
            if part.claims.insert(id.clone(), entry.signs_of_life) != Some(entry.signs_of_life) {
                claimed.push(id);
            }
        }
        claimed
    }

    /// A node has no part any more.
    pub(super) fn remove(&mut self, instance: &NodeInstance) {
        let part = self.parts.remove(instance);
        self.touched.extend(part.into_iter().flat_map(|part| part.peers.into_keys()));
    }

    /// How many peers there are.
    pub(super) fn len(&self) -> usize {
        self.shown.len() + self.parts.values().map(|part| part.unlisted).sum::<usize>()
    }

    /// How many of them are on the stage.
    pub(super) fn stage(&self) -> usize {
        self.stage
    }

    /// How many each node has, of whom clients are told.
    pub(super) fn by_node(&self) -> impl Iterator<Item = (&NodeInstance, usize)> {
        self.parts.iter().map(|(instance, part)| {
            let told = self.counts.get(instance).map_or(0, |count| count.shown - count.hidden);
            (instance, told + part.unlisted)
        })
    }

    /// The peers that the room was told of.
    pub(super) fn peers(&self) -> impl Iterator<Item = (&PeerId, &RemotePeer)> {
        self.shown.iter().map(|(id, peer)| (id, &**peer))
    }

    /// The same in the order of their ids, from after one of them on.
    pub(super) fn peers_after(&self, after: Option<&PeerId>) -> impl Iterator<Item = (&PeerId, &RemotePeer)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.shown.range((from, Bound::Unbounded)).map(|(id, peer)| (id, &**peer))
    }

    pub(super) fn peer(&self, id: &PeerId) -> Option<&RemotePeer> {
        self.shown.get(id).map(|peer| &**peer)
    }

    /// The number of the newest join of the peer on another node.
    pub(super) fn newest_join(&self, id: &PeerId) -> Option<u64> {
        self.named_so(id).map(|peer| peer.join_number).max()
    }

    /// Everybody on other nodes who has the name.
    fn named_so(&self, id: &PeerId) -> impl Iterator<Item = &Arc<RemotePeer>> {
        self.parts.values().filter_map(|part| part.peers.get(id))
    }

    /// Whose name it is elsewhere, whether the room was told of that already or not.
    pub(super) fn holder(&self, id: &PeerId) -> Option<&RemotePeer> {
        self.first(id).map(|peer| &**peer)
    }

    fn first(&self, id: &PeerId) -> Option<&Arc<RemotePeer>> {
        self.named_so(id).max_by_key(|peer| peer.rank())
    }

    /// Brings what is shown up to date, of so many peers. `local` says of a peer of this node whether a token names it,
    /// and by which number it joined.
    pub(super) fn refresh(&mut self, most: usize, local: impl Fn(&PeerId) -> Option<(bool, u64)>) -> Vec<Change> {
        let ids: Vec<PeerId> = std::iter::from_fn(|| self.touched.pop_first()).take(most).collect();
        self.bring_up_to_date(ids, local)
    }

    /// Whether there is more to be [refreshed](Self::refresh).
    pub(super) fn is_behind(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The same of one peer, which came or left here.
    pub(super) fn refresh_one(&mut self, id: &PeerId, local: impl Fn(&PeerId) -> Option<(bool, u64)>) -> Vec<Change> {
        match self.touched.remove(id) || self.first(id).is_some() {
            true => self.bring_up_to_date(vec![id.clone()], local),
            false => Vec::new(),
        }
    }

    fn bring_up_to_date(&mut self, ids: Vec<PeerId>, local: impl Fn(&PeerId) -> Option<(bool, u64)>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut touched = Vec::with_capacity(ids.len());
        for id in ids {
            let first = self.first(&id).cloned();
            let winner = match (local(&id), first) {
                (Some((named, number)), Some(first)) if (named, number, &self.me) > first.rank() => None,
                (Some(_), Some(first)) => {
                    changes.push(Change::Outdone(id.clone()));
                    Some(first)
                }
                (_, first) => first,
            };
            let before = self.show(&id, winner.clone());
            touched.push((id, before, winner));
        }
        for (id, before, now) in &touched {
            if let Some(before) = before
                && now.as_ref().is_none_or(|now| now.join() != before.join())
            {
                changes.extend(before.producers.keys().map(|producer| Change::ProducerGone(*producer)));
                changes.push(Change::PeerGone(id.clone()));
            }
        }
        for (id, before, now) in &touched {
            if let Some(now) = now {
                let before = before.as_deref().filter(|before| before.join() == now.join());
                compare(id, before, now, &mut changes);
            }
        }
        changes
    }

    /// Shows a peer, or nobody under its name. Who was shown before?
    fn show(&mut self, id: &PeerId, peer: Option<Arc<RemotePeer>>) -> Option<Arc<RemotePeer>> {
        if let Some(peer) = &peer {
            let count = self.counts.entry(peer.instance.clone()).or_default();
            count.shown += 1;
            count.hidden += usize::from(peer.hidden);
        }
        self.stage += usize::from(peer.as_ref().is_some_and(|peer| peer.on_stage));
        let before = match peer {
            Some(peer) => self.shown.insert(id.clone(), peer),
            None => self.shown.remove(id),
        };
        if let Some(before) = &before
            && let Entry::Occupied(mut count) = self.counts.entry(before.instance.clone())
        {
            count.get_mut().shown -= 1;
            count.get_mut().hidden -= usize::from(before.hidden);
            if count.get().shown == 0 {
                count.remove();
            }
        }
        self.stage -= usize::from(before.as_ref().is_some_and(|before| before.on_stage));
        before
    }
}

impl RemotePeer {
    /// Of several of one name the greatest is the peer.
    fn rank(&self) -> (bool, u64, &NodeInstance) {
        (self.named, self.join_number, &self.instance)
    }

    /// What stays as long as it is there.
    fn join(&self) -> (u64, &NodeInstance) {
        (self.join_number, &self.instance)
    }
}

fn compare(id: &PeerId, old: Option<&RemotePeer>, new: &RemotePeer, changes: &mut Vec<Change>) {
    match old {
        None => changes.push(Change::PeerCame(id.clone())),
        Some(old) => {
            if (&old.display_name, &old.metadata) != (&new.display_name, &new.metadata) {
                changes.push(Change::Renamed(id.clone()));
            }
            let is_better_known = (new.device.is_some(), new.on_stage) > (old.device.is_some(), old.on_stage);
            if is_better_known || old.hidden != new.hidden {
                changes.push(Change::PeerPresented(id.clone()));
            }
        }
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

/// `former` is what was said of it before.
fn read_peer(instance: &NodeInstance, entry: &PeerEntry, former: Option<&RemotePeer>) -> RemotePeer {
    let mut producers = HashMap::with_capacity(entry.producers.len());
    for producer in &entry.producers {
        match read_producer(producer, former.map(|former| &former.producers)) {
            Ok((id, producer)) => drop(producers.insert(id, producer)),
            Err(reason) => {
                tracing::warn!(node = %instance, peer = %entry.id, reason, "a producer of another node is unreadable");
            }
        }
    }
    let former = former.filter(|former| former.join_number == entry.join_number);
    let (device, metadata) = match (entry.device.as_str(), former) {
        // It is told in short again, now that it is of the audience again.
        ("", Some(former)) => (former.device.clone(), former.metadata.clone()),
        ("", None) => (None, None),
        (device, _) => (Some(object(device)), serde_json::from_str(&entry.metadata).ok()),
    };
    RemotePeer {
        instance: instance.clone(),
        join_number: entry.join_number,
        named: entry.named,
        secret_digest: entry.secret_digest.clone(),
        signs_of_life: entry.signs_of_life,
        display_name: entry.display_name.clone(),
        device,
        on_stage: entry.on_stage,
        hidden: entry.hidden,
        metadata,
        producers,
    }
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
    let content = read_content(entry).map_err(|error| error.to_string())?;
    Ok((id, RemoteProducer { content, app_data: object(&entry.app_data), paused: entry.paused }))
}

fn read_content(entry: &ProducerEntry) -> Result<Content, OrtcError> {
    let media = |kind| {
        let rtp = Arc::new(parse_consumable_rtp_parameters(&entry.consumable_rtp_parameters)?);
        Ok(Content::Media { kind, rtp })
    };
    match entry.kind() {
        RosterKind::Audio => media(MediaKind::Audio),
        RosterKind::Video => media(MediaKind::Video),
        RosterKind::Data => Ok(Content::Data(Arc::new(DataChannel::parse_json(&entry.data_channel)?))),
    }
}

/// A JSON object, an empty one if it is something else.
fn object(json: &str) -> Value {
    match serde_json::from_str(json) {
        Ok(object @ Value::Object(_)) => object,
        _ => Value::Object(Map::new()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluice_proto::ids::NodeId;

    use super::*;
    use crate::tests::parts::{Entries, difference};

    const RTP: &str = r#"{"codecs":[],"headerExtensions":[],"encodings":[{"ssrc":1}],"rtcp":{"reducedSize":true}}"#;

    fn instance(number: u8) -> NodeInstance {
        NodeInstance { node: NodeId::new(format!("n{number}")).unwrap(), incarnation: 1 }
    }

    /// A peer of a part: number, that of its join (hidden are the odd ones), version of its name (a token names those
    /// of the last), its producers and whether they are paused.
    type Listed = (u8, u64, u8, BTreeMap<u8, bool>);

    /// The peer of a name: whether a token names it, and the number of its join; its node; its producers.
    type Winner<'a> = ((bool, u64), u8, &'a BTreeMap<u8, bool>);

    fn part(node: u8, entries: &[Listed]) -> Entries {
        let peers = entries.iter().map(|(peer, join_number, name, producers)| PeerEntry {
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
            join_number: *join_number,
            on_stage: !producers.is_empty(),
            named: is_named(*name),
            hidden: join_number % 2 == 1,
            ..PeerEntry::default()
        });
        peers.map(|peer| (peer.id.clone(), Arc::new(peer))).collect()
    }

    fn is_named(name: u8) -> bool {
        name == 2
    }

    fn whole(part: &Entries) -> PartDelta {
        difference(&Entries::new(), part)
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
                Change::Renamed(peer) | Change::PeerPresented(peer) => assert!(self.peers.contains(&peer)),
                Change::Outdone(_) => {}
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(u8, Option<Vec<Listed>>)>> {
        let producers = prop::collection::btree_map(0..3_u8, any::<bool>(), 0..3);
        let entry = (0..4_u8, 0..4_u64, 0..3_u8, producers);
        let part = prop::collection::vec(entry, 0..4).prop_map(|mut entries| {
            entries.sort_by_key(|entry| entry.0);
            entries.dedup_by_key(|entry| entry.0);
            entries
        });
        prop::collection::vec((0..3_u8, prop::option::weighted(0.8, part)), 1..20)
    }

    proptest! {
        #[test]
        fn whoever_hears_every_change_knows_the_truth(steps in steps(), local_peer in 0..4_u8, local_joined in (any::<bool>(), 0..5_u64)) {
            let local_id = PeerId::new(format!("p{local_peer}")).unwrap();
            let mut elsewhere = Elsewhere::new(instance(9));
            let mut believed = Believed::default();
            let mut truth: BTreeMap<u8, Vec<Listed>> = BTreeMap::new();
            for (step, (node, new)) in steps.into_iter().enumerate() {
                match new {
                    Some(entries) => {
                        let before = truth.insert(node, entries.clone()).unwrap_or_default();
                        let delta = difference(&part(node, &before), &part(node, &entries));
                        elsewhere.change(&instance(node), &delta, node.into());
                    }
                    None => {
                        elsewhere.remove(&instance(node));
                        truth.remove(&node);
                    }
                }
                // It comes and goes.
                let local_joined = (step % 3 > 0).then_some(local_joined);
                let local = |id: &PeerId| local_joined.filter(|_| *id == local_id);
                for change in elsewhere.refresh_one(&local_id, local) {
                    believed.hear(change, &elsewhere);
                }
                for change in elsewhere.refresh(1, local) {
                    believed.hear(change, &elsewhere);
                }
                // Now and then it is still behind when the next part comes.
                if step % 2 > 0 {
                    continue;
                }
                while elsewhere.is_behind() {
                    for change in elsewhere.refresh(1, local) {
                        believed.hear(change, &elsewhere);
                    }
                }
                // The newest join of each peer, of those that are named if any is, with ties going to the node whose
                // name is greater.
                let mut winners: BTreeMap<u8, Winner<'_>> = BTreeMap::new();
                for (node, (peer, at, name, producers)) in truth.iter().flat_map(|(node, entries)| entries.iter().map(move |entry| (*node, entry))) {
                    let at = (is_named(*name), *at);
                    let winner = winners.entry(*peer).or_insert((at, node, producers));
                    if (at, node) > (winner.0, winner.1) {
                        *winner = (at, node, producers);
                    }
                }
                winners.retain(|peer, (at, ..)| *peer != local_peer || local_joined.is_none_or(|joined| *at > joined));
                let stage = winners.values().filter(|(.., producers)| !producers.is_empty()).count();
                prop_assert_eq!(elsewhere.stage(), stage);
                let unlisted: usize = truth.keys().map(|node| usize::from(*node)).sum();
                prop_assert_eq!(elsewhere.len(), winners.len() + unlisted);
                let of_node = |node: &u8| (instance(*node), usize::from(*node));
                let mut by_node: BTreeMap<_, _> = truth.keys().map(of_node).collect();
                let told = winners.values().filter(|((_, at), ..)| at % 2 == 0);
                told.for_each(|(_, node, _)| *by_node.get_mut(&instance(*node)).unwrap() += 1);
                let counted = elsewhere.by_node().map(|(node, count)| (node.clone(), count));
                prop_assert_eq!(counted.collect::<BTreeMap<_, _>>(), by_node);
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
        let (peer, name) = (PeerId::new("p1").unwrap(), PeerId::new("p2").unwrap());
        let claim = |signs_of_life| {
            let claim = PeerEntry { id: name.to_string(), claim: true, signs_of_life, ..PeerEntry::default() };
            PartDelta { upserted: vec![Arc::new(claim)], removed: Vec::new() }
        };
        let claimed = [name.clone()];
        elsewhere.change(&instance(1), &whole(&part(1, &[(1, 5, 0, BTreeMap::new())])), 0);
        assert_eq!(elsewhere.change(&instance(1), &claim(0), 0), claimed);
        assert_eq!(elsewhere.change(&instance(1), &claim(0), 0), []);
        // It was settled, and somebody else makes it again; what was between the two may never be heard.
        assert_eq!(elsewhere.change(&instance(1), &claim(1), 0), claimed);
        let changes = elsewhere.refresh(usize::MAX, |_| Some((false, 1)));
        assert_eq!(changes, [Change::Outdone(peer.clone()), Change::PeerCame(peer)]);
        let settled = PartDelta { upserted: Vec::new(), removed: vec![name.to_string()] };
        elsewhere.change(&instance(1), &settled, 0);
        assert_eq!(elsewhere.change(&instance(1), &claim(1), 0), claimed);
        elsewhere.remove(&instance(1));
        assert_eq!(elsewhere.change(&instance(1), &claim(1), 0), claimed);
    }

    #[test]
    fn one_told_in_short_is_presented_when_more_is_known_or_it_comes_onto_the_stage() {
        let mut elsewhere = Elsewhere::new(instance(9));
        let id = PeerId::new("p1").unwrap();
        let mut tell = |device: &str, on_stage, join_number| {
            let metadata = if device.is_empty() { "" } else { r#"{"team":7}"# };
            let (device, metadata) = (device.to_owned(), metadata.to_owned());
            let entry =
                PeerEntry { id: id.to_string(), device, metadata, on_stage, join_number, ..PeerEntry::default() };
            elsewhere.change(&instance(1), &PartDelta { upserted: vec![Arc::new(entry)], removed: Vec::new() }, 0);
            (elsewhere.refresh(usize::MAX, |_| None), elsewhere.peer(&id).unwrap().device.is_some())
        };
        let (came, gone, presented) =
            (Change::PeerCame(id.clone()), Change::PeerGone(id.clone()), Change::PeerPresented(id.clone()));
        assert_eq!(tell("", false, 1), (vec![came.clone()], false));
        let renamed = Change::Renamed(id.clone());
        assert_eq!(tell("{}", false, 1), (vec![renamed, presented.clone()], true));
        assert_eq!(tell("{}", true, 1), (vec![presented], true));
        assert_eq!(tell("", false, 1), (vec![], true), "what is known stays so");
        assert_eq!(tell("", false, 2), (vec![gone, came], false));
    }

    #[test]
    fn what_another_node_says_wrong_costs_only_that() {
        let mut elsewhere = Elsewhere::new(instance(9));
        let producers = BTreeMap::from([(0, false), (1, false), (2, false)]);
        let mut broken = whole(&part(1, &[(1, 5, 0, producers), (2, 5, 0, BTreeMap::new())]));
        broken.removed.push("a\nb".to_owned());
        let first = Arc::make_mut(&mut broken.upserted[0]);
        first.producers[0].id = vec![1, 2, 3];
        first.producers[1].consumable_rtp_parameters = "{".to_owned();
        Arc::make_mut(&mut broken.upserted[1]).id = "a\nb".to_owned();
        elsewhere.change(&instance(1), &broken, 0);
        let changes = elsewhere.refresh(usize::MAX, |_| None);
        let peer = PeerId::new("p1").unwrap();
        assert_eq!(changes, [Change::PeerCame(peer.clone()), Change::ProducerCame(peer, producer_id(1, 1, 2))]);
    }
}
