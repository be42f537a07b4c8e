//! The header of a consumer's packets, made once: each packet is a copy of it with a few fields entered.

use crate::wire::rtp::{AudioLevel, ExtensionIds, FIXED_HEADER_LEN, RtpHeader};

/// Room for the fixed header, the extension header and every extension with the longest mid.
const MAX_LEN: usize = 48;

/// Longest mid that a one-byte extension can hold.
pub(crate) const MAX_MID_LEN: usize = 16;

/// What differs from packet to packet.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeaderFields {
    /// The fixed header.
    pub header: RtpHeader,
    /// What the sending gives it.
    pub stamp: Stamp,
    /// Volume; of audio that does not tell nothing is said.
    pub audio_level: Option<AudioLevel>,
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
    /// Where the values are; 0 is nowhere.
    abs_send_time: u8,
    transport_wide_cc: u8,
    /// Where the whole element is. Its bytes are zero, which is padding, in packets that do not tell.
    audio_level: u8,
    audio_level_id: u8,
}

impl HeaderTemplate {
    /// A header with these extensions. A mid longer than [`MAX_MID_LEN`] is left out.
    pub(crate) fn new(ids: &ExtensionIds, mid: Option<&str>) -> Self {
        let mut template = Self {
            bytes: [0; MAX_LEN],
            len: FIXED_HEADER_LEN as u8,
            abs_send_time: 0,
            transport_wide_cc: 0,
            audio_level: 0,
            audio_level_id: ids.audio_level,
        };
        let mid = mid.map(str::as_bytes).filter(|mid| (1..=MAX_MID_LEN).contains(&mid.len()));
        let has_extensions = (ids.mid != 0 && mid.is_some())
            || ids.abs_send_time != 0
            || ids.transport_wide_cc != 0
            || ids.audio_level != 0;
        if !has_extensions {
            return template;
        }
        template.append(&[0xbe, 0xde, 0, 0]);
        if let (Some(mid), 1..) = (mid, ids.mid) {
            template.element(ids.mid, mid);
        }
        template.abs_send_time = template.optional_element(ids.abs_send_time, &[0; 3]);
        template.transport_wide_cc = template.optional_element(ids.transport_wide_cc, &[0; 2]);
        if ids.audio_level != 0 {
            template.audio_level = template.len;
            template.append(&[0; 2]);
        }
        let padded = template.header_len().next_multiple_of(4);
        let words = (padded - FIXED_HEADER_LEN - 4) / 4;
        if let Some(count) = template.bytes.get_mut(FIXED_HEADER_LEN + 3) {
            *count = words as u8;
        }
        template.len = padded as u8;
        template
    }

    fn append(&mut self, bytes: &[u8]) {
        let start = self.header_len();
        if let Some(room) = self.bytes.get_mut(start..start + bytes.len()) {
            room.copy_from_slice(bytes);
            self.len += bytes.len() as u8;
        }
    }

    fn element(&mut self, id: u8, value: &[u8]) -> u8 {
        self.append(&[id << 4 | (value.len() - 1) as u8]);
        let at = self.len;
        self.append(value);
        at
    }

    fn optional_element(&mut self, id: u8, value: &[u8]) -> u8 {
        if id == 0 { 0 } else { self.element(id, value) }
    }

    /// Length of the header in bytes.
    pub(crate) fn header_len(&self) -> usize {
        usize::from(self.len)
    }

    /// Whether packets carry a transport-wide sequence number.
    pub(crate) fn has_transport_wide_seq(&self) -> bool {
        self.transport_wide_cc != 0
    }

    /// Writes the header, and returns the rest of `packet` for the payload.
    pub(crate) fn write<'p>(&self, packet: &'p mut [u8], fields: &HeaderFields) -> &'p mut [u8] {
        let Some((head, rest)) = packet.split_at_mut_checked(self.header_len()) else { return &mut [] };
        head.copy_from_slice(self.bytes.get(..self.header_len()).unwrap_or_default());
        if let Some(fixed) = head.first_chunk_mut() {
            *fixed = fields.header.to_bytes(self.header_len() > FIXED_HEADER_LEN);
        }
        if self.abs_send_time != 0 {
            let [_, time @ ..] = fields.stamp.abs_send_time.to_be_bytes();
            put(head, self.abs_send_time, time);
        }
        if self.transport_wide_cc != 0 {
            put(head, self.transport_wide_cc, fields.stamp.transport_wide_seq.to_be_bytes());
        }
        if let (1.., Some(level)) = (self.audio_level, fields.audio_level) {
            put(head, self.audio_level, [self.audio_level_id << 4, level.to_byte()]);
        }
        rest
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

    fn fields() -> HeaderFields {
        HeaderFields {
            header: RtpHeader { marker: true, payload_type: 100, sequence_number: 1, timestamp: 2, ssrc: 3 },
            stamp: Stamp { abs_send_time: 0x12_3456, transport_wide_seq: 0x789a },
            audio_level: Some(AudioLevel { voice: true, level: 30 }),
        }
    }

    #[test]
    fn every_extension_is_where_a_parser_looks_for_it() {
        let ids =
            ExtensionIds { mid: 1, abs_send_time: 4, transport_wide_cc: 5, audio_level: 10, ..Default::default() };
        let mid = "0123456789abcdef";
        let template = HeaderTemplate::new(&ids, Some(mid));
        let mut packet = vec![0xff; template.header_len() + 3];
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
            let mut packet = vec![0xff; template.header_len()];
            template.write(&mut packet, &HeaderFields { audio_level, ..fields() });
            let extensions = RtpPacket::parse(&packet).unwrap().extensions;
            assert_eq!(ids.read(extensions).audio_level, audio_level);
            assert_eq!(extensions.iter().count(), 1 + usize::from(audio_level.is_some()));
        }
    }

    #[test]
    fn no_extension_no_extension_header() {
        let template = HeaderTemplate::new(&ExtensionIds { mid: 1, ..Default::default() }, None);
        assert_eq!(template.header_len(), FIXED_HEADER_LEN);
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
            let fields = HeaderFields { header, stamp, audio_level: Some(audio_level) };
            let mut bytes = vec![0; template.header_len() + payload.len()];
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
