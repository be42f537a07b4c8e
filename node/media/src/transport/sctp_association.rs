//! The SCTP association of a transport, which carries its data channels: dcsctp, in bounds and in the core's time.
//!
//! dcsctp never sees what the network brought, only packets that [`SctpPacket`] has let through, and not all that it
//! would keep of these: it counts what it keeps in bytes of user data, of which one can cost it a hundred bytes of
//! memory. Should it panic in spite of all that, the association ends and nothing else.
//!
//! Its initial TSN, tags and tie tag come from the thread's `fastrand`, which takes no argument; so that is seeded for
//! each association by whoever has the randomness. Nobody's safety rests on them: what is around it is DTLS.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::Bytes;
use dcsctp::api::handover::HandoverReadiness;
use dcsctp::api::{
    DcSctpSocket, ErrorKind, LifecycleId, Message, Options, PpId, SendError, SendOptions, Socket, SocketEvent,
    SocketTime, StreamId, ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
};
use rustc_hash::{FxHashMap, FxHashSet};
use sluice_proto::ortc::SctpStreamParameters;

use crate::drop_reason::DropReason;
use crate::messages::SctpState;
use crate::transport::data_limits::DataLimits;
use crate::wire::sctp::{LeftOut, PORT, SctpPacket};

/// Longest packet that is sent: with DTLS, UDP and IPv6 around it, and TURN, it fits into 1,280 bytes, which every path
/// takes.
const MAX_PACKET_LEN: usize = 1_191;

/// Messages that wait to be read. More come in only when some were: as many as may be read at once.
const MAX_READY: usize = 1_024;

/// DATA chunks that dcsctp may keep, some 150 bytes each beside their user data. What fits its window in chunks as
/// clients make them is 900 of them.
const MAX_CHUNKS: u32 = 8_192;

/// A message that was read gives back one chunk, and another for each so many bytes: half of what clients put into one,
/// so that what comes twice costs nobody his channels.
const BYTES_PER_CHUNK: usize = 512;

/// Streams that a client uses in the life of an association. dcsctp keeps 40 bytes of each for ever.
const MAX_STREAMS: usize = 4_096;

/// Resets that wait for messages before them to be read.
const MAX_RESETS: usize = 64;

/// Streams that a RE-CONFIG names, times those that the client has used: dcsctp looks for each of these among those. It
/// is 250 channels closed at once.
const MAX_RESET_WORK: usize = 65_536;

/// A client whose network was away for a while shall not wait as long again: what gets lost is sent again after so long
/// at most, as in libwebrtc.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// FORWARD TSNs while a reset waits for messages before it to come: dcsctp keeps each of them until then.
const MAX_DEFERRED: u32 = 64;

/// Messages that are on their way to the client at once. A SACK makes dcsctp go through all of them.
const MAX_HANDED: usize = 1_024;

/// Streams that are reset by one request: what fits into a packet, with all that may be beside it.
const MAX_RESET_AT_ONCE: usize = 128;

/// What comes out of an association, in order.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// A message of the client.
    Message {
        /// The stream that it came on.
        stream: u16,
        /// Payload protocol identifier.
        ppid: u32,
        /// The message.
        payload: Bytes,
    },
    /// The client has reset these streams of its, RFC 6525; all of them if none is named.
    Reset(Vec<u16>),
}

/// An association.
pub(crate) struct SctpAssociation {
    socket: Box<Socket>,
    /// When dcsctp's time began.
    began_at: Instant,
    state: SctpState,
    /// States that were not told yet.
    states: VecDeque<SctpState>,
    /// It failed over what the client sent.
    is_faulty: bool,
    /// Packets that are to be sent.
    transmits: VecDeque<Vec<u8>>,
    send_window: usize,

    // What comes in.
    /// DATA chunks that may come before a message is read.
    chunks_left: u32,
    deferred_left: u32,
    streams: FxHashSet<u16>,
    /// Messages that were read.
    read: u64,
    /// Resets, each behind so many messages.
    resets: VecDeque<(u64, Vec<u16>)>,

    // What goes out.
    next_id: u64,
    /// Lengths of messages that are on their way.
    handed: FxHashMap<u64, usize>,
    handed_bytes: usize,
    /// Streams that are to be reset.
    to_reset: VecDeque<u16>,
    is_resetting: bool,
}

impl SctpAssociation {
    /// An association that waits for the client's INIT. `seed` is where its random numbers come from.
    pub(crate) fn new(now: Instant, limits: &DataLimits, seed: u64) -> Self {
        fastrand::seed(seed);
        let send_buffer = limits.send_window + limits.max_message_size;
        let options = Options {
            local_port: PORT,
            remote_port: PORT,
            mtu: MAX_PACKET_LEN,
            max_message_size: limits.max_message_size,
            max_receiver_window_buffer_size: limits.receive_window,
            max_send_buffer_size: send_buffer,
            per_stream_send_queue_limit: send_buffer,
            max_timer_backoff_duration: Some(MAX_BACKOFF),
            // Consent to send ends what nobody answers.
            max_retransmissions: None,
            // What is around it is DTLS: clients that know RFC 9653 and this end save themselves the checksum.
            zero_checksum_alternate_error_detection_method:
                ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
            ..Options::default()
        };
        Self {
            socket: Box::new(Socket::new("", &options)),
            began_at: now,
            state: SctpState::New,
            states: VecDeque::new(),
            is_faulty: false,
            transmits: VecDeque::new(),
            send_window: limits.send_window,
            chunks_left: MAX_CHUNKS,
            deferred_left: MAX_DEFERRED,
            streams: FxHashSet::default(),
            read: 0,
            resets: VecDeque::new(),
            next_id: 1,
            handed: FxHashMap::default(),
            handed_bytes: 0,
            to_reset: VecDeque::new(),
            is_resetting: false,
        }
    }

    /// Begins the handshake. The client may do the same (RFC 8831 section 5: both ends call).
    ///
    /// # Errors
    /// [`DropReason::SctpFault`].
    pub(crate) fn connect(&mut self, now: Instant) -> Result<(), DropReason> {
        if self.state != SctpState::New {
            return Ok(());
        }
        self.set_state(SctpState::Connecting);
        self.act(now, |socket| socket.connect())
    }

    /// Whether it is over: nothing more comes of it but what it has to tell and to send.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, SctpState::Failed | SctpState::Closed)
    }

    /// Whether it failed over what the client sent: there is to be no other.
    pub(crate) fn is_faulty(&self) -> bool {
        self.is_faulty
    }

    /// A packet of the client came.
    ///
    /// # Errors
    /// Why it was dropped, or part of it.
    pub(crate) fn receive(&mut self, now: Instant, packet: &SctpPacket<'_>) -> Result<(), DropReason> {
        if self.is_over() {
            return Err(DropReason::SctpNotConnected);
        }
        for stream in packet.streams() {
            if self.streams.len() >= MAX_STREAMS && !self.streams.contains(&stream) {
                self.abort(now);
                return Err(DropReason::SctpFlood);
            }
            self.streams.insert(stream);
        }
        let left_out = LeftOut {
            data: !self.takes_data(now, packet.data_chunks()),
            re_config: packet.has_re_config() && !self.takes_re_config(packet.named_streams()),
            forward_tsn: packet.has_forward_tsn() && !self.takes_forward_tsn(),
        };
        if self.is_over() {
            return Err(DropReason::SctpFlood);
        }
        if left_out == LeftOut::default() {
            return self.act(now, |socket| socket.handle_input(packet.bytes()));
        }
        if let Some(rest) = packet.without(left_out) {
            self.act(now, |socket| socket.handle_input(&rest))?;
        }
        Err(DropReason::SctpFlood)
    }

    /// Whether so many DATA chunks may come. If so they are counted. Whoever has sent all that may be kept, and nothing
    /// in it that can be read, is beyond help: its association ends.
    fn takes_data(&mut self, now: Instant, chunks: usize) -> bool {
        let ready = self.socket.messages_ready_count();
        if chunks == 0 {
            return true;
        }
        if ready >= MAX_READY {
            return false;
        }
        let chunks = chunks as u32;
        if self.chunks_left < chunks && ready == 0 {
            // Before it is connected dcsctp does not say.
            if self.keeps(
                HandoverReadiness::STREAM_HAS_UNASSEMBLED_CHUNKS
                    | HandoverReadiness::STREAM_RESET_DEFERRED
                    | HandoverReadiness::WRONG_CONNECTION_STATE,
            ) {
                self.abort(now);
                return false;
            }
            self.chunks_left = MAX_CHUNKS;
        }
        let left = self.chunks_left.checked_sub(chunks);
        self.chunks_left = left.unwrap_or(self.chunks_left);
        left.is_some()
    }

    /// Whether a RE-CONFIG may come that names so many streams.
    fn takes_re_config(&self, named: usize) -> bool {
        self.resets.len() < MAX_RESETS && named * self.streams.len() <= MAX_RESET_WORK
    }

    /// Whether a FORWARD TSN may come.
    fn takes_forward_tsn(&mut self) -> bool {
        if !self.keeps(HandoverReadiness::STREAM_RESET_DEFERRED) {
            self.deferred_left = MAX_DEFERRED;
        }
        let left = self.deferred_left.checked_sub(1);
        self.deferred_left = left.unwrap_or_default();
        left.is_some()
    }

    /// Whether dcsctp keeps anything of these kinds. It goes through all streams for that.
    fn keeps(&self, kinds: HandoverReadiness) -> bool {
        self.socket.get_handover_readiness().contains(kinds)
    }

    /// Ends the association, and tells the client that.
    fn abort(&mut self, now: Instant) {
        self.set_state(SctpState::Failed);
        // What it fails with, nobody waits for.
        let _ = self.act(now, |socket| socket.close());
    }

    /// Whether something came that was not taken out.
    pub(crate) fn has_incoming(&self) -> bool {
        !self.resets.is_empty() || self.socket.messages_ready_count() > 0
    }

    /// The next of what came. What is not taken out counts against what the client may send.
    pub(crate) fn next_incoming(&mut self) -> Option<Incoming> {
        if self.resets.front().is_some_and(|(behind, _)| *behind <= self.read) {
            return self.resets.pop_front().map(|(_, streams)| Incoming::Reset(streams));
        }
        let Message { stream_id, ppid, payload } = self.socket.get_next_message()?;
        self.read += 1;
        let chunks = 1 + (payload.len() / BYTES_PER_CHUNK) as u32;
        self.chunks_left = self.chunks_left.saturating_add(chunks).min(MAX_CHUNKS);
        Some(Incoming::Message { stream: stream_id.0, ppid: ppid.0, payload: payload.into() })
    }

    /// Whether a message may be [sent](Self::send): there is a client, and it takes what was sent before.
    pub(crate) fn has_room(&self) -> bool {
        self.state == SctpState::Connected && self.handed_bytes < self.send_window && self.handed.len() < MAX_HANDED
    }

    /// Sends a message on a stream, as reliably as that is.
    ///
    /// # Errors
    /// Why it was not sent: [`DropReason::DataTooLarge`], which an empty one is too, and
    /// [`DropReason::SctpNotConnected`].
    pub(crate) fn send(
        &mut self,
        now: Instant,
        stream: &SctpStreamParameters,
        ppid: u32,
        payload: &[u8],
    ) -> Result<(), DropReason> {
        let (id, len) = (self.next_id, payload.len());
        self.next_id += 1;
        let options = SendOptions {
            unordered: !stream.ordered,
            lifetime: stream.max_packet_life_time.map(|ms| Duration::from_millis(ms.into())),
            max_retransmissions: stream.max_retransmits,
            lifecycle_id: LifecycleId::new(id),
        };
        let message = Message::new(StreamId(stream.stream_id), PpId(ppid), payload.to_vec());
        self.handed.insert(id, len);
        self.handed_bytes += len;
        let mut sent = Ok(());
        self.act(now, |socket| sent = socket.send(message, &options))?;
        sent.map_err(|error| {
            self.take_back(id);
            match error {
                SendError::EmptyPayload | SendError::MessageTooLarge { .. } => DropReason::DataTooLarge,
                SendError::ResourceExhaustion | SendError::ShuttingDown => DropReason::SctpNotConnected,
            }
        })
    }

    /// A message is not on its way any more.
    fn take_back(&mut self, id: u64) {
        let len = self.handed.remove(&id).unwrap_or_default();
        self.handed_bytes -= len;
    }

    /// Nothing more is sent on a stream: the client is told that its channel is closed (RFC 8831 section 6.7), and does
    /// the same. What was not begun to be sent is not sent. Returns whether there is a client to tell.
    pub(crate) fn reset(&mut self, now: Instant, stream: u16) -> bool {
        let is_connected = self.state == SctpState::Connected;
        if is_connected && !self.to_reset.contains(&stream) {
            self.to_reset.push_back(stream);
            self.reset_next(now);
        }
        is_connected
    }

    fn reset_next(&mut self, now: Instant) {
        if self.is_resetting || self.to_reset.is_empty() {
            return;
        }
        let count = self.to_reset.len().min(MAX_RESET_AT_ONCE);
        let streams: Vec<_> = self.to_reset.drain(..count).map(StreamId).collect();
        self.is_resetting = true;
        let mut asked = Ok(());
        let acted = self.act(now, |socket| asked = socket.reset_streams(&streams));
        if acted.is_err() || asked.is_err() {
            // Its client knows of no resets. It will hear of it by signalling.
            self.is_resetting = false;
            self.to_reset.clear();
        }
    }

    /// The next state that it came to.
    pub(crate) fn poll_state(&mut self) -> Option<SctpState> {
        self.states.pop_front()
    }

    /// The next packet to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmits.pop_front()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.socket.poll_timeout();
        (!self.is_over() && at != SocketTime::infinite_future()).then(|| self.began_at + (at - SocketTime::zero()))
    }

    /// Does what is due.
    ///
    /// # Errors
    /// [`DropReason::SctpFault`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DropReason> {
        if self.is_over() { Ok(()) } else { self.act(now, |_| ()) }
    }

    /// Has dcsctp do something, and takes what came of it.
    fn act(&mut self, now: Instant, act: impl FnOnce(&mut Socket)) -> Result<(), DropReason> {
        let time = SocketTime::zero() + now.saturating_duration_since(self.began_at);
        let Self { socket, .. } = self;
        // Nothing that this leaves half done is ever looked at again.
        let acted = catch_unwind(AssertUnwindSafe(|| {
            socket.advance_time(time);
            act(socket);
        }));
        if acted.is_err() {
            tracing::error!("SCTP failed over what a client sent; its association is over");
            self.is_faulty = true;
            self.set_state(SctpState::Failed);
            return Err(DropReason::SctpFault);
        }
        while let Some(event) = self.socket.poll_event() {
            self.handle_event(event);
        }
        if !self.is_over() {
            self.reset_next(now);
        }
        Ok(())
    }

    fn handle_event(&mut self, event: SocketEvent) {
        match event {
            SocketEvent::SendPacket(packet) => self.transmits.push_back(packet),
            SocketEvent::OnConnected() => {
                if self.state == SctpState::Connected {
                    // The client began anew, and what was on its way is lost.
                    self.set_state(SctpState::Closed);
                    self.handed.clear();
                    self.to_reset.clear();
                    (self.handed_bytes, self.is_resetting) = (0, false);
                }
                self.set_state(SctpState::Connected);
            }
            SocketEvent::OnClosed() => self.set_state(SctpState::Closed),
            SocketEvent::OnAborted(kind, reason) => {
                tracing::debug!(?kind, reason, "an SCTP association is over");
                let is_clients = kind == ErrorKind::PeerReported;
                self.set_state(if is_clients { SctpState::Closed } else { SctpState::Failed });
            }
            SocketEvent::OnIncomingStreamReset(streams) => {
                let behind = self.read + self.socket.messages_ready_count() as u64;
                self.resets.push_back((behind, streams.into_iter().map(|stream| stream.0).collect()));
            }
            SocketEvent::OnStreamsResetPerformed(_) | SocketEvent::OnStreamsResetFailed(_) => self.is_resetting = false,
            SocketEvent::OnLifecycleEnd(id) => self.take_back(id.value()),
            SocketEvent::OnConnectionRestarted()
            | SocketEvent::OnError(..)
            | SocketEvent::OnBufferedAmountLow(_)
            | SocketEvent::OnTotalBufferedAmountLow()
            | SocketEvent::OnLifecycleMessageFullySent(_)
            | SocketEvent::OnLifecycleMessageMaybeExpired(_)
            | SocketEvent::OnLifecycleMessageExpired(_)
            | SocketEvent::OnLifecycleMessageDelivered(_) => {}
        }
    }

    /// What is over ends once.
    fn set_state(&mut self, state: SctpState) {
        if !(self.is_over() && state != SctpState::Connected) && self.state != state {
            self.state = state;
            self.states.push_back(state);
        }
    }
}
