//! What nodes and their workers have to have, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use sluice_loadtest::signalling::ortc::Kind;
use sluice_media::messages::{Response, WorkerSnapshot};

use super::super::world::World;
use super::{AUDIO_PACKETS, ON_THE_WAY, Sent, VIDEO_PACKETS, Watched};

/// What there is in all workers of a node.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    routers: u64,
    transports: u64,
    connected: u64,
    producers: u64,
    consumers: u64,
    pipe_producers: u64,
    pipe_consumers: u64,
}

impl World {
    pub(super) async fn judge_nodes(&mut self, sent: &BTreeMap<String, Sent>, watched: &Watched) {
        for node in self.alive() {
            let counts = self.counts(node).await;
            self.judge_rooms(node, sent, &counts);
            self.judge_frames(node, sent, watched);
        }
    }

    fn judge_rooms(&self, node: usize, sent: &BTreeMap<String, Sent>, counts: &Counts) {
        let here: Vec<_> =
            self.users.iter().filter(|user| user.presence.as_ref().is_some_and(|p| p.node == node)).collect();
        let present = || here.iter().map(|user| user.presence.as_ref().unwrap());
        let rooms: BTreeSet<_> = here.iter().map(|user| user.room).collect();
        let routers: BTreeSet<_> =
            here.iter().map(|user| (user.room, user.presence.as_ref().unwrap().worker())).collect();
        let peers = here.len() as u64;
        let expected = Counts {
            // One that nobody is on may be what something enters the node by.
            routers: counts.routers,
            transports: 2 * peers,
            connected: 2 * peers,
            producers: present().map(|presence| presence.productions.len() as u64).sum(),
            consumers: present().map(|presence| presence.consumers.len() as u64).sum(),
            pipe_producers: counts.pipe_producers,
            pipe_consumers: counts.pipe_consumers,
        };
        assert_eq!(*counts, expected, "node {node}");

        let (mut branches, mut entries, mut routes_out) = (0, BTreeMap::new(), 0);
        for (id, of) in sent {
            let home = self.users[of.user].presence.as_ref().unwrap();
            let wanted = |at: usize| -> BTreeSet<usize> {
                let there = self.users.iter().filter_map(|user| user.presence.as_ref()).filter(|p| p.node == at);
                there.filter(|p| p.consumers.values().any(|c| c.producer == *id)).map(|p| p.worker()).collect()
            };
            if home.node == node {
                branches += wanted(node).iter().filter(|worker| **worker != home.worker()).count() as u64;
                routes_out +=
                    (0..self.nodes.len()).filter(|other| *other != node && !wanted(*other).is_empty()).count() as u64;
            } else if !wanted(node).is_empty() {
                entries.insert(id, wanted(node).len() as u64);
            }
        }
        let snapshot = self.nodes[node].rooms.snapshot();
        let there = (snapshot.rooms, snapshot.sessions, snapshot.peers);
        assert_eq!(there, (rooms.len() as u64, peers, peers), "node {node}");
        let pipes =
            (snapshot.routes_in, snapshot.routes_out, snapshot.subscriptions_waiting, snapshot.pipe_commands_waiting);
        assert_eq!(pipes, (entries.len() as u64, routes_out, 0, 0), "node {node}");
        // A producer that comes in where nobody wants it any more does so for the sake of its branches.
        let remote = counts.pipe_producers - branches;
        let (fewest, needless) = (entries.values().sum::<u64>(), entries.len() as u64);
        assert!((fewest..=fewest + needless).contains(&remote), "{remote} of {fewest} pipe producers at node {node}");
        assert_eq!(counts.pipe_consumers, routes_out + branches + remote - entries.len() as u64, "node {node}");
        let (fewest, of_all) = (routers.len() as u64, (rooms.len() * self.nodes[node].worker_count()) as u64);
        let most = if entries.is_empty() { fewest } else { of_all };
        assert!((fewest..=most).contains(&counts.routers), "{counts:?} at node {node}, peers are on {routers:?}");
    }

    /// One copy of what somebody at a node receives comes to it from elsewhere, even if they do not want it for the
    /// time being.
    fn judge_frames(&self, node: usize, sent: &BTreeMap<String, Sent>, watched: &Watched) {
        let (mut least, mut most) = (0, 0);
        for (id, of) in sent.iter().filter(|(_, of)| !of.paused) {
            let home = self.users[of.user].presence.as_ref().unwrap().node;
            let there = self.users.iter().filter_map(|user| user.presence.as_ref()).filter(|p| p.node == node);
            let is_wanted = there.flat_map(|p| p.consumers.values()).any(|c| c.producer == *id);
            if home != node && is_wanted {
                let a_second = if of.kind == Kind::Audio { AUDIO_PACKETS } else { VIDEO_PACKETS };
                let packets = a_second * watched.time.as_millis() as u32 / 1_000;
                least += packets - ON_THE_WAY;
                most += packets * 3 / 2 + ON_THE_WAY;
            }
        }
        let (now, before) = (self.net.received(node), watched.frames[node]);
        assert_eq!(now.unknown, before.unknown, "frames that nobody wants came to node {node}");
        let frames = (now.frames - before.frames) as u32;
        assert!((least..=most).contains(&frames), "{frames} of {least} to {most} frames came to node {node}");
    }

    /// Nothing is left of anybody.
    pub(in super::super) async fn judge_emptiness(&mut self) {
        for node in self.alive() {
            assert_eq!(self.counts(node).await, Counts::default(), "node {node}");
            let snapshot = self.nodes[node].rooms.snapshot();
            assert_eq!((snapshot.rooms, snapshot.sessions, snapshot.peers), (0, 0, 0), "node {node}");
            let pipes = (snapshot.routes_in, snapshot.routes_out, snapshot.subscriptions_waiting);
            assert_eq!((pipes, snapshot.pipe_commands_waiting), ((0, 0, 0), 0), "node {node}");
            assert_eq!(self.net.routes(node), (0, 0), "routes in and out of node {node}");
        }
        assert!(self.rosters.is_empty());
    }

    async fn counts(&mut self, node: usize) -> Counts {
        let answers = self.nodes[node].ask_snapshots();
        self.step().await;
        let mut counts = Counts::default();
        for answer in answers {
            let Ok(Response::Snapshot(snapshot)) = answer.await else { panic!("no snapshot") };
            let WorkerSnapshot { routers, transports, transports_connected, producers, consumers, .. } = *snapshot;
            counts.routers += routers;
            counts.transports += transports;
            counts.connected += transports_connected;
            counts.producers += producers;
            counts.consumers += consumers;
            counts.pipe_producers += snapshot.pipe_producers;
            counts.pipe_consumers += snapshot.pipe_consumers;
        }
        counts
    }
}
