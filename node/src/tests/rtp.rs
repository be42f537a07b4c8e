//! RTP parameters as mediasoup-client sends them.

use serde_json::{Value, json};

use crate::ortc::{MIME_TYPES, allowed_capabilities};

/// Everything that the router can do.
pub(super) fn capabilities() -> Value {
    json!(allowed_capabilities(&MIME_TYPES.map(str::to_owned), &[]))
}

pub(super) fn vp8(ssrc: u32) -> Value {
    json!({
        "mid": "0",
        "codecs": [
            {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000, "parameters": {},
             "rtcpFeedback": [{"type": "nack", "parameter": "pli"}]},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}},
        ],
        "headerExtensions": [],
        "encodings": [{"ssrc": ssrc, "rtx": {"ssrc": ssrc + 1}}],
        "rtcp": {"cname": "cname"},
    })
}

/// In encodings with these names.
pub(super) fn simulcast(rids: &[&str]) -> Value {
    let mut rtp = vp8(0);
    rtp["encodings"] = rids.iter().map(|rid| json!({"rid": rid})).collect();
    rtp
}

pub(super) fn opus(ssrc: u32) -> Value {
    json!({
        "mid": "1",
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2, "parameters": {}}],
        "headerExtensions": [],
        "encodings": [{"ssrc": ssrc}],
        "rtcp": {"cname": "cname"},
    })
}

pub(super) fn dtls() -> Value {
    let value = ["AB"; 32].join(":");
    json!({"role": "client", "fingerprints": [{"algorithm": "sha-256", "value": value}]})
}
