//! Frames into datagrams: small ones of a route are packed together, one that does not fit is cut in two.

use bytes::{BufMut, Bytes, BytesMut};

use super::header::{Form, HEADER_LEN, Header};
use super::{CUT_LEN, Frame, LENGTH_LEN};

/// How much the encoder takes from the allocator at a time: some fifty full datagrams, so that a packet costs no
/// allocation. The memory is used again once all datagrams in it have gone out.
const CHUNK: usize = 64 * 1024;

/// Writes frames into datagrams.
#[derive(Debug, Default)]
pub struct FrameEncoder {
    buffer: BytesMut,
}

/// What became of the first frames of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// How many frames were taken, at least one.
    pub frames: usize,
    /// Their datagrams; none when the packet does not even fit into two.
    pub datagrams: Option<(Bytes, Option<Bytes>)>,
}

impl FrameEncoder {
    /// An encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes the first frame of `frames`, together with as many of those that follow as belong to the same run of its
    /// route and fit into a datagram of `max_size` bytes. `None` when `frames` is empty.
    pub fn encode_next(&mut self, frames: &[Frame], max_size: usize) -> Option<Encoded> {
        let first = frames.first()?;
        let run = packable(frames, max_size);
        if let (2.., Some(run_frames)) = (run, frames.get(..run)) {
            let datagram = self.write(first, Form::Packed, |buffer| {
                for frame in run_frames {
                    // Fits: the whole run is shorter than a datagram.
                    buffer.put_u16_le(frame.packet.len() as u16);
                    buffer.put_slice(&frame.packet);
                }
            });
            return Some(Encoded { frames: run, datagrams: Some((datagram, None)) });
        }
        let datagrams = if HEADER_LEN + first.packet.len() <= max_size {
            Some((self.write(first, Form::Whole, |buffer| buffer.put_slice(&first.packet)), None))
        } else {
            self.cut(first, max_size)
        };
        Some(Encoded { frames: 1, datagrams })
    }

    fn cut(&mut self, frame: &Frame, max_size: usize) -> Option<(Bytes, Option<Bytes>)> {
        let room = max_size.checked_sub(HEADER_LEN + CUT_LEN)?;
        if frame.packet.len() > 2 * room {
            return None;
        }
        // In the middle: the halves of the next packet fit into what GSO made of this one.
        let at = frame.packet.len().div_ceil(2);
        let cut = u16::try_from(at).ok()?;
        let (head, tail) = frame.packet.split_at_checked(at)?;
        let mut half = |form, part: &[u8]| {
            self.write(frame, form, |buffer| {
                buffer.put_u16_le(cut);
                buffer.put_slice(part);
            })
        };
        let first = half(Form::FirstHalf, head);
        Some((first, Some(half(Form::SecondHalf, tail))))
    }

    fn write(&mut self, frame: &Frame, form: Form, body: impl FnOnce(&mut BytesMut)) -> Bytes {
        let header = Header {
            route: frame.route,
            epoch: frame.epoch,
            seq: frame.seq,
            form,
            flags: frame.flags,
            class: frame.class,
        };
        if self.buffer.capacity() < HEADER_LEN + CUT_LEN + usize::from(u16::MAX) {
            self.buffer.reserve(CHUNK + HEADER_LEN + CUT_LEN);
        }
        self.buffer.put_slice(&header.encode());
        body(&mut self.buffer);
        self.buffer.split().freeze()
    }
}

/// How many of the first frames can share a datagram.
fn packable(frames: &[Frame], max_size: usize) -> usize {
    let Some(first) = frames.first() else { return 0 };
    let mut room = max_size.min(usize::from(u16::MAX)).saturating_sub(HEADER_LEN);
    let mut count = 0;
    for (frame, seq) in frames.iter().zip((0..).map(|n: u16| first.seq.wrapping_add(n))) {
        let same_run = frame.seq == seq
            && frame.route == first.route
            && frame.epoch == first.epoch
            && frame.flags == first.flags
            && frame.class == first.class;
        let len = LENGTH_LEN + frame.packet.len();
        if !same_run || len > room {
            break;
        }
        room -= len;
        count += 1;
    }
    count
}
