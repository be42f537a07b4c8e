//! How a cut goes on when it is made of another of a producer's streams from some packet on: to whoever gets it it is
//! one stream, whose timestamps and picture numbers go on. Encodings of one picture have timestamps of their own in
//! each stream; which of them are of the same instant the publisher's sender reports tell (RFC 3550 section 6.4.1), and
//! before there are any the time at which they came.

use std::time::{Duration, Instant};

use crate::stream::Stream;
use crate::stream::rtp_cache::CachedPacket;
use crate::stream::rtp_stream_recv::ClockMapping;
use crate::wire::codec::{Codec, PictureNumbers};

/// Sender reports of one publisher that put what came together further apart than this are of different clocks.
const MAX_DISAGREEMENT: Duration = Duration::from_millis(500);

/// Latest changes of the stream that are remembered, for what is sent again: each takes a key frame, and what can be
/// sent again is two seconds old at most.
const MAX_SHIFTS: usize = 8;

/// How packets of a stream differ in a cut from what they are in the stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Shift {
    /// What is added to timestamps.
    pub timestamp: u32,
    /// What is taken off the number of the frame of the base layer.
    pub base_layer: u8,
    /// What is taken off the frame number of dependency descriptors.
    pub frame: u16,
}

/// By which whoever decodes a cut counts its frames.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Numbers {
    /// Of the payload, if its codec has any.
    pub pictures: Option<PictureNumbers>,
    /// Of the dependency descriptor, if there is one.
    pub frame: Option<u16>,
}

impl Numbers {
    /// Of a packet's frame, as its stream has them.
    pub(crate) fn of(codec: Codec, packet: &CachedPacket<'_>) -> Self {
        Self { pictures: codec.picture_numbers(packet.payload()), frame: packet.frame_number() }
    }
}

/// The shifts of a cut, each from an output number on.
#[derive(Debug, Default)]
pub(crate) struct Shifts {
    since: Vec<(u16, Shift)>,
}

impl Shifts {
    /// Of what is sent now.
    #[inline]
    pub(crate) fn now(&self) -> Shift {
        self.since.last().map_or_else(Shift::default, |(_, shift)| *shift)
    }

    /// Of what was sent as `output`.
    pub(crate) fn of(&self, output: u16) -> Shift {
        let found = self.since.iter().rev().find(|(since, _)| output.wrapping_sub(*since).cast_signed() >= 0);
        found.map_or_else(Shift::default, |(_, shift)| *shift)
    }

    /// Another one from `output` on.
    pub(crate) fn begin(&mut self, output: u16, shift: Shift) {
        if self.since.len() == MAX_SHIFTS {
            self.since.remove(0);
        }
        self.since.push((output, shift));
    }
}

/// The last packet of a cut before it is made of another stream, as it was sent, and the clock of what follows.
#[derive(Debug)]
pub(crate) struct Succession {
    timestamp: u32,
    received_at: Instant,
    /// NTP time of the last packet.
    ntp: Option<u64>,
    numbers: Numbers,
    clock_rate: u32,
    /// Of the stream that follows.
    clock: Option<ClockMapping>,
}

/// What a cut takes over for a stream that follows another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// From its first packet on.
    pub shift: Shift,
    /// What is taken off its picture numbers; `None` if it has none that have to go on.
    pub pictures: Option<u16>,
}

impl Succession {
    /// After a packet with this timestamp in its stream, that came then, was sent with this shift, and whose frame had
    /// these numbers when it was sent.
    pub(crate) fn new(
        (from, to): (&Stream, &Stream),
        (timestamp, received_at): (u32, Instant),
        shift: Shift,
        numbers: Numbers,
    ) -> Self {
        Self {
            timestamp: timestamp.wrapping_add(shift.timestamp),
            received_at,
            ntp: from.clock().map(|clock| clock.ntp_of(timestamp, from.clock_rate())),
            numbers,
            clock_rate: to.clock_rate(),
            clock: to.clock(),
        }
    }

    /// Another stream follows than was thought.
    pub(crate) fn is_of(&mut self, to: &Stream) {
        (self.clock_rate, self.clock) = (to.clock_rate(), to.clock());
    }

    /// What is taken over if this is the first packet of the stream that follows.
    pub(crate) fn take(&self, codec: Codec, first: &CachedPacket<'_>) -> Taken {
        let ticks = (self.elapsed(first).as_secs_f64() * f64::from(self.clock_rate)) as u32;
        // Two pictures never have one timestamp.
        let timestamp = self.timestamp.wrapping_add(ticks.max(1)).wrapping_sub(first.header.timestamp);
        let (last, numbers) = (self.numbers, Numbers::of(codec, first));
        let by = last.pictures.zip(numbers.pictures).map(|(last, first)| first.since(last.next()));
        let frame = last.frame.zip(numbers.frame).map(|(last, first)| first.wrapping_sub(last.wrapping_add(1)));
        let shift = Shift { timestamp, base_layer: by.map_or(0, |by| by.base_layer), frame: frame.unwrap_or_default() };
        Taken { shift, pictures: by.map(|by| by.picture) }
    }

    /// Between the last packet and the first one of what follows, on the publisher's clock.
    fn elapsed(&self, first: &CachedPacket<'_>) -> Duration {
        let arrived = first.received_at.saturating_duration_since(self.received_at);
        let ntp = self.clock.map(|clock| clock.ntp_of(first.header.timestamp, self.clock_rate));
        let Some((from, to)) = self.ntp.zip(ntp) else { return arrived };
        let ntp = to.wrapping_sub(from).cast_signed();
        let captured = Duration::from_secs_f64(ntp.max(0) as f64 / 2_f64.powi(32));
        if captured.abs_diff(arrived) > MAX_DISAGREEMENT { arrived } else { captured }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_keeps_its_shift() {
        let shift = |timestamp| Shift { timestamp, ..Shift::default() };
        let mut shifts = Shifts::default();
        assert_eq!((shifts.now(), shifts.of(7)), (shift(0), shift(0)));
        shifts.begin(65_530, shift(1));
        shifts.begin(10, shift(2));
        assert_eq!(shifts.now(), shift(2));
        assert_eq!([65_529, 65_530, 9, 10, 11].map(|output| shifts.of(output).timestamp), [0, 1, 1, 2, 2]);
        (0..100).for_each(|number| shifts.begin(100 + number, shift(number.into())));
        assert_eq!(shifts.since.len(), MAX_SHIFTS);
    }
}
