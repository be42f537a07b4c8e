//! What reaches a worker from other threads. Each kind has a bounded queue of its own, so that media can never push a
//! command out; the worker takes no lock to read them.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use crossbeam_queue::{ArrayQueue, SegQueue};
use mio::{Registry, Token, Waker};
use sluice_mesh::{DataMessage, Frame, FrameSink, LinkKey};
use sluice_proto::pipe::RouteFeedback;
use tokio::sync::oneshot;

use sluice_media::messages::{PipeEnd, Request, RequestError, Response, WorkerIndex};

use super::connections::NewConnection;
use super::now;

/// The waker's token in the worker's poll.
pub(super) const WAKER: Token = Token(0);

/// Requests, beside those that end something: everybody of a full room coming back at once, a dozen requests each, and
/// as much again of consumers. A worker that has this before it is seconds behind and says so. Room for it is made as
/// it is needed.
const MAX_LETTERS: usize = 131_072;

/// Batches of frames; a batch is what one wake-up of a link brought.
const MAX_FRAME_BATCHES: usize = 512;

/// Frames in all batches: 80 ms of 100,000 packets/s, 10 MB. What waits longer than that is better dropped.
const MAX_FRAMES: usize = 8192;

/// What the other ends of routes said: a second's account of 4,000 of them. What does not fit will be said again if it
/// still matters.
const MAX_FEEDBACK: usize = 8192;

/// Messages of data channels, and how much is in them together: eight routes with all that may be on the way. What does
/// not fit is asked for again.
const MAX_DATA: usize = 8192;
const MAX_DATA_BYTES: usize = 8 << 20;

/// Batches of datagrams that another worker passed on, and how much is in them together: 80 ms of 100,000 packets/s, as
/// with frames.
const MAX_FORWARDS: Bound = Bound { batches: 1024, datagrams: 8192, bytes: 10 << 20 };

/// The same of checks from addresses that nobody is known at. Nothing vouches for those yet, so they have a queue of
/// their own, which is long enough for what 100,000/s bring in 20 ms.
const MAX_CHECKS: Bound = Bound { batches: 256, datagrams: 2048, bytes: 1 << 20 };

/// A batch is handed over when it has this many datagrams or bytes, so that no turn becomes long by it.
const BATCH_DATAGRAMS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// Emptied batches that are kept: more are seldom on the way at a time.
const MAX_SPARE_BATCHES: usize = 64;

/// Addresses that other workers speak of: every client of a full worker roaming at once.
const MAX_ADDRESSES: usize = 16_384;

/// Connections with their first checks: what comes in 25 ms when 10,000 a second come back after an outage. Who finds
/// no place is closed, and tries again.
const MAX_CONNECTIONS: usize = 256;

/// A command on its way to the worker.
#[cfg_attr(test, allow(clippy::large_enum_variant, reason = "the small one is of tests only"))]
pub(super) enum Letter {
    Request {
        request: Request,
        answer: Option<oneshot::Sender<Result<Response, RequestError>>>,
    },
    /// Makes the worker do something to itself.
    #[cfg(test)]
    Run(Box<dyn FnOnce() + Send>),
}

impl Letter {
    /// Such letters are no more than there are things to end, and what is not ended stays for ever.
    fn ends_something(&self) -> bool {
        matches!(
            self,
            Self::Request {
                request: Request::CloseRouter { .. }
                    | Request::CloseTransport { .. }
                    | Request::CloseProducer { .. }
                    | Request::CloseConsumer { .. }
                    | Request::ClosePipeConsumer { .. },
                ..
            }
        )
    }
}

/// Datagrams one behind the other.
#[derive(Debug, Default)]
pub(super) struct DatagramBatch {
    bytes: Vec<u8>,
    items: Vec<(SocketAddr, usize)>,
}

impl DatagramBatch {
    pub(super) fn push(&mut self, source: SocketAddr, data: &[u8]) {
        self.bytes.extend_from_slice(data);
        self.items.push((source, data.len()));
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_full(&self) -> bool {
        self.items.len() >= BATCH_DATAGRAMS || self.bytes.len() >= BATCH_BYTES
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.items.clear();
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (SocketAddr, &mut [u8])> {
        let mut rest = self.bytes.as_mut_slice();
        self.items.iter().map_while(move |(source, len)| {
            let (data, behind) = std::mem::take(&mut rest).split_at_mut_checked(*len)?;
            rest = behind;
            Some((*source, data))
        })
    }
}

/// How much may wait in a queue of batches.
struct Bound {
    batches: usize,
    datagrams: usize,
    bytes: usize,
}

/// Batches of datagrams with the worker that passed them on, and when it did.
struct BatchQueue {
    batches: ArrayQueue<(WorkerIndex, DatagramBatch, Instant)>,
    datagrams: AtomicUsize,
    bytes: AtomicUsize,
    bound: Bound,
}

impl BatchQueue {
    fn new(bound: Bound) -> Self {
        let batches = ArrayQueue::new(bound.batches);
        Self { batches, datagrams: AtomicUsize::new(0), bytes: AtomicUsize::new(0), bound }
    }

    /// Takes a batch, or gives it back.
    fn push(&self, from: WorkerIndex, batch: DatagramBatch) -> Result<(), DatagramBatch> {
        let (datagrams, bytes) = (batch.items.len(), batch.bytes.len());
        let fits = self.datagrams.fetch_add(datagrams, Ordering::AcqRel) + datagrams <= self.bound.datagrams;
        let fits = self.bytes.fetch_add(bytes, Ordering::AcqRel) + bytes <= self.bound.bytes && fits;
        let rest =
            if fits { self.batches.push((from, batch, now())).map_err(|(_, batch, _)| batch) } else { Err(batch) };
        if rest.is_err() {
            self.release(datagrams, bytes);
        }
        rest
    }

    fn pop(&self) -> Option<(WorkerIndex, DatagramBatch, Instant)> {
        let (from, batch, posted_at) = self.batches.pop()?;
        self.release(batch.items.len(), batch.bytes.len());
        Some((from, batch, posted_at))
    }

    fn release(&self, datagrams: usize, bytes: usize) {
        self.datagrams.fetch_sub(datagrams, Ordering::AcqRel);
        self.bytes.fetch_sub(bytes, Ordering::AcqRel);
    }
}

/// Which queue a datagram that is passed on waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Forwarded {
    /// From a client of the other worker.
    Client,
    /// A check from an address that nobody is known at.
    Stranger,
}

/// An address that a worker owns, or no longer.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddressOwned {
    pub(super) address: SocketAddr,
    pub(super) worker: WorkerIndex,
    pub(super) owned: bool,
}

/// A worker's inbound queues.
pub(super) struct Mailbox {
    waker: Waker,
    /// Whether the worker was woken since it last looked.
    woken: AtomicBool,
    stopped: AtomicBool,
    /// The worker has read its last letter.
    abandoned: AtomicBool,
    letters: SegQueue<Letter>,
    queued_letters: AtomicUsize,
    /// With whose they are, and when they were posted.
    frames: ArrayQueue<(PipeEnd, Vec<Frame>, Instant)>,
    queued_frames: AtomicUsize,
    /// Emptied vectors: who posts a batch takes one of these in exchange.
    spare_frames: ArrayQueue<Vec<Frame>>,
    feedback: ArrayQueue<(PipeEnd, RouteFeedback)>,
    data: ArrayQueue<(PipeEnd, DataMessage)>,
    queued_data_bytes: AtomicUsize,
    clients: BatchQueue,
    strangers: BatchQueue,
    spare_datagrams: ArrayQueue<DatagramBatch>,
    addresses: ArrayQueue<AddressOwned>,
    connections: ArrayQueue<NewConnection>,
    dropped: AtomicU64,
}

impl Mailbox {
    pub(super) fn new(registry: &Registry) -> std::io::Result<Self> {
        Ok(Self {
            waker: Waker::new(registry, WAKER)?,
            woken: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            letters: SegQueue::new(),
            queued_letters: AtomicUsize::new(0),
            frames: ArrayQueue::new(MAX_FRAME_BATCHES),
            queued_frames: AtomicUsize::new(0),
            spare_frames: ArrayQueue::new(MAX_FRAME_BATCHES),
            feedback: ArrayQueue::new(MAX_FEEDBACK),
            data: ArrayQueue::new(MAX_DATA),
            queued_data_bytes: AtomicUsize::new(0),
            clients: BatchQueue::new(MAX_FORWARDS),
            strangers: BatchQueue::new(MAX_CHECKS),
            spare_datagrams: ArrayQueue::new(MAX_SPARE_BATCHES),
            addresses: ArrayQueue::new(MAX_ADDRESSES),
            connections: ArrayQueue::new(MAX_CONNECTIONS),
            dropped: AtomicU64::new(0),
        })
    }

    pub(super) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "cannot wake media worker");
        }
    }

    /// Hands over a command. False if the queue is full or nobody reads it any more.
    #[must_use]
    pub(super) fn post(&self, letter: Letter) -> bool {
        self.offer(letter).is_ok()
    }

    /// As [`post`](Self::post), but gives back what is not taken.
    pub(super) fn offer(&self, letter: Letter) -> Result<(), Box<Letter>> {
        if self.is_stopped() {
            return Err(Box::new(letter));
        }
        let queued = self.queued_letters.fetch_add(1, Ordering::AcqRel);
        if queued >= MAX_LETTERS && !letter.ends_something() {
            self.queued_letters.fetch_sub(1, Ordering::AcqRel);
            return Err(Box::new(letter));
        }
        self.letters.push(letter);
        self.wake();
        // If the worker ended in between, nobody will answer: dropping the letters says so.
        if self.abandoned.load(Ordering::SeqCst) {
            self.drop_letters();
        }
        Ok(())
    }

    /// Hands over what the other end of a route said.
    pub(super) fn post_feedback(&self, from: PipeEnd, feedback: RouteFeedback) {
        if self.feedback.push((from, feedback)).is_err() {
            self.count_dropped(1);
        }
        self.wake();
    }

    /// Hands over a message of a data channel.
    pub(super) fn post_data(&self, from: PipeEnd, message: DataMessage) {
        let len = message.payload.len();
        let fits = self.queued_data_bytes.fetch_add(len, Ordering::AcqRel) + len <= MAX_DATA_BYTES;
        if !fits || self.data.push((from, message)).is_err() {
            self.queued_data_bytes.fetch_sub(len, Ordering::AcqRel);
            self.count_dropped(1);
        }
        self.wake();
    }

    /// Hands over frames and leaves an empty vector.
    pub(super) fn post_frames(&self, from: PipeEnd, frames: &mut Vec<Frame>) {
        let count = frames.len();
        if count == 0 {
            return;
        }
        if self.queued_frames.fetch_add(count, Ordering::AcqRel) + count > MAX_FRAMES {
            self.queued_frames.fetch_sub(count, Ordering::AcqRel);
            self.count_dropped(count);
            frames.clear();
            return;
        }
        let batch = std::mem::replace(frames, self.spare_frames.pop().unwrap_or_default());
        if self.frames.push((from, batch, now())).is_err() {
            self.queued_frames.fetch_sub(count, Ordering::AcqRel);
            self.count_dropped(count);
        }
        self.wake();
    }

    fn batches(&self, kind: Forwarded) -> &BatchQueue {
        match kind {
            Forwarded::Client => &self.clients,
            Forwarded::Stranger => &self.strangers,
        }
    }

    /// Hands over datagrams and leaves an empty batch.
    pub(super) fn post_datagrams(&self, from: WorkerIndex, kind: Forwarded, batch: &mut DatagramBatch) {
        let count = batch.len();
        let full = std::mem::replace(batch, self.spare_datagrams.pop().unwrap_or_default());
        if let Err(rejected) = self.batches(kind).push(from, full) {
            self.count_dropped(count);
            self.give_back_datagrams(rejected);
        }
        self.wake();
    }

    /// Tells of an address.
    pub(super) fn post_address(&self, address: AddressOwned) {
        // If there is no room: that it is owned is said again soon. That it no longer is, is not: whoever has the
        // address next waits until the former owner's time is over.
        let _ = self.addresses.push(address);
        self.wake();
    }

    /// Hands over a connection; one that there is no room for is closed. Whether there was.
    pub(super) fn post_connection(&self, connection: NewConnection) -> bool {
        let taken = !self.is_stopped() && self.connections.push(connection).is_ok();
        self.wake();
        taken
    }

    /// Ends the worker after what was posted before.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.wake();
    }
}

/// The worker's side.
impl Mailbox {
    /// To be called before the queues are looked at: what is posted from now on wakes the worker again.
    pub(super) fn begin_reading(&self) {
        self.woken.swap(false, Ordering::AcqRel);
    }

    /// The worker reads no more.
    pub(super) fn abandon(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        self.abandoned.store(true, Ordering::SeqCst);
        self.drop_letters();
    }

    fn drop_letters(&self) {
        while self.next_letter().is_some() {}
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(super) fn next_letter(&self) -> Option<Letter> {
        let letter = self.letters.pop()?;
        self.queued_letters.fetch_sub(1, Ordering::AcqRel);
        Some(letter)
    }

    /// Frames with whose they are, and when they were posted.
    pub(super) fn next_frames(&self) -> Option<(PipeEnd, Vec<Frame>, Instant)> {
        let (from, frames, posted_at) = self.frames.pop()?;
        self.queued_frames.fetch_sub(frames.len(), Ordering::AcqRel);
        Some((from, frames, posted_at))
    }

    pub(super) fn next_feedback(&self) -> Option<(PipeEnd, RouteFeedback)> {
        self.feedback.pop()
    }

    pub(super) fn next_data(&self) -> Option<(PipeEnd, DataMessage)> {
        let (from, message) = self.data.pop()?;
        self.queued_data_bytes.fetch_sub(message.payload.len(), Ordering::AcqRel);
        Some((from, message))
    }

    pub(super) fn give_back_frames(&self, mut frames: Vec<Frame>) {
        frames.clear();
        // One too many is simply freed.
        let _ = self.spare_frames.push(frames);
    }

    /// Datagrams with who passed them on, and when.
    pub(super) fn next_datagrams(&self, kind: Forwarded) -> Option<(WorkerIndex, DatagramBatch, Instant)> {
        self.batches(kind).pop()
    }

    pub(super) fn give_back_datagrams(&self, mut batch: DatagramBatch) {
        batch.clear();
        let _ = self.spare_datagrams.push(batch);
    }

    pub(super) fn next_address(&self) -> Option<AddressOwned> {
        self.addresses.pop()
    }

    pub(super) fn next_connection(&self) -> Option<NewConnection> {
        self.connections.pop()
    }

    /// Packets, feedback about them and messages of data that found no room in this mailbox.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn count_dropped(&self, packets: usize) {
        self.dropped.fetch_add(packets as u64, Ordering::Relaxed);
    }
}

impl FrameSink for Mailbox {
    fn deliver(&self, link: LinkKey, frames: &mut Vec<Frame>) {
        self.post_frames(PipeEnd::Node(link), frames);
    }

    fn feedback(&self, link: LinkKey, feedback: RouteFeedback) {
        self.post_feedback(PipeEnd::Node(link), feedback);
    }

    fn data(&self, link: LinkKey, message: DataMessage) {
        self.post_data(PipeEnd::Node(link), message);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use sluice_media::messages::Account;
    use sluice_proto::ids::{RouteEpoch, RouteId, RouterId};

    use super::*;

    fn mailbox() -> (mio::Poll, Mailbox) {
        let poll = mio::Poll::new().unwrap();
        let mailbox = Mailbox::new(poll.registry()).unwrap();
        (poll, mailbox)
    }

    fn frames(count: usize) -> Vec<Frame> {
        let frame = Frame {
            route: RouteId(1),
            epoch: RouteEpoch(0),
            seq: 0,
            flags: sluice_mesh::FrameFlags::default(),
            class: sluice_mesh::FrameClass::Audio,
            packet: Bytes::from_static(b"packet"),
        };
        vec![frame; count]
    }

    fn request() -> (Letter, oneshot::Receiver<Result<Response, RequestError>>) {
        let (answer, answered) = oneshot::channel();
        let request = Request::CreateRouter { router: RouterId::from_random_bytes([0; 16]), account: Account(0) };
        (Letter::Request { request, answer: Some(answer) }, answered)
    }

    #[test]
    fn a_post_wakes_the_worker_once_until_it_looks() {
        let (mut poll, mailbox) = mailbox();
        let mut events = mio::Events::with_capacity(4);
        let mut woken = |poll: &mut mio::Poll| {
            poll.poll(&mut events, Some(std::time::Duration::ZERO)).unwrap();
            !events.is_empty()
        };
        mailbox.post_frames(PipeEnd::Node(LinkKey(1)), &mut frames(1));
        mailbox.post_frames(PipeEnd::Node(LinkKey(1)), &mut frames(1));
        assert!(woken(&mut poll));
        mailbox.post_frames(PipeEnd::Node(LinkKey(1)), &mut frames(1));
        assert!(!woken(&mut poll), "it has not looked since");
        mailbox.begin_reading();
        assert_eq!(std::iter::from_fn(|| mailbox.next_frames()).count(), 3);
        mailbox.post_frames(PipeEnd::Node(LinkKey(1)), &mut frames(1));
        assert!(woken(&mut poll));
    }

    #[test]
    fn messages_of_data_are_bounded_in_number_and_bytes_and_counted() {
        let (_poll, mailbox) = mailbox();
        let message = |len: usize| DataMessage {
            route: RouteId(1),
            epoch: RouteEpoch(0),
            number: 0,
            ppid: 51,
            payload: Bytes::from(vec![0; len]),
        };
        for len in [0, MAX_DATA_BYTES / 8] {
            let fit = if len == 0 { MAX_DATA } else { 8 };
            let before = mailbox.dropped();
            for _ in 0..fit + 3 {
                mailbox.data(LinkKey(7), message(len));
            }
            assert_eq!(mailbox.dropped() - before, 3);
            assert_eq!(std::iter::from_fn(|| mailbox.next_data()).count(), fit);
        }
        mailbox.data(LinkKey(7), message(MAX_DATA_BYTES));
        assert_eq!(mailbox.next_data().map(|(from, _)| from), Some(PipeEnd::Node(LinkKey(7))), "there is room again");
    }

    #[test]
    fn frames_are_bounded_and_counted_and_their_vectors_come_back() {
        let (_poll, mailbox) = mailbox();
        let mut batch = frames(100);
        for _ in 0..MAX_FRAMES / 100 + 5 {
            batch.resize(100, frames(1).remove(0));
            mailbox.deliver(LinkKey(7), &mut batch);
            assert!(batch.is_empty());
        }
        assert_eq!(mailbox.dropped(), 5 * 100);
        let (from, taken, _) = mailbox.next_frames().unwrap();
        assert_eq!((from, taken.len()), (PipeEnd::Node(LinkKey(7)), 100));
        mailbox.give_back_frames(taken);
        let mut batch = frames(1);
        mailbox.deliver(LinkKey(7), &mut batch);
        assert!(batch.capacity() >= 100, "the emptied vector is given in exchange");
        mailbox.deliver(LinkKey(7), &mut Vec::new());
        assert_eq!(std::iter::from_fn(|| mailbox.next_frames()).map(|(_, frames, _)| frames.len()).last(), Some(1));
    }

    #[test]
    fn datagrams_keep_their_sources_and_borders() {
        let (_poll, mailbox) = mailbox();
        let address = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let mut batch = DatagramBatch::default();
        for (port, len) in [(1, 3), (2, 0), (3, 5)] {
            batch.push(address(port), &vec![port as u8; len]);
        }
        mailbox.post_datagrams(WorkerIndex(3), Forwarded::Client, &mut batch);
        assert_eq!(batch.len(), 0);
        assert!(mailbox.next_datagrams(Forwarded::Stranger).is_none());
        let (from, mut received, _) = mailbox.next_datagrams(Forwarded::Client).unwrap();
        assert_eq!(from, WorkerIndex(3));
        let datagrams: Vec<_> = received.iter_mut().map(|(source, data)| (source.port(), data.to_vec())).collect();
        assert_eq!(datagrams, [(1, vec![1; 3]), (2, vec![]), (3, vec![3; 5])]);
        mailbox.give_back_datagrams(received);
    }

    #[test]
    fn datagrams_are_bounded_in_number_and_bytes_and_strangers_take_no_room_of_clients() {
        let (_poll, mailbox) = mailbox();
        let source = SocketAddr::from(([192, 0, 2, 1], 1));
        let post = |kind, len| {
            let mut batch = DatagramBatch::default();
            while !batch.is_full() {
                batch.push(source, &vec![0; len]);
            }
            mailbox.post_datagrams(WorkerIndex(1), kind, &mut batch);
        };
        let drain = |kind| {
            let batches: Vec<_> = std::iter::from_fn(|| mailbox.next_datagrams(kind)).collect();
            let bytes: usize = batches.iter().map(|(_, batch, _)| batch.bytes.len()).sum();
            (batches.iter().map(|(_, batch, _)| batch.len()).sum::<usize>(), bytes)
        };
        (0..100).for_each(|_| post(Forwarded::Stranger, 100));
        assert_eq!(mailbox.dropped(), 100 * BATCH_DATAGRAMS as u64 - MAX_CHECKS.datagrams as u64);
        let dropped = mailbox.dropped();
        (0..MAX_FORWARDS.datagrams / BATCH_DATAGRAMS).for_each(|_| post(Forwarded::Client, 100));
        assert_eq!(mailbox.dropped(), dropped, "strangers have a queue of their own");
        assert_eq!(drain(Forwarded::Client).0, MAX_FORWARDS.datagrams);
        assert_eq!(drain(Forwarded::Stranger).0, MAX_CHECKS.datagrams);

        (0..100).for_each(|_| post(Forwarded::Client, 60_000));
        let (_, bytes) = drain(Forwarded::Client);
        assert!(bytes > MAX_FORWARDS.bytes / 2 && bytes <= MAX_FORWARDS.bytes, "{bytes}");
        (0..MAX_FORWARDS.datagrams / BATCH_DATAGRAMS).for_each(|_| post(Forwarded::Client, 1));
        assert_eq!(drain(Forwarded::Client).0, MAX_FORWARDS.datagrams, "what was taken out makes room");
    }

    #[test]
    fn who_asks_a_worker_that_is_gone_is_told() {
        let (_poll, mailbox) = mailbox();
        let (letter, mut answered) = request();
        assert!(mailbox.post(letter));
        mailbox.abandon();
        assert!(matches!(answered.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        let (letter, mut answered) = request();
        assert!(!mailbox.post(letter));
        assert!(matches!(answered.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
    }

    #[test]
    fn commands_are_bounded_but_for_those_that_end_something() {
        let (_poll, mailbox) = mailbox();
        let posted = (0..MAX_LETTERS + 10).filter(|_| mailbox.post(request().0)).count();
        assert_eq!(posted, MAX_LETTERS);
        let back = *mailbox.offer(request().0).unwrap_err();
        assert!(matches!(back, Letter::Request { request: Request::CreateRouter { .. }, .. }));
        let close = Request::CloseRouter { router: RouterId::from_random_bytes([0; 16]) };
        assert!(mailbox.post(Letter::Request { request: close, answer: None }));
        // Two have to be read before there is room for one.
        mailbox.next_letter().unwrap();
        assert!(!mailbox.post(request().0));
        mailbox.next_letter().unwrap();
        assert!(mailbox.post(request().0));
        let last = std::iter::from_fn(|| mailbox.next_letter()).last();
        assert!(matches!(last, Some(Letter::Request { request: Request::CreateRouter { .. }, .. })), "in order");
        assert_eq!(mailbox.queued_letters.load(Ordering::Relaxed), 0);
    }
}
