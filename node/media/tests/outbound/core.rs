//! One media core with users whose keys are given, and everything that it sent.

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sluice_media::messages::{
    Account, ConsumerStats, PipeEnd, Request, RequestError, RequestId, Response, RouteIn, RtpMapping, SrtpKeys,
    StreamStats, TransportStats, WorkerCommand, WorkerEvent, WorkerIndex, WorkerSnapshot,
};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::secure::ice::IceCredentials;
use sluice_media::secure::srtp::{SrtpProfile, SrtpReceiver, SrtpSender};
use sluice_media::trace::{TraceTypes, Traced};
use sluice_media::wire::rtcp::{Compound, Packet};
use sluice_media::wire::rtp::RtpHeader;
use sluice_media::{
    AudioLimits, DataLimits, Datagram, Input, Media, MediaConfig, Output, TransportAddress, make_ufrag,
};
use sluice_mesh::{Frame, LinkKey};
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::pipe::{RouteFeedback, Wanted};

const ROUTER: RouterId = RouterId::from_bytes([2; 16]);
const PUBLISHED_SSRC: u32 = 10;

/// Forms of header extensions, RFC 8285.
const ONE_BYTE: [u8; 2] = [0xbe, 0xde];
const TWO_BYTE: [u8; 2] = [0x10, 0];

/// What the URIs of libwebrtc's own extensions begin with.
const WEBRTC: &str = "http://www.webrtc.org/experiments/rtp-hdrext/";
const DESCRIPTOR: &str = "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// Between the SSRCs of two encodings.
const ENCODINGS_APART: u32 = 10;

/// The route between two cores.
const ROUTE: (RouteId, RouteEpoch) = (RouteId(7), RouteEpoch(1));

/// What is published and how it is received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Opus,
    /// Opus with redundancy.
    Red,
    /// G.711 of a MIME type and payload type.
    G711(&'static str, u8),
    Vp8,
    /// Whose receiver has no RTX.
    Vp8Plain,
    /// Three encodings, of which a receiver gets one at a time.
    Vp8Simulcast,
    H264,
    /// Whose receiver has no RTX.
    H264Plain,
    /// Of a MIME type and scalability mode, in so many encodings.
    Layered(&'static str, &'static str, u32),
}

/// A core, what it gave out, and the time that it knows.
pub(crate) struct Core {
    pub(crate) now: Instant,
    pub(crate) events: Vec<WorkerEvent>,
    pub(crate) frames: Vec<Frame>,
    pub(crate) feedback: Vec<RouteFeedback>,
    media: Media,
    end: PipeEnd,
    sent: VecDeque<(TransportAddress, Vec<u8>)>,
    users: u8,
    consumers: u32,
}

/// The client half of a transport.
pub(crate) struct User {
    pub(crate) address: TransportAddress,
    pub(crate) transport: TransportId,
    sealer: SrtpSender,
    opener: SrtpReceiver,
}

/// An RTP packet that a core sent.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    pub(crate) sealed: Vec<u8>,
    pub(crate) plain: Vec<u8>,
}

fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    *ORIGIN.get_or_init(Instant::now)
}

fn certificate() -> Arc<DtlsCertificate> {
    static CERTIFICATE: OnceLock<Arc<DtlsCertificate>> = OnceLock::new();
    CERTIFICATE.get_or_init(|| DtlsCertificate::generate().expect("a certificate can be made")).clone()
}

pub(crate) fn producer_id(number: u8) -> ProducerId {
    ProducerId::from_bytes([number; 16])
}

impl Stream {
    pub(crate) fn kind(self) -> MediaKind {
        if matches!(self, Self::Opus | Self::Red | Self::G711(..)) { MediaKind::Audio } else { MediaKind::Video }
    }

    pub(crate) fn payload_type(self) -> u8 {
        match self {
            Self::Opus => 100,
            Self::Red => 119,
            Self::G711(_, payload_type) => payload_type,
            Self::Vp8 | Self::Vp8Plain | Self::Vp8Simulcast => 101,
            Self::H264 | Self::H264Plain => 103,
            Self::Layered(..) => 105,
        }
    }

    /// How many encodings are published.
    fn encodings(self) -> u32 {
        match self {
            Self::Vp8Simulcast => 3,
            Self::Layered(_, _, encodings) => encodings,
            _ => 1,
        }
    }

    /// Of encodings whose SSRCs are so far apart.
    fn several(self, ssrc: u32, apart: u32, has_rtx: bool) -> RtpParameters {
        let mut parameters = self.parameters(ssrc, has_rtx);
        let others = (1..self.encodings()).map(|number| self.parameters(ssrc + number * apart, has_rtx));
        parameters.encodings.extend(others.flat_map(|other| other.encodings).collect::<Vec<_>>());
        parameters
    }

    fn parameters(self, ssrc: u32, has_rtx: bool) -> RtpParameters {
        let payload_type = self.payload_type();
        let rtx = payload_type + 1;
        let (mime, clock_rate, channels) = match self {
            Self::Opus => ("audio/opus", 48_000, r#""channels": 2,"#),
            Self::Red => ("audio/red", 48_000, r#""channels": 2,"#),
            Self::G711(mime, _) => (mime, 8_000, r#""channels": 1,"#),
            Self::Vp8 | Self::Vp8Plain | Self::Vp8Simulcast => ("video/VP8", 90_000, ""),
            Self::H264 | Self::H264Plain => ("video/H264", 90_000, ""),
            Self::Layered(mime, ..) => (mime, 90_000, ""),
        };
        let (mut codecs, mut encoding) = (String::new(), String::new());
        if has_rtx {
            codecs = format!(
                r#", {{"mimeType": "video/rtx", "payloadType": {rtx}, "clockRate": 90000, "parameters": {{"apt": {payload_type}}}}}"#
            );
            encoding = format!(r#", "rtx": {{"ssrc": {}}}"#, ssrc + 1);
        }
        if self == Self::Red {
            codecs =
                r#", {"mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000, "channels": 2}"#.to_owned();
        }
        if let Self::Layered(_, mode, _) = self {
            encoding += &format!(r#", "scalabilityMode": "{mode}""#);
        }
        let (last_uri, last_id) = match self {
            Self::Opus | Self::Red | Self::G711(..) => ("urn:ietf:params:rtp-hdrext:ssrc-audio-level", 10),
            _ => ("http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", 5),
        };
        let json = format!(
            r#"{{"mid": "0", "codecs": [
                {{"mimeType": "{mime}", "payloadType": {payload_type}, "clockRate": {clock_rate}, {channels} "rtcpFeedback": [
                    {{"type": "nack", "parameter": ""}}, {{"type": "nack", "parameter": "pli"}}]}}{codecs}],
            "headerExtensions": [
                {{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 1, "encrypt": false}},
                {{"uri": "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id", "id": 2, "encrypt": false}},
                {{"uri": "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id", "id": 3, "encrypt": false}},
                {{"uri": "{WEBRTC}abs-send-time", "id": 4, "encrypt": false}},
                {{"uri": "{DESCRIPTOR}", "id": 8, "encrypt": false}},
                {{"uri": "{WEBRTC}video-layers-allocation00", "id": 9, "encrypt": false}},
                {{"uri": "urn:3gpp:video-orientation", "id": 11, "encrypt": false}},
                {{"uri": "{WEBRTC}abs-capture-time", "id": 13, "encrypt": false}},
                {{"uri": "{WEBRTC}playout-delay", "id": 14, "encrypt": false}},
                {{"uri": "{last_uri}", "id": {last_id}, "encrypt": false}}],
            "encodings": [{{"ssrc": {ssrc}{encoding}}}], "rtcp": {{"cname": "c", "reducedSize": true}}}}"#
        );
        serde_json::from_str(&json).expect("valid parameters")
    }
}

impl Core {
    /// An empty core. `number` is how its pipes know it.
    pub(crate) fn new(number: u32) -> Self {
        Self::with_last_n(number, None)
    }

    /// One that lets only the loudest be heard.
    pub(crate) fn with_last_n(number: u32, last_n: Option<NonZeroU8>) -> Self {
        let (worker, epoch) = (WorkerIndex(0), (origin(), Duration::from_secs(1_700_000_000)));
        let (audio, data) = (AudioLimits { last_n, ..AudioLimits::default() }, DataLimits::default());
        let media = Media::new(MediaConfig { worker, certificate: certificate(), epoch, seed: 1, audio, data });
        let mut core = Self {
            now: origin(),
            events: Vec::new(),
            frames: Vec::new(),
            feedback: Vec::new(),
            media,
            end: PipeEnd::Node(LinkKey(number)),
            sent: VecDeque::new(),
            users: 0,
            consumers: 0,
        };
        core.request(Request::CreateRouter { router: ROUTER, account: Account(0) });
        core
    }

    pub(crate) fn request(&mut self, request: Request) -> Response {
        self.try_request(request).expect("the request is in order")
    }

    pub(crate) fn try_request(&mut self, request: Request) -> Result<Response, RequestError> {
        self.input(Input::Command(WorkerCommand::Request { id: RequestId(0), request }));
        let answer = self.events.iter().rposition(|event| matches!(event, WorkerEvent::Response { .. }));
        match self.events.remove(answer.expect("every request is answered at once")) {
            WorkerEvent::Response { result, .. } => result,
            _ => unreachable!(),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.media.handle_input(self.now, input);
        while let Some(output) = self.media.poll_output() {
            match output {
                Output::Transmit(transmit) => {
                    let size = transmit.segment_size.unwrap_or(transmit.contents.len());
                    for datagram in transmit.contents.chunks(size) {
                        self.sent.push_back((transmit.destination, datagram.to_vec()));
                    }
                    self.media.recycle(transmit.contents);
                }
                Output::Frames { frames, .. } => self.frames.extend(frames),
                Output::Feedback { feedback, .. } => self.feedback.push(feedback),
                Output::Event(event) => self.events.push(event),
                Output::Data { .. } | Output::Forward { .. } | Output::AddressOwned { .. } => {}
            }
        }
    }

    /// Lets time pass, with all that becomes due.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.media.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    /// What comes next has waited.
    pub(crate) fn lag(&mut self, waited: Duration) {
        self.input(Input::Lag { waited, idle: Duration::ZERO });
    }

    pub(crate) fn snapshot(&mut self) -> WorkerSnapshot {
        match self.request(Request::Snapshot) {
            Response::Snapshot(snapshot) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn drops(&mut self, reason: &str) -> u64 {
        self.snapshot().drops.iter().find(|(label, _)| *label == reason).map_or(0, |(_, count)| *count)
    }

    pub(crate) fn producer_stats(&mut self, producer: ProducerId) -> Vec<StreamStats> {
        match self.request(Request::ProducerStats { producer }) {
            Response::ProducerStats(stats) => stats,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn consumer_stats(&mut self, consumer: ConsumerId) -> ConsumerStats {
        match self.request(Request::ConsumerStats { consumer }) {
            Response::ConsumerStats(stats) => *stats,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn transport_stats(&mut self, transport: TransportId) -> TransportStats {
        match self.request(Request::TransportStats { transport }) {
            Response::TransportStats(stats) => *stats,
            other => panic!("{other:?}"),
        }
    }

    /// What happened to a transport since this was asked last; these types are traced for so many seconds.
    pub(crate) fn trace(&mut self, transport: TransportId, types: TraceTypes, seconds: u64) -> Traced {
        let within = Duration::from_secs(seconds);
        match self.request(Request::Trace { transport, types, within }) {
            Response::Traced(traced) => traced,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn connect(&mut self, profile: SrtpProfile) -> User {
        self.users += 1;
        let number = self.users;
        let address = TransportAddress::Udp(([10, 0, 0, number], 1_000).into());
        let transport = TransportId::from_bytes([number; 16]);
        let ice = IceCredentials { ufrag: make_ufrag(WorkerIndex(0), &format!("{number:08}")), pwd: "p".repeat(24) };
        self.request(Request::CreateWebRtcTransport { router: ROUTER, transport, ice, data_channels: false });
        let len = if profile == SrtpProfile::AeadAes128Gcm { 28 } else { 30 };
        let (remote, local) = (vec![number; len], vec![number | 0x80; len]);
        let sealer = SrtpSender::new(profile, &remote).expect("the length is the profile's");
        let opener = SrtpReceiver::new(profile, &local).expect("the length is the profile's");
        let keys = SrtpKeys { profile, remote, local, remote_address: address };
        self.request(Request::ConnectWithSrtpKeys { transport, keys });
        User { address, transport, sealer, opener }
    }

    pub(crate) fn publish(&mut self, user: &User, stream: Stream) -> ProducerId {
        self.publish_as(user, stream, 1)
    }

    /// The producer with this number.
    pub(crate) fn publish_as(&mut self, user: &User, stream: Stream, number: u8) -> ProducerId {
        self.publish_so(user, stream, number, |_| {})
    }

    /// A producer whose client says something else.
    pub(crate) fn publish_so(
        &mut self,
        user: &User,
        stream: Stream,
        number: u8,
        change: impl FnOnce(&mut RtpParameters),
    ) -> ProducerId {
        let (kind, payload_type, producer) = (stream.kind(), stream.payload_type(), producer_id(number));
        let mapping = RtpMapping {
            codecs: [payload_type, payload_type + 1, 100].map(|payload_type| (payload_type, payload_type)).to_vec(),
            mapped_ssrcs: (0..stream.encodings()).map(|number| 77 + number).collect(),
        };
        let mut rtp = stream.several(PUBLISHED_SSRC, ENCODINGS_APART, kind == MediaKind::Video);
        change(&mut rtp);
        let transport = user.transport;
        self.request(Request::Produce { transport, producer, kind, rtp, mapping, paused: false });
        producer
    }

    /// A consumer and its SSRC.
    pub(crate) fn consume(&mut self, user: &User, producer: ProducerId, stream: Stream) -> (ConsumerId, u32) {
        let ssrc = 1_002 + 2 * self.consumers;
        (self.consume_as(user, producer, stream, ssrc).expect("the SSRC is new"), ssrc)
    }

    /// A consumer with this SSRC.
    pub(crate) fn consume_as(
        &mut self,
        user: &User,
        producer: ProducerId,
        stream: Stream,
        ssrc: u32,
    ) -> Result<ConsumerId, RequestError> {
        self.consume_so(user, producer, stream, (ssrc, false))
    }

    /// A consumer whose client is not ready yet.
    pub(crate) fn consume_paused(&mut self, user: &User, producer: ProducerId, stream: Stream) -> ConsumerId {
        let ssrc = 1_002 + 2 * self.consumers;
        self.consume_so(user, producer, stream, (ssrc, true)).expect("the SSRC is new")
    }

    fn consume_so(
        &mut self,
        user: &User,
        producer: ProducerId,
        stream: Stream,
        (ssrc, paused): (u32, bool),
    ) -> Result<ConsumerId, RequestError> {
        self.consumers += 1;
        let consumer = ConsumerId::from_bytes([self.consumers as u8; 16]);
        let rtp = stream.parameters(
            ssrc,
            matches!(stream, Stream::Vp8 | Stream::Vp8Simulcast | Stream::H264 | Stream::Layered(..)),
        );
        let (kind, transport) = (stream.kind(), user.transport);
        self.try_request(Request::Consume { transport, consumer, producer, kind, rtp, paused })?;
        Ok(consumer)
    }

    /// Lets a producer leave to the core with this number.
    pub(crate) fn open_route_to(&mut self, other: &Self, producer: ProducerId) {
        let (route, epoch) = ROUTE;
        self.request(Request::CreatePipeConsumer { producer, to: other.end, route, epoch, wanted: Wanted::ALL });
    }

    /// Ends that route.
    pub(crate) fn close_route_to(&mut self, other: &Self) {
        let (route, epoch) = ROUTE;
        self.request(Request::ClosePipeConsumer { to: other.end, route, epoch });
    }

    /// Lets the producer of another core enter.
    pub(crate) fn open_route_from(&mut self, other: &Self, producer: ProducerId, stream: Stream) {
        let kind = stream.kind();
        let (rtp, (route, epoch)) = (stream.several(77, 1, kind == MediaKind::Video), ROUTE);
        let route = Some(RouteIn { from: other.end, route, epoch });
        let (router, paused) = (ROUTER, false);
        self.request(Request::CreatePipeProducer { router, producer, kind, rtp, route, paused });
    }

    /// What the other core sent by pipe arrives, and what this one says to it.
    pub(crate) fn exchange(&mut self, other: &mut Self) {
        self.now = self.now.max(other.now);
        let mut frames = std::mem::take(&mut other.frames);
        self.input(Input::Frames { from: other.end, frames: &mut frames });
        for feedback in std::mem::take(&mut other.feedback) {
            self.input(Input::Feedback { from: other.end, feedback });
        }
        for feedback in std::mem::take(&mut self.feedback) {
            other.input(Input::Feedback { from: self.end, feedback });
        }
    }

    /// What leaves by pipe leaves twice, under one number of the pipe after the other.
    pub(crate) fn send_frames_twice(&mut self) {
        let twice = self.frames.drain(..).flat_map(|frame| {
            let seq = frame.seq.wrapping_mul(2);
            [Frame { seq, ..frame.clone() }, Frame { seq: seq.wrapping_add(1), ..frame }]
        });
        self.frames = twice.collect();
    }

    fn datagram(&mut self, source: TransportAddress, mut data: Vec<u8>) {
        self.input(Input::Datagrams(&mut [Datagram { source, data: &mut data }]));
    }

    pub(crate) fn rtp(&mut self, user: &mut User, header: RtpHeader, payload: &[u8]) {
        self.rtp_with(user, header, &[], payload);
    }

    /// Packets that come at once.
    pub(crate) fn rtp_batch(&mut self, user: &mut User, packets: &[(RtpHeader, Vec<u8>)]) {
        let sealed = packets.iter().map(|(header, payload)| user.seal_rtp(*header, ONE_BYTE, &[], payload));
        let mut sealed: Vec<_> = sealed.collect();
        let source = user.address;
        let mut datagrams: Vec<_> = sealed.iter_mut().map(|data| Datagram { source, data }).collect();
        self.input(Input::Datagrams(&mut datagrams));
    }

    /// With one-byte extension elements.
    pub(crate) fn rtp_with(&mut self, user: &mut User, header: RtpHeader, elements: &[u8], payload: &[u8]) {
        let packet = user.seal_rtp(header, ONE_BYTE, elements, payload);
        self.datagram(user.address, packet);
    }

    /// With two-byte extension elements.
    pub(crate) fn rtp_with_two_byte(&mut self, user: &mut User, header: RtpHeader, elements: &[u8], payload: &[u8]) {
        let packet = user.seal_rtp(header, TWO_BYTE, elements, payload);
        self.datagram(user.address, packet);
    }

    /// A compound, however long; returns its sealed length.
    pub(crate) fn rtcp(&mut self, user: &mut User, mut compound: Vec<u8>) -> usize {
        compound.resize(compound.len() + user.sealer.lengths().rtcp_overhead, 0);
        user.sealer.seal_rtcp(&mut compound).expect("every compound is whole");
        let len = compound.len();
        self.datagram(user.address, compound);
        len
    }

    /// The RTP packets that were sent to a user since the last call. One whose number was sent before cannot be opened
    /// again.
    pub(crate) fn received(&mut self, user: &mut User) -> Vec<Received> {
        self.datagrams(user)
            .into_iter()
            .filter(|sealed| !is_rtcp(sealed))
            .map(|sealed| {
                let mut plain = sealed.clone();
                let len = user.opener.open_rtp(&mut plain).map(|packet| packet.len());
                plain.truncate(len.unwrap_or(0));
                Received { sealed, plain }
            })
            .collect()
    }

    /// The sequence numbers of the RTP packets that were sent to a user since the last call.
    pub(crate) fn numbers(&mut self, user: &mut User) -> Vec<u16> {
        self.received(user).iter().map(Received::sequence_number).collect()
    }

    /// The RTCP packets that were sent to a user since the last call.
    pub(crate) fn received_rtcp(&mut self, user: &mut User) -> Vec<Vec<u8>> {
        let mut packets = Vec::new();
        for mut sealed in self.datagrams(user).into_iter().filter(|sealed| is_rtcp(sealed)) {
            packets.push(user.opener.open_rtcp(&mut sealed).expect("it is the user's").to_vec());
        }
        packets
    }

    /// Everything that was sent to a user since the last call, as it was sent.
    pub(crate) fn datagrams(&mut self, user: &User) -> Vec<Vec<u8>> {
        let (own, others) =
            std::mem::take(&mut self.sent).into_iter().partition::<VecDeque<_>, _>(|(to, _)| *to == user.address);
        self.sent = others;
        own.into_iter().map(|(_, datagram)| datagram).collect()
    }
}

fn is_rtcp(datagram: &[u8]) -> bool {
    (192..=223).contains(&datagram[1])
}

impl User {
    fn seal_rtp(&mut self, header: RtpHeader, form: [u8; 2], elements: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut packet = header.to_bytes(!elements.is_empty()).to_vec();
        if !elements.is_empty() {
            packet.extend_from_slice(&form);
            packet.extend_from_slice(&[0, elements.len().div_ceil(4) as u8]);
            packet.extend_from_slice(elements);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        packet.extend_from_slice(payload);
        packet.resize(packet.len() + self.sealer.lengths().rtp_overhead, 0);
        self.sealer.seal_rtp(&mut packet).expect("every packet is new");
        packet
    }
}

impl Received {
    pub(crate) fn sequence_number(&self) -> u16 {
        u16::from_be_bytes([self.sealed[2], self.sealed[3]])
    }

    pub(crate) fn ssrc(&self) -> u32 {
        u32::from_be_bytes([self.sealed[8], self.sealed[9], self.sealed[10], self.sealed[11]])
    }
}

/// The header of a publisher's packet.
pub(crate) fn header(stream: Stream, sequence_number: u16, timestamp: u32) -> RtpHeader {
    RtpHeader { marker: false, payload_type: stream.payload_type(), sequence_number, timestamp, ssrc: PUBLISHED_SSRC }
}

/// The same of one of several encodings.
pub(crate) fn header_of(encoding: u32, sequence_number: u16, timestamp: u32) -> RtpHeader {
    let header = header(Stream::Vp8Simulcast, sequence_number, timestamp);
    RtpHeader { ssrc: ssrc_of(encoding), marker: true, ..header }
}

/// The publisher's SSRC of an encoding.
pub(crate) fn ssrc_of(encoding: u32) -> u32 {
    PUBLISHED_SSRC + encoding * ENCODINGS_APART
}

/// A payload of `len` bytes with which a receiver of VP8 can begin if it is to be a key frame.
pub(crate) fn vp8(is_key_frame: bool, len: usize) -> Vec<u8> {
    let mut payload = vec![0x10, if is_key_frame { 0x50 } else { 0x51 }];
    payload.resize(len.max(2), 0xab);
    payload
}

/// How many key frames the compounds ask for.
pub(crate) fn key_frame_requests(compounds: &[Vec<u8>]) -> usize {
    let packets = compounds.iter().flat_map(|compound| Compound::new(compound));
    packets.filter(|packet| matches!(packet, Ok(Packet::Pli { .. }))).count()
}
