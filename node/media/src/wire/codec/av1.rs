//! The AV1 aggregation header and what OBUs it brings
//! (<https://aomediacodec.github.io/av1-rtp-spec/>, section 4.4). Layers of AV1 are told by the dependency descriptor
//! alone: a packet that begins in the middle of an OBU does not say of which layer it is.

/// Sequence header OBU, AV1 specification section 6.2.2.
const SEQUENCE_HEADER: u8 = 1;

/// OBU elements that are looked at of one packet: a sequence header comes first, behind a temporal delimiter at most.
const MAX_READ: usize = 3;

/// Whether a decoder can begin with this packet: a coded video sequence does.
pub(super) fn begins_sequence(payload: &[u8]) -> bool {
    let Some((&header, rest)) = payload.split_first() else { return false };
    let (is_continuation, is_new_sequence) = (header & 0x80 != 0, header & 0x08 != 0);
    let has_sequence_header = || elements(header >> 4 & 0x03, rest).take(MAX_READ).any(is_sequence_header);
    !is_continuation && !rest.is_empty() && (is_new_sequence || has_sequence_header())
}

fn is_sequence_header(element: &[u8]) -> bool {
    element.first().is_some_and(|header| header >> 3 & 0x0f == SEQUENCE_HEADER)
}

/// The OBU elements; `count` is how many there are, 0 if the header does not say. Each but the last of a known number
/// comes after its length.
fn elements(count: u8, mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut index = 0;
    std::iter::from_fn(move || {
        index += 1;
        if rest.is_empty() || (count > 0 && index > count) {
            return None;
        }
        if index == count {
            return Some(std::mem::take(&mut rest));
        }
        let (len, after) = leb128(rest)?;
        let (element, after) = after.split_at_checked(len)?;
        rest = after;
        Some(element)
    })
}

/// A length, AV1 specification section 4.10.5; of a packet it has three bytes at most.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0;
    for (index, byte) in bytes.iter().take(3).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(index + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SEQUENCE: [u8; 3] = [0x08, 0x00, 0x00];
    const FRAME: [u8; 2] = [0x30, 0x10];

    #[test]
    fn a_sequence_begins_where_the_header_says_so() {
        assert!(begins_sequence(&[0x18, 0x08, 0x00]), "W 1, N");
        assert!(!begins_sequence(&[0x98, 0x08]), "it goes on with an OBU");
        assert!(!begins_sequence(&[0x10, 0x30, 0x10]), "a frame");
        assert!(!begins_sequence(&[0x18]) && !begins_sequence(&[]));
    }

    #[test]
    fn a_sequence_header_is_found_in_every_packing() {
        let lengths = [&[0x00, 3], &SEQUENCE[..], &[2], &FRAME].concat();
        let counted = [&[0x20, 3], &SEQUENCE[..], &FRAME].concat();
        let alone = [&[0x10], &SEQUENCE[..]].concat();
        let delimited = [&[0x30, 1, 0x10, 3], &SEQUENCE[..], &FRAME].concat();
        for payload in [lengths, counted, alone, delimited] {
            assert!(begins_sequence(&payload), "{payload:?}");
        }
        assert!(!begins_sequence(&[&[0x20, 2], &FRAME[..], &FRAME].concat()));
        assert!(!begins_sequence(&[0x20, 0xff, 0xff, 0xff, 0x08]), "a length that cannot be");
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(payload in proptest::collection::vec(any::<u8>(), 0..50)) {
            begins_sequence(&payload);
        }
    }
}
