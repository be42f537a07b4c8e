//! A room as one user sees it: kept from the server's notifications and requests.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use super::{Shared, UserError};
use crate::scenario::Watch;
use crate::signalling::demo_v3::{NewConsumer, NewDataConsumer, Peer};
use crate::signalling::ortc::Kind;
use crate::signalling::{Incoming, ProtooClient, Responder};

/// Who and what is in the room.
#[derive(Debug, Clone, Default)]
pub struct RoomState {
    /// The others, by id.
    pub peers: BTreeMap<String, Peer>,
    /// What is received, by the consumer's id.
    pub consumers: BTreeMap<String, Consumer>,
    /// The data channels that are received, by the data consumer's id.
    pub data_consumers: BTreeMap<String, DataConsumer>,
    /// Who speaks.
    pub active_speaker: Option<String>,
    /// The connection ended, with the WebSocket close code if there was one.
    pub closed: Option<Option<u16>>,
    /// Consumers that were announced so far.
    announced: u64,
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
    /// The user wants it; otherwise it is paused for that.
    pub watched: bool,
    /// How many were announced before it.
    announced: u64,
    /// What the server says beyond that.
    pub app_data: Value,
}

/// One reception of a data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataConsumer {
    /// The server's id.
    pub id: String,
    /// What is received.
    pub producer: String,
    /// Whose that is; `None`: the server's own.
    pub peer: Option<String>,
    /// What its sender calls it.
    pub label: String,
    /// The stream that it comes on.
    pub stream: u16,
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
                "newDataConsumer" => on_new_data_consumer(data, responder, &protoo, &shared, &room).await,
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
        Ok(kind) => {
            // The server resumes the consumer after this answer: it is paused after it.
            responder.accept(json!({})).await;
            apply_watch(kind, protoo, shared, room).await;
        }
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
) -> Result<Kind, UserError> {
    let parameters = new.rtp_parameters.to_receive()?;
    let transport_cc = new.rtp_parameters.transport_cc();
    let ssrc = parameters.ssrc;
    let lane = shared.connect(protoo, false).await?;
    let paused = new.producer_paused;
    lane.with(move |session, now| {
        session.receive(now, parameters);
        session.set_stream_paused(now, ssrc, paused);
        session.set_transport_cc(transport_cc);
    })
    .await?;
    room.send_modify(|room| {
        let consumer = Consumer {
            id: new.id.clone(),
            producer: new.producer_id,
            peer: new.peer_id,
            kind: new.kind,
            ssrc,
            paused,
            watched: true,
            announced: room.announced,
            app_data: new.app_data,
        };
        room.announced += 1;
        room.consumers.insert(new.id, consumer);
    });
    Ok(new.kind)
}

async fn on_new_data_consumer(
    data: Value,
    responder: Responder,
    protoo: &ProtooClient,
    shared: &Shared,
    room: &watch::Sender<RoomState>,
) {
    if !shared.config.consume_data {
        responder.reject(403, "I do not want to consume data").await;
        return;
    }
    let result = match serde_json::from_value::<NewDataConsumer>(data) {
        Ok(consumer) => consume_data(consumer, protoo, shared, room).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    match result {
        Ok(()) => responder.accept(json!({})).await,
        Err(error) => {
            tracing::warn!(%error, "newDataConsumer");
            responder.reject(500, &error).await;
        }
    }
}

async fn consume_data(
    new: NewDataConsumer,
    protoo: &ProtooClient,
    shared: &Shared,
    room: &watch::Sender<RoomState>,
) -> Result<(), UserError> {
    let (stream, delivery) = (new.sctp_stream_parameters.stream_id, new.sctp_stream_parameters.delivery());
    let lane = shared.connect(protoo, false).await?;
    lane.with(move |session, _| session.receive_data(stream, delivery)).await?;
    room.send_modify(|room| {
        let NewDataConsumer { id, data_producer_id, peer_id, label, .. } = new;
        let consumer = DataConsumer { id: id.clone(), producer: data_producer_id, peer: peer_id, label, stream };
        room.data_consumers.insert(id, consumer);
    });
    Ok(())
}

/// Pauses what the user does not want of a kind, and resumes what it does.
async fn apply_watch(kind: Kind, protoo: &ProtooClient, shared: &Shared, room: &watch::Sender<RoomState>) {
    let policy = match kind {
        Kind::Audio => shared.config.watch_audio,
        Kind::Video => shared.config.watch_video,
    };
    let mut changed = Vec::new();
    room.send_if_modified(|room| {
        changed = room.watch(kind, policy);
        !changed.is_empty()
    });
    for consumer in changed {
        let method = if consumer.watched { "resumeConsumer" } else { "pauseConsumer" };
        protoo.tell(method, json!({ "consumerId": consumer.id })).await;
        pause(&consumer, protoo, shared).await;
    }
}

impl RoomState {
    /// Decides anew what of a kind is watched, and returns the consumers of which that changed.
    fn watch(&mut self, kind: Kind, policy: Watch) -> Vec<Consumer> {
        let wanted = match policy {
            Watch::All => usize::MAX,
            Watch::None => 0,
            Watch::First(wanted) => wanted as usize,
        };
        let mut consumers: Vec<&mut Consumer> =
            self.consumers.values_mut().filter(|consumer| consumer.kind == kind).collect();
        consumers.sort_unstable_by_key(|consumer| consumer.announced);
        let mut changed = Vec::new();
        for (index, consumer) in consumers.into_iter().enumerate() {
            let watched = index < wanted;
            if std::mem::replace(&mut consumer.watched, watched) != watched {
                changed.push(consumer.clone());
            }
        }
        changed
    }
}

/// Tells the session whether a consumer's stream is paused on purpose.
async fn pause(consumer: &Consumer, protoo: &ProtooClient, shared: &Shared) {
    let (ssrc, paused) = (consumer.ssrc, consumer.paused || !consumer.watched);
    if let Ok(lane) = shared.connect(protoo, false).await {
        // Without a session there is nothing to tell.
        let _ = lane.with(move |session, now| session.set_stream_paused(now, ssrc, paused)).await;
    }
}

/// A consumer's producer is paused, or goes on.
async fn set_paused(
    consumer_id: &str,
    paused: bool,
    protoo: &ProtooClient,
    shared: &Shared,
    room: &watch::Sender<RoomState>,
) {
    let mut changed = None;
    room.send_modify(|room| {
        if let Some(consumer) = room.consumers.get_mut(consumer_id) {
            consumer.paused = paused;
            changed = Some(consumer.clone());
        }
    });
    if let Some(consumer) = changed {
        pause(&consumer, protoo, shared).await;
    }
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
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct DataConsumerIdOnly {
        data_consumer_id: String,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct EncodingsWanted {
        producer_id: String,
        wanted: Vec<bool>,
    }
    match method {
        "newPeer" => {
            let peer = data.get("peer").cloned().unwrap_or(data);
            if let Some(peer) = read::<Peer>(method, peer) {
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
        "dataConsumerClosed" => {
            if let Some(DataConsumerIdOnly { data_consumer_id }) = read(method, data) {
                end_data_consumer(&data_consumer_id, protoo, shared, room).await;
            }
        }
        "consumerPaused" | "consumerResumed" => {
            if let Some(ConsumerIdOnly { consumer_id }) = read(method, data) {
                set_paused(&consumer_id, method == "consumerPaused", protoo, shared, room).await;
            }
        }
        "producerEncodingsWanted" => {
            if let Some(EncodingsWanted { producer_id, wanted }) = read(method, data) {
                // Without a session nothing is sent.
                let _ = shared.want_encodings(producer_id, wanted).await;
            }
        }
        _ => tracing::trace!(method, "not looked at"),
    }
}

async fn end_consumer(id: &str, protoo: &ProtooClient, shared: &Shared, room: &watch::Sender<RoomState>) {
    let mut ended = None;
    room.send_modify(|room| ended = room.consumers.remove(id));
    let Some(Consumer { ssrc, kind, .. }) = ended else { return };
    if let Ok(lane) = shared.connect(protoo, false).await {
        // Without a session there is nothing to end.
        let _ = lane.with(move |session, now| session.stop_receiving(now, ssrc)).await;
    }
    apply_watch(kind, protoo, shared, room).await;
}

async fn end_data_consumer(id: &str, protoo: &ProtooClient, shared: &Shared, room: &watch::Sender<RoomState>) {
    let mut ended = None;
    room.send_modify(|room| ended = room.data_consumers.remove(id));
    let Some(DataConsumer { stream, .. }) = ended else { return };
    if let Ok(lane) = shared.connect(protoo, false).await {
        // Without a session there is nothing to end.
        let _ = lane.with(move |session, _| session.stop_receiving_data(stream)).await;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn room(announced: &[(&str, Kind)]) -> RoomState {
        let mut room = RoomState::default();
        for (index, &(id, kind)) in announced.iter().enumerate() {
            let consumer = Consumer {
                id: id.to_owned(),
                producer: String::new(),
                peer: String::new(),
                kind,
                ssrc: index as u32,
                paused: false,
                watched: true,
                announced: index as u64,
                app_data: Value::Null,
            };
            room.consumers.insert(id.to_owned(), consumer);
        }
        room
    }

    fn watch(room: &mut RoomState, policy: Watch) -> Vec<(String, bool)> {
        room.watch(Kind::Video, policy).into_iter().map(|consumer| (consumer.id, consumer.watched)).collect()
    }

    #[test]
    fn the_first_are_watched_and_the_next_take_their_place() {
        let mut room = room(&[("d", Kind::Video), ("a", Kind::Audio), ("c", Kind::Video), ("b", Kind::Video)]);
        assert_eq!(watch(&mut room, Watch::All), []);
        assert_eq!(watch(&mut room, Watch::First(1)), [("c".to_owned(), false), ("b".to_owned(), false)]);
        assert_eq!(watch(&mut room, Watch::First(1)), []);
        room.consumers.remove("d");
        assert_eq!(watch(&mut room, Watch::First(1)), [("c".to_owned(), true)]);
        assert_eq!(watch(&mut room, Watch::None), [("c".to_owned(), false)]);
        assert!(room.consumers["a"].watched);
    }
}
