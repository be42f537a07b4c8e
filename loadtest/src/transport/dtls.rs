//! DTLS 1.2 for one transport, in either role, and the SRTP keys that come out of it (RFC 5764).

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error;
use rtc_srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;

use super::certificate::{Certificate, provider, sha256_fingerprint};
use super::srtp::{KeyingMaterial, SrtpProfile};
use super::{DtlsRole, TransportError};

/// First retransmission of a flight; the library's default of one second makes every lost handshake packet a second of
/// silence.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(100);
/// Repetitions come twice as late each time, up to this. rtc-dtls repeats at one interval, and gives up after seven
/// times: a server that is busy for a second would be given up.
const MAX_FLIGHT_INTERVAL: Duration = Duration::from_secs(3);

/// The library tells associations apart by address. There is one here, and it must survive a change of the path, so it
/// gets an address that nothing else has (TEST-NET-1).
const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 1);

/// What came of feeding the session.
#[derive(Debug)]
pub(super) enum DtlsEvent {
    Connected(KeyingMaterial),
    /// What the other end sent under the keys: SCTP (RFC 8261).
    ApplicationData(BytesMut),
    /// The other end said goodbye.
    Closed,
}

pub(super) struct DtlsSession {
    endpoint: Endpoint,
    role: DtlsRole,
    client_config: Option<Arc<HandshakeConfig>>,
    /// Until the present flight is repeated.
    interval: Duration,
    repeat_at: Option<Instant>,
    /// Number of the other end's newest handshake message, and of the newest that was answered.
    heard: Option<u16>,
    answered: Option<u16>,
    /// What is to be sent answers what was heard, and is no repetition.
    answers: bool,
}

impl DtlsSession {
    /// `fingerprints` are the other end's, SHA-256, as signalled; a certificate that has none of them fails the
    /// handshake.
    pub(super) fn new(
        role: DtlsRole,
        certificate: &Certificate,
        profiles: &[SrtpProfile],
        fingerprints: Vec<String>,
    ) -> Result<Self, TransportError> {
        let verify = move |chain: &[Vec<u8>], _: &[_]| verify_fingerprint(chain, &fingerprints);
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider()?)
            .with_certificates(vec![certificate.dtls.clone()])
            .with_srtp_protection_profiles(profiles.iter().map(|&profile| profile.into()).collect())
            .with_extended_master_secret(ExtendedMasterSecretType::Require)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_flight_interval(FLIGHT_INTERVAL)
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .with_server_name("sluice-loadtest".to_owned())
            .build(role == DtlsRole::Client, None)
            .map_err(|error| TransportError::Dtls(error.to_string()))?;
        let config = Arc::new(config);
        let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let (server_config, client_config) = match role {
            DtlsRole::Client => (None, Some(config)),
            DtlsRole::Server => (Some(config), None),
        };
        let endpoint = Endpoint::new(local, TransportProtocol::UDP, server_config);
        let (interval, repeat_at, heard, answered) = (FLIGHT_INTERVAL, None, None, None);
        Ok(Self { endpoint, role, client_config, interval, repeat_at, heard, answered, answers: false })
    }

    /// Sends the first flight, if that is this end's part.
    pub(super) fn start(&mut self, now: Instant) -> Result<(), TransportError> {
        match self.client_config.take() {
            Some(config) => {
                self.repeat_at = Some(now + self.interval);
                self.endpoint.connect(now, PEER, config, None).map_err(|error| TransportError::Dtls(error.to_string()))
            }
            None => Ok(()),
        }
    }

    /// # Errors
    /// Whatever the library says about the datagram. Before the handshake is complete that ends the transport.
    pub(super) fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<Vec<DtlsEvent>, TransportError> {
        if self.client_config.is_some() {
            // A datagram before our first flight can be nothing that we asked for.
            return Ok(Vec::new());
        }
        let newest = newest_message(datagram);
        // Of a flight that the other end repeats because it never got the answer the library makes that it forgets when
        // to repeat that.
        if newest.is_some() && newest <= self.answered {
            return Ok(Vec::new());
        }
        (self.heard, self.answers) = (self.heard.max(newest), true);
        let events = self
            .endpoint
            .read(now, PEER, None, BytesMut::from(datagram))
            .map_err(|error| TransportError::Dtls(error.to_string()))?;
        // What came may have been answered with the next flight.
        self.repeat_at = Some(now + self.interval);
        let mut out = Vec::new();
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => out.push(DtlsEvent::Connected(self.keying_material()?)),
                EndpointEvent::ApplicationData(data) => out.push(DtlsEvent::ApplicationData(data)),
                EndpointEvent::PeerClosed => out.push(DtlsEvent::Closed),
                _ => {}
            }
        }
        Ok(out)
    }

    /// Sends application data, one record of it.
    ///
    /// # Errors
    /// When there are no keys, or none any more.
    pub(super) fn send(&mut self, now: Instant, data: &[u8]) -> Result<(), TransportError> {
        self.endpoint.write(now, PEER, data).map_err(|error| TransportError::Dtls(error.to_string()))
    }

    pub(super) fn poll_transmit(&mut self) -> Option<BytesMut> {
        let transmit = self.endpoint.poll_transmit()?;
        self.answered = if self.answers { self.heard } else { self.answered };
        Some(transmit.message)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.endpoint.poll_timeout(&PEER).and(self.repeat_at)
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), TransportError> {
        self.interval = (self.interval * 2).min(MAX_FLIGHT_INTERVAL);
        (self.repeat_at, self.answers) = (Some(now + self.interval), false);
        match self.endpoint.handle_timeout(PEER, now) {
            Ok(()) | Err(Error::InvalidRemoteAddress(_)) => Ok(()),
            Err(error) => Err(TransportError::Dtls(error.to_string())),
        }
    }

    pub(super) fn close(&mut self, now: Instant) {
        self.endpoint.stop(now, PEER);
    }

    fn keying_material(&self) -> Result<KeyingMaterial, TransportError> {
        let state = self
            .endpoint
            .get_connection_state(PEER)
            .ok_or_else(|| TransportError::Dtls("no association after the handshake".to_owned()))?;
        let profile = SrtpProfile::try_from(state.srtp_protection_profile())?;
        let bytes = state
            .export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], profile.keying_material_len())
            .map_err(|error| TransportError::Dtls(error.to_string()))?;
        Ok(KeyingMaterial { profile, bytes: bytes.as_ref().to_vec(), is_client: self.role == DtlsRole::Client })
    }
}

/// The greatest number of a datagram's handshake messages (RFC 6347 sections 4.1 and 4.2.2), if it is nothing but such,
/// in the clear.
fn newest_message(datagram: &[u8]) -> Option<u16> {
    let mut newest = None;
    let mut rest = datagram;
    while !rest.is_empty() {
        let (&[kind, _, _, epoch_high, epoch_low, .., len_high, len_low], body) = rest.split_first_chunk::<13>()?;
        let (mut messages, behind) = body.split_at_checked(u16::from_be_bytes([len_high, len_low]).into())?;
        if (kind, epoch_high, epoch_low) != (22, 0, 0) {
            return None;
        }
        while !messages.is_empty() {
            let (header, body) = messages.split_first_chunk::<12>()?;
            newest = newest.max(Some(u16::from_be_bytes([header[4], header[5]])));
            messages = body.get(u32::from_be_bytes([0, header[9], header[10], header[11]]) as usize..)?;
        }
        rest = behind;
    }
    newest
}

fn verify_fingerprint(chain: &[Vec<u8>], expected: &[String]) -> Result<(), Error> {
    let leaf = chain.first().ok_or_else(|| Error::Other("no certificate".to_owned()))?;
    let actual = sha256_fingerprint(leaf).map_err(|error| Error::Other(error.to_string()))?;
    if expected.iter().any(|fingerprint| fingerprint.eq_ignore_ascii_case(&actual)) {
        Ok(())
    } else {
        Err(Error::Other(format!("the certificate's fingerprint {actual} is not the announced one")))
    }
}

impl From<SrtpProfile> for SrtpProtectionProfile {
    fn from(profile: SrtpProfile) -> Self {
        match profile {
            SrtpProfile::Aes128CmSha1_80 => Self::Srtp_Aes128_Cm_Hmac_Sha1_80,
            SrtpProfile::AeadAes128Gcm => Self::Srtp_Aead_Aes_128_Gcm,
            SrtpProfile::AeadAes256Gcm => Self::Srtp_Aead_Aes_256_Gcm,
        }
    }
}

impl TryFrom<SrtpProtectionProfile> for SrtpProfile {
    type Error = TransportError;

    fn try_from(profile: SrtpProtectionProfile) -> Result<Self, TransportError> {
        match profile {
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => Ok(Self::Aes128CmSha1_80),
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => Ok(Self::AeadAes128Gcm),
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm => Ok(Self::AeadAes256Gcm),
            other => Err(TransportError::Dtls(format!("no usable SRTP profile was negotiated: {other:?}"))),
        }
    }
}
