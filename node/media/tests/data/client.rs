//! The client half of a transport with data channels: ICE, DTLS and SCTP.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, Socket, SocketEvent, SocketState, SocketTime, StreamId,
    ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
};
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;
use sluice_media::TransportAddress;
use sluice_media::secure::dtls::{Association, DtlsCertificate};
use sluice_media::secure::ice::IceCredentials;
use sluice_proto::ids::TransportId;
use sluice_proto::ortc::{DtlsParameters, DtlsRole, SctpStreamParameters};

/// What a client holds that nobody reads.
pub(crate) const WINDOW: usize = 512 * 1024;

/// A message of a string and one of bytes, RFC 8831 section 8.
pub(crate) const STRING: u32 = 51;
pub(crate) const BINARY: u32 = 53;

/// A message that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) stream: u16,
    pub(crate) ppid: u32,
    pub(crate) payload: Vec<u8>,
}

/// A client, and everything that it got.
pub(crate) struct Client {
    pub(crate) transport: TransportId,
    pub(crate) address: TransportAddress,
    pub(crate) received: Vec<Received>,
    /// Streams that the node has reset.
    pub(crate) closed: Vec<u16>,
    /// Whether it reads what comes.
    pub(crate) reads: bool,
    /// Streams that it has reset, and the node has not.
    closing: HashSet<u16>,
    dtls: Association,
    /// The node's verification tag, and the number of the client's first DATA chunk.
    outgoing: (u32, u32),
    socket: Socket,
    began_at: Instant,
    out: Vec<Vec<u8>>,
}

/// A certificate of a client, or of a node.
pub(crate) fn certificate(of_node: bool) -> Arc<DtlsCertificate> {
    static CERTIFICATES: OnceLock<[Arc<DtlsCertificate>; 2]> = OnceLock::new();
    let all = CERTIFICATES.get_or_init(|| [(); 2].map(|()| DtlsCertificate::generate().expect("randomness")));
    all[usize::from(of_node)].clone()
}

impl Client {
    /// One that has said nothing.
    pub(crate) fn new(now: Instant, number: u8) -> Self {
        let mut dtls = Association::new(certificate(false));
        dtls.accept_application_data();
        let options = Options {
            max_receiver_window_buffer_size: WINDOW,
            zero_checksum_alternate_error_detection_method:
                ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
            ..Options::default()
        };
        Self {
            transport: TransportId::from_bytes([number; 16]),
            address: TransportAddress::Udp(([192, 0, 2, number], 40_000).into()),
            received: Vec::new(),
            closed: Vec::new(),
            reads: true,
            closing: HashSet::new(),
            dtls,
            outgoing: (0, 0),
            socket: Socket::new("", &options),
            began_at: now,
            out: Vec::new(),
        }
    }

    /// What the node is told of it.
    pub(crate) fn parameters(&self) -> DtlsParameters {
        DtlsParameters { role: DtlsRole::Client, fingerprints: certificate(false).fingerprints() }
    }

    /// Begins: a check from its address, and DTLS.
    pub(crate) fn begin(&mut self, now: Instant, ice: &IceCredentials) {
        self.out.push(check(ice));
        let node = DtlsParameters { role: DtlsRole::Server, fingerprints: certificate(true).fingerprints() };
        self.dtls.connect(now, &node, true);
        self.drain();
    }

    /// Calls by SCTP.
    pub(crate) fn connect(&mut self, now: Instant) {
        self.tell(now);
        self.socket.connect();
        self.drain();
    }

    /// Whether SCTP is up.
    pub(crate) fn is_connected(&self) -> bool {
        self.socket.state() == SocketState::Connected
    }

    fn tell(&mut self, now: Instant) {
        self.socket.advance_time(SocketTime::zero() + (now - self.began_at));
    }

    /// A datagram of the node came.
    pub(crate) fn receive(&mut self, now: Instant, datagram: &[u8]) {
        if datagram.first().is_some_and(|first| (20..64).contains(first)) {
            let _ = self.dtls.handle(now, datagram);
            while let Some(packet) = self.dtls.poll_application_data() {
                self.tell(now);
                self.socket.handle_input(&packet);
            }
        }
        self.drain();
    }

    /// Sends a message on a channel.
    pub(crate) fn send(&mut self, now: Instant, stream: &SctpStreamParameters, ppid: u32, payload: &[u8]) {
        self.tell(now);
        let options = SendOptions {
            unordered: !stream.ordered,
            lifetime: stream.max_packet_life_time.map(|ms| std::time::Duration::from_millis(ms.into())),
            max_retransmissions: stream.max_retransmits,
            lifecycle_id: None,
        };
        let message = Message::new(StreamId(stream.stream_id), PpId(ppid), payload.to_vec());
        self.socket.send(message, &options).expect("room");
        self.drain();
    }

    /// Bytes that wait to be sent on a stream.
    pub(crate) fn buffered(&self, stream: u16) -> usize {
        self.socket.buffered_amount(StreamId(stream))
    }

    /// Closes a channel.
    pub(crate) fn close(&mut self, now: Instant, stream: u16) {
        self.tell(now);
        self.closing.insert(stream);
        self.socket.reset_streams(&[StreamId(stream)]).expect("an association");
        self.drain();
    }

    /// Ends the association.
    pub(crate) fn abort(&mut self, now: Instant) {
        self.tell(now);
        self.socket.close();
        self.drain();
    }

    /// The node's verification tag, and the number of the client's first DATA chunk.
    pub(crate) fn outgoing(&self) -> (u32, u32) {
        self.outgoing
    }

    /// Learns from a packet what is needed to make up others.
    fn watch(&mut self, packet: &[u8]) {
        let number =
            |at: usize| packet.get(at..).and_then(|rest| rest.first_chunk()).map(|four| u32::from_be_bytes(*four));
        // INIT and INIT ACK have the first number, all but INIT the tag.
        if let (Some(1 | 2), Some(tsn)) = (packet.get(12), number(28)) {
            self.outgoing.1 = tsn;
        }
        self.outgoing.0 = number(4).filter(|tag| *tag != 0).unwrap_or(self.outgoing.0);
    }

    /// A packet that is none of its own SCTP.
    pub(crate) fn send_raw(&mut self, packet: &[u8]) {
        let mut record = vec![0; packet.len() + Association::RECORD_OVERHEAD];
        if self.dtls.seal_application_data(packet, &mut record).is_ok() {
            self.out.push(record);
        }
    }

    /// When it wants to be woken.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let at = self.socket.poll_timeout();
        let sctp = (at != SocketTime::infinite_future()).then(|| self.began_at + (at - SocketTime::zero()));
        [sctp, self.dtls.poll_timeout()].into_iter().flatten().min()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.tell(now);
        self.dtls.handle_timeout(now);
        self.drain();
    }

    /// Goes on after it did not [read](Self::reads).
    pub(crate) fn read(&mut self) {
        self.reads = true;
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(event) = self.socket.poll_event() {
            match event {
                SocketEvent::SendPacket(packet) => {
                    self.watch(&packet);
                    self.send_raw(&packet);
                }
                SocketEvent::OnIncomingStreamReset(streams) => {
                    self.closed.extend(streams.iter().map(|stream| stream.0));
                    // As browsers do, RFC 8831 section 6.7.
                    let asked: Vec<_> = streams.into_iter().filter(|stream| !self.closing.remove(&stream.0)).collect();
                    self.socket.reset_streams(&asked).expect("an association");
                }
                _ => {}
            }
        }
        while self.reads
            && let Some(message) = self.socket.get_next_message()
        {
            let Message { stream_id, ppid, payload } = message;
            self.received.push(Received { stream: stream_id.0, ppid: ppid.0, payload });
        }
        self.out.extend(std::iter::from_fn(|| self.dtls.poll_transmit()).map(|datagram| datagram.to_vec()));
    }

    /// What it sends.
    pub(crate) fn take_datagrams(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.out)
    }
}

/// A connectivity check that chooses its path.
fn check(ice: &IceCredentials) -> Vec<u8> {
    let provider = AwsLcRsProvider::new();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(ice.pwd.clone(), provider.crypto());
    let setters: Vec<Box<dyn Setter + '_>> = vec![
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId([7; 12])),
        Box::new(TextAttribute::new(ATTR_USERNAME, format!("{}:client", ice.ufrag))),
        Box::new(RawAttribute { typ: ATTR_USE_CANDIDATE, length: 0, value: Vec::new() }),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = rtc_stun::message::Message::new();
    message.build(&setters).expect("a message");
    message.raw
}
