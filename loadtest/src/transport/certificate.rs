//! The self-signed certificate that a client shows in DTLS, known to the other end by its fingerprint (RFC 8122).

use std::sync::Arc;

use rtc_dtls::crypto::Certificate as DtlsCertificate;
use rtc_srtp::crypto::{HashAlgorithm, RTCCryptoProvider, default_provider};

use super::TransportError;

/// An ECDSA P-256 certificate with its key; one may serve any number of transports.
#[derive(Clone)]
pub struct Certificate {
    pub(super) dtls: DtlsCertificate,
    fingerprint: String,
}

impl Certificate {
    /// Makes a new certificate.
    ///
    /// # Errors
    /// [`TransportError::Crypto`] when the crypto library cannot.
    pub fn generate() -> Result<Arc<Self>, TransportError> {
        let provider = provider()?;
        let dtls = DtlsCertificate::generate_self_signed(vec!["sluice-loadtest".to_owned()], provider.crypto())
            .map_err(|error| TransportError::Crypto(error.to_string()))?;
        let der = dtls.certificate.first().map(AsRef::as_ref).unwrap_or_default();
        let fingerprint = sha256_fingerprint(der)?;
        Ok(Arc::new(Self { dtls, fingerprint }))
    }

    /// The SHA-256 fingerprint as SDP writes it: upper-case hex bytes with colons.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

/// SHA-256 of a DER certificate as SDP writes it.
pub(super) fn sha256_fingerprint(der: &[u8]) -> Result<String, TransportError> {
    let digest = provider()?
        .crypto()
        .hash(HashAlgorithm::Sha256, der)
        .map_err(|error| TransportError::Crypto(error.to_string()))?;
    let bytes: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
    Ok(bytes.join(":"))
}

pub(super) fn provider() -> Result<Arc<dyn RTCCryptoProvider>, TransportError> {
    default_provider().map_err(|error| TransportError::Crypto(error.to_string()))
}
