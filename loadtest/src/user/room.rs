//! A room as one user sees it: kept from the server's notifications and requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::{Shared, UserError};
use crate::media::StreamStats;
use crate::signalling::d1::{NewConsumer, Peer};
use crate::signalling::ortc::Kind;
use crate::signalling::{Incoming, ProtooClient, Responder};

/// Who and what is in the room.
#[derive(Debug, Clone, Default)]
pub struct RoomState {
    /// The others, by id.
    pub peers: BTreeMap<String, Peer>,
    /// What is received, by the consumer's id.
    pub consumers: BTreeMap<String, Consumer>,
    /// What was received, by the consumer's id, with the last word about it.
    pub ended: BTreeMap<String, StreamStats>,
    /// Who speaks.
    pub active_speaker: Option<String>,
    /// The connection ended, with the WebSocket close code if there was one.
    pub closed: Option<Option<u16>>,
}

impl RoomState {
    /// The consumer of a peer's audio or video.
    pub fn consumer(&self, peer: &str, kind: Kind) -> Option<&Consumer> {
        self.consumers.values().find(|consumer| consumer.peer == peer && consumer.kind == kind)
    }
}

/// One reception.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumer {
    /// The server's id.
    pub id: String,
    /// What is received.
    pub producer: String,
    /// Whose that is.
    pub peer: String,
    /// Audio or video.
    pub kind: Kind,
    /// The stream's SSRC.
    pub ssrc: u32,
    /// The producer, or the consumer by the server, is paused.
    pub paused: bool,
    /// What the server says beyond that.
    pub app_data: Value,
}

/// Follows the server until the connection ends.
pub(super) async fn run(
    mut incoming: mpsc::Receiver<Incoming>,
    protoo: ProtooClient,
    shared: Arc<Shared>,
    room: watch::Sender<RoomState>,
) {
    while let Some(message) = incoming.recv().await {
        match message {
            Incoming::Notification { method, data } => on_notification(&method, data, &protoo, &shared, &room).await,
            Incoming::Request { method, data, responder } => match method.as_str() {
                "newConsumer" => on_new_consumer(data, responder, &protoo, &shared, &room).await,
                _ => responder.reject(403, "this client does not do that").await,
            },
            Incoming::Closed(code) => room.send_modify(|room| room.closed = Some(code)),
        }
    }
}

async fn on_new_consumer(
    data: Value,
    responder: Responder,
    protoo: &ProtooClient,
    shared: &Shared,
    room: &watch::Sender<RoomState>,
) {
    if !shared.config.consume {
        responder.reject(403, "I do not want to consume").await;
        return;
    }
    let result = match serde_json::from_value::<NewConsumer>(data) {
        Ok(consumer) => consume(consumer, protoo, shared, room).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => responder.accept(json!({})).await,
        Err(error) => {
            tracing::warn!(%error, "newConsumer");
            responder.reject(500, &error).await;
        }
    }
}

async fn consume(
    new: NewConsumer,
    protoo: &ProtooClient,
    shared: &Shared,
    room: &watch::Sender<RoomState>,
) -> Result<(), UserError> {
    let parameters = new.rtp_parameters.to_receive()?;
    let transport_cc = new.rtp_parameters.transport_cc();
    let ssrc = parameters.ssrc;
    let lane = shared.connect(protoo, false).await?;
    lane.with(move |session, now| {
        session.receive(now, parameters);
        session.set_transport_cc(transport_cc);
    })
    .await?;
    let consumer = Consumer {
        id: new.id.clone(),
        producer: new.producer_id,
        peer: new.peer_id,
        kind: new.kind,
        ssrc,
        paused: new.producer_paused,
        app_data: new.app_data,
    };
    room.send_modify(|room| drop(room.consumers.insert(new.id, consumer)));
    Ok(())
}

async fn on_notification(
    method: &str,
    data: Value,
    protoo: &ProtooClient,
    shared: &Shared,
    room: &watch::Sender<RoomState>,
) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct PeerIdOnly {
        peer_id: Option<String>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct ConsumerIdOnly {
        consumer_id: String,
    }
    match method {
        "newPeer" => {
            if let Some(peer) = read::<Peer>(method, data) {
                room.send_modify(|room| drop(room.peers.insert(peer.id.clone(), peer)));
            }
        }
        "peerClosed" => {
            if let Some(PeerIdOnly { peer_id: Some(id) }) = read(method, data) {
                room.send_modify(|room| drop(room.peers.remove(&id)));
            }
        }
        "activeSpeaker" => {
            if let Some(PeerIdOnly { peer_id }) = read(method, data) {
                room.send_modify(|room| room.active_speaker = peer_id);
            }
        }
        "consumerClosed" => {
            if let Some(ConsumerIdOnly { consumer_id }) = read(method, data) {
                end_consumer(&consumer_id, protoo, shared, room).await;
            }
        }
        "consumerPaused" | "consumerResumed" => {
            if let Some(ConsumerIdOnly { consumer_id }) = read(method, data) {
                room.send_modify(|room| {
                    if let Some(consumer) = room.consumers.get_mut(&consumer_id) {
                        consumer.paused = method == "consumerPaused";
                    }
                });
            }
        }
        _ => tracing::trace!(method, "not looked at"),
    }
}

async fn end_consumer(id: &str, protoo: &ProtooClient, shared: &Shared, room: &watch::Sender<RoomState>) {
    let Some(ssrc) = room.borrow().consumers.get(id).map(|consumer| consumer.ssrc) else { return };
    let last = match shared.connect(protoo, false).await {
        Ok(lane) => lane.with(move |session, now| session.stop_receiving(now, ssrc)).await.ok().flatten(),
        Err(_) => None,
    };
    room.send_modify(|room| {
        room.consumers.remove(id);
        room.ended.insert(id.to_owned(), last.unwrap_or_default());
    });
}

fn read<T: DeserializeOwned>(method: &str, data: Value) -> Option<T> {
    match serde_json::from_value(data) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::warn!(method, %error, "the server said something unexpected");
            None
        }
    }
}
