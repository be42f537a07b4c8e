//! What no single value can be blamed for: settings that contradict each other.

use std::net::{IpAddr, SocketAddr};

use super::{Announced, ConfigError, Host, NodeConfig};

impl NodeConfig {
    /// Checks the settings against each other.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_open()?;
        self.check_admin()?;
        self.check_certificates()?;
        self.check_announced()?;
        self.check_ports()?;
        self.check_webhooks()?;
        self.check_pings()
    }

    fn check_webhooks(&self) -> Result<(), ConfigError> {
        match (&self.webhooks.url, &self.webhooks.key) {
            (Some(url), None) => refuse("webhooks.url", url, "set only together with webhooks.key"),
            (None, Some(key)) => refuse("webhooks.key", key, "set only together with webhooks.url"),
            _ => Ok(()),
        }
    }

    fn check_pings(&self) -> Result<(), ConfigError> {
        let limits = &self.limits;
        if limits.silence_ms > limits.ping_interval_ms {
            return Ok(());
        }
        refuse(
            "limits.silence_ms",
            &limits.silence_ms,
            "more than limits.ping_interval_ms, since a client may answer pings only",
        )
    }

    fn check_open(&self) -> Result<(), ConfigError> {
        let is_open = self.namespaces.by_name.is_empty();
        if self.users.listen.ip().is_loopback() || self.insecure_open || !is_open {
            return Ok(());
        }
        refuse(
            "users.listen",
            &self.users.listen,
            "a loopback address, or any together with namespaces or --insecure-open, since whoever reaches it can enter any room",
        )
    }

    fn check_admin(&self) -> Result<(), ConfigError> {
        if self.admin.listen.ip().is_loopback() || self.admin.token.is_some() || self.admin.insecure_open {
            return Ok(());
        }
        refuse(
            "admin.listen",
            &self.admin.listen,
            "a loopback address, or any together with admin.token or --admin-insecure-open, since whoever reaches it learns who is in which room",
        )
    }

    fn check_certificates(&self) -> Result<(), ConfigError> {
        match (&self.users.tls_cert, &self.users.tls_key) {
            (Some(cert), None) => return refuse("users.tls_cert", cert, "set only together with users.tls_key"),
            (None, Some(key)) => return refuse("users.tls_key", key, "set only together with users.tls_cert"),
            _ => {}
        }
        let mesh = [("mesh.ca", &self.mesh.ca), ("mesh.cert", &self.mesh.cert), ("mesh.key", &self.mesh.key)];
        let set = mesh.iter().find_map(|(key, pem)| pem.as_ref().map(|pem| (*key, pem)));
        let unset = mesh.iter().find(|(_, pem)| pem.is_none()).map(|(key, _)| *key);
        if let (Some((key, pem)), Some(unset)) = (set, unset) {
            return refuse(key, pem, &format!("set only together with {unset}"));
        }
        if let (None, Some(seed)) = (set, self.cluster.seeds.first()) {
            return refuse("cluster.seeds", seed, "set only together with mesh.ca, mesh.cert and mesh.key");
        }
        if self.cluster.name.as_str().is_empty() {
            return refuse("cluster.name", &"", "at least one character");
        }
        Ok(())
    }

    fn check_announced(&self) -> Result<(), ConfigError> {
        let one_of = |announced: &Option<Announced>| announced.iter().cloned().collect::<Vec<_>>();
        check_announced("media", self.media.listen, &self.media.announced)?;
        check_announced("mesh", self.mesh.listen, &one_of(&self.mesh.announced))?;
        check_announced("grpc", self.grpc.listen, &one_of(&self.grpc.announced))
    }

    fn check_ports(&self) -> Result<(), ConfigError> {
        let [users, admin] = [("users.listen", self.users.listen), ("admin.listen", self.admin.listen)];
        let [grpc, media] = [("grpc.listen", self.grpc.listen), ("media.listen", self.media.listen)];
        check_clashes(&[users, admin, grpc])?;
        if self.media.tcp {
            check_clashes(&[admin, grpc, media])?;
        }
        if self.media.tcp && !self.shares_media_port() {
            check_clashes(&[users, media])?;
        }
        check_clashes(&[media, ("mesh.listen", self.mesh.listen)])
    }

    /// Whether the users' port is the media port as far as that is TCP: whoever connects there says which of the two is
    /// meant.
    pub(crate) fn shares_media_port(&self) -> bool {
        let (users, media) = (self.users.listen, self.media.listen);
        // All addresses of IPv6 are those of IPv4 too.
        let is_as_open = users.ip().is_unspecified() && (users.is_ipv6() || media.is_ipv4());
        self.media.tcp && (is_as_open || users.ip() == media.ip()) && clash(users, media)
    }
}

fn check_announced(section: &str, listen: SocketAddr, announced: &[Announced]) -> Result<(), ConfigError> {
    let key = format!("{section}.announced");
    if announced.is_empty() && listen.ip().is_unspecified() {
        return refuse(
            &format!("{section}.listen"),
            &listen,
            &format!("an address that others can reach, or any together with {key}"),
        );
    }
    match announced.iter().find(|announced| matches!(announced.host, Host::Ip(ip) if ip.is_unspecified())) {
        Some(nowhere) => refuse(&key, nowhere, "an address that others can reach"),
        None => Ok(()),
    }
}

fn check_clashes(listens: &[(&str, SocketAddr)]) -> Result<(), ConfigError> {
    for (i, (key, addr)) in listens.iter().enumerate() {
        if let Some((other, _)) = listens[..i].iter().find(|(_, other)| clash(*addr, *other)) {
            return refuse(key, addr, &format!("a port of its own, which {other} has already"));
        }
    }
    Ok(())
}

fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip(a.ip(), b.ip())
}

fn refuse(key: &str, value: &impl std::fmt::Display, allowed: &str) -> Result<(), ConfigError> {
    Err(ConfigError(format!("{key} = \"{value}\": allowed is {allowed}")))
}
