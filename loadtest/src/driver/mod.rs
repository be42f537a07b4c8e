//! Sockets and the clock: drives sessions over UDP or TCP, many of them on one thread, and watches how well it keeps
//! up.
//!
//! Towards a server on loopback all users of a thread share one socket, each with an address of its own out of 127/8;
//! towards any other server each transport has its own socket, since a server tells clients apart by address.

mod collected;
mod hub;
mod path;
mod socket;
mod stream;
mod usage;

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use self::hub::{Command, HubHandle, LaneId, NewLane, NewLink};
use self::path::UserPath;
pub(crate) use self::socket::RECEIVE_BUFFER;
use self::socket::UserSocket;
use self::stream::UserStream;
use crate::clock::Clock;
use crate::session::Session;
use crate::transport::{Protocol, RemoteParameters, SrtpProfile, TransportConfig, TransportError, TransportState};

pub use self::collected::{Collected, Traffic};
pub use self::path::{PathConfig, PathHandle};
pub use self::usage::process_time;

/// How sockets are used.
#[derive(Debug, Clone, Copy)]
pub struct DriverConfig {
    /// Threads that sockets and sessions live on; users are spread over them.
    pub threads: usize,
    /// Lets the kernel hand over several datagrams in one piece (UDP_GRO).
    pub receive_offload: bool,
    /// Sleeps this long after each round of work, so that more is done per waking. Delays are measured that much too
    /// long.
    pub coalesce: Duration,
    /// Nanoseconds that this machine's clock is ahead of those of other generators whose users are received; `None`:
    /// delays of their packets are not told.
    pub clock_ahead_ns: Option<i64>,
}

impl Default for DriverConfig {
    /// One thread that wakes for each packet, and takes them as the kernel has them.
    fn default() -> Self {
        Self { threads: 1, receive_offload: true, coalesce: Duration::ZERO, clock_ahead_ns: None }
    }
}

/// Which way a datagram goes, seen from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the server.
    In,
    /// To the server.
    Out,
}

/// Decides which datagrams of a lane pass: for tests of loss, of silence, and for looking at what goes by.
pub type Filter = Box<dyn FnMut(Direction, &[u8]) -> bool + Send>;

/// Whose session it is, and how it reaches its server.
#[derive(Debug, Clone, Default)]
pub struct LaneConfig {
    /// Everything random about the session and its path.
    pub seed: u64,
    /// Under which [`Collected::tallies`] counts it.
    pub group: usize,
    /// What lies between the user and the server; `None`: nothing.
    pub path: Option<PathHandle>,
}

/// Why a session could not be driven.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A socket or its thread could not be had.
    #[error("socket: {0}{hint}", hint = limit_hint(.0))]
    Socket(#[from] io::Error),
    /// What is lost and delayed on an impaired path are datagrams.
    #[error("a path over TCP cannot be impaired")]
    PathOverTcp,
    /// All loopback addresses of the thread have been used.
    #[error("there is no loopback address left: each transport takes one, once")]
    NoAddress,
    /// The transport refused its parameters.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The thread that owned the socket ended.
    #[error("the socket is gone")]
    Gone,
    /// The transport did not come up.
    #[error("the transport is {0:?}")]
    NotConnected(TransportState),
}

/// Which of the system's limits is to be raised, where an error tells of one.
pub(crate) fn limit_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EMFILE) => "; raise the limit of open files (ulimit -n), every connection needs one",
        Some(libc::ENFILE) => "; raise the system's limit of open files (fs.file-max)",
        Some(libc::EADDRNOTAVAIL | libc::EADDRINUSE) => "; widen the range of ports (net.ipv4.ip_local_port_range)",
        Some(libc::ENOBUFS | libc::ENOMEM) => "; the system has no memory left for sockets (net.ipv4.udp_mem)",
        _ => "",
    }
}

/// Opens sessions. Clones share threads and sockets.
#[derive(Clone)]
pub struct Driver {
    config: DriverConfig,
    clock: Clock,
    hubs: Arc<Mutex<Hubs>>,
}

/// The threads, started at their first use.
struct Hubs {
    threads: Vec<Option<Arc<HubHandle>>>,
    /// Sessions opened so far: the next goes to the next thread.
    opened: usize,
}

impl Driver {
    /// A driver that has opened nothing yet.
    pub fn new(config: DriverConfig) -> Self {
        let threads = vec![None; config.threads.max(1)];
        Self {
            config,
            clock: Clock::system().ahead_of_others(config.clock_ahead_ns),
            hubs: Arc::new(Mutex::new(Hubs { threads, opened: 0 })),
        }
    }

    /// The clock that stamps what the sessions send.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Opens a transport to a server and drives it until the lane is dropped.
    ///
    /// # Errors
    /// [`DriverError`] when there is no socket to be had or the parameters do not do.
    pub async fn open(
        &self,
        transport: &TransportConfig,
        remote: RemoteParameters,
        lane: LaneConfig,
    ) -> Result<Lane, DriverError> {
        let LaneConfig { seed, group, path } = lane;
        let hub = self.next_hub()?;
        let link = match (remote.protocol, remote.candidate.ip()) {
            (Protocol::Tcp, _) if path.is_some() => return Err(DriverError::PathOverTcp),
            (Protocol::Tcp, _) => NewLink::Stream(UserStream::connect(remote.candidate)?),
            (Protocol::Udp, IpAddr::V4(address)) if address.is_loopback() => NewLink::Shared,
            (Protocol::Udp, address) => NewLink::Own(UserSocket::bind(address, self.config.receive_offload)?),
        };
        let path = path.map(|path| UserPath::new(&path, seed));
        let (clock, transport) = (self.clock, transport.clone());
        let (states, state) = watch::channel(TransportState::Connecting);
        let (reply, id) = oneshot::channel();
        hub.send(Command::Add(Box::new(NewLane { clock, transport, remote, seed, link, group, path, states, reply })))?;
        let id = id.await.map_err(|_| DriverError::Gone)??;
        Ok(Lane { hub, id, state })
    }

    /// What happened in all lanes since the last call, and how well the driver kept up. Lanes are asked a few at a
    /// time, so that nobody's packets wait for it.
    pub async fn collect(&self) -> Collected {
        let hubs: Vec<_> = self.lock().threads.iter().flatten().cloned().collect();
        let mut replies = Vec::new();
        for hub in hubs {
            let (reply, answer) = oneshot::channel();
            // A thread that ended has nothing to tell, and its lanes say so themselves.
            if hub.send(Command::Collect(reply)).is_ok() {
                replies.push(answer);
            }
        }
        let mut all = Collected::default();
        for reply in replies {
            if let Ok(collected) = reply.await {
                all.merge(&collected);
            }
        }
        all
    }

    fn next_hub(&self) -> Result<Arc<HubHandle>, DriverError> {
        let mut hubs = self.lock();
        let index = hubs.opened % hubs.threads.len();
        hubs.opened += 1;
        match &mut hubs.threads[index] {
            Some(hub) => Ok(hub.clone()),
            unused => Ok(unused.insert(Arc::new(HubHandle::start(index, &self.config)?)).clone()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Hubs> {
        self.hubs.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// A session in the hands of a driver; dropping it closes the transport.
pub struct Lane {
    hub: Arc<HubHandle>,
    id: LaneId,
    state: watch::Receiver<TransportState>,
}

impl Lane {
    /// Runs `action` where the session lives, and sends what comes of it.
    ///
    /// # Errors
    /// [`DriverError::Gone`] when the socket's thread ended.
    pub async fn with<R: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Session, Instant) -> R + Send + 'static,
    ) -> Result<R, DriverError> {
        let (reply, result) = oneshot::channel();
        let action = Box::new(move |session: &mut Session, now| {
            let _ = reply.send(action(session, now));
        });
        self.hub.send(Command::With(self.id, action))?;
        result.await.map_err(|_| DriverError::Gone)
    }

    /// The transport's state, and its changes.
    pub fn state(&self) -> watch::Receiver<TransportState> {
        self.state.clone()
    }

    /// Waits until media can flow.
    ///
    /// # Errors
    /// [`DriverError::NotConnected`] with the state at the end of the time, or the final one.
    pub async fn connected(&self, within: Duration) -> Result<SrtpProfile, DriverError> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| *state != TransportState::Connecting);
        match tokio::time::timeout(within, settled).await {
            Ok(Ok(state)) => match &*state {
                TransportState::Connected(profile) => Ok(*profile),
                other => Err(DriverError::NotConnected(other.clone())),
            },
            Ok(Err(_)) => Err(DriverError::Gone),
            Err(_) => Err(DriverError::NotConnected(TransportState::Connecting)),
        }
    }

    /// Sends any bytes from the session's address.
    pub fn send_raw(&self, datagram: Vec<u8>) {
        let _ = self.hub.send(Command::Raw(self.id, datagram));
    }

    /// Lets only pass what the filter says; `None` lets everything pass.
    pub fn set_filter(&self, filter: Option<Filter>) {
        let _ = self.hub.send(Command::SetFilter(self.id, filter));
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        let _ = self.hub.send(Command::Remove(self.id));
    }
}

#[allow(clippy::disallowed_methods, reason = "the driver is where time comes from")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_which_limit_to_raise() {
        let message = |code| DriverError::from(io::Error::from_raw_os_error(code)).to_string();
        assert!(message(libc::EMFILE).contains("ulimit -n"), "{}", message(libc::EMFILE));
        assert!(message(libc::EADDRNOTAVAIL).contains("ip_local_port_range"), "{}", message(libc::EADDRNOTAVAIL));
        assert!(message(libc::EACCES).ends_with("(os error 13)"), "{}", message(libc::EACCES));
    }
}
