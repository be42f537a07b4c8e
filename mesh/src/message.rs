//! The framing of a control stream: each message after its length as a little-endian `u32`, encoded with rkyv.
//!
//! The bytes of a message are copied into an aligned buffer and checked whole before anything of them is believed.

use rkyv::api::high::{HighDeserializer, HighSerializer, HighValidator};
use rkyv::bytecheck::CheckBytes;
use rkyv::rancor::Error as RkyvError;
use rkyv::ser::allocator::ArenaHandle;
use rkyv::util::AlignedVec;
use rkyv::{Archive, Deserialize, Serialize};
use sluice_proto::pipe::MAX_MESSAGE_LEN;

const LENGTH_LEN: usize = 4;

/// Why bytes are no message. The stream cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Longer than [`MAX_MESSAGE_LEN`].
    #[error("a message of {0} bytes, at most {MAX_MESSAGE_LEN} are allowed")]
    TooLong(usize),
    /// The bytes are no valid message.
    #[error("a malformed message: {0}")]
    Malformed(String),
}

/// Encodes a message with its length.
///
/// # Errors
/// [`MessageError::TooLong`].
pub fn encode_message<T>(message: &T) -> Result<Vec<u8>, MessageError>
where
    T: for<'a> Serialize<HighSerializer<AlignedVec, ArenaHandle<'a>, RkyvError>>,
{
    let body = rkyv::to_bytes::<RkyvError>(message).map_err(|error| MessageError::Malformed(error.to_string()))?;
    let length = u32::try_from(body.len()).ok().filter(|&length| length as usize <= MAX_MESSAGE_LEN);
    let length = length.ok_or(MessageError::TooLong(body.len()))?;
    let mut framed = Vec::with_capacity(LENGTH_LEN + body.len());
    framed.extend_from_slice(&length.to_le_bytes());
    framed.extend_from_slice(&body);
    Ok(framed)
}

/// Takes the bytes of a control stream in pieces of any size and gives its messages. It holds at most one message.
#[derive(Debug, Default)]
pub struct MessageDecoder {
    length: Vec<u8>,
    body: AlignedVec,
    /// Length of the message that is being read.
    wanted: Option<usize>,
}

impl MessageDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes off the front of `input` until a message is complete or `input` is empty. `None`: more bytes are
    /// needed.
    ///
    /// # Errors
    /// [`MessageError`]; the stream is then of no use any more.
    pub fn decode<T>(&mut self, input: &mut &[u8]) -> Result<Option<T>, MessageError>
    where
        T: Archive,
        T::Archived: for<'a> CheckBytes<HighValidator<'a, RkyvError>> + Deserialize<T, HighDeserializer<RkyvError>>,
    {
        let wanted = match self.wanted {
            Some(wanted) => wanted,
            None => match self.decode_length(input)? {
                Some(wanted) => wanted,
                None => return Ok(None),
            },
        };
        let missing = wanted - self.body.len();
        self.body.extend_from_slice(take(input, missing));
        if self.body.len() < wanted {
            return Ok(None);
        }
        let message = rkyv::from_bytes::<T, RkyvError>(&self.body);
        self.body.clear();
        self.wanted = None;
        message.map(Some).map_err(|error| MessageError::Malformed(error.to_string()))
    }

    fn decode_length(&mut self, input: &mut &[u8]) -> Result<Option<usize>, MessageError> {
        let missing = LENGTH_LEN - self.length.len();
        self.length.extend_from_slice(take(input, missing));
        let Ok(length) = <[u8; LENGTH_LEN]>::try_from(self.length.as_slice()) else { return Ok(None) };
        self.length.clear();
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_MESSAGE_LEN {
            return Err(MessageError::TooLong(length));
        }
        self.wanted = Some(length);
        Ok(self.wanted)
    }
}

/// Takes bytes off the front of `input`.
pub(crate) fn take<'a>(input: &mut &'a [u8], at_most: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(at_most.min(input.len()));
    *input = rest;
    taken
}
