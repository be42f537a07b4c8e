//! ORTC as mediasoup's clients negotiate it: what this device can, what a router can, and the parameters that follow.
//!
//! The types here are more forgiving than [`sluice_proto::ortc`]: they must read what any mediasoup-style server of any
//! version says, header extensions included that nobody here has heard of.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::media::{Codec, ReceiveParameters, SendParameters};

/// URI of the media id, RFC 9143.
const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const TRANSPORT_CC: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
/// What this client does something with.
const SUPPORTED_EXTENSIONS: [&str; 4] = [MID, ABS_SEND_TIME, TRANSPORT_CC, AUDIO_LEVEL];

/// Audio or video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// What an endpoint can.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RtpCapabilities {
    /// Codecs, RTX among them.
    pub codecs: Vec<CodecCapability>,
    /// Header extensions.
    pub header_extensions: Vec<ExtensionCapability>,
}

/// A codec that an endpoint can.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct CodecCapability {
    pub kind: Kind,
    pub mime_type: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_payload_type: Option<u8>,
    pub clock_rate: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
    #[serde(default)]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// A kind of feedback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct RtcpFeedback {
    #[serde(rename = "type")]
    pub kind: String,
    #[serde(default)]
    pub parameter: String,
}

/// A header extension that an endpoint can.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct ExtensionCapability {
    pub kind: Kind,
    pub uri: String,
    pub preferred_id: u8,
    #[serde(default)]
    pub preferred_encrypt: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<String>,
}

/// How a stream is labelled.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct RtpParameters {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    pub codecs: Vec<CodecParameters>,
    #[serde(default)]
    pub header_extensions: Vec<ExtensionParameters>,
    #[serde(default)]
    pub encodings: Vec<Encoding>,
    #[serde(default)]
    pub rtcp: RtcpParameters,
}

/// A codec in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct CodecParameters {
    pub mime_type: String,
    pub payload_type: u8,
    pub clock_rate: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<u8>,
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
    #[serde(default)]
    pub rtcp_feedback: Vec<RtcpFeedback>,
}

/// A header extension in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct ExtensionParameters {
    pub uri: String,
    pub id: u8,
    #[serde(default)]
    pub encrypt: bool,
    #[serde(default)]
    pub parameters: BTreeMap<String, Value>,
}

/// A stream of a producer or consumer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct Encoding {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtx: Option<RtxEncoding>,
    #[serde(default)]
    pub dtx: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scalability_mode: Option<String>,
}

/// Where a stream's retransmissions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct RtxEncoding {
    pub ssrc: u32,
}

/// RTCP of a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct RtcpParameters {
    pub cname: String,
    pub reduced_size: bool,
}

/// Why media cannot be negotiated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrtcError {
    /// The router does not have the codec that this client wants to send.
    #[error("the server has no {}{} that this client can send", .0.mime_type(), if *.0 == Codec::H264 { " with packetization mode 1" } else { "" })]
    NoCodec(Codec),
    /// The server announced a stream of a codec that this client did not say it can.
    #[error("the announced stream is {0}, which this client cannot")]
    UnknownCodec(String),
    /// The server announced a stream without codec, encoding or SSRC.
    #[error("the announced stream has no {0}")]
    Incomplete(&'static str),
}

/// What this client can of what the router can, as a client says it in `join`: Opus, VP8, VP9, H.264, H.265 and their
/// RTX, under the router's payload types.
pub fn device_capabilities(router: &RtpCapabilities) -> RtpCapabilities {
    let mut codecs: Vec<CodecCapability> =
        router.codecs.iter().filter(|codec| Codec::from_mime_type(&codec.mime_type).is_some()).cloned().collect();
    let kept: Vec<Option<u8>> = codecs.iter().map(|codec| codec.preferred_payload_type).collect();
    let rtx = router.codecs.iter().filter(|codec| {
        is_rtx(&codec.mime_type)
            && associated_payload_type(&codec.parameters).is_some_and(|apt| kept.contains(&Some(apt)))
    });
    codecs.extend(rtx.cloned());
    let header_extensions = router
        .header_extensions
        .iter()
        .filter(|extension| SUPPORTED_EXTENSIONS.contains(&extension.uri.as_str()))
        .cloned()
        .collect();
    RtpCapabilities { codecs, header_extensions }
}

/// The parameters with which so many encodings of a picture, or one stream, are produced: the router's first of that
/// codec; of H.264 the first with packetization mode 1, constrained baseline before other profiles, of VP9 profile 0.
///
/// # Errors
/// [`OrtcError::NoCodec`].
pub fn send_parameters(
    router: &RtpCapabilities,
    (codec, encodings): (Codec, usize),
    mid: &str,
    cname: &str,
    rng: &mut impl Rng,
) -> Result<RtpParameters, OrtcError> {
    let kind = if codec.is_video() { Kind::Video } else { Kind::Audio };
    let can_send = |capability: &&CodecCapability| {
        Codec::from_mime_type(&capability.mime_type) == Some(codec)
            && capability.preferred_payload_type.is_some()
            && (codec != Codec::H264 || has_packetization_mode_1(&capability.parameters))
    };
    let codec = router
        .codecs
        .iter()
        .filter(can_send)
        .min_by_key(|capability| match codec {
            Codec::H264 => !is_constrained_baseline(&capability.parameters),
            Codec::Vp9 => !is_profile_0(&capability.parameters),
            _ => false,
        })
        .ok_or(OrtcError::NoCodec(codec))?;
    let rtx = router.codecs.iter().find(|other| {
        is_rtx(&other.mime_type) && associated_payload_type(&other.parameters) == codec.preferred_payload_type
    });
    let header_extensions = router
        .header_extensions
        .iter()
        .filter(|extension| extension.kind == kind && SUPPORTED_EXTENSIONS.contains(&extension.uri.as_str()))
        .map(|extension| ExtensionParameters {
            uri: extension.uri.clone(),
            id: extension.preferred_id,
            encrypt: false,
            parameters: BTreeMap::new(),
        })
        .collect();
    let mut encoding = || Encoding {
        ssrc: Some(rng.random()),
        rtx: rtx.map(|_| RtxEncoding { ssrc: rng.random() }),
        ..Encoding::default()
    };
    let encodings = (0..encodings).map(|_| encoding()).collect();
    Ok(RtpParameters {
        mid: Some(mid.to_owned()),
        codecs: [Some(codec), rtx].into_iter().flatten().filter_map(codec_parameters).collect(),
        header_extensions,
        encodings,
        rtcp: RtcpParameters { cname: cname.to_owned(), reduced_size: true },
    })
}

impl RtpParameters {
    /// What a publisher needs to know of each encoding.
    ///
    /// # Errors
    /// [`OrtcError::Incomplete`].
    pub fn to_send(&self) -> Result<Vec<SendParameters>, OrtcError> {
        let codec = self.codecs.first().ok_or(OrtcError::Incomplete("codec"))?;
        let mid = self.extension(MID).zip(self.mid.clone());
        let parameters = self.encodings.iter().map(|encoding| {
            Ok(SendParameters {
                ssrc: encoding.ssrc.ok_or(OrtcError::Incomplete("SSRC"))?,
                payload_type: codec.payload_type,
                rtx: self.rtx(encoding),
                cname: self.rtcp.cname.clone(),
                mid: mid.clone(),
                abs_send_time: self.extension(ABS_SEND_TIME),
                transport_cc: self.extension(TRANSPORT_CC),
                audio_level: self.extension(AUDIO_LEVEL),
            })
        });
        parameters.collect()
    }

    /// What a subscriber needs to know.
    ///
    /// # Errors
    /// [`OrtcError::Incomplete`] or [`OrtcError::UnknownCodec`].
    pub fn to_receive(&self) -> Result<ReceiveParameters, OrtcError> {
        let codec = self.codecs.first().ok_or(OrtcError::Incomplete("codec"))?;
        let encoding = self.encodings.first().ok_or(OrtcError::Incomplete("encoding"))?;
        let known = Codec::from_mime_type(&codec.mime_type);
        let feedback = |kind: &str, parameter: &str| {
            codec.rtcp_feedback.iter().any(|feedback| feedback.kind == kind && feedback.parameter == parameter)
        };
        Ok(ReceiveParameters {
            ssrc: encoding.ssrc.ok_or(OrtcError::Incomplete("SSRC"))?,
            payload_type: codec.payload_type,
            rtx: self.rtx(encoding),
            codec: known.ok_or_else(|| OrtcError::UnknownCodec(codec.mime_type.clone()))?,
            nack: feedback("nack", ""),
            pli: feedback("nack", "pli"),
        })
    }

    /// Id of the transport-wide-cc header extension.
    pub fn transport_cc(&self) -> Option<u8> {
        self.extension(TRANSPORT_CC)
    }

    fn rtx(&self, encoding: &Encoding) -> Option<(u32, u8)> {
        let codec = self.codecs.iter().find(|codec| is_rtx(&codec.mime_type))?;
        Some((encoding.rtx?.ssrc, codec.payload_type))
    }

    fn extension(&self, uri: &str) -> Option<u8> {
        self.header_extensions.iter().find(|extension| extension.uri == uri).map(|extension| extension.id)
    }
}

fn codec_parameters(codec: &CodecCapability) -> Option<CodecParameters> {
    let mut parameters = codec.parameters.clone();
    if codec.mime_type.eq_ignore_ascii_case("audio/opus") {
        // What Chromium's apps ask for: stereo, in-band FEC, DTX.
        for key in ["sprop-stereo", "useinbandfec", "usedtx"] {
            parameters.insert(key.to_owned(), Value::from(1));
        }
    }
    Some(CodecParameters {
        mime_type: codec.mime_type.clone(),
        payload_type: codec.preferred_payload_type?,
        clock_rate: codec.clock_rate,
        channels: codec.channels,
        parameters,
        rtcp_feedback: codec.rtcp_feedback.clone(),
    })
}

/// RFC 6184 section 8.1: without the parameter the mode is 0, which knows neither FU-A nor STAP-A.
fn has_packetization_mode_1(parameters: &BTreeMap<String, Value>) -> bool {
    match parameters.get("packetization-mode") {
        Some(Value::Number(mode)) => mode.as_u64() == Some(1),
        Some(Value::String(mode)) => mode == "1",
        _ => false,
    }
}

/// RFC 6184 section 8.1, table 5: profile_idc 0x42 with constraint_set1_flag.
fn is_constrained_baseline(parameters: &BTreeMap<String, Value>) -> bool {
    let id = parameters.get("profile-level-id").and_then(Value::as_str);
    let id = id.and_then(|id| u32::from_str_radix(id, 16).ok()).unwrap_or(0);
    id >> 16 == 0x42 && id >> 8 & 0x40 != 0
}

/// RFC 9628 section 6: without the parameter the profile is 0.
fn is_profile_0(parameters: &BTreeMap<String, Value>) -> bool {
    parameters.get("profile-id").is_none_or(|profile| profile == 0 || profile == "0")
}

fn is_rtx(mime_type: &str) -> bool {
    mime_type.to_ascii_lowercase().ends_with("/rtx")
}

fn associated_payload_type(parameters: &BTreeMap<String, Value>) -> Option<u8> {
    u8::try_from(parameters.get("apt")?.as_u64()?).ok()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use serde_json::json;

    use super::*;

    /// As mediasoup 3.19's demo server answers, shortened, with one extension and one codec from the future.
    fn router() -> RtpCapabilities {
        serde_json::from_value(json!({
            "codecs": [
                { "kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2, "preferredPayloadType": 100,
                  "rtcpFeedback": [{ "type": "nack", "parameter": "" }, { "type": "transport-cc", "parameter": "" }] },
                { "kind": "video", "mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": 101,
                  "parameters": { "x-google-start-bitrate": 1000 },
                  "rtcpFeedback": [{ "type": "nack" }, { "type": "nack", "parameter": "pli" }] },
                { "kind": "video", "mimeType": "video/rtx", "clockRate": 90000, "preferredPayloadType": 102,
                  "parameters": { "apt": 101 }, "rtcpFeedback": [] },
                { "kind": "video", "mimeType": "video/AV2", "clockRate": 90000, "preferredPayloadType": 103 },
                { "kind": "video", "mimeType": "video/rtx", "clockRate": 90000, "preferredPayloadType": 104,
                  "parameters": { "apt": 103 } }
            ],
            "headerExtensions": [
                { "kind": "audio", "uri": MID, "preferredId": 1, "preferredEncrypt": false, "direction": "sendrecv" },
                { "kind": "video", "uri": MID, "preferredId": 1 },
                { "kind": "video", "uri": "urn:of:the:future", "preferredId": 9 },
                { "kind": "video", "uri": TRANSPORT_CC, "preferredId": 5 },
                { "kind": "audio", "uri": AUDIO_LEVEL, "preferredId": 10 }
            ]
        }))
        .unwrap()
    }

    #[test]
    fn a_device_can_what_both_can() {
        let device = device_capabilities(&router());
        let types: Vec<_> = device.codecs.iter().map(|codec| codec.preferred_payload_type.unwrap()).collect();
        assert_eq!(types, [100, 101, 102]);
        assert_eq!(device.header_extensions.len(), 4);
    }

    #[test]
    fn parameters_to_send_are_complete() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let parameters = send_parameters(&router(), (Codec::Vp8, 1), "1", "alice", &mut rng).unwrap();
        let read: RtpParameters = serde_json::from_str(&serde_json::to_string(&parameters).unwrap()).unwrap();
        assert_eq!(read, parameters);
        let [send] = &read.to_send().unwrap()[..] else { panic!("one encoding") };
        let send = send.clone();
        assert_eq!((send.payload_type, send.rtx.unwrap().1), (101, 102));
        assert_eq!((send.mid, send.transport_cc, send.audio_level), (Some((1, "1".to_owned())), Some(5), None));
        let receive = read.to_receive().unwrap();
        assert!(receive.nack && receive.pli && receive.codec == Codec::Vp8);

        // The types of the contracts, which a Sluice node reads with, must be able to read it too.
        let contract =
            serde_json::from_value::<sluice_proto::ortc::RtpParameters>(serde_json::to_value(&parameters).unwrap());
        assert_eq!(contract.unwrap().codecs.len(), 2);
    }

    #[test]
    fn encodings_are_streams_of_one_source() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let parameters = send_parameters(&router(), (Codec::Vp8, 3), "1", "alice", &mut rng).unwrap();
        let encodings = parameters.to_send().unwrap();
        let ssrcs = encodings.iter().flat_map(|encoding| [encoding.ssrc, encoding.rtx.unwrap().0]);
        assert_eq!(ssrcs.collect::<std::collections::HashSet<_>>().len(), 6);
        assert!(encodings.iter().all(|encoding| encoding.mid == encodings[0].mid && encoding.payload_type == 101));
    }

    #[test]
    fn a_router_without_the_codec_is_told_so() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for codec in [Codec::Vp8, Codec::H264] {
            let mut router = router();
            router.codecs.truncate(1);
            let refused = send_parameters(&router, (codec, 1), "1", "alice", &mut rng);
            assert_eq!(refused, Err(OrtcError::NoCodec(codec)));
        }
    }

    #[test]
    fn h264_is_sent_in_the_mode_and_profile_that_it_has() {
        let h264 = |payload_type: u8, mode: Value, profile: &str| -> CodecCapability {
            serde_json::from_value(json!({
                "kind": "video", "mimeType": "video/h264", "clockRate": 90000, "preferredPayloadType": payload_type,
                "parameters": { "packetization-mode": mode, "profile-level-id": profile, "level-asymmetry-allowed": 1 },
            }))
            .unwrap()
        };
        let mut router = router();
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut chosen = |router: &RtpCapabilities| {
            let parameters = send_parameters(router, (Codec::H264, 1), "1", "alice", &mut rng)?;
            assert_eq!(parameters.to_receive()?.codec, Codec::H264);
            Ok(parameters.to_send()?[0].payload_type)
        };
        router.codecs.push(h264(110, json!(0), "42e01f"));
        assert_eq!(chosen(&router), Err(OrtcError::NoCodec(Codec::H264)));
        router.codecs.push(h264(111, json!("1"), "4d0032"));
        assert_eq!(chosen(&router), Ok(111));
        router.codecs.push(h264(112, json!(1), "42e01f"));
        assert_eq!(chosen(&router), Ok(112));
    }

    #[test]
    fn a_stream_of_an_unknown_codec_is_refused() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut parameters = send_parameters(&router(), (Codec::Vp8, 1), "1", "alice", &mut rng).unwrap();
        parameters.codecs[0].mime_type = "video/AV2".to_owned();
        assert_eq!(parameters.to_receive(), Err(OrtcError::UnknownCodec("video/AV2".to_owned())));
    }
}
