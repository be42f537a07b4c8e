//! The send time that every synthetic packet carries in the last bytes of its payload, whatever the codec.

/// Bytes of a stamp.
pub const STAMP_LEN: usize = 16;

/// Unlikely in real media: a packet of another publisher is not mistaken for a stamped one.
const MAGIC: [u8; 8] = *b"\xf5sluice\xa7";

/// Writes the send time into the end of a payload that has room for it.
pub fn write_stamp(payload: &mut [u8], sent_unix_ns: u64) {
    if let Some((_, tail)) = payload.split_last_chunk_mut::<STAMP_LEN>() {
        tail[..8].copy_from_slice(&MAGIC);
        tail[8..].copy_from_slice(&sent_unix_ns.to_be_bytes());
    }
}

/// The send time, in nanoseconds since the Unix epoch, if the payload carries one.
pub fn read_stamp(payload: &[u8]) -> Option<u64> {
    let (_, tail) = payload.split_last_chunk::<STAMP_LEN>()?;
    let (magic, time) = tail.split_at(8);
    (magic == MAGIC).then(|| u64::from_be_bytes(time.try_into().unwrap_or_default()))
}
