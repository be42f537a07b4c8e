//! How much of a node one address may take: connections, to signalling and to media, WebSockets and changes a minute,
//! rooms. Without such limits one stranger with one machine could take all of each.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_media::rate_limit::RateLimit;
use tokio::time::Instant;

use crate::config::{Network, NodeConfig};
use crate::support::lock;

/// What rates are about.
const MINUTE: Duration = Duration::from_secs(60);

/// Of an IPv6 address, what a site's provider gives to it: the rest is the site's own choice.
const IPV6_SITE: u128 = !0 << 64;

/// Connections of one address to the media port that nobody has authenticated yet: a sixteenth of all. Each is that for
/// a round trip.
const NEWCOMERS_PER_ADDRESS: u32 = 64;

/// Addresses that are kept before those of whom nothing is left are looked for.
const SWEEP_FROM: usize = 1_024;

/// What the addresses that there are use of the node.
#[derive(Debug)]
pub(crate) struct AddressLimits {
    connections: u32,
    media_connections: u32,
    /// Of a new address; `None`: as many as it likes.
    sessions: Option<RateLimit>,
    /// The same of what others are told.
    changes: Option<RateLimit>,
    rooms: u32,
    allocations: u32,
    proxies: Vec<Network>,
    addresses: Mutex<Addresses>,
}

#[derive(Debug)]
struct Addresses {
    usage: HashMap<IpAddr, AddressUsage>,
    sweep_at: usize,
}

#[derive(Debug, Default)]
struct AddressUsage {
    connections: u32,
    media_connections: u32,
    newcomers: u32,
    rooms: u32,
    allocations: u32,
    /// `None` as long as there was no WebSocket.
    sessions: Option<RateLimit>,
    changes: Option<RateLimit>,
}

/// What an address can hold.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Connection,
    MediaConnection,
    Newcomer,
    Room,
    Allocation,
}

/// Something that an address holds, until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    limits: Arc<AddressLimits>,
    /// `None`: of a proxy, which has no limits.
    address: Option<IpAddr>,
    kind: Kind,
}

impl AddressLimits {
    pub(crate) fn new(config: &NodeConfig) -> Arc<Self> {
        let limits = &config.limits;
        Arc::new(Self {
            connections: limits.connections_per_address,
            media_connections: limits.media_connections_per_address,
            sessions: RateLimit::per(limits.sessions_per_minute_per_address, MINUTE),
            changes: RateLimit::per(limits.changes_per_minute_per_address, MINUTE),
            rooms: limits.rooms_per_address,
            allocations: limits.allocations_per_address,
            proxies: config.users.proxies.clone(),
            addresses: Mutex::new(Addresses { usage: HashMap::new(), sweep_at: SWEEP_FROM }),
        })
    }

    /// A place for a connection; `None` when the address has all that it may.
    pub(crate) fn connection(self: &Arc<Self>, remote: IpAddr) -> Option<Held> {
        self.hold(remote, Kind::Connection, self.connections)
    }

    /// A place for a connection to the media port; `None` when the address has all that it may.
    pub(crate) fn media_connection(self: &Arc<Self>, remote: IpAddr) -> Option<Held> {
        self.hold(remote, Kind::MediaConnection, self.media_connections)
    }

    /// A place for one of those that no transport has authenticated yet.
    pub(crate) fn newcomer(self: &Arc<Self>, remote: IpAddr) -> Option<Held> {
        self.hold(remote, Kind::Newcomer, NEWCOMERS_PER_ADDRESS)
    }

    /// A place for a room; `None` when the address has all that it may.
    pub(crate) fn room(self: &Arc<Self>, remote: IpAddr) -> Option<Held> {
        self.hold(remote, Kind::Room, self.rooms)
    }

    /// A place for an allocation of TURN; `None` when the address has all that it may.
    pub(crate) fn allocation(self: &Arc<Self>, remote: IpAddr) -> Option<Held> {
        self.hold(remote, Kind::Allocation, self.allocations)
    }

    /// Whether the address may open another WebSocket now.
    pub(crate) fn take_session(&self, remote: IpAddr, now: Instant) -> bool {
        let Some(address) = self.counted(remote) else { return true };
        let Some(unused) = self.sessions else { return true };
        let mut addresses = lock(&self.addresses);
        addresses.of(address, now).sessions.get_or_insert(unused).allow(now.into_std())
    }

    /// Whether somebody at the address may change now what others are told, which counts as so many changes.
    pub(crate) fn take_changes(&self, remote: IpAddr, count: u32, now: Instant) -> bool {
        let Some(address) = self.counted(remote) else { return true };
        let Some(unused) = self.changes else { return true };
        let mut addresses = lock(&self.addresses);
        addresses.of(address, now).changes.get_or_insert(unused).allow_many(count, now.into_std())
    }

    fn hold(self: &Arc<Self>, remote: IpAddr, kind: Kind, limit: u32) -> Option<Held> {
        let address = self.counted(remote);
        if let Some(address) = address {
            let mut addresses = lock(&self.addresses);
            let held = addresses.of(address, Instant::now()).held(kind);
            if limit != 0 && *held >= limit {
                return None;
            }
            *held += 1;
        }
        Some(Held { limits: Arc::clone(self), address, kind })
    }

    /// Under which address its use is counted, if at all.
    fn counted(&self, remote: IpAddr) -> Option<IpAddr> {
        if self.proxies.iter().any(|proxy| proxy.contains(remote)) {
            return None;
        }
        Some(match remote.to_canonical() {
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & IPV6_SITE).into(),
            addr => addr,
        })
    }
}

impl Addresses {
    fn of(&mut self, address: IpAddr, now: Instant) -> &mut AddressUsage {
        if self.usage.len() >= self.sweep_at {
            self.usage.retain(|_, usage| usage.is_something(now));
            // Looked at once for each that came meanwhile.
            self.sweep_at = SWEEP_FROM.max(2 * self.usage.len());
        }
        self.usage.entry(address).or_default()
    }
}

impl AddressUsage {
    fn held(&mut self, kind: Kind) -> &mut u32 {
        match kind {
            Kind::Connection => &mut self.connections,
            Kind::MediaConnection => &mut self.media_connections,
            Kind::Newcomer => &mut self.newcomers,
            Kind::Room => &mut self.rooms,
            Kind::Allocation => &mut self.allocations,
        }
    }

    fn is_something(&self, now: Instant) -> bool {
        let held = [self.connections, self.media_connections, self.newcomers, self.rooms, self.allocations];
        held.into_iter().any(|held| held > 0)
            || [self.sessions, self.changes].into_iter().flatten().any(|limit| !limit.is_full(now.into_std()))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut addresses = lock(&self.limits.addresses);
        if let Some(usage) = addresses.usage.get_mut(&address) {
            *usage.held(self.kind) -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(set: impl FnOnce(&mut NodeConfig)) -> Arc<AddressLimits> {
        let mut config = NodeConfig::default();
        config.limits.connections_per_address = 2;
        config.limits.sessions_per_minute_per_address = 3;
        config.limits.rooms_per_address = 1;
        set(&mut config);
        AddressLimits::new(&config)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_places_and_gets_them_back() {
        let limits = limits(|_| ());
        let [a, b] = [(); 2].map(|()| limits.connection(ip("192.0.2.1")).expect("two places"));
        assert!(limits.connection(ip("192.0.2.1")).is_none());
        assert!(limits.connection(ip("::ffff:192.0.2.1")).is_none(), "the same address");
        assert!(limits.connection(ip("192.0.2.2")).is_some(), "another one");
        assert!(limits.room(ip("192.0.2.1")).is_some(), "of something else");
        drop(a);
        assert!(limits.connection(ip("192.0.2.1")).is_some());
        drop(b);
    }

    #[test]
    fn a_site_with_ipv6_is_one_address() {
        let limits = limits(|_| ());
        let _held = limits.room(ip("2001:db8:0:1::7")).unwrap();
        assert!(limits.room(ip("2001:db8:0:1:ffff::8")).is_none());
        assert!(limits.room(ip("2001:db8:0:2::7")).is_some());
    }

    #[test]
    fn proxies_have_no_limits_and_zero_is_none() {
        let proxied = limits(|config| config.users.proxies = vec!["10.0.0.0/8".parse().unwrap()]);
        let unlimited = limits(|config| config.limits.rooms_per_address = 0);
        let held = [(); 5].map(|()| (proxied.room(ip("10.1.2.3")), unlimited.room(ip("192.0.2.1"))));
        assert!(held.iter().all(|(proxied, unlimited)| proxied.is_some() && unlimited.is_some()));
        let now = Instant::now();
        assert!([(); 9].iter().all(|()| proxied.take_session(ip("10.1.2.3"), now)));
    }

    #[test]
    fn a_minutes_websockets_may_come_at_once_and_come_back_one_by_one() {
        let limits = limits(|_| ());
        let (address, start) = (ip("192.0.2.1"), Instant::now());
        let take = |seconds| limits.take_session(address, start + Duration::from_secs(seconds));
        assert_eq!([(); 4].map(|()| take(0)), [true, true, true, false]);
        assert_eq!([19, 20, 21, 39, 40].map(take), [false, true, false, false, true]);
        assert_eq!([(); 4].map(|()| take(200)), [true, true, true, false], "no more than a minute's");
    }

    #[test]
    fn addresses_of_which_nothing_is_left_are_forgotten() {
        let limits = limits(|_| ());
        let kept = limits.connection(ip("192.0.2.1"));
        let site = |site: u32| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(site) << 64));
        for at in 0..100_000 {
            drop(limits.connection(site(at)));
        }
        let now = Instant::now();
        for at in 0..100_000 {
            limits.take_session(site(at), now + at * Duration::from_secs(1));
        }
        let addresses = lock(&limits.addresses);
        assert!(addresses.usage.len() <= SWEEP_FROM, "{}", addresses.usage.len());
        assert_eq!(addresses.usage[&ip("192.0.2.1")].connections, 1);
        drop(addresses);
        drop(kept);
    }
}
