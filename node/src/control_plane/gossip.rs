//! chitchat's transport over the mesh: gossip travels on the connections that pipes have, and is authenticated with them.

use std::net::SocketAddr;
use std::sync::Mutex;

use anyhow::{Context, anyhow};
use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use sluice_mesh::{Gossip, Mesh};
use tokio::sync::mpsc;

/// Opens once: a node has one gossip.
pub(crate) struct MeshTransport {
    mesh: Mesh,
    inbox: Mutex<Option<mpsc::Receiver<Gossip>>>,
}

impl MeshTransport {
    /// A transport out of a mesh endpoint and the gossip that arrives there.
    pub(crate) fn new(mesh: Mesh, inbox: mpsc::Receiver<Gossip>) -> Self {
        Self { mesh, inbox: Mutex::new(Some(inbox)) }
    }
}

#[async_trait]
impl Transport for MeshTransport {
    async fn open(&self, _listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let inbox = self.inbox.lock().map_err(|_| anyhow!("poisoned"))?.take().context("gossip is open already")?;
        Ok(Box::new(MeshSocket { mesh: self.mesh.clone(), inbox }))
    }
}

struct MeshSocket {
    mesh: Mesh,
    inbox: mpsc::Receiver<Gossip>,
}

#[async_trait]
impl Socket for MeshSocket {
    /// Enqueues and returns: the gossip loop awaits this, and a peer that is hard to reach must not hold up the others.
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        self.mesh.send_gossip(to, message.serialize_to_vec().into());
        Ok(())
    }

    /// Cancel-safe: the only await is a queue's.
    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let Gossip { from, payload } = self.inbox.recv().await.context("the mesh has ended")?;
            match ChitchatMessage::deserialize(&mut payload.as_ref()) {
                Ok(message) => return Ok((from, message)),
                // From an authenticated node, so a wrong version rather than an attack; an error would end all gossip.
                Err(error) => tracing::warn!(%from, %error, "gossip that cannot be read"),
            }
        }
    }
}
