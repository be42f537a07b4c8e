//! Whose datagram is it? First the protocol by its first byte (RFC 7983), then the transport: STUN by the ufrag that it names,
//! everything else by its source address, which is known only after a STUN request from there was authenticated.
//!
//! The kernel spreads clients over the workers' sockets as it likes. A ufrag says which worker its transport lives on, and a
//! worker tells the others which addresses are its own, so that each can pass on what is not.

use std::collections::VecDeque;
use std::net::SocketAddr;

use rustc_hash::FxHashMap;
use slotmap::new_key_type;

use super::drop_reason::DropReason;
use super::messages::WorkerIndex;
use super::stun;

new_key_type! {
    /// A transport within its worker.
    pub struct TransportKey;
}

/// Characters of a ufrag that name the worker; base 36 needs four for the 65,536 values of a [`WorkerIndex`].
const WORKER_PREFIX_LEN: usize = 4;

/// Addresses of other workers' clients that a worker remembers: ten thousand users with a few candidates each, in under
/// 4 MiB. Beyond that the oldest goes, whose packets are dropped until its next connectivity check is passed on.
const MAX_FOREIGN_ADDRESSES: usize = 65_536;

/// A datagram as it came in. The data are decrypted in place.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Where it came from.
    pub source: SocketAddr,
    /// Its payload.
    pub data: &'a mut [u8],
}

/// What a datagram on the media port carries, RFC 7983 section 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
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
pub fn classify(data: &[u8]) -> Protocol {
    match data.first() {
        Some(0..=3) => Protocol::Stun,
        Some(20..=63) => Protocol::Dtls,
        Some(128..=191) => Protocol::RtpOrRtcp,
        _ => Protocol::Unknown,
    }
}

/// Whether a [`Protocol::RtpOrRtcp`] datagram is RTCP, RFC 5761 section 4.
pub fn is_rtcp(data: &[u8]) -> bool {
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
pub fn worker_of_ufrag(ufrag: &str) -> Option<WorkerIndex> {
    let prefix = ufrag.get(..WORKER_PREFIX_LEN)?;
    if !prefix.bytes().all(|c| c.is_ascii_alphanumeric()) {
        return None;
    }
    u16::from_str_radix(prefix, 36).ok().map(WorkerIndex)
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// To a transport of this worker.
    Transport(TransportKey),
    /// To another worker of this node.
    Worker(WorkerIndex),
    /// Nowhere.
    Drop(DropReason),
}

/// The tables of one worker.
#[derive(Debug)]
pub struct Demux {
    worker: WorkerIndex,
    transports_by_ufrag: FxHashMap<Box<str>, TransportKey>,
    transports_by_address: FxHashMap<SocketAddr, TransportKey>,
    foreign: FxHashMap<SocketAddr, WorkerIndex>,
    foreign_by_age: VecDeque<SocketAddr>,
}

impl Demux {
    /// The empty tables of `worker`.
    pub fn new(worker: WorkerIndex) -> Self {
        Self {
            worker,
            transports_by_ufrag: FxHashMap::default(),
            transports_by_address: FxHashMap::default(),
            foreign: FxHashMap::default(),
            foreign_by_age: VecDeque::new(),
        }
    }

    /// Finds the destination of a datagram.
    pub fn route(&self, source: SocketAddr, data: &[u8]) -> Destination {
        match classify(data) {
            Protocol::Stun => self.route_stun(data),
            Protocol::Dtls | Protocol::RtpOrRtcp => self.route_by_address(source),
            Protocol::Unknown => Destination::Drop(DropReason::UnknownProtocol),
        }
    }

    fn route_stun(&self, data: &[u8]) -> Destination {
        let Some(ufrag) = stun::local_ufrag(data) else {
            return Destination::Drop(DropReason::StunMalformed);
        };
        if let Some(&transport) = self.transports_by_ufrag.get(ufrag) {
            return Destination::Transport(transport);
        }
        match worker_of_ufrag(ufrag) {
            Some(worker) if worker != self.worker => Destination::Worker(worker),
            _ => Destination::Drop(DropReason::UnknownUfrag),
        }
    }

    fn route_by_address(&self, source: SocketAddr) -> Destination {
        if let Some(&transport) = self.transports_by_address.get(&source) {
            Destination::Transport(transport)
        } else if let Some(&worker) = self.foreign.get(&source) {
            Destination::Worker(worker)
        } else {
            Destination::Drop(DropReason::UnknownAddress)
        }
    }

    /// STUN requests for `ufrag` are the transport's from now on.
    pub fn add_ufrag(&mut self, ufrag: &str, transport: TransportKey) {
        self.transports_by_ufrag.insert(ufrag.into(), transport);
    }

    /// The ufrag names nobody any more.
    pub fn remove_ufrag(&mut self, ufrag: &str) {
        self.transports_by_ufrag.remove(ufrag);
    }

    /// An address was authenticated for a transport of this worker.
    pub fn add_address(&mut self, address: SocketAddr, transport: TransportKey) {
        self.foreign.remove(&address);
        self.transports_by_address.insert(address, transport);
    }

    /// The transport has no use for the address any more. Returns whether it was the transport's still.
    pub fn remove_address(&mut self, address: SocketAddr, transport: TransportKey) -> bool {
        let owned = self.transports_by_address.get(&address) == Some(&transport);
        if owned {
            self.transports_by_address.remove(&address);
        }
        owned
    }

    /// Another worker authenticated the address, or has no use for it any more (`owned` is false).
    pub fn set_foreign_address(&mut self, address: SocketAddr, worker: WorkerIndex, owned: bool) {
        if !owned {
            if self.foreign.get(&address) == Some(&worker) {
                self.foreign.remove(&address);
            }
            return;
        }
        // The client's newest authenticated check decides, wherever it was answered.
        self.transports_by_address.remove(&address);
        if self.foreign.insert(address, worker).is_none() {
            self.foreign_by_age.push_back(address);
        }
        // An address that was removed and came again is listed twice; both are bounded together.
        while self.foreign_by_age.len() > MAX_FOREIGN_ADDRESSES {
            if let Some(oldest) = self.foreign_by_age.pop_front() {
                self.foreign.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;
    use crate::data_plane::stun::tests::{PASSWORD, request};

    fn address(port: u16) -> SocketAddr {
        ([192, 0, 2, 33], port).into()
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
        demux.add_ufrag(&ours, first);
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
        demux.remove_ufrag(&ours);
        assert_eq!(demux.route(address(1), &check(&ours)), Destination::Drop(DropReason::UnknownUfrag));
    }

    #[test]
    fn addresses_move_between_workers() {
        let mut keys = SlotMap::<TransportKey, ()>::with_key();
        let transport = keys.insert(());
        let mut demux = Demux::new(WorkerIndex(0));
        let media = [0x80; 20];
        demux.set_foreign_address(address(1), WorkerIndex(2), true);
        assert_eq!(demux.route(address(1), &media), Destination::Worker(WorkerIndex(2)));
        demux.set_foreign_address(address(1), WorkerIndex(3), true);
        demux.set_foreign_address(address(1), WorkerIndex(2), false);
        assert_eq!(
            demux.route(address(1), &media),
            Destination::Worker(WorkerIndex(3)),
            "a late farewell of the former owner"
        );
        demux.add_address(address(1), transport);
        assert_eq!(demux.route(address(1), &media), Destination::Transport(transport));
        demux.set_foreign_address(address(1), WorkerIndex(2), true);
        assert_eq!(demux.route(address(1), &media), Destination::Worker(WorkerIndex(2)));
        demux.set_foreign_address(address(1), WorkerIndex(2), false);
        assert_eq!(demux.route(address(1), &media), Destination::Drop(DropReason::UnknownAddress));
    }

    #[test]
    fn strangers_and_foreign_addresses_are_bounded() {
        let mut demux = Demux::new(WorkerIndex(0));
        for host in 0..300_000_u32 {
            let source = SocketAddr::from((std::net::Ipv4Addr::from(host), 1));
            assert_eq!(demux.route(source, &[0x80; 20]), Destination::Drop(DropReason::UnknownAddress));
            demux.set_foreign_address(source, WorkerIndex(1), true);
        }
        assert_eq!(demux.foreign.len(), MAX_FOREIGN_ADDRESSES);
        assert_eq!(demux.foreign_by_age.len(), MAX_FOREIGN_ADDRESSES);
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
