//! The control stream of a connection: rkyv messages, reliable and in order.

use std::sync::Arc;

use quinn::{RecvStream, SendStream};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, PipeMessage, RouteCloseReason, RouteControl, RouteFeedback};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::clock;
use super::close::CloseCode;
use super::hello::Control;
use super::link::{Current, Link};
use super::routes::RouteTable;
use super::types::MeshEvent;
use super::unknown::UnknownRoutes;
use crate::message::{MessageDecoder, MessageError, encode_message};

/// Messages that are written at once: a burst of subscriptions leaves in few packets.
const WRITE_BATCH: usize = 64;

/// Before gossip and data.
const PRIORITY: i32 = 1;

pub(super) fn split(control: Control) -> (SendStream, Stream) {
    let Control { send, recv, decoder, rest } = control;
    (send, Stream { recv, decoder, rest })
}

/// Writes what is said, until the connection ends. Neither kind of message waits for all of the other.
pub(super) async fn write(
    link: Arc<Link>,
    current: Arc<Current>,
    mut send: SendStream,
    mut control: mpsc::Receiver<RouteControl>,
    mut feedback: mpsc::Receiver<RouteFeedback>,
) {
    // Fails only when the stream is closed, which the first write tells.
    let _ = send.set_priority(PRIORITY);
    let (mut controls, mut feedbacks) = (Vec::with_capacity(WRITE_BATCH), Vec::with_capacity(WRITE_BATCH));
    let mut consumed = None;
    let mut bytes = Vec::new();
    loop {
        tokio::select! {
            count = control.recv_many(&mut controls, WRITE_BATCH) => if count == 0 { return },
            count = feedback.recv_many(&mut feedbacks, WRITE_BATCH) => {
                if count == 0 {
                    return;
                }
                // The subscriptions that it is about come first.
                controls.extend(std::iter::from_fn(|| control.try_recv().ok()));
            }
            total = current.data.consumed.due() => consumed = Some(PipeMessage::DataConsumed(total)),
        }
        let controls = controls.drain(..).map(PipeMessage::Control);
        let feedbacks = feedbacks.drain(..).map(PipeMessage::Feedback);
        for message in controls.chain(feedbacks).chain(consumed.take()) {
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
            CloseCode::Protocol.close(&current.connection);
            return;
        }
        bytes.clear();
    }
}

/// Why what is heard cannot be understood.
#[derive(Debug, thiserror::Error)]
enum Nonsense {
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error("other data was consumed than was sent")]
    Consumed,
}

/// The receiving half of the stream.
pub(super) struct Stream {
    recv: RecvStream,
    decoder: MessageDecoder,
    rest: Vec<u8>,
}

/// Who hears what comes by the stream.
pub(super) struct Reader {
    pub(super) link: Arc<Link>,
    pub(super) current: Arc<Current>,
    pub(super) routes: Arc<RouteTable>,
    pub(super) events: mpsc::Sender<MeshEvent>,
}

impl Reader {
    /// Hands over what is heard, until the connection ends. A peer that cannot be understood is closed.
    pub(super) async fn run(self, mut stream: Stream) {
        let mut unknown = UnknownRoutes::new(clock());
        let rest = std::mem::take(&mut stream.rest);
        let mut heard = self.hear(&mut stream.decoder, &mut unknown, &rest).await;
        while heard.is_ok() {
            match stream.recv.read_chunk(usize::MAX, true).await {
                Ok(Some(chunk)) => heard = self.hear(&mut stream.decoder, &mut unknown, &chunk.bytes).await,
                Ok(None) => break,
                Err(error) => {
                    debug!(peer = %self.link.instance, %error, "the control stream is closed");
                    break;
                }
            }
        }
        if let Err(error) = heard {
            warn!(peer = %self.link.instance, %error, "the peer says what cannot be understood");
        }
        CloseCode::Protocol.close(&self.current.connection);
    }

    async fn hear(
        &self,
        decoder: &mut MessageDecoder,
        unknown: &mut UnknownRoutes,
        mut input: &[u8],
    ) -> Result<(), Nonsense> {
        while let Some(message) = decoder.decode::<PipeMessage>(&mut input)? {
            self.link.counters.messages_received.add(1);
            match message {
                PipeMessage::Control(message) => {
                    if matches!(message.body, ControlBody::Subscribe { .. }) {
                        unknown.expect(clock(), RouteId(message.route), RouteEpoch(message.epoch));
                    }
                    if self.events.send(MeshEvent::Control { key: self.current.key, message }).await.is_err() {
                        debug!("nobody listens to messages");
                    }
                }
                PipeMessage::Feedback(feedback) => self.hear_feedback(unknown, feedback),
                PipeMessage::DataConsumed(total) => {
                    if !self.current.data.window.hear_consumed(total) {
                        return Err(Nonsense::Consumed);
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives feedback to the end of the route that is here, past everybody else.
    fn hear_feedback(&self, unknown: &mut UnknownRoutes, feedback: RouteFeedback) {
        let (route, epoch) = (RouteId(feedback.route), RouteEpoch(feedback.epoch));
        let answer = if feedback.body.is_of_receiver() {
            if self.current.hear_of_route_out(feedback) {
                return;
            }
            ControlBody::RouteClosed(RouteCloseReason::ProducerGone)
        } else {
            match self.routes.get(route, epoch) {
                Ok(sink) => return sink.feedback(self.current.key, feedback),
                Err(_) => ControlBody::Unsubscribe,
            }
        };
        if unknown.is_to_be_answered(clock(), route, epoch) {
            self.link.answer_unknown(&self.current, route, epoch, answer);
        }
    }
}
