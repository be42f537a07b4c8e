//! A client's connection, over TCP or TLS: one task, which reads the client, the media port, and writes.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use sluice_media::wire::stun::IntegrityKey;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, WriteHalf};
use tokio::time::{Instant, interval};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::Turn;
use super::counters::DropReason;
use super::protocol::{ErrorCode, Family, Framing, Host, Protocol, Step};
use super::relay::Relay;
use crate::support::{count, random_text};

/// Characters of a nonce: 80 bits.
const NONCE_LEN: usize = 16;

/// What waits for a client beside what the kernel holds. What is more is dropped: media that waited for long are of no
/// use, and whoever sends them learns that there is too much of them. This is a quarter of a second of 2 Mbit/s.
const QUEUE_BYTES: usize = 64 * 1024;

/// No answer has more: a client is heard while there is room for another one.
pub(super) const ANSWER_BYTES: usize = 512;

/// What is written at a time: TLS holds no more than this of it.
const WRITE_BYTES: usize = 16 * 1024;

/// What is read at a time.
const READ_BYTES: usize = 16 * 1024;

/// How often it is looked whether the connection has served its time.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Serves a client until it goes, has served its time, or its session or the node ends.
///
/// # Errors
/// In words, if what came was not TURN or the client does nothing.
pub(super) async fn serve(
    turn: &Turn,
    stream: impl AsyncRead + AsyncWrite,
    client: SocketAddr,
    patience: Duration,
    stop: CancellationToken,
) -> Result<(), String> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut connection = Connection {
        turn,
        client,
        protocol: Protocol::new(client, random_text(NONCE_LEN), patience, now()),
        allocated: None,
        unread: BytesMut::with_capacity(READ_BYTES),
        queue: Queue::default(),
    };
    let (mut looks, mut stopped) = (interval(LOOK_EVERY), pin!(stop.cancelled()));
    loop {
        connection.take_messages()?;
        let Connection { allocated, unread, queue, .. } = &mut connection;
        let (relay, session) = allocated.as_mut().map(|Allocated { relay, session }| (&*relay, session)).unzip();
        unread.reserve(READ_BYTES);
        tokio::select! {
            () = &mut stopped => return Ok(()),
            () = or_never(session) => return Ok(()),
            _ = looks.tick() => {
                if connection.protocol.is_over(now()) {
                    return if connection.protocol.is_allocated() { Ok(()) } else { Err("nothing was allocated".to_owned()) };
                }
            }
            read = reader.read_buf(unread), if queue.has_room_for(ANSWER_BYTES) => {
                if read.map_err(|error| error.to_string())? == 0 {
                    return Ok(());
                }
            }
            written = queue.write(&mut writer), if queue.is_waiting() => written.map_err(|error| error.to_string())?,
            () = or_never(relay.map(Relay::readable)) => connection.on_datagrams(),
        }
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn or_never<F: Future>(future: Option<F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// What waits for the client.
#[derive(Default)]
struct Queue {
    bytes: BytesMut,
    /// TLS may hold something yet.
    unflushed: bool,
}

impl Queue {
    fn is_waiting(&self) -> bool {
        self.unflushed || !self.bytes.is_empty()
    }

    fn has_room_for(&self, len: usize) -> bool {
        self.bytes.len() + len <= QUEUE_BYTES
    }

    fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
    }

    /// Puts a peer's datagram behind the others, if the client may have it and there is room.
    fn relay(
        &mut self,
        protocol: &mut Protocol,
        now: std::time::Instant,
        peer: usize,
        datagram: &[u8],
    ) -> Result<(), DropReason> {
        let before = self.bytes.len();
        if !protocol.hear_peer(peer, datagram, now, &mut self.bytes) {
            return Err(DropReason::NoPermission);
        }
        if self.bytes.len() > QUEUE_BYTES {
            self.bytes.truncate(before);
            return Err(DropReason::SlowClient);
        }
        Ok(())
    }

    /// Brings something on its way; cancelled, it has changed nothing or done that.
    async fn write<S: AsyncWrite>(&mut self, writer: &mut WriteHalf<S>) -> io::Result<()> {
        if self.unflushed {
            writer.flush().await?;
            self.unflushed = false;
        } else {
            let written = writer.write(&self.bytes[..self.bytes.len().min(WRITE_BYTES)]).await?;
            self.bytes.advance(written);
            self.unflushed = true;
        }
        Ok(())
    }
}

struct Connection<'a> {
    turn: &'a Turn,
    client: SocketAddr,
    protocol: Protocol,
    allocated: Option<Allocated>,
    unread: BytesMut,
    queue: Queue,
}

struct Allocated {
    relay: Relay,
    /// Ends with the session that allocated.
    session: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Connection<'_> {
    /// Takes the whole messages that there are, while there is room for answers.
    fn take_messages(&mut self) -> Result<(), String> {
        while self.queue.has_room_for(ANSWER_BYTES) {
            let len = match Framing::of(&self.unread) {
                Framing::Message(len) if len <= self.unread.len() => len,
                Framing::Message(_) | Framing::Incomplete => return Ok(()),
                Framing::Garbage => return Err("what came is not TURN".to_owned()),
            };
            let message = self.unread.split_to(len);
            self.on_message(&message);
        }
        Ok(())
    }

    fn on_message(&mut self, message: &[u8]) {
        let Self { turn, client, protocol, allocated, queue, .. } = self;
        let counters = turn.counters();
        let mut allocating = Allocating { turn, client: client.ip(), allocated };
        match protocol.hear_client(message, now(), &mut allocating) {
            Step::Answer(answer) => queue.push(&answer),
            Step::Refuse(code, answer) => {
                queue.push(&answer);
                counters.refused(code).into_iter().for_each(count);
            }
            Step::Relay(peer, part) => {
                let (Some(allocated), Some(datagram)) = (allocated, message.get(part)) else { return };
                match allocated.relay.send(peer, datagram) {
                    true => add(&counters.bytes_from_clients, datagram.len()),
                    false => count(counters.of(DropReason::SlowPeer)),
                }
            }
            Step::Drop(reason) => count(counters.of(reason)),
        }
        if !self.protocol.is_allocated() {
            self.allocated = None;
        }
    }

    /// Takes what has come for the client: what becomes of it is written together.
    fn on_datagrams(&mut self) {
        let Self { turn, protocol, allocated, queue, .. } = self;
        let (counters, now, mut relayed) = (turn.counters(), now(), 0);
        let Some(Allocated { relay, .. }) = allocated else { return };
        relay.receive(|peer, datagram| match queue.relay(protocol, now, peer, datagram) {
            Ok(()) => relayed += datagram.len(),
            Err(reason) => count(counters.of(reason)),
        });
        add(&counters.bytes_to_clients, relayed);
    }
}

fn add(counter: &AtomicU64, len: usize) {
    counter.fetch_add(len as u64, Ordering::Relaxed);
}

/// What the protocol needs of the node.
struct Allocating<'a> {
    turn: &'a Turn,
    client: IpAddr,
    allocated: &'a mut Option<Allocated>,
}

impl Host for Allocating<'_> {
    fn key(&self, username: &str) -> Option<IntegrityKey> {
        self.turn.user(username).map(|user| user.key.clone())
    }

    fn allocate(&mut self, username: &str, family: Family) -> Result<(SocketAddr, Vec<SocketAddr>), ErrorCode> {
        let user = self.turn.user(username).ok_or(ErrorCode::Unauthenticated)?;
        let (relay, relayed, peers) = self.turn.open_relay((&user, self.client), family)?;
        let session = Box::pin(user.ended.clone().cancelled_owned());
        *self.allocated = Some(Allocated { relay, session });
        Ok((relayed, peers))
    }
}
