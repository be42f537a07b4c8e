//! The users of a run: loadtest's own sessions, which this drives as a driver with sockets would.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_loadtest::media::Source as MediaSource;
use sluice_loadtest::plan::Leg;
use sluice_loadtest::scenario::Users;
use sluice_loadtest::session::Session;
use sluice_loadtest::transport::{IceCredentials as ClientIce, Input, Protocol, RemoteParameters, TransportState};
use sluice_media::make_ufrag;
use sluice_media::messages::{Request, WorkerIndex};
use sluice_media::secure::ice::IceCredentials;
use sluice_proto::ids::{ProducerId, RouterId, TransportId};
use sluice_proto::ortc::MediaKind;

use super::negotiation::{dtls_parameters, fingerprints};
use super::rooms::Producer;
use super::run::{Happening, Run};
use crate::mesh::Source;

/// Pauses between attempts to join: a run's on real time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A user's place, whether they are there or not.
pub(super) struct Seat {
    /// The plan says that they are in their room.
    pub(super) wanted: bool,
    pub(super) present: Option<Present>,
    pause: Duration,
}

/// A user who is connected, or about to be.
pub(super) struct Present {
    /// Address and transport.
    pub(super) sending: Option<(SocketAddr, TransportId)>,
    pub(super) receiving: Option<(SocketAddr, TransportId)>,
    pub(super) productions: Vec<ProducerId>,
    pub(super) receptions: BTreeMap<ProducerId, Reception>,
    since: Duration,
    joined: bool,
    next_mid: u32,
    next_ssrc: u32,
    rng: ChaCha8Rng,
}

/// A stream that a user was told of.
pub(super) struct Reception {
    pub(super) ssrc: u32,
    pub(super) kind: MediaKind,
}

/// One of a user's transports.
pub(super) struct Lane {
    pub(super) session: Session,
    /// Number in the plan.
    pub(super) user: usize,
    timeout: Option<Duration>,
}

impl Default for Seat {
    fn default() -> Self {
        Self { wanted: false, present: None, pause: FIRST_PAUSE }
    }
}

impl Seat {
    pub(super) fn has_joined(&self) -> bool {
        self.present.as_ref().is_some_and(|present| present.joined)
    }
}

impl Present {
    fn lanes(&self) -> impl Iterator<Item = (SocketAddr, TransportId)> {
        self.sending.into_iter().chain(self.receiving)
    }

    /// MID and SSRC of the next stream that the user is told of; the number after it is free for RTX.
    pub(super) fn next_stream(&mut self) -> (u32, u32) {
        self.next_mid += 1;
        self.next_ssrc = self.next_ssrc.wrapping_add(2).max(1);
        (self.next_mid, self.next_ssrc)
    }
}

impl Run {
    /// A user sets out to join, if they are to and have not.
    pub(super) fn join(&mut self, user: usize) {
        if !self.seats[user].wanted || self.seats[user].present.is_some() {
            return;
        }
        self.joins.attempted += 1;
        let plan = self.plan.clone();
        let planned = &plan.users[user];
        if !self.mesh.is_running(planned.node) {
            *self.joins.failed.entry("the node is down".to_owned()).or_default() += 1;
            return self.try_again(user);
        }
        let router = self.enter(planned.node, &planned.room);
        let mut rng = ChaCha8Rng::seed_from_u64(planned.seed);
        let sending = planned.kind.sends().then(|| self.connect(user, router, rng.random()));
        let receiving = planned.kind.watches().then(|| self.connect(user, router, rng.random()));
        self.seats[user].present = Some(Present {
            sending,
            receiving,
            productions: Vec::new(),
            receptions: BTreeMap::new(),
            since: self.mesh.now,
            joined: false,
            next_mid: 0,
            next_ssrc: rng.random(),
            rng,
        });
        self.offer_everything(user);
    }

    pub(super) fn try_again(&mut self, user: usize) {
        let seat = &mut self.seats[user];
        self.mesh.schedule(self.mesh.now + seat.pause, Happening::Join { user });
        seat.pause = (seat.pause * 2).min(LONGEST_PAUSE);
    }

    /// Makes a transport on the user's node and a session to it.
    fn connect(&mut self, user: usize, router: RouterId, seed: u64) -> (SocketAddr, TransportId) {
        let node = self.plan.users[user].node;
        let address = SocketAddr::from(([10, 0, 0, 1], self.next_port));
        self.next_port += 1;
        self.mesh.connect(address, node, self.path(Leg::Up(node)), self.path(Leg::Down(node)));
        let transport = TransportId::from_random_bytes(self.draw());
        let ufrag = make_ufrag(WorkerIndex(0), &format!("{:016x}", self.draw::<u64>()));
        let pwd = format!("{:032x}", self.draw::<u128>());
        let ice = IceCredentials { ufrag: ufrag.clone(), pwd: pwd.clone() };
        let request = Request::CreateWebRtcTransport { router, transport, ice, data_channels: true };
        self.mesh.request(node, request).expect("a new transport");
        let dtls = dtls_parameters(&self.transport);
        self.mesh.request(node, Request::ConnectWebRtcTransport { transport, dtls }).expect("it is not connected yet");

        let candidate = SocketAddr::from(([10, 1, 0, node as u8], 4444));
        let remote = RemoteParameters {
            ice: ClientIce { ufrag, pwd },
            candidate,
            protocol: Protocol::Udp,
            fingerprints: fingerprints(),
            sctp: None,
        };
        let session = Session::new(self.mesh.instant(), self.clock, &self.transport, remote, seed);
        let session = session.expect("the certificate is good");
        self.lanes.insert(address, Lane { session, user, timeout: None });
        self.drive(address, |_, _| ());
        (address, transport)
    }

    /// Does something with a session, and then what it asks for.
    pub(super) fn drive<R>(&mut self, address: SocketAddr, act: impl FnOnce(&mut Session, Instant) -> R) {
        let Some(lane) = self.lanes.get_mut(&address) else { return };
        act(&mut lane.session, self.mesh.instant());
        while let Some(datagram) = lane.session.poll_transmit() {
            self.mesh.send(address, &datagram);
        }
        if let Some(at) = lane.session.poll_timeout() {
            let at = self.mesh.since_origin(at).max(self.mesh.now);
            if lane.timeout.is_none_or(|timeout| at < timeout) {
                lane.timeout = Some(at);
                self.mesh.schedule(at, Happening::LaneTimeout { address });
            }
        }
        let user = lane.user;
        for state in lane.session.poll_states() {
            match state {
                TransportState::Connecting => {}
                TransportState::Connected(_) => self.on_connected(user, address),
                over => panic!("the session of user {user} is over: {over:?}"),
            }
        }
    }

    pub(super) fn on_lane_timeout(&mut self, address: SocketAddr) {
        let Some(lane) = self.lanes.get_mut(&address).filter(|lane| lane.timeout == Some(self.mesh.now)) else {
            return;
        };
        lane.timeout = None;
        self.drive(address, |session, now| session.handle_input(now, Input::Timeout));
    }

    fn on_connected(&mut self, user: usize, address: SocketAddr) {
        let Some(present) = &self.seats[user].present else { return };
        if let Some((sending, transport)) = present.sending
            && sending == address
        {
            self.produce(user, sending, transport);
        }
        let Self { seats, lanes, joins, mesh, .. } = self;
        let Some(present) = &mut seats[user].present else { return };
        let is_connected = |(address, _)| {
            lanes
                .get(&address)
                .is_some_and(|lane| matches!(lane.session.transport().state(), TransportState::Connected(_)))
        };
        if !present.joined && present.lanes().all(is_connected) {
            present.joined = true;
            joins.times.record(mesh.now - present.since);
            seats[user].pause = FIRST_PAUSE;
        }
    }

    /// Begins to send all that the user sends.
    fn produce(&mut self, user: usize, address: SocketAddr, transport: TransportId) {
        let plan = self.plan.clone();
        let planned = &plan.users[user];
        for encodings in sources(&planned.kind) {
            let Some(present) = &mut self.seats[user].present else { return };
            let codec = encodings[0].codec();
            let production = self.negotiation.produce(codec, encodings.len(), &planned.peer, &mut present.rng);
            let (seed, producer) = (present.rng.random(), ProducerId::from_random_bytes(present.rng.random()));
            present.productions.push(producer);
            let (kind, home) = (production.kind, planned.node);
            let (rtp, mapping) = (production.node, production.mapping);
            let request = Request::Produce { transport, producer, kind, rtp, mapping, paused: false };
            self.mesh.request(home, request).expect("a new producer");
            let source = Source { producer, kind, rtp: production.consumable, home };
            let known = Producer { source, room: planned.room.clone(), user };
            self.rooms.producers.insert(producer, Rc::new(known));
            let parameters = production.client.to_send().expect("the parameters are whole");
            self.drive(address, |session, now| session.publish(now, parameters.into_iter().zip(encodings), seed));
        }
        self.announce(planned.node);
    }

    /// A user leaves, or gives up trying to come.
    pub(super) fn leave(&mut self, user: usize) {
        self.seats[user].wanted = false;
        let Some(present) = self.end_sessions(user) else { return };
        let plan = self.plan.clone();
        let planned = &plan.users[user];
        for (_, transport) in present.lanes() {
            self.mesh.request(planned.node, Request::CloseTransport { transport }).expect("it exists");
        }
        for producer in &present.productions {
            self.rooms.producers.remove(producer);
        }
        self.announce(planned.node);
        self.give_back(planned.node, &planned.room);
    }

    /// A user's connections are no more; what they saw is not forgotten.
    pub(super) fn end_sessions(&mut self, user: usize) -> Option<Present> {
        let present = self.seats[user].present.take()?;
        let now = self.mesh.instant();
        for (address, _) in present.lanes() {
            self.mesh.access.remove(&address);
            if let Some(mut lane) = self.lanes.remove(&address) {
                let tally = lane.session.tally(now).ended();
                self.tallies.entry(self.plan.users[user].group).or_default().merge(&tally);
            }
        }
        Some(present)
    }
}

/// The encodings of each thing that they send.
fn sources(kind: &Users) -> Vec<Vec<MediaSource>> {
    let audio = kind.audio.iter().map(|audio| MediaSource::from_audio(audio).map(|source| vec![source]));
    let video = kind.video.iter().map(MediaSource::from_video);
    audio.chain(video).map(|sources| sources.expect("shipped scenarios need no files")).collect()
}
