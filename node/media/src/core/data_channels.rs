//! The data channels of one transport: who is on which stream, who has something to send, how much is read.

use std::collections::VecDeque;
use std::time::Instant;

use rustc_hash::FxHashMap;

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

    /// A consumer that had nothing to send has something.
    pub(crate) fn wait(&mut self, key: DataConsumerKey) {
        self.waiting.push_back(key);
    }

    /// Whose turn it is to send.
    pub(crate) fn next_waiting(&mut self) -> Option<DataConsumerKey> {
        self.waiting.pop_front()
    }
}
