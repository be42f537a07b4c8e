//! Rooms of hundreds and thousands on several nodes, with scripted workers and rosters that are late: users come,
//! publish, are asked onto the stage, rename themselves, come back elsewhere and leave, with a word or without; nodes
//! die and start again, the network splits and heals, and some users hardly ever look. In the end everybody knows the
//! truth; nobody is told of anybody twice, nor of those who were never on the stage, in a large room or by choice.
//!
//! `SLUICE_SEED=<number>` runs one seed, which is how a failing one is replayed, `SLUICE_SEEDS=<number>` sets how many
//! are tried, and `SLUICE_CROWD=<number>` how many users there are.

mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_proto::ids::{NodeId, NodeInstance, PeerId, RoomKey};
use tokio::time::Instant;

use self::user::{Presence, User};
use super::TestNode;
use super::client::{entrance, opening};
use super::fakes::World as Mesh;
use super::rosters::Rosters;
use super::seeds::{number, seeds};
use crate::limits::Limits;
use crate::rooms::api::{Census, Subscription};
use crate::rooms::operations::Operation;

/// Seeds that a plain `cargo test` tries: some ten seconds.
const DEFAULT_SEEDS: u64 = 10;

/// Users, by default.
const DEFAULT_CROWD: u64 = 300;

/// Peers up to which a room is small.
const SMALL_ROOM: usize = 20;

const STEP: Duration = Duration::from_millis(10);

/// The time in which anything may happen.
const TURMOIL: Duration = Duration::from_secs(15);

/// By then everybody who was turned away is back, and the slowest has looked.
const QUIET: Duration = Duration::from_secs(30);

/// Until a user whose session has ended comes back.
const PAUSE_MS: std::ops::Range<u64> = 100..2_000;

struct World {
    rng: ChaCha8Rng,
    mesh: Mesh,
    rosters: Rosters,
    /// By number, the dead ones too.
    nodes: Vec<TestNode>,
    alive: BTreeSet<usize>,
    /// When which of the others starts again.
    restarts: Vec<(Instant, usize)>,
    users: Vec<User>,
    /// Seats that nobody looks at any more, until their connections break.
    ghosts: Vec<(Presence, Instant)>,
}

#[tokio::test(start_paused = true)]
async fn everybody_in_a_crowd_comes_to_know_the_truth() {
    for seed in seeds(DEFAULT_SEEDS) {
        println!("seed {seed}");
        let mut world = World::new(seed, number("SLUICE_CROWD").unwrap_or(DEFAULT_CROWD));
        world.run(TURMOIL, true).await;
        world.heal();
        world.run(QUIET, false).await;
        world.judge().await;
        for node in world.nodes {
            node.rooms.shutdown().await;
        }
    }
}

impl World {
    fn new(seed: u64, users: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let rosters = Rosters::new(rng.random());
        let users = (0..users).map(|number| {
            let comes_at = Instant::now() + Duration::from_millis(rng.random_range(0..5_000));
            User::new(number, &mut rng, comes_at)
        });
        let users = users.collect();
        let mut world = Self {
            mesh: Mesh::default(),
            rosters,
            nodes: Vec::new(),
            alive: BTreeSet::new(),
            restarts: Vec::new(),
            users,
            ghosts: Vec::new(),
            rng,
        };
        for node in 0..world.rng.random_range(2..5) {
            world.start(&format!("n{node}"), 1);
        }
        world
    }

    fn start(&mut self, name: &str, incarnation: u64) {
        let instance = NodeInstance { node: NodeId::new(name).unwrap(), incarnation };
        let placement = Arc::new(self.rosters.port(self.nodes.len(), instance.clone()));
        let limits = Limits { small_room: SMALL_ROOM, ..Limits::default() };
        let node = TestNode::start_in(&self.mesh, instance, 2, limits, placement);
        for other in &self.alive {
            self.mesh.link_up(&self.nodes[*other].instance, &node.instance);
        }
        self.alive.insert(self.nodes.len());
        self.nodes.push(node);
    }

    /// Lets time pass, with or without anything happening.
    async fn run(&mut self, time: Duration, turmoil: bool) {
        let end = Instant::now() + time;
        // Each does something every few seconds.
        let acts = self.users.len().div_ceil(300);
        while Instant::now() < end {
            for _ in 0..if turmoil { acts } else { 0 } {
                self.act().await;
            }
            if turmoil && self.rng.random_ratio(1, 150) {
                self.act_on_nodes();
            }
            self.step().await;
        }
    }

    async fn step(&mut self) {
        let now = Instant::now();
        for (_, former) in self.restarts.extract_if(.., |(at, _)| *at <= now).collect::<Vec<_>>() {
            let NodeInstance { node, incarnation } = self.nodes[former].instance.clone();
            self.start(node.as_str(), incarnation + 1);
        }
        self.rosters.deliver(|_| false);
        self.ghosts.retain(|(_, until)| now < *until);
        for user in 0..self.users.len() {
            if self.users[user].comes_at.is_some_and(|at| at <= now) {
                let node = self.any_node();
                self.come(user, node).await;
            }
            if self.users[user].look().await {
                let pause = Duration::from_millis(self.rng.random_range(PAUSE_MS));
                self.users[user].comes_at = Some(now + pause);
            }
        }
        tokio::time::sleep(STEP).await;
    }

    async fn act(&mut self) {
        let number = self.rng.random_range(0..self.users.len());
        let (node, what) = (self.any_node(), self.rng.random_range(0..100));
        let user = &mut self.users[number];
        let Some(presence) = user.presence.as_mut().filter(|presence| presence.is_joined) else { return };
        match what {
            0..50 if user.is_star => presence.toggle_producer().await,
            0..20 => presence.rename(format!("name {}", self.rng.random_range(0..1_000))).await,
            20..23 => {
                let on = !presence.is_asked;
                let rooms = &self.nodes[presence.node].rooms;
                let operation = Operation::SetStage { peer: user.id.clone(), on };
                presence.is_asked = rooms.operate(&user.room, operation).await.is_ok() && on;
                presence.was_on_stage |= presence.is_asked;
            }
            50..65 => self.go(number),
            65..80 => {
                self.go(number);
                self.come(number, node).await;
            }
            _ => {}
        }
    }

    fn act_on_nodes(&mut self) {
        let alive: Vec<usize> = self.alive.iter().copied().collect();
        let [a, b] = [0; 2].map(|_| alive[self.rng.random_range(0..alive.len())]);
        match self.rng.random_range(0..10) {
            0 if alive.len() > 1 => self.kill(a),
            1..5 if a != b => self.rosters.cut(a, b),
            5..8 if a != b => self.rosters.heal(a, b),
            _ => {}
        }
    }

    /// A user takes a seat.
    async fn come(&mut self, number: usize, node: usize) {
        let user = &mut self.users[number];
        user.comes_at = None;
        let opening = opening(user.room.room.as_str(), user.id.as_str(), user.secret.as_deref());
        match entrance(&self.nodes[node].rooms).admit(opening) {
            Ok(seat) => {
                let wants = (user.receives, user.subscription);
                user.presence = Some(Presence::open(node, seat, wants, &mut self.rng).await);
            }
            Err(_) => user.comes_at = Some(Instant::now() + Duration::from_millis(self.rng.random_range(PAUSE_MS))),
        }
    }

    /// A user goes, with a word or without, for good or for a while.
    fn go(&mut self, number: usize) {
        let Some(presence) = self.users[number].presence.take() else { return };
        if self.rng.random_bool(0.3) {
            let until = Instant::now() + Duration::from_millis(self.rng.random_range(0..8_000));
            self.ghosts.push((presence, until));
        }
        if self.rng.random_bool(0.8) {
            self.users[number].comes_at = Some(Instant::now() + Duration::from_millis(self.rng.random_range(PAUSE_MS)));
        }
    }

    fn kill(&mut self, node: usize) {
        self.alive.remove(&node);
        self.rosters.die(node);
        for other in &self.alive {
            self.mesh.link_down(&self.nodes[node].instance, &self.nodes[*other].instance);
        }
        self.ghosts.retain(|(ghost, _)| ghost.node != node);
        for user in &mut self.users {
            if user.presence.take_if(|presence| presence.node == node).is_some() {
                user.comes_at = Some(Instant::now() + Duration::from_millis(self.rng.random_range(PAUSE_MS)));
            }
        }
        self.restarts.push((Instant::now() + Duration::from_millis(self.rng.random_range(0..4_000)), node));
    }

    fn heal(&mut self) {
        self.rosters.calm_down();
        self.restarts.iter_mut().for_each(|(at, _)| *at = Instant::now());
    }

    fn any_node(&mut self) -> usize {
        *self.alive.iter().nth(self.rng.random_range(0..self.alive.len())).unwrap()
    }

    async fn judge(&mut self) {
        for room in self.users.iter().map(|user| user.room.clone()).collect::<BTreeSet<_>>() {
            let truth = self.truth(&room);
            let (is_large, census) = (truth.len() > SMALL_ROOM, census(&truth));
            println!("{room}: {census:?}");
            for user in self.users.iter_mut().filter(|user| user.room == room) {
                if let Some(presence) = &user.presence {
                    judge_view(&user.id, presence, &truth, is_large);
                    let told = presence.census.as_ref();
                    let has_to = is_large || presence.subscription == Subscription::Stage;
                    assert!(told == Some(&census) || told.is_none() && !has_to, "{} was told {told:?}", user.id);
                }
            }
            for node in &self.alive {
                self.judge_list(*node, &room, &truth, &census).await;
            }
        }
    }

    async fn judge_list(&self, node: usize, room: &RoomKey, truth: &BTreeMap<PeerId, Present>, census: &Census) {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let Some(page) = self.nodes[node].rooms.peers(room, after.clone(), Some(7)).await else { return };
            assert_eq!(page.census, *census, "at node {node}");
            listed.extend(page.peers.into_iter().map(|peer| (peer.id, peer.display_name, peer.node, peer.on_stage)));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let expected = truth.iter().map(|(id, present)| {
            (id.clone(), present.name.clone(), present.instance.node.clone(), present.is_on_stage)
        });
        assert_eq!(listed, expected.collect::<Vec<_>>(), "at node {node}");
    }

    fn truth(&self, room: &RoomKey) -> BTreeMap<PeerId, Present> {
        let users = self.users.iter().filter(|user| user.room == *room);
        let present = users.filter_map(|user| {
            let presence = user.presence.as_ref()?;
            assert!(presence.is_joined, "{} has not joined", user.id);
            let present = Present {
                name: presence.name.clone(),
                instance: self.nodes[presence.node].instance.clone(),
                is_on_stage: presence.is_asked || presence.producer.is_some(),
                was_on_stage: presence.was_on_stage,
                produces: presence.producer.is_some(),
            };
            Some((user.id.clone(), present))
        });
        present.collect()
    }
}

/// Somebody who is there.
struct Present {
    name: String,
    instance: NodeInstance,
    is_on_stage: bool,
    was_on_stage: bool,
    produces: bool,
}

fn census(truth: &BTreeMap<PeerId, Present>) -> Census {
    let mut by_region = BTreeMap::new();
    for present in truth.values() {
        *by_region.entry(format!("region-of-{}", present.instance.node)).or_default() += 1;
    }
    let stage = truth.values().filter(|present| present.is_on_stage).count();
    Census { total: truth.len(), stage, by_region }
}

fn judge_view(id: &PeerId, presence: &Presence, truth: &BTreeMap<PeerId, Present>, is_large: bool) {
    let mut audience = 0;
    for (peer, name) in &presence.peers {
        let Some(present) = truth.get(peer) else { panic!("{id} believes that {peer} is there") };
        assert_eq!(*name, present.name, "the name of {peer} as {id} knows it");
        audience += usize::from(!present.was_on_stage);
    }
    let follows_stage = presence.subscription == Subscription::Stage;
    let most = if follows_stage { 0 } else { SMALL_ROOM };
    assert!(audience <= most, "{id} was told of {audience} of the audience");
    let others = truth.iter().filter(|(other, _)| *other != id);
    for (other, _) in others.clone().filter(|(_, present)| present.is_on_stage || !is_large && !follows_stage) {
        assert!(presence.peers.contains_key(other), "{id} does not know of {other}");
    }
    let producing: Vec<_> = others.filter(|(_, present)| present.produces && presence.receives).collect();
    let mut received: Vec<_> = presence.consumers.values().collect();
    received.sort();
    assert_eq!(received, producing.into_iter().map(|(id, _)| id).collect::<Vec<_>>(), "what {id} receives");
}
