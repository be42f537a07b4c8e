//! What must be true in the end.

mod nodes;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sluice_loadtest::signalling::ortc::Kind;

use super::lane::Heard;
use super::presence::{Presence, RECEIVING, name};
use super::world::World;
use crate::tests::net::Received;

/// On paths that nothing is wrong with, 5 ms to and from users and 20 ms between nodes, and some steps of the
/// simulation.
const MAX_AGE: Duration = Duration::from_millis(60);

/// Packets of audio in a second, and of video's two in a frame each 100 ms.
const AUDIO_PACKETS: u32 = 50;
const VIDEO_PACKETS: u32 = 20;

/// Packets that are on their way when a look begins or ends.
const ON_THE_WAY: u32 = 6;

/// What everybody hears over some time.
pub(super) struct Watched {
    time: Duration,
    /// By user and the consumer's id.
    heard: BTreeMap<(usize, String), Vec<Heard>>,
    /// Packets that nobody told their user of, by user.
    unknown: Vec<u64>,
    /// By node.
    frames: Vec<Received>,
}

/// Something that is sent, as its publisher has it.
pub(super) struct Sent {
    pub(super) user: usize,
    pub(super) kind: Kind,
    pub(super) paused: bool,
}

impl World {
    /// Looks for a while at what everybody hears.
    pub(super) async fn watch(&mut self, time: Duration) {
        let (unknown, frames) = (self.unknown(), self.frames());
        self.watched = Some(Watched { time, heard: BTreeMap::new(), unknown, frames });
        self.run(time, false).await;
    }

    /// What has come to a user since the last step is that of whom it is said to be, whatever happens to the network.
    pub(super) fn listen(&mut self, number: usize) {
        let Some(Presence { lanes, consumers, .. }) = &mut self.users[number].presence else { return };
        let Some(lane) = &mut lanes[RECEIVING] else { return };
        for (ssrc, heard) in lane.take_heard() {
            let Some((id, consumer)) = consumers.iter().find(|(_, consumer)| consumer.ssrc == ssrc) else { continue };
            for packet in &heard {
                assert_eq!(
                    name(packet.stamp.origin),
                    consumer.peer,
                    "user {number} hears somebody else by {consumer:?}"
                );
            }
            if let Some(watched) = &mut self.watched {
                watched.heard.entry((number, id.clone())).or_default().extend(heard);
            }
        }
    }

    /// Everybody has what the others in their room send, each once, and nothing else; and so have the nodes.
    pub(super) async fn judge(&mut self) {
        let watched = self.watched.take().expect("it has been watched");
        let sent = self.sent();
        for number in 0..self.users.len() {
            let Some(presence) = &self.users[number].presence else { continue };
            self.judge_presence(number, presence);
            self.judge_consumers(number, presence, &sent);
            for (id, consumer) in &presence.consumers {
                let heard = watched.heard.get(&(number, id.clone())).map_or(&[][..], Vec::as_slice);
                let who = format!("user {number} by {consumer:?}");
                if consumer.producer_paused || consumer.paused {
                    assert!(heard.is_empty(), "{who} hears {heard:?}");
                } else {
                    self.judge_stream(heard, consumer.kind, watched.time, &who);
                }
            }
        }
        assert_eq!(self.unknown(), watched.unknown, "somebody hears what nobody told them of");
        self.judge_nodes(&sent, &watched).await;
    }

    fn judge_presence(&self, number: usize, presence: &Presence) {
        assert_eq!(presence.unsettled(), None, "user {number}");
        let room = self.users[number].room;
        let others = self
            .users
            .iter()
            .enumerate()
            .filter(|(other, user)| *other != number && user.room == room && user.presence.is_some());
        let others: BTreeSet<String> = others.map(|(other, _)| name(other as u32)).collect();
        assert_eq!(presence.peers, others, "whom user {number} sees");
    }

    fn judge_consumers(&self, number: usize, presence: &Presence, sent: &BTreeMap<String, Sent>) {
        let room = self.users[number].room;
        let expected = sent.iter().filter(|(_, sent)| sent.user != number && self.users[sent.user].room == room);
        let expected: BTreeMap<_, _> =
            expected.map(|(id, sent)| (id.clone(), (name(sent.user as u32), sent.kind, sent.paused))).collect();
        let consumers = presence.consumers.values();
        let received: BTreeMap<_, _> = consumers
            .map(|consumer| {
                (consumer.producer.clone(), (consumer.peer.clone(), consumer.kind, consumer.producer_paused))
            })
            .collect();
        assert_eq!(received, expected, "what user {number} receives");
        assert_eq!(presence.consumers.len(), expected.len(), "what user {number} receives, each once");
    }

    /// All of it, in order, each packet once, and soon.
    fn judge_stream(&self, heard: &[Heard], kind: Kind, time: Duration, who: &str) {
        let a_second = if kind == Kind::Audio { AUDIO_PACKETS } else { VIDEO_PACKETS };
        let expected = a_second * time.as_millis() as u32 / 1_000;
        let count = heard.len() as u32;
        // A key frame that somebody asks for has more packets.
        let most = if kind == Kind::Audio { expected } else { expected * 3 / 2 } + ON_THE_WAY;
        assert!((expected - ON_THE_WAY..=most).contains(&count), "{who} hears {count} of {expected} packets");
        for packet in heard {
            assert!(!packet.again, "{who}: nothing has to be sent again: {packet:?}");
            let sent = Duration::from_nanos(packet.stamp.unix_ns);
            let age = self.access.clock.unix(packet.at.into_std()) - sent;
            assert!(age <= MAX_AGE, "{who} hears what was sent {age:?} ago");
        }
        for pair in heard.windows(2) {
            let step = pair[1].sequence_number.wrapping_sub(pair[0].sequence_number);
            assert_eq!(step, 1, "{who}: {:?} follows {:?}", pair[1], pair[0]);
            assert!(pair[0].stamp.unix_ns <= pair[1].stamp.unix_ns, "{who}: {pair:?}");
        }
    }

    /// What is sent by those who are there, by the producer's id.
    pub(super) fn sent(&self) -> BTreeMap<String, Sent> {
        let mut sent = BTreeMap::new();
        for (user, presence) in self.users.iter().enumerate().filter_map(|(n, user)| Some((n, user.presence.as_ref()?)))
        {
            for production in &presence.productions {
                let id = production.id.clone().expect("it has been answered");
                sent.insert(id, Sent { user, kind: production.kind, paused: production.paused });
            }
        }
        sent
    }

    fn unknown(&self) -> Vec<u64> {
        let unknown =
            |presence: &Presence| presence.lanes[RECEIVING].as_ref().map(|lane| lane.session.stats().unknown_ssrc);
        self.users.iter().map(|user| user.presence.as_ref().and_then(unknown).unwrap_or_default()).collect()
    }

    fn frames(&self) -> Vec<Received> {
        (0..self.nodes.len()).map(|node| self.net.received(node)).collect()
    }
}
