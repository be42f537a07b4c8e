//! Key frames in H.264 payloads, RFC 6184: single NAL unit packets, STAP-A and FU-A.

/// A sequence parameter set. Encoders send one before each IDR picture, and a decoder cannot begin without it; an IDR slice
/// alone therefore does not count.
const SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Whether a receiver can begin to decode with this packet.
pub(super) fn is_key_frame_start(payload: &[u8]) -> bool {
    let Some((&indicator, rest)) = payload.split_first() else { return false };
    match indicator & 0x1f {
        SPS => true,
        STAP_A => nal_units(rest).any(|unit| unit.first().is_some_and(|header| header & 0x1f == SPS)),
        FU_A => rest.first().is_some_and(|header| header & 0x80 != 0 && header & 0x1f == SPS),
        _ => false,
    }
}

/// The units of an aggregation packet, RFC 6184 section 5.7.1.
fn nal_units(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, after) = rest.split_first_chunk()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(len)))?;
        rest = after;
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn finds_parameter_sets_in_every_packetization() {
        assert!(is_key_frame_start(&[0x67, 0x42]));
        assert!(is_key_frame_start(&[0x78, 0, 2, 0x09, 0x10, 0, 1, 0x67, 0, 1, 0x68]), "delimiter, SPS, PPS");
        assert!(is_key_frame_start(&[0x7c, 0x87, 0x42]));
        assert!(!is_key_frame_start(&[0x7c, 0x07, 0x42]), "not the first fragment");
        assert!(!is_key_frame_start(&[0x41, 0x9a]));
        assert!(!is_key_frame_start(&[0x78, 0, 200, 0x67]), "a unit longer than the packet");
        assert!(!is_key_frame_start(&[]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(payload in proptest::collection::vec(any::<u8>(), 0..60)) {
            is_key_frame_start(&payload);
        }
    }
}
