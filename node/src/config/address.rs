//! Addresses as operators write them: what others are told of a socket, and networks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZero;
use std::str::FromStr;

use axum::http::uri::Authority;

/// A host that others reach: an IP address, or a name that stands for some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// The address.
    Ip(IpAddr),
    /// A DNS name.
    Name(String),
}

/// An address that others are told, with the port of the socket unless it has one of its own (behind a NAT).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The host.
    pub host: Host,
    /// Its port, where it differs from the socket's.
    pub port: Option<NonZero<u16>>,
}

impl From<SocketAddr> for Announced {
    fn from(addr: SocketAddr) -> Self {
        Self { host: Host::Ip(addr.ip()), port: NonZero::new(addr.port()) }
    }
}

impl From<IpAddr> for Announced {
    fn from(ip: IpAddr) -> Self {
        Self { host: Host::Ip(ip), port: None }
    }
}

impl FromStr for Announced {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(ip.into());
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return if addr.port() == 0 { Err(()) } else { Ok(addr.into()) };
        }
        let (name, port) = match text.split_once(':') {
            None => (text, None),
            Some((name, port)) => (name, Some(port.parse().map_err(drop)?)),
        };
        if is_dns_name(name) { Ok(Self { host: Host::Name(name.to_owned()), port }) } else { Err(()) }
    }
}

/// Letters, digits and dashes between dots, and no number at the end, which would be a mistyped address (RFC 3696
/// section 2).
fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    name.len() <= 253
        && name.split('.').all(is_label)
        && name.rsplit('.').next().is_some_and(|last| !last.bytes().all(|byte| byte.is_ascii_digit()))
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.port) {
            (Host::Ip(ip), Some(port)) => SocketAddr::new(*ip, port.get()).fmt(f),
            (Host::Ip(ip), None) => ip.fmt(f),
            (Host::Name(name), Some(port)) => write!(f, "{name}:{port}"),
            (Host::Name(name), None) => f.write_str(name),
        }
    }
}

/// A network: an address and how many of its first bits count, as in `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    addr: IpAddr,
    prefix: u8,
}

impl Network {
    /// The addresses of the machine itself.
    pub const LOOPBACK: [Self; 2] = [
        Self { addr: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), prefix: 8 },
        Self::host(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ];

    const fn host(addr: IpAddr) -> Self {
        Self { addr, prefix: width(addr) }
    }

    /// Whether the address is of this network. An IPv4 address that was mapped to IPv6 counts as IPv4.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(addr)) => {
                network.to_bits() ^ addr.to_bits() <= u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
            }
            (IpAddr::V6(network), IpAddr::V6(addr)) => {
                network.to_bits() ^ addr.to_bits() <= u128::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
            }
            _ => false,
        }
    }
}

const fn width(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl FromStr for Network {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let Some((addr, prefix)) = text.split_once('/') else { return text.parse().map(Self::host).map_err(drop) };
        let addr: IpAddr = addr.parse().map_err(drop)?;
        let prefix = prefix.parse().map_err(drop)?;
        if prefix <= width(addr) { Ok(Self { addr, prefix }) } else { Err(()) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.addr) { self.addr.fmt(f) } else { write!(f, "{}/{}", self.addr, self.prefix) }
    }
}

/// Where clients find TURN (RFC 7065): `turn:` or `turns:`, a host, and a port and a transport if need be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnUrl(String);

impl FromStr for TurnUrl {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_prefix("turns:").or_else(|| text.strip_prefix("turn:")).ok_or(())?;
        let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
        let is_known = query.is_none_or(|query| matches!(query, "transport=tcp" | "transport=udp"));
        let is_address = address.parse::<Authority>().is_ok() && !address.contains('@');
        if is_known && is_address { Ok(Self(text.to_owned())) } else { Err(()) }
    }
}

impl fmt::Display for TurnUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_announced_is_an_address_or_a_name() {
        for text in
            ["203.0.113.7", "203.0.113.7:4444", "2001:db8::1", "[2001:db8::1]:4444", "sfu.example.org", "sfu:4444"]
        {
            assert_eq!(text.parse::<Announced>().unwrap().to_string(), text);
        }
        for text in
            ["", ":4444", "203.0.113", "203.0.113.7:0", "sfu:0", "sfu:70000", "a b", "sfu..org", "https://sfu", "1"]
        {
            assert!(text.parse::<Announced>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_turn_url_has_scheme_host_and_little_else() {
        for text in
            ["turns:turn.example:443?transport=tcp", "turn:203.0.113.7", "turn:[2001:db8::1]:3478?transport=udp"]
        {
            assert_eq!(text.parse::<TurnUrl>().unwrap().to_string(), text);
        }
        for text in ["", "turn:", "https://turn.example", "turn:a b", "turn:user@host", "turn:host?transport=quic"] {
            assert!(text.parse::<TurnUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_network_contains_what_begins_as_it_does() {
        let contains = |network: &str, addr: &str| network.parse::<Network>().unwrap().contains(addr.parse().unwrap());
        assert!(contains("10.0.0.0/8", "10.255.0.1") && !contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("10.0.0.0/8", "::ffff:10.1.2.3"), "an IPv4 client of an IPv6 socket");
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("0.0.0.0/0", "203.0.113.9") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("::/0", "2001:db8::1"));
        for text in ["10.0.0.0/33", "10.0.0.0/x", "::/129", "net", ""] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
        assert_eq!(Network::LOOPBACK.map(|network| network.to_string()), ["127.0.0.0/8", "::1"]);
    }
}
