//! The certificate that a node shows to its users, and checking theirs against the announced fingerprints (RFC 8122).

use std::sync::Arc;

use aws_lc_rs::digest;
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use sluice_proto::ortc::DtlsFingerprint;

/// The self-signed ECDSA P-256 certificate of a node, made once per process.
pub struct DtlsCertificate {
    pub(super) certificate: Certificate,
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
}

/// The certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a DTLS certificate: {0}")]
pub struct CertificateError(String);

impl DtlsCertificate {
    /// Makes a certificate with a fresh key.
    ///
    /// # Errors
    /// [`CertificateError`] if the system has no randomness.
    pub fn generate() -> Result<Arc<Self>, CertificateError> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        // The name says nothing: clients compare the fingerprint.
        let certificate = Certificate::generate_self_signed(vec!["sluice".to_owned()], provider.crypto())
            .map_err(|error| CertificateError(error.to_string()))?;
        Ok(Arc::new(Self { certificate, provider }))
    }

    /// Its fingerprints, as signalling announces them.
    pub fn fingerprints(&self) -> Vec<DtlsFingerprint> {
        let digests = self.certificate.certificate.first().map(|der| digest::digest(&digest::SHA256, der));
        let sha256 = digests.and_then(|digest| digest.as_ref().try_into().ok());
        sha256.map(|value| DtlsFingerprint::Sha256 { value }).into_iter().collect()
    }
}

/// Whether a certificate in DER has one of the fingerprints.
pub(super) fn matches(der: &[u8], fingerprints: &[DtlsFingerprint]) -> bool {
    let is = |algorithm, value: &[u8]| digest::digest(algorithm, der).as_ref() == value;
    fingerprints.iter().any(|fingerprint| match fingerprint {
        DtlsFingerprint::Sha1 { value } => is(&digest::SHA1_FOR_LEGACY_USE_ONLY, value),
        DtlsFingerprint::Sha224 { value } => is(&digest::SHA224, value),
        DtlsFingerprint::Sha256 { value } => is(&digest::SHA256, value),
        DtlsFingerprint::Sha384 { value } => is(&digest::SHA384, value),
        DtlsFingerprint::Sha512 { value } => is(&digest::SHA512, value),
    })
}
