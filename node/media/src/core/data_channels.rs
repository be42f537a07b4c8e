//! The data channels of one transport: who is on which stream, who has something to send, how much is read.

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::keys::{DataConsumerKey, DataProducerKey};
use crate::transport::data_allowance::DataAllowance;

/// Who is on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    /// The client sends.
    Producer(DataProducerKey),
    /// The client receives.
    Consumer(DataConsumerKey),
}

/// The data channels of one transport.
#[derive(Debug, Default)]
pub(crate) struct DataChannels {
    by_stream: FxHashMap<u16, Channel>,
    /// Streams that were reset from this end and not yet from the client's. Others may be on them already.
    closing: FxHashSet<u16>,
    /// What waits at all consumers, in bytes as [`Message::cost`](crate::core::data_log::Message::cost) counts them.
    waiting_cost: usize,
    /// Consumers with something to send, in turn: each sends a message and goes to the end.
    waiting: VecDeque<DataConsumerKey>,
    /// What of the client's messages may be read.
    pub allowance: DataAllowance,
    /// When more is to be read.
    pub read_at: Option<Instant>,
}

impl DataChannels {
    /// Somebody is on a stream from now on. Returns whether nobody was.
    pub(crate) fn add(&mut self, stream: u16, channel: Channel) -> bool {
        let is_free = !self.by_stream.contains_key(&stream);
        if is_free {
            self.by_stream.insert(stream, channel);
        }
        is_free
    }

    /// Nobody is on a stream any more.
    pub(crate) fn remove(&mut self, stream: u16) {
        if let Some(Channel::Consumer(key)) = self.by_stream.remove(&stream) {
            self.waiting.retain(|waiting| *waiting != key);
        }
    }

    /// This end has reset a stream.
    pub(crate) fn close(&mut self, stream: u16) {
        self.closing.insert(stream);
    }

    /// The client has reset a stream. Gives who is on it, if that is not its answer to a reset of this end.
    pub(crate) fn closed_by_client(&mut self, stream: u16) -> Option<Channel> {
        if self.closing.remove(&stream) { None } else { self.on(stream) }
    }

    /// The client has reset these streams, or all if none is named: it owes no answer for them.
    pub(crate) fn both_closed(&mut self, streams: &[u16]) {
        self.closing.retain(|stream| !streams.is_empty() && !streams.contains(stream));
    }

    /// Who is on a stream.
    pub(crate) fn on(&self, stream: u16) -> Option<Channel> {
        self.by_stream.get(&stream).copied()
    }

    /// Everybody, in the order of their streams.
    pub(crate) fn all(&self) -> Vec<Channel> {
        let mut all: Vec<_> = self.by_stream.iter().map(|(stream, channel)| (*stream, *channel)).collect();
        all.sort_unstable_by_key(|(stream, _)| *stream);
        all.into_iter().map(|(_, channel)| channel).collect()
    }

    /// Those who send.
    pub(crate) fn producers(&self) -> impl Iterator<Item = DataProducerKey> {
        self.by_stream.values().filter_map(|channel| match channel {
            Channel::Producer(key) => Some(*key),
            Channel::Consumer(_) => None,
        })
    }

    /// Whether the client receives anything.
    pub(crate) fn has_consumers(&self) -> bool {
        self.by_stream.values().any(|channel| matches!(channel, Channel::Consumer(_)))
    }

    /// Whether what the client sent may be read already.
    pub(crate) fn is_time_to_read(&mut self, now: Instant) -> bool {
        self.read_at.take_if(|at| *at <= now);
        self.read_at.is_none()
    }

    /// A message waits for the client, if with it no more waits than may. Returns whether it does.
    pub(crate) fn hold(&mut self, cost: usize, limit: usize) -> bool {
        let fits = self.waiting_cost == 0 || self.waiting_cost + cost <= limit;
        self.waiting_cost += if fits { cost } else { 0 };
        fits
    }

    /// So much does not wait any more.
    pub(crate) fn release(&mut self, cost: usize) {
        self.waiting_cost = self.waiting_cost.saturating_sub(cost);
    }

    /// A consumer that had nothing to send has something.
    pub(crate) fn wait(&mut self, key: DataConsumerKey) {
        self.waiting.push_back(key);
    }

    /// Whose turn it is to send.
    pub(crate) fn next_waiting(&mut self) -> Option<DataConsumerKey> {
        self.waiting.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_waits_for_one_client_in_all_and_one_message_always() {
        let mut channels = DataChannels::default();
        assert!(channels.hold(500, 100), "however large it is");
        assert!(!channels.hold(1, 100));
        channels.release(450);
        assert!(channels.hold(50, 100) && !channels.hold(1, 100));
        channels.release(1_000);
        assert!(channels.hold(100, 100));
    }

    #[test]
    fn an_answer_to_a_reset_closes_nobody() {
        let (mut channels, channel) = (DataChannels::default(), Channel::Consumer(DataConsumerKey::default()));
        channels.close(3);
        channels.close(4);
        assert!(channels.add(3, channel));
        assert_eq!([channels.closed_by_client(3), channels.closed_by_client(3)], [None, Some(channel)]);
        channels.both_closed(&[4]);
        assert!(channels.add(4, channel));
        assert_eq!(channels.closed_by_client(4), Some(channel));
    }
}
