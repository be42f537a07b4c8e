//! Connections of the media port (RFC 6544), for users whose network lets no UDP out: what comes by them are datagrams,
//! each in a frame, and the core knows no difference but the address.
//!
//! A connection comes with its first check in hand and has [`PROOF_TIME`] until one is valid. From then on it is its
//! transport's, and ends with it. What is sent is written at once; what the kernel does not take waits in a
//! [`SendQueue`].

mod queue;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::event::Event;
use mio::{Interest, Registry, Token};
use slotmap::{Key, KeyData, SlotMap, new_key_type};
use sluice_media::drop_reason::{DropCounters, DropReason};
use sluice_media::wire::framing::{Frames, LENGTH_LEN, MAX_FRAME_LEN, write_frame};
use sluice_media::{Datagram, Transmit, TransportAddress};
use socket2::{SockRef, Type};

use self::queue::SendQueue;
use super::accept::{MAX_NEWCOMERS, Newcomer};
use super::socket::{datagrams, unbound};
use crate::listener::Place;

/// How long a connection may be nobody's: checks are 50 ms apart while a client looks for a path.
const PROOF_TIME: Duration = Duration::from_secs(10);

/// Connections whose time is kept: all that may be nobody's, and as many that are not any more.
const MAX_UNPROVEN: usize = 2 * MAX_NEWCOMERS;

/// How long a client may take nothing of what is sent, as long as its consent lasts.
const SILENCE: Duration = Duration::from_secs(20);

/// What the kernel holds that it has not sent yet: 50 ms of 5 Mbit/s. More is better kept here, where it can be given
/// up.
const MAX_UNSENT_BYTES: u32 = 32 << 10;

/// What the kernel holds of one connection, each way: 200 ms of 10 Mbit/s. It would let megabytes wait otherwise.
const KERNEL_BUFFER_BYTES: usize = 256 << 10;

/// Connections that the system has accepted and nobody has fetched: a second of those that come back after an outage.
const BACKLOG: i32 = 4_096;

/// Bytes that are read of one connection at a time: more than a client sends in 20 ms.
const CHUNK_LEN: usize = 16 << 10;

/// Connections that are read in one turn. Of the shortest frames that are 9,000 datagrams, some milliseconds.
pub(super) const MAX_CHUNKS: usize = 8;

const _: () = assert!(CHUNK_LEN >= 2 * (LENGTH_LEN + MAX_FRAME_LEN), "there is always room behind what is left");

new_key_type! {
    struct ConnectionKey;
}

impl ConnectionKey {
    /// Keys begin at 2^32: no token of anything else is as large.
    fn token(self) -> io::Result<Token> {
        usize::try_from(self.data().as_ffi()).map(Token).map_err(io::Error::other)
    }

    fn of(token: Token) -> Self {
        KeyData::from_ffi(token.0 as u64).into()
    }
}

/// A connection on its way to the worker that its first check names.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) remote: SocketAddr,
    /// The check.
    pub(crate) first: Vec<u8>,
    /// Among those that there may be.
    pub(crate) place: Place,
    /// Among those that are nobody's.
    pub(crate) newcomer: Newcomer,
}

#[derive(Debug)]
struct Connection {
    stream: mio::net::TcpStream,
    remote: SocketAddr,
    /// The beginning of a frame whose end has not come.
    rest: Vec<u8>,
    /// Since when it waits to be read.
    readable_since: Option<Instant>,
    /// The other end sends no more, or something is wrong: it is to be read until that shows.
    ending: bool,
    /// Until a transport has authenticated it.
    newcomer: Option<Newcomer>,
    queue: SendQueue,
    _place: Place,
}

/// Listens on the media port. Connections have its buffers, from their first segments on.
pub(super) fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = unbound(addr, Type::STREAM, KERNEL_BUFFER_BYTES)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The connections of one worker.
pub(super) struct Connections {
    registry: Registry,
    table: Table,
    /// Those that may have something to read.
    readable: VecDeque<ConnectionKey>,
    /// Those that were nobody's when they came, and when that was.
    unproven: VecDeque<(Instant, ConnectionKey)>,
    /// Where to read to. Empty before there was a connection.
    chunks: Vec<u8>,
    /// Where frames are put together.
    frames: Vec<u8>,
    drops: DropCounters,
}

#[derive(Default)]
struct Table {
    connections: SlotMap<ConnectionKey, Connection>,
    /// Clients choose their addresses, so the hash has a key.
    by_remote: HashMap<SocketAddr, ConnectionKey>,
    /// Other ends of those that are over, which the core is to be told.
    ended: VecDeque<SocketAddr>,
}

impl Table {
    fn at(&mut self, remote: SocketAddr) -> Option<(ConnectionKey, &mut Connection)> {
        let key = *self.by_remote.get(&remote)?;
        Some((key, self.connections.get_mut(key)?))
    }

    /// Closes a connection.
    fn remove(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.remove(key) {
            self.by_remote.remove(&connection.remote);
            self.ended.push_back(connection.remote);
        }
    }
}

impl Connections {
    pub(super) fn new(registry: Registry) -> Self {
        Self {
            registry,
            table: Table::default(),
            readable: VecDeque::new(),
            unproven: VecDeque::new(),
            chunks: Vec::new(),
            frames: Vec::new(),
            drops: DropCounters::default(),
        }
    }

    /// Takes a connection in. Whoever had the same address before is gone, or has two ways to this node and needs one.
    pub(super) fn add(&mut self, now: Instant, new: NewConnection) {
        let NewConnection { stream, remote, first, place, newcomer } = new;
        if let Some((former, _)) = self.table.at(remote) {
            self.table.remove(former);
        }
        let mut rest = Vec::with_capacity(LENGTH_LEN + first.len());
        write_frame(&first, &mut rest);
        let key = self.table.connections.insert(Connection {
            stream: mio::net::TcpStream::from_std(stream),
            remote,
            rest,
            readable_since: Some(now),
            ending: false,
            newcomer: Some(newcomer),
            queue: SendQueue::default(),
            _place: place,
        });
        self.table.by_remote.insert(remote, key);
        let Some(connection) = self.table.connections.get_mut(key) else { return };
        if let Err(error) = connection.prepare(&self.registry, key) {
            tracing::debug!(%remote, %error, "a connection is unusable");
            return self.table.remove(key);
        }
        self.readable.push_back(key);
        self.unproven.push_back((now, key));
        if self.unproven.len() > MAX_UNPROVEN {
            let is_nobodys = |key| self.table.connections.get(key).is_some_and(|at| at.newcomer.is_some());
            self.unproven.retain(|(_, key)| is_nobodys(*key));
        }
    }

    /// The system tells something of a connection.
    pub(super) fn ready(&mut self, now: Instant, event: &Event) {
        let key = ConnectionKey::of(event.token());
        let Some(connection) = self.table.connections.get_mut(key) else { return };
        connection.ending |= event.is_read_closed() || event.is_write_closed() || event.is_error();
        if (event.is_readable() || connection.ending) && connection.readable_since.is_none() {
            connection.readable_since = Some(now);
            self.readable.push_back(key);
        }
        if event.is_writable() && connection.flush(now, &mut self.drops).is_err() {
            self.table.remove(key);
        }
    }

    /// Whether there may be something to read.
    pub(super) fn is_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// Reads what there is, of so many connections at most, a chunk of each. The time is how long one of them has
    /// waited for that.
    pub(super) fn receive(&mut self, now: Instant, max_chunks: usize) -> (Vec<Datagram<'_>>, Duration) {
        let Self { table, readable, chunks, drops, .. } = self;
        chunks.resize(MAX_CHUNKS * CHUNK_LEN, 0);
        let (mut datagrams, mut waited) = (Vec::new(), Duration::ZERO);
        let turns = readable.len().min(max_chunks);
        for chunk in chunks.chunks_exact_mut(CHUNK_LEN).take(turns) {
            let Some(key) = readable.pop_front() else { break };
            let Some(connection) = table.connections.get_mut(key) else { continue };
            let since = connection.readable_since.take().unwrap_or(now);
            waited = waited.max(now.saturating_duration_since(since));
            let source = TransportAddress::Tcp(connection.remote);
            let (filled, after) = connection.fill(chunk);
            let mut frames = Frames::new(filled);
            datagrams.extend(frames.by_ref().map(|data| Datagram { source, data }));
            match frames.finish() {
                Ok(rest) => {
                    connection.rest.clear();
                    connection.rest.extend_from_slice(rest);
                }
                Err(malformed) => {
                    tracing::debug!(remote = %connection.remote, %malformed, "a connection is no frames");
                    drops.count(DropReason::FrameMalformed);
                    table.remove(key);
                    continue;
                }
            }
            match after {
                After::Empty => {}
                After::More => {
                    connection.readable_since = Some(now);
                    readable.push_back(key);
                }
                After::Over => table.remove(key),
            }
        }
        (datagrams, waited)
    }

    /// Sends, or lets the frames wait if the kernel takes no more.
    pub(super) fn send(&mut self, now: Instant, transmit: &Transmit) {
        let Some((key, connection)) = self.table.at(transmit.destination.socket_addr()) else {
            return self.drops.count_many(DropReason::ConnectionGone, datagrams(transmit) as u64);
        };
        let mut frames = std::mem::take(&mut self.frames);
        frames.clear();
        let size = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        transmit.contents.chunks(size).for_each(|datagram| write_frame(datagram, &mut frames));
        let written = if connection.queue.is_empty() { write(&mut connection.stream, &frames) } else { Ok(0) };
        match written {
            Ok(written) if written == frames.len() => self.frames = frames,
            Ok(written) => connection.queue.push(now, transmit, (frames, written), &mut self.drops),
            Err(error) => {
                tracing::debug!(remote = %connection.remote, %error, "a connection failed");
                self.drops.count_many(DropReason::ConnectionGone, datagrams(transmit) as u64);
                self.frames = frames;
                self.table.remove(key);
            }
        }
    }

    /// The core has authenticated the other end, or has no use for it any more.
    pub(super) fn set_owned(&mut self, remote: SocketAddr, owned: bool) {
        let Some((key, connection)) = self.table.at(remote) else { return };
        // What is not proven has the address of one that was.
        if owned {
            connection.newcomer = None;
        } else if connection.newcomer.is_none() {
            self.table.remove(key);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.unproven.front().map(|(since, _)| *since + PROOF_TIME)
    }

    /// Closes what is nobody's.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, key)) = self.unproven.pop_front_if(|(since, _)| *since + PROOF_TIME <= now) {
            if self.table.connections.get(key).is_some_and(|connection| connection.newcomer.is_some()) {
                self.table.remove(key);
            }
        }
    }

    /// The other end of one that is over.
    pub(super) fn next_ended(&mut self) -> Option<SocketAddr> {
        self.table.ended.pop_front()
    }

    /// What was not sent, and what was no datagram.
    pub(super) fn drops(&self) -> &DropCounters {
        &self.drops
    }
}

/// What there is to read after a chunk.
enum After {
    /// Nothing, until the system tells.
    Empty,
    /// Perhaps something.
    More,
    /// Never anything.
    Over,
}

impl Connection {
    fn prepare(&mut self, registry: &Registry, key: ConnectionKey) -> io::Result<()> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut self.stream, key.token()?, interest)?;
        let socket = SockRef::from(&self.stream);
        socket.set_tcp_nodelay(true)?;
        // Those that came to the users' port have none yet.
        socket.set_recv_buffer_size(KERNEL_BUFFER_BYTES)?;
        socket.set_send_buffer_size(KERNEL_BUFFER_BYTES)?;
        #[cfg(target_os = "linux")]
        {
            socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
            // Linux counts the time in which a client's window stays shut, too (tcp(7)).
            socket.set_tcp_user_timeout(Some(SILENCE))?;
        }
        Ok(())
    }

    /// Reads behind what was left of the last chunk.
    fn fill<'a>(&mut self, chunk: &'a mut [u8]) -> (&'a mut [u8], After) {
        let mut len = self.rest.len().min(chunk.len());
        chunk.iter_mut().zip(&self.rest).for_each(|(to, from)| *to = *from);
        let after = loop {
            let Some(room) = chunk.get_mut(len..).filter(|room| !room.is_empty()) else { break After::More };
            let wanted = room.len();
            match self.stream.read(room) {
                Ok(0) => break After::Over,
                Ok(read) => {
                    len += read;
                    // What did not fill the room was all, but for an end that comes behind it.
                    if read < wanted && !self.ending {
                        break After::Empty;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break After::Empty,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break After::Over,
            }
        };
        (chunk.get_mut(..len).unwrap_or_default(), after)
    }

    /// Writes what waits.
    fn flush(&mut self, now: Instant, drops: &mut DropCounters) -> io::Result<()> {
        while let Some(frames) = self.queue.front(now, drops) {
            let wanted = frames.len();
            let written = write(&mut self.stream, frames)?;
            self.queue.advance(written);
            if written < wanted {
                break;
            }
        }
        Ok(())
    }
}

/// Writes until the kernel takes no more: only then it tells when it does again. Returns how much it took.
fn write(stream: &mut mio::net::TcpStream, frames: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while let Some(unwritten) = frames.get(written..).filter(|unwritten| !unwritten.is_empty()) {
        match stream.write(unwritten) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
