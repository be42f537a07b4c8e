//! Certificates and QUIC settings of the endpoint.

use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::ControllerFactory;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, IdleTimeout, ServerConfig, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sluice_proto::ids::NodeId;
use sluice_proto::pipe::VERSION;

use super::congestion::PipeControllerFactory;
use super::streams::MAX_STREAMS;
use super::types::{BindError, MeshLimits, MeshTls};
use super::{data, gossip};
use crate::ca;

/// 150 ms at 200 Mbit/s. Links with a slower path use less of it, see `sender`.
pub(super) const DATAGRAM_BUFFER: usize = 4 * 1024 * 1024;

/// Several of them fit into the time after which a silent node is suspected.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

/// A full video packet of 1,200 bytes with its headers must fit from the first datagram on. Quinn falls back to
/// `MIN_MTU` when the path swallows it.
const INITIAL_MTU: u16 = 1350;
const MIN_MTU: u16 = 1200;

/// Unread bytes of a stream that a peer may send: some 4,000 subscriptions in one round trip, or the sender reports and
/// NACKs of as many routes over 100 ms.
const STREAM_WINDOW: u32 = 1024 * 1024;

/// Unread bytes of all streams of a peer: of them the control stream's, and of gossip and data as much as may be under
/// way, with what each stream begins with. So none of them takes what the others need.
const WINDOW: u32 = STREAM_WINDOW + 64 * 1024 * gossip::MAX_STREAMS + data::WINDOW + 16 * MAX_STREAMS;

/// Bytes that were sent and not acknowledged yet. What is acknowledged may be known later than that there is room for
/// more.
const SEND_WINDOW: u64 = 2 * WINDOW as u64;

pub(super) struct Tls {
    pub(super) server: ServerConfig,
    pub(super) client: ClientConfig,
}

impl Tls {
    pub(super) fn new(node: &NodeId, tls: &MeshTls, limits: &MeshLimits) -> Result<Self, BindError> {
        let chain = read_chain(tls)?;
        check_own_name(node, &chain)?;
        let key =
            PrivateKeyDer::from_pem_slice(tls.key_pem.as_bytes()).map_err(|error| refuse("the private key", &error))?;
        let roots = Arc::new(read_roots(tls)?);
        let transport = Arc::new(transport_config(limits)?);

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| refuse("the CA certificate", &error))?;
        let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| refuse("TLS 1.3", &error))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), key.clone_key())
            .map_err(|error| refuse("the certificate", &error))?;
        server.alpn_protocols = alpn();
        // A session ticket would bring back a peer without the certificate being looked at again.
        server.send_tls13_tickets = 0;

        let mut client = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| refuse("TLS 1.3", &error))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| refuse("the certificate", &error))?;
        client.alpn_protocols = alpn();

        let server = QuicServerConfig::try_from(server).map_err(|error| refuse("QUIC", &error))?;
        let client = QuicClientConfig::try_from(client).map_err(|error| refuse("QUIC", &error))?;
        let mut server = ServerConfig::with_crypto(Arc::new(server));
        server.transport_config(transport.clone());
        server.max_incoming(limits.handshakes);
        // A client's certificate chain fits into a handful of packets; media cannot come before the handshake.
        server.incoming_buffer_size(16 * 1024);
        let mut client = ClientConfig::new(Arc::new(client));
        client.transport_config(transport);
        Ok(Self { server, client })
    }
}

fn alpn() -> Vec<Vec<u8>> {
    vec![format!("sluice/{VERSION}").into_bytes()]
}

fn refuse(what: &str, error: &dyn std::fmt::Display) -> BindError {
    BindError::Tls(format!("{what} cannot be used: {error}"))
}

fn read_chain(tls: &MeshTls) -> Result<Vec<CertificateDer<'static>>, BindError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(tls.cert_pem.as_bytes()).collect();
    chain.map_err(|error| refuse("the certificate", &error))
}

fn read_roots(tls: &MeshTls) -> Result<RootCertStore, BindError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(tls.ca_pem.as_bytes()) {
        let certificate = certificate.map_err(|error| refuse("the CA certificate", &error))?;
        roots.add(certificate).map_err(|error| refuse("the CA certificate", &error))?;
    }
    Ok(roots)
}

/// A node that runs with another's certificate would be refused by everybody: better to say so at once.
fn check_own_name(node: &NodeId, chain: &[CertificateDer<'static>]) -> Result<(), BindError> {
    let own = chain.first().ok_or_else(|| BindError::Tls("the certificate file has no certificate".to_owned()))?;
    let named = ca::node_of(own).map_err(|error| refuse("the certificate", &error))?;
    if named != *node {
        return Err(BindError::Tls(format!("the certificate is that of node {named}, but this node is {node}")));
    }
    Ok(())
}

fn congestion_controller() -> Arc<dyn ControllerFactory + Send + Sync> {
    Arc::new(PipeControllerFactory)
}

fn transport_config(limits: &MeshLimits) -> Result<TransportConfig, BindError> {
    let idle = IdleTimeout::try_from(limits.idle_timeout).map_err(|error| refuse("the idle time-out", &error))?;
    let mut config = TransportConfig::default();
    config
        .congestion_controller_factory(congestion_controller())
        .initial_mtu(INITIAL_MTU)
        .min_mtu(MIN_MTU)
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(idle))
        .datagram_send_buffer_size(DATAGRAM_BUFFER)
        .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER))
        // The control stream, and nothing else.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(MAX_STREAMS))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(SEND_WINDOW);
    Ok(config)
}
