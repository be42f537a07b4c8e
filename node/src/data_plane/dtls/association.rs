//! One DTLS association, from the first ClientHello or our own to the SRTP keys.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::error::Error;
use rtc_shared::{EcnCodepoint, TransportProtocol};
use sluice_proto::ortc::{DtlsFingerprint, DtlsParameters};

use super::certificate::{DtlsCertificate, matches};
use super::client_hello::{HelloCollector, has_plain_handshake, is_dtls_client, is_well_framed};
use crate::data_plane::drop_reason::DropReason;
use crate::data_plane::messages::SrtpProfile;
use crate::data_plane::srtp::{MASTER_KEY_LEN, profile_lengths};

/// The endpoint keys associations by address and there is one only, so that the client may move freely: an address of
/// documentation (RFC 5737) stands for wherever it is.
const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// The first retransmission of a flight; browsers begin with 50 ms.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(100);

/// Repetitions come twice as late each time, up to this.
const MAX_FLIGHT_INTERVAL: Duration = Duration::from_secs(3);

/// Repetitions of a flight, the last 9 s after the first sending. It is rtc-dtls's own bound.
const MAX_REPEATS: u32 = 7;

const HANDSHAKE_HELLO_VERIFY_REQUEST: u8 = 3;

/// A handshake that has not come to its end by then has failed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Datagrams that a handshake may take: two flights of a few datagrams each, retransmitted seven times. It bounds what a client can
/// make rtc-dtls buffer.
const MAX_HANDSHAKE_DATAGRAMS: u32 = 256;

/// Repetitions of the client's last flight that are looked at once connected; rtc-dtls answers seven.
const MAX_LATE_HANDSHAKE_DATAGRAMS: u32 = 64;

/// What became of the association.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Keys are there.
    Connected(SrtpKeyMaterial),
    /// The handshake went wrong, or the certificate was not the announced one.
    Failed,
    /// The client said goodbye.
    Closed,
}

/// What DTLS is for.
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeyMaterial {
    /// The profile that was agreed on.
    pub profile: SrtpProfile,
    /// Master key and salt of what this end sends.
    pub local: Vec<u8>,
    /// Master key and salt of what the client sends.
    pub remote: Vec<u8>,
}

impl std::fmt::Debug for SrtpKeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SrtpKeyMaterial").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// The DTLS association of a transport.
pub struct Association {
    certificate: Arc<DtlsCertificate>,
    phase: Phase,
    hello: HelloCollector,
    /// Datagrams that counted against the bounds of this phase.
    datagrams: u32,
    outgoing: VecDeque<BytesMut>,
}

enum Phase {
    /// The client's parameters are not known yet.
    New,
    /// The client is to begin.
    AwaitHello(Vec<DtlsFingerprint>),
    /// This end begins as soon as the client has an address.
    AwaitAddress(Vec<DtlsFingerprint>),
    Handshake {
        endpoint: Box<Endpoint>,
        flight: Flight,
        give_up_at: Instant,
    },
    Connected(Box<Endpoint>),
    /// Failed or closed.
    Over,
}

/// Our last flight, and when it is to be repeated.
///
/// rtc-dtls does that too, but it gives up after seven times at one interval, before a slow client has answered; and it forgets its timer
/// when the client repeats its own flight, which is what a client does whose answer was lost. So it is asked later each time,
/// and what it sent is sent again when it no longer would.
#[derive(Debug, Default)]
struct Flight {
    datagrams: Vec<BytesMut>,
    repeat_at: Option<Instant>,
    interval: Duration,
    repeats: u32,
}

impl Flight {
    fn new(now: Instant, datagrams: Vec<BytesMut>) -> Self {
        // A HelloVerifyRequest is not repeated: a client that misses it asks again (RFC 6347 section 3.2.1).
        let repeats =
            datagrams.first().is_none_or(|datagram| datagram.get(13) != Some(&HANDSHAKE_HELLO_VERIFY_REQUEST));
        Self { datagrams, repeat_at: repeats.then_some(now + FLIGHT_INTERVAL), interval: FLIGHT_INTERVAL, repeats: 0 }
    }

    fn repeated(&mut self, now: Instant) {
        self.repeats += 1;
        self.interval = (self.interval * 2).min(MAX_FLIGHT_INTERVAL);
        self.repeat_at = Some(now + self.interval);
    }
}

impl Association {
    /// An association that waits for the client's parameters.
    pub fn new(certificate: Arc<DtlsCertificate>) -> Self {
        Self {
            certificate,
            phase: Phase::New,
            hello: HelloCollector::default(),
            datagrams: 0,
            outgoing: VecDeque::new(),
        }
    }

    /// The client's parameters are known, whose role and fingerprints count from now on. `has_address`: the client may be sent to.
    pub fn connect(&mut self, now: Instant, parameters: &DtlsParameters, has_address: bool) -> Option<Outcome> {
        let fingerprints = parameters.fingerprints.clone();
        if is_dtls_client(parameters.role) {
            self.hello = HelloCollector::default();
            self.phase = Phase::AwaitAddress(fingerprints);
            if has_address { self.client_has_address(now) } else { None }
        } else {
            self.phase = Phase::AwaitHello(fingerprints);
            self.accept(now)
        }
    }

    /// The client may be sent to.
    pub fn client_has_address(&mut self, now: Instant) -> Option<Outcome> {
        let Phase::AwaitAddress(fingerprints) = &mut self.phase else { return None };
        let fingerprints = std::mem::take(fingerprints);
        let begun = self.config(fingerprints, true, None).and_then(|config| {
            let mut endpoint = Box::new(Endpoint::new(CLIENT, TransportProtocol::UDP, None));
            endpoint.connect(now, CLIENT, config, None)?;
            Ok(endpoint)
        });
        match begun {
            Ok(endpoint) => {
                self.enter_handshake(now, endpoint);
                None
            }
            Err(error) => Some(self.fail(&error)),
        }
    }

    /// Handles a datagram of the client.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<Outcome>, DropReason> {
        if !is_well_framed(datagram) {
            return Err(DropReason::DtlsMalformed);
        }
        match &self.phase {
            Phase::New => self.hello.push(datagram).then_some(None).ok_or(DropReason::DtlsNotConnected),
            Phase::AwaitHello(_) => {
                self.hello.push(datagram).then_some(()).ok_or(DropReason::DtlsNotConnected)?;
                Ok(self.accept(now))
            }
            Phase::Handshake { .. } => {
                self.count_datagram(MAX_HANDSHAKE_DATAGRAMS)?;
                Ok(self.handshake(now, datagram))
            }
            Phase::Connected(_) => {
                if has_plain_handshake(datagram) {
                    self.count_datagram(MAX_LATE_HANDSHAKE_DATAGRAMS)?;
                }
                self.connected(now, datagram)
            }
            Phase::AwaitAddress(_) | Phase::Over => Err(DropReason::DtlsNotConnected),
        }
    }

    fn count_datagram(&mut self, max: u32) -> Result<(), DropReason> {
        self.datagrams += 1;
        if self.datagrams > max { Err(DropReason::DtlsFlood) } else { Ok(()) }
    }

    /// Begins as server if a whole ClientHello is there.
    fn accept(&mut self, now: Instant) -> Option<Outcome> {
        let hello = self.hello.hello()?;
        let Phase::AwaitHello(fingerprints) = &mut self.phase else { return None };
        let fingerprints = std::mem::take(fingerprints);
        match self.config(fingerprints, false, hello.profile) {
            Ok(config) => {
                self.enter_handshake(now, Box::new(Endpoint::new(CLIENT, TransportProtocol::UDP, Some(config))))
            }
            Err(error) => return Some(self.fail(&error)),
        }
        self.hello.take().iter().find_map(|datagram| self.handshake(now, datagram))
    }

    fn enter_handshake(&mut self, now: Instant, endpoint: Box<Endpoint>) {
        self.datagrams = 0;
        self.phase = Phase::Handshake { endpoint, flight: Flight::default(), give_up_at: now + HANDSHAKE_TIMEOUT };
        self.collect(now);
    }

    fn handshake(&mut self, now: Instant, datagram: &[u8]) -> Option<Outcome> {
        let Phase::Handshake { endpoint, .. } = &mut self.phase else { return None };
        let result = endpoint.read(now, CLIENT, None::<EcnCodepoint>, BytesMut::from(datagram));
        self.collect(now);
        match result {
            Ok(events) if events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)) => {
                self.phase = Phase::Over;
                Some(Outcome::Closed)
            }
            Ok(events) if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) => {
                Some(self.complete())
            }
            Ok(_) => None,
            Err(error) => Some(self.fail(&error)),
        }
    }

    fn complete(&mut self) -> Outcome {
        let Phase::Handshake { endpoint, .. } = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Outcome::Failed;
        };
        let Some(keys) = export_keys(&endpoint) else {
            tracing::debug!("DTLS handshake agreed on no SRTP profile");
            return Outcome::Failed;
        };
        self.datagrams = 0;
        self.phase = Phase::Connected(endpoint);
        Outcome::Connected(keys)
    }

    fn connected(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<Outcome>, DropReason> {
        let Phase::Connected(endpoint) = &mut self.phase else { return Ok(None) };
        let result = endpoint.read(now, CLIENT, None::<EcnCodepoint>, BytesMut::from(datagram));
        self.collect(now);
        match result {
            Ok(events) if !events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)) => Ok(None),
            // Only what was decrypted is believed once connected: the alert is the client's.
            Ok(_) | Err(Error::ErrAlertFatalOrClose) => {
                self.phase = Phase::Over;
                Ok(Some(Outcome::Closed))
            }
            Err(_) => Err(DropReason::DtlsMalformed),
        }
    }

    fn fail(&mut self, error: &Error) -> Outcome {
        tracing::debug!(%error, "DTLS handshake failed");
        self.phase = Phase::Over;
        Outcome::Failed
    }

    /// Takes what the endpoint wants to be sent; in a handshake that is a flight.
    fn collect(&mut self, now: Instant) {
        let (Phase::Handshake { endpoint, .. } | Phase::Connected(endpoint)) = &mut self.phase else { return };
        let datagrams: Vec<_> =
            std::iter::from_fn(|| endpoint.poll_transmit()).map(|transmit| transmit.message).collect();
        self.outgoing.extend(datagrams.iter().cloned());
        if let Phase::Handshake { flight, .. } = &mut self.phase
            && !datagrams.is_empty()
        {
            *flight = Flight::new(now, datagrams);
        }
    }

    fn config(
        &self,
        fingerprints: Vec<DtlsFingerprint>,
        is_client: bool,
        profile: Option<SrtpProfile>,
    ) -> Result<Arc<HandshakeConfig>, Error> {
        let profiles = match profile {
            Some(profile) => vec![to_library(profile)],
            // As client, our order; as server without a common profile, the refusal is rtc-dtls's to send.
            None => {
                vec![SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80]
            }
        };
        let config = ConfigBuilder::default()
            .with_crypto_provider(self.certificate.provider.clone())
            .with_certificates(vec![self.certificate.certificate.clone()])
            .with_srtp_protection_profiles(profiles)
            .with_flight_interval(FLIGHT_INTERVAL)
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            // No chain of authorities: the fingerprint is what is checked (RFC 8122).
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(move |chain, _| match chain.first() {
                Some(der) if matches(der, &fingerprints) => Ok(()),
                _ => Err(Error::Other("the certificate has not the announced fingerprint".to_owned())),
            })))
            .build(is_client, Some(CLIENT))?;
        Ok(Arc::new(config))
    }

    /// The next datagram to send to the client.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.outgoing.pop_front()
    }

    /// When a flight is to be repeated or the handshake to be given up.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let Phase::Handshake { flight, give_up_at, .. } = &self.phase else { return None };
        Some(flight.repeat_at.map_or(*give_up_at, |at| at.min(*give_up_at)))
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Outcome> {
        let Phase::Handshake { endpoint, flight, give_up_at } = &mut self.phase else { return None };
        if *give_up_at <= now || flight.repeats >= MAX_REPEATS && flight.repeat_at.is_some_and(|at| at <= now) {
            return Some(self.fail(&Error::Other("the client does not answer".to_owned())));
        }
        if flight.repeat_at.is_none_or(|at| at > now) {
            return None;
        }
        // Its repetition has fresh record numbers, ours looks like a datagram that the network doubled: a client that missed the
        // first takes either.
        let result = endpoint.handle_timeout(CLIENT, now);
        let mut datagrams: Vec<_> =
            std::iter::from_fn(|| endpoint.poll_transmit()).map(|transmit| transmit.message).collect();
        if datagrams.is_empty() {
            datagrams.clone_from(&flight.datagrams);
        }
        self.outgoing.extend(datagrams);
        flight.repeated(now);
        result.err().map(|error| self.fail(&error))
    }

    /// Says goodbye, if there is somebody to say it to.
    pub fn close(&mut self, now: Instant) {
        if let Phase::Handshake { endpoint, .. } | Phase::Connected(endpoint) = &mut self.phase {
            // It only queues the alert.
            let _ = endpoint.close(now);
        }
        self.collect(now);
        self.phase = Phase::Over;
    }
}

fn to_library(profile: SrtpProfile) -> SrtpProtectionProfile {
    match profile {
        SrtpProfile::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        SrtpProfile::Aes128CmSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    }
}

/// The keys of RFC 5764 section 4.2: client key, server key, client salt, server salt.
fn export_keys(endpoint: &Endpoint) -> Option<SrtpKeyMaterial> {
    let state = endpoint.get_connection_state(CLIENT)?;
    let profile = match state.srtp_protection_profile() {
        SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::AeadAes128Gcm,
        SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::Aes128CmSha1_80,
        _ => return None,
    };
    let salt_len = profile_lengths(profile).salt;
    let exported =
        state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (MASTER_KEY_LEN + salt_len)).ok()?.into_bytes();
    let (keys, salts) = exported.split_at_checked(2 * MASTER_KEY_LEN)?;
    let (client_key, server_key) = keys.split_at_checked(MASTER_KEY_LEN)?;
    let (client_salt, server_salt) = salts.split_at_checked(salt_len)?;
    let (client, server) = ([client_key, client_salt].concat(), [server_key, server_salt].concat());
    let (local, remote) = if state.is_client() { (client, server) } else { (server, client) };
    Some(SrtpKeyMaterial { profile, local, remote })
}
