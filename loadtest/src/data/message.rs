//! What a message of a virtual user says of itself.

use crate::media::{STAMP_LEN, Stamp, read_stamp, write_stamp};

const HEADER_LEN: usize = 16;

/// Bytes of a message that says nothing else.
pub const MIN_MESSAGE_BYTES: usize = HEADER_LEN + STAMP_LEN;

/// A message's own words; what is between the head and the stamp at its end means nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataMessage {
    /// Whose it is, drawn at random.
    pub sender: u64,
    /// Which of the sender's, from 0.
    pub number: u64,
    /// When it was sent.
    pub stamp: Stamp,
}

impl DataMessage {
    /// A payload of `len` bytes, at least [`MIN_MESSAGE_BYTES`].
    pub fn write(&self, len: usize) -> Vec<u8> {
        let mut payload = vec![0; len.max(MIN_MESSAGE_BYTES)];
        payload[..8].copy_from_slice(&self.sender.to_be_bytes());
        payload[8..HEADER_LEN].copy_from_slice(&self.number.to_be_bytes());
        write_stamp(&mut payload, self.stamp);
        payload
    }

    /// What a payload says; `None` if it is no virtual user's.
    pub fn read(payload: &[u8]) -> Option<Self> {
        let (sender, rest) = payload.split_first_chunk::<8>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let stamp = read_stamp(rest)?;
        Some(Self { sender: u64::from_be_bytes(*sender), number: u64::from_be_bytes(*number), stamp })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_the_same(sender: u64, number: u64, origin: u32, unix_ns: u64, len in 0..2000usize) {
            let message = DataMessage { sender, number, stamp: Stamp { origin, unix_ns } };
            let payload = message.write(len);
            prop_assert_eq!(payload.len(), len.max(MIN_MESSAGE_BYTES));
            prop_assert_eq!(DataMessage::read(&payload), Some(message));
        }

        #[test]
        fn what_others_send_is_not_read(payload in prop::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(DataMessage::read(&payload), None);
        }
    }
}
