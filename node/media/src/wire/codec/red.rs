//! Redundant audio, RFC 2198: a packet brings frames that were sent before too. Each block names its payload type, so
//! these are mapped as that of the packet is.

/// Blocks that are looked at of one packet: encoders repeat up to nine frames.
const MAX_BLOCKS: usize = 16;

/// Gives the position of each block's header byte, and where their data begin and how long all but the last are.
fn blocks(payload: &[u8]) -> Option<([usize; MAX_BLOCKS], usize, usize, usize)> {
    let (mut positions, mut at, mut len) = ([0; MAX_BLOCKS], 0, 0);
    for count in 0..MAX_BLOCKS {
        let first = payload.get(at)?;
        *positions.get_mut(count)? = at;
        if first & 0x80 == 0 {
            return Some((positions, count + 1, at + 1, len));
        }
        let &[high, low] = payload.get(at + 2..)?.first_chunk()?;
        len += usize::from(u16::from_be_bytes([high, low]) & 0x03ff);
        at += 4;
    }
    None
}

/// The newest frame of a packet, which one without redundancy would have; `None` if it cannot be read.
pub fn primary(payload: &[u8]) -> Option<&[u8]> {
    let (_, _, start, redundant) = blocks(payload)?;
    payload.get(start + redundant..)
}

/// Gives all blocks this payload type.
pub(super) fn set_payload_type(payload: &mut [u8], payload_type: u8) {
    let Some((positions, count, ..)) = blocks(payload) else { return };
    for position in positions.into_iter().take(count) {
        if let Some(byte) = payload.get_mut(position) {
            *byte = *byte & 0x80 | payload_type & 0x7f;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Two frames of 3 and 2 bytes again, 1,920 and 960 units old, and one of 4.
    const PACKET: [u8; 18] = [0xef, 0x1e, 0x00, 0x03, 0xef, 0x0f, 0x00, 0x02, 0x6f, 1, 1, 1, 2, 2, 3, 3, 3, 3];

    #[test]
    fn the_newest_frame_is_behind_those_before() {
        assert_eq!(primary(&PACKET), Some(&[3, 3, 3, 3][..]));
        assert_eq!(primary(&[0x6f, 7, 8]), Some(&[7, 8][..]), "nothing again");
        assert_eq!(primary(&PACKET[..12]), None, "cut short");
        assert_eq!((primary(&[]), primary(&[0x80; 100])), (None, None));
    }

    #[test]
    fn each_block_gets_the_payload_type() {
        let mut packet = PACKET;
        set_payload_type(&mut packet, 100);
        assert_eq!([packet[0], packet[4], packet[8]], [0xe4, 0xe4, 0x64]);
        assert_eq!(primary(&packet), primary(&PACKET));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(mut payload in proptest::collection::vec(any::<u8>(), 0..100)) {
            let before = primary(&payload).map(<[u8]>::len);
            set_payload_type(&mut payload, 100);
            prop_assert_eq!(primary(&payload).map(<[u8]>::len), before);
        }
    }
}
