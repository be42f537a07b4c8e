//! Which web pages may connect. A browser lets any page of any site open a WebSocket to any address that the browser
//! can reach, and says only where the page is from (RFC 6455 section 10.2).

use std::net::IpAddr;

use axum::http::Uri;
use axum::http::uri::Authority;

use crate::config::{NodeConfig, Origin};

/// The origins whose pages may connect.
#[derive(Debug, Clone)]
pub(crate) struct Origins {
    /// Beside this host.
    allowed: Vec<Origin>,
    /// Where users reach this node, as they are told.
    url: Option<Uri>,
    /// Whether only this machine reaches the port.
    is_loopback: bool,
}

impl Origins {
    pub(crate) fn new(config: &NodeConfig) -> Self {
        Self {
            allowed: config.users.allowed_origins.clone(),
            url: config.users.url.as_ref().and_then(|url| url.as_str().parse().ok()),
            is_loopback: config.users.listen.ip().is_loopback(),
        }
    }

    /// Whether a page of this origin may connect with this `Host`.
    pub(super) fn allow(&self, origin: &str, host: Option<&str>) -> bool {
        if self.allowed.iter().any(|allowed| allowed.as_str() == "*" || allowed.as_str().eq_ignore_ascii_case(origin)) {
            return true;
        }
        // Without a scheme the text would be an authority alone: "null", for one.
        let origin = origin.parse::<Uri>().ok().filter(|origin| origin.scheme().is_some());
        let Some(authority) = origin.and_then(|origin| origin.into_parts().authority) else { return false };
        let is_url = self.url.as_ref().and_then(Uri::authority).is_some_and(|url| *url == authority);
        let is_same = host.and_then(|host| host.parse::<Authority>().ok()).is_some_and(|host| host == authority);
        is_url || is_same && (!self.is_loopback || is_own_name(authority.host()))
    }
}

/// Whether a `Host` can only mean the machine at which it arrives: an address, or localhost. Any other name may have
/// been made to point there by whoever owns it, so that a browser takes the port for a part of their site (DNS
/// rebinding).
pub(crate) fn is_own_host(host: &str) -> bool {
    host.parse::<Authority>().is_ok_and(|host| is_own_name(host.host()))
}

fn is_own_name(name: &str) -> bool {
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(listen: &str, url: Option<&str>, allowed: &[&str]) -> Origins {
        let mut config = NodeConfig::default();
        config.users.listen = listen.parse().unwrap();
        config.users.url = url.map(|url| url.parse().unwrap());
        config.users.allowed_origins = allowed.iter().map(|origin| origin.parse().unwrap()).collect();
        Origins::new(&config)
    }

    #[test]
    fn pages_of_the_same_host_may_connect() {
        let origins = of("0.0.0.0:4443", None, &[]);
        assert!(origins.allow("https://sfu.example", Some("sfu.example")));
        assert!(origins.allow("http://SFU.example:4443", Some("sfu.example:4443")));
        assert!(origins.allow("http://[2001:db8::1]:4443", Some("[2001:db8::1]:4443")));
        for (origin, host) in [
            ("https://evil.example", Some("sfu.example")),
            ("http://sfu.example:80", Some("sfu.example:4443")),
            ("https://sfu.example.evil.example", Some("sfu.example")),
            ("https://sfu.example", None),
            ("null", Some("sfu.example")),
            ("null", Some("null")),
            ("", Some("")),
        ] {
            assert!(!origins.allow(origin, host), "{origin} {host:?}");
        }
    }

    #[test]
    fn pages_that_are_listed_may_connect() {
        let origins = of("0.0.0.0:4443", Some("https://eu.example"), &["https://app.example", "null"]);
        assert!(origins.allow("https://app.example", Some("10.0.0.7:4443")));
        assert!(origins.allow("https://eu.example", Some("10.0.0.7:4443")), "the node's own, behind a proxy");
        assert!(origins.allow("null", Some("10.0.0.7:4443")));
        assert!(!origins.allow("http://app.example", Some("10.0.0.7:4443")), "another scheme is another origin");
        let all = of("0.0.0.0:4443", None, &["*"]);
        assert!(all.allow("https://anything.example", None));
    }

    #[test]
    fn a_name_that_was_made_to_point_to_loopback_is_not_this_host() {
        let origins = of("127.0.0.1:4443", None, &[]);
        for host in ["127.0.0.1:4443", "localhost:4443", "[::1]:4443"] {
            assert!(origins.allow(&format!("http://{host}"), Some(host)), "{host}");
            assert!(is_own_host(host));
        }
        assert!(!origins.allow("http://evil.example:4443", Some("evil.example:4443")));
        assert!(!is_own_host("evil.example:4443"));
        assert!(!is_own_host("localhost.evil.example"));
        let behind_a_proxy = of("127.0.0.1:4443", Some("https://sfu.example"), &[]);
        assert!(behind_a_proxy.allow("https://sfu.example", Some("sfu.example")));
    }
}
