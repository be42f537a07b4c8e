//! A data consumer: what a data producer sends, on its way to one user.

use std::collections::VecDeque;

use sluice_proto::ids::ConsumerId;
use sluice_proto::ortc::SctpStreamParameters;

use crate::core::data_log::Message;
use crate::keys::DataProducerKey;
use crate::messages::DataStats;
use crate::transport::demux::TransportKey;

/// A data consumer.
#[derive(Debug)]
pub(crate) struct DataConsumer {
    id: ConsumerId,
    producer: DataProducerKey,
    transport: TransportKey,
    stream: SctpStreamParameters,
    /// The client has no channel yet: it would drop what comes.
    is_paused: bool,
    /// What the client has not taken yet.
    waiting: VecDeque<Message>,
    /// What that costs.
    cost: usize,
    stats: DataStats,
}

/// There is no room for a message, which is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl DataConsumer {
    /// Of a producer, for a user, to whom nothing was sent yet.
    pub(crate) fn new(
        id: ConsumerId,
        producer: DataProducerKey,
        transport: TransportKey,
        stream: SctpStreamParameters,
        is_paused: bool,
    ) -> Self {
        let (waiting, stats) = (VecDeque::new(), DataStats::default());
        Self { id, producer, transport, stream, is_paused, waiting, cost: 0, stats }
    }

    /// Its id.
    pub(crate) fn id(&self) -> ConsumerId {
        self.id
    }

    /// Whose messages it gets.
    pub(crate) fn producer(&self) -> DataProducerKey {
        self.producer
    }

    /// Its user's.
    pub(crate) fn transport(&self) -> TransportKey {
        self.transport
    }

    /// The stream that it is on, and how reliable that is.
    pub(crate) fn stream(&self) -> &SctpStreamParameters {
        &self.stream
    }

    /// Whether its client has no channel yet.
    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// Whether it loses nothing, or is closed.
    pub(crate) fn is_reliable(&self) -> bool {
        is_reliable(&self.stream)
    }

    /// A message waits for the client, of which so many bytes may. `hold` says of what it costs whether it fits
    /// elsewhere too.
    ///
    /// # Errors
    /// [`Full`].
    pub(crate) fn push(&mut self, message: Message, room: usize, hold: impl FnOnce(usize) -> bool) -> Result<(), Full> {
        let cost = message.cost();
        // However small the room is, one message fits.
        let fits = self.cost + cost <= room || self.waiting.is_empty();
        if !fits || !hold(cost) {
            self.stats.dropped += 1;
            return Err(Full);
        }
        self.cost += cost;
        self.waiting.push_back(message);
        Ok(())
    }

    /// Takes the next message, to send it.
    pub(crate) fn pop(&mut self) -> Option<Message> {
        let message = self.waiting.pop_front()?;
        self.cost -= message.cost();
        self.stats.messages += 1;
        self.stats.bytes += message.payload.len() as u64;
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Some(message)
    }

    /// What waits, in bytes as [`Message::cost`] counts them.
    pub(crate) fn waiting_cost(&self) -> usize {
        self.cost
    }

    /// Whether there is something to send, and somebody to take it.
    pub(crate) fn has_waiting(&self) -> bool {
        !self.is_paused && !self.waiting.is_empty()
    }

    /// The client has its channel. Whether that is news.
    pub(crate) fn resume(&mut self) -> bool {
        std::mem::replace(&mut self.is_paused, false)
    }

    /// Everything that is known of it.
    pub(crate) fn stats(&self) -> DataStats {
        let buffered = self.waiting.iter().map(|message| message.payload.len() as u64).sum();
        DataStats { buffered, ..self.stats }
    }
}

/// Whether a stream loses nothing.
pub(crate) fn is_reliable(stream: &SctpStreamParameters) -> bool {
    stream.max_packet_life_time.is_none() && stream.max_retransmits.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_so_much_and_gives_it_in_order() {
        let stream =
            SctpStreamParameters { stream_id: 1, ordered: true, max_packet_life_time: None, max_retransmits: None };
        let mut consumer = DataConsumer::new(
            ConsumerId::from_bytes([1; 16]),
            DataProducerKey::default(),
            TransportKey::default(),
            stream,
            false,
        );
        let message = |byte: u8| Message { ppid: 53, payload: vec![byte; 1_000].into() };
        let taken = (0..20).take_while(|number| consumer.push(message(*number), 10_640, |_| true).is_ok()).count();
        assert_eq!((taken, consumer.stats().buffered, consumer.stats().dropped), (10, 10_000, 1));
        assert!((0..10).all(|number| consumer.pop() == Some(message(number))));
        assert_eq!((consumer.pop(), consumer.has_waiting(), consumer.cost), (None, false, 0));
        assert_eq!(consumer.push(message(1), 10, |_| true), Ok(()));
        assert_eq!(consumer.push(message(1), 10, |_| true), Err(Full));
        assert_eq!(consumer.push(message(1), 10_000, |cost| cost != 1_064), Err(Full));
        assert_eq!((consumer.cost, consumer.stats().dropped), (1_064, 3));
    }
}
