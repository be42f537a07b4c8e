//! What others are told of the node's sockets: the addresses that operators name, or those that the sockets are bound
//! to.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZero;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::StartError;
use crate::config::{Announced, Host, NodeConfig};

/// How often names are looked up again. What the system asks may remember the answer for as long as that is valid.
const LOOK_UP_EVERY: Duration = Duration::from_secs(60);

/// Where the node's sockets are reached, but for ports that are not bound yet.
pub(super) struct Addresses {
    /// Best first; empty: where it listens.
    media: Vec<Resolved>,
    mesh: Option<Resolved>,
    grpc: Option<Resolved>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Resolved {
    ip: IpAddr,
    port: Option<NonZero<u16>>,
}

impl Resolved {
    fn at(self, bound: SocketAddr) -> SocketAddr {
        SocketAddr::new(self.ip, self.port.map_or(bound.port(), NonZero::get))
    }
}

impl Addresses {
    /// Looks up the names among them.
    pub(super) async fn resolve(config: &NodeConfig) -> Result<Self, StartError> {
        let media = Self::resolve_media(config).await?;
        warn_if_private(config, &media);
        warn_if_refused(config.media.listen, &media);
        Ok(Self {
            media,
            mesh: first("mesh.announced", config.mesh.listen, config.mesh.announced.as_ref()).await?,
            grpc: first("grpc.announced", config.grpc.listen, config.grpc.announced.as_ref()).await?,
        })
    }

    /// Of the media socket, best first; names are looked up again.
    async fn resolve_media(config: &NodeConfig) -> Result<Vec<Resolved>, StartError> {
        let mut media = Vec::new();
        for announced in &config.media.announced {
            media.extend(resolve("media.announced", config.media.listen, announced).await?);
        }
        Ok(media)
    }

    /// Of the media socket, best first.
    pub(super) fn media(&self, bound: SocketAddr) -> Vec<SocketAddr> {
        match self.media.as_slice() {
            [] => vec![bound],
            announced => announced.iter().map(|announced| announced.at(bound)).collect(),
        }
    }

    /// Of the mesh's socket.
    pub(super) fn mesh(&self, bound: SocketAddr) -> SocketAddr {
        self.mesh.map_or(bound, |announced| announced.at(bound))
    }

    /// Of the gRPC socket.
    pub(super) fn grpc(&self, bound: SocketAddr) -> SocketAddr {
        self.grpc.map_or(bound, |announced| announced.at(bound))
    }
}

/// Looks up the names of the media port for ever, as their addresses may change while the node runs. `apply` hears of
/// those that are new, where the port is bound already.
pub(super) async fn follow_names(config: NodeConfig, known: Addresses, apply: impl Fn(&[SocketAddr])) {
    if config.media.announced.iter().all(|announced| matches!(announced.host, Host::Ip(_))) {
        std::future::pending().await
    }
    let mut known = Known { addresses: known.media, has_failed: false };
    let mut ticks = tokio::time::interval_at(Instant::now() + LOOK_UP_EVERY, LOOK_UP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Some(found) = known.hear(Addresses::resolve_media(&config).await) {
            let found: Vec<_> = found.iter().map(|announced| announced.at(config.media.listen)).collect();
            tracing::info!(addresses = ?found, "the names of media.announced have other addresses now");
            apply(&found);
        }
    }
}

/// What names were found to be.
struct Known {
    addresses: Vec<Resolved>,
    has_failed: bool,
}

impl Known {
    /// The addresses, if they are not what was found before.
    fn hear(&mut self, found: Result<Vec<Resolved>, StartError>) -> Option<&[Resolved]> {
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::warn!(%error, "the names of media.announced are not found any more: what they were stays");
                }
                return None;
            }
        };
        self.has_failed = false;
        // In another order they are the same: many servers turn them round each time.
        if is_same(&self.addresses, &found) {
            return None;
        }
        self.addresses = found;
        Some(&self.addresses)
    }
}

fn is_same(a: &[Resolved], b: &[Resolved]) -> bool {
    a.len() == b.len() && a.iter().all(|one| b.contains(one))
}

async fn first(
    setting: &'static str,
    listen: SocketAddr,
    announced: Option<&Announced>,
) -> Result<Option<Resolved>, StartError> {
    let Some(announced) = announced else { return Ok(None) };
    Ok(resolve(setting, listen, announced).await?.first().copied())
}

/// At least one address, or an error.
async fn resolve(
    setting: &'static str,
    listen: SocketAddr,
    announced: &Announced,
) -> Result<Vec<Resolved>, StartError> {
    let port = announced.port;
    let name = match &announced.host {
        Host::Ip(ip) => return Ok(vec![Resolved { ip: *ip, port }]),
        Host::Name(name) => name,
    };
    let refuse = |reason: String| StartError::Announced { setting, value: announced.to_string(), reason };
    let found = tokio::net::lookup_host((name.as_str(), 0)).await;
    let found = found.map_err(|error| refuse(format!("the name cannot be resolved: {error}")))?;
    // Nobody reaches a socket of IPv4 by an address of IPv6; the other way round, the system may allow it.
    let mut found: Vec<_> = found
        .map(|addr| addr.ip())
        .filter(|ip| ip.is_ipv4() || listen.is_ipv6())
        .map(|ip| Resolved { ip, port })
        .collect();
    found.dedup();
    match found.is_empty() {
        true => Err(refuse(format!("the name has no IPv4 address, and the node listens on {listen}"))),
        false => Ok(found),
    }
}

/// Users from everywhere that are told addresses of here only: behind a NAT, the commonest mistake.
fn warn_if_private(config: &NodeConfig, media: &[Resolved]) {
    let listen = config.media.listen.ip();
    let told = media.iter().map(|announced| announced.ip).chain(media.is_empty().then_some(listen));
    let told: Vec<_> = told.map(|ip| ip.to_string()).collect();
    let public = |ip: IpAddr| !is_private(ip);
    let reachable = media.iter().any(|announced| public(announced.ip)) || media.is_empty() && public(listen);
    if !is_private(config.users.listen.ip()) && !reachable {
        tracing::warn!(
            "users may come from anywhere and are told to send media to {}, which only machines nearby reach: set media.announced \
             to the address that the others see",
            told.join(", ")
        );
    }
}

/// Chromium sends nothing to a candidate of such an address, and says nothing of it.
fn warn_if_refused(listen: SocketAddr, media: &[Resolved]) {
    let told: Vec<_> = match media {
        [] => vec![listen],
        announced => announced.iter().map(|announced| announced.at(listen)).collect(),
    };
    for address in told.into_iter().filter(|address| is_refused(*address)) {
        tracing::warn!(%address, "browsers send no media to a port below 1024, other than 80 and 443 of a public address");
    }
}

/// Whether libwebrtc leaves out a candidate with this address. Port 0 is one that the system will choose.
fn is_refused(address: SocketAddr) -> bool {
    match address.port() {
        0 | 1024.. => false,
        80 | 443 => is_private(address.ip()),
        _ => true,
    }
}

/// Whether only machines nearby reach it. Where everything is listened on, that says nothing.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_is_resolved_and_one_that_is_none_is_told() {
        let listen = "0.0.0.0:4444".parse().unwrap();
        let found = resolve("media.announced", listen, &"localhost:7000".parse().unwrap()).await.unwrap();
        let expected: SocketAddr = "127.0.0.1:7000".parse().unwrap();
        let bound = "0.0.0.0:5000".parse().unwrap();
        assert_eq!(found.iter().map(|found| found.at(bound)).collect::<Vec<_>>(), [expected]);
        // RFC 6761: never a host.
        let error = resolve("media.announced", listen, &"sfu.invalid".parse().unwrap()).await.unwrap_err().to_string();
        assert!(error.starts_with("media.announced = \"sfu.invalid\": the name cannot be resolved: "), "{error}");
    }

    #[tokio::test]
    async fn the_bound_port_is_told_unless_another_is_set() {
        let mut config = NodeConfig::default();
        config.media.announced = vec!["203.0.113.7".parse().unwrap(), "203.0.113.8:9".parse().unwrap()];
        config.mesh.announced = Some("localhost".parse().unwrap());
        let addresses = Addresses::resolve(&config).await.unwrap();
        let [bound, first, second]: [SocketAddr; 3] =
            ["127.0.0.1:5000", "203.0.113.7:5000", "203.0.113.8:9"].map(|addr| addr.parse().unwrap());
        assert_eq!(addresses.media(bound), [first, second]);
        assert_eq!((addresses.mesh(bound), addresses.grpc(bound)), (bound, bound));
    }

    #[test]
    fn other_addresses_of_names_are_told_and_what_is_not_found_changes_nothing() {
        let at = |last: u8| Resolved { ip: [192, 0, 2, last].into(), port: None };
        let failed = || Err(StartError::system("names", "no answer"));
        let mut known = Known { addresses: vec![at(1), at(2)], has_failed: false };
        for found in [Ok(vec![at(1), at(2)]), Ok(vec![at(2), at(1)]), failed(), failed(), Ok(vec![at(1), at(2)])] {
            assert_eq!(known.hear(found), None);
        }
        assert_eq!(known.hear(Ok(vec![at(3)])), Some([at(3)].as_slice()));
        assert_eq!(known.hear(Ok(vec![at(3)])), None);
    }

    #[test]
    fn browsers_refuse_privileged_ports() {
        let refused = |address: &str| is_refused(address.parse().unwrap());
        for address in ["203.0.113.7:1023", "203.0.113.7:79", "10.0.0.1:443", "127.0.0.1:9", "[fd00::1]:80"] {
            assert!(refused(address), "{address}");
        }
        for address in ["203.0.113.7:443", "203.0.113.7:80", "10.0.0.1:1024", "[2001:db8::1]:4444", "0.0.0.0:0"] {
            assert!(!refused(address), "{address}");
        }
    }
}
