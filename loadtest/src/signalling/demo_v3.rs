//! The messages of mediasoup-demo's v3 JavaScript server, as far as a virtual user speaks them; what newer servers call
//! otherwise is understood too.

use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::ortc::{Kind, RtpParameters};
use crate::transport::{DtlsRole, IceCredentials, Protocol, RemoteParameters};

/// The answer to `createWebRtcTransport`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct TransportOptions {
    pub id: String,
    pub ice_parameters: IceParameters,
    pub ice_candidates: Vec<IceCandidate>,
    pub dtls_parameters: DtlsParameters,
}

/// The server's ICE credentials.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct IceParameters {
    pub username_fragment: String,
    pub password: String,
}

/// Where the server listens; older servers say `ip`, newer ones `address`, some both.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct IceCandidate {
    #[serde(default)]
    pub address: Option<String>,
    #[serde(default)]
    pub ip: Option<String>,
    pub port: u16,
    pub protocol: String,
}

/// The server's certificate.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct DtlsParameters {
    pub fingerprints: Vec<Fingerprint>,
}

/// A digest of a certificate.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct Fingerprint {
    pub algorithm: String,
    pub value: String,
}

impl TransportOptions {
    /// What a transport needs: a candidate of UDP, or else of TCP; `None` when there is neither.
    pub fn remote(&self) -> Option<RemoteParameters> {
        let of =
            |name: &str| self.ice_candidates.iter().find(|candidate| candidate.protocol.eq_ignore_ascii_case(name));
        let by_udp = of("udp").map(|candidate| (Protocol::Udp, candidate));
        let (protocol, candidate) = by_udp.or_else(|| Some((Protocol::Tcp, of("tcp")?)))?;
        let address = candidate.address.as_ref().or(candidate.ip.as_ref())?;
        let sha256 = self.dtls_parameters.fingerprints.iter().filter(|fingerprint| fingerprint.algorithm == "sha-256");
        Some(RemoteParameters {
            ice: self.ice_parameters.credentials(),
            candidate: SocketAddr::new(address.parse().ok()?, candidate.port),
            protocol,
            fingerprints: sha256.map(|fingerprint| fingerprint.value.clone()).collect(),
        })
    }
}

impl IceParameters {
    /// As the ICE agent knows them.
    pub fn credentials(&self) -> IceCredentials {
        IceCredentials { ufrag: self.username_fragment.clone(), pwd: self.password.clone() }
    }
}

/// This client's `dtlsParameters`.
pub fn dtls_parameters(role: DtlsRole, fingerprint: &str) -> Value {
    let role = match role {
        DtlsRole::Client => "client",
        DtlsRole::Server => "server",
    };
    json!({ "role": role, "fingerprints": [{ "algorithm": "sha-256", "value": fingerprint }] })
}

/// The answer to `join`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct Joined {
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Sluice's: what the client shows to take its place again.
    #[serde(default)]
    pub peer_secret: Option<String>,
}

/// Another participant; what a server says beyond mediasoup-demo's fields is in `extra`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct Peer {
    #[serde(alias = "peerId")]
    pub id: String,
    #[serde(default)]
    pub display_name: String,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The server's request `newConsumer`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct NewConsumer {
    pub peer_id: String,
    pub producer_id: String,
    #[serde(alias = "consumerId")]
    pub id: String,
    pub kind: Kind,
    pub rtp_parameters: RtpParameters,
    #[serde(default)]
    pub producer_paused: bool,
    #[serde(default)]
    pub app_data: Value,
}
