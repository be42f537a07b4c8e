//! Whose datagram is it? First the protocol by its first byte (RFC 7983), then the transport: STUN by the ufrag that it
//! names, everything else by its source address, which is known only after a STUN request from there was authenticated.
//!
//! The kernel spreads clients over the workers' sockets as it likes. A ufrag says which worker its transport lives on,
//! and a worker tells the one that passes its clients' checks on which addresses are its own, so that this can pass on
//! the rest.
//!
//! An address is its owner's for as long as the client is heard from there: nobody else gets it by a check of his own.

mod foreign;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use rustc_hash::FxHashMap;
use slotmap::new_key_type;

use self::foreign::ForeignAddresses;
use crate::address::TransportAddress;
use crate::drop_reason::DropReason;
use crate::messages::WorkerIndex;
use crate::wire::stun;

new_key_type! {
    /// A transport within its worker.
    pub struct TransportKey;
}

/// Characters of a ufrag that name the worker; base 36 needs four for the 65,536 values of a [`WorkerIndex`].
const WORKER_PREFIX_LEN: usize = 4;

/// What a datagram on the media port carries, RFC 7983 section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// A connectivity check.
    Stun,
    /// A DTLS record.
    Dtls,
    /// SRTP or SRTCP; see [`is_rtcp`].
    RtpOrRtcp,
    /// Nothing that is spoken here.
    Unknown,
}

/// Tells the protocol of a datagram by its first byte.
pub(crate) fn classify(data: &[u8]) -> Protocol {
    match data.first() {
        _ if stun::is_message(data) => Protocol::Stun,
        Some(20..=63) => Protocol::Dtls,
        Some(128..=191) => Protocol::RtpOrRtcp,
        _ => Protocol::Unknown,
    }
}

/// Whether a [`Protocol::RtpOrRtcp`] datagram is RTCP, RFC 5761 section 4.
pub(crate) fn is_rtcp(data: &[u8]) -> bool {
    matches!(data.get(1), Some(192..=223))
}

/// Makes a ufrag that names its worker. `random` are 4 to 28 ICE characters (letters, digits, `+` and `/`).
pub fn make_ufrag(worker: WorkerIndex, random: &str) -> String {
    let mut ufrag = String::with_capacity(WORKER_PREFIX_LEN + random.len());
    for place in (0..WORKER_PREFIX_LEN as u32).rev() {
        let digit = u32::from(worker.0) / 36_u32.pow(place) % 36;
        ufrag.push(char::from_digit(digit, 36).unwrap_or('0'));
    }
    ufrag.push_str(random);
    ufrag
}

/// The worker that a ufrag names; `None` if it is not one of [`make_ufrag`]'s.
pub(crate) fn worker_of_ufrag(ufrag: &str) -> Option<WorkerIndex> {
    let prefix = ufrag.get(..WORKER_PREFIX_LEN)?;
    if !prefix.bytes().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    u16::from_str_radix(prefix, 36).ok().map(WorkerIndex)
}

/// The worker whose transport a connectivity check names; `None` if it is no check, or names nobody of here.
pub fn worker_of_check(message: &[u8]) -> Option<WorkerIndex> {
    worker_of_ufrag(stun::local_ufrag(message)?)
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Destination {
    /// To a transport of this worker.
    Transport(TransportKey),
    /// To another worker of this node.
    Worker(WorkerIndex),
    /// Nowhere.
    Drop(DropReason),
}

/// The tables of one worker.
#[derive(Debug)]
pub(crate) struct Demux {
    worker: WorkerIndex,
    transports_by_ufrag: FxHashMap<Box<str>, TransportKey>,
    /// Clients choose their addresses, so the hash has a key.
    transports_by_address: HashMap<TransportAddress, TransportKey>,
    /// The one of them that was looked up last: what a client sends comes in runs.
    latest: Option<(TransportAddress, TransportKey)>,
    foreign: ForeignAddresses,
}

impl Demux {
    /// The empty tables of `worker`.
    pub(crate) fn new(worker: WorkerIndex) -> Self {
        Self {
            worker,
            transports_by_ufrag: FxHashMap::default(),
            transports_by_address: HashMap::new(),
            latest: None,
            foreign: ForeignAddresses::default(),
        }
    }

    /// Finds the destination of a datagram.
    #[inline]
    pub(crate) fn route(&mut self, source: TransportAddress, data: &[u8]) -> Destination {
        // The system refuses to send there, and nothing that is honest comes from there.
        if source.socket_addr().port() == 0 {
            return Destination::Drop(DropReason::InvalidSource);
        }
        match classify(data) {
            Protocol::Stun => self.route_stun(source, data),
            Protocol::Dtls | Protocol::RtpOrRtcp => self.route_by_address(source),
            Protocol::Unknown => Destination::Drop(DropReason::UnknownProtocol),
        }
    }

    fn route_stun(&self, source: TransportAddress, data: &[u8]) -> Destination {
        let Some(ufrag) = stun::local_ufrag(data) else {
            return Destination::Drop(DropReason::StunMalformed);
        };
        if let Some(&transport) = self.transports_by_ufrag.get(ufrag) {
            return Destination::Transport(transport);
        }
        match worker_of_ufrag(ufrag) {
            // A connection is where its first check went.
            Some(worker) if worker != self.worker && !source.is_tcp() => Destination::Worker(worker),
            _ => Destination::Drop(DropReason::UnknownUfrag),
        }
    }

    /// Finds the destination of what comes from an address that was authenticated.
    pub(crate) fn route_by_address(&mut self, source: TransportAddress) -> Destination {
        if let Some((address, transport)) = self.latest
            && address == source
        {
            Destination::Transport(transport)
        } else if let Some(&transport) = self.transports_by_address.get(&source) {
            self.latest = Some((source, transport));
            Destination::Transport(transport)
        } else if let TransportAddress::Udp(source) = source
            && let Some(worker) = self.foreign.get(source)
        {
            Destination::Worker(worker)
        } else {
            Destination::Drop(DropReason::UnknownAddress)
        }
    }

    /// STUN requests for `ufrag` are the transport's from now on, if they are no other one's. Returns whether they are
    /// the transport's.
    #[must_use]
    pub(crate) fn add_ufrag(&mut self, ufrag: &str, transport: TransportKey) -> bool {
        *self.transports_by_ufrag.entry(ufrag.into()).or_insert(transport) == transport
    }

    /// The transport has no use for the ufrag any more. One that is another transport's stays that.
    pub(crate) fn remove_ufrag(&mut self, ufrag: &str, transport: TransportKey) {
        if self.transports_by_ufrag.get(ufrag) == Some(&transport) {
            self.transports_by_ufrag.remove(ufrag);
        }
    }

    /// The transport of this worker that the address was last authenticated for.
    pub(crate) fn transport_at(&self, address: TransportAddress) -> Option<TransportKey> {
        self.transports_by_address.get(&address).copied()
    }

    /// The other worker that has said lately that the address is its own.
    pub(crate) fn worker_at(&self, now: Instant, address: TransportAddress) -> Option<WorkerIndex> {
        match address {
            TransportAddress::Udp(address) => self.foreign.owner(now, address),
            TransportAddress::Tcp(_) => None,
        }
    }

    /// An address was authenticated for a transport of this worker.
    pub(crate) fn add_address(&mut self, address: TransportAddress, transport: TransportKey) {
        self.latest = None;
        if let TransportAddress::Udp(address) = address {
            self.foreign.remove(address);
        }
        self.transports_by_address.insert(address, transport);
    }

    /// The transport has no use for the address any more. Returns whether it was the transport's still.
    pub(crate) fn remove_address(&mut self, address: TransportAddress, transport: TransportKey) -> bool {
        let owned = self.transports_by_address.get(&address) == Some(&transport);
        if owned {
            self.latest = None;
            self.transports_by_address.remove(&address);
        }
        owned
    }

    /// Another worker has authenticated the address. One that said so of it before, and lately, keeps it.
    pub(crate) fn add_foreign_address(&mut self, now: Instant, address: SocketAddr, worker: WorkerIndex) {
        self.latest = None;
        self.transports_by_address.remove(&TransportAddress::Udp(address));
        self.foreign.insert(now, address, worker);
    }

    /// Another worker has no use for the address any more.
    pub(crate) fn remove_foreign_address(&mut self, address: SocketAddr, worker: WorkerIndex) {
        if self.foreign.get(address) == Some(worker) {
            self.foreign.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;
    use crate::wire::stun::tests::{PASSWORD, request};

    fn socket_addr(port: u16) -> SocketAddr {
        ([192, 0, 2, 33], port).into()
    }

    fn address(port: u16) -> TransportAddress {
        TransportAddress::Udp(socket_addr(port))
    }

    fn check(ufrag: &str) -> Vec<u8> {
        request(&format!("{ufrag}:client"), PASSWORD, &[])
    }

    #[test]
    fn a_datagram_finds_its_transport() {
        let mut keys = SlotMap::<TransportKey, ()>::with_key();
        let (first, second) = (keys.insert(()), keys.insert(()));
        let mut demux = Demux::new(WorkerIndex(1));
        let (ours, theirs) = (make_ufrag(WorkerIndex(1), "abcd"), make_ufrag(WorkerIndex(2), "abcd"));
        assert!(demux.add_ufrag(&ours, first));
        assert_eq!(demux.route(address(1), &check(&ours)), Destination::Transport(first));
        assert_eq!(demux.route(address(1), &check(&theirs)), Destination::Worker(WorkerIndex(2)));
        let unknown = make_ufrag(WorkerIndex(1), "efgh");
        assert_eq!(demux.route(address(1), &check(&unknown)), Destination::Drop(DropReason::UnknownUfrag));
        assert_eq!(demux.route(address(1), &check("ab")), Destination::Drop(DropReason::UnknownUfrag));
        assert_eq!(demux.route(address(1), &[0; 20]), Destination::Drop(DropReason::StunMalformed));

        let media = [0x80; 20];
        assert_eq!(demux.route(address(1), &media), Destination::Drop(DropReason::UnknownAddress));
        demux.add_address(address(1), first);
        assert_eq!(demux.route(address(1), &media), Destination::Transport(first));
        assert_eq!(demux.route(address(1), &[22; 20]), Destination::Transport(first));
        assert_eq!(demux.route(address(1), &[100; 20]), Destination::Drop(DropReason::UnknownProtocol));
        demux.add_address(address(1), second);
        assert!(!demux.remove_address(address(1), first), "it changed hands");
        assert_eq!(demux.route(address(1), &media), Destination::Transport(second));
        assert!(demux.remove_address(address(1), second));
        assert_eq!(demux.route(address(1), &media), Destination::Drop(DropReason::UnknownAddress));
        demux.remove_ufrag(&ours, first);
        assert_eq!(demux.route(address(1), &check(&ours)), Destination::Drop(DropReason::UnknownUfrag));
    }

    #[test]
    fn a_ufrag_stays_with_the_transport_that_had_it_first() {
        let mut keys = SlotMap::<TransportKey, ()>::with_key();
        let (first, second) = (keys.insert(()), keys.insert(()));
        let mut demux = Demux::new(WorkerIndex(0));
        assert!(demux.add_ufrag("0000test", first));
        assert!(!demux.add_ufrag("0000test", second));
        assert!(demux.add_ufrag("0000test", first), "it is its own");
        demux.remove_ufrag("0000test", second);
        assert_eq!(demux.route(address(1), &check("0000test")), Destination::Transport(first));
        demux.remove_ufrag("0000test", first);
        assert!(demux.add_ufrag("0000test", second));
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    fn an_address_is_passed_on_to_the_worker_that_has_it() {
        let mut keys = SlotMap::<TransportKey, ()>::with_key();
        let transport = keys.insert(());
        let mut demux = Demux::new(WorkerIndex(0));
        let (now, media) = (Instant::now(), [0x80; 20]);
        demux.add_foreign_address(now, socket_addr(1), WorkerIndex(2));
        assert_eq!(demux.route(address(1), &media), Destination::Worker(WorkerIndex(2)));
        demux.remove_foreign_address(socket_addr(1), WorkerIndex(3));
        assert_eq!(demux.route(address(1), &media), Destination::Worker(WorkerIndex(2)), "it never was the third's");
        demux.add_address(address(1), transport);
        assert_eq!(demux.route(address(1), &media), Destination::Transport(transport));
        demux.add_foreign_address(now, socket_addr(1), WorkerIndex(2));
        assert_eq!(demux.route(address(1), &media), Destination::Worker(WorkerIndex(2)));
        demux.remove_foreign_address(socket_addr(1), WorkerIndex(2));
        assert_eq!(demux.route(address(1), &media), Destination::Drop(DropReason::UnknownAddress));
    }

    #[test]
    fn a_connection_is_an_address_of_its_own_and_nothing_of_it_is_passed_on() {
        let mut keys = SlotMap::<TransportKey, ()>::with_key();
        let [first, second] = [(); 2].map(|()| keys.insert(()));
        let mut demux = Demux::new(WorkerIndex(0));
        let (media, connection) = ([0x80; 20], TransportAddress::Tcp(socket_addr(1)));
        demux.add_address(address(1), first);
        assert_eq!(demux.route(connection, &media), Destination::Drop(DropReason::UnknownAddress));
        demux.add_address(connection, second);
        assert_eq!(demux.route(address(1), &media), Destination::Transport(first));
        assert_eq!(demux.route(connection, &media), Destination::Transport(second));
        let of_another_worker = check(&make_ufrag(WorkerIndex(1), "abcd"));
        assert_eq!(demux.route(address(2), &of_another_worker), Destination::Worker(WorkerIndex(1)));
        assert_eq!(demux.route(connection, &of_another_worker), Destination::Drop(DropReason::UnknownUfrag));
        assert_eq!(worker_of_check(&of_another_worker), Some(WorkerIndex(1)));
        assert_eq!(worker_of_check(&media), None);
    }

    #[test]
    fn nothing_comes_from_port_zero() {
        let mut demux = Demux::new(WorkerIndex(0));
        assert!(demux.add_ufrag("0000test", SlotMap::<TransportKey, ()>::with_key().insert(())));
        for data in [&check("0000test")[..], &[0x80; 20], &[22; 20]] {
            assert_eq!(demux.route(address(0), data), Destination::Drop(DropReason::InvalidSource));
        }
    }

    #[test]
    fn strangers_leave_no_trace() {
        let mut demux = Demux::new(WorkerIndex(0));
        for host in 0..300_000_u32 {
            let source = TransportAddress::Udp((std::net::Ipv4Addr::from(host), 1).into());
            assert_eq!(demux.route(source, &[0x80; 20]), Destination::Drop(DropReason::UnknownAddress));
        }
        assert!(demux.transports_by_address.is_empty());
    }

    proptest! {
        #[test]
        fn a_ufrag_names_its_worker(worker in any::<u16>(), random in "[A-Za-z0-9+/]{4,28}") {
            let ufrag = make_ufrag(WorkerIndex(worker), &random);
            prop_assert_eq!(worker_of_ufrag(&ufrag), Some(WorkerIndex(worker)));
            prop_assert!(ufrag.ends_with(&random));
        }

        #[test]
        fn any_ufrag_and_any_bytes_are_survived(ufrag in ".*", bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = worker_of_ufrag(&ufrag);
            let _ = Demux::new(WorkerIndex(0)).route(address(1), &bytes);
            let _ = is_rtcp(&bytes);
        }
    }
}
