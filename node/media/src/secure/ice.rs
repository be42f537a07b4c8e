//! ICE from the lite end (RFC 8445 section 2.5): answering connectivity checks, following the client from address to
//! address, and noticing when it no longer consents to being sent to (RFC 7675).
//!
//! The first authenticated check connects. From then on consent is renewed by checks on the selected path, and by
//! authenticated media too: who sends those is there. When it runs out the agent is disconnected, and connects again
//! with the next check or media of an address that it knows. The path of a connection (RFC 6544) ends with that.

mod paths;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use self::paths::{Paths, SELECTED};
use crate::address::TransportAddress;
use crate::drop_reason::DropReason;
use crate::rate_limit::RateLimit;
use crate::wire::stun::{BindingRequest, ErrorCode, IntegrityKey, write_error, write_success};

/// ICE credentials of this end, RFC 8445 section 5.3.
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// Username fragment. ICE only compares it; the demultiplexer reads its beginning.
    pub ufrag: String,
    /// Password.
    pub pwd: String,
}

/// Without the password, which is nobody's business.
impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// ICE of a transport, seen from the ICE-lite end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceState {
    /// A nominated pair carries media.
    Connected,
    /// Consent ran out (RFC 7675): the peer's network is gone.
    Disconnected,
}

/// What an agent has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IceEvent {
    /// It found or lost its path.
    StateChanged {
        /// The new state.
        state: IceState,
        /// The client's address, once connected.
        remote: Option<TransportAddress>,
    },
    /// The client was authenticated there; said again every few seconds while it is.
    AddressInUse(TransportAddress),
    /// The client is not expected there any more.
    AddressForgotten(TransportAddress),
    /// The ufrag of former credentials names nobody any more.
    UfragRetired(String),
}

/// Checks that are answered. Browsers send one each 50 ms while they look for a path, over all addresses together.
const CHECKS: RateLimit = RateLimit::new(100, Duration::from_millis(20));

/// Refusals of requests without valid credentials: enough to tell a client that it is mistaken, too few to be aimed at
/// somebody.
const REFUSALS: RateLimit = RateLimit::new(10, Duration::from_millis(100));

/// The ICE agent of one transport.
#[derive(Debug)]
pub(crate) struct IceAgent {
    current: Credentials,
    /// Whether a request with the current credentials was authenticated.
    current_used: bool,
    /// Those before a restart, as long as the client has not used the current ones.
    previous: Option<Credentials>,
    paths: Paths,
    state: Option<IceState>,
    checks: RateLimit,
    refusals: RateLimit,
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
    /// An agent that waits for the first check. Without an authenticated one for `consent_timeout` a path counts as
    /// lost.
    pub(crate) fn new(ice: IceCredentials, consent_timeout: Duration) -> Self {
        Self {
            current: ice.into(),
            current_used: false,
            previous: None,
            paths: Paths::new(consent_timeout),
            state: None,
            checks: CHECKS,
            refusals: REFUSALS,
        }
    }

    /// New credentials; the old ones are good until the first check with the new ones. The client has its whole time
    /// for that.
    pub(crate) fn restart<E: From<IceEvent>>(&mut self, now: Instant, ice: IceCredentials, events: &mut VecDeque<E>) {
        let replaced = std::mem::replace(&mut self.current, ice.into());
        if std::mem::take(&mut self.current_used) {
            self.previous = Some(replaced);
        } else {
            self.retire(replaced, events);
        }
        if let Some(remote) = self.remote() {
            self.hear(now, remote, SELECTED, events);
        }
    }

    /// Handles a STUN message and yields the answer to be sent to `source`, even for some that count as dropped.
    pub(crate) fn handle<E: From<IceEvent>>(
        &mut self,
        now: Instant,
        source: TransportAddress,
        message: &[u8],
        events: &mut VecDeque<E>,
    ) -> (Option<Vec<u8>>, Result<(), DropReason>) {
        let Some(request) = BindingRequest::parse(message) else {
            return (None, Err(DropReason::StunMalformed));
        };
        let refuse = |code, key| write_error(request.transaction, code, &request.unknown, key);
        let Some(is_current) = self.authenticate(&request) else {
            let code = if request.has_credentials() { ErrorCode::Unauthenticated } else { ErrorCode::BadRequest };
            let answer = self.refusals.allow(now).then(|| refuse(code, None));
            return (answer, Err(DropReason::StunUnauthenticated));
        };
        if !self.checks.allow(now) {
            return (None, Err(DropReason::StunFlood));
        }
        let refuse = |code, key| (Some(refuse(code, Some(key))), Err(DropReason::StunRefused));
        if request.unknown != [0; 4] {
            return refuse(ErrorCode::UnknownAttribute, self.key(is_current));
        }
        if request.controlled {
            return refuse(ErrorCode::RoleConflict, self.key(is_current));
        }
        if is_current {
            self.use_current(events);
        }
        match self.check_succeeded(now, source, &request, events) {
            Ok(()) => (Some(write_success(request.transaction, source.socket_addr(), self.key(is_current))), Ok(())),
            Err(reason) => (None, Err(reason)),
        }
    }

    /// Whether the request proves to know credentials; true for the current ones, false for those before them. Both may
    /// have the same ufrag.
    fn authenticate(&self, request: &BindingRequest<'_>) -> Option<bool> {
        let ufrag = request.local_ufrag()?;
        let proves = |known: &Credentials| known.ufrag == ufrag && request.is_authentic(&known.key);
        if proves(&self.current) {
            return Some(true);
        }
        self.previous.as_ref().is_some_and(proves).then_some(false)
    }

    fn key(&self, is_current: bool) -> &IntegrityKey {
        &self.previous.as_ref().filter(|_| !is_current).unwrap_or(&self.current).key
    }

    fn use_current<E: From<IceEvent>>(&mut self, events: &mut VecDeque<E>) {
        self.current_used = true;
        if let Some(previous) = self.previous.take() {
            self.retire(previous, events);
            self.paths.forget_nominations();
        }
    }

    /// Tells that the ufrag of former credentials names nobody any more, unless others that are good have the same one.
    fn retire<E: From<IceEvent>>(&self, former: Credentials, events: &mut VecDeque<E>) {
        let mut good = std::iter::once(&self.current).chain(&self.previous);
        if good.all(|credentials| credentials.ufrag != former.ufrag) {
            events.push_back(IceEvent::UfragRetired(former.ufrag).into());
        }
    }

    fn check_succeeded<E: From<IceEvent>>(
        &mut self,
        now: Instant,
        source: TransportAddress,
        check: &BindingRequest<'_>,
        events: &mut VecDeque<E>,
    ) -> Result<(), DropReason> {
        let path = match self.paths.find(source) {
            Some(path) => path,
            None => self.learn(now, source, events).ok_or(DropReason::AddressFlood)?,
        };
        self.hear(now, source, path, events);
        let moved = self.paths.is_moved_by_check(now, path, check);
        if moved || self.state != Some(IceState::Connected) {
            self.select(path, events);
        }
        Ok(())
    }

    fn learn<E: From<IceEvent>>(
        &mut self,
        now: Instant,
        source: TransportAddress,
        events: &mut VecDeque<E>,
    ) -> Option<usize> {
        let (path, forgotten) = self.paths.learn(now, source)?;
        events.extend(forgotten.map(|address| IceEvent::AddressForgotten(address).into()));
        Some(path)
    }

    fn hear<E: From<IceEvent>>(
        &mut self,
        now: Instant,
        source: TransportAddress,
        path: usize,
        events: &mut VecDeque<E>,
    ) {
        if self.paths.hear(now, path) {
            events.push_back(IceEvent::AddressInUse(source).into());
        }
    }

    fn select<E: From<IceEvent>>(&mut self, path: usize, events: &mut VecDeque<E>) {
        self.paths.select(path);
        self.set_state(IceState::Connected, events);
    }

    fn set_state<E: From<IceEvent>>(&mut self, state: IceState, events: &mut VecDeque<E>) {
        if self.state.replace(state) != Some(state) {
            events.push_back(IceEvent::StateChanged { state, remote: self.selected() }.into());
        }
    }

    /// In place of checks: the client is at `remote` and needs no consent.
    pub(crate) fn fix<E: From<IceEvent>>(&mut self, now: Instant, remote: TransportAddress, events: &mut VecDeque<E>) {
        self.paths.set_timeout(Duration::MAX);
        if let Some(path) = self.paths.find(remote).or_else(|| self.learn(now, remote, events)) {
            self.hear(now, remote, path, events);
            self.select(path, events);
        }
    }

    /// Authenticated media came from an address that [`knows`](Self::knows) is true of: the client is there, and may be
    /// nowhere else.
    #[inline]
    pub(crate) fn receive_media<E: From<IceEvent>>(
        &mut self,
        now: Instant,
        source: TransportAddress,
        events: &mut VecDeque<E>,
    ) {
        let Some(path) = self.paths.find(source) else { return };
        self.hear(now, source, path, events);
        if self.state != Some(IceState::Connected) || self.paths.is_moved_by_media(now, path) {
            self.select(path, events);
        }
    }

    /// A part of a DTLS handshake came from an address that [`knows`](Self::knows) is true of: the answer belongs
    /// there. It is not authenticated yet, so it renews nothing.
    pub(crate) fn receive_handshake(&mut self, now: Instant, source: TransportAddress) {
        if let Some(path) = self.paths.find(source)
            && self.state == Some(IceState::Connected)
            && self.paths.is_moved_by_media(now, path)
        {
            self.paths.select(path);
        }
    }

    /// The client is not at that address any more. Media go to the one that it was heard from last, if that is alive.
    pub(crate) fn forget<E: From<IceEvent>>(
        &mut self,
        now: Instant,
        address: TransportAddress,
        events: &mut VecDeque<E>,
    ) {
        let Some(path) = self.paths.find(address) else { return };
        events.push_back(IceEvent::AddressForgotten(address).into());
        if self.paths.forget(path) && self.state == Some(IceState::Connected) && !self.paths.fall_back(now) {
            self.set_state(IceState::Disconnected, events);
        }
    }

    /// Where the client can be reached.
    pub(crate) fn remote(&self) -> Option<TransportAddress> {
        self.paths.selected().filter(|_| self.state == Some(IceState::Connected))
    }

    /// Whether the address was authenticated.
    pub(crate) fn knows(&self, source: TransportAddress) -> bool {
        self.paths.find(source).is_some()
    }

    /// Whether the client was heard from at that address within the time that its consent lasts.
    pub(crate) fn is_alive(&self, now: Instant, source: TransportAddress) -> bool {
        self.paths.is_alive(now, source)
    }

    /// Connected, disconnected, or neither yet.
    pub(crate) fn state(&self) -> Option<IceState> {
        self.state
    }

    /// Where media go, or went when consent ran out.
    pub(crate) fn selected(&self) -> Option<TransportAddress> {
        self.paths.selected()
    }

    /// When consent runs out.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.paths.silent_at().filter(|_| self.state == Some(IceState::Connected))
    }

    /// Notices that consent has run out.
    pub(crate) fn handle_timeout<E: From<IceEvent>>(&mut self, now: Instant, events: &mut VecDeque<E>) {
        if self.poll_timeout().is_some_and(|at| at <= now) && !self.paths.fall_back(now) {
            self.set_state(IceState::Disconnected, events);
        }
    }

    /// Gives all addresses and ufrags up.
    pub(crate) fn close<E: From<IceEvent>>(&mut self, events: &mut VecDeque<E>) {
        events.extend(self.paths.drain().map(|address| IceEvent::AddressForgotten(address).into()));
        events.extend(self.previous.take().map(|previous| IceEvent::UfragRetired(previous.ufrag).into()));
        events.push_back(IceEvent::UfragRetired(std::mem::take(&mut self.current.ufrag)).into());
        self.state = Some(IceState::Disconnected);
    }
}
