//! What a terminal shows.

use sluice_loadtest::report::text::{compare, summary};
use sluice_loadtest::results::{Ended, Verdict};

use crate::fixture::{TODAY, TOMORROW, run, stillborn};

/// Columns of a terminal that every line fits into.
const WIDTH: usize = 110;

fn assert_fits(text: &str) {
    for line in text.lines() {
        assert!(line.chars().count() <= WIDTH, "{} columns: {line}", line.chars().count());
        assert_eq!(line, line.trim_end());
    }
}

fn assert_says(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line:?} is not in\n{text}");
    }
}

#[test]
fn a_summary_tells_what_users_nodes_and_the_generator_did() {
    let run = run(1, TODAY);
    let text = summary(&run);
    assert_fits(&text);
    let joins = &run.joins;
    assert!(text.starts_with(
        "webinar on sluice 0.1: 150 users in 1 room on 3 nodes, 15 s of ramp and 45 s after it, seed 1\n"
    ));
    assert!(text.contains(&format!("Joins: {} of {} succeeded, p50 ", joins.succeeded, joins.attempted)));
    assert!(text.contains(&format!("{} failed: connect: connection refused\n", joins.failures())));
    let rows = |name: &str| text.lines().filter(|line| line.trim_start().starts_with(name)).count();
    assert_eq!([rows("speaker"), rows("viewer"), rows("eu-1"), rows("ap-1")], [9, 9, 1, 1]);
    assert_says(&text, &["Sent on 12 data channels: 5,020 messages"]);
    assert_says(&text, &["    30.0 s  eu-us: 80 ms, 1% becomes 160 ms, 4%"]);
    let delay = text.lines().find(|line| line.starts_with("delay_p99")).unwrap();
    assert!(delay.ends_with("170 ms  NOT MET"), "{delay}");
    assert_eq!(text.lines().last(), Some("FAILED, 4 of 5 objectives met"));
}

#[test]
fn figures_of_a_group_are_those_of_its_counts() {
    let mut run = run(1, TODAY);
    run.steady.truncate(1);
    let group = &mut run.steady[0];
    (group.interval_s, group.video.streams, group.video.bytes) = (10.0, 4, 5_000_000);
    (group.video.expected, group.video.missing, group.video.lost) = (10_000, 250, 4);
    (group.video.freezes_200ms, group.video.freezes_500ms) = (1_234, 5);
    (group.video.delay.p50_ms, group.video.delay.p99_ms, group.video.first_frame.count) = (12.34, 123.4, 0);
    let text = summary(&run);
    let row = text.lines().find(|line| line.contains("video   ")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    let expected = ["speaker", "eu-1", "video", "4", "1,000", "12.3", "123", "2.50", "0.04", "1,234", "5", "-", "-"];
    assert_eq!(cells, expected);
}

#[test]
fn figures_of_data_channels_are_those_of_their_counts() {
    let mut run = run(1, TODAY);
    run.steady.truncate(1);
    let data = &mut run.steady[0].data;
    (data.channels, data.messages, data.expected, data.lost) = (4, 1_990, 2_000, 10);
    (data.duplicates, data.out_of_order, data.violations) = (1, 2, 13);
    (data.delay.p50_ms, data.delay.p99_ms) = (12.34, 123.4);
    run.steady[0].sent_data.refused = 7;
    let text = summary(&run);
    let (_, table) = text.split_once("Received on data channels").unwrap();
    let row = table.lines().find(|line| line.contains("speaker")).unwrap();
    let cells: Vec<_> = row.split_whitespace().collect();
    assert_eq!(cells, ["speaker", "eu-1", "4", "1,990", "12.3", "123", "0.50", "1", "2", "13"]);
    assert!(text.contains(" messages, 7 refused\n"), "{text}");

    run.steady[0].data = Default::default();
    run.steady[0].sent_data = Default::default();
    assert!(!summary(&run).contains("data channel"));
}

#[test]
fn a_run_that_ended_early_says_so() {
    let text = summary(&stillborn());
    assert_fits(&text);
    assert_says(&text, &["  aborted after 0.4 s: no node answers", "Joins: 0 of 1 succeeded; 0 users at once"]);
    assert_eq!(text.lines().last(), Some("NOT JUDGED: nobody joined"));

    let mut run = run(1, TODAY);
    (run.ended, run.ran_s) = (Ended::Interrupted, 33.0);
    run.generator.overloaded = vec!["a timer fired 212 ms too late".into()];
    run.generator.open_every = 10;
    run.verdict = Verdict::NotJudged { reason: "the generator was the bottleneck".into() };
    let text = summary(&run);
    assert_says(&text, &["  interrupted after 33 s", "  it was the bottleneck: a timer fired 212 ms too late"]);
    assert!(text.contains("; 1 of 10 packets opened\n"));
}

#[test]
fn results_that_do_not_fit_together_are_shown_as_far_as_they_do() {
    let mut run = run(1, TODAY);
    run.groups.truncate(1);
    run.nodes.truncate(1);
    run.steady[1].group = 1_000_000;
    let text = summary(&run);
    assert_eq!(text.lines().filter(|line| line.contains("speaker")).count(), 3);
}

#[test]
fn a_comparison_has_a_row_for_each_figure_and_differences_to_the_first() {
    let text = compare(&[run(1, TODAY), run(2, TOMORROW)]);
    assert_fits(&text);
    let lines = [
        "A  webinar on sluice 0.1, 2026-09-21 14:13 UTC: FAILED, 4 of 5 objectives met",
        "B  webinar on sluice 0.2, 2026-09-21 14:13 UTC: PASSED, 5 of 5 objectives met",
    ];
    assert_says(&text, &lines);
    let row = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap();
    assert!(row("Packets per CPU-second").contains(" % better"));
    assert!(row("Users at most").ends_with("150         150  ="));
}

#[test]
fn many_runs_are_compared_in_blocks() {
    let runs = [run(1, TODAY), run(2, TOMORROW), stillborn(), run(3, TODAY)];
    let text = compare(&runs);
    assert_fits(&text);
    assert_eq!(text.lines().filter(|line| line.starts_with("Users at most")).count(), 2);
    assert_eq!(compare(&[]), "");
    assert_eq!(compare(&runs[..1]).lines().count(), 1);
    assert_says(&text, &["   aborted after 0.4 s: no node answers"]);
}
