//! When two codecs are the same, and what a codec's parameters say.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};

use sluice_proto::ortc::{
    MimeType, MimeTypeAudio, MimeTypeVideo, RtcpFeedback, RtpCodecCapability, RtpCodecCapabilityFinalized,
    RtpCodecParameters, RtpCodecParametersParameters, RtpCodecParametersParametersValue,
};

/// What the three codec types of mediasoup have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Codec<'a> {
    pub(super) mime_type: MimeType,
    clock_rate: NonZeroU32,
    /// Only of audio.
    channels: Option<NonZeroU8>,
    pub(super) parameters: &'a RtpCodecParametersParameters,
    pub(super) rtcp_feedback: &'a [RtcpFeedback],
}

impl Codec<'_> {
    pub(super) fn is_rtx(&self) -> bool {
        matches!(self.mime_type, MimeType::Audio(MimeTypeAudio::Rtx) | MimeType::Video(MimeTypeVideo::Rtx))
    }

    /// The payload type that an RTX codec repairs, RFC 4588 section 8.1.
    pub(super) fn apt(&self) -> Option<u8> {
        number(self.parameters, "apt").and_then(|apt| u8::try_from(apt).ok())
    }

    /// Whether packets of the one can be decoded by whoever announced the other.
    pub(super) fn matches(&self, other: &Codec<'_>) -> bool {
        let same =
            self.mime_type == other.mime_type && self.clock_rate == other.clock_rate && self.channels == other.channels;
        same && match self.mime_type {
            MimeType::Video(MimeTypeVideo::H264) => h264_matches(self.parameters, other.parameters),
            MimeType::Video(MimeTypeVideo::Vp9) => same_profile("profile-id", self.parameters, other.parameters),
            MimeType::Video(MimeTypeVideo::AV1) => same_profile("profile", self.parameters, other.parameters),
            MimeType::Video(MimeTypeVideo::H265) => h265_matches(self.parameters, other.parameters),
            _ => true,
        }
    }
}

/// As SDP writes it, with the parameters as JSON.
impl fmt::Display for Codec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.mime_type.as_str(), self.clock_rate)?;
        if let Some(channels) = self.channels {
            write!(f, "/{channels}")?;
        }
        match serde_json::to_string(self.parameters) {
            Ok(parameters) if parameters != "{}" => write!(f, " {parameters}"),
            _ => Ok(()),
        }
    }
}

macro_rules! view {
    ($codec:ident) => {
        impl<'a> From<&'a $codec> for Codec<'a> {
            fn from(codec: &'a $codec) -> Self {
                match codec {
                    $codec::Audio { mime_type, clock_rate, channels, parameters, rtcp_feedback, .. } => Codec {
                        mime_type: MimeType::Audio(*mime_type),
                        clock_rate: *clock_rate,
                        channels: Some(*channels),
                        parameters,
                        rtcp_feedback,
                    },
                    $codec::Video { mime_type, clock_rate, parameters, rtcp_feedback, .. } => Codec {
                        mime_type: MimeType::Video(*mime_type),
                        clock_rate: *clock_rate,
                        channels: None,
                        parameters,
                        rtcp_feedback,
                    },
                }
            }
        }
    };
}

view!(RtpCodecCapability);
view!(RtpCodecCapabilityFinalized);
view!(RtpCodecParameters);

/// RFC 9628 section 6.1 and the AV1 RTP specification, section 7.2: profiles must be the same, without one the first is
/// meant.
fn same_profile(name: &str, a: &RtpCodecParametersParameters, b: &RtpCodecParametersParameters) -> bool {
    let profile = |parameters| number(parameters, name).unwrap_or(0);
    profile(a) == profile(b)
}

/// RFC 7798 section 7.1: the same profile, of which the first is meant without one, and all in one stream.
fn h265_matches(a: &RtpCodecParametersParameters, b: &RtpCodecParametersParameters) -> bool {
    let profile = |parameters| number(parameters, "profile-id").unwrap_or(1);
    let tier = |parameters| number(parameters, "tier-flag").unwrap_or(0);
    profile(a) == profile(b) && tier(a) == tier(b)
}

/// RFC 6184 section 8.2.2: packetization mode and profile must be the same; the level may differ.
fn h264_matches(a: &RtpCodecParametersParameters, b: &RtpCodecParametersParameters) -> bool {
    let mode = |parameters| number(parameters, "packetization-mode").unwrap_or(0);
    match (H264Profile::of(a), H264Profile::of(b)) {
        (Some(profile_a), Some(profile_b)) => mode(a) == mode(b) && profile_a == profile_b,
        _ => false,
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum H264Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    PredictiveHigh444,
}

impl H264Profile {
    /// Of a codec's `profile-level-id`; without one, constrained baseline is meant.
    fn of(parameters: &RtpCodecParametersParameters) -> Option<Self> {
        let id = match parameters.get("profile-level-id") {
            None => return Some(Self::ConstrainedBaseline),
            // A client whose SDP parser turns digits into numbers says 640032 without quotes.
            Some(RtpCodecParametersParametersValue::Number(digits)) => {
                u32::from_str_radix(&digits.to_string(), 16).ok()?
            }
            Some(RtpCodecParametersParametersValue::String(text)) if text.len() == 6 => {
                u32::from_str_radix(text, 16).ok()?
            }
            Some(RtpCodecParametersParametersValue::String(_)) => return None,
        };
        let [_, profile_idc, profile_iop, _level_idc] = id.to_be_bytes();
        Self::from_bytes(profile_idc, profile_iop)
    }

    /// RFC 6184 table 5: `profile_idc` with the constraint flags of `profile-iop`, as (mask, value).
    fn from_bytes(profile_idc: u8, profile_iop: u8) -> Option<Self> {
        const PATTERNS: [(u8, u8, u8, H264Profile); 9] = [
            (0x42, 0x4f, 0x40, H264Profile::ConstrainedBaseline),
            (0x4d, 0x8f, 0x80, H264Profile::ConstrainedBaseline),
            (0x58, 0xcf, 0xc0, H264Profile::ConstrainedBaseline),
            (0x42, 0x4f, 0x00, H264Profile::Baseline),
            (0x58, 0xcf, 0x80, H264Profile::Baseline),
            (0x4d, 0xaf, 0x00, H264Profile::Main),
            (0x64, 0xff, 0x00, H264Profile::High),
            (0x64, 0xff, 0x0c, H264Profile::ConstrainedHigh),
            (0xf4, 0xff, 0x00, H264Profile::PredictiveHigh444),
        ];
        let found = PATTERNS.iter().find(|(idc, mask, value, _)| *idc == profile_idc && profile_iop & mask == *value);
        found.map(|(.., profile)| *profile)
    }
}

fn number(parameters: &RtpCodecParametersParameters, name: &str) -> Option<u32> {
    match parameters.get(name)? {
        RtpCodecParametersParametersValue::Number(number) => Some(*number),
        RtpCodecParametersParametersValue::String(text) => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h264(profile_level_id: impl Into<RtpCodecParametersParametersValue>, mode: u32) -> RtpCodecParametersParameters {
        RtpCodecParametersParameters::from([
            ("profile-level-id", profile_level_id.into()),
            ("packetization-mode", mode.into()),
        ])
    }

    #[test]
    fn h264_levels_may_differ_but_not_profiles_or_packetization_modes() {
        let router = h264("42e01f", 1);
        assert!(h264_matches(&h264("42e034", 1), &router));
        assert!(h264_matches(&h264("4de01f", 1), &router), "main with constraint_set0 is constrained baseline");
        assert!(!h264_matches(&h264("42001f", 1), &router), "baseline has tools that constrained baseline lacks");
        assert!(!h264_matches(&h264("64001f", 1), &router));
        assert!(!h264_matches(&h264("42e01f", 0), &router));
        assert!(!h264_matches(&h264("zzzzzz", 1), &router));
        assert!(!h264_matches(&h264("42e0", 1), &router));
        let unnamed = RtpCodecParametersParameters::from([("packetization-mode", "1".into())]);
        assert!(h264_matches(&unnamed, &router), "no profile means constrained baseline");
    }

    #[test]
    fn profiles_of_vp9_must_be_the_same() {
        let vp9 = |profile: u32| RtpCodecParametersParameters::from([("profile-id", profile.into())]);
        let unnamed = RtpCodecParametersParameters::default();
        assert!(same_profile("profile-id", &vp9(0), &unnamed) && same_profile("profile-id", &vp9(2), &vp9(2)));
        assert!(!same_profile("profile-id", &vp9(2), &unnamed));
    }

    #[test]
    fn a_profile_of_digits_only_may_come_as_a_number() {
        assert!(h264_matches(&h264(640_032_u32, 1), &h264("64001f", 1)));
        assert!(h264_matches(&h264(420_010_u32, 1), &h264("42000a", 1)));
    }
}
