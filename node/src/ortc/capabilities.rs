//! What a router sends and receives. Every node of the mesh has the same, so that a producer's consumable parameters
//! mean the same everywhere.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::LazyLock;

use sluice_proto::ortc::{
    MediaKind, MimeType, MimeTypeAudio, MimeTypeVideo, RtcpFeedback, RtpCapabilitiesFinalized,
    RtpCodecCapabilityFinalized, RtpCodecParametersParameters, RtpHeaderExtension, RtpHeaderExtensionDirection,
    RtpHeaderExtensionUri, RtpParameters,
};

use super::OrtcError;
use super::codec::Codec;

const OPUS_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(48_000).unwrap();
const VIDEO_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(90_000).unwrap();
const STEREO: NonZeroU8 = NonZeroU8::new(2).unwrap();

/// Payload types as mediasoup deals them: media codecs and their RTX in turn, from 100.
const OPUS: u8 = 100;
const VP8: u8 = 101;
const VP8_RTX: u8 = 102;
const H264: u8 = 103;
const H264_RTX: u8 = 104;

static ROUTER: LazyLock<RtpCapabilitiesFinalized> =
    LazyLock::new(|| RtpCapabilitiesFinalized { codecs: codecs(), header_extensions: header_extensions() });

/// The RTP capabilities of every router.
pub fn router_rtp_capabilities() -> &'static RtpCapabilitiesFinalized {
    &ROUTER
}

/// Those of a router whose codecs are of these MIME types; of all, if there are none.
pub fn allowed_capabilities(allowed: &[String]) -> RtpCapabilitiesFinalized {
    let RtpCapabilitiesFinalized { codecs, header_extensions } = router_rtp_capabilities();
    let media = codecs.iter().filter(|codec| is_allowed(Codec::from(*codec).mime_type, allowed));
    let media: Vec<u8> = media.map(RtpCodecCapabilityFinalized::preferred_payload_type).collect();
    // RTX goes with what it repairs.
    let is_kept = |codec: &RtpCodecCapabilityFinalized| {
        media.contains(&Codec::from(codec).apt().unwrap_or(codec.preferred_payload_type()))
    };
    let codecs = codecs.iter().filter(|codec| is_kept(codec)).cloned().collect();
    RtpCapabilitiesFinalized { codecs, header_extensions: header_extensions.clone() }
}

/// Whether all codecs are of these MIME types; any are, if there are none.
///
/// # Errors
/// [`OrtcError::Unsupported`] that names the first other one.
pub fn check_codecs(rtp: &RtpParameters, allowed: &[String]) -> Result<(), OrtcError> {
    let refused = rtp.codecs.iter().find(|codec| !codec.is_rtx() && !is_allowed(codec.mime_type(), allowed));
    refused.map_or(Ok(()), |codec| {
        Err(OrtcError::Unsupported(format!("{} is not allowed here", codec.mime_type().as_str())))
    })
}

fn is_allowed(mime_type: MimeType, allowed: &[String]) -> bool {
    allowed.is_empty() || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(mime_type.as_str()))
}

fn codecs() -> Vec<RtpCodecCapabilityFinalized> {
    // Constrained baseline is the one profile that every browser both encodes and decodes.
    let h264 = RtpCodecParametersParameters::from([
        ("packetization-mode", 1_u32.into()),
        ("profile-level-id", "42e01f".into()),
        ("level-asymmetry-allowed", 1_u32.into()),
    ]);
    vec![
        RtpCodecCapabilityFinalized::Audio {
            mime_type: MimeTypeAudio::Opus,
            preferred_payload_type: OPUS,
            clock_rate: OPUS_CLOCK_RATE,
            channels: STEREO,
            parameters: RtpCodecParametersParameters::default(),
            rtcp_feedback: vec![RtcpFeedback::Nack, RtcpFeedback::TransportCc],
        },
        video(MimeTypeVideo::Vp8, VP8, RtpCodecParametersParameters::default()),
        rtx(VP8_RTX, VP8),
        video(MimeTypeVideo::H264, H264, h264),
        rtx(H264_RTX, H264),
    ]
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

/// The ids are mediasoup's, which clients may have wired in. Transport-wide sequence numbers go out on video only: on
/// audio they cost every subscriber a feedback stream and tell the sender next to nothing.
fn header_extensions() -> Vec<RtpHeaderExtension> {
    use MediaKind::{Audio, Video};
    use RtpHeaderExtensionDirection::{RecvOnly, SendRecv};
    use RtpHeaderExtensionUri::{
        AbsSendTime, Mid, RepairRtpStreamId, RtpStreamId, SsrcAudioLevel, TransportWideCcDraft01,
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
        (Audio, SsrcAudioLevel, 10, SendRecv),
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
        seen.dedup();
        assert_eq!(seen.len(), codecs.len());
        assert_eq!(codecs.iter().filter(|codec| codec.is_rtx()).count(), 2);
    }
}
