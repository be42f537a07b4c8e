//! The task that writes events down and delivers them.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use serde::Deserialize;
use sluice_proto::ids::{NamespaceId, RoomId, RoomKey};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::lanes::{Lanes, Waiting};
use super::post::Receiver;
use super::queue::{Position, Queue};
use super::segment::Stored;
use super::{Outgoing, WebhookCounters};
use crate::support::{count, unix_ms};

/// Events that are written at once.
const BATCH: usize = 1_024;

/// Between two lines of the log about a receiver that takes nothing.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// How much of everything there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct DeliveryLimits {
    pub(super) queue_bytes: u64,
    /// Deliveries at a time.
    pub(super) concurrency: usize,
    /// Older events are given up.
    pub(super) max_age: Duration,
}

/// What of an event the delivery has to know.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    id: String,
    time_ms: u64,
    namespace: NamespaceId,
    room: RoomId,
}

/// A room whose event was delivered, or was not.
type Posted = (RoomKey, Position, Fate);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Taken,
    Refused,
    /// It cannot be read.
    Broken,
}

/// Events that wait, and those that are under way.
pub(super) struct Delivery<R> {
    /// `None` while it is written to.
    queue: Option<Queue>,
    lanes: Lanes,
    posts: FuturesUnordered<BoxFuture<'static, Posted>>,
    /// Events that need no delivery any more, of which the queue has not been told.
    done: Vec<Position>,
    receiver: R,
    limits: DeliveryLimits,
    counters: Arc<WebhookCounters>,
    warned: Option<Instant>,
}

impl<R: Receiver> Delivery<R> {
    /// Begins with what a former life left in `dir`.
    ///
    /// # Errors
    /// When that cannot be read.
    pub(super) fn open(
        dir: Option<PathBuf>,
        limits: DeliveryLimits,
        receiver: R,
        counters: Arc<WebhookCounters>,
    ) -> io::Result<Self> {
        let (now, now_ms) = (Instant::now(), unix_ms());
        let (mut lanes, mut done) = (Lanes::default(), Vec::new());
        let queue =
            Queue::open(dir, limits.queue_bytes, |position, body| match serde_json::from_slice::<Envelope>(body) {
                Ok(Envelope { time_ms, namespace, room, .. }) => {
                    let age = Duration::from_millis(now_ms.saturating_sub(time_ms));
                    let until = now + limits.max_age.saturating_sub(age);
                    lanes.push(RoomKey { namespace, room }, Waiting { position, until });
                }
                Err(error) => {
                    tracing::error!(%error, "an event of a former life cannot be read");
                    count(&counters.lost);
                    done.push(position);
                }
            })?;
        counters.lost.fetch_add(queue.lost(), Ordering::Relaxed);
        counters.tell(&queue);
        let posts = FuturesUnordered::new();
        Ok(Self { queue: Some(queue), lanes, posts, done, receiver, limits, counters, warned: None })
    }

    /// Delivers until `stop`, and after that until nothing is left.
    pub(super) async fn run(mut self, mut events: mpsc::Receiver<Outgoing>, stop: CancellationToken) {
        let (mut batch, mut is_open) = (Vec::new(), true);
        while is_open || !self.lanes.is_empty() {
            self.begin_posts();
            // Of what has expired.
            if self.write(Vec::new()).await.is_none() {
                return;
            }
            tokio::select! {
                count = events.recv_many(&mut batch, BATCH), if is_open => is_open = count > 0,
                Some(posted) = self.posts.next(), if !self.posts.is_empty() => self.end_post(posted),
                () = until(self.lanes.wake_at()), if self.posts.len() < self.limits.concurrency => continue,
                // What was told before is still received.
                () = stop.cancelled(), if !events.is_closed() => events.close(),
            }
            if self.write(std::mem::take(&mut batch)).await.is_none() {
                return;
            }
        }
    }

    fn begin_posts(&mut self) {
        let Some(queue) = &self.queue else { return };
        let now = Instant::now();
        while self.posts.len() < self.limits.concurrency
            && let Some((room, Waiting { position, until })) = self.lanes.next(now)
        {
            match queue.get(position) {
                Some(stored) if now < until => {
                    let receiver = self.receiver.clone();
                    self.posts.push(Box::pin(async move { (room, position, post(receiver, stored).await) }));
                }
                Some(_) => {
                    count(&self.counters.expired);
                    self.done.push(position);
                    self.lanes.done(room);
                }
                None => self.lanes.done(room),
            }
        }
    }

    fn end_post(&mut self, (room, position, fate): Posted) {
        let now = Instant::now();
        match fate {
            Fate::Taken => {
                count(&self.counters.delivered);
                self.done.push(position);
                self.lanes.done(room);
            }
            Fate::Broken => {
                count(&self.counters.dropped);
                self.done.push(position);
                self.lanes.done(room);
            }
            Fate::Refused => {
                count(&self.counters.failed);
                if self.warned.is_none_or(|warned| now - warned >= WARN_EVERY) {
                    self.warned = Some(now);
                    let pending = self.counters.pending.load(Ordering::Relaxed);
                    tracing::warn!(%room, pending, "the receiver of webhooks does not take events");
                }
                self.lanes.fail(room, now, rand::random());
            }
        }
    }

    /// Writes down what came and what is done. `None` if writing panicked.
    async fn write(&mut self, batch: Vec<Outgoing>) -> Option<()> {
        let done = std::mem::take(&mut self.done);
        if batch.is_empty() && done.is_empty() {
            return Some(());
        }
        let (rooms, bodies): (Vec<RoomKey>, Vec<Bytes>) =
            batch.into_iter().map(|Outgoing { room, body }| (room, body)).unzip();
        let mut queue = self.queue.take()?;
        let dropped = queue.dropped();
        let writing = tokio::task::spawn_blocking(move || {
            queue.set_done(&done);
            let positions = if bodies.is_empty() { Vec::new() } else { queue.append(&bodies) };
            (queue, positions)
        });
        let (queue, positions) = writing.await.ok()?;
        let until = Instant::now() + self.limits.max_age;
        for (room, position) in rooms.into_iter().zip(positions) {
            self.lanes.push(room, Waiting { position, until });
        }
        if queue.dropped() > dropped {
            self.counters.dropped.fetch_add(queue.dropped() - dropped, Ordering::Relaxed);
            tracing::error!(
                dropped = queue.dropped() - dropped,
                "the queue of webhooks is full: the oldest are dropped"
            );
            self.lanes.retain(|position| queue.has(position));
        }
        self.counters.tell(&queue);
        self.queue = Some(queue);
        Some(())
    }
}

impl WebhookCounters {
    fn tell(&self, queue: &Queue) {
        self.pending.store(queue.pending() as u64, Ordering::Relaxed);
        self.queue_bytes.store(queue.len(), Ordering::Relaxed);
    }
}

async fn post(receiver: impl Receiver, stored: Stored) -> Fate {
    let read = tokio::task::spawn_blocking(move || stored.read()).await;
    let body = match read.map_err(io::Error::other).flatten() {
        Ok(body) => body,
        Err(error) => {
            tracing::error!(%error, "an event cannot be read back");
            return Fate::Broken;
        }
    };
    let Ok(Envelope { id, .. }) = serde_json::from_slice(&body) else { return Fate::Broken };
    match receiver.post(&id, body).await {
        Ok(()) => Fate::Taken,
        Err(error) => {
            tracing::debug!(id, %error, "an event was not taken");
            Fate::Refused
        }
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
