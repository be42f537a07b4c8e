//! What is left of an association once there are keys for SRTP: the answer to a client that missed the last flight, and
//! goodbyes.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;
use rtc_dtls::conn::DTLSConn;
use rtc_dtls::endpoint::Endpoint;
use rtc_dtls::state::State;
use rtc_shared::error::Error;

use super::certificate::DtlsCertificate;
use super::flight::MIN_GAP;
use super::handshake::CLIENT;
use super::inbound::{ALERT_LEN, FINISHED_LEN};
use super::record::{CONTENT_ALERT, CONTENT_HANDSHAKE, Record, records};
use crate::drop_reason::DropReason;

/// An association that is connected.
///
/// Plaintext says nothing to it. Of encrypted records it looks at one alert a datagram, and at none of the handshake's:
/// that there is one is enough to send the last flight again, 75 bytes for 61, no oftener than [`MIN_GAP`] allows.
pub(super) struct Session {
    /// Opens the client's alerts. It was given nothing of the handshake but its keys.
    connection: Box<DTLSConn>,
    /// Our last flight, if the client waits for it: as server.
    last_flight: Vec<BytesMut>,
    last_flight_at: Instant,
    /// Our close_notify, sealed.
    goodbye: Vec<BytesMut>,
}

impl Session {
    /// What is to be kept of an endpoint, which has no further use.
    pub(super) fn new(
        now: Instant,
        certificate: &DtlsCertificate,
        endpoint: &mut Endpoint,
        last_flight: Vec<BytesMut>,
    ) -> Result<Self, Error> {
        let state = endpoint.get_connection_state(CLIENT).ok_or(Error::HandshakeInProgress)?;
        let is_client = state.is_client();
        let mut kept = State::new(certificate.provider.clone(), is_client);
        kept.unmarshal_binary(&state.marshal_binary()?)?;
        kept.peer_certificates = Vec::new();
        let connection = Box::new(DTLSConn::new(certificate.client_config(), is_client, Some(kept)));
        // Sealed in advance: it is the only record that is ever sent from here on.
        endpoint.close(now)?;
        let goodbye = std::iter::from_fn(|| endpoint.poll_transmit()).map(|transmit| transmit.message).collect();
        Ok(Self { connection, last_flight, last_flight_at: now, goodbye })
    }

    /// Handles a datagram of the client. Yields whether the client said goodbye.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        datagram: &[u8],
        out: &mut VecDeque<BytesMut>,
    ) -> Result<bool, DropReason> {
        let find = |content: u8, len: usize| {
            let is_it =
                move |record: &Record<'_>| record.epoch == 1 && record.content == content && record.body.len() == len;
            records(datagram).map(|mut records| records.find(is_it))
        };
        if let Some(alert) = find(CONTENT_ALERT, ALERT_LEN).ok_or(DropReason::DtlsMalformed)? {
            let is_over = matches!(self.connection.read(alert.whole), Err(Error::ErrAlertFatalOrClose));
            // Its answer is ours to give.
            while self.connection.outgoing_raw_packet().is_some() {}
            if is_over {
                self.close(out);
                return Ok(true);
            }
        }
        let asks_again = find(CONTENT_HANDSHAKE, FINISHED_LEN).flatten().is_some();
        if !asks_again || self.last_flight.is_empty() || now < self.last_flight_at + MIN_GAP {
            return Err(DropReason::DtlsUnwanted);
        }
        self.last_flight_at = now;
        out.extend(self.last_flight.iter().cloned());
        Ok(false)
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, out: &mut VecDeque<BytesMut>) {
        out.extend(self.goodbye.drain(..));
    }
}
