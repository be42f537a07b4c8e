//! What workers tell a room.

use sluice_media::messages::{ConsumerScores, EncodingScore, WorkerEvent, WorkerIndex};
use sluice_proto::ids::{ConsumerId, ProducerId, TransportId};
use sluice_proto::pipe::Layers;

use super::api::Downlink;
use super::context::{Context, Subject};
use super::encodings_wanted::{EncodingsWanted, UNWANTED_FOR};
use super::room::Room;
use super::waiting::Waiting;
use crate::ortc::spatial_layers;

/// Hands the workers' events to the rooms that they are about. It never waits for a room: what a busy one cannot take
/// waits beside this.
pub(super) async fn dispatch(
    context: std::sync::Arc<Context>,
    mut events: tokio::sync::mpsc::Receiver<(WorkerIndex, WorkerEvent)>,
) {
    let mut waiting = Waiting::default();
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Some((worker, WorkerEvent::Overload { shedding })) => context.set_overloaded(worker, shedding),
                Some((_, event)) => dispatch_one(&context, &mut waiting, event),
                None => return,
            },
            () = waiting.go_on() => {}
        }
    }
}

fn dispatch_one(context: &Context, waiting: &mut Waiting, event: WorkerEvent) {
    let subject = match &event {
        // The worker's handle takes answers out, and overload is no room's.
        WorkerEvent::Response { .. } | WorkerEvent::Overload { .. } => return,
        WorkerEvent::IceStateChanged { transport, .. }
        | WorkerEvent::DtlsStateChanged { transport, .. }
        | WorkerEvent::SctpStateChanged { transport, .. }
        | WorkerEvent::DownlinkChanged { transport, .. } => Subject::Transport(*transport),
        WorkerEvent::AudioLevels { router, .. } => Subject::Router(*router),
        WorkerEvent::ProducerScore { producer, .. }
        | WorkerEvent::StreamsWanted { producer, .. }
        | WorkerEvent::DataProducerClosed { producer } => Subject::Producer(*producer),
        WorkerEvent::ConsumerScore { consumer, .. }
        | WorkerEvent::ConsumerLayersChanged { consumer, .. }
        | WorkerEvent::DataConsumerClosed { consumer, .. } => Subject::Consumer(*consumer),
    };
    if let Some(room) = context.listeners.get(subject) {
        waiting.deliver(&room, subject, event);
    }
}

impl Room {
    pub(super) fn on_worker_event(&mut self, event: WorkerEvent) {
        match event {
            WorkerEvent::IceStateChanged { transport, state, .. } => self.on_ice_state(transport, state),
            WorkerEvent::DtlsStateChanged { transport, state } => self.on_dtls_state(transport, state),
            WorkerEvent::AudioLevels { router, volumes } => self.on_audio_levels(router, volumes),
            WorkerEvent::ProducerScore { producer, scores } => self.on_producer_score(producer, scores),
            WorkerEvent::ConsumerScore { consumer, scores } => self.on_consumer_score(consumer, scores),
            WorkerEvent::ConsumerLayersChanged { consumer, layers } => self.on_consumer_layers(consumer, layers),
            WorkerEvent::DownlinkChanged {
                transport,
                desired_bitrate: desired,
                effective_desired_bitrate: effective_desired,
                available_bitrate: available,
            } => self.on_downlink(transport, Downlink { desired, effective_desired, available }),
            WorkerEvent::StreamsWanted { producer, streams } => self.on_streams_wanted(producer, streams),
            WorkerEvent::SctpStateChanged { transport, state } => self.on_sctp_state(transport, state),
            WorkerEvent::DataProducerClosed { producer } => self.on_data_producer_closed(producer),
            WorkerEvent::DataConsumerClosed { consumer, by_client } => {
                self.on_data_consumer_closed(consumer, by_client);
            }
            WorkerEvent::Response { .. } | WorkerEvent::Overload { .. } => {}
        }
    }

    fn on_downlink(&mut self, transport: TransportId, downlink: Downlink) {
        let desk = self.peers.owner_of(transport).and_then(|session| self.peers.desk(session));
        desk.into_iter().for_each(|desk| desk.set_downlink(downlink));
    }

    fn on_consumer_layers(&mut self, id: ConsumerId, layers: Option<Layers>) {
        let session = self.consumers.get(&id).map(|consumer| consumer.session);
        let desk = session.and_then(|session| self.peers.desk(session));
        desk.into_iter().for_each(|desk| desk.set_layers(id, layers));
    }

    fn on_streams_wanted(&mut self, id: ProducerId, streams: u8) {
        self.change_encodings_wanted(id, |wanted| wanted.change(streams));
    }

    fn change_encodings_wanted(&mut self, id: ProducerId, change: impl FnOnce(&mut EncodingsWanted) -> bool) {
        let Some(local) = self.producers.get_mut(&id).and_then(|producer| producer.local.as_mut()) else { return };
        let is_news = change(&mut local.encodings_wanted);
        if local.encodings_wanted.begin_wait() {
            self.after(UNWANTED_FOR, move |room| room.change_encodings_wanted(id, EncodingsWanted::end_wait));
        }
        if is_news {
            self.tell_encodings_wanted(id);
        }
    }

    /// Tells the client of a producer which encodings are received by anybody, if it wants to know.
    fn tell_encodings_wanted(&mut self, id: ProducerId) {
        let Some(producer) = self.producers.get(&id) else { return };
        let Some(local) = &producer.local else { return };
        let (session, streams) = (local.session, local.encodings_wanted.told());
        let layers = producer.source.content.rtp().map_or(0, spatial_layers);
        let joined = self.peers.get(session).and_then(|peer| peer.joined.as_ref());
        if joined.is_some_and(|joined| joined.adapts_encodings)
            && let Some(desk) = self.peers.desk(session)
        {
            desk.set_encodings_wanted(id, (0..layers).map(|layer| streams >> layer & 1 != 0).collect());
        }
    }

    fn on_producer_score(&mut self, id: ProducerId, scores: Vec<EncodingScore>) {
        let Some(producer) = self.producers.get_mut(&id) else { return };
        producer.set_scores(&scores);
        if let Some(local) = &producer.local
            && let Some(desk) = self.peers.desk(local.session)
        {
            desk.set_producer_scores(id, scores);
        }
    }

    fn on_consumer_score(&mut self, id: ConsumerId, scores: ConsumerScores) {
        let Some(consumer) = self.consumers.get_mut(&id) else { return };
        consumer.score = scores.consumer;
        if let Some(producer) = self.producers.get_mut(&consumer.producer) {
            producer.scores = scores.streams;
        }
        if let Some(desk) = self.peers.desk(consumer.session) {
            desk.set_scores(id, scores);
        }
    }
}
