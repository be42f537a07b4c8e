//! From what the mesh carries to what one client receives.

use sluice_proto::ortc::{
    MimeType, MimeTypeVideo, RtcpFeedback, RtpCapabilities, RtpCodecParameters, RtpEncodingParameters,
    RtpEncodingParametersRtx, RtpHeaderExtensionParameters, RtpHeaderExtensionUri, RtpParameters, ScalabilityMode,
};

use super::OrtcError;
use super::codec::Codec;

/// Whether a client with these capabilities can receive the producer.
pub fn can_consume(consumable: &RtpParameters, capabilities: &RtpCapabilities) -> bool {
    let media = consumable.codecs.iter().find(|codec| matching(codec, capabilities).is_some());
    media.is_some_and(|codec| !codec.is_rtx())
}

/// What the client is told of its reception of the producer. `ssrc` names the stream, the next number its RTX.
///
/// # Errors
/// [`OrtcError::Unsupported`] when the client has no codec for it, see [`can_consume`].
pub fn consumer_rtp_parameters(
    consumable: &RtpParameters,
    capabilities: &RtpCapabilities,
    mid: String,
    ssrc: u32,
) -> Result<RtpParameters, OrtcError> {
    if !can_consume(consumable, capabilities) {
        return Err(OrtcError::Unsupported("the client has no codec for this producer".to_owned()));
    }
    let mut codecs = codecs(consumable, capabilities);
    let rtx = codecs.iter().any(RtpCodecParameters::is_rtx);
    let header_extensions = header_extensions(consumable, capabilities);
    drop_unused_feedback(&mut codecs, &header_extensions);
    let source = consumable.encodings.first().cloned().unwrap_or_default();
    let scalability_mode = scalability_mode(consumable).unwrap_or_else(|| source.scalability_mode.clone());
    let encoding = RtpEncodingParameters {
        ssrc: Some(ssrc),
        rtx: rtx.then_some(RtpEncodingParametersRtx { ssrc: ssrc.wrapping_add(1) }),
        max_bitrate: consumable.encodings.iter().filter_map(|encoding| encoding.max_bitrate).max(),
        scalability_mode,
        ..source
    };
    Ok(RtpParameters {
        mid: Some(mid),
        codecs,
        header_extensions,
        encodings: vec![encoding],
        rtcp: consumable.rtcp.clone(),
        msid: consumable.msid.clone(),
    })
}

/// What spatial layers a producer has, of which a consumer is sent some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layering {
    /// One.
    None,
    /// One an encoding, of which a consumer is sent one at a time.
    Simulcast,
    /// Several inside its only encoding.
    Svc,
}

/// The layering of a producer.
pub fn layering(consumable: &RtpParameters) -> Layering {
    let has_layers = |codec: &RtpCodecParameters| {
        matches!(codec.mime_type(), MimeType::Video(MimeTypeVideo::Vp9 | MimeTypeVideo::AV1))
    };
    match &consumable.encodings[..] {
        [encoding] if encoding.scalability_mode.spatial_layers().get() > 1 => {
            if consumable.codecs.first().is_some_and(has_layers) { Layering::Svc } else { Layering::None }
        }
        [_] | [] => Layering::None,
        _ => Layering::Simulcast,
    }
}

/// How many spatial layers a producer has.
pub fn spatial_layers(consumable: &RtpParameters) -> usize {
    match layering(consumable) {
        Layering::Svc => consumable.encodings[0].scalability_mode.spatial_layers().get().into(),
        Layering::None | Layering::Simulcast => consumable.encodings.len(),
    }
}

/// What a consumer of several encodings is told: each of them is a spatial layer.
fn scalability_mode(consumable: &RtpParameters) -> Option<ScalabilityMode> {
    let spatial = consumable.encodings.len();
    let temporal =
        consumable.encodings.iter().map(|encoding| encoding.scalability_mode.temporal_layers().get()).max()?;
    (spatial > 1).then(|| format!("L{spatial}T{temporal}").parse().ok()).flatten()
}

/// The codecs that both ends know, RTX only with what it repairs.
fn codecs(consumable: &RtpParameters, capabilities: &RtpCapabilities) -> Vec<RtpCodecParameters> {
    let mut codecs = Vec::with_capacity(consumable.codecs.len());
    for codec in &consumable.codecs {
        let Some(theirs) = matching(codec, capabilities) else { continue };
        let mut codec = codec.clone();
        codec.rtcp_feedback_mut().retain(|feedback| theirs.rtcp_feedback.contains(feedback));
        codecs.push(codec);
    }
    let media: Vec<u8> = codecs.iter().filter(|codec| !codec.is_rtx()).map(RtpCodecParameters::payload_type).collect();
    codecs.retain(|codec| !codec.is_rtx() || Codec::from(codec).apt().is_some_and(|apt| media.contains(&apt)));
    codecs
}

fn matching<'a>(codec: &RtpCodecParameters, capabilities: &'a RtpCapabilities) -> Option<Codec<'a>> {
    capabilities.codecs.iter().map(Codec::from).find(|theirs| theirs.matches(&Codec::from(codec)))
}

/// Extensions under the router's ids: a client took these over when it loaded the router's capabilities.
fn header_extensions(consumable: &RtpParameters, capabilities: &RtpCapabilities) -> Vec<RtpHeaderExtensionParameters> {
    let known = |ours: &&RtpHeaderExtensionParameters| {
        capabilities.header_extensions.iter().any(|theirs| theirs.preferred_id == ours.id && theirs.uri == ours.uri)
    };
    consumable.header_extensions.iter().filter(known).cloned().collect()
}

/// One way of congestion feedback is enough: transport-wide where packets carry its sequence numbers, else REMB where
/// they carry the send time.
fn drop_unused_feedback(codecs: &mut [RtpCodecParameters], extensions: &[RtpHeaderExtensionParameters]) {
    let has = |uri| extensions.iter().any(|extension| extension.uri == uri);
    let transport_wide = has(RtpHeaderExtensionUri::TransportWideCcDraft01);
    let send_time = has(RtpHeaderExtensionUri::AbsSendTime);
    for codec in codecs {
        codec.rtcp_feedback_mut().retain(|feedback| match feedback {
            RtcpFeedback::TransportCc => transport_wide,
            RtcpFeedback::GoogRemb => !transport_wide && send_time,
            _ => true,
        });
    }
}
