//! A user who is there: what they say and hear over their WebSocket, in the order of calls of mediasoup-demo's web
//! application, and their two lanes.

mod media;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sluice_loadtest::session::Session;
use sluice_loadtest::signalling::demo_v3::{IceParameters, Joined, TransportOptions, dtls_parameters};
use sluice_loadtest::signalling::ortc::{RtpCapabilities, RtpParameters, device_capabilities};
use sluice_loadtest::transport::TransportState;
use sluice_media::make_ufrag;
use sluice_media::messages::WorkerIndex;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

pub(super) use self::media::{Consumer, Production};
use super::access::Access;
use super::lane::{Lane, Packet};
use crate::tests::client::Connection;

/// Which lane is which.
pub(super) const SENDING: usize = 0;
pub(super) const RECEIVING: usize = 1;

pub(super) struct Presence {
    /// The user.
    pub(super) number: u32,
    pub(super) node: usize,
    connection: Connection,
    /// What has come and is on its way yet, and what is still to be sent.
    inbox: VecDeque<(Instant, Message)>,
    outbox: VecDeque<(Instant, Message)>,
    /// How far away the node is for signalling.
    distance: Duration,
    /// Nothing passes until then.
    dark_until: Option<Instant>,
    next_id: u64,
    asked: BTreeMap<u64, Asked>,
    router: RtpCapabilities,
    pub(super) joined: bool,
    pub(super) secret: Option<String>,
    pub(super) lanes: [Option<Lane>; 2],
    /// Of the node's workers the one that the transports are on.
    worker: usize,
    next_mid: u32,
    pub(super) productions: Vec<Production>,
    /// By id.
    pub(super) consumers: BTreeMap<String, Consumer>,
    pub(super) peers: BTreeSet<String>,
    /// Why it is over, if it is.
    pub(super) over: Option<String>,
}

/// What an answer will be about.
#[derive(Debug)]
enum Asked {
    Router,
    Transport(usize),
    Join,
    Produce {
        ssrc: u32,
        rtp: Box<RtpParameters>,
    },
    RestartIce(usize),
    /// Nothing follows from it.
    Done,
    /// Nor from this, and its subject may be gone.
    Perhaps,
}

pub(super) fn name(user: u32) -> String {
    format!("user-{user}")
}

impl Presence {
    pub(super) fn new(number: u32, node: usize, connection: Connection, distance: Duration) -> Self {
        let mut presence = Self {
            number,
            node,
            connection,
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            distance,
            dark_until: None,
            next_id: 0,
            asked: BTreeMap::new(),
            router: RtpCapabilities::default(),
            joined: false,
            secret: None,
            lanes: [None, None],
            worker: 0,
            next_mid: 0,
            productions: Vec::new(),
            consumers: BTreeMap::new(),
            peers: BTreeSet::new(),
            over: None,
        };
        presence.ask("getRouterRtpCapabilities", json!({}), Asked::Router);
        presence
    }

    /// The user's network is gone for a while.
    pub(super) fn go_dark(&mut self, until: Instant, access: &mut Access) {
        self.dark_until = Some(until);
        self.lanes.iter_mut().flatten().for_each(|lane| lane.set_path(access.darkness()));
    }

    /// It is back.
    pub(super) fn lighten(&mut self, access: &mut Access) {
        self.dark_until = None;
        self.lanes.iter_mut().flatten().for_each(|lane| lane.set_path(access.path()));
    }

    /// One lane, or both, are at other addresses from now on, which the client may notice.
    pub(super) fn roam(&mut self, lanes: &[usize], noticed: bool, access: &mut Access) {
        for index in lanes {
            let Some(lane) = &mut self.lanes[*index] else { continue };
            lane.address = access.address();
            if noticed {
                let data = json!({"transportId": lane.transport});
                self.ask("restartIce", data, Asked::RestartIce(*index));
            }
        }
    }

    /// Closes the WebSocket in order, or leaves it as it is, in silence.
    pub(super) fn leave(self, silently: bool) -> Option<Connection> {
        if silently {
            return Some(self.connection);
        }
        // It may be full: then it breaks.
        let _ = self.connection.to_server.try_send(Message::Close(None));
        None
    }

    /// Says and hears what is due.
    pub(super) fn signal(&mut self, access: &mut Access) {
        let now = Instant::now();
        if self.dark_until.is_some_and(|until| until <= now) {
            self.lighten(access);
        }
        if self.dark_until.is_some() {
            return;
        }
        loop {
            match self.connection.from_server.try_recv() {
                Ok(message) => self.inbox.push_back((now + self.distance, message)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.over.get_or_insert_with(|| "the connection broke".to_owned());
                    return;
                }
            }
        }
        while let Some((_, message)) = self.inbox.pop_front_if(|(at, _)| *at <= now) {
            self.hear(message, access);
        }
        while let Some((at, message)) = self.outbox.pop_front_if(|(at, _)| *at <= now) {
            if let Err(error) = self.connection.to_server.try_send(message) {
                return self.outbox.push_front((at, error.into_inner()));
            }
        }
    }

    /// Lets the lanes do what is due, and yields what sets out for the node.
    pub(super) fn poll_lanes(&mut self) -> Vec<(Instant, Packet)> {
        let mut packets = Vec::new();
        for lane in self.lanes.iter_mut().flatten() {
            packets.extend(lane.poll());
            for state in lane.states() {
                if !matches!(state, TransportState::Connecting | TransportState::Connected(_)) {
                    self.over = Some(format!("a transport is over: {state:?}"));
                }
            }
        }
        packets
    }

    /// What the user still waits for, if anything.
    pub(super) fn unsettled(&self) -> Option<String> {
        let connected = self.lanes.iter().map(|lane| lane.as_ref().is_some_and(|lane| lane.connected));
        let connected: Vec<bool> = connected.collect();
        let settled = self.joined && self.asked.is_empty() && connected == [true, true];
        (!settled).then(|| format!("joined: {}, connected: {connected:?}, asked: {:?}", self.joined, self.asked))
    }

    /// Of the node's workers the one that the user is on.
    pub(super) fn worker(&self) -> usize {
        self.worker
    }

    fn ask(&mut self, method: &str, data: Value, about: Asked) {
        self.next_id += 1;
        let id = self.next_id;
        self.asked.insert(id, about);
        self.say(&json!({"request": true, "id": id, "method": method, "data": data}));
    }

    fn say(&mut self, message: &Value) {
        self.send(Message::Text(message.to_string().into()));
    }

    fn send(&mut self, message: Message) {
        self.outbox.push_back((Instant::now() + self.distance, message));
    }

    fn hear(&mut self, message: Message, access: &mut Access) {
        let text = match message {
            Message::Text(text) => text,
            Message::Ping(payload) => return self.send(Message::Pong(payload)),
            Message::Close(frame) => {
                self.over = Some(format!("the node closed: {frame:?}"));
                return;
            }
            other => panic!("the node said {other:?}"),
        };
        let mut message: Value = serde_json::from_str(&text).unwrap();
        let data = message["data"].take();
        if message["response"] == true {
            let asked = self.asked.remove(&message["id"].as_u64().unwrap()).expect("it was asked once");
            if message["ok"] != true {
                return self.on_refusal(&asked, &message);
            }
            return self.on_answer(asked, data, access);
        }
        let method = message["method"].as_str().unwrap();
        if message["request"] == true {
            assert_eq!(method, "newConsumer");
            let id = message["id"].clone();
            self.on_new_consumer(read(data));
            return self.say(&json!({"response": true, "id": id, "ok": true, "data": {}}));
        }
        self.on_notification(method, &data);
    }

    fn on_refusal(&mut self, asked: &Asked, refusal: &Value) {
        let code = refusal["errorCode"].as_u64().unwrap();
        match (asked, code) {
            (Asked::Perhaps, 404) => {}
            // Somebody else who gives signs of life has the name: a former self, whose end the node has not heard of.
            (Asked::Join, 409) => self.over = Some("the name is taken".to_owned()),
            _ => panic!("user {}: {asked:?} is refused: {refusal}", self.number),
        }
    }

    fn on_answer(&mut self, asked: Asked, data: Value, access: &mut Access) {
        match asked {
            Asked::Router => {
                self.router = read(data);
                for (lane, sending) in [(SENDING, true), (RECEIVING, false)] {
                    let data = json!({"forceTcp": false, "producing": sending, "consuming": !sending});
                    self.ask("createWebRtcTransport", data, Asked::Transport(lane));
                }
            }
            Asked::Transport(lane) => {
                self.open_lane(lane, read(data), access);
                if self.lanes.iter().all(Option::is_some) {
                    let capabilities = device_capabilities(&self.router);
                    let data = json!({"displayName": name(self.number), "device": {}, "rtpCapabilities": capabilities});
                    self.ask("join", data, Asked::Join);
                }
            }
            Asked::Join => {
                let Joined { peers, peer_secret } = read(data);
                (self.joined, self.secret) = (true, peer_secret);
                self.peers.extend(peers.into_iter().map(|peer| peer.id));
            }
            Asked::Produce { ssrc, rtp } => self.on_produced(ssrc, &rtp, data["id"].as_str().unwrap(), access),
            Asked::RestartIce(lane) => {
                let ice: IceParameters = read(data);
                if let Some(lane) = &mut self.lanes[lane] {
                    lane.session.transport_mut().restart_ice(Instant::now().into_std(), ice.credentials());
                }
            }
            Asked::Done | Asked::Perhaps => {}
        }
    }

    fn open_lane(&mut self, index: usize, options: TransportOptions, access: &mut Access) {
        let remote = options.remote().expect("the node has a candidate");
        let prefix = make_ufrag(WorkerIndex(0), "").len();
        self.worker = usize::from_str_radix(&remote.ice.ufrag[..prefix], 36).expect("the worker's number");
        let (now, seed) = (Instant::now().into_std(), access.draw());
        let clock = access.clock.of_origin(self.number);
        let session = Session::new(now, clock, &access.transport, remote, seed).unwrap();
        let fingerprint = access.transport.certificate.fingerprint();
        let dtls = dtls_parameters(access.transport.dtls_role, fingerprint);
        let place = (self.node, access.address());
        self.ask("connectWebRtcTransport", json!({"transportId": options.id, "dtlsParameters": dtls}), Asked::Done);
        self.lanes[index] = Some(Lane::new(session, options.id, place, access.paths()));
    }
}

fn read<T: DeserializeOwned>(data: Value) -> T {
    serde_json::from_value(data).expect("the node says what it should")
}
