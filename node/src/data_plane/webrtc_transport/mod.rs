//! A user's transport, one direction of media: ICE-lite, DTLS and SRTP around one client.
//!
//! It does no I/O. Datagrams go in by [`WebRtcTransport::receive`], come out by [`WebRtcTransport::flush`], and what others must
//! learn comes out by [`WebRtcTransport::poll_event`]: all three are to be drained after each input.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use sluice_proto::ids::TransportId;
use sluice_proto::ortc::DtlsParameters;

use super::drop_reason::DropReason;
use super::dtls::DtlsCertificate;
use super::io::Transmit;
use super::messages::{DtlsState, IceCredentials, IceState, RequestError, SrtpKeys, TransportStats};

/// What a datagram turned out to be.
#[derive(Debug)]
pub enum Received<'d> {
    /// An RTP packet, decrypted.
    Rtp(&'d mut [u8]),
    /// A compound RTCP packet, decrypted.
    Rtcp(&'d mut [u8]),
    /// It was the transport's own: STUN or DTLS.
    Handled,
}

/// What a transport has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportEvent {
    /// To be passed on to the control plane.
    IceStateChanged {
        /// The new state.
        state: IceState,
        /// The client's address, once connected.
        remote: Option<SocketAddr>,
    },
    /// To be passed on to the control plane.
    DtlsStateChanged(DtlsState),
    /// A STUN request from there was authenticated: for [`Demux::add_address`](super::demux::Demux::add_address) and the other workers.
    AddressLearned(SocketAddr),
    /// For [`Demux::remove_address`](super::demux::Demux::remove_address) and the other workers.
    AddressForgotten(SocketAddr),
    /// The ufrag of former credentials: for [`Demux::remove_ufrag`](super::demux::Demux::remove_ufrag).
    UfragRetired(String),
}

/// A user's transport. Its ufrag is to be entered in the demultiplexer by whoever creates it or restarts its ICE.
pub struct WebRtcTransport {}

#[allow(unused_variables)]
impl WebRtcTransport {
    /// A transport that waits for its client's connectivity checks.
    pub fn new(id: TransportId, ice: IceCredentials, certificate: Arc<DtlsCertificate>, now: Instant) -> Self {
        todo!()
    }

    /// Names the client's DTLS role and fingerprints; the handshake begins as soon as ICE has an address.
    ///
    /// # Errors
    /// [`RequestError::AlreadyConnected`] the second time, [`RequestError::Invalid`] without a fingerprint.
    pub fn connect(&mut self, now: Instant, parameters: &DtlsParameters) -> Result<(), RequestError> {
        todo!()
    }

    /// In place of ICE and DTLS: the client is at the given address and has these keys.
    ///
    /// # Errors
    /// [`RequestError::AlreadyConnected`] the second time, [`RequestError::Invalid`] if a key has not the profile's length.
    pub fn connect_with_srtp_keys(&mut self, now: Instant, keys: SrtpKeys) -> Result<(), RequestError> {
        todo!()
    }

    /// New credentials. The old ones and the path keep working until a request with the new ones was authenticated.
    pub fn restart_ice(&mut self, ice: IceCredentials) {
        todo!()
    }

    /// Handles a datagram; SRTP is decrypted in place.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn receive<'d>(
        &mut self,
        now: Instant,
        source: SocketAddr,
        data: &'d mut [u8],
    ) -> Result<Received<'d>, DropReason> {
        todo!()
    }

    /// Sends an RTP packet of `len` bytes, which `write` fills in (all of them) where it will be encrypted.
    ///
    /// # Errors
    /// Why it was dropped; `write` was not called then.
    pub fn send_rtp(&mut self, now: Instant, len: usize, write: impl FnOnce(&mut [u8])) -> Result<(), DropReason> {
        todo!()
    }

    /// Sends a compound RTCP packet.
    ///
    /// # Errors
    /// Why it was dropped.
    pub fn send_rtcp(&mut self, now: Instant, compound: &[u8]) -> Result<(), DropReason> {
        todo!()
    }

    /// Moves what is to be sent to `out`. `pool` has emptied buffers, of which the transport takes as many as it gave.
    pub fn flush(&mut self, out: &mut VecDeque<Transmit>, pool: &mut Vec<Vec<u8>>) {
        todo!()
    }

    /// The next thing to tell.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        todo!()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        todo!()
    }

    /// Does what is due: consent, DTLS retransmission.
    pub fn handle_timeout(&mut self, now: Instant) {
        todo!()
    }

    /// Whether media can be sent: keys are in place and the client has consented.
    pub fn is_writable(&self) -> bool {
        todo!()
    }

    /// The stream of this SSRC, received or sent, is over: its SRTP state goes.
    pub fn release_ssrc(&mut self, ssrc: u32) {
        todo!()
    }

    /// Says goodbye. Outputs and events, its addresses and ufrags among them, are to be drained once more.
    pub fn close(&mut self, now: Instant) {
        todo!()
    }

    /// Counters since the start and rates of the last second.
    pub fn stats(&self, now: Instant) -> TransportStats {
        todo!()
    }
}
