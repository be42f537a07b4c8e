//! One WebRTC transport seen from the client, sans-IO: ICE controlling, then DTLS, then SRTP, and SCTP where data
//! channels are wanted.
//!
//! The owner feeds datagrams and time into [`ClientTransport::handle_input`], which hands back the media of a datagram,
//! and afterwards drains [`ClientTransport::poll_message`] and [`ClientTransport::poll_output`] until they are empty;
//! no socket and no clock is touched here.

mod certificate;
#[cfg(test)]
mod data_server;
mod dtls;
mod ice;
mod lite_server;
mod sctp;
mod srtp;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::BytesMut;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use self::dtls::{DtlsEvent, DtlsSession};
use self::ice::{IceAgent, IceEvent};
use self::sctp::Association;
use self::srtp::SrtpSession;

pub use self::certificate::Certificate;
#[cfg(test)]
pub(crate) use self::data_server::DataServer;
pub use self::ice::IceCredentials;
#[doc(hidden)]
pub use self::lite_server::LiteServer;
pub use self::sctp::{Delivery, SCTP_STREAMS, SctpMessage, SctpParameters};
pub use self::srtp::SrtpProfile;

/// Which end of DTLS this client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// Sends the ClientHello: what browsers do towards an SFU that says `auto`.
    Client,
    /// Waits for it.
    Server,
}

/// What this end brings along.
#[derive(Clone)]
pub struct TransportConfig {
    /// Shown in DTLS.
    pub certificate: Arc<Certificate>,
    /// This end's role in DTLS.
    pub dtls_role: DtlsRole,
    /// Offered, in order of preference.
    pub srtp_profiles: Vec<SrtpProfile>,
    /// Opens only every nth RTP packet; of the others only the header is looked at. 1 opens every packet. For measuring
    /// a server on a machine that has no processor time left for its clients.
    pub open_every: u32,
}

impl TransportConfig {
    /// A browser's choices: DTLS client, Chromium's profiles, every packet opened.
    pub fn new(certificate: Arc<Certificate>) -> Self {
        Self { certificate, dtls_role: DtlsRole::Client, srtp_profiles: SrtpProfile::CHROMIUM.to_vec(), open_every: 1 }
    }
}

/// How datagrams reach a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// As they are.
    Udp,
    /// By a connection (RFC 6544).
    Tcp,
}

/// What signalling said about the server's end.
#[derive(Debug, Clone)]
pub struct RemoteParameters {
    /// The server's ICE credentials.
    pub ice: IceCredentials,
    /// Its one candidate.
    pub candidate: SocketAddr,
    /// How that is reached.
    pub protocol: Protocol,
    /// SHA-256 fingerprints of its certificate, as SDP writes them.
    pub fingerprints: Vec<String>,
    /// Its end of the association of data channels; `None`: there is none.
    pub sctp: Option<SctpParameters>,
}

/// Into a transport.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram from the server's candidate. SRTP is opened in place: afterwards its bytes are others.
    Datagram(&'a mut [u8]),
    /// The instant that [`ClientTransport::poll_timeout`] named has come.
    Timeout,
}

/// The media of a datagram.
#[derive(Debug)]
pub enum Received<'a> {
    /// An RTP packet, authenticated and decrypted.
    Rtp(&'a [u8]),
    /// An RTP packet that was left sealed, see [`TransportConfig::open_every`]: as long as the opened packet would be,
    /// but only its header can be read, and nobody vouches for that.
    SealedRtp(&'a [u8]),
    /// A compound RTCP packet, authenticated and decrypted.
    Rtcp(BytesMut),
}

/// Out of a transport.
#[derive(Debug)]
pub enum Output {
    /// To be sent to [`ClientTransport::remote_address`].
    Transmit(BytesMut),
    /// Something changed.
    State(TransportState),
}

/// How far a transport is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportState {
    /// ICE is checking or DTLS is shaking hands.
    Connecting,
    /// Media can flow, under this profile.
    Connected(SrtpProfile),
    /// The server stopped answering (RFC 7675).
    Disconnected,
    /// DTLS failed, with the reason.
    Failed(String),
    /// The server said goodbye, or [`ClientTransport::close`] was called.
    Closed,
}

/// What a transport did and refused, in datagrams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TransportCounters {
    /// Came in.
    pub received: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Went out.
    pub sent: u64,
    /// Bytes of those.
    pub sent_bytes: u64,
    /// STUN that was no answer to a check of ours.
    pub dropped_stun: u64,
    /// SRTP or SRTCP that failed authentication or was a replay.
    pub dropped_srtp: u64,
    /// Neither STUN, DTLS nor SRTP.
    pub dropped_unknown: u64,
    /// Media offered before there were keys.
    pub dropped_unsent: u64,
}

/// Why a transport could not be made or driven.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TransportError {
    /// The crypto library refused.
    #[error("crypto: {0}")]
    Crypto(String),
    /// A connectivity check could not be made or its answer not be used.
    #[error("ICE: {0}")]
    Ice(String),
    /// The handshake failed.
    #[error("DTLS: {0}")]
    Dtls(String),
}

/// One transport of one user.
pub struct ClientTransport {
    ice: IceAgent,
    dtls: DtlsSession,
    dtls_started: bool,
    /// What the DTLS library says; asking it is not cheap enough to do for each packet of media.
    dtls_timeout: Option<Instant>,
    srtp: Option<SrtpSession>,
    sctp: Option<SctpParameters>,
    /// Once there are keys, if data channels are wanted.
    association: Option<Box<Association>>,
    state: TransportState,
    output: VecDeque<Output>,
    counters: TransportCounters,
    open_every: u32,
    until_open: u32,
    rng: ChaCha8Rng,
}

impl ClientTransport {
    /// A transport that begins its checks at `now`. Of the randomness, ICE's comes from `seed`; DTLS draws its own.
    ///
    /// # Errors
    /// [`TransportError`] when the DTLS library refuses the certificate or the profiles.
    pub fn new(
        now: Instant,
        config: &TransportConfig,
        remote: RemoteParameters,
        seed: u64,
    ) -> Result<Self, TransportError> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let dtls = DtlsSession::new(config.dtls_role, &config.certificate, &config.srtp_profiles, remote.fingerprints)?;
        let local = IceCredentials::random(&mut rng);
        let ice = IceAgent::new(now, local, remote.ice, remote.candidate, &mut rng);
        Ok(Self {
            ice,
            dtls,
            dtls_started: false,
            dtls_timeout: None,
            srtp: None,
            sctp: remote.sctp,
            association: None,
            state: TransportState::Connecting,
            output: VecDeque::new(),
            counters: TransportCounters::default(),
            open_every: config.open_every.max(1),
            until_open: 0,
            rng,
        })
    }

    /// Takes what came in, or that time passed, and returns the media that a datagram carried. Drain
    /// [`Self::poll_message`] and [`Self::poll_output`] afterwards.
    pub fn handle_input<'a>(&mut self, now: Instant, input: Input<'a>) -> Option<Received<'a>> {
        if self.is_over() {
            return None;
        }
        match input {
            Input::Datagram(datagram) => self.handle_datagram(now, datagram),
            Input::Timeout => {
                self.handle_timeout(now);
                self.collect(now);
                None
            }
        }
    }

    /// The next thing to do for the owner.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.pop_front()
    }

    /// When [`Input::Timeout`] is due; `None` once the transport is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.is_over() {
            return None;
        }
        let sctp = self.association.as_ref().and_then(|association| association.poll_timeout());
        [self.dtls_timeout, sctp].into_iter().flatten().chain([self.ice.poll_timeout()]).min()
    }

    /// Seals an RTP packet and queues it; dropped and counted before there are keys.
    pub fn send_rtp(&mut self, packet: &[u8]) {
        let sealed = self.srtp.as_mut().and_then(|srtp| srtp.seal_rtp(packet));
        self.transmit_media(sealed);
    }

    /// Seals a compound RTCP packet and queues it; dropped and counted before there are keys.
    pub fn send_rtcp(&mut self, packet: &[u8]) {
        let sealed = self.srtp.as_mut().and_then(|srtp| srtp.seal_rtcp(packet));
        self.transmit_media(sealed);
    }

    /// Queues a message of a data channel, perhaps before the association is up. `false` if it is refused: there is no
    /// association, too much waits, or it is larger than the server takes.
    pub fn send_message(&mut self, now: Instant, delivery: &Delivery, message: SctpMessage) -> bool {
        let is_over = self.is_over();
        let Some(association) = self.association.as_mut().filter(|_| !is_over) else { return false };
        let is_queued = association.send(now, delivery, message);
        self.collect(now);
        is_queued
    }

    /// The next message of a data channel that has come.
    pub fn poll_message(&mut self) -> Option<SctpMessage> {
        self.association.as_mut()?.poll_message()
    }

    /// The association of data channels is up.
    pub fn is_associated(&self) -> bool {
        self.association.as_ref().is_some_and(|association| association.is_connected())
    }

    /// Begins ICE anew with the server's new credentials.
    pub fn restart_ice(&mut self, now: Instant, remote: IceCredentials) {
        let local = IceCredentials::random(&mut self.rng);
        self.ice.restart(now, local, remote);
    }

    /// Says goodbye. Only the farewell is left in the output.
    pub fn close(&mut self, now: Instant) {
        if self.is_over() {
            return;
        }
        self.dtls.close(now);
        self.collect(now);
        self.set_state(TransportState::Closed);
    }

    /// How far the transport is.
    pub fn state(&self) -> &TransportState {
        &self.state
    }

    /// The server has answered a connectivity check at some time.
    pub fn was_reached(&self) -> bool {
        self.dtls_started
    }

    /// Where everything goes.
    pub fn remote_address(&self) -> SocketAddr {
        self.ice.remote_address()
    }

    /// This end's ICE credentials.
    pub fn local_ice(&self) -> &IceCredentials {
        self.ice.local()
    }

    /// The profile of SRTP, once there are keys.
    pub fn srtp_profile(&self) -> Option<SrtpProfile> {
        self.srtp.as_ref().map(|srtp| srtp.profile)
    }

    /// What the transport did and refused so far.
    pub fn counters(&self) -> TransportCounters {
        self.counters
    }

    fn is_over(&self) -> bool {
        matches!(self.state, TransportState::Failed(_) | TransportState::Closed | TransportState::Disconnected)
    }

    fn handle_datagram<'a>(&mut self, now: Instant, datagram: &'a mut [u8]) -> Option<Received<'a>> {
        self.counters.received += 1;
        self.counters.received_bytes += datagram.len() as u64;
        // RFC 7983 section 7.
        match datagram.first() {
            Some(128..=191) => return self.handle_media(datagram),
            Some(0..=3) => match self.ice.receive(now, datagram) {
                Ok(event) => self.on_ice(now, event),
                Err(_) => self.counters.dropped_stun += 1,
            },
            Some(20..=63) => {
                let result = self.dtls.receive(now, datagram);
                self.on_dtls(now, result);
            }
            _ => self.counters.dropped_unknown += 1,
        }
        self.collect(now);
        None
    }

    fn handle_media<'a>(&mut self, datagram: &'a mut [u8]) -> Option<Received<'a>> {
        // RFC 5761 section 4: the RTCP packet types, as the second byte shows them.
        let is_rtcp = datagram.get(1).is_some_and(|byte| (192..=223).contains(byte));
        let received = self.srtp.as_mut().and_then(|srtp| {
            if is_rtcp {
                srtp.open_rtcp(datagram).map(Received::Rtcp)
            } else if self.until_open > 0 {
                self.until_open -= 1;
                srtp.without_tag(datagram).map(Received::SealedRtp)
            } else {
                self.until_open = self.open_every - 1;
                srtp.open_rtp(datagram).map(Received::Rtp)
            }
        });
        self.counters.dropped_srtp += u64::from(received.is_none());
        received
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.dtls_timeout.is_some_and(|at| now >= at)
            && let Err(error) = self.dtls.handle_timeout(now)
        {
            self.set_state(TransportState::Failed(error.to_string()));
            return;
        }
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
        }
        match self.ice.handle_timeout(now, &mut self.rng) {
            Ok((check, event)) => {
                if let Some(check) = check {
                    self.transmit(BytesMut::from(check.as_slice()));
                }
                self.on_ice(now, event);
            }
            Err(error) => self.set_state(TransportState::Failed(error.to_string())),
        }
    }

    fn on_ice(&mut self, now: Instant, event: Option<IceEvent>) {
        match event {
            Some(IceEvent::Connected) if !self.dtls_started => {
                self.dtls_started = true;
                if let Err(error) = self.dtls.start(now) {
                    self.set_state(TransportState::Failed(error.to_string()));
                }
            }
            Some(IceEvent::Expired) => self.set_state(TransportState::Disconnected),
            Some(IceEvent::Connected) | None => {}
        }
    }

    fn on_dtls(&mut self, now: Instant, result: Result<Vec<DtlsEvent>, TransportError>) {
        match result {
            Ok(events) => events.into_iter().for_each(|event| self.on_dtls_event(now, event)),
            // With keys in place a strange DTLS record is a stranger's: media goes on.
            Err(_) if self.srtp.is_some() => self.counters.dropped_unknown += 1,
            Err(error) => {
                self.collect(now);
                self.set_state(TransportState::Failed(error.to_string()));
            }
        }
    }

    fn on_dtls_event(&mut self, now: Instant, event: DtlsEvent) {
        match (event, &mut self.association) {
            (DtlsEvent::Connected(material), _) => match SrtpSession::new(&material) {
                Ok(session) => {
                    self.srtp = Some(session);
                    self.association = self.sctp.map(|parameters| Box::new(Association::new(now, parameters)));
                    self.set_state(TransportState::Connected(material.profile));
                }
                Err(error) => self.set_state(TransportState::Failed(error.to_string())),
            },
            (DtlsEvent::ApplicationData(packet), Some(association)) => association.receive(now, &packet),
            (DtlsEvent::ApplicationData(_), None) => self.counters.dropped_unknown += 1,
            (DtlsEvent::Closed, _) => self.set_state(TransportState::Closed),
        }
    }

    /// Whatever DTLS and the association were told, this follows.
    fn collect(&mut self, now: Instant) {
        while let Some(packet) = self.association.as_mut().and_then(|association| association.poll_transmit()) {
            // Of an association whose DTLS has ended nothing is sent any more.
            let _ = self.dtls.send(now, &packet);
        }
        self.dtls_timeout = self.dtls.poll_timeout();
        while let Some(flight) = self.dtls.poll_transmit() {
            self.transmit(flight);
        }
    }

    fn transmit_media(&mut self, sealed: Option<BytesMut>) {
        match sealed {
            Some(sealed) if !self.is_over() => self.transmit(sealed),
            _ => self.counters.dropped_unsent += 1,
        }
    }

    fn transmit(&mut self, datagram: BytesMut) {
        self.counters.sent += 1;
        self.counters.sent_bytes += datagram.len() as u64;
        self.output.push_back(Output::Transmit(datagram));
    }

    fn set_state(&mut self, state: TransportState) {
        self.state = state.clone();
        self.output.push_back(Output::State(state));
    }
}

#[cfg(test)]
mod tests;
