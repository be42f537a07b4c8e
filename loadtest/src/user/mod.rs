//! A participant of a meeting: does what mediasoup-demo's web application does, in the same order.

mod error;
mod room;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rand::RngExt;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::driver::{Driver, DriverError, Lane, LaneConfig, PathHandle};
use crate::media::{Source, StreamStats};
use crate::scenario::{Data, Watch};
use crate::signalling::demo_v3::{
    DataProduced, IceParameters, Joined, SctpStreamParameters, TransportOptions, dtls_parameters, sctp_capabilities,
};
use crate::signalling::ortc::{Kind, OrtcError, RtpCapabilities, RtpParameters, device_capabilities, send_parameters};
use crate::signalling::{ProtooClient, ProtooError};
use crate::transport::{SCTP_STREAMS, TransportConfig, TransportState};

pub use self::error::{UserEnd, UserError};
pub use self::room::{Consumer, DataConsumer, RoomState};

/// Until a transport must be up: what is not by then will not be.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Under this name mediasoup-demo passes on what comes to all others.
const DATA_LABEL: &str = "chat";

/// Who joins where.
#[derive(Clone)]
pub struct UserConfig {
    /// The server, `ws://host:port` or `wss://host:port`, perhaps with a path; the query is added.
    pub url: String,
    /// Added to the query, `&key=value`, for servers that want more than room and peer.
    pub query: String,
    /// Whom `wss:` trusts, see [`trust_anyone`](crate::signalling::trust_anyone).
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// Room.
    pub room: String,
    /// Peer, unique in the room.
    pub peer: String,
    /// What the answer to the peer's last join said, to take its place again.
    pub secret: Option<String>,
    /// Has a transport to send by.
    pub produce: bool,
    /// Wants to receive what others produce.
    pub consume: bool,
    /// Sends on data channels, by an association on the transport that it sends by.
    pub produce_data: bool,
    /// Wants to receive what others send on data channels, by an association on the transport that it receives by.
    pub consume_data: bool,
    /// Of what others produce, which audio; the rest is paused.
    pub watch_audio: Watch,
    /// And which video.
    pub watch_video: Watch,
    /// Certificate and manners of the transports.
    pub transport: TransportConfig,
    /// Reaches the server's media by TCP only.
    pub tcp: bool,
    /// Under which [`Collected::tallies`](crate::driver::Collected::tallies) counts what the user sends and receives.
    pub group: usize,
    /// What lies between the user and the server, for media and for signalling; `None`: nothing. Signalling is delayed,
    /// and waits while the path is dark, but nothing of it gets lost.
    pub path: Option<PathHandle>,
    /// Everything random about this user.
    pub seed: u64,
}

impl UserConfig {
    /// A user who can do both, without data channels.
    pub fn new(url: &str, room: &str, peer: &str, transport: TransportConfig, seed: u64) -> Self {
        Self {
            url: url.to_owned(),
            query: String::new(),
            tls: None,
            room: room.to_owned(),
            peer: peer.to_owned(),
            secret: None,
            produce: true,
            consume: true,
            produce_data: false,
            consume_data: false,
            watch_audio: Watch::All,
            watch_video: Watch::All,
            transport,
            tcp: false,
            group: 0,
            path: None,
            seed,
        }
    }

    /// Whether the transport to send or to receive by carries data channels.
    fn has_data(&self, sending: bool) -> bool {
        if sending { self.produce_data } else { self.consume_data }
    }
}

/// What came of producing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Production {
    /// The server's id of the producer.
    pub id: String,
    /// The SSRC of the stream, or of the lowest encoding.
    pub ssrc: u32,
}

/// How long the steps of a join took, each since its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JoinTimes {
    /// Until the WebSocket was open.
    pub websocket: Duration,
    /// Until the answer to `join`.
    pub joined: Duration,
    /// Until media could flow on the user's transports.
    pub connected: Duration,
}

/// A participant. Dropping it leaves the room by closing the connection.
pub struct User {
    protoo: ProtooClient,
    shared: Arc<Shared>,
    router: RtpCapabilities,
    room: watch::Receiver<RoomState>,
    reader: JoinHandle<()>,
    began: Instant,
    websocket: Duration,
    joined: Duration,
    secret: Option<String>,
}

/// What the user's own calls and the server's requests both need.
pub(crate) struct Shared {
    driver: Driver,
    config: UserConfig,
    send: Mutex<Option<Path>>,
    receive: Mutex<Option<Path>>,
    rng: std::sync::Mutex<ChaCha8Rng>,
    productions: Mutex<HashMap<String, Sent>>,
    /// Of the association to send by; the server names those of the other.
    next_stream: AtomicU16,
}

/// What is known of a producer of the user's own.
#[derive(Default)]
struct Sent {
    /// SSRC of its lowest encoding; `None`: the server spoke of it before its id was known here.
    ssrc: Option<u32>,
    /// Which encodings the server wants; empty: it did not say.
    wanted: Vec<bool>,
}

/// A transport of the server's, and the session to it once it is used.
struct Path {
    options: TransportOptions,
    lane: Option<Arc<Lane>>,
}

impl User {
    /// Connects and joins: `getRouterRtpCapabilities`, both transports, `join`. Consumers come from then on.
    ///
    /// # Errors
    /// [`UserError`] with the step that failed.
    pub async fn join(driver: &Driver, config: UserConfig) -> Result<Self, UserError> {
        let began = Instant::now();
        let mut url = room_url(&config.url, &config.room, &config.peer, &config.query);
        if let Some(secret) = &config.secret {
            url.push_str(&format!("&peerSecret={}", escape(secret)));
        }
        let path = config.path.as_ref().map(|path| (path, config.seed));
        let (protoo, incoming) = ProtooClient::connect(&url, config.tls.clone(), path).await?;
        let websocket = began.elapsed();
        let router: RtpCapabilities = protoo.call("getRouterRtpCapabilities", json!({})).await?;

        let create = |sending| create_transport(&protoo, sending, &config);
        let send = if config.produce { Some(create(true).await?) } else { None };
        let receive = if config.consume { Some(create(false).await?) } else { None };
        let rng = std::sync::Mutex::new(ChaCha8Rng::seed_from_u64(config.seed));
        let mut join = json!({
            "displayName": config.peer,
            "adaptsEncodings": true,
            "device": { "flag": "sluice", "name": "sluice-loadtest", "version": env!("CARGO_PKG_VERSION") },
        });
        if config.consume {
            join["rtpCapabilities"] = serde_json::to_value(device_capabilities(&router)).unwrap_or_default();
        }
        if config.consume_data {
            join["sctpCapabilities"] = sctp_capabilities();
        }
        let shared = Arc::new(Shared {
            driver: driver.clone(),
            config,
            send: Mutex::new(send),
            receive: Mutex::new(receive),
            rng,
            productions: Mutex::default(),
            next_stream: AtomicU16::default(),
        });
        let (state, room) = watch::channel(RoomState::default());
        // Consumers may be announced before the answer to `join` is read.
        let reader = tokio::spawn(room::run(incoming, protoo.clone(), shared.clone(), state.clone()));
        let joined: Joined = match protoo.call("join", join).await {
            Ok(joined) => joined,
            Err(error) => {
                reader.abort();
                return Err(error.into());
            }
        };
        state.send_modify(|room| room.peers.extend(joined.peers.into_iter().map(|peer| (peer.id.clone(), peer))));
        let (secret, joined) = (joined.peer_secret, began.elapsed());
        Ok(Self { protoo, shared, router, room, reader, began, websocket, joined, secret })
    }

    /// What [`UserConfig::secret`] is to be for the same user to come again; `None` if the server knows nothing of
    /// that.
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// Connects the transports that the user has, whether there is something to send or receive already or not, and
    /// waits until media can flow.
    ///
    /// # Errors
    /// [`UserError`] with the step that failed.
    pub async fn connected(&self) -> Result<JoinTimes, UserError> {
        let UserConfig { produce, consume, .. } = self.shared.config;
        let connected = |sending: bool, wanted: bool| async move {
            if wanted { self.shared.connected(&self.protoo, sending).await.map(drop) } else { Ok(()) }
        };
        tokio::try_join!(connected(true, produce), connected(false, consume))?;
        Ok(JoinTimes { websocket: self.websocket, joined: self.joined, connected: self.began.elapsed() })
    }

    /// Waits until the session ends other than by [`Self::leave`]: signalling, or one of the transports that were
    /// connected when this was called.
    pub async fn ended(&self) -> UserEnd {
        let mut room = self.room.clone();
        let (send, receive) = (self.shared.used(true).await, self.shared.used(false).await);
        tokio::select! {
            // A server that shuts down closes all at once, and this says most about it.
            biased;
            closed = room.wait_for(|room| room.closed.is_some()) => {
                UserEnd::Closed(closed.ok().and_then(|room| room.closed).flatten())
            }
            end = transport_ended(send) => end,
            end = transport_ended(receive) => end,
        }
    }

    /// Begins to send a stream; connects the transport at the first.
    ///
    /// # Errors
    /// [`UserError`] with the step that failed.
    pub async fn produce(&self, source: Source) -> Result<Production, UserError> {
        self.produce_encodings(vec![source]).await
    }

    /// The same with encodings of one picture, lowest first. Those that nobody receives are not sent, if the server
    /// tells.
    ///
    /// # Errors
    /// [`UserError`] with the step that failed.
    pub async fn produce_encodings(&self, sources: Vec<Source>) -> Result<Production, UserError> {
        #[derive(Deserialize)]
        struct Produced {
            id: String,
        }
        let lane = self.shared.connected(&self.protoo, true).await?;
        let codec = sources.first().map(Source::codec).ok_or(UserError::NothingToSend)?;
        let (kind, mid) = if codec.is_video() { (Kind::Video, "1") } else { (Kind::Audio, "0") };
        let (mut rtp, seed) = self.shared.with_rng(|rng| {
            Ok::<_, OrtcError>((
                send_parameters(&self.router, (codec, sources.len()), mid, &self.shared.config.peer, rng)?,
                rng.random(),
            ))
        })?;
        for (encoding, source) in rtp.encodings.iter_mut().zip(&sources) {
            encoding.scalability_mode = source.scalability_mode().map(|mode| mode.to_string());
        }
        let produced: Produced = self.protoo.call("produce", self.produce_request(kind, &rtp).await).await?;
        let parameters = rtp.to_send()?;
        let ssrc = parameters.first().map(|parameters| parameters.ssrc).unwrap_or_default();
        let encodings = parameters.into_iter().zip(sources);
        lane.with(move |session, now| session.publish(now, encodings, seed)).await?;
        self.shared.begin_production(&produced.id, ssrc, &lane).await?;
        Ok(Production { id: produced.id, ssrc })
    }

    /// Begins to send messages on a data channel, and returns the server's id of it.
    ///
    /// # Errors
    /// [`UserError`] with the step that failed.
    pub async fn produce_data(&self, data: Data) -> Result<String, UserError> {
        let lane = self.shared.connected(&self.protoo, true).await?;
        let stream = self.shared.next_stream.fetch_add(1, Ordering::Relaxed) % SCTP_STREAMS;
        let request = json!({
            "transportId": self.transport_id(true).await,
            "sctpStreamParameters": SctpStreamParameters::new(stream, &data.delivery),
            "label": DATA_LABEL,
            "protocol": "",
            "appData": { "channel": DATA_LABEL },
        });
        let produced: DataProduced = self.protoo.call("produceData", request).await?;
        let seed = self.shared.with_rng(|rng| rng.random());
        lane.with(move |session, now| session.send_data(now, stream, data, seed)).await?;
        Ok(produced.id)
    }

    /// The data of a `produce` request with these parameters.
    pub async fn produce_request(&self, kind: Kind, rtp: &RtpParameters) -> Value {
        let transport = self.transport_id(true).await;
        json!({ "transportId": transport, "kind": kind, "rtpParameters": rtp, "appData": {} })
    }

    /// The router's capabilities.
    pub fn router(&self) -> &RtpCapabilities {
        &self.router
    }

    /// The connection, for requests that a user has no words for.
    pub fn protoo(&self) -> &ProtooClient {
        &self.protoo
    }

    /// The server's id of the sending or the receiving transport.
    pub async fn transport_id(&self, sending: bool) -> Option<String> {
        self.shared.path(sending).lock().await.as_ref().map(|path| path.options.id.clone())
    }

    /// The session that sends or receives, connecting it if it is not yet.
    ///
    /// # Errors
    /// [`UserError`] with the step that failed.
    pub async fn lane(&self, sending: bool) -> Result<Arc<Lane>, UserError> {
        self.shared.connect(&self.protoo, sending).await
    }

    /// Asks for new ICE credentials and begins checks with them.
    ///
    /// # Errors
    /// [`UserError`] with the step that failed.
    pub async fn restart_ice(&self, sending: bool) -> Result<(), UserError> {
        let lane = self.lane(sending).await?;
        let id = self.transport_id(sending).await;
        let ice: IceParameters = self.protoo.call("restartIce", json!({ "transportId": id })).await?;
        let credentials = ice.credentials();
        lane.with(move |session, now| session.transport_mut().restart_ice(now, credentials)).await?;
        Ok(())
    }

    /// Who and what is in the room, and changes of that.
    pub fn room(&self) -> watch::Receiver<RoomState> {
        self.room.clone()
    }

    /// Waits until the room is as described.
    ///
    /// # Errors
    /// [`UserError::Waited`] with the room as it was at the end.
    pub async fn wait(
        &self,
        within: Duration,
        what: &str,
        is: impl FnMut(&RoomState) -> bool,
    ) -> Result<RoomState, UserError> {
        let mut room = self.room.clone();
        let waited = || UserError::Waited(within, what.to_owned(), Box::new(self.room.borrow().clone()));
        match tokio::time::timeout(within, room.wait_for(is)).await {
            Ok(Ok(room)) => Ok(room.clone()),
            _ => Err(waited()),
        }
    }

    /// What arrived of a consumer's stream; `None` when there is no such consumer.
    ///
    /// # Errors
    /// [`UserError::Driver`] when the socket is gone.
    pub async fn consumer_stats(&self, consumer: &str) -> Result<Option<StreamStats>, UserError> {
        let Some(ssrc) = self.room.borrow().consumers.get(consumer).map(|consumer| consumer.ssrc) else {
            return Ok(None);
        };
        let lane = self.shared.connect(&self.protoo, false).await?;
        Ok(lane.with(move |session, _| session.stream_mut(ssrc).map(|stream| stream.stats())).await?)
    }

    /// Leaves in order.
    pub async fn leave(self) {
        self.protoo.close().await;
    }
}

impl Drop for User {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Shared {
    fn path(&self, sending: bool) -> &Mutex<Option<Path>> {
        if sending { &self.send } else { &self.receive }
    }

    fn with_rng<R>(&self, draw: impl FnOnce(&mut ChaCha8Rng) -> R) -> R {
        draw(&mut self.rng.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The session, once media can flow.
    async fn connected(&self, protoo: &ProtooClient, sending: bool) -> Result<Arc<Lane>, UserError> {
        let lane = self.connect(protoo, sending).await?;
        match lane.connected(CONNECT_TIMEOUT).await {
            Ok(_) => Ok(lane),
            Err(DriverError::NotConnected(state)) => {
                let reached = lane.with(|session, _| session.transport().was_reached()).await?;
                Err(if reached { UserError::Dtls(state) } else { UserError::Ice })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// A producer's id is known, and it is sent.
    async fn begin_production(&self, id: &str, ssrc: u32, lane: &Lane) -> Result<(), UserError> {
        let mut productions = self.productions.lock().await;
        let sent = productions.entry(id.to_owned()).or_default();
        sent.ssrc = Some(ssrc);
        want(lane, ssrc, &sent.wanted).await
    }

    /// The server says which encodings of a producer anybody receives.
    async fn want_encodings(&self, id: String, wanted: Vec<bool>) -> Result<(), UserError> {
        let mut productions = self.productions.lock().await;
        let sent = productions.entry(id).or_default();
        sent.wanted = wanted;
        match (sent.ssrc, self.used(true).await) {
            (Some(ssrc), Some(lane)) => want(&lane, ssrc, &sent.wanted).await,
            _ => Ok(()),
        }
    }

    /// The session, if there is one.
    async fn used(&self, sending: bool) -> Option<Arc<Lane>> {
        self.path(sending).lock().await.as_ref()?.lane.clone()
    }

    /// Opens the session and tells the server this end's DTLS parameters, at first use.
    async fn connect(&self, protoo: &ProtooClient, sending: bool) -> Result<Arc<Lane>, UserError> {
        let mut path = self.path(sending).lock().await;
        let path = path.as_mut().ok_or(UserError::NoTransport)?;
        if let Some(lane) = &path.lane {
            return Ok(lane.clone());
        }
        let mut remote = path.options.remote().ok_or(UserError::NoCandidate)?;
        match (self.config.has_data(sending), remote.sctp) {
            (true, None) => return Err(UserError::NoDataChannels),
            (true, Some(_)) => {}
            (false, _) => remote.sctp = None,
        }
        let seed = self.with_rng(|rng| rng.random());
        let transport = &self.config.transport;
        let lane = LaneConfig { seed, group: self.config.group, path: self.config.path.clone() };
        let lane = Arc::new(self.driver.open(transport, remote, lane).await?);
        let dtls = dtls_parameters(transport.dtls_role, transport.certificate.fingerprint());
        let connect = json!({ "transportId": path.options.id, "dtlsParameters": dtls });
        protoo.request("connectWebRtcTransport", connect).await?;
        path.lane = Some(lane.clone());
        Ok(lane)
    }
}

async fn want(lane: &Lane, ssrc: u32, wanted: &[bool]) -> Result<(), UserError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let wanted = wanted.to_vec();
    Ok(lane.with(move |session, now| session.set_encodings_wanted(now, ssrc, &wanted)).await?)
}

/// Waits until a transport is over; for ever if there is none.
async fn transport_ended(lane: Option<Arc<Lane>>) -> UserEnd {
    let Some(lane) = lane else { return std::future::pending().await };
    let over = |state: &TransportState| {
        matches!(state, TransportState::Disconnected | TransportState::Failed(_) | TransportState::Closed)
    };
    match lane.state().wait_for(over).await.as_deref() {
        Ok(TransportState::Disconnected) => UserEnd::Ice,
        _ => UserEnd::Transport,
    }
}

async fn create_transport(protoo: &ProtooClient, sending: bool, config: &UserConfig) -> Result<Path, ProtooError> {
    let mut request = json!({ "forceTcp": config.tcp, "producing": sending, "consuming": !sending });
    if config.has_data(sending) {
        request["sctpCapabilities"] = sctp_capabilities();
    }
    Ok(Path { options: protoo.call("createWebRtcTransport", request).await?, lane: None })
}

/// Where a peer enters a room of a server; `query` is added as it is.
pub(crate) fn room_url(server: &str, room: &str, peer: &str, query: &str) -> String {
    let separator = if server.contains("://") && server.matches('/').count() > 2 { "" } else { "/" };
    format!("{server}{separator}?roomId={}&peerId={}{query}", escape(room), escape(peer))
}

/// Percent-encodes what may not stand in a query.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
