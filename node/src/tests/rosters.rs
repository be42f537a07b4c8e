//! Placement as rooms see it: who holds a room, and each node's part of it, told to the others in order but late. What
//! a cut network cannot tell is made up for when it heals; meanwhile, and after a while, the parts beyond the cut are
//! gone.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_placement::{PartDelta, RosterEvent};
use sluice_proto::ids::{NodeInstance, Region, RoomKey};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::parts::{Entries, apply, difference};
use crate::ports::{EnteredRoom, PlacementPort, RosterPublisher};

/// Until a node that nothing is heard of is taken for dead.
const PATIENCE_MS: std::ops::Range<u64> = 1_500..2_300;

/// Clones are the same rosters.
#[derive(Clone)]
pub(super) struct Rosters {
    state: Arc<Mutex<State>>,
}

struct State {
    rng: ChaCha8Rng,
    /// By room and node.
    rooms: BTreeMap<RoomKey, BTreeMap<usize, Holder>>,
    /// Pairs of nodes that do not hear of each other, the lesser one first.
    cut: BTreeSet<(usize, usize)>,
    /// By number. Lives of one node have numbers of their own.
    instances: BTreeMap<usize, NodeInstance>,
    dead: BTreeSet<usize>,
    news: BTreeMap<(Instant, u64), News>,
    sequence: u64,
    /// Nothing is late any more.
    calm: bool,
}

/// A node's presence in a room.
struct Holder {
    presence: u64,
    part: Option<Arc<Entries>>,
    events: mpsc::UnboundedSender<RosterEvent>,
    /// What it was told of others.
    told: BTreeMap<usize, Arc<Entries>>,
    /// Whom it waits for before it knows everybody; itself, for the directory. `None` once it does.
    awaited: Option<BTreeSet<usize>>,
    /// When the latest news of another arrives: nothing is overtaken.
    latest: BTreeMap<usize, Instant>,
}

struct News {
    room: RoomKey,
    to: usize,
    presence: u64,
    of: usize,
    part: Option<Arc<Entries>>,
    /// The end of the patience with a node that is cut off.
    of_cut: bool,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Rosters {
    pub(super) fn new(seed: u64) -> Self {
        let state = State {
            rng: ChaCha8Rng::seed_from_u64(seed),
            rooms: BTreeMap::new(),
            cut: BTreeSet::new(),
            instances: BTreeMap::new(),
            dead: BTreeSet::new(),
            news: BTreeMap::new(),
            sequence: 0,
            calm: false,
        };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn port(&self, node: usize, instance: NodeInstance) -> RostersPort {
        self.state().instances.insert(node, instance);
        RostersPort { rosters: self.clone(), node }
    }

    /// A node is no more, which the others notice after a while.
    pub(super) fn die(&self, node: usize) {
        let others: Vec<usize> = self.state().instances.keys().copied().filter(|other| *other != node).collect();
        others.into_iter().for_each(|other| self.cut(node, other));
        let mut state = self.state();
        state.dead.insert(node);
        state.rooms.values_mut().for_each(|holders| drop(holders.remove(&node)));
    }

    /// Two nodes do not hear of each other any more.
    pub(super) fn cut(&self, a: usize, b: usize) {
        let state = &mut *self.state();
        state.cut.insert(pair(a, b));
        for (of, to) in [(a, b), (b, a)] {
            let rooms: Vec<RoomKey> = state.rooms.keys().cloned().collect();
            rooms.into_iter().for_each(|room| state.lose_patience(room, of, to));
        }
    }

    /// They do again.
    pub(super) fn heal(&self, a: usize, b: usize) {
        let state = &mut *self.state();
        if state.dead.contains(&a) || state.dead.contains(&b) || !state.cut.remove(&pair(a, b)) {
            return;
        }
        let rooms: Vec<RoomKey> = state.rooms.keys().cloned().collect();
        for room in rooms {
            state.tell(&room, a, b);
            state.tell(&room, b, a);
        }
    }

    /// Everybody hears of everybody from now on, and soon.
    pub(super) fn calm_down(&self) {
        let cut = {
            let mut state = self.state();
            state.calm = true;
            state.cut.clone()
        };
        cut.into_iter().for_each(|(a, b)| self.heal(a, b));
    }

    /// Tells what is due to nodes that do not stand still.
    pub(super) fn deliver(&self, is_stalled: impl Fn(usize) -> bool) {
        let state = &mut *self.state();
        let now = Instant::now();
        let due = state.news.extract_if(.., |(at, _), news| *at <= now && !is_stalled(news.to));
        due.map(|(_, news)| news).collect::<Vec<_>>().into_iter().for_each(|news| state.arrive(news));
    }

    /// Nobody is in any room.
    pub(super) fn is_empty(&self) -> bool {
        self.state().rooms.values().all(BTreeMap::is_empty)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl State {
    fn delay(&mut self) -> Duration {
        let ms = match self.rng.random_range(0..20) {
            _ if self.calm => 30,
            0 => self.rng.random_range(150..1_000),
            _ => self.rng.random_range(5..150),
        };
        Duration::from_millis(ms)
    }

    /// Sends one node what another has in a room now.
    fn tell(&mut self, room: &RoomKey, of: usize, to: usize) {
        if self.cut.contains(&pair(of, to)) {
            return;
        }
        let delay = self.delay();
        let Some(holders) = self.rooms.get_mut(room) else { return };
        let part = holders.get(&of).and_then(|holder| holder.part.clone());
        let Some(holder) = holders.get_mut(&to) else { return };
        let latest = holder.latest.entry(of).or_insert_with(Instant::now);
        *latest = (Instant::now() + delay).max(*latest);
        let (at, presence) = (*latest, holder.presence);
        self.sequence += 1;
        self.news.insert((at, self.sequence), News { room: room.clone(), to, presence, of, part, of_cut: false });
    }

    fn tell_others(&mut self, room: &RoomKey, of: usize) {
        let others: Vec<usize> = self.rooms.get(room).into_iter().flat_map(BTreeMap::keys).copied().collect();
        others.into_iter().filter(|to| *to != of).for_each(|to| self.tell(room, of, to));
    }

    fn lose_patience(&mut self, room: RoomKey, of: usize, to: usize) {
        let Some(presence) = self.rooms[&room].get(&to).map(|holder| holder.presence) else { return };
        let at = Instant::now() + Duration::from_millis(self.rng.random_range(PATIENCE_MS));
        self.sequence += 1;
        self.news.insert((at, self.sequence), News { room, to, presence, of, part: None, of_cut: true });
    }

    fn arrive(&mut self, News { room, to, presence, of, part, of_cut }: News) {
        if of_cut != self.cut.contains(&pair(of, to)) {
            return;
        }
        let holder = self.rooms.get_mut(&room).and_then(|holders| holders.get_mut(&to));
        let Some(holder) = holder.filter(|holder| holder.presence == presence) else { return };
        // A life ends before the next one begins.
        let node = &self.instances[&of].node;
        let former = holder.told.keys().copied().find(|told| *told < of && self.instances[told].node == *node);
        if let Some(former) = former {
            holder.told.remove(&former);
            let _ = holder.events.send(RosterEvent::PartGone { instance: self.instances[&former].clone() });
        }
        let told = match &part {
            Some(part) => holder.told.insert(of, Arc::clone(part)),
            None => holder.told.remove(&of),
        };
        if told != part {
            let instance = self.instances[&of].clone();
            let event = match part {
                Some(part) => {
                    let delta = difference(&told.unwrap_or_default(), &part);
                    RosterEvent::PartChanged { instance, delta, unlisted: 0 }
                }
                None => RosterEvent::PartGone { instance },
            };
            // The room may have ended.
            let _ = holder.events.send(event);
        }
        if let Some(awaited) = &mut holder.awaited {
            awaited.remove(&of);
            if awaited.is_empty() {
                holder.awaited = None;
                let _ = holder.events.send(RosterEvent::Complete);
            }
        }
    }
}

/// One node's end of the rosters.
pub(super) struct RostersPort {
    rosters: Rosters,
    node: usize,
}

impl PlacementPort for RostersPort {
    fn enter(&self, room: RoomKey) -> Result<EnteredRoom, String> {
        let (events, mut unbounded) = mpsc::unbounded_channel();
        let (bounded, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(event) = unbounded.recv().await {
                if bounded.send(event).await.is_err() {
                    return;
                }
            }
        });
        let state = &mut *self.rosters.state();
        let me = self.node;
        state.sequence += 1;
        let presence = state.sequence;
        let holders = state.rooms.entry(room.clone()).or_default();
        let others: BTreeSet<usize> = holders.keys().copied().collect();
        assert!(!others.contains(&me), "node {me} is in {room} already");
        let reachable = others.into_iter().filter(|other| !state.cut.contains(&pair(me, *other)));
        let awaited: BTreeSet<usize> = reachable.chain([me]).collect();
        let (told, latest) = (BTreeMap::new(), BTreeMap::new());
        holders.insert(me, Holder { presence, part: None, events, told, awaited: Some(awaited.clone()), latest });
        awaited.into_iter().for_each(|of| state.tell(&room, of, me));
        let publisher = Publisher { rosters: self.rosters.clone(), node: me, room };
        Ok(EnteredRoom { publisher: Box::new(publisher), events: receiver })
    }

    fn region(&self, node: &NodeInstance) -> Option<Region> {
        Region::new(format!("region-of-{}", node.node)).ok()
    }
}

struct Publisher {
    rosters: Rosters,
    node: usize,
    room: RoomKey,
}

impl RosterPublisher for Publisher {
    fn publish(&self, delta: PartDelta) {
        let state = &mut *self.rosters.state();
        let holder = state.rooms.get_mut(&self.room).and_then(|holders| holders.get_mut(&self.node));
        // What goes on of a dead node is heard by nobody.
        let Some(holder) = holder else { return assert!(state.dead.contains(&self.node)) };
        apply(Arc::make_mut(holder.part.get_or_insert_default()), delta);
        state.tell_others(&self.room, self.node);
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        let state = &mut *self.rosters.state();
        state.rooms.get_mut(&self.room).and_then(|holders| holders.remove(&self.node));
        state.tell_others(&self.room, self.node);
    }
}
