//! A media core as pipes see it: it takes commands at once, or has no room for them.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sluice_media::TransportAddress;
use sluice_media::messages::{
    Account, Request, RequestError, RequestId, Response, RtpMapping, SrtpKeys, WorkerCommand, WorkerEvent, WorkerIndex,
    WorkerSnapshot,
};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::secure::ice::IceCredentials;
use sluice_media::secure::srtp::{SrtpProfile, SrtpSender};
use sluice_media::wire::rtp::RtpHeader;
use sluice_media::{AudioLimits, DataLimits, Datagram, Input, Media, MediaConfig, Output, make_ufrag};
use sluice_proto::ids::{ProducerId, RouterId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpParameters};

use crate::ports::{Answer, MediaWorker};

const PROFILE: SrtpProfile = SrtpProfile::AeadAes128Gcm;
const PAYLOAD_TYPE: u8 = 111;
const ROUTED_PAYLOAD_TYPE: u8 = 100;

/// The one router of every core.
pub(super) const ROUTER: RouterId = RouterId::from_bytes([7; 16]);
const TRANSPORT: TransportId = TransportId::from_bytes([8; 16]);

thread_local! {
    /// The cores of this test: they are no thing to be shared between threads.
    static CORES: RefCell<Vec<Core>> = const { RefCell::new(Vec::new()) };
}

struct Core {
    media: Media,
    sealer: SrtpSender,
    outputs: Vec<Output>,
}

/// The way into a core.
pub(super) struct CoreWorker {
    core: usize,
    index: WorkerIndex,
    full: AtomicBool,
}

/// Virtual time as cores have it.
pub(super) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn address() -> TransportAddress {
    TransportAddress::Udp(([10, 0, 0, 1], 1_000).into())
}

pub(super) fn opus(payload_type: u8, ssrc: u32) -> RtpParameters {
    let codec =
        format!(r#"{{"mimeType": "audio/opus", "payloadType": {payload_type}, "clockRate": 48000, "channels": 2}}"#);
    let rest = format!(
        r#""headerExtensions": [], "encodings": [{{"ssrc": {ssrc}}}], "rtcp": {{"cname": "test", "reducedSize": true}}"#
    );
    serde_json::from_str(&format!(r#"{{"codecs": [{codec}], {rest}}}"#)).unwrap()
}

/// What everybody behind the publisher's core is told of a producer.
pub(super) fn routed(ssrc: u32) -> RtpParameters {
    opus(ROUTED_PAYLOAD_TYPE, ssrc)
}

impl CoreWorker {
    /// Begins a new set of cores.
    pub(super) fn forget_all() {
        CORES.with_borrow_mut(Vec::clear);
    }

    /// A core with a router and one user, who publishes.
    pub(super) fn new(index: WorkerIndex, certificate: Arc<DtlsCertificate>) -> Self {
        let media = Media::new(MediaConfig {
            worker: index,
            certificate,
            epoch: (now(), Duration::from_secs(1_700_000_000)),
            seed: 1,
            audio: AudioLimits { bitrate: u32::MAX, ..AudioLimits::default() },
            data: DataLimits::default(),
        });
        let sealer = SrtpSender::new(PROFILE, &[0; 28]).unwrap();
        let core = CORES.with_borrow_mut(|cores| {
            cores.push(Core { media, sealer, outputs: Vec::new() });
            cores.len() - 1
        });
        let worker = Self { core, index, full: AtomicBool::new(false) };
        let ice = IceCredentials { ufrag: make_ufrag(index, "user"), pwd: "p".repeat(24) };
        let keys = SrtpKeys { profile: PROFILE, remote: vec![0; 28], local: vec![1; 28], remote_address: address() };
        for request in [
            Request::CreateRouter { router: ROUTER, account: Account(0) },
            Request::CreateWebRtcTransport { router: ROUTER, transport: TRANSPORT, ice, data_channels: true },
            Request::ConnectWithSrtpKeys { transport: TRANSPORT, keys },
        ] {
            worker.ask(request).unwrap();
        }
        worker
    }

    pub(super) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Relaxed);
    }

    pub(super) fn produce(&self, producer: ProducerId, ssrc: u32) {
        let mapping = RtpMapping { codecs: vec![(PAYLOAD_TYPE, ROUTED_PAYLOAD_TYPE)], mapped_ssrcs: vec![ssrc] };
        let (transport, kind, rtp) = (TRANSPORT, MediaKind::Audio, opus(PAYLOAD_TYPE, ssrc));
        self.ask(Request::Produce { transport, producer, kind, rtp, mapping, paused: false }).unwrap();
    }

    /// The user sends a packet of a producer.
    pub(super) fn publish(&self, ssrc: u32, sequence_number: u16) {
        self.with(|core| {
            let timestamp = u32::from(sequence_number).wrapping_mul(960);
            let header = RtpHeader { marker: false, payload_type: PAYLOAD_TYPE, sequence_number, timestamp, ssrc };
            let mut packet = header.to_bytes(false).to_vec();
            packet.resize(12 + 60 + core.sealer.lengths().rtp_overhead, 9);
            core.sealer.seal_rtp(&mut packet).unwrap();
            let mut batch = [Datagram { source: address(), data: &mut packet }];
            core.media.handle_input(now(), Input::Datagrams(&mut batch));
        });
        self.drain();
    }

    pub(super) fn input(&self, input: Input<'_>) {
        self.with(|core| core.media.handle_input(now(), input));
        self.drain();
    }

    pub(super) fn on_time(&self) {
        let due = self.with(|core| core.media.poll_timeout().is_some_and(|at| at <= now()));
        if due {
            self.input(Input::Timeout);
        }
    }

    /// What has come out since the last call.
    pub(super) fn take_outputs(&self) -> Vec<Output> {
        self.with(|core| std::mem::take(&mut core.outputs))
    }

    /// Packets of a producer that came in here; `None` when it is not here.
    pub(super) fn received(&self, producer: ProducerId) -> Option<u64> {
        match self.ask(Request::ProducerStats { producer }) {
            Ok(Response::ProducerStats(stats)) => Some(stats.iter().map(|stream| stream.packets).sum()),
            _ => None,
        }
    }

    pub(super) fn snapshot(&self) -> WorkerSnapshot {
        match self.ask(Request::Snapshot) {
            Ok(Response::Snapshot(snapshot)) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn ask(&self, request: Request) -> Result<Response, RequestError> {
        let answered = self.with(|core| {
            core.media.handle_input(now(), Input::Command(WorkerCommand::Request { id: RequestId(0), request }));
            let mut answered = None;
            while let Some(output) = core.media.poll_output() {
                match output {
                    Output::Event(WorkerEvent::Response { result, .. }) => answered = Some(result),
                    other => core.outputs.push(other),
                }
            }
            answered
        });
        answered.expect("every request is answered at once")
    }

    fn drain(&self) {
        self.with(|core| {
            while let Some(output) = core.media.poll_output() {
                core.outputs.push(output);
            }
        });
    }

    fn with<T>(&self, act: impl FnOnce(&mut Core) -> T) -> T {
        CORES.with_borrow_mut(|cores| act(&mut cores[self.core]))
    }
}

impl MediaWorker for CoreWorker {
    fn index(&self) -> WorkerIndex {
        self.index
    }

    fn request(&self, request: Request) -> Answer {
        let full = self.full.load(Ordering::Relaxed);
        let result = if full { Err(RequestError::Unavailable) } else { self.ask(request) };
        Box::pin(std::future::ready(result))
    }

    fn send(&self, request: Request) {
        let _ = self.ask(request);
    }

    fn try_send(&self, request: Request) -> Result<(), Box<Request>> {
        if self.full.load(Ordering::Relaxed) {
            return Err(Box::new(request));
        }
        // A command that comes too late is refused, which only the log would tell.
        let _ = self.ask(request);
        Ok(())
    }
}
