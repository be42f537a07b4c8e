//! The RTP, SCTP and DTLS parameter types of mediasoup (an ORTC dialect), as clients and rosters carry them in JSON.

pub use mediasoup_types::data_structures::{
    DtlsFingerprint, DtlsParameters, DtlsRole, DtlsState, IceCandidate, IceCandidateType, IceParameters, IceRole,
    IceState,
};
pub use mediasoup_types::rtp_parameters::*;
pub use mediasoup_types::scalability_modes::ScalabilityMode;
pub use mediasoup_types::sctp_parameters::*;
