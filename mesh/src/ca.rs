//! The cluster's certificate authority and the certificates of its nodes.
//!
//! A node's certificate has two names: `DNS:mesh.<cluster>`, which every dialler checks (quinn's and tonic's), and
//! `URI:sluice:node/<id>`, which says who it is.

use std::net::IpAddr;
use std::time::Duration;

use sluice_proto::ids::NodeId;

/// Why a CA or certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The cluster's name cannot be part of a DNS name.
    #[error("cluster name {0:?} is not a DNS label or name")]
    ClusterName(String),
    /// The PEM text is no CA of ours.
    #[error("cannot read the CA: {0}")]
    Read(String),
    /// Making or signing failed.
    #[error("cannot make the certificate: {0}")]
    Make(String),
}

/// A cluster's CA, able to issue.
pub struct ClusterCa {
    cluster: String,
    cert_pem: String,
    key_pem: String,
}

/// A node's certificate with its key.
#[derive(Debug, Clone)]
pub struct NodeCertificate {
    /// Certificate, PEM.
    pub cert_pem: String,
    /// PKCS#8 private key, PEM.
    pub key_pem: String,
}

impl ClusterCa {
    /// Makes a new CA.
    ///
    /// # Errors
    /// [`CaError`].
    pub fn create(_cluster: &str, _validity: Duration) -> Result<Self, CaError> {
        todo!()
    }

    /// Reads a CA from its certificate and key.
    ///
    /// # Errors
    /// [`CaError::Read`].
    pub fn from_pem(_cert_pem: &str, _key_pem: &str) -> Result<Self, CaError> {
        todo!()
    }

    /// Name of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The CA certificate, PEM.
    pub fn cert_pem(&self) -> &str {
        &self.cert_pem
    }

    /// The CA's private key, PKCS#8 PEM.
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    /// Issues a node's certificate, good as server and as client. `addresses` are added as IP names for tools that check those.
    ///
    /// # Errors
    /// [`CaError::Make`].
    pub fn issue(
        &self,
        _node: &NodeId,
        _addresses: &[IpAddr],
        _validity: Duration,
    ) -> Result<NodeCertificate, CaError> {
        todo!()
    }
}

/// The DNS name that the certificates of a cluster's nodes have: `mesh.<cluster>`.
pub fn server_name(cluster: &str) -> String {
    format!("mesh.{cluster}")
}
