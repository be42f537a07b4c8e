//! The SCTP association of a transport, inside its DTLS (RFC 8261), for data channels whose streams signalling agrees
//! on: nobody opens one in the association itself (RFC 8832).

use std::time::{Duration, Instant};

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, Socket, SocketEvent, SocketState, SocketTime, StreamId,
    ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
};

/// Streams of each direction: what mediasoup-client's applications say of themselves.
pub const SCTP_STREAMS: u16 = 1024;
/// Of messages that are bytes and no text (RFC 8831 section 8).
const BINARY: PpId = PpId(53);
/// What waits on a stream of a server that takes less than comes: a second of what a fast publisher sends. What is more
/// is refused.
const MAX_WAITING: usize = 1024 * 1024;
/// Repetitions come twice as late each time, up to this, for as long as the transport lives: Chromium's.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// What signalling said about the server's end of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SctpParameters {
    /// Of both ends, 5000.
    pub port: u16,
    /// Bytes of the largest message that the server takes.
    pub max_message_size: usize,
}

/// What becomes of the messages of a data channel (RFC 8831 section 6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// They come in the order in which they were sent.
    pub ordered: bool,
    /// Each is sent again so often at most.
    pub max_retransmits: Option<u16>,
    /// Each is sent again for so long at most.
    pub max_packet_lifetime: Option<Duration>,
}

impl Delivery {
    /// Nothing is given up.
    pub fn is_reliable(&self) -> bool {
        self.max_retransmits.is_none() && self.max_packet_lifetime.is_none()
    }
}

impl Default for Delivery {
    /// All of it, in order.
    fn default() -> Self {
        Self { ordered: true, max_retransmits: None, max_packet_lifetime: None }
    }
}

/// A message of a data channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SctpMessage {
    /// The channel's stream.
    pub stream: u16,
    /// Never empty.
    pub payload: Vec<u8>,
}

/// One end of an association. It draws randomness of its own.
pub(super) struct Association {
    socket: Socket,
    /// When the socket's time began.
    since: Instant,
}

impl Association {
    /// One that begins to connect. So may the other end: one association comes of it (RFC 9260 section 5.2.1).
    pub(super) fn new(now: Instant, parameters: SctpParameters) -> Self {
        let options = Options {
            local_port: parameters.port,
            remote_port: parameters.port,
            announced_maximum_incoming_streams: SCTP_STREAMS,
            announced_maximum_outgoing_streams: SCTP_STREAMS,
            max_message_size: parameters.max_message_size,
            per_stream_send_queue_limit: MAX_WAITING,
            max_timer_backoff_duration: Some(MAX_BACKOFF),
            max_retransmissions: None,
            max_init_retransmits: None,
            zero_checksum_alternate_error_detection_method:
                ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
            ..Options::default()
        };
        let mut socket = Socket::new("sluice-loadtest", &options);
        socket.connect();
        Self { socket, since: now }
    }

    pub(super) fn receive(&mut self, now: Instant, packet: &[u8]) {
        self.handle_timeout(now);
        self.socket.handle_input(packet);
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.socket.advance_time(SocketTime::zero() + now.saturating_duration_since(self.since));
    }

    /// When [`Self::handle_timeout`] is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.socket.poll_timeout();
        (at != SocketTime::infinite_future()).then(|| self.since + (at - SocketTime::zero()))
    }

    /// Queues a message; `false` if it is refused: the association is over, too much waits, or it is too large.
    pub(super) fn send(&mut self, now: Instant, delivery: &Delivery, message: SctpMessage) -> bool {
        self.handle_timeout(now);
        let options = SendOptions {
            unordered: !delivery.ordered,
            lifetime: delivery.max_packet_lifetime,
            max_retransmissions: delivery.max_retransmits,
            lifecycle_id: None,
        };
        self.socket.send(Message::new(StreamId(message.stream), BINARY, message.payload), &options).is_ok()
    }

    /// The next packet for the other end.
    pub(super) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.socket.poll_event()? {
                SocketEvent::SendPacket(packet) => return Some(packet),
                SocketEvent::OnAborted(kind, reason) => tracing::debug!(?kind, reason, "an association was aborted"),
                _ => {}
            }
        }
    }

    /// The next message that has come whole.
    pub(super) fn poll_message(&mut self) -> Option<SctpMessage> {
        let message = self.socket.get_next_message()?;
        Some(SctpMessage { stream: message.stream_id.0, payload: message.payload })
    }

    pub(super) fn is_connected(&self) -> bool {
        self.socket.state() == SocketState::Connected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARAMETERS: SctpParameters = SctpParameters { port: 5000, max_message_size: 100_000 };

    fn message(bytes: usize) -> SctpMessage {
        SctpMessage { stream: 1, payload: vec![1; bytes] }
    }

    #[test]
    fn what_is_sent_before_there_is_an_association_comes_when_there_is() {
        let now = crate::clock::tests::instant();
        let mut ends = [Association::new(now, PARAMETERS), Association::new(now, PARAMETERS)];
        assert!(ends[0].send(now, &Delivery::default(), message(5000)));
        while let Some((to, packet)) = [1, 0].into_iter().find_map(|to| Some((to, ends[1 - to].poll_transmit()?))) {
            ends[to].receive(now, &packet);
        }
        assert!(ends.iter().all(Association::is_connected));
        assert_eq!(ends[1].poll_message(), Some(message(5000)));
        assert_eq!(ends[1].poll_message(), None);
    }

    #[test]
    fn what_waits_is_bounded_and_what_is_too_large_is_refused() {
        let now = crate::clock::tests::instant();
        let mut association = Association::new(now, PARAMETERS);
        let mut send = |bytes| association.send(now, &Delivery::default(), message(bytes));
        assert!(!send(PARAMETERS.max_message_size + 1));
        let waiting = std::iter::from_fn(|| send(PARAMETERS.max_message_size).then_some(PARAMETERS.max_message_size));
        let waiting: usize = waiting.sum();
        assert!((MAX_WAITING..=MAX_WAITING + PARAMETERS.max_message_size).contains(&waiting), "{waiting} bytes");
    }
}
