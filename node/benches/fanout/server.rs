//! `sluice node` as a process of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// From the start of the process to the answer that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// A running node; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    users: SocketAddr,
    admin: SocketAddr,
    media: SocketAddr,
}

impl Server {
    /// Starts a node with one worker and waits until it is ready. `arguments` are added to its command line.
    pub(crate) async fn start(id: &str, mesh: SocketAddr, arguments: &[String]) -> Self {
        let ([users, admin, grpc], media) = (free_tcp(), free_udp());
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(["node", "--workers", "1", "--telemetry-level", "warn", "--id", id]);
        command.args(["--users-listen", &users.to_string(), "--admin-listen", &admin.to_string()]);
        command.args(["--grpc-listen", &grpc.to_string(), "--media-listen", &media.to_string()]);
        command.args(["--mesh-listen", &mesh.to_string()]).args(arguments).stdin(Stdio::null());
        let server = Self { child: command.spawn().expect("the sluice binary starts"), users, admin, media };
        server.wait_until_ready().await;
        server
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where users connect.
    pub(crate) fn url(&self) -> String {
        format!("ws://{}", self.users)
    }

    /// The port of the same.
    pub(crate) fn users(&self) -> SocketAddr {
        self.users
    }

    /// Where their media come.
    pub(crate) fn media(&self) -> SocketAddr {
        self.media
    }

    async fn wait_until_ready(&self) {
        let start = Instant::now();
        while !self.is_ready().await {
            assert!(start.elapsed() < READY_WITHIN, "the node is not ready after {READY_WITHIN:?}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn is_ready(&self) -> bool {
        get(self.admin, "/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// What it tells of itself.
    pub(crate) async fn metrics(&self) -> String {
        get(self.admin, "/metrics").await.expect("a node that answers")
    }

    /// How many peers have joined its rooms.
    pub(crate) async fn peers(&self) -> u64 {
        let metrics = self.metrics().await;
        let peers = metrics.lines().find_map(|line| line.strip_prefix("sluice_peers ")?.parse().ok());
        peers.expect("the node counts its peers")
    }
}

/// The answer, header included; `None` if there is no connection.
async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    stream.write_all(request.as_bytes()).await.ok()?;
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// TCP ports that were free a moment ago, each another one.
fn free_tcp<const PORTS: usize>() -> [SocketAddr; PORTS] {
    let listeners = [(); PORTS].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound"))
}

/// A UDP port that was free a moment ago.
pub(crate) fn free_udp() -> SocketAddr {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a free port")
}
