//! Header extensions, RFC 8285: the one-byte and the two-byte form, and the few extensions that Sluice reads and
//! writes.

use sluice_proto::ortc::{RtpHeaderExtensionParameters, RtpHeaderExtensionUri};

use super::carried_extensions::CarriedExtensions;

/// How the extensions of a packet are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum ExtensionProfile {
    /// Ids 1 to 14, 1 to 16 bytes each.
    OneByte,
    /// Ids 1 to 255, 0 to 255 bytes each.
    TwoByte,
    /// Something that RFC 8285 knows nothing of.
    #[default]
    Unknown,
}

impl ExtensionProfile {
    pub(super) fn from_wire(profile: u16) -> Self {
        match profile {
            0xbede => Self::OneByte,
            0x1000..=0x100f => Self::TwoByte,
            _ => Self::Unknown,
        }
    }
}

/// The header extensions of a packet, still encoded.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extensions<'a> {
    profile: ExtensionProfile,
    data: &'a [u8],
}

impl<'a> Extensions<'a> {
    pub(super) fn new(profile: ExtensionProfile, data: &'a [u8]) -> Self {
        Self { profile, data }
    }

    /// Ids and values, as far as they are well formed.
    pub fn iter(self) -> impl Iterator<Item = (u8, &'a [u8])> {
        let mut rest = self.data;
        std::iter::from_fn(move || {
            // Zero bytes between elements are padding, RFC 8285 section 4.1.2.
            while let Some((0, after)) = rest.split_first() {
                rest = after;
            }
            let (id, len, after) = match self.profile {
                ExtensionProfile::OneByte => {
                    let (&head, after) = rest.split_first()?;
                    // Id 15 ends the elements, and so does id 0 with a length: padding has none, RFC 8285 section 4.2.
                    (1..15).contains(&(head >> 4)).then_some((head >> 4, usize::from(head & 0x0f) + 1, after))?
                }
                ExtensionProfile::TwoByte => {
                    let (&[id, len], after) = rest.split_first_chunk::<2>()?;
                    (id, usize::from(len), after)
                }
                ExtensionProfile::Unknown => return None,
            };
            let (value, after) = after.split_at_checked(len)?;
            rest = after;
            Some((id, value))
        })
    }
}

/// Volume of an audio packet, RFC 6464.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioLevel {
    /// The encoder believes that it is speech.
    pub voice: bool,
    /// 0 (loudest) to 127 (silent), in -dBov.
    pub level: u8,
}

impl AudioLevel {
    /// From the extension's value.
    pub fn from_byte(byte: u8) -> Self {
        Self { voice: byte & 0x80 != 0, level: byte & 0x7f }
    }

    /// As the extension's value.
    pub fn to_byte(self) -> u8 {
        u8::from(self.voice) << 7 | self.level & 0x7f
    }
}

/// The ids that one side gave to the extensions that Sluice knows; 0 is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: u8,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    pub rid: u8,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    pub repaired_rid: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    pub abs_send_time: u8,
    /// `draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    pub transport_wide_cc: u8,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`.
    pub audio_level: u8,
    /// `urn:3gpp:video-orientation`.
    pub video_orientation: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`.
    pub capture_time: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`.
    pub playout_delay: u8,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00`.
    pub layers_allocation: u8,
    /// `https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension`.
    pub dependency_descriptor: u8,
}

impl ExtensionIds {
    /// Those that extensions have inside the mesh: the router's.
    pub const CANONICAL: Self = Self {
        mid: 0,
        rid: 0,
        repaired_rid: 0,
        abs_send_time: 0,
        transport_wide_cc: 0,
        audio_level: 10,
        video_orientation: 11,
        capture_time: 13,
        playout_delay: 14,
        layers_allocation: 9,
        dependency_descriptor: 8,
    };

    /// The ids in a side's RTP parameters, RFC 8285 section 4.3: 15 is none.
    pub fn new(parameters: &[RtpHeaderExtensionParameters]) -> Self {
        let mut ids = Self::default();
        for extension in parameters {
            let Some(id) = u8::try_from(extension.id).ok().filter(|id| !matches!(id, 0 | 15)) else { continue };
            match extension.uri {
                RtpHeaderExtensionUri::Mid => ids.mid = id,
                RtpHeaderExtensionUri::RtpStreamId => ids.rid = id,
                RtpHeaderExtensionUri::RepairRtpStreamId => ids.repaired_rid = id,
                RtpHeaderExtensionUri::AbsSendTime => ids.abs_send_time = id,
                RtpHeaderExtensionUri::TransportWideCcDraft01 => ids.transport_wide_cc = id,
                RtpHeaderExtensionUri::SsrcAudioLevel => ids.audio_level = id,
                RtpHeaderExtensionUri::VideoOrientation => ids.video_orientation = id,
                RtpHeaderExtensionUri::AbsCaptureTime => ids.capture_time = id,
                RtpHeaderExtensionUri::PlayoutDelay => ids.playout_delay = id,
                RtpHeaderExtensionUri::DependencyDescriptor => ids.dependency_descriptor = id,
                RtpHeaderExtensionUri::VideoLayersAllocation => ids.layers_allocation = id,
            }
        }
        ids
    }

    /// Takes over what another part of the same transport's parameters says: all of a transport's ids are one space.
    pub fn merge(&mut self, other: Self) {
        let pairs = [
            (&mut self.mid, other.mid),
            (&mut self.rid, other.rid),
            (&mut self.repaired_rid, other.repaired_rid),
            (&mut self.abs_send_time, other.abs_send_time),
            (&mut self.transport_wide_cc, other.transport_wide_cc),
            (&mut self.audio_level, other.audio_level),
            (&mut self.video_orientation, other.video_orientation),
            (&mut self.capture_time, other.capture_time),
            (&mut self.playout_delay, other.playout_delay),
            (&mut self.layers_allocation, other.layers_allocation),
            (&mut self.dependency_descriptor, other.dependency_descriptor),
        ];
        for (id, new) in pairs {
            if new != 0 {
                *id = new;
            }
        }
    }

    /// Reads the extensions that receiving a packet needs, in one pass.
    pub fn read<'a>(&self, extensions: Extensions<'a>) -> ReceivedExtensions<'a> {
        let mut received = ReceivedExtensions::default();
        for (id, value) in extensions.iter() {
            if id == self.transport_wide_cc {
                received.transport_wide_cc = value.first_chunk().map(|&seq| u16::from_be_bytes(seq));
            } else if id == self.mid {
                received.mid = Some(value);
            } else if id == self.audio_level {
                received.audio_level = value.first().map(|&byte| AudioLevel::from_byte(byte));
            } else if id == self.rid {
                received.rid = Some(value);
            } else if id == self.repaired_rid {
                received.repaired_rid = Some(value);
            } else if id == self.dependency_descriptor {
                received.carried.dependency_descriptor = Some(value);
            } else if id == self.video_orientation {
                received.carried.video_orientation = Some(value);
            } else if id == self.capture_time {
                received.carried.capture_time = Some(value);
            } else if id == self.playout_delay {
                received.carried.playout_delay = Some(value);
            } else if id == self.layers_allocation {
                received.carried.layers_allocation = Some(value);
            }
        }
        received
    }
}

/// What a packet's header extensions say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceivedExtensions<'a> {
    /// Which media section the packet belongs to.
    pub mid: Option<&'a [u8]>,
    /// Which encoding it belongs to.
    pub rid: Option<&'a [u8]>,
    /// Which encoding it repairs.
    pub repaired_rid: Option<&'a [u8]>,
    /// Transport-wide sequence number.
    pub transport_wide_cc: Option<u16>,
    /// Volume.
    pub audio_level: Option<AudioLevel>,
    /// What goes with the packet to whoever gets it.
    pub carried: CarriedExtensions<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(profile: u16, data: &[u8]) -> Vec<(u8, &[u8])> {
        Extensions::new(ExtensionProfile::from_wire(profile), data).iter().collect()
    }

    #[test]
    fn reads_both_forms() {
        assert_eq!(parse(0xbede, &[0x11, 1, 2, 0, 0x30, 7]), [(1, &[1, 2][..]), (3, &[7])]);
        assert_eq!(parse(0x1000, &[200, 2, 1, 2, 0, 3, 0]), [(200, &[1, 2][..]), (3, &[])]);
        assert_eq!(parse(0xbede, &[0x11, 1, 2, 0xf0, 0x30, 7]), [(1, &[1, 2][..])], "15 ends the elements");
        assert_eq!(parse(0xbede, &[0x11, 1, 2, 0x01, 7, 7, 0x30, 7]), [(1, &[1, 2][..])], "padding has no length");
        assert_eq!(parse(0xbede, &[0x1f, 1, 2]), [], "longer than the packet");
        assert_eq!(parse(0x1234, &[0x11, 1, 2]), []);
    }

    #[test]
    fn ids_above_14_are_read_in_the_two_byte_form() {
        let parameter = |uri, id| RtpHeaderExtensionParameters { uri, id, encrypt: false };
        let ids = ExtensionIds::new(&[
            parameter(RtpHeaderExtensionUri::Mid, 255),
            parameter(RtpHeaderExtensionUri::TransportWideCcDraft01, 16),
            parameter(RtpHeaderExtensionUri::SsrcAudioLevel, 14),
            parameter(RtpHeaderExtensionUri::AbsSendTime, 15),
            parameter(RtpHeaderExtensionUri::RtpStreamId, 256),
        ]);
        let data = [255, 1, b'0', 16, 2, 0, 9, 14, 1, 0x80, 15, 3, 1, 1, 1, 0];
        let received = ids.read(Extensions::new(ExtensionProfile::TwoByte, &data));
        let audio_level = Some(AudioLevel { voice: true, level: 0 });
        assert_eq!((received.mid, received.transport_wide_cc), (Some(&b"0"[..]), Some(9)));
        assert_eq!((received.audio_level, received.rid), (audio_level, None));
    }

    #[test]
    fn absent_ids_match_nothing() {
        let ids = ExtensionIds { mid: 1, ..ExtensionIds::default() };
        for after in [[0, 0, 0], [0x01, 7, 7]] {
            let elements = [&[0x10, b'0'][..], &after].concat();
            let received = ids.read(Extensions::new(ExtensionProfile::OneByte, &elements));
            assert_eq!(received, ReceivedExtensions { mid: Some(b"0"), ..ReceivedExtensions::default() });
        }
    }
}
