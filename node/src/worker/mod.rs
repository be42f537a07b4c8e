//! The driver of the media core: one thread a worker, with its socket, its clock and its queues.
//!
//! # Layout
//! - [`WorkerHandle`]: the control plane's way in.
//! - `mailbox`: what reaches a worker from other threads. No locks: bounded lock-free queues and one waker.
//! - `socket`: the shared media port, batched in both directions.
//! - [`Acceptor`]: who connects to the media port, until it is known whose that is.
//! - `connections`: those of one worker.
//! - `driver`: the thread's loop.
//! - `rest`: when it looks less often.
//! - `simulated` (tests): workers that are turned by hand on virtual time.

mod accept;
mod connections;
mod driver;
mod handle;
mod mailbox;
mod rest;
#[cfg(test)]
pub(crate) mod simulated;
mod socket;

#[cfg(test)]
mod tests;

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use rand::RngExt as _;
use sluice_mesh::{DataMessage, Frame, LinkKey};
use sluice_proto::pipe::RouteFeedback;
use tokio::sync::{mpsc, watch};

pub(crate) use self::accept::{Acceptor, Intake};
pub(crate) use self::handle::WorkerHandle;

use sluice_media::messages::{WorkerEvent, WorkerIndex};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::{AudioLimits, DataLimits, MediaConfig};

use self::driver::{Driver, DriverConfig};
use self::mailbox::Mailbox;
use self::socket::MediaSocket;

/// Events of all workers that wait for the control plane: a join makes a handful, so this is hundreds of joins at once.
/// What does not fit waits in the worker.
const EVENT_QUEUE_LEN: usize = 4096;

/// Numbers that are tried where the system chooses the media port's.
const MAX_PORTS_TRIED: usize = 16;

/// The way of frames to other nodes, and of what is said about them. Never blocks; what has no room is dropped and
/// counted there.
pub(crate) trait FrameOut: Send + Sync {
    /// Takes all frames.
    fn send_frames(&self, to: LinkKey, frames: &mut Vec<Frame>);
    /// To the other end of a route.
    fn send_feedback(&self, to: LinkKey, feedback: RouteFeedback);
    /// A message of a data channel.
    fn send_data(&self, to: LinkKey, message: DataMessage);
}

/// How the workers of a node are set up.
#[derive(Clone)]
pub(crate) struct WorkersConfig {
    /// The media port, shared by all workers.
    pub media_addr: SocketAddr,
    /// Whether it is listened on over TCP too.
    pub tcp: bool,
    /// Number of workers, at least 1.
    pub count: u16,
    /// The node's certificate.
    pub certificate: Arc<DtlsCertificate>,
    /// Kernel buffer of a media socket in bytes, each way. The system may grant less.
    pub socket_buffer_bytes: usize,
    /// The way of frames to other nodes.
    pub frame_out: Arc<dyn FrameOut>,
    /// Which audio gets through.
    pub audio: AudioLimits,
    /// What data channels keep to.
    pub data: DataLimits,
}

/// Why workers did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpawnError {
    /// The media port cannot be had.
    #[error("cannot bind media port {addr}: {source}")]
    Bind {
        /// The port.
        addr: SocketAddr,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A thread or its event queue cannot be had.
    #[error("cannot start media worker: {0}")]
    Thread(std::io::Error),
}

/// Starts the workers of a node.
///
/// # Errors
/// [`SpawnError`] if the port is taken or the system refuses a thread.
pub(crate) fn spawn_workers(config: WorkersConfig) -> Result<Workers, SpawnError> {
    let (sockets, listener) = bind(&config).map_err(|source| SpawnError::Bind { addr: config.media_addr, source })?;
    let local_addr = match sockets.first() {
        Some(socket) => socket.local_addr().map_err(SpawnError::Thread)?,
        None => config.media_addr,
    };
    let mut polls = Vec::with_capacity(sockets.len());
    let mut mailboxes = Vec::with_capacity(sockets.len());
    for _ in &sockets {
        let poll = mio::Poll::new().map_err(SpawnError::Thread)?;
        mailboxes.push(Arc::new(Mailbox::new(poll.registry()).map_err(SpawnError::Thread)?));
        polls.push(poll);
    }
    let mailboxes: Arc<[Arc<Mailbox>]> = mailboxes.into();
    let (event_sender, events) = mpsc::channel(EVENT_QUEUE_LEN);
    let (ended_sender, ended) = watch::channel(None);
    let ended_sender = Arc::new(ended_sender);
    let mut threads = Threads { mailboxes: mailboxes.clone(), threads: Vec::with_capacity(sockets.len()) };
    for (index, (socket, poll)) in sockets.into_iter().zip(polls).enumerate() {
        let worker = WorkerIndex(index as u16);
        let driver = DriverConfig {
            worker,
            socket,
            poll,
            mailboxes: mailboxes.clone(),
            events: event_sender.clone(),
            frame_out: config.frame_out.clone(),
        };
        let (certificate, end) = (config.certificate.clone(), End { worker, ended: ended_sender.clone() });
        // The core is made on its thread, which it never leaves.
        let (audio, data) = (config.audio, config.data);
        let work = move || {
            let _end = end;
            if let Err(error) =
                Driver::new(driver, media_config(worker, certificate, (audio, data))).and_then(Driver::run)
            {
                tracing::error!(worker = worker.0, %error, "a media worker failed");
            }
        };
        let name = format!("media-{index}");
        let thread = std::thread::Builder::new().name(name).spawn(work).map_err(SpawnError::Thread)?;
        threads.threads.push(thread);
    }
    let handles = mailboxes
        .iter()
        .enumerate()
        .map(|(index, mailbox)| WorkerHandle::new(WorkerIndex(index as u16), mailbox.clone()));
    Ok(Workers { handles: handles.collect(), events, ended, local_addr, listener, threads })
}

/// Binds the media port. A number that the system chose may be somebody else's over TCP: then it chooses again.
fn bind(config: &WorkersConfig) -> io::Result<(Vec<MediaSocket>, Option<TcpListener>)> {
    let mut tries = if config.media_addr.port() == 0 { MAX_PORTS_TRIED } else { 1 };
    loop {
        let sockets = socket::bind_all(config.media_addr, config.count.max(1), config.socket_buffer_bytes)?;
        if !config.tcp {
            return Ok((sockets, None));
        }
        let bound = sockets.first().map_or(Ok(config.media_addr), MediaSocket::local_addr)?;
        tries -= 1;
        match connections::listen(bound) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && tries > 0 => {}
            listener => return Ok((sockets, Some(listener?))),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the driver gives the core its clocks")]
fn media_config(
    worker: WorkerIndex,
    certificate: Arc<DtlsCertificate>,
    (audio, data): (AudioLimits, DataLimits),
) -> MediaConfig {
    let since_unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    MediaConfig { worker, certificate, epoch: (now(), since_unix), seed: rand::rng().random(), audio, data }
}

/// The time on a worker's thread: tokio's, so that paused time simulates this part too.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// The running workers.
pub(crate) struct Workers {
    /// A handle each, by index.
    pub handles: Vec<WorkerHandle>,
    /// What the workers report; answers to requests are taken out.
    pub events: mpsc::Receiver<(WorkerIndex, WorkerEvent)>,
    /// The last worker whose thread has ended, for whatever reason. While nobody shut them down, that is a loss: what
    /// the worker had is gone, and nothing else tells of it.
    pub ended: watch::Receiver<Option<WorkerIndex>>,
    /// Where the media port was bound.
    pub local_addr: SocketAddr,
    /// The same over TCP, for an [`Acceptor`].
    pub listener: Option<TcpListener>,
    threads: Threads,
}

impl Workers {
    /// Lets the workers finish what was asked of them, ends the threads and waits for them. Blocks for a few
    /// milliseconds. Dropping does the same.
    pub(crate) fn shutdown(self) {
        drop(self.threads);
    }
}

/// Goes with a worker's thread, and tells of its end even if that is a panic.
struct End {
    worker: WorkerIndex,
    ended: Arc<watch::Sender<Option<WorkerIndex>>>,
}

impl Drop for End {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(worker = self.worker.0, "a media worker panicked");
        }
        self.ended.send_replace(Some(self.worker));
    }
}

struct Threads {
    mailboxes: Arc<[Arc<Mailbox>]>,
    threads: Vec<JoinHandle<()>>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.mailboxes.iter().for_each(|mailbox| mailbox.stop());
        for thread in self.threads.drain(..) {
            // One that failed or panicked has said so.
            let _ = thread.join();
        }
    }
}
