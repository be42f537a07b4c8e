//! A user's transport, one direction of media and of data: ICE-lite, DTLS, SRTP and SCTP around one client.
//!
//! It does no I/O. Datagrams go in by [`WebRtcTransport::receive`], come out by [`WebRtcTransport::flush`], and what
//! others must learn comes out by [`WebRtcTransport::poll_event`]: all three are to be drained after each input.

mod rolling_rate;
mod send_buffer;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_proto::ids::TransportId;
use sluice_proto::ortc::{DtlsParameters, MediaKind};

use self::rolling_rate::RollingRate;
use self::send_buffer::SendBuffer;
use crate::address::TransportAddress;
use crate::drop_reason::DropReason;
use crate::io::Transmit;
use crate::messages::{RequestError, SctpState, SrtpKeys, Traffic, TransportStats};
use crate::rate_limit::RateLimit;
use crate::secure::dtls::{Association, DtlsCertificate, DtlsState, Outcome};
use crate::secure::ice::{IceAgent, IceCredentials, IceEvent};
use crate::secure::srtp::{InvalidKeyLength, SrtpProfile, SrtpReceiver, SrtpSender, TagPrefix};
use crate::transport::buffer_pool::BufferPool;
use crate::transport::data_limits::DataLimits;
use crate::transport::demux::{Protocol, classify, is_rtcp};
use crate::transport::sctp_association::SctpAssociation;
use crate::wire::sctp::SctpPacket;

/// How long a client may be silent before its path counts as lost. Browsers check every 2.5 s, others every 4 to 6 s
/// (RFC 7675 section 5.1).
const CONSENT_TIMEOUT: Duration = Duration::from_secs(20);

/// Largest datagram that is sent: an Ethernet frame less the IPv4 and UDP headers. Narrower paths get it in fragments.
const MAX_DATAGRAM_LEN: usize = 1472;

/// Packets of SCTP that are taken of a client: twice as many as bring what is read of it in its largest packets, and
/// acknowledge as much. They cost some ten times what packets of media do. What is more is lost, as on a path that is
/// full.
const SCTP_PACKETS: RateLimit = RateLimit::new(2_000, Duration::from_micros(500));

/// What a datagram turned out to be.
#[derive(Debug)]
pub(crate) enum Received<'d> {
    /// An RTP packet, decrypted.
    Rtp(&'d mut [u8]),
    /// A compound RTCP packet, decrypted.
    Rtcp(&'d mut [u8]),
    /// It was the transport's own: STUN or DTLS, SCTP in it included.
    Handled,
}

/// What a transport has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TransportEvent {
    /// Of its path. Addresses and ufrags are for the demultiplexer and the other workers.
    Ice(IceEvent),
    /// DTLS came up, failed or was closed by the client.
    Dtls(DtlsState),
    /// SCTP came up, failed or was ended by the client, and with it its data channels.
    Sctp(SctpState),
}

impl From<IceEvent> for TransportEvent {
    fn from(event: IceEvent) -> Self {
        Self::Ice(event)
    }
}

/// A user's transport. Its ufrag is to be entered in the demultiplexer by whoever creates it or restarts its ICE.
pub(crate) struct WebRtcTransport {
    id: TransportId,
    ice: IceAgent,
    dtls: Association,
    dtls_state: Option<DtlsState>,
    connect_was_said: bool,
    srtp: Option<Srtp>,
    /// If it may carry data channels.
    data: Option<Box<Data>>,
    out: SendBuffer,
    events: VecDeque<TransportEvent>,
    counters: Counters,
}

/// What a transport has for data channels.
struct Data {
    limits: DataLimits,
    /// Where the random numbers of associations come from.
    seed: u64,
    /// From the first use on, until it is over.
    association: Option<SctpAssociation>,
    state: SctpState,
    packets: RateLimit,
    /// An association failed over what the client sent: there will be no other.
    is_barred: bool,
}

/// Both directions of SRTP.
struct Srtp {
    sender: SrtpSender,
    receiver: SrtpReceiver,
}

impl Data {
    /// The association, a new one if there is none.
    fn begin(&mut self, now: Instant) -> &mut SctpAssociation {
        self.association.get_or_insert_with(|| {
            self.seed = self.seed.wrapping_add(1);
            SctpAssociation::new(now, &self.limits, self.seed)
        })
    }
}

impl Srtp {
    fn new(profile: SrtpProfile, local: &[u8], remote: &[u8]) -> Result<Self, InvalidKeyLength> {
        Ok(Self { sender: SrtpSender::new(profile, local)?, receiver: SrtpReceiver::new(profile, remote)? })
    }
}

struct Counters {
    bytes_received: u64,
    bytes_sent: u64,
    rtp_packets_received: u64,
    rtp_packets_sent: u64,
    recv_rate: RollingRate,
    send_rate: RollingRate,
}

impl Counters {
    fn received(&mut self, now: Instant, bytes: usize) {
        self.bytes_received += bytes as u64;
        self.recv_rate.add(now, bytes);
    }

    fn sent(&mut self, now: Instant, bytes: usize) {
        self.bytes_sent += bytes as u64;
        self.send_rate.add(now, bytes);
    }
}

impl WebRtcTransport {
    /// A transport that waits for its client's connectivity checks.
    pub(crate) fn new(id: TransportId, ice: IceCredentials, certificate: Arc<DtlsCertificate>, now: Instant) -> Self {
        Self {
            id,
            ice: IceAgent::new(ice, CONSENT_TIMEOUT),
            dtls: Association::new(certificate),
            dtls_state: None,
            connect_was_said: false,
            srtp: None,
            data: None,
            out: SendBuffer::default(),
            events: VecDeque::new(),
            counters: Counters {
                bytes_received: 0,
                bytes_sent: 0,
                rtp_packets_received: 0,
                rtp_packets_sent: 0,
                recv_rate: RollingRate::new(now),
                send_rate: RollingRate::new(now),
            },
        }
    }

    /// It may carry data channels within these limits. `seed` is where the random numbers of SCTP come from.
    pub(crate) fn allow_data(&mut self, limits: DataLimits, seed: u64) {
        self.dtls.accept_application_data();
        let (association, state, packets) = (None, SctpState::New, SCTP_PACKETS);
        self.data = Some(Box::new(Data { limits, seed, association, state, packets, is_barred: false }));
    }

    /// Names the client's DTLS role and fingerprints; the handshake begins as soon as ICE has an address.
    ///
    /// # Errors
    /// [`RequestError::AlreadyConnected`] the second time, [`RequestError::Invalid`] without a fingerprint.
    pub(crate) fn connect(&mut self, now: Instant, parameters: &DtlsParameters) -> Result<(), RequestError> {
        if parameters.fingerprints.is_empty() {
            return Err(RequestError::Invalid("dtlsParameters have no fingerprint".to_owned()));
        }
        self.say_connect()?;
        let outcome = self.dtls.connect(now, parameters, self.ice.remote().is_some());
        self.after_dtls(outcome);
        Ok(())
    }

    /// In place of ICE and DTLS: the client is at the given address and has these keys.
    ///
    /// # Errors
    /// [`RequestError::AlreadyConnected`] the second time, [`RequestError::Invalid`] if a key has not the profile's
    /// length.
    pub(crate) fn connect_with_srtp_keys(&mut self, now: Instant, keys: SrtpKeys) -> Result<(), RequestError> {
        let srtp = Srtp::new(keys.profile, &keys.local, &keys.remote)
            .map_err(|error| RequestError::Invalid(error.to_string()))?;
        self.say_connect()?;
        self.srtp = Some(srtp);
        self.ice.fix(now, keys.remote_address, &mut self.events);
        self.set_dtls_state(DtlsState::Connected(keys.profile));
        self.drain_dtls();
        Ok(())
    }

    fn say_connect(&mut self) -> Result<(), RequestError> {
        if std::mem::replace(&mut self.connect_was_said, true) {
            return Err(RequestError::AlreadyConnected(self.id));
        }
        Ok(())
    }

    /// New credentials. The old ones and the path keep working until a request with the new ones was authenticated, and
    /// consent lasts as long as if it had just been renewed.
    pub(crate) fn restart_ice(&mut self, now: Instant, ice: IceCredentials) {
        self.ice.restart(now, ice, &mut self.events);
    }

    /// Handles a datagram; SRTP is decrypted in place. There may be an answer to flush in any case.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn receive<'d>(
        &mut self,
        now: Instant,
        source: TransportAddress,
        data: &'d mut [u8],
    ) -> Result<Received<'d>, DropReason> {
        let len = data.len();
        let received = match classify(data) {
            Protocol::Stun => self.receive_stun(now, source, data).map(|()| Received::Handled),
            Protocol::Dtls => self.receive_dtls(now, source, data).map(|()| Received::Handled),
            Protocol::RtpOrRtcp => self.receive_srtp(now, source, data),
            Protocol::Unknown => Err(DropReason::UnknownProtocol),
        }?;
        self.counters.received(now, len);
        Ok(received)
    }

    fn receive_stun(&mut self, now: Instant, source: TransportAddress, data: &[u8]) -> Result<(), DropReason> {
        let (answer, result) = self.ice.handle(now, source, data, &mut self.events);
        if let Some(answer) = answer {
            self.out.push_single(source, answer);
        }
        if result.is_ok() {
            // Checks come every few seconds: the clock for what need not be done more often.
            self.out.tick();
            let outcome = self.dtls.client_has_address(now);
            self.after_dtls(outcome);
        }
        result
    }

    fn receive_dtls(&mut self, now: Instant, source: TransportAddress, data: &[u8]) -> Result<(), DropReason> {
        if !self.ice.knows(source) {
            return Err(DropReason::UnknownAddress);
        }
        if self.srtp.is_none() {
            self.ice.receive_handshake(now, source);
        }
        let outcome = self.dtls.handle(now, data)?;
        self.after_dtls(outcome);
        let mut received = Ok(());
        while let Some(packet) = self.dtls.poll_application_data() {
            self.ice.receive_media(now, source, &mut self.events);
            received = received.and(self.receive_sctp(now, &packet));
        }
        received
    }

    /// A packet of the client came, whichever record it was in.
    fn receive_sctp(&mut self, now: Instant, packet: &[u8]) -> Result<(), DropReason> {
        let packet = SctpPacket::parse(packet).ok_or(DropReason::SctpMalformed)?;
        let data = self.data.as_mut().filter(|data| !data.is_barred).ok_or(DropReason::SctpNotConnected)?;
        if !data.packets.allow(now) {
            return Err(DropReason::SctpFlood);
        }
        if data.association.is_none() && !packet.can_begin() {
            return Err(DropReason::SctpNotConnected);
        }
        let received = data.begin(now).receive(now, &packet);
        self.after_sctp();
        received
    }

    /// Begins an association if there is none and there can be one: somebody has something to send to the client.
    ///
    /// # Errors
    /// [`DropReason::SctpFault`].
    pub(crate) fn open_sctp(&mut self, now: Instant) -> Result<(), DropReason> {
        let is_connected = self.dtls.is_connected();
        let Some(data) = self.data.as_mut().filter(|data| is_connected && !data.is_barred) else { return Ok(()) };
        let opened = data.begin(now).connect(now);
        self.after_sctp();
        opened
    }

    /// The association, while there is one. [`after_sctp`](Self::after_sctp) is to be called when it was used.
    pub(crate) fn sctp(&mut self) -> Option<&mut SctpAssociation> {
        self.data.as_mut()?.association.as_mut()
    }

    /// Takes what came of the association: states to tell, packets to send. If it is over it goes.
    pub(crate) fn after_sctp(&mut self) {
        let Some(data) = &mut self.data else { return };
        let Some(association) = &mut data.association else { return };
        while let Some(packet) = association.poll_transmit() {
            let Some(remote) = self.ice.remote() else { continue };
            let len = packet.len() + Association::RECORD_OVERHEAD;
            // What is lost here is sent again, as what is lost on the path.
            let _ = self.out.push(remote, (false, len), |room| self.dtls.seal_application_data(&packet, room));
        }
        while let Some(state) = association.poll_state() {
            data.state = state;
            self.events.push_back(TransportEvent::Sctp(state));
        }
        if association.is_over() {
            data.is_barred |= association.is_faulty();
            data.association = None;
        }
    }

    fn receive_srtp<'d>(
        &mut self,
        now: Instant,
        source: TransportAddress,
        data: &'d mut [u8],
    ) -> Result<Received<'d>, DropReason> {
        if !self.ice.knows(source) {
            return Err(DropReason::UnknownAddress);
        }
        let srtp = self.srtp.as_mut().ok_or(DropReason::DtlsNotConnected)?;
        let received = if is_rtcp(data) {
            Received::Rtcp(srtp.receiver.open_rtcp(data)?)
        } else {
            let packet = srtp.receiver.open_rtp(data)?;
            self.counters.rtp_packets_received += 1;
            Received::Rtp(packet)
        };
        self.ice.receive_media(now, source, &mut self.events);
        Ok(received)
    }

    /// Sends an RTP packet of this kind and of `len` bytes, which `write` fills in (all of them) where it will be
    /// encrypted.
    ///
    /// # Errors
    /// Why it was dropped. A packet that was sealed before, or whose sequence number is 1,024 behind its stream's
    /// newest, is [`DropReason::SrtpNonceReused`]; for all other reasons but a malformed packet `write` was not called.
    pub(crate) fn send_rtp(
        &mut self,
        (kind, len): (MediaKind, usize),
        write: impl FnOnce(&mut [u8]),
    ) -> Result<TagPrefix, DropReason> {
        self.push_rtp((kind, len), |sender, packet| {
            write(packet.get_mut(..len).unwrap_or_default());
            sender.seal_rtp(packet)
        })
    }

    /// Sends a packet once more under its own sequence number, for clients without a stream for retransmissions.
    /// `write` must make it as it was.
    ///
    /// # Errors
    /// Why it was dropped: [`DropReason::SrtpNonceReused`] if it is not the packet that got this tag.
    pub(crate) fn send_rtp_again(
        &mut self,
        (kind, len): (MediaKind, usize),
        tag: TagPrefix,
        write: impl FnOnce(&mut [u8]),
    ) -> Result<(), DropReason> {
        self.push_rtp((kind, len), |sender, packet| {
            write(packet.get_mut(..len).unwrap_or_default());
            sender.seal_rtp_again(packet, tag)
        })
    }

    #[inline(always)]
    fn push_rtp<T>(
        &mut self,
        (kind, len): (MediaKind, usize),
        fill: impl FnOnce(&mut SrtpSender, &mut [u8]) -> Result<T, DropReason>,
    ) -> Result<T, DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::DtlsNotConnected)?;
        let remote = self.ice.remote().ok_or(DropReason::IceNotConnected)?;
        let sealed_len = len + srtp.sender.lengths().rtp_overhead;
        if sealed_len > MAX_DATAGRAM_LEN {
            return Err(DropReason::TooLarge);
        }
        let filled =
            self.out.push(remote, (kind == MediaKind::Video, sealed_len), |room| fill(&mut srtp.sender, room))?;
        self.counters.rtp_packets_sent += 1;
        Ok(filled)
    }

    /// Sends a compound RTCP packet.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(crate) fn send_rtcp(&mut self, compound: &[u8]) -> Result<(), DropReason> {
        let srtp = self.srtp.as_mut().ok_or(DropReason::DtlsNotConnected)?;
        let remote = self.ice.remote().ok_or(DropReason::IceNotConnected)?;
        let sealed_len = compound.len() + srtp.sender.lengths().rtcp_overhead;
        if sealed_len > MAX_DATAGRAM_LEN {
            return Err(DropReason::TooLarge);
        }
        self.out.push(remote, (false, sealed_len), |room| {
            let (packet, _) = room.split_at_mut_checked(compound.len()).ok_or(DropReason::TooLarge)?;
            packet.copy_from_slice(compound);
            srtp.sender.seal_rtcp(room)
        })
    }

    /// Something is about to be sent. `pool` has emptied buffers, of which the transport takes what it needs until it
    /// is flushed.
    pub(crate) fn prepare(&mut self, pool: &mut BufferPool) {
        self.out.borrow(pool);
    }

    /// Moves what is to be sent to `out`, in buffers for `pool`. They are best handed back as they came, without being
    /// cleared.
    pub(crate) fn flush(&mut self, now: Instant, out: &mut VecDeque<Transmit>, pool: &mut BufferPool) {
        let bytes = self.out.flush(out, pool);
        self.counters.sent(now, bytes);
    }

    /// Whether there is something to tell.
    pub(crate) fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// Whether the client was heard from at that address lately, so that nobody else may have it.
    pub(crate) fn is_alive_at(&self, now: Instant, address: TransportAddress) -> bool {
        self.ice.is_alive(now, address)
    }

    /// The connection with that address is over. Media go to another one, if the client is heard from there.
    pub(crate) fn end_connection(&mut self, now: Instant, address: TransportAddress) {
        self.ice.forget(now, address, &mut self.events);
    }

    /// The next thing to tell.
    pub(crate) fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let sctp = self.data.as_ref().and_then(|data| data.association.as_ref()?.poll_timeout());
        [self.ice.poll_timeout(), self.dtls.poll_timeout(), sctp].into_iter().flatten().min()
    }

    /// Does what is due: consent, retransmission of DTLS and SCTP.
    ///
    /// # Errors
    /// [`DropReason::SctpFault`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DropReason> {
        self.ice.handle_timeout(now, &mut self.events);
        let outcome = self.dtls.handle_timeout(now);
        self.after_dtls(outcome);
        let handled = self.sctp().map_or(Ok(()), |association| association.handle_timeout(now));
        self.after_sctp();
        handled
    }

    /// Whether media can be sent: keys are in place and the client has consented.
    pub(crate) fn is_writable(&self) -> bool {
        self.srtp.is_some() && self.ice.remote().is_some()
    }

    /// The stream sent with this SSRC is over: its SRTP state goes. The SSRC [is used up](Self::is_used_up) if anything
    /// was sent with it.
    pub(crate) fn release_ssrc(&mut self, ssrc: u32) {
        if let Some(srtp) = &mut self.srtp {
            srtp.sender.release(ssrc);
        }
    }

    /// Whether nothing can be sent with this SSRC, as a stream that is over had it: its SRTP indices would begin anew.
    pub(crate) fn is_used_up(&self, ssrc: u32) -> bool {
        self.srtp.as_ref().is_some_and(|srtp| srtp.sender.is_used_up(ssrc))
    }

    /// Says goodbye. Outputs and events, its addresses and ufrags among them, are to be drained once more.
    pub(crate) fn close(&mut self, now: Instant) {
        self.dtls.close(now);
        self.drain_dtls();
        self.ice.close(&mut self.events);
        self.srtp = None;
        self.data = None;
    }

    /// Bytes since the start.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic { received: self.counters.bytes_received, sent: self.counters.bytes_sent }
    }

    /// Counters since the start and rates of the last second.
    pub(crate) fn stats(&self, now: Instant) -> TransportStats {
        TransportStats {
            bytes_received: self.counters.bytes_received,
            bytes_sent: self.counters.bytes_sent,
            rtp_packets_received: self.counters.rtp_packets_received,
            rtp_packets_sent: self.counters.rtp_packets_sent,
            recv_bitrate: self.counters.recv_rate.bits_per_second(now),
            send_bitrate: self.counters.send_rate.bits_per_second(now),
            remote_address: self.ice.selected(),
            ice_state: self.ice.state(),
            dtls_state: self.dtls_state,
            sctp_state: self.data.as_ref().map(|data| data.state),
            ..TransportStats::default()
        }
    }

    fn after_dtls(&mut self, outcome: Option<Outcome>) {
        self.drain_dtls();
        match outcome {
            Some(Outcome::Connected(keys)) => match Srtp::new(keys.profile, &keys.local, &keys.remote) {
                Ok(srtp) => {
                    self.srtp = Some(srtp);
                    self.set_dtls_state(DtlsState::Connected(keys.profile));
                }
                Err(error) => {
                    tracing::error!(transport = %self.id, %error, "exported keys do not fit their profile");
                    self.set_dtls_state(DtlsState::Failed);
                }
            },
            Some(Outcome::Failed) => self.set_dtls_state(DtlsState::Failed),
            Some(Outcome::Closed) => {
                self.srtp = None;
                self.set_dtls_state(DtlsState::Closed);
                if let Some(data) = &mut self.data
                    && data.association.take().is_some()
                {
                    data.state = SctpState::Closed;
                    self.events.push_back(TransportEvent::Sctp(SctpState::Closed));
                }
            }
            None => {}
        }
    }

    fn drain_dtls(&mut self) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(remote) = self.ice.remote() {
                self.out.push_single(remote, datagram.into());
            }
        }
    }

    fn set_dtls_state(&mut self, state: DtlsState) {
        self.dtls_state = Some(state);
        self.events.push_back(TransportEvent::Dtls(state));
    }
}
