//! Whole workers over real sockets of the loopback.

mod tcp;

use std::net::UdpSocket;
use std::sync::Mutex;

use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_stun::attributes::{ATTR_USE_CANDIDATE, ATTR_USERNAME, RawAttribute};
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, BINDING_SUCCESS, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;
use sluice_media::messages::{
    Account, PipeEnd, Request, RequestError, Response, RouteIn, RtpMapping, SrtpKeys, WorkerSnapshot,
};
use sluice_media::secure::ice::{IceCredentials, IceState};
use sluice_media::secure::srtp::{SrtpProfile, SrtpReceiver, SrtpSender, profile_lengths};
use sluice_media::{DataLimits, TransportAddress, make_ufrag};
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpParameters};
use sluice_proto::pipe::Wanted;

use super::*;

const PASSWORD: &str = "a password of thirty-two letters";

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// How long a test waits for what must come; a loaded machine needs some of it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Keeps the frames that leave the node.
#[derive(Default)]
struct Frames(Mutex<Vec<(LinkKey, Vec<Frame>)>>);

impl FrameOut for Frames {
    fn send_frames(&self, to: LinkKey, frames: &mut Vec<Frame>) {
        self.0.lock().unwrap().push((to, std::mem::take(frames)));
    }

    fn send_feedback(&self, _to: LinkKey, _feedback: RouteFeedback) {}

    fn send_data(&self, _to: LinkKey, _message: DataMessage) {}
}

fn config(count: u16) -> WorkersConfig {
    WorkersConfig {
        media_addr: ANY,
        tcp: true,
        count,
        certificate: DtlsCertificate::generate().unwrap(),
        socket_buffer_bytes: 1 << 20,
        frame_out: Arc::new(Frames::default()),
        audio: AudioLimits::default(),
        data: DataLimits::default(),
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(ANY).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn router(number: u8) -> RouterId {
    RouterId::from_random_bytes([number; 16])
}

fn transport(number: u8) -> TransportId {
    TransportId::from_random_bytes([number; 16])
}

async fn done(handle: &WorkerHandle, request: Request) {
    let response = handle.request(request).await;
    assert!(matches!(response, Ok(Response::Done)), "{response:?}");
}

async fn snapshot(handle: &WorkerHandle) -> WorkerSnapshot {
    match handle.request(Request::Snapshot).await {
        Ok(Response::Snapshot(snapshot)) => *snapshot,
        other => panic!("{other:?}"),
    }
}

fn dropped(snapshot: &WorkerSnapshot, label: &str) -> u64 {
    snapshot.drops.iter().filter(|(name, _)| *name == label).map(|(_, count)| count).sum()
}

/// A router with a transport, whose ufrag names the worker.
async fn with_transport(handle: &WorkerHandle, number: u8) -> String {
    done(handle, Request::CreateRouter { router: router(number), account: Account(0) }).await;
    add_transport(handle, number, router(number)).await
}

/// A transport of a router that there is.
async fn add_transport(handle: &WorkerHandle, number: u8, router: RouterId) -> String {
    let ufrag = make_ufrag(handle.index(), &format!("test{number}"));
    let ice = IceCredentials { ufrag: ufrag.clone(), pwd: PASSWORD.to_owned() };
    done(handle, Request::CreateWebRtcTransport { router, transport: transport(number), ice, data_channels: true })
        .await;
    ufrag
}

/// A connectivity check that nominates, as webrtc-rs writes it.
fn check(ufrag: &str) -> Vec<u8> {
    check_with(ufrag, PASSWORD)
}

fn check_with(ufrag: &str, password: &str) -> Vec<u8> {
    let provider = AwsLcRsProvider::new();
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
    let setters: [Box<dyn Setter + '_>; 6] = [
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId([7; 12])),
        Box::new(TextAttribute::new(ATTR_USERNAME, format!("{ufrag}:client"))),
        Box::new(RawAttribute { typ: ATTR_USE_CANDIDATE, length: 0, value: Vec::new() }),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw
}

fn assert_check_is_answered(client: &UdpSocket, media: SocketAddr, ufrag: &str) {
    client.send_to(&check(ufrag), media).unwrap();
    let mut buffer = [0; 2000];
    let (len, from) = client.recv_from(&mut buffer).unwrap();
    assert_eq!(from, media);
    let mut answer = Message::new();
    answer.raw = buffer[..len].to_vec();
    answer.decode().unwrap();
    assert_eq!(answer.typ, BINDING_SUCCESS);
    MessageIntegrity::check(&mut answer, PASSWORD.as_bytes(), AwsLcRsProvider::new().crypto()).unwrap();
}

#[tokio::test]
async fn a_check_is_answered_and_reported() {
    let mut workers = spawn_workers(config(1)).unwrap();
    let ufrag = with_transport(&workers.handles[0], 1).await;
    let client = socket();
    assert_check_is_answered(&client, workers.local_addr, &ufrag);
    let (worker, event) = tokio::time::timeout(PATIENCE, workers.events.recv()).await.unwrap().unwrap();
    assert_eq!(worker, WorkerIndex(0));
    match event {
        WorkerEvent::IceStateChanged { transport: id, state, remote } => {
            let address = TransportAddress::Udp(client.local_addr().unwrap());
            assert_eq!((id, state, remote), (transport(1), IceState::Connected, Some(address)));
        }
        other => panic!("{other:?}"),
    }
    let snapshot = snapshot(&workers.handles[0]).await;
    assert!(snapshot.cpu_ns > 0);
    assert_eq!((snapshot.datagrams_received, snapshot.datagrams_sent, snapshot.transports), (1, 1, 1));
    workers.shutdown();
}

/// Whether a check was passed on by the first worker to the second, which it must be answered by.
async fn check_is_passed_on(workers: &Workers, client: &UdpSocket, ufrag: &str) -> bool {
    let before = snapshot(&workers.handles[0]).await.datagrams_received;
    assert_check_is_answered(client, workers.local_addr, ufrag);
    // Whoever is asked twice has read what was told to it before it was asked the second time.
    snapshot(&workers.handles[0]).await;
    snapshot(&workers.handles[0]).await.datagrams_received > before
}

/// Media without keys: dropped, but by the worker that the transport lives on.
async fn assert_media_reach_the_second(workers: &Workers, client: &UdpSocket) {
    let strangers = dropped(&snapshot(&workers.handles[1]).await, "dtls_not_connected");
    client.send_to(&[0x80; 40], workers.local_addr).unwrap();
    while dropped(&snapshot(&workers.handles[1]).await, "dtls_not_connected") == strangers {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn whichever_socket_a_client_reaches_and_roams_to_its_worker_gets_the_packets() {
    let workers = spawn_workers(config(2)).unwrap();
    // The kernel spreads clients by their ports; each of 32 reaching the right socket by chance is one in four billion.
    let mut forwarded = 0;
    for number in 0..16 {
        let ufrag = with_transport(&workers.handles[1], number).await;
        // The second address is where the client roams to.
        for client in [socket(), socket()] {
            forwarded += 2 * u64::from(check_is_passed_on(&workers, &client, &ufrag).await);
            assert_media_reach_the_second(&workers, &client).await;
        }
    }
    assert!(forwarded > 0);
    let other = snapshot(&workers.handles[0]).await;
    assert_eq!((other.datagrams_received, other.datagrams_sent), (forwarded, 0), "answers leave by the owner's socket");
    assert_eq!(dropped(&other, "unknown_address"), 0);
}

/// A client that has its keys already.
struct Keyed {
    socket: UdpSocket,
    sender: SrtpSender,
    receiver: SrtpReceiver,
}

impl Keyed {
    async fn new(handle: &WorkerHandle, number: u8) -> Self {
        let profile = SrtpProfile::AeadAes128Gcm;
        with_transport(handle, number).await;
        let socket = socket();
        let (remote, local) = (vec![number; 28], vec![number + 100; 28]);
        let (sender, receiver) =
            (SrtpSender::new(profile, &remote).unwrap(), SrtpReceiver::new(profile, &local).unwrap());
        let keys =
            SrtpKeys { profile, remote, local, remote_address: TransportAddress::Udp(socket.local_addr().unwrap()) };
        done(handle, Request::ConnectWithSrtpKeys { transport: transport(number), keys }).await;
        Self { socket, sender, receiver }
    }

    fn send(&mut self, media: SocketAddr, sequence_number: u16) {
        self.send_long(media, sequence_number, 80);
    }

    fn send_long(&mut self, media: SocketAddr, sequence_number: u16, payload_len: usize) {
        let mut packet = vec![0x80, 111];
        packet.extend(sequence_number.to_be_bytes());
        packet.extend([0, 0, 0, 1, 0, 0, 0, 7]);
        packet.resize(packet.len() + payload_len, 9);
        packet.resize(packet.len() + profile_lengths(SrtpProfile::AeadAes128Gcm).rtp_overhead, 0);
        self.sender.seal_rtp(&mut packet).unwrap();
        self.socket.send_to(&packet, media).unwrap();
    }

    /// The SSRC and payload of the next RTP packet.
    fn receive(&mut self) -> (u32, Vec<u8>) {
        let mut buffer = [0; 2000];
        loop {
            let len = self.socket.recv(&mut buffer).unwrap();
            if !matches!(buffer[1], 192..=223) {
                let packet = self.receiver.open_rtp(&mut buffer[..len]).unwrap();
                return (u32::from_be_bytes(packet[8..12].try_into().unwrap()), packet[packet.len() - 80..].to_vec());
            }
        }
    }
}

fn opus(payload_type: u8, ssrc: u32) -> RtpParameters {
    let codec =
        format!(r#"{{"mimeType": "audio/opus", "payloadType": {payload_type}, "clockRate": 48000, "channels": 2}}"#);
    let rest = format!(
        r#""headerExtensions": [], "encodings": [{{"ssrc": {ssrc}}}], "rtcp": {{"cname": "test", "reducedSize": true}}"#
    );
    serde_json::from_str(&format!(r#"{{"codecs": [{codec}], {rest}}}"#)).unwrap()
}

#[tokio::test]
async fn media_pass_from_one_worker_to_another() {
    let workers = spawn_workers(config(2)).unwrap();
    let (first, second) = (&workers.handles[0], &workers.handles[1]);
    let (mut alice, mut bob) = (Keyed::new(first, 1).await, Keyed::new(second, 2).await);
    let producer = ProducerId::from_random_bytes([3; 16]);
    let (route, epoch) = (RouteId(5), RouteEpoch(1));
    let mapping = RtpMapping { codecs: vec![(111, 100)], mapped_ssrcs: vec![77] };
    let kind = MediaKind::Audio;
    done(
        first,
        Request::Produce { transport: transport(1), producer, kind, rtp: opus(111, 7), mapping, paused: false },
    )
    .await;
    let way = RouteIn { from: PipeEnd::Worker(WorkerIndex(0)), route, epoch };
    let (router, rtp) = (router(2), opus(100, 77));
    let piped = Request::CreatePipeProducer { router, producer, kind, rtp, route: Some(way), paused: false };
    done(second, piped).await;
    let to = PipeEnd::Worker(WorkerIndex(1));
    done(first, Request::CreatePipeConsumer { producer, to, route, epoch, wanted: Wanted::ALL }).await;
    let consumer = ConsumerId::from_random_bytes([4; 16]);
    done(
        second,
        Request::Consume { transport: transport(2), consumer, producer, kind, rtp: opus(100, 99), paused: false },
    )
    .await;

    for sequence_number in 1..=50 {
        alice.send(workers.local_addr, sequence_number);
        assert_eq!(bob.receive(), (99, vec![9; 80]));
    }
    // Alice's port may belong to the other worker's socket, which knows by now whose it is.
    let (sent, received) = (snapshot(first).await, snapshot(second).await);
    assert_eq!((sent.pipe_packets_sent, received.pipe_packets_received), (50, 50));
    assert_eq!(received.rtp_packets_sent, 50);
}

#[tokio::test]
async fn a_worker_that_is_gone_says_so() {
    let workers = spawn_workers(config(1)).unwrap();
    let handle = workers.handles[0].clone();
    let unknown = handle.request(Request::CloseTransport { transport: transport(9) }).await;
    assert!(matches!(unknown, Err(RequestError::TransportNotFound(_))));
    let asked = handle.request(Request::Snapshot);
    workers.shutdown();
    assert!(asked.await.is_ok(), "what was asked before the end is answered");
    assert!(matches!(handle.request(Request::Snapshot).await, Err(RequestError::Unavailable)));
    handle.send(Request::Snapshot);
}

#[test]
fn a_taken_port_is_said_so() {
    let taken = socket();
    let mut config = config(2);
    config.media_addr = taken.local_addr().unwrap();
    let error = spawn_workers(config).err().unwrap();
    assert!(
        error.to_string().starts_with(&format!("cannot bind media port {}", taken.local_addr().unwrap())),
        "{error}"
    );
}

/// 300,000 forged packets from strange addresses would take a while by real sockets: the core's own tests send them.
/// Here it is the driver's turn to survive what is no packet at all.
#[tokio::test]
async fn junk_is_counted_and_survived() {
    let workers = spawn_workers(config(1)).unwrap();
    let client = socket();
    let kinds: [&[u8]; 6] = [&[], &[0], &[20; 13], &[0x80; 12], &[100; 1400], &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]];
    for _ in 0..20 {
        for junk in kinds {
            client.send_to(junk, workers.local_addr).unwrap();
        }
    }
    let ufrag = with_transport(&workers.handles[0], 1).await;
    assert_check_is_answered(&client, workers.local_addr, &ufrag);
    let snapshot = snapshot(&workers.handles[0]).await;
    let drops: u64 = snapshot.drops.iter().map(|(_, count)| count).sum();
    assert_eq!(drops, snapshot.datagrams_received - 1);
    assert!(drops >= 100, "empty datagrams may be passed over, the others are not: {drops}");
}

#[tokio::test]
async fn a_worker_that_panics_is_missed_at_once() {
    let mut workers = spawn_workers(config(2)).unwrap();
    assert_eq!(*workers.ended.borrow(), None);
    workers.handles[1].run(|| panic!("asked for by a test"));
    let answer = workers.handles[1].request(Request::Snapshot).await;
    assert!(matches!(answer, Err(RequestError::Unavailable)), "{answer:?}");
    let ended = tokio::time::timeout(PATIENCE, workers.ended.wait_for(Option::is_some)).await.unwrap();
    assert_eq!(*ended.unwrap(), Some(WorkerIndex(1)));
    snapshot(&workers.handles[0]).await;
    workers.shutdown();
}
