//! The cluster's certificate authority and the certificates of its nodes.
//!
//! A node's certificate has two names: `DNS:mesh.<cluster>`, which every dialler checks (quinn's and tonic's), and
//! `URI:sluice:node/<id>`, which says who it is.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, date_time_ymd,
};
use sluice_proto::ids::NodeId;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

const NODE_URI: &str = "sluice:node/";
const CA_NAME: &str = "Sluice CA of ";

/// Certificates are good from this long before they are made: clocks of nodes differ.
const CLOCK_SKEW: Duration = Duration::from_secs(3600);

/// Why a CA or certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The cluster's name cannot be part of a DNS name.
    #[error("cluster name {0:?} is not a DNS name of lower-case letters, digits, '-' and '.'")]
    ClusterName(String),
    /// The PEM text is no CA of ours.
    #[error("cannot read the CA: {0}")]
    Read(String),
    /// Making or signing failed.
    #[error("cannot make the certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Why a certificate does not say which node has it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// It is no X.509 certificate.
    #[error("not an X.509 certificate")]
    Malformed,
    /// It has no URI of a node, or more than one.
    #[error("the certificate must have exactly one URI that starts with \"{NODE_URI}\"")]
    NoUri,
    /// The node id in it is not allowed.
    #[error("the certificate's node id {0}")]
    Invalid(#[from] sluice_proto::ids::InvalidName),
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
    /// [`CaError::ClusterName`], [`CaError::Make`].
    pub fn create(cluster: &str, validity: Duration) -> Result<Self, CaError> {
        if !is_dns_name(cluster) {
            return Err(CaError::ClusterName(cluster.to_owned()));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, format!("{CA_NAME}{cluster}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        set_validity(&mut params, validity);
        let key = KeyPair::generate()?;
        let cert = params.self_signed(&key)?;
        Ok(Self { cluster: cluster.to_owned(), cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }

    /// Reads a CA from its certificate and key.
    ///
    /// # Errors
    /// [`CaError::Read`].
    pub fn from_pem(cert_pem: &str, key_pem: &str) -> Result<Self, CaError> {
        let key = KeyPair::from_pem(key_pem).map_err(|error| CaError::Read(format!("its key: {error}")))?;
        let read = |error: &dyn std::fmt::Display| CaError::Read(format!("its certificate: {error}"));
        let (_, pem) = x509_parser::pem::parse_x509_pem(cert_pem.as_bytes()).map_err(|error| read(&error))?;
        let cert = pem.parse_x509().map_err(|error| read(&error))?;
        if cert.public_key().raw != key.subject_public_key_info() {
            return Err(CaError::Read("certificate and key do not belong together".to_owned()));
        }
        let common_name = cert.subject().iter_common_name().find_map(|name| name.as_str().ok());
        let cluster = common_name.and_then(|name| name.strip_prefix(CA_NAME)).filter(|cluster| is_dns_name(cluster));
        let cluster = cluster.ok_or_else(|| CaError::Read(format!("its common name is not \"{CA_NAME}<cluster>\"")))?;
        Ok(Self { cluster: cluster.to_owned(), cert_pem: cert_pem.to_owned(), key_pem: key_pem.to_owned() })
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

    /// Issues a node's certificate, good as server and as client. `addresses` are added as IP names for tools that
    /// check those.
    ///
    /// # Errors
    /// [`CaError::Make`].
    pub fn issue(&self, node: &NodeId, addresses: &[IpAddr], validity: Duration) -> Result<NodeCertificate, CaError> {
        let issuer = Issuer::from_ca_cert_pem(&self.cert_pem, KeyPair::from_pem(&self.key_pem)?)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        params.distinguished_name.push(DnType::CommonName, node.as_str());
        params.subject_alt_names = vec![
            SanType::DnsName(server_name(&self.cluster).try_into()?),
            SanType::URI(format!("{NODE_URI}{node}").try_into()?),
        ];
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, validity);
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &issuer)?;
        Ok(NodeCertificate { cert_pem: cert.pem(), key_pem: key.serialize_pem() })
    }
}

/// The DNS name that the certificates of a cluster's nodes have: `mesh.<cluster>`.
pub fn server_name(cluster: &str) -> String {
    format!("mesh.{cluster}")
}

/// The node that a certificate (DER) names.
///
/// # Errors
/// [`NodeNameError`].
pub fn node_of(certificate: &[u8]) -> Result<NodeId, NodeNameError> {
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| NodeNameError::Malformed)?;
    let names =
        certificate.subject_alternative_name().map_err(|_| NodeNameError::Malformed)?.ok_or(NodeNameError::NoUri)?;
    let mut ids = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix(NODE_URI),
        _ => None,
    });
    match (ids.next(), ids.next()) {
        (Some(id), None) => Ok(NodeId::new(id)?),
        _ => Err(NodeNameError::NoUri),
    }
}

fn is_dns_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(allowed)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Room for "mesh." within the 253 characters of a DNS name.
    name.len() <= 240 && name.split('.').all(is_label)
}

#[allow(clippy::disallowed_methods, reason = "a certificate's validity begins when it is made")]
fn set_validity(params: &mut CertificateParams, validity: Duration) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + now + validity;
}
