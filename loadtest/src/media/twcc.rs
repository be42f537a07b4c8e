//! Transport-wide feedback as a receiver gives it (draft-holmer-rmcat-transport-wide-cc-extensions-01), in Chromium's
//! rhythm: one message each 100 ms while packets arrive.

use std::time::{Duration, Instant};

use rtc_rtcp::transport_feedbacks::transport_layer_cc::{
    PacketStatusChunk, RecvDelta, RunLengthChunk, StatusChunkTypeTcc, StatusVectorChunk, SymbolSizeTypeTcc,
    SymbolTypeTcc, TransportLayerCc,
};

use super::rtp::Unwrapper;

/// Chromium's rhythm at ordinary bitrates; it varies it between 50 and 250 ms.
const INTERVAL: Duration = Duration::from_millis(100);
/// Packets remembered between two messages: 10,000 packets/s, far above one transport. Beyond it the oldest go
/// unreported.
const MAX_ARRIVALS: usize = 1000;
/// Statuses of one message, received or not. After a longer gap it begins at the newer side.
const MAX_STATUSES: i64 = 2000;
/// Unit of the reference time.
const REFERENCE_US: i64 = 64_000;
/// Unit of the deltas.
const DELTA_US: i64 = 250;

/// Remembers arrivals and makes messages of them.
#[derive(Debug)]
pub(crate) struct TwccReceiver {
    base: Instant,
    unwrapper: Unwrapper,
    arrivals: Vec<(i64, Instant)>,
    /// The first sequence number that no message spoke of.
    next_base: Option<i64>,
    due: Option<Instant>,
    feedback_count: u8,
    media_ssrc: u32,
}

impl TwccReceiver {
    /// `base` is the zero of the reference times.
    pub(crate) fn new(base: Instant) -> Self {
        Self {
            base,
            unwrapper: Unwrapper::default(),
            arrivals: Vec::new(),
            next_base: None,
            due: None,
            feedback_count: 0,
            media_ssrc: 0,
        }
    }

    /// A packet with this transport-wide sequence number arrived.
    pub(crate) fn on_packet(&mut self, now: Instant, sequence_number: u16, ssrc: u32) {
        if self.arrivals.len() < MAX_ARRIVALS {
            self.arrivals.push((self.unwrapper.unwrap(sequence_number), now));
        }
        self.media_ssrc = ssrc;
        self.due.get_or_insert(now + INTERVAL);
    }

    /// When [`Self::poll_feedback`] has something to say.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The message about everything that arrived since the last one, when it is due.
    pub(crate) fn poll_feedback(&mut self, now: Instant, sender_ssrc: u32) -> Option<TransportLayerCc> {
        self.due.filter(|&due| now >= due)?;
        self.due = None;
        self.arrivals.sort_unstable_by_key(|&(number, _)| number);
        self.arrivals.dedup_by_key(|&mut (number, _)| number);
        let (&(oldest, _), &(newest, _)) = (self.arrivals.first()?, self.arrivals.last()?);
        let first = self.next_base.unwrap_or(oldest).min(oldest).max(newest - MAX_STATUSES);
        let arrivals: Vec<(i64, Instant)> =
            std::mem::take(&mut self.arrivals).into_iter().filter(|&(number, _)| number >= first).collect();
        let message = self.message(first, &arrivals, sender_ssrc);
        self.next_base = Some(first + i64::from(message.packet_status_count));
        self.feedback_count = self.feedback_count.wrapping_add(1);
        Some(message)
    }

    fn message(&self, first: i64, arrivals: &[(i64, Instant)], sender_ssrc: u32) -> TransportLayerCc {
        let micros = |at: Instant| at.saturating_duration_since(self.base).as_micros() as i64;
        let reference = arrivals.first().map_or(0, |&(_, at)| micros(at) / REFERENCE_US);
        let mut symbols = Vec::with_capacity(arrivals.len());
        let mut recv_deltas = Vec::with_capacity(arrivals.len());
        let mut previous = reference * (REFERENCE_US / DELTA_US);
        for &(number, at) in arrivals {
            let ticks = micros(at) / DELTA_US;
            let delta = ticks - previous;
            let symbol = if (0..=0xff).contains(&delta) {
                SymbolTypeTcc::PacketReceivedSmallDelta
            } else if i16::try_from(delta).is_ok() {
                SymbolTypeTcc::PacketReceivedLargeDelta
            } else {
                // Eight seconds apart within 100 ms: the clock jumped. The rest goes unreported.
                break;
            };
            symbols.resize((number - first) as usize, SymbolTypeTcc::PacketNotReceived);
            symbols.push(symbol);
            recv_deltas.push(RecvDelta { type_tcc_packet: symbol, delta: delta * DELTA_US });
            previous = ticks;
        }
        TransportLayerCc {
            sender_ssrc,
            media_ssrc: self.media_ssrc,
            base_sequence_number: first as u16,
            packet_status_count: symbols.len() as u16,
            reference_time: (reference & 0xff_ffff) as u32,
            fb_pkt_count: self.feedback_count,
            packet_chunks: chunks(&symbols),
            recv_deltas,
        }
    }
}

/// Runs of seven or more as run-length chunks, everything else as vectors of seven two-bit symbols.
fn chunks(mut symbols: &[SymbolTypeTcc]) -> Vec<PacketStatusChunk> {
    let mut chunks = Vec::new();
    while let Some(&first) = symbols.first() {
        let run = symbols.iter().take(0x1fff).take_while(|&&symbol| symbol == first).count();
        let taken = if run >= 7 || run == symbols.len() {
            chunks.push(PacketStatusChunk::RunLengthChunk(RunLengthChunk {
                type_tcc: StatusChunkTypeTcc::RunLengthChunk,
                packet_status_symbol: first,
                run_length: run as u16,
            }));
            run
        } else {
            let taken = symbols.len().min(7);
            let mut symbol_list = symbols[..taken].to_vec();
            symbol_list.resize(7, SymbolTypeTcc::PacketNotReceived);
            chunks.push(PacketStatusChunk::StatusVectorChunk(StatusVectorChunk {
                type_tcc: StatusChunkTypeTcc::StatusVectorChunk,
                symbol_size: SymbolSizeTypeTcc::TwoBit,
                symbol_list,
            }));
            taken
        };
        symbols = &symbols[taken..];
    }
    chunks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;

    /// Sequence numbers and arrival times (in ticks since the base) as a sender reads them out of a message.
    fn read(message: &TransportLayerCc) -> Vec<(u16, i64)> {
        let mut symbols = Vec::new();
        for chunk in &message.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(run) => {
                    symbols.extend(std::iter::repeat_n(run.packet_status_symbol, run.run_length.into()));
                }
                PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(vector.symbol_list.iter().copied()),
            }
        }
        let mut deltas = message.recv_deltas.iter();
        let mut ticks = i64::from(message.reference_time) * (REFERENCE_US / DELTA_US);
        let mut out = Vec::new();
        for (index, symbol) in symbols.iter().take(message.packet_status_count.into()).enumerate() {
            if *symbol != SymbolTypeTcc::PacketNotReceived {
                ticks += deltas.next().unwrap().delta / DELTA_US;
                out.push((message.base_sequence_number.wrapping_add(index as u16), ticks));
            }
        }
        out
    }

    proptest! {
        #[test]
        fn what_arrived_is_reported(start: u16, steps in prop::collection::vec((1..5_u16, 0..40_000_u64), 1..200)) {
            let base = crate::clock::tests::instant();
            let mut receiver = TwccReceiver::new(base);
            let (mut number, mut at) = (start, base + Duration::from_secs(3));
            let mut expected = Vec::new();
            let mut reported = Vec::new();
            let mut take = |receiver: &mut TwccReceiver, at| {
                if let Some(message) = receiver.poll_feedback(at, 1) {
                    let bytes = message.marshal().unwrap();
                    let parsed = TransportLayerCc::unmarshal(&mut bytes.freeze()).unwrap();
                    reported.extend(read(&parsed));
                }
            };
            for (step, wait_us) in steps {
                number = number.wrapping_add(step);
                at += Duration::from_micros(wait_us);
                take(&mut receiver, at);
                receiver.on_packet(at, number, 7);
                expected.push((number, (at - base).as_micros() as i64 / DELTA_US));
            }
            take(&mut receiver, at + INTERVAL);
            prop_assert_eq!(reported, expected);
        }
    }
}
