//! From what a client sends to what the mesh carries.

use sluice_media::messages::RtpMapping;
use sluice_proto::ortc::{
    MediaKind, MimeType, MimeTypeAudio, MimeTypeVideo, RtcpParameters, RtpCapabilitiesFinalized,
    RtpCodecCapabilityFinalized, RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtensionDirection,
    RtpHeaderExtensionParameters, RtpHeaderExtensionUri, RtpParameters,
};
use sluice_proto::pipe::MAX_STREAMS;

use super::capabilities::rtx_of;
use super::codec::Codec;
use super::parse::{MAX_CONSUMABLE_LEN, check_len};
use super::{OrtcError, router_rtp_capabilities};

/// A producer as the data plane and the other nodes have to know it.
#[derive(Debug, Clone)]
pub struct Negotiated {
    /// How the client's payload types and streams are named inside the mesh.
    pub mapping: RtpMapping,
    /// What any consumer's parameters are derived from.
    pub consumable: RtpParameters,
}

/// Negotiates what a client wants to send. `first_ssrc` names its first stream inside the mesh, the next ones follow
/// it; `cname` stands in when the client names none.
///
/// # Errors
/// [`OrtcError::Unsupported`] for codecs that the router lacks and for more encodings than a producer may have,
/// [`OrtcError::Invalid`] for parameters that contradict each other or are longer than 4 KiB as others are told of
/// them.
pub fn negotiate_producer(
    kind: MediaKind,
    rtp: &RtpParameters,
    first_ssrc: u32,
    cname: &str,
) -> Result<Negotiated, OrtcError> {
    check_simulcast(kind, rtp)?;
    check_redundancy(rtp)?;
    let router = router_rtp_capabilities();
    let mut mapping = RtpMapping { codecs: map_codecs(kind, rtp, router)?, mapped_ssrcs: Vec::new() };
    let mut ssrc = first_ssrc;
    for _ in &rtp.encodings {
        ssrc = ssrc.max(1);
        mapping.mapped_ssrcs.push(ssrc);
        ssrc = ssrc.wrapping_add(1);
    }
    let consumable = consumable_rtp_parameters(kind, rtp, &mapping, cname);
    check_len("rtpParameters as others are told of them", &consumable, MAX_CONSUMABLE_LEN)?;
    Ok(Negotiated { mapping, consumable })
}

/// Whether the data plane can tell the encodings apart, and a receiver can be switched between them.
fn check_simulcast(kind: MediaKind, rtp: &RtpParameters) -> Result<(), OrtcError> {
    let encodings = &rtp.encodings;
    let most = if kind == MediaKind::Video { MAX_STREAMS } else { 1 };
    if encodings.len() > most {
        let reason = format!("{kind:?} has at most {most} encodings, rtpParameters has {}", encodings.len());
        return Err(OrtcError::Unsupported(reason));
    }
    if encodings.len() > 1 && rtp.codecs.iter().filter(|codec| !codec.is_rtx()).count() > 1 {
        let other = |encoding: &RtpEncodingParameters| encoding.codec_payload_type != encodings[0].codec_payload_type;
        if encodings.iter().any(other) {
            return Err(OrtcError::Unsupported("encodings of several codecs are not supported".to_owned()));
        }
    }
    Ok(())
}

/// Whether redundant audio comes with the codec that it is of, so that whoever does not know it gets that.
fn check_redundancy(rtp: &RtpParameters) -> Result<(), OrtcError> {
    let is = |mime_type| move |codec: &RtpCodecParameters| codec.mime_type() == MimeType::Audio(mime_type);
    let has = |mime_type| rtp.codecs.iter().any(is(mime_type));
    if has(MimeTypeAudio::Red) && !has(MimeTypeAudio::Opus) {
        return Err(OrtcError::Unsupported("audio/red comes together with the audio/opus that it carries".to_owned()));
    }
    Ok(())
}

/// Pairs of the client's payload types with the router's.
fn map_codecs(
    kind: MediaKind,
    rtp: &RtpParameters,
    router: &RtpCapabilitiesFinalized,
) -> Result<Vec<(u8, u8)>, OrtcError> {
    let mut mapped = Vec::with_capacity(rtp.codecs.len());
    for codec in rtp.codecs.iter().filter(|codec| !codec.is_rtx()) {
        let found = router.codecs.iter().find(|ours| Codec::from(*ours).matches(&Codec::from(codec)));
        let of_kind = matches!(
            (kind, codec.mime_type()),
            (MediaKind::Audio, MimeType::Audio(_)) | (MediaKind::Video, MimeType::Video(_))
        );
        let found = found.filter(|_| of_kind).ok_or_else(|| unsupported_codec(kind, codec, router))?;
        mapped.push((codec.payload_type(), found.preferred_payload_type()));
    }
    for codec in rtp.codecs.iter().filter(|codec| codec.is_rtx()) {
        let payload_type = codec.payload_type();
        let apt = Codec::from(codec).apt();
        let repaired = mapped.iter().find(|(theirs, _)| Some(*theirs) == apt).map(|(_, ours)| *ours);
        let repaired = repaired.ok_or_else(|| {
            OrtcError::invalid(
                "rtpParameters",
                format!("RTX payload type {payload_type} repairs no codec of these parameters"),
            )
        })?;
        let rtx = rtx_of(&router.codecs, repaired);
        let rtx =
            rtx.ok_or_else(|| OrtcError::Unsupported(format!("no RTX for payload type {repaired} of the router")))?;
        mapped.push((payload_type, rtx.preferred_payload_type()));
    }
    Ok(mapped)
}

/// Says what would do instead: the same codec as the router has it, otherwise all of the kind.
fn unsupported_codec(kind: MediaKind, codec: &RtpCodecParameters, router: &RtpCapabilitiesFinalized) -> OrtcError {
    let of_kind = |mime: MimeType| match kind {
        MediaKind::Audio => matches!(mime, MimeType::Audio(_)),
        MediaKind::Video => matches!(mime, MimeType::Video(_)),
    };
    let ours = router.codecs.iter().map(Codec::from).filter(|ours| of_kind(ours.mime_type) && !ours.is_rtx());
    let (same, others): (Vec<_>, Vec<_>) = ours.partition(|ours| ours.mime_type == codec.mime_type());
    let supported = if same.is_empty() { others } else { same };
    let supported: Vec<String> = supported.iter().map(ToString::to_string).collect();
    OrtcError::Unsupported(format!(
        "unsupported {kind:?} codec {} (payload type {}), supported: {}",
        Codec::from(codec),
        codec.payload_type(),
        supported.join(", ")
    ))
}

/// What any consumer's parameters are derived from: the router's payload types and extensions, the client's codec
/// parameters. Each of the router's codecs is there once, whatever number of payload types the client has for it.
pub fn consumable_rtp_parameters(
    kind: MediaKind,
    rtp: &RtpParameters,
    mapping: &RtpMapping,
    cname: &str,
) -> RtpParameters {
    let router = router_rtp_capabilities();
    let mut codecs: Vec<RtpCodecParameters> = Vec::new();
    for codec in rtp.codecs.iter().filter(|codec| !codec.is_rtx()) {
        let ours = mapping.codecs.iter().find(|(theirs, _)| *theirs == codec.payload_type()).map(|(_, ours)| *ours);
        let matched = router.codecs.iter().find(|candidate| Some(candidate.preferred_payload_type()) == ours);
        let is_new = |matched: &&RtpCodecCapabilityFinalized| {
            !codecs.iter().any(|codec| codec.payload_type() == matched.preferred_payload_type())
        };
        let Some(matched) = matched.filter(is_new) else { continue };
        codecs.push(codec_parameters(matched, Some(codec)));
        codecs.extend(rtx_of(&router.codecs, matched.preferred_payload_type()).map(|rtx| codec_parameters(rtx, None)));
    }
    let encodings = rtp.encodings.iter().zip(&mapping.mapped_ssrcs).map(|(encoding, ssrc)| RtpEncodingParameters {
        ssrc: Some(*ssrc),
        rid: None,
        rtx: None,
        codec_payload_type: None,
        ..encoding.clone()
    });
    // mediasoup-client says an empty one for simulcast in Chromium, whose offer names no SSRCs. Without one it tells
    // receivers of no SSRC either, and they take the stream for one that nobody announced.
    let cname = rtp.rtcp.cname.as_deref().filter(|cname| !cname.is_empty()).unwrap_or(cname);
    RtpParameters {
        mid: None,
        header_extensions: header_extensions(router, kind, &codecs),
        codecs,
        encodings: encodings.collect(),
        rtcp: RtcpParameters { cname: Some(cname.to_owned()), reduced_size: true },
        msid: rtp.msid.clone(),
    }
}

/// The extensions of this kind that the router sends with these codecs. VP8 tells receivers all that they need in its
/// payloads, so with it they get no dependency descriptor, which each packet would have.
fn header_extensions(
    router: &RtpCapabilitiesFinalized,
    kind: MediaKind,
    codecs: &[RtpCodecParameters],
) -> Vec<RtpHeaderExtensionParameters> {
    use RtpHeaderExtensionDirection::{SendOnly, SendRecv};
    let is_vp8 = codecs.iter().any(|codec| codec.mime_type() == MimeType::Video(MimeTypeVideo::Vp8));
    let is_told = |uri: RtpHeaderExtensionUri| !is_vp8 || uri != RtpHeaderExtensionUri::DependencyDescriptor;
    let sent = router
        .header_extensions
        .iter()
        .filter(|ours| ours.kind == kind && matches!(ours.direction, SendRecv | SendOnly));
    let sent = sent.filter(|ours| is_told(ours.uri));
    sent.map(|ours| RtpHeaderExtensionParameters { uri: ours.uri, id: ours.preferred_id, encrypt: false }).collect()
}

/// A router's codec with the parameters of the client's.
fn codec_parameters(ours: &RtpCodecCapabilityFinalized, theirs: Option<&RtpCodecParameters>) -> RtpCodecParameters {
    let parameters = theirs.map_or_else(|| ours.parameters(), RtpCodecParameters::parameters).clone();
    match ours.clone() {
        RtpCodecCapabilityFinalized::Audio {
            mime_type,
            preferred_payload_type,
            clock_rate,
            channels,
            rtcp_feedback,
            ..
        } => {
            let payload_type = preferred_payload_type;
            RtpCodecParameters::Audio { mime_type, payload_type, clock_rate, channels, parameters, rtcp_feedback }
        }
        RtpCodecCapabilityFinalized::Video { mime_type, preferred_payload_type, clock_rate, rtcp_feedback, .. } => {
            let payload_type = preferred_payload_type;
            RtpCodecParameters::Video { mime_type, payload_type, clock_rate, parameters, rtcp_feedback }
        }
    }
}
