//! RTP parameters and capabilities.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::num::{NonZeroU8, NonZeroU32};

use serde::{Deserialize, Serialize};

use super::ScalabilityMode;
use super::names::{
    MediaKind, MimeType, MimeTypeAudio, MimeTypeVideo, RtcpFeedback, RtpHeaderExtensionDirection, RtpHeaderExtensionUri,
};

/// Parameters of a codec, as an SDP's `a=fmtp` has them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtpCodecParametersParameters(BTreeMap<Cow<'static, str>, RtpCodecParametersParametersValue>);

impl RtpCodecParametersParameters {
    /// The parameter with this name.
    pub fn get(&self, name: &str) -> Option<&RtpCodecParametersParametersValue> {
        self.0.get(name)
    }
}

impl<K: Into<Cow<'static, str>>, const N: usize> From<[(K, RtpCodecParametersParametersValue); N]>
    for RtpCodecParametersParameters
{
    fn from(parameters: [(K, RtpCodecParametersParametersValue); N]) -> Self {
        Self(parameters.into_iter().map(|(name, value)| (name.into(), value)).collect())
    }
}

/// The value of a codec's parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RtpCodecParametersParametersValue {
    /// Text.
    String(Cow<'static, str>),
    /// A number.
    Number(u32),
}

impl From<&'static str> for RtpCodecParametersParametersValue {
    fn from(text: &'static str) -> Self {
        Self::String(text.into())
    }
}

impl From<u32> for RtpCodecParametersParametersValue {
    fn from(number: u32) -> Self {
        Self::Number(number)
    }
}

/// Declares a codec's description in one of its three forms, which differ in how a payload type is named.
macro_rules! codec {
    (
        $(#[doc = $doc:literal])+
        #[serde($($form:tt)+)]
        pub enum $name:ident { $(#[$payload_attribute:meta])* $payload_type:ident: $payload_type_type:ty }
    ) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde($($form)+)]
        pub enum $name {
            /// Of audio.
            #[serde(rename_all = "camelCase")]
            Audio {
                /// The codec.
                mime_type: MimeTypeAudio,
                /// The payload type.
                $(#[$payload_attribute])*
                $payload_type: $payload_type_type,
                /// Units of timestamps per second.
                clock_rate: NonZeroU32,
                /// 2 of stereo.
                channels: NonZeroU8,
                /// What else there is to say.
                #[serde(default)]
                parameters: RtpCodecParametersParameters,
                /// What receivers may say of it.
                #[serde(default)]
                rtcp_feedback: Vec<RtcpFeedback>,
            },
            /// Of video.
            #[serde(rename_all = "camelCase")]
            Video {
                /// The codec.
                mime_type: MimeTypeVideo,
                /// The payload type.
                $(#[$payload_attribute])*
                $payload_type: $payload_type_type,
                /// Units of timestamps per second.
                clock_rate: NonZeroU32,
                /// What else there is to say.
                #[serde(default)]
                parameters: RtpCodecParametersParameters,
                /// What receivers may say of it.
                #[serde(default)]
                rtcp_feedback: Vec<RtcpFeedback>,
            },
        }

        impl $name {
            /// The codec.
            pub fn mime_type(&self) -> MimeType {
                match self {
                    Self::Audio { mime_type, .. } => MimeType::Audio(*mime_type),
                    Self::Video { mime_type, .. } => MimeType::Video(*mime_type),
                }
            }

            /// Whether it is of retransmissions.
            pub fn is_rtx(&self) -> bool {
                matches!(self.mime_type(), MimeType::Audio(MimeTypeAudio::Rtx) | MimeType::Video(MimeTypeVideo::Rtx))
            }

            /// Units of timestamps per second.
            pub fn clock_rate(&self) -> NonZeroU32 {
                match self {
                    Self::Audio { clock_rate, .. } | Self::Video { clock_rate, .. } => *clock_rate,
                }
            }

            /// The payload type.
            pub fn $payload_type(&self) -> $payload_type_type {
                match self {
                    Self::Audio { $payload_type, .. } | Self::Video { $payload_type, .. } => *$payload_type,
                }
            }

            /// What else there is to say.
            pub fn parameters(&self) -> &RtpCodecParametersParameters {
                match self {
                    Self::Audio { parameters, .. } | Self::Video { parameters, .. } => parameters,
                }
            }

            /// What receivers may say of it.
            pub fn rtcp_feedback(&self) -> &[RtcpFeedback] {
                match self {
                    Self::Audio { rtcp_feedback, .. } | Self::Video { rtcp_feedback, .. } => rtcp_feedback,
                }
            }

            /// The same, to be changed.
            pub fn rtcp_feedback_mut(&mut self) -> &mut Vec<RtcpFeedback> {
                match self {
                    Self::Audio { rtcp_feedback, .. } | Self::Video { rtcp_feedback, .. } => rtcp_feedback,
                }
            }
        }
    };
}

codec! {
    /// A codec that somebody can send or receive.
    #[serde(tag = "kind", rename_all = "lowercase")]
    pub enum RtpCodecCapability {
        #[serde(skip_serializing_if = "Option::is_none")] preferred_payload_type: Option<u8>
    }
}

codec! {
    /// A codec of a router, whose payload type is chosen.
    #[serde(tag = "kind", rename_all = "lowercase")]
    pub enum RtpCodecCapabilityFinalized { preferred_payload_type: u8 }
}

codec! {
    /// A codec that is sent.
    #[serde(untagged)]
    pub enum RtpCodecParameters { payload_type: u8 }
}

/// What somebody can send or receive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCapabilities {
    /// Codecs, RTX among them.
    pub codecs: Vec<RtpCodecCapability>,
    /// Header extensions.
    pub header_extensions: Vec<RtpHeaderExtension>,
}

/// What a router can send and receive.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpCapabilitiesFinalized {
    /// Codecs, RTX among them.
    pub codecs: Vec<RtpCodecCapabilityFinalized>,
    /// Header extensions.
    pub header_extensions: Vec<RtpHeaderExtension>,
}

/// A header extension that somebody can send or receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpHeaderExtension {
    /// Of which media.
    pub kind: MediaKind,
    /// The extension.
    pub uri: RtpHeaderExtensionUri,
    /// The id that it should have.
    pub preferred_id: u16,
    /// Whether it should be encrypted, RFC 6904.
    pub preferred_encrypt: bool,
    /// Which way a router takes it.
    pub direction: RtpHeaderExtensionDirection,
}

/// A stream of media that is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpParameters {
    /// Its media section.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mid: Option<String>,
    /// What its payload types mean.
    pub codecs: Vec<RtpCodecParameters>,
    /// What its header extensions mean.
    pub header_extensions: Vec<RtpHeaderExtensionParameters>,
    /// Its encodings.
    pub encodings: Vec<RtpEncodingParameters>,
    /// Its RTCP.
    pub rtcp: RtcpParameters,
    /// Stream and track of the browser's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub msid: Option<String>,
}

/// An encoding of what is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtpEncodingParameters {
    /// By which its packets are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssrc: Option<u32>,
    /// By which its packets are known before their SSRC is, RFC 8851.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Its codec, where there are several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec_payload_type: Option<u8>,
    /// Its retransmissions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtx: Option<RtpEncodingParametersRtx>,
    /// Whether it says little while there is silence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtx: Option<bool>,
    /// Its layers.
    #[serde(default, skip_serializing_if = "ScalabilityMode::is_none")]
    pub scalability_mode: ScalabilityMode,
    /// Bits per second that it takes at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bitrate: Option<u64>,
}

/// The retransmissions of an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtpEncodingParametersRtx {
    /// By which their packets are known.
    pub ssrc: u32,
}

/// A header extension that is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RtpHeaderExtensionParameters {
    /// The extension.
    pub uri: RtpHeaderExtensionUri,
    /// Its id.
    pub id: u16,
    /// Whether it is encrypted, RFC 6904.
    pub encrypt: bool,
}

/// The RTCP of what is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RtcpParameters {
    /// By which streams of one sender are known to be so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cname: Option<String>,
    /// Whether reports may be short, RFC 5506.
    pub reduced_size: bool,
}

impl Default for RtcpParameters {
    fn default() -> Self {
        Self { cname: None, reduced_size: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_is_that_of_mediasoup() {
        let json = serde_json::json!({
            "mid": "0",
            "codecs": [
                {"mimeType": "video/H265", "payloadType": 118, "clockRate": 90000, "parameters": {"tx-mode": "SRST"},
                 "rtcpFeedback": [{"type": "nack", "parameter": ""}, {"type": "ccm", "parameter": "fir"}]},
                {"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000, "channels": 2, "parameters": {"usedtx": 1},
                 "rtcpFeedback": []},
            ],
            "headerExtensions": [{"uri": "urn:3gpp:video-orientation", "id": 11, "encrypt": false}],
            "encodings": [{"ssrc": 1, "rtx": {"ssrc": 2}, "scalabilityMode": "L3T3_KEY"}, {"rid": "r0", "dtx": true}],
            "rtcp": {"cname": "c", "reducedSize": true},
        });
        let parameters: RtpParameters = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(parameters.codecs[0].mime_type(), MimeType::Video(MimeTypeVideo::H265));
        assert_eq!(parameters.encodings[0].scalability_mode.spatial_layers().get(), 3);
        assert_eq!(serde_json::to_value(parameters).unwrap(), json);
        // The crate of mediasoup's types reads the same, of what it has names for.
        let theirs = serde_json::to_string(&json).unwrap().replace("video/H265", "video/H264");
        let theirs: mediasoup_types::rtp_parameters::RtpParameters = serde_json::from_str(&theirs).unwrap();
        let ours = serde_json::to_string(&theirs).unwrap().replace("video/H264", "video/H265");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&ours).unwrap(), json);
    }

    #[test]
    fn names_are_read_whatever_their_case() {
        assert_eq!("VIDEO/vp8".parse(), Ok(MimeType::Video(MimeTypeVideo::Vp8)));
        assert!("video/theora".parse::<MimeType>().is_err());
        assert!(RtcpFeedback::from_type_parameter("nack", "sli").is_err());
    }
}
