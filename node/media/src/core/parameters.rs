//! What the data plane takes out of RTP parameters. The control plane negotiated them; here they are only digested, and
//! refused when the data plane could not work with them.

use std::time::Duration;

use sluice_proto::ortc::{
    MediaKind, MimeType, MimeTypeAudio, RtcpFeedback, RtpCodecParameters, RtpCodecParametersParametersValue,
    RtpParameters,
};

use sluice_proto::pipe::MAX_STREAMS;

use crate::core::rtp_stream_send::{Redundancy, SendParameters};
use crate::messages::{RequestError, RtpMapping};
use crate::stream::StreamParameters;
use crate::stream::header_template::{HeaderTemplate, MAX_MID_LEN};

use crate::core::user_origin::{KeyFrameMessage, PayloadMapping, PayloadRole};
use crate::transport::rtp_listener::EncodingIdentity;
use crate::wire::codec::Codec;
use crate::wire::rtp::ExtensionIds;

/// A stream that sends nothing for longer has stopped, as in mediasoup.
const MAX_SILENCE: Duration = Duration::from_millis(1_500);

/// The same for audio with discontinuous transmission: encoders say now and then that there is silence, some of them
/// every few seconds.
const MAX_SILENCE_DTX: Duration = Duration::from_secs(5);

/// Units of timestamps per second, at most: of video there are 90,000, and nothing samples audio oftener than this. Ten
/// seconds of it, sixteen times over, fit the 32 bits in which jitter is reckoned, whatever another node says of its
/// producers.
const MAX_CLOCK_RATE: u32 = 384_000;

/// A user's producer.
#[derive(Debug)]
pub(crate) struct UserProducerParameters {
    /// Of its streams, in the order of its encodings.
    pub streams: Vec<StreamParameters>,
    /// What each payload type means.
    pub payloads: Vec<PayloadMapping>,
    /// How the packets of each are known.
    pub identities: Vec<EncodingIdentity>,
    /// How the client is asked for a key frame.
    pub key_frame_message: Option<KeyFrameMessage>,
    /// The client's ids.
    pub extension_ids: ExtensionIds,
}

/// Digests what a client wants to send.
///
/// # Errors
/// [`RequestError::Invalid`] for no encodings or too many, without a mapping for one of them, or with a clock that no
/// medium has.
pub(crate) fn user_producer(
    kind: MediaKind,
    rtp: &RtpParameters,
    mapping: &RtpMapping,
) -> Result<UserProducerParameters, RequestError> {
    check_encodings(kind, rtp)?;
    if mapping.mapped_ssrcs.len() != rtp.encodings.len() {
        return Err(invalid("an encoding is not mapped"));
    }
    let codec = media_codec(rtp)?;
    let mapped_to =
        |payload_type: u8| mapping.codecs.iter().find(|(own, _)| *own == payload_type).map(|(_, mapped)| *mapped);
    let plain = plain_payload_type(rtp).and_then(mapped_to);
    let (mut payloads, mut payload_types, mut rtx_payload_types) = (Vec::new(), Vec::new(), Vec::new());
    for parameters in &rtp.codecs {
        let payload_type = parameters.payload_type();
        let role = if parameters.is_rtx() {
            rtx_payload_types.push(payload_type);
            PayloadRole::Rtx { of: associated_payload_type(parameters)? }
        } else {
            payload_types.push(payload_type);
            let mapped = mapped_to(payload_type)
                .ok_or_else(|| invalid(&format!("payload type {payload_type} is not mapped")))?;
            PayloadRole::Media { mapped, codec: codec_of(parameters, plain) }
        };
        payloads.push(PayloadMapping { payload_type, role });
    }
    let feedback = codec.rtcp_feedback();
    let key_frame_message = match kind {
        MediaKind::Video if feedback.contains(&RtcpFeedback::NackPli) => Some(KeyFrameMessage::Pli),
        MediaKind::Video if feedback.contains(&RtcpFeedback::CcmFir) => Some(KeyFrameMessage::Fir { number: 0 }),
        _ => None,
    };
    let identities: Vec<_> = rtp
        .encodings
        .iter()
        .map(|encoding| EncodingIdentity {
            ssrc: encoding.ssrc,
            rtx_ssrc: encoding.rtx.map(|rtx| rtx.ssrc),
            mid: rtp.mid.clone(),
            rid: encoding.rid.clone(),
            payload_types: payload_types.clone(),
            rtx_payload_types: rtx_payload_types.clone(),
        })
        .collect();
    if identities.iter().any(|identity| identity.ssrc.is_none() && identity.mid.is_none()) {
        return Err(invalid("an encoding has neither an SSRC nor a MID to be known by"));
    }
    let spatial_layers = spatial_layers(rtp);
    let streams = identities.iter().zip(&mapping.mapped_ssrcs).map(|(identity, mapped_ssrc)| StreamParameters {
        kind,
        ssrc: *mapped_ssrc,
        publisher_ssrc: identity.ssrc,
        codec: codec_of(codec, plain),
        clock_rate: codec.clock_rate().get(),
        max_silence: max_silence(rtp),
        nack: feedback.contains(&RtcpFeedback::Nack),
        spatial_layers,
    });
    Ok(UserProducerParameters {
        streams: streams.collect(),
        payloads,
        identities,
        key_frame_message,
        extension_ids: ExtensionIds::new(&rtp.header_extensions),
    })
}

/// Digests the consumable parameters of a producer that lives elsewhere.
///
/// # Errors
/// [`RequestError::Invalid`] without a codec or an SSRC, or with a clock that no medium has.
pub(crate) fn pipe_producer(kind: MediaKind, rtp: &RtpParameters) -> Result<Vec<StreamParameters>, RequestError> {
    check_encodings(kind, rtp)?;
    let codec = media_codec(rtp)?;
    let stream = |ssrc| StreamParameters {
        kind,
        ssrc,
        publisher_ssrc: None,
        codec: codec_of(codec, plain_payload_type(rtp)),
        clock_rate: codec.clock_rate().get(),
        max_silence: max_silence(rtp),
        nack: false,
        spatial_layers: spatial_layers(rtp),
    };
    let ssrcs = rtp.encodings.iter().map(|encoding| encoding.ssrc.map(stream));
    ssrcs.collect::<Option<_>>().ok_or_else(|| invalid("a consumable encoding needs an SSRC"))
}

fn check_encodings(kind: MediaKind, rtp: &RtpParameters) -> Result<(), RequestError> {
    let most = if kind == MediaKind::Video { MAX_STREAMS } else { 1 };
    match (1..=most).contains(&rtp.encodings.len()) {
        true => Ok(()),
        false => Err(invalid(&format!("a producer of {kind:?} has 1 to {most} encodings"))),
    }
}

/// Digests what a client was told that it will receive.
///
/// # Errors
/// [`RequestError::Invalid`] without a codec or an SSRC, with a clock that no medium has, or with a MID that no packet
/// can carry.
pub(crate) fn consumer(rtp: &RtpParameters) -> Result<SendParameters, RequestError> {
    let [encoding] = &rtp.encodings[..] else { return Err(invalid("a consumer has exactly one encoding")) };
    let ssrc = encoding.ssrc.ok_or_else(|| invalid("a consumer's encoding needs an SSRC"))?;
    let codec = media_codec(rtp)?;
    if rtp.mid.as_ref().is_some_and(|mid| mid.len() > MAX_MID_LEN) {
        return Err(invalid(&format!("a consumer's MID has at most {MAX_MID_LEN} bytes")));
    }
    let rtx_codec = rtp
        .codecs
        .iter()
        .find(|other| other.is_rtx() && associated_payload_type(other).is_ok_and(|of| of == codec.payload_type()));
    Ok(SendParameters {
        ssrc,
        payload_type: codec.payload_type(),
        nack: codec.rtcp_feedback().contains(&RtcpFeedback::Nack),
        rtx: encoding.rtx.zip(rtx_codec).map(|(rtx, codec)| (rtx.ssrc, codec.payload_type())),
        clock_rate: codec.clock_rate().get(),
        codec: codec_of(codec, plain_payload_type(rtp)),
        redundancy: Redundancy::None,
        cname: rtp.rtcp.cname.clone().unwrap_or_default(),
        template: HeaderTemplate::new(&ExtensionIds::new(&rtp.header_extensions), rtp.mid.as_deref()),
    })
}

/// What a codec's payloads are; those of redundant audio have blocks of this payload type.
fn codec_of(parameters: &RtpCodecParameters, plain: Option<u8>) -> Codec {
    match plain {
        Some(plain) if is_red(parameters) => Codec::Red(plain),
        _ => Codec::new(parameters.mime_type()),
    }
}

fn is_red(parameters: &RtpCodecParameters) -> bool {
    parameters.mime_type() == MimeType::Audio(MimeTypeAudio::Red)
}

/// The payload type of what redundant audio is of.
fn plain_payload_type(rtp: &RtpParameters) -> Option<u8> {
    let plain = rtp.codecs.iter().find(|codec| !codec.is_rtx() && !is_red(codec));
    plain.map(RtpCodecParameters::payload_type)
}

/// The first codec, but for redundant audio, which comes with what it is of.
fn media_codec(rtp: &RtpParameters) -> Result<&RtpCodecParameters, RequestError> {
    let media = || rtp.codecs.iter().filter(|codec| !codec.is_rtx());
    let codec = media().find(|codec| is_red(codec)).or_else(|| media().next());
    let codec = codec.ok_or_else(|| invalid("the RTP parameters have no media codec"))?;
    if codec.clock_rate().get() > MAX_CLOCK_RATE {
        return Err(invalid(&format!("a codec's clock rate is at most {MAX_CLOCK_RATE}")));
    }
    Ok(codec)
}

/// Spatial layers inside a stream. Several encodings are layers themselves: of each all that it has is one.
fn spatial_layers(rtp: &RtpParameters) -> u8 {
    match &rtp.encodings[..] {
        [encoding] => encoding.scalability_mode.spatial_layers().get(),
        _ => 1,
    }
}

fn max_silence(rtp: &RtpParameters) -> Duration {
    let said_by_encoding = rtp.encodings.iter().any(|encoding| encoding.dtx == Some(true));
    let said_by_codec = rtp.codecs.iter().any(|codec| match codec.parameters().get("usedtx") {
        Some(RtpCodecParametersParametersValue::Number(flag)) => *flag != 0,
        Some(RtpCodecParametersParametersValue::String(flag)) => flag != "0",
        None => false,
    });
    if said_by_encoding || said_by_codec { MAX_SILENCE_DTX } else { MAX_SILENCE }
}

fn associated_payload_type(rtx: &RtpCodecParameters) -> Result<u8, RequestError> {
    match rtx.parameters().get("apt") {
        Some(RtpCodecParametersParametersValue::Number(apt)) => u8::try_from(*apt).ok(),
        Some(RtpCodecParametersParametersValue::String(apt)) => apt.parse().ok(),
        None => None,
    }
    .ok_or_else(|| invalid("an RTX codec does not say which payload type it repairs"))
}

fn invalid(reason: &str) -> RequestError {
    RequestError::Invalid(reason.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(clock_rate: u32) -> RtpParameters {
        let json = format!(
            r#"{{"mid": "0", "codecs": [{{"mimeType": "audio/opus", "payloadType": 100, "clockRate": {clock_rate},
            "channels": 2}}], "headerExtensions": [], "encodings": [{{"ssrc": 1}}], "rtcp": {{"reducedSize": true}}}}"#
        );
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn a_clock_that_no_medium_has_is_refused() {
        let mapping = RtpMapping { codecs: vec![(100, 100)], mapped_ssrcs: vec![1] };
        for (clock_rate, is_taken) in
            [(1, true), (MAX_CLOCK_RATE, true), (MAX_CLOCK_RATE + 1, false), (u32::MAX, false)]
        {
            let rtp = parameters(clock_rate);
            assert_eq!(user_producer(MediaKind::Audio, &rtp, &mapping).is_ok(), is_taken, "{clock_rate}");
            assert_eq!(pipe_producer(MediaKind::Audio, &rtp).is_ok(), is_taken, "{clock_rate}");
            assert_eq!(consumer(&rtp).is_ok(), is_taken, "{clock_rate}");
        }
    }
}
