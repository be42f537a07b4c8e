//! Two or more runs side by side.

use std::fmt::Write as _;

use super::{cut_short, started, value, verdict};
use crate::report::figures::{Better, FIGURES};
use crate::report::table::Table;
use crate::results::Results;

/// Runs that fit beside the first into the width of a terminal.
const BESIDE: usize = 2;
/// Differences of less than this, in percent, are none.
const NOISE: f64 = 0.05;

/// Key figures of runs side by side, with the differences of all others to the first in percent.
pub fn compare(runs: &[Results]) -> String {
    let mut out = String::new();
    for (index, run) in runs.iter().enumerate() {
        let (scenario, target, started) = (&run.scenario.name, &run.target.label, started(run));
        let _ = writeln!(out, "{}  {scenario} on {target}, {started}: {}", letter(index), verdict(run));
        if let Some(how) = cut_short(run) {
            let _ = writeln!(out, "   {how}");
        }
    }
    let Some((first, others)) = runs.split_first() else { return out };
    for (chunk, beside) in others.chunks(BESIDE).enumerate() {
        out.push('\n');
        out.push_str(&differences(first, beside, 1 + chunk * BESIDE));
    }
    out
}

/// What the run at an index is called: A to Z, then by number.
fn letter(index: usize) -> String {
    match u8::try_from(index) {
        Ok(index) if index < 26 => char::from(b'A' + index).into(),
        _ => (index + 1).to_string(),
    }
}

fn differences(first: &Results, beside: &[Results], index: usize) -> String {
    let mut titles = vec![String::new(), letter(0)];
    for at in index..index + beside.len() {
        titles.extend([letter(at), String::new()]);
    }
    let mut table = Table::new("lrrlrl", titles);
    for figure in FIGURES {
        let before = figure.of(first);
        let mut cells = vec![figure.name.to_owned(), value(figure.unit, before)];
        for run in beside {
            let after = figure.of(run);
            cells.extend([value(figure.unit, after), difference(before, after, figure.better)]);
        }
        table.row(cells);
    }
    table.print("")
}

/// In percent of what was before; empty if there is nothing to compare, or no such percentage.
fn difference(before: Option<f64>, after: Option<f64>, better: Better) -> String {
    let (Some(before), Some(after)) = (before, after) else { return String::new() };
    if before == 0.0 {
        return if after == 0.0 { "=".into() } else { String::new() };
    }
    let percent = (after - before) / before * 100.0;
    if percent.abs() < NOISE {
        return "=".into();
    }
    let judged = match better {
        Better::Neither => "",
        Better::Lower if after < before => " better",
        Better::Higher if after > before => " better",
        Better::Lower | Better::Higher => " worse",
    };
    format!("{percent:+.1} %{judged}")
}

#[cfg(test)]
mod tests {
    use super::{Better, difference, letter};

    #[test]
    fn a_difference_says_how_much_and_which_way_is_better() {
        let differences = [
            difference(Some(200.0), Some(150.0), Better::Lower),
            difference(Some(200.0), Some(150.0), Better::Higher),
            difference(Some(10.0), Some(10.5), Better::Neither),
            difference(Some(0.0), Some(0.0), Better::Lower),
            difference(Some(0.0), Some(1.0), Better::Lower),
            difference(None, Some(1.0), Better::Lower),
        ];
        assert_eq!(differences, ["-25.0 % better", "-25.0 % worse", "+5.0 %", "=", "", ""]);
    }

    #[test]
    fn every_run_has_a_name() {
        assert_eq!([0, 25, 26, 1000].map(letter), ["A", "Z", "27", "1001"]);
    }
}
