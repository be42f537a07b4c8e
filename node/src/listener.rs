//! Ports that connections come to: how they are accepted while the system has no files left, how many there are, and
//! what is counted of that.

use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};

use crate::address_limits::Held;

/// Pause after the system refused a connection: asking again at once would burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Between two warnings that the system refuses connections.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// What happened on a port since the start.
#[derive(Debug, Default)]
pub(crate) struct PortCounters {
    /// Connections now.
    pub(crate) open: AtomicU64,
    /// Connections ever.
    pub(crate) accepted: AtomicU64,
    /// Connections that there was no place for, in all or for their address.
    pub(crate) refused: AtomicU64,
    /// Connections that ended with something that is not spoken on the port, or too large, or too slow.
    pub(crate) failed: AtomicU64,
}

/// Counts one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A connection's place among those that a port may have, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    counters: Arc<PortCounters>,
    _permit: OwnedSemaphorePermit,
    _of_address: Option<Held>,
}

impl Place {
    pub(crate) fn new(counters: &Arc<PortCounters>, permit: OwnedSemaphorePermit, of_address: Option<Held>) -> Self {
        count(&counters.open);
        Self { counters: counters.clone(), _permit: permit, _of_address: of_address }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A port that is listened on.
pub(crate) struct Listener {
    /// For the log.
    name: &'static str,
    listener: TcpListener,
    counters: Arc<PortCounters>,
    spare_file: SpareFile,
    warned: Option<Instant>,
}

/// A file that is closed when no other can be opened, so that one connection can be accepted: to close it, which tells
/// the client more than waiting in the kernel's queue does.
struct SpareFile(Option<File>);

impl SpareFile {
    fn open() -> Self {
        Self(File::open("/dev/null").ok())
    }
}

/// Whether the process, or the system, has as many files open as it may. Of anything else (a client that gave up before
/// it was accepted, or a network that is down, see accept(2)) whoever comes next knows nothing.
fn is_out_of_files(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

impl Listener {
    /// Counts those that the system refuses; all others whoever has the listener counts. Must be called on a tokio
    /// runtime.
    ///
    /// # Errors
    /// When the listener is unusable.
    pub(crate) fn new(
        name: &'static str,
        listener: std::net::TcpListener,
        counters: Arc<PortCounters>,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        Ok(Self { name, listener, counters, spare_file: SpareFile::open(), warned: None })
    }

    /// The next connection.
    pub(crate) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => self.accept_failed(&error).await,
            }
        }
    }

    async fn accept_failed(&mut self, error: &std::io::Error) {
        let now = Instant::now();
        if self.warned.is_none_or(|warned| now - warned >= WARN_EVERY) {
            self.warned = Some(now);
            tracing::warn!(port = self.name, %error, "the system refuses connections");
        }
        if is_out_of_files(error)
            && self.spare_file.0.take().is_some()
            && let Ok(Ok(_)) = timeout(ACCEPT_PAUSE, self.listener.accept()).await
        {
            count(&self.counters.refused);
        } else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        if self.spare_file.0.is_none() {
            self.spare_file = SpareFile::open();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use super::*;

    #[test]
    fn nobody_is_closed_for_what_befell_another() {
        let out_of_files = |errno| is_out_of_files(&Error::from_raw_os_error(errno));
        assert_eq!([libc::EMFILE, libc::ENFILE].map(out_of_files), [true; 2]);
        assert_eq!([libc::ECONNABORTED, libc::ENETDOWN, libc::ENOBUFS].map(out_of_files), [false; 3]);
    }
}
