//! The control stream of a connection: rkyv messages, reliable and in order.

use std::sync::Arc;

use quinn::{Connection, RecvStream, SendStream};
use sluice_proto::pipe::PipeMessage;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::close::CloseCode;
use super::hello::Control;
use super::link::Link;
use super::types::MeshEvent;
use crate::message::{MessageDecoder, MessageError, encode_message};

/// Messages that are written at once: a burst of subscriptions leaves in few packets.
const WRITE_BATCH: usize = 64;

/// Before gossip.
const PRIORITY: i32 = 1;

pub(super) fn split(control: Control) -> (SendStream, Reader) {
    let Control { send, recv, decoder, rest } = control;
    (send, Reader { recv, decoder, rest })
}

/// Writes what is said, until the connection ends.
pub(super) async fn write(
    link: Arc<Link>,
    connection: Connection,
    mut send: SendStream,
    mut messages: mpsc::Receiver<PipeMessage>,
) {
    // Fails only when the stream is closed, which the first write tells.
    let _ = send.set_priority(PRIORITY);
    let mut batch = Vec::with_capacity(WRITE_BATCH);
    let mut bytes = Vec::new();
    while messages.recv_many(&mut batch, WRITE_BATCH).await > 0 {
        for message in batch.drain(..) {
            match encode_message(&message) {
                Ok(encoded) => {
                    bytes.extend_from_slice(&encoded);
                    link.counters.messages_sent.add(1);
                }
                Err(error) => warn!(peer = %link.instance, %error, "a message cannot be sent"),
            }
        }
        if let Err(error) = send.write_all(&bytes).await {
            debug!(peer = %link.instance, %error, "the control stream is closed");
            CloseCode::Protocol.close(&connection);
            return;
        }
        bytes.clear();
    }
}

/// The receiving half.
pub(super) struct Reader {
    recv: RecvStream,
    decoder: MessageDecoder,
    rest: Vec<u8>,
}

impl Reader {
    /// Hands over what is heard, until the connection ends. A peer that cannot be understood is closed.
    pub(super) async fn run(mut self, link: Arc<Link>, connection: Connection, events: mpsc::Sender<MeshEvent>) {
        let rest = std::mem::take(&mut self.rest);
        let mut heard = self.hear(&rest, &link, &events).await;
        while heard.is_ok() {
            match self.recv.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => heard = self.hear(&chunk.bytes, &link, &events).await,
                Ok(None) => break,
                Err(error) => {
                    debug!(peer = %link.instance, %error, "the control stream is closed");
                    break;
                }
            }
        }
        if let Err(error) = heard {
            warn!(peer = %link.instance, %error, "the peer says what cannot be understood");
        }
        CloseCode::Protocol.close(&connection);
    }

    async fn hear(
        &mut self,
        mut input: &[u8],
        link: &Link,
        events: &mpsc::Sender<MeshEvent>,
    ) -> Result<(), MessageError> {
        while let Some(message) = self.decoder.decode::<PipeMessage>(&mut input)? {
            link.counters.messages_received.add(1);
            let event = MeshEvent::Message { key: link.key, instance: link.instance.clone(), message };
            if events.send(event).await.is_err() {
                debug!("nobody listens to messages");
            }
        }
        Ok(())
    }
}
