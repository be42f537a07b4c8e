//! Where only the loudest are heard: whose turn it is, and for whom one is heard all the same.

use super::Media;
use crate::clock::Clock;
use crate::core::loudest::Turn;
use crate::core::router::Router;
use crate::keys::{ConsumerKey, ProducerKey};
use crate::stream::packet::StreamSet;
use crate::wire::rtp::AudioLevel;

impl Media {
    /// A packet of a producer is so loud.
    #[inline]
    pub(super) fn hear(&mut self, clock: &Clock, key: ProducerKey, level: AudioLevel) {
        if self.config.audio.last_n.is_some() {
            self.take_turns(clock, key, level);
        }
    }

    fn take_turns(&mut self, clock: &Clock, key: ProducerKey, level: AudioLevel) {
        let Some(producer) = self.producers.get_mut(key).filter(|producer| !producer.is_paused()) else { return };
        let Some(loudest) = self.routers.get_mut(producer.router()).and_then(Router::loudest) else { return };
        let turn = loudest.hear(clock.now, (key, producer.user_transport()), level);
        producer.set_heard(loudest.is_heard(key));
        let Some(Turn { ends, .. }) = turn else { return };
        // Those who did not get it go on with what comes now.
        for consumer in producer.consumers() {
            let consumer = self.consumers.get_mut(*consumer).filter(|consumer| !consumer.is_pinned());
            consumer.into_iter().for_each(|consumer| consumer.require_sync());
        }
        for pipe_consumer in producer.pipe_consumers() {
            let pipe_consumer = self.pipe_consumers.get_mut(*pipe_consumer).filter(|pipe| !pipe.is_pinned());
            pipe_consumer.into_iter().for_each(|pipe| pipe.require_sync(StreamSet::ALL));
        }
        if let Some(producer) = ends.and_then(|ends| self.producers.get_mut(ends)) {
            producer.set_heard(false);
        }
    }

    /// A client wants to hear somebody however quiet, or not any more.
    pub(super) fn pin(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key).filter(|consumer| !consumer.is_video()) else { return };
        let producer = consumer.producer();
        if self.producers.get(producer).is_some_and(|producer| !producer.is_heard()) {
            consumer.require_sync();
        }
        self.note_wanted(producer);
    }
}
