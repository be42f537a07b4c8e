//! A pipe: a link while it lives. Each of its jobs is a task; all end with it.

use std::sync::Arc;

use quinn::ConnectionError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::close::CloseCode;
use super::counters::DropReason;
use super::link::{Established, Link};
use super::routes::RouteTable;
use super::sender::Sender;
use super::types::{Gossip, MeshEvent, Newer};
use super::{control, data, gossip, receiver, streams};
use crate::shed::Shedder;

/// What pipes work with, besides their link.
#[derive(Clone)]
pub(super) struct PipeContext {
    pub(super) events: mpsc::Sender<MeshEvent>,
    pub(super) gossip: mpsc::Sender<Gossip>,
    pub(super) routes: Arc<RouteTable>,
    pub(super) stop: CancellationToken,
    /// The endpoint has ended.
    pub(super) ended: CancellationToken,
    /// What a peer said of a newer incarnation of this node.
    pub(super) newer: watch::Sender<Option<Newer>>,
}

pub(super) struct Pipe {
    pub(super) link: Arc<Link>,
    pub(super) context: PipeContext,
}

impl Pipe {
    /// Runs until the connection is closed, by whomever.
    pub(super) async fn run(self, established: Established, shedder: &mut Shedder) -> ConnectionError {
        let Established { current, stream, control, feedback, gossip } = established;
        let Self { link, context } = self;
        let connection = current.connection.clone();
        // What waited for the connection before is too old to be of use.
        let mut stale = Vec::new();
        link.queue.take(&mut stale);
        link.counters.drop(DropReason::LinkDown, stale.len() as u64);

        let mut jobs = JoinSet::new();
        let (send, stream) = control::split(stream);
        let reader = control::Reader {
            link: link.clone(),
            current: current.clone(),
            routes: context.routes.clone(),
            events: context.events,
        };
        jobs.spawn(control::write(link.clone(), current.clone(), send, control, feedback));
        jobs.spawn(reader.run(stream));
        let readers = (
            gossip::Reader::new(link.clone(), context.gossip),
            data::Reader::new(link.clone(), current.clone(), context.routes.clone()),
        );
        jobs.spawn(streams::read(connection.clone(), readers.0, readers.1));
        jobs.spawn(receiver::run(link.clone(), current.clone(), context.routes));
        jobs.spawn(gossip::write(link.clone(), connection.clone(), gossip));
        jobs.spawn(data::write(link.clone(), current.clone()));
        let sender = Sender::new(&link, &current, shedder);
        let ended = tokio::select! {
            ended = connection.closed() => ended,
            never = sender.run() => match never {},
            // They end with the connection; one that panicked would leave a connection that only looks alive.
            Some(job) = jobs.join_next() => {
                if let Err(error) = job {
                    error!(peer = %link.instance, %error, "a task of the link has failed");
                }
                CloseCode::Broken.close(&connection);
                connection.closed().await
            }
        };
        jobs.shutdown().await;
        ended
    }
}
