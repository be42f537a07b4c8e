//! Header extensions that go with a packet through the mesh to whoever gets it, and the writing of elements in either
//! form of RFC 8285.

use super::extensions::{AudioLevel, ExtensionIds};

/// Longest dependency descriptor that goes with a packet. That of a key frame with three spatial and three temporal
/// layers has some 90 bytes; with all other extensions this leaves a header of 255 bytes at most.
pub(super) const MAX_DESCRIPTOR_LEN: usize = 150;

/// Longest allocation of layers: that of three streams with three layers each has some 40 bytes.
pub(super) const MAX_ALLOCATION_LEN: usize = 48;

/// Longest value of the one-byte form.
const MAX_SHORT_LEN: usize = 16;

/// Most elements that are written at a time.
const MAX_ELEMENTS: usize = 9;

/// What goes with a packet beside its volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CarriedExtensions<'a> {
    /// How a picture is to be turned: one byte, 3GPP TS 26.114.
    pub video_orientation: Option<&'a [u8]>,
    /// When it was captured: 8 bytes, or 16 with the offset of clocks.
    pub capture_time: Option<&'a [u8]>,
    /// How long it is to wait before it is shown: 3 bytes.
    pub playout_delay: Option<&'a [u8]>,
    /// Which layers the publisher sends.
    pub layers_allocation: Option<&'a [u8]>,
    /// What the frame is to others.
    pub dependency_descriptor: Option<&'a [u8]>,
}

impl<'a> CarriedExtensions<'a> {
    /// Whether there is nothing.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.kinds() == 0
    }

    /// A bit for each that there is, the same as [`kinds_of`] has for those that have an id.
    #[inline]
    pub(crate) fn kinds(&self) -> u8 {
        u8::from(self.video_orientation.is_some())
            | u8::from(self.capture_time.is_some()) << 1
            | u8::from(self.playout_delay.is_some()) << 2
            | u8::from(self.layers_allocation.is_some()) << 3
            | u8::from(self.dependency_descriptor.is_some()) << 4
    }

    /// Without what does not have the length that it should; `None` if nothing is left.
    #[inline]
    pub fn checked(&self) -> Option<Self> {
        if self.is_empty() { None } else { self.of_their_lengths() }
    }

    #[cold]
    fn of_their_lengths(&self) -> Option<Self> {
        let of_len = |value: Option<&'a [u8]>, lens: &[usize]| value.filter(|value| lens.contains(&value.len()));
        let descriptor = self.dependency_descriptor;
        let checked = Self {
            video_orientation: of_len(self.video_orientation, &[1]),
            capture_time: of_len(self.capture_time, &[8, 16]),
            playout_delay: of_len(self.playout_delay, &[3]),
            layers_allocation: self.layers_allocation.filter(|value| (1..=MAX_ALLOCATION_LEN).contains(&value.len())),
            dependency_descriptor: descriptor.filter(|value| (3..=MAX_DESCRIPTOR_LEN).contains(&value.len())),
        };
        (!checked.is_empty()).then_some(checked)
    }

    /// Those that `ids` has an id for, as elements, and the volume with them.
    pub(crate) fn elements(&self, ids: &ExtensionIds, audio_level: Option<AudioLevel>) -> Elements<'a> {
        let mut elements = Elements::default();
        elements.add_byte(ids.audio_level, audio_level.map(AudioLevel::to_byte));
        elements.add(ids.video_orientation, self.video_orientation);
        elements.add(ids.capture_time, self.capture_time);
        elements.add(ids.playout_delay, self.playout_delay);
        elements.add(ids.layers_allocation, self.layers_allocation);
        elements.add(ids.dependency_descriptor, self.dependency_descriptor);
        elements
    }
}

/// A bit for each of what packets may carry that has an id.
pub(crate) fn kinds_of(ids: &ExtensionIds) -> u8 {
    let ids =
        [ids.video_orientation, ids.capture_time, ids.playout_delay, ids.layers_allocation, ids.dependency_descriptor];
    ids.iter().enumerate().fold(0, |kinds, (bit, id)| kinds | u8::from(*id != 0) << bit)
}

/// A value of an element: most are somebody else's bytes.
#[derive(Debug, Clone, Copy)]
enum Value<'a> {
    Bytes(&'a [u8]),
    Short([u8; 3], u8),
}

impl Value<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Short(bytes, len) => bytes.get(..usize::from(*len)).unwrap_or_default(),
        }
    }
}

/// Elements on their way into a header.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Elements<'a> {
    elements: [Option<(u8, Value<'a>)>; MAX_ELEMENTS],
    len: usize,
    /// They are to be in the two-byte form, whatever they are.
    two_byte: bool,
}

impl<'a> Elements<'a> {
    fn push(&mut self, id: u8, value: Value<'a>) {
        self.two_byte |= needs_two_bytes(id, value.bytes().len());
        if let Some(place) = self.elements.get_mut(self.len) {
            *place = Some((id, value));
            self.len += 1;
        }
    }

    /// One more, if it has an id and a value.
    pub(crate) fn add(&mut self, id: u8, value: Option<&'a [u8]>) {
        if let (1.., Some(value)) = (id, value) {
            self.push(id, Value::Bytes(value));
        }
    }

    /// The same of one byte.
    pub(crate) fn add_byte(&mut self, id: u8, value: Option<u8>) {
        if let Some(value) = value {
            self.add_short(id, [value]);
        }
    }

    /// The same of up to three bytes that are not kept elsewhere.
    pub(crate) fn add_short<const N: usize>(&mut self, id: u8, value: [u8; N]) {
        let mut bytes = [0; 3];
        if let (1.., Some(room)) = (id, bytes.get_mut(..N)) {
            room.copy_from_slice(&value);
            self.push(id, Value::Short(bytes, N as u8));
        }
    }

    fn iter(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.elements.iter().flatten().map(|(id, value)| (*id, value.bytes()))
    }
}

/// Whether an element has to be written in the two-byte form, and all others of its packet with it.
pub(crate) fn needs_two_bytes(id: u8, len: usize) -> bool {
    id > 14 || !(1..=MAX_SHORT_LEN).contains(&len)
}

/// Bytes that the elements take with the header before them; 0 if there are none.
pub(crate) fn extensions_len(elements: &Elements<'_>) -> usize {
    let head = if elements.two_byte { 2 } else { 1 };
    let len: usize = elements.iter().map(|(_, value)| head + value.len()).sum();
    if len == 0 { 0 } else { 4 + len.next_multiple_of(4) }
}

/// Writes the elements with the header before them into as many zeros as [`extensions_len`] says.
pub(crate) fn write_extensions(elements: &Elements<'_>, out: &mut [u8]) {
    let words = (out.len() / 4).saturating_sub(1) as u16;
    let profile: u16 = if elements.two_byte { 0x1000 } else { 0xbede };
    let mut rest = out;
    let mut put = |bytes: &[u8]| {
        if let Some((place, after)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len()) {
            place.copy_from_slice(bytes);
            rest = after;
        }
    };
    put(&profile.to_be_bytes());
    put(&words.to_be_bytes());
    for (id, value) in elements.iter() {
        if elements.two_byte {
            put(&[id, value.len() as u8]);
        } else {
            put(&[id << 4 | (value.len().saturating_sub(1) as u8 & 0x0f)]);
        }
        put(value);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{FIXED_HEADER_LEN, RtpHeader, RtpPacket};
    use super::*;

    #[test]
    fn what_is_long_or_has_a_high_id_makes_all_elements_two_byte_ones() {
        let long = [7; 17];
        for (ids, descriptor, profile) in [
            (ExtensionIds::CANONICAL, &long[..16], [0xbe, 0xde]),
            (ExtensionIds::CANONICAL, &long[..], [0x10, 0]),
            (ExtensionIds { dependency_descriptor: 16, ..ExtensionIds::CANONICAL }, &long[..3], [0x10, 0]),
        ] {
            let carried = CarriedExtensions {
                video_orientation: Some(&[1]),
                dependency_descriptor: Some(descriptor),
                ..CarriedExtensions::default()
            };
            let elements = carried.elements(&ids, None);
            let header = RtpHeader { marker: false, payload_type: 96, sequence_number: 1, timestamp: 2, ssrc: 3 };
            let mut packet = header.to_bytes(true).to_vec();
            packet.resize(FIXED_HEADER_LEN + extensions_len(&elements), 0);
            write_extensions(&elements, &mut packet[FIXED_HEADER_LEN..]);
            assert_eq!(packet[FIXED_HEADER_LEN..][..2], profile);
            let parsed = RtpPacket::parse(&packet).unwrap();
            assert!(parsed.payload.is_empty());
            assert_eq!(ids.read(parsed.extensions).carried, carried);
        }
    }

    #[test]
    fn values_of_wrong_lengths_are_left_out() {
        let wrong = CarriedExtensions {
            video_orientation: Some(&[]),
            capture_time: Some(&[0; 9]),
            playout_delay: Some(&[0; 2]),
            layers_allocation: Some(&[0; 49]),
            dependency_descriptor: Some(&[0; 2]),
        };
        assert_eq!(wrong.checked(), None);
    }
}
