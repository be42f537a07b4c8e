//! What a router sends and receives. Every node of the mesh has the same, so that a producer's consumable parameters
//! mean the same everywhere.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::LazyLock;

use sluice_proto::ortc::{
    MediaKind, MimeTypeAudio, MimeTypeVideo, RtcpFeedback, RtpCapabilitiesFinalized, RtpCodecCapabilityFinalized,
    RtpCodecParametersParameters, RtpHeaderExtension, RtpHeaderExtensionDirection, RtpHeaderExtensionUri,
    RtpParameters,
};

use super::OrtcError;
use super::codec::Codec;

/// MIME types of all codecs that routers know, in the order in which clients that do not choose prefer them.
pub const MIME_TYPES: [&str; 9] = [
    "audio/opus",
    "audio/red",
    "video/VP8",
    "video/VP9",
    "video/H264",
    "video/AV1",
    "video/H265",
    "audio/PCMU",
    "audio/PCMA",
];

const OPUS_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(48_000).unwrap();
const VIDEO_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(90_000).unwrap();
const STEREO: NonZeroU8 = NonZeroU8::new(2).unwrap();
const G711_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(8_000).unwrap();
const MONO: NonZeroU8 = NonZeroU8::new(1).unwrap();

/// Payload types as mediasoup deals them: from 100 to 127, then from 96. They are the same whatever is allowed, so that
/// they mean the same on nodes that allow different codecs. Each of video has its RTX at the next.
const OPUS: u8 = 100;
const VP8: u8 = 101;
const H264: u8 = 103;
const VP9: u8 = 105;
const VP9_PROFILE_2: u8 = 107;
const AV1: u8 = 109;
const H264_HIGH: u8 = 111;
const H264_SINGLE: u8 = 113;
const H264_HIGH_SINGLE: u8 = 115;
const H265: u8 = 117;
const RED: u8 = 119;
const AV1_PROFILE_1: u8 = 120;
const H264_BASELINE: u8 = 122;
const H264_BASELINE_SINGLE: u8 = 124;
const H264_MAIN: u8 = 126;
const H264_MAIN_SINGLE: u8 = 96;

/// Static payload types, RFC 3551 section 6.
const PCMU: u8 = 0;
const PCMA: u8 = 8;

/// Profiles with level 3.1, RFC 6184 section 8.1. Constrained baseline is the one that every browser both encodes and
/// decodes.
const CONSTRAINED_BASELINE: &str = "42e01f";
const BASELINE: &str = "42001f";
const MAIN: &str = "4d001f";
const HIGH: &str = "64001f";

static ROUTER: LazyLock<RtpCapabilitiesFinalized> =
    LazyLock::new(|| RtpCapabilitiesFinalized { codecs: codecs(), header_extensions: header_extensions() });

/// The RTP capabilities of every router.
pub fn router_rtp_capabilities() -> &'static RtpCapabilitiesFinalized {
    &ROUTER
}

/// Those of a router that has the codecs of these MIME types, in this order, of them those that a tenant may use; all,
/// if it has no list.
pub fn allowed_capabilities(codecs: &[String], of_tenant: &[String]) -> RtpCapabilitiesFinalized {
    let RtpCapabilitiesFinalized { codecs: known, header_extensions } = router_rtp_capabilities();
    let allowed = codecs.iter().filter(|mime_type| of_tenant.is_empty() || names(of_tenant, mime_type));
    let of_type = allowed.flat_map(|mime_type| {
        known.iter().filter(|codec| mime_type.eq_ignore_ascii_case(Codec::from(*codec).mime_type.as_str()))
    });
    // RTX goes with what it repairs.
    let with_rtx =
        of_type.flat_map(|codec| std::iter::once(codec).chain(rtx_of(known, codec.preferred_payload_type())));
    RtpCapabilitiesFinalized { codecs: with_rtx.cloned().collect(), header_extensions: header_extensions.clone() }
}

/// The RTX codec that repairs a payload type.
pub(super) fn rtx_of(codecs: &[RtpCodecCapabilityFinalized], payload_type: u8) -> Option<&RtpCodecCapabilityFinalized> {
    codecs.iter().find(|codec| codec.is_rtx() && Codec::from(*codec).apt() == Some(payload_type))
}

/// Whether all codecs are of these MIME types, and of those that a tenant may use, if it has a list.
///
/// # Errors
/// [`OrtcError::Unsupported`] that names the first other one.
pub fn check_codecs(rtp: &RtpParameters, codecs: &[String], of_tenant: &[String]) -> Result<(), OrtcError> {
    let is_allowed =
        |mime_type: &str| names(codecs, mime_type) && (of_tenant.is_empty() || names(of_tenant, mime_type));
    let refused = rtp.codecs.iter().find(|codec| !codec.is_rtx() && !is_allowed(codec.mime_type().as_str()));
    refused.map_or(Ok(()), |codec| {
        Err(OrtcError::Unsupported(format!("{} is not allowed here", codec.mime_type().as_str())))
    })
}

fn names(mime_types: &[String], mime_type: &str) -> bool {
    mime_types.iter().any(|named| named.eq_ignore_ascii_case(mime_type))
}

fn codecs() -> Vec<RtpCodecCapabilityFinalized> {
    let none = RtpCodecParametersParameters::default;
    let profile = |name, number: u32| RtpCodecParametersParameters::from([(name, number.into())]);
    let mut codecs = vec![audio(MimeTypeAudio::Opus, OPUS, (OPUS_CLOCK_RATE, STEREO))];
    for (mime_type, payload_type, parameters) in [
        (MimeTypeVideo::Vp8, VP8, none()),
        (MimeTypeVideo::H264, H264, h264(CONSTRAINED_BASELINE, 1)),
        (MimeTypeVideo::Vp9, VP9, profile("profile-id", 0)),
        (MimeTypeVideo::Vp9, VP9_PROFILE_2, profile("profile-id", 2)),
        (MimeTypeVideo::AV1, AV1, none()),
        (MimeTypeVideo::H264, H264_HIGH, h264(HIGH, 1)),
        (MimeTypeVideo::H264, H264_SINGLE, h264(CONSTRAINED_BASELINE, 0)),
        (MimeTypeVideo::H264, H264_HIGH_SINGLE, h264(HIGH, 0)),
        (MimeTypeVideo::H265, H265, none()),
        (MimeTypeVideo::AV1, AV1_PROFILE_1, profile("profile", 1)),
        (MimeTypeVideo::H264, H264_BASELINE, h264(BASELINE, 1)),
        (MimeTypeVideo::H264, H264_BASELINE_SINGLE, h264(BASELINE, 0)),
        (MimeTypeVideo::H264, H264_MAIN, h264(MAIN, 1)),
        (MimeTypeVideo::H264, H264_MAIN_SINGLE, h264(MAIN, 0)),
    ] {
        codecs.push(video(mime_type, payload_type, parameters));
        codecs.push(rtx(payload_type + 1, payload_type));
    }
    codecs.push(audio(MimeTypeAudio::Red, RED, (OPUS_CLOCK_RATE, STEREO)));
    codecs.push(audio(MimeTypeAudio::Pcmu, PCMU, (G711_CLOCK_RATE, MONO)));
    codecs.push(audio(MimeTypeAudio::Pcma, PCMA, (G711_CLOCK_RATE, MONO)));
    codecs
}

fn h264(profile_level_id: &'static str, packetization_mode: u32) -> RtpCodecParametersParameters {
    RtpCodecParametersParameters::from([
        ("packetization-mode", packetization_mode.into()),
        ("profile-level-id", profile_level_id.into()),
        ("level-asymmetry-allowed", 1_u32.into()),
    ])
}

/// What of a codec is in the way of it, FEC, DTX and stereo of Opus above all, its publisher says.
fn audio(
    mime_type: MimeTypeAudio,
    preferred_payload_type: u8,
    (clock_rate, channels): (NonZeroU32, NonZeroU8),
) -> RtpCodecCapabilityFinalized {
    RtpCodecCapabilityFinalized::Audio {
        mime_type,
        preferred_payload_type,
        clock_rate,
        channels,
        parameters: RtpCodecParametersParameters::default(),
        rtcp_feedback: vec![RtcpFeedback::Nack, RtcpFeedback::TransportCc],
    }
}

fn video(
    mime_type: MimeTypeVideo,
    payload_type: u8,
    parameters: RtpCodecParametersParameters,
) -> RtpCodecCapabilityFinalized {
    RtpCodecCapabilityFinalized::Video {
        mime_type,
        preferred_payload_type: payload_type,
        clock_rate: VIDEO_CLOCK_RATE,
        parameters,
        rtcp_feedback: vec![
            RtcpFeedback::Nack,
            RtcpFeedback::NackPli,
            RtcpFeedback::CcmFir,
            RtcpFeedback::GoogRemb,
            RtcpFeedback::TransportCc,
        ],
    }
}

fn rtx(payload_type: u8, associated: u8) -> RtpCodecCapabilityFinalized {
    RtpCodecCapabilityFinalized::Video {
        mime_type: MimeTypeVideo::Rtx,
        preferred_payload_type: payload_type,
        clock_rate: VIDEO_CLOCK_RATE,
        parameters: RtpCodecParametersParameters::from([("apt", u32::from(associated).into())]),
        rtcp_feedback: Vec::new(),
    }
}

/// The ids are part of what packets are inside the mesh, so they stay. Transport-wide sequence numbers go out on video
/// only: on audio they cost every subscriber a feedback stream and tell the sender next to nothing. There is no
/// toffset: Chromium would put it into every packet, none of which would go out with the header that all have in common
/// any more, and receivers learn as much from the send time.
fn header_extensions() -> Vec<RtpHeaderExtension> {
    use MediaKind::{Audio, Video};
    use RtpHeaderExtensionDirection::{RecvOnly, SendRecv};
    use RtpHeaderExtensionUri::{
        AbsCaptureTime, AbsSendTime, DependencyDescriptor, Mid, PlayoutDelay, RepairRtpStreamId, RtpStreamId,
        SsrcAudioLevel, TransportWideCcDraft01, VideoLayersAllocation, VideoOrientation,
    };
    [
        (Audio, Mid, 1, SendRecv),
        (Video, Mid, 1, SendRecv),
        (Video, RtpStreamId, 2, RecvOnly),
        (Video, RepairRtpStreamId, 3, RecvOnly),
        (Audio, AbsSendTime, 4, SendRecv),
        (Video, AbsSendTime, 4, SendRecv),
        (Audio, TransportWideCcDraft01, 5, RecvOnly),
        (Video, TransportWideCcDraft01, 5, SendRecv),
        (Video, DependencyDescriptor, 8, SendRecv),
        (Video, VideoLayersAllocation, 9, SendRecv),
        (Audio, SsrcAudioLevel, 10, SendRecv),
        (Video, VideoOrientation, 11, SendRecv),
        (Audio, AbsCaptureTime, 13, SendRecv),
        (Video, AbsCaptureTime, 13, SendRecv),
        (Audio, PlayoutDelay, 14, SendRecv),
        (Video, PlayoutDelay, 14, SendRecv),
    ]
    .into_iter()
    .map(|(kind, uri, preferred_id, direction)| RtpHeaderExtension {
        kind,
        uri,
        preferred_id,
        preferred_encrypt: false,
        direction,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use sluice_proto::ortc::MimeType;

    use super::*;

    #[test]
    fn clients_get_the_json_that_they_read() {
        let json = serde_json::to_value(router_rtp_capabilities()).unwrap();
        assert_eq!(
            json["codecs"][0],
            serde_json::json!({
                "kind": "audio", "mimeType": "audio/opus", "preferredPayloadType": 100, "clockRate": 48000, "channels": 2,
                "parameters": {}, "rtcpFeedback": [{"type": "nack", "parameter": ""}, {"type": "transport-cc", "parameter": ""}],
            })
        );
        assert_eq!(json["codecs"][2]["mimeType"], "video/rtx");
        assert_eq!(json["codecs"][2]["parameters"]["apt"], 101);
        assert_eq!(
            json["headerExtensions"][7],
            serde_json::json!({
                "kind": "video", "uri": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
                "preferredId": 5, "preferredEncrypt": false, "direction": "sendrecv",
            })
        );
    }

    #[test]
    fn payload_types_are_unique_and_every_video_codec_has_its_rtx() {
        let codecs = &router_rtp_capabilities().codecs;
        let mut seen: Vec<u8> = codecs.iter().map(RtpCodecCapabilityFinalized::preferred_payload_type).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), codecs.len());
        let videos = codecs.iter().filter(|codec| matches!(Codec::from(*codec).mime_type, MimeType::Video(_)));
        let (rtx, media): (Vec<_>, Vec<_>) = videos.partition(|codec| codec.is_rtx());
        assert_eq!(rtx.len(), media.len());
        for codec in media {
            let payload_type = codec.preferred_payload_type();
            assert_eq!(rtx_of(codecs, payload_type).unwrap().preferred_payload_type(), payload_type + 1);
        }
    }

    #[test]
    fn a_router_has_the_codecs_that_it_is_set_to_in_that_order() {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let payload_types = |codecs: &[&str], of_tenant: &[&str]| -> Vec<u8> {
            let capabilities = allowed_capabilities(&owned(codecs), &owned(of_tenant));
            capabilities.codecs.iter().map(RtpCodecCapabilityFinalized::preferred_payload_type).collect()
        };
        assert_eq!(payload_types(&["video/vp9", "audio/opus"], &[]), [105, 106, 107, 108, 100]);
        assert_eq!(
            payload_types(&["video/VP8", "audio/opus", "video/AV1"], &["video/av1", "video/H264"]),
            [109, 110, 120, 121]
        );
        assert_eq!(payload_types(&MIME_TYPES, &[]).len(), router_rtp_capabilities().codecs.len());
        for mime_type in MIME_TYPES {
            let codecs = &router_rtp_capabilities().codecs;
            assert!(codecs.iter().any(|codec| Codec::from(codec).mime_type.as_str() == mime_type), "{mime_type}");
        }
    }
}
