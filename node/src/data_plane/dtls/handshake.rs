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
use super::client_hello::{ClientHello, cookie, is_server_hello};
use super::flight::Flight;
use super::inbound::{CERTIFICATE, CLIENT_HELLO, Inbound, SERVER_HELLO};
use super::record::{RECORD_HEADER_LEN, Reader, fatal_alert, handshake_record};
use super::session::Session;
use crate::data_plane::drop_reason::DropReason;

/// The endpoint keys associations by address and there is one only, so that the client may move freely: an address of
/// documentation (RFC 5737) stands for wherever it is.
pub(super) const CLIENT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 9);

/// A handshake that has not come to its end by then has failed.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// Who is refused may be somebody else who sends with the client's address. The client's own message has this time to come:
/// twice what it takes OpenSSL to repeat it, and some.
const REFUSAL_DELAY: Duration = Duration::from_secs(3);

const ALERT_HANDSHAKE_FAILURE: u8 = 40;
const ALERT_BAD_CERTIFICATE: u8 = 42;

/// A handshake with a client whose fingerprints are known.
pub(super) struct Handshake {
    certificate: Arc<DtlsCertificate>,
    fingerprints: Vec<DtlsFingerprint>,
    inbound: Inbound,
    /// `None` until the client, if it is to begin, has said hello.
    endpoint: Option<Endpoint>,
    /// The random of the ClientHello that the endpoint began with.
    hello: Vec<u8>,
    flight: Flight,
    /// Set when the handshake begins.
    give_up_at: Option<Instant>,
    /// The alert to give up with, if something was said that cannot be agreed to.
    refusal: Option<u8>,
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
    pub(super) fn accept(
        certificate: Arc<DtlsCertificate>,
        fingerprints: Vec<DtlsFingerprint>,
        inbound: Inbound,
    ) -> Self {
        Self {
            certificate,
            fingerprints,
            inbound,
            endpoint: None,
            hello: Vec::new(),
            flight: Flight::default(),
            give_up_at: None,
            refusal: None,
        }
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
        let mut handshake = Self::accept(certificate, fingerprints, Inbound::new(true));
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
        self.begin(now, out);
        while self.endpoint.is_some() {
            let mut is_stranger = false;
            let Self { inbound, fingerprints, hello, flight, .. } = self;
            let asked = flight.hello_verify_request().and_then(cookie);
            let record = inbound.next(|kind, body| {
                is_stranger = kind == CERTIFICATE && !is_of_client(body, fingerprints);
                !is_stranger && is_acceptable(kind, body, hello, asked)
            });
            if is_stranger {
                self.refuse(now, ALERT_BAD_CERTIFICATE);
            }
            let end = self.read(now, &record?);
            self.collect(now, out);
            if end.is_some() {
                return end;
            }
        }
        None
    }

    /// Begins by the first ClientHello, and anew if the client begins anew. Whoever it was that said hello must first show
    /// by a second hello that they receive what is sent to the client (RFC 6347 section 4.2.1); until then the newest
    /// counts.
    fn begin(&mut self, now: Instant, out: &mut VecDeque<BytesMut>) {
        let Some(body) = self.inbound.hello() else { return };
        let Some(hello) = ClientHello::parse(body) else { return self.inbound.forget_hello() };
        self.give_up_at.get_or_insert(now + HANDSHAKE_TIMEOUT);
        let Some(profile) = hello.profile else { return self.refuse_hello(now) };
        if self.endpoint.is_some() && (hello.random == self.hello || !self.flight.may_repeat(now)) {
            return;
        }
        let random = hello.random.to_vec();
        let Some(record) = self.inbound.open() else { return };
        let mut endpoint = Endpoint::new(CLIENT, TransportProtocol::UDP, Some(self.certificate.server_config(profile)));
        match endpoint.read(now, CLIENT, None::<EcnCodepoint>, BytesMut::from(&record[..])) {
            Ok(_) => {
                self.hello = random;
                self.endpoint = Some(endpoint);
                self.collect(now, out);
            }
            Err(error) => {
                tracing::debug!(%error, "a ClientHello that cannot be answered");
                self.refuse_hello(now);
            }
        }
    }

    fn refuse_hello(&mut self, now: Instant) {
        self.inbound.forget_hello();
        self.refuse(now, ALERT_HANDSHAKE_FAILURE);
    }

    /// Gives up soon, unless what can be agreed to is said until then.
    fn refuse(&mut self, now: Instant, alert: u8) {
        if self.refusal.replace(alert).is_none() {
            let soon = now + REFUSAL_DELAY;
            self.give_up_at = Some(self.give_up_at.map_or(soon, |at| at.min(soon)));
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
        [self.give_up_at, self.flight.repeat_at()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(super) fn handle_timeout(&mut self, now: Instant, out: &mut VecDeque<BytesMut>) -> Option<End> {
        if self.give_up_at.is_some_and(|at| at <= now) || self.flight.is_exhausted(now) {
            out.extend(self.refusal.map(|alert| BytesMut::from(&fatal_alert(alert)[..])));
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

    /// What is kept of a handshake that is complete, and its keys; `None` if the client is not whom it was announced to be,
    /// or no SRTP profile was agreed on.
    pub(super) fn finish(self, now: Instant) -> Option<(Session, SrtpKeyMaterial)> {
        let mut endpoint = self.endpoint?;
        let state = endpoint.get_connection_state(CLIENT)?;
        if !state.peer_certificates.first().is_some_and(|der| matches(der, &self.fingerprints)) {
            tracing::debug!("the client's certificate has not the announced fingerprint");
            return None;
        }
        let keys = SrtpKeyMaterial::export(state)?;
        let answer = if state.is_client() { Vec::new() } else { self.flight.into_datagrams() };
        match Session::new(now, &self.certificate, &mut endpoint, answer) {
            Ok(session) => Some((session, keys)),
            Err(error) => {
                tracing::error!(%error, "cannot keep a DTLS session");
                None
            }
        }
    }
}

/// Whether the handshake may see a message. What others than the client can send is left out as far as it can be told: a
/// cookie or random that is not the client's, and what rtc-dtls would not understand, but count as said.
fn is_acceptable(kind: u8, body: &[u8], hello: &[u8], asked: Option<&[u8]>) -> bool {
    let is_right = match kind {
        CLIENT_HELLO => {
            ClientHello::parse(body).is_some_and(|second| second.random == hello && Some(second.cookie) == asked)
        }
        SERVER_HELLO => is_server_hello(body),
        _ => true,
    };
    let message = || handshake_record(0, kind, 0, body).split_off(RECORD_HEADER_LEN);
    is_right && HandshakeMessage::unmarshal(&mut message().as_slice()).is_ok()
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
