//! What is left of an association once there are keys for SRTP: application data both ways, the answer to a client that
//! missed the last flight, and goodbyes.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::BytesMut;
use rtc_dtls::state::State;

use super::flight::MIN_GAP;
use super::inbound::{ALERT_LEN, FINISHED_LEN};
use super::protection::{OVERHEAD, Protection};
use super::record::{CONTENT_ALERT, CONTENT_APPLICATION_DATA, CONTENT_HANDSHAKE, Record, records};
use crate::drop_reason::DropReason;

/// Records of application data of one datagram that are tried with the key. Clients send one.
const MAX_TRIED: usize = 4;

const LEVEL_WARNING: u8 = 1;
const LEVEL_FATAL: u8 = 2;
const CLOSE_NOTIFY: u8 = 0;

/// An association that is connected.
///
/// Plaintext says nothing to it. Of encrypted records it looks at one alert a datagram, at [`MAX_TRIED`] of application
/// data if there is to be any, and at none of the handshake's: that there is one is enough to send the last flight
/// again, 75 bytes for 61, no oftener than [`MIN_GAP`] allows.
pub(super) struct Session {
    protection: Box<Protection>,
    /// Our last flight, if the client waits for it: as server.
    last_flight: Vec<BytesMut>,
    last_flight_at: Instant,
}

impl Session {
    /// Of an association whose handshake is complete; `None` if its keys cannot be had.
    pub(super) fn new(now: Instant, state: &State, last_flight: Vec<BytesMut>) -> Option<Self> {
        Some(Self { protection: Box::new(Protection::of(state)?), last_flight, last_flight_at: now })
    }

    /// Handles a datagram of the client. Yields whether the client said goodbye. Application data goes to `data`, if
    /// there is to be any.
    ///
    /// # Errors
    /// Why it was dropped.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        datagram: &[u8],
        out: &mut VecDeque<BytesMut>,
        data: Option<&mut VecDeque<Vec<u8>>>,
    ) -> Result<bool, DropReason> {
        let is_of = |content: u8| move |record: &Record<'_>| record.epoch == 1 && record.content == content;
        let all = || records(datagram).ok_or(DropReason::DtlsMalformed);
        let is_alert = |record: &Record<'_>| is_of(CONTENT_ALERT)(record) && record.body.len() == ALERT_LEN;
        if let Some(alert) = all()?.find(is_alert)
            && self.protection.open(&alert).is_some_and(|alert| is_end(&alert))
        {
            self.close(out);
            return Ok(true);
        }
        if let Some(data) = data {
            let before = data.len();
            let sealed = all()?.filter(is_of(CONTENT_APPLICATION_DATA)).take(MAX_TRIED);
            data.extend(sealed.filter_map(|record| self.protection.open(&record)));
            if data.len() > before {
                return Ok(false);
            }
        }
        let is_finished = |record: &Record<'_>| is_of(CONTENT_HANDSHAKE)(record) && record.body.len() == FINISHED_LEN;
        let asks_again = all()?.any(|record| is_finished(&record));
        if !asks_again || self.last_flight.is_empty() || now < self.last_flight_at + MIN_GAP {
            return Err(DropReason::DtlsUnwanted);
        }
        self.last_flight_at = now;
        out.extend(self.last_flight.iter().cloned());
        Ok(false)
    }

    /// Writes a record of application data into `record`.
    ///
    /// # Errors
    /// [`DropReason::TooLarge`] if it has not the length for that.
    pub(super) fn seal(&mut self, plain: &[u8], record: &mut [u8]) -> Result<(), DropReason> {
        self.protection.seal(CONTENT_APPLICATION_DATA, plain, record)
    }

    /// Says goodbye.
    pub(super) fn close(&mut self, out: &mut VecDeque<BytesMut>) {
        let alert = [LEVEL_WARNING, CLOSE_NOTIFY];
        let mut record = BytesMut::zeroed(alert.len() + OVERHEAD);
        if self.protection.seal(CONTENT_ALERT, &alert, &mut record).is_ok() {
            out.push_back(record);
        }
    }
}

/// Whether an alert ends the association, RFC 5246 section 7.2.
fn is_end(alert: &[u8]) -> bool {
    matches!(alert, [LEVEL_FATAL, _] | [_, CLOSE_NOTIFY])
}
