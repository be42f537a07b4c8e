//! One thread that owns sockets and the sessions on them, their timers and what is under way on their paths.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token, Waker};
use tokio::sync::{oneshot, watch};

use super::collected::Collected;
use super::path::{DelayQueue, UserPath};
use super::socket::{Burst, ReceiveBuffer, UserSocket};
use super::stream::UserStream;
use super::{Direction, DriverConfig, DriverError, Filter, now};
use crate::clock::Clock;
use crate::session::Session;
use crate::transport::{Input, RemoteParameters, TransportConfig, TransportState};

/// The first address that users on loopback get, and how many follow it: up to 127.255.255.254.
const FIRST_LOOPBACK: u32 = u32::from_be_bytes([127, 1, 0, 1]);
const LOOPBACK_ADDRESSES: usize = 0x00fe_fffe;
/// Batches that are read from a socket before the others, timers and commands have their turn.
const MAX_BATCHES: usize = 16;
/// Sessions that are asked for their tally in one turn: it must not hold up the packets of the others by more than a
/// part of a millisecond.
const TALLIES_PER_TURN: usize = 16;
/// Events of one call: sockets that became readable. The others' events wait.
const MAX_EVENTS: usize = 1024;

const WAKER: Token = Token(usize::MAX);
const SHARED: Token = Token(usize::MAX - 1);

pub(super) type LaneId = usize;

/// Something to do where the session lives.
pub(super) type Action = Box<dyn FnOnce(&mut Session, Instant) + Send>;

pub(super) enum Command {
    Add(Box<NewLane>),
    With(LaneId, Action),
    Raw(LaneId, Vec<u8>),
    SetFilter(LaneId, Option<Filter>),
    Remove(LaneId),
    Collect(oneshot::Sender<Collected>),
    Stop,
}

/// A session that is to be made, and driven: it does not leave the thread that made it.
pub(super) struct NewLane {
    pub(super) clock: Clock,
    pub(super) transport: TransportConfig,
    pub(super) remote: RemoteParameters,
    pub(super) seed: u64,
    pub(super) link: NewLink,
    pub(super) group: usize,
    pub(super) path: Option<UserPath>,
    pub(super) states: watch::Sender<TransportState>,
    pub(super) reply: oneshot::Sender<Result<LaneId, DriverError>>,
}

/// How a new session reaches its server.
pub(super) enum NewLink {
    /// By the thread's socket.
    Shared,
    /// By its own.
    Own(UserSocket),
    /// By a connection.
    Stream(UserStream),
}

/// To command a hub by; it ends when this is dropped.
pub(super) struct HubHandle {
    commands: mpsc::Sender<Command>,
    waker: Waker,
}

impl HubHandle {
    /// Starts the thread with this index of a driver's.
    pub(super) fn start(index: usize, config: &DriverConfig) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        let mut shared = UserSocket::bind(Ipv4Addr::UNSPECIFIED.into(), config.receive_offload)?;
        shared.register(poll.registry(), SHARED)?;
        // Commands come from the users' own tasks, a few per join: bounded by what those await.
        let (sender, commands) = mpsc::channel();
        let (coalesce, offload) = (config.coalesce, config.receive_offload);
        let addresses = LOOPBACK_ADDRESSES / config.threads.max(1);
        let run = move || {
            let hub = Hub {
                poll,
                commands,
                shared: Rc::new(shared),
                first_address: FIRST_LOOPBACK + (index * addresses) as u32,
                addresses,
                lanes: Vec::new(),
                readable: VecDeque::new(),
                unsettled: Vec::new(),
                timers: BinaryHeap::new(),
                under_way: DelayQueue::new(),
                burst: Burst::default(),
                collected: Collected::default(),
                collecting: VecDeque::new(),
                coalesce,
            };
            if let Err(error) = hub.run(&mut ReceiveBuffer::new(offload)) {
                tracing::error!(%error, "a thread of users ended");
            }
        };
        thread::Builder::new().name(format!("users-{index}")).spawn(run)?;
        Ok(Self { commands: sender, waker })
    }

    pub(super) fn send(&self, command: Command) -> Result<(), DriverError> {
        self.commands.send(command).map_err(|_| DriverError::Gone)?;
        self.waker.wake().map_err(|_| DriverError::Gone)
    }
}

impl Drop for HubHandle {
    fn drop(&mut self) {
        let _ = self.send(Command::Stop);
    }
}

struct Hub {
    poll: Poll,
    commands: mpsc::Receiver<Command>,
    /// Of all users on loopback, each with an address of the `addresses` from `first_address` on.
    shared: Rc<UserSocket>,
    first_address: u32,
    addresses: usize,
    lanes: Vec<Option<Box<LaneState>>>,
    /// Sockets and connections that may have more to read.
    readable: VecDeque<Token>,
    /// Lanes that took something in and were not asked yet what comes of it.
    unsettled: Vec<LaneId>,
    timers: BinaryHeap<Reverse<(Instant, LaneId)>>,
    under_way: DelayQueue<Arrival>,
    burst: Burst,
    collected: Collected,
    /// Who waits for `collected`, and which lane is to be asked next.
    collecting: VecDeque<(oneshot::Sender<Collected>, LaneId)>,
    coalesce: Duration,
}

/// The end of an impaired path.
enum Arrival {
    User(LaneId, Vec<u8>),
    Server { socket: Rc<UserSocket>, source: Option<IpAddr>, destination: SocketAddr, datagram: Vec<u8> },
}

struct LaneState {
    session: Session,
    link: Link,
    group: usize,
    path: Option<UserPath>,
    states: watch::Sender<TransportState>,
    filter: Option<Filter>,
    scheduled: Option<Instant>,
    unsettled: bool,
}

/// How a session reaches its server.
enum Link {
    /// With the address that it sends from, where the socket has many.
    Udp(Rc<UserSocket>, Option<IpAddr>),
    Tcp(UserStream),
}

impl Hub {
    fn run(mut self, buffer: &mut ReceiveBuffer) -> io::Result<()> {
        let mut events = Events::with_capacity(MAX_EVENTS);
        loop {
            match self.poll.poll(&mut events, self.timeout()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.readable.extend(events.iter().map(|event| event.token()).filter(|&token| token != WAKER));
            if !self.handle_commands() {
                return Ok(());
            }
            for _ in 0..self.readable.len() {
                self.receive(buffer);
            }
            self.fire_timers();
            self.deliver();
            self.collect();
            if !self.coalesce.is_zero() {
                thread::sleep(self.coalesce);
            }
        }
    }

    /// How long there is nothing to do; `None` until something happens.
    fn timeout(&self) -> Option<Duration> {
        if !self.readable.is_empty() || !self.collecting.is_empty() {
            return Some(Duration::ZERO);
        }
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let next = timer.into_iter().chain(self.under_way.next()).min()?;
        Some(next.saturating_duration_since(now()))
    }

    /// Receives from the socket that waits longest; it queues up again if there is more.
    fn receive(&mut self, buffer: &mut ReceiveBuffer) {
        let Some(token) = self.readable.pop_front() else { return };
        let own = (token != SHARED).then_some(token.0);
        let socket = match own {
            None => self.shared.clone(),
            Some(id) => match self.lane(id).map(|lane| &lane.link) {
                Some(Link::Udp(socket, _)) => socket.clone(),
                Some(Link::Tcp(_)) => return self.receive_stream(id, buffer),
                None => return,
            },
        };
        for _ in 0..MAX_BATCHES {
            let now = now();
            let (runs, more) = buffer.receive(&socket);
            for run in runs {
                self.collected.received.add(run.bytes.len().div_ceil(run.stride), run.bytes.len());
                if let Some(id) = own.or_else(|| self.lane_of(run.to?)) {
                    self.arrive(id, now, run.bytes.chunks_mut(run.stride));
                }
            }
            self.settle_all();
            if !more {
                return;
            }
        }
        self.readable.push_back(token);
    }

    /// The same from a connection, which may take more again, too.
    fn receive_stream(&mut self, id: LaneId, buffer: &mut ReceiveBuffer) {
        let now = now();
        let Some(Link::Tcp(stream)) = self.lane(id).map(|lane| &mut lane.link) else { return };
        stream.flush();
        let (datagrams, more) = stream.receive(buffer.bytes());
        self.collected.received.add(datagrams.len(), datagrams.iter().map(|datagram| datagram.len()).sum());
        self.arrive(id, now, datagrams.into_iter());
        self.settle_all();
        if more {
            self.readable.push_back(Token(id));
        }
    }

    /// Datagrams for a lane have come to this machine: its user gets them, now or at the end of an impaired path.
    fn arrive<'a>(&mut self, id: LaneId, now: Instant, datagrams: impl Iterator<Item = &'a mut [u8]>) {
        let Self { lanes, under_way, collected, unsettled, .. } = self;
        let Some(lane) = lanes.get_mut(id).and_then(Option::as_deref_mut) else { return };
        for datagram in datagrams {
            let Some(path) = &mut lane.path else {
                lane.take(now, datagram);
                continue;
            };
            for at in path.submit(now, Direction::In, datagram.len()) {
                let room = under_way.push(at, Arrival::User(id, datagram.to_vec()));
                collected.path_drops += u64::from(!room);
            }
        }
        if !std::mem::replace(&mut lane.unsettled, true) {
            unsettled.push(id);
        }
    }

    fn fire_timers(&mut self) {
        let round = now();
        while let Some(&Reverse((at, id))) = self.timers.peek()
            && at <= round
        {
            self.timers.pop();
            let Some(lane) = self.lanes.get_mut(id).and_then(Option::as_deref_mut) else { continue };
            if lane.scheduled != Some(at) {
                continue;
            }
            lane.scheduled = None;
            let now = now();
            self.collected.add_lag(now.saturating_duration_since(at));
            lane.session.handle_input(now, Input::Timeout);
            self.settle(id, now);
        }
    }

    /// Lets what is at the end of its impaired path arrive.
    fn deliver(&mut self) {
        let round = now();
        while let Some((at, arrival)) = self.under_way.pop(round) {
            let now = now();
            self.collected.add_lag(now.saturating_duration_since(at));
            match arrival {
                Arrival::User(id, mut datagram) => {
                    if let Some(lane) = self.lane(id) {
                        lane.take(now, &mut datagram);
                        self.settle(id, now);
                    }
                }
                Arrival::Server { socket, source, destination, datagram } => {
                    self.burst.push(&datagram, &socket);
                    self.send_burst(&socket, source, destination);
                }
            }
        }
    }

    /// `false` when it is time to end.
    fn handle_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return false,
                Ok(command) => self.handle_command(command),
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = now();
        match command {
            Command::Add(new) => self.add(*new, now),
            Command::With(id, action) => {
                if let Some(lane) = self.lane(id) {
                    action(&mut lane.session, now);
                    self.settle(id, now);
                }
            }
            Command::Raw(id, datagram) => {
                self.transmit(id, now, &datagram);
                self.flush(id);
            }
            Command::SetFilter(id, filter) => {
                if let Some(lane) = self.lane(id) {
                    lane.filter = filter;
                }
            }
            Command::Remove(id) => self.remove(id, now),
            Command::Collect(reply) => self.collecting.push_back((reply, 0)),
            Command::Stop => {}
        }
    }

    fn add(&mut self, new: NewLane, now: Instant) {
        let id = self.lanes.len();
        let NewLane { clock, transport, remote, seed, link, group, path, states, reply } = new;
        let session = Session::new(now, clock, &transport, remote, seed).map_err(DriverError::from);
        let (session, link) = match session.and_then(|session| Ok((session, self.link(id, link)?))) {
            Ok(made) => made,
            Err(error) => return drop(reply.send(Err(error))),
        };
        let lane = LaneState { session, link, group, path, states, filter: None, scheduled: None, unsettled: false };
        self.lanes.push(Some(Box::new(lane)));
        self.settle(id, now);
        if reply.send(Ok(id)).is_err() {
            self.remove(id, now);
        }
    }

    fn link(&self, id: LaneId, new: NewLink) -> Result<Link, DriverError> {
        match new {
            NewLink::Own(mut socket) => {
                socket.register(self.poll.registry(), Token(id))?;
                Ok(Link::Udp(Rc::new(socket), None))
            }
            NewLink::Stream(mut stream) => {
                stream.register(self.poll.registry(), Token(id))?;
                Ok(Link::Tcp(stream))
            }
            NewLink::Shared if id < self.addresses => {
                let source = Ipv4Addr::from_bits(self.first_address + id as u32);
                Ok(Link::Udp(self.shared.clone(), Some(source.into())))
            }
            NewLink::Shared => Err(DriverError::NoAddress),
        }
    }

    fn remove(&mut self, id: LaneId, now: Instant) {
        let Some(lane) = self.lane(id) else { return };
        lane.session.transport_mut().close(now);
        self.settle(id, now);
        let Some(mut lane) = self.lanes.get_mut(id).and_then(Option::take) else { return };
        self.collected.add_tally(lane.group, &lane.session.tally(now).ended());
        if let Some(socket) = lane.own_socket(&self.shared) {
            self.collected.receive_drops += socket.take_receive_drops();
        }
    }

    /// Adds some more sessions' tallies, and hands all of them over after the last.
    fn collect(&mut self) {
        let Some((_, next)) = self.collecting.front_mut() else { return };
        let now = now();
        let first = *next;
        *next += TALLIES_PER_TURN;
        for lane in self.lanes.iter_mut().skip(first).take(TALLIES_PER_TURN).flatten() {
            self.collected.add_tally(lane.group, &lane.session.tally(now));
            if let Some(socket) = lane.own_socket(&self.shared) {
                self.collected.receive_drops += socket.take_receive_drops();
            }
        }
        if *next >= self.lanes.len()
            && let Some((reply, _)) = self.collecting.pop_front()
        {
            self.collected.receive_drops += self.shared.take_receive_drops();
            if let Err(unwanted) = reply.send(std::mem::take(&mut self.collected)) {
                self.collected = unwanted;
            }
        }
    }

    fn settle_all(&mut self) {
        let now = now();
        let mut unsettled = std::mem::take(&mut self.unsettled);
        for id in unsettled.drain(..) {
            self.settle(id, now);
        }
        self.unsettled = unsettled;
    }

    /// Sends what a session has to send, tells of changed states and keeps the timer.
    fn settle(&mut self, id: LaneId, now: Instant) {
        while let Some(datagram) = self.lane(id).and_then(|lane| lane.session.poll_transmit()) {
            self.transmit(id, now, &datagram);
        }
        self.flush(id);
        let Self { lanes, timers, .. } = self;
        let Some(lane) = lanes.get_mut(id).and_then(Option::as_deref_mut) else { return };
        lane.unsettled = false;
        if let Some(state) = lane.session.poll_states().pop() {
            lane.states.send_replace(state);
        }
        if let Some(at) = lane.session.poll_timeout().map(|at| at.max(now))
            && lane.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            lane.scheduled = Some(at);
            timers.push(Reverse((at, id)));
        }
    }

    /// A user sends: into the burst, or onto an impaired path.
    fn transmit(&mut self, id: LaneId, now: Instant, datagram: &[u8]) {
        let Self { lanes, under_way, collected, burst, .. } = self;
        let Some(lane) = lanes.get_mut(id).and_then(Option::as_deref_mut) else { return };
        if !lane.admits(Direction::Out, datagram) {
            return;
        }
        let destination = lane.session.transport().remote_address();
        let (socket, source) = match &mut lane.link {
            Link::Udp(socket, source) => (&*socket, *source),
            Link::Tcp(stream) => {
                collected.sent.add(1, datagram.len());
                collected.send_drops += u64::from(!stream.push(datagram));
                return;
            }
        };
        if let Some(path) = &mut lane.path {
            for at in path.submit(now, Direction::Out, datagram.len()) {
                let (socket, datagram) = (socket.clone(), datagram.to_vec());
                let arrival = Arrival::Server { socket, source, destination, datagram };
                collected.path_drops += u64::from(!under_way.push(at, arrival));
            }
        } else if !burst.push(datagram, socket) {
            self.flush(id);
            self.transmit(id, now, datagram);
        }
    }

    /// Sends what the lane has put into the burst, or behind its connection.
    fn flush(&mut self, id: LaneId) {
        let Some(lane) = self.lane(id) else { return };
        let destination = lane.session.transport().remote_address();
        match &mut lane.link {
            Link::Udp(socket, source) => {
                let (socket, source) = (socket.clone(), *source);
                self.send_burst(&socket, source, destination);
            }
            Link::Tcp(stream) => stream.flush(),
        }
    }

    fn send_burst(&mut self, socket: &UserSocket, source: Option<IpAddr>, destination: SocketAddr) {
        if self.burst.datagrams() == 0 {
            return;
        }
        self.collected.sent.add(self.burst.datagrams(), self.burst.bytes());
        self.collected.send_drops += socket.send(source, destination, &self.burst);
        self.burst.clear();
    }

    fn lane(&mut self, id: LaneId) -> Option<&mut LaneState> {
        self.lanes.get_mut(id)?.as_deref_mut()
    }

    fn lane_of(&self, address: IpAddr) -> Option<LaneId> {
        let IpAddr::V4(address) = address else { return None };
        address.to_bits().checked_sub(self.first_address).map(|id| id as usize)
    }
}

impl LaneState {
    /// Its socket, if nobody else has the same.
    fn own_socket(&self, shared: &Rc<UserSocket>) -> Option<&UserSocket> {
        match &self.link {
            Link::Udp(socket, _) if !Rc::ptr_eq(socket, shared) => Some(socket),
            _ => None,
        }
    }

    fn admits(&mut self, direction: Direction, datagram: &[u8]) -> bool {
        self.filter.as_mut().is_none_or(|filter| filter(direction, datagram))
    }

    fn take(&mut self, now: Instant, datagram: &mut [u8]) {
        if self.admits(Direction::In, datagram) {
            self.session.handle_input(now, Input::Datagram(datagram));
        }
    }
}
