//! The loop of a worker's thread: wait, take what came, let the core work, send what it gives.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use rustc_hash::FxHashMap;
use sluice_media::drop_reason::{DropCounters, DropReason};
use sluice_media::messages::{
    PipeEnd, RequestError, RequestId, Response, WorkerCommand, WorkerEvent, WorkerIndex, WorkerSnapshot,
};
use sluice_media::wire::stun;
use sluice_media::{Datagram, Input, Media, MediaConfig, Output, TransportAddress};
use sluice_mesh::DataMessage;
use sluice_proto::pipe::RouteFeedback;
use tokio::sync::{mpsc, oneshot};

use super::connections::{Connections, MAX_CHUNKS};
use super::mailbox::{AddressOwned, DatagramBatch, Forwarded, Letter, Mailbox, WAKER};
use super::rest::Rest;
use super::socket::{DatagramSocket, MAX_MESSAGES, MediaSocket};
use super::{FrameOut, now};

/// The other tokens are connections'.
const SOCKET: Token = Token(1);

/// Events of one wake-up: those of more connections wait for the next.
const MAX_EVENTS: usize = 256;

/// Commands, feedback, addresses, connections and batches of frames each in one turn, so that none of them starves the
/// others.
const MAX_PER_TURN: usize = 256;

/// Datagrams that other workers passed on, in one turn: as many as two full batches of the socket, and fewer of
/// strangers'.
const MAX_CLIENTS_PER_TURN: usize = 1024;
const MAX_STRANGERS_PER_TURN: usize = 256;

/// How often the worker looks how late it is, while something comes. The core needs a look in 10 ms.
const LAG_INTERVAL: Duration = Duration::from_millis(5);

/// A turn that takes longer is followed by one with half as much: to see what is to be shed while it can still be in
/// time.
const LONG_TURN: Duration = Duration::from_millis(10);

/// Events that wait for room in the control plane's queue: minutes of a worker's ordinary life. One that lets them pile
/// up higher will not come back. None may be lost, so the worker ends, and with it the node.
const MAX_EVENT_BACKLOG: usize = 65_536;

/// How soon room for waiting events is looked for again.
const EVENT_RETRY: Duration = Duration::from_millis(5);

/// What a driver is made of.
pub(super) struct DriverConfig<S = MediaSocket> {
    pub(super) worker: WorkerIndex,
    pub(super) socket: S,
    pub(super) poll: Poll,
    pub(super) mailboxes: Arc<[Arc<Mailbox>]>,
    pub(super) events: mpsc::Sender<(WorkerIndex, WorkerEvent)>,
    pub(super) frame_out: Arc<dyn FrameOut>,
}

type Answer = oneshot::Sender<Result<Response, RequestError>>;

/// The driver of one worker; it never leaves its thread.
pub(super) struct Driver<S = MediaSocket> {
    media: Media,
    pub(super) socket: S,
    connections: Connections,
    /// The socket may have more than was taken.
    pub(super) readable: bool,
    /// How much is taken of it in a turn.
    max_messages: usize,
    lag: Lag,
    rest: Rest,
    poll: Poll,
    mailbox: Arc<Mailbox>,
    out: Outbound,
}

/// How late the worker is.
struct Lag {
    /// When the core was told last.
    told_at: Instant,
    /// The longest that something has waited since, and how long the worker has slept.
    waited: Duration,
    slept: Duration,
}

/// What an output is the consequence of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Datagrams that came by this worker's socket.
    Socket,
    /// Datagrams that another worker passed on.
    Worker(WorkerIndex),
    /// No datagrams.
    Other,
}

/// What is passed on to another worker at the end of the turn.
#[derive(Default)]
struct Forwards {
    clients: DatagramBatch,
    strangers: DatagramBatch,
}

/// Everything but the socket that outputs go to.
struct Outbound {
    worker: WorkerIndex,
    mailboxes: Arc<[Arc<Mailbox>]>,
    /// By worker.
    forwards: Vec<Forwards>,
    frame_out: Arc<dyn FrameOut>,
    events: mpsc::Sender<(WorkerIndex, WorkerEvent)>,
    backlog: VecDeque<WorkerEvent>,
    next_request: u64,
    /// What could not be passed on.
    drops: DropCounters,
    /// Who waits for which answer; `None` for those whose errors are only logged.
    answers: FxHashMap<RequestId, Option<Answer>>,
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.mailbox.abandon();
    }
}

impl<S: DatagramSocket> Driver<S> {
    pub(super) fn new(config: DriverConfig<S>, media: MediaConfig) -> io::Result<Self> {
        let mut socket = config.socket;
        socket.register(config.poll.registry(), SOCKET)?;
        let mailbox = config.mailboxes.get(usize::from(config.worker.0)).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(Self {
            media: Media::new(media),
            socket,
            connections: Connections::new(config.poll.registry().try_clone()?),
            readable: false,
            max_messages: MAX_MESSAGES,
            lag: Lag { told_at: now(), waited: Duration::ZERO, slept: Duration::ZERO },
            rest: Rest::default(),
            poll: config.poll,
            mailbox,
            out: Outbound {
                worker: config.worker,
                forwards: config.mailboxes.iter().map(|_| Forwards::default()).collect(),
                mailboxes: config.mailboxes,
                frame_out: config.frame_out,
                events: config.events,
                backlog: VecDeque::new(),
                next_request: 0,
                drops: DropCounters::default(),
                answers: FxHashMap::default(),
            },
        })
    }

    /// Runs until the worker is told to stop.
    ///
    /// # Errors
    /// If the system has no events to wait for, or the control plane takes none.
    pub(super) fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(MAX_EVENTS);
        loop {
            let timeout = self.timeout();
            let asleep_since = (timeout != Some(Duration::ZERO)).then(now);
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    WAKER => self.rest.end(),
                    SOCKET => {
                        self.readable |= event.is_readable();
                        if event.is_writable() {
                            self.send_waiting();
                        }
                    }
                    _ => {
                        self.rest.end();
                        self.connections.ready(now(), event);
                    }
                }
            }
            if !self.turn(asleep_since) {
                return Ok(());
            }
            if self.out.backlog.len() > MAX_EVENT_BACKLOG {
                return Err(io::Error::other("the control plane does not take events"));
            }
            if let Some(rest) = self.rest.due() {
                thread::sleep(rest);
                self.lag.slept += rest;
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if self.readable || self.connections.is_readable() {
            return Some(Duration::ZERO);
        }
        let timeouts = [self.media.poll_timeout(), self.connections.poll_timeout()];
        let timeout = timeouts.into_iter().flatten().min().map(|at| at.saturating_duration_since(now()));
        let retry = (!self.out.backlog.is_empty()).then_some(EVENT_RETRY);
        [timeout, retry].into_iter().flatten().min()
    }

    /// Takes what came and lets the core work. False if this was the last turn.
    pub(super) fn turn(&mut self, asleep_since: Option<Instant>) -> bool {
        self.mailbox.begin_reading();
        let last = self.mailbox.is_stopped();
        let now = now();
        self.lag.slept += asleep_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let mut full = false;
        full |= self.read_letters(now, last);
        full |= self.read_addresses(now);
        full |= self.read_datagrams(now, Forwarded::Client, MAX_CLIENTS_PER_TURN);
        full |= self.read_datagrams(now, Forwarded::Stranger, MAX_STRANGERS_PER_TURN);
        full |= self.read_frames(now);
        full |= self.read_feedback(now);
        full |= self.read_data(now);
        full |= self.read_connections(now);
        if full && !last {
            // Something was left: look again without waiting for somebody to post more.
            self.mailbox.wake();
        }
        if self.readable {
            self.receive(now);
        }
        if self.connections.is_readable() {
            self.receive_by_connections(now);
        }
        if self.readable || self.connections.is_readable() {
            self.pace(self::now().saturating_duration_since(now));
        }
        if self.lag.is_due(now) {
            // Nothing came by the socket.
            let lag = self.lag.take(now);
            self.handle(now, lag);
        }
        if self.media.poll_timeout().is_some_and(|at| at <= now) {
            self.handle(now, Input::Timeout);
        }
        self.connections.handle_timeout(now);
        self.tell_ended_connections(now);
        self.out.end_turn();
        !last
    }

    fn read_letters(&mut self, now: Instant, all: bool) -> bool {
        let mailbox = self.mailbox.clone();
        let limit = if all { usize::MAX } else { MAX_PER_TURN };
        for _ in 0..limit {
            let Some(letter) = mailbox.next_letter() else { return false };
            match letter {
                Letter::Request { request, answer } => {
                    let id = self.out.expect_answer(answer);
                    self.handle(now, Input::Command(WorkerCommand::Request { id, request }));
                }
                #[cfg(test)]
                Letter::Run(work) => work(),
            }
        }
        true
    }

    fn read_addresses(&mut self, now: Instant) -> bool {
        let mailbox = self.mailbox.clone();
        for _ in 0..MAX_PER_TURN {
            let Some(AddressOwned { address, worker, owned }) = mailbox.next_address() else { return false };
            self.handle(now, Input::AddressOwned { address, worker, owned });
        }
        true
    }

    fn read_datagrams(&mut self, now: Instant, kind: Forwarded, limit: usize) -> bool {
        let mailbox = self.mailbox.clone();
        let mut count = 0;
        while count < limit {
            let Some((from, mut batch, posted_at)) = mailbox.next_datagrams(kind) else { return false };
            self.lag.add(now.saturating_duration_since(posted_at));
            let mut datagrams: Vec<Datagram<'_>> =
                batch.iter_mut().map(|(source, data)| by_udp(source, data)).collect();
            count += datagrams.len();
            self.media.handle_input(now, Input::Datagrams(&mut datagrams));
            self.drain(Cause::Worker(from));
            mailbox.give_back_datagrams(batch);
        }
        true
    }

    fn read_frames(&mut self, now: Instant) -> bool {
        let mailbox = self.mailbox.clone();
        for _ in 0..MAX_PER_TURN {
            let Some((from, mut frames, posted_at)) = mailbox.next_frames() else { return false };
            self.lag.add(now.saturating_duration_since(posted_at));
            self.handle(now, Input::Frames { from, frames: &mut frames });
            mailbox.give_back_frames(frames);
        }
        true
    }

    fn read_feedback(&mut self, now: Instant) -> bool {
        let mailbox = self.mailbox.clone();
        for _ in 0..MAX_PER_TURN {
            let Some((from, feedback)) = mailbox.next_feedback() else { return false };
            self.handle(now, Input::Feedback { from, feedback });
        }
        true
    }

    fn read_data(&mut self, now: Instant) -> bool {
        let mailbox = self.mailbox.clone();
        for _ in 0..MAX_PER_TURN {
            let Some((from, message)) = mailbox.next_data() else { return false };
            self.handle(now, Input::Data { from, message });
        }
        true
    }

    fn receive(&mut self, now: Instant) {
        let measured = self.lag.is_due(now);
        let (batch, more) = self.socket.receive(self.max_messages, measured);
        self.readable = more;
        if let Some(waited) = batch.waited {
            self.lag.add(waited);
            self.media.handle_input(now, self.lag.take(now));
        }
        let mut datagrams: Vec<Datagram<'_>> =
            batch.into_datagrams().map(|(source, data)| by_udp(source, data)).collect();
        if datagrams.is_empty() {
            return;
        }
        let checks = datagrams.iter().take_while(|datagram| stun::is_message(datagram.data)).count();
        self.rest.note(now, datagrams.len(), checks);
        self.media.handle_input(now, Input::Datagrams(&mut datagrams));
        self.drain(Cause::Socket);
    }

    fn read_connections(&mut self, now: Instant) -> bool {
        let mailbox = self.mailbox.clone();
        for _ in 0..MAX_PER_TURN {
            let Some(new) = mailbox.next_connection() else { return false };
            self.connections.add(now, new);
            // One that had the same address is over before anything comes by this one.
            self.tell_ended_connections(now);
        }
        true
    }

    fn receive_by_connections(&mut self, now: Instant) {
        let (mut datagrams, waited) = self.connections.receive(now, self.max_messages.min(MAX_CHUNKS));
        self.lag.add(waited);
        if !datagrams.is_empty() {
            self.media.handle_input(now, Input::Datagrams(&mut datagrams));
            self.drain(Cause::Other);
        }
    }

    fn tell_ended_connections(&mut self, now: Instant) {
        while let Some(remote) = self.connections.next_ended() {
            self.handle(now, Input::ConnectionEnded(remote));
        }
    }

    /// Adjusts how much is taken in a turn to how long this one was.
    fn pace(&mut self, turn: Duration) {
        if turn > LONG_TURN {
            self.max_messages = (self.max_messages / 2).max(1);
        } else if turn < LONG_TURN / 4 {
            self.max_messages = (self.max_messages * 2).min(MAX_MESSAGES);
        }
    }

    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.media.handle_input(now, input);
        self.drain(Cause::Other);
    }

    fn drain(&mut self, cause: Cause) {
        while let Some(output) = self.media.poll_output() {
            match output {
                Output::Transmit(transmit) if transmit.destination.is_tcp() => {
                    self.connections.send(now(), &transmit);
                    self.media.recycle(transmit.contents);
                }
                Output::Transmit(transmit) => {
                    if let Some(buffer) = self.socket.send(transmit) {
                        self.media.recycle(buffer);
                    }
                }
                Output::Frames { to, mut frames } => {
                    self.out.send_frames(to, &mut frames);
                    self.media.recycle_frames(frames);
                }
                Output::Feedback { to, feedback } => self.out.send_feedback(to, feedback),
                Output::Data { to, message } => self.out.send_data(to, message),
                Output::Forward { to, source, known, data } => {
                    self.out.forward(cause, to, (source, known), &data);
                    self.media.recycle(data);
                }
                Output::AddressOwned { address: TransportAddress::Udp(address), owned } => {
                    self.out.announce(cause, address, owned);
                }
                Output::AddressOwned { address: TransportAddress::Tcp(remote), owned } => {
                    self.connections.set_owned(remote, owned);
                }
                Output::Event(WorkerEvent::Response { id, result: Ok(Response::Snapshot(mut snapshot)) }) => {
                    self.complete(&mut snapshot);
                    self.out.answer(id, Ok(Response::Snapshot(snapshot)));
                }
                Output::Event(WorkerEvent::Response { id, result }) => self.out.answer(id, result),
                Output::Event(event) => self.out.backlog.push_back(event),
            }
        }
    }

    fn send_waiting(&mut self) {
        while let Some(buffer) = self.socket.send_waiting() {
            self.media.recycle(buffer);
        }
    }

    /// Adds what only the driver knows.
    fn complete(&self, snapshot: &mut WorkerSnapshot) {
        snapshot.cpu_ns = thread_cpu_ns();
        let overflow = [(DropReason::WorkerQueueFull.label(), self.mailbox.dropped())];
        let socket = self.socket.drops();
        let connections = self.connections.drops();
        let own = socket.nonzero().chain(connections.nonzero()).chain(self.out.drops.nonzero()).chain(overflow);
        for (label, count) in own {
            match snapshot.drops.iter_mut().find(|(known, _)| *known == label) {
                Some((_, total)) => *total += count,
                None if count > 0 => snapshot.drops.push((label, count)),
                None => {}
            }
        }
    }
}

impl Lag {
    fn add(&mut self, waited: Duration) {
        self.waited = self.waited.max(waited);
    }

    fn is_due(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.told_at) >= LAG_INTERVAL
    }

    /// What there is to tell. Whoever has slept while something waited for it was not idle, but kept from the
    /// processor.
    fn take(&mut self, now: Instant) -> Input<'static> {
        self.told_at = now;
        let (waited, slept) = (std::mem::take(&mut self.waited), std::mem::take(&mut self.slept));
        Input::Lag { waited, idle: slept.saturating_sub(waited) }
    }
}

impl Outbound {
    /// Two workers may take each other for the owner of an address for as long as their messages cross, so what was
    /// passed on once is never passed on again.
    fn forward(&mut self, cause: Cause, to: WorkerIndex, (source, known): (SocketAddr, bool), data: &[u8]) {
        let index = usize::from(to.0);
        let (Some(forwards), Some(mailbox)) = (self.forwards.get_mut(index), self.mailboxes.get(index)) else {
            return self.drops.count(DropReason::UnknownUfrag);
        };
        if matches!(cause, Cause::Worker(_)) {
            return self.drops.count(DropReason::UnknownAddress);
        }
        let (kind, batch) = if known {
            (Forwarded::Client, &mut forwards.clients)
        } else {
            (Forwarded::Stranger, &mut forwards.strangers)
        };
        batch.push(source, data);
        if batch.is_full() {
            mailbox.post_datagrams(self.worker, kind, batch);
        }
    }

    fn expect_answer(&mut self, answer: Option<Answer>) -> RequestId {
        let id = RequestId(self.next_request);
        self.next_request += 1;
        self.answers.insert(id, answer);
        id
    }

    fn answer(&mut self, id: RequestId, result: Result<Response, RequestError>) {
        match (self.answers.remove(&id), result) {
            // Whoever asked may have gone away since.
            (Some(Some(answer)), result) => drop(answer.send(result)),
            (_, Err(error)) => tracing::warn!(worker = self.worker.0, %error, "request to media worker failed"),
            (_, Ok(_)) => {}
        }
    }

    fn send_frames(&mut self, to: PipeEnd, frames: &mut Vec<sluice_mesh::Frame>) {
        match to {
            PipeEnd::Node(link) => self.frame_out.send_frames(link, frames),
            PipeEnd::Worker(worker) => {
                if let Some(mailbox) = self.mailboxes.get(usize::from(worker.0)) {
                    mailbox.post_frames(PipeEnd::Worker(self.worker), frames);
                }
            }
        }
        frames.clear();
    }

    fn send_feedback(&self, to: PipeEnd, feedback: RouteFeedback) {
        match to {
            PipeEnd::Node(link) => self.frame_out.send_feedback(link, feedback),
            PipeEnd::Worker(worker) => {
                if let Some(mailbox) = self.mailboxes.get(usize::from(worker.0)) {
                    mailbox.post_feedback(PipeEnd::Worker(self.worker), feedback);
                }
            }
        }
    }

    fn send_data(&self, to: PipeEnd, message: DataMessage) {
        match to {
            PipeEnd::Node(link) => self.frame_out.send_data(link, message),
            PipeEnd::Worker(worker) => {
                if let Some(mailbox) = self.mailboxes.get(usize::from(worker.0)) {
                    mailbox.post_data(PipeEnd::Worker(self.worker), message);
                }
            }
        }
    }

    /// Tells whoever needs to know: all datagrams of an address come to one socket, so the worker that passed this one
    /// on.
    fn announce(&mut self, cause: Cause, address: SocketAddr, owned: bool) {
        let told = |index: usize| match (owned, cause) {
            (true, Cause::Socket) => false,
            (true, Cause::Worker(from)) => index == usize::from(from.0),
            // Nothing says where its datagrams come to.
            (true, Cause::Other) | (false, _) => index != usize::from(self.worker.0),
        };
        for (_, mailbox) in self.mailboxes.iter().enumerate().filter(|(index, _)| told(*index)) {
            mailbox.post_address(AddressOwned { address, worker: self.worker, owned });
        }
    }

    /// Hands over what was gathered.
    fn end_turn(&mut self) {
        for (forwards, mailbox) in self.forwards.iter_mut().zip(self.mailboxes.iter()) {
            let Forwards { clients, strangers } = forwards;
            for (kind, batch) in [(Forwarded::Client, clients), (Forwarded::Stranger, strangers)] {
                if batch.len() > 0 {
                    mailbox.post_datagrams(self.worker, kind, batch);
                }
            }
        }
        while let Some(event) = self.backlog.pop_front() {
            match self.events.try_send((self.worker, event)) {
                Ok(()) => {}
                Err(mpsc::error::TrySendError::Full((_, event))) => {
                    self.backlog.push_front(event);
                    break;
                }
                // Nobody is left to be told.
                Err(mpsc::error::TrySendError::Closed(_)) => {}
            }
        }
    }
}

fn by_udp(source: SocketAddr, data: &mut [u8]) -> Datagram<'_> {
    Datagram { source: TransportAddress::Udp(source), data }
}

fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec to write to.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    if result != 0 {
        return 0;
    }
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use sluice_media::{AudioLimits, DataLimits};
    use sluice_mesh::Frame;
    use sluice_proto::ids::ProducerId;

    use super::super::{DtlsCertificate, LinkKey, media_config, socket};
    use super::*;

    struct NoFrames;

    impl FrameOut for NoFrames {
        fn send_frames(&self, _to: LinkKey, _frames: &mut Vec<Frame>) {}

        fn send_feedback(&self, _to: LinkKey, _feedback: RouteFeedback) {}

        fn send_data(&self, _to: LinkKey, _message: DataMessage) {}
    }

    #[test]
    fn a_worker_whose_events_nobody_takes_ends_before_it_loses_one() {
        let poll = Poll::new().unwrap();
        let socket = socket::bind_all((std::net::Ipv4Addr::LOCALHOST, 0).into(), 1, 1 << 20).unwrap().remove(0);
        let mailbox = Arc::new(Mailbox::new(poll.registry()).unwrap());
        let (events, mut waiting) = mpsc::channel(10);
        let worker = WorkerIndex(0);
        let config = DriverConfig {
            worker,
            socket,
            poll,
            mailboxes: Arc::from([mailbox.clone()]),
            events,
            frame_out: Arc::new(NoFrames),
        };
        let limits = (AudioLimits::default(), DataLimits::default());
        let certificate = DtlsCertificate::generate().unwrap();
        let mut driver = Driver::new(config, media_config(worker, certificate, limits)).unwrap();
        let producer = ProducerId::from_random_bytes([1; 16]);
        let event = |streams| WorkerEvent::StreamsWanted { producer, streams };
        driver.out.backlog.extend((0..10 + MAX_EVENT_BACKLOG + 1).map(|number| event(number as u8)));
        assert!(driver.run().is_err());
        assert!(mailbox.is_stopped(), "nothing is posted to it any more");
        let numbers = std::iter::from_fn(|| waiting.try_recv().ok()).map(|(_, event)| match event {
            WorkerEvent::StreamsWanted { streams, .. } => streams,
            other => panic!("{other:?}"),
        });
        assert_eq!(numbers.collect::<Vec<_>>(), (0..10).collect::<Vec<_>>(), "what was taken is in order");
    }
}
