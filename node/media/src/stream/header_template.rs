//! The header of a consumer's packets, made once: each packet is a copy of it with a few fields entered. Only packets
//! that carry more than most do have one made for them.

use crate::wire::rtp::{
    AudioLevel, CarriedExtensions, Elements, ExtensionIds, FIXED_HEADER_LEN, RtpHeader, extensions_len, kinds_of,
    needs_two_bytes, write_extensions,
};

/// Room for the fixed header, the extension header and every extension with the longest mid, in the two-byte form.
const MAX_LEN: usize = 48;

/// Longest mid that a one-byte extension can hold.
pub(crate) const MAX_MID_LEN: usize = 16;

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderFields<'a> {
    /// The fixed header.
    pub header: RtpHeader,
    /// What the sending gives it.
    pub stamp: Stamp,
    /// Volume; of audio that does not tell nothing is said.
    pub audio_level: Option<AudioLevel>,
    /// What else it carries; of most packets nothing.
    pub carried: Option<&'a CarriedExtensions<'a>>,
}

/// What differs from one sending of a packet to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// 24 bits.
    pub abs_send_time: u32,
    /// Transport-wide sequence number.
    pub transport_wide_seq: u16,
}

/// A header with room for the extensions that the consumer's client wants.
#[derive(Debug, Clone)]
pub(crate) struct HeaderTemplate {
    bytes: [u8; MAX_LEN],
    len: u8,
    /// The client's ids, and a bit for each of what packets may carry that it wants.
    ids: ExtensionIds,
    wants: u8,
    two_byte: bool,
    /// Where the values are; 0 is nowhere.
    abs_send_time: u8,
    transport_wide_cc: u8,
    /// Where the whole element is. Its bytes are zero, which is padding, in packets that do not tell.
    audio_level: u8,
    mid: u8,
    mid_len: u8,
}

impl HeaderTemplate {
    /// A header with these extensions. A mid longer than [`MAX_MID_LEN`] is left out.
    pub(crate) fn new(ids: &ExtensionIds, mid: Option<&str>) -> Self {
        let mid = mid.map(str::as_bytes).filter(|mid| (1..=MAX_MID_LEN).contains(&mid.len()));
        let ids = ExtensionIds { mid: if mid.is_some() { ids.mid } else { 0 }, ..*ids };
        let written = [ids.mid, ids.abs_send_time, ids.transport_wide_cc, ids.audio_level];
        let mut template = Self {
            bytes: [0; MAX_LEN],
            len: FIXED_HEADER_LEN as u8,
            ids,
            wants: kinds_of(&ids),
            two_byte: written.iter().any(|id| needs_two_bytes(*id, 1)),
            abs_send_time: 0,
            transport_wide_cc: 0,
            audio_level: 0,
            mid: 0,
            mid_len: 0,
        };
        if written == [0; 4] {
            return template;
        }
        template.append(if template.two_byte { &[0x10, 0, 0, 0] } else { &[0xbe, 0xde, 0, 0] });
        if let (Some(mid), 1..) = (mid, ids.mid) {
            template.mid = template.element(ids.mid, mid);
            template.mid_len = mid.len() as u8;
        }
        template.abs_send_time = template.optional_element(ids.abs_send_time, &[0; 3]);
        template.transport_wide_cc = template.optional_element(ids.transport_wide_cc, &[0; 2]);
        if ids.audio_level != 0 {
            template.audio_level = template.len;
            template.append(if template.two_byte { &[0; 3] } else { &[0; 2] });
        }
        let padded = usize::from(template.len).next_multiple_of(4);
        let words = (padded - FIXED_HEADER_LEN - 4) / 4;
        if let Some(count) = template.bytes.get_mut(FIXED_HEADER_LEN + 3) {
            *count = words as u8;
        }
        template.len = padded as u8;
        template
    }

    fn append(&mut self, bytes: &[u8]) {
        let start = usize::from(self.len);
        if let Some(room) = self.bytes.get_mut(start..start + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len() as u8;
        }
    }

    fn element(&mut self, id: u8, value: &[u8]) -> u8 {
        let len = value.len() as u8;
        if self.two_byte {
            self.append(&[id, len]);
        } else {
            self.append(&[id << 4 | (len - 1)]);
        }
        let at = self.len;
        self.append(value);
        at
    }

    fn optional_element(&mut self, id: u8, value: &[u8]) -> u8 {
        if id == 0 { 0 } else { self.element(id, value) }
    }

    /// Whether the client wants any of these kinds of what packets may carry.
    #[inline]
    pub(crate) fn wants_any(&self, kinds: u8) -> bool {
        self.wants & kinds != 0
    }

    /// Of the extensions that a packet carries, those that the client wants; `None` if there is none of them.
    pub(crate) fn wanted<'a>(&self, carried: CarriedExtensions<'a>) -> Option<CarriedExtensions<'a>> {
        let of = |id: u8, value: Option<&'a [u8]>| value.filter(|_| id != 0);
        let wanted = CarriedExtensions {
            video_orientation: of(self.ids.video_orientation, carried.video_orientation),
            capture_time: of(self.ids.capture_time, carried.capture_time),
            playout_delay: of(self.ids.playout_delay, carried.playout_delay),
            layers_allocation: of(self.ids.layers_allocation, carried.layers_allocation),
            dependency_descriptor: of(self.ids.dependency_descriptor, carried.dependency_descriptor),
        };
        (!wanted.is_empty()).then_some(wanted)
    }

    /// Length of the header of a packet with this volume that carries this, in bytes.
    #[inline]
    pub(crate) fn header_len(&self, audio_level: Option<AudioLevel>, carried: Option<&CarriedExtensions<'_>>) -> usize {
        match carried {
            None => usize::from(self.len),
            Some(carried) => FIXED_HEADER_LEN + extensions_len(&self.elements(Stamp::default(), audio_level, carried)),
        }
    }

    /// Whether packets carry a transport-wide sequence number.
    pub(crate) fn has_transport_wide_seq(&self) -> bool {
        self.transport_wide_cc != 0
    }

    /// Writes the header, and returns the rest of `packet` for the payload.
    #[inline]
    pub(crate) fn write<'p>(&self, packet: &'p mut [u8], fields: &HeaderFields<'_>) -> &'p mut [u8] {
        if let Some(carried) = fields.carried {
            return self.write_carried(packet, fields, carried);
        }
        let len = usize::from(self.len);
        let Some((head, rest)) = packet.split_at_mut_checked(len) else { return &mut [] };
        head.copy_from_slice(self.bytes.get(..len).unwrap_or_default());
        if let Some(fixed) = head.first_chunk_mut() {
            *fixed = fields.header.to_bytes(len > FIXED_HEADER_LEN);
        }
        if self.abs_send_time != 0 {
            let [_, time @ ..] = fields.stamp.abs_send_time.to_be_bytes();
            put(head, self.abs_send_time, time);
        }
        if self.transport_wide_cc != 0 {
            put(head, self.transport_wide_cc, fields.stamp.transport_wide_seq.to_be_bytes());
        }
        if let (1.., Some(level)) = (self.audio_level, fields.audio_level) {
            let id = self.ids.audio_level;
            if self.two_byte {
                put(head, self.audio_level, [id, 1, level.to_byte()]);
            } else {
                put(head, self.audio_level, [id << 4, level.to_byte()]);
            }
        }
        rest
    }

    /// The same for a packet that carries more: its header is made for it alone.
    #[cold]
    fn write_carried<'p>(
        &self,
        packet: &'p mut [u8],
        fields: &HeaderFields<'_>,
        carried: &CarriedExtensions<'_>,
    ) -> &'p mut [u8] {
        let elements = self.elements(fields.stamp, fields.audio_level, carried);
        let len = FIXED_HEADER_LEN + extensions_len(&elements);
        let Some((head, rest)) = packet.split_at_mut_checked(len) else { return &mut [] };
        let Some((fixed, extensions)) = head.split_first_chunk_mut() else { return &mut [] };
        *fixed = fields.header.to_bytes(true);
        extensions.fill(0);
        write_extensions(&elements, extensions);
        rest
    }

    fn elements<'a>(
        &'a self,
        stamp: Stamp,
        audio_level: Option<AudioLevel>,
        carried: &CarriedExtensions<'a>,
    ) -> Elements<'a> {
        let mut elements = carried.elements(&self.ids, audio_level);
        let mid = usize::from(self.mid)..usize::from(self.mid + self.mid_len);
        elements.add(self.ids.mid, self.bytes.get(mid));
        let [_, time @ ..] = stamp.abs_send_time.to_be_bytes();
        elements.add_short(self.ids.abs_send_time, time);
        elements.add_short(self.ids.transport_wide_cc, stamp.transport_wide_seq.to_be_bytes());
        elements
    }
}

fn put<const N: usize>(head: &mut [u8], at: u8, value: [u8; N]) {
    if let Some(place) = head.get_mut(usize::from(at)..).and_then(<[u8]>::first_chunk_mut) {
        *place = value;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc_shared::marshal::Unmarshal;

    use super::*;
    use crate::wire::rtp::RtpPacket;
    use crate::wire::rtp::differential_tests::{assert_same_header, headers};

    fn fields() -> HeaderFields<'static> {
        HeaderFields {
            header: RtpHeader { marker: true, payload_type: 100, sequence_number: 1, timestamp: 2, ssrc: 3 },
            stamp: Stamp { abs_send_time: 0x12_3456, transport_wide_seq: 0x789a },
            audio_level: Some(AudioLevel { voice: true, level: 30 }),
            carried: None,
        }
    }

    #[test]
    fn every_extension_is_where_a_parser_looks_for_it() {
        let ids =
            ExtensionIds { mid: 1, abs_send_time: 4, transport_wide_cc: 5, audio_level: 10, ..Default::default() };
        let mid = "0123456789abcdef";
        let template = HeaderTemplate::new(&ids, Some(mid));
        let mut packet = vec![0xff; template.header_len(None, None) + 3];
        template.write(&mut packet, &fields()).copy_from_slice(b"abc");
        let packet = RtpPacket::parse(&packet).unwrap();
        assert_eq!((packet.header, packet.payload), (fields().header, &b"abc"[..]));
        let received = ids.read(packet.extensions);
        assert_eq!(received.mid, Some(mid.as_bytes()));
        assert_eq!(received.transport_wide_cc, Some(0x789a));
        assert_eq!(received.audio_level, fields().audio_level);
        assert!(packet.extensions.iter().any(|element| element == (4, &[0x12, 0x34, 0x56][..])));
    }

    #[test]
    fn a_level_that_nobody_told_is_not_made_up() {
        let ids = ExtensionIds { abs_send_time: 4, audio_level: 10, ..Default::default() };
        let template = HeaderTemplate::new(&ids, None);
        for audio_level in [fields().audio_level, None] {
            let mut packet = vec![0xff; template.header_len(None, None)];
            template.write(&mut packet, &HeaderFields { audio_level, ..fields() });
            let extensions = RtpPacket::parse(&packet).unwrap().extensions;
            assert_eq!(ids.read(extensions).audio_level, audio_level);
            assert_eq!(extensions.iter().count(), 1 + usize::from(audio_level.is_some()));
        }
    }

    #[test]
    fn what_a_packet_carries_comes_beside_what_all_have() {
        let ids = ExtensionIds { mid: 1, abs_send_time: 4, transport_wide_cc: 5, ..ExtensionIds::CANONICAL };
        let no_orientation = ExtensionIds { video_orientation: 0, ..ids };
        let (short, long) = ([7; 3], [7; 90]);
        for (ids, descriptor) in [(ids, &short[..]), (ids, &long), (no_orientation, &long)] {
            let template = HeaderTemplate::new(&ids, Some("0"));
            let carried = CarriedExtensions {
                video_orientation: Some(&[2]),
                dependency_descriptor: Some(descriptor),
                ..CarriedExtensions::default()
            };
            let wanted = template.wanted(carried);
            let fields = HeaderFields { carried: wanted.as_ref(), ..fields() };
            let len = template.header_len(fields.audio_level, fields.carried);
            let mut packet = vec![0xff; len + 3];
            template.write(&mut packet, &fields).copy_from_slice(b"abc");
            let packet = RtpPacket::parse(&packet).unwrap();
            assert_eq!((packet.header, packet.payload), (fields.header, &b"abc"[..]));
            let received = ids.read(packet.extensions);
            assert_eq!(received.mid, Some(&b"0"[..]));
            assert_eq!((received.transport_wide_cc, received.audio_level), (Some(0x789a), fields.audio_level));
            assert_eq!(received.carried.dependency_descriptor, Some(descriptor));
            assert_eq!(received.carried.video_orientation.is_some(), ids.video_orientation != 0);
        }
    }

    #[test]
    fn ids_above_14_are_written_in_the_two_byte_form() {
        let ids = ExtensionIds { mid: 16, abs_send_time: 4, audio_level: 10, ..Default::default() };
        let template = HeaderTemplate::new(&ids, Some("0"));
        let mut packet = vec![0xff; template.header_len(None, None)];
        template.write(&mut packet, &fields());
        let received = ids.read(RtpPacket::parse(&packet).unwrap().extensions);
        assert_eq!((received.mid, received.audio_level), (Some(&b"0"[..]), fields().audio_level));
    }

    #[test]
    fn no_extension_no_extension_header() {
        let template = HeaderTemplate::new(&ExtensionIds { mid: 1, ..Default::default() }, None);
        assert_eq!(template.header_len(None, None), FIXED_HEADER_LEN);
        let mut packet = [0; FIXED_HEADER_LEN];
        template.write(&mut packet, &fields());
        assert_eq!(packet[0], 0x80);
    }

    proptest! {
        /// Against rtc-rtp.
        #[test]
        fn others_read_what_is_written(
            header in headers(),
            abs_send_time in 0..1_u32 << 24,
            transport_wide_seq: u16,
            level in 0..128_u8,
            ids in prop::array::uniform4(prop::bool::ANY),
            mid in "[a-z0-9]{1,16}",
            payload in proptest::collection::vec(any::<u8>(), 1..100),
        ) {
            let id = |wanted: bool, id: u8| if wanted { id } else { 0 };
            let ids = ExtensionIds {
                mid: id(ids[0], 1),
                abs_send_time: id(ids[1], 4),
                transport_wide_cc: id(ids[2], 5),
                audio_level: id(ids[3], 10),
                ..ExtensionIds::default()
            };
            let template = HeaderTemplate::new(&ids, Some(&mid));
            let audio_level = AudioLevel { voice: true, level };
            let stamp = Stamp { abs_send_time, transport_wide_seq };
            let fields = HeaderFields { header, stamp, audio_level: Some(audio_level), carried: None };
            let mut bytes = vec![0; template.header_len(None, None) + payload.len()];
            template.write(&mut bytes, &fields).copy_from_slice(&payload);

            let theirs = rtc_rtp::Packet::unmarshal(&mut Bytes::from(bytes)).unwrap();
            assert_same_header(&theirs.header, header);
            prop_assert_eq!(&theirs.payload[..], &payload[..]);
            let value = |id: u8| theirs.header.get_extension(id).map(|value| value.to_vec());
            prop_assert_eq!(value(1), (ids.mid != 0).then(|| mid.into_bytes()));
            prop_assert_eq!(value(4), (ids.abs_send_time != 0).then(|| abs_send_time.to_be_bytes()[1..].to_vec()));
            prop_assert_eq!(value(5), (ids.transport_wide_cc != 0).then(|| transport_wide_seq.to_be_bytes().to_vec()));
            prop_assert_eq!(value(10), (ids.audio_level != 0).then(|| vec![audio_level.to_byte()]));
        }
    }
}
