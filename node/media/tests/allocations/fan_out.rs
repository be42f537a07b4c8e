//! One worker's media core with one publisher of video and a number of receivers, or with two cores and a route between
//! them: what the benchmark times and the test of allocations counts.

use std::time::{Duration, Instant};

use sluice_media::messages::{
    Account, PipeEnd, Request, RequestId, RouteIn, RtpMapping, SrtpKeys, WorkerCommand, WorkerEvent, WorkerIndex,
};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::secure::ice::IceCredentials;
use sluice_media::secure::srtp::{SrtpProfile, SrtpSender};
use sluice_media::wire::rtcp::TransportFeedbackBuilder;
use sluice_media::wire::rtp::RtpHeader;
use sluice_media::{
    AudioLimits, DataLimits, Datagram, Input, Media, MediaConfig, Output, TransportAddress, make_ufrag,
};
use sluice_mesh::{Frame, LinkKey};
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::pipe::{Layers, Wanted};

/// Packets of a burst, as an encoder sends a frame.
pub(crate) const BURST: usize = 10;

/// Time from burst to burst: 500 packets a second.
const INTERVAL: Duration = Duration::from_millis(20);

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
pub(crate) const PRODUCER: ProducerId = ProducerId::from_bytes([1; 16]);
const ROUTER: RouterId = RouterId::from_bytes([2; 16]);

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Video {
    /// VP8 without layers.
    Plain,
    /// VP9 with three spatial layers.
    Layered,
}

/// How many packets of a layered burst each spatial layer has.
const LAYER_PACKETS: [usize; 3] = [2, 3, 5];

impl Video {
    /// Packets of a burst that a receiver gets: of layers it prefers all but the highest one.
    pub(crate) fn packets_sent(self) -> usize {
        match self {
            Self::Plain => BURST,
            Self::Layered => LAYER_PACKETS[0] + LAYER_PACKETS[1],
        }
    }
}

/// A core, what it gave out, and the time that it knows.
pub(crate) struct Core {
    media: Media,
    video: Video,
    now: Instant,
    /// Datagrams given out.
    pub(crate) datagrams: usize,
}

/// A publisher's half: sealed bursts.
pub(crate) struct Publisher {
    sealer: SrtpSender,
    sequence_number: u16,
    address: TransportAddress,
    packet_len: usize,
    video: Video,
}

fn id<T>(kind: u8, number: usize, make: impl Fn([u8; 16]) -> T) -> T {
    let mut bytes = [kind; 16];
    bytes[8..].copy_from_slice(&(number as u64).to_be_bytes());
    make(bytes)
}

/// The consumer of a receiver; the first one has number 1.
pub(crate) fn receiver(number: usize) -> ConsumerId {
    id(4, number, ConsumerId::from_bytes)
}

fn parameters(video: Video, ssrc: usize, payload_type: u8) -> RtpParameters {
    let rtx = payload_type + 1;
    let (mime, mode) = match video {
        Video::Plain => ("video/VP8", "L1T1"),
        Video::Layered => ("video/VP9", "L3T1"),
    };
    let json = format!(
        r#"{{"mid": "{ssrc}", "codecs": [
            {{"mimeType": "{mime}", "payloadType": {payload_type}, "clockRate": 90000, "rtcpFeedback": [
                {{"type": "nack", "parameter": ""}}, {{"type": "nack", "parameter": "pli"}}]}},
            {{"mimeType": "video/rtx", "payloadType": {rtx}, "clockRate": 90000, "parameters": {{"apt": {payload_type}}}}}],
        "headerExtensions": [
            {{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 1, "encrypt": false}},
            {{"uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "id": 4, "encrypt": false}},
            {{"uri": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", "id": 5, "encrypt": false}}],
        "encodings": [{{"ssrc": {ssrc}, "rtx": {{"ssrc": {}}}, "scalabilityMode": "{mode}"}}], "rtcp": {{"cname": "c", "reducedSize": true}}}}"#,
        ssrc + 1
    );
    serde_json::from_str(&json).expect("valid parameters")
}

impl Core {
    /// An empty core, for this video.
    pub(crate) fn new(video: Video) -> Self {
        #[allow(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
        let now = Instant::now();
        let certificate = DtlsCertificate::generate().expect("a certificate can be made");
        let epoch = (now, Duration::from_secs(1_700_000_000));
        let media = Media::new(MediaConfig {
            worker: WorkerIndex(0),
            certificate,
            epoch,
            seed: 1,
            audio: AudioLimits::default(),
            data: DataLimits::default(),
        });
        let mut core = Self { media, video, now, datagrams: 0 };
        core.request(Request::CreateRouter { router: ROUTER, account: Account(0) });
        core
    }

    pub(crate) fn request(&mut self, request: Request) {
        let command = WorkerCommand::Request { id: RequestId(0), request };
        self.media.handle_input(self.now, Input::Command(command));
        while let Some(output) = self.media.poll_output() {
            if let Output::Event(WorkerEvent::Response { result, .. }) = output {
                result.expect("the request is in order");
            }
        }
    }

    fn add_transport(&mut self, number: usize) -> (TransportId, TransportAddress) {
        let transport = id(3, number, TransportId::from_bytes);
        let address = TransportAddress::Udp(([10, 0, 0, 1], 1_000 + number as u16).into());
        let ufrag = make_ufrag(WorkerIndex(0), &format!("{number:08}"));
        let ice = IceCredentials { ufrag, pwd: "p".repeat(24) };
        self.request(Request::CreateWebRtcTransport { router: ROUTER, transport, ice, data_channels: false });
        let key = vec![number as u8; 28];
        let keys = SrtpKeys { profile: PROFILE, remote: key.clone(), local: key, remote_address: address };
        self.request(Request::ConnectWithSrtpKeys { transport, keys });
        (transport, address)
    }

    /// Adds the publisher of packets with a payload of `payload_len` bytes.
    pub(crate) fn add_publisher(&mut self, payload_len: usize) -> Publisher {
        let (transport, address) = self.add_transport(0);
        let mapping = RtpMapping { codecs: vec![(96, 101), (97, 102)], mapped_ssrcs: vec![77] };
        let (kind, rtp) = (MediaKind::Video, parameters(self.video, 10, 96));
        self.request(Request::Produce { transport, producer: PRODUCER, kind, rtp, mapping, paused: false });
        let sealer = SrtpSender::new(PROFILE, &[0; 28]).expect("the length is the profile's");
        Publisher { sealer, sequence_number: 0, address, packet_len: 12 + payload_len, video: self.video }
    }

    /// Adds receivers of the producer.
    pub(crate) fn add_receivers(&mut self, receivers: usize) {
        for number in 1..=receivers {
            let (transport, _) = self.add_transport(number);
            let consumer = receiver(number);
            let (kind, rtp) = (MediaKind::Video, parameters(self.video, 1_000 + 2 * number, 101));
            self.request(Request::Consume { transport, consumer, producer: PRODUCER, kind, rtp, paused: false });
            let layers = Layers { spatial: 1, temporal: u8::MAX };
            self.request(Request::SetPreferredLayers { consumer, layers });
        }
    }

    /// Lets the producer leave by a route.
    pub(crate) fn add_route_out(&mut self) {
        let (to, route, epoch) = (PipeEnd::Node(LinkKey(1)), RouteId(0), RouteEpoch(0));
        self.request(Request::CreatePipeConsumer { producer: PRODUCER, to, route, epoch, wanted: Wanted::ALL });
    }

    /// Lets the producer enter by a route.
    pub(crate) fn add_route_in(&mut self) {
        let route = Some(RouteIn { from: PipeEnd::Node(LinkKey(0)), route: RouteId(0), epoch: RouteEpoch(0) });
        let (router, producer, kind, rtp) = (ROUTER, PRODUCER, MediaKind::Video, parameters(self.video, 77, 101));
        self.request(Request::CreatePipeProducer { router, producer, kind, rtp, route, paused: false });
    }

    /// A burst comes in from the publisher. What leaves by the route is appended to `frames`.
    pub(crate) fn forward(&mut self, publisher: &Publisher, burst: &mut [Vec<u8>; BURST], frames: &mut Vec<Frame>) {
        self.now += INTERVAL;
        let mut datagrams = burst.each_mut().map(|data| Datagram { source: publisher.address, data });
        self.media.handle_input(self.now, Input::Datagrams(&mut datagrams));
        self.drain(frames);
    }

    /// Frames come in by the route.
    pub(crate) fn receive(&mut self, frames: &mut Vec<Frame>) {
        self.now += INTERVAL;
        self.media.handle_input(self.now, Input::Frames { from: PipeEnd::Node(LinkKey(0)), frames });
        self.drain(&mut Vec::new());
    }

    /// Compounds come in from receivers, whose number is beside each.
    #[allow(dead_code, reason = "not all who share this file measure it")]
    pub(crate) fn receive_rtcp(&mut self, compounds: &mut [(usize, Vec<u8>)]) {
        let source = |number: usize| TransportAddress::Udp(([10, 0, 0, 1], 1_000 + number as u16).into());
        let datagrams = compounds.iter_mut().map(|(number, data)| Datagram { source: source(*number), data });
        let mut datagrams: Vec<_> = datagrams.collect();
        self.media.handle_input(self.now, Input::Datagrams(&mut datagrams));
        self.drain(&mut Vec::new());
    }

    fn drain(&mut self, frames: &mut Vec<Frame>) {
        while let Some(output) = self.media.poll_output() {
            match output {
                Output::Transmit(transmit) => {
                    let len = transmit.contents.len();
                    self.datagrams += transmit.segment_size.map_or(1, |size| len.div_ceil(size));
                    self.media.recycle(transmit.contents);
                }
                Output::Frames { frames: mut batch, .. } => {
                    frames.append(&mut batch);
                    self.media.recycle_frames(batch);
                }
                _ => {}
            }
        }
    }
}

/// What receivers tell of what arrives.
#[allow(dead_code, reason = "not all who share this file measure it")]
pub(crate) struct Feedback {
    sealers: Vec<SrtpSender>,
    told: u16,
    now_us: i64,
    builder: TransportFeedbackBuilder,
}

#[allow(dead_code, reason = "not all who share this file measure it")]
impl Feedback {
    /// Of so many receivers.
    pub(crate) fn new(receivers: usize) -> Self {
        let sealer = |number| SrtpSender::new(PROFILE, &[number as u8; 28]).expect("the length is the profile's");
        let builder = TransportFeedbackBuilder::default();
        Self { sealers: (1..=receivers).map(sealer).collect(), told: 0, now_us: 0, builder }
    }

    /// Of each receiver, that these bursts arrived. Arrivals are as even as the sending was.
    pub(crate) fn seal(&mut self, bursts: u16) -> Vec<(usize, Vec<u8>)> {
        self.builder.begin(self.told);
        for _ in 0..bursts {
            self.now_us += INTERVAL.as_micros() as i64;
            assert!((0..BURST).all(|_| self.builder.add_received(self.now_us)));
        }
        self.told = self.told.wrapping_add(bursts * BURST as u16);
        let mut compound = Vec::new();
        self.builder.write(&mut compound, 1, 1, 0);
        let seal = |(number, sealer): (usize, &mut SrtpSender)| {
            let mut compound = compound.clone();
            compound.resize(compound.len() + sealer.lengths().rtcp_overhead, 0);
            sealer.seal_rtcp(&mut compound).expect("it is whole");
            (number + 1, compound)
        };
        self.sealers.iter_mut().enumerate().map(seal).collect()
    }
}

impl Publisher {
    /// Seals the next burst into `burst`: a key frame every second.
    pub(crate) fn seal(&mut self, burst: &mut [Vec<u8>; BURST]) {
        for (index, packet) in burst.iter_mut().enumerate() {
            let header = RtpHeader {
                marker: index + 1 == BURST,
                payload_type: 96,
                sequence_number: self.sequence_number,
                timestamp: u32::from(self.sequence_number) / BURST as u32 * 1_800,
                ssrc: 10,
            };
            packet.clear();
            packet.extend_from_slice(&header.to_bytes(false));
            let is_key_frame = index == 0 && (self.sequence_number as usize / BURST).is_multiple_of(50);
            match self.video {
                Video::Plain => {
                    let starts = if index == 0 { 0x10 } else { 0 };
                    packet.extend_from_slice(&[starts, if is_key_frame { 0x50 } else { 0x51 }]);
                }
                Video::Layered => packet.extend_from_slice(&self.vp9(index)),
            }
            packet.resize(self.packet_len + self.sealer.lengths().rtp_overhead, 0);
            self.sealer.seal_rtp(packet).expect("every packet is new");
            self.sequence_number = self.sequence_number.wrapping_add(1);
        }
    }

    /// The descriptor of a packet of the burst: picture id, layers and how far back the picture refers.
    fn vp9(&self, index: usize) -> [u8; 6] {
        let picture = self.sequence_number as usize / BURST;
        let ends = LAYER_PACKETS.iter().scan(0, |end, packets| {
            *end += packets;
            Some(*end)
        });
        let (layer, end) = ends.enumerate().find(|(_, end)| index < *end).expect("the burst has no more");
        let is_key = picture.is_multiple_of(50);
        let starts = index + LAYER_PACKETS[layer] == end;
        let flags = 0xb0 | if is_key { 0 } else { 0x40 } | if starts { 0x08 } else { 0 };
        let flags = flags | if index + 1 == end { 0x04 } else { 0 };
        let [high, low] = (picture as u16 | 0x8000).to_be_bytes();
        [flags, high, low, (layer as u8) << 1 | u8::from(layer > 0), 2, 0]
    }
}
