//! The links to other nodes, and what is still to be said on each of them.
//!
//! What is to be said is kept as what is so, not as a list of what happened: so it is bounded by what there is, however
//! long a peer does not read, and what has become untrue meanwhile is never said.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use sluice_mesh::LinkKey;
use sluice_proto::ids::{NodeInstance, ProducerId, RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, RouteCloseReason, RouteControl};

use crate::ports::MeshPort;

/// The links that are up.
#[derive(Default)]
pub(super) struct Links {
    by_key: HashMap<LinkKey, Link>,
    by_instance: HashMap<NodeInstance, LinkKey>,
    /// Those that had no room for all that was to be said.
    stuck: HashSet<LinkKey>,
}

/// One of them.
pub(super) struct Link {
    instance: NodeInstance,
    /// Subscriptions that were said and are not wanted any more: no more than there are routes.
    unsubscribe: VecDeque<(RouteId, RouteEpoch)>,
    /// The peer's subscriptions that have ended or were refused, by its route ids: a newer use of an id makes the older
    /// one's end old news.
    closed: BTreeMap<RouteId, (RouteEpoch, RouteCloseReason)>,
    /// Producers of the peer that are to be subscribed to, in no particular order.
    pub(super) subscribe: BTreeSet<ProducerId>,
}

impl Links {
    pub(super) fn up(&mut self, key: LinkKey, instance: NodeInstance) {
        self.by_instance.insert(instance.clone(), key);
        let (unsubscribe, closed, subscribe) = (VecDeque::new(), BTreeMap::new(), BTreeSet::new());
        self.by_key.insert(key, Link { instance, unsubscribe, closed, subscribe });
    }

    /// Gives the node that was at its other end.
    pub(super) fn down(&mut self, key: LinkKey) -> Option<NodeInstance> {
        self.stuck.remove(&key);
        let instance = self.by_key.remove(&key)?.instance;
        if self.by_instance.get(&instance) == Some(&key) {
            self.by_instance.remove(&instance);
        }
        Some(instance)
    }

    /// The link to a node, if it is up.
    pub(super) fn to(&mut self, instance: &NodeInstance) -> Option<(LinkKey, &mut Link)> {
        let key = *self.by_instance.get(instance)?;
        Some((key, self.by_key.get_mut(&key)?))
    }

    /// A link that is up.
    pub(super) fn get(&mut self, key: LinkKey) -> Option<&mut Link> {
        self.by_key.get_mut(&key)
    }

    /// What is to be said on this link has to wait for room.
    pub(super) fn set_stuck(&mut self, key: LinkKey) {
        self.stuck.insert(key);
    }

    /// Whether a link waits for room.
    pub(super) fn any_stuck(&self) -> bool {
        !self.stuck.is_empty()
    }

    /// Those that wait for room; they do no longer.
    pub(super) fn take_stuck(&mut self) -> HashSet<LinkKey> {
        std::mem::take(&mut self.stuck)
    }
}

impl Link {
    pub(super) fn unsubscribe(&mut self, route: RouteId, epoch: RouteEpoch) {
        self.unsubscribe.push_back((route, epoch));
    }

    /// Keeps at most `limit` of these: an honest peer says nothing new of a route before it has heard what became of
    /// it.
    pub(super) fn close(&mut self, route: RouteId, epoch: RouteEpoch, reason: RouteCloseReason, limit: usize) {
        if self.closed.len() < limit || self.closed.contains_key(&route) {
            self.closed.insert(route, (epoch, reason));
        }
    }

    /// Says what has ended. False if there is not room for all of it.
    pub(super) fn say_ends(&mut self, mesh: &dyn MeshPort, key: LinkKey) -> bool {
        while let Some(&(route, epoch)) = self.unsubscribe.front() {
            if !mesh.send_control(key, control(route, epoch, ControlBody::Unsubscribe)) {
                return false;
            }
            self.unsubscribe.pop_front();
        }
        while let Some((&route, &(epoch, reason))) = self.closed.first_key_value() {
            if !mesh.send_control(key, control(route, epoch, ControlBody::RouteClosed(reason))) {
                return false;
            }
            self.closed.pop_first();
        }
        true
    }
}

pub(super) fn control(route: RouteId, epoch: RouteEpoch, body: ControlBody) -> RouteControl {
    RouteControl { route: route.0, epoch: epoch.0, body }
}
