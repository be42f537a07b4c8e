//! Datagrams into frames. Total: any bytes give frames or a reason why not.

use bytes::{Buf, Bytes};
use sluice_proto::ids::{RouteEpoch, RouteId};

use super::header::{Form, HEADER_LEN, Header};
use super::{CUT_LEN, Frame};

/// Why a datagram carries no frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends within its header, or within a length or packet.
    #[error("truncated datagram")]
    Truncated,
    /// The class bits say nothing.
    #[error("unknown frame class")]
    Class,
    /// A half that is not on its side of the cut.
    #[error("a half of the wrong length")]
    Half,
}

/// Half of a packet that did not fit into one datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Half {
    /// The frame, `packet` being this half only.
    pub(crate) frame: Frame,
    /// Length of the first half.
    pub(crate) cut: u16,
    /// Whether this is the second one.
    pub(crate) second: bool,
}

impl Half {
    /// The route that the packet belongs to.
    pub fn route(&self) -> (RouteId, RouteEpoch) {
        (self.frame.route, self.frame.epoch)
    }
}

/// Decodes a datagram and appends its frames to `frames`; a half of a frame is handed back instead. The packets share
/// the datagram's memory.
///
/// # Errors
/// [`DecodeError`]; `frames` is then as it was.
pub fn decode_datagram(mut datagram: Bytes, frames: &mut Vec<Frame>) -> Result<Option<Half>, DecodeError> {
    let bytes = datagram.first_chunk::<HEADER_LEN>().copied().ok_or(DecodeError::Truncated)?;
    let header = Header::decode(bytes).ok_or(DecodeError::Class)?;
    datagram.advance(HEADER_LEN);
    match header.form {
        Form::Whole => frames.push(frame(&header, header.seq, datagram)),
        Form::Packed => decode_packed(&header, datagram, frames)?,
        Form::FirstHalf | Form::SecondHalf => return decode_half(&header, datagram).map(Some),
    }
    Ok(None)
}

fn decode_packed(header: &Header, mut rest: Bytes, frames: &mut Vec<Frame>) -> Result<(), DecodeError> {
    let before = frames.len();
    let mut seq = header.seq;
    while !rest.is_empty() {
        let packet = rest
            .try_get_u16_le()
            .ok()
            .filter(|&length| usize::from(length) <= rest.len())
            .map(|length| rest.split_to(usize::from(length)));
        let Some(packet) = packet else {
            frames.truncate(before);
            return Err(DecodeError::Truncated);
        };
        frames.push(frame(header, seq, packet));
        seq = seq.wrapping_add(1);
    }
    Ok(())
}

fn decode_half(header: &Header, mut rest: Bytes) -> Result<Half, DecodeError> {
    debug_assert_eq!(CUT_LEN, size_of::<u16>());
    let cut = rest.try_get_u16_le().map_err(|_| DecodeError::Truncated)?;
    let second = header.form == Form::SecondHalf;
    if rest.is_empty() || cut == 0 || (!second && rest.len() != usize::from(cut)) {
        return Err(DecodeError::Half);
    }
    Ok(Half { frame: frame(header, header.seq, rest), cut, second })
}

fn frame(header: &Header, seq: u16, packet: Bytes) -> Frame {
    Frame { route: header.route, epoch: header.epoch, seq, flags: header.flags, class: header.class, packet }
}
