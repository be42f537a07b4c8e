//! The same users by other ways than UDP: what a packet costs the node then.

#[path = "../../tests/turn/client.rs"]
#[allow(dead_code, reason = "what tests need of it")]
mod client;

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sluice_loadtest::driver::{Driver, DriverConfig};
use sluice_loadtest::signalling::trust_anyone;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_loadtest::user::{User, UserConfig};
use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};

use self::client::{Client, Credentials};
use crate::Options;
use crate::load::Load;
use crate::meeting::Meeting;
use crate::report::Rates;
use crate::server::{Server, free_udp};

/// Between two looks of who receives.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// What a session may have.
const ALLOCATIONS: usize = 8;

/// By which datagrams travel.
const CHANNEL: u16 = 0x4000;

/// Datagrams of one user that wait for its TURN client.
const WAITING: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Udp,
    Tcp,
    Turn,
}

impl Way {
    const ALL: [(Self, &'static str); 3] = [(Self::Udp, "UDP"), (Self::Tcp, "TCP"), (Self::Turn, "TURN over TLS")];
}

pub(crate) async fn run(options: Options) {
    let load = Load { rooms: 1, ..options.load };
    println!("ways of {load}");
    let mut rates = Rates::default();
    for _ in 0..options.runs {
        for (way, name) in Way::ALL {
            rates.add(name, measure(way, load, options).await);
        }
    }
    rates.print();
}

/// Packets out per second of a node's processor time.
async fn measure(way: Way, load: Load, options: Options) -> f64 {
    let directory = tempfile::tempdir().expect("a directory");
    let mut arguments = tls_arguments(&directory);
    let announced = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    if way == Way::Turn {
        let announced = announced.local_addr().expect("it is bound");
        arguments.extend(["--media-announced".to_owned(), announced.to_string()]);
    }
    let server = Server::start("bench", free_udp(), &arguments).await;
    let config = DriverConfig { receive_offload: options.gro, coalesce: LOOK_EVERY, ..DriverConfig::default() };
    let (driver, tls) = (Driver::new(config), trust_anyone().expect("a configuration"));
    let url = format!("wss://{}", server.users());
    let with = |user: UserConfig| UserConfig { url: url.clone(), tls: Some(tls.clone()), tcp: way == Way::Tcp, ..user };
    let users = load.subscribers + 2 * load.publishers;
    let _detour = match way {
        Way::Turn => Some(Detour::start(announced, &server, sessions(&driver, &with, users).await, tls.clone())),
        Way::Udp | Way::Tcp => None,
    };
    let meeting = Meeting::join(&driver, &server, load, with).await;
    meeting.settled(load).await;
    meeting.rate(&server, options.window).await
}

/// The users' port speaks TLS whichever way media go.
fn tls_arguments(directory: &tempfile::TempDir) -> Vec<String> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let file = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let certificate = file("users.pem", made.cert.pem());
    let key = file("users.key", made.signing_key.serialize_pem());
    ["--users-tls-cert".to_owned(), certificate, "--users-tls-key".to_owned(), key].into()
}

/// Enough sessions for the allocations of all users.
async fn sessions(driver: &Driver, with: impl Fn(UserConfig) -> UserConfig, users: usize) -> Vec<(User, Credentials)> {
    let transport = TransportConfig::new(Certificate::generate().expect("a certificate"));
    let mut sessions = Vec::new();
    for number in 0..users.div_ceil(ALLOCATIONS) {
        let mut config = UserConfig::new("", "turn", &format!("peer-{number}"), transport.clone(), number as u64);
        (config.produce, config.consume) = (false, false);
        let user = User::join(driver, with(config)).await.expect("joining");
        let credentials = Credentials::of(&user).await;
        sessions.push((user, credentials));
    }
    sessions
}

/// A thread with a TURN client for each address that sends to a socket.
struct Detour {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    /// Allocations last as long as they do.
    _sessions: Vec<User>,
}

impl Detour {
    fn start(
        socket: std::net::UdpSocket,
        server: &Server,
        sessions: Vec<(User, Credentials)>,
        tls: Arc<ClientConfig>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (sessions, credentials): (Vec<_>, Vec<_>) = sessions.into_iter().unzip();
        let server = server.users();
        let thread = thread::spawn(move || {
            // As all receivers of the benchmark it sleeps between two looks.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .on_thread_park(|| thread::sleep(LOOK_EVERY))
                .build()
                .expect("a runtime");
            runtime.block_on(async {
                tokio::select! {
                    () = relay(socket, server, credentials, tls) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { stop: Some(stop), thread: Some(thread), _sessions: sessions }
    }
}

impl Drop for Detour {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the detour does not panic");
        }
    }
}

async fn relay(socket: std::net::UdpSocket, server: SocketAddr, credentials: Vec<Credentials>, tls: Arc<ClientConfig>) {
    socket.set_nonblocking(true).expect("a usable socket");
    let socket = Arc::new(UdpSocket::from_std(socket).expect("a usable socket"));
    let mut places = credentials.iter().flat_map(|credentials| std::iter::repeat_n(credentials, ALLOCATIONS));
    let (mut clients, mut datagram) = (HashMap::<SocketAddr, mpsc::Sender<Vec<u8>>>::new(), vec![0; 2048]);
    loop {
        let Ok((len, source)) = socket.recv_from(&mut datagram).await else { continue };
        let client = clients.entry(source).or_insert_with(|| {
            let (sender, datagrams) = mpsc::channel(WAITING);
            let credentials = places.next().expect("a place for each user").clone();
            tokio::spawn(go_round(server, credentials, tls.clone(), (socket.clone(), source), datagrams));
            sender
        });
        let _ = client.try_send(datagram[..len].to_vec());
    }
}

/// One user's datagrams, both ways.
async fn go_round(
    server: SocketAddr,
    credentials: Credentials,
    tls: Arc<ClientConfig>,
    (socket, user): (Arc<UdpSocket>, SocketAddr),
    mut datagrams: mpsc::Receiver<Vec<u8>>,
) {
    let mut tls = Arc::unwrap_or_clone(tls);
    tls.alpn_protocols = vec![b"stun.turn".to_vec()];
    let stream = TcpStream::connect(server).await.expect("a connection");
    stream.set_nodelay(true).expect("a usable socket");
    let name = ServerName::from(server.ip());
    let stream = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, stream).await.expect("TLS");
    let mut client = Client::new(stream, credentials);
    client.allocate().await.expect("an allocation");
    client.bind(CHANNEL, socket.local_addr().expect("it is bound")).await.expect("a channel");
    loop {
        tokio::select! {
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => client.send(CHANNEL, &datagram).await,
                None => return,
            },
            datagram = client.recv() => match datagram {
                Ok(datagram) => drop(socket.send_to(&datagram, user).await),
                Err(_) => return,
            },
        }
    }
}
