//! Drives the core: holds it, reads the clock, makes the calls that it asks for and wakes whoever has something to
//! send.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use sluice_proto::ids::{NodeId, NodeInstance, RoomKey};
use sluice_proto::placement::directory_client::DirectoryClient;
use sluice_proto::placement::{ReleaseRequest, RenewRequest};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Channel;
use tonic::{Request, Status};
use tracing::Instrument;

use super::config::TraceHooks;
use super::link::Link;
use crate::core::Core;
use crate::directory::{Answer, Call, CallKind};
use crate::metrics::Metrics;
use crate::rosters::{StreamId, Wake};
use crate::wire;

/// Name of the metadata that carries a W3C trace context.
pub(super) const TRACEPARENT: &str = "traceparent";

/// An owner that takes longer is asked again later; the other owner has answered long before.
const CALL_TIMEOUT: Duration = Duration::from_millis(1_500);

/// What all tasks of a placement share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(super) me: NodeInstance,
    pub(super) trace: TraceHooks,
    pub(super) metrics: Arc<Metrics>,
    /// Ends everything.
    pub(super) cancel: CancellationToken,
    /// Something has ended without which placement is none.
    pub(super) ended: CancellationToken,
    /// Calls under way.
    pub(super) calls: TaskTracker,
    /// Streams under way, in either direction.
    pub(super) streams: TaskTracker,
    /// Where tasks run: rooms are entered and left from anywhere.
    pub(super) runtime: Handle,
    state: Mutex<State>,
    /// The next deadline may have changed.
    rescheduled: Notify,
}

/// What the lock guards. It is held for the length of a core's step, never over an await.
#[derive(Debug)]
pub(super) struct State {
    pub(super) core: Core,
    pub(super) readers: FxHashMap<RoomKey, Arc<Notify>>,
    pub(super) links: FxHashMap<NodeId, Link>,
    pub(super) followers: FxHashMap<StreamId, Arc<Notify>>,
    pub(super) next_stream: u64,
    pub(super) closing: bool,
}

impl Shared {
    /// Within a runtime, on which everything will run.
    pub(super) fn new(me: NodeInstance, core: Core, trace: TraceHooks, metrics: Arc<Metrics>) -> Arc<Self> {
        let state = State {
            core,
            readers: FxHashMap::default(),
            links: FxHashMap::default(),
            followers: FxHashMap::default(),
            next_stream: 0,
            closing: false,
        };
        Arc::new(Self {
            me,
            trace,
            metrics,
            cancel: CancellationToken::new(),
            ended: CancellationToken::new(),
            calls: TaskTracker::new(),
            streams: TaskTracker::new(),
            runtime: Handle::current(),
            state: Mutex::new(state),
            rescheduled: Notify::new(),
        })
    }

    /// Changes the core, and does all that the change asks for.
    pub(super) fn step<R>(self: &Arc<Self>, change: impl FnOnce(&mut State, Instant) -> R) -> R {
        let now = now();
        let mut calls = Vec::new();
        let _vital = self.vital();
        let result = {
            let mut state = self.lock();
            let deadline = state.core.poll_timeout();
            let result = change(&mut state, now);
            while let Some(call) = state.core.poll_call(now) {
                let channel = state.links.get(&call.owner.node).filter(|link| link.instance == call.owner);
                calls.push((channel.map(|link| link.channel.clone()), call));
            }
            while let Some(wake) = state.core.rosters.poll_wake() {
                state.wake(&wake);
            }
            if state.core.poll_timeout() != deadline {
                self.rescheduled.notify_one();
            }
            result
        };
        for (channel, call) in calls {
            let span =
                tracing::info_span!("directory.call", owner = %call.owner, kind = ?call.kind, rooms = call.rooms.len());
            self.calls.spawn_on(Arc::clone(self).call(channel, call).instrument(span), &self.runtime);
        }
        result
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Goes with what placement cannot do without: with its panic placement has ended.
    pub(super) fn vital(&self) -> Vital {
        Vital { ended: self.ended.clone(), is_aftermath: std::thread::panicking() }
    }

    /// Looks at the core. Nothing may be changed.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Core) -> R) -> R {
        look(&self.lock().core)
    }

    /// Makes due calls and removes what ran out, until cancelled.
    pub(super) async fn keep_time(self: Arc<Self>) {
        loop {
            let deadline = self.look(Core::poll_timeout);
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.cancel.cancelled() => return,
                () = self.rescheduled.notified() => continue,
                () = sleep => {}
            }
            self.step(|state, now| state.core.handle_timeout(now));
        }
    }

    async fn call(self: Arc<Self>, channel: Option<Channel>, call: Call) {
        let _vital = self.vital();
        let began = now();
        let result = match channel {
            Some(channel) => timeout(CALL_TIMEOUT, self.ask(channel, &call))
                .await
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time"))),
            None => Err(Status::unavailable("not a member")),
        };
        self.metrics.called(call.kind, result.is_ok(), now().duration_since(began));
        let answer = result.unwrap_or_else(|error| {
            tracing::debug!(owner = %call.owner, %error, "an owner does not answer");
            Answer::Failed
        });
        self.step(|state, now| state.core.handle_answer(now, call.id, answer));
    }

    async fn ask(&self, channel: Channel, call: &Call) -> Result<Answer, Status> {
        let mut client = DirectoryClient::new(channel);
        let (holder, rooms) = (Some(wire::to_instance(&self.me)), wire::to_rooms(&call.rooms));
        match call.kind {
            CallKind::Renew => {
                let answer = client.renew(self.traced(RenewRequest { holder, rooms })).await?.into_inner();
                let holders = answer.rooms.iter().map(|room| {
                    room.holders.iter().map(|holder| wire::instance(Some(holder))).collect::<Result<Vec<_>, _>>()
                });
                let holders = holders.collect::<Result<Vec<_>, _>>();
                Ok(Answer::Done(holders.map_err(|error| Status::internal(error.to_string()))?))
            }
            CallKind::Release => {
                client.release(self.traced(ReleaseRequest { holder, rooms })).await?;
                Ok(Answer::Done(Vec::new()))
            }
        }
    }

    fn traced<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(value) = (self.trace.inject)().and_then(|context| context.parse().ok()) {
            request.metadata_mut().insert(TRACEPARENT, value);
        }
        request
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Should the core panic, placement has ended, and what it holds is still worth more than a second panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn wake(&self, wake: &Wake) {
        let notify = match wake {
            Wake::Events(room) => self.readers.get(room),
            Wake::Requests(node) => self.links.get(node).map(|link| &link.notify),
            Wake::Updates(stream) => self.followers.get(stream),
        };
        if let Some(notify) = notify {
            notify.notify_one();
        }
    }
}

/// See [`Shared::vital`].
pub(super) struct Vital {
    ended: CancellationToken,
    /// The panic is somebody else's, who cleans up.
    is_aftermath: bool,
}

impl Drop for Vital {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.is_aftermath {
            self.ended.cancel();
        }
    }
}

/// tokio's clock, so that paused time simulates this part too.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn shared() -> Arc<Shared> {
        let me = NodeInstance { node: NodeId::new("a").unwrap(), incarnation: 1 };
        let core = Core::new(me.clone(), Duration::from_secs(6), Duration::from_secs(2));
        Shared::new(me, core, TraceHooks::default(), Arc::default())
    }

    fn panics(work: impl FnOnce()) {
        assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
    }

    #[tokio::test]
    async fn a_core_that_panics_is_the_end_of_placement_whoever_asked_it() {
        let shared = shared();
        shared.step(|_, _| ());
        panics(|| {
            let _cleans_up = OnDrop(|| shared.step(|_, _| ()));
            panic!("as a test");
        });
        assert!(!shared.ended.is_cancelled(), "that was somebody else");
        panics(|| shared.step(|_, _| panic!("as a test")));
        assert!(shared.ended.is_cancelled());
    }

    #[tokio::test]
    async fn a_task_that_panics_is_too_and_one_that_ends_is_not() {
        let shared = shared();
        let vital = shared.vital();
        tokio::spawn(async move { drop(vital) }).await.unwrap();
        assert!(!shared.ended.is_cancelled());
        let vital = shared.vital();
        let task = tokio::spawn(async move {
            let _vital = vital;
            tokio::task::yield_now().await;
            panic!("as a test");
        });
        assert!(task.await.is_err());
        assert!(shared.ended.is_cancelled());
    }

    struct OnDrop<F: FnMut()>(F);

    impl<F: FnMut()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
}
