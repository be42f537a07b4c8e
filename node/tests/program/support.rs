//! Running the program and talking to it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// Long enough for a loaded machine; what is tested for speed says so itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn sluice(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(args).env_clear().env("NO_COLOR", "1");
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    sluice(args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A running program, killed when the test ends.
pub(crate) struct Process {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
    log: PathBuf,
    _dir: tempfile::TempDir,
}

impl Process {
    pub(crate) fn spawn(args: &[&str]) -> Self {
        Self::start(sluice(args))
    }

    fn start(mut command: Command) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let stderr = std::fs::File::create(&log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output, log, _dir: dir }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of its standard output.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// As when the machine loses power.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    #[track_caller]
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let child = &mut self.child;
        eventually("the program ends", || child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- log of the program\n{}", self.log());
        }
    }
}

/// Asks again and again: other processes cannot be awaited otherwise.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask)
}

#[track_caller]
#[allow(clippy::disallowed_methods, reason = "other processes live by the clock")]
pub(crate) fn within<T>(limit: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A users' port from which on `nodes` nodes find their ports free. Below the range that the system gives to clients.
pub(crate) fn free_base_port(nodes: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 10_003 + (std::process::id() % 150) as u16 * 100;
    loop {
        let base = start + NEXT.fetch_add(1, Ordering::Relaxed) * 10 % 5_000;
        let free = |port: u16| {
            let addr = local(port);
            TcpListener::bind(addr).is_ok() && UdpSocket::bind(addr).is_ok()
        };
        if (0..nodes).all(|node| (base - 3..=base + 3).all(|port| free(port + 100 * node))) {
            return base;
        }
    }
}

pub(crate) fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// An answer to an HTTP request.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        text(&self.body)
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn parse(raw: &[u8]) -> Option<Self> {
        let end = raw.windows(4).position(|window| window == b"\r\n\r\n")?;
        let head = text(&raw[..end]);
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Self { status, head, body: raw[end + 4..].to_vec() })
    }
}

pub(crate) fn get(port: u16, path: &str) -> Answer {
    try_get(port, path, &[]).unwrap_or_else(|| panic!("no answer from port {port} to {path}"))
}

pub(crate) fn get_with(port: u16, path: &str, headers: &[(&str, &str)]) -> Answer {
    try_get(port, path, headers).unwrap_or_else(|| panic!("no answer from port {port} to {path}"))
}

pub(crate) fn try_get(port: u16, path: &str, headers: &[(&str, &str)]) -> Option<Answer> {
    let mut request = format!("GET {path} HTTP/1.1\r\n");
    for (name, value) in [("Host", "localhost"), ("Connection", "close")] {
        if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    Answer::parse(&exchange(port, request.as_bytes()).ok()?)
}

/// Sends bytes, and returns everything that comes back until the other end closes.
pub(crate) fn exchange(port: u16, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(local(port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    // The server may have heard enough before it has heard all.
    let _ = stream.write_all(bytes);
    match stream.read_to_end(&mut answer) {
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(answer),
    }
}

pub(crate) fn is_ready(port: u16) -> bool {
    try_get(port, "/readyz", &[]).is_some_and(|answer| answer.status == 200)
}

/// A node without others, its ports as those of a development mesh, that is ready.
pub(crate) fn lone_node(base_port: u16, more: &[&str]) -> Process {
    lone_node_as(base_port, more, sluice)
}

/// A node that may have so many open files: a soft and a hard limit.
pub(crate) fn lone_node_with_open_files(base_port: u16, soft: u32, hard: u32) -> Process {
    lone_node_as(base_port, &[], |args| {
        let mut command = Command::new("sh");
        let limits = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        command.args(["-c", &limits, env!("CARGO_BIN_EXE_sluice")]).args(args).env("NO_COLOR", "1");
        command
    })
}

fn lone_node_as(base_port: u16, more: &[&str], command: impl FnOnce(&[&str]) -> Command) -> Process {
    let listens = [("users", 3), ("admin", 0), ("media", 4), ("mesh", 5), ("grpc", 6)];
    let listens = listens.map(|(section, offset)| format!("--{section}-listen={}", local(base_port - 3 + offset)));
    let mut args = vec!["node", "--workers", "1"];
    args.extend(listens.iter().map(String::as_str));
    args.extend(more);
    let node = Process::start(command(&args));
    eventually("the node is ready", || is_ready(base_port - 3).then_some(()));
    node
}

/// A development mesh that is ready.
pub(crate) struct Dev {
    pub(crate) process: Process,
    pub(crate) base_port: u16,
}

impl Dev {
    pub(crate) fn start(nodes: u16) -> Self {
        Self::start_with(nodes, &[])
    }

    pub(crate) fn start_with(nodes: u16, more: &[&str]) -> Self {
        let base_port = free_base_port(nodes);
        let (count, port) = (nodes.to_string(), base_port.to_string());
        let args = ["dev", "--nodes", &count, "--workers", "1", "--base-port", &port];
        let process = Process::spawn(&[&args, more].concat());
        let mut dev = Self { process, base_port };
        for node in 0..nodes {
            eventually("the mesh is ready", || {
                if let Some(status) = dev.process.child.try_wait().unwrap() {
                    panic!("ended with {status}: {}", dev.process.log());
                }
                is_ready(dev.users(node)).then_some(())
            });
        }
        dev
    }

    pub(crate) fn users(&self, node: u16) -> u16 {
        self.base_port + 100 * node
    }

    pub(crate) fn admin(&self, node: u16) -> u16 {
        self.users(node) - 3
    }

    pub(crate) fn grpc(&self, node: u16) -> u16 {
        self.users(node) + 3
    }

    pub(crate) fn mesh(&self, node: u16) -> u16 {
        self.users(node) + 2
    }
}
