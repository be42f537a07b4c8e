//! The way to another node: a connection that is kept up as long as the node is a member, and on it the stream by which
//! this node follows its parts. A join finds both open.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rand::RngExt;
use sluice_proto::ids::NodeInstance;
use sluice_proto::placement::rosters_client::RostersClient;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::service_fn;

use super::driver::Shared;
use super::tls::Tls;
use crate::rosters::MAX_MESSAGE_LEN;

/// A node that does not answer within this is tried again.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection on which nothing comes for as long as these two together is given up. Membership notices a death
/// sooner; this is for a path that broke between two living nodes.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(3));

/// What the other node may send without waiting for an acknowledgement, in bytes: a large room's snapshot comes in one
/// round trip; HTTP/2's own 64 KiB would make it several.
const WINDOW: u32 = 2 * 1024 * 1024;

/// Wait before a broken stream is opened again, doubled each time it breaks at once.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// A stream that lived this long was a good one: the next wait is the shortest again.
const GOOD_STREAM: Duration = Duration::from_secs(2);

/// Requests between the core and the stream; more wait in the core, as a difference.
const REQUESTS: usize = 4;

/// How other nodes are dialled.
#[derive(Debug, Clone)]
pub(super) struct Dialling {
    /// The certificates of the moment: each new connection uses the newest.
    pub(super) tls: watch::Receiver<Tls>,
    /// Where this node listens.
    pub(super) listen: IpAddr,
}

impl Dialling {
    fn connector(
        &self,
        addr: SocketAddr,
    ) -> impl Service<Uri, Response = Stream, Error = io::Error, Future: Send> + Send + use<> {
        let (tls, source) = (self.tls.clone(), dial_source(self.listen, addr.ip()));
        service_fn(move |_: Uri| {
            let now = tls.borrow().clone();
            async move {
                let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
                if let Some(source) = source {
                    socket.bind((source, 0).into())?;
                }
                let stream = socket.connect(addr).await?;
                // Updates are small and a user waits for them.
                stream.set_nodelay(true)?;
                TlsConnector::from(now.client).connect(now.server_name, stream).await.map(TokioIo::new)
            }
        })
    }
}

type Stream = TokioIo<TlsStream<TcpStream>>;

/// The address to dial another node's gRPC port at `to` from, by a node that listens at `listen`. A node that was told
/// to listen on one of its machine's addresses is known by that one, to the firewalls between nodes too; its pipes are
/// dialled from there as well. `None` lets the system choose.
pub fn dial_source(listen: IpAddr, to: IpAddr) -> Option<IpAddr> {
    // Nothing gets from loopback to anywhere else.
    let leads_there = !listen.is_unspecified() && listen.is_loopback() == to.is_loopback();
    leads_there.then_some(listen)
}

/// See the module. Dropping it ends the task.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) instance: NodeInstance,
    pub(super) addr: SocketAddr,
    pub(super) channel: Channel,
    /// There are requests to send.
    pub(super) notify: Arc<Notify>,
    _cancel: DropGuard,
}

impl Link {
    /// Connects to a node and keeps following it.
    pub(super) fn spawn(
        shared: &Arc<Shared>,
        instance: NodeInstance,
        addr: SocketAddr,
        dialling: &Dialling,
    ) -> Result<Self, tonic::transport::Error> {
        // The connector speaks TLS; to the rest it is plain HTTP/2.
        let channel = Endpoint::from_shared(format!("http://{addr}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .http2_keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(dialling.connector(addr));
        let (notify, cancel) = (Arc::new(Notify::new()), shared.cancel.child_token());
        let task = run(Arc::clone(shared), instance.clone(), channel.clone(), Arc::clone(&notify), cancel.clone());
        shared.streams.spawn(task);
        Ok(Self { instance, addr, channel, notify, _cancel: cancel.drop_guard() })
    }
}

async fn run(
    shared: Arc<Shared>,
    instance: NodeInstance,
    channel: Channel,
    notify: Arc<Notify>,
    cancel: CancellationToken,
) {
    let _vital = shared.vital();
    let mut wait = BACKOFF.0;
    loop {
        let began = Instant::now();
        if shared.step(|state, _| state.core.rosters.follow_opened(&instance)) {
            let result = tokio::select! {
                () = cancel.cancelled() => return,
                result = follow(&shared, &instance, &channel, &notify) => result,
            };
            shared.step(|state, _| state.core.rosters.follow_closed(&instance));
            shared.metrics.stream_broke();
            let error = result.err().unwrap_or_else(|| Status::new(Code::Ok, "the other end closed it"));
            tracing::debug!(node = %instance, %error, "the roster stream ended");
        }
        if began.elapsed() >= GOOD_STREAM {
            wait = BACKOFF.0;
        }
        // Jitter, so that a node that comes back is not met by all others in the same instant.
        let jittered = wait.mul_f64(rand::rng().random_range(0.75..1.25));
        wait = (wait * 2).min(BACKOFF.1);
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(jittered) => {}
        }
    }
}

/// One stream, until it ends.
async fn follow(
    shared: &Arc<Shared>,
    instance: &NodeInstance,
    channel: &Channel,
    notify: &Notify,
) -> Result<(), Status> {
    let (requests_tx, requests) = mpsc::channel(REQUESTS);
    let ask = async {
        loop {
            while let Some(request) = shared.step(|state, _| state.core.rosters.poll_request(instance)) {
                if requests_tx.send(request).await.is_err() {
                    return Ok(());
                }
            }
            notify.notified().await;
        }
    };
    let listen = async {
        let mut client = RostersClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_LEN);
        let mut updates = client.follow(ReceiverStream::new(requests)).await?.into_inner();
        while let Some(update) = updates.message().await? {
            shared.step(|state, _| state.core.rosters.handle_update(instance, update));
        }
        Ok(())
    };
    tokio::select! {
        result = ask => result,
        result = listen => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_dials_from_where_it_listens_if_that_leads_there() {
        let source = |listen: &str, to: &str| {
            dial_source(listen.parse().unwrap(), to.parse().unwrap()).map(|source| source.to_string())
        };
        assert_eq!(source("10.0.0.7", "10.0.0.8").as_deref(), Some("10.0.0.7"));
        assert_eq!(source("127.0.0.2", "127.0.0.1").as_deref(), Some("127.0.0.2"));
        assert_eq!(source("0.0.0.0", "10.0.0.8"), None);
        assert_eq!(source("::", "10.0.0.8"), None);
        assert_eq!(source("127.0.0.1", "10.0.0.8"), None);
        assert_eq!(source("10.0.0.7", "127.0.0.1"), None);
    }
}
