//! What a terminal shows of results: plain text of at most some 110 columns.

mod compare;
mod summary;

use time::OffsetDateTime;

use super::unit::Unit;
use crate::results::{Ended, Objective, Results, Verdict};

pub use self::compare::compare;
pub use self::summary::summary;

/// Where there was nothing to measure.
const NOTHING: &str = "-";

/// What follows from a run, in one line.
fn verdict(run: &Results) -> String {
    match &run.verdict {
        Verdict::Passed => format!("PASSED, {} of {} objectives met", met(run), run.slo.len()),
        Verdict::Failed => format!("FAILED, {} of {} objectives met", met(run), run.slo.len()),
        Verdict::NotJudged { reason } => format!("NOT JUDGED: {reason}"),
    }
}

fn met(run: &Results) -> usize {
    run.slo.iter().filter(|objective| objective.met).count()
}

/// Why a run was shorter than planned; `None` if it was not.
fn cut_short(run: &Results) -> Option<String> {
    match &run.ended {
        Ended::Completed => None,
        Ended::Interrupted => Some(format!("interrupted after {} s", seconds(run.ran_s))),
        Ended::Aborted { reason } => Some(format!("aborted after {} s: {reason}", seconds(run.ran_s))),
    }
}

/// A value of an objective with its unit.
fn objective_value(objective: &Objective, value: Option<f64>) -> String {
    let Some(value) = value else { return NOTHING.into() };
    let unit = if objective.unit == "1/h" { "/h" } else { &objective.unit };
    format!("{} {unit}", super::unit::digits(value)).trim_end().to_owned()
}

/// To a tenth, if there is one.
fn seconds(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// When a run started, in UTC.
fn started(run: &Results) -> String {
    let seconds = i64::try_from(run.started_unix_ms / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds).map_or(NOTHING.into(), |at| {
        let (date, (hour, minute, _)) = (at.date(), at.to_hms());
        format!("{date} {hour:02}:{minute:02} UTC")
    })
}

fn value(unit: Unit, value: Option<f64>) -> String {
    value.map_or(NOTHING.into(), |value| unit.format(value))
}

fn plural(number: impl Into<u64>, what: &str) -> String {
    let number = number.into();
    format!("{} {what}{}", count(number), if number == 1 { "" } else { "s" })
}

fn count(number: impl Into<u64>) -> String {
    Unit::Count.format(number.into() as f64)
}
