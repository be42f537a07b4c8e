//! One WebSocket of a client: text in, requests to the room; what the room says, text out.
//!
//! Reading and writing are two futures of one task. The reader is slowed down by the room's mailbox and by the rate
//! limit, the writer by the client's connection; neither holds the other up.

use std::collections::HashMap;
use std::fmt::Display;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use sluice_proto::ids::ConsumerId;
use tokio::runtime::Handle;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_util::sync::CancellationToken;

use super::message::{self, Malformed, Message};
use crate::limits::Limits;
use crate::rooms::api::{CloseReason, Outgoing};
use crate::rooms::context::{Context, RoomSender};
use crate::rooms::room::{RoomMessage, SessionId};
use crate::signalling::demo_v3;
use crate::support::{count, lock};

/// How long a client that is sent a close frame may take to answer it.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Requests of the server wait for 2 s x (15 + 0.1 x requests that wait), as protoo's server does it.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const REQUEST_TIMEOUT_PER_PENDING: Duration = Duration::from_millis(200);

/// Ids of the server's requests, as protoo's clients make them.
const REQUEST_IDS: u32 = 10_000_000;

/// What a client may send at once, in seconds of what it may send: a browser that joins sends what it has to say in a
/// moment.
const BYTES_BURST_SECONDS: f64 = 4.0;

/// Longest reason of a close frame, in bytes: RFC 6455 section 5.5 allows 125 with the code.
const MAX_REASON_LEN: usize = 123;

/// A session that a room has been told of. However it ends, the room hears of that.
pub(crate) struct Session {
    leaving: Leaving,
    outgoing: mpsc::Receiver<Outgoing>,
    abort: CancellationToken,
    context: Arc<Context>,
}

/// Tells the room that the session has ended.
struct Leaving {
    session: SessionId,
    room: RoomSender,
}

impl Session {
    pub(crate) fn new(
        session: SessionId,
        room: RoomSender,
        outgoing: mpsc::Receiver<Outgoing>,
        abort: CancellationToken,
        context: Arc<Context>,
    ) -> Self {
        Self { leaving: Leaving { session, room }, outgoing, abort, context }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let left = RoomMessage::Left { session: self.session };
        // A room that has ended needs no telling; one that is busy is told by a task of its own.
        if let (Err(TrySendError::Full(left)), Ok(runtime)) = (self.room.try_send(left), Handle::try_current()) {
            let room = self.room.clone();
            runtime.spawn(async move { room.send(left).await });
        }
    }
}

/// A close frame: code and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Closing(u16, String);

/// Questions that the client has not answered yet.
#[derive(Default)]
struct Questions {
    next: u32,
    waiting: HashMap<u32, (ConsumerId, Instant)>,
}

/// What shows that the client is there.
struct Signs {
    /// When something came from it last, if only the answer to a ping; `None` while the reader is busy with that.
    heard: Option<Instant>,
    /// Who waits for something to come.
    probes: Vec<oneshot::Sender<()>>,
}

/// What reader and writer share.
struct Shared {
    questions: Mutex<Questions>,
    signs: Mutex<Signs>,
    /// Answers of the reader's own, to messages that no room has to see.
    answers: mpsc::Sender<String>,
}

/// Serves a WebSocket until it closes. The code of the server's close frame; `None` if the client closed or went.
pub(crate) async fn serve<S, E>(socket: S, session: Session) -> Option<u16>
where
    S: Stream<Item = Result<Frame, E>> + Sink<Frame> + Send,
    E: Display + Send,
{
    let Session { leaving, outgoing, abort, context } = session;
    let (mut sink, mut stream) = socket.split();
    let (answers, answers_out) = mpsc::channel(context.limits.request_burst as usize);
    let signs = Mutex::new(Signs { heard: Some(Instant::now()), probes: Vec::new() });
    let shared = Shared { questions: Mutex::default(), signs, answers };
    let closing = {
        let (id, room) = (leaving.session, &leaving.room);
        let reader = pin!(read(&mut stream, &shared, id, room, &context));
        let limits = &context.limits;
        let mut writer = Writer { sink: &mut sink, shared: &shared, id, room, limits, join_due: None };
        let writer = pin!(writer.run(outgoing, answers_out));
        tokio::select! {
            closing = reader => closing,
            closing = writer => closing,
            () = abort.cancelled() => {
                count(&context.counters.sessions_dropped);
                Some(Closing(1008, "too many messages wait for this client".to_owned()))
            }
        }
    };
    drop(leaving);
    let closing = closing?;
    let code = closing.0;
    close(&mut sink, &mut stream, closing).await;
    Some(code)
}

/// Refuses a WebSocket that no room takes.
pub(crate) async fn refuse<S, E>(socket: S, reason: String)
where
    S: Stream<Item = Result<Frame, E>> + Sink<Frame> + Send,
{
    let (mut sink, mut stream) = socket.split();
    close(&mut sink, &mut stream, Closing(1013, reason)).await;
}

fn shortened(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_REASON_LEN)]
}

/// Sends a close frame and waits a moment for the client's own, so that the frame is not lost in a reset.
async fn close<S, R>(sink: &mut S, stream: &mut R, Closing(code, reason): Closing)
where
    S: Sink<Frame> + Unpin,
    R: Stream + Unpin,
{
    let reason = shortened(&reason).to_owned();
    let _ = timeout(CLOSE_WITHIN, async {
        if sink.send(Frame::Close(Some(CloseFrame { code: code.into(), reason: reason.into() }))).await.is_ok() {
            while stream.next().await.is_some() {}
        }
    })
    .await;
}

async fn read<R, E>(
    stream: &mut R,
    shared: &Shared,
    id: SessionId,
    room: &RoomSender,
    context: &Context,
) -> Option<Closing>
where
    R: Stream<Item = Result<Frame, E>> + Unpin,
    E: Display,
{
    let limits = &context.limits;
    let mut messages = Bucket::new(limits.request_burst.into(), limits.requests_per_second.into());
    let mut bytes =
        Bucket::new(BYTES_BURST_SECONDS * f64::from(limits.bytes_per_second), limits.bytes_per_second.into());
    loop {
        shared.listen();
        let frame = stream.next().await?;
        shared.hear();
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(%error, "a WebSocket broke");
                return Some(Closing(1009, "the message is broken or too large".to_owned()));
            }
        };
        messages.take(1.0).await;
        bytes.take(frame.len() as f64).await;
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Binary(_) => return Some(Closing(1003, "protoo is text".to_owned())),
            Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => continue,
            Frame::Close(_) => return None,
        };
        if !on_text(&text, shared, id, room, context).await {
            return Some(room_ended());
        }
    }
}

/// False when the room has ended.
async fn on_text(text: &str, shared: &Shared, session: SessionId, room: &RoomSender, context: &Context) -> bool {
    let (id, refusal) = match message::parse(text) {
        Ok(Message::Request { id, method, data }) => match demo_v3::request(&method, data) {
            Ok(request) => return room.send(RoomMessage::Request { session, id, request }).await.is_ok(),
            Err(refusal) => {
                count(&context.counters.requests_failed);
                (Some(id), refusal)
            }
        },
        Ok(Message::Response { id, result }) => {
            let Some((consumer, _)) = lock(&shared.questions).waiting.remove(&id) else { return true };
            if let Err(refusal) = &result {
                tracing::debug!(%consumer, code = refusal.code, reason = refusal.reason, "the client refused a consumer");
            }
            let answer = RoomMessage::ConsumerAnswered { session, consumer, accepted: result.is_ok() };
            return room.send(answer).await.is_ok();
        }
        Ok(Message::Notification { method }) => {
            tracing::debug!(method, "a notification that means nothing to this server");
            return true;
        }
        Err(Malformed { id, refusal }) => {
            count(&context.counters.malformed_messages);
            (id, refusal)
        }
    };
    shared.answers.send(message::response(id, Err(refusal))).await.is_ok()
}

/// What one turn of the writer sends, in this order.
#[derive(Default)]
struct Batch {
    texts: Vec<String>,
    ping: bool,
    closing: Option<Closing>,
}

struct Writer<'a, S> {
    sink: &'a mut S,
    shared: &'a Shared,
    id: SessionId,
    room: &'a RoomSender,
    limits: &'a Limits,
    /// When the client should have joined, while it is waited for.
    join_due: Option<Instant>,
}

impl<S: Sink<Frame> + Unpin> Writer<'_, S> {
    async fn run(
        &mut self,
        mut outgoing: mpsc::Receiver<Outgoing>,
        mut answers: mpsc::Receiver<String>,
    ) -> Option<Closing> {
        let mut ping = interval(self.limits.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let (method, data) = demo_v3::greeting();
        self.write([message::notification(method, &data)]).await?;
        loop {
            let mut batch = Batch::default();
            tokio::select! {
                first = outgoing.recv() => {
                    let Some(first) = first else { return Some(room_ended()) };
                    self.take(first, &mut batch);
                    // Whatever else is waiting leaves in the same write.
                    while batch.closing.is_none() && let Ok(next) = outgoing.try_recv() {
                        self.take(next, &mut batch);
                    }
                }
                Some(text) = answers.recv() => batch.texts.push(text),
                _ = ping.tick() => batch.ping = true,
                () = self.shared.silent_for(self.limits.silence) => {
                    return Some(Closing(4003, "nothing was heard of the client".to_owned()));
                }
                () = until(self.join_due) => {
                    self.join_due = None;
                    // Behind a join that waits there: the room knows whether this client is late or itself.
                    let _ = self.room.send(RoomMessage::JoinDue { session: self.id }).await;
                }
                expired = self.shared.expiry() => self.expire(expired).await,
            }
            self.write(batch.texts).await?;
            if batch.ping {
                self.send(Frame::Ping(Default::default())).await?;
            }
            if batch.closing.is_some() {
                return batch.closing;
            }
        }
    }

    fn take(&mut self, message: Outgoing, batch: &mut Batch) {
        match message {
            Outgoing::Reply { id, result } => batch.texts.push(message::response(Some(id), result.map(demo_v3::reply))),
            Outgoing::Notice(notice) => {
                let (method, data) = demo_v3::notice(&notice);
                batch.texts.push(message::notification(method, &data));
            }
            Outgoing::NewConsumer(consumer) => {
                let (method, data) = demo_v3::new_consumer(&consumer);
                let id = lock(&self.shared.questions).ask(consumer.id);
                batch.texts.push(message::request(id, method, &data));
            }
            Outgoing::JoinAwaited => self.join_due = Some(Instant::now() + self.limits.join_within),
            Outgoing::Probe(answer) => batch.ping |= self.shared.probe(answer),
            Outgoing::Close(reason, words) => batch.closing = Some(Closing(close_code(reason), words)),
        }
    }

    /// A question that is not answered in time counts as refused.
    async fn expire(&self, question: u32) {
        let waiting = lock(&self.shared.questions).waiting.remove(&question);
        if let Some((consumer, _)) = waiting {
            tracing::debug!(%consumer, "the client did not answer newConsumer");
            let _ = self.room.send(RoomMessage::ConsumerAnswered { session: self.id, consumer, accepted: false }).await;
        }
    }

    /// `None` when the client does not take it.
    async fn write(&mut self, texts: impl IntoIterator<Item = String>) -> Option<()> {
        let mut any = false;
        for text in texts {
            timeout(self.limits.write_within, self.sink.feed(Frame::Text(text.into()))).await.ok()?.ok()?;
            any = true;
        }
        if any {
            timeout(self.limits.write_within, self.sink.flush()).await.ok()?.ok()?;
        }
        Some(())
    }

    async fn send(&mut self, frame: Frame) -> Option<()> {
        timeout(self.limits.write_within, self.sink.send(frame)).await.ok()?.ok()
    }
}

impl Questions {
    fn ask(&mut self, consumer: ConsumerId) -> u32 {
        let id = self.next;
        self.next = (self.next + 1) % REQUEST_IDS;
        let pending = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
        let until = Instant::now() + REQUEST_TIMEOUT + REQUEST_TIMEOUT_PER_PENDING * pending;
        self.waiting.insert(id, (consumer, until));
        id
    }
}

impl Shared {
    /// Something came from the client.
    fn hear(&self) {
        let signs = &mut *lock(&self.signs);
        signs.heard = None;
        for probe in signs.probes.drain(..) {
            // Whoever waited may have given up.
            let _ = probe.send(());
        }
    }

    /// Whatever came has been dealt with.
    fn listen(&self) {
        lock(&self.signs).heard = Some(Instant::now());
    }

    /// Asks for a sign of life. True if the client has to be asked for one.
    fn probe(&self, answer: oneshot::Sender<()>) -> bool {
        let signs = &mut *lock(&self.signs);
        if signs.heard.is_none() {
            let _ = answer.send(());
            return false;
        }
        signs.probes.push(answer);
        signs.probes.len() == 1
    }

    /// Waits until nothing has been heard of the client for so long.
    async fn silent_for(&self, limit: Duration) {
        loop {
            let since = lock(&self.signs).heard.unwrap_or_else(Instant::now);
            if since.elapsed() >= limit {
                return;
            }
            sleep_until(since + limit).await;
        }
    }

    /// Waits for the first question that is not answered in time.
    async fn expiry(&self) -> u32 {
        let first = lock(&self.questions).waiting.iter().map(|(id, (_, until))| (*until, *id)).min();
        match first {
            Some((until, id)) => {
                sleep_until(until).await;
                id
            }
            // The writer asks again after whatever it does next, and only the writer asks questions.
            None => std::future::pending().await,
        }
    }
}

/// The client may come back at once: the room will be made anew.
fn room_ended() -> Closing {
    Closing(1012, "the room has ended".to_owned())
}

/// Waits for a moment, if there is one.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

/// A token bucket: a client that sends faster than it may is read slower.
struct Bucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl Bucket {
    fn new(burst: f64, per_second: f64) -> Self {
        Self { tokens: burst, burst, per_second, filled: Instant::now() }
    }

    async fn take(&mut self, tokens: f64) {
        let now = Instant::now();
        let gained = now.duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst) - tokens;
        self.filled = now;
        if self.tokens < 0.0 {
            tokio::time::sleep(Duration::from_secs_f64(-self.tokens / self.per_second)).await;
        }
    }
}

fn close_code(reason: CloseReason) -> u16 {
    match reason {
        // The one code after which clients do not come back.
        CloseReason::Replaced => 4000,
        CloseReason::NotJoined => 4002,
        CloseReason::Overloaded => 1013,
        CloseReason::Shutdown => 1012,
        CloseReason::Full => 1013,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_fits_into_a_close_frame_in_any_script() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"a".repeat(124)).len(), 123);
        assert_eq!(shortened(&"ж".repeat(100)), "ж".repeat(61));
        assert_eq!(shortened(&"漢".repeat(100)), "漢".repeat(41));
    }
}
