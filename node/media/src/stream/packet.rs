//! How a packet of a producer is named. 16 bits of its own would name others too, a moment later.

use sluice_proto::pipe::MAX_STREAMS;

/// Which of a producer's streams: there is one for each encoding, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StreamIndex(u8);

impl StreamIndex {
    /// The first one.
    pub(crate) const ZERO: Self = Self(0);

    /// The first so many.
    pub(crate) fn first(count: usize) -> impl Iterator<Item = Self> {
        (0..count as u8).map(Self)
    }

    /// The one at a position among a producer's streams.
    pub(crate) fn at(position: usize) -> Option<Self> {
        (position < MAX_STREAMS).then_some(Self(position as u8))
    }

    /// Among a producer's streams.
    pub(crate) fn position(self) -> usize {
        self.0.into()
    }

    fn bit(self) -> u8 {
        1 << (u32::from(self.0) & STREAM_MASK)
    }
}

/// Some of a producer's streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StreamSet(u8);

impl StreamSet {
    /// None of them.
    pub(crate) const NONE: Self = Self(0);

    /// All that there can be.
    pub(crate) const ALL: Self = Self(u8::MAX);

    /// Those whose bits are set.
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// A bit for each.
    pub(crate) fn to_bits(self) -> u8 {
        self.0
    }

    /// Whether a stream is among them.
    pub(crate) fn contains(self, stream: StreamIndex) -> bool {
        self.0 & stream.bit() != 0
    }

    /// One more.
    pub(crate) fn insert(&mut self, stream: StreamIndex) {
        self.0 |= stream.bit();
    }

    /// One fewer.
    pub(crate) fn remove(&mut self, stream: StreamIndex) {
        self.0 &= !stream.bit();
    }

    /// Those that are not in the other one.
    pub(crate) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// Names a packet among all that a producer keeps: its stream (2 bits), and its sequence number without the wrap as far
/// as what is kept can be told apart by (28 bits, 4,096 cycles).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PacketName(u32);

const SEQUENCE_BITS: u32 = 28;
const STREAM_MASK: u32 = MAX_STREAMS as u32 - 1;

impl PacketName {
    /// Bits that a name needs.
    pub(crate) const BITS: u32 = SEQUENCE_BITS + STREAM_MASK.count_ones();

    /// Of the packet with this number, without its wrap, in a stream.
    pub(crate) fn new(stream: StreamIndex, sequence: u64) -> Self {
        let sequence = sequence as u32 & ((1 << SEQUENCE_BITS) - 1);
        Self((u32::from(stream.0) & STREAM_MASK) << SEQUENCE_BITS | sequence)
    }

    /// The name as a number of [`BITS`](Self::BITS) bits.
    pub(crate) fn to_bits(self) -> u32 {
        self.0
    }

    /// The same back; further bits mean nothing.
    pub(crate) fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << Self::BITS) - 1))
    }

    /// The stream that the packet is of.
    pub(crate) fn stream(self) -> StreamIndex {
        StreamIndex((self.0 >> SEQUENCE_BITS) as u8)
    }

    /// As the packet carries it.
    pub(crate) fn sequence_number(self) -> u16 {
        self.0 as u16
    }

    /// Whether it names the packet of its stream that has this number, without the wrap.
    pub(crate) fn is_of(self, sequence: u64) -> bool {
        Self::new(self.stream(), sequence) == self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_of_one_packet_through_many_cycles() {
        let sequence = (7 << SEQUENCE_BITS) + 1_005;
        for stream in [0, 3].map(StreamIndex) {
            let name = PacketName::new(stream, sequence);
            assert_eq!((name.stream(), name.sequence_number()), (stream, 1_005));
            assert_eq!(PacketName::from_bits(name.to_bits() | 1 << PacketName::BITS), name);
            assert!(name.is_of(sequence) && !name.is_of(sequence + 65_536) && !name.is_of(sequence - 1));
        }
    }
}
