//! Connections: accepted up to a limit, given a time to say what they want, told to end when the node does. Whoever
//! comes beyond the limit is told so at once.

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
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
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::error::HttpError;
use super::forwarded::read_proxy_header;
use super::spoken::{self, Spoken};
use crate::address_limits::{AddressLimits, Held};
use crate::config::Network;
use crate::listener::{Listener, Place, PortCounters, count};
use crate::rewound::Rewound;
use crate::support::lock;
use crate::turn::Turn;
use crate::worker::Intake;

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

/// What of that may not be on its way yet, on a port with TURN: media that wait there are late when they go out, and
/// nobody can drop them any more. The task is woken to write on when half of it has gone.
#[cfg(target_os = "linux")]
const UNSENT_BYTES: u32 = 32 * 1024;

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
    /// Time to say what is spoken, TLS included; for each request's header, and for its body.
    pub(crate) header_timeout: Duration,
    /// How long a client may take nothing of what waits for it: as long as the network of one with a WebSocket may be
    /// gone.
    pub(crate) silence: Duration,
    /// For HTTPS.
    pub(crate) tls: Option<TlsAcceptor>,
    /// What those find who speak TURN instead of HTTP.
    pub(crate) turn: Option<Turn>,
    /// Who takes connections that media come by, if they come to this port.
    pub(crate) media: Option<Intake>,
}

/// What a request's handler knows of its connection. Whoever goes on using the connection after the response (a
/// WebSocket) keeps a clone, and with it the connection's place among the allowed.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// The other end.
    pub(crate) remote: SocketAddr,
    _place: Arc<Place>,
    /// Of a client that a proxy speaks for.
    _of_client: Option<Arc<Held>>,
}

impl Connection {
    /// The same, of a client that is there.
    pub(crate) fn of(self, remote: SocketAddr) -> Self {
        Self { remote, ..self }
    }
}

/// A listening server.
pub(crate) struct Server {
    /// Where it listens.
    pub(crate) local_addr: SocketAddr,
    /// What happened.
    pub(crate) counters: Arc<PortCounters>,
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
        let local_addr = listener.local_addr()?;
        let counters = Arc::<PortCounters>::default();
        let listener = Listener::new(config.name, listener, counters.clone())?;
        let acceptor = Acceptor {
            listener,
            places: Arc::new(Semaphore::new(config.max_connections)),
            reserve: Arc::new(Semaphore::new(RESERVE)),
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
    counters: Arc<PortCounters>,
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
    listener: Listener,
    places: Arc<Semaphore>,
    reserve: Arc<Semaphore>,
    shared: Arc<Shared>,
    stop: CancellationToken,
    tasks: TaskTracker,
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
            let (stream, remote) = self.listener.accept().await;
            self.admit(stream, remote);
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
        let place = Place::new(counters, permit, of_address);
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
        let deadline = Instant::now() + self.config.header_timeout;
        if self.config.announcing_proxies.iter().any(|proxy| proxy.contains(connection.remote.ip())) {
            let header = timeout_at(deadline, read_proxy_header(&mut stream)).await;
            let header = header.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
            let header = header.inspect_err(|error| self.tell_no_proxy_header(connection.remote, error));
            if let Some(client) = header.map_err(|error| error.to_string())? {
                connection = self.of_client(connection, client)?;
            }
        }
        let Some((spoken, stream)) = self.listen(stream, deadline, &stop).await? else { return Ok(()) };
        if let (Spoken::Media, true, Some(media)) = (spoken, has_place, &self.config.media) {
            let remote = connection.remote;
            drop(connection);
            stop.run_until_cancelled(media.take(stream, remote)).await;
            return Ok(());
        }
        let Some(tls) = &self.config.tls else {
            return self.serve_spoken(spoken, stream, connection, stop, has_place).await;
        };
        let handshake = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            handshake = timeout_at(deadline, tls.accept(stream)) => handshake,
        };
        let stream =
            handshake.map_err(|_| "no TLS handshake in time".to_owned())?.map_err(|error| error.to_string())?;
        let Some((spoken, stream)) = self.listen(stream, deadline, &stop).await? else { return Ok(()) };
        self.serve_spoken(spoken, stream, connection, stop, has_place).await
    }

    /// Waits for what the client speaks. `None` if it goes, or the node ends.
    async fn listen<S: AsyncRead + Unpin>(
        &self,
        stream: S,
        deadline: Instant,
        stop: &CancellationToken,
    ) -> Result<Option<(Spoken, Rewound<S>)>, String> {
        tokio::select! {
            () = stop.cancelled() => Ok(None),
            heard = timeout_at(deadline, spoken::listen(stream)) => {
                heard.map_err(|_| "nothing came in time".to_owned())?.map_err(|error| error.to_string())
            }
        }
    }

    async fn serve_spoken<S>(
        &self,
        spoken: Spoken,
        stream: S,
        connection: Connection,
        stop: CancellationToken,
        has_place: bool,
    ) -> Result<(), String>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        match &self.config.turn {
            Some(turn) if spoken == Spoken::Turn && has_place => {
                turn.serve(stream, connection.remote, self.config.header_timeout, stop).await
            }
            _ => self.serve_http(stream, connection, stop, has_place).await,
        }
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
        #[cfg(target_os = "linux")]
        if self.config.turn.is_some() {
            socket.set_tcp_notsent_lowat(UNSENT_BYTES)?;
        }
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
}
