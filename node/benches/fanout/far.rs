//! Who joins over a path of 50 ms there and back: how long it takes by UDP, and by TCP.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::media::{Source, VideoSource};
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::{User, UserConfig};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use crate::Options;
use crate::report::median;
use crate::server::{Server, free_udp};

/// From one end to the other.
const ONE_WAY: Duration = Duration::from_millis(25);

/// Joins of each way for each run.
const JOINS_PER_RUN: usize = 8;

const VIDEO_BITRATE: u32 = 500_000;

/// Until a picture has come.
const SEEN_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks for it.
const LOOK_EVERY: Duration = Duration::from_millis(1);

pub(crate) async fn run(options: Options) {
    println!("far: joins over a path of {:?} there and back", 2 * ONE_WAY);
    let (tcp, udp) = one_port().await;
    let announced = udp.local_addr().expect("it is bound");
    let server = Server::start("bench", free_udp(), &["--media-announced".to_owned(), announced.to_string()]).await;
    let signalling = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let url = format!("ws://{}", signalling.local_addr().expect("it is bound"));
    tokio::spawn(delay_connections(signalling, server.users()));
    tokio::spawn(delay_connections(tcp, server.media()));
    tokio::spawn(delay_datagrams(udp, server.media()));
    let driver = Driver::new(DriverConfig::default());
    let transport = TransportConfig::new(Certificate::generate().expect("a certificate"));
    let config = |peer: &str, seed| UserConfig::new(&url, "room", peer, transport.clone(), seed);
    let publisher = User::join(&driver, config("publisher", 1)).await.expect("joining");
    publisher.produce(Source::Video(VideoSource::at_bitrate(VIDEO_BITRATE))).await.expect("producing");
    let mut times = [const { (Vec::new(), Vec::new()) }; 2];
    for number in 0..options.runs * JOINS_PER_RUN {
        for (tcp, (connected, seen)) in [false, true].into_iter().zip(&mut times) {
            let peer = format!("viewer-{number}-{tcp}");
            let times = join(&driver, UserConfig { tcp, produce: false, ..config(&peer, number as u64) }).await;
            connected.push(times.0.as_secs_f64() * 1e3);
            seen.push(times.1.as_secs_f64() * 1e3);
        }
    }
    for (name, (connected, seen)) in ["UDP", "TCP"].into_iter().zip(&times) {
        println!("  {name}: connected after {:.0} ms, first picture after {:.0} ms", median(connected), median(seen));
    }
    let [(by_udp, seen_by_udp), (by_tcp, seen_by_tcp)] = &times;
    println!(
        "  TCP takes {:.2} of UDP's time to be connected, {:.2} to the first picture ({} joins each)",
        median(by_tcp) / median(by_udp),
        median(seen_by_tcp) / median(seen_by_udp),
        by_tcp.len(),
    );
}

/// How long it takes until a user's transport is connected, and until it has a picture.
async fn join(driver: &Driver, config: UserConfig) -> (Duration, Duration) {
    let began = Instant::now();
    let user = User::join(driver, config).await.expect("joining");
    let connected = user.connected().await.expect("a connected transport").connected;
    let room = user.wait(SEEN_WITHIN, "video", |room| room.consumer("publisher", Kind::Video).is_some()).await;
    let consumer = room.expect("there is a publisher").consumer("publisher", Kind::Video).expect("it is there").clone();
    while user.consumer_stats(&consumer.id).await.expect("a driver").is_none_or(|stats| stats.frames == 0) {
        assert!(began.elapsed() < SEEN_WITHIN, "no picture comes");
        sleep(LOOK_EVERY).await;
    }
    let seen = began.elapsed();
    user.leave().await;
    (connected, seen)
}

/// A port of both TCP and UDP.
async fn one_port() -> (TcpListener, UdpSocket) {
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().expect("it is bound")).await {
            return (tcp, udp);
        }
    }
}

/// The kernel's own handshake takes no time here: what comes first has waited for one that takes a round trip.
async fn delay_connections(listener: TcpListener, server: SocketAddr) {
    while let Ok((near, _)) = listener.accept().await {
        let open = Instant::now() + 2 * ONE_WAY;
        let Ok(far) = TcpStream::connect(server).await else { continue };
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        tokio::spawn(delay_bytes(from_near, to_far, open));
        tokio::spawn(delay_bytes(from_far, to_near, open));
    }
}

async fn delay_bytes(
    mut from: impl AsyncRead + Send + Unpin + 'static,
    mut to: impl AsyncWrite + Send + Unpin + 'static,
    open: Instant,
) {
    let (sender, mut under_way) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    tokio::spawn(async move {
        while let Some((at, bytes)) = under_way.recv().await {
            sleep_until(at).await;
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    });
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        let arrives = Instant::now().max(open) + ONE_WAY;
        if sender.send((arrives, buffer[..len].to_vec())).is_err() {
            return;
        }
    }
}

/// Each user has a socket of its own towards the server, as by a NAT.
async fn delay_datagrams(near: UdpSocket, server: SocketAddr) {
    let near = Arc::new(near);
    let (mut users, mut buffer) = (HashMap::new(), vec![0; 2048]);
    while let Ok((len, user)) = near.recv_from(&mut buffer).await {
        let far = match users.get(&user) {
            Some(far) => Arc::clone(far),
            None => {
                let far = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port"));
                far.connect(server).await.expect("a usable socket");
                tokio::spawn(bring_back(far.clone(), near.clone(), user));
                users.insert(user, far.clone());
                far
            }
        };
        let datagram = buffer[..len].to_vec();
        tokio::spawn(async move {
            sleep(ONE_WAY).await;
            let _ = far.send(&datagram).await;
        });
    }
}

async fn bring_back(far: Arc<UdpSocket>, near: Arc<UdpSocket>, user: SocketAddr) {
    let mut buffer = vec![0; 2048];
    while let Ok(len) = far.recv(&mut buffer).await {
        let (near, datagram) = (near.clone(), buffer[..len].to_vec());
        tokio::spawn(async move {
            sleep(ONE_WAY).await;
            let _ = near.send_to(&datagram, user).await;
        });
    }
}
