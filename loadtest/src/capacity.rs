//! How many users a target carries: the load is doubled until an objective is missed, then the answer is narrowed down.

use std::fmt;

use tokio_util::sync::CancellationToken;

use crate::results::{Results, Verdict};
use crate::run::{Observer, RunError, RunOptions, run};
use crate::scenario::{Overrides, ScenarioError, ScenarioFile};

/// Where to look.
#[derive(Debug, Clone, Copy)]
pub struct CapacityOptions {
    /// Users of the first step.
    pub from: u32,
    /// Users of the largest step.
    pub to: u32,
    /// Share (0 to 1) of the answer to which it is to be known.
    pub precision: f64,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CapacityError {
    /// The scenario cannot have that many users.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// A step could not be run.
    #[error("with {users} users: {error}")]
    Run {
        /// Users of the step.
        users: u32,
        /// Why.
        error: Box<RunError>,
    },
}

/// What the search found.
#[derive(Debug, Clone)]
pub struct Capacity {
    /// The most users with whom all objectives were met, and the step that says so; `None` when they never were.
    pub carried: Option<u32>,
    /// Why it is not more.
    pub limit: Limit,
    /// Every step, in order.
    pub steps: Vec<Results>,
}

/// What ended the search upwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Limit {
    /// With so many users these objectives were missed.
    Missed {
        /// Users of that step.
        users: u32,
        /// Names of the objectives.
        objectives: Vec<String>,
    },
    /// A step said nothing about the target: the generator was the bottleneck.
    NotJudged {
        /// Users of that step.
        users: u32,
        /// Why it was not judged.
        reason: String,
    },
    /// The largest step that was allowed was carried.
    Allowed,
    /// It was stopped.
    Stopped,
}

/// Raises the load until an objective is missed.
///
/// # Errors
/// [`CapacityError`] when a step cannot be run.
pub async fn search(
    file: &ScenarioFile,
    overrides: &Overrides,
    options: &CapacityOptions,
    run_options: &RunOptions,
    stop: CancellationToken,
    observer: &mut dyn Observer,
) -> Result<Capacity, CapacityError> {
    let mut found = Capacity { carried: None, limit: Limit::Allowed, steps: Vec::new() };
    let mut next = Some(options.from);
    while let Some(users) = next {
        let scenario = file.with(&Overrides { users: Some(users), ..overrides.clone() })?;
        // Whole rooms: a step may have a few more than was asked for.
        let users = scenario.users();
        if found.steps.iter().any(|step| step.scenario.users == users) {
            break;
        }
        observer.say(&format!("step {}: {users} users", found.steps.len() + 1));
        let results = run(&scenario, run_options, stop.clone(), observer)
            .await
            .map_err(|error| CapacityError::Run { users, error: Box::new(error) })?;
        if stop.is_cancelled() {
            found.limit = Limit::Stopped;
            break;
        }
        observer.say(&format!("step {}: {}", found.steps.len() + 1, outcome(&results)));
        found.note(users, &results);
        found.steps.push(results);
        next = found.next(options);
    }
    Ok(found)
}

fn outcome(results: &Results) -> String {
    match &results.verdict {
        Verdict::Passed => "carried".to_owned(),
        Verdict::Failed => format!("missed {}", missed(results).join(", ")),
        Verdict::NotJudged { reason } => format!("not judged: {reason}"),
    }
}

fn missed(results: &Results) -> Vec<String> {
    results.slo.iter().filter(|objective| !objective.met).map(|objective| objective.name.clone()).collect()
}

impl Capacity {
    fn note(&mut self, users: u32, results: &Results) {
        match &results.verdict {
            Verdict::Passed => self.carried = Some(self.carried.map_or(users, |carried| carried.max(users))),
            Verdict::Failed => self.limit = Limit::Missed { users, objectives: missed(results) },
            Verdict::NotJudged { reason } => self.limit = Limit::NotJudged { users, reason: reason.clone() },
        }
    }

    /// Users of the next step, `None` when the answer is known.
    fn next(&self, options: &CapacityOptions) -> Option<u32> {
        let carried = self.carried.unwrap_or(0);
        let above = match &self.limit {
            Limit::Missed { users, .. } | Limit::NotJudged { users, .. } => *users,
            Limit::Allowed if carried >= options.to => return None,
            Limit::Allowed => return Some((carried * 2).clamp(options.from, options.to)),
            Limit::Stopped => return None,
        };
        let gap = above.saturating_sub(carried);
        let known = carried == 0 || gap < 2 || f64::from(gap) <= f64::from(above) * options.precision;
        (!known).then(|| carried + gap / 2)
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            let nodes = step.nodes.iter().map(|node| node.cpu).sum::<f64>();
            let join = step.joins.time.p99_ms;
            writeln!(
                f,
                "{:>7} users  join p99 {join:>7.1} ms  nodes' CPU {nodes:>5.2}  {}",
                step.scenario.users,
                outcome(step)
            )?;
        }
        match self.carried {
            Some(users) => writeln!(f, "carried: {users} users")?,
            None => writeln!(f, "carried: not even the first step")?,
        }
        match &self.limit {
            Limit::Missed { users, objectives } => {
                writeln!(f, "knee: below {users} users, by {}", objectives.join(", "))
            }
            Limit::NotJudged { users, reason } => {
                writeln!(f, "not the target's limit: with {users} users the run was not judged ({reason})")
            }
            Limit::Allowed => writeln!(f, "not the target's limit: no larger step was allowed (--to)"),
            Limit::Stopped => writeln!(f, "not the target's limit: the search was stopped"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches with a target that carries `limit` users, in rooms of `room`; the steps.
    fn steps(limit: u32, room: u32, options: CapacityOptions) -> (Option<u32>, Vec<u32>) {
        let mut found = Capacity { carried: None, limit: Limit::Allowed, steps: Vec::new() };
        let (mut next, mut steps) = (Some(options.from), Vec::new());
        while let Some(users) = next {
            let users = users.div_ceil(room) * room;
            if steps.contains(&users) {
                break;
            }
            steps.push(users);
            if users <= limit {
                found.carried = Some(found.carried.map_or(users, |carried| carried.max(users)));
            } else {
                found.limit = Limit::Missed { users, objectives: Vec::new() };
            }
            next = found.next(&options).filter(|_| steps.len() < 50);
        }
        (found.carried, steps)
    }

    #[test]
    fn the_knee_is_found_by_doubling_and_halving() {
        let options = CapacityOptions { from: 10, to: 1000, precision: 0.1 };
        assert_eq!(steps(130, 1, options), (Some(130), vec![10, 20, 40, 80, 160, 120, 140, 130]));
        assert_eq!(steps(5, 1, options), (None, vec![10]));
        let (carried, tried) = steps(5000, 1, options);
        assert_eq!((carried, tried.last()), (Some(1000), Some(&1000)));
        let (carried, tried) = steps(130, 60, options);
        assert_eq!((carried, tried), (Some(120), vec![60, 120, 240, 180]));
    }
}
