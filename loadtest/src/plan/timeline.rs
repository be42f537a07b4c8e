//! What happens when. Joins and leaves of those who come and go are drawn as time goes on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_mesh::wan::ImpairmentConfig;

use super::{Leg, Plan};
use crate::scenario::FaultAction;

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// When, since the first user sets out to join.
    pub at: Duration,
    /// What.
    pub action: Action,
}

/// What happens.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// A leg is like this from now on; while its link is cut, from when it is healed.
    Path {
        /// Which.
        leg: Leg,
        /// What it is like.
        config: ImpairmentConfig,
    },
    /// Something happens to a node or a link.
    Fault(FaultAction),
    /// A user, by index, leaves the room.
    Leave(usize),
    /// A user, by index, sets out to join.
    Join(usize),
}

/// What is due. At one time paths change before anything breaks, and people leave before others come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Path(Leg, usize),
    Fault(usize),
    Leave(usize),
    Join(usize),
}

/// The steps of a plan in order of time: an iterator that ends with the run.
#[derive(Debug, Clone)]
pub struct Timeline {
    plan: Arc<Plan>,
    due: BinaryHeap<Reverse<(Duration, Due)>>,
    /// Of the users who come and go, from when they first join.
    stays: BTreeMap<usize, ChaCha8Rng>,
    wanted: u32,
}

impl Timeline {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let steps = plan
            .paths
            .iter()
            .flat_map(|(leg, steps)| steps.iter().enumerate().map(|(index, step)| (step.at, Due::Path(*leg, index))));
        let faults = plan.faults.iter().enumerate().map(|(index, fault)| (fault.at, Due::Fault(index)));
        let joins = plan.users.iter().enumerate().map(|(index, user)| (user.joins_at, Due::Join(index)));
        let due = steps.chain(faults).chain(joins).map(Reverse).collect();
        Self { plan, due, stays: BTreeMap::new(), wanted: 0 }
    }

    /// When the next step is due; `None` when nothing more happens.
    pub fn next_at(&self) -> Option<Duration> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    /// The next step, if it is due at `now`.
    pub fn poll(&mut self, now: Duration) -> Option<Step> {
        if self.next_at()? <= now { self.next() } else { None }
    }

    /// Users that should be in their rooms after the steps so far, whatever became of their nodes.
    pub fn users_wanted(&self) -> u32 {
        self.wanted
    }

    fn join(&mut self, user: usize, at: Duration) {
        self.wanted += 1;
        let planned = &self.plan.users[user];
        let Some(churn) = planned.kind.churn else { return };
        let rng = self.stays.entry(user).or_insert_with(|| ChaCha8Rng::seed_from_u64(planned.seed));
        let stay = exponential(churn.stay, rng);
        self.push(at + stay, Due::Leave(user));
    }

    fn leave(&mut self, user: usize, at: Duration) {
        self.wanted -= 1;
        let (Some(churn), Some(rng)) = (self.plan.users[user].kind.churn, self.stays.get_mut(&user)) else { return };
        let away = exponential(churn.away, rng);
        self.push(at + away, Due::Join(user));
    }

    fn push(&mut self, at: Duration, due: Due) {
        if at < self.plan.end {
            self.due.push(Reverse((at, due)));
        }
    }
}

impl Iterator for Timeline {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        let Reverse((at, due)) = self.due.pop()?;
        let action = match due {
            Due::Path(leg, index) => Action::Path { leg, config: self.plan.paths.get(&leg)?.get(index)?.config },
            Due::Fault(index) => Action::Fault(self.plan.faults.get(index)?.action.clone()),
            Due::Leave(user) => {
                self.leave(user, at);
                Action::Leave(user)
            }
            Due::Join(user) => {
                self.join(user, at);
                Action::Join(user)
            }
        };
        Some(Step { at, action })
    }
}

/// A time that is exponentially distributed, which is how long it takes until something happens that may happen at any
/// time.
fn exponential(mean: Duration, rng: &mut ChaCha8Rng) -> Duration {
    mean.mul_f64(-(1.0 - rng.random::<f64>()).ln())
}
