//! Running the program and reading what it wrote.

use std::process::{Command, Output};

use sluice_loadtest::report;
use sluice_loadtest::results::Results;

pub(crate) fn loadtest(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice-loadtest"));
    command.args(args);
    command
}

/// The one line that the program ends with when it was asked for something that makes no sense or cannot be done.
#[track_caller]
pub(crate) fn error(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert_eq!(text.lines().last(), Some(lines[0]), "{text}");
    lines[0].to_owned()
}

/// A finished run.
pub(crate) struct Run {
    pub(crate) results: Results,
    pub(crate) summary: String,
}

/// Runs the program, whose results go to a folder of their own; the exit code is that of the verdict.
#[track_caller]
pub(crate) fn run(args: &[&str]) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let output = loadtest(&["run"]).args(args).arg("--out").arg(folder.path()).output().unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    let with = |extension: &str| files.iter().find(|path| path.extension().is_some_and(|it| it == extension));
    let json = with("json").unwrap_or_else(|| panic!("no results: {log}"));
    assert!(std::fs::metadata(with("html").unwrap()).unwrap().len() > 50_000, "a report with its charts");
    let results = report::load(json).unwrap();
    assert_eq!(output.status.code(), Some(results.verdict.exit_code().into()), "{log}");
    Run { results, summary: String::from_utf8_lossy(&output.stdout).into_owned() }
}
