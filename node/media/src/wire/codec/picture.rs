//! Numbers of pictures in the payload descriptors of VP8 and VP9, which have them in the same form.

/// By which a decoder counts the frames of a stream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureNumbers {
    /// Of the frame; of 7 or 15 bits.
    pub picture: u16,
    /// Of the frame of the base layer that this one is or builds on, where that is counted.
    pub base_layer: u8,
}

impl PictureNumbers {
    /// Those of the next frame, if that is of the base layer.
    pub fn next(self) -> Self {
        Self { picture: self.picture.wrapping_add(1), base_layer: self.base_layer.wrapping_add(1) }
    }

    /// How far these are ahead.
    pub fn since(self, other: Self) -> Self {
        let Self { picture, base_layer } = self;
        Self { picture: picture.wrapping_sub(other.picture), base_layer: base_layer.wrapping_sub(other.base_layer) }
    }
}

/// A frame's number within its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureId {
    /// 7 or 15 bits.
    pub value: u16,
    /// Whether it has 15 bits.
    pub long: bool,
    /// Where in the payload its first byte is.
    pub offset: usize,
}

/// The numbers of a payload's frame and where they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureFields {
    /// Frame number.
    pub picture_id: Option<PictureId>,
    /// Number of the frame of the base layer that this one is or builds on, and where it is in the payload.
    pub base_layer: Option<(u8, usize)>,
}

impl PictureFields {
    /// The numbers, if there is at least that of the frame.
    pub(super) fn numbers(&self) -> Option<PictureNumbers> {
        let base_layer = self.base_layer.map_or(0, |(number, _)| number);
        Some(PictureNumbers { picture: self.picture_id?.value, base_layer })
    }

    /// Takes `by` off the numbers in the payload that they were read from.
    pub(super) fn lessen(&self, payload: &mut [u8], by: PictureNumbers) {
        if let Some((number, offset)) = self.base_layer
            && let Some(byte) = payload.get_mut(offset)
        {
            *byte = number.wrapping_sub(by.base_layer);
        }
        let Some(id) = self.picture_id else { return };
        let value = id.value.wrapping_sub(by.picture);
        if id.long {
            if let Some([high, low]) = payload.get_mut(id.offset..id.offset + 2) {
                [*high, *low] = (value & 0x7fff | 0x8000).to_be_bytes();
            }
        } else if let Some(byte) = payload.get_mut(id.offset) {
            *byte = (value & 0x7f) as u8;
        }
    }
}

/// Reads a number of 7 or 15 bits at the head of what is left, the bytes with their places.
pub(super) fn read_picture_id(mut next: impl FnMut() -> Option<(usize, u8)>) -> Option<PictureId> {
    let (offset, high) = next()?;
    let long = high & 0x80 != 0;
    let low = if long { Some(next()?.1) } else { None };
    let high = u16::from(high & 0x7f);
    Some(PictureId { value: low.map_or(high, |low| high << 8 | u16::from(low)), long, offset })
}
