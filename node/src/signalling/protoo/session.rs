//! One WebSocket of a client: text in, requests to the room; what the room says, text out.
//!
//! Reading and writing are two futures of one task. The reader is slowed down by the room's mailbox and by the rate
//! limit, the writer by the client's connection. The writer holds the reader up only where a client asks for more than
//! it takes: what it has not been answered is bounded in bytes.

use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt};
use serde_json::Value;
use sluice_proto::ids::ConsumerId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Message as Frame, Utf8Bytes};

use super::message::{self, Malformed, Message};
use crate::entrance::{AdmissionError, Entrance};
use crate::limits::Limits;
use crate::rooms::api::{CloseReason, Notice, PeerRequest, Refusal};
use crate::rooms::context::Counters;
use crate::rooms::seat::{Answer, News, RoomEnded, Seat};
use crate::signalling::demo::{self, Dialect};
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

/// Answers that a client has not taken, in KiB: it is read on when it has taken some. A browser that joins asks for as
/// much at once: capabilities, two transports and who is there.
const UNTAKEN_KIB: u32 = 64;

/// What a list of peers may have: a page of them with long names, and few rooms have more of whom all are told.
const LIST_KIB: u32 = 48;

/// What the room's capabilities have, which are told twice.
const CAPABILITIES_KIB: u32 = 12;

/// More than any other answer has.
const ANSWER_KIB: u32 = 1;

/// A list of peers counts as so many requests: it takes the room as long.
const LIST_REQUESTS: f64 = 10.0;

/// Longest reason of a close frame, in bytes: RFC 6455 section 5.5 allows 125 with the code.
const MAX_REASON_LEN: usize = 123;

/// A close frame: code and reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closing(pub(crate) u16, pub(crate) String);

/// How a session ends.
enum End {
    /// The client closed the WebSocket.
    Left,
    /// The connection broke: the client may come back.
    Broken,
    /// The server closes the WebSocket.
    Closing(Closing),
}

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
struct Shared<'a> {
    entrance: &'a Entrance,
    seat: &'a Seat,
    limits: &'a Limits,
    counters: &'a Counters,
    questions: Mutex<Questions>,
    /// As far as is known.
    dialect: Mutex<Dialect>,
    signs: Mutex<Signs>,
    /// Room for answers, in KiB.
    untaken: Arc<Semaphore>,
    /// To the writer; as many as there is room for.
    responses: mpsc::UnboundedSender<Response>,
}

/// What a request of the client is answered with.
enum Response {
    /// By the room, when it has the answer.
    Awaited(Awaited),
    /// By the reader itself: no room has to see what was asked.
    Text(Answered),
}

/// An answer, and the room that it takes until it is written.
struct Answered {
    text: Utf8Bytes,
    room: OwnedSemaphorePermit,
}

/// Serves one protoo WebSocket until it closes; `dialect` is what its URL lets expect. The subprotocol has been
/// checked, and the socket's own limit of messages is [`Limits::message_bytes`]. What it says is wrong with what came
/// is how it is closed.
pub(crate) async fn serve<S>(entrance: &Entrance, socket: S, admitted: Result<Seat, AdmissionError>, dialect: Dialect)
where
    S: Stream<Item = Result<Frame, Closing>> + Sink<Frame> + Send,
{
    let served = async {
        match admitted {
            Ok(seat) => serve_seat(entrance, socket, seat, dialect).await,
            Err(refusal) => refuse(socket, refusal.to_string()).await,
        }
    };
    entrance.rooms().tasks().track_future(served).await;
}

/// Serves a WebSocket that has a seat.
async fn serve_seat<S>(entrance: &Entrance, socket: S, seat: Seat, dialect: Dialect)
where
    S: Stream<Item = Result<Frame, Closing>> + Sink<Frame> + Send,
{
    let (mut sink, mut stream) = socket.split();
    let rooms = entrance.rooms();
    let limits = rooms.limits();
    let (responses, responses_out) = mpsc::unbounded_channel();
    let signs = Mutex::new(Signs { heard: Some(Instant::now()), probes: Vec::new() });
    let end = {
        let (seat, counters) = (&seat, rooms.counters());
        let (questions, dialect) = (Mutex::default(), Mutex::new(dialect));
        let untaken = Arc::new(Semaphore::new(UNTAKEN_KIB as usize));
        let shared = Shared { entrance, seat, limits, counters, questions, dialect, signs, untaken, responses };
        let mut reader = pin!(read(&mut stream, &shared));
        let mut writer = Writer { sink: &mut sink, shared: &shared, awaited: FuturesUnordered::new(), join_due: None };
        let writer = pin!(writer.run(responses_out));
        tokio::select! {
            end = &mut reader => end,
            // One that left takes nothing any more either, and has said so. What else is read is of no account.
            end = writer => match end {
                End::Broken => match timeout(CLOSE_WITHIN, reader).await {
                    Ok(End::Left) => End::Left,
                    _ => End::Broken,
                },
                end => end,
            }
        }
    };
    match end {
        End::Left => {}
        End::Broken => seat.break_off(),
        End::Closing(closing) => {
            // The room need not wait for the client to close.
            drop(seat);
            close(&mut sink, &mut stream, closing).await;
        }
    }
}

/// Refuses a WebSocket that no room takes.
async fn refuse<S>(socket: S, reason: String)
where
    S: Stream<Item = Result<Frame, Closing>> + Sink<Frame> + Send,
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

async fn read<R>(stream: &mut R, shared: &Shared<'_>) -> End
where
    R: Stream<Item = Result<Frame, Closing>> + Unpin,
{
    let limits = shared.limits;
    let mut messages = Bucket::new(limits.request_burst.into(), limits.requests_per_second.into());
    let mut bytes =
        Bucket::new(BYTES_BURST_SECONDS * f64::from(limits.bytes_per_second), limits.bytes_per_second.into());
    loop {
        shared.listen();
        let Some(frame) = stream.next().await else { return End::Broken };
        shared.hear();
        let frame = match frame {
            Ok(frame) => frame,
            Err(closing) => {
                tracing::debug!(code = closing.0, reason = closing.1, "a WebSocket broke");
                return End::Closing(closing);
            }
        };
        messages.take(1.0).await;
        bytes.take(frame.len() as f64).await;
        let text = match frame {
            Frame::Text(text) => text,
            Frame::Binary(_) => return End::Closing(Closing(1003, "protoo is text".to_owned())),
            Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_) => continue,
            Frame::Close(_) => return End::Left,
        };
        if on_text(&text, shared, &mut messages).await.is_err() {
            return End::Closing(room_ended());
        }
    }
}

async fn on_text(text: &str, shared: &Shared<'_>, messages: &mut Bucket) -> Result<(), RoomEnded> {
    let (id, refusal) = match message::parse(text) {
        Ok(Message::Request { id, method, data }) => {
            let dialect = shared.learn_dialect(&method, &data);
            match request(&method, data, shared) {
                Ok(demo::Request::OfRoom(request)) => {
                    if is_list(&request) {
                        messages.take(LIST_REQUESTS - 1.0).await;
                    }
                    return shared.ask(Some(id), dialect, request).await;
                }
                Ok(demo::Request::Answered(data)) => {
                    shared.answer(message::response(Some(id), Ok(data))).await;
                    return Ok(());
                }
                Err(refusal) => {
                    count(&shared.counters.requests_failed);
                    (Some(id), refusal)
                }
            }
        }
        Ok(Message::Response { id, result }) => {
            let Some((consumer, _)) = lock(&shared.questions).waiting.remove(&id) else { return Ok(()) };
            if let Err(refusal) = &result {
                tracing::debug!(%consumer, code = refusal.code, reason = refusal.reason, "the client refused a consumer");
            }
            return shared.seat.answer(consumer, result.is_ok()).await;
        }
        Ok(Message::Notification { method, data }) => return on_notification(&method, data, shared).await,
        Err(Malformed { id, refusal }) => {
            count(&shared.counters.malformed_messages);
            (id, refusal)
        }
    };
    shared.answer(message::response(id, Err(refusal))).await;
    Ok(())
}

/// Whether it is answered with who is there.
fn is_list(request: &PeerRequest) -> bool {
    matches!(request, PeerRequest::Join(_) | PeerRequest::Peers { .. })
}

/// How much room there has to be for the answer.
fn answer_kib(request: &PeerRequest) -> u32 {
    match request {
        PeerRequest::RouterRtpCapabilities => CAPABILITIES_KIB,
        list if is_list(list) => LIST_KIB,
        _ => ANSWER_KIB,
    }
}

/// Renewing a token is the same in each dialect.
fn request(method: &str, data: Value, shared: &Shared<'_>) -> Result<demo::Request, Refusal> {
    if method != "renewToken" {
        return demo::request(method, data);
    }
    let token = data.get("token").and_then(Value::as_str);
    let token = token.ok_or_else(|| Refusal::bad_request("token must be a string"))?;
    let rights = shared.entrance.renew(shared.seat, token).map_err(|refusal| Refusal::new(403, refusal.to_string()))?;
    Ok(demo::Request::OfRoom(PeerRequest::Renew(Box::new(rights))))
}

/// What is wrong with a notification nobody is told.
async fn on_notification(method: &str, data: Value, shared: &Shared<'_>) -> Result<(), RoomEnded> {
    match demo::notification(method, data) {
        Some(Ok(request)) => shared.ask(None, shared.dialect(), request).await,
        Some(Err(refusal)) => {
            count(&shared.counters.requests_failed);
            log_refused(&refusal);
            Ok(())
        }
        None => {
            tracing::debug!(method, "a notification that means nothing to this server");
            Ok(())
        }
    }
}

fn log_refused(Refusal { code, reason }: &Refusal) {
    tracing::debug!(code, reason, "what a notification asked for was refused");
}

/// What one turn of the writer sends, in this order.
#[derive(Default)]
struct Batch {
    texts: Vec<Utf8Bytes>,
    /// That those of them take that are answers.
    room: Vec<OwnedSemaphorePermit>,
    ping: bool,
    closing: Option<Closing>,
}

impl Batch {
    fn add(&mut self, Answered { text, room }: Answered) {
        self.texts.push(text);
        self.room.push(room);
    }
}

/// Waits for the room's answer.
struct Awaited {
    /// Of the request; `None` if it was a notification, which nobody is answered.
    id: Option<u32>,
    /// In which it was asked.
    dialect: Dialect,
    answer: Answer,
    /// Until it is answered.
    room: Option<OwnedSemaphorePermit>,
}

/// What is said once the room has answered, if anything.
type Replied = Option<Answered>;

impl Future for Awaited {
    type Output = Replied;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Replied> {
        self.answer.poll_unpin(context).map(|answer| {
            // A request that never is answered is of a room that ends.
            let result = answer.ok()?;
            if self.id.is_none() {
                result.as_ref().err().into_iter().for_each(log_refused);
                return None;
            }
            let text = message::response(self.id, result.map(|reply| self.dialect.reply(reply))).into();
            Some(Answered { text, room: self.room.take()? })
        })
    }
}

struct Writer<'a, S> {
    sink: &'a mut S,
    shared: &'a Shared<'a>,
    /// Requests that the room has not answered yet.
    awaited: FuturesUnordered<Awaited>,
    /// When the client should have joined, while it is waited for.
    join_due: Option<Instant>,
}

impl<S: Sink<Frame> + Unpin> Writer<'_, S> {
    async fn run(&mut self, responses: mpsc::UnboundedReceiver<Response>) -> End {
        self.write_all(responses).await.map_or(End::Broken, End::Closing)
    }

    /// `None` when the client does not take it.
    async fn write_all(&mut self, mut responses: mpsc::UnboundedReceiver<Response>) -> Option<Closing> {
        let Shared { seat, limits, .. } = *self.shared;
        let mut ping = interval(limits.ping_interval);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        self.write(demo::greeting().iter().map(notification).collect()).await?;
        loop {
            let mut batch = Batch::default();
            tokio::select! {
                news = seat.news() => {
                    let Ok(news) = news else { return Some(room_ended()) };
                    // What was answered before this was news is said before it.
                    while let Ok(response) = responses.try_recv() {
                        self.take(response, &mut batch);
                    }
                    while let Some(Some(replied)) = self.awaited.next().now_or_never() {
                        replied.into_iter().for_each(|answered| batch.add(answered));
                    }
                    self.tell(news, &mut batch);
                }
                Some(replied) = self.awaited.next(), if !self.awaited.is_empty() => {
                    replied.into_iter().for_each(|answered| batch.add(answered));
                }
                Some(response) = responses.recv() => self.take(response, &mut batch),
                _ = ping.tick() => batch.ping = true,
                () = self.shared.silent_for(limits.silence) => {
                    seat.set_silent();
                    return Some(Closing(4003, "nothing was heard of the client".to_owned()));
                }
                () = until(self.join_due) => {
                    self.join_due = None;
                    // Behind a join that waits there.
                    let _ = seat.join_due().await;
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

    fn take(&mut self, response: Response, batch: &mut Batch) {
        match response {
            Response::Awaited(awaited) => self.awaited.push(awaited),
            Response::Text(answered) => batch.add(answered),
        }
    }

    fn tell(&mut self, news: News, batch: &mut Batch) {
        let News { closed, announcements, notices, questions, join_awaited, probes, close, resumption } = news;
        let dialect = self.shared.dialect();
        let words = |notice: &Notice| dialect.notices(notice).iter().map(notification).collect::<Vec<_>>();
        batch.texts.extend(resumption.iter().map(|resumption| notification(&dialect.resumption(resumption))));
        batch.texts.extend(closed.iter().flat_map(words));
        batch.texts.extend(announcements.iter().flat_map(|said| said.wording(dialect.wording(), words)));
        batch.texts.extend(notices.iter().flat_map(words));
        for consumer in questions {
            let (method, data) = dialect.new_consumer(&consumer);
            let id = lock(&self.shared.questions).ask(consumer.id);
            batch.texts.push(message::request(id, method, &data).into());
        }
        if join_awaited {
            self.join_due = Some(Instant::now() + self.shared.limits.join_within);
        }
        for probe in probes {
            batch.ping |= self.shared.probe(probe);
        }
        batch.closing = close.map(|(reason, words)| Closing(close_code(reason), words));
    }

    /// A question that is not answered in time counts as refused.
    async fn expire(&self, question: u32) {
        let waiting = lock(&self.shared.questions).waiting.remove(&question);
        if let Some((consumer, _)) = waiting {
            tracing::debug!(%consumer, "the client did not answer newConsumer");
            let _ = self.shared.seat.answer(consumer, false).await;
        }
    }

    /// `None` when the client does not take it.
    async fn write(&mut self, texts: Vec<Utf8Bytes>) -> Option<()> {
        if texts.is_empty() {
            return Some(());
        }
        for text in texts {
            self.in_time(async |sink| sink.feed(Frame::Text(text)).await).await?;
        }
        self.in_time(async |sink| sink.flush().await).await
    }

    async fn send(&mut self, frame: Frame) -> Option<()> {
        self.in_time(async |sink| sink.send(frame).await).await
    }

    async fn in_time(&mut self, write: impl AsyncFnOnce(&mut S) -> Result<(), S::Error>) -> Option<()> {
        let written = timeout(self.shared.limits.write_within, write(self.sink)).await;
        if written.is_err() {
            count(&self.shared.counters.sessions_dropped);
        }
        written.ok()?.ok()
    }
}

fn notification((method, data): &(&'static str, Value)) -> Utf8Bytes {
    message::notification(method, data).into()
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

impl Shared<'_> {
    fn dialect(&self) -> Dialect {
        *lock(&self.dialect)
    }

    /// Which dialect a client speaks that makes this request.
    fn learn_dialect(&self, method: &str, data: &Value) -> Dialect {
        let dialect = &mut *lock(&self.dialect);
        *dialect = dialect.told_by(method, data);
        *dialect
    }

    /// Asks the room, whose answer is written when it comes.
    async fn ask(&self, id: Option<u32>, dialect: Dialect, request: PeerRequest) -> Result<(), RoomEnded> {
        let room = self.room_for(answer_kib(&request)).await;
        let answer = self.seat.ask(request).await?;
        self.respond(Response::Awaited(Awaited { id, dialect, answer, room }));
        Ok(())
    }

    /// Answers what no room has to see.
    async fn answer(&self, text: String) {
        if let Some(room) = self.room_for(ANSWER_KIB).await {
            self.respond(Response::Text(Answered { text: text.into(), room }));
        }
    }

    /// Waits for room for an answer. There will be some: what it is counted by is never closed.
    async fn room_for(&self, kib: u32) -> Option<OwnedSemaphorePermit> {
        // What came from a client that takes nothing is no sign of life; that it takes something is one.
        self.listen();
        let room = Arc::clone(&self.untaken).acquire_many_owned(kib).await.ok();
        self.hear();
        room
    }

    fn respond(&self, response: Response) {
        // A writer that has ended writes nothing more, and says itself how the session ends.
        let _ = self.responses.send(response);
    }

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
        CloseReason::Replaced | CloseReason::Removed => 4000,
        CloseReason::Unauthorised => 4001,
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
