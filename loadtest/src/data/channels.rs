//! The data channels of one transport.

use std::time::Instant;

use rustc_hash::FxHashMap;

use super::message::DataMessage;
use super::receiver::DataReceiver;
use super::sender::DataSender;
use crate::clock::Clock;
use crate::scenario::Data;
use crate::tally::Tally;
use crate::transport::{ClientTransport, Delivery, SctpMessage};

/// Who sends and who receives on which stream.
#[derive(Default)]
pub(crate) struct Channels {
    senders: Vec<DataSender>,
    receivers: FxHashMap<u16, DataReceiver>,
}

impl Channels {
    /// Begins to send on a stream.
    pub(crate) fn send(&mut self, now: Instant, stream: u16, data: Data, seed: u64) {
        self.senders.push(DataSender::new(now, stream, data, seed));
    }

    /// Listens to a stream; to whom it listened there before it does no more.
    pub(crate) fn receive(&mut self, stream: u16, delivery: Delivery, tally: &mut Tally) {
        self.stop_receiving(stream, tally);
        self.receivers.insert(stream, DataReceiver::new(delivery));
    }

    /// Ends listening to a stream.
    pub(crate) fn stop_receiving(&mut self, stream: u16, tally: &mut Tally) {
        if let Some(receiver) = self.receivers.remove(&stream) {
            tally.data.add(&receiver.finish());
        }
    }

    /// When [`Self::poll`] is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.senders.iter().map(DataSender::poll_timeout).min()
    }

    /// Sends what is due.
    pub(crate) fn poll(&mut self, now: Instant, clock: &Clock, transport: &mut ClientTransport) {
        for sender in &mut self.senders {
            sender.poll(now, clock, |delivery, message| transport.send_message(now, delivery, message));
        }
    }

    /// Takes a message; `false` if nobody listens for it.
    pub(crate) fn on_message(&mut self, now: Instant, clock: &Clock, message: &SctpMessage) -> bool {
        let receiver = self.receivers.get_mut(&message.stream);
        let Some((receiver, said)) = receiver.zip(DataMessage::read(&message.payload)) else { return false };
        receiver.on_message(now, clock, &said, message.payload.len())
    }

    /// Adds what happened since the last call, with the channels that there are while the association is up.
    pub(crate) fn tally(&mut self, now: Instant, is_associated: bool, tally: &mut Tally) {
        for receiver in self.receivers.values_mut() {
            tally.data.add(&receiver.take_tally(now));
            tally.data.sums.channels += u32::from(is_associated);
        }
        for sender in &mut self.senders {
            sender.tally(&mut tally.sent_data);
            tally.sent_data.channels += u32::from(is_associated);
        }
    }
}
