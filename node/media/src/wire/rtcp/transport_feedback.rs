//! Transport-wide congestion control feedback, draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1.
//!
//! Subscribers send one per 100 ms or sooner, and there are many subscribers: counting costs a few instructions per
//! *chunk*, not per packet. When each packet arrived is read in one pass over chunks and deltas together.

use super::build::{feedback_ssrcs, packet};
use super::{FORMAT_TRANSPORT_WIDE_CC, TRANSPORT_LAYER_FEEDBACK};

/// Unit of arrival deltas in microseconds.
const DELTA_US: i64 = 250;
/// Unit of the reference time in deltas: 64 ms.
const REFERENCE_DELTAS: i64 = 256;
/// The longest feedback in bytes, so that with its SRTCP trailer it stays below any path's MTU.
const MAX_LEN: usize = 1_100;
/// Longest run that a run-length chunk can hold.
const MAX_RUN: u16 = 0x1fff;

/// A received feedback message.
#[derive(Debug, Clone)]
pub struct TransportFeedback<'a> {
    /// Sequence number of the first packet that it is about.
    pub base_sequence: u16,
    /// How many packets it is about.
    pub status_count: u16,
    /// Number of the message, modulo 256.
    pub feedback_count: u8,
    /// Time that arrivals are told from, in units of 64 ms, modulo 2^24.
    reference: u32,
    chunks: &'a [u8],
}

/// What a feedback message says of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketStatus {
    /// Its transport-wide sequence number.
    pub sequence: u16,
    /// When it arrived on the client's clock, in microseconds modulo [`ARRIVAL_PERIOD_US`]; `None` if it did not.
    pub arrived_us: Option<i64>,
}

/// After so many microseconds the arrival times of feedback begin anew: 2^24 times 64 ms.
pub const ARRIVAL_PERIOD_US: i64 = (REFERENCE_DELTAS * DELTA_US) << 24;

impl<'a> TransportFeedback<'a> {
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let (&[b0, b1, s0, s1, r0, r1, r2, feedback_count], chunks) = body.split_first_chunk::<8>()?;
        Some(Self {
            base_sequence: u16::from_be_bytes([b0, b1]),
            status_count: u16::from_be_bytes([s0, s1]),
            feedback_count,
            reference: u32::from_be_bytes([0, r0, r1, r2]),
            chunks,
        })
    }

    /// What it says of each packet, in the order of their numbers. It ends early where the message is cut off.
    pub fn statuses(&self) -> Statuses<'a> {
        let (chunks, _) = self.chunks.as_chunks::<2>();
        let mut left = usize::from(self.status_count);
        let mut count = 0;
        for &chunk in chunks {
            if left == 0 {
                break;
            }
            left = left.saturating_sub(statuses_of(u16::from_be_bytes(chunk)).into());
            count += 1;
        }
        let (chunks, _) = chunks.split_at(count);
        Statuses {
            chunks: chunks.iter(),
            chunk: 0,
            chunk_left: 0,
            deltas: self.chunks.get(2 * count..).unwrap_or_default(),
            sequence: self.base_sequence,
            left: self.status_count,
            arrived_us: i64::from(self.reference) * REFERENCE_DELTAS * DELTA_US,
        }
    }

    /// How many packets arrived and how many are missing.
    pub fn counts(&self) -> (u16, u16) {
        let mut left = self.status_count;
        let mut received = 0;
        let (chunks, _) = self.chunks.as_chunks::<2>();
        for &chunk in chunks {
            if left == 0 {
                break;
            }
            let chunk = u16::from_be_bytes(chunk);
            let (len, arrived) = if chunk & 0x8000 == 0 {
                let run = (chunk & MAX_RUN).min(left);
                (run, if chunk >> 13 & 3 == 0 { 0 } else { run })
            } else if chunk & 0x4000 == 0 {
                // One bit a packet, the first in bit 13.
                let len = left.min(14);
                (len, (chunk << 2 >> (16 - len)).count_ones() as u16)
            } else {
                // Two bits a packet, the first in bits 13 and 12; any bit set is an arrival.
                let len = left.min(7);
                let symbols = chunk << 2 >> (16 - 2 * len);
                (len, ((symbols | symbols >> 1) & 0x5555).count_ones() as u16)
            };
            left -= len;
            received += arrived;
        }
        // What the chunks do not reach is unknown and counts for neither.
        (received, self.status_count - left - received)
    }
}

/// How many packets a chunk tells of.
fn statuses_of(chunk: u16) -> u16 {
    match chunk >> 14 {
        0 | 1 => chunk & MAX_RUN,
        2 => 14,
        _ => 7,
    }
}

/// What a feedback message says of each packet.
#[derive(Debug, Clone)]
pub struct Statuses<'a> {
    chunks: std::slice::Iter<'a, [u8; 2]>,
    chunk: u16,
    /// Packets that the chunk has still to tell of.
    chunk_left: u16,
    deltas: &'a [u8],
    sequence: u16,
    left: u16,
    arrived_us: i64,
}

impl Statuses<'_> {
    /// Two bits: 0 is missing, 1 and 2 are arrivals with a delta of as many bytes.
    fn next_symbol(&mut self) -> Option<u16> {
        while self.chunk_left == 0 {
            self.chunk = u16::from_be_bytes(*self.chunks.next()?);
            self.chunk_left = statuses_of(self.chunk);
        }
        self.chunk_left -= 1;
        Some(match self.chunk >> 14 {
            0 | 1 => self.chunk >> 13 & 3,
            2 => self.chunk >> self.chunk_left & 1,
            _ => self.chunk >> (2 * self.chunk_left) & 3,
        })
    }

    fn next_delta(&mut self, symbol: u16) -> Option<i64> {
        let (delta, rest) = match symbol {
            1 => self.deltas.split_first().map(|(delta, rest)| (i64::from(*delta), rest))?,
            _ => self.deltas.split_first_chunk().map(|(delta, rest)| (i64::from(i16::from_be_bytes(*delta)), rest))?,
        };
        self.deltas = rest;
        Some(delta * DELTA_US)
    }
}

impl Iterator for Statuses<'_> {
    type Item = PacketStatus;

    #[inline]
    fn next(&mut self) -> Option<PacketStatus> {
        self.left = self.left.checked_sub(1)?;
        let symbol = self.next_symbol()?;
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        if symbol == 0 {
            return Some(PacketStatus { sequence, arrived_us: None });
        }
        self.arrived_us += self.next_delta(symbol)?;
        if !(0..ARRIVAL_PERIOD_US).contains(&self.arrived_us) {
            self.arrived_us = self.arrived_us.rem_euclid(ARRIVAL_PERIOD_US);
        }
        Some(PacketStatus { sequence, arrived_us: Some(self.arrived_us) })
    }
}

/// Collects the statuses of consecutive packets and writes the message.
#[derive(Debug)]
pub struct TransportFeedbackBuilder {
    base_sequence: u16,
    /// In units of 64 ms; `None` until a packet that arrived was added.
    reference: Option<i64>,
    /// Arrival of the last packet that arrived, in deltas of 250 µs.
    last_delta: i64,
    status_count: u16,
    /// Missing packets at the end that are not in `symbols` yet: they are written only if one that arrived follows.
    symbols: Vec<u8>,
    deltas: Vec<u8>,
    chunks: Vec<u8>,
    pending_missing: u16,
}

impl Default for TransportFeedbackBuilder {
    fn default() -> Self {
        Self {
            base_sequence: 0,
            reference: None,
            last_delta: 0,
            status_count: 0,
            symbols: Vec::with_capacity(MAX_LEN),
            deltas: Vec::with_capacity(MAX_LEN),
            chunks: Vec::with_capacity(MAX_LEN),
            pending_missing: 0,
        }
    }
}

impl TransportFeedbackBuilder {
    /// Begins a message about the packets from `base_sequence` on.
    pub fn begin(&mut self, base_sequence: u16) {
        self.base_sequence = base_sequence;
        self.reference = None;
        self.status_count = 0;
        self.pending_missing = 0;
        self.symbols.clear();
        self.deltas.clear();
    }

    /// The next packet did not arrive (so far).
    pub fn add_missing(&mut self) {
        self.pending_missing = self.pending_missing.saturating_add(1);
    }

    /// The next packet arrived, at this time in microseconds. Returns `false`, and adds nothing, when the message is
    /// full: it is to be written, and another one begun with this packet.
    pub fn add_received(&mut self, arrival_us: i64) -> bool {
        let arrival = arrival_us.div_euclid(DELTA_US);
        let reference = self.reference.unwrap_or_else(|| arrival.div_euclid(REFERENCE_DELTAS));
        let last = if self.reference.is_some() { self.last_delta } else { reference * REFERENCE_DELTAS };
        let delta = arrival - last;
        let (symbol, len) = if (0..=255).contains(&delta) { (1, 1) } else { (2, 2) };
        let Ok(wide) = i16::try_from(delta) else { return false };
        // A symbol takes at most two bits of a chunk.
        let symbols = self.symbols.len() + usize::from(self.pending_missing) + 1;
        if symbols / 7 * 2 + self.deltas.len() + len > MAX_LEN - 24 {
            return false;
        }
        for _ in 0..std::mem::take(&mut self.pending_missing) {
            self.symbols.push(0);
        }
        self.symbols.push(symbol);
        if symbol == 1 {
            self.deltas.push(delta as u8);
        } else {
            self.deltas.extend_from_slice(&wide.to_be_bytes());
        }
        self.reference = Some(reference);
        self.last_delta = arrival;
        self.status_count = self.symbols.len() as u16;
        true
    }

    /// How many packets the message is about: up to the last that arrived.
    pub fn status_count(&self) -> u16 {
        self.status_count
    }

    /// Appends the message, unless nothing arrived.
    pub fn write(&mut self, out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, feedback_count: u8) {
        let Some(reference) = self.reference else { return };
        self.encode_chunks();
        packet(out, FORMAT_TRANSPORT_WIDE_CC, TRANSPORT_LAYER_FEEDBACK, |out| {
            feedback_ssrcs(out, sender_ssrc, media_ssrc);
            out.extend_from_slice(&self.base_sequence.to_be_bytes());
            out.extend_from_slice(&self.status_count.to_be_bytes());
            let [.., r0, r1, r2] = reference.to_be_bytes();
            out.extend_from_slice(&[r0, r1, r2, feedback_count]);
            out.extend_from_slice(&self.chunks);
            out.extend_from_slice(&self.deltas);
        });
    }

    fn encode_chunks(&mut self) {
        self.chunks.clear();
        let mut rest = &self.symbols[..];
        while let Some(&first) = rest.first() {
            let run = rest.iter().take(usize::from(MAX_RUN)).take_while(|&&symbol| symbol == first).count();
            let wide = rest.iter().take(14).any(|&symbol| symbol == 2);
            let (chunk, len) = if run >= 14 || run == rest.len() || (wide && run >= 7) {
                (u16::from(first) << 13 | run as u16, run)
            } else if wide {
                (rest.iter().zip(0..7_u16).fold(0xc000, |c, (&s, i)| c | u16::from(s) << (12 - 2 * i)), 7)
            } else {
                (rest.iter().zip(0..14_u16).fold(0x8000, |c, (&s, i)| c | u16::from(s) << (13 - i)), 14)
            };
            self.chunks.extend_from_slice(&chunk.to_be_bytes());
            rest = rest.get(len..).unwrap_or_default();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Compound, Packet};
    use super::*;

    proptest! {
        #[test]
        fn counts_agree_with_what_was_built(
            statuses in proptest::collection::vec(proptest::option::weighted(0.8, 0..50_000_i64), 1..400), base: u16,
        ) {
            let mut builder = TransportFeedbackBuilder::default();
            builder.begin(base);
            let mut now = 1_000_000;
            let mut added = Vec::new();
            for status in &statuses {
                match status {
                    Some(gap) => {
                        now += gap - 5_000;
                        if !builder.add_received(now) { break; }
                    }
                    None => builder.add_missing(),
                }
                added.push(status.map(|_| now.div_euclid(DELTA_US) * DELTA_US));
            }
            let mut out = Vec::new();
            builder.write(&mut out, 1, 2, 3);
            prop_assert!(out.len() <= MAX_LEN);
            while added.last() == Some(&None) {
                added.pop();
            }
            if added.is_empty() {
                prop_assert!(out.is_empty());
                return Ok(());
            }
            let Some(Ok(Packet::TransportFeedback(feedback))) = Compound::new(&out).next() else { panic!() };
            let received = added.iter().flatten().count() as u16;
            prop_assert_eq!(feedback.base_sequence, base);
            prop_assert_eq!(usize::from(feedback.status_count), added.len());
            prop_assert_eq!(feedback.counts(), (received, added.len() as u16 - received));
            let sequences = (0..).map(|number| base.wrapping_add(number));
            let expected = sequences.zip(added).map(|(sequence, arrived_us)| PacketStatus { sequence, arrived_us });
            prop_assert!(feedback.statuses().eq(expected));
        }
    }
}
