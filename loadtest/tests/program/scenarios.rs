//! Each shipped scenario over real sockets, at a size that a test machine carries. Whether the objectives are met is
//! the machine's business; that everybody joins, receives what they should, and that what happened is told, is the
//! program's.

use sluice_loadtest::results::{Ended, GroupSample, Received};

use crate::binary::sluice;
use crate::support::{Run, loadtest, run};

fn run_scenario(name: &str, args: &[&str]) -> Run {
    let sluice = sluice();
    let run = run(&[&[name, "--sluice", sluice.to_str().unwrap()], args].concat());
    let results = &run.results;
    println!("{}", run.summary);
    assert_eq!(results.ended, Ended::Completed);
    assert!(run.summary.contains("objectives met") || run.summary.contains("NOT JUDGED"), "{}", run.summary);
    assert_eq!(results.steady.len(), results.groups.len());
    assert!(results.joins.time.p50_ms > 0.0);
    for (node, totals) in results.target.nodes.iter().zip(&results.nodes) {
        assert!(totals.cpu > 0.0, "{} tells of its work: {totals:?}", node.name);
        assert_eq!(totals.packets_per_cpu_second.is_some(), name != "data", "packets are of media: {totals:?}");
        assert!(totals.max_resident_bytes > 1_000_000, "{totals:?}");
    }
    run
}

/// Nobody failed to join, and everybody who receives a kind gets all of it, and soon.
fn all_is_well(run: &Run, receives: impl Fn(&str) -> (bool, bool)) {
    let results = &run.results;
    assert!(results.samples.iter().any(|sample| sample.users_joined == results.scenario.users), "all were in at once");
    assert_eq!(results.joins.failures(), 0, "{:?}", results.joins);
    for (group, sample) in results.groups.iter().zip(&results.steady) {
        let (audio, video) = receives(&group.users);
        arrives(&group.users, &sample.audio, audio);
        arrives(&group.users, &sample.video, video);
        if video {
            assert!(sample.video.first_frame.count > 0 && sample.video.frames > 0, "{sample:?}");
        }
    }
}

fn arrives(who: &str, received: &Received, expected: bool) {
    assert_eq!(received.packets > 0, expected, "{who}: {received:?}");
    if expected {
        assert!(received.delay.count > 0 && received.delay.p50_ms > 0.0, "{who}: {received:?}");
        let lost = received.lost as f64 / received.expected as f64;
        assert!(lost < 0.02, "{who} lost {lost}: {received:?}");
    }
}

#[test]
fn meeting() {
    let run = run_scenario("meeting", &["--dev", "--users", "12", "--ramp", "2s", "--duration", "5s"]);
    all_is_well(&run, |_| (true, true));
    assert_eq!((run.results.scenario.users, run.results.scenario.rooms), (12, 2));
    let streams: u32 = run.results.steady.iter().map(|group| group.video.streams).sum();
    assert_eq!(streams, 12 * 5, "everybody sees the others of the room");
}

#[test]
fn meeting_in_one_room() {
    let run = run_scenario("meeting-one-room", &["--dev", "--users", "10", "--ramp", "2s", "--duration", "5s"]);
    all_is_well(&run, |_| (false, true));
    assert_eq!(run.results.scenario.rooms, 1);
}

#[test]
fn webinar() {
    let run = run_scenario("webinar", &["--dev", "--users", "30", "--ramp", "2s", "--duration", "5s"]);
    all_is_well(&run, |users| (users == "audience", users == "audience"));
}

#[test]
fn audio_room() {
    let run = run_scenario("audio-room", &["--dev", "--users", "40", "--ramp", "2s", "--duration", "5s"]);
    all_is_well(&run, |_| (true, false));
}

#[test]
fn churn() {
    let run = run_scenario("churn", &["--dev", "--users", "18", "--ramp", "2s", "--duration", "8s"]);
    assert_eq!(run.results.joins.failures(), 0, "{:?}", run.results.joins);
    assert!(run.results.joins.attempted > 18, "some come again");
}

#[test]
fn global() {
    let run = run_scenario("global", &["--dev", "--users", "6", "--ramp", "2s", "--duration", "8s"]);
    all_is_well(&run, |_| (true, true));
    for sample in &run.results.steady {
        // To the node, between two nodes, and to the user again.
        assert!(sample.video.delay.p50_ms >= 109.0, "the path takes as long: {:?}", sample.video.delay);
        assert!(sample.video.missing > 0 && sample.video.repaired + sample.video.packets > 0, "{:?}", sample.video);
    }
    assert!(run.results.joins.time.p50_ms >= 60.0, "signalling takes the path too");
}

#[test]
fn failover() {
    let printed = loadtest(&["scenarios", "failover"]).output().unwrap();
    let mut scenario = String::from_utf8(printed.stdout).unwrap();
    for (at, sooner) in [("\"20s\"", "\"3s\""), ("\"30s\"", "\"8s\""), ("\"45s\"", "\"14s\""), ("\"55s\"", "\"18s\"")] {
        assert_eq!(scenario.matches(at).count(), 1, "{at} in {scenario}");
        scenario = scenario.replace(at, sooner);
    }
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), scenario).unwrap();
    let path = file.path().to_str().unwrap();
    let run = run_scenario(path, &["--dev", "--users", "6", "--ramp", "1s", "--duration", "24s"]);
    let results = &run.results;
    let events: Vec<_> = results.events.iter().map(|event| event.what.as_str()).collect();
    for what in ["the node of ap is killed", "the node of ap is started again", "eu and us is cut", "eu and us heals"] {
        assert!(events.iter().any(|event| event.contains(what)), "{what} in {events:?}");
    }
    let at = |second: f64| results.samples.iter().filter(move |sample| (sample.at_s - second).abs() < 0.6);
    assert!(at(7.0).all(|sample| sample.users_joined == 4), "the dead node's users are gone");
    assert!(at(7.0).any(|sample| sample.nodes[2].is_none()), "and it says nothing");
    let last = results.samples.last().unwrap();
    assert_eq!(last.users_joined, 6, "they are back");
    let streams = |group: &GroupSample| group.video.streams;
    assert_eq!(last.groups.iter().map(streams).sum::<u32>(), 6 * 5, "and everybody sees everybody again");
    let eu_while_ap_was_dead = at(6.0).flat_map(|sample| &sample.groups).filter(|group| group.group == 0);
    assert!(eu_while_ap_was_dead.into_iter().all(|group| group.video.packets > 0), "the others went on");
}

/// Its ramp is long enough for all to be there before what is measured begins.
#[test]
fn data() {
    let run = run_scenario("data", &["--dev", "--users", "12", "--ramp", "2s", "--duration", "8s"]);
    let results = &run.results;
    assert_eq!(results.joins.failures(), 0, "{:?}", results.joins);
    for (group, sample) in results.groups.iter().zip(&results.steady) {
        let (received, sent) = (&sample.data, &sample.sent_data);
        let users = sent.channels;
        assert_eq!(received.channels, users * 5, "{group:?}: everybody has the others of the room");
        assert!(sent.messages > 0 && received.messages > 0 && received.delay.count > 0, "{group:?}: {sample:?}");
        assert_eq!((received.violations, sent.refused), (0, 0), "{group:?}: {sample:?}");
    }
}
