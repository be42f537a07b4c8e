//! Connections: accepted up to a limit, given a time to say what they want, told to end when the node does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

/// Bytes of a request's line and header. Browsers send 1 to 2 KiB; a token in the URL may add as much again.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Fields of a header. Browsers send about 20.
const MAX_HEADER_FIELDS: usize = 64;

/// How long the last responses may take when the node ends. WebSockets are not waited for: rooms have closed them before.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Pause after the system refused a connection: it is out of file descriptors, and asking again at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a server is set up.
pub(crate) struct ServerConfig {
    /// Which port it is, for the log.
    pub(crate) name: &'static str,
    /// Connections at a time, WebSockets included; further ones wait in the kernel's queue.
    pub(crate) max_connections: usize,
    /// Time for TLS, and for each request's header.
    pub(crate) header_timeout: Duration,
    /// For HTTPS.
    pub(crate) tls: Option<TlsAcceptor>,
}

/// What happened on a port since the start.
#[derive(Debug, Default)]
pub(crate) struct HttpCounters {
    /// Connections now, WebSockets included.
    pub(crate) open: AtomicU64,
    /// Connections ever.
    pub(crate) accepted: AtomicU64,
    /// Connections that ended with something that was not TLS or not HTTP, or too large, or too slow.
    pub(crate) failed: AtomicU64,
}

/// What a request's handler knows of its connection. Whoever goes on using the connection after the response (a WebSocket)
/// keeps a clone, and with it the connection's place among the allowed.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// The other end.
    pub(crate) remote: SocketAddr,
    _place: Arc<Place>,
}

#[derive(Debug)]
struct Place {
    counters: Arc<HttpCounters>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A listening server.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) local_addr: SocketAddr,
    /// What happened.
    pub(crate) counters: Arc<HttpCounters>,
    stop: CancellationToken,
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl Server {
    /// Serves `router` to whoever connects. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the listener is unusable.
    pub(crate) fn spawn(
        listener: std::net::TcpListener,
        config: ServerConfig,
        router: Router,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let local_addr = listener.local_addr()?;
        let counters = Arc::new(HttpCounters::default());
        let acceptor = Acceptor {
            listener: TcpListener::from_std(listener)?,
            places: Arc::new(Semaphore::new(config.max_connections)),
            shared: Arc::new(Shared { router, config, counters: counters.clone() }),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let (stop, tasks) = (acceptor.stop.clone(), acceptor.tasks.clone());
        let ended = CancellationToken::new();
        let end = ended.clone().drop_guard();
        tasks.spawn(async move {
            let _end = end;
            acceptor.run().await;
        });
        Ok(Self { local_addr, counters, stop, tasks, ended })
    }

    /// Waits until nobody is let in any more: without [`Self::shutdown`], something broke.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.ended.clone().cancelled_owned()
    }

    /// Takes no more connections and lets the requests under way end.
    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(DRAIN_TIME, self.tasks.wait()).await.is_err() {
            tracing::info!(port = %self.local_addr, "some responses did not end in time");
        }
    }
}

struct Shared {
    router: Router,
    config: ServerConfig,
    counters: Arc<HttpCounters>,
}

struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Acceptor {
    async fn run(self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept() => {}
        }
    }

    async fn accept(self) {
        // The semaphore is never closed, so this ends only with the server.
        while let Ok(permit) = self.places.clone().acquire_owned().await {
            match self.listener.accept().await {
                Ok((stream, remote)) => self.spawn(stream, remote, permit),
                Err(error) => {
                    tracing::warn!(port = self.shared.config.name, %error, "the system refused a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn spawn(&self, stream: TcpStream, remote: SocketAddr, permit: OwnedSemaphorePermit) {
        let counters = &self.shared.counters;
        counters.accepted.fetch_add(1, Ordering::Relaxed);
        counters.open.fetch_add(1, Ordering::Relaxed);
        let connection = Connection { remote, _place: Arc::new(Place { counters: counters.clone(), _permit: permit }) };
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(reason) = shared.serve(stream, connection, stop).await {
                shared.counters.failed.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(port = shared.config.name, %remote, reason, "connection failed");
            }
        });
    }
}

impl Shared {
    async fn serve(&self, stream: TcpStream, connection: Connection, stop: CancellationToken) -> Result<(), String> {
        // Signalling is small messages, each of which somebody waits for.
        stream.set_nodelay(true).map_err(|error| error.to_string())?;
        let Some(tls) = &self.config.tls else { return self.serve_http(stream, connection, stop).await };
        let handshake = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            handshake = tokio::time::timeout(self.config.header_timeout, tls.accept(stream)) => handshake,
        };
        let stream =
            handshake.map_err(|_| "no TLS handshake in time".to_owned())?.map_err(|error| error.to_string())?;
        self.serve_http(stream, connection, stop).await
    }

    async fn serve_http<S>(&self, stream: S, connection: Connection, stop: CancellationToken) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            self.router.clone().oneshot(request.map(Body::new))
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.config.header_timeout)
            .max_header_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADER_FIELDS);
        let serving = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
        let mut serving = std::pin::pin!(serving);
        let result = tokio::select! {
            result = serving.as_mut() => result,
            () = stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        result.map_err(|error| error.to_string())
    }
}
