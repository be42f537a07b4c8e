//! What a received video packet costs the generator: processor time of the receiving thread (CLOCK_THREAD_CPUTIME_ID,
//! kernel included) for each packet, side by side in one run.
//!
//! - call: the receive call alone: nothing can cost less.
//! - bare: a batched receive call with the driver's batch size and GRO, AES-128-GCM opened in place; nothing is looked
//!   at.
//! - driver: the whole path of a virtual user: transport, SRTP with its replay window, stream statistics and one-way
//!   delay, receiver reports and consent checks.
//! - sampled: the same with `open_every = 10`.
//! - feedback: like driver, and transport-wide feedback is sent each 100 ms.
//!
//! All of them twice: once with a sleep of a millisecond between two looks at the socket (`coalesce`), so that what is
//! measured is the receive call and the work; once without, where every burst wakes the thread and the wakings cost
//! more than either.
//!
//! The packets are real: 100 users on loopback sockets, each with keys of its own, get a burst of ten packets of 1,220
//! bytes (and a tag of 16) each 20 ms in one GSO send, all of them one after the other as an SFU sends a frame to a
//! room: 50,000 packets/s from a thread that is not measured. The variants take turns, a second each; the medians of
//! all turns are printed, and a turn in which a packet got lost counts for nothing.
//!
//! `cargo bench -p sluice-loadtest --bench receive`
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use common::{BURST, HEADER, Position, Server, TAG, TRANSPORT_CC, VIDEO, connect, received, thread_time, write_packet};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use sluice_loadtest::clock::Clock;
use sluice_loadtest::driver::{Driver, DriverConfig, Lane, LaneConfig};
use sluice_loadtest::transport::{Certificate, TransportConfig};

const USERS: usize = 100;
const BURST_INTERVAL: Duration = Duration::from_millis(20);
const TURNS: usize = 9;
const BURSTS_PER_TURN: usize = 50;
/// As the driver's.
const SLOT: usize = 65_536 + 3 * 64;

fn main() {
    // `cargo test --benches` must not measure.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    for coalesce in [Duration::from_millis(1), Duration::ZERO] {
        println!("coalesce {coalesce:?}");
        measure(coalesce).await;
    }
}

async fn measure(coalesce: Duration) {
    let clock = Clock::system();
    let [mut call, mut bare] = [false, true].map(|opens| Bare::start(coalesce, opens));
    let mut all = Meeting::join(coalesce, 1).await;
    let mut sampled = Meeting::join(coalesce, 10).await;
    let mut costs: [(&str, Vec<f64>); 5] =
        ["call", "bare", "driver", "sampled", "feedback"].map(|name| (name, Vec::new()));
    for _ in 0..TURNS {
        let turns = [call.turn(&clock), bare.turn(&clock), all.turn(&clock).await, sampled.turn(&clock).await, {
            all.set_feedback(Some(TRANSPORT_CC)).await;
            let cost = all.turn(&clock).await;
            all.set_feedback(None).await;
            cost
        }];
        costs.iter_mut().zip(turns).for_each(|((_, costs), cost)| costs.extend(cost));
    }
    println!("  {:<10} {:>8} {:>8} {:>8} {:>6}", "ns/packet", "median", "min", "max", "turns");
    let medians = costs.map(|(name, mut costs)| {
        costs.sort_by(f64::total_cmp);
        let at = |index: usize| costs.get(index).copied().unwrap_or(f64::NAN);
        let median = at(costs.len() / 2);
        println!(
            "  {name:<10} {median:>8.0} {:>8.0} {:>8.0} {:>6}",
            at(0),
            at(costs.len().wrapping_sub(1)),
            costs.len()
        );
        median
    });
    let [_, bare, driver, sampled, feedback] = medians;
    println!("  driver / bare    {:.2}  (target: at most 1.5)", driver / bare);
    println!("  sampled / driver {:.2}  (target: at most 0.5)", sampled / driver);
    println!("  feedback / bare  {:.2}\n", feedback / bare);
}

/// Sends bursts in their rhythm; blocks.
fn pace(mut burst: impl FnMut(usize)) {
    let start = Instant::now();
    for index in 0..BURSTS_PER_TURN {
        thread::sleep((start + BURST_INTERVAL * index as u32).saturating_duration_since(Instant::now()));
        (0..USERS).for_each(&mut burst);
    }
    // What is under way arrives.
    thread::sleep(BURST_INTERVAL);
}

const PACKETS_PER_TURN: u64 = (BURSTS_PER_TURN * USERS * BURST) as u64;

/// Users of the driver, and their server.
struct Meeting {
    server: Server,
    lanes: Vec<Lane>,
}

impl Meeting {
    /// On a thread of their own.
    async fn join(coalesce: Duration, open_every: u32) -> Self {
        let driver = Driver::new(DriverConfig { coalesce, ..DriverConfig::default() });
        let certificate = Certificate::generate().expect("a certificate");
        let server = Server::new(USERS, &certificate);
        let transport = TransportConfig { open_every, ..TransportConfig::new(certificate) };
        let (server, lanes) = connect(&driver, server, &transport, |_| LaneConfig::default()).await;
        Self { server, lanes }
    }

    async fn set_feedback(&self, id: Option<u8>) {
        for lane in &self.lanes {
            lane.with(move |session, _| session.set_transport_cc(id)).await.expect("a running driver");
        }
    }

    /// Nanoseconds for each packet of a turn, if all of them arrived.
    async fn turn(&mut self, clock: &Clock) -> Option<f64> {
        // Consent checks that came while others had their turn.
        self.server.answer();
        let before = self.received().await;
        let cpu = self.thread_time().await;
        let server = &mut self.server;
        pace(|user| server.send_burst(user, clock));
        let cpu = self.thread_time().await - cpu;
        let packets = self.received().await - before;
        self.server.answer();
        (packets == PACKETS_PER_TURN).then(|| cpu.as_nanos() as f64 / packets as f64)
    }

    /// Of the thread that the users live on.
    async fn thread_time(&self) -> Duration {
        self.lanes[0].with(|_, _| thread_time()).await.expect("a running driver")
    }

    async fn received(&self) -> u64 {
        let mut packets = 0;
        for lane in &self.lanes {
            packets += received(lane).await;
        }
        packets
    }
}

/// A sender of packets that a bare receiver opens.
struct Bare {
    socket: UdpSocket,
    state: UdpSocketState,
    keys: Vec<LessSafeKey>,
    port: u16,
    sequence_number: u16,
    received: Arc<AtomicU64>,
    /// Processor time of the receiving thread, in nanoseconds.
    cpu_ns: Arc<AtomicU64>,
}

fn keys() -> Vec<LessSafeKey> {
    let key = |user: usize| UnboundKey::new(&AES_128_GCM, &[user as u8; 16]).expect("a key of the right length");
    (0..USERS).map(|user| LessSafeKey::new(key(user))).collect()
}

fn nonce(sequence_number: [u8; 2]) -> Nonce {
    let mut nonce = [0; 12];
    nonce[10..].copy_from_slice(&sequence_number);
    Nonce::assume_unique_for_key(nonce)
}

impl Bare {
    fn start(coalesce: Duration, opens: bool) -> Self {
        let receiver = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("a usable socket");
        state.set_send_buffer_size(UdpSockRef::from(&socket), 4 * 1024 * 1024).expect("a buffer");
        let port = receiver.local_addr().expect("a bound socket").port();
        let (received, cpu_ns) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counters = (received.clone(), cpu_ns.clone());
        // It ends with the process.
        thread::spawn(move || receive(&receiver, coalesce, opens, &counters.0, &counters.1));
        Self { socket, state, keys: keys(), port, sequence_number: 0, received, cpu_ns }
    }

    fn turn(&mut self, clock: &Clock) -> Option<f64> {
        let before = (self.received.load(Ordering::Acquire), self.cpu_ns.load(Ordering::Acquire));
        pace(|user| self.send_burst(user, clock));
        let packets = self.received.load(Ordering::Acquire) - before.0;
        let cpu = self.cpu_ns.load(Ordering::Acquire) - before.1;
        (packets == PACKETS_PER_TURN).then(|| cpu as f64 / packets as f64)
    }

    fn send_burst(&mut self, user: usize, clock: &Clock) {
        let mut burst = vec![0; BURST * (VIDEO + TAG)];
        for (index, packet) in burst.chunks_exact_mut(VIDEO + TAG).enumerate() {
            let (plain, tag) = packet.split_at_mut(VIDEO);
            let (starts, ends) = (index == 0, index + 1 == BURST);
            write_packet(plain, clock, Position { sequence_number: self.sequence_number, frame: 0, starts, ends });
            let (head, payload) = plain.split_at_mut(HEADER);
            let nonce = nonce(self.sequence_number.to_be_bytes());
            self.keys[user]
                .seal_in_place_scatter(nonce, Aad::from(&*head), payload, &[], tag)
                .expect("sealing does not fail");
            self.sequence_number = self.sequence_number.wrapping_add(1);
        }
        let destination = SocketAddr::from((Ipv4Addr::from([127, 3, 0, user as u8]), self.port));
        let transmit =
            Transmit { destination, ecn: None, contents: &burst, segment_size: Some(VIDEO + TAG), src_ip: None };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit).expect("the kernel has room");
    }
}

fn receive(socket: &UdpSocket, coalesce: Duration, opens: bool, received: &AtomicU64, cpu_ns: &AtomicU64) {
    let state = UdpSocketState::new(UdpSockRef::from(socket)).expect("a usable socket");
    state.set_recv_buffer_size(UdpSockRef::from(socket), 8 * 1024 * 1024).expect("a buffer");
    let keys = keys();
    let mut buffer = vec![0; SLOT * BATCH_SIZE];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    loop {
        let mut ready = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor is passed, and it is open.
        unsafe { libc::poll(&raw mut ready, 1, -1) };
        loop {
            let mut slots = buffer.chunks_mut(SLOT);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(slots.next().expect("a slot for each")));
            let count = match state.recv(UdpSockRef::from(socket), &mut slices, &mut metas) {
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the receiver failed: {error}"),
            };
            let mut packets = 0;
            for (meta, slot) in metas.iter().zip(buffer.chunks_mut(SLOT)).take(count) {
                let Some(std::net::IpAddr::V4(address)) = meta.dst_ip else { panic!("no address") };
                let key = &keys[usize::from(address.octets()[3])];
                for packet in slot[..meta.len].chunks_mut(meta.stride) {
                    packets += 1;
                    if opens {
                        open(key, packet);
                    }
                }
            }
            received.fetch_add(packets, Ordering::Release);
            if count < BATCH_SIZE {
                break;
            }
        }
        cpu_ns.store(thread_time().as_nanos() as u64, Ordering::Release);
        thread::sleep(coalesce);
    }
}

fn open(key: &LessSafeKey, packet: &mut [u8]) {
    let (sealed, tag) = packet.split_at_mut(VIDEO);
    let (head, payload) = sealed.split_at_mut(HEADER);
    let nonce = nonce([head[2], head[3]]);
    key.open_in_place_separate_tag(nonce, Aad::from(&*head), tag, payload).expect("it was sealed so");
}
