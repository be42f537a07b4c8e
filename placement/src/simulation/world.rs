//! The world between simulated nodes: a clock, a network and fate.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_proto::ids::{NodeInstance, RoomKey};
use sluice_proto::placement::roster_update::Change;
use sluice_proto::placement::{FollowRequest, PeerEntry, RosterUpdate};

use super::ms;
use super::node::{SimLink, SimNode};
use crate::directory::{Answer, Call, CallKind};
use crate::rosters::{Entries, PartDelta, StreamId, Wake};
use crate::testing::{instance, now, room};
use crate::wire;

const ROOMS: [&str; 4] = ["a", "b", "c", "d"];

/// Peers that a node ever has in a room.
const MAX_PEERS: usize = 24;

/// How often gossip is heard, or not.
const GOSSIP: Duration = Duration::from_millis(100);

/// What fate does, as probabilities.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chaos {
    /// That a call or its answer is lost.
    pub(super) calls: f64,
    /// That a stream breaks at a message.
    pub(super) streams: f64,
    /// That a delta is lost or overtaken, the stream living on: more than a transport may do.
    pub(super) deltas: f64,
}

impl Chaos {
    pub(super) const NONE: Self = Self { calls: 0.0, streams: 0.0, deltas: 0.0 };
    pub(super) const FULL: Self = Self { calls: 0.1, streams: 0.03, deltas: 0.0 };
}

#[derive(Debug)]
enum Event {
    Gossip(usize),
    Timer(usize),
    Call {
        from: NodeInstance,
        call: Call,
    },
    Answer {
        to: NodeInstance,
        call: Call,
        answer: Answer,
    },
    Open {
        from: NodeInstance,
        to: NodeInstance,
    },
    Request {
        connection: u64,
        request: FollowRequest,
    },
    Update {
        connection: u64,
        update: RosterUpdate,
    },
    /// The server has room for the next update of a slow stream.
    Pump {
        connection: u64,
    },
    ClientSees {
        connection: u64,
    },
    ServerSees {
        connection: u64,
    },
}

/// A stream between two incarnations.
#[derive(Debug)]
struct Connection {
    client: NodeInstance,
    server: NodeInstance,
    broken: bool,
    /// Registered at the server.
    opened: bool,
    /// Nothing overtakes within a direction: the latest arrival of requests and of updates.
    last: [Instant; 2],
}

/// See the module.
pub(super) struct World {
    rng: ChaCha8Rng,
    start: Instant,
    now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    nodes: Vec<Option<SimNode>>,
    incarnations: Vec<u64>,
    connections: BTreeMap<u64, Connection>,
    chaos: Chaos,
    /// The delay of everything if there is no chaos.
    pub(super) one_way: Duration,
    side: Vec<bool>,
    trace: DefaultHasher,
}

impl World {
    pub(super) fn new(seed: u64, nodes: usize, chaos: Chaos) -> Self {
        let start = now();
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            start,
            now: start,
            queue: BTreeMap::new(),
            sequence: 0,
            nodes: (0..nodes).map(|_| None).collect(),
            incarnations: vec![0; nodes],
            connections: BTreeMap::new(),
            chaos,
            one_way: ms(20),
            side: vec![false; nodes],
            trace: DefaultHasher::new(),
        };
        for node in 0..nodes {
            world.schedule(ms(0), Event::Gossip(node));
            world.start(node);
        }
        world
    }

    // What happens to nodes and network.

    pub(super) fn start(&mut self, node: usize) {
        self.incarnations[node] += 1;
        self.nodes[node] = Some(SimNode::new(instance(&format!("n{node}"), self.incarnations[node])));
        self.step(node, |_, _| ());
    }

    pub(super) fn kill(&mut self, node: usize) {
        let Some(dead) = self.nodes[node].take() else { return };
        // The kernel of a killed process closes its sockets.
        let ends: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, c)| c.client == dead.instance || c.server == dead.instance)
            .map(|(id, _)| *id)
            .collect();
        ends.into_iter().collect::<BTreeSet<_>>().into_iter().for_each(|id| self.break_connection(id));
    }

    pub(super) fn split<const N: usize>(&mut self, one_side: [usize; N]) {
        for node in 0..self.side.len() {
            self.side[node] = one_side.contains(&node);
        }
    }

    pub(super) fn heal(&mut self) {
        self.side.fill(false);
    }

    pub(super) fn enter(&mut self, node: usize, name: &str) {
        self.step(node, |sim, now| {
            if sim.core.enter(now, &room(name), None) {
                sim.truth.insert(room(name), Entries::new());
                sim.seen.insert(room(name), BTreeMap::new());
            }
        });
    }

    pub(super) fn leave(&mut self, node: usize, name: &str) {
        self.step(node, |sim, now| {
            sim.core.leave(now, &room(name));
            sim.truth.remove(&room(name));
            sim.seen.remove(&room(name));
        });
    }

    pub(super) fn publish(&mut self, node: usize, name: &str, peers: usize) {
        let stamp = self.rng.next_u64();
        self.step(node, |sim, _| {
            if let Some(part) = sim.truth.get_mut(&room(name)) {
                let id = |i| format!("p{i:02}");
                let peer = |i| Arc::new(PeerEntry { id: id(i), join_number: stamp % 3, ..PeerEntry::default() });
                let upserted: Vec<_> = (0..peers).map(peer).collect();
                let removed: Vec<_> = (peers..MAX_PEERS).map(id).collect();
                part.retain(|id, _| !removed.contains(id));
                part.extend(upserted.iter().map(|peer| (peer.id.clone(), Arc::clone(peer))));
                sim.core.rosters.publish(&room(name), PartDelta { upserted, removed });
            }
        });
    }

    /// Everything is well from now on, and whatever was broken is found to be.
    pub(super) fn calm_down(&mut self) {
        self.chaos = Chaos::NONE;
        self.heal();
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_none() {
                self.start(node);
            }
        }
    }

    pub(super) fn leave_everything(&mut self) {
        for node in 0..self.nodes.len() {
            ROOMS.iter().for_each(|name| self.leave(node, name));
        }
    }

    pub(super) fn run_with_actions(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            let pause = ms(self.rng.random_range(1..200));
            self.run_for(pause);
            self.act();
        }
    }

    fn act(&mut self) {
        let node = self.rng.random_range(0..self.nodes.len());
        let name = ROOMS[self.rng.random_range(0..ROOMS.len())];
        let peers = self.rng.random_range(0..6);
        match self.rng.random_range(0..100) {
            0..30 => self.enter(node, name),
            30..75 => self.publish(node, name, peers),
            75..88 => self.leave(node, name),
            88..93 => self.kill(node),
            93..97 if self.nodes[node].is_none() => self.start(node),
            97 => {
                let one = self.rng.random_range(0..self.nodes.len());
                self.split([node, one]);
            }
            98..100 => self.heal(),
            _ => {}
        }
        // The dead come back within a second, mostly.
        for node in 0..self.nodes.len() {
            if self.nodes[node].is_none() && self.rng.random_bool(0.15) {
                self.start(node);
            }
        }
    }

    // The clock.

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.handle(event);
        }
        self.now = end;
    }

    fn schedule(&mut self, delay: Duration, event: Event) {
        self.schedule_at(self.now + delay, event);
    }

    fn schedule_at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((at, self.sequence), event);
    }

    fn delay(&mut self) -> Duration {
        if self.chaos.calls + self.chaos.streams + self.chaos.deltas == 0.0 {
            return self.one_way;
        }
        ms(self.rng.random_range(1..150))
    }

    fn handle(&mut self, event: Event) {
        (self.now - self.start, format!("{event:?}")).hash(&mut self.trace);
        match event {
            Event::Gossip(node) => self.gossip(node),
            Event::Timer(node) => self.step(node, |sim, now| sim.core.handle_timeout(now)),
            Event::Call { from, call } => self.handle_call(from, call),
            Event::Answer { to, call, answer } => {
                if let Some(node) = self.find(&to) {
                    self.step(node, |sim, now| sim.core.handle_answer(now, call.id, answer));
                }
            }
            Event::Open { from, to } => self.open(from, to),
            Event::Request { connection, request } => self.handle_request(connection, &request),
            Event::Update { connection, update } => self.handle_update(connection, update),
            Event::Pump { connection } => self.pump(connection),
            Event::ClientSees { connection } => self.client_sees_break(connection),
            Event::ServerSees { connection } => self.server_sees_break(connection),
        }
    }

    /// Changes a node's core and carries out what it asks for.
    fn step(&mut self, node: usize, change: impl FnOnce(&mut SimNode, Instant)) {
        let now = self.now;
        let Some(sim) = self.nodes[node].as_mut() else { return };
        change(sim, now);
        let mut calls = Vec::new();
        while let Some(call) = sim.core.poll_call(now) {
            calls.push(call);
        }
        let mut wakes = Vec::new();
        while let Some(wake) = sim.core.rosters.poll_wake() {
            if let Wake::Events(room) = &wake {
                while let Some(event) = sim.core.rosters.poll_event(room) {
                    sim.read(room, event);
                }
            }
            wakes.push(wake);
        }
        let from = sim.instance.clone();
        let timer = sim.core.poll_timeout();
        if timer != sim.timer {
            sim.timer = timer;
            if let Some(at) = timer {
                self.schedule_at(at.max(now), Event::Timer(node));
            }
        }
        for call in calls {
            let delay = self.delay();
            self.schedule(delay, Event::Call { from: from.clone(), call });
        }
        for wake in wakes {
            match wake {
                Wake::Events(_) => {}
                Wake::Requests(peer) => {
                    let link = self.nodes[node].as_ref().and_then(|sim| sim.links.get(&peer));
                    if let Some(connection) = link.and_then(|link| link.connection) {
                        self.send_requests(node, connection);
                    }
                }
                Wake::Updates(stream) => self.pump(stream.0),
            }
        }
    }

    // Membership.

    fn gossip(&mut self, node: usize) {
        self.schedule(GOSSIP, Event::Gossip(node));
        let others: Vec<(NodeInstance, bool)> = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != node)
            .filter_map(|(other, sim)| Some((sim.as_ref()?.instance.clone(), self.side[other] == self.side[node])))
            .collect();
        let luck: Vec<bool> = others.iter().map(|_| self.rng.random_bool(0.8)).collect();
        let patience = ms(self.rng.random_range(1_500..2_300));
        let now = self.now;
        let Some(sim) = self.nodes[node].as_mut() else { return };
        for ((other, near), lucky) in others.into_iter().zip(luck) {
            if near && lucky {
                sim.heard.insert(other, now);
            }
        }
        let newest: BTreeMap<_, _> = sim.heard.keys().map(|other| (other.node.clone(), other.incarnation)).collect();
        sim.heard.retain(|other, at| newest[&other.node] == other.incarnation && now - *at < patience);
        let present: BTreeSet<NodeInstance> = sim.heard.keys().cloned().collect();
        sim.links.retain(|_, link| present.contains(&link.peer));
        self.step(node, |sim, now| sim.core.set_present(now, present.clone()));
        for peer in present {
            self.want_stream(node, &peer, ms(0));
        }
        self.abandon_streams(node);
    }

    /// Connections whose client gave up the link.
    fn abandon_streams(&mut self, node: usize) {
        let Some(sim) = self.nodes[node].as_ref() else { return };
        let used: BTreeSet<u64> = sim.links.values().filter_map(|link| link.connection).collect();
        let abandoned = self
            .connections
            .iter()
            .filter(|(id, connection)| connection.client == sim.instance && !connection.broken && !used.contains(id));
        let abandoned: BTreeSet<u64> = abandoned.map(|(id, _)| *id).collect();
        abandoned.into_iter().for_each(|id| self.break_connection(id));
    }

    // Calls.

    fn handle_call(&mut self, from: NodeInstance, call: Call) {
        let lost = self.rng.random_bool(self.chaos.calls);
        let answer = match (self.find(&call.owner), self.find(&from)) {
            (Some(owner), Some(caller)) if !lost && self.side[owner] == self.side[caller] => {
                let mut answer = Answer::Failed;
                self.step(owner, |sim, now| match call.kind {
                    CallKind::Renew => {
                        answer = sim.core.renew(now, &from, &call.rooms).map_or(Answer::Failed, Answer::Done);
                    }
                    CallKind::Release => {
                        sim.core.release(&from, &call.rooms);
                        answer = Answer::Done(Vec::new());
                    }
                });
                Some(answer)
            }
            _ => None,
        };
        let delay = self.delay();
        match answer.filter(|_| !self.rng.random_bool(self.chaos.calls)) {
            Some(answer) => self.schedule(delay, Event::Answer { to: from, call, answer }),
            None => self.schedule(ms(1_500), Event::Answer { to: from, call, answer: Answer::Failed }),
        }
    }

    // Streams.

    fn want_stream(&mut self, node: usize, peer: &NodeInstance, delay: Duration) {
        let Some(sim) = self.nodes[node].as_mut() else { return };
        let link = sim.links.entry(peer.node.clone()).or_insert_with(|| SimLink {
            peer: peer.clone(),
            connection: None,
            opening: false,
        });
        if link.connection.is_none() && !link.opening {
            link.opening = true;
            let (from, to) = (sim.instance.clone(), peer.clone());
            self.schedule(delay, Event::Open { from, to });
        }
    }

    fn open(&mut self, from: NodeInstance, to: NodeInstance) {
        let Some(node) = self.find(&from) else { return };
        let reachable = self.find(&to).is_some_and(|server| self.side[server] == self.side[node]);
        let Some(sim) = self.nodes[node].as_mut() else { return };
        let Some(link) = sim.links.get_mut(&to.node).filter(|link| link.peer == to) else { return };
        link.opening = false;
        if !reachable || !sim.core.rosters.follow_opened(&to) {
            return;
        }
        self.sequence += 1;
        let id = self.sequence;
        link.connection = Some(id);
        let last = [self.now; 2];
        self.connections.insert(id, Connection { client: from, server: to, broken: false, opened: false, last });
        self.step(node, |_, _| ());
    }

    fn send_requests(&mut self, node: usize, id: u64) {
        let Some(server) = self.connections.get(&id).map(|connection| connection.server.clone()) else { return };
        while let Some(request) = self.nodes[node].as_mut().and_then(|sim| sim.core.rosters.poll_request(&server)) {
            self.send(id, 0, |connection| Event::Request { connection, request });
        }
    }

    /// Sends in order, if the stream does not break at it.
    fn send(&mut self, id: u64, direction: usize, event: impl FnOnce(u64) -> Event) {
        if self.rng.random_bool(self.chaos.streams) {
            self.break_connection(id);
        }
        let delay = self.delay();
        let Some(connection) = self.connections.get_mut(&id).filter(|connection| !connection.broken) else { return };
        let at = (self.now + delay).max(connection.last[direction]);
        connection.last[direction] = at;
        self.schedule_at(at, event(id));
    }

    fn handle_request(&mut self, id: u64, request: &FollowRequest) {
        let Some(node) = self.reach(id, |connection| &connection.server) else { return };
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let client = connection.client.clone();
        if !std::mem::replace(&mut connection.opened, true) {
            assert_eq!(wire::instance(request.follower.as_ref()), Ok(client.clone()), "who is asking?");
            let mut opened = Ok(());
            self.step(node, |sim, _| opened = sim.core.rosters.follower_opened(StreamId(id), &client));
            if opened.is_err() {
                return self.break_connection(id);
            }
        }
        let (follow, unfollow) = (wire::rooms(&request.follow).unwrap(), wire::rooms(&request.unfollow).unwrap());
        self.step(node, |sim, _| sim.core.rosters.follower_request(StreamId(id), &follow, &unfollow, None));
    }

    /// Sends a few updates; a slow stream takes the next ones later.
    fn pump(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let Some(node) = self.find(&connection.server) else { return };
        let room_for = self.rng.random_range(1..4);
        for _ in 0..room_for {
            let update = self.nodes[node].as_mut().and_then(|sim| sim.core.rosters.poll_update(StreamId(id)));
            let Some(update) = update else {
                if self.nodes[node].as_ref().is_some_and(|sim| !sim.core.rosters.is_open(StreamId(id))) {
                    self.break_connection(id);
                }
                return;
            };
            if matches!(update.change, Some(Change::Delta(_))) && self.rng.random_bool(self.chaos.deltas) {
                if self.rng.random_bool(0.5) {
                    let late = ms(self.rng.random_range(1..400));
                    self.schedule(late, Event::Update { connection: id, update });
                }
                continue;
            }
            self.send(id, 1, |connection| Event::Update { connection, update });
        }
        let pause = if self.chaos.streams > 0.0 { ms(self.rng.random_range(0..100)) } else { ms(0) };
        self.schedule(pause, Event::Pump { connection: id });
    }

    fn handle_update(&mut self, id: u64, update: RosterUpdate) {
        let Some(node) = self.reach(id, |connection| &connection.client) else { return };
        let server = self.connections[&id].server.clone();
        let used = self.nodes[node].as_ref().and_then(|sim| sim.links.get(&server.node)?.connection);
        if used == Some(id) {
            self.step(node, |sim, _| sim.core.rosters.handle_update(&server, update));
        }
    }

    /// The node at one end of a connection, if messages get there; a cut network breaks the connection.
    fn reach(&mut self, id: u64, end: impl Fn(&Connection) -> &NodeInstance) -> Option<usize> {
        let connection = self.connections.get(&id).filter(|connection| !connection.broken)?;
        let (client, server) = (self.find(&connection.client), self.find(&connection.server));
        match (client, server) {
            (Some(client), Some(server)) if self.side[client] == self.side[server] => self.find(end(connection)),
            _ => {
                self.break_connection(id);
                None
            }
        }
    }

    /// Both ends learn of it, each in its time.
    fn break_connection(&mut self, id: u64) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if !std::mem::replace(&mut connection.broken, true) {
            let (soon, late) = (ms(self.rng.random_range(1..500)), ms(self.rng.random_range(1..3_000)));
            self.schedule(soon, Event::ClientSees { connection: id });
            self.schedule(late, Event::ServerSees { connection: id });
        }
    }

    fn client_sees_break(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (client, server) = (connection.client.clone(), connection.server.clone());
        let Some(node) = self.find(&client) else { return };
        let backoff = ms(self.rng.random_range(20..400));
        let Some(sim) = self.nodes[node].as_mut() else { return };
        let Some(link) = sim.links.get_mut(&server.node).filter(|link| link.connection == Some(id)) else { return };
        link.connection = None;
        sim.core.rosters.follow_closed(&server);
        self.want_stream(node, &server, backoff);
    }

    fn server_sees_break(&mut self, id: u64) {
        let Some(connection) = self.connections.remove(&id) else { return };
        if let Some(node) = self.find(&connection.server) {
            self.step(node, |sim, _| sim.core.rosters.follower_closed(StreamId(id)));
        }
        // The client may not have seen it yet.
        if let Some(node) = self.find(&connection.client) {
            let used = self.nodes[node].as_ref().and_then(|sim| sim.links.get(&connection.server.node)?.connection);
            if used == Some(id) {
                self.connections.insert(id, Connection { opened: true, ..connection });
                self.client_sees_break(id);
                self.connections.remove(&id);
            }
        }
    }

    fn find(&self, instance: &NodeInstance) -> Option<usize> {
        self.nodes.iter().position(|sim| sim.as_ref().is_some_and(|sim| sim.instance == *instance))
    }

    // What is.

    fn sim(&self, node: usize) -> &SimNode {
        self.nodes[node].as_ref().expect("the node is up")
    }

    fn sims(&self) -> impl Iterator<Item = &SimNode> {
        self.nodes.iter().flatten()
    }

    pub(super) fn instance(&self, node: usize) -> NodeInstance {
        self.sim(node).instance.clone()
    }

    pub(super) fn owners(&self, name: &str) -> Vec<usize> {
        let owners = self.sims().next().expect("somebody is up").core.owners(&room(name));
        owners.iter().filter_map(|owner| self.find(owner)).collect()
    }

    pub(super) fn lookup(&self, room: &RoomKey) -> BTreeSet<NodeInstance> {
        let owners = self.sims().next().expect("somebody is up").core.owners(room);
        let held: Vec<BTreeSet<NodeInstance>> = owners
            .iter()
            .filter_map(|owner| self.find(owner))
            .map(|owner| self.sim(owner).core.lookup(self.now, room).into_iter().collect())
            .collect();
        assert!(held.windows(2).all(|pair| pair[0] == pair[1]), "owners of {room} differ: {held:?}");
        held.into_iter().next().unwrap_or_default()
    }

    pub(super) fn seen(&self, node: usize, name: &str) -> BTreeSet<NodeInstance> {
        self.sim(node).seen_in(&room(name))
    }

    pub(super) fn events(&self) -> u64 {
        self.sims().map(|sim| sim.events).sum()
    }

    pub(super) fn gaps(&self) -> u64 {
        self.sims().map(|sim| sim.core.rosters.counters().gaps).sum()
    }

    pub(super) fn parts_followed(&self, node: usize) -> usize {
        self.sim(node).core.rosters.parts_followed()
    }

    pub(super) fn fingerprint(&self) -> u64 {
        self.trace.finish()
    }

    pub(super) fn assert_sees(&self, reader: usize, name: &str, other: usize) {
        let (reader, other) = (self.sim(reader), self.sim(other));
        let seen = reader.seen[&room(name)].get(&other.instance);
        assert_eq!(seen, Some(&other.truth[&room(name)]), "{} of {}", reader.instance, other.instance);
    }

    /// Every reader knows every other node's part, and nothing else; the owners know every holder, and nobody else.
    pub(super) fn assert_truth(&self) {
        for reader in self.sims() {
            for room in reader.truth.keys() {
                let others = self.sims().filter(|other| other.instance != reader.instance);
                let truth: BTreeMap<_, _> =
                    others.filter_map(|other| Some((&other.instance, summary(other.truth.get(room)?)))).collect();
                let seen: BTreeMap<_, _> =
                    reader.seen[room].iter().map(|(other, part)| (other, summary(part))).collect();
                assert_eq!(seen, truth, "{} in {room}", reader.instance);
            }
        }
        for name in ROOMS.iter().chain(&["r"]) {
            let holders = self.sims().filter(|sim| sim.truth.contains_key(&room(name)));
            let holders: BTreeSet<_> = holders.map(|sim| sim.instance.clone()).collect();
            assert_eq!(self.lookup(&room(name)), holders, "leases of {name}");
        }
    }

    pub(super) fn assert_nothing_left(&self) {
        for sim in self.sims() {
            let (table, rosters) = (sim.core.table(), &sim.core.rosters);
            assert_eq!((table.rooms(), table.leases()), (0, 0), "{}", sim.instance);
            assert_eq!((rosters.parts_followed(), rosters.rooms().count()), (0, 0), "{}", sim.instance);
        }
    }
}

/// A part in few words.
fn summary(part: &Entries) -> Vec<(&str, u64)> {
    part.values().map(|peer| (peer.id.as_str(), peer.join_number)).collect()
}
