//! A protoo client: requests, responses and notifications as JSON over a WebSocket with the subprotocol `protoo`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri};
use tokio_tungstenite::tungstenite::{self, Message};

use super::delayed::{delayed, handshake};
use crate::driver::{PathHandle, limit_hint};

/// protoo's own clients wait 1,500 ms x (15 + 0.1 x requests under way).
const REQUEST_TIMEOUT: Duration = Duration::from_millis(22_500);
/// Until TCP must have connected: SYNs that get no answer are repeated after 1, 3 and 7 s.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Messages that wait for the application. A room of 1,000 sends a newcomer two for each peer; an application that is
/// further behind makes the connection wait, and the server drops it.
const INCOMING: usize = 4096;
/// Messages that wait for the socket.
const OUTGOING: usize = 256;

/// Why a request or a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ProtooError {
    /// The address makes no sense.
    #[error("{0} is no WebSocket address")]
    Address(String),
    /// No connection.
    #[error("connecting to {0}: {1}")]
    Connect(String, String),
    /// TLS failed.
    #[error("TLS with {0}: {1}")]
    Tls(String, String),
    /// The server does not want to speak protoo with this user.
    #[error("{address} refuses the WebSocket: {reason}")]
    Upgrade {
        /// The server's.
        address: String,
        /// HTTP status, if it answered with one.
        status: Option<u16>,
        /// In words.
        reason: String,
    },
    /// The server answered the request with an error.
    #[error("{method}: {reason} ({code})")]
    Refused {
        /// The request's method.
        method: String,
        /// HTTP-like code.
        code: i64,
        /// In words.
        reason: String,
    },
    /// No answer in time.
    #[error("{0}: no answer in 22.5 s")]
    Timeout(String),
    /// The connection ended.
    #[error("{method}: the connection is closed{why}")]
    Closed {
        /// The request's method.
        method: String,
        /// What the server said of it, in brackets, or nothing.
        why: String,
    },
    /// The answer is not of the expected form.
    #[error("{method}: unexpected answer: {error}")]
    Answer {
        /// The request's method.
        method: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

impl ProtooError {
    /// What failed, in a word or two out of a small number of them.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Address(_) => "address",
            Self::Connect(..) => "connect",
            Self::Tls(..) => "tls",
            Self::Upgrade { status: Some(401 | 403), .. } => "unauthorized",
            Self::Upgrade { .. } => "websocket",
            Self::Refused { method, .. } => match method.as_str() {
                "join" => "join refused",
                "produce" | "produceData" => "produce refused",
                "createWebRtcTransport" | "connectWebRtcTransport" => "transport refused",
                _ => "refused",
            },
            Self::Timeout(_) => "timeout",
            Self::Closed { .. } => "connection closed",
            Self::Answer { .. } => "unexpected answer",
        }
    }
}

/// Something that the server says of its own accord.
#[derive(Debug)]
pub enum Incoming {
    /// Wants no answer.
    Notification {
        /// What it is about.
        method: String,
        /// Its contents.
        data: Value,
    },
    /// Wants one.
    Request {
        /// What it is about.
        method: String,
        /// Its contents.
        data: Value,
        /// To answer with.
        responder: Responder,
    },
    /// The connection ended, with the WebSocket close code if there was one.
    Closed(Option<u16>),
}

/// Answers one request of the server.
#[derive(Debug)]
pub struct Responder {
    id: u64,
    outgoing: mpsc::Sender<Message>,
}

impl Responder {
    /// Says yes.
    pub async fn accept(self, data: Value) {
        self.send(json!({ "response": true, "id": self.id, "ok": true, "data": data })).await;
    }

    /// Says no.
    pub async fn reject(self, code: u16, reason: &str) {
        self.send(json!({ "response": true, "id": self.id, "errorCode": code, "errorReason": reason })).await;
    }

    async fn send(&self, message: Value) {
        let _ = self.outgoing.send(Message::text(message.to_string())).await;
    }
}

type Pending = Arc<Mutex<Waiting>>;

/// An answer's data, or code and reason of a refusal.
type Answer = Result<Value, (i64, String)>;

/// Who waits for an answer, and why none will come any more.
#[derive(Default)]
struct Waiting {
    answers: HashMap<u64, oneshot::Sender<Answer>>,
    farewell: String,
}

/// A connection. Clones share it; it closes with the last one.
#[derive(Clone)]
pub struct ProtooClient {
    outgoing: mpsc::Sender<Message>,
    pending: Pending,
    next_id: Arc<AtomicU32>,
}

impl ProtooClient {
    /// Connects to a `ws:` or `wss:` address. `tls` says whom `wss:` trusts; `path` is what lies between, and what its
    /// jitter is drawn from.
    ///
    /// # Errors
    /// [`ProtooError::Address`], [`ProtooError::Connect`], [`ProtooError::Tls`] or [`ProtooError::Upgrade`].
    pub async fn connect(
        url: &str,
        tls: Option<Arc<rustls::ClientConfig>>,
        path: Option<(&PathHandle, u64)>,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), ProtooError> {
        let nonsense = || ProtooError::Address(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| nonsense())?;
        let host = uri.host().ok_or_else(nonsense)?.to_owned();
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => return Err(nonsense()),
        };
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let address = format!("{host}:{port}");

        let connect = async {
            if let Some((path, _)) = path {
                handshake(path).await;
            }
            TcpStream::connect((host.trim_matches(['[', ']']), port)).await
        };
        let failed = |reason: String| ProtooError::Connect(address.clone(), reason);
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, connect).await;
        let tcp = tcp.map_err(|_| failed(format!("no answer in {CONNECT_TIMEOUT:?}")))?;
        let tcp = tcp.map_err(|error| failed(format!("{error}{}", limit_hint(&error))))?;
        // Signalling is small messages that somebody waits for.
        let _ = tcp.set_nodelay(true);
        let tls = if secure {
            let failed = |reason: String| ProtooError::Tls(address.clone(), reason);
            let config = tls.ok_or_else(|| failed("wss needs a TLS configuration".to_owned()))?;
            Some((config, ServerName::try_from(host.clone()).map_err(|error| failed(error.to_string()))?))
        } else {
            None
        };
        match path {
            Some((path, seed)) => Self::secure(url, address, delayed(tcp, path, seed), tls).await,
            None => Self::secure(url, address, tcp, tls).await,
        }
    }

    async fn secure<S>(
        url: &str,
        address: String,
        stream: S,
        tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), ProtooError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let Some((config, name)) = tls else { return Self::upgrade(url, address, stream).await };
        match tokio_rustls::TlsConnector::from(config).connect(name, stream).await {
            Ok(stream) => Self::upgrade(url, address, stream).await,
            Err(error) => Err(ProtooError::Tls(address, error.to_string())),
        }
    }

    async fn upgrade<S>(url: &str, address: String, stream: S) -> Result<(Self, mpsc::Receiver<Incoming>), ProtooError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let refused = |error: tungstenite::Error| match error {
            tungstenite::Error::Http(response) => {
                let status = response.status();
                let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default());
                let reason = format!("{status} {}", body.lines().next().unwrap_or_default()).trim_end().to_owned();
                ProtooError::Upgrade { address: address.clone(), status: Some(status.as_u16()), reason }
            }
            other => ProtooError::Upgrade { address: address.clone(), status: None, reason: other.to_string() },
        };
        let mut request = url.into_client_request().map_err(refused)?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_static("protoo"));
        let (socket, _) = tokio_tungstenite::client_async(request, stream).await.map_err(refused)?;
        let (outgoing, to_send) = mpsc::channel(OUTGOING);
        let (deliver, incoming) = mpsc::channel(INCOMING);
        let pending = Pending::default();
        tokio::spawn(run(socket, to_send, outgoing.downgrade(), deliver, pending.clone()));
        Ok((Self { outgoing, pending, next_id: Arc::default() }, incoming))
    }

    /// Makes a request whose answer nobody waits for.
    pub async fn tell(&self, method: &str, data: Value) {
        let _ = self.outgoing.send(request(self.next_id(), method, data)).await;
    }

    /// Makes a request and waits for the data of its answer.
    ///
    /// # Errors
    /// [`ProtooError`] as the server or the connection has it.
    pub async fn request(&self, method: &str, data: Value) -> Result<Value, ProtooError> {
        let id = self.next_id();
        let (reply, answer) = oneshot::channel();
        lock(&self.pending).answers.insert(id, reply);
        if self.outgoing.send(request(id, method, data)).await.is_err() {
            lock(&self.pending).answers.remove(&id);
            return Err(self.closed(method));
        }
        match tokio::time::timeout(REQUEST_TIMEOUT, answer).await {
            Ok(Ok(Ok(data))) => Ok(data),
            Ok(Ok(Err((code, reason)))) => Err(ProtooError::Refused { method: method.to_owned(), code, reason }),
            Ok(Err(_)) => Err(self.closed(method)),
            Err(_) => {
                lock(&self.pending).answers.remove(&id);
                Err(ProtooError::Timeout(method.to_owned()))
            }
        }
    }

    fn closed(&self, method: &str) -> ProtooError {
        ProtooError::Closed { method: method.to_owned(), why: lock(&self.pending).farewell.clone() }
    }

    /// Makes a request and reads its answer.
    ///
    /// # Errors
    /// Those of [`Self::request`], and [`ProtooError::Answer`].
    pub async fn call<T: for<'de> Deserialize<'de>>(&self, method: &str, data: Value) -> Result<T, ProtooError> {
        let answer = self.request(method, data).await?;
        serde_json::from_value(answer).map_err(|error| ProtooError::Answer { method: method.to_owned(), error })
    }

    /// Sends a text as it is: for tests of what a server makes of nonsense.
    pub async fn send_text(&self, text: String) {
        let _ = self.outgoing.send(Message::text(text)).await;
    }

    /// Closes the connection in order.
    pub async fn close(&self) {
        let _ = self.outgoing.send(Message::Close(None)).await;
    }

    fn next_id(&self) -> u64 {
        u64::from(self.next_id.fetch_add(1, Ordering::Relaxed) % 10_000_000)
    }
}

fn request(id: u64, method: &str, data: Value) -> Message {
    Message::text(json!({ "request": true, "id": id, "method": method, "data": data }).to_string())
}

async fn run<S: AsyncRead + AsyncWrite + Unpin>(
    socket: WebSocketStream<S>,
    mut to_send: mpsc::Receiver<Message>,
    outgoing: mpsc::WeakSender<Message>,
    deliver: mpsc::Sender<Incoming>,
    pending: Pending,
) {
    let (mut sink, mut stream) = socket.split();
    let mut close_code = None;
    loop {
        tokio::select! {
            message = to_send.recv() => {
                let message = message.unwrap_or(Message::Close(None));
                let closing = message.is_close();
                if sink.send(message).await.is_err() || closing {
                    break;
                }
            }
            message = stream.next() => match message {
                Some(Ok(Message::Text(text))) => {
                    let Some(outgoing) = outgoing.upgrade() else { break };
                    if let Some(incoming) = dispatch(&text, &pending, outgoing)
                        && deliver.send(incoming).await.is_err()
                    {
                        break;
                    }
                }
                Some(Ok(Message::Close(frame))) => {
                    if let Some(frame) = frame {
                        lock(&pending).farewell = format!(" ({} {})", u16::from(frame.code), frame.reason);
                        close_code = Some(frame.code.into());
                    }
                    break;
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => break,
            },
        }
    }
    // Whoever waits for an answer learns that none comes.
    lock(&pending).answers.clear();
    let _ = deliver.send(Incoming::Closed(close_code)).await;
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Envelope {
    request: bool,
    response: bool,
    notification: bool,
    ok: bool,
    id: u64,
    method: String,
    data: Value,
    error_code: i64,
    error_reason: String,
}

fn dispatch(text: &str, pending: &Pending, outgoing: mpsc::Sender<Message>) -> Option<Incoming> {
    let envelope: Envelope = match serde_json::from_str(text) {
        Ok(envelope) => envelope,
        Err(error) => {
            tracing::warn!(%error, "the server sent something that is not protoo");
            return None;
        }
    };
    let Envelope { request, response, notification, ok, id, method, data, error_code, error_reason } = envelope;
    if response {
        if let Some(reply) = lock(pending).answers.remove(&id) {
            let _ = reply.send(if ok { Ok(data) } else { Err((error_code, error_reason)) });
        }
        None
    } else if request {
        Some(Incoming::Request { method, data, responder: Responder { id, outgoing } })
    } else if notification {
        Some(Incoming::Notification { method, data })
    } else {
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

    use super::*;

    type Server = WebSocketStream<TcpStream>;

    async fn connect() -> (ProtooClient, mpsc::Receiver<Incoming>, Server) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}/?roomId=r&peerId=p", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            #[allow(clippy::result_large_err, reason = "the library's signature")]
            let check = |request: &Request, mut response: Response| {
                assert_eq!(request.uri().query(), Some("roomId=r&peerId=p"));
                let protocol = request.headers()["Sec-WebSocket-Protocol"].clone();
                assert_eq!(protocol, "protoo");
                response.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
                Ok(response)
            };
            tokio_tungstenite::accept_hdr_async(stream, check).await.unwrap()
        });
        let (client, incoming) = ProtooClient::connect(&url, None, None).await.unwrap();
        (client, incoming, server.await.unwrap())
    }

    async fn receive(server: &mut Server) -> Value {
        serde_json::from_str(server.next().await.unwrap().unwrap().to_text().unwrap()).unwrap()
    }

    async fn send(server: &mut Server, message: Value) {
        server.send(Message::text(message.to_string())).await.unwrap();
    }

    #[tokio::test]
    async fn requests_are_answered_in_any_order() {
        let (client, _incoming, mut server) = connect().await;
        let serve = async {
            let (first, second) = (receive(&mut server).await, receive(&mut server).await);
            assert_eq!(first["request"], true);
            assert_eq!(second["data"], json!({ "a": 1 }));
            let refusal =
                json!({ "response": true, "id": second["id"], "errorCode": 404, "errorReason": "no such thing" });
            send(&mut server, refusal).await;
            send(&mut server, json!({ "response": true, "id": first["id"], "ok": true, "data": 7 })).await;
        };
        let (first, second, ()) =
            tokio::join!(client.call::<u8>("one", json!({})), client.request("two", json!({ "a": 1 })), serve);
        assert_eq!(first.unwrap(), 7);
        assert_eq!(second.unwrap_err().to_string(), "two: no such thing (404)");
    }

    #[tokio::test]
    async fn the_server_asks_and_tells() {
        let (_client, mut incoming, mut server) = connect().await;
        send(&mut server, json!("nonsense")).await;
        send(&mut server, json!({ "notification": true, "method": "hint", "data": 1 })).await;
        send(&mut server, json!({ "request": true, "id": 5, "method": "question", "data": {} })).await;
        let Some(Incoming::Notification { method, data }) = incoming.recv().await else { panic!("no notification") };
        assert_eq!((method.as_str(), data), ("hint", json!(1)));
        let Some(Incoming::Request { method, responder, .. }) = incoming.recv().await else { panic!("no request") };
        assert_eq!(method, "question");
        responder.accept(json!({ "x": 1 })).await;
        assert_eq!(receive(&mut server).await, json!({ "response": true, "id": 5, "ok": true, "data": { "x": 1 } }));
    }

    #[tokio::test]
    async fn who_cannot_connect_learns_why() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let refuse = |status: &'static str| async move {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            tokio::spawn(async move {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 9\r\n\r\nno reason");
                stream.write_all(answer.as_bytes()).await.unwrap();
            });
            address
        };
        let (unauthorized, missing) = (refuse("401 Unauthorized").await, refuse("404 Not Found").await);
        let tls = super::super::trust_anyone().unwrap();
        let cases = [
            ("nonsense".to_owned(), "address", "nonsense is no WebSocket address".to_owned()),
            (format!("ws://{free}"), "connect", format!("connecting to {free}: Connection refused")),
            (format!("wss://{missing}"), "tls", format!("TLS with {missing}: ")),
            (
                format!("ws://{unauthorized}"),
                "unauthorized",
                format!("{unauthorized} refuses the WebSocket: 401 Unauthorized"),
            ),
        ];
        for (url, step, text) in cases {
            let error = ProtooClient::connect(&url, Some(tls.clone()), None).await.err().unwrap();
            assert_eq!(error.step(), step);
            assert!(error.to_string().starts_with(&text) && !error.to_string().contains('\n'), "{error}");
        }
    }

    #[tokio::test]
    async fn the_end_is_told_to_everybody() {
        let (client, mut incoming, mut server) = connect().await;
        let serve = async {
            receive(&mut server).await;
            let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code: 4000.into(), reason: "".into() };
            server.close(Some(frame)).await.unwrap();
        };
        let (answer, ()) = tokio::join!(client.request("one", json!({})), serve);
        assert!(matches!(answer, Err(ProtooError::Closed { .. })));
        assert!(matches!(incoming.recv().await, Some(Incoming::Closed(Some(4000)))));
    }
}
