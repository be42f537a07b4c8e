//! What a node's rooms look like from outside: `/v1/rooms` and metrics.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::Serialize;
use sluice_proto::ids::{NodeId, PeerId, ProducerId, Region, RoomKey};
use sluice_proto::ortc::MediaKind;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Rooms;
use super::context::RoomSender;
use super::elsewhere::RemotePeer;
use super::media::Producer;
use super::peer::Peer;
use super::room::{Room, RoomMessage};
use crate::pipes::Home;
use crate::support::lock;

/// How long a room may take to describe itself; one that does not is left out.
const OVERVIEW_WITHIN: Duration = Duration::from_secs(1);

/// Rooms that are told of at a time, and peers, but for those of the last room: some 3 MB of JSON.
const ROOMS_PER_PAGE: usize = 100;
const PEERS_PER_PAGE: usize = 10_000;

/// Rooms that are asked at a time.
const ASKED_AT_ONCE: usize = 16;

/// What `/v1/rooms` shows.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RoomsOverview {
    /// This node.
    pub node: NodeId,
    /// Its region.
    pub region: Region,
    /// The rooms that have a peer on this node, in the order of their names.
    pub rooms: Vec<RoomOverview>,
    /// After which room to go on, if there are more.
    pub next: Option<String>,
}

/// A room as this node knows it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RoomOverview {
    /// Namespace and name.
    #[serde(flatten)]
    pub key: RoomKey,
    /// Everybody in it, wherever they are.
    pub peers: Vec<PeerOverview>,
}

/// A peer and where it lives.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerOverview {
    /// Its id.
    pub id: PeerId,
    /// Its name.
    pub display_name: String,
    /// The node that holds its transports.
    pub node: NodeId,
    /// That node's region, when known.
    pub region: Option<Region>,
    /// Whether it has joined, or only opened its WebSocket.
    pub joined: bool,
    /// What it sends.
    pub producers: Vec<ProducerOverview>,
    /// How many consumers it has; only of peers of this node.
    pub consumers: Option<usize>,
}

/// A producer.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProducerOverview {
    /// Its id, the same on every node.
    pub id: ProducerId,
    /// Audio or video.
    pub kind: MediaKind,
    /// Paused by its peer.
    pub paused: bool,
    /// The worker that it lives on; only of producers of this node.
    pub worker: Option<u16>,
}

/// Counters since the start and gauges.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RoomsSnapshot {
    /// Open rooms.
    pub rooms: u64,
    /// Open WebSockets.
    pub sessions: u64,
    /// Peers that have joined.
    pub peers: u64,
    /// Routes into this node.
    pub routes_in: u64,
    /// Routes out of this node.
    pub routes_out: u64,
    /// Producers of other nodes that are wanted and do not come.
    pub subscriptions_waiting: u64,
    /// Commands about pipes for which workers have no room.
    pub pipe_commands_waiting: u64,
    /// Requests answered with success.
    pub requests_ok: u64,
    /// Requests answered with an error.
    pub requests_failed: u64,
    /// Messages that were not protoo.
    pub malformed_messages: u64,
    /// Sessions that were closed because the client did not read, answer or behave.
    pub sessions_dropped: u64,
    /// Subscriptions that another node refused or ended.
    pub subscriptions_refused: u64,
    /// Of those, how many were tried again.
    pub subscriptions_retried: u64,
}

impl Rooms {
    /// Rooms with their peers and producers, here and elsewhere: those after `after`, as far as they fit.
    pub(crate) async fn overview(&self, after: Option<&RoomKey>) -> RoomsOverview {
        let mut rooms: Vec<(RoomKey, RoomSender)> = {
            let rooms = lock(&self.inner.rooms);
            let wanted = rooms.iter().filter(|(key, _)| after.is_none_or(|after| *key > after));
            wanted.map(|(key, entrance)| (key.clone(), entrance.room.clone())).collect()
        };
        rooms.sort_by(|(a, _), (b, _)| a.cmp(b));
        let all = rooms.len();
        rooms.truncate(ROOMS_PER_PAGE);
        let keys: Vec<_> = rooms.iter().map(|(key, _)| key.to_string()).collect();
        let mut answers =
            stream::iter(rooms).map(|(_, room)| timeout(OVERVIEW_WITHIN, ask(room))).buffered(ASKED_AT_ONCE);
        let (mut told, mut peers, mut asked) = (Vec::new(), 0, 0);
        while let Some(answer) = answers.next().await {
            asked += 1;
            let Some(room) = answer.ok().flatten() else { continue };
            peers += room.peers.len();
            told.push(room);
            if peers >= PEERS_PER_PAGE {
                break;
            }
        }
        let next = keys.into_iter().take(asked).next_back().filter(|_| asked < all);
        let context = &self.inner.context;
        RoomsOverview { node: context.node().clone(), region: context.region.clone(), rooms: told, next }
    }
}

async fn ask(room: RoomSender) -> Option<RoomOverview> {
    let (answer, overview) = oneshot::channel();
    room.send(RoomMessage::Overview(answer)).await.ok()?;
    overview.await.ok()
}

impl Room {
    pub(super) fn overview(&self) -> RoomOverview {
        let mut by_owner: HashMap<&PeerId, Vec<ProducerOverview>> = HashMap::new();
        for producer in self.producers.values() {
            by_owner.entry(&producer.owner).or_default().push(producer_overview(producer));
        }
        let mut peers: Vec<PeerOverview> = Vec::new();
        for (_, peer) in self.peers.iter() {
            let producers = peer.joined.as_ref().and_then(|_| by_owner.remove(&peer.id));
            peers.push(self.local_overview(peer, producers.unwrap_or_default()));
        }
        for (id, remote) in self.elsewhere.peers() {
            peers.push(self.remote_overview(id, remote, by_owner.remove(id).unwrap_or_default()));
        }
        peers.sort_by(|a, b| a.id.cmp(&b.id));
        RoomOverview { key: self.key.clone(), peers }
    }

    fn local_overview(&self, peer: &Peer, producers: Vec<ProducerOverview>) -> PeerOverview {
        PeerOverview {
            id: peer.id.clone(),
            display_name: peer.joined.as_ref().map(|joined| joined.display_name.clone()).unwrap_or_default(),
            node: self.context.node().clone(),
            region: Some(self.context.region.clone()),
            joined: peer.joined.is_some(),
            producers,
            consumers: Some(peer.consumers.len()),
        }
    }

    fn remote_overview(&self, id: &PeerId, remote: &RemotePeer, producers: Vec<ProducerOverview>) -> PeerOverview {
        PeerOverview {
            id: id.clone(),
            display_name: remote.display_name.clone(),
            node: remote.instance.node.clone(),
            region: self.context.region_of(&remote.instance),
            joined: true,
            producers,
            consumers: None,
        }
    }
}

fn producer_overview(producer: &Producer) -> ProducerOverview {
    ProducerOverview {
        id: producer.source.producer,
        kind: producer.source.kind,
        paused: producer.source.paused,
        worker: match producer.source.home {
            Home::Worker(worker) => Some(worker.0),
            Home::Node(_) => None,
        },
    }
}
