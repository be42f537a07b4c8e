//! What a relay costs and how late it is: datagrams that carry the time of their sending go over loopback, directly and
//! through a relay of 40 ms, in bursts as QUIC sends them.
//!
//! `cargo bench -p sluice-mesh --bench relay`. Late is what a datagram took beyond the path's delay: the sender's and
//! the receiver's calls, loopback and both threads' scheduling included, which the line without a relay shows alone.
//! The relay's processor time is that of its thread, from /proc (Linux).

use std::io::IoSliceMut;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use sluice_mesh::wan::{Wan, WanNode};

const DATAGRAM: usize = 1250;
const RUN: Duration = Duration::from_secs(5);
const DELAY: Duration = Duration::from_millis(40);

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn clock() -> Instant {
    Instant::now()
}

fn main() {
    println!("{:<34} {:>8} {:>9} {:>9} {:>9} {:>14}", "", "lost", "late p50", "late p99", "late max", "relay CPU");
    for (per_second, burst) in [(1_000, 1), (10_000, 1), (10_000, 10), (50_000, 10)] {
        run("loopback", per_second, burst, false);
        run("relay", per_second, burst, true);
    }
}

fn run(name: &str, per_second: u32, burst: u32, relayed: bool) {
    let (from, to) = (Socket::bind(Ipv4Addr::new(127, 0, 0, 2)), Socket::bind(Ipv4Addr::new(127, 0, 0, 3)));
    let (target, delay) = (to.addr(), if relayed { DELAY } else { Duration::ZERO });
    let wan = relayed.then(|| relay(from.addr(), target));
    let (to_relay, _wan) = wan.map_or((target, None), |(addr, wan)| (addr, Some(wan)));
    let origin = clock();
    let count = per_second * RUN.as_secs() as u32;
    let receiver = receive(to, origin, delay, count);
    let before = relay_time();
    send(&from, to_relay, origin, count, burst, Duration::from_secs(1) * burst / per_second);
    let mut late = receiver.join().expect("the receiver ends");
    // The relay before may end only now.
    let cpu = relay_time().saturating_sub(before) / count;
    late.sort_unstable();
    let quantile =
        |share: f64| late.get((late.len() as f64 * share) as usize).or(late.last()).copied().unwrap_or_default();
    let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1000.0);
    println!(
        "{:<34} {:>8} {:>9} {:>9} {:>9} {:>14}",
        format!("{name}, {per_second}/s in bursts of {burst}"),
        count as usize - late.len(),
        ms(quantile(0.5)),
        ms(quantile(0.99)),
        ms(quantile(1.0)),
        if relayed { format!("{} ns/packet", cpu.as_nanos()) } else { String::new() },
    );
}

fn relay(from: SocketAddr, target: SocketAddr) -> (SocketAddr, Wan) {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|free| free.local_addr()).expect("a free port");
    let node = |region: &str, mesh| WanNode {
        region: region.to_owned(),
        mesh,
        grpc: free(),
        mesh_announced: free(),
        grpc_announced: free(),
    };
    let nodes = [node("eu", from), node("us", target)];
    let wan = Wan::start(&nodes, 1).expect("relays start");
    wan.set(&"eu>us=40ms".parse().expect("a path")).expect("both are regions");
    (nodes[1].mesh_announced, wan)
}

/// Bursts at regular times.
fn send(from: &Socket, to: SocketAddr, origin: Instant, count: u32, burst: u32, every: Duration) {
    let mut buffer = vec![0; DATAGRAM * burst as usize];
    for n in 0..count / burst {
        let due = origin + every * n;
        std::thread::sleep(due.saturating_duration_since(clock()));
        let sent = clock().duration_since(origin).as_nanos() as u64;
        buffer.chunks_mut(DATAGRAM).for_each(|datagram| datagram[..8].copy_from_slice(&sent.to_be_bytes()));
        let segment_size = (burst > 1).then_some(DATAGRAM);
        let transmit = Transmit { destination: to, ecn: None, contents: &buffer, segment_size, src_ip: None };
        from.state.send(UdpSockRef::from(&from.socket), &transmit).expect("loopback takes it");
    }
}

/// How late each datagram was, until all have come or none comes for a second.
fn receive(to: Socket, origin: Instant, delay: Duration, count: u32) -> JoinHandle<Vec<Duration>> {
    std::thread::spawn(move || {
        to.socket.set_nonblocking(false).expect("a blocking socket");
        to.socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a time-out");
        let mut late = Vec::with_capacity(count as usize);
        let mut buffer = vec![0; 65_535 * BATCH_SIZE];
        while late.len() < count as usize {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let mut pieces: Vec<_> = buffer.chunks_mut(65_535).map(IoSliceMut::new).collect();
            let Ok(received) = to.state.recv(UdpSockRef::from(&to.socket), &mut pieces[..1], &mut metas) else { break };
            let now = clock();
            for (meta, piece) in metas.iter().zip(&pieces).take(received) {
                for datagram in piece[..meta.len].chunks(meta.stride) {
                    let sent = u64::from_be_bytes(datagram[..8].try_into().expect("eight bytes"));
                    late.push((now - origin).saturating_sub(Duration::from_nanos(sent) + delay));
                }
            }
        }
        late
    })
}

struct Socket {
    socket: UdpSocket,
    state: UdpSocketState,
}

impl Socket {
    fn bind(ip: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a socket");
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).expect("a socket");
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), 4 << 20);
        Self { socket, state }
    }

    fn addr(&self) -> SocketAddr {
        self.socket.local_addr().expect("it is bound")
    }
}

/// Processor time of the relays' threads so far.
fn relay_time() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).unwrap_or_default();
    let relays = tasks.filter(|task| read(task.path().join("comm")).trim() == "sluice-wan");
    let nanos = relays.filter_map(|task| read(task.path().join("schedstat")).split(' ').next()?.parse::<u64>().ok());
    Duration::from_nanos(nanos.sum())
}
