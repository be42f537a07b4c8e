//! The VP9 payload descriptor, RFC 9628 section 4.2.

use super::picture::{PictureFields, read_picture_id};

/// Reference indices that a descriptor lists at most, RFC 9628 section 4.2.
const MAX_REFERENCES: usize = 3;

/// What the descriptor says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vp9Descriptor {
    /// By which pictures are counted.
    pub pictures: PictureFields,
    /// P: the layer frame refers to pictures before its own.
    pub refers_back: bool,
    /// B: first packet of its layer frame.
    pub frame_start: bool,
    /// E: last packet of its layer frame.
    pub frame_end: bool,
    /// Temporal layer, 0 when the stream has none.
    pub temporal_layer: u8,
    /// Spatial layer, 0 when the stream has none.
    pub spatial_layer: u8,
    /// U: later pictures of higher temporal layers refer to none of such before this one.
    pub switching_up: bool,
    /// D: the layer frame refers to the spatial layer below.
    pub refers_down: bool,
    /// Z: no higher spatial layer of its picture refers to the layer frame.
    pub unused_above: bool,
    /// Spatial layers that the scalability structure names, where there is one.
    pub spatial_layers: Option<u8>,
    /// Pictures back to which it refers, in flexible mode; zeros fill up.
    pub differences: [u8; MAX_REFERENCES],
    /// Length of the descriptor in bytes.
    pub len: usize,
}

impl Vp9Descriptor {
    /// Reads the descriptor at the head of a payload; `None` if it is cut short or nothing follows.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut cursor = payload.iter().copied().enumerate();
        let mut next = || cursor.next();
        let (_, flags) = next()?;
        let has = |bit: u8| flags & bit != 0;
        let mut descriptor = Self {
            refers_back: has(0x40),
            frame_start: has(0x08),
            frame_end: has(0x04),
            unused_above: has(0x01),
            ..Self::default()
        };
        let is_flexible = has(0x10);
        if has(0x80) {
            descriptor.pictures.picture_id = Some(read_picture_id(&mut next)?);
        }
        if has(0x20) {
            let (_, layers) = next()?;
            descriptor.temporal_layer = layers >> 5;
            descriptor.switching_up = layers & 0x10 != 0;
            descriptor.spatial_layer = layers >> 1 & 0x07;
            descriptor.refers_down = layers & 1 != 0;
            if !is_flexible {
                let (offset, number) = next()?;
                descriptor.pictures.base_layer = Some((number, offset));
            }
        }
        if is_flexible && descriptor.refers_back {
            for difference in &mut descriptor.differences {
                let (_, byte) = next()?;
                *difference = byte >> 1;
                if byte & 1 == 0 {
                    break;
                }
            }
        }
        if has(0x02) {
            descriptor.spatial_layers = Some(skip_structure(&mut next)?);
        }
        descriptor.len = next()?.0;
        Some(descriptor)
    }

    /// First packet of a picture that refers to none before it.
    pub fn key_frame_start(&self) -> bool {
        self.frame_start && !self.refers_back && self.spatial_layer == 0
    }
}

/// Gives the number of spatial layers that the scalability structure names, RFC 9628 section 4.2.1.
fn skip_structure(mut next: impl FnMut() -> Option<(usize, u8)>) -> Option<u8> {
    let (_, head) = next()?;
    let spatial_layers = (head >> 5) + 1;
    if head & 0x10 != 0 {
        // Width and height of each.
        for _ in 0..4 * u16::from(spatial_layers) {
            next()?;
        }
    }
    if head & 0x08 != 0 {
        let (_, pictures) = next()?;
        for _ in 0..pictures {
            let (_, picture) = next()?;
            for _ in 0..picture >> 2 & 0x03 {
                next()?;
            }
        }
    }
    Some(spatial_layers)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::picture::{PictureId, PictureNumbers};
    use super::*;

    #[test]
    fn reads_a_key_picture_with_its_structure() {
        // I, L, B, V; 15-bit picture id 0x1234; TID 0, SID 0; TL0PICIDX 7; three layers with sizes, a group of two.
        let mut payload = vec![0xaa, 0x92, 0x34, 0x00, 7, 0x58];
        payload.extend([0, 160, 0, 90, 1, 64, 0, 180, 2, 128, 1, 104]);
        payload.extend([2, 0x04, 1, 0x30, 0xaa]);
        // The second picture: TID 1, U, no references; then one byte of the frame.
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!(descriptor.pictures.picture_id, Some(PictureId { value: 0x1234, long: true, offset: 1 }));
        assert_eq!(descriptor.pictures.base_layer, Some((7, 4)));
        assert_eq!((descriptor.spatial_layers, descriptor.len), (Some(3), payload.len() - 1));
        assert!(descriptor.key_frame_start() && descriptor.frame_start && !descriptor.frame_end);
    }

    #[test]
    fn reads_layers_and_references_in_flexible_mode() {
        // I, P, L, F, E, Z; 7-bit picture id 5; TID 2, U, SID 1, D; two references, 1 and 4 pictures back.
        let payload = [0xf5, 0x05, 0x53, 0x03, 0x08, 0xaa];
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!((descriptor.temporal_layer, descriptor.spatial_layer), (2, 1));
        assert!(descriptor.switching_up && descriptor.refers_down && descriptor.refers_back);
        assert!(descriptor.frame_end && descriptor.unused_above && !descriptor.frame_start);
        assert_eq!((descriptor.differences, descriptor.len), ([1, 4, 0], 5));
        assert_eq!(descriptor.pictures.base_layer, None, "it is not counted in flexible mode");
    }

    #[test]
    fn only_the_base_layer_of_a_picture_without_references_starts_a_key_frame() {
        let starts = |payload: &[u8]| Vp9Descriptor::parse(payload).unwrap().key_frame_start();
        assert!(starts(&[0x08, 1]), "no layers at all");
        assert!(!starts(&[0x48, 1]), "an inter picture");
        assert!(!starts(&[0x00, 1]), "a later packet");
        assert!(!starts(&[0x28, 0x03, 0, 1]), "the next spatial layer of the key picture");
        for cut_short in [&[][..], &[0x08], &[0x88, 0x80, 1], &[0x28, 0, 1], &[0x58, 3], &[0x0a, 0x18, 1, 0x08, 1]] {
            assert_eq!(Vp9Descriptor::parse(cut_short), None, "{cut_short:?}");
        }
    }

    proptest! {
        #[test]
        fn shifting_changes_these_numbers_only(
            mut payload in proptest::collection::vec(any::<u8>(), 0..20), picture: u16, base_layer: u8,
        ) {
            let Some(mut before) = Vp9Descriptor::parse(&payload) else { return Ok(()) };
            before.pictures.lessen(&mut payload, PictureNumbers { picture, base_layer });
            if let Some(id) = before.pictures.picture_id.as_mut() {
                id.value = id.value.wrapping_sub(picture) & if id.long { 0x7fff } else { 0x7f };
            }
            if let Some((number, _)) = before.pictures.base_layer.as_mut() {
                *number = number.wrapping_sub(base_layer);
            }
            prop_assert_eq!(Some(before), Vp9Descriptor::parse(&payload));
        }
    }
}
