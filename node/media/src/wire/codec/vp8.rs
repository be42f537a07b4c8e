//! The VP8 payload descriptor, RFC 7741 section 4.2.

use super::picture::{PictureFields, read_picture_id};

/// What the descriptor and the first byte behind it say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vp8Descriptor {
    /// First packet of the frame's first partition.
    pub frame_start: bool,
    /// First packet of a key frame.
    pub key_frame_start: bool,
    /// By which frames are counted.
    pub pictures: PictureFields,
    /// Temporal layer, 0 when the stream has none.
    pub temporal_layer: u8,
    /// The frame refers to the base layer only, so a receiver may begin with this layer here.
    pub layer_sync: bool,
    /// Length of the descriptor in bytes.
    pub len: usize,
}

impl Vp8Descriptor {
    /// Reads the descriptor at the head of a payload; `None` if it is cut short or nothing follows.
    #[inline]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut cursor = payload.iter().copied().enumerate();
        let mut next = || cursor.next();
        let (_, first) = next()?;
        let frame_start = first & 0x10 != 0 && first & 0x07 == 0;
        let mut pictures = PictureFields::default();
        let (mut temporal_layer, mut layer_sync) = (0, false);
        if first & 0x80 != 0 {
            let (_, flags) = next()?;
            if flags & 0x80 != 0 {
                pictures.picture_id = Some(read_picture_id(&mut next)?);
            }
            if flags & 0x40 != 0 {
                let (offset, number) = next()?;
                pictures.base_layer = Some((number, offset));
            }
            if flags & 0x30 != 0 {
                let (_, layer) = next()?;
                if flags & 0x20 != 0 {
                    temporal_layer = layer >> 6;
                    layer_sync = layer & 0x20 != 0;
                }
            }
        }
        let (len, frame_header) = next()?;
        // Bit 0 of the frame header is the inverse key frame flag, RFC 6386 section 9.1.
        let key_frame_start = frame_start && frame_header & 1 == 0;
        Some(Self { frame_start, key_frame_start, pictures, temporal_layer, layer_sync, len })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::picture::{PictureId, PictureNumbers};
    use super::*;

    #[test]
    fn reads_what_chromium_sends() {
        // X, S; I, L, T, K; 15-bit picture id 0x1234; TL0PICIDX 9; TID 2, Y; key frame header.
        let payload = [0x90, 0xf0, 0x92, 0x34, 9, 0xa0, 0x50, 0x11];
        let descriptor = Vp8Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.pictures.picture_id, Some(PictureId { value: 0x1234, long: true, offset: 2 }));
        assert!(descriptor.frame_start && descriptor.key_frame_start && descriptor.layer_sync);
        assert_eq!((descriptor.temporal_layer, descriptor.len), (2, 6));
    }

    #[test]
    fn only_the_first_packet_of_a_key_frame_starts_it() {
        assert!(Vp8Descriptor::parse(&[0x10, 0x50]).unwrap().key_frame_start);
        assert!(!Vp8Descriptor::parse(&[0x10, 0x51]).unwrap().key_frame_start, "an inter frame");
        assert!(!Vp8Descriptor::parse(&[0x00, 0x50]).unwrap().key_frame_start, "a later packet");
        assert!(!Vp8Descriptor::parse(&[0x11, 0x50]).unwrap().key_frame_start, "a later partition");
        assert!(Vp8Descriptor::parse(&[0x90, 0x80, 0x80]).is_none());
    }

    proptest! {
        #[test]
        fn shifting_changes_these_numbers_only(
            mut payload in proptest::collection::vec(any::<u8>(), 0..20),
            by: u16,
            base_layers_by: u8,
        ) {
            let before = Vp8Descriptor::parse(&payload);
            if let Some(before) = &before {
                before.pictures.lessen(&mut payload, PictureNumbers { picture: by, base_layer: base_layers_by });
            }
            let after = Vp8Descriptor::parse(&payload);
            if let (Some(mut before), Some(after)) = (before, after) {
                if let Some(id) = before.pictures.picture_id.as_mut() {
                    id.value = id.value.wrapping_sub(by) & if id.long { 0x7fff } else { 0x7f };
                }
                if let Some((number, _)) = before.pictures.base_layer.as_mut() {
                    *number = number.wrapping_sub(base_layers_by);
                }
                prop_assert_eq!(before, after);
            } else {
                prop_assert!(before.is_none() && after.is_none());
            }
        }
    }
}
