//! Connections: accepted up to a limit, given a time to say what they want, told to end when the node does. Whoever
//! comes beyond the limit is told so at once.

use std::error::Error;
use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONNECTION;
use axum::response::IntoResponse;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::error::HttpError;
use super::forwarded::read_proxy_header;
use crate::address_limits::{AddressLimits, Held};
use crate::config::Network;
use crate::support::lock;

/// Bytes of a request's line and header. Browsers send 1 to 2 KiB; a token in the URL may add as much again.
const MAX_HEADER_BYTES: usize = 16 * 1024;

/// Fields of a header. Browsers send about 20.
const MAX_HEADER_FIELDS: usize = 64;

/// Bytes of a request's body. The only ones are what the API is told to do, a few hundred.
const MAX_BODY_BYTES: usize = 16 * 1024;

/// How long the last responses may take when the node ends. WebSockets are not waited for: rooms have closed them
/// before.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// Connections beyond the limit that are answered all the same, one request each: health checks, and others with a
/// refusal.
const RESERVE: usize = 32;

/// Time that one of them has for all of it: there are few, and whoever is near enough to check a node's health is fast.
const RESERVE_TIME: Duration = Duration::from_secs(2);

/// What the kernel holds of answers that a client does not take; it would let 4 MiB wait otherwise. A page of 300 KiB
/// goes out in two or three round trips.
const SEND_BUFFER_BYTES: usize = 128 * 1024;

/// Pause after the system refused a connection: asking again at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two warnings that the system refuses connections.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// Between two lines of the log about proxies that do not say for whom they come.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// How a server is set up.
pub(crate) struct ServerConfig {
    /// Which port it is, for the log.
    pub(crate) name: &'static str,
    /// Connections at a time, WebSockets included.
    pub(crate) max_connections: usize,
    /// How many of them one address may have, if that is limited.
    pub(crate) address_limits: Option<Arc<AddressLimits>>,
    /// Proxies that say first for whom they come, by the PROXY protocol.
    pub(crate) announcing_proxies: Vec<Network>,
    /// What those find who come beyond [`Self::max_connections`].
    pub(crate) when_full: Router,
    /// Time for TLS, for each request's header, and for its body.
    pub(crate) header_timeout: Duration,
    /// How long a client may take nothing of what waits for it: as long as the network of one with a WebSocket may be
    /// gone.
    pub(crate) silence: Duration,
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
    /// Connections that there was no place for, in all or for their address.
    pub(crate) refused: AtomicU64,
    /// Connections that ended with something that was not TLS or not HTTP, or too large, or too slow.
    pub(crate) failed: AtomicU64,
}

/// What a request's handler knows of its connection. Whoever goes on using the connection after the response (a
/// WebSocket) keeps a clone, and with it the connection's place among the allowed.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// The other end.
    pub(crate) remote: SocketAddr,
    _place: Arc<Slot>,
    /// Of a client that a proxy speaks for.
    _of_client: Option<Arc<Held>>,
}

impl Connection {
    /// The same, of a client that is there.
    pub(crate) fn of(self, remote: SocketAddr) -> Self {
        Self { remote, ..self }
    }
}

#[derive(Debug)]
struct Slot {
    counters: Arc<HttpCounters>,
    _permit: OwnedSemaphorePermit,
    _of_address: Option<Held>,
}

impl Drop for Slot {
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
            reserve: Arc::new(Semaphore::new(RESERVE)),
            spare_file: SpareFile::open(),
            warned: None,
            shared: Arc::new(Shared { router, config, counters: counters.clone(), silent_proxies: Mutex::default() }),
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
        if timeout(DRAIN_TIME, self.tasks.wait()).await.is_err() {
            tracing::info!(port = %self.local_addr, "some responses did not end in time");
        }
    }
}

struct Shared {
    router: Router,
    config: ServerConfig,
    counters: Arc<HttpCounters>,
    /// Connections of proxies without a header of the PROXY protocol.
    silent_proxies: Mutex<Recurring>,
}

/// Something that may happen often and is told now and then.
#[derive(Debug, Default)]
struct Recurring {
    told: Option<Instant>,
    /// Since then.
    count: u64,
}

impl Recurring {
    /// It happened: how often since it was told last, if it is to be told now.
    fn happened(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told.is_some_and(|told| now - told < TELL_EVERY) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

struct Acceptor {
    listener: TcpListener,
    places: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    spare_file: SpareFile,
    warned: Option<Instant>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// A file that is closed when no other can be opened, so that one connection can be accepted: to close it, which tells
/// the client more than waiting in the kernel's queue does.
struct SpareFile(Option<File>);

impl SpareFile {
    fn open() -> Self {
        Self(File::open("/dev/null").ok())
    }
}

/// Whether the process, or the system, has as many files open as it may. Of anything else (a client that gave up before
/// it was accepted, or a network that is down, see accept(2)) whoever comes next knows nothing.
fn is_out_of_files(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

impl Acceptor {
    async fn run(mut self) {
        let stop = self.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.accept() => {}
        }
    }

    async fn accept(&mut self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, remote)) => self.admit(stream, remote),
                Err(error) => self.accept_failed(&error).await,
            }
        }
    }

    async fn accept_failed(&mut self, error: &std::io::Error) {
        let now = Instant::now();
        if self.warned.is_none_or(|warned| now - warned >= WARN_EVERY) {
            self.warned = Some(now);
            tracing::warn!(port = self.shared.config.name, %error, "the system refuses connections");
        }
        if is_out_of_files(error)
            && self.spare_file.0.take().is_some()
            && let Ok(Ok(_)) = timeout(ACCEPT_PAUSE, self.listener.accept()).await
        {
            count(&self.shared.counters.refused);
        } else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        if self.spare_file.0.is_none() {
            self.spare_file = SpareFile::open();
        }
    }

    fn admit(&self, stream: TcpStream, remote: SocketAddr) {
        let Shared { config, counters, .. } = &*self.shared;
        let of_address = match &config.address_limits {
            None => None,
            Some(limits) => match limits.connection(remote.ip()) {
                None => return count(&counters.refused),
                held => held,
            },
        };
        if let Ok(permit) = self.places.clone().try_acquire_owned() {
            count(&counters.accepted);
            self.spawn(stream, remote, permit, of_address, true);
            return;
        }
        count(&counters.refused);
        if let Ok(permit) = self.reserve.clone().try_acquire_owned() {
            self.spawn(stream, remote, permit, of_address, false);
        }
    }

    fn spawn(
        &self,
        stream: TcpStream,
        remote: SocketAddr,
        permit: OwnedSemaphorePermit,
        of_address: Option<Held>,
        has_place: bool,
    ) {
        let counters = &self.shared.counters;
        counters.open.fetch_add(1, Ordering::Relaxed);
        let place = Slot { counters: counters.clone(), _permit: permit, _of_address: of_address };
        let connection = Connection { remote, _place: Arc::new(place), _of_client: None };
        let (shared, stop) = (self.shared.clone(), self.stop.clone());
        self.tasks.spawn(async move {
            let served = shared.serve(stream, connection, stop, has_place);
            let result = match has_place {
                true => served.await,
                false => timeout(RESERVE_TIME, served).await.unwrap_or_else(|_| Err("too slow".to_owned())),
            };
            if let Err(reason) = result {
                count(&shared.counters.failed);
                tracing::debug!(port = shared.config.name, %remote, reason, "connection failed");
            }
        });
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Shared {
    /// `has_place`: whether it may have more than one answer, and become a WebSocket.
    async fn serve(
        &self,
        mut stream: TcpStream,
        mut connection: Connection,
        stop: CancellationToken,
        has_place: bool,
    ) -> Result<(), String> {
        self.prepare(&stream).map_err(|error| error.to_string())?;
        if self.config.announcing_proxies.iter().any(|proxy| proxy.contains(connection.remote.ip())) {
            let header = timeout(self.config.header_timeout, read_proxy_header(&mut stream)).await;
            let header = header.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
            let header = header.inspect_err(|error| self.tell_no_proxy_header(connection.remote, error));
            if let Some(client) = header.map_err(|error| error.to_string())? {
                connection = self.of_client(connection, client)?;
            }
        }
        let Some(tls) = &self.config.tls else { return self.serve_http(stream, connection, stop, has_place).await };
        let handshake = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            handshake = timeout(self.config.header_timeout, tls.accept(stream)) => handshake,
        };
        let stream =
            handshake.map_err(|_| "no TLS handshake in time".to_owned())?.map_err(|error| error.to_string())?;
        self.serve_http(stream, connection, stop, has_place).await
    }

    /// Nobody gets in through a proxy that is not set up as the node is.
    fn tell_no_proxy_header(&self, proxy: SocketAddr, error: &std::io::Error) {
        // Whoever only looks whether the port is open says nothing.
        if error.kind() == ErrorKind::UnexpectedEof {
            return;
        }
        if let Some(count) = lock(&self.silent_proxies).happened(Instant::now()) {
            let port = self.config.name;
            tracing::info!(port, %proxy, %error, count, "connections of proxies lack a good PROXY header");
        }
    }

    /// A connection of a client that a proxy speaks for.
    fn of_client(&self, connection: Connection, client: SocketAddr) -> Result<Connection, String> {
        let limits = self.config.address_limits.as_ref();
        let of_client =
            limits.map(|limits| limits.connection(client.ip()).ok_or("the address has too many connections"));
        let of_client = of_client.transpose().inspect_err(|_| count(&self.counters.refused))?;
        Ok(Connection { remote: client, _of_client: of_client.map(Arc::new), ..connection })
    }

    fn prepare(&self, stream: &TcpStream) -> std::io::Result<()> {
        // Signalling is small messages, each of which somebody waits for.
        stream.set_nodelay(true)?;
        let socket = SockRef::from(stream);
        socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
        // Linux counts the time in which a client's window stays shut, too (tcp(7)).
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(self.config.silence))?;
        Ok(())
    }

    async fn serve_http<S>(
        &self,
        stream: S,
        connection: Connection,
        stop: CancellationToken,
        has_place: bool,
    ) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let router = if has_place { &self.router } else { &self.config.when_full };
        let within = self.config.header_timeout;
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(connection.clone());
            let router = router.clone();
            async move {
                match with_body(request, within).await {
                    Ok(request) => router.oneshot(request).await,
                    // The rest of it may still come.
                    Err(error) => Ok(([(CONNECTION, "close")], error).into_response()),
                }
            }
        });
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .keep_alive(has_place)
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

/// Waits for all of a request.
async fn with_body<B>(request: hyper::Request<B>, within: Duration) -> Result<Request, HttpError>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (head, body) = request.into_parts();
    match timeout(within, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => Ok(Request::from_parts(head, Body::from(body.to_bytes()))),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let words = format!("the body has more than {MAX_BODY_BYTES} bytes");
            Err(HttpError(StatusCode::PAYLOAD_TOO_LARGE, words))
        }
        Ok(Err(error)) => Err(HttpError(StatusCode::BAD_REQUEST, error.to_string())),
        Err(_) => Err(HttpError(StatusCode::REQUEST_TIMEOUT, "the body did not come in time".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::io::Error;

    use futures_util::stream::pending;
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_or_is_too_large_is_not_waited_for() {
        let within = Duration::from_secs(10);
        let status = async |body: Vec<u8>| {
            let request = with_body(hyper::Request::new(Full::new(Bytes::from(body))), within).await;
            request.map(drop).map_err(|error| error.0)
        };
        assert_eq!(status(vec![b'x'; MAX_BODY_BYTES]).await, Ok(()));
        assert_eq!(status(vec![b'x'; MAX_BODY_BYTES + 1]).await, Err(StatusCode::PAYLOAD_TOO_LARGE));
        let begun = Instant::now();
        let half = StreamBody::new(pending::<Result<Frame<Bytes>, Infallible>>());
        let error = with_body(hyper::Request::new(half), within).await.unwrap_err();
        assert_eq!((error.0, begun.elapsed()), (StatusCode::REQUEST_TIMEOUT, within));
    }

    #[test]
    fn what_recurs_is_told_once_a_minute_with_how_often_it_was() {
        let (mut recurring, start) = (Recurring::default(), Instant::now());
        let told: Vec<_> = (0..150).filter_map(|s| recurring.happened(start + Duration::from_secs(s))).collect();
        assert_eq!(told, [1, 60, 60]);
    }

    #[test]
    fn nobody_is_closed_for_what_befell_another() {
        let out_of_files = |errno| is_out_of_files(&Error::from_raw_os_error(errno));
        assert_eq!([libc::EMFILE, libc::ENFILE].map(out_of_files), [true; 2]);
        assert_eq!([libc::ECONNABORTED, libc::ENETDOWN, libc::ENOBUFS].map(out_of_files), [false; 3]);
    }
}
