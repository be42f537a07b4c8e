//! Gossip over links: one unidirectional stream per message, so that none waits for another. It may get lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::debug;

use super::counters::DropReason;
use super::link::Link;
use super::types::Gossip;

/// Longest gossip message: chitchat's are made to fit into a UDP datagram.
pub(super) const MAX_MESSAGE_LEN: usize = 65_507;

/// Gossip messages under way from a peer at one time: two rounds of three messages fit in any round trip.
pub(super) const MAX_STREAMS: u32 = 16;

/// A message that takes longer says nothing new.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Gossip messages of all links that may wait for whoever reads them: a round with every node of a large region.
pub(super) const INBOX: usize = 1024;

/// Sends messages one after the other, until the connection ends.
pub(super) async fn write(link: Arc<Link>, connection: Connection, mut messages: mpsc::Receiver<Bytes>) {
    while let Some(message) = messages.recv().await {
        let send = async {
            let mut stream = connection.open_uni().await?;
            stream.write_all(&message).await?;
            // Fails only on a stream that was finished before.
            let _ = stream.finish();
            Ok::<(), quinn::WriteError>(())
        };
        match tokio::time::timeout(TIMEOUT, send).await {
            Ok(Ok(())) => link.counters.gossip_sent.add(1),
            Ok(Err(error)) => debug!(peer = %link.instance, %error, "gossip not sent"),
            Err(_) => link.counters.drop(DropReason::GossipFull, 1),
        }
    }
}

/// Receives messages, until the connection ends.
pub(super) async fn read(link: Arc<Link>, connection: Connection, inbox: mpsc::Sender<Gossip>) {
    let mut streams = JoinSet::new();
    loop {
        tokio::select! {
            accepted = connection.accept_uni() => match accepted {
                Ok(stream) => {
                    streams.spawn(receive(link.clone(), stream, inbox.clone()));
                }
                Err(_) => return,
            },
            // Keeps the set as small as the number of streams under way, which the connection bounds.
            Some(_) = streams.join_next() => {}
        }
    }
}

async fn receive(link: Arc<Link>, mut stream: RecvStream, inbox: mpsc::Sender<Gossip>) {
    match tokio::time::timeout(TIMEOUT, stream.read_to_end(MAX_MESSAGE_LEN)).await {
        Ok(Ok(payload)) => {
            link.counters.gossip_received.add(1);
            let gossip = Gossip { from: link.advertised, payload: payload.into() };
            if inbox.try_send(gossip).is_err() {
                link.counters.drop(DropReason::GossipFull, 1);
            }
        }
        Ok(Err(quinn::ReadToEndError::TooLong)) => link.counters.drop(DropReason::GossipTooLong, 1),
        Ok(Err(error)) => debug!(peer = %link.instance, %error, "gossip not received"),
        Err(_) => debug!(peer = %link.instance, "gossip took too long"),
    }
}
