//! What everybody in a room is told of it: who is there, under which name, who speaks, and how many there are; and what
//! they send, for those who have to ask for it.
//!
//! It is a state with a version, and not a row of messages: a session keeps the version that its client was told of,
//! and says the difference when the client can take it. So a slow client costs nothing and misses nothing, and what
//! came and went meanwhile is never said.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use sluice_proto::ids::{PeerId, ProducerId};
use tokio::sync::watch;

use super::api::{Announcement, Census, Notice, PeerInfo, ProducerInfo, Speaker, Subscription};
use crate::support::lock;

/// A room's view.
#[derive(Debug)]
pub(crate) struct View {
    state: Mutex<State>,
    /// The version that sessions shall look at.
    announced: watch::Sender<u64>,
}

/// What a peer knows of the view.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    pub(super) version: u64,
    /// How many there were, at that.
    counted: bool,
    /// What of the view is for it.
    subscription: Subscription,
}

#[derive(Debug, Default)]
struct State {
    version: u64,
    shown: HashMap<PeerId, Shown>,
    /// The latest of each kind and peer, by the version that it made.
    changes: BTreeMap<u64, Change>,
    /// How many of the changes are of what is no more.
    gone: usize,
    speaker: Option<(u64, Arc<Announcement>)>,
    census: Option<(u64, Census, Arc<Announcement>)>,
}

#[derive(Debug)]
struct Shown {
    info: Arc<PeerInfo>,
    /// How the peer is told of to those who do not know it.
    announcement: Arc<Announcement>,
    known: Known,
    renamed: Option<u64>,
    producers: HashMap<ProducerId, ShownProducer>,
}

/// By which version a peer came, for those who are told of it.
#[derive(Debug, Clone, Copy)]
struct Known {
    since: u64,
    /// For those who are told of the stage alone: when it was there first. It stays so until it goes.
    on_stage: Option<u64>,
}

impl Known {
    fn to(self, subscription: Subscription) -> Option<u64> {
        match subscription {
            Subscription::Stage => self.on_stage,
            Subscription::Everything | Subscription::OnRequest => Some(self.since),
        }
    }
}

#[derive(Debug)]
struct ShownProducer {
    info: Arc<ProducerInfo>,
    /// How it is told of to those who do not know it.
    announcement: Arc<Announcement>,
    since: u64,
    /// When it was paused or went on last.
    paused: Option<u64>,
}

#[derive(Debug)]
enum Change {
    /// For all, or for those who are told of the stage.
    Came(PeerId),
    Renamed {
        peer: PeerId,
        known: Known,
        announcement: Arc<Announcement>,
    },
    Went {
        peer: PeerId,
        known: Known,
        announcement: Arc<Announcement>,
    },
    ProducerCame {
        peer: PeerId,
        producer: ProducerId,
    },
    ProducerPaused {
        peer: PeerId,
        shown_since: u64,
        announcement: Arc<Announcement>,
    },
    ProducerWent {
        peer: PeerId,
        shown_since: u64,
        announcement: Arc<Announcement>,
    },
}

impl Change {
    /// Whether it is of something that is no more.
    fn is_end(&self) -> bool {
        matches!(self, Self::Went { .. } | Self::ProducerWent { .. })
    }
}

impl Default for View {
    fn default() -> Self {
        Self { state: Mutex::default(), announced: watch::Sender::new(0) }
    }
}

impl View {
    /// Shows a peer. One that is shown already goes, and comes anew.
    pub(super) fn show(&self, info: PeerInfo) {
        let state = &mut *lock(&self.state);
        state.remove(&info.id);
        let info = Arc::new(info);
        let since = state.next_version();
        let announcement = Announcement::new(Notice::NewPeer(Arc::clone(&info)));
        state.changes.insert(since, Change::Came(info.id.clone()));
        let known = Known { since, on_stage: None };
        let shown = Shown { announcement, known, renamed: None, producers: HashMap::new(), info: Arc::clone(&info) };
        state.shown.insert(info.id.clone(), shown);
    }

    /// A peer, if it is shown, is on the stage, where it may have been before.
    pub(super) fn set_on_stage(&self, peer: &PeerId) {
        let state = &mut *lock(&self.state);
        let version = state.version + 1;
        let Some(known) = state.shown.get_mut(peer).map(|shown| &mut shown.known) else { return };
        if known.on_stage.is_none() {
            known.on_stage = Some(version);
            state.version = version;
            state.changes.insert(version, Change::Came(peer.clone()));
        }
    }

    /// How many peers are shown.
    pub(super) fn len(&self) -> usize {
        lock(&self.state).shown.len()
    }

    /// Whether a peer is shown.
    pub(super) fn shows(&self, peer: &PeerId) -> bool {
        lock(&self.state).shown.contains_key(peer)
    }

    /// A peer, if it is shown, has another name, or something else is said of it.
    pub(super) fn rename(&self, info: PeerInfo) {
        let state = &mut *lock(&self.state);
        let version = state.version + 1;
        let Some(shown) = state.shown.get_mut(&info.id) else { return };
        if (&shown.info.display_name, &shown.info.metadata) == (&info.display_name, &info.metadata) {
            return;
        }
        let info = Arc::new(info);
        let former = std::mem::replace(&mut shown.info, Arc::clone(&info));
        shown.announcement = Announcement::new(Notice::NewPeer(Arc::clone(&info)));
        let (known, before) = (shown.known, shown.renamed.replace(version));
        if let Some(before) = before {
            state.changes.remove(&before);
        }
        state.version = version;
        let peer = info.id.clone();
        let announcement = Announcement::new(Notice::PeerRenamed { info, old: former.display_name.clone() });
        state.changes.insert(version, Change::Renamed { peer, known, announcement });
    }

    /// A peer, if it is shown, sends something more.
    pub(super) fn show_producer(&self, info: ProducerInfo) {
        let state = &mut *lock(&self.state);
        state.remove_producer(&info.peer, info.id);
        let since = state.version + 1;
        let Some(shown) = state.shown.get_mut(&info.peer) else { return };
        state.version = since;
        state.changes.insert(since, Change::ProducerCame { peer: info.peer.clone(), producer: info.id });
        let info = Arc::new(info);
        let announcement = Announcement::new(Notice::NewProducer(Arc::clone(&info)));
        shown.producers.insert(info.id, ShownProducer { info, announcement, since, paused: None });
    }

    /// A producer, if it is shown, is paused or goes on.
    pub(super) fn pause_producer(&self, peer: &PeerId, producer: ProducerId, paused: bool) {
        let state = &mut *lock(&self.state);
        let version = state.version + 1;
        let Some(shown) = state.shown.get_mut(peer).and_then(|peer| peer.producers.get_mut(&producer)) else { return };
        shown.info = Arc::new(ProducerInfo { paused, ..(*shown.info).clone() });
        shown.announcement = Announcement::new(Notice::NewProducer(Arc::clone(&shown.info)));
        let (shown_since, before) = (shown.since, shown.paused.replace(version));
        if let Some(before) = before {
            state.changes.remove(&before);
        }
        state.version = version;
        let notice = if paused { Notice::ProducerPaused { producer } } else { Notice::ProducerResumed { producer } };
        let announcement = Announcement::new(notice);
        state.changes.insert(version, Change::ProducerPaused { peer: peer.clone(), shown_since, announcement });
    }

    /// A producer, if it is shown, is no more.
    pub(super) fn remove_producer(&self, peer: &PeerId, producer: ProducerId) {
        lock(&self.state).remove_producer(peer, producer);
    }

    /// A peer, if it is shown, is there no longer, and takes along what it sends.
    pub(super) fn remove(&self, peer: &PeerId) {
        lock(&self.state).remove(peer);
    }

    /// Who speaks loudest, with the volume, or that nobody does.
    pub(super) fn set_speaker(&self, loudest: Option<Speaker>) {
        let state = &mut *lock(&self.state);
        let version = state.next_version();
        state.speaker = Some((version, Announcement::new(Notice::ActiveSpeaker { loudest })));
    }

    /// How many there are, in a room where not everybody is shown.
    pub(super) fn set_census(&self, census: Census) {
        let state = &mut *lock(&self.state);
        if state.census.as_ref().is_none_or(|(_, told, _)| *told != census) {
            let announcement = Announcement::new(Notice::Audience(census.clone()));
            state.census = Some((state.next_version(), census, announcement));
        }
    }

    /// Whether it was ever said how many there are.
    pub(super) fn has_census(&self) -> bool {
        lock(&self.state).census.is_some()
    }

    /// Everybody but one of whom one with this subscription is told, and what it knows then.
    pub(super) fn others(&self, but: &PeerId, subscription: Subscription) -> (Told, Vec<Arc<PeerInfo>>) {
        let state = lock(&self.state);
        let others = state.shown.iter().filter(|(id, shown)| *id != but && shown.known.to(subscription).is_some());
        let told = Told { version: state.version, counted: false, subscription };
        (told, others.map(|(_, shown)| Arc::clone(&shown.info)).collect())
    }

    /// What all who are shown send but one.
    pub(super) fn producers(&self, but: &PeerId) -> Vec<Arc<ProducerInfo>> {
        let state = lock(&self.state);
        let others = state.shown.iter().filter(|(id, _)| *id != but);
        others.flat_map(|(_, shown)| shown.producers.values()).map(|producer| Arc::clone(&producer.info)).collect()
    }

    /// What a peer has to be told to know the present state, and what it knows then.
    pub(super) fn since(&self, told: Told, of: &PeerId) -> (Told, Vec<Arc<Announcement>>) {
        let state = lock(&self.state);
        let Told { version: before, counted, subscription } = told;
        let producers = subscription == Subscription::OnRequest;
        let changes = state.changes.range(before + 1..).filter_map(|(version, change)| match change {
            Change::Came(peer) if peer != of => {
                let shown = state.shown.get(peer)?;
                (shown.known.to(subscription) == Some(*version)).then_some(&shown.announcement)
            }
            Change::Renamed { peer, known, announcement } | Change::Went { peer, known, announcement }
                if peer != of && known.to(subscription).is_some_and(|since| since <= before) =>
            {
                Some(announcement)
            }
            Change::ProducerCame { peer, producer } if producers && peer != of => {
                state.shown.get(peer)?.producers.get(producer).map(|shown| &shown.announcement)
            }
            Change::ProducerPaused { peer, shown_since, announcement }
            | Change::ProducerWent { peer, shown_since, announcement }
                if producers && peer != of && *shown_since <= before =>
            {
                Some(announcement)
            }
            _ => None,
        });
        let speaker = state.speaker.iter().filter(|(version, _)| *version > before).map(|(_, speaker)| speaker);
        let census =
            state.census.iter().filter(|(version, ..)| *version > before || !counted).map(|(.., census)| census);
        let now = Told { version: state.version, counted: state.census.is_some(), subscription };
        (now, changes.chain(speaker).chain(census).cloned().collect())
    }

    /// How much of what is no more is remembered for those who were not told yet.
    pub(super) fn remembered(&self) -> usize {
        lock(&self.state).gone
    }

    /// Everybody has been told of this version at least.
    pub(super) fn forget_until(&self, told: u64) {
        let state = &mut *lock(&self.state);
        let recent = state.changes.split_off(&(told + 1));
        let old = std::mem::replace(&mut state.changes, recent);
        // Who came is still looked for by the version at which that was.
        let kept = old.into_iter().filter(|(_, change)| !change.is_end());
        state.changes.extend(kept);
        state.gone = state.changes.values().filter(|change| change.is_end()).count();
    }

    /// Whether there is something new that sessions were not told to look at.
    pub(super) fn is_unannounced(&self) -> bool {
        lock(&self.state).version != *self.announced.borrow()
    }

    /// Wakes the sessions.
    pub(super) fn announce(&self) {
        let version = lock(&self.state).version;
        self.announced.send_replace(version);
    }

    /// What says that there is something to look at.
    pub(super) fn announced(&self) -> watch::Receiver<u64> {
        self.announced.subscribe()
    }
}

impl State {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn remove(&mut self, peer: &PeerId) {
        let Some(Shown { known, renamed, producers, .. }) = self.shown.remove(peer) else { return };
        let of_producers = producers.values().flat_map(|producer| [Some(producer.since), producer.paused]);
        for version in of_producers.chain([Some(known.since), known.on_stage, renamed]).flatten() {
            self.changes.remove(&version);
        }
        let announcement = Announcement::new(Notice::PeerClosed { peer: peer.clone() });
        let version = self.next_version();
        self.changes.insert(version, Change::Went { peer: peer.clone(), known, announcement });
        self.gone += 1;
    }

    fn remove_producer(&mut self, peer: &PeerId, producer: ProducerId) {
        let Some(shown) = self.shown.get_mut(peer).and_then(|peer| peer.producers.remove(&producer)) else { return };
        for version in [Some(shown.since), shown.paused].into_iter().flatten() {
            self.changes.remove(&version);
        }
        let announcement = Announcement::new(Notice::ProducerClosed { producer });
        let version = self.next_version();
        let change = Change::ProducerWent { peer: peer.clone(), shown_since: shown.since, announcement };
        self.changes.insert(version, change);
        self.gone += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;
    use serde_json::json;
    use sluice_proto::ids::NodeId;
    use sluice_proto::ortc::MediaKind;

    use super::*;

    const PEERS: u8 = 5;

    fn id(number: u8) -> PeerId {
        PeerId::new(format!("p{number}")).unwrap()
    }

    fn info(number: u8, name: u32) -> PeerInfo {
        let node = NodeId::new("n").unwrap();
        PeerInfo {
            id: id(number),
            display_name: format!("{name}"),
            device: json!({}),
            node,
            region: None,
            metadata: None,
        }
    }

    fn producer(peer: u8, number: u32) -> ProducerInfo {
        let id_bytes = u128::from(number).to_be_bytes();
        let (app_data, kind) = (json!({}), MediaKind::Audio);
        ProducerInfo {
            id: ProducerId::from_bytes(id_bytes),
            peer: id(peer),
            kind: kind.into(),
            app_data,
            paused: false,
        }
    }

    fn census(total: usize) -> Census {
        Census { total, stage: 0, by_region: BTreeMap::new() }
    }

    /// What a client believes that hears of nothing but differences.
    struct Client {
        me: PeerId,
        told: Told,
        peers: BTreeMap<PeerId, String>,
        producers: BTreeMap<ProducerId, (PeerId, bool)>,
        speaker: Option<PeerId>,
        census: usize,
    }

    impl Client {
        fn join(view: &View, number: u8) -> Self {
            Self::join_as(view, number, Subscription::OnRequest)
        }

        fn join_as(view: &View, number: u8, subscription: Subscription) -> Self {
            let (told, others) = view.others(&id(number), subscription);
            let peers = others.iter().map(|info| (info.id.clone(), info.display_name.clone())).collect();
            let producers = match subscription {
                Subscription::OnRequest => view.producers(&id(number)),
                Subscription::Everything | Subscription::Stage => Vec::new(),
            };
            let producers = producers.iter().map(|info| (info.id, (info.peer.clone(), info.paused))).collect();
            Self { me: id(number), told, peers, producers, speaker: None, census: 0 }
        }

        fn look(&mut self, view: &View) {
            let (told, news) = view.since(self.told, &self.me);
            self.told = told;
            for news in news {
                match news.notice() {
                    Notice::NewPeer(info) => {
                        let before = self.peers.insert(info.id.clone(), info.display_name.clone());
                        assert_eq!(before, None, "{} came twice", info.id);
                    }
                    Notice::PeerClosed { peer } => {
                        assert!(self.peers.remove(peer).is_some(), "{peer} had not come");
                        self.producers.retain(|_, (owner, _)| owner != peer);
                    }
                    Notice::NewProducer(info) => {
                        assert!(self.peers.contains_key(&info.peer), "peers come before what they send");
                        let before = self.producers.insert(info.id, (info.peer.clone(), info.paused));
                        assert_eq!(before, None, "{} came twice", info.id);
                    }
                    Notice::ProducerClosed { producer } => {
                        assert!(self.producers.remove(producer).is_some(), "{producer} had not come");
                    }
                    Notice::ProducerPaused { producer } => self.producers.get_mut(producer).unwrap().1 = true,
                    Notice::ProducerResumed { producer } => self.producers.get_mut(producer).unwrap().1 = false,
                    Notice::PeerRenamed { info, .. } => {
                        *self.peers.get_mut(&info.id).expect("who is renamed is there") = info.display_name.clone();
                    }
                    Notice::ActiveSpeaker { loudest } => {
                        self.speaker = loudest.as_ref().map(|speaker| speaker.peer.clone());
                    }
                    Notice::Audience(census) => self.census = census.total,
                    other => panic!("{other:?} is not of a view"),
                }
            }
        }
    }

    proptest! {
        #[test]
        fn whoever_looks_now_and_then_knows_the_truth_and_hears_nothing_twice(
            steps in prop::collection::vec((0..14_u8, 0..PEERS), 1..200),
        ) {
            let view = View::default();
            let mut truth: BTreeMap<PeerId, String> = BTreeMap::new();
            let mut sent: BTreeMap<ProducerId, (PeerId, bool)> = BTreeMap::new();
            let mut staged: BTreeSet<PeerId> = BTreeSet::new();
            let mut speaker = None;
            let mut clients: Vec<Client> = Vec::new();
            for (number, (what, peer)) in (0_u32..).zip(steps) {
                match what {
                    0 | 1 if what == 0 || !truth.contains_key(&id(peer)) => {
                        view.show(info(peer, number));
                        truth.insert(id(peer), format!("{number}"));
                        staged.remove(&id(peer));
                        sent.retain(|_, (owner, _)| *owner != id(peer));
                    }
                    2 => {
                        view.remove(&id(peer));
                        truth.remove(&id(peer));
                        staged.remove(&id(peer));
                        sent.retain(|_, (owner, _)| *owner != id(peer));
                    }
                    1 | 3 => {
                        view.rename(info(peer, number));
                        truth.entry(id(peer)).and_modify(|name| *name = format!("{number}"));
                    }
                    4 => clients.push(Client::join(&view, peer)),
                    5 => {
                        view.set_speaker(Some(Speaker { peer: id(peer), volume: -30 }));
                        speaker = Some(id(peer));
                    }
                    6 => {
                        view.show_producer(producer(peer, number));
                        if truth.contains_key(&id(peer)) {
                            sent.insert(producer(peer, number).id, (id(peer), false));
                        }
                    }
                    7..=9 => {
                        let nth = sent.iter().nth(usize::from(peer));
                        let Some((producer, owner)) = nth.map(|(id, (owner, _))| (*id, owner.clone())) else { continue };
                        if what == 9 {
                            view.remove_producer(&owner, producer);
                            sent.remove(&producer);
                        } else {
                            view.pause_producer(&owner, producer, what == 7);
                            sent.insert(producer, (owner, what == 7));
                        }
                    }
                    10 => view.set_census(census(peer.into())),
                    11 => clients.push(Client::join_as(&view, peer, Subscription::Stage)),
                    12 => {
                        view.set_on_stage(&id(peer));
                        if truth.contains_key(&id(peer)) {
                            staged.insert(id(peer));
                        }
                    }
                    _ => {
                        if let Some(client) = clients.get_mut(usize::from(peer)) {
                            client.look(&view);
                        }
                        if let Some(oldest) = clients.iter().map(|client| client.told.version).min() {
                            view.forget_until(oldest);
                        }
                    }
                }
            }
            view.set_census(census(100));
            clients.push(Client::join(&view, 0));
            for client in &mut clients {
                let told_of_speaker = client.speaker.clone();
                client.look(&view);
                let mut expected = truth.clone();
                let follows_stage = client.told.subscription == Subscription::Stage;
                expected.retain(|peer, _| *peer != client.me && (!follows_stage || staged.contains(peer)));
                prop_assert_eq!(&client.peers, &expected);
                let mut expected = sent.clone();
                expected.retain(|_, (owner, _)| *owner != client.me && !follows_stage);
                prop_assert_eq!(&client.producers, &expected);
                prop_assert_eq!(client.census, 100);
                prop_assert!(client.speaker == speaker || client.speaker == told_of_speaker);
                prop_assert_eq!(view.since(client.told, &client.me).1.len(), 0, "all is told");
            }
        }
    }

    #[test]
    fn what_came_and_went_is_never_said_and_is_forgotten_when_all_were_told() {
        let view = View::default();
        let mut client = Client::join(&view, 0);
        for number in 1..=3 {
            view.show(info(number, 0));
        }
        view.rename(info(1, 7));
        view.remove(&id(2));
        let (_, news) = view.since(client.told, &client.me);
        assert_eq!(news.len(), 2, "{news:?}");
        client.look(&view);
        assert_eq!(client.peers, BTreeMap::from([(id(1), "7".to_owned()), (id(3), "0".to_owned())]));
        assert_eq!(view.remembered(), 1);
        view.forget_until(client.told.version);
        assert_eq!(view.remembered(), 0);
        // One that joins sees what others saw before it.
        assert_eq!(Client::join(&view, 9).peers, client.peers);
    }

    #[test]
    fn those_who_need_not_know_of_producers_are_not_told_of_them() {
        let view = View::default();
        view.show(info(1, 0));
        let others = |subscription| view.others(&id(0), subscription).0;
        let (told, told_of_producers) = (others(Subscription::Everything), others(Subscription::OnRequest));
        view.show_producer(producer(1, 1));
        view.pause_producer(&id(1), producer(1, 1).id, true);
        assert!(view.since(told, &id(0)).1.is_empty());
        assert_eq!(view.since(told_of_producers, &id(0)).1.len(), 1, "that it is there, paused");
        let told = others(Subscription::Everything);
        view.remove_producer(&id(1), producer(1, 1).id);
        assert!(view.since(told, &id(0)).1.is_empty());
        assert_eq!(view.remembered(), 1);
    }
}
