//! A client of mediasoup-demo's dialects, version 3's where nothing else is said, over a WebSocket that is two
//! channels.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{Sink, Stream};
use serde_json::{Value, json};
use sluice_proto::ids::{PeerId, Region, RoomId};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::PollSender;

use super::{SOON, rtp};
use crate::access::Namespaces;
use crate::config::NamespacesConfig;
use crate::entrance::{AdmissionError, Entrance, Opening};
use crate::rooms::Rooms;
use crate::rooms::seat::Seat;
use crate::signalling::demo::Dialect;
use crate::signalling::protoo::session::{self, Closing};

/// Frames that the fake connection holds before the server has to wait.
const CONNECTION: usize = 16;

/// The id of a `join` that is not waited for; [`Client::request`] counts from 1,000.
const JOIN: u32 = 5;

/// The server's end of a connection.
struct Socket {
    from_client: mpsc::Receiver<Message>,
    to_client: PollSender<Message>,
}

/// What a socket panics at, as if the server had a bug.
pub(super) const EXPLOSION: &[u8] = b"explosion";

impl Stream for Socket {
    type Item = Result<Message, Closing>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let frame = self.from_client.poll_recv(context);
        assert!(
            !matches!(&frame, Poll::Ready(Some(Message::Binary(bytes))) if bytes == EXPLOSION),
            "as asked for by the test"
        );
        frame.map(|frame| frame.map(Ok))
    }
}

impl Sink<Message> for Socket {
    type Error = ();

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.to_client.poll_reserve(context).map_err(drop)
    }

    fn start_send(mut self: Pin<&mut Self>, frame: Message) -> Result<(), ()> {
        self.to_client.send_item(frame).map_err(drop)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.to_client.close();
        Poll::Ready(Ok(()))
    }
}

/// What the URL of a client says.
pub(super) fn opening(room: &str, peer: &str, secret: Option<&str>) -> Opening {
    Opening {
        namespace: None,
        room: RoomId::new(room).unwrap(),
        peer: Some(PeerId::new(peer).unwrap()),
        token: None,
        secret: secret.map(str::to_owned),
        resumes: false,
        remote: "198.51.100.7:50000".parse().unwrap(),
        turn_urls: Arc::default(),
    }
}

/// The door of a node where everything is open.
pub(super) fn entrance(rooms: &Rooms) -> Entrance {
    let region = Region::new("eu").expect("a valid name");
    let namespaces = Namespaces::new(&NamespacesConfig::default(), region).expect("there are no keys");
    Entrance::new(rooms.clone(), namespaces.into())
}

/// A client's end of a connection.
pub(super) struct Connection {
    pub(super) to_server: mpsc::Sender<Message>,
    pub(super) from_server: mpsc::Receiver<Message>,
}

impl Connection {
    pub(super) fn open(rooms: &Rooms, opening: Opening) -> Self {
        let entrance = entrance(rooms);
        let admitted = entrance.admit(opening);
        Self::serve(entrance, admitted, Dialect::V3)
    }

    fn serve(entrance: Entrance, admitted: Result<Seat, AdmissionError>, dialect: Dialect) -> Self {
        let (to_server, from_client) = mpsc::channel(CONNECTION);
        let (to_client, from_server) = mpsc::channel(CONNECTION);
        let socket = Socket { from_client, to_client: PollSender::new(to_client) };
        tokio::spawn(async move { session::serve(&entrance, socket, admitted, dialect).await });
        Self { to_server, from_server }
    }
}

pub(super) struct Client {
    to_server: Option<mpsc::Sender<Message>>,
    from_server: mpsc::Receiver<Message>,
    /// Messages that came while something else was awaited.
    aside: VecDeque<Value>,
    next_id: u32,
    deaf: bool,
    /// Of the answer to `join`.
    pub(super) secret: String,
    pub(super) send_transport: String,
    pub(super) recv_transport: String,
}

impl Client {
    pub(super) fn open(rooms: &Rooms, room: &str, peer: &str, secret: Option<&str>) -> Self {
        Self::of(Connection::open(rooms, opening(room, peer, secret)))
    }

    /// Opens a WebSocket whose URL lets expect a dialect.
    pub(super) fn open_as(rooms: &Rooms, dialect: Dialect, opening: Opening) -> Self {
        let entrance = entrance(rooms);
        let admitted = entrance.admit(opening);
        Self::of(Connection::serve(entrance, admitted, dialect))
    }

    /// Comes to a node where not everybody may enter.
    pub(super) fn admit(entrance: &Entrance, opening: Opening) -> Result<Self, AdmissionError> {
        let seat = entrance.admit(opening)?;
        Ok(Self::of(Connection::serve(entrance.clone(), Ok(seat), Dialect::V3)))
    }

    fn of(Connection { to_server, from_server }: Connection) -> Self {
        Self {
            to_server: Some(to_server),
            from_server,
            aside: VecDeque::new(),
            next_id: 1000,
            deaf: false,
            secret: String::new(),
            send_transport: String::new(),
            recv_transport: String::new(),
        }
    }

    /// Goes through the order of calls up to the answer to `join`, which is returned.
    pub(super) async fn join(&mut self) -> Value {
        self.greeted().await;
        self.send_transport = self.create_transport(false).await;
        self.recv_transport = self.create_transport(true).await;
        let joined = self.request("join", join_data()).await.unwrap();
        self.secret = joined["peerSecret"].as_str().unwrap().to_owned();
        joined
    }

    /// What the server says first, for both dialects.
    pub(super) async fn greeted(&mut self) {
        for method in ["mediasoup-version", "mediasoupVersion"] {
            assert_eq!(self.next_notification(method).await, json!({"version": env!("CARGO_PKG_VERSION")}));
        }
    }

    /// Asks to join without waiting for the answer.
    pub(super) async fn ask_to_join(&mut self) {
        self.send(json!({"request": true, "id": JOIN, "method": "join", "data": join_data()})).await;
    }

    /// What [`Self::ask_to_join`] is answered with.
    pub(super) async fn join_answer(&mut self) -> Value {
        self.next(|message| message["id"] == JOIN).await
    }

    pub(super) async fn create_transport(&mut self, consuming: bool) -> String {
        let data = json!({
            "forceTcp": false, "producing": !consuming, "consuming": consuming,
            "sctpCapabilities": {"numStreams": {"OS": 1024, "MIS": 1024}},
        });
        let transport = self.request("createWebRtcTransport", data).await.unwrap();
        transport["id"].as_str().unwrap().to_owned()
    }

    pub(super) async fn connect(&mut self, transport: &str) -> Result<Value, (u64, String)> {
        self.request("connectWebRtcTransport", json!({"transportId": transport, "dtlsParameters": rtp::dtls()})).await
    }

    /// Connects the send transport if need be and produces.
    pub(super) async fn produce(&mut self, kind: &str, rtp: Value) -> String {
        let transport = self.send_transport.clone();
        if let Err((code, reason)) = self.connect(&transport).await {
            assert_eq!((code, reason), (409, format!("transport {transport} is connected already")));
        }
        let data = json!({"transportId": transport, "kind": kind, "rtpParameters": rtp, "appData": {"share": false}});
        self.request("produce", data).await.unwrap()["id"].as_str().unwrap().to_owned()
    }

    /// Asks and waits for the answer; whatever else comes is kept for later.
    pub(super) async fn request(&mut self, method: &str, data: Value) -> Result<Value, (u64, String)> {
        self.next_id += 1;
        let id = self.next_id;
        self.send(json!({"request": true, "id": id, "method": method, "data": data})).await;
        let answer = self.next(|message| message["response"] == true && message["id"] == id).await;
        if answer["ok"] == true {
            return Ok(answer["data"].clone());
        }
        Err((answer["errorCode"].as_u64().unwrap(), answer["errorReason"].as_str().unwrap().to_owned()))
    }

    /// Says something that is not answered.
    pub(super) async fn notify(&mut self, method: &str, data: Value) {
        self.send(json!({"notification": true, "method": method, "data": data})).await;
    }

    /// The next `newConsumer` request: its id and data.
    pub(super) async fn next_consumer(&mut self) -> (u64, Value) {
        let message = self.next(|message| message["request"] == true && message["method"] == "newConsumer").await;
        (message["id"].as_u64().unwrap(), message["data"].clone())
    }

    /// Accepts the next `newConsumer`; its data.
    pub(super) async fn accept_consumer(&mut self) -> Value {
        let (id, data) = self.next_consumer().await;
        self.send(json!({"response": true, "id": id, "ok": true, "data": {}})).await;
        data
    }

    pub(super) async fn next_notification(&mut self, method: &str) -> Value {
        self.next(|message| message["notification"] == true && message["method"] == method).await["data"].clone()
    }

    /// The next message of a kind, from those set aside or still to come.
    pub(super) async fn next(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.aside.iter().position(&wanted) {
            return self.aside.remove(index).unwrap();
        }
        loop {
            match timeout(SOON, self.frame()).await {
                Ok(Some(Message::Text(text))) => {
                    let message: Value = serde_json::from_str(&text).unwrap();
                    if wanted(&message) {
                        return message;
                    }
                    self.aside.push_back(message);
                }
                other => panic!("{other:?} came instead; before it {:?}", self.aside),
            }
        }
    }

    /// Everything that came, in order, once nothing comes any more.
    pub(super) async fn settle(&mut self) -> Vec<Value> {
        while let Ok(Some(Message::Text(text))) = timeout(SOON / 10, self.frame()).await {
            self.aside.push_back(serde_json::from_str(&text).unwrap());
        }
        self.aside.drain(..).collect()
    }

    /// The next frame that is no ping; pings are answered, unless the client is deaf.
    async fn frame(&mut self) -> Option<Message> {
        loop {
            match self.from_server.recv().await {
                Some(Message::Ping(payload)) if !self.deaf => {
                    if let Some(to_server) = &self.to_server {
                        // The server may have gone.
                        let _ = to_server.send(Message::Pong(payload)).await;
                    }
                }
                Some(Message::Ping(_)) => {}
                other => return other,
            }
        }
    }

    /// Waits for the server's next ping and answers it.
    pub(super) async fn ping(&mut self) {
        loop {
            match timeout(Duration::from_secs(600), self.from_server.recv()).await.expect("the server pings") {
                Some(Message::Ping(payload)) => return self.send_frame(Message::Pong(payload)).await,
                Some(Message::Text(text)) => self.aside.push_back(serde_json::from_str(&text).unwrap()),
                other => panic!("{other:?} came instead"),
            }
        }
    }

    /// Lets time pass, in which the client answers pings and keeps what comes. Ends early with the server's close
    /// frame.
    pub(super) async fn wait(&mut self, time: Duration) -> Option<(u16, String)> {
        let until = Instant::now() + time;
        while let Ok(frame) = timeout_at(until, self.frame()).await {
            match frame {
                Some(Message::Text(text)) => self.aside.push_back(serde_json::from_str(&text).unwrap()),
                Some(Message::Close(Some(frame))) => return Some((frame.code.into(), frame.reason.to_string())),
                other => panic!("{other:?} came instead; before it {:?}", self.aside),
            }
        }
        None
    }

    /// From now on pings are not answered.
    pub(super) fn go_deaf(&mut self) {
        self.deaf = true;
    }

    /// The close frame that the server sends, as code and reason. `patience` is how long it may take.
    pub(super) async fn closed_within(&mut self, patience: Duration) -> (u16, String) {
        loop {
            match timeout(patience, self.frame()).await.expect("the server closes") {
                Some(Message::Close(Some(frame))) => return (frame.code.into(), frame.reason.to_string()),
                Some(_) => {}
                None => panic!("the connection ended without a close frame"),
            }
        }
    }

    pub(super) async fn closed(&mut self) -> (u16, String) {
        self.closed_within(SOON).await
    }

    pub(super) async fn send(&mut self, message: Value) {
        self.send_frame(Message::Text(message.to_string().into())).await;
    }

    pub(super) async fn send_frame(&mut self, frame: Message) {
        self.to_server.as_ref().unwrap().send(frame).await.unwrap();
    }

    /// The client closes its WebSocket.
    pub(super) fn hang_up(&mut self) {
        if let Some(to_server) = self.to_server.take() {
            // The server may have gone, and one that is not read knows by the connection's end.
            let _ = to_server.try_send(Message::Close(None));
        }
    }

    /// The connection breaks.
    pub(super) fn break_off(&mut self) {
        self.to_server = None;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.hang_up();
    }
}

/// What the client says of itself when it joins.
pub(super) fn join_data() -> Value {
    json!({
        "displayName": "A name", "device": {"flag": "chrome"}, "rtpCapabilities": rtp::capabilities(),
        "adaptsEncodings": true,
    })
}
