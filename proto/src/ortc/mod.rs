//! The RTP, SCTP and DTLS parameter types of mediasoup (an ORTC dialect), as clients and rosters carry them in JSON.
//! Those of RTP are Sluice's own, since codecs and header extensions are among them that the crate of mediasoup's types
//! has no names for; their JSON is the same.

mod names;
mod parameters;

pub use mediasoup_types::data_structures::{
    DtlsFingerprint, DtlsParameters, DtlsRole, DtlsState, IceCandidate, IceCandidateType, IceParameters, IceRole,
    IceState,
};
pub use mediasoup_types::scalability_modes::ScalabilityMode;
pub use mediasoup_types::sctp_parameters::*;
pub use names::{
    MediaKind, MimeType, MimeTypeAudio, MimeTypeVideo, RtcpFeedback, RtpHeaderExtensionDirection,
    RtpHeaderExtensionUri, UnknownName,
};
pub use parameters::{
    RtcpParameters, RtpCapabilities, RtpCapabilitiesFinalized, RtpCodecCapability, RtpCodecCapabilityFinalized,
    RtpCodecParameters, RtpCodecParametersParameters, RtpCodecParametersParametersValue, RtpEncodingParameters,
    RtpEncodingParametersRtx, RtpHeaderExtension, RtpHeaderExtensionParameters, RtpParameters,
};
