//! Nodes, users and what is on the way between them, a step of time after the other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_media::Transmit;
use tokio::time::Instant;

use super::access::Access;
use super::judge::Watched;
use super::lane::{Packet, arrivals};
use super::node::Node;
use super::presence::{Presence, name};
use crate::tests::client::{Connection, opening};
use crate::tests::net::Net;
use crate::tests::rosters::Rosters;

const STEP: Duration = Duration::from_millis(2);

/// Routes into a node: few are used again soon.
const ROUTES: u32 = 45;

/// Nodes hear each other's clocks.
const GOSSIP: Duration = Duration::from_millis(500);

/// Until a user whose session has ended comes back.
const PAUSE_MS: std::ops::Range<u64> = 200..2_000;

/// Somebody who is in the room, or not.
pub(super) struct User {
    pub(super) room: &'static str,
    pub(super) presence: Option<Presence>,
    secret: Option<String>,
    /// When the user comes.
    pub(super) comes_at: Option<Instant>,
}

pub(super) struct World {
    pub(super) rng: ChaCha8Rng,
    pub(super) net: Net,
    pub(super) rosters: Rosters,
    pub(super) access: Access,
    /// By number, the dead ones too.
    pub(super) nodes: Vec<Node>,
    /// When which of those starts again.
    restarts: Vec<(Instant, usize)>,
    pub(super) users: Vec<User>,
    /// Connections that their clients have left without a word, until they break.
    pub(super) ghosts: Vec<(Connection, Instant)>,
    packets: BTreeMap<(Instant, u64), Packet>,
    sequence: u64,
    gossip_at: Instant,
    /// What everybody hears, while it is looked at.
    pub(super) watched: Option<Watched>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = rng.random_range(2..4);
        let (net, signals) = Net::new(rng.random(), count, ROUTES);
        let rosters = Rosters::new(rng.random());
        let mut nodes = Vec::new();
        for (number, signals) in signals.into_iter().enumerate() {
            let workers = rng.random_range(1..4);
            nodes.push(Node::start(number, workers, &mut rng, (&net, signals), &rosters));
            (0..number).for_each(|other| net.up(other, number));
        }
        let users = rng.random_range(4..14);
        let users = (0..users).map(|_| User {
            room: if rng.random_bool(0.7) { "one" } else { "two" },
            presence: None,
            secret: None,
            comes_at: Some(Instant::now() + Duration::from_millis(rng.random_range(0..6_000))),
        });
        Self {
            users: users.collect(),
            access: Access::new(rng.random()),
            net,
            rosters,
            nodes,
            restarts: Vec::new(),
            ghosts: Vec::new(),
            packets: BTreeMap::new(),
            sequence: 0,
            gossip_at: Instant::now(),
            watched: None,
            rng,
        }
    }

    /// Lets time pass, with or without anything happening.
    pub(super) async fn run(&mut self, time: Duration, turmoil: bool) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if turmoil {
                self.act();
            }
            self.step().await;
        }
    }

    pub(super) async fn step(&mut self) {
        self.gossip();
        self.restart_nodes(false);
        let nodes = &self.nodes;
        self.rosters.deliver(|node| nodes[node].is_stalled());
        self.deliver_packets();
        for node in 0..self.nodes.len() {
            let sent = self.nodes[node].turn(&self.net);
            sent.into_iter().for_each(|transmit| self.send_to_user(transmit));
        }
        self.ghosts.retain(|(_, until)| Instant::now() < *until);
        for user in 0..self.users.len() {
            self.live(user);
        }
        tokio::time::sleep(STEP).await;
    }

    /// One user's step.
    fn live(&mut self, number: usize) {
        let user = &mut self.users[number];
        if user.comes_at.is_some_and(|at| at <= Instant::now()) {
            let node = self.any_node();
            self.come(number, node);
        }
        let Some(presence) = &mut self.users[number].presence else { return };
        if !self.nodes[presence.node].is_stalled() {
            presence.signal(&mut self.access);
        }
        for (at, packet) in presence.poll_lanes() {
            self.sequence += 1;
            self.packets.insert((at, self.sequence), packet);
        }
        self.listen(number);
        let user = &mut self.users[number];
        if let Some(presence) = user.presence.take_if(|presence| presence.over.is_some()) {
            user.secret = presence.secret;
            user.comes_at = Some(Instant::now() + Duration::from_millis(self.rng.random_range(PAUSE_MS)));
        }
    }

    /// A user opens a WebSocket to a node.
    pub(super) fn come(&mut self, number: usize, node: usize) {
        let distance = Duration::from_millis(self.rng.random_range(1..80));
        let user = &mut self.users[number];
        user.comes_at = None;
        let peer = name(number as u32);
        let connection = Connection::open(&self.nodes[node].rooms, opening(user.room, &peer, user.secret.as_deref()));
        user.presence = Some(Presence::new(number as u32, node, connection, distance));
    }

    /// A user goes, with a word or without.
    pub(super) fn go(&mut self, number: usize, silently: bool) {
        let user = &mut self.users[number];
        user.comes_at = None;
        let Some(mut presence) = user.presence.take() else { return };
        if presence.secret.is_some() {
            user.secret = presence.secret.take();
        }
        let until = Instant::now() + Duration::from_millis(self.rng.random_range(0..8_000));
        self.ghosts.extend(presence.leave(silently).map(|connection| (connection, until)));
    }

    /// Nodes that are alive.
    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_dead()).collect()
    }

    pub(super) fn any_node(&mut self) -> usize {
        let alive = self.alive();
        alive[self.rng.random_range(0..alive.len())]
    }

    /// Pairs of those.
    pub(super) fn pairs(&self) -> Vec<(usize, usize)> {
        let alive = self.alive();
        alive.iter().flat_map(|b| alive.iter().filter(move |a| *a < b).map(move |a| (*a, *b))).collect()
    }

    /// A node dies, and with it the sessions of its users. It may start again.
    pub(super) fn kill(&mut self, node: usize, restart: Option<Instant>) {
        self.nodes[node].die();
        self.rosters.die(node);
        (0..self.nodes.len()).filter(|other| *other != node).for_each(|other| self.net.down(node, other));
        for user in &mut self.users {
            if let Some(presence) = user.presence.as_mut().filter(|presence| presence.node == node) {
                presence.over = Some("the node died".to_owned());
            }
        }
        self.restarts.extend(restart.map(|at| (at, node)));
    }

    fn restart_nodes(&mut self, all: bool) {
        let now = Instant::now();
        for (_, former) in self.restarts.extract_if(.., |(at, _)| all || *at <= now).collect::<Vec<_>>() {
            let (number, signals) = self.net.restart(former, ROUTES);
            let workers = self.nodes[former].worker_count() as u16;
            let others = self.alive();
            self.nodes.push(Node::start(number, workers, &mut self.rng, (&self.net, signals), &self.rosters));
            others.into_iter().for_each(|other| self.net.up(other, number));
        }
    }

    /// Nothing is wrong with anything from now on. Most of those who are gone come back.
    pub(super) fn heal(&mut self) {
        self.restart_nodes(true);
        self.nodes.iter_mut().for_each(Node::go_on);
        self.rosters.calm_down();
        self.access.heal();
        for (a, b) in self.pairs() {
            if !self.net.is_up(a, b) {
                self.net.up(a, b);
            }
        }
        self.net.heal_paths();
        for user in &mut self.users {
            match &mut user.presence {
                Some(presence) => presence.lighten(&mut self.access),
                None if self.rng.random_bool(0.8) => user.comes_at = Some(Instant::now()),
                None => {}
            }
        }
        for node in &self.nodes {
            (0..node.worker_count()).for_each(|worker| node.set_stuck(worker, false));
        }
    }

    /// Everybody leaves for good.
    pub(super) fn disperse(&mut self) {
        for user in 0..self.users.len() {
            let silently = self.rng.random_bool(0.3);
            self.go(user, silently);
        }
    }

    /// Ends the nodes and all that runs in them.
    pub(super) async fn shut_down(self) {
        for node in self.nodes {
            node.shut_down().await;
        }
    }

    fn deliver_packets(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.packets.first_entry().filter(|entry| entry.key().0 <= now) {
            match entry.remove() {
                Packet::ToNode { node, source, data } => self.nodes[node].receive(source, data),
                Packet::ToUser { address, mut data } => {
                    if let Some((user, lane)) = self.at(address) {
                        let presence = self.users[user].presence.as_mut().unwrap();
                        presence.lanes[lane].as_mut().unwrap().receive(&mut data);
                    }
                }
            }
        }
    }

    fn send_to_user(&mut self, transmit: Transmit) {
        let address = transmit.destination.socket_addr();
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        let Some((user, index)) = self.at(address) else { return };
        let presence = self.users[user].presence.as_mut().unwrap();
        let lane = presence.lanes[index].as_mut().unwrap();
        for data in transmit.contents.chunks(segment) {
            for at in arrivals(lane.down.submit(Instant::now().into_std(), data.len())) {
                self.sequence += 1;
                self.packets.insert((at, self.sequence), Packet::ToUser { address, data: data.to_vec() });
            }
        }
    }

    /// The user and the lane that are at an address.
    fn at(&self, address: SocketAddr) -> Option<(usize, usize)> {
        self.users.iter().enumerate().find_map(|(user, found)| {
            let lanes = &found.presence.as_ref()?.lanes;
            let lane = lanes.iter().position(|lane| lane.as_ref().is_some_and(|lane| lane.address == address))?;
            Some((user, lane))
        })
    }

    fn gossip(&mut self) {
        if Instant::now() < self.gossip_at {
            return;
        }
        self.gossip_at = Instant::now() + GOSSIP;
        let newest = self.nodes.iter().map(|node| node.clock.now_ms()).max().unwrap();
        self.nodes.iter().for_each(|node| node.clock.hear(newest));
    }
}
