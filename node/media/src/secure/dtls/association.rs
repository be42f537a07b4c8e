//! One DTLS association, from the first ClientHello or our own to the SRTP keys, and to its end.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_dtls::state::State;
use sluice_proto::ortc::{DtlsFingerprint, DtlsParameters, DtlsRole};

use super::certificate::DtlsCertificate;
use super::handshake::{End, Handshake};
use super::inbound::Inbound;
use super::protection::OVERHEAD;
use super::session::Session;
use crate::drop_reason::DropReason;
use crate::secure::srtp::{MASTER_KEY_LEN, SrtpProfile, profile_lengths};

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
    outgoing: VecDeque<BytesMut>,
    /// If there is to be any.
    data: Option<VecDeque<Vec<u8>>>,
}

enum Phase {
    /// The client's parameters are not known yet, but it may have said hello.
    New(Box<Inbound>),
    /// This end begins as soon as the client has an address.
    AwaitAddress(Vec<DtlsFingerprint>),
    Handshake(Box<Handshake>),
    Connected(Session),
    /// Failed or closed.
    Over,
}

impl Association {
    /// What a record adds to the application data in it, in bytes.
    pub const RECORD_OVERHEAD: usize = OVERHEAD;

    /// An association that waits for the client's parameters.
    pub fn new(certificate: Arc<DtlsCertificate>) -> Self {
        Self { certificate, phase: Phase::New(Box::new(Inbound::new(false))), outgoing: VecDeque::new(), data: None }
    }

    /// Whether there are keys.
    pub fn is_connected(&self) -> bool {
        matches!(self.phase, Phase::Connected(_))
    }

    /// From here on application data of the client is taken, for
    /// [`poll_application_data`](Self::poll_application_data), which is to be drained after each datagram. Until this
    /// is called it is [`DropReason::DtlsUnwanted`].
    pub fn accept_application_data(&mut self) {
        self.data.get_or_insert_default();
    }

    /// The next of the client's application data, one for each record. Each came once at most.
    pub fn poll_application_data(&mut self) -> Option<Vec<u8>> {
        self.data.as_mut()?.pop_front()
    }

    /// Writes a record of application data into `record`, which has [`RECORD_OVERHEAD`](Self::RECORD_OVERHEAD) bytes
    /// more than `plain`: a datagram to be sent to the client.
    ///
    /// # Errors
    /// [`DropReason::DtlsNotConnected`], and [`DropReason::TooLarge`] if the lengths do not fit.
    pub fn seal_application_data(&mut self, plain: &[u8], record: &mut [u8]) -> Result<(), DropReason> {
        match &mut self.phase {
            Phase::Connected(session) => session.seal(plain, record),
            _ => Err(DropReason::DtlsNotConnected),
        }
    }

    /// The client's parameters are known, whose role and fingerprints count from now on. `has_address`: the client may
    /// be sent to.
    pub fn connect(&mut self, now: Instant, parameters: &DtlsParameters, has_address: bool) -> Option<Outcome> {
        let fingerprints = parameters.fingerprints.clone();
        // RFC 5763 section 5 lets the answerer choose, so a client that says `auto` takes either role. As its server
        // this end waits, and the client begins when it can be reached.
        if parameters.role == DtlsRole::Server {
            self.phase = Phase::AwaitAddress(fingerprints);
            return if has_address { self.client_has_address(now) } else { None };
        }
        let inbound = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::New(inbound) => *inbound,
            _ => Inbound::new(false),
        };
        match Handshake::accept(self.certificate.clone(), fingerprints, inbound) {
            Ok(mut handshake) => {
                let end = handshake.advance(now, &mut self.outgoing);
                self.phase = Phase::Handshake(Box::new(handshake));
                end.map(|end| self.end(now, end))
            }
            Err(error) => Some(self.end(now, End::Failed(error))),
        }
    }

    /// The client may be sent to.
    pub fn client_has_address(&mut self, now: Instant) -> Option<Outcome> {
        let Phase::AwaitAddress(fingerprints) = &mut self.phase else { return None };
        let fingerprints = std::mem::take(fingerprints);
        match Handshake::connect(now, self.certificate.clone(), fingerprints, &mut self.outgoing) {
            Ok(handshake) => {
                self.phase = Phase::Handshake(Box::new(handshake));
                None
            }
            Err(error) => Some(self.end(now, End::Failed(error))),
        }
    }

    /// Handles a datagram of the client.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<Outcome>, DropReason> {
        match &mut self.phase {
            Phase::New(inbound) => {
                let brought = inbound.push(datagram).ok_or(DropReason::DtlsMalformed)?;
                if brought.news || brought.repetition { Ok(None) } else { Err(DropReason::DtlsNotConnected) }
            }
            Phase::Handshake(handshake) => {
                let end = handshake.receive(now, datagram, &mut self.outgoing)?;
                Ok(end.map(|end| self.end(now, end)))
            }
            Phase::Connected(session) => {
                let is_over = session.receive(now, datagram, &mut self.outgoing, self.data.as_mut())?;
                Ok(is_over.then(|| self.end(now, End::Closed)))
            }
            Phase::AwaitAddress(_) | Phase::Over => Err(DropReason::DtlsNotConnected),
        }
    }

    /// A handshake or a session is over.
    fn end(&mut self, now: Instant, end: End) -> Outcome {
        match (end, std::mem::replace(&mut self.phase, Phase::Over)) {
            (End::Complete, Phase::Handshake(handshake)) => match handshake.finish(now) {
                Some((session, keys)) => {
                    self.phase = Phase::Connected(session);
                    Outcome::Connected(keys)
                }
                None => Outcome::Failed,
            },
            (End::Complete, _) => Outcome::Failed,
            (End::Closed, _) => Outcome::Closed,
            (End::Failed(error), _) => {
                tracing::debug!(%error, "DTLS handshake failed");
                Outcome::Failed
            }
        }
    }

    /// The next datagram to send to the client.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.outgoing.pop_front()
    }

    /// When a flight is to be repeated or the handshake to be given up.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Phase::Handshake(handshake) = &self.phase { handshake.poll_timeout() } else { None }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Outcome> {
        let Phase::Handshake(handshake) = &mut self.phase else { return None };
        let end = handshake.handle_timeout(now, &mut self.outgoing)?;
        Some(self.end(now, end))
    }

    /// Says goodbye, if there is somebody to say it to.
    pub fn close(&mut self, now: Instant) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Handshake(mut handshake) => handshake.close(now, &mut self.outgoing),
            Phase::Connected(mut session) => session.close(&mut self.outgoing),
            Phase::New(_) | Phase::AwaitAddress(_) | Phase::Over => {}
        }
    }
}

impl SrtpKeyMaterial {
    /// The keys of RFC 5764 section 4.2: client key, server key, client salt, server salt.
    pub(super) fn export(state: &State) -> Option<Self> {
        let profile = match state.srtp_protection_profile() {
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm => SrtpProfile::AeadAes128Gcm,
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80 => SrtpProfile::Aes128CmSha1_80,
            _ => return None,
        };
        let salt_len = profile_lengths(profile).salt;
        let exported = state
            .export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (MASTER_KEY_LEN + salt_len))
            .ok()?
            .into_bytes();
        let (keys, salts) = exported.split_at_checked(2 * MASTER_KEY_LEN)?;
        let (client_key, server_key) = keys.split_at_checked(MASTER_KEY_LEN)?;
        let (client_salt, server_salt) = salts.split_at_checked(salt_len)?;
        let (client, server) = ([client_key, client_salt].concat(), [server_key, server_salt].concat());
        let (local, remote) = if state.is_client() { (client, server) } else { (server, client) };
        Some(Self { profile, local, remote })
    }
}
