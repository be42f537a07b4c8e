//! DTLS.
use std::sync::Arc;

use sluice_proto::ortc::DtlsFingerprint;

/// The certificate of a node, made once per process.
pub struct DtlsCertificate {}

impl DtlsCertificate {
    /// Makes a self-signed ECDSA P-256 certificate.
    pub fn generate() -> Arc<Self> {
        todo!()
    }

    /// Its fingerprints, as signalling announces them.
    pub fn fingerprints(&self) -> Vec<DtlsFingerprint> {
        todo!()
    }
}
