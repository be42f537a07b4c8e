//! The fixed header, RFC 3550 section 5.1, and the form that packets have inside the mesh.

use super::carried_extensions::{CarriedExtensions, extensions_len, write_extensions};
use super::extensions::{AudioLevel, ExtensionIds, ExtensionProfile, Extensions};

/// Length of an RTP header without CSRCs and extensions.
pub const FIXED_HEADER_LEN: usize = 12;

/// Length of the header extension that has nothing but the audio level inside the mesh.
const AUDIO_LEVEL_LEN: usize = 8;

/// The fields of the fixed header that survive forwarding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit: the last packet of a video frame, the first one after silence.
    pub marker: bool,
    /// Payload type, 7 bits.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence_number: u16,
    /// Timestamp in units of the codec's clock rate.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// A view of a packet. CSRCs are skipped, padding is cut off.
#[derive(Debug, Clone, Copy)]
pub struct RtpPacket<'a> {
    /// The fixed header.
    pub header: RtpHeader,
    /// The header extensions.
    pub extensions: Extensions<'a>,
    /// The payload without padding; empty when the packet is only padding.
    pub payload: &'a [u8],
    /// The padding claims to be nothing, or more than there is. Where the payload ends nobody knows, so it is empty.
    pub malformed: bool,
}

impl<'a> RtpPacket<'a> {
    /// Reads a packet; `None` if it is no RTP or is shorter than its headers claim.
    #[inline]
    pub fn parse(data: &'a [u8]) -> Option<Self> {
        let (fixed, mut rest) = data.split_first_chunk::<FIXED_HEADER_LEN>()?;
        let [first, second, seq @ .., t0, t1, t2, t3, s0, s1, s2, s3] = *fixed;
        if first >> 6 != 2 {
            return None;
        }
        rest = rest.get(usize::from(first & 0x0f) * 4..)?;
        let mut extensions = Extensions::default();
        if first & 0x10 != 0 {
            let (&[p0, p1, l0, l1], after) = rest.split_first_chunk::<4>()?;
            let (data, after) = after.split_at_checked(usize::from(u16::from_be_bytes([l0, l1])) * 4)?;
            extensions = Extensions::new(ExtensionProfile::from_wire(u16::from_be_bytes([p0, p1])), data);
            rest = after;
        }
        let payload = if first & 0x20 == 0 { Some(rest) } else { without_padding(rest) };
        Some(Self {
            header: RtpHeader {
                marker: second & 0x80 != 0,
                payload_type: second & 0x7f,
                sequence_number: u16::from_be_bytes(seq),
                timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
                ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            },
            extensions,
            payload: payload.unwrap_or_default(),
            malformed: payload.is_none(),
        })
    }
}

/// RFC 3550 section 5.1: the last byte counts the padding, itself included.
fn without_padding(data: &[u8]) -> Option<&[u8]> {
    let padding = usize::from(*data.last()?);
    data.get(..data.len().checked_sub(padding)?).filter(|_| padding > 0)
}

impl RtpHeader {
    /// The fixed header of a packet without padding and CSRCs.
    pub fn to_bytes(self, extension: bool) -> [u8; FIXED_HEADER_LEN] {
        let [q0, q1] = self.sequence_number.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [s0, s1, s2, s3] = self.ssrc.to_be_bytes();
        let first = 0x80 | u8::from(extension) << 4;
        let second = u8::from(self.marker) << 7 | self.payload_type & 0x7f;
        [first, second, q0, q1, t0, t1, t2, t3, s0, s1, s2, s3]
    }
}

/// Length of the header that a packet has inside the mesh, 255 at most.
#[inline]
pub fn canonical_header_len(audio_level: Option<AudioLevel>, carried: Option<&CarriedExtensions<'_>>) -> usize {
    let extensions = match (audio_level, carried) {
        (_, Some(carried)) => extensions_len(&carried.elements(&ExtensionIds::CANONICAL, audio_level)),
        (Some(_), None) => AUDIO_LEVEL_LEN,
        (None, None) => 0,
    };
    FIXED_HEADER_LEN + extensions
}

/// Appends the header that a packet has inside the mesh: no CSRC, no padding, and of extensions only what goes with it
/// to whoever gets it.
pub fn write_canonical_header(
    header: RtpHeader,
    audio_level: Option<AudioLevel>,
    carried: Option<&CarriedExtensions<'_>>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(&header.to_bytes(audio_level.is_some() || carried.is_some()));
    if let Some(carried) = carried {
        let elements = carried.elements(&ExtensionIds::CANONICAL, audio_level);
        let start = out.len();
        out.resize(start + extensions_len(&elements), 0);
        write_extensions(&elements, out.get_mut(start..).unwrap_or_default());
    } else if let Some(level) = audio_level {
        let id = ExtensionIds::CANONICAL.audio_level;
        out.extend_from_slice(&[0xbe, 0xde, 0, 1, id << 4, level.to_byte(), 0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::carried_extensions::{MAX_ALLOCATION_LEN, MAX_DESCRIPTOR_LEN};
    use super::*;

    #[test]
    fn reads_csrcs_extensions_and_padding() {
        let packet = [
            0xb1, 0xe0, 0x12, 0x34, 0, 0, 0, 7, 0, 0, 0, 9, // fixed, one CSRC, extension, padding
            1, 2, 3, 4, // the CSRC
            0xbe, 0xde, 0, 1, 0x10, 0x61, 0, 0, // mid "a" with id 1
            0xaa, 0xbb, 0, 2, // payload and padding
        ];
        let view = RtpPacket::parse(&packet).unwrap();
        assert_eq!(
            view.header,
            RtpHeader { marker: true, payload_type: 96, sequence_number: 0x1234, timestamp: 7, ssrc: 9 }
        );
        assert_eq!(view.payload, [0xaa, 0xbb]);
        assert_eq!(view.extensions.iter().collect::<Vec<_>>(), [(1, &b"a"[..])]);
    }

    #[test]
    fn refuses_what_is_cut_short() {
        let packet = [0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xbe, 0xde, 0, 2, 0, 0, 0, 0];
        assert!(RtpPacket::parse(&packet).is_none());
        assert!(RtpPacket::parse(&packet[..11]).is_none());
        assert!(RtpPacket::parse(&[0x40; 20]).is_none());
    }

    #[test]
    fn padding_that_cannot_be_leaves_the_header_and_nothing_else() {
        let parse = |end: &[u8]| {
            let packet = [&[0xa0, 96, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0], end].concat();
            let packet = RtpPacket::parse(&packet).unwrap();
            assert_eq!(packet.header.sequence_number, 7);
            (packet.payload.to_vec(), packet.malformed)
        };
        assert_eq!(parse(&[1, 2, 3, 0, 0, 3]), (vec![1, 2, 3], false));
        assert_eq!(parse(&[0, 0, 3]), (vec![], false));
        for malformed in [&[1, 2, 3, 0][..], &[0, 3], &[]] {
            assert_eq!(parse(malformed), (vec![], true));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(packet) = RtpPacket::parse(&data) {
                prop_assert!(packet.payload.len() <= data.len());
                packet.extensions.iter().count();
            }
        }

        #[test]
        fn canonical_headers_round_trip(
            marker: bool, payload_type in 0..128_u8, sequence_number: u16, timestamp: u32, ssrc: u32,
            level in proptest::option::of((any::<bool>(), 0..128_u8)), payload in proptest::collection::vec(any::<u8>(), 0..50),
            orientation: Option<[u8; 1]>, delay: Option<[u8; 3]>, time: Option<[u8; 16]>,
            allocation in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..=MAX_ALLOCATION_LEN)),
            descriptor in proptest::option::of(proptest::collection::vec(any::<u8>(), 3..=MAX_DESCRIPTOR_LEN)),
        ) {
            let carried = CarriedExtensions {
                video_orientation: orientation.as_ref().map(|value| &value[..]),
                playout_delay: delay.as_ref().map(|value| &value[..]),
                capture_time: time.as_ref().map(|value| &value[..]),
                layers_allocation: allocation.as_deref(),
                dependency_descriptor: descriptor.as_deref(),
            };
            let header = RtpHeader { marker, payload_type, sequence_number, timestamp, ssrc };
            let level = level.map(|(voice, level)| AudioLevel { voice, level });
            let mut bytes = Vec::new();
            let carried = carried.checked();
            write_canonical_header(header, level, carried.as_ref(), &mut bytes);
            prop_assert_eq!(bytes.len(), canonical_header_len(level, carried.as_ref()));
            prop_assert!(bytes.len() <= 255);
            bytes.extend_from_slice(&payload);
            let packet = RtpPacket::parse(&bytes).unwrap();
            prop_assert_eq!(packet.header, header);
            prop_assert_eq!(packet.payload, &payload[..]);
            let received = ExtensionIds::CANONICAL.read(packet.extensions);
            prop_assert_eq!((received.audio_level, received.carried), (level, carried.unwrap_or_default()));
        }
    }
}
