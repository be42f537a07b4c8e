//! The messages of data channels as they travel between nodes and workers, and the framing of a stream of them.
//!
//! A stream carries the messages of one use of a route. It begins with that: route id (`u32`), epoch (`u8`). Each
//! message is its length (`u32`), number (`u64`), payload protocol identifier (`u32`) and payload. Integers are
//! little-endian.

use bytes::{BufMut, Bytes, BytesMut};
use sluice_proto::ids::{RouteEpoch, RouteId};

use crate::message::take;

/// Longest payload: browsers send 256 KiB at most, and a little more does no harm.
pub const MAX_DATA_PAYLOAD_LEN: usize = 256 * 1024 + 1024;

/// Bytes of the route at the beginning of a stream.
const ROUTE_LEN: usize = 5;

/// Bytes before the payload of each message.
const HEADER_LEN: usize = 16;

/// One message of a data producer on its way over a route. Between nodes it goes by a reliable stream, which ends with
/// the connection; by their numbers the ends of a route then know where to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataMessage {
    /// The route, as allocated by the destination.
    pub route: RouteId,
    /// The use of the route id that is meant.
    pub epoch: RouteEpoch,
    /// Counts the messages of the producer from 0, on every route alike.
    pub number: u64,
    /// Payload protocol identifier: what kind of message it is, RFC 8831 section 8.
    pub ppid: u32,
    /// The message. Clients send no empty ones: those are marks that the ends of the route set between messages.
    pub payload: Bytes,
}

impl DataMessage {
    /// Bytes of the message on a stream.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }
}

/// Why the bytes of a stream are no messages. It cannot be read any further.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// Longer than [`MAX_DATA_PAYLOAD_LEN`].
    #[error("a payload of {0} bytes, at most {MAX_DATA_PAYLOAD_LEN} are allowed")]
    TooLong(usize),
    /// The stream ended within a message or before its first.
    #[error("the stream ends too early")]
    Truncated,
}

/// Writes the beginning of a stream.
pub fn encode_data_route(route: RouteId, epoch: RouteEpoch, out: &mut BytesMut) {
    out.put_u32_le(route.0);
    out.put_u8(epoch.0);
}

/// Writes a message, whose route is that of the stream.
///
/// # Errors
/// [`DataError::TooLong`]; nothing was written then.
pub fn encode_data_message(message: &DataMessage, out: &mut BytesMut) -> Result<(), DataError> {
    let len = message.payload.len();
    let length = u32::try_from(len).ok().filter(|_| len <= MAX_DATA_PAYLOAD_LEN).ok_or(DataError::TooLong(len))?;
    out.reserve(message.encoded_len());
    out.put_u32_le(length);
    out.put_u64_le(message.number);
    out.put_u32_le(message.ppid);
    out.put_slice(&message.payload);
    Ok(())
}

/// Takes the bytes of a stream in pieces of any size and gives its messages. It holds at most one message. A payload
/// has memory of its own: one that is kept for long keeps nothing else.
#[derive(Debug, Default)]
pub struct DataDecoder {
    route: Option<(RouteId, RouteEpoch)>,
    /// Of the route or of a message's header, until it is complete.
    head: Vec<u8>,
    message: Option<UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    number: u64,
    ppid: u32,
    length: usize,
    payload: BytesMut,
}

impl DataDecoder {
    /// A decoder at the beginning of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes off the front of `input` until a message is complete or `input` is empty. `None`: more bytes are
    /// needed.
    ///
    /// # Errors
    /// [`DataError::TooLong`], before there is memory for it; the stream is then of no use any more.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<DataMessage>, DataError> {
        let (route, epoch) = match self.route {
            Some(route) => route,
            None => match self.head(input) {
                Some(head) => *self.route.insert(decode_route(head)),
                None => return Ok(None),
            },
        };
        let mut message = match self.message.take() {
            Some(message) => message,
            None => match self.head(input) {
                Some(head) => UnderWay::new(head)?,
                None => return Ok(None),
            },
        };
        message.payload.extend_from_slice(take(input, message.length - message.payload.len()));
        if message.payload.len() < message.length {
            self.message = Some(message);
            return Ok(None);
        }
        let UnderWay { number, ppid, payload, .. } = message;
        Ok(Some(DataMessage { route, epoch, number, ppid, payload: payload.freeze() }))
    }

    /// Bytes of memory for the payload that is not complete.
    pub fn held(&self) -> usize {
        self.message.as_ref().map_or(0, |message| message.length)
    }

    /// The stream has ended.
    ///
    /// # Errors
    /// [`DataError::Truncated`] if that is not between two messages.
    pub fn finish(&self) -> Result<(), DataError> {
        let is_between = self.route.is_some() && self.head.is_empty() && self.message.is_none();
        if is_between { Ok(()) } else { Err(DataError::Truncated) }
    }

    /// The next `N` bytes, once they are there.
    fn head<const N: usize>(&mut self, input: &mut &[u8]) -> Option<[u8; N]> {
        self.head.extend_from_slice(take(input, N - self.head.len()));
        let head = <[u8; N]>::try_from(self.head.as_slice()).ok()?;
        self.head.clear();
        Some(head)
    }
}

impl UnderWay {
    fn new(head: [u8; HEADER_LEN]) -> Result<Self, DataError> {
        let [l0, l1, l2, l3, n0, n1, n2, n3, n4, n5, n6, n7, p0, p1, p2, p3] = head;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if length > MAX_DATA_PAYLOAD_LEN {
            return Err(DataError::TooLong(length));
        }
        let number = u64::from_le_bytes([n0, n1, n2, n3, n4, n5, n6, n7]);
        let ppid = u32::from_le_bytes([p0, p1, p2, p3]);
        Ok(Self { number, ppid, length, payload: BytesMut::with_capacity(length) })
    }
}

fn decode_route([r0, r1, r2, r3, epoch]: [u8; ROUTE_LEN]) -> (RouteId, RouteEpoch) {
    (RouteId(u32::from_le_bytes([r0, r1, r2, r3])), RouteEpoch(epoch))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTE: (RouteId, RouteEpoch) = (RouteId(0x0403_0201), RouteEpoch(5));

    fn message(payload: Vec<u8>) -> DataMessage {
        let (route, epoch) = ROUTE;
        DataMessage { route, epoch, number: u64::MAX - 1, ppid: 51, payload: payload.into() }
    }

    #[test]
    fn a_stream_is_as_it_is_described() {
        let mut bytes = BytesMut::new();
        encode_data_route(ROUTE.0, ROUTE.1, &mut bytes);
        encode_data_message(&message(vec![7, 8]), &mut bytes).unwrap();
        let wanted: [&[u8]; 5] =
            [&[1, 2, 3, 4, 5], &[2, 0, 0, 0], &[254, 255, 255, 255, 255, 255, 255, 255], &[51, 0, 0, 0], &[7, 8]];
        assert_eq!(bytes, wanted.concat());
    }

    #[test]
    fn the_longest_payload_passes_and_a_longer_one_does_not() {
        let mut bytes = BytesMut::new();
        encode_data_route(ROUTE.0, ROUTE.1, &mut bytes);
        let longest = message(vec![7; MAX_DATA_PAYLOAD_LEN]);
        encode_data_message(&longest, &mut bytes).unwrap();
        let mut decoder = DataDecoder::new();
        let (mut begun, mut rest) = bytes.split_at(100);
        assert_eq!(decoder.decode(&mut begun), Ok(None));
        assert_eq!(decoder.held(), MAX_DATA_PAYLOAD_LEN);
        assert_eq!(decoder.decode(&mut rest), Ok(Some(longest)));
        assert_eq!(decoder.held(), 0);

        let too_long = MAX_DATA_PAYLOAD_LEN + 1;
        let before = bytes.len();
        assert_eq!(encode_data_message(&message(vec![7; too_long]), &mut bytes), Err(DataError::TooLong(too_long)));
        assert_eq!(bytes.len(), before);
        let mut head = [0; HEADER_LEN];
        head[..4].copy_from_slice(&(too_long as u32).to_le_bytes());
        assert_eq!(decoder.decode(&mut head.as_slice()), Err(DataError::TooLong(too_long)));
        assert_eq!(decoder.held(), 0);
    }

    #[test]
    fn a_stream_may_end_between_messages_and_nowhere_else() {
        let mut bytes = BytesMut::new();
        encode_data_route(ROUTE.0, ROUTE.1, &mut bytes);
        encode_data_message(&message(vec![]), &mut bytes).unwrap();
        encode_data_message(&message(vec![1]), &mut bytes).unwrap();
        for end in 0..=bytes.len() {
            let mut decoder = DataDecoder::new();
            let mut input = &bytes[..end];
            while decoder.decode(&mut input).unwrap().is_some() {}
            let between = [ROUTE_LEN, ROUTE_LEN + HEADER_LEN, bytes.len()];
            assert_eq!(decoder.finish().is_ok(), between.contains(&end), "{end}");
        }
    }
}
