//! A handshake, from the first ClientHello or our own to the keys: rtc-dtls behind what [`Inbound`] lets through.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::handshake::Handshake as HandshakeMessage;
use rtc_shared::error::Error;
use rtc_shared::{EcnCodepoint, TransportProtocol};
use sluice_proto::ortc::DtlsFingerprint;

use super::association::SrtpKeyMaterial;
use super::certificate::{DtlsCertificate, matches};
use super::client_hello::{ClientHello, is_server_hello};
use super::cookie::{Cookie, hello_verify_request};
use super::flight::Flight;
use super::inbound::{CERTIFICATE, CLIENT_HELLO, Inbound, SERVER_HELLO};
use super::record::{RECORD_HEADER_LEN, Reader, fatal_alert, handshake_record};
use super::session::Session;
use crate::drop_reason::DropReason;
use crate::rate_limit::RateLimit;

/// The endpoint keys associations by address and there is one only, so that the client may move freely: an address of
/// documentation (RFC 5737) stands for wherever it is.
pub(super) const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// A handshake that has not come to its end by then has failed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Who is refused may be somebody else who sends with the client's address. The client's own message has this time to
/// come: twice what it takes OpenSSL to repeat it, and some.
const REFUSAL_DELAY: Duration = Duration::from_secs(3);

/// First ClientHellos that are answered: a client's own among so many of others that they come to nothing more. An
/// answer is shorter than what it answers.
const HELLOS: RateLimit = RateLimit::new(50, Duration::from_millis(20));

const ALERT_HANDSHAKE_FAILURE: u8 = 40;
const ALERT_BAD_CERTIFICATE: u8 = 42;

/// A handshake with a client whose fingerprints are known.
pub(super) struct Handshake {
    certificate: Arc<DtlsCertificate>,
    fingerprints: Vec<DtlsFingerprint>,
    inbound: Inbound,
    cookie: Cookie,
    /// First ClientHellos that are answered.
    hellos: RateLimit,
    /// `None` until the client, if it is to begin, has returned the cookie.
    endpoint: Option<Endpoint>,
    flight: Flight,
    /// Set when the handshake begins.
    give_up_at: Option<Instant>,
    /// When to give up and with what alert, if something was said that cannot be agreed to.
    refusal: Option<(Instant, u8)>,
}

/// How a handshake ends.
pub(super) enum End {
    /// There are keys.
    Complete,
    /// The client said goodbye.
    Closed,
    /// It went wrong.
    Failed(Error),
}

impl Handshake {
    /// A handshake that the client begins, by what `inbound` may have already.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub(super) fn accept(
        certificate: Arc<DtlsCertificate>,
        fingerprints: Vec<DtlsFingerprint>,
        mut inbound: Inbound,
    ) -> Result<Self, Error> {
        let mut cookie = Cookie::default();
        certificate.provider.random().fill(&mut cookie).map_err(|error| Error::Crypto(error.to_string()))?;
        inbound.open();
        Ok(Self {
            certificate,
            fingerprints,
            inbound,
            cookie,
            hellos: HELLOS,
            endpoint: None,
            flight: Flight::default(),
            give_up_at: None,
            refusal: None,
        })
    }

    /// A handshake that this end begins.
    pub(super) fn connect(
        now: Instant,
        certificate: Arc<DtlsCertificate>,
        fingerprints: Vec<DtlsFingerprint>,
        out: &mut VecDeque<BytesMut>,
    ) -> Result<Self, Error> {
        let mut endpoint = Endpoint::new(CLIENT, TransportProtocol::UDP, None);
        endpoint.connect(now, CLIENT, certificate.client_config(), None)?;
        let mut handshake = Self::accept(certificate, fingerprints, Inbound::new(true))?;
        handshake.endpoint = Some(endpoint);
        handshake.give_up_at = Some(now + HANDSHAKE_TIMEOUT);
        handshake.collect(now, out);
        Ok(handshake)
    }

    /// Handles a datagram of the client.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        datagram: &[u8],
        out: &mut VecDeque<BytesMut>,
    ) -> Result<Option<End>, DropReason> {
        let brought = self.inbound.push(datagram).ok_or(DropReason::DtlsMalformed)?;
        if !brought.news && !brought.repetition {
            return Err(DropReason::DtlsUnwanted);
        }
        let end = self.advance(now, out);
        if end.is_none() && brought.repetition {
            self.flight.answer(now, out);
        }
        Ok(end)
    }

    /// Goes as far as what has arrived allows.
    pub(super) fn advance(&mut self, now: Instant, out: &mut VecDeque<BytesMut>) -> Option<End> {
        self.answer_hello(now, out);
        loop {
            let mut refusal = None;
            let Self { certificate, fingerprints, inbound, cookie, endpoint, .. } = self;
            let record = inbound.next(|kind, body| {
                match kind {
                    _ if !is_readable(kind, body) => return false,
                    CLIENT_HELLO => {
                        let Some(hello) = ClientHello::parse(body).filter(|hello| hello.cookie == *cookie) else {
                            return false;
                        };
                        *endpoint = begin(now, certificate, &hello, body);
                        refusal = endpoint.is_none().then_some(ALERT_HANDSHAKE_FAILURE);
                    }
                    CERTIFICATE if !is_of_client(body, fingerprints) => refusal = Some(ALERT_BAD_CERTIFICATE),
                    _ => {}
                }
                refusal.is_none()
            });
            if let Some(alert) = refusal {
                self.refusal.get_or_insert((now + REFUSAL_DELAY, alert));
            }
            let record = record?;
            // Who said what cannot be agreed to was somebody else.
            self.refusal = None;
            self.give_up_at.get_or_insert(now + HANDSHAKE_TIMEOUT);
            let end = self.read(now, &record);
            self.collect(now, out);
            if end.is_some() {
                return end;
            }
        }
    }

    /// Whoever it was that said hello must first show by a second hello that they receive what is sent to the client.
    fn answer_hello(&mut self, now: Instant, out: &mut VecDeque<BytesMut>) {
        let Some(body) = self.inbound.take_hello() else { return };
        if ClientHello::parse(&body).is_some() && self.hellos.allow(now) {
            out.push_back(hello_verify_request(&self.cookie));
        }
    }

    fn read(&mut self, now: Instant, record: &[u8]) -> Option<End> {
        let result = self.endpoint.as_mut()?.read(now, CLIENT, None::<EcnCodepoint>, BytesMut::from(record));
        match result {
            Ok(events) if events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)) => Some(End::Closed),
            Ok(events) if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) => {
                Some(End::Complete)
            }
            Ok(_) => None,
            Err(error) => Some(End::Failed(error)),
        }
    }

    /// Takes what the endpoint wants to be sent: a flight.
    fn collect(&mut self, now: Instant, out: &mut VecDeque<BytesMut>) {
        let datagrams = self.transmits();
        if !datagrams.is_empty() {
            out.extend(datagrams.iter().cloned());
            self.flight = Flight::new(now, datagrams);
        }
    }

    fn transmits(&mut self) -> Vec<BytesMut> {
        let Some(endpoint) = &mut self.endpoint else { return Vec::new() };
        std::iter::from_fn(|| endpoint.poll_transmit()).map(|transmit| transmit.message).collect()
    }

    /// When a flight is to be repeated or the handshake to be given up.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        [self.gives_up_at(), self.flight.repeat_at()].into_iter().flatten().min()
    }

    fn gives_up_at(&self) -> Option<Instant> {
        [self.give_up_at, self.refusal.map(|(at, _)| at)].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<BytesMut>) -> Option<End> {
        if self.gives_up_at().is_some_and(|at| at <= now) || self.flight.is_exhausted(now) {
            out.extend(self.refusal.map(|(_, alert)| BytesMut::from(&fatal_alert(alert)[..])));
            let why = if self.refusal.is_some() { "refused the client" } else { "the client does not answer" };
            return Some(End::Failed(Error::Other(why.to_owned())));
        }
        if self.flight.repeat_at().is_none_or(|at| at > now) {
            return None;
        }
        let result = self.endpoint.as_mut()?.handle_timeout(CLIENT, now);
        let fresh = self.transmits();
        self.flight.repeat(now, fresh, out);
        result.err().map(End::Failed)
    }

    /// Says goodbye, in plaintext as long as there are no keys.
    pub(super) fn close(&mut self, now: Instant, out: &mut VecDeque<BytesMut>) {
        if let Some(endpoint) = &mut self.endpoint {
            // It only queues the alert.
            let _ = endpoint.close(now);
            out.extend(self.transmits());
        }
    }

    /// What is kept of a handshake that is complete, and its keys; `None` if the client is not whom it was announced to
    /// be, or no SRTP profile was agreed on.
    pub(super) fn finish(self, now: Instant) -> Option<(Session, SrtpKeyMaterial)> {
        let endpoint = self.endpoint?;
        let state = endpoint.get_connection_state(CLIENT)?;
        if !state.peer_certificates.first().is_some_and(|der| matches(der, &self.fingerprints)) {
            tracing::debug!("the client's certificate has not the announced fingerprint");
            return None;
        }
        let keys = SrtpKeyMaterial::export(state)?;
        let answer = if state.is_client() { Vec::new() } else { self.flight.into_datagrams() };
        let session = Session::new(now, state, answer);
        if session.is_none() {
            tracing::error!("cannot keep a DTLS session");
        }
        Some((session?, keys))
    }
}

/// Begins with the ClientHello that returned the cookie; `None` if it cannot be agreed to. The handshake counts from
/// that one on (RFC 6347 section 4.2.6), so rtc-dtls may take it for the first one too, and ask for the cookie that it
/// shall see next.
fn begin(now: Instant, certificate: &DtlsCertificate, hello: &ClientHello<'_>, body: &[u8]) -> Option<Endpoint> {
    let profile = hello.profile?;
    let cookie = hello.cookie.try_into().ok()?;
    let begin = || {
        let config = certificate.server_config(profile, cookie)?;
        let mut endpoint = Endpoint::new(CLIENT, TransportProtocol::UDP, Some(config));
        let first = handshake_record(0, CLIENT_HELLO, 0, body);
        endpoint.read(now, CLIENT, None::<EcnCodepoint>, BytesMut::from(&first[..]))?;
        while endpoint.poll_transmit().is_some() {}
        Ok::<_, Error>(endpoint)
    };
    begin().inspect_err(|error| tracing::debug!(%error, "a ClientHello that cannot be answered")).ok()
}

/// Whether a message is one that rtc-dtls understands. What it does not would count as said.
fn is_readable(kind: u8, body: &[u8]) -> bool {
    let message = || handshake_record(0, kind, 0, body).split_off(RECORD_HEADER_LEN);
    (kind != SERVER_HELLO || is_server_hello(body)) && HandshakeMessage::unmarshal(&mut message().as_slice()).is_ok()
}

/// Whether the end entity's certificate (RFC 5246 section 7.4.2) has one of the client's fingerprints.
fn is_of_client(body: &[u8], fingerprints: &[DtlsFingerprint]) -> bool {
    let certificate = || {
        let mut reader = Reader(body);
        let list = reader.vector(3)?;
        reader.0.is_empty().then(|| Reader(list).vector(3))?
    };
    certificate().is_some_and(|der| matches(der, fingerprints))
}
