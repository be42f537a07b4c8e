//! The send time that every synthetic packet carries in the last bytes of its payload, whatever the codec, and whose
//! time it is.

/// Bytes of a stamp.
pub const STAMP_LEN: usize = 16;

/// Unlikely in real media: a packet of another publisher is not mistaken for a stamped one.
const MAGIC: [u8; 4] = *b"\xf5SL\xa7";

/// When a packet was sent, by whose clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The process that sent it: its clock is its own.
    pub origin: u32,
    /// Nanoseconds since the Unix epoch.
    pub unix_ns: u64,
}

/// Writes a stamp into the end of a payload that has room for it.
pub fn write_stamp(payload: &mut [u8], stamp: Stamp) {
    if let Some((_, tail)) = payload.split_last_chunk_mut::<STAMP_LEN>() {
        tail[..4].copy_from_slice(&MAGIC);
        tail[4..8].copy_from_slice(&stamp.origin.to_be_bytes());
        tail[8..].copy_from_slice(&stamp.unix_ns.to_be_bytes());
    }
}

/// The stamp of a payload, if it carries one.
pub fn read_stamp(payload: &[u8]) -> Option<Stamp> {
    let (_, tail) = payload.split_last_chunk::<STAMP_LEN>()?;
    let (magic, rest) = tail.split_first_chunk::<4>()?;
    let (origin, time) = rest.split_first_chunk::<4>()?;
    (*magic == MAGIC).then(|| Stamp {
        origin: u32::from_be_bytes(*origin),
        unix_ns: u64::from_be_bytes(time.try_into().unwrap_or_default()),
    })
}
