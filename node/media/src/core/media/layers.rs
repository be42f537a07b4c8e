//! Which of a producer's spatial layers each consumer gets, streams or layers inside one, and which of them are wanted
//! from where they come.

use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::{FeedbackBody, Layers, Wanted};

use super::Media;
use crate::clock::Clock;
use crate::core::producer::{Origin, Producer};
use crate::io::Output;
use crate::keys::{ConsumerKey, PipeConsumerKey, ProducerKey};
use crate::messages::WorkerEvent;

impl Media {
    /// Looks which of a producer's spatial layers are worth waiting for now. If those are others than before, its
    /// consumers are aimed anew, and other nodes and workers are told.
    pub(super) fn look_what_is_offered(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        if !producer.look_what_is_offered(clock.now) {
            return;
        }
        let (consumers, pipe_consumers) = (producer.consumers().to_vec(), producer.pipe_consumers().to_vec());
        for consumer in consumers {
            self.aim_consumer(clock, consumer);
            self.note_allocation_of(consumer);
            self.switched.push(consumer);
        }
        for pipe_consumer in pipe_consumers {
            self.tell_offered(key, pipe_consumer);
        }
    }

    /// Tells the other end of a route which spatial layers are worth waiting for.
    pub(super) fn tell_offered(&mut self, producer: ProducerKey, pipe_consumer: PipeConsumerKey) {
        let Some(producer) = self.producers.get(producer).filter(|producer| producer.is_layered()) else { return };
        let Some(pipe_consumer) = self.pipe_consumers.get(pipe_consumer) else { return };
        let (to, feedback) = pipe_consumer.feedback(FeedbackBody::StreamsOffered(producer.offered().to_bits()));
        self.outputs.push_back(Output::Feedback { to, feedback });
    }

    /// A client wants layers up to these.
    pub(super) fn set_preferred_layers(&mut self, clock: &Clock, key: ConsumerKey, layers: Layers) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.set_preferred(layers);
        let producer = consumer.producer();
        self.aim_consumer(clock, key);
        self.note_wanted(producer);
        self.note_allocation_of(key);
    }

    /// Aims a consumer at the spatial layer that it is to get.
    pub(super) fn aim_consumer(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get(consumer.producer()) else { return };
        let Some(layer) = consumer.target().and_then(|target| producer.best_layer(target.spatial)) else { return };
        if consumer.aimed_layer(producer) == Some(layer) {
            return;
        }
        let waits = consumer.aim(layer, producer) || consumer.waits_for_key_frame();
        let stream = producer.stream_of_layer(layer);
        let producer = consumer.producer();
        self.note_wanted(producer);
        if waits {
            self.request_key_frame(clock, producer, stream);
        }
    }

    /// Consumers have begun or ended, or are sent another stream or other layers than before.
    pub(super) fn tell_layers(&mut self) {
        let mut switched = std::mem::take(&mut self.switched);
        for key in switched.drain(..) {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            let key = consumer.producer();
            let Some(producer) = self.producers.get(key) else { continue };
            if let Some(layers) = consumer.take_layers(producer) {
                let consumer = consumer.id();
                self.event(WorkerEvent::ConsumerLayersChanged { consumer, layers });
            }
            self.note_wanted(key);
        }
        self.switched = switched;
    }

    /// What is wanted of a producer may be something else now. A user's only stream is sent whatever is wanted.
    pub(super) fn note_wanted(&mut self, key: ProducerKey) {
        let is_told = |producer: &Producer| producer.is_layered() || matches!(producer.origin(), Origin::Pipe(_));
        if self.producers.get(key).is_some_and(is_told) && !self.wanted_anew.contains(&key) {
            self.wanted_anew.push(key);
        }
    }

    /// Says what is wanted of producers to where they come from, if that is news.
    pub(super) fn tell_wanted(&mut self) {
        let mut producers = std::mem::take(&mut self.wanted_anew);
        for key in producers.drain(..) {
            let wanted = self.wanted_of(key);
            let Some(producer) = self.producers.get_mut(key) else { continue };
            let id = producer.id();
            match producer.pipe_origin() {
                Some(origin) => {
                    let told = origin.set_wanted(wanted);
                    self.outputs.extend(told.map(|(to, feedback)| Output::Feedback { to, feedback }));
                }
                None => {
                    if let Some(streams) = producer.take_wanted(wanted) {
                        self.event(WorkerEvent::StreamsWanted { producer: id, streams });
                    }
                }
            }
        }
        self.wanted_anew = producers;
    }

    /// What everybody together wants of a producer. What comes by a route has somebody to come for, who may not be here
    /// yet.
    fn wanted_of(&self, key: ProducerKey) -> Wanted {
        let mut wanted = Wanted::NOTHING;
        let Some(producer) = self.producers.get(key) else { return wanted };
        let is_nobody_here = producer.consumers().is_empty() && producer.pipe_consumers().is_empty();
        if is_nobody_here && matches!(producer.origin(), Origin::Pipe(_)) {
            return if producer.kind() == MediaKind::Video { Wanted::ALL } else { Wanted::WHILE_LOUD };
        }
        let consumers = producer.consumers().iter().filter_map(|key| self.consumers.get(*key));
        for (stream, layers) in consumers.flat_map(|consumer| consumer.needs(producer)) {
            wanted.add(stream.position(), layers);
        }
        for pipe_consumer in producer.pipe_consumers().iter().filter_map(|key| self.pipe_consumers.get(*key)) {
            let there = pipe_consumer.wanted();
            for stream in producer.stream_indices() {
                there.of(stream.position()).into_iter().for_each(|layers| wanted.add(stream.position(), layers));
            }
        }
        wanted
    }
}
