//! The users of a run: each one a task that joins, stays, comes again when the connection is lost, and leaves when its
//! time has come.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::recorder::JoinCounts;
use crate::driver::Driver;
use crate::media::Source;
use crate::scenario::Data;
use crate::user::{JoinTimes, User, UserConfig, UserError};

/// Before a user whose join failed or whose connection was lost tries again: protoo-client's pauses.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Until all have left at the end; whoever has not by then is left to notice that the connections are gone.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Everything that one user does.
#[derive(Clone)]
pub(super) struct Part {
    /// Where and as who.
    pub(super) config: UserConfig,
    /// What it sends.
    pub(super) sources: Vec<Vec<Source>>,
    /// And on a data channel.
    pub(super) data: Option<Data>,
}

/// All users.
pub(super) struct Crowd {
    driver: Driver,
    board: Arc<Board>,
    /// By the user's number in the plan: asks it to leave.
    seats: Vec<Option<CancellationToken>>,
    tasks: JoinSet<()>,
}

/// What users report.
#[derive(Debug, Default)]
struct Board {
    joined: AtomicU32,
    joins: Mutex<JoinCounts>,
    failures: Mutex<Failures>,
}

/// What joins failed of.
#[derive(Debug, Default)]
struct Failures {
    known: BTreeSet<&'static str>,
    untold: Vec<String>,
}

impl Board {
    fn fail(&self, error: &UserError) {
        let step = error.step();
        *self.joins().failed.entry(step.to_owned()).or_default() += 1;
        let mut failures = self.failures();
        if failures.known.insert(step) {
            failures.untold.push(format!("joins begin to fail, {step}: {error}"));
        }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn joins(&self) -> std::sync::MutexGuard<'_, JoinCounts> {
        self.joins.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Crowd {
    /// Nobody yet.
    pub(super) fn new(driver: Driver) -> Self {
        Self { driver, board: Arc::default(), seats: Vec::new(), tasks: JoinSet::new() }
    }

    /// A user sets out to join.
    pub(super) fn join(&mut self, user: usize, part: Part) {
        if self.seats.len() <= user {
            self.seats.resize(user + 1, None);
        }
        let leave = CancellationToken::new();
        self.seats[user] = Some(leave.clone());
        self.tasks.spawn(attend(self.driver.clone(), part, self.board.clone(), leave));
        // Those that have left need no memory.
        while self.tasks.try_join_next().is_some() {}
    }

    /// A user leaves.
    pub(super) fn leave(&mut self, user: usize) {
        if let Some(leave) = self.seats.get_mut(user).and_then(Option::take) {
            leave.cancel();
        }
    }

    /// Users in their rooms.
    pub(super) fn joined(&self) -> u32 {
        self.board.joined.load(Ordering::Relaxed)
    }

    /// Joins that ended since the last call.
    pub(super) fn take_joins(&self) -> JoinCounts {
        std::mem::take(&mut self.board.joins())
    }

    /// The first failure of each kind, in words, since the last call.
    pub(super) fn take_failures(&self) -> Vec<String> {
        std::mem::take(&mut self.board.failures().untold)
    }

    /// Everybody leaves.
    pub(super) async fn disperse(mut self) {
        for seat in self.seats.iter_mut().filter_map(Option::take) {
            seat.cancel();
        }
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // Those that are late are ended with the set.
        let _ = tokio::time::timeout(LEAVE_WITHIN, all).await;
    }
}

/// A user's life.
async fn attend(driver: Driver, mut part: Part, board: Arc<Board>, leave: CancellationToken) {
    let mut pause = FIRST_PAUSE;
    loop {
        board.joins().attempted += 1;
        let Some(joined) = leave.run_until_cancelled(join(&driver, &part)).await else { return };
        match joined {
            Ok((user, times)) => {
                board.joins().times.record(times.joined.max(times.connected));
                board.joined.fetch_add(1, Ordering::Relaxed);
                pause = FIRST_PAUSE;
                part.config.secret = user.secret().map(str::to_owned);
                let lost = leave.run_until_cancelled(user.ended()).await;
                board.joined.fetch_sub(1, Ordering::Relaxed);
                match lost {
                    None => return user.leave().await,
                    Some(why) => tracing::debug!(peer = part.config.peer, %why, "a user lost the connection"),
                }
            }
            Err(error) => {
                tracing::debug!(peer = part.config.peer, %error, "a join failed");
                board.fail(&error);
            }
        }
        if leave.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return;
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Joins, waits until media are connected, and begins to send what is to be sent.
async fn join(driver: &Driver, part: &Part) -> Result<(User, JoinTimes), UserError> {
    let user = User::join(driver, part.config.clone()).await?;
    let times = user.connected().await?;
    for encodings in &part.sources {
        user.produce_encodings(encodings.clone()).await?;
    }
    if let Some(data) = part.data {
        user.produce_data(data).await?;
    }
    Ok((user, times))
}
