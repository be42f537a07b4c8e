//! The least that the fan-out can cost: sealing and sending, nothing else, in the node's rhythm.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};

use crate::Options;
use crate::load::Load;
use crate::report::Rates;
use crate::usage::thread_time;

/// 12 bytes of header, 16 of header extensions (MID, abs-send-time, transport-wide-cc).
const HEADER: usize = 28;
const TAG: usize = 16;

pub(crate) fn run(options: Options, rates: &mut Rates) {
    println!("floor of {}", options.load);
    let sink = Sink::start(options.gro);
    for _ in 0..options.runs {
        rates.add("floor, sendto", paced(options, &sink, false));
        if options.load.burst() > 1 {
            rates.add("floor, GSO", paced(options, &sink, true));
        }
    }
    sink.stop();
}

/// Packets per second of this thread's processor time.
fn paced(Options { load, window, .. }: Options, sink: &Sink, gso: bool) -> f64 {
    let mut sender = Sender::new(load, sink.port, gso);
    let start = Instant::now();
    let received = sink.received.load(Ordering::Relaxed);
    let cpu = thread_time();
    let mut sent = 0_u64;
    let publishers = load.all_publishers() as u32;
    let bursts = (window.as_nanos() / load.interval().as_nanos()) as u32 * publishers;
    for burst in 0..bursts {
        let due = start + load.interval() / publishers * burst;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let room = burst as usize % load.rooms;
        for subscriber in 0..load.subscribers {
            sent += sender.burst(room * load.subscribers + subscriber);
        }
    }
    let cpu = thread_time() - cpu;
    thread::sleep(Duration::from_millis(50));
    let received = sink.received.load(Ordering::Relaxed) - received;
    assert!(received * 1000 >= sent * 999, "the receiver lost {} of {sent} packets", sent - received);
    sent as f64 / cpu.as_secs_f64()
}

struct Sender {
    socket: UdpSocket,
    state: UdpSocketState,
    gso: bool,
    port: u16,
    keys: Vec<LessSafeKey>,
    counter: u64,
    plain: Vec<u8>,
    /// A burst of sealed packets.
    buffer: Vec<u8>,
}

impl Sender {
    fn new(load: Load, port: u16, gso: bool) -> Self {
        let plain = HEADER + load.payload();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("a usable socket");
        state.set_send_buffer_size(UdpSockRef::from(&socket), 4 * 1024 * 1024).expect("a buffer");
        let key = |index: usize| {
            LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &[index as u8; 16]).expect("a key of the right length"))
        };
        Self {
            socket,
            state,
            gso,
            port,
            keys: (0..load.rooms * load.subscribers).map(key).collect(),
            counter: 0,
            plain: (0..plain).map(|index| index as u8).collect(),
            buffer: vec![0; (plain + TAG) * load.burst()],
        }
    }

    /// Seals a burst for one destination and sends it; the number of packets.
    fn burst(&mut self, destination: usize) -> u64 {
        let address = SocketAddr::from((Ipv4Addr::from([127, 2, 0, destination as u8]), self.port));
        let plain = self.plain.len();
        let sealed = plain + TAG;
        for packet in self.buffer.chunks_exact_mut(sealed) {
            packet[..plain].copy_from_slice(&self.plain);
            self.counter += 1;
            let mut nonce = [0; 12];
            nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
            let (head, rest) = packet.split_at_mut(HEADER);
            let (payload, tag) = rest.split_at_mut(plain - HEADER);
            let made = self.keys[destination]
                .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*head), payload)
                .expect("sealing does not fail");
            tag.copy_from_slice(made.as_ref());
        }
        if self.gso {
            let transmit = Transmit {
                destination: address,
                ecn: None,
                contents: &self.buffer,
                segment_size: Some(sealed),
                src_ip: None,
            };
            self.state.try_send(UdpSockRef::from(&self.socket), &transmit).expect("the kernel has room");
        } else {
            for packet in self.buffer.chunks_exact(sealed) {
                self.socket.send_to(packet, address).expect("the kernel has room");
            }
        }
        (self.buffer.len() / sealed) as u64
    }
}

/// A thread that takes in what comes, at all addresses of 127/8, a look each millisecond.
struct Sink {
    port: u16,
    received: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Sink {
    fn start(gro: bool) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("a usable socket");
        state.set_recv_buffer_size(UdpSockRef::from(&socket), 8 * 1024 * 1024).expect("a buffer");
        if !gro {
            disable_gro(&socket);
        }
        let port = socket.local_addr().expect("a bound socket").port();
        let (received, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = thread::spawn({
            let (received, stop) = (received.clone(), stop.clone());
            move || drain(&socket, &state, &received, &stop)
        });
        Self { port, received, stop, thread }
    }

    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the receiving thread ends");
    }
}

fn drain(socket: &UdpSocket, state: &UdpSocketState, received: &AtomicU64, stop: &AtomicBool) {
    let mut buffers = vec![vec![0; 64 * 1500]; BATCH_SIZE];
    let mut metas = [RecvMeta::default(); BATCH_SIZE];
    while !stop.load(Ordering::Relaxed) {
        let mut slices: Vec<IoSliceMut<'_>> = buffers.iter_mut().map(|buffer| IoSliceMut::new(buffer)).collect();
        match state.recv(UdpSockRef::from(socket), &mut slices, &mut metas) {
            Ok(count) => {
                let datagrams = metas[..count].iter().map(|meta| meta.len.div_ceil(meta.stride) as u64);
                received.fetch_add(datagrams.sum(), Ordering::Relaxed);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("the receiver failed: {error}"),
        }
    }
}

fn disable_gro(socket: &UdpSocket) {
    let off: libc::c_int = 0;
    // SAFETY: the descriptor is open, and the value is a C int of the size that is named.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_GRO,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "GRO cannot be turned off");
}
