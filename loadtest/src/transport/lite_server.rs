//! The least that a client's transport connects to: ICE-lite, DTLS and SRTP, sans-IO. For tests and benchmarks of the
//! client alone.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use bytes::BytesMut;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rtc_stun::attributes::ATTR_USERNAME;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_SUCCESS, Message, Setter};
use rtc_stun::xoraddr::XorMappedAddress;

use super::certificate::provider;
use super::dtls::{DtlsEvent, DtlsSession};
use super::srtp::SrtpSession;
use super::{Certificate, DtlsRole, IceCredentials, Protocol, RemoteParameters, SrtpProfile, TransportError};

/// The other end of one transport.
pub struct LiteServer {
    ice: IceCredentials,
    fingerprint: String,
    pub(super) dtls: DtlsSession,
    /// What the client sent inside DTLS.
    pub(super) application_data: Vec<BytesMut>,
    srtp: Option<SrtpSession>,
    checks: u32,
    rng: ChaCha8Rng,
}

impl LiteServer {
    /// A server for the client with this certificate.
    ///
    /// # Errors
    /// [`TransportError`] when the DTLS library refuses the profiles.
    pub fn new(
        now: Instant,
        role: DtlsRole,
        profiles: &[SrtpProfile],
        client_fingerprint: &str,
        seed: u64,
    ) -> Result<Self, TransportError> {
        let certificate = Certificate::generate()?;
        let fingerprint = certificate.fingerprint().to_owned();
        let mut dtls = DtlsSession::new(role, &certificate, profiles, vec![client_fingerprint.to_owned()])?;
        dtls.start(now)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let ice = IceCredentials::random(&mut rng);
        Ok(Self { ice, fingerprint, dtls, application_data: Vec::new(), srtp: None, checks: 0, rng })
    }

    /// What signalling would tell the client.
    pub fn parameters(&self, candidate: SocketAddr) -> RemoteParameters {
        RemoteParameters {
            ice: self.ice.clone(),
            candidate,
            protocol: Protocol::Udp,
            fingerprints: vec![self.fingerprint.clone()],
            sctp: None,
        }
    }

    /// Takes new ICE credentials, and returns them for the client.
    pub fn restart_ice(&mut self) -> IceCredentials {
        self.ice = IceCredentials::random(&mut self.rng);
        self.ice.clone()
    }

    /// The answers to a check or a flight; media are for [`Self::open_rtp`].
    ///
    /// # Errors
    /// [`TransportError`] when the check is not for this server, or the handshake fails.
    pub fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<Vec<Vec<u8>>, TransportError> {
        let mut answers = Vec::new();
        match datagram.first() {
            Some(0..=3) => answers.push(self.answer_check(datagram)?),
            Some(20..=63) => {
                for event in self.dtls.receive(now, datagram)? {
                    match event {
                        DtlsEvent::Connected(material) => self.srtp = Some(SrtpSession::new(&material)?),
                        DtlsEvent::ApplicationData(data) => self.application_data.push(data),
                        DtlsEvent::Closed => {}
                    }
                }
            }
            _ => {}
        }
        answers.extend(std::iter::from_fn(|| self.poll_transmit()).map(|flight| flight.to_vec()));
        Ok(answers)
    }

    /// The next DTLS flight that waits.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.dtls.poll_transmit()
    }

    /// Whether the handshake is done.
    pub fn is_connected(&self) -> bool {
        self.srtp.is_some()
    }

    /// Checks answered so far.
    pub fn checks(&self) -> u32 {
        self.checks
    }

    /// Seals an RTP packet for the client; `None` before the handshake is done.
    pub fn seal_rtp(&mut self, packet: &[u8]) -> Option<BytesMut> {
        self.srtp.as_mut()?.seal_rtp(packet)
    }

    /// Opens the client's RTP in place.
    pub fn open_rtp<'a>(&mut self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        self.srtp.as_mut()?.open_rtp(packet)
    }

    fn answer_check(&mut self, datagram: &[u8]) -> Result<Vec<u8>, TransportError> {
        let ice = |error: rtc_shared::error::Error| TransportError::Ice(error.to_string());
        let provider = provider()?;
        let mut request = Message::new();
        request.unmarshal_binary(datagram).map_err(ice)?;
        FINGERPRINT.check(&request).map_err(ice)?;
        MessageIntegrity::check(&mut request, self.ice.pwd.as_bytes(), provider.crypto()).map_err(ice)?;
        let username = request.get(ATTR_USERNAME).map_err(ice)?;
        if !username.starts_with(format!("{}:", self.ice.ufrag).as_bytes()) {
            return Err(TransportError::Ice("a check for somebody else".to_owned()));
        }
        self.checks += 1;
        let setters: [Box<dyn Setter + '_>; 4] = [
            Box::new(BINDING_SUCCESS),
            Box::new(request.transaction_id),
            // Nobody looks at it: the client has one candidate.
            Box::new(XorMappedAddress { ip: Ipv4Addr::LOCALHOST.into(), port: 5000 }),
            Box::new(MessageIntegrity::new_raw_integrity_with_provider(self.ice.pwd.as_bytes(), provider.crypto())),
        ];
        let mut response = Message::new();
        response.build(&setters).map_err(ice)?;
        Ok(response.raw)
    }
}
