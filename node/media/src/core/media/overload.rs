//! Shedding of video while the worker has more to do than it can, and its end.

use std::time::Duration;

use slotmap::SlotMap;
use sluice_proto::pipe::{FeedbackBody, Layers};

use super::Media;
use crate::clock::Clock;
use crate::core::consumer::Consumer;
use crate::core::pipe_consumer::PipeConsumer;
use crate::io::Output;
use crate::keys::{ConsumerKey, PipeConsumerKey};
use crate::messages::WorkerEvent;
use crate::stream::packet::StreamSet;

impl Media {
    /// The driver says how late it is.
    pub(super) fn hear_lag(&mut self, clock: &Clock, waited: Duration, idle: Duration) {
        let was_shedding = self.overload.is_shedding();
        let has_video = || has_video(&self.consumers, &self.pipe_consumers);
        if self.overload.hear(clock.now, waited, idle, has_video) {
            self.shed(clock, was_shedding);
        }
    }

    /// Lets some of what is shed come back, if it is time and there is room.
    pub(super) fn end_shedding(&mut self, clock: &Clock) {
        let was_shedding = self.overload.is_shedding();
        let has_video = || has_video(&self.consumers, &self.pipe_consumers);
        if was_shedding && self.overload.release(clock.now, has_video) {
            self.shed(clock, was_shedding);
        }
    }

    /// Another share of the video is to be shed.
    fn shed(&mut self, clock: &Clock, was_shedding: bool) {
        let consumers = self.consumers.iter().filter(|(_, consumer)| consumer.is_video());
        let consumers = consumers.filter(|(key, consumer)| self.overload.sheds(*key) != consumer.cut().is_shed());
        for key in consumers.map(|(key, _)| key).collect::<Vec<_>>() {
            self.shed_consumer(clock, key);
        }
        let pipes = self.pipe_consumers.iter().filter(|(_, pipe)| pipe.is_video());
        let pipes = pipes.filter(|(key, pipe)| self.overload.sheds_pipe(*key) != pipe.is_shed());
        for key in pipes.map(|(key, _)| key).collect::<Vec<_>>() {
            self.shed_pipe(clock, key);
        }
        let shedding = self.overload.is_shedding();
        if shedding != was_shedding {
            self.event(WorkerEvent::Overload { shedding });
        }
    }

    /// Ends what a consumer is sent with the picture that it is in, or lets it begin again.
    fn shed_consumer(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get(consumer.producer()) else { return };
        if consumer.cut().is_shed() {
            consumer.unshed();
            self.refresh_consumer(clock, key);
        } else {
            consumer.shed(producer);
            self.switched.push(key);
        }
        self.tell_consumer_score(clock, key);
    }

    /// The same for a pipe, whose other end is told.
    fn shed_pipe(&mut self, clock: &Clock, key: PipeConsumerKey) {
        let Some(pipe) = self.pipe_consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get(pipe.producer()) else { return };
        let was_ended = pipe.is_shed_wholly();
        if pipe.is_shed() {
            pipe.unshed();
        } else {
            pipe.shed(producer);
        }
        self.tell_carried(key);
        if was_ended {
            self.start_pipe_consumer(clock, key, StreamSet::ALL);
        }
    }

    /// A consumer that is made now is shed as if it had been there before.
    pub(super) fn shed_newcomer(&mut self, clock: &Clock, key: ConsumerKey) {
        let sheds = self.overload.sheds(key);
        if let Some(consumer) = self.consumers.get_mut(key).filter(|consumer| consumer.is_video() && sheds) {
            consumer.shed_from_the_start();
            self.tell_consumer_score(clock, key);
        }
    }

    /// The same for a pipe, whose other end would ask for key frames in vain if it were not told.
    pub(super) fn shed_new_pipe(&mut self, key: PipeConsumerKey) {
        let sheds = self.overload.sheds_pipe(key);
        if let Some(pipe) = self.pipe_consumers.get_mut(key).filter(|pipe| pipe.is_video() && sheds) {
            pipe.shed_from_the_start();
            self.tell_carried(key);
        }
    }

    /// Tells the other end of a pipe whether the worker has time for it.
    fn tell_carried(&mut self, key: PipeConsumerKey) {
        let Some(pipe) = self.pipe_consumers.get(key) else { return };
        let carried = (!pipe.is_shed()).then_some(Layers::ALL);
        let (to, feedback) = pipe.feedback(FeedbackBody::LayersCarried(carried));
        self.outputs.push_back(Output::Feedback { to, feedback });
    }
}

/// Whether there is anything that could be shed.
fn has_video(
    consumers: &SlotMap<ConsumerKey, Consumer>,
    pipe_consumers: &SlotMap<PipeConsumerKey, PipeConsumer>,
) -> bool {
    consumers.values().any(Consumer::is_video) || pipe_consumers.values().any(PipeConsumer::is_video)
}
