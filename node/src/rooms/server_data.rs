//! What a tenant's server or an operator sends those of a room who are on this node: by data producers without a peer,
//! one for each label at each worker, made when there is the first message.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::json;
use sluice_media::messages::{Request, WorkerIndex};
use sluice_proto::ids::{PeerId, ProducerId};
use sluice_proto::ortc::SctpStreamParameters;

use super::api::Refusal;
use super::media::Producer;
use super::room::Room;
use crate::ortc::DataChannel;
use crate::pipes::{Content, Home, Source};

/// Labels of a room, with a protocol each: each is a data consumer of everybody.
const MAX_LABELS: usize = 8;

/// Who hears a message, but for who is meant alone.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ServerChannel {
    label: String,
    protocol: String,
    worker: WorkerIndex,
}

/// One message.
#[derive(Debug)]
pub(crate) struct ServerMessage {
    /// Of the channel that it comes by.
    pub(crate) label: String,
    pub(crate) protocol: String,
    pub(crate) content: ServerContent,
}

/// A string or bytes, as data channels tell them apart (RFC 8831 section 8).
#[derive(Debug)]
pub(crate) enum ServerContent {
    Text(String),
    Binary(Bytes),
}

impl ServerContent {
    /// As it travels, with its payload protocol identifier. An empty message is one byte under another.
    fn into_wire(self) -> (u32, Bytes) {
        let (empty, ppid, bytes) = match self {
            Self::Text(text) => (56, 51, Bytes::from(text)),
            Self::Binary(bytes) => (57, 53, bytes),
        };
        if bytes.is_empty() { (empty, Bytes::from_static(&[0])) } else { (ppid, bytes) }
    }
}

impl Room {
    /// Sends a message to everybody here who receives data, or to one of them. Whoever is asked to set the channel up
    /// only now gets it when that is done.
    pub(super) fn send_data(&mut self, to: Option<&PeerId>, message: ServerMessage) -> Result<(), Refusal> {
        let ServerMessage { label, protocol, content } = message;
        let (ppid, payload) = content.into_wire();
        let Some(limits) = self.context.data else {
            return Err(Refusal::new(501, "data channels are not set up here"));
        };
        if payload.len() > limits.max_message_size {
            let reason = format!("a message may have {} bytes, not {}", limits.max_message_size, payload.len());
            return Err(Refusal::new(413, reason));
        }
        let stream = json!({"streamId": 0});
        let channel = Arc::new(DataChannel::parse(&label.into(), &protocol.into(), &stream)?);
        let session = to.map(|peer| self.session_here(peer)).transpose()?;
        let workers: Vec<WorkerIndex> = match session.and_then(|session| self.peers.get(session)) {
            Some(peer) if !peer.receives_data() => return Err(receives_none()),
            Some(peer) => vec![peer.worker()],
            None => self.routers.keys().copied().collect(),
        };
        // All of them before the first message: what is refused reaches nobody.
        let channels = workers.into_iter().map(|worker| Ok((worker, self.server_channel(&channel, worker)?)));
        for (worker, producer) in channels.collect::<Result<Vec<_>, Refusal>>()? {
            let consumers = self.producers.get(&producer).map(|found| &found.consumers);
            let to = session.map(|session| consumers.and_then(|consumers| consumers.get(&session)).copied());
            if to == Some(None) {
                return Err(receives_none());
            }
            let request = Request::SendData { producer, to: to.flatten(), ppid, payload: payload.clone() };
            if self.context.worker(worker).try_send(request).is_err() {
                return Err(Refusal::new(503, "a media worker is too busy: some may have got it"));
            }
        }
        Ok(())
    }

    /// The data producer of a label at a worker. Of one that is new everybody there is told at once, before the first
    /// message.
    fn server_channel(&mut self, channel: &Arc<DataChannel>, worker: WorkerIndex) -> Result<ProducerId, Refusal> {
        let key = ServerChannel { label: channel.label.clone(), protocol: channel.protocol.clone(), worker };
        if let Some(producer) = self.server_channels.get(&key) {
            return Ok(*producer);
        }
        if self.server_channels.keys().filter(|channel| channel.worker == worker).count() >= MAX_LABELS {
            return Err(Refusal::new(409, format!("a room may have {MAX_LABELS} labels of servers' messages")));
        }
        let router = self.routers.get(&worker).ok_or_else(|| Refusal::new(404, "nobody is here"))?.id;
        let producer = ProducerId::from_random_bytes(rand::random());
        let stream: SctpStreamParameters = channel.sctp_stream_parameters;
        if self.context.worker(worker).try_send(Request::CreateDirectDataProducer { router, producer, stream }).is_err()
        {
            return Err(Refusal::new(503, "the media worker is too busy"));
        }
        let content = Content::Data(Arc::clone(channel));
        let source = Source { producer, room: self.key.clone(), content, paused: false, home: Home::Worker(worker) };
        self.producers.insert(producer, Producer::new(source, None, json!({})));
        self.server_channels.insert(key, producer);
        for session in self.peers.joined_sessions() {
            self.offer(session, producer);
        }
        Ok(producer)
    }

    /// Those of a worker have ended with the router there.
    pub(super) fn close_server_channels(&mut self, worker: WorkerIndex) {
        let of_it: Vec<ProducerId> = self
            .server_channels
            .extract_if(|channel, _| channel.worker == worker)
            .map(|(_, producer)| producer)
            .collect();
        of_it.into_iter().for_each(|producer| self.remove_producer(producer));
    }
}

fn receives_none() -> Refusal {
    Refusal::new(409, "the peer receives no data")
}
