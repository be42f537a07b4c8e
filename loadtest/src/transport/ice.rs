//! The controlling ICE agent of a client whose server is ICE-lite with one candidate (RFC 8445, consent RFC 7675).
//!
//! With one remote candidate there is one pair and nothing to choose: every check nominates, and after the first answer
//! the same requests go on as consent checks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};
use rtc_stun::attributes::{ATTR_ICE_CONTROLLING, ATTR_PRIORITY, ATTR_USE_CANDIDATE, ATTR_USERNAME, AttrType};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_ERROR, BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;

use super::TransportError;
use super::certificate::provider;

/// Retransmission of the first check; doubled up to [`MAX_CHECK_INTERVAL`] while unanswered.
const FIRST_CHECK_INTERVAL: Duration = Duration::from_millis(50);
const MAX_CHECK_INTERVAL: Duration = Duration::from_millis(1600);
/// Between consent checks, as Chromium has it; RFC 7675 section 5.1 randomises by a fifth either way.
const CONSENT_INTERVAL_MS: u64 = 2500;
/// RFC 7675 section 5.1: without an answer for this long, sending must cease.
const CONSENT_EXPIRES: Duration = Duration::from_secs(30);
/// Requests whose answer is still welcome. Unanswered requests are 12 in the 30 s of consent; the oldest is given up.
const MAX_PENDING: usize = 16;
/// RFC 8445 section 5.1.2.1: peer-reflexive, as a check announces it: type preference 110, one interface, component 1.
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// ICE user name fragment and password of one end, RFC 8445 section 5.3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// User name fragment.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

impl IceCredentials {
    /// Draws new ones: 8 and 24 characters of 6 bits each.
    pub fn random(rng: &mut impl Rng) -> Self {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = |len: usize| {
            (0..len).map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())])).collect::<String>()
        };
        Self { ufrag: text(8), pwd: text(24) }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IceEvent {
    Connected,
    /// Nobody answered for [`CONSENT_EXPIRES`].
    Expired,
}

pub(super) struct IceAgent {
    local: IceCredentials,
    remote: IceCredentials,
    remote_address: SocketAddr,
    tie_breaker: u64,
    pending: VecDeque<TransactionId>,
    connected: bool,
    check_interval: Duration,
    next_check: Instant,
    consent_until: Instant,
}

impl IceAgent {
    pub(super) fn new(
        now: Instant,
        local: IceCredentials,
        remote: IceCredentials,
        remote_address: SocketAddr,
        rng: &mut impl Rng,
    ) -> Self {
        Self {
            local,
            remote,
            remote_address,
            tie_breaker: rng.next_u64(),
            pending: VecDeque::new(),
            connected: false,
            check_interval: FIRST_CHECK_INTERVAL,
            next_check: now,
            consent_until: now + CONSENT_EXPIRES,
        }
    }

    pub(super) fn remote_address(&self) -> SocketAddr {
        self.remote_address
    }

    pub(super) fn local(&self) -> &IceCredentials {
        &self.local
    }

    /// Begins anew with new credentials of both ends (RFC 8445 section 2.4); media goes on over the old path meanwhile.
    pub(super) fn restart(&mut self, now: Instant, local: IceCredentials, remote: IceCredentials) {
        self.local = local;
        self.remote = remote;
        self.pending.clear();
        self.connected = false;
        self.check_interval = FIRST_CHECK_INTERVAL;
        self.next_check = now;
        self.consent_until = now + CONSENT_EXPIRES;
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.next_check.min(self.consent_until)
    }

    /// A check to send, when one is due; or the end of consent.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        rng: &mut impl Rng,
    ) -> Result<(Option<Vec<u8>>, Option<IceEvent>), TransportError> {
        if now >= self.consent_until {
            return Ok((None, Some(IceEvent::Expired)));
        }
        if now < self.next_check {
            return Ok((None, None));
        }
        self.next_check = now + self.check_interval;
        if self.connected {
            let spread = rng.random_range(CONSENT_INTERVAL_MS * 4 / 5..=CONSENT_INTERVAL_MS * 6 / 5);
            self.check_interval = Duration::from_millis(spread);
        } else {
            self.check_interval = (self.check_interval * 2).min(MAX_CHECK_INTERVAL);
        }
        Ok((Some(self.check(rng)?), None))
    }

    /// An answer to one of our checks. Anything that is not is an error that concerns nobody else.
    pub(super) fn receive(&mut self, now: Instant, datagram: &[u8]) -> Result<Option<IceEvent>, TransportError> {
        let ice = |error: rtc_shared::error::Error| TransportError::Ice(error.to_string());
        let mut message = Message::new();
        message.unmarshal_binary(datagram).map_err(ice)?;
        if message.typ == BINDING_ERROR {
            return Err(TransportError::Ice("the server refused a connectivity check".to_owned()));
        }
        if message.typ != BINDING_SUCCESS {
            return Err(TransportError::Ice(format!("unexpected {}", message.typ)));
        }
        let Some(position) = self.pending.iter().position(|id| *id == message.transaction_id) else {
            return Err(TransportError::Ice("an answer to no check".to_owned()));
        };
        MessageIntegrity::check(&mut message, self.remote.pwd.as_bytes(), provider()?.crypto()).map_err(ice)?;
        // Whatever was asked before the answered request needs no answer any more.
        self.pending.drain(..=position);
        self.consent_until = now + CONSENT_EXPIRES;
        if self.connected {
            return Ok(None);
        }
        self.connected = true;
        self.check_interval = Duration::from_millis(CONSENT_INTERVAL_MS);
        self.next_check = now + self.check_interval;
        Ok(Some(IceEvent::Connected))
    }

    fn check(&mut self, rng: &mut impl Rng) -> Result<Vec<u8>, TransportError> {
        let id = TransactionId(rng.random());
        if self.pending.len() == MAX_PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(id);
        let provider = provider()?;
        let username = format!("{}:{}", self.remote.ufrag, self.local.ufrag);
        let setters: [Box<dyn Setter + '_>; 8] = [
            Box::new(BINDING_REQUEST),
            Box::new(id),
            Box::new(TextAttribute::new(ATTR_USERNAME, username)),
            Box::new(Raw(ATTR_ICE_CONTROLLING, self.tie_breaker.to_be_bytes().to_vec())),
            Box::new(Raw(ATTR_USE_CANDIDATE, Vec::new())),
            Box::new(Raw(ATTR_PRIORITY, PRIORITY.to_be_bytes().to_vec())),
            Box::new(MessageIntegrity::new_raw_integrity_with_provider(self.remote.pwd.as_bytes(), provider.crypto())),
            Box::new(FINGERPRINT),
        ];
        let mut message = Message::new();
        message.build(&setters).map_err(|error| TransportError::Ice(error.to_string()))?;
        Ok(message.raw)
    }
}

struct Raw(AttrType, Vec<u8>);

impl Setter for Raw {
    fn add_to(&self, message: &mut Message) -> Result<(), rtc_shared::error::Error> {
        message.add(self.0, &self.1);
        Ok(())
    }
}
