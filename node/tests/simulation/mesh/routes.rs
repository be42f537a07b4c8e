//! How producers get to other nodes: by routes that the receiving node opens and closes, as the control planes would.

use sluice_media::messages::{PipeEnd, Request, RouteIn};
use sluice_mesh::LinkKey;
use sluice_proto::ids::{ProducerId, RouteEpoch, RouteId, RouterId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::pipe::Wanted;

use super::{Event, Mesh};

/// A producer as the nodes of its room know it.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) producer: ProducerId,
    pub(crate) kind: MediaKind,
    /// Consumable parameters.
    pub(crate) rtp: RtpParameters,
    /// The node that its publisher is on.
    pub(crate) home: usize,
}

/// A producer's way into a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) id: RouteId,
    pub(crate) epoch: RouteEpoch,
    pub(crate) home: usize,
}

impl<E> Mesh<E> {
    /// Brings a producer to a router of another node, if it is not there yet.
    pub(crate) fn open_route(&mut self, source: &Source, node: usize, router: RouterId) {
        let Source { producer, kind, home, .. } = *source;
        if home == node || self.routes.contains_key(&(producer, node)) {
            return;
        }
        if self.nodes[node].is_none() {
            return;
        }
        let way = self.allocate_route(producer, node, home);
        let (rtp, route) = (source.rtp.clone(), Some(way));
        let request = Request::CreatePipeProducer { router, producer, kind, rtp, route, paused: false };
        self.request(node, request).expect("a new pipe producer");
        self.subscribe(producer, node);
    }

    /// A pipe broke and is up again: nothing of what was subscribed to is left at its sending end, and the producer
    /// comes by another route.
    pub(crate) fn open_route_anew(&mut self, producer: ProducerId, node: usize) {
        let Some(Route { id, epoch, home }) = self.routes.remove(&(producer, node)) else { return };
        let Some(there) = &mut self.nodes[node] else { return };
        there.free_routes.push((id, epoch.0));
        let to = PipeEnd::Node(LinkKey(node as u32));
        // The node may have been started again since.
        let _ = self.request(home, Request::ClosePipeConsumer { to, route: id, epoch });
        self.request(node, Request::MovePipeProducer { producer, route: None }).expect("it exists");
        let way = self.allocate_route(producer, node, home);
        self.request(node, Request::MovePipeProducer { producer, route: Some(way) }).expect("it exists");
        self.subscribe(producer, node);
    }

    /// A route id is used again as soon as it is free, with the next epoch.
    fn allocate_route(&mut self, producer: ProducerId, node: usize, home: usize) -> RouteIn {
        let there = self.nodes[node].as_mut().expect("it is running");
        let (id, epoch) =
            there.free_routes.pop().map_or((RouteId(there.next_route), 0), |(id, last)| (id, last.wrapping_add(1)));
        there.next_route += u32::from(id.0 == there.next_route);
        let epoch = RouteEpoch(epoch);
        self.routes.insert((producer, node), Route { id, epoch, home });
        RouteIn { from: PipeEnd::Node(LinkKey(home as u32)), route: id, epoch }
    }

    /// Says to a producer's home where it is wanted.
    fn subscribe(&mut self, producer: ProducerId, node: usize) {
        let Route { id, epoch, home } = self.routes[&(producer, node)];
        let to = PipeEnd::Node(LinkKey(node as u32));
        let request = Request::CreatePipeConsumer { producer, to, route: id, epoch, wanted: Wanted::ALL };
        self.say(node, home, Event::Request { node: home, request: Box::new(request) });
    }

    /// Ends a route from its receiving end, its consumers too. Its id is free again.
    pub(crate) fn close_route(&mut self, producer: ProducerId, node: usize) -> bool {
        let Some(route) = self.routes.remove(&(producer, node)) else { return false };
        self.request(node, Request::CloseProducer { producer }).expect("it exists");
        let to = PipeEnd::Node(LinkKey(node as u32));
        let request = Request::ClosePipeConsumer { to, route: route.id, epoch: route.epoch };
        self.say(node, route.home, Event::Request { node: route.home, request: Box::new(request) });
        self.nodes[node].as_mut().expect("it is running").free_routes.push((route.id, route.epoch.0));
        true
    }

    /// A node is known to be gone: nothing is sent to it any more.
    pub(crate) fn end_routes_to(&mut self, gone: usize) {
        let to = PipeEnd::Node(LinkKey(gone as u32));
        for (_, route) in self.routes.extract_if(.., |(_, node), _| *node == gone).collect::<Vec<_>>() {
            // Its producer may be gone too.
            let request = Request::ClosePipeConsumer { to, route: route.id, epoch: route.epoch };
            let _ = self.request(route.home, request);
        }
    }
}
