//! Names of media, codecs, feedback and header extensions.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A name that nobody here knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown name {0:?}")]
pub struct UnknownName(pub String);

/// Declares an enum of names, which are read whatever their case.
macro_rules! names {
    ($(#[doc = $doc:literal])+ pub enum $name:ident { $( $(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $( $(#[doc = $variant_doc])+ $variant, )+
        }

        impl $name {
            /// The name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $( Self::$variant => $text, )+
                }
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                let known = [$( Self::$variant, )+];
                let found = known.into_iter().find(|known| known.as_str().eq_ignore_ascii_case(text));
                found.ok_or_else(|| UnknownName(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}

names! {
    /// Audio or video.
    pub enum MediaKind {
        /// Audio.
        Audio = "audio",
        /// Video.
        Video = "video",
    }
}

names! {
    /// Codecs of audio, and what is sent in the place of one.
    pub enum MimeTypeAudio {
        /// Opus, RFC 7587.
        Opus = "audio/opus",
        /// Opus with more than two channels, as Chromium has it.
        MultiChannelOpus = "audio/multiopus",
        /// G.711 with the law of North America and Japan.
        Pcmu = "audio/PCMU",
        /// G.711 with the law of the rest of the world.
        Pcma = "audio/PCMA",
        /// iSAC.
        Isac = "audio/ISAC",
        /// G.722.
        G722 = "audio/G722",
        /// iLBC, RFC 3952.
        Ilbc = "audio/iLBC",
        /// SILK.
        Silk = "audio/SILK",
        /// Comfort noise, RFC 3389.
        Cn = "audio/CN",
        /// DTMF, RFC 4733.
        TelephoneEvent = "audio/telephone-event",
        /// Retransmissions, RFC 4588.
        Rtx = "audio/rtx",
        /// Redundancy, RFC 2198.
        Red = "audio/red",
    }
}

names! {
    /// Codecs of video, and what is sent in the place of one.
    pub enum MimeTypeVideo {
        /// VP8, RFC 7741.
        Vp8 = "video/VP8",
        /// VP9, RFC 9628.
        Vp9 = "video/VP9",
        /// H.264, RFC 6184.
        H264 = "video/H264",
        /// H.265, RFC 7798.
        H265 = "video/H265",
        /// AV1.
        AV1 = "video/AV1",
        /// Retransmissions, RFC 4588.
        Rtx = "video/rtx",
        /// Redundancy, RFC 2198.
        Red = "video/red",
        /// Forward error correction, RFC 5109.
        Ulpfec = "video/ulpfec",
    }
}

names! {
    /// Header extensions, RFC 8285.
    pub enum RtpHeaderExtensionUri {
        /// Which media section, RFC 9143.
        Mid = "urn:ietf:params:rtp-hdrext:sdes:mid",
        /// Which encoding, RFC 8852.
        RtpStreamId = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        /// Which encoding is repaired, RFC 8852.
        RepairRtpStreamId = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id",
        /// When a packet left.
        AbsSendTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time",
        /// Its number within the transport.
        TransportWideCcDraft01 = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01",
        /// Volume, RFC 6464.
        SsrcAudioLevel = "urn:ietf:params:rtp-hdrext:ssrc-audio-level",
        /// What a frame is to others.
        DependencyDescriptor = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
        /// How a picture is to be turned, 3GPP TS 26.114.
        VideoOrientation = "urn:3gpp:video-orientation",
        /// When a frame was captured.
        AbsCaptureTime = "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time",
        /// How long a frame is to wait before it is shown.
        PlayoutDelay = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay",
        /// Which layers are sent, and how much of each.
        VideoLayersAllocation = "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00",
    }
}

names! {
    /// Which way a router takes a header extension.
    pub enum RtpHeaderExtensionDirection {
        /// Both.
        SendRecv = "sendrecv",
        /// To clients.
        SendOnly = "sendonly",
        /// From clients.
        RecvOnly = "recvonly",
        /// Neither.
        Inactive = "inactive",
    }
}

/// A codec, or what is sent in the place of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum MimeType {
    /// Of audio.
    Audio(MimeTypeAudio),
    /// Of video.
    Video(MimeTypeVideo),
}

impl MimeType {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio(mime_type) => mime_type.as_str(),
            Self::Video(mime_type) => mime_type.as_str(),
        }
    }
}

impl FromStr for MimeType {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        text.parse().map(Self::Audio).or_else(|_| text.parse().map(Self::Video))
    }
}

/// What a receiver may say of a stream, RFC 4585.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "FeedbackFields", into = "FeedbackFields")]
pub enum RtcpFeedback {
    /// That packets are missing.
    Nack,
    /// That a picture is.
    NackPli,
    /// That a key frame is needed, RFC 5104.
    CcmFir,
    /// How much may be sent.
    GoogRemb,
    /// When packets of the transport arrived.
    TransportCc,
}

#[derive(Serialize, Deserialize)]
struct FeedbackFields {
    r#type: String,
    #[serde(default)]
    parameter: String,
}

impl RtcpFeedback {
    /// The feedback with this type and parameter.
    ///
    /// # Errors
    /// [`UnknownName`] if there is none.
    pub fn from_type_parameter(kind: &str, parameter: &str) -> Result<Self, UnknownName> {
        let known = [Self::Nack, Self::NackPli, Self::CcmFir, Self::GoogRemb, Self::TransportCc];
        let found = known.into_iter().find(|known| known.as_type_parameter() == (kind, parameter));
        found.ok_or_else(|| UnknownName(format!("{kind} {parameter}")))
    }

    /// Its type and parameter.
    pub fn as_type_parameter(self) -> (&'static str, &'static str) {
        match self {
            Self::Nack => ("nack", ""),
            Self::NackPli => ("nack", "pli"),
            Self::CcmFir => ("ccm", "fir"),
            Self::GoogRemb => ("goog-remb", ""),
            Self::TransportCc => ("transport-cc", ""),
        }
    }
}

impl TryFrom<FeedbackFields> for RtcpFeedback {
    type Error = UnknownName;

    fn try_from(fields: FeedbackFields) -> Result<Self, UnknownName> {
        Self::from_type_parameter(&fields.r#type, &fields.parameter)
    }
}

impl From<RtcpFeedback> for FeedbackFields {
    fn from(feedback: RtcpFeedback) -> Self {
        let (kind, parameter) = feedback.as_type_parameter();
        Self { r#type: kind.to_owned(), parameter: parameter.to_owned() }
    }
}
