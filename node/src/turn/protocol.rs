//! What a client and a TURN server say to each other over one connection (RFC 8656), sans-IO: one allocation at most,
//! of UDP, whose peers are known beforehand and few. To all others the answer is 403.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use bytes::{BufMut as _, BytesMut};
use sluice_media::rate_limit::RateLimit;
use sluice_media::wire::framing::MIN_FRAME_LEN;
use sluice_media::wire::stun::{HEADER_LEN, IntegrityKey, MAGIC_COOKIE, Message, MessageWriter, attribute};

use super::counters::DropReason;

/// Of the long-term credentials.
pub(super) const REALM: &str = "sluice";

/// Bytes of a datagram: more than the media port reads of one.
const MAX_DATAGRAM_LEN: usize = 2_048;

/// Bytes of a message: such a datagram and what is around it.
const MAX_MESSAGE_LEN: usize = MAX_DATAGRAM_LEN + 64;

/// RFC 8656 section 7.2: what clients get that ask for nothing or for less, and for more.
const LIFETIME: Range<u32> = 600..3_600;

/// RFC 8656 section 9.
const PERMISSION_TIME: Duration = Duration::from_secs(300);

/// RFC 8656 section 12.
const CHANNEL_TIME: Duration = Duration::from_secs(600);

/// How long nothing may be relayed. Clients allocate for each transport even where their network lets UDP out, and
/// leave it unused then; over a path that they use they are heard every few seconds (RFC 7675). Who needs it later
/// restarts ICE and allocates anew.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// RFC 8656 section 12, and RFC 5766 before it.
const CHANNELS: Range<u16> = 0x4000..0x8000;

/// In EVEN-PORT: the port behind it is to be kept for another allocation.
const RESERVE_NEXT: u8 = 0x80;

/// The protocol number of UDP, for REQUESTED-TRANSPORT.
const UDP: u8 = 17;

/// Unknown attributes that an answer names.
const MAX_UNKNOWN: usize = 4;

/// Methods and classes, RFC 8656 section 17.
mod kind {
    pub(super) const BINDING: u16 = 0x0001;
    pub(super) const ALLOCATE: u16 = 0x0003;
    pub(super) const REFRESH: u16 = 0x0004;
    pub(super) const CREATE_PERMISSION: u16 = 0x0008;
    pub(super) const CHANNEL_BIND: u16 = 0x0009;
    pub(super) const SEND_INDICATION: u16 = 0x0016;
    pub(super) const DATA_INDICATION: u16 = 0x0017;
    /// The bits of the class: none in a request.
    pub(super) const CLASS: u16 = 0x0110;
    pub(super) const SUCCESS: u16 = 0x0100;
    pub(super) const ERROR: u16 = 0x0110;
}

/// An address family, RFC 8656 section 18.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(address: SocketAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// Out of such an attribute as REQUESTED-ADDRESS-FAMILY.
    fn read(value: &[u8]) -> Option<Self> {
        match value.first()? {
            1 => Some(Self::V4),
            2 => Some(Self::V6),
            _ => None,
        }
    }
}

/// Why a request is refused, RFC 8489 section 14.8 and RFC 8656 section 19.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorCode {
    BadRequest,
    Unauthenticated,
    Forbidden,
    UnknownAttribute,
    AllocationMismatch,
    StaleNonce,
    AddressFamilyNotSupported,
    WrongCredentials,
    UnsupportedTransport,
    PeerAddressFamilyMismatch,
    AllocationQuotaReached,
    InsufficientCapacity,
}

impl ErrorCode {
    pub(super) const fn number_and_reason(self) -> (u16, &'static str) {
        match self {
            Self::BadRequest => (400, "Bad Request"),
            Self::Unauthenticated => (401, "Unauthenticated"),
            Self::Forbidden => (403, "Forbidden"),
            Self::UnknownAttribute => (420, "Unknown Attribute"),
            Self::AllocationMismatch => (437, "Allocation Mismatch"),
            Self::StaleNonce => (438, "Stale Nonce"),
            Self::AddressFamilyNotSupported => (440, "Address Family not Supported"),
            Self::WrongCredentials => (441, "Wrong Credentials"),
            Self::UnsupportedTransport => (442, "Unsupported Transport Protocol"),
            Self::PeerAddressFamilyMismatch => (443, "Peer Address Family Mismatch"),
            Self::AllocationQuotaReached => (486, "Allocation Quota Reached"),
            Self::InsufficientCapacity => (508, "Insufficient Capacity"),
        }
    }
}

/// What the protocol needs of the node.
pub(super) trait Host {
    /// The key of who has this username.
    fn key(&self, username: &str) -> Option<IntegrityKey>;

    /// Makes the sockets of an allocation for who has this username: the address to be told, and the peers in the order
    /// in which [`Step::Relay`] and [`Protocol::hear_peer`] count them.
    ///
    /// # Errors
    /// What the client is told.
    fn allocate(&mut self, username: &str, family: Family) -> Result<(SocketAddr, Vec<SocketAddr>), ErrorCode>;
}

/// What becomes of a message of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is answered so.
    Answer(Vec<u8>),
    /// It is answered so, and is a refusal.
    Refuse(ErrorCode, Vec<u8>),
    /// This part of it goes to the peer with this index.
    Relay(usize, Range<usize>),
    /// Nothing.
    Drop(DropReason),
}

/// How a message of TURN over TCP begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// With so many bytes there is a whole one, padding included.
    Message(usize),
    /// Not all of its header is there yet.
    Incomplete,
    /// It is none, or too long.
    Garbage,
}

impl Framing {
    /// RFC 8656 sections 5 and 12.5.
    pub(super) fn of(bytes: &[u8]) -> Self {
        let Some([first, second, length @ ..]) = bytes.first_chunk::<4>() else { return Self::Incomplete };
        let length = usize::from(u16::from_be_bytes(*length));
        let whole = match first >> 6 {
            0 if length % 4 != 0 => return Self::Garbage,
            0 => HEADER_LEN + length,
            1 if CHANNELS.contains(&u16::from_be_bytes([*first, *second])) => (4 + length).next_multiple_of(4),
            _ => return Self::Garbage,
        };
        match bytes.get(4..8) {
            Some(cookie) if first >> 6 == 0 && *cookie != MAGIC_COOKIE.to_be_bytes() => Self::Garbage,
            _ if whole > MAX_MESSAGE_LEN => Self::Garbage,
            _ => Self::Message(whole),
        }
    }
}

/// Datagrams from a client: 30 Mbit/s of full ones, twice what the best camera and a screen make. Each is a call of the
/// kernel.
const DATAGRAMS: RateLimit = RateLimit::new(1_000, Duration::from_micros(333));

/// A peer of an allocation.
#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    permitted_until: Option<Instant>,
    channel: Option<Channel>,
}

#[derive(Debug, Clone, Copy)]
struct Channel {
    number: u16,
    until: Instant,
}

impl Peer {
    fn is_permitted(&self, now: Instant) -> bool {
        self.permitted_until.is_some_and(|until| now < until)
    }

    fn channel(&self, now: Instant) -> Option<u16> {
        self.channel.filter(|channel| now < channel.until).map(|channel| channel.number)
    }
}

#[derive(Debug)]
struct Allocation {
    username: String,
    family: Family,
    peers: Vec<Peer>,
    expires: Instant,
    relayed: Instant,
    datagrams: RateLimit,
}

impl Allocation {
    /// A datagram for a peer, if it is one and not one too many.
    fn relay(&mut self, peer: usize, part: Range<usize>, now: Instant) -> Step {
        if part.len() < MIN_FRAME_LEN {
            return Step::Drop(DropReason::Malformed);
        }
        if !self.datagrams.allow(now) {
            return Step::Drop(DropReason::TooMany);
        }
        self.relayed = now;
        Step::Relay(peer, part)
    }
}

/// One connection's state.
#[derive(Debug)]
pub(super) struct Protocol {
    client: SocketAddr,
    /// One for all of the connection: nobody else can repeat what was said on it.
    nonce: String,
    allocation: Option<Allocation>,
    /// Until when there must be an allocation.
    idle_until: Instant,
    /// How long a client may have none.
    patience: Duration,
}

/// A request, or what it is refused with.
type Checked<T> = Result<T, ErrorCode>;

impl Protocol {
    /// Of a client that is there. `nonce` is random text.
    pub(super) fn new(client: SocketAddr, nonce: String, patience: Duration, now: Instant) -> Self {
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        Self { client, nonce, allocation: None, idle_until: now + patience, patience }
    }

    /// Whether there is an allocation.
    pub(super) fn is_allocated(&self) -> bool {
        self.allocation.is_some()
    }

    /// Whether the connection has served its time: nothing was allocated, or it has run out, or nobody uses it.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        match &self.allocation {
            None => now >= self.idle_until,
            Some(allocation) => now >= allocation.expires || now >= allocation.relayed + IDLE_TIME,
        }
    }

    /// Takes one whole message of the client, as [`Framing`] tells it.
    pub(super) fn hear_client(&mut self, message: &[u8], now: Instant, host: &mut impl Host) -> Step {
        if message.first().is_some_and(|first| first >> 6 == 1) {
            return self.channel_data(message, now);
        }
        let Some(parsed) = Message::parse(message) else { return Step::Drop(DropReason::Malformed) };
        match parsed.kind {
            kind::SEND_INDICATION => self.send(message, &parsed, now),
            kind::BINDING => {
                let answer = MessageWriter::new(kind::BINDING | kind::SUCCESS, parsed.transaction);
                Step::Answer(answer.xor_address(attribute::XOR_MAPPED_ADDRESS, self.client).finish(None))
            }
            request if request & kind::CLASS == 0 => self.request(&parsed, now, host),
            _ => Step::Drop(DropReason::Malformed),
        }
    }

    /// Writes a datagram of a peer as the client gets it behind what is in `out`. False if the client did not permit
    /// the peer.
    pub(super) fn hear_peer(&mut self, peer: usize, datagram: &[u8], now: Instant, out: &mut BytesMut) -> bool {
        let Some(allocation) = &mut self.allocation else { return false };
        let Some(peer) = allocation.peers.get(peer).filter(|peer| peer.is_permitted(now)) else { return false };
        allocation.relayed = now;
        match peer.channel(now) {
            Some(number) => {
                out.put_u16(number);
                out.put_u16(datagram.len() as u16);
                out.put_slice(datagram);
                out.put_bytes(0, datagram.len().next_multiple_of(4) - datagram.len());
            }
            None => {
                let indication = MessageWriter::new(kind::DATA_INDICATION, rand::random());
                let indication = indication.xor_address(attribute::XOR_PEER_ADDRESS, peer.address);
                out.put_slice(&indication.attribute(attribute::DATA, datagram).finish(None));
            }
        }
        true
    }

    fn channel_data(&mut self, message: &[u8], now: Instant) -> Step {
        let Some([number @ .., _, _]) = message.first_chunk::<4>() else { return Step::Drop(DropReason::Malformed) };
        let length = usize::from(u16::from_be_bytes([message[2], message[3]]));
        let Some(allocation) = &mut self.allocation else { return Step::Drop(DropReason::NoPermission) };
        let number = u16::from_be_bytes(*number);
        let peer = allocation.peers.iter().position(|peer| peer.channel(now) == Some(number) && peer.is_permitted(now));
        let Some(peer) = peer else { return Step::Drop(DropReason::NoPermission) };
        allocation.relay(peer, 4..4 + length, now)
    }

    fn send(&mut self, message: &[u8], parsed: &Message<'_>, now: Instant) -> Step {
        let peer = parsed.attribute(attribute::XOR_PEER_ADDRESS).and_then(|value| parsed.xor_address(value));
        let data = parsed.attribute(attribute::DATA);
        let (Some(address), Some(data)) = (peer, data) else { return Step::Drop(DropReason::Malformed) };
        let Some(allocation) = &mut self.allocation else { return Step::Drop(DropReason::NoPermission) };
        let Some(peer) = allocation.peers.iter().position(|peer| peer.address == address) else {
            return Step::Drop(DropReason::ForeignPeer);
        };
        if !allocation.peers[peer].is_permitted(now) {
            return Step::Drop(DropReason::NoPermission);
        }
        let begin = data.as_ptr().addr() - message.as_ptr().addr();
        allocation.relay(peer, begin..begin + data.len(), now)
    }

    fn request(&mut self, request: &Message<'_>, now: Instant, host: &mut impl Host) -> Step {
        let (key, done) = match self.authenticate(request, host) {
            Ok((username, key)) => {
                let done = self.answer(request, username, now, host);
                (Some(key), done)
            }
            Err(code) => (None, Err(code)),
        };
        let code = match done {
            Ok(answer) => return Step::Answer(answer.finish(key.as_ref())),
            Err(code) => code,
        };
        let (number, reason) = code.number_and_reason();
        let mut answer = MessageWriter::new(request.kind | kind::ERROR, request.transaction).error(number, reason);
        if matches!(code, ErrorCode::Unauthenticated | ErrorCode::StaleNonce) {
            answer = answer.attribute(attribute::REALM, REALM.as_bytes());
            answer = answer.attribute(attribute::NONCE, self.nonce.as_bytes());
        }
        if code == ErrorCode::UnknownAttribute {
            let unknown: Vec<u16> = unknown_attributes(request).take(MAX_UNKNOWN).collect();
            answer = answer.unknown_attributes(&unknown);
        }
        match request.is_signed() {
            true => Step::Refuse(code, answer.finish(key.as_ref())),
            // The client asks for realm and nonce.
            false => Step::Answer(answer.finish(None)),
        }
    }

    /// Long-term credentials, RFC 8489 section 9.2.4.
    fn authenticate<'a>(&self, request: &Message<'a>, host: &impl Host) -> Checked<(&'a str, IntegrityKey)> {
        if !request.is_signed() {
            return Err(ErrorCode::Unauthenticated);
        }
        let [username, realm, nonce] =
            [attribute::USERNAME, attribute::REALM, attribute::NONCE].map(|kind| request.attribute(kind));
        let (Some(username), Some(_), Some(nonce)) = (username, realm, nonce) else {
            return Err(ErrorCode::BadRequest);
        };
        if nonce != self.nonce.as_bytes() {
            return Err(ErrorCode::StaleNonce);
        }
        let username = std::str::from_utf8(username).map_err(|_| ErrorCode::BadRequest)?;
        let key = host.key(username).filter(|key| request.is_authentic(key)).ok_or(ErrorCode::Unauthenticated)?;
        Ok((username, key))
    }

    fn answer(
        &mut self,
        request: &Message<'_>,
        username: &str,
        now: Instant,
        host: &mut impl Host,
    ) -> Checked<MessageWriter> {
        if self.allocation.as_ref().is_some_and(|allocation| allocation.username != username) {
            return Err(ErrorCode::WrongCredentials);
        }
        if unknown_attributes(request).next().is_some() {
            return Err(ErrorCode::UnknownAttribute);
        }
        let answer = MessageWriter::new(request.kind | kind::SUCCESS, request.transaction);
        match request.kind {
            kind::ALLOCATE => self.allocate(request, username, answer, now, host),
            kind::REFRESH => self.refresh(request, answer, now),
            kind::CREATE_PERMISSION => self.create_permission(request, now).map(|()| answer),
            kind::CHANNEL_BIND => self.bind_channel(request, now).map(|()| answer),
            _ => Err(ErrorCode::BadRequest),
        }
    }

    fn allocate(
        &mut self,
        request: &Message<'_>,
        username: &str,
        answer: MessageWriter,
        now: Instant,
        host: &mut impl Host,
    ) -> Checked<MessageWriter> {
        if self.allocation.is_some() {
            return Err(ErrorCode::AllocationMismatch);
        }
        let transport = request.attribute(attribute::REQUESTED_TRANSPORT).and_then(<[u8]>::first);
        if *transport.ok_or(ErrorCode::BadRequest)? != UDP {
            return Err(ErrorCode::UnsupportedTransport);
        }
        let family = requested_family(request)?.unwrap_or(Family::V4);
        let lifetime = lifetime(request)?.unwrap_or(LIFETIME.start).clamp(LIFETIME.start, LIFETIME.end);
        let even_port = request.attribute(attribute::EVEN_PORT).and_then(<[u8]>::first);
        if even_port.is_some_and(|wanted| wanted & RESERVE_NEXT != 0) {
            return Err(ErrorCode::InsufficientCapacity);
        }
        let (mut relayed, peers) = host.allocate(username, family)?;
        if even_port.is_some() {
            // Nobody reaches the client by this port, so that it need not be that of a socket.
            relayed.set_port(relayed.port() & !1);
        }
        let peers = peers.into_iter().map(|address| Peer { address, permitted_until: None, channel: None });
        self.allocation = Some(Allocation {
            username: username.to_owned(),
            family,
            peers: peers.collect(),
            expires: now + Duration::from_secs(lifetime.into()),
            relayed: now,
            datagrams: DATAGRAMS,
        });
        Ok(answer
            .xor_address(attribute::XOR_RELAYED_ADDRESS, relayed)
            .xor_address(attribute::XOR_MAPPED_ADDRESS, self.client)
            .attribute(attribute::LIFETIME, &lifetime.to_be_bytes()))
    }

    fn refresh(&mut self, request: &Message<'_>, answer: MessageWriter, now: Instant) -> Checked<MessageWriter> {
        let allocation = self.allocation.as_mut().ok_or(ErrorCode::AllocationMismatch)?;
        if requested_family(request)?.is_some_and(|family| family != allocation.family) {
            return Err(ErrorCode::PeerAddressFamilyMismatch);
        }
        let lifetime = match lifetime(request)?.unwrap_or(LIFETIME.start) {
            0 => 0,
            wanted => wanted.clamp(LIFETIME.start, LIFETIME.end),
        };
        match lifetime {
            0 => (self.allocation, self.idle_until) = (None, now + self.patience),
            lifetime => allocation.expires = now + Duration::from_secs(lifetime.into()),
        }
        Ok(answer.attribute(attribute::LIFETIME, &lifetime.to_be_bytes()))
    }

    /// A permission is of an address, whatever its ports: here of the peers that have it.
    fn create_permission(&mut self, request: &Message<'_>, now: Instant) -> Checked<()> {
        let allocation = self.allocation.as_mut().ok_or(ErrorCode::AllocationMismatch)?;
        request.attribute(attribute::XOR_PEER_ADDRESS).ok_or(ErrorCode::BadRequest)?;
        // All or none.
        for permit in [false, true] {
            for address in wanted_addresses(request) {
                let address = address.ok_or(ErrorCode::BadRequest)?;
                if Family::of(address) != allocation.family {
                    return Err(ErrorCode::PeerAddressFamilyMismatch);
                }
                let mut named = allocation.peers.iter_mut().filter(|peer| peer.address.ip() == address.ip()).peekable();
                named.peek().ok_or(ErrorCode::Forbidden)?;
                named.filter(|_| permit).for_each(|peer| peer.permitted_until = Some(now + PERMISSION_TIME));
            }
        }
        Ok(())
    }

    fn bind_channel(&mut self, request: &Message<'_>, now: Instant) -> Checked<()> {
        let allocation = self.allocation.as_mut().ok_or(ErrorCode::AllocationMismatch)?;
        let number = request.attribute(attribute::CHANNEL_NUMBER).and_then(<[u8]>::first_chunk);
        let number = u16::from_be_bytes(*number.ok_or(ErrorCode::BadRequest)?);
        let address = request.attribute(attribute::XOR_PEER_ADDRESS).and_then(|value| request.xor_address(value));
        let address = address.ok_or(ErrorCode::BadRequest)?;
        if Family::of(address) != allocation.family {
            return Err(ErrorCode::PeerAddressFamilyMismatch);
        }
        let taken = |peer: &Peer| peer.address != address && peer.channel(now) == Some(number);
        let is_taken = allocation.peers.iter().any(taken);
        let peer = allocation.peers.iter_mut().find(|peer| peer.address == address).ok_or(ErrorCode::Forbidden)?;
        let is_other = peer.channel(now).is_some_and(|bound| bound != number);
        if !CHANNELS.contains(&number) || is_taken || is_other {
            return Err(ErrorCode::BadRequest);
        }
        peer.channel = Some(Channel { number, until: now + CHANNEL_TIME });
        peer.permitted_until = Some(now + PERMISSION_TIME);
        Ok(())
    }
}

fn wanted_addresses(request: &Message<'_>) -> impl Iterator<Item = Option<SocketAddr>> {
    let wanted = request.attributes().filter(|(kind, _)| *kind == attribute::XOR_PEER_ADDRESS);
    wanted.map(|(_, value)| request.xor_address(value))
}

/// In seconds.
fn lifetime(request: &Message<'_>) -> Checked<Option<u32>> {
    let value = request.attribute(attribute::LIFETIME).map(|value| value.try_into().map(u32::from_be_bytes));
    value.transpose().map_err(|_| ErrorCode::BadRequest)
}

fn requested_family(request: &Message<'_>) -> Checked<Option<Family>> {
    let family = request.attribute(attribute::REQUESTED_ADDRESS_FAMILY);
    family.map(|value| Family::read(value).ok_or(ErrorCode::AddressFamilyNotSupported)).transpose()
}

/// Attributes that must be understood and are not. RESERVATION-TOKEN is of no use with one UDP port for all media;
/// DONT-FRAGMENT asks for what is so anyhow, as no datagram leaves the machine.
fn unknown_attributes(request: &Message<'_>) -> impl Iterator<Item = u16> {
    const KNOWN: [u16; 13] = [
        attribute::USERNAME,
        attribute::CHANNEL_NUMBER,
        attribute::LIFETIME,
        attribute::XOR_PEER_ADDRESS,
        attribute::DATA,
        attribute::REALM,
        attribute::NONCE,
        attribute::REQUESTED_ADDRESS_FAMILY,
        attribute::REQUESTED_TRANSPORT,
        attribute::DONT_FRAGMENT,
        attribute::EVEN_PORT,
        attribute::MESSAGE_INTEGRITY_SHA256,
        attribute::XOR_MAPPED_ADDRESS,
    ];
    request.attributes().map(|(kind, _)| kind).filter(|kind| *kind < 0x8000 && !KNOWN.contains(kind))
}
