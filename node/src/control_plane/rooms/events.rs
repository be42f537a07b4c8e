//! What workers tell a room.

use sluice_proto::ids::{ConsumerId, PeerId, ProducerId, TransportId};

use super::api::{CloseReason, Notice};
use super::context::{Context, Subject};
use super::room::{Room, RoomMessage};
use super::waiting::Waiting;
use crate::data_plane::messages::{DtlsState, IceState, Request, WorkerEvent, WorkerIndex};

/// Hands the workers' events to the rooms that they are about. It never waits for a room: levels and scores come again, so that a busy
/// room may miss one; what must not be lost waits beside this.
pub(super) async fn dispatch(
    context: std::sync::Arc<Context>,
    mut events: tokio::sync::mpsc::Receiver<(WorkerIndex, WorkerEvent)>,
) {
    let mut waiting = Waiting::default();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some((worker, event)) => dispatch_one(&context, &mut waiting, worker, event),
                None => return,
            },
            () = waiting.go_on() => {}
        }
    }
}

fn dispatch_one(context: &Context, waiting: &mut Waiting, worker: WorkerIndex, event: WorkerEvent) {
    let subject = match &event {
        WorkerEvent::Pipe { .. } => {
            let WorkerEvent::Pipe { to, message } = event else { return };
            return context.pipes.on_worker_message(worker, to, message);
        }
        // The worker's handle takes answers out.
        WorkerEvent::Response { .. } => return,
        WorkerEvent::IceStateChanged { transport, .. } | WorkerEvent::DtlsStateChanged { transport, .. } => {
            let transport = *transport;
            if let Some(room) = context.addresses.get(Subject::Transport(transport)) {
                waiting.deliver(&room, transport, event);
            }
            return;
        }
        WorkerEvent::AudioLevels { router, .. } => Subject::Router(*router),
        WorkerEvent::ProducerScore { producer, .. } => Subject::Producer(*producer),
        WorkerEvent::ConsumerScore { consumer, .. } => Subject::Consumer(*consumer),
    };
    if let Some(room) = context.addresses.get(subject) {
        let _ = room.try_send(RoomMessage::Worker(event));
    }
}

impl Room {
    pub(super) fn on_worker_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::IceStateChanged { transport, state: IceState::Disconnected, .. } => {
                self.on_media_lost(transport, "the network path of a transport is gone");
            }
            WorkerEvent::DtlsStateChanged { transport, state: DtlsState::Failed } => {
                self.on_media_lost(transport, "the DTLS handshake of a transport failed");
            }
            WorkerEvent::DtlsStateChanged { transport, state: DtlsState::Closed } => {
                self.on_transport_closed(transport)
            }
            WorkerEvent::AudioLevels { router, volumes } => self.on_audio_levels(router, volumes),
            WorkerEvent::ProducerScore { producer, score } => self.on_producer_score(producer, score),
            WorkerEvent::ConsumerScore { consumer, score, producer_score } => {
                self.on_consumer_score(consumer, score, producer_score);
            }
            WorkerEvent::IceStateChanged { state: IceState::Connected, .. }
            | WorkerEvent::DtlsStateChanged { state: DtlsState::Connected(_), .. }
            | WorkerEvent::Response { .. }
            | WorkerEvent::Pipe { .. } => {}
        }
    }

    fn on_media_lost(&mut self, transport: TransportId, words: &str) {
        if let Some(peer) = self.owner_of(transport) {
            tracing::info!(room = %self.key, %peer, %transport, words, "peer closed");
            self.dismiss(&peer, CloseReason::MediaLost, words);
        }
    }

    /// The client said goodbye on this transport, and may have others.
    fn on_transport_closed(&mut self, transport: TransportId) {
        let Some(id) = self.owner_of(transport) else { return };
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.transports.remove(&transport);
        self.context.worker(peer.worker).send(Request::CloseTransport { transport });
        self.context.addresses.remove(Subject::Transport(transport));
        let producers: Vec<ProducerId> = {
            let on_it = self.producers.iter().filter(|(_, producer)| producer.transport == Some(transport));
            on_it.map(|(id, _)| *id).collect()
        };
        peer.producers.retain(|producer| !producers.contains(producer));
        let consumers: Vec<ConsumerId> = {
            let on_it = self.consumers.iter().filter(|(_, consumer)| consumer.transport == transport);
            on_it.map(|(id, _)| *id).collect()
        };
        consumers.into_iter().for_each(|consumer| self.forget_consumer(consumer));
        for producer in &producers {
            self.remove_producer(*producer);
        }
        if !producers.is_empty() {
            self.publish();
        }
    }

    fn on_producer_score(&mut self, id: ProducerId, score: u8) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        producer.score = score;
        if let Some(peer) = self.peers.get(&producer.owner) {
            peer.outbox.notify(Notice::ProducerScore { producer: id, ssrc: producer.ssrc, score });
        }
    }

    fn on_consumer_score(&mut self, consumer: ConsumerId, score: u8, producer_score: u8) {
        let peer = self.consumers.get(&consumer).and_then(|consumer| self.peers.get(&consumer.peer));
        if let Some(peer) = peer {
            peer.outbox.notify(Notice::ConsumerScore { consumer, score, producer_score });
        }
    }

    fn owner_of(&self, transport: TransportId) -> Option<PeerId> {
        let owner = self.peers.iter().find(|(_, peer)| peer.transports.contains_key(&transport));
        owner.map(|(id, _)| id.clone())
    }
}
