//! Clients whose datagrams come by TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering;

use sluice_media::messages::TransportStats;
use sluice_media::wire::framing::{MAX_FRAME_LEN, write_frame};
use socket2::{Domain, Socket, Type};

use super::*;
use crate::address_limits::AddressLimits;
use crate::config::NodeConfig;

struct Server {
    workers: Workers,
    intake: Intake,
    acceptor: Acceptor,
}

impl Server {
    fn new(count: u16) -> Self {
        Self::with(WorkersConfig { audio: AudioLimits { last_n: None, bitrate: u32::MAX }, ..config(count) }, 1_000)
    }

    /// Nobody here is a proxy.
    fn with(config: WorkersConfig, max_connections: usize) -> Self {
        let mut node = NodeConfig::default();
        node.users.proxies.clear();
        let mut workers = spawn_workers(config).unwrap();
        let (listener, limits) = (workers.listener.take().unwrap(), AddressLimits::new(&node));
        let intake = Intake::new(max_connections, limits, workers.handles.clone());
        let acceptor = Acceptor::spawn(listener, intake.clone()).unwrap();
        Self { workers, intake, acceptor }
    }

    fn handle(&self, worker: usize) -> &WorkerHandle {
        &self.workers.handles[worker]
    }

    fn connect(&self) -> Client {
        self.connect_from(Ipv4Addr::LOCALHOST, None)
    }

    fn connect_from(&self, ip: Ipv4Addr, receive_buffer: Option<usize>) -> Client {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        if let Some(bytes) = receive_buffer {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.bind(&SocketAddr::new(IpAddr::V4(ip), 0).into()).unwrap();
        socket.connect(&self.workers.local_addr.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Client(stream)
    }

    /// A client whose check was answered.
    fn checked(&self, ufrag: &str) -> Client {
        let mut client = self.connect();
        client.check(ufrag);
        client
    }

    async fn event(&mut self) -> WorkerEvent {
        tokio::time::timeout(PATIENCE, self.workers.events.recv()).await.unwrap().unwrap().1
    }

    async fn ice_state(&mut self) -> (IceState, Option<TransportAddress>) {
        match self.event().await {
            WorkerEvent::IceStateChanged { state, remote, .. } => (state, remote),
            other => panic!("{other:?}"),
        }
    }

    async fn stats(&self, worker: usize, number: u8) -> TransportStats {
        match self.handle(worker).request(Request::TransportStats { transport: transport(number) }).await {
            Ok(Response::TransportStats(stats)) => *stats,
            other => panic!("{other:?}"),
        }
    }

    fn failed(&self) -> u64 {
        self.intake.counters().failed.load(Ordering::Relaxed)
    }
}

struct Client(TcpStream);

impl Client {
    fn address(&self) -> TransportAddress {
        TransportAddress::Tcp(self.0.local_addr().unwrap())
    }

    fn send(&mut self, datagram: &[u8]) {
        let mut frame = Vec::new();
        write_frame(datagram, &mut frame);
        self.0.write_all(&frame).unwrap();
    }

    /// The next datagram; `None` if the connection was closed.
    fn receive(&mut self) -> Option<Vec<u8>> {
        let mut read = |bytes: &mut [u8]| match self.0.read_exact(bytes) {
            Ok(()) => true,
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => false,
            Err(error) => panic!("{error}"),
        };
        let mut len = [0; 2];
        if !read(&mut len) {
            return None;
        }
        let mut datagram = vec![0; u16::from_be_bytes(len).into()];
        read(&mut datagram).then_some(datagram)
    }

    fn check(&mut self, ufrag: &str) {
        self.send(&check(ufrag));
        self.assert_answered();
    }

    fn assert_answered(&mut self) {
        let mut answer = Message::new();
        answer.raw = self.receive().expect("an answer");
        answer.decode().unwrap();
        assert_eq!(answer.typ, BINDING_SUCCESS);
        MessageIntegrity::check(&mut answer, PASSWORD.as_bytes(), AwsLcRsProvider::new().crypto()).unwrap();
    }

    fn assert_closed(mut self) {
        assert_eq!(self.receive(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_connection_lands_at_the_worker_that_its_check_names_and_ends_with_its_transport() {
    let mut server = Server::new(2);
    for (worker, other) in [(0, 1), (1, 0)] {
        let ufrag = with_transport(server.handle(worker), 1).await;
        let before = snapshot(server.handle(other)).await.datagrams_received;
        let mut client = server.connect();
        let mut frame = Vec::new();
        write_frame(&check(&ufrag), &mut frame);
        for piece in [&frame[..1], &frame[1..30], &frame[30..]] {
            client.0.write_all(piece).unwrap();
        }
        client.assert_answered();
        assert_eq!(server.ice_state().await, (IceState::Connected, Some(client.address())));
        // Media without keys: dropped, but by the worker that the transport lives on, however they are cut.
        let mut frames = Vec::new();
        (0..100).for_each(|len| write_frame(&vec![0x80; 40 + 10 * len], &mut frames));
        frames.chunks(333).for_each(|piece| client.0.write_all(piece).unwrap());
        client.check(&ufrag);
        let known = snapshot(server.handle(worker)).await;
        assert_eq!(dropped(&known, "dtls_not_connected"), 100);
        assert_eq!(snapshot(server.handle(other)).await.datagrams_received, before);
        assert_eq!(server.stats(worker, 1).await.remote_address, Some(client.address()));
        done(server.handle(worker), Request::CloseTransport { transport: transport(1) }).await;
        client.assert_closed();
    }
    server.workers.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn when_a_connection_ends_media_go_by_udp_or_the_client_is_gone_at_once() {
    let mut server = Server::new(1);
    let ufrag = with_transport(server.handle(0), 1).await;
    let client = server.checked(&ufrag);
    assert_eq!(server.ice_state().await, (IceState::Connected, Some(client.address())));
    let by_udp = socket();
    assert_check_is_answered(&by_udp, server.workers.local_addr, &ufrag);
    let mut again = server.checked(&ufrag);
    assert_eq!(server.stats(0, 1).await.remote_address, Some(again.address()), "the last that was nominated");
    drop(client);
    again.check(&ufrag);
    drop(again);
    let udp = TransportAddress::Udp(by_udp.local_addr().unwrap());
    while server.stats(0, 1).await.remote_address != Some(udp) {
        tokio::task::yield_now().await;
    }

    let ufrag = with_transport(server.handle(0), 2).await;
    let client = server.checked(&ufrag);
    assert_eq!(server.ice_state().await.0, IceState::Connected);
    drop(client);
    assert_eq!(server.ice_state().await, (IceState::Disconnected, None));
    server.workers.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_sends_no_check_of_here_is_closed() {
    let server = Server::new(1);
    let ufrag = with_transport(server.handle(0), 1).await;
    let nobodys = check(&make_ufrag(WorkerIndex(7), "test1"));
    for (failed, first) in [&[][..], &[7], &[0x80; MAX_FRAME_LEN + 1], &nobodys].into_iter().enumerate() {
        let mut client = server.connect();
        client.send(first);
        client.assert_closed();
        while server.failed() == failed as u64 {
            tokio::task::yield_now().await;
        }
    }
    let mut chatty = server.connect();
    let frame = [&2_000_u16.to_be_bytes()[..], &[0x80; 2_000]].concat();
    while chatty.0.write_all(&frame).is_ok() {}
    // A client that connects again goes on with media, until its next check.
    let mut again = server.connect();
    (0..10).for_each(|_| again.send(&[0x80; 1_000]));
    again.check(&ufrag);
    // Who knows only the name has the time of a client that knows more; nobody is told anything but that it is wrong.
    let mut guess = server.connect();
    guess.send(&check_with(&ufrag, "a guess"));
    assert!(guess.receive().is_some_and(|answer| answer[..2] == [1, 0x11]), "an error");
    server.checked(&ufrag);
    drop(server.acceptor);
    server.workers.shutdown();
    guess.assert_closed();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn of_those_that_say_nothing_an_address_has_a_few() {
    let server = Server::new(1);
    let ufrag = with_transport(server.handle(0), 1).await;
    let mut silent: Vec<_> = (0..64).map(|_| server.connect()).collect();
    server.connect().assert_closed();
    let mut other = server.connect_from(Ipv4Addr::new(127, 0, 0, 2), None);
    other.check(&ufrag);
    // Who has shown whose it is counts no more among them.
    silent[0].check(&ufrag);
    silent[1].send(&[7; 3]);
    silent.remove(1).assert_closed();
    let mut late = server.checked(&ufrag);
    late.check(&ufrag);
    assert_eq!(server.intake.counters().refused.load(Ordering::Relaxed), 1);
    server.workers.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn more_than_there_may_be_are_closed_and_places_come_back() {
    let mut server = Server::with(config(1), 2);
    let ufrag = with_transport(server.handle(0), 1).await;
    let clients = [server.checked(&ufrag), server.checked(&ufrag)];
    server.connect().assert_closed();
    assert_eq!(server.intake.counters().open.load(Ordering::Relaxed), 2);
    drop(clients);
    assert_eq!(server.ice_state().await.0, IceState::Connected);
    assert_eq!(server.ice_state().await.0, IceState::Disconnected);
    while server.intake.counters().open.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    server.checked(&ufrag);
    server.workers.shutdown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_frame_that_is_no_datagram_ends_its_connection_behind_those_before_it() {
    let server = Server::new(1);
    for (number, bad) in [vec![], vec![0x80; 11], vec![0x80; MAX_FRAME_LEN + 1]].into_iter().enumerate() {
        let ufrag = with_transport(server.handle(0), number as u8).await;
        let mut client = server.checked(&ufrag);
        let mut frames = Vec::new();
        write_frame(&[0x80; 100], &mut frames);
        write_frame(&bad, &mut frames);
        write_frame(&[0x80; 100], &mut frames);
        client.0.write_all(&frames).unwrap();
        client.assert_closed();
        let known = snapshot(server.handle(0)).await;
        let counted = ["frame_malformed", "dtls_not_connected"].map(|label| dropped(&known, label));
        assert_eq!(counted, [number as u64 + 1; 2]);
    }
    server.workers.shutdown();
}

/// Has its keys, and what was said to it over TCP.
struct Listener {
    client: Client,
    receiver: SrtpReceiver,
}

impl Listener {
    async fn new(server: &Server, number: u8, receive_buffer: Option<usize>) -> Self {
        let profile = SrtpProfile::AeadAes128Gcm;
        let ufrag = add_transport(server.handle(0), number, router(1)).await;
        let mut client = server.connect_from(Ipv4Addr::LOCALHOST, receive_buffer);
        client.check(&ufrag);
        let (remote, local) = (vec![number; 28], vec![number + 100; 28]);
        let receiver = SrtpReceiver::new(profile, &local).unwrap();
        let keys = SrtpKeys { profile, remote, local, remote_address: client.address() };
        done(server.handle(0), Request::ConnectWithSrtpKeys { transport: transport(number), keys }).await;
        Self { client, receiver }
    }

    /// The sequence number of the next RTP packet.
    fn receive(&mut self) -> u16 {
        loop {
            let mut datagram = self.client.receive().expect("the connection is open");
            if !matches!(datagram[1], 192..=223) {
                let packet = self.receiver.open_rtp(&mut datagram).unwrap();
                return u16::from_be_bytes(packet[2..4].try_into().unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn who_never_reads_has_a_bounded_queue_and_holds_up_nobody() {
    const PACKETS: u16 = 3_000;
    let server = Server::new(1);
    let worker = server.handle(0);
    let mut alice = Keyed::new(worker, 1).await;
    let mut bob = Listener::new(&server, 2, None).await;
    let mut carol = Listener::new(&server, 3, Some(4_096)).await;
    let producer = ProducerId::from_random_bytes([3; 16]);
    let (kind, mapping) = (MediaKind::Audio, RtpMapping { codecs: vec![(111, 100)], mapped_ssrcs: vec![77] });
    let rtp = opus(111, 7);
    done(worker, Request::Produce { transport: transport(1), producer, kind, rtp, mapping, paused: false }).await;
    for number in [2, 3] {
        let (consumer, rtp) = (ConsumerId::from_random_bytes([number; 16]), opus(100, 90 + u32::from(number)));
        let transport = transport(number);
        let consume = Request::Consume { transport, consumer, producer, kind, rtp, paused: false };
        done(worker, consume).await;
    }
    let mut first = None;
    for number in 0..PACKETS {
        alice.send_long(server.workers.local_addr, number, 1_000);
        let received = bob.receive();
        assert_eq!(received.wrapping_sub(*first.get_or_insert(received)), number);
    }
    let known = snapshot(worker).await;
    let given_up = dropped(&known, "connection_full") + dropped(&known, "connection_late");
    assert!(given_up > 0 && given_up < u64::from(PACKETS), "{given_up} of {PACKETS}");
    // What came through is whole, and in order.
    let first = carol.receive();
    let behind: Vec<u16> = (0..100).map(|_| carol.receive().wrapping_sub(first)).collect();
    assert!(behind.is_sorted() && behind[0] == 1, "{behind:?}");
    server.workers.shutdown();
}
