//! What a node has of the net: the port of its pipes, and the way out of its workers.

use sluice_media::messages::WorkerIndex;
use sluice_mesh::{DataMessage, Frame, LinkKey};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{PipeMessage, RouteControl, RouteFeedback};

use super::{MAX_DATAGRAM, Net};
use crate::ports::MeshPort;
use crate::worker::FrameOut;

/// One node's end of the net.
pub(crate) struct NetPort {
    pub(super) net: Net,
    pub(super) node: usize,
}

impl MeshPort for NetPort {
    fn allocate_route(&self, worker: WorkerIndex) -> Option<(RouteId, RouteEpoch)> {
        let node = &mut self.net.state().nodes[self.node];
        let (id, epoch) = node.free.pop_front()?;
        node.routes_in.insert(RouteId(id), (RouteEpoch(epoch), worker));
        Some((RouteId(id), RouteEpoch(epoch)))
    }

    fn release_route(&self, route: RouteId) {
        let node = &mut self.net.state().nodes[self.node];
        let (epoch, _) = node.routes_in.remove(&route).expect("a route is released once");
        node.free.push_back((route.0, epoch.0.wrapping_add(1)));
    }

    fn open_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch, worker: WorkerIndex) {
        if let Some(end) = self.net.state().nodes[self.node].ends.get_mut(&link) {
            end.routes_out.insert(route, (epoch, worker));
        }
    }

    fn close_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch) {
        if let Some(end) = self.net.state().nodes[self.node].ends.get_mut(&link)
            && end.routes_out.get(&route).is_some_and(|(of, _)| *of == epoch)
        {
            end.routes_out.remove(&route);
        }
    }

    fn send_control(&self, link: LinkKey, message: RouteControl) -> bool {
        self.net.state().say(self.node, link, PipeMessage::Control(message))
    }
}

impl FrameOut for NetPort {
    fn send_frames(&self, to: LinkKey, frames: &mut Vec<Frame>) {
        let state = &mut *self.net.state();
        let mut rest = &frames[..];
        while let Some(encoded) = state.encoder.encode_next(rest, MAX_DATAGRAM) {
            rest = &rest[encoded.frames..];
            for data in encoded.datagrams.into_iter().flat_map(|(first, second)| std::iter::once(first).chain(second)) {
                state.send_datagram(self.node, to, &data);
            }
        }
        frames.clear();
    }

    fn send_feedback(&self, to: LinkKey, feedback: RouteFeedback) {
        self.net.state().say(self.node, to, PipeMessage::Feedback(feedback));
    }

    fn send_data(&self, to: LinkKey, message: DataMessage) {
        self.net.state().send_data(self.node, to, message);
    }
}
