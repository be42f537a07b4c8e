//! What a node's rooms look like from outside: `/v1/rooms` and metrics.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use serde::Serialize;
use sluice_proto::ids::{NamespaceId, NodeId, PeerId, ProducerId, Region, RoomId, RoomKey};

use tokio::sync::oneshot;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::Rooms;
use super::api::{Census, PeersPage, is_false};
use super::context::RoomSender;
use super::elsewhere::RemotePeer;
use super::media::Producer;
use super::peer::Peer;
use super::room::{Room, RoomMessage};
use crate::ortc::ProducerKind;
use crate::pipes::Home;
use crate::support::lock;

/// How long a room may take to answer; one that does not is left out.
pub(super) const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// Rooms that are told of at a time: with [`crate::config::LimitsConfig::peers_per_page`] peers of each some 3 MB of
/// JSON.
const ROOMS_PER_PAGE: usize = 100;

/// Rooms that are asked at a time.
const ASKED_AT_ONCE: usize = 16;

/// What `/v1/rooms` shows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RoomsOverview {
    /// This node.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// Its region.
    #[schema(value_type = String)]
    pub region: Region,
    /// The rooms that have a peer on this node, in the order of their names.
    pub rooms: Vec<RoomOverview>,
    /// After which room to go on, if there are more.
    pub next: Option<String>,
}

/// A room as this node knows it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RoomOverview {
    /// The tenant.
    #[schema(value_type = String)]
    pub namespace: NamespaceId,
    /// Its name.
    #[schema(value_type = String)]
    pub room: RoomId,
    /// How many peers it has, wherever they are.
    #[serde(flatten)]
    pub census: Census,
    /// How many it has beside those.
    pub hidden: usize,
    /// The first of them, in the order of their ids, and of the sessions of this node that have not joined.
    pub peers: Vec<PeerOverview>,
}

/// A peer and where it lives.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PeerOverview {
    /// Its id.
    #[schema(value_type = String)]
    pub id: PeerId,
    /// Its name.
    pub display_name: String,
    /// The node that holds its transports.
    #[schema(value_type = String)]
    pub node: NodeId,
    /// That node's region, when known.
    #[schema(value_type = Option<String>)]
    pub region: Option<Region>,
    /// Whether it has joined, or only opened its WebSocket.
    pub joined: bool,
    /// Clients are not told of it.
    #[serde(skip_serializing_if = "is_false")]
    pub hidden: bool,
    /// What it sends.
    pub producers: Vec<ProducerOverview>,
    /// How many consumers it has; only of peers of this node.
    pub consumers: Option<usize>,
}

/// A producer.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ProducerOverview {
    /// Its id, the same on every node.
    #[schema(value_type = String)]
    pub id: ProducerId,
    /// Audio, video or data.
    #[schema(value_type = String)]
    pub kind: ProducerKind,
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
    /// Rooms with their peers and producers, here and elsewhere: those of a namespace, after `after`, and at most so
    /// many.
    pub(crate) async fn overview(
        &self,
        namespace: Option<&NamespaceId>,
        after: Option<&RoomKey>,
        limit: Option<usize>,
    ) -> RoomsOverview {
        let mut rooms: Vec<(RoomKey, RoomSender)> = {
            let rooms = lock(&self.inner.rooms);
            let wanted = rooms.iter().filter(|(key, _)| {
                namespace.is_none_or(|namespace| key.namespace == *namespace) && after.is_none_or(|after| *key > after)
            });
            wanted.map(|(key, open)| (key.clone(), open.room.clone())).collect()
        };
        rooms.sort_by(|(a, _), (b, _)| a.cmp(b));
        let limit = limit.unwrap_or(ROOMS_PER_PAGE).clamp(1, ROOMS_PER_PAGE);
        let is_last = rooms.len() <= limit;
        rooms.truncate(limit);
        let next = rooms.last().filter(|_| !is_last).map(|(key, _)| key.to_string());
        let answers = stream::iter(rooms).map(|(_, room)| ask(room, RoomMessage::Overview)).buffered(ASKED_AT_ONCE);
        let rooms = answers.filter_map(|answer| async { answer }).collect().await;
        let context = &self.inner.context;
        RoomsOverview { node: context.node().clone(), region: context.region.clone(), rooms, next }
    }

    /// Some of the peers of a room, wherever they are: those after `after`, and at most so many. `None` if this node is
    /// not in the room.
    pub(crate) async fn peers(&self, room: &RoomKey, after: Option<PeerId>, limit: Option<usize>) -> Option<PeersPage> {
        ask(self.room(room)?, |reply| RoomMessage::Peers { after, limit, reply }).await
    }

    pub(super) fn room(&self, key: &RoomKey) -> Option<RoomSender> {
        Some(lock(&self.inner.rooms).get(key)?.room.clone())
    }
}

/// What a room says to a question, unless it ends or is too busy to say anything.
pub(super) async fn ask<T>(room: RoomSender, question: impl FnOnce(oneshot::Sender<T>) -> RoomMessage) -> Option<T> {
    let asking = async {
        let (reply, answer) = oneshot::channel();
        room.send(question(reply)).await.ok()?;
        answer.await.ok()
    };
    timeout(ANSWER_WITHIN, asking).await.ok().flatten()
}

impl Room {
    pub(super) fn overview(&self) -> RoomOverview {
        let mut by_owner: HashMap<&PeerId, Vec<ProducerOverview>> = HashMap::new();
        for producer in self.producers.values() {
            let of_owner = producer.owner.as_ref().map(|owner| by_owner.entry(owner).or_default());
            of_owner.into_iter().for_each(|producers| producers.push(producer_overview(producer)));
        }
        let limit = self.context.limits.peers_per_page;
        let mut producers_of = |id| by_owner.remove(id).unwrap_or_default();
        let joined = self.peers.joined_after(None).filter_map(|id| self.peers.get(self.peers.session_of(id)?));
        let mut peers: Vec<PeerOverview> =
            joined.take(limit).map(|peer| self.local_overview(peer, producers_of(&peer.id))).collect();
        let elsewhere = self.elsewhere.peers_after(None).take(limit);
        peers.extend(elsewhere.map(|(id, remote)| self.remote_overview(id, remote, producers_of(id))));
        let unjoined = self.peers.iter().map(|(_, peer)| peer).filter(|peer| peer.joined.is_none());
        peers.extend(unjoined.take(limit).map(|peer| self.local_overview(peer, Vec::new())));
        peers.sort_by(|a, b| a.id.cmp(&b.id));
        peers.truncate(limit);
        let RoomKey { namespace, room } = self.key.clone();
        let census = self.census();
        RoomOverview { namespace, room, hidden: self.hidden(&census), census, peers }
    }

    fn local_overview(&self, peer: &Peer, producers: Vec<ProducerOverview>) -> PeerOverview {
        PeerOverview {
            id: peer.id.clone(),
            display_name: peer.joined.as_ref().map(|joined| joined.display_name.clone()).unwrap_or_default(),
            node: self.context.node().clone(),
            region: Some(self.context.region.clone()),
            joined: peer.joined.is_some(),
            hidden: peer.rights.grants().hidden,
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
            hidden: remote.hidden,
            producers,
            consumers: None,
        }
    }
}

fn producer_overview(producer: &Producer) -> ProducerOverview {
    ProducerOverview {
        id: producer.source.producer,
        kind: producer.source.content.kind(),
        paused: producer.source.paused,
        worker: match producer.source.home {
            Home::Worker(worker) => Some(worker.0),
            Home::Node(_) => None,
        },
    }
}
