//! What must be true of a run. Virtual time makes that exact: nothing takes longer than the paths.

use std::time::Duration;

use sluice_loadtest::plan::Leg;
use sluice_loadtest::results::Verdict;
use sluice_loadtest::scenario::Watch;
use sluice_mesh::wan::{ImpairmentConfig, Loss};

use super::run::Run;

/// Relative error of loadtest's histograms.
const PRECISION: f64 = 1.0 / 32.0;

/// A stream that somebody is to receive, by numbers of users in the plan.
struct Stream {
    sender: usize,
    receiver: usize,
    is_video: bool,
}

impl Run {
    /// What is sent by those and watched by those who should be in their rooms now.
    fn streams(&self) -> Vec<Stream> {
        let users = &self.plan.users;
        let wanted = || (0..users.len()).filter(|user| self.seats[*user].wanted);
        let mut streams = Vec::new();
        for (sender, receiver) in wanted().flat_map(|sender| wanted().map(move |receiver| (sender, receiver))) {
            let (from, to) = (&users[sender], &users[receiver]);
            if sender == receiver || from.room != to.room {
                continue;
            }
            let kinds =
                [(from.kind.audio.is_some(), to.kind.watch_audio), (from.kind.video.is_some(), to.kind.watch_video)];
            for (is_video, (sends, watch)) in [false, true].into_iter().zip(kinds) {
                assert!(!matches!(watch, Watch::First(_)), "no shipped scenario has it");
                if sends && watch == Watch::All {
                    streams.push(Stream { sender, receiver, is_video });
                }
            }
        }
        streams
    }

    /// The legs of a stream's way, as the scenario has them from the start.
    fn way(&self, stream: &Stream) -> Vec<ImpairmentConfig> {
        let (from, to) = (self.plan.users[stream.sender].node, self.plan.users[stream.receiver].node);
        let legs = [Leg::Up(from), Leg::Nodes { from, to }, Leg::Down(to)];
        let said = legs.iter().filter_map(|leg| self.plan.paths.get(leg)?.first());
        said.map(|step| step.config).collect()
    }

    pub(super) fn expect_everybody_joined(&self) {
        let joins = self.recorder.joins();
        assert_eq!((joins.succeeded, joins.failures()), (joins.attempted, 0));
        assert!(self.seats.iter().all(|seat| seat.wanted == seat.has_joined()));
    }

    /// Everybody has every stream that they should have, from a key frame or first packet on, and no other.
    pub(super) fn expect_everybody_receives(&mut self) {
        let streams = self.streams();
        for user in 0..self.seats.len() {
            let expected = |is_video| streams.iter().filter(|s| s.receiver == user && s.is_video == is_video).count();
            let Some((address, _)) = self.seats[user].present.as_ref().and_then(|present| present.receiving) else {
                assert_eq!(expected(false) + expected(true), 0, "user {user} has no connection to receive by");
                continue;
            };
            let session = &mut self.lanes.get_mut(&address).expect("it is connected").session;
            let mut received = [0, 0];
            for (ssrc, stats) in session.stream_stats() {
                let is_video = session.stream_mut(ssrc).is_some_and(|stream| stream.parameters().codec.is_video());
                received[usize::from(is_video)] += 1;
                assert!(stats.time_to_first_frame.is_some(), "user {user}: {stats:?}");
                assert!(stats.packets > 0 && stats.frames > 0, "user {user}: {stats:?}");
                assert!(!is_video || stats.key_frames > 0, "user {user}: {stats:?}");
            }
            assert_eq!(received, [expected(false), expected(true)], "streams of audio and video of user {user}");
            assert_eq!(session.stats().unknown_ssrc, 0, "user {user} gets what it was not told of");
        }
        let last = self.recorder.samples().last().expect("the run has begun");
        let counted: u32 = last.groups.iter().map(|group| group.audio.streams + group.video.streams).sum();
        assert_eq!(counted as usize, streams.len());
    }

    /// One-way delay is what the legs add up to, and nothing on top for most packets.
    pub(super) fn expect_delays(&self) {
        let steady = self.recorder.steady_of_all();
        let is_video = steady.video.delay.count() > 0;
        let streams = self.streams();
        let of_kind = streams.iter().filter(|stream| stream.is_video == is_video);
        let mut expected: Vec<Duration> =
            of_kind.map(|stream| self.way(stream).iter().map(|leg| leg.delay).sum()).collect();
        expected.sort();
        let delay = if is_video { &steady.video.delay } else { &steady.audio.delay };
        for quantile in [0.1, 0.5] {
            let least = expected[(expected.len() as f64 * quantile) as usize];
            let measured = delay.quantile(quantile).expect("something was received");
            let most = least.mul_f64(1.0 + PRECISION) + Duration::from_millis(3);
            assert!((least..=most).contains(&measured), "{quantile}: {measured:?} is not {least:?}");
        }
    }

    /// Before repair what the legs lose is missing, and after it nothing of video. Audio is not sent again to users,
    /// only to and between nodes.
    pub(super) fn expect_losses(&self) {
        let steady = self.recorder.steady_of_all();
        let (audio, video) = (&steady.audio.sums, &steady.video.sums);
        let streams = self.streams();
        let arrives = |leg: &ImpairmentConfig| 1.0 - loss(leg);
        let lost_on_the_way = |stream| 1.0 - self.way(stream).iter().map(arrives).product::<f64>();
        let expected = streams.iter().map(lost_on_the_way).sum::<f64>() / streams.len() as f64;
        if expected == 0.0 {
            assert_eq!([audio.missing, video.missing, audio.lost, video.lost, audio.nacked, video.nacked], [0; 6]);
            return;
        }
        let missing = (audio.missing + video.missing) as f64 / (audio.expected + video.expected) as f64;
        assert!((0.6..1.5).contains(&(missing / expected)), "{missing} is missing, {expected} is lost on the way");
        assert!(video.lost as f64 <= video.expected as f64 * 0.0002, "of {} {} are lost", video.expected, video.lost);
        let downs = streams.iter().filter_map(|stream| self.way(stream).last().map(loss));
        let down = downs.sum::<f64>() / streams.len() as f64;
        let lost = audio.lost as f64 / audio.expected as f64;
        assert!(lost < down * 2.0, "{lost} of audio is lost, {down} between nodes and users");
    }

    pub(super) fn expect_passed(&self) {
        let (objectives, verdict) = self.judge();
        assert_eq!(verdict, Verdict::Passed, "{objectives:#?}");
    }

    /// The cores have what those who are there need and nothing else.
    pub(super) fn expect_nothing_superfluous(&mut self) {
        for node in 0..self.mesh.len() {
            let present = self.seats.iter().zip(&self.plan.users).filter(|(_, user)| user.node == node);
            let present: Vec<_> = present.filter_map(|(seat, _)| seat.present.as_ref()).collect();
            let transports =
                present.iter().map(|user| user.sending.iter().chain(&user.receiving).count()).sum::<usize>();
            let producers = present.iter().map(|user| user.productions.len()).sum::<usize>();
            let consumers = present.iter().map(|user| user.receptions.len()).sum::<usize>();
            let routes = &self.mesh.routes;
            let routes_in = routes.keys().filter(|(_, to)| *to == node).count();
            let routes_out = routes.values().filter(|route| route.home == node).count();
            let rooms = self.rooms.routers[node].len();
            let expected = [rooms, transports, transports, producers, consumers, routes_in, routes_out];

            let snapshot = self.mesh.snapshot(node);
            let there = [
                snapshot.routers,
                snapshot.transports,
                snapshot.transports_connected,
                snapshot.producers,
                snapshot.consumers,
                snapshot.pipe_producers,
                snapshot.pipe_consumers,
            ];
            assert_eq!(there, expected.map(|count| count as u64), "node {node} at {:?}", self.mesh.now);
        }
        assert_eq!(self.mesh.routes.len(), self.routes_needed());
    }

    /// One for each producer and each other node on which somebody receives it.
    fn routes_needed(&self) -> usize {
        let node = |user: usize| self.plan.users[user].node;
        let streams = self.streams();
        let crossing = streams.iter().filter(|stream| node(stream.sender) != node(stream.receiver));
        let mut routes: Vec<_> = crossing.map(|s| (s.sender, s.is_video, node(s.receiver))).collect();
        routes.sort_unstable();
        routes.dedup();
        routes.len()
    }

    /// Everybody leaves, and the cores are as they were made.
    pub(super) fn expect_nothing_left(&mut self) {
        self.disperse();
        assert!(self.seats.iter().all(|seat| seat.present.is_none()) && self.lanes.is_empty());
        assert!(self.rooms.producers.is_empty() && self.rooms.routers.iter().all(|rooms| rooms.is_empty()));
        self.expect_nothing_superfluous();
    }
}

fn loss(leg: &ImpairmentConfig) -> f64 {
    match leg.loss {
        Loss::None => 0.0,
        Loss::Random(share) => share,
        Loss::GilbertElliott { .. } => panic!("no shipped scenario has it"),
    }
}
