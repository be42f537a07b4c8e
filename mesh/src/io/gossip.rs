//! Gossip over links: one unidirectional stream per message, so that none waits for another. It may get lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::{Connection, RecvStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tracing::debug;

use super::counters::DropReason;
use super::link::Link;
use super::streams;
use super::types::Gossip;

/// Longest gossip message: chitchat's are made to fit into a UDP datagram.
pub(super) const MAX_MESSAGE_LEN: usize = 65_507;

/// Gossip messages under way on a connection at one time, each way: two rounds of three messages fit in any round trip.
pub(super) const MAX_STREAMS: u32 = 16;

/// A message that takes longer says nothing new.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Gossip messages of all links that may wait for whoever reads them: a round with every node of a large region.
pub(super) const INBOX: usize = 1024;

/// Sends messages, until the connection ends.
pub(super) async fn write(link: Arc<Link>, connection: Connection, mut messages: mpsc::Receiver<Bytes>) {
    let mut under_way = JoinSet::new();
    while let Some(message) = messages.recv().await {
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= MAX_STREAMS as usize {
            under_way.join_next().await;
        }
        under_way.spawn(send(link.clone(), connection.clone(), message));
    }
}

async fn send(link: Arc<Link>, connection: Connection, message: Bytes) {
    let send = async {
        let mut stream = connection.open_uni().await?;
        stream.write_all_chunks(&mut [Bytes::from_static(&[streams::GOSSIP]), message]).await?;
        // Fails only on a stream that was finished before.
        let _ = stream.finish();
        // It is under way until it has come.
        let _ = stream.stopped().await;
        Ok::<(), quinn::WriteError>(())
    };
    match tokio::time::timeout(TIMEOUT, send).await {
        Ok(Ok(())) => link.counters.gossip_sent.add(1),
        Ok(Err(error)) => debug!(peer = %link.instance, %error, "gossip not sent"),
        Err(_) => link.counters.drop(DropReason::GossipFull, 1),
    }
}

/// Takes the messages of a connection.
pub(super) struct Reader {
    link: Arc<Link>,
    inbox: mpsc::Sender<Gossip>,
    free: Semaphore,
}

impl Reader {
    pub(super) fn new(link: Arc<Link>, inbox: mpsc::Sender<Gossip>) -> Self {
        Self { link, inbox, free: Semaphore::new(MAX_STREAMS as usize) }
    }

    /// Receives the message of one stream.
    pub(super) async fn run(&self, mut stream: RecvStream) {
        let Self { link, inbox, free } = self;
        let Ok(_place) = free.try_acquire() else {
            return link.counters.drop(DropReason::GossipFull, 1);
        };
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
}
