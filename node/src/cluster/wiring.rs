//! The real workers, mesh and placement behind the narrow borders that rooms are built upon.

use std::sync::Arc;

use sluice_media::messages::{Request, WorkerIndex};
use sluice_mesh::{DataMessage, Frame, FrameSink, LinkKey, Mesh, MeshEvent};
use sluice_placement::{Members, PartDelta, Placement, RoomHandle};
use sluice_proto::ids::{NodeInstance, Region, RoomKey, RouteEpoch, RouteId};
use sluice_proto::pipe::{RouteControl, RouteFeedback};
use tokio::sync::{mpsc, watch};

use crate::ports::{Answer, EnteredRoom, MediaWorker, MeshPort, MeshSignal, PlacementPort, RosterPublisher};
use crate::vitals::Vitals;
use crate::worker::{FrameOut, WorkerHandle};

/// Mesh signals that wait for the rooms' pipe task. It does a table look-up for each; while it is full the peers'
/// control streams wait.
const SIGNAL_QUEUE: usize = 1_024;

impl MediaWorker for WorkerHandle {
    fn index(&self) -> WorkerIndex {
        Self::index(self)
    }

    fn request(&self, request: Request) -> Answer {
        Box::pin(Self::request(self, request))
    }

    fn send(&self, request: Request) {
        Self::send(self, request);
    }

    fn try_send(&self, request: Request) -> Result<(), Box<Request>> {
        Self::try_send(self, request)
    }
}

/// Takes what workers send to other nodes.
pub(crate) struct MeshOut(pub(crate) Mesh);

impl FrameOut for MeshOut {
    fn send_frames(&self, to: LinkKey, frames: &mut Vec<Frame>) {
        self.0.send_frames(to, frames);
    }

    fn send_feedback(&self, to: LinkKey, feedback: RouteFeedback) {
        self.0.send_feedback(to, feedback);
    }

    fn send_data(&self, to: LinkKey, message: DataMessage) {
        self.0.send_data(to, message);
    }
}

/// The mesh, and where each worker takes frames.
pub(crate) struct MeshWiring {
    mesh: Mesh,
    sinks: Vec<Arc<dyn FrameSink>>,
}

impl MeshWiring {
    /// Joins the mesh to the workers.
    pub(crate) fn new(mesh: Mesh, workers: &[WorkerHandle]) -> Self {
        Self { mesh, sinks: workers.iter().map(WorkerHandle::frame_sink).collect() }
    }
}

impl MeshPort for MeshWiring {
    fn allocate_route(&self, worker: WorkerIndex) -> Option<(RouteId, RouteEpoch)> {
        self.mesh.allocate_route(self.sinks.get(usize::from(worker.0))?.clone())
    }

    fn release_route(&self, route: RouteId) {
        self.mesh.release_route(route);
    }

    fn open_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch, worker: WorkerIndex) {
        if let Some(sink) = self.sinks.get(usize::from(worker.0)) {
            self.mesh.open_route_out(link, route, epoch, sink.clone());
        }
    }

    fn close_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch) {
        self.mesh.close_route_out(link, route, epoch);
    }

    fn send_control(&self, link: LinkKey, message: RouteControl) -> bool {
        self.mesh.send_control(link, message)
    }
}

/// Hands the mesh's events over in the words of rooms, until either side ends.
pub(crate) fn mesh_signals(mut events: mpsc::Receiver<MeshEvent>, vitals: &Vitals) -> mpsc::Receiver<MeshSignal> {
    let (sender, receiver) = mpsc::channel(SIGNAL_QUEUE);
    vitals.spawn("the pipes' events", async move {
        while let Some(event) = events.recv().await {
            if sender.send(signal(event)).await.is_err() {
                return;
            }
        }
    });
    receiver
}

fn signal(event: MeshEvent) -> MeshSignal {
    match event {
        MeshEvent::LinkUp { key, instance } => {
            tracing::info!(peer = %instance, "pipe up");
            MeshSignal::LinkUp { link: key, instance }
        }
        MeshEvent::LinkDown { key, instance, reason } => {
            tracing::info!(peer = %instance, ?reason, "pipe down");
            MeshSignal::LinkDown { link: key }
        }
        MeshEvent::Control { key, message } => MeshSignal::Control { link: key, message },
    }
}

/// Placement, with what membership says of nodes.
pub(crate) struct PlacementWiring {
    placement: Placement,
    members: watch::Receiver<Arc<Members>>,
}

impl PlacementWiring {
    /// Joins placement and membership.
    pub(crate) fn new(placement: Placement, members: watch::Receiver<Arc<Members>>) -> Self {
        Self { placement, members }
    }
}

impl PlacementPort for PlacementWiring {
    fn enter(&self, room: RoomKey) -> Result<EnteredRoom, String> {
        let span = tracing::info_span!("enter room", %room);
        let (handle, events) = span.in_scope(|| self.placement.enter(room)).map_err(|error| error.to_string())?;
        Ok(EnteredRoom { publisher: Box::new(handle), events })
    }

    fn region(&self, node: &NodeInstance) -> Option<Region> {
        let members = self.members.borrow();
        let member = members.get(&node.node).filter(|member| member.instance == *node)?;
        Some(member.facts.region.clone())
    }
}

impl RosterPublisher for RoomHandle {
    fn publish(&self, delta: PartDelta) {
        Self::publish(self, delta);
    }
}
