//! Which peers there are, and which of several connections with one is kept.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use quinn::Connection;
use rustc_hash::FxHashMap;
use sluice_proto::ids::{NodeId, NodeInstance};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tracing::{debug, info};

use super::clock;
use super::close::CloseCode;
use super::hello::{Control, Peer};
use super::link::{Established, Link, LinkTask};
use super::panics::vital;
use super::pipe::PipeContext;
use super::types::{Newer, Standing};
use crate::LinkKey;

/// Connections of one incarnation that may wait for its link's task: it takes them at once unless the control plane is
/// stuck.
const WAITING_CONNECTIONS: usize = 4;

/// Addresses that are known to lead to a node, beside the advertised one of each: those that it was dialled at.
const MAX_ADDRESSES: usize = 4096;

/// How long a refusal counts. Whoever is dialled still is dialled several times in it; whoever is not may have gone, or
/// live elsewhere now.
const REFUSAL_COUNTS: Duration = Duration::from_secs(60);

pub(super) type Links = FxHashMap<LinkKey, Arc<Link>>;

/// All links of an endpoint.
pub(super) struct Registry {
    own: NodeInstance,
    max_peers: usize,
    context: PipeContext,
    state: Mutex<State>,
    /// By key, for the hot path.
    links: ArcSwap<Links>,
    /// Ticks when a link's connection may have come or gone.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    peers: FxHashMap<NodeId, Entry>,
    by_addr: FxHashMap<SocketAddr, NodeId>,
    refusals: Refusals,
    next_key: u32,
}

/// Where the last dial was refused by whoever is there, and when.
#[derive(Default)]
struct Refusals(FxHashMap<SocketAddr, Instant>);

impl Refusals {
    fn note(&mut self, addr: SocketAddr, refused: bool, now: Instant) {
        self.0.retain(|_, at| now < *at + REFUSAL_COUNTS);
        if !refused {
            self.0.remove(&addr);
        } else if self.0.len() < MAX_ADDRESSES {
            self.0.insert(addr, now);
        }
    }

    fn any(&self, now: Instant) -> bool {
        self.0.values().any(|at| now < *at + REFUSAL_COUNTS)
    }
}

struct Entry {
    link: Arc<Link>,
    connections: mpsc::Sender<Established>,
    task: JoinHandle<()>,
    /// When it was first seen without a connection and not wanted.
    down_since: Option<Instant>,
}

impl Registry {
    pub(super) fn new(own: NodeInstance, max_peers: usize, context: PipeContext) -> Self {
        Self {
            own,
            max_peers,
            context,
            state: Mutex::default(),
            links: ArcSwap::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// Takes a connection into use, or says why not.
    pub(super) fn admit(
        self: &Arc<Self>,
        peer: Peer,
        connection: Connection,
        dialled_here: bool,
        control: Control,
    ) -> Result<Arc<Link>, CloseCode> {
        let mut state = self.state();
        self.check(&state, &peer, dialled_here)?;
        let known = state.peers.get(&peer.instance.node).map(|entry| entry.link.instance.incarnation);
        if known != Some(peer.instance.incarnation) {
            self.add_link(&mut state, &peer);
        }
        let key = LinkKey(state.next_key);
        state.next_key = state.next_key.wrapping_add(1);
        let entry = state.peers.get_mut(&peer.instance.node).ok_or(CloseCode::Limit)?;
        let waiting = entry.connections.try_reserve().map_err(|_| CloseCode::Overflow)?;
        let link = entry.link.clone();
        self.name(key, &link);
        waiting.send(link.install(key, connection.clone(), dialled_here, control));
        entry.down_since = None;
        drop(state);
        self.changed.send_replace(());
        self.watch_end(connection);
        Ok(link)
    }

    /// Why a connection that a peer dialled would not be taken now.
    pub(super) fn refuses(&self, peer: &Peer) -> Option<CloseCode> {
        self.check(&self.state(), peer, false).err()
    }

    /// The link to a node, in its newest incarnation.
    pub(super) fn link(&self, node: &NodeId) -> Option<Arc<Link>> {
        self.state().peers.get(node).map(|entry| entry.link.clone())
    }

    /// Every link, in its newest incarnation.
    pub(super) fn all(&self) -> Vec<Arc<Link>> {
        self.state().peers.values().map(|entry| entry.link.clone()).collect()
    }

    /// By key, without a lock.
    pub(super) fn by_key(&self) -> arc_swap::Guard<Arc<Links>> {
        self.links.load()
    }

    /// The node at an address, if one was met there.
    pub(super) fn node_at(&self, addr: SocketAddr) -> Option<NodeId> {
        self.state().by_addr.get(&addr).cloned()
    }

    /// A dial to `addr` met `node`.
    pub(super) fn note_address(&self, addr: SocketAddr, node: &NodeId) {
        let mut state = self.state();
        if state.by_addr.len() < MAX_ADDRESSES || state.by_addr.contains_key(&addr) {
            state.by_addr.insert(addr, node.clone());
        }
    }

    /// What came of dialling an address: whether whoever is there refused this node.
    pub(super) fn note_refusal(&self, addr: SocketAddr, refused: bool) {
        self.state().refusals.note(addr, refused, clock());
    }

    /// A peer knows a newer incarnation of this node.
    pub(super) fn note_newer(&self, newer: Newer) {
        self.context.newer.send_replace(Some(newer));
    }

    pub(super) fn newer(&self) -> watch::Receiver<Option<Newer>> {
        self.context.newer.subscribe()
    }

    pub(super) fn standing(&self) -> Standing {
        let state = self.state();
        let is_linked = || state.peers.values().any(|entry| entry.link.live().is_some());
        if is_linked() || !state.refusals.any(clock()) { Standing::Good } else { Standing::Refused }
    }

    pub(super) fn own(&self) -> &NodeInstance {
        &self.own
    }

    pub(super) fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Ends every link's task.
    pub(super) async fn shutdown(&self) {
        let entries: Vec<Entry> = self.state().peers.drain().map(|(_, entry)| entry).collect();
        for entry in entries {
            entry.link.close(CloseCode::Shutdown);
            // A task that panicked has ended too.
            let _ = entry.task.await;
        }
    }

    fn check(&self, state: &State, peer: &Peer, dialled_here: bool) -> Result<(), CloseCode> {
        let node = &peer.instance.node;
        if *node == self.own.node {
            return Err(CloseCode::Identity);
        }
        let Some(entry) = state.peers.get(node) else {
            return if state.peers.len() < self.max_peers { Ok(()) } else { Err(CloseCode::Limit) };
        };
        let known = entry.link.instance.incarnation;
        if peer.instance.incarnation < known {
            return Err(CloseCode::StaleIncarnation { known, is_alive: entry.link.live().is_some() });
        }
        if peer.instance.incarnation > known {
            return Ok(());
        }
        match entry.link.live() {
            Some(current) if !self.prefers(node, dialled_here, current.dialled_here) => {
                debug!(peer = %peer.instance, dialled_here, "a second connection is not needed");
                Err(CloseCode::Duplicate)
            }
            _ => Ok(()),
        }
    }

    /// Of two connections with a node, both of its present incarnation, the one that the lower node id dialled is kept;
    /// both ends come to the same answer. Of two that the same end dialled the newer one: it dials again only if it
    /// lost the other.
    fn prefers(&self, node: &NodeId, new_dialled_here: bool, old_dialled_here: bool) -> bool {
        new_dialled_here == old_dialled_here || new_dialled_here == (self.own.node < *node)
    }

    fn add_link(&self, state: &mut State, peer: &Peer) {
        let link = Arc::new(Link::new(peer.instance.clone(), peer.advertised, &self.context.stop));
        let former = state.peers.remove(&peer.instance.node);
        if let Some(former) = &former {
            info!(peer = %peer.instance, "a new incarnation voids the one before");
            former.link.void(peer.instance.incarnation);
            // Nobody is met there any more: with it go the addresses of lives that are over.
            if state.by_addr.get(&former.link.advertised) == Some(&peer.instance.node) {
                state.by_addr.remove(&former.link.advertised);
            }
        }
        let (connections, incoming) = mpsc::channel(WAITING_CONNECTIONS);
        let predecessor = former.map(|former| former.task);
        let task = LinkTask { link: link.clone(), connections: incoming, context: self.context.clone(), predecessor };
        let task = tokio::spawn(vital(self.context.ended.clone(), task.run()));
        state.by_addr.insert(peer.advertised, peer.instance.node.clone());
        state.peers.insert(peer.instance.node.clone(), Entry { link, connections, task, down_since: None });
    }

    /// From now on this key, and no other, leads to the link.
    fn name(&self, key: LinkKey, link: &Arc<Link>) {
        self.links.rcu(|links| {
            let mut links = Links::clone(links);
            links.retain(|_, other| other.instance.node != link.instance.node);
            links.insert(key, link.clone());
            links
        });
    }

    /// Forgets the nodes that have no connection and are not wanted, once they were seen so for `after`.
    pub(super) fn forget_silent(&self, now: Instant, after: Duration, is_wanted: impl Fn(&NodeId) -> bool) {
        let mut state = self.state();
        let State { peers, by_addr, .. } = &mut *state;
        for (node, entry) in peers.iter_mut() {
            let is_silent = entry.link.live().is_none() && !is_wanted(node);
            entry.down_since = is_silent.then(|| entry.down_since.unwrap_or(now));
        }
        let long_silent = |entry: &Entry| entry.down_since.is_some_and(|since| now >= since + after);
        if !peers.values().any(long_silent) {
            return;
        }
        self.links.rcu(|links| {
            let mut links = Links::clone(links);
            links.retain(|_, link| !peers.get(&link.instance.node).is_some_and(long_silent));
            links
        });
        by_addr.retain(|_, node| !peers.get(node).is_some_and(long_silent));
        peers.retain(|node, entry| {
            let forgotten = long_silent(entry);
            if forgotten {
                // Its task ends with the way in.
                info!(%node, "a node that was silent for long is forgotten");
            }
            !forgotten
        });
    }

    /// Diallers wait for connections to end.
    fn watch_end(self: &Arc<Self>, connection: Connection) {
        let registry = Arc::downgrade(self);
        tokio::spawn(async move {
            connection.closed().await;
            if let Some(registry) = registry.upgrade() {
                registry.changed.send_replace(());
            }
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_counts_until_the_next_dial_or_for_a_while() {
        let [a, b] = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        let (now, second) = (clock(), Duration::from_secs(1));
        let mut refusals = Refusals::default();
        refusals.note(a, true, now);
        assert!(refusals.any(now + 59 * second));
        // Refused again, and then nobody is there any more.
        refusals.note(a, true, now + 59 * second);
        assert!(refusals.any(now + 61 * second));
        refusals.note(a, false, now + 62 * second);
        assert!(!refusals.any(now + 62 * second));
        // A node that has moved is not dialled there any more.
        refusals.note(b, true, now + 63 * second);
        assert!(!refusals.any(now + 123 * second));
        refusals.note(a, false, now + 123 * second);
        assert!(refusals.0.is_empty(), "nothing is kept for ever");
    }
}
