//! How much room there is for a consumer on the way to its client: up to which layers it is sent, and when.

use std::time::Duration;

use sluice_proto::pipe::Layers;

use super::Consumer;
use crate::clock::Clock;
use crate::core::counters::Counters;
use crate::core::producer::Producer;
use crate::core::user_transport::UserTransport;

/// Video that has waited for its turn for longer leaves whether it fits or not: late is worse than much. So what waits
/// is no more than comes in so long.
const MAX_HELD: Duration = Duration::from_millis(200);

impl Consumer {
    /// Whose video gets its share before that of others, 1 to 255.
    pub(crate) fn priority(&self) -> u8 {
        self.priority
    }

    /// How much the client cares for it.
    pub(crate) fn set_priority(&mut self, priority: u8) {
        self.priority = priority;
    }

    /// Whether it is of audio that its client wants to hear however quiet: it cares more for it than for others'.
    #[inline]
    pub(crate) fn is_pinned(&self) -> bool {
        self.priority > 1 && !self.is_video()
    }

    /// Highest layers that there is room for; `None` if there is none for any.
    pub(crate) fn limit(&self) -> Option<Layers> {
        self.limit
    }

    /// There is room for layers up to these, or for none.
    pub(crate) fn set_limit(&mut self, limit: Option<Layers>) {
        self.limit = limit;
        self.set_wanted();
    }

    /// Highest layers that it is to be sent.
    pub(crate) fn target(&self) -> Option<Layers> {
        let Layers { spatial, temporal } = self.limit?;
        Some(Layers { spatial: spatial.min(self.preferred.spatial), temporal: temporal.min(self.preferred.temporal) })
    }

    pub(super) fn set_wanted(&mut self) {
        if let Some(target) = self.target() {
            let temporal = if self.is_hurried { 0 } else { target.temporal };
            // The spatial layer is aimed at, among those that there are.
            self.cut.set_wanted(Some(Layers { temporal, ..self.cut.layers().wanted() }));
        }
    }

    /// What it is sent is far too much: if it is about to go over to a stream that takes less, it gets only the base
    /// layer until then.
    pub(crate) fn hurry(&mut self) {
        self.is_hurried = self.cut.next_stream().is_some_and(|next| next < self.cut.stream());
        self.set_wanted();
    }

    pub(super) fn end_hurry(&mut self) {
        if std::mem::take(&mut self.is_hurried) {
            self.set_wanted();
        }
    }

    /// Whether some waits for its turn.
    pub(crate) fn is_held(&self) -> bool {
        self.held_from.is_some()
    }

    /// Sends what waits, as far as there is room. Returns whether some waits still.
    pub(crate) fn send_held(
        &mut self,
        producer: &Producer,
        transport: &mut UserTransport,
        clock: &Clock,
        counters: &mut Counters,
    ) -> bool {
        let Some(from) = self.held_from.take() else { return false };
        let Some(stream) = producer.source_of(&self.cut) else { return false };
        for packet in stream.kept_from(from) {
            let is_overdue = clock.now.saturating_duration_since(packet.received_at) >= MAX_HELD;
            if !is_overdue && !transport.has_room(clock) {
                self.held_from = Some(packet.sequence);
                return true;
            }
            if let Err(reason) = self.send_now(&packet, transport, clock, &mut counters.rtp_packets_sent) {
                counters.drops.count(reason);
            }
        }
        false
    }

    /// Sends packets that tell nothing new: retransmissions and padding of so many bytes, so that it is seen whether
    /// more passes. Returns how many packets that made.
    pub(crate) fn send_probe(
        &mut self,
        bytes: u64,
        producer: &Producer,
        transport: &mut UserTransport,
        clock: &Clock,
    ) -> u64 {
        let newest = self.cut.highest_output();
        self.stream.send_probe(bytes, newest, (producer, self.cut.shifts()), transport, clock)
    }

    /// Whether [`send_probe`](Self::send_probe) can send something that its client takes for what it is.
    pub(crate) fn can_probe(&self) -> bool {
        self.is_video() && self.stream.can_probe()
    }
}
