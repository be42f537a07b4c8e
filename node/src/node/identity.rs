//! Who a node is: its certificates, and which of its lives this is.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use sluice_mesh::MeshTls;
use sluice_mesh::ca::ClusterCa;
use sluice_placement::PlacementTls;
use sluice_proto::ids::NodeInstance;
use tokio_rustls::TlsAcceptor;

use super::StartError;
use crate::config::{NodeConfig, Pem};
use crate::support::replace_file;

/// The file of the data directory that holds the last incarnation.
const INCARNATION_FILE: &str = "incarnation";

/// A node without certificates makes a CA of its own, which nobody else trusts: it stays alone, for as long as it runs.
const ALONE_VALIDITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// This life of the node: its start in milliseconds, but at least what is configured, and the last one + 1 where a data
/// directory remembers it.
pub(super) fn instance(config: &NodeConfig) -> Result<NodeInstance, StartError> {
    #[allow(clippy::disallowed_methods, reason = "an incarnation is a wall-clock time")]
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64;
    let now = now.max(config.incarnation);
    let incarnation = match &config.data_dir {
        None => now,
        Some(dir) => remembered(dir, now)
            .map_err(|error| StartError::system("data_dir", format!("{}: {error}", dir.display())))?,
    };
    Ok(NodeInstance { node: config.id.clone(), incarnation })
}

fn remembered(dir: &Path, now: u64) -> std::io::Result<u64> {
    std::fs::create_dir_all(dir)?;
    let path = dir.join(INCARNATION_FILE);
    let last = match std::fs::read(&path) {
        Ok(text) => str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        Err(error) if error.kind() == ErrorKind::NotFound => 0_u64,
        Err(error) => return Err(error),
    };
    let incarnation = now.max(last.saturating_add(1));
    replace_file(&path, format!("{incarnation}\n").as_bytes())?;
    Ok(incarnation)
}

/// The certificates for mesh and gRPC.
pub(super) fn mesh_tls(config: &NodeConfig) -> Result<MeshTls, StartError> {
    let cluster = config.cluster.name.to_string();
    let mesh = &config.mesh;
    if let (Some(ca), Some(cert), Some(key)) = (&mesh.ca, &mesh.cert, &mesh.key) {
        return Ok(MeshTls {
            cluster,
            ca_pem: load("mesh.ca", ca)?,
            cert_pem: load("mesh.cert", cert)?,
            key_pem: load("mesh.key", key)?,
        });
    }
    let alone = |error| StartError::system("a certificate for the node alone", error);
    let ca = ClusterCa::create(&cluster, ALONE_VALIDITY).map_err(alone)?;
    let node = ca.issue(&config.id, &[], ALONE_VALIDITY).map_err(alone)?;
    Ok(MeshTls { cluster, ca_pem: ca.cert_pem().to_owned(), cert_pem: node.cert_pem, key_pem: node.key_pem })
}

/// The same for gRPC.
pub(super) fn placement_tls(tls: MeshTls) -> PlacementTls {
    PlacementTls { ca_pem: tls.ca_pem, cert_pem: tls.cert_pem, key_pem: tls.key_pem, cluster: tls.cluster }
}

/// The error of a certificate of the mesh that cannot be used.
pub(super) fn mesh_unusable(config: &NodeConfig, reason: impl std::fmt::Display) -> StartError {
    let value = config.mesh.cert.as_ref().map(ToString::to_string).unwrap_or_default();
    StartError::Certificate { setting: "mesh.cert", value, reason: reason.to_string() }
}

/// Certificate chain and key for users, as PEM, if configured.
pub(super) fn users_pem(config: &NodeConfig) -> Result<Option<[String; 2]>, StartError> {
    let (Some(cert), Some(key)) = (&config.users.tls_cert, &config.users.tls_key) else { return Ok(None) };
    Ok(Some([load("users.tls_cert", cert)?, load("users.tls_key", key)?]))
}

/// The certificate that users are shown. Clones are the same one.
#[derive(Debug, Clone)]
pub(super) struct UsersCertificate(Arc<ArcSwap<CertifiedKey>>);

impl UsersCertificate {
    pub(super) fn new(config: &NodeConfig, pem: &[String; 2]) -> Result<Self, StartError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(certified_key(config, pem)?))))
    }

    /// Shows another one from now on.
    pub(super) fn set(&self, config: &NodeConfig, pem: &[String; 2]) -> Result<(), StartError> {
        self.0.store(Arc::new(certified_key(config, pem)?));
        Ok(())
    }

    /// HTTPS with it, and TURN over TLS, whose clients may say so (RFC 7443).
    pub(super) fn acceptor(&self) -> Result<TlsAcceptor, StartError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| StartError::system("TLS", error))?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        tls.alpn_protocols = vec![b"http/1.1".to_vec(), b"stun.turn".to_vec()];
        Ok(TlsAcceptor::from(Arc::new(tls)))
    }
}

impl ResolvesServerCert for UsersCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

fn certified_key(config: &NodeConfig, [cert, key]: &[String; 2]) -> Result<CertifiedKey, StartError> {
    let unusable = |setting: &'static str, pem: &Option<Pem>, reason: &dyn std::fmt::Display| {
        let value = pem.as_ref().map(ToString::to_string).unwrap_or_default();
        StartError::Certificate { setting, value, reason: reason.to_string() }
    };
    let chain = CertificateDer::pem_slice_iter(cert.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable("users.tls_cert", &config.users.tls_cert, &error))?;
    let private = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| unusable("users.tls_key", &config.users.tls_key, &error))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    // Also sees whether the two belong together.
    CertifiedKey::from_der(chain, private, &provider)
        .map_err(|error| unusable("users.tls_cert", &config.users.tls_cert, &error))
}

fn load(setting: &'static str, pem: &Pem) -> Result<String, StartError> {
    pem.load().map_err(|error| unusable(setting, pem, error))
}

fn unusable(setting: &'static str, pem: &Pem, reason: impl std::fmt::Display) -> StartError {
    StartError::Certificate { setting, value: pem.to_string(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incarnation_is_never_repeated() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(remembered(dir.path(), 1_000).unwrap(), 1_000);
        assert_eq!(remembered(dir.path(), 1_000).unwrap(), 1_001, "a restart within the millisecond");
        assert_eq!(remembered(dir.path(), 500).unwrap(), 1_002, "a clock that was set back");
        assert_eq!(remembered(dir.path(), 9_000).unwrap(), 9_000);
    }

    #[test]
    fn a_damaged_file_is_no_reason_not_to_start() {
        let dir = tempfile::tempdir().unwrap();
        for damaged in [&b"?"[..], b"", b"\xff\xfe7"] {
            std::fs::write(dir.path().join(INCARNATION_FILE), damaged).unwrap();
            assert_eq!(remembered(dir.path(), 7).unwrap(), 7);
        }
    }
}
