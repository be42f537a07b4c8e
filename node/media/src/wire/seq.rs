//! Sequence numbers without their wrap.

/// The number nearest to `reference` whose lower 16 bits are `seq`.
///
/// References begin at [`FIRST_CYCLE`] or above, so that what is older than the first packet has a number too.
pub fn unwrap(reference: u64, seq: u16) -> u64 {
    let distance = seq.wrapping_sub(reference as u16).cast_signed();
    reference.saturating_add_signed(i64::from(distance))
}

/// What the first number of a stream is put upon: one cycle.
pub const FIRST_CYCLE: u64 = 1 << 16;

/// A sequence number without its wrap, next to the newest; the first of all when there is none yet.
pub fn extend(newest: Option<u64>, seq: u16) -> u64 {
    newest.map_or(FIRST_CYCLE + u64::from(seq), |newest| unwrap(newest, seq))
}

/// Whether `a` comes after `b`, modulo 2^16.
pub fn is_newer(a: u16, b: u16) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unwraps_to_the_nearest() {
        assert_eq!(unwrap(FIRST_CYCLE + 65_535, 0), 2 * FIRST_CYCLE);
        assert_eq!(unwrap(2 * FIRST_CYCLE, 65_535), 2 * FIRST_CYCLE - 1);
        assert_eq!(unwrap(FIRST_CYCLE, 65_535), FIRST_CYCLE - 1);
        assert!(is_newer(0, 65_535) && !is_newer(65_535, 0) && !is_newer(7, 7));
    }
}
