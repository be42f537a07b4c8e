//! The gRPC services. The caller is who its certificate says; what it claims beyond that is its own incarnation.

use std::sync::Arc;
use std::time::Duration;

use sluice_proto::ids::{NodeId, NodeInstance, RoomKey};
use sluice_proto::placement::directory_server::Directory;
use sluice_proto::placement::rosters_server::Rosters;
use sluice_proto::placement::{
    FollowRequest, Holders, LookupRequest, LookupResponse, ReleaseRequest, ReleaseResponse, RenewRequest,
    RenewResponse, RosterUpdate,
};
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Span;

use super::driver::{Shared, TRACEPARENT};
use super::tls::{self, Refusal};
use crate::metrics::Refused;
use crate::rosters::{StreamId, Void};
use crate::wire;

/// Largest request: 256 rooms of the longest names are 70 KiB.
pub(super) const MAX_REQUEST_LEN: usize = 256 * 1024;

/// Rooms in one request; this program's own requests have 256.
const MAX_ROOMS: usize = 1_024;

/// Updates between the core and the stream; more wait in the core, as a difference.
const UPDATES: usize = 4;

/// A stream must begin with its first message.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Both services.
#[derive(Debug, Clone)]
pub(super) struct Services(pub(super) Arc<Shared>);

#[tonic::async_trait]
impl Directory for Services {
    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let span = match request.metadata().get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
            Some(parent) => self.adopt(tracing::info_span!("directory.renew", node = %self.0.me.node), parent),
            None => Span::none(),
        };
        let _entered = span.enter();
        let certificate = self.authenticate(&request)?;
        let request = request.into_inner();
        let holder = self.claim(&certificate, request.holder.as_ref())?;
        let rooms = self.rooms(&request.rooms)?;
        let held = self.0.step(|state, now| state.core.renew(now, &holder, &rooms));
        let rooms = held.map_err(|error| self.void(&error))?.iter().map(|holders| to_holders(holders)).collect();
        Ok(Response::new(RenewResponse { rooms }))
    }

    async fn release(&self, request: Request<ReleaseRequest>) -> Result<Response<ReleaseResponse>, Status> {
        let certificate = self.authenticate(&request)?;
        let request = request.into_inner();
        let holder = self.claim(&certificate, request.holder.as_ref())?;
        let rooms = self.rooms(&request.rooms)?;
        self.0.step(|state, _| state.core.release(&holder, &rooms));
        Ok(Response::new(ReleaseResponse {}))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        self.authenticate(&request)?;
        let rooms = self.rooms(&request.into_inner().rooms)?;
        let rooms =
            self.0.step(|state, now| rooms.iter().map(|room| to_holders(&state.core.lookup(now, room))).collect());
        Ok(Response::new(LookupResponse { rooms }))
    }
}

#[tonic::async_trait]
impl Rosters for Services {
    type FollowStream = ReceiverStream<Result<RosterUpdate, Status>>;

    async fn follow(&self, request: Request<Streaming<FollowRequest>>) -> Result<Response<Self::FollowStream>, Status> {
        let certificate = self.authenticate(&request)?;
        let (updates_tx, updates) = mpsc::channel(UPDATES);
        let (services, requests) = (self.clone(), request.into_inner());
        self.0.streams.spawn(async move {
            let cancel = services.0.cancel.clone();
            tokio::select! {
                () = cancel.cancelled() => {}
                () = services.serve_follower(certificate, requests, updates_tx) => {}
            }
        });
        Ok(Response::new(ReceiverStream::new(updates)))
    }
}

impl Services {
    async fn serve_follower(
        &self,
        certificate: NodeId,
        mut requests: Streaming<FollowRequest>,
        updates: mpsc::Sender<Result<RosterUpdate, Status>>,
    ) {
        let stream = match self.open_stream(&certificate, &mut requests).await {
            Ok(stream) => stream,
            Err(error) => {
                // Fails only when the follower is gone already.
                let _ = updates.send(Err(error)).await;
                return;
            }
        };
        let result = tokio::select! {
            result = self.hear(stream.id, &mut requests) => result,
            () = self.tell(&stream, &updates) => Ok(()),
        };
        if let Err(error) = result {
            let _ = updates.send(Err(error)).await;
        }
    }

    /// Waits for the first message and registers the follower.
    async fn open_stream(
        &self,
        certificate: &NodeId,
        requests: &mut Streaming<FollowRequest>,
    ) -> Result<FollowerStream, Status> {
        let hello = timeout(HELLO_TIMEOUT, requests.message()).await;
        let hello = hello.map_err(|_| Status::deadline_exceeded("who is asking?"))??;
        let hello = hello.ok_or_else(|| Status::invalid_argument("who is asking?"))?;
        let follower = self.claim(certificate, hello.follower.as_ref())?;
        let notify = Arc::new(Notify::new());
        let id = self
            .0
            .step(|state, _| {
                let id = StreamId(state.next_stream);
                state.next_stream += 1;
                state.core.rosters.follower_opened(id, &follower)?;
                state.followers.insert(id, Arc::clone(&notify));
                Ok(id)
            })
            .map_err(|error: Void| self.void(&error))?;
        let stream = FollowerStream { id, notify, shared: Arc::clone(&self.0) };
        self.take(id, &hello)?;
        Ok(stream)
    }

    /// Takes requests until the stream ends.
    async fn hear(&self, stream: StreamId, requests: &mut Streaming<FollowRequest>) -> Result<(), Status> {
        while let Some(request) = requests.message().await? {
            self.take(stream, &request)?;
        }
        Ok(())
    }

    fn take(&self, stream: StreamId, request: &FollowRequest) -> Result<(), Status> {
        let (follow, unfollow) = (self.rooms(&request.follow)?, self.rooms(&request.unfollow)?);
        let span = if request.traceparent.is_empty() {
            Span::none()
        } else {
            self.adopt(tracing::info_span!("rosters.follow", node = %self.0.me.node), &request.traceparent)
        };
        let _entered = span.enter();
        let trace = (self.0.trace.inject)();
        self.0.step(|state, _| state.core.rosters.follower_request(stream, &follow, &unfollow, trace.as_deref()));
        Ok(())
    }

    /// Tells the follower what there is to tell, until its stream is over.
    async fn tell(&self, stream: &FollowerStream, updates: &mpsc::Sender<Result<RosterUpdate, Status>>) {
        loop {
            let (update, open) = self.0.step(|state, _| {
                let rosters = &mut state.core.rosters;
                (rosters.poll_update(stream.id), rosters.is_open(stream.id) && !state.closing)
            });
            match update {
                Some(update) => {
                    if updates.send(Ok(update)).await.is_err() {
                        return;
                    }
                }
                None if open => stream.notify.notified().await,
                None => return,
            }
        }
    }

    fn authenticate<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        tls::peer_node(request).map_err(|refusal| self.refuse(refusal))
    }

    fn claim(
        &self,
        certificate: &NodeId,
        claim: Option<&sluice_proto::placement::NodeInstance>,
    ) -> Result<NodeInstance, Status> {
        tls::check_claim(certificate, claim).map_err(|refusal| self.refuse(refusal))
    }

    fn refuse(&self, refusal: Refusal) -> Status {
        tracing::warn!(%refusal, "refused a node's request");
        self.0.metrics.refuse(match refusal {
            Refusal::NoNode => Refused::NoNode,
            Refusal::Malformed(_) => Refused::Malformed,
            Refusal::OtherNode { .. } => Refused::OtherNode,
        });
        refusal.into()
    }

    fn void(&self, error: &dyn std::error::Error) -> Status {
        self.0.metrics.refuse(Refused::Void);
        Status::failed_precondition(error.to_string())
    }

    fn rooms(&self, rooms: &[sluice_proto::placement::RoomKey]) -> Result<Vec<RoomKey>, Status> {
        let malformed = |message: String| {
            self.0.metrics.refuse(Refused::Malformed);
            Status::invalid_argument(message)
        };
        if rooms.len() > MAX_ROOMS {
            return Err(malformed(format!("{} rooms in one request, at most {MAX_ROOMS} are allowed", rooms.len())));
        }
        wire::rooms(rooms).map_err(|error| malformed(error.to_string()))
    }

    fn adopt(&self, span: Span, parent: &str) -> Span {
        (self.0.trace.set_parent)(&span, parent);
        span
    }
}

/// A registered follower; dropping it takes it out.
struct FollowerStream {
    id: StreamId,
    notify: Arc<Notify>,
    shared: Arc<Shared>,
}

impl Drop for FollowerStream {
    fn drop(&mut self) {
        self.shared.step(|state, _| {
            state.followers.remove(&self.id);
            state.core.rosters.follower_closed(self.id);
        });
    }
}

fn to_holders(holders: &[NodeInstance]) -> Holders {
    Holders { holders: holders.iter().map(wire::to_instance).collect() }
}
