//! What happens to a peer's packets, for an operator who looks.

use std::time::Duration;

use futures_util::future::join_all;
use sluice_media::messages::{Request, Response, WorkerIndex};
use sluice_media::trace::{TraceTypes, Traced};
use sluice_proto::ids::{PeerId, RoomKey, TransportId};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Rooms;
use super::api::Refusal;
use super::overview::{ANSWER_WITHIN, ask};
use super::room::{Room, RoomMessage};

/// Where a peer's packets pass.
#[derive(Debug)]
pub(crate) struct Paths {
    worker: WorkerIndex,
    transports: Vec<TransportId>,
}

/// A peer of this node that is traced, until this is dropped.
pub(crate) struct Tracing {
    rooms: Rooms,
    room: RoomKey,
    peer: PeerId,
    types: TraceTypes,
    /// What is traced now.
    paths: Option<Paths>,
}

impl Rooms {
    /// Begins to trace a peer when it is asked for the first time what happened.
    pub(crate) fn trace(&self, room: RoomKey, peer: PeerId, types: TraceTypes) -> Tracing {
        Tracing { rooms: self.clone(), room, peer, types, paths: None }
    }
}

impl Tracing {
    /// What happened on each of the peer's transports since this was asked last. They are traced for so long, or until
    /// it is asked again.
    ///
    /// # Errors
    /// When this node has no such room or peer, or it does not answer.
    pub(crate) async fn go_on(&mut self, within: Duration) -> Result<Vec<(TransportId, Traced)>, Refusal> {
        let paths = self.find_paths().await.inspect_err(|_| self.paths = None)?;
        let paths = self.paths.insert(paths);
        let (types, worker) = (self.types, self.rooms.inner.context.worker(paths.worker));
        let answers = paths.transports.iter().map(|transport| {
            let transport = *transport;
            let answer = worker.request(Request::Trace { transport, types, within });
            async move { (transport, answer.await) }
        });
        let answers = timeout(ANSWER_WITHIN, join_all(answers)).await;
        let answers = answers.map_err(|_| Refusal::new(503, "the media worker does not answer"))?;
        // One that has ended meanwhile has nothing to tell.
        let traced = answers.into_iter().filter_map(|(transport, answer)| match answer {
            Ok(Response::Traced(traced)) => Some((transport, traced)),
            _ => None,
        });
        Ok(traced.collect())
    }

    async fn find_paths(&self) -> Result<Paths, Refusal> {
        let room = self.rooms.room(&self.room).ok_or_else(|| Refusal::new(404, "this node is not in the room"))?;
        let peer = self.peer.clone();
        let found = ask(room, |reply| RoomMessage::Paths { peer, reply }).await;
        found.unwrap_or_else(|| Err(Refusal::new(503, "the room does not answer")))
    }
}

impl Drop for Tracing {
    fn drop(&mut self) {
        let Some(Paths { worker, transports }) = self.paths.take() else { return };
        let worker = self.rooms.inner.context.worker(worker);
        for transport in transports {
            let (types, within) = (TraceTypes::NONE, Duration::ZERO);
            // If there is no room for it, or the transport has ended: that ends by itself, too.
            drop(worker.request(Request::Trace { transport, types, within }));
        }
    }
}

impl Room {
    pub(super) fn on_paths_asked(&self, peer: &PeerId, reply: oneshot::Sender<Result<Paths, Refusal>>) {
        let paths = self.session_here(peer).and_then(|session| {
            let peer = self.peers.get(session).ok_or_else(|| Refusal::not_found("peer", peer))?;
            Ok(Paths { worker: peer.worker(), transports: peer.transports().keys().copied().collect() })
        });
        // Whoever asked may have gone.
        let _ = reply.send(paths);
    }
}
