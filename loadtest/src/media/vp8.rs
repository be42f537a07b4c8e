//! The VP8 payload descriptor (RFC 7741 section 4.2) and as much of the frame header as tells a key frame.

/// What the descriptor of one packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// First packet of its frame.
    pub starts_frame: bool,
    /// Running index of the frame, 15 bits.
    pub picture_id: Option<u16>,
    /// Running index of base-layer frames.
    pub tl0_pic_idx: Option<u8>,
    /// Temporal layer.
    pub temporal_layer: Option<u8>,
    /// Not needed to decode higher layers that follow.
    pub layer_sync: bool,
    /// First packet of a key frame.
    pub key_frame: bool,
}

/// Bytes of the descriptor as [`write_descriptor`] writes it.
pub(super) const DESCRIPTOR_LEN: usize = 6;

/// Bytes that the first packet of a frame has after the descriptor: frame tag, and of key frames start code and size.
pub(super) const FRAME_HEADER_LEN: usize = 10;

/// Writes the descriptor of a packet of a frame with picture id and temporal layer.
pub(super) fn write_descriptor(
    out: &mut [u8; DESCRIPTOR_LEN],
    starts_frame: bool,
    picture_id: u16,
    tl0: u8,
    temporal: u8,
) {
    // X; S when a partition starts, N (non-reference) for frames of the highest of several layers is left out.
    out[0] = 0x80 | if starts_frame { 0x10 } else { 0 };
    // I, L and T.
    out[1] = 0xe0;
    out[2] = 0x80 | (picture_id >> 8) as u8;
    out[3] = picture_id as u8;
    out[4] = tl0;
    // TID, Y unset, no KEYIDX.
    out[5] = temporal << 6;
}

/// Writes the head of a frame, RFC 7741 section 4.3 and RFC 6386 section 9.1: 640 by 360.
pub(super) fn write_frame_header(out: &mut [u8; FRAME_HEADER_LEN], key: bool) {
    out[0] = if key { 0x10 } else { 0x11 };
    if key {
        out[3..6].copy_from_slice(&[0x9d, 0x01, 0x2a]);
        out[6..8].copy_from_slice(&640_u16.to_le_bytes());
        out[8..10].copy_from_slice(&360_u16.to_le_bytes());
    }
}

/// Reads the descriptor of a payload; `None` when it is cut short.
pub fn parse_descriptor(payload: &[u8]) -> Option<Vp8Descriptor> {
    let mut bytes = payload.iter().copied();
    let first = bytes.next()?;
    let mut descriptor = Vp8Descriptor {
        starts_frame: first & 0x10 != 0 && first & 0x07 == 0,
        picture_id: None,
        tl0_pic_idx: None,
        temporal_layer: None,
        layer_sync: false,
        key_frame: false,
    };
    if first & 0x80 != 0 {
        let flags = bytes.next()?;
        if flags & 0x80 != 0 {
            let high = bytes.next()?;
            let id = if high & 0x80 != 0 {
                (u16::from(high & 0x7f) << 8) | u16::from(bytes.next()?)
            } else {
                u16::from(high)
            };
            descriptor.picture_id = Some(id);
        }
        if flags & 0x40 != 0 {
            descriptor.tl0_pic_idx = Some(bytes.next()?);
        }
        if flags & 0x30 != 0 {
            let layers = bytes.next()?;
            if flags & 0x20 != 0 {
                descriptor.temporal_layer = Some(layers >> 6);
                descriptor.layer_sync = layers & 0x20 != 0;
            }
        }
    }
    let frame_tag = bytes.next()?;
    descriptor.key_frame = descriptor.starts_frame && frame_tag & 1 == 0;
    Some(descriptor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(starts: bool, key: bool, id in 0..0x8000_u16, tl0: u8, temporal in 0..4_u8) {
            let mut payload = [0; DESCRIPTOR_LEN + FRAME_HEADER_LEN];
            write_descriptor(payload.first_chunk_mut().unwrap(), starts, id, tl0, temporal);
            write_frame_header(payload.last_chunk_mut().unwrap(), key);
            prop_assert_eq!(parse_descriptor(&payload), Some(Vp8Descriptor {
                starts_frame: starts, picture_id: Some(id), tl0_pic_idx: Some(tl0), temporal_layer: Some(temporal),
                layer_sync: false, key_frame: starts && key,
            }));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            parse_descriptor(&bytes);
        }
    }
}
