//! Gossip over the mesh: it travels on the connections that pipes have, and is authenticated with them. And what the
//! mesh sees of the nodes that gossip is about.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use sluice_mesh::{Gossip, Mesh};
use sluice_placement::{GossipTransport, NodeFacts, Witness, dial_source};
use sluice_proto::ids::NodeInstance;
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

/// A machine that does not say within this time that nobody is there says nothing.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The way of gossip.
pub(crate) struct MeshTransport {
    mesh: Mesh,
    inbox: mpsc::Receiver<Gossip>,
}

impl MeshTransport {
    /// A transport out of a mesh endpoint and the gossip that arrives there.
    pub(crate) fn new(mesh: Mesh, inbox: mpsc::Receiver<Gossip>) -> Self {
        Self { mesh, inbox }
    }
}

impl GossipTransport for MeshTransport {
    fn send(&mut self, to: SocketAddr, message: Bytes) {
        self.mesh.send_gossip(to, message);
    }

    async fn recv(&mut self) -> Option<(SocketAddr, Bytes)> {
        let Gossip { from, payload } = self.inbox.recv().await?;
        Some((from, payload))
    }
}

/// A pipe on which something arrives is a sign of life. A gRPC port that is closed is one of death: the system closes
/// it when the process ends, and keeps it open when the process merely stalls.
pub(crate) struct MeshWitness {
    mesh: Mesh,
    listen: IpAddr,
}

impl MeshWitness {
    /// `listen` is where this node's own gRPC listens: it dials the others' from there.
    pub(crate) fn new(mesh: Mesh, listen: IpAddr) -> Self {
        Self { mesh, listen }
    }
}

impl Witness for MeshWitness {
    fn arrived(&self, instance: &NodeInstance) -> Option<u64> {
        self.mesh.arrived(instance)
    }

    fn refuses(&self, facts: &NodeFacts) -> impl Future<Output = bool> + Send + 'static {
        let (to, from) = (facts.grpc_addr, dial_source(self.listen, facts.grpc_addr.ip()));
        async move {
            let knocked = tokio::time::timeout(ANSWER_WITHIN, knock(to, from)).await;
            matches!(knocked, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused)
        }
    }
}

async fn knock(to: SocketAddr, from: Option<IpAddr>) -> std::io::Result<()> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(from) = from {
        socket.bind((from, 0).into())?;
    }
    socket.connect(to).await.map(drop)
}
