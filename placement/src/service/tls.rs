//! Mutual TLS between nodes: who may connect, and who it is that does.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use sluice_proto::ids::{NodeId, NodeInstance};
use tonic::{Request, Status};
use x509_parser::extensions::GeneralName;

use super::config::{PlacementTls, SpawnError};
use crate::wire;

/// In a certificate, what precedes the node's id.
const NODE_URI: &str = "sluice:node/";

/// What gRPC is spoken over, RFC 9113 section 3.2.
const ALPN: &[u8] = b"h2";

/// Both sides of the connections between nodes, out of one set of certificates.
#[derive(Clone)]
pub(super) struct Tls {
    /// A client certificate of the cluster's CA is required.
    pub(super) server: Arc<ServerConfig>,
    /// The server must have a node's certificate of this cluster.
    pub(super) client: Arc<ClientConfig>,
    /// The name that such a certificate has.
    pub(super) server_name: ServerName<'static>,
}

impl Tls {
    pub(super) fn new(tls: &PlacementTls) -> Result<Self, SpawnError> {
        let unusable = |error: &dyn std::fmt::Display| SpawnError::Tls(error.to_string());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(tls.ca_pem.as_bytes()) {
            roots.add(certificate.map_err(|error| unusable(&error))?).map_err(|error| unusable(&error))?;
        }
        let roots = Arc::new(roots);
        let chain = CertificateDer::pem_slice_iter(tls.cert_pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| unusable(&error))?;
        let key = PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(|error| unusable(&error))?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| unusable(&error))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| unusable(&error))?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| unusable(&error))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        client.alpn_protocols = vec![ALPN.to_vec()];
        let server_name = ServerName::try_from(format!("mesh.{}", tls.cluster)).map_err(|error| unusable(&error))?;
        Ok(Self { server: Arc::new(server), client: Arc::new(client), server_name })
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
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
