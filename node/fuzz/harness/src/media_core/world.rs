//! A core, its users, and the time that it knows.

use std::time::{Duration, Instant};

use sluice_media::drop_reason::DropReason;
use sluice_media::messages::{
    Account, PipeEnd, Request, RequestError, RequestId, Response, RouteIn, RtpMapping, SrtpKeys, WorkerCommand,
    WorkerEvent, WorkerIndex, WorkerSnapshot,
};
use sluice_media::secure::ice::IceCredentials;
use sluice_media::secure::srtp::{SrtpProfile, SrtpReceiver, SrtpSender};
use sluice_media::{
    AudioLimits, DataLimits, Datagram, Input, Media, MediaConfig, Output, TransportAddress, make_ufrag,
};
use sluice_mesh::Frame;
use sluice_proto::ids::{ProducerId, RouteEpoch, RouteId};
use sluice_proto::ortc::{DtlsFingerprint, DtlsParameters, DtlsRole};
use sluice_proto::pipe::{RouteFeedback, Wanted};

use super::cast::{self, CONSUMERS, ENDS, ROUTERS, ROUTES, SSRCS, Stream, USERS};
use super::witness::Witness;
use crate::dtls_ends::{certificate, origin};
use crate::stun::Check;

/// The password of all users.
pub(super) const PASSWORD: &str = "a password of 24 letters";

/// Wake-ups that a core of a few users may want: this many, and two a millisecond.
const WAKE_UPS: u128 = 100;

/// A core with users whose keys are known.
pub(crate) struct World {
    pub(super) now: Instant,
    pub(super) users: [User; USERS],
    /// The SSRC that each consumer had last.
    pub(super) consumers: [u32; CONSUMERS],
    /// The numbers that far ends have reached.
    pub(super) sent_frames: [[u16; ROUTES]; ENDS.len()],
    pub(super) witness: Witness,
    media: Media,
    held: Vec<(TransportAddress, Vec<u8>)>,
    requests: u64,
    response: Option<Result<Response, RequestError>>,
    next_ssrc: u32,
}

/// The client half of a transport.
#[derive(Default)]
pub(super) struct User {
    /// The router that the transport is in.
    router: Option<usize>,
    /// Counts its ICE credentials.
    pub(super) generation: u32,
    pub(super) sealer: Option<SrtpSender>,
    /// What it has sent under each SSRC.
    pub(super) sent: [Sent; SSRCS],
    /// Datagrams as they were sent last.
    pub(super) saved: Vec<Vec<u8>>,
    pub(super) transport_wide_seq: u16,
}

/// What a user has sent under an SSRC.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Sent {
    pub(super) payload_type: u8,
    pub(super) sequence_number: u16,
    pub(super) timestamp: u32,
}

impl World {
    /// An empty core.
    pub(crate) fn new() -> Self {
        let epoch = (origin(), Duration::from_secs(1_700_000_000));
        let media = Media::new(MediaConfig {
            worker: WorkerIndex(0),
            certificate: certificate(),
            epoch,
            seed: 1,
            audio: AudioLimits::default(),
            data: DataLimits::default(),
        });
        Self {
            now: origin(),
            users: Default::default(),
            consumers: [0; CONSUMERS],
            sent_frames: Default::default(),
            witness: Witness::default(),
            media,
            held: Vec::new(),
            requests: 0,
            response: None,
            next_ssrc: 5_000,
        }
    }

    fn input(&mut self, input: Input<'_>) {
        let is_timeout = matches!(input, Input::Timeout);
        self.media.handle_input(self.now, input);
        while let Some(output) = self.media.poll_output() {
            self.witness.see(&output);
            match output {
                Output::Transmit(transmit) => self.media.recycle(transmit.contents),
                Output::Forward { data, .. } => self.media.recycle(data),
                Output::Frames { frames, .. } => self.media.recycle_frames(frames),
                Output::Event(WorkerEvent::Response { id, result }) => {
                    assert!(id == RequestId(self.requests) && self.response.is_none(), "answered twice");
                    self.response = Some(result);
                }
                _ => {}
            }
        }
        if is_timeout {
            assert!(self.media.poll_timeout().is_none_or(|at| at > self.now), "it would be woken for ever");
        }
    }

    /// Gives an input that brings no datagrams.
    pub(super) fn give(&mut self, input: Input<'_>) {
        self.deliver();
        self.witness.begin(Vec::new());
        self.input(input);
    }

    /// The answer to a request.
    pub(crate) fn request(&mut self, request: Request) -> Result<Response, RequestError> {
        self.requests += 1;
        let id = RequestId(self.requests);
        self.give(Input::Command(WorkerCommand::Request { id, request }));
        self.response.take().expect("a request is answered at once")
    }

    /// A datagram that comes together with the next one.
    pub(super) fn hold(&mut self, source: TransportAddress, data: Vec<u8>) {
        self.held.push((source, data));
    }

    /// A datagram, and those that were held.
    pub(crate) fn datagram(&mut self, source: TransportAddress, data: Vec<u8>) {
        self.hold(source, data);
        self.deliver();
    }

    fn deliver(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let mut held = std::mem::take(&mut self.held);
        self.witness.begin(held.clone());
        let datagrams = held.iter_mut().map(|(source, data)| Datagram { source: *source, data });
        self.input(Input::Datagrams(&mut datagrams.collect::<Vec<_>>()));
    }

    pub(super) fn frames(&mut self, from: PipeEnd, mut frames: Vec<Frame>) {
        self.give(Input::Frames { from, frames: &mut frames });
        assert!(frames.is_empty(), "what the core does not want is cleared");
    }

    pub(super) fn feedback(&mut self, from: PipeEnd, feedback: RouteFeedback) {
        self.give(Input::Feedback { from, feedback });
    }

    /// Time passes, with all that becomes due.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.deliver();
        let end = self.now + time;
        let mut wake_ups = 0;
        while let Some(at) = self.media.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.give(Input::Timeout);
            wake_ups += 1;
            assert!(wake_ups <= WAKE_UPS + 2 * time.as_millis(), "{wake_ups} wake-ups in {time:?}");
        }
        self.now = end;
    }

    /// Time passes, but the driver sleeps.
    pub(super) fn sleep(&mut self, time: Duration) {
        self.deliver();
        self.now += time;
        self.give(Input::Timeout);
    }

    /// Ends a run. When all routers are closed nothing is left, and nothing stands in the way of what comes next.
    pub(super) fn finish(&mut self) {
        self.pass(Duration::from_secs(2));
        (0..ROUTERS).for_each(|router| self.close_router(router));
        let snapshot = self.snapshot();
        let reused = snapshot.drops.iter().find(|(reason, _)| *reason == DropReason::SrtpNonceReused.label());
        assert!(reused.is_none_or(|(_, count)| *count == 0), "the core would have used a number twice");
        let left = [snapshot.routers, snapshot.transports, snapshot.producers, snapshot.consumers];
        assert_eq!((left, snapshot.pipe_producers, snapshot.pipe_consumers), ([0; 4], 0, 0));
        let left = [snapshot.data_producers, snapshot.data_consumers, snapshot.pipe_data_producers];
        assert_eq!((left, snapshot.pipe_data_consumers), ([0; 3], 0));
        self.pass(Duration::from_secs(120));
        assert_eq!(self.media.poll_timeout(), None, "somebody who is gone is waited for");
        self.create_router(0);
        let routes = (0..ENDS.len()).flat_map(|end| (0..ROUTES as u32).map(move |route| (end, route, 1)));
        for (number, route) in routes.enumerate() {
            let producer = ProducerId::from_bytes([0x80 + number as u8; 16]);
            let rtp = Stream::Opus.parameters("0", Some(1), false);
            let (router, kind, route) = (cast::router(0), Stream::Opus.kind(), Some(route_in(route)));
            let request = Request::CreatePipeProducer { router, producer, kind, rtp, route, paused: false };
            self.request(request).expect("no route is taken");
        }
    }

    fn snapshot(&mut self) -> WorkerSnapshot {
        match self.request(Request::Snapshot) {
            Ok(Response::Snapshot(snapshot)) => *snapshot,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn create_router(&mut self, router: usize) {
        let _ = self.request(Request::CreateRouter { router: cast::router(router), account: Account(0) });
    }

    pub(super) fn close_router(&mut self, router: usize) {
        if self.request(Request::CloseRouter { router: cast::router(router) }).is_ok() {
            for user in 0..USERS {
                if self.users[user].router == Some(router) {
                    self.forget(user);
                }
            }
        }
    }

    pub(crate) fn create_transport(&mut self, router: usize, user: usize) {
        let ice = credentials(user, self.users[user].generation + 1);
        let (router_id, transport) = (cast::router(router), cast::transport(user));
        let request = Request::CreateWebRtcTransport { router: router_id, transport, ice, data_channels: true };
        if self.request(request).is_ok() {
            let generation = self.users[user].generation + 1;
            self.users[user] = User { router: Some(router), generation, ..User::default() };
        }
    }

    pub(super) fn close_transport(&mut self, user: usize) {
        if self.request(Request::CloseTransport { transport: cast::transport(user) }).is_ok() {
            self.forget(user);
        }
    }

    fn forget(&mut self, user: usize) {
        let generation = self.users[user].generation;
        self.users[user] = User { generation, ..User::default() };
        self.witness.forget_user(user);
    }

    pub(super) fn restart_ice(&mut self, user: usize) {
        let ice = credentials(user, self.users[user].generation + 1);
        if self.request(Request::RestartIce { transport: cast::transport(user), ice }).is_ok() {
            self.users[user].generation += 1;
        }
    }

    /// Gives a user keys, with GCM or without.
    pub(crate) fn connect(&mut self, user: usize, gcm: bool) {
        let (profile, len) = if gcm { (SrtpProfile::AeadAes128Gcm, 28) } else { (SrtpProfile::Aes128CmSha1_80, 30) };
        let (remote, local) = (vec![user as u8; len], vec![user as u8 | 0x80; len]);
        let sealer = SrtpSender::new(profile, &remote).expect("the length is the profile's");
        let opener = SrtpReceiver::new(profile, &local).expect("the length is the profile's");
        let remote_address = cast::address(user);
        let keys = SrtpKeys { profile, remote, local, remote_address };
        // It may tell of the address, and send there, at once.
        self.witness.authenticate(user, remote_address);
        if self.request(Request::ConnectWithSrtpKeys { transport: cast::transport(user), keys }).is_ok() {
            self.users[user].sealer = Some(sealer);
            self.witness.give_keys(user, opener);
        }
    }

    /// A check of a user, from its own address.
    pub(crate) fn check(&mut self, user: usize) {
        let name = format!("{}:client", credentials(user, self.users[user].generation).ufrag);
        self.witness.authenticate(user, cast::address(user));
        self.datagram(cast::address(user), Check::new(&name).sign(PASSWORD));
    }

    pub(super) fn connect_by_dtls(&mut self, user: usize, node_calls: bool) {
        let role = if node_calls { DtlsRole::Server } else { DtlsRole::Client };
        let dtls = DtlsParameters { role, fingerprints: vec![DtlsFingerprint::Sha256 { value: [9; 32] }] };
        let _ = self.request(Request::ConnectWebRtcTransport { transport: cast::transport(user), dtls });
    }

    /// By its SSRC, or by its MID only.
    pub(super) fn produce(&mut self, user: usize, producer: usize, stream: Stream, ssrc: Option<usize>, paused: bool) {
        let (payload_type, kind) = (stream.payload_type(), stream.kind());
        let ssrc = ssrc.map(|ssrc| ssrc * 2 % SSRCS);
        let has_rtx = stream != Stream::Opus;
        let rtp = stream.parameters(&cast::mid(producer), ssrc.map(cast::ssrc), has_rtx);
        let codecs = [payload_type, payload_type + 1].map(|payload_type| (payload_type, payload_type)).into();
        let mapping = RtpMapping { codecs, mapped_ssrcs: vec![cast::mapped_ssrc(producer)] };
        let (transport, id) = (cast::transport(user), cast::producer(producer));
        let request = Request::Produce { transport, producer: id, kind, rtp, mapping, paused };
        if self.request(request).is_ok() {
            let ssrc = ssrc.unwrap_or(2 * producer);
            self.users[user].sent[ssrc].payload_type = payload_type;
            self.users[user].sent[ssrc + 1].payload_type = payload_type + 1;
        }
    }

    pub(super) fn consume(&mut self, user: usize, consumer: usize, producer: usize, stream: Stream, paused: bool) {
        let ssrc = self.next_ssrc;
        self.next_ssrc += 2;
        self.witness.expect_stream(user, ssrc, stream);
        let rtp = stream.parameters("0", Some(ssrc), stream.has_rtx());
        let (transport, producer, kind) = (cast::transport(user), cast::producer(producer), stream.kind());
        let id = cast::consumer(consumer);
        if self.request(Request::Consume { transport, consumer: id, producer, kind, rtp, paused }).is_ok() {
            self.consumers[consumer] = ssrc;
        }
    }

    /// `route`: from which end, and its id and epoch.
    pub(super) fn create_pipe_producer(
        &mut self,
        router: usize,
        producer: usize,
        stream: Stream,
        route: Option<(usize, u32, u8)>,
        paused: bool,
    ) {
        let (kind, has_rtx) = (stream.kind(), stream != Stream::Opus);
        let rtp = stream.parameters("0", Some(cast::mapped_ssrc(producer)), has_rtx);
        let (router, producer, route) = (cast::router(router), cast::producer(producer), route.map(route_in));
        let _ = self.request(Request::CreatePipeProducer { router, producer, kind, rtp, route, paused });
    }

    pub(super) fn move_pipe_producer(&mut self, producer: usize, route: Option<(usize, u32, u8)>) {
        let _ =
            self.request(Request::MovePipeProducer { producer: cast::producer(producer), route: route.map(route_in) });
    }

    pub(super) fn open_route_out(&mut self, producer: usize, end: usize, route: u32, epoch: u8) {
        let (to, route, epoch) = (ENDS[end], RouteId(route), RouteEpoch(epoch));
        let producer = cast::producer(producer);
        self.deliver();
        let former = self.witness.expect_route(to, route, epoch);
        let request = Request::CreatePipeConsumer { producer, to, route, epoch, wanted: Wanted::ALL };
        if self.request(request).is_err() {
            self.witness.restore_route(to, route, former);
        }
    }
}

/// The credentials of a user's transport.
pub(super) fn credentials(user: usize, generation: u32) -> IceCredentials {
    let ufrag = make_ufrag(WorkerIndex(0), &format!("{user}{generation:07}"));
    IceCredentials { ufrag, pwd: PASSWORD.to_owned() }
}

pub(super) fn route_in((end, route, epoch): (usize, u32, u8)) -> RouteIn {
    RouteIn { from: ENDS[end], route: RouteId(route), epoch: RouteEpoch(epoch) }
}
