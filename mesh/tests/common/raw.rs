//! A QUIC client with any certificate that says whatever a test wants.

use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, TransportConfig};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sluice_mesh::ca::{NodeCertificate, server_name};
use sluice_mesh::{LinkKey, encode_message};
use sluice_proto::pipe::Hello;

use super::{CLUSTER, Cluster, Node, any_addr, within};

pub(crate) struct RawPeer {
    pub(crate) endpoint: Endpoint,
    config: ClientConfig,
}

impl RawPeer {
    pub(crate) fn new(cluster: &Cluster, certificate: Option<NodeCertificate>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(cluster.ca.cert_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let mut tls = match certificate {
            Some(NodeCertificate { cert_pem, key_pem }) => {
                let chain = vec![CertificateDer::from_pem_slice(cert_pem.as_bytes()).unwrap()];
                builder
                    .with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).unwrap())
                    .unwrap()
            }
            None => builder.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![format!("sluice/{}", sluice_proto::pipe::VERSION).into_bytes()];
        let config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
        Self { endpoint: Endpoint::client(any_addr()).unwrap(), config }
    }

    /// As one that takes no datagrams.
    pub(crate) fn without_datagrams(mut self) -> Self {
        let mut transport = TransportConfig::default();
        transport.datagram_receive_buffer_size(None);
        self.config.transport_config(Arc::new(transport));
        self
    }

    pub(crate) async fn connect(&self, to: &Node) -> Result<Connection, quinn::ConnectionError> {
        let connecting =
            self.endpoint.connect_with(self.config.clone(), to.mesh.local_addr(), &server_name(CLUSTER)).unwrap();
        within("the QUIC handshake", connecting).await
    }

    /// Connects and says hello; gives the connection, the control stream and the node's key of the link.
    pub(crate) async fn link(&self, to: &mut Node, name: &str) -> (Connection, (SendStream, RecvStream), LinkKey) {
        let connection = self.connect(to).await.unwrap();
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        send.write_all(&hello(name, "127.0.0.1:1")).await.unwrap();
        within("the answer", recv.read_chunk(1000, true)).await.unwrap().unwrap();
        let (key, _) = to.link_up().await;
        (connection, (send, recv), key)
    }

    /// Connects and writes these bytes on the control stream; waits until the node closes the connection and gives its
    /// words.
    pub(crate) async fn say_and_be_closed(&self, to: &Node, bytes: &[u8]) -> String {
        let connection = self.connect(to).await.unwrap();
        let (mut send, _recv) = connection.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        match within("the node closes the connection", connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => String::from_utf8(close.reason.to_vec()).unwrap(),
            other => panic!("{other}"),
        }
    }
}

pub(crate) fn hello(node: &str, advertised: &str) -> Vec<u8> {
    encode_message(&Hello { node: node.to_owned(), incarnation: 1, advertised: advertised.to_owned() }).unwrap()
}
