//! Mutual TLS between nodes: who may connect, and who it is that does.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sluice_proto::ids::{NodeId, NodeInstance};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tonic::{Request, Status};
use x509_parser::extensions::GeneralName;

use super::config::{PlacementTls, SpawnError};
use crate::wire;

/// In a certificate, what precedes the node's id.
const NODE_URI: &str = "sluice:node/";

/// The server's side: a client certificate of the cluster's CA is required.
pub(super) fn server_config(tls: &PlacementTls) -> Result<Arc<ServerConfig>, SpawnError> {
    let unusable = |error: &dyn std::fmt::Display| SpawnError::Tls(error.to_string());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(tls.ca_pem.as_bytes()) {
        roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
    }
    let chain = CertificateDer::pem_slice_iter(tls.cert_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(&error))?;
    let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(|error| unusable(&error))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| unusable(&error))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// The client's side: the server must have a node's certificate of this cluster.
pub(super) fn client_config(tls: &PlacementTls) -> ClientTlsConfig {
    ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(&tls.ca_pem))
        .identity(Identity::from_pem(&tls.cert_pem, &tls.key_pem))
        .domain_name(format!("mesh.{}", tls.cluster))
}

/// Why a caller is not taken for whom it says it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// There is no certificate, or it names no node.
    #[error("the certificate names no node")]
    NoNode,
    /// The claim is not an instance.
    #[error("the claimed instance is malformed: {0}")]
    Malformed(String),
    /// The claim is another node's.
    #[error("the certificate is node {certificate}'s, the claim is {claim}")]
    OtherNode {
        /// Whose the certificate is.
        certificate: NodeId,
        /// Who it says it is.
        claim: NodeInstance,
    },
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoNode => Self::unauthenticated(refusal.to_string()),
            Refusal::Malformed(_) => Self::invalid_argument(refusal.to_string()),
            Refusal::OtherNode { .. } => Self::permission_denied(refusal.to_string()),
        }
    }
}

/// The node that a request comes from, by its certificate.
pub(super) fn peer_node<T>(request: &Request<T>) -> Result<NodeId, Refusal> {
    let certificates = request.peer_certs().ok_or(Refusal::NoNode)?;
    certificates.first().and_then(|certificate| node_of(certificate)).ok_or(Refusal::NoNode)
}

/// The claimed instance, if it is one of the certificate's node.
pub(super) fn check_claim(
    certificate: &NodeId,
    claim: Option<&sluice_proto::placement::NodeInstance>,
) -> Result<NodeInstance, Refusal> {
    let claim = wire::instance(claim).map_err(|error| Refusal::Malformed(error.to_string()))?;
    if claim.node != *certificate {
        return Err(Refusal::OtherNode { certificate: certificate.clone(), claim });
    }
    Ok(claim)
}

fn node_of(certificate: &[u8]) -> Option<NodeId> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    let mut nodes = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => NodeId::new(uri.strip_prefix(NODE_URI)?).ok(),
        _ => None,
    });
    let node = nodes.next()?;
    // A certificate is one node's.
    nodes.next().is_none().then_some(node)
}
