//! Reading RTP headers in place (RFC 3550 section 5.1, RFC 8285), without copying what is not needed.

/// The fixed part of an RTP header, and where the rest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// Marker bit.
    pub marker: bool,
    /// Payload type.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence_number: u16,
    /// RTP timestamp.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Whether padding follows the payload.
    pub padding: bool,
    extensions: Option<(u16, usize, usize)>,
    payload_offset: usize,
}

impl RtpHeader {
    /// Reads the header of `packet`; `None` when it is cut short or no RTP.
    pub fn parse(packet: &[u8]) -> Option<Self> {
        let fixed = packet.first_chunk::<12>()?;
        if fixed[0] >> 6 != 2 {
            return None;
        }
        let mut payload_offset = 12 + usize::from(fixed[0] & 0x0f) * 4;
        let mut extensions = None;
        if fixed[0] & 0x10 != 0 {
            let head = packet.get(payload_offset..)?.first_chunk::<4>()?;
            let length = usize::from(u16::from_be_bytes([head[2], head[3]])) * 4;
            extensions = Some((u16::from_be_bytes([head[0], head[1]]), payload_offset + 4, length));
            payload_offset += 4 + length;
        }
        if packet.len() < payload_offset {
            return None;
        }
        Some(Self {
            marker: fixed[1] & 0x80 != 0,
            payload_type: fixed[1] & 0x7f,
            sequence_number: u16::from_be_bytes([fixed[2], fixed[3]]),
            timestamp: u32::from_be_bytes([fixed[4], fixed[5], fixed[6], fixed[7]]),
            ssrc: u32::from_be_bytes([fixed[8], fixed[9], fixed[10], fixed[11]]),
            padding: fixed[0] & 0x20 != 0,
            extensions,
            payload_offset,
        })
    }

    /// Bytes before the payload.
    pub fn payload_offset(&self) -> usize {
        self.payload_offset
    }

    /// The payload of the packet that this header was read from, without padding.
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        let payload = packet.get(self.payload_offset..).unwrap_or_default();
        match payload.last() {
            Some(&padding) if self.padding => {
                payload.get(..payload.len().saturating_sub(padding.into())).unwrap_or_default()
            }
            _ => payload,
        }
    }

    /// The value of a one-byte or two-byte header extension.
    pub fn extension<'a>(&self, packet: &'a [u8], id: u8) -> Option<&'a [u8]> {
        let (profile, offset, length) = self.extensions?;
        let mut rest = packet.get(offset..offset + length)?;
        while let Some((&first, tail)) = rest.split_first() {
            if first == 0 {
                rest = tail;
                continue;
            }
            let (found, len, tail) = if profile == 0xBEDE {
                if first >> 4 == 15 {
                    return None;
                }
                (first >> 4, usize::from(first & 0x0f) + 1, tail)
            } else {
                let (&len, tail) = tail.split_first()?;
                (first, usize::from(len), tail)
            };
            if found == id {
                return tail.get(..len);
            }
            rest = tail.get(len..)?;
        }
        None
    }
}

/// Turns 16-bit sequence numbers into ones that do not wrap, by the shorter way from the newest.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwrapper {
    newest: Option<i64>,
}

impl Unwrapper {
    /// The extended sequence number of `sequence_number`.
    pub fn unwrap(&mut self, sequence_number: u16) -> i64 {
        let extended = match self.newest {
            None => i64::from(sequence_number),
            Some(newest) => {
                let step = sequence_number.wrapping_sub(newest as u16) as i16;
                newest + i64::from(step)
            }
        };
        self.newest = Some(self.newest.map_or(extended, |newest| newest.max(extended)));
        extended
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;
    use rtc_rtp::header::{Extension, Header};
    use rtc_rtp::packet::Packet;
    use rtc_shared::marshal::{Marshal, Unmarshal};

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_webrtc_rs(marker: bool, payload_type in 0..128_u8, sequence_number: u16, timestamp: u32, ssrc: u32,
                values in prop::collection::btree_map(1..15_u8, prop::collection::vec(any::<u8>(), 1..16), 0..4),
                payload in prop::collection::vec(any::<u8>(), 0..50)) {
            let extensions: Vec<Extension> =
                values.iter().map(|(&id, value)| Extension { id, payload: Bytes::copy_from_slice(value) }).collect();
            let header = Header {
                version: 2, marker, payload_type, sequence_number, timestamp, ssrc,
                extension: !extensions.is_empty(), extension_profile: 0xBEDE, extensions, ..Header::default()
            };
            let bytes = Packet { header, payload: Bytes::from(payload.clone()) }.marshal().unwrap();
            let parsed = RtpHeader::parse(&bytes).unwrap();
            prop_assert_eq!(
                (parsed.marker, parsed.payload_type, parsed.sequence_number, parsed.timestamp, parsed.ssrc),
                (marker, payload_type, sequence_number, timestamp, ssrc)
            );
            prop_assert_eq!(parsed.payload(&bytes), &payload[..]);
            for id in 1..15 {
                prop_assert_eq!(parsed.extension(&bytes, id), values.get(&id).map(Vec::as_slice));
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..100), id: u8) {
            if let Some(header) = RtpHeader::parse(&bytes) {
                header.payload(&bytes);
                header.extension(&bytes, id);
                prop_assert!(Header::unmarshal(&mut &bytes[..]).is_ok() || header.extensions.is_some());
            }
        }
    }

    #[test]
    fn sequence_numbers_unwrap() {
        let mut unwrapper = Unwrapper::default();
        let extended: Vec<i64> = [65_534, 0, 65_535, 1, 65_000].map(|number| unwrapper.unwrap(number)).to_vec();
        assert_eq!(extended, [65_534, 65_536, 65_535, 65_537, 65_000]);
    }
}
