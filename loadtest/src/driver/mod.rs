//! Sockets and the clock: drives sessions over UDP, many of them in one task.
//!
//! Towards a server on loopback all users share one socket, each with an address of its own out of 127/8; towards any
//! other server each transport has its own socket, since a server tells clients apart by address. Run in a
//! current-thread runtime, all users of a process live in one thread.

mod hub;
mod socket;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use self::hub::{Command, Hub, LaneId};
pub(crate) use self::socket::RECEIVE_BUFFER;
use crate::clock::Clock;
use crate::session::Session;
use crate::transport::{RemoteParameters, SrtpProfile, TransportConfig, TransportError, TransportState};

/// How sockets are used.
#[derive(Debug, Clone, Copy, Default)]
pub struct DriverConfig {
    /// Lets the kernel hand over several datagrams in one piece (UDP_GRO).
    pub receive_offload: bool,
    /// Sleeps this long after each round of work, so that more is done per waking. Delays are measured that much too long.
    pub coalesce: Duration,
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

/// Why a session could not be driven.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A socket could not be had.
    #[error("socket: {0}")]
    Socket(#[from] io::Error),
    /// The transport refused its parameters.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The task that owned the socket ended.
    #[error("the socket is gone")]
    Gone,
    /// The transport did not come up.
    #[error("the transport is {0:?}")]
    NotConnected(TransportState),
}

/// Opens sessions. Clones share sockets.
#[derive(Clone)]
pub struct Driver {
    config: DriverConfig,
    clock: Clock,
    shared: Arc<Mutex<Option<mpsc::UnboundedSender<Command>>>>,
}

impl Driver {
    /// A driver whose tasks run on the runtime that it is used in.
    pub fn new(config: DriverConfig) -> Self {
        Self { config, clock: Clock::system(), shared: Arc::default() }
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
        config: &TransportConfig,
        remote: RemoteParameters,
        seed: u64,
    ) -> Result<Lane, DriverError> {
        let hub = self.hub_for(remote.candidate.ip())?;
        let session = Session::new(now(), self.clock, config, remote, seed)?;
        let (states, state) = watch::channel(TransportState::Connecting);
        let (reply, id) = oneshot::channel();
        hub.send(Command::Add(Box::new(session), states, reply)).map_err(|_| DriverError::Gone)?;
        let id = id.await.map_err(|_| DriverError::Gone)?;
        Ok(Lane { hub, id, state })
    }

    fn hub_for(&self, remote: IpAddr) -> Result<mpsc::UnboundedSender<Command>, DriverError> {
        if !matches!(remote, IpAddr::V4(address) if address.is_loopback()) {
            return Ok(Hub::spawn(remote, false, &self.config)?);
        }
        let mut shared = self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match shared.as_ref().filter(|hub| !hub.is_closed()) {
            Some(hub) => Ok(hub.clone()),
            None => {
                let hub = Hub::spawn(Ipv4Addr::LOCALHOST.into(), true, &self.config)?;
                Ok(shared.insert(hub).clone())
            }
        }
    }
}

/// A session in the hands of a driver; dropping it closes the transport.
pub struct Lane {
    hub: mpsc::UnboundedSender<Command>,
    id: LaneId,
    state: watch::Receiver<TransportState>,
}

impl Lane {
    /// Runs `action` where the session lives, and sends what comes of it.
    ///
    /// # Errors
    /// [`DriverError::Gone`] when the socket's task ended.
    pub async fn with<R: Send + 'static>(
        &self,
        action: impl FnOnce(&mut Session, Instant) -> R + Send + 'static,
    ) -> Result<R, DriverError> {
        let (reply, result) = oneshot::channel();
        let action = Box::new(move |session: &mut Session, now| {
            let _ = reply.send(action(session, now));
        });
        self.hub.send(Command::With(self.id, action)).map_err(|_| DriverError::Gone)?;
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
