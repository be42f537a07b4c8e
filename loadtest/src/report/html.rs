//! Results as a page; `loadtest/report` has its sources.

use serde::Serialize;

use super::figures::{Better, FIGURES};
use super::unit::Unit;
use crate::results::Results;

/// The page without data, as `loadtest/report` bundles it.
const TEMPLATE: &str = include_str!("../../report/dist/report.html");

/// Where the data go, once in the page.
const PLACE: &str = "\"DATA\"";

/// What the page shows.
#[derive(Serialize)]
struct Data<'a> {
    runs: &'a [Results],
    figures: Vec<ComparedFigure>,
}

/// A key figure of all runs.
#[derive(Serialize)]
struct ComparedFigure {
    key: &'static str,
    name: &'static str,
    unit: Unit,
    better: Better,
    values: Vec<Option<f64>>,
}

/// A page that shows one run, or several side by side. It is complete in itself: no file beside it, no request to
/// anywhere.
pub fn html(runs: &[Results]) -> String {
    let figures = FIGURES.iter().map(|figure| ComparedFigure {
        key: figure.key,
        name: figure.name,
        unit: figure.unit,
        better: figure.better,
        values: runs.iter().map(|run| figure.of(run)).collect(),
    });
    let data = Data { runs, figures: figures.collect() };
    let json = serde_json::to_string(&data).expect("results are plain data");
    TEMPLATE.replacen(PLACE, &inert(&json), 1)
}

/// JSON that cannot end the `<script>` that it stands in, nor begin a comment there, nor break a line in JavaScript's
/// eyes. All three characters occur within strings only.
fn inert(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}
