//! The certificate that a node shows to its users, and checking theirs against the announced fingerprints (RFC 8122).

use std::sync::Arc;

use aws_lc_rs::digest;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::error::Error;
use sluice_proto::ortc::DtlsFingerprint;

use super::cookie::{Cookie, WithCookie};
use super::flight::FLIGHT_INTERVAL;
use super::handshake::CLIENT;
use crate::secure::srtp::SrtpProfile;

const GCM: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
const SHA1: SrtpProtectionProfile = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;

/// The self-signed ECDSA P-256 certificate of a node, made once per process, and all handshakes' configurations around
/// it.
pub struct DtlsCertificate {
    certificate: Certificate,
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
    client: Arc<HandshakeConfig>,
}

/// The certificate could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make a DTLS certificate: {0}")]
pub struct CertificateError(String);

impl From<Error> for CertificateError {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

impl DtlsCertificate {
    /// Makes a certificate with a fresh key.
    ///
    /// # Errors
    /// [`CertificateError`] if the system has no randomness.
    pub fn generate() -> Result<Arc<Self>, CertificateError> {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        // The name says nothing: clients compare the fingerprint.
        let certificate = Certificate::generate_self_signed(vec!["sluice".to_owned()], provider.crypto())?;
        let client = Arc::new(config(&certificate, provider.clone(), &[GCM, SHA1]).build(true, Some(CLIENT))?);
        Ok(Arc::new(Self { certificate, provider, client }))
    }

    /// Its fingerprints, as signalling announces them.
    pub fn fingerprints(&self) -> Vec<DtlsFingerprint> {
        let digests = self.certificate.certificate.first().map(|der| digest::digest(&digest::SHA256, der));
        let sha256 = digests.and_then(|digest| digest.as_ref().try_into().ok());
        sha256.map(|value| DtlsFingerprint::Sha256 { value }).into_iter().collect()
    }

    /// For a handshake that the client begins, with the one SRTP profile that it shall have and the cookie that it was
    /// given.
    pub(super) fn server_config(&self, profile: SrtpProfile, cookie: Cookie) -> Result<Arc<HandshakeConfig>, Error> {
        let profile = match profile {
            SrtpProfile::AeadAes128Gcm => GCM,
            SrtpProfile::Aes128CmSha1_80 => SHA1,
        };
        let provider = Arc::new(WithCookie { provider: self.provider.clone(), cookie });
        Ok(Arc::new(config(&self.certificate, provider, &[profile]).build(false, Some(CLIENT))?))
    }

    /// For a handshake that this end begins.
    pub(super) fn client_config(&self) -> Arc<HandshakeConfig> {
        self.client.clone()
    }
}

fn config(
    certificate: &Certificate,
    provider: Arc<dyn RTCCryptoProvider>,
    profiles: &[SrtpProtectionProfile],
) -> ConfigBuilder {
    ConfigBuilder::default()
        .with_crypto_provider(provider)
        .with_certificates(vec![certificate.clone()])
        // The one that every WebRTC endpoint has, RFC 8827 section 6.5.
        .with_cipher_suites(vec![CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256])
        .with_srtp_protection_profiles(profiles.to_vec())
        .with_flight_interval(FLIGHT_INTERVAL)
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        // No chain of authorities: the fingerprint is what is checked, by the handshake around rtc-dtls.
        .with_insecure_skip_verify(true)
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
