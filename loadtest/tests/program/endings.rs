//! Runs that end early, and searches that run many times.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use sluice_loadtest::report;
use sluice_loadtest::results::{Ended, Verdict};

use crate::binary::sluice;
use crate::support::loadtest;

#[test]
fn ctrl_c_gives_the_report_of_what_ran() {
    let folder = tempfile::tempdir().unwrap();
    let sluice = sluice();
    let mut child = loadtest(&["run", "audio-room", "--dev", "--users", "12", "--ramp", "1s", "--duration", "10m"])
        .arg("--sluice")
        .arg(&sluice)
        .arg("--out")
        .arg(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let progress = log.by_ref().map_while(Result::ok).find(|line| line.contains("users 12/12"));
    assert!(progress.is_some(), "it tells of its progress");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let rest: Vec<String> = log.map_while(Result::ok).collect();
    let output = child.wait_with_output().unwrap();
    let json = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let json = json.into_iter().find(|path| path.extension().is_some_and(|it| it == "json")).expect("results");
    let results = report::load(&json).unwrap();
    assert_eq!(results.ended, Ended::Interrupted);
    assert!(results.ran_s > 0.5 && results.ran_s < 300.0);
    assert!(matches!(results.verdict, Verdict::NotJudged { .. }), "so short a run says little: {:?}", results.verdict);
    assert_eq!(output.status.code(), Some(2), "{rest:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("Joins: 12 of 12"));
}

#[test]
fn a_search_for_the_capacity_ends_with_an_answer() {
    let output = loadtest(&["capacity", "--scenario", "audio-room", "--from", "11", "--to", "16", "--no-files"])
        .args(["--dev", "--ramp", "1s", "--duration", "3s", "--sluice"])
        .arg(sluice())
        .output()
        .unwrap();
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{answer}{}", String::from_utf8_lossy(&output.stderr));
    assert!(answer.contains("carried: "), "{answer}");
    assert!(["knee: ", "not the target's limit: "].iter().any(|end| answer.contains(end)), "{answer}");
    assert_eq!(answer.lines().next().unwrap().split_whitespace().nth(1), Some("users"), "{answer}");
}
