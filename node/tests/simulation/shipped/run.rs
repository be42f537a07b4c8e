//! A run of a scenario's plan on virtual time: joins and leaves, faults and changes of paths, and each second what the
//! users saw.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use sluice_loadtest::clock::Clock;
use sluice_loadtest::driver::Collected;
use sluice_loadtest::plan::{Action, Leg, Plan, Timeline};
use sluice_loadtest::results::{Ended, Objective, Verdict};
use sluice_loadtest::run::{JoinCounts, Recorder, Second};
use sluice_loadtest::scenario::{FaultAction, Overrides, Scenario, ScenarioFile};
use sluice_loadtest::tally::Tally;
use sluice_loadtest::transport::{Certificate, Input, TransportConfig};
use sluice_loadtest::verdict::{self, Measured};
use sluice_mesh::wan::ImpairmentConfig;

use super::negotiation::Negotiation;
use super::rooms::Rooms;
use super::users::{Lane, Seat};
use crate::mesh::{Mesh, UserEvent};

/// Room for frames in a datagram of a pipe: a packet of video, whole, as in the datagrams that QUIC begins with.
const MAX_PIPE_DATAGRAM: usize = 1200;

/// Until the other nodes know that one is dead: placement's time.
const DEATH: Duration = Duration::from_millis(1600);

const SECOND: Duration = Duration::from_secs(1);

/// What happens besides what the mesh does by itself.
pub(super) enum Happening {
    /// Steps of the plan are due.
    Step,
    /// It is time to look at everything.
    Second,
    /// A session has something to do.
    LaneTimeout { address: SocketAddr },
    /// A user tries to join, again.
    Join { user: usize },
    /// A node hears from another what there is in the rooms that both are in.
    Hear { node: usize, from: usize },
    /// The other nodes notice that one is gone.
    Death { node: usize },
}

pub(super) struct Run {
    pub(super) scenario: Scenario,
    pub(super) plan: Arc<Plan>,
    pub(super) mesh: Mesh<Happening>,
    pub(super) recorder: Recorder,
    /// By the user's number in the plan.
    pub(super) seats: Vec<Seat>,
    /// By the user's address.
    pub(super) lanes: BTreeMap<SocketAddr, Lane>,
    pub(super) rooms: Rooms,
    pub(super) negotiation: Negotiation,
    pub(super) clock: Clock,
    pub(super) transport: TransportConfig,
    pub(super) next_port: u16,
    pub(super) joins: JoinCounts,
    /// What those saw who left in this second, by group.
    pub(super) tallies: BTreeMap<usize, Tally>,
    timeline: Timeline,
    legs: BTreeMap<Leg, ImpairmentConfig>,
    cut: BTreeSet<(usize, usize)>,
    /// Nodes that died and are not known to have.
    dying: BTreeSet<usize>,
}

impl Run {
    /// A shipped scenario at another size, at its beginning.
    pub(super) fn new(name: &str, overrides: Overrides) -> Self {
        let seed = crate::seeds::number("SLUICE_SEED").or(overrides.seed);
        let file = ScenarioFile::open(name).expect("it is shipped");
        let scenario = file.with(&Overrides { seed, ..overrides }).expect("it fits together");
        // DTLS draws randomness of its own: the same seed is the same plan and the same luck, but not the same bytes.
        eprintln!("{name}: SLUICE_SEED={}", scenario.seed);
        let plan = Arc::new(Plan::new(&scenario));
        let mut mesh = Mesh::new(scenario.seed, plan.nodes.len(), ImpairmentConfig::default(), MAX_PIPE_DATAGRAM);
        mesh.schedule(Duration::ZERO, Happening::Step);
        mesh.schedule(SECOND, Happening::Second);
        let certificate = Certificate::generate().expect("a certificate can be made");
        Self {
            recorder: Recorder::new(plan.groups.clone()),
            seats: plan.users.iter().map(|_| Seat::default()).collect(),
            lanes: BTreeMap::new(),
            rooms: Rooms::new(plan.nodes.len()),
            negotiation: Negotiation::new(),
            clock: Clock::new(mesh.instant(), Duration::from_secs(1_700_000_000)),
            transport: TransportConfig::new(certificate),
            next_port: 10_000,
            joins: JoinCounts::default(),
            tallies: BTreeMap::new(),
            timeline: plan.timeline(),
            legs: BTreeMap::new(),
            cut: BTreeSet::new(),
            dying: BTreeSet::new(),
            scenario,
            plan,
            mesh,
        }
    }

    /// Lets time pass.
    pub(super) fn run_until(&mut self, end: Duration) {
        while let Some(event) = self.mesh.next(end) {
            match event {
                UserEvent::Datagram { address, mut data } => {
                    self.drive(address, |session, now| session.handle_input(now, Input::Datagram(&mut data)));
                }
                UserEvent::Own(Happening::Step) => self.step(),
                UserEvent::Own(Happening::Second) => self.second(),
                UserEvent::Own(Happening::LaneTimeout { address }) => self.on_lane_timeout(address),
                UserEvent::Own(Happening::Join { user }) => self.join(user),
                UserEvent::Own(Happening::Hear { node, from }) => self.hear(node, from),
                UserEvent::Own(Happening::Death { node }) => self.notice_death(node),
            }
        }
    }

    /// Holds what was recorded against the scenario's objectives.
    pub(super) fn judge(&self) -> (Vec<Objective>, Verdict) {
        let generator = verdict::generator_totals(self.recorder.samples(), &self.scenario.generator, 1);
        let measured = Measured {
            ended: &Ended::Completed,
            ramp: self.scenario.ramp,
            samples: self.recorder.samples(),
            steady: &self.recorder.steady_of_all(),
            joins: &self.recorder.joins(),
            generator: &generator,
        };
        verdict::judge(&self.scenario.slo, &measured)
    }

    /// What a leg is like now.
    pub(super) fn path(&self, leg: Leg) -> ImpairmentConfig {
        let mut config = self.legs.get(&leg).copied().unwrap_or_default();
        config.blackout |= matches!(leg, Leg::Nodes { from, to } if self.cut.contains(&(from, to)));
        config
    }

    fn step(&mut self) {
        while let Some(step) = self.timeline.poll(self.mesh.now) {
            match step.action {
                Action::Join(user) => {
                    self.seats[user].wanted = true;
                    self.join(user);
                }
                Action::Leave(user) => self.leave(user),
                Action::Path { leg, config } => {
                    self.legs.insert(leg, config);
                    self.apply_path(leg);
                }
                Action::Fault(fault) => self.inflict(&fault),
            }
        }
        if let Some(at) = self.timeline.next_at() {
            self.mesh.schedule(at, Happening::Step);
        }
    }

    fn apply_path(&mut self, leg: Leg) {
        let config = self.path(leg);
        match leg {
            Leg::Nodes { from, to } => {
                self.mesh.pipes.entry((from, to)).and_modify(|pipe| pipe.set_config(config));
            }
            Leg::Up(node) => self.mesh.access_of(node).for_each(|access| access.up.set_config(config)),
            Leg::Down(node) => self.mesh.access_of(node).for_each(|access| access.down.set_config(config)),
        }
    }

    fn inflict(&mut self, fault: &FaultAction) {
        match fault {
            FaultAction::Stop(region) => self.nodes_of(region).into_iter().for_each(|node| self.kill(node)),
            FaultAction::Start(region) => {
                for node in self.nodes_of(region) {
                    // Whoever did not notice that it was gone does now.
                    self.notice_death(node);
                    self.mesh.start(node);
                }
            }
            FaultAction::Cut(a, b) => {
                for (from, to) in self.pipes_of(a, b) {
                    self.cut.insert((from, to));
                    self.apply_path(Leg::Nodes { from, to });
                }
            }
            FaultAction::Heal(a, b) => {
                for (from, to) in self.pipes_of(a, b) {
                    self.cut.remove(&(from, to));
                    self.apply_path(Leg::Nodes { from, to });
                }
                self.pipes_of(a, b).into_iter().for_each(|(from, to)| self.come_together(from, to));
            }
        }
    }

    fn nodes_of(&self, region: &str) -> Vec<usize> {
        let nodes = self.plan.nodes.iter().enumerate();
        nodes.filter(|(_, node)| node.region == region).map(|(index, _)| index).collect()
    }

    /// By sender and receiver, both directions.
    fn pipes_of(&self, a: &str, b: &str) -> Vec<(usize, usize)> {
        let (a, b) = (self.nodes_of(a), self.nodes_of(b));
        a.iter().flat_map(|a| b.iter().flat_map(move |b| [(*a, *b), (*b, *a)])).collect()
    }

    fn kill(&mut self, node: usize) {
        self.mesh.kill(node);
        self.dying.insert(node);
        self.mesh.schedule(self.mesh.now + DEATH, Happening::Death { node });
        for user in 0..self.seats.len() {
            if self.plan.users[user].node == node && self.end_sessions(user).is_some() {
                // Signalling's connection breaks with the process.
                self.try_again(user);
            }
        }
        self.rooms.forget_node(node);
    }

    fn notice_death(&mut self, node: usize) {
        if !self.dying.remove(&node) {
            return;
        }
        self.mesh.end_routes_to(node);
        self.rooms.producers.retain(|_, producer| producer.source.home != node);
        for other in (0..self.mesh.len()).filter(|other| *other != node) {
            self.hear(other, node);
        }
    }

    /// Two nodes reach each other again: one hears of the other, and says anew what it wants.
    fn come_together(&mut self, from: usize, to: usize) {
        self.tell(from, to);
        let routes = self.mesh.routes.iter().filter(|((_, node), route)| *node == to && route.home == from);
        let wanted: Vec<_> = routes.map(|((producer, _), _)| *producer).collect();
        wanted.into_iter().for_each(|producer| self.mesh.open_route_anew(producer, to));
    }

    fn second(&mut self) {
        let (at, now) = (self.mesh.now, self.mesh.instant());
        for lane in self.lanes.values_mut() {
            let tally = lane.session.tally(now);
            self.tallies.entry(self.plan.users[lane.user].group).or_default().merge(&tally);
        }
        let collected = Collected { tallies: std::mem::take(&mut self.tallies), ..Collected::default() };
        self.recorder.add(Second {
            at,
            interval: SECOND,
            steady: at - SECOND >= self.scenario.ramp,
            users_wanted: self.timeline.users_wanted(),
            users_joined: self.seats.iter().filter(|seat| seat.has_joined()).count() as u32,
            joins: std::mem::take(&mut self.joins),
            collected,
            nodes: self.plan.nodes.iter().map(|_| None).collect(),
            cpu: Duration::ZERO,
        });
        if at < self.plan.end {
            self.mesh.schedule(at + SECOND, Happening::Second);
        }
    }

    /// Everybody leaves.
    pub(super) fn disperse(&mut self) {
        (0..self.seats.len()).for_each(|user| self.leave(user));
        self.run_until(self.mesh.now + SECOND);
    }

    pub(super) fn draw<T>(&mut self) -> T
    where
        rand::distr::StandardUniform: rand::distr::Distribution<T>,
    {
        self.mesh.rng.random()
    }
}
