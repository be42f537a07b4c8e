//! What a user sends on one data channel.

use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::message::DataMessage;
use crate::clock::Clock;
use crate::results::DataSent;
use crate::scenario::Data;
use crate::transport::{Delivery, SctpMessage};

/// Messages that a sender whose time was not kept sends at once; what is more is left out.
const MAX_BEHIND: u32 = 100;

/// Messages at a steady pace on one stream.
pub struct DataSender {
    stream: u16,
    data: Data,
    /// Whose its messages are.
    sender: u64,
    next_number: u64,
    next_at: Instant,
    tally: DataSent,
}

impl DataSender {
    /// A sender that begins within its first interval, where the seed says: users who come together do not send
    /// together.
    pub fn new(now: Instant, stream: u16, data: Data, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let next_at = now + interval(&data).mul_f64(rng.random());
        Self { stream, data, sender: rng.random(), next_number: 0, next_at, tally: DataSent::default() }
    }

    /// When [`Self::poll`] is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// Sends what is due. What is refused takes no number: nobody misses it.
    pub fn poll(&mut self, now: Instant, clock: &Clock, mut send: impl FnMut(&Delivery, SctpMessage) -> bool) {
        let interval = interval(&self.data);
        self.next_at = self.next_at.max(now.checked_sub(interval * MAX_BEHIND).unwrap_or(now));
        while self.next_at <= now {
            self.next_at += interval;
            let message = DataMessage { sender: self.sender, number: self.next_number, stamp: clock.stamp(now) };
            let payload = message.write(self.data.message_bytes as usize);
            let bytes = payload.len() as u64;
            if send(&self.data.delivery, SctpMessage { stream: self.stream, payload }) {
                self.next_number += 1;
                self.tally.messages += 1;
                self.tally.bytes += bytes;
            } else {
                self.tally.refused += 1;
            }
        }
    }

    /// Adds what was sent since the last call.
    pub(super) fn tally(&mut self, tally: &mut DataSent) {
        let DataSent { messages, bytes, refused, .. } = std::mem::take(&mut self.tally);
        tally.messages += messages;
        tally.bytes += bytes;
        tally.refused += refused;
    }
}

fn interval(data: &Data) -> Duration {
    Duration::from_secs(1) / data.messages_per_second.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_at_their_pace_and_are_numbered() {
        let start = crate::clock::tests::instant();
        let clock = Clock::new(start, Duration::from_secs(1_800_000_000));
        let data = Data { messages_per_second: 50, message_bytes: 100, ..Data::default() };
        let mut sender = DataSender::new(start, 3, data, 1);
        let mut sent = Vec::new();
        while sender.poll_timeout() < start + Duration::from_secs(1) {
            let now = sender.poll_timeout();
            sender.poll(now, &clock, |_, message| {
                sent.push(message);
                true
            });
        }
        assert_eq!(sent.len(), 50);
        assert!(sent.iter().all(|message| (message.stream, message.payload.len()) == (3, 100)));
        let said: Vec<_> = sent.iter().map(|message| DataMessage::read(&message.payload).unwrap()).collect();
        assert!(said.iter().zip(0..).all(|(each, number)| (each.sender, each.number) == (said[0].sender, number)));
        let tally = sender.tally;
        assert_eq!((tally.messages, tally.bytes, tally.refused), (50, 5000, 0));
    }

    #[test]
    fn what_is_refused_takes_no_number_and_what_was_slept_through_is_bounded() {
        let start = crate::clock::tests::instant();
        let clock = Clock::new(start, Duration::from_secs(1_800_000_000));
        let mut sender = DataSender::new(start, 0, Data { messages_per_second: 10, ..Data::default() }, 1);
        sender.poll(start + Duration::from_millis(500), &clock, |_, _| false);
        assert_eq!(sender.tally.refused, 5);
        let mut sent = Vec::new();
        sender.poll(start + Duration::from_secs(3600), &clock, |_, message| {
            sent.push(DataMessage::read(&message.payload).unwrap().number);
            true
        });
        assert_eq!(sent, (0..=u64::from(MAX_BEHIND)).collect::<Vec<_>>());
    }
}
