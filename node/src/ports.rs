//! What rooms need of the three parts that they bring together: media workers, the mesh and placement.
//!
//! Each is a narrow trait. The node's assembly gives the real ones; tests give scripted ones, because what crosses
//! these borders is messages.

use std::pin::Pin;
use std::sync::Arc;

use sluice_media::messages::{Request, RequestError, Response, WorkerEvent, WorkerIndex};
use sluice_mesh::LinkKey;
use sluice_placement::{PartDelta, RosterEvent};
use sluice_proto::ids::{NodeInstance, Region, RoomKey, RouteEpoch, RouteId};
use sluice_proto::pipe::RouteControl;
use tokio::sync::mpsc;

use crate::events::Events;
use crate::vitals::Vitals;

/// The answer to a request, to be awaited.
pub(crate) type Answer = Pin<Box<dyn Future<Output = Result<Response, RequestError>> + Send>>;

/// A media worker of this node.
pub(crate) trait MediaWorker: Send + Sync {
    /// Its index within the node.
    fn index(&self) -> WorkerIndex;
    /// Queues a request at once, in order with everything else that is sent; the answer comes through the future.
    fn request(&self, request: Request) -> Answer;
    /// Queues a request whose answer only the log needs.
    fn send(&self, request: Request);
    /// As [`send`](Self::send), but gives back what is not taken. What ends something is always taken, unless the
    /// worker is gone.
    ///
    /// # Errors
    /// The request, if there is no room for it.
    fn try_send(&self, request: Request) -> Result<(), Box<Request>>;
}

/// The pipes to other nodes. The assembly keeps a pipe to every member, so that the first subscription finds it warm.
pub(crate) trait MeshPort: Send + Sync {
    /// A route into this node whose packets go to `worker`; `None` when the table is full.
    fn allocate_route(&self, worker: WorkerIndex) -> Option<(RouteId, RouteEpoch)>;
    /// Frees a route.
    fn release_route(&self, route: RouteId);
    /// Lets feedback about a route out of this node reach `worker`, until it is closed or the link goes down.
    fn open_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch, worker: WorkerIndex);
    /// Closes a route out of this node.
    fn close_route_out(&self, link: LinkKey, route: RouteId, epoch: RouteEpoch);
    /// Says something about a route, reliably and in order while the link is up; never blocks. False when there is no
    /// room for it now.
    #[must_use]
    fn send_control(&self, link: LinkKey, message: RouteControl) -> bool;
}

/// What the mesh tells.
#[derive(Debug)]
pub(crate) enum MeshSignal {
    /// A pipe is up. Nothing of what was said before is known to the other end.
    LinkUp {
        /// The pipe. No other one ever has this key.
        link: LinkKey,
        /// The node at the other end.
        instance: NodeInstance,
    },
    /// A pipe is no more. It is said before the next pipe to the same node is up.
    LinkDown {
        /// The pipe.
        link: LinkKey,
    },
    /// The other end said something about a route.
    Control {
        /// The pipe.
        link: LinkKey,
        /// What it said.
        message: RouteControl,
    },
}

/// The directory and the rosters.
pub(crate) trait PlacementPort: Send + Sync {
    /// Takes the lease of a room and follows every other holder's part; the current span's trace travels along.
    ///
    /// # Errors
    /// In words for the user, when the room cannot be entered.
    fn enter(&self, room: RoomKey) -> Result<EnteredRoom, String>;
    /// The region that a node says it is in, when it is a member.
    fn region(&self, node: &NodeInstance) -> Option<Region>;
}

/// This node's presence in a room; given up at once when dropped.
pub(crate) struct EnteredRoom {
    /// Publishes this node's part.
    pub publisher: Box<dyn RosterPublisher>,
    /// The parts of the others.
    pub events: mpsc::Receiver<RosterEvent>,
}

/// Publishes this node's part of a room.
pub(crate) trait RosterPublisher: Send + Sync {
    /// Changes the part; what is different then is told to every node that shares the room.
    fn publish(&self, delta: PartDelta);
}

/// Everything that rooms are built upon.
pub(crate) struct Ports {
    /// The media workers, by index.
    pub workers: Vec<Arc<dyn MediaWorker>>,
    /// What the workers tell.
    pub worker_events: mpsc::Receiver<(WorkerIndex, WorkerEvent)>,
    /// The mesh.
    pub mesh: Arc<dyn MeshPort>,
    /// What the mesh tells.
    pub mesh_signals: mpsc::Receiver<MeshSignal>,
    /// Directory and rosters.
    pub placement: Arc<dyn PlacementPort>,
    /// Where rooms tell what happens in them.
    pub events: Events,
    /// Where the end of what rooms cannot do without is told.
    pub vitals: Vitals,
}
