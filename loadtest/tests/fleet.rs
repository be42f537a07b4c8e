//! A fleet of real `sluice node` processes: nodes die and come back, paths are cut and heal, and nothing is left
//! behind.
#![cfg(target_os = "linux")]

#[path = "common/binary.rs"]
mod binary;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_loadtest::fleet::{Fleet, FleetConfig, FleetError, sluice_beside};
use sluice_loadtest::scenario::TargetNode;
use sluice_mesh::wan::SpecError;

use self::binary::sluice;

/// Longer than anything here takes on the slowest machine.
const PATIENCE: Duration = Duration::from_secs(40);

fn config(nodes: u16, paths: &[&str]) -> FleetConfig {
    FleetConfig {
        sluice: sluice(),
        nodes,
        workers: 1,
        paths: paths.iter().map(|path| path.parse().unwrap()).collect(),
        seed: 1,
        log_dir: None,
    }
}

async fn start(nodes: u16, paths: &[&str]) -> Fleet {
    Fleet::start(config(nodes, paths)).await.unwrap_or_else(|error| panic!("{error}"))
}

fn get(node: &TargetNode, path: &str) -> Option<String> {
    let admin: SocketAddr = node.metrics.as_ref()?.strip_prefix("http://")?.strip_suffix("/metrics")?.parse().ok()?;
    let mut stream = TcpStream::connect(admin).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer.split_once("\r\n\r\n")?.1.to_owned())
}

fn cluster(node: &TargetNode) -> Option<Value> {
    serde_json::from_str(&get(node, "/v1/cluster")?).ok()
}

/// What a node says of another one in a list of `/v1/cluster`.
fn says(node: &TargetNode, list: &str, of: &TargetNode) -> Option<Value> {
    let cluster = cluster(node)?;
    cluster[list].as_array()?.iter().find(|item| item["node"] == of.name.as_str()).cloned()
}

#[allow(clippy::disallowed_methods, reason = "processes live by the clock")]
async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn pipe_is(state: &str, from: &TargetNode, to: &TargetNode) -> Value {
    let what = format!("the pipe from {} to {} is {state}", from.name, to.name);
    eventually(&what, || says(from, "pipes", to).filter(|pipe| pipe["state"] == state)).await
}

/// A process that has ended and is only waited for counts as gone.
fn is_gone(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

fn pids(fleet: &Fleet) -> Vec<u32> {
    fleet.nodes().iter().map(|node| node.pid.expect("it runs")).collect()
}

#[tokio::test]
async fn a_killed_node_is_missed_and_comes_back_on_its_ports() {
    let mut fleet = start(3, &[]).await;
    let names: Vec<_> = fleet.nodes().iter().map(|node| (node.name.as_str(), node.region.as_str())).collect();
    assert_eq!(names, [("eu-1", "eu"), ("us-1", "us"), ("ap-1", "ap")]);
    let before = pids(&fleet);
    assert!(!before.iter().any(|&pid| is_gone(pid)));
    let [eu, us, _] = fleet.nodes().to_vec().try_into().unwrap();

    fleet.stop_node("us").unwrap();
    assert_eq!(fleet.nodes()[1].pid, None);
    assert!(is_gone(before[1]));
    assert!(get(&us, "/readyz").is_none(), "nobody answers there");
    eventually("the others miss it", || says(&eu, "members", &us).filter(|member| member["state"] == "dead")).await;

    fleet.start_node("us").await.unwrap();
    let again = fleet.nodes()[1].clone();
    assert_eq!(again, TargetNode { pid: again.pid, ..us.clone() });
    assert_ne!(again.pid, Some(before[1]));
    eventually("it is a member again", || says(&eu, "members", &us).filter(|member| member["state"] == "live")).await;
    pipe_is("up", &eu, &us).await;

    // It dies by itself.
    fleet.check().unwrap();
    let pid = again.pid.unwrap().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let error = eventually("that is told", || fleet.check().err()).await;
    assert!(error.to_string().starts_with("node us-1 ended (signal: 9 (SIGKILL))"), "{error}");
    fleet.start_node("us").await.unwrap();
    fleet.check().unwrap();

    let unknown = fleet.stop_node("mars").unwrap_err();
    assert_eq!(unknown.to_string(), "\"mars\": allowed are the regions eu, us, ap");
    assert!(matches!(fleet.cut("eu", "us"), Err(FleetError::NoRelays)));

    let running = pids(&fleet);
    fleet.shutdown().await;
    assert!(running.iter().all(|&pid| is_gone(pid)), "{running:?}");
}

#[tokio::test]
async fn paths_are_long_get_cut_and_heal() {
    let fleet = start(3, &["eu-us=30ms", "us>ap=0ms"]).await;
    let [eu, us, ap] = fleet.nodes().to_vec().try_into().unwrap();
    let pipe = pipe_is("up", &eu, &us).await;
    assert!(pipe["rttMs"].as_f64().unwrap() >= 60.0, "{pipe}");

    fleet.cut("eu", "us").unwrap();
    // Changes what the path heals to.
    fleet.set_path(&"eu>us=50ms".parse().unwrap()).unwrap();
    for (from, to) in [(&eu, &us), (&us, &eu)] {
        eventually("the pipe is down", || says(from, "pipes", to).filter(|pipe| pipe["state"] != "up")).await;
    }
    for (from, to) in [(&eu, &ap), (&ap, &us)] {
        pipe_is("up", from, to).await;
    }
    let relays = fleet.relays().unwrap();
    assert!(relays.path("eu", "us").unwrap().stats().blackout > 0);
    assert_eq!(relays.path("us", "ap").unwrap().stats().blackout, 0);

    fleet.heal("us", "eu").unwrap();
    let pipe = pipe_is("up", &eu, &us).await;
    assert!(pipe["rttMs"].as_f64().unwrap() >= 80.0, "{pipe}");
    assert!(matches!(fleet.cut("eu", "eu"), Err(FleetError::Region(SpecError::SameEnds(_)))));

    let running = pids(&fleet);
    // Not asked to end: as after a panic.
    drop(fleet);
    assert!(running.iter().all(|&pid| is_gone(pid)), "{running:?}");
}

#[tokio::test]
async fn a_region_that_is_cut_off_is_missed_and_found_again() {
    let fleet = start(2, &["eu-us=1ms"]).await;
    let [eu, us] = fleet.nodes().to_vec().try_into().unwrap();
    fleet.cut("eu", "us").unwrap();
    for (from, to) in [(&eu, &us), (&us, &eu)] {
        eventually("it is missed", || says(from, "members", to).filter(|member| member["state"] == "dead")).await;
    }
    fleet.heal("eu", "us").unwrap();
    for (from, to) in [(&eu, &us), (&us, &eu)] {
        eventually("it is found", || says(from, "members", to).filter(|member| member["state"] == "live")).await;
        pipe_is("up", from, to).await;
    }
    fleet.shutdown().await;
}

#[tokio::test]
async fn what_does_not_start_is_told_with_the_log() {
    // A program that is no node.
    let error = Fleet::start(FleetConfig { sluice: "/bin/false".into(), ..config(1, &[]) }).await.unwrap_err();
    assert!(matches!(error, FleetError::Certificates(_)), "{error}");
    let error = Fleet::start(FleetConfig { sluice: "/nowhere/sluice".into(), ..config(1, &[]) }).await.unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/sluice: "), "{error}");
    let error = Fleet::start(config(2, &["eu-mars=1ms"])).await.unwrap_err();
    assert_eq!(error.to_string(), "\"mars\": allowed are the regions eu, us");

    // A node that refuses its settings.
    let logs = tempfile::tempdir().unwrap();
    let log_dir = Some(logs.path().to_owned());
    let error = Fleet::start(FleetConfig { workers: 1000, log_dir, ..config(2, &[]) }).await.unwrap_err();
    let message = error.to_string();
    assert!(message.starts_with("node eu-1 ended (exit status: 2)"), "{message}");
    assert!(message.ends_with("workers = \"1000\" (from a flag): allowed is an integer from 0 to 256"), "{message}");
    assert!(logs.path().join("eu-1.log").is_file(), "the log is kept");

    // A port that is taken while a node is stopped.
    let mut fleet = start(1, &[]).await;
    fleet.stop_node("eu").unwrap();
    let users = fleet.nodes()[0].url.strip_prefix("ws://").unwrap();
    let _taken = TcpListener::bind(users).unwrap();
    let error = fleet.start_node("eu").await.unwrap_err();
    assert!(error.to_string().contains("users.listen"), "{error}");
}

#[tokio::test]
#[ignore = "is run by the test below, which kills it"]
async fn a_harness_that_is_killed() {
    let fleet = start(2, &["eu-us=1ms"]).await;
    for pid in pids(&fleet) {
        println!("pid {pid}");
    }
    println!("pid of all");
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_killed_harness_leaves_no_nodes() {
    sluice();
    // It cannot tidy up.
    let folder = tempfile::tempdir().unwrap();
    let mut harness = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "a_harness_that_is_killed", "--nocapture"])
        .env("TMPDIR", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(harness.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pids = lines.take_while(|line| line != "pid of all");
    let pids: Vec<u32> = pids.filter_map(|line| line.strip_prefix("pid ")?.parse().ok()).collect();
    assert_eq!(pids.len(), 2);
    assert!(!pids.iter().any(|&pid| is_gone(pid)));
    harness.kill().unwrap();
    harness.wait().unwrap();
    eventually("the nodes are gone", || pids.iter().all(|&pid| is_gone(pid)).then_some(())).await;
}

#[test]
fn a_missing_program_is_named_with_the_way_to_it() {
    let dir = tempfile::tempdir().unwrap();
    let deps = dir.path().join("deps");
    std::fs::create_dir(&deps).unwrap();
    let error = sluice_beside(&deps.join("harness")).unwrap_err();
    assert!(error.to_string().contains("cargo build --release -p sluice-node"), "{error}");

    std::fs::write(dir.path().join("sluice"), "").unwrap();
    for executable in [deps.join("harness"), dir.path().join("harness")] {
        assert_eq!(sluice_beside(&executable).unwrap(), dir.path().join("sluice"));
    }
    // One folder up is for tests only.
    assert!(sluice_beside(&dir.path().join("bin/harness")).is_err());
}
