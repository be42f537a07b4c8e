//! The door between the network and chitchat: what comes in is checked, and so is who it makes chitchat remember.
//!
//! chitchat remembers every incarnation of every node that a digest names, tells of all of them in each of its own
//! digests, and panics when such a digest leaves no room for anything else in a message. So the door lets in
//! - of an id whose newer incarnation is known nothing older, and at most [`MAX_INCARNATIONS`] within the time that
//!   chitchat needs to forget: a node that is started again and again must not crowd out the others;
//! - only as many nodes as a digest has room for. Who comes then is not seen here, which is bad, but gossip goes on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatId, ChitchatMessage, Deserializable, Serializable};
use rustc_hash::FxHashMap;
use sluice_proto::ids::NodeId;
use tokio::time::Instant;

use super::message::{Message, Name, entry_len};
use super::stats::{GossipRefused, GossipStats};

/// Incarnations of one id that chitchat may hold: the living one, and three that it has not forgotten yet.
const MAX_INCARNATIONS: usize = 4;

/// Bytes of digest above which no new node is let in. A message has 65,507, and the quarter that is left is for facts.
const MAX_DIGEST: usize = 48 * 1024;

/// From here on the operator is warned: half of what would have ended gossip.
const WARN_DIGEST: usize = 32 * 1024;

/// How long chitchat may take to note whom the door has let in; it does so in the same turn.
const NOTED_WITHIN: Duration = Duration::from_secs(1);

/// The way of gossip between nodes, which the caller provides. A message has up to 65,507 bytes and may be lost.
pub trait GossipTransport: Send + Sync + 'static {
    /// Sends a message to the node that advertises `to`. Enqueues and returns: a peer that is hard to reach must not
    /// hold up the others.
    fn send(&mut self, to: SocketAddr, message: Bytes);

    /// The next message, with the advertised address of its sender; `None` when there will be none any more.
    /// Cancel-safe.
    fn recv(&mut self) -> impl Future<Output = Option<(SocketAddr, Bytes)>> + Send;
}

/// Whom chitchat holds, as far as the door knows.
#[derive(Debug)]
pub(super) struct Guests {
    me: ChitchatId,
    nodes: BTreeMap<Arc<str>, Vec<Guest>>,
    digest_len: usize,
    is_warned: bool,
    has_twin: bool,
    stats: Arc<GossipStats>,
}

#[derive(Debug, PartialEq, Eq)]
struct Guest {
    incarnation: u64,
    addr: SocketAddr,
    came: Instant,
}

impl Guests {
    pub(super) fn new(me: ChitchatId, stats: Arc<GossipStats>) -> Self {
        let digest_len = entry_len(&me.node_id, me.gossip_advertise_addr);
        Self { me, nodes: BTreeMap::new(), digest_len, is_warned: false, has_twin: false, stats }
    }

    /// Takes over what chitchat really holds.
    pub(super) fn sync<'a>(&mut self, now: Instant, held: impl Iterator<Item = &'a ChitchatId>) {
        let former = std::mem::take(&mut self.nodes);
        self.digest_len = entry_len(&self.me.node_id, self.me.gossip_advertise_addr);
        for id in held {
            if *id != self.me {
                self.add(&id.node_id, id.generation_id, id.gossip_advertise_addr, now);
            }
        }
        for (node, guests) in former {
            for guest in guests.into_iter().filter(|guest| now < guest.came + NOTED_WITHIN) {
                if !self.holds(&node, guest.incarnation, guest.addr) {
                    self.add(&node, guest.incarnation, guest.addr, guest.came);
                }
            }
        }
        self.stats.set_digest_len(self.digest_len);
        let is_large = self.digest_len > WARN_DIGEST;
        if is_large && !self.is_warned {
            tracing::warn!(
                bytes = self.digest_len,
                max = MAX_DIGEST,
                "gossip names many nodes: no more than {MAX_DIGEST} bytes of names can be known"
            );
        }
        self.is_warned = is_large;
    }

    /// The message without those that chitchat shall not come to know; `None` when it is not fit to be read.
    fn admit(&mut self, now: Instant, from: SocketAddr, payload: &[u8]) -> Option<ChitchatMessage> {
        let me = self.me.clone();
        let me = Name { node: &me.node_id, incarnation: me.generation_id, addr: me.gossip_advertise_addr };
        let checked = Message::read(payload, me).map_err(anyhow::Error::from).and_then(|message| {
            let mut newest: FxHashMap<&str, u64> = FxHashMap::default();
            for name in message.names() {
                let known = newest.entry(name.node).or_default();
                *known = name.incarnation.max(*known);
            }
            let is_newest = |name: &Name<'_>| newest.get(name.node) == Some(&name.incarnation);
            let kept = message.retain(|name| self.lets_in(now, name, is_newest(name)));
            ChitchatMessage::deserialize(&mut kept.as_ref())
        });
        // From an authenticated node, so a wrong version rather than an attack.
        checked
            .inspect_err(|error| {
                self.stats.refuse(GossipRefused::Malformed);
                tracing::warn!(%from, %error, "gossip that cannot be read");
            })
            .ok()
    }

    fn lets_in(&mut self, now: Instant, name: &Name<'_>, is_newest: bool) -> bool {
        if name.node == &*self.me.node_id {
            if name.incarnation > self.me.generation_id && !self.has_twin {
                self.has_twin = true;
                tracing::error!(
                    node = name.node,
                    incarnation = name.incarnation,
                    "another process runs under this node's id: give it its own"
                );
            }
            return name.incarnation == self.me.generation_id && name.addr == self.me.gossip_advertise_addr;
        }
        if self.holds(name.node, name.incarnation, name.addr) {
            return true;
        }
        let guests = self.nodes.get(name.node).map_or(&[][..], Vec::as_slice);
        let reason = if !is_newest || guests.iter().any(|guest| guest.incarnation > name.incarnation) {
            GossipRefused::Superseded
        } else if NodeId::new(name.node).is_err() {
            GossipRefused::Name
        } else if guests.len() >= MAX_INCARNATIONS {
            GossipRefused::Incarnations
        } else if self.digest_len + entry_len(name.node, name.addr) > MAX_DIGEST {
            GossipRefused::Full
        } else {
            self.add(name.node, name.incarnation, name.addr, now);
            return true;
        };
        self.stats.refuse(reason);
        false
    }

    fn holds(&self, node: &str, incarnation: u64, addr: SocketAddr) -> bool {
        let guests = self.nodes.get(node).map_or(&[][..], Vec::as_slice);
        guests.iter().any(|guest| guest.incarnation == incarnation && guest.addr == addr)
    }

    fn add(&mut self, node: &str, incarnation: u64, addr: SocketAddr, came: Instant) {
        self.digest_len += entry_len(node, addr);
        self.nodes.entry(node.into()).or_default().push(Guest { incarnation, addr, came });
    }
}

/// chitchat's transport: the caller's, behind the door.
pub(super) struct Door<T> {
    transport: Mutex<Option<T>>,
    guests: Arc<Mutex<Guests>>,
}

impl<T: GossipTransport> Door<T> {
    pub(super) fn new(transport: T, guests: Arc<Mutex<Guests>>) -> Self {
        Self { transport: Mutex::new(Some(transport)), guests }
    }
}

#[async_trait]
impl<T: GossipTransport> Transport for Door<T> {
    /// Opens once: a node has one gossip.
    async fn open(&self, _listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let transport = lock(&self.transport).take().context("gossip is open already")?;
        Ok(Box::new(Doorway { transport, guests: Arc::clone(&self.guests) }))
    }
}

struct Doorway<T> {
    transport: T,
    guests: Arc<Mutex<Guests>>,
}

#[async_trait]
impl<T: GossipTransport> Socket for Doorway<T> {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        self.transport.send(to, message.serialize_to_vec().into());
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            // An error ends gossip, so it is one only when the transport has ended.
            let (from, payload) = self.transport.recv().await.context("the transport has ended")?;
            let admitted = lock(&self.guests).admit(Instant::now(), from, &payload);
            if let Some(message) = admitted {
                return Ok((from, message));
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
