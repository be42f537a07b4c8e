//! The outside of DTLS 1.2: records and the handshake fragments in them (RFC 6347 section 4), read without copying.

pub(super) const CONTENT_ALERT: u8 = 21;
pub(super) const CONTENT_HANDSHAKE: u8 = 22;
pub(super) const CONTENT_APPLICATION_DATA: u8 = 23;
const CONTENT_CHANGE_CIPHER_SPEC: u8 = 20;

/// Two Ethernet frames and some: what a client sends in one datagram fits its path, and a flight with a large
/// certificate is cut.
pub(super) const MAX_DATAGRAM_LEN: usize = 4096;

/// Bytes before the body of a record.
pub(super) const RECORD_HEADER_LEN: usize = 13;

/// Bytes before the body of a handshake message.
pub(super) const HANDSHAKE_HEADER_LEN: usize = 12;

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) content: u8,
    pub(super) epoch: u16,
    pub(super) body: &'a [u8],
    /// Header and body.
    pub(super) whole: &'a [u8],
}

/// One fragment of a handshake message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fragment<'a> {
    pub(super) kind: u8,
    /// The message's place among those of its sender, counted from 0.
    pub(super) message: u16,
    /// Length of the whole message, in bytes.
    pub(super) total: usize,
    pub(super) offset: usize,
    pub(super) body: &'a [u8],
}

/// The records of a datagram; `None` if it is too long, or consists of anything but whole records.
pub(super) fn records(datagram: &[u8]) -> Option<impl Iterator<Item = Record<'_>>> {
    let all = |datagram| {
        let mut reader = Reader(datagram);
        std::iter::from_fn(move || reader.record())
    };
    let read: usize = all(datagram).map(|record| record.whole.len()).sum();
    let fits = !datagram.is_empty() && datagram.len() <= MAX_DATAGRAM_LEN && read == datagram.len();
    fits.then(|| all(datagram))
}

/// The fragments in the body of a plaintext handshake record, up to the first that is cut short.
pub(super) fn fragments(body: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut reader = Reader(body);
    std::iter::from_fn(move || reader.fragment())
}

/// A plaintext record around a whole handshake message.
pub(super) fn handshake_record(sequence: u64, kind: u8, message: u16, body: &[u8]) -> Vec<u8> {
    let len = body.len() as u32;
    let mut record = record_header(CONTENT_HANDSHAKE, sequence, HANDSHAKE_HEADER_LEN + body.len());
    record.push(kind);
    record.extend_from_slice(&len.to_be_bytes()[1..]);
    record.extend_from_slice(&message.to_be_bytes());
    record.extend_from_slice(&[0; 3]);
    record.extend_from_slice(&len.to_be_bytes()[1..]);
    record.extend_from_slice(body);
    record
}

/// A plaintext record that says that what follows is encrypted.
pub(super) fn change_cipher_spec(sequence: u64) -> Vec<u8> {
    let mut record = record_header(CONTENT_CHANGE_CIPHER_SPEC, sequence, 1);
    record.push(1);
    record
}

/// A plaintext record that says why a handshake failed. Its number is one that no other record of ours has.
pub(super) fn fatal_alert(description: u8) -> Vec<u8> {
    let mut record = record_header(CONTENT_ALERT, 1 << 32, 2);
    record.extend_from_slice(&[2, description]);
    record
}

fn record_header(content: u8, sequence: u64, len: usize) -> Vec<u8> {
    let mut record = Vec::with_capacity(RECORD_HEADER_LEN + len);
    record.extend_from_slice(&[content, 0xfe, 0xfd]);
    // Epoch 0 and 48 bits of sequence number.
    record.extend_from_slice(&sequence.to_be_bytes());
    record.extend_from_slice(&(len as u16).to_be_bytes());
    record
}

/// Reads big-endian numbers and vectors with a length in front, as TLS has them.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, len: usize) -> Option<usize> {
        Some(self.take(len)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|number| number as u16)
    }

    /// A vector whose length takes `len_bytes` bytes.
    pub(super) fn vector(&mut self, len_bytes: usize) -> Option<&'a [u8]> {
        let len = self.number(len_bytes)?;
        self.take(len)
    }

    /// The next record; nothing is consumed unless it is whole. A record without a body is none.
    fn record(&mut self) -> Option<Record<'a>> {
        let mut ahead = Reader(self.0);
        let content = ahead.number(1)? as u8;
        ahead.take(2)?; // version
        let epoch = ahead.u16()?;
        ahead.take(6)?; // sequence number
        let body = ahead.vector(2).filter(|body| !body.is_empty())?;
        let whole = self.take(RECORD_HEADER_LEN + body.len())?;
        Some(Record { content, epoch, body, whole })
    }

    fn fragment(&mut self) -> Option<Fragment<'a>> {
        let kind = self.number(1)? as u8;
        let total = self.number(3)?;
        let message = self.u16()?;
        let offset = self.number(3)?;
        let body = self.vector(3)?;
        Some(Fragment { kind, message, total, offset, body })
    }
}
