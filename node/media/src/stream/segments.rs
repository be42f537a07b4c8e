//! Bytes of packets in the order of their arrival, kept for a while: a queue of segments that are filled one after the
//! other. The oldest one is used again as soon as it is old enough, so that a steady stream allocates nothing; one that
//! sends more gets more of them, and one that sends less gives them back.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Where some bytes are. It outlives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    segment: u64,
    start: u32,
    len: u32,
}

#[derive(Debug)]
struct Segment {
    bytes: Vec<u8>,
    /// When something was put into it last.
    filled_at: Instant,
}

/// The queue.
#[derive(Debug)]
pub(crate) struct Segments {
    segments: VecDeque<Segment>,
    /// Number of the first one.
    first: u64,
    /// Bytes of one.
    segment_len: usize,
    max_segments: usize,
    /// What is younger is kept, as long as there are not too many.
    keep: Duration,
}

impl Segments {
    /// An empty queue, which takes up no memory yet and at most `max_segments` of `segment_len` bytes.
    pub(crate) fn new(segment_len: usize, max_segments: usize, keep: Duration) -> Self {
        Self { segments: VecDeque::new(), first: 0, segment_len, max_segments, keep }
    }

    /// Appends at most `max_len` bytes, no more than a segment has, which `write` appends to the vector that it is
    /// given.
    #[inline]
    pub(crate) fn append(&mut self, now: Instant, max_len: usize, write: impl FnOnce(&mut Vec<u8>)) -> Option<Place> {
        if self.segments.back().is_none_or(|newest| newest.bytes.len() + max_len > self.segment_len) {
            self.begin_segment(now);
        }
        let segment = self.first + self.segments.len() as u64 - 1;
        let Segment { bytes, filled_at } = self.segments.back_mut()?;
        *filled_at = now;
        let start = bytes.len();
        write(bytes);
        Some(Place { segment, start: start as u32, len: (bytes.len() - start) as u32 })
    }

    #[cold]
    fn begin_segment(&mut self, now: Instant) {
        let age = |segment: &Segment| now.saturating_duration_since(segment.filled_at);
        // Twice as old: the stream sends less than it did.
        while self.segments.pop_front_if(|oldest| age(oldest) >= self.keep * 2).is_some() {
            self.first += 1;
        }
        let is_full = self.segments.len() >= self.max_segments;
        let used = self.segments.pop_front_if(|oldest| is_full || age(oldest) >= self.keep);
        self.first += u64::from(used.is_some());
        let mut bytes = used.map_or_else(|| Vec::with_capacity(self.segment_len), |oldest| oldest.bytes);
        bytes.clear();
        self.segments.push_back(Segment { bytes, filled_at: now });
    }

    /// The bytes at a place, unless they were given up.
    pub(crate) fn get(&self, place: Place) -> Option<&[u8]> {
        let segment = self.segments.get(usize::try_from(place.segment.checked_sub(self.first)?).ok()?)?;
        segment.bytes.get(range(place))
    }

    /// The bytes at a place, unless they were given up.
    pub(crate) fn get_mut(&mut self, place: Place) -> Option<&mut [u8]> {
        let segment = self.segments.get_mut(usize::try_from(place.segment.checked_sub(self.first)?).ok()?)?;
        segment.bytes.get_mut(range(place))
    }

    /// Gives up everything, and the memory.
    pub(crate) fn clear(&mut self) {
        self.first += self.segments.len() as u64;
        self.segments = VecDeque::new();
    }

    /// Bytes of memory that are taken up.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.segments.len() * self.segment_len
    }
}

fn range(place: Place) -> Range<usize> {
    place.start as usize..place.start as usize + place.len as usize
}
