//! Membership over gossip (chitchat): publishes this node's facts, and tells who else is there.
//!
//! # Layout
//! - `door`: the way of messages, which is the caller's, and what of them reaches chitchat; `message` reads them.
//! - `observer`: who is there; `pulse`: and lives; `facts`: and says what of itself.
//! - `stats`: what is counted.

mod door;
mod facts;
mod message;
mod observer;
mod pulse;
mod stats;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chitchat::{Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, spawn_chitchat};
use prometheus_client::registry::Registry;
use rand::seq::IteratorRandom;
use sluice_proto::ids::NodeInstance;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::members::{MemberState, Members, NodeFacts};
use door::{Door, Guests, lock};
use observer::Observer;
use pulse::Patience;

pub use door::GossipTransport;
pub(crate) use stats::{GossipRefused, GossipStats};

/// How long chitchat remembers a dead node; for half of it the node takes room in every digest. Short, so that nodes
/// which are started again and again do not crowd out the others, and longer than any wave of gossip about it takes to
/// ebb away.
const DEAD_NODE_GRACE: Duration = Duration::from_secs(30);

/// How often one of the dead is gossiped to, and each suspect's door is knocked at.
const KNOCK_INTERVAL: Duration = Duration::from_millis(500);

/// How long a deleted key is remembered. Nothing deletes keys yet; the value is chitchat's own example's.
const TOMBSTONE_GRACE: Duration = Duration::from_secs(3600);

/// How often the names among the seeds are looked up.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(5);

/// How long a goodbye may take: a round trip to the other end of the world.
const GOODBYE: Duration = Duration::from_millis(300);

/// Nodes told goodbye to directly; these tell the others.
const GOODBYE_TO: usize = 8;

/// How a node takes part in gossip.
#[derive(Debug, Clone)]
pub struct MembershipConfig {
    /// Which life of which node this is.
    pub instance: NodeInstance,
    /// Where others send gossip to: the advertised mesh address. The transport must report peers by theirs.
    pub gossip_addr: SocketAddr,
    /// `host:port` of nodes to begin with. None need be up.
    pub seeds: Vec<String>,
    /// Gossip of another cluster is refused.
    pub cluster: String,
    /// How often a node gossips, with three others each time.
    pub interval: Duration,
    /// The failure detector has no opinion of a node that it has not heard for this many times the usual interval
    /// between heartbeats.
    pub phi: f64,
    /// A node that is silent for this long is suspected: its door is knocked at, and if its machine says that nobody is
    /// there, it is dead.
    pub suspect_after: Duration,
    /// A node that is silent for this long is dead.
    pub dead_after: Duration,
}

impl MembershipConfig {
    /// The settings of production: a node that is killed is missed within 2 s, one that is merely silent after 5 s.
    pub fn new(instance: NodeInstance, gossip_addr: SocketAddr, cluster: String) -> Self {
        Self {
            instance,
            gossip_addr,
            seeds: Vec::new(),
            cluster,
            interval: Duration::from_millis(200),
            phi: 8.0,
            suspect_after: Duration::from_secs(1),
            dead_after: Duration::from_secs(5),
        }
    }

    fn chitchat(&self) -> ChitchatConfig {
        ChitchatConfig {
            chitchat_id: ChitchatId {
                node_id: self.instance.node.as_str().into(),
                generation_id: self.instance.incarnation,
                gossip_advertise_addr: self.gossip_addr,
            },
            cluster_id: self.cluster.clone(),
            gossip_interval: self.interval,
            listen_addr: self.gossip_addr,
            // Names are resolved here: chitchat would wait for the resolver before it begins, and try again only after
            // a minute.
            seed_nodes: self.seeds.iter().filter(|seed| seed.parse::<SocketAddr>().is_ok()).cloned().collect(),
            failure_detector_config: FailureDetectorConfig {
                phi_threshold: self.phi,
                sampling_window_size: 1_000,
                // A pause longer than this is an outage, not an interval to reckon with.
                max_interval: self.interval * 10,
                // What is assumed of a node before it is known; chitchat's 5 s would make a new node's death go
                // unnoticed for half a minute.
                initial_interval: self.interval,
                dead_node_grace_period: DEAD_NODE_GRACE,
            },
            marked_for_deletion_grace_period: TOMBSTONE_GRACE,
            catchup_callback: None,
            extra_liveness_predicate: None,
        }
    }
}

/// Why gossip could not begin.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The transport did not open.
    #[error("the gossip transport did not open: {0}")]
    Transport(String),
}

/// What tells of life and death besides gossip.
pub trait Witness: Send + Sync + 'static {
    /// How much has arrived from a node on the connection that this node has with it: a number that grows. `None` when
    /// there is no connection.
    fn arrived(&self, instance: &NodeInstance) -> Option<u64>;

    /// Knocks at a silent node's door: whether its machine says that nobody is there. An answer that does not come
    /// within about a second is none.
    fn refuses(&self, facts: &NodeFacts) -> impl Future<Output = bool> + Send + 'static;
}

/// A running membership; dropping it ends the gossip without a word.
#[derive(Debug)]
pub struct Membership {
    members: watch::Receiver<Arc<Members>>,
    facts: watch::Sender<NodeFacts>,
    stats: Arc<GossipStats>,
    goodbye: CancellationToken,
    task: JoinHandle<()>,
}

impl Membership {
    /// Begins to gossip. Waits for no other node. Its tasks run on the current runtime, which should not be one that
    /// others keep busy: whoever cannot tell the time takes the others for dead.
    ///
    /// # Errors
    /// [`MembershipError::Transport`] when the transport does not open.
    pub async fn spawn(
        config: MembershipConfig,
        facts: NodeFacts,
        transport: impl GossipTransport,
        witness: impl Witness,
    ) -> Result<Self, MembershipError> {
        let keys = facts::to_keys(&facts);
        let chitchat = config.chitchat();
        let stats = Arc::new(GossipStats::default());
        let guests = Arc::new(Mutex::new(Guests::new(chitchat.chitchat_id.clone(), Arc::clone(&stats))));
        let door = Door::new(transport, Arc::clone(&guests));
        let handle = spawn_chitchat(chitchat, keys.clone().into_iter().collect(), &door)
            .await
            .map_err(|error| MembershipError::Transport(format!("{error:#}")))?;
        let patience = Patience { suspect_after: config.suspect_after, dead_after: config.dead_after };
        let mut observer = Observer::new(config.instance.clone(), Instant::now(), config.interval, patience);
        let first = handle.with_chitchat(|chitchat| observer.observe(Instant::now(), chitchat, &facts, |_| None)).await;
        let (members_tx, members) = watch::channel(Arc::new(first));
        let (facts, facts_rx) = watch::channel(facts);
        let goodbye = CancellationToken::new();
        let knocks = JoinSet::new();
        let gossip = Gossip { handle, observer, guests, witness, knocks, keys, facts: facts_rx, members: members_tx };
        let task = tokio::spawn(gossip.run(config, goodbye.clone()));
        Ok(Self { members, facts, stats, goodbye, task })
    }

    /// Everybody that is known, and each change. Closed when gossip has ended, which without [`Self::shutdown`] means
    /// that something broke, and that the view is frozen.
    pub fn members(&self) -> watch::Receiver<Arc<Members>> {
        self.members.clone()
    }

    /// Waits until gossip has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut members = self.members();
        async move { while members.changed().await.is_ok() {} }
    }

    /// Publishes what changed of this node's facts.
    pub fn publish(&self, facts: NodeFacts) {
        self.facts.send_if_modified(|current| {
            let changed = *current != facts;
            *current = facts;
            changed
        });
    }

    /// Registers the metrics of membership.
    pub fn register_metrics(&self, registry: &mut Registry) {
        crate::metrics::register_membership(registry, self.members(), Arc::clone(&self.stats));
    }

    /// Says goodbye to the others and ends the gossip. Takes less than half a second.
    pub async fn shutdown(mut self) {
        self.goodbye.cancel();
        // It cannot panic; and if it did, gossip has ended all the same.
        let _ = (&mut self.task).await;
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The task beside chitchat's own.
struct Gossip<W> {
    handle: ChitchatHandle,
    observer: Observer,
    guests: Arc<Mutex<Guests>>,
    witness: W,
    /// At whose doors is knocked, since when, and whether nobody is there.
    knocks: JoinSet<(NodeInstance, Instant, bool)>,
    /// What was published last.
    keys: BTreeMap<String, String>,
    facts: watch::Receiver<NodeFacts>,
    members: watch::Sender<Arc<Members>>,
}

impl<W> Drop for Gossip<W> {
    fn drop(&mut self) {
        // Dropping the handle would do, but only after the next message.
        self.handle.abort();
    }
}

impl<W: Witness> Gossip<W> {
    async fn run(mut self, config: MembershipConfig, goodbye: CancellationToken) {
        let ended = self.handle.termination_watcher();
        tokio::pin!(ended);
        let mut live_nodes = self.handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
        let mut tick = slow_interval(config.interval);
        let mut knock = slow_interval(KNOCK_INTERVAL);
        let mut resolve = slow_interval(RESOLVE_INTERVAL);
        let names: Vec<String> =
            config.seeds.iter().filter(|seed| seed.parse::<SocketAddr>().is_err()).cloned().collect();
        let (resolved_tx, mut resolved) = tokio::sync::mpsc::channel(1);
        loop {
            tokio::select! {
                () = goodbye.cancelled() => return self.say_goodbye().await,
                result = &mut ended => {
                    tracing::error!(error = ?result.err(), "gossip has ended: this node will not learn of others any more");
                    return;
                }
                changed = self.facts.changed() => match changed {
                    Ok(()) => self.publish().await,
                    Err(_) => return,
                },
                Ok(()) = live_nodes.changed() => {}
                _ = tick.tick() => {}
                Some(knocked) = self.knocks.join_next() => match knocked {
                    Ok((node, asked, true)) => self.observer.refused(&node, asked),
                    _ => continue,
                },
                _ = knock.tick() => {
                    self.knock();
                    continue;
                }
                _ = resolve.tick(), if !names.is_empty() => {
                    // One lookup at a time: the permit comes back when it is over.
                    if let Ok(permit) = resolved_tx.clone().try_reserve_owned() {
                        let names = names.clone();
                        tokio::spawn(async move { permit.send(resolve_seeds(names).await) });
                    }
                    continue;
                }
                Some(seeds) = resolved.recv() => {
                    self.meet(&seeds).await;
                    continue;
                }
            }
            self.observe().await;
        }
    }

    async fn observe(&mut self) {
        let facts = self.facts.borrow().clone();
        let Self { observer, guests, witness, .. } = self;
        let look = |chitchat: &mut Chitchat| {
            let now = Instant::now();
            lock(guests).sync(now, chitchat.node_states().keys());
            observer.observe(now, chitchat, &facts, |node| witness.arrived(node))
        };
        let members = self.handle.with_chitchat(look).await;
        self.members.send_if_modified(|current| {
            let changed = **current != members;
            if changed {
                log_changes(current, &members);
                *current = Arc::new(members);
            }
            changed
        });
    }

    /// Asks whether the suspects are there, and one of the dead whether it is back.
    fn knock(&mut self) {
        let members = self.members.borrow().clone();
        for suspect in members.iter().filter(|member| member.state == MemberState::Suspect) {
            let (node, asked, refuses) =
                (suspect.instance.clone(), Instant::now(), self.witness.refuses(&suspect.facts));
            self.knocks.spawn(async move { (node, asked, refuses.await) });
        }
        if let Some(addr) = self.observer.dead().choose(&mut rand::rng()) {
            // Fails only when gossip has ended, which the loop notices.
            let _ = self.handle.gossip(addr);
        }
    }

    async fn publish(&mut self) {
        let keys = facts::to_keys(&self.facts.borrow_and_update());
        let former = std::mem::replace(&mut self.keys, keys);
        let keys = &self.keys;
        self.handle
            .with_chitchat(|chitchat| {
                let state = chitchat.self_node_state();
                for (key, value) in keys.iter().filter(|(key, value)| former.get(*key) != Some(value)) {
                    state.set(key, value);
                }
            })
            .await;
    }

    /// Gossips with seeds that are not known yet.
    async fn meet(&self, seeds: &[SocketAddr]) {
        let known: Vec<SocketAddr> = self
            .handle
            .with_chitchat(|chitchat| chitchat.live_nodes().map(|id| id.gossip_advertise_addr).collect())
            .await;
        for seed in seeds.iter().filter(|seed| !known.contains(seed)) {
            // Fails only when gossip has ended, which the loop notices.
            let _ = self.handle.gossip(*seed);
        }
    }

    async fn say_goodbye(&self) {
        let me = self.handle.chitchat_id().clone();
        let others: Vec<SocketAddr> = self
            .handle
            .with_chitchat(|chitchat| {
                chitchat.self_node_state().set(facts::LEAVING, "true");
                let others = chitchat.live_nodes().filter(|id| **id != me).map(|id| id.gossip_advertise_addr);
                others.take(GOODBYE_TO).collect()
            })
            .await;
        for other in &others {
            let _ = self.handle.gossip(*other);
        }
        if !others.is_empty() {
            // The news travels in the third message of the exchange; chitchat does not tell when it is through.
            tokio::time::sleep(GOODBYE).await;
        }
    }
}

/// Ticks that were missed are not made up for.
fn slow_interval(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

async fn resolve_seeds(names: Vec<String>) -> Vec<SocketAddr> {
    let mut seeds = Vec::new();
    for name in names {
        match tokio::net::lookup_host(&name).await {
            Ok(addresses) => seeds.extend(addresses),
            Err(error) => tracing::warn!(seed = %name, %error, "cannot look the seed up"),
        }
    }
    seeds
}

fn log_changes(before: &Members, after: &Members) {
    for member in after.iter().filter(|member| member.instance != *after.me()) {
        let was = before.get(&member.instance.node).filter(|was| was.instance == member.instance);
        if was.is_none_or(|was| was.state != member.state) {
            tracing::info!(node = %member.instance, state = ?member.state, region = %member.facts.region, "member");
        }
    }
}
