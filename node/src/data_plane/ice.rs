//! ICE from the lite end (RFC 8445 section 2.5): answering connectivity checks, following the client's nomination, and
//! noticing when the client's consent is no longer renewed (RFC 7675).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::drop_reason::DropReason;
use super::messages::{IceCredentials, IceState};
use super::stun::{BindingRequest, ErrorCode, IntegrityKey, write_error, write_success};
use super::webrtc_transport::TransportEvent;

/// Addresses of one client that are answered at a time: Wi-Fi, mobile and wired, IPv4 and IPv6 each, and two to spare. The one that
/// is longest unused goes first, the selected one never.
const MAX_ADDRESSES: usize = 8;

/// The ICE agent of one transport.
#[derive(Debug)]
pub struct IceAgent {
    current: Credentials,
    /// Whether a request with the current credentials was authenticated.
    current_used: bool,
    /// Those before a restart, as long as the client has not used the current ones.
    previous: Option<Credentials>,
    /// Authenticated addresses, the most recently used last.
    addresses: Vec<SocketAddr>,
    selected: Option<SocketAddr>,
    state: Option<IceState>,
    consent_timeout: Duration,
    consent_until: Option<Instant>,
}

#[derive(Debug)]
struct Credentials {
    ufrag: String,
    key: IntegrityKey,
}

impl From<IceCredentials> for Credentials {
    fn from(ice: IceCredentials) -> Self {
        Self { key: IntegrityKey::new(&ice.pwd), ufrag: ice.ufrag }
    }
}

impl IceAgent {
    /// An agent that waits for the first check. Without an authenticated one for `consent_timeout` a path counts as lost.
    pub fn new(ice: IceCredentials, consent_timeout: Duration) -> Self {
        Self {
            current: ice.into(),
            current_used: false,
            previous: None,
            addresses: Vec::with_capacity(2),
            selected: None,
            state: None,
            consent_timeout,
            consent_until: None,
        }
    }

    /// How long the client may be silent.
    pub fn set_consent_timeout(&mut self, timeout: Duration) {
        self.consent_timeout = timeout;
    }

    /// New credentials; the old ones are good until the first check with the new ones.
    pub fn restart(&mut self, ice: IceCredentials, events: &mut VecDeque<TransportEvent>) {
        let replaced = std::mem::replace(&mut self.current, ice.into());
        if std::mem::take(&mut self.current_used) {
            self.previous = Some(replaced);
        } else {
            events.push_back(TransportEvent::UfragRetired(replaced.ufrag));
        }
    }

    /// Handles a STUN message and yields the answer to be sent to `source`, even for some that count as dropped.
    pub fn handle(
        &mut self,
        now: Instant,
        source: SocketAddr,
        message: &[u8],
        events: &mut VecDeque<TransportEvent>,
    ) -> (Option<Vec<u8>>, Result<(), DropReason>) {
        let Some(request) = BindingRequest::parse(message) else {
            return (None, Err(DropReason::StunMalformed));
        };
        let refuse = |code, key| Some(write_error(request.transaction, code, &request.unknown, key));
        if !request.has_credentials() {
            return (refuse(ErrorCode::BadRequest, None), Err(DropReason::StunUnauthenticated));
        }
        let Some((credentials, is_current)) = self.authenticate(&request) else {
            return (refuse(ErrorCode::Unauthenticated, None), Err(DropReason::StunUnauthenticated));
        };
        if request.unknown != [0; 4] {
            return (refuse(ErrorCode::UnknownAttribute, Some(&credentials.key)), Ok(()));
        }
        if request.controlled {
            return (refuse(ErrorCode::RoleConflict, Some(&credentials.key)), Ok(()));
        }
        let answer = write_success(request.transaction, source, &credentials.key);
        if is_current {
            self.current_used = true;
            if let Some(previous) = self.previous.take() {
                events.push_back(TransportEvent::UfragRetired(previous.ufrag));
            }
        }
        self.check_succeeded(now, source, request.use_candidate, events);
        (Some(answer), Ok(()))
    }

    /// The credentials that the request proves to know, and whether they are the current ones.
    fn authenticate(&self, request: &BindingRequest<'_>) -> Option<(&Credentials, bool)> {
        let ufrag = request.local_ufrag()?;
        let candidates = [(Some(&self.current), true), (self.previous.as_ref(), false)];
        let (credentials, is_current) =
            candidates.into_iter().find_map(|(c, is_current)| Some((c.filter(|c| c.ufrag == ufrag)?, is_current)))?;
        request.is_authentic(&credentials.key).then_some((credentials, is_current))
    }

    fn check_succeeded(
        &mut self,
        now: Instant,
        source: SocketAddr,
        nominated: bool,
        events: &mut VecDeque<TransportEvent>,
    ) {
        self.consent_until = Some(now + self.consent_timeout);
        self.learn(source, events);
        let moved = nominated && self.selected != Some(source);
        if moved {
            self.selected = Some(source);
        }
        // A check on the selected path renews consent that had run out; on another path it takes a nomination.
        let revived = self.selected == Some(source) && self.state != Some(IceState::Connected);
        if moved || revived {
            self.state = Some(IceState::Connected);
            events.push_back(TransportEvent::IceStateChanged { state: IceState::Connected, remote: self.selected });
        }
    }

    fn learn(&mut self, source: SocketAddr, events: &mut VecDeque<TransportEvent>) {
        if let Some(at) = self.addresses.iter().position(|address| *address == source) {
            self.addresses[at..].rotate_left(1);
            return;
        }
        if self.addresses.len() >= MAX_ADDRESSES
            && let Some(at) = self.addresses.iter().position(|address| Some(*address) != self.selected)
        {
            events.push_back(TransportEvent::AddressForgotten(self.addresses.remove(at)));
        }
        self.addresses.push(source);
        events.push_back(TransportEvent::AddressLearned(source));
    }

    /// In place of checks: the client is at `remote` and needs no consent.
    pub fn fix(&mut self, remote: SocketAddr, events: &mut VecDeque<TransportEvent>) {
        self.learn(remote, events);
        self.selected = Some(remote);
        self.state = Some(IceState::Connected);
        events.push_back(TransportEvent::IceStateChanged { state: IceState::Connected, remote: Some(remote) });
    }

    /// Where the client can be reached: the nominated address, or before a nomination the one that was heard of last.
    pub fn remote(&self) -> Option<SocketAddr> {
        match self.state {
            Some(IceState::Disconnected) => None,
            _ => self.selected.or_else(|| self.addresses.last().copied()),
        }
    }

    /// Whether the address was authenticated.
    pub fn knows(&self, source: SocketAddr) -> bool {
        self.selected == Some(source) || self.addresses.contains(&source)
    }

    /// Connected, disconnected, or neither yet.
    pub fn state(&self) -> Option<IceState> {
        self.state
    }

    /// The nominated address.
    pub fn selected(&self) -> Option<SocketAddr> {
        self.selected
    }

    /// When consent runs out.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.consent_until.filter(|_| self.state == Some(IceState::Connected))
    }

    /// Notices that consent has run out.
    pub fn handle_timeout(&mut self, now: Instant, events: &mut VecDeque<TransportEvent>) {
        if self.poll_timeout().is_some_and(|until| until <= now) {
            self.state = Some(IceState::Disconnected);
            events.push_back(TransportEvent::IceStateChanged { state: IceState::Disconnected, remote: self.selected });
        }
    }

    /// Gives all addresses and ufrags up.
    pub fn close(&mut self, events: &mut VecDeque<TransportEvent>) {
        events.extend(self.addresses.drain(..).map(TransportEvent::AddressForgotten));
        events.extend(self.previous.take().map(|previous| TransportEvent::UfragRetired(previous.ufrag)));
        events.push_back(TransportEvent::UfragRetired(std::mem::take(&mut self.current.ufrag)));
        self.selected = None;
        self.state = Some(IceState::Disconnected);
    }
}
