//! RTP parameters as the control plane would negotiate them.

use sluice_media::messages::RtpMapping;
use sluice_proto::ortc::{MediaKind, RtpParameters};

pub(crate) const MID_EXTENSION: u8 = 1;
pub(crate) const TRANSPORT_WIDE_CC_EXTENSION: u8 = 5;
pub(crate) const AUDIO_LEVEL_EXTENSION: u8 = 10;

const EXTENSIONS: &str = r#"[
    {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 1, "encrypt": false},
    {"uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "id": 4, "encrypt": false},
    {"uri": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", "id": 5, "encrypt": false},
    {"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 10, "encrypt": false}
]"#;

/// Payload types as clients use them; the router's differ.
pub(crate) const CLIENT_OPUS: u8 = 111;
pub(crate) const CLIENT_VP8: u8 = 96;
pub(crate) const CLIENT_VP8_RTX: u8 = 97;
pub(crate) const ROUTER_OPUS: u8 = 100;
pub(crate) const ROUTER_VP8: u8 = 101;
pub(crate) const ROUTER_VP8_RTX: u8 = 102;

/// SSRCs of a stream and of its retransmissions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ssrcs {
    pub(crate) media: u32,
    pub(crate) rtx: u32,
}

fn parameters(kind: MediaKind, mid: &str, ssrcs: Ssrcs, types: [u8; 3]) -> RtpParameters {
    let [opus, vp8, rtx] = types;
    // A publisher of audio does not retransmit; a node does.
    let feedback = if opus == ROUTER_OPUS { "nack" } else { "transport-cc" };
    let codecs = match kind {
        MediaKind::Audio => format!(
            r#"[{{"mimeType": "audio/opus", "payloadType": {opus}, "clockRate": 48000, "channels": 2,
                "rtcpFeedback": [{{"type": "{feedback}", "parameter": ""}}]}}]"#
        ),
        MediaKind::Video => format!(
            r#"[{{"mimeType": "video/VP8", "payloadType": {vp8}, "clockRate": 90000, "rtcpFeedback": [
                {{"type": "nack", "parameter": ""}}, {{"type": "nack", "parameter": "pli"}}]}},
            {{"mimeType": "video/rtx", "payloadType": {rtx}, "clockRate": 90000, "parameters": {{"apt": {vp8}}}}}]"#
        ),
    };
    let rtx = match kind {
        MediaKind::Audio => String::new(),
        MediaKind::Video => format!(r#", "rtx": {{"ssrc": {}}}"#, ssrcs.rtx),
    };
    let json = format!(
        r#"{{"mid": "{mid}", "codecs": {codecs}, "headerExtensions": {EXTENSIONS},
            "encodings": [{{"ssrc": {}{rtx}}}], "rtcp": {{"cname": "c", "reducedSize": true}}}}"#,
        ssrcs.media
    );
    serde_json::from_str(&json).expect("valid parameters")
}

pub(crate) fn client(kind: MediaKind, mid: &str, ssrcs: Ssrcs) -> RtpParameters {
    parameters(kind, mid, ssrcs, [CLIENT_OPUS, CLIENT_VP8, CLIENT_VP8_RTX])
}

pub(crate) fn router(kind: MediaKind, mid: &str, ssrcs: Ssrcs) -> RtpParameters {
    parameters(kind, mid, ssrcs, [ROUTER_OPUS, ROUTER_VP8, ROUTER_VP8_RTX])
}

pub(crate) fn mapping(mapped_ssrc: u32) -> RtpMapping {
    RtpMapping {
        codecs: vec![(CLIENT_OPUS, ROUTER_OPUS), (CLIENT_VP8, ROUTER_VP8), (CLIENT_VP8_RTX, ROUTER_VP8_RTX)],
        mapped_ssrcs: vec![mapped_ssrc],
    }
}
