//! Who connects to the media port: a connection is read until a connectivity check says which worker it belongs to, and
//! is that worker's from then on. A client that connects anew for one that broke may send media before its check.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use sluice_media::messages::WorkerIndex;
use sluice_media::wire::framing::{MAX_FRAME_LEN, MIN_FRAME_LEN, MalformedFrame};
use sluice_media::worker_of_check;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::WorkerHandle;
use super::connections::NewConnection;
use crate::address_limits::{AddressLimits, Held};
use crate::listener::{Listener, Place, PortCounters, count};
use crate::rewound::Rewound;

/// Connections that no transport has authenticated yet: some ten thousand clients that connect within a second are that
/// many at a time, a round trip each.
pub(super) const MAX_NEWCOMERS: usize = 1_024;

/// Time for the first check. Clients check as soon as they are connected, and else every 2.5 s.
const FIRST_CHECK_TIME: Duration = Duration::from_secs(5);

/// Bytes before it, which are dropped: a second of 2 Mbit/s.
const MAX_SKIPPED_BYTES: usize = 256 << 10;

/// A connection's place among those that are nobody's yet, in all and of its address.
#[derive(Debug)]
pub(crate) struct Newcomer {
    _permit: OwnedSemaphorePermit,
    _of_address: Held,
}

impl Newcomer {
    pub(super) fn new(permit: OwnedSemaphorePermit, of_address: Held) -> Self {
        Self { _permit: permit, _of_address: of_address }
    }
}

/// Takes connections that media come by. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Intake {
    shared: Arc<Shared>,
}

struct Shared {
    places: Arc<Semaphore>,
    newcomers: Arc<Semaphore>,
    limits: Arc<AddressLimits>,
    workers: Vec<WorkerHandle>,
    counters: Arc<PortCounters>,
}

impl Intake {
    /// Takes up to so many connections.
    pub(crate) fn new(max_connections: usize, limits: Arc<AddressLimits>, workers: Vec<WorkerHandle>) -> Self {
        let shared = Shared {
            places: Arc::new(Semaphore::new(max_connections)),
            newcomers: Arc::new(Semaphore::new(MAX_NEWCOMERS)),
            limits,
            workers,
            counters: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// What happened.
    pub(crate) fn counters(&self) -> &Arc<PortCounters> {
        &self.shared.counters
    }

    /// Takes a connection, if there is a place for it now: until it is a worker's, or has failed.
    pub(crate) fn take(
        &self,
        stream: Rewound<TcpStream>,
        remote: SocketAddr,
    ) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        let places = shared.admit(remote);
        async move {
            match places {
                Some(places) => shared.hand_over(stream, remote, places).await,
                None => count(&shared.counters.refused),
            }
        }
    }
}

/// The media port as far as it is TCP; dropping it ends it.
pub(crate) struct Acceptor {
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Acceptor {
    /// Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When the listener is unusable.
    pub(crate) fn spawn(listener: std::net::TcpListener, intake: Intake) -> io::Result<Self> {
        let mut listener = Listener::new("media", listener, intake.counters().clone())?;
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        let (end, stopped) = (ended.clone().drop_guard(), stop.clone());
        tokio::spawn(async move {
            let _end = end;
            let accepting = async {
                loop {
                    let (stream, remote) = listener.accept().await;
                    tokio::spawn(stopped.clone().run_until_cancelled_owned(intake.take(stream.into(), remote)));
                }
            };
            stopped.run_until_cancelled(accepting).await;
        });
        Ok(Self { stop, ended })
    }

    /// Waits until nobody is let in any more: before this is dropped, something broke.
    pub(crate) fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        self.ended.clone().cancelled_owned()
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn admit(&self, remote: SocketAddr) -> Option<(Place, Newcomer)> {
        let of_address = self.limits.media_connection(remote.ip())?;
        let newcomer_of_address = self.limits.newcomer(remote.ip())?;
        let permit = self.places.clone().try_acquire_owned().ok()?;
        let newcomer = self.newcomers.clone().try_acquire_owned().ok()?;
        count(&self.counters.accepted);
        let place = Place::new(&self.counters, permit, Some(of_address));
        Some((place, Newcomer::new(newcomer, newcomer_of_address)))
    }

    async fn hand_over(
        &self,
        mut stream: Rewound<TcpStream>,
        remote: SocketAddr,
        (place, newcomer): (Place, Newcomer),
    ) {
        let first = timeout(FIRST_CHECK_TIME, read_first_check(&mut stream)).await;
        let first = first.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let found = first.and_then(|(first, worker)| {
            let worker = self.workers.get(usize::from(worker.0));
            let worker = worker.ok_or_else(|| io::Error::other("the check names no worker of here"))?;
            Ok((NewConnection { stream: stream.into_rest().into_std()?, remote, first, place, newcomer }, worker))
        });
        match found {
            Ok((connection, worker)) => {
                if !worker.connect(connection) {
                    count(&self.counters.refused);
                }
            }
            Err(error) => {
                count(&self.counters.failed);
                tracing::debug!(%remote, %error, "a connection to the media port failed");
            }
        }
    }
}

/// And nothing behind it.
async fn read_first_check(stream: &mut Rewound<TcpStream>) -> io::Result<(Vec<u8>, WorkerIndex)> {
    let mut skipped = 0;
    while skipped <= MAX_SKIPPED_BYTES {
        let len = usize::from(stream.read_u16().await?);
        if !(MIN_FRAME_LEN..=MAX_FRAME_LEN).contains(&len) {
            return Err(io::Error::other(MalformedFrame(len)));
        }
        let mut frame = vec![0; len];
        stream.read_exact(&mut frame).await?;
        if let Some(worker) = worker_of_check(&frame) {
            return Ok((frame, worker));
        }
        skipped += len;
    }
    Err(io::Error::other("no check"))
}
