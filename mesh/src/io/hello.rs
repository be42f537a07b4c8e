//! The beginning of a connection: who is there?
//!
//! The dialler opens the control stream and says hello; the other end looks at certificate and hello, decides whether
//! it wants the connection, and only then answers. A dialler that got a hello knows that the connection is wanted.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};
use rustls::pki_types::CertificateDer;
use sluice_proto::ids::{NodeId, NodeInstance};
use sluice_proto::pipe::Hello;

use crate::ca::{self, NodeNameError};
use crate::message::{MessageDecoder, MessageError, encode_message};

/// A peer that does not say hello within this time is turned away. Enough for a few lost packets on the longest path.
pub(super) const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection does not become a link.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelloError {
    #[error("no hello in time")]
    TimedOut,
    #[error(transparent)]
    Connection(#[from] quinn::ConnectionError),
    #[error(transparent)]
    Read(#[from] quinn::ReadError),
    #[error(transparent)]
    Write(#[from] quinn::WriteError),
    #[error("the control stream ended before the hello")]
    Ended,
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("no certificate")]
    NoCertificate,
    #[error(transparent)]
    Name(#[from] NodeNameError),
    #[error("the certificate is that of node {certificate}, the hello says {hello:?}")]
    Identity { certificate: NodeId, hello: String },
    #[error("the advertised address {0:?} is none")]
    Address(String),
}

impl HelloError {
    /// Whether the peer is not who it should be, rather than something going wrong.
    pub(super) fn is_identity(&self) -> bool {
        matches!(self, Self::NoCertificate | Self::Name(_) | Self::Identity { .. })
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) instance: NodeInstance,
    pub(super) advertised: SocketAddr,
}

/// The control stream after the hellos.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) send: SendStream,
    pub(super) recv: RecvStream,
    pub(super) decoder: MessageDecoder,
    /// Bytes that were read with the hello and belong to what follows.
    pub(super) rest: Vec<u8>,
}

/// The dialler's part.
pub(super) async fn say_first(connection: &Connection, own: &Hello) -> Result<(Peer, Control), HelloError> {
    let exchange = async {
        let (mut send, recv) = connection.open_bi().await?;
        send.write_all(&encode_message(own)?).await?;
        read(connection, send, recv).await
    };
    tokio::time::timeout(HELLO_TIMEOUT, exchange).await.map_err(|_| HelloError::TimedOut)?
}

/// The first part of the other end: what does the dialler say?
pub(super) async fn listen(connection: &Connection) -> Result<(Peer, Control), HelloError> {
    let exchange = async {
        let (send, recv) = connection.accept_bi().await?;
        read(connection, send, recv).await
    };
    tokio::time::timeout(HELLO_TIMEOUT, exchange).await.map_err(|_| HelloError::TimedOut)?
}

/// The second part of the other end: the connection is wanted. A hello fits into any window: this does not wait for the
/// peer.
pub(super) async fn answer(control: &mut Control, own: &Hello) -> Result<(), HelloError> {
    Ok(control.send.write_all(&encode_message(own)?).await?)
}

async fn read(connection: &Connection, send: SendStream, mut recv: RecvStream) -> Result<(Peer, Control), HelloError> {
    let mut decoder = MessageDecoder::new();
    loop {
        let chunk = recv.read_chunk(usize::MAX, true).await?.ok_or(HelloError::Ended)?;
        let mut input = chunk.bytes.as_ref();
        if let Some(hello) = decoder.decode::<Hello>(&mut input)? {
            let rest = input.to_vec();
            return Ok((check(connection, &hello)?, Control { send, recv, decoder, rest }));
        }
    }
}

fn check(connection: &Connection, hello: &Hello) -> Result<Peer, HelloError> {
    let chain =
        connection.peer_identity().and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok());
    let certificate = chain.as_ref().and_then(|chain| chain.first()).ok_or(HelloError::NoCertificate)?;
    let node = ca::node_of(certificate)?;
    if node.as_str() != hello.node {
        return Err(HelloError::Identity { certificate: node, hello: hello.node.clone() });
    }
    let advertised = hello.advertised.parse().map_err(|_| HelloError::Address(hello.advertised.clone()))?;
    Ok(Peer { instance: NodeInstance { node, incarnation: hello.incarnation }, advertised })
}
