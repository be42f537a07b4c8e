//! Relays over real sockets: a path for each source, changes while they run, order and completeness of connections.
#![cfg(feature = "relay")]

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use sluice_mesh::wan::{ImpairmentConfig, PathPair, RelayConfig, TcpRelay, UdpRelay, Wan, WanNode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(30);

const NEAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const FAR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const LOCAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

#[allow(clippy::disallowed_methods, reason = "relays live by the clock")]
fn clock() -> Instant {
    Instant::now()
}

fn delay(ms: u64) -> ImpairmentConfig {
    ImpairmentConfig { delay: Duration::from_millis(ms), ..Default::default() }
}

/// A relay to `target` with a path for each of two sources.
fn two_sources(target: SocketAddr) -> (RelayConfig, PathPair, PathPair) {
    let (near, far) = (PathPair::new(delay(0), 1), PathPair::new(delay(30), 2));
    let paths = HashMap::from([(NEAR.into(), near.clone()), (FAR.into(), far.clone())]);
    let otherwise = PathPair::new(delay(0), 3);
    (RelayConfig { listen: LOCAL, target, paths, otherwise }, near, far)
}

/// Sends back all that comes.
async fn udp_echo() -> SocketAddr {
    let socket = UdpSocket::bind(LOCAL).await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2048];
        while let Ok((len, from)) = socket.recv_from(&mut buffer).await {
            socket.send_to(&buffer[..len], from).await.unwrap();
        }
    });
    addr
}

async fn tcp_echo() -> SocketAddr {
    let listener = TcpListener::bind(LOCAL).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    addr
}

async fn ask(socket: &UdpSocket, relay: SocketAddr, question: &[u8]) -> Vec<u8> {
    socket.send_to(question, relay).await.unwrap();
    let mut answer = [0; 2048];
    let (len, from) = timeout(PATIENCE, socket.recv_from(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(from, relay);
    answer[..len].to_vec()
}

async fn connect(source: Ipv4Addr, relay: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((source, 0).into()).unwrap();
    socket.connect(relay).await.unwrap()
}

async fn echoed(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).await.unwrap();
    let mut answer = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(answer, text);
}

#[tokio::test]
async fn datagrams_take_the_path_of_their_source() {
    let (config, near, far) = two_sources(udp_echo().await);
    let relay = UdpRelay::spawn(config).unwrap();
    let at_near = UdpSocket::bind((NEAR, 0)).await.unwrap();
    let at_far = UdpSocket::bind((FAR, 0)).await.unwrap();

    let start = clock();
    assert_eq!(ask(&at_far, relay.local_addr(), b"far").await, b"far");
    assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
    assert_eq!(ask(&at_near, relay.local_addr(), b"near").await, b"near");

    far.forward.cut();
    at_far.send_to(b"lost", relay.local_addr()).await.unwrap();
    assert_eq!(ask(&at_near, relay.local_addr(), b"again").await, b"again");
    far.forward.set_config(delay(1));
    at_far.send_to(b"lost too", relay.local_addr()).await.unwrap();
    assert_eq!(ask(&at_near, relay.local_addr(), b"once more").await, b"once more");
    far.forward.heal();
    assert_eq!(ask(&at_far, relay.local_addr(), b"back").await, b"back");

    assert_eq!(far.forward.config(), delay(1));
    let stats = far.forward.stats();
    assert_eq!((stats.delivered, stats.blackout), (2, 2));
    assert_eq!(far.backward.stats().delivered, 2);
    assert_eq!((near.forward.stats().delivered, near.backward.stats().delivered), (3, 3));
}

#[tokio::test]
async fn bursts_arrive_whole_and_in_order() {
    let relay = {
        let path = PathPair::new(delay(5), 1);
        UdpRelay::spawn(RelayConfig::new(LOCAL, udp_echo().await, path)).unwrap()
    };
    let socket = UdpSocket::bind(LOCAL).await.unwrap();
    let sizes: Vec<usize> = (0..100).map(|n| if n % 7 == 0 { 300 + n } else { 1200 }).collect();
    for (n, &size) in sizes.iter().enumerate() {
        socket.send_to(&vec![n as u8; size], relay.local_addr()).await.unwrap();
    }
    let mut buffer = [0; 2048];
    for (n, &size) in sizes.iter().enumerate() {
        let len = timeout(PATIENCE, socket.recv(&mut buffer)).await.expect("a datagram").unwrap();
        assert_eq!((len, buffer[0]), (size, n as u8));
    }
}

#[tokio::test]
async fn connections_take_the_path_of_their_source() {
    let (config, near, far) = two_sources(tcp_echo().await);
    let relay = TcpRelay::spawn(config).unwrap();
    let start = clock();
    let mut from_far = connect(FAR, relay.local_addr()).await;
    echoed(&mut from_far, b"far").await;
    // A handshake and an exchange.
    assert!(start.elapsed() >= Duration::from_millis(120), "{:?}", start.elapsed());
    let mut from_near = connect(NEAR, relay.local_addr()).await;

    far.backward.cut();
    from_far.write_all(b"held back").await.unwrap();
    // What is new is held back as well.
    let mut late = connect(FAR, relay.local_addr()).await;
    late.write_all(b"late").await.unwrap();
    for _ in 0..10 {
        far.forward.set_config(delay(0));
        echoed(&mut from_near, b"near").await;
    }
    assert_eq!(from_far.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(late.try_read(&mut [0; 1]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    far.backward.heal();
    let mut answer = [0; 9];
    timeout(PATIENCE, from_far.read_exact(&mut answer)).await.expect("an answer").unwrap();
    assert_eq!(&answer, b"held back");
    timeout(PATIENCE, late.read_exact(&mut answer[..4])).await.expect("an answer").unwrap();
    assert_eq!(&answer[..4], b"late");
    assert!(near.forward.stats().delivered >= 11);
}

#[tokio::test]
async fn connections_are_complete_and_end() {
    // What would be lost as datagrams: jitter, loss, a rate with hardly a queue.
    let path = "1ms,jitter=3ms,50%,rate=50Mbps,queue=1ms".parse().unwrap();
    let config = RelayConfig::new(LOCAL, tcp_echo().await, PathPair::new(path, 1));
    let relay = TcpRelay::spawn(config).unwrap();
    let mut stream = TcpStream::connect(relay.local_addr()).await.unwrap();
    let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let (mut read, mut write) = stream.split();
    let write = async {
        write.write_all(&sent).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let (_, read) =
        timeout(PATIENCE, async { tokio::join!(write, read.read_to_end(&mut received)) }).await.expect("all");
    read.unwrap();
    assert!(received == sent, "{} of {} bytes", received.len(), sent.len());
}

#[tokio::test]
async fn an_unreachable_target_closes_the_connection() {
    let nobody = TcpListener::bind(LOCAL).await.unwrap().local_addr().unwrap();
    let relay = TcpRelay::spawn(RelayConfig::new(LOCAL, nobody, PathPair::new(delay(1), 1))).unwrap();
    let mut stream = TcpStream::connect(relay.local_addr()).await.unwrap();
    assert_eq!(timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("an end").unwrap(), 0);
}

#[tokio::test]
async fn a_wan_relays_between_nodes_and_ends_when_dropped() {
    let (near, far) = (UdpSocket::bind((NEAR, 0)).await.unwrap(), UdpSocket::bind((FAR, 0)).await.unwrap());
    let grpc = TcpListener::bind((FAR, 0)).await.unwrap();
    let free = || std::net::TcpListener::bind(LOCAL).unwrap().local_addr().unwrap();
    let node = |socket: &UdpSocket, grpc_port| WanNode {
        ip: socket.local_addr().unwrap().ip(),
        mesh_port: socket.local_addr().unwrap().port(),
        grpc_port,
        mesh_announced: free(),
        grpc_announced: free(),
    };
    let nodes = [node(&near, 1), node(&far, grpc.local_addr().unwrap().port())];
    let wan = Wan::start(&nodes, 1).unwrap();
    wan.path(0, 1).set_config(delay(10));

    near.send_to(b"there", nodes[1].mesh_announced).await.unwrap();
    let mut buffer = [0; 16];
    let (len, relay) = timeout(PATIENCE, far.recv_from(&mut buffer)).await.expect("a datagram").unwrap();
    assert_eq!(&buffer[..len], b"there");
    far.send_to(b"back", relay).await.unwrap();
    let (len, from) = timeout(PATIENCE, near.recv_from(&mut buffer)).await.expect("a datagram").unwrap();
    assert_eq!((&buffer[..len], from), (b"back".as_slice(), nodes[1].mesh_announced));
    let mut stream = connect(NEAR, nodes[1].grpc_announced).await;
    let (mut accepted, _) = timeout(PATIENCE, grpc.accept()).await.expect("a connection").unwrap();
    accepted.write_all(b"hello").await.unwrap();
    timeout(PATIENCE, stream.read_exact(&mut buffer[..5])).await.expect("bytes").unwrap();
    assert_eq!(wan.path(0, 1).stats().delivered, 2, "a datagram and a handshake");
    assert_eq!(wan.path(1, 0).stats().delivered, 3, "a datagram, the handshake's answer, bytes");

    drop(wan);
    let end = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("an end");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}
