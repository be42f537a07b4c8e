//! The gRPC port: what connects is a node of the cluster, or is counted and dropped.
//!
//! tonic could do the handshakes itself, but neither bounds nor counts them.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::tls::Tls;
use crate::metrics::{Metrics, Refused};

/// Handshakes at a time. More than a cluster's nodes dial a fresh node at once; what strangers can make it hold is this
/// many times some 40 KiB, for [`HANDSHAKE_TIMEOUT`].
const MAX_HANDSHAKES: usize = 256;

/// Of them from one address (of IPv6: one /64): a stranger with one address keeps nobody else out, and as many nodes as
/// run on one machine come in at once.
const MAX_HANDSHAKES_PER_ADDRESS: usize = 64;

/// Longer than any round trip between nodes takes, with a retransmission.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that the server has not taken over yet; it does so at once.
const ACCEPTED: usize = 16;

/// After a failed accept (file descriptors have run out), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until cancelled. Those with a certificate of the cluster come out of the receiver.
pub(super) fn accept_loop(
    listener: TcpListener,
    tls: watch::Receiver<Tls>,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
) -> mpsc::Receiver<io::Result<TlsStream<TcpStream>>> {
    let (accepted, receiver) = mpsc::channel(ACCEPTED);
    let slots = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let addresses = Arc::new(Addresses::default());
    tokio::spawn(async move {
        loop {
            let connection = tokio::select! {
                () = cancel.cancelled() => return,
                connection = listener.accept() => connection,
            };
            let (stream, from) = match connection {
                Ok(connection) => connection,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let slot = Arc::clone(&slots).try_acquire_owned().ok().zip(addresses.take(from.ip()));
            let Some(slot) = slot else {
                metrics.refuse(Refused::TooManyHandshakes);
                continue;
            };
            // Updates are small and a user waits for them.
            let _ = stream.set_nodelay(true);
            let acceptor = TlsAcceptor::from(Arc::clone(&tls.borrow().server));
            let (accepted, metrics) = (accepted.clone(), Arc::clone(&metrics));
            tokio::spawn(async move {
                match timeout(HANDSHAKE_TIMEOUT, handshake(acceptor, stream)).await {
                    // Fails only when the server has ended.
                    Ok(Ok(Some(stream))) => drop(accepted.send(Ok(stream)).await),
                    Ok(Ok(None)) => {}
                    Ok(Err(error)) => {
                        metrics.refuse(Refused::Handshake);
                        // Counted: strangers write no log.
                        tracing::debug!(%from, %error, "refused a connection to the gRPC port");
                    }
                    Err(_) => metrics.refuse(Refused::HandshakeTimeout),
                }
                drop(slot);
            });
        }
    });
    receiver
}

/// `None` for whoever says nothing and goes: another node looked whether this one is there.
async fn handshake(acceptor: TlsAcceptor, stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
    if stream.peek(&mut [0]).await? == 0 {
        return Ok(None);
    }
    acceptor.accept(stream).await.map(Some)
}

/// Handshakes under way by address.
#[derive(Default)]
struct Addresses(Mutex<HashMap<IpAddr, usize>>);

/// A handshake's place among those of its address.
struct OfAddress {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Addresses {
    fn take(self: &Arc<Self>, from: IpAddr) -> Option<OfAddress> {
        let address = match from.to_canonical() {
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() & !0 << 64).into(),
            addr => addr,
        };
        let mut under_way = self.lock();
        let count = under_way.entry(address).or_default();
        if *count >= MAX_HANDSHAKES_PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(OfAddress { addresses: Arc::clone(self), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.addresses.lock().entry(self.address) {
            match *count.get() {
                1 => drop(count.remove()),
                _ => *count.get_mut() -= 1,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_a_part_of_the_handshakes() {
        let addresses = Arc::new(Addresses::default());
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut held: Vec<_> = std::iter::from_fn(|| addresses.take(ip("2001:db8::1"))).collect();
        assert_eq!(held.len(), MAX_HANDSHAKES_PER_ADDRESS);
        assert!(addresses.take(ip("2001:db8::2")).is_none(), "of the same site");
        assert!(addresses.take(ip("2001:db8:1::1")).is_some() && addresses.take(ip("192.0.2.1")).is_some());
        held.pop();
        assert!(addresses.take(ip("2001:db8::2")).is_some());
        held.clear();
        assert!(addresses.lock().is_empty(), "nothing is kept");
    }
}
