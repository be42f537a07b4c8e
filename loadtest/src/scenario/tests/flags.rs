//! Flags on top of a file.

use super::*;

fn with_flags(text: &str, overrides: &Overrides) -> Result<Scenario, String> {
    ScenarioFile::parse("my.toml", text).unwrap().with(overrides).map_err(|error| error.to_string())
}

#[test]
fn users_scale_by_rooms_or_by_the_largest_kind() {
    let scaled = |name: &str, users, rooms| {
        let overrides = Overrides { users: Some(users), rooms, ..Default::default() };
        ScenarioFile::open(name).unwrap().with(&overrides).map_err(|error| error.to_string())
    };
    let shape = |scenario: Scenario| (scenario.rooms[0].count, scenario.rooms[0].size());
    assert_eq!(scaled("meeting", 600, None).map(shape), Ok((100, 6)));
    assert_eq!(scaled("meeting", 7, None).map(shape), Ok((2, 6)));
    assert_eq!(scaled("meeting", 4, None).map(shape), Ok((1, 4)));
    assert_eq!(scaled("meeting", 40, Some(4)).map(shape), Ok((4, 10)));
    assert_eq!(scaled("meeting-one-room", 20, None).map(shape), Ok((1, 20)));
    assert_eq!(scaled("webinar", 3001, None).map(|scenario| scenario.rooms[0].users[1].count), Ok(3000));
    assert_eq!(scaled("audio-room", 5, None), Err("--users: 5 in a room: it has 10 besides the users listener".into()));
    assert_eq!(scaled("churn", 0, None), Err("--users: 0: allowed is an integer from 1 to 1000000".into()));
}

#[test]
fn flags_replace_what_the_file_says() {
    let overrides = Overrides {
        duration: Some(Duration::from_secs(5)),
        ramp: Some(Duration::ZERO),
        seed: Some(7),
        nodes: Some(2),
        workers: Some(0),
        video_bitrate: Some(300_000),
        wan: vec!["users-nodes=5ms".parse().unwrap(), "eu>us=80ms,1%".parse().unwrap()],
        open_every: Some(10),
        threads: Some(2),
        ..Default::default()
    };
    let scenario = ScenarioFile::open("meeting").unwrap().with(&overrides).unwrap();
    assert_eq!((scenario.ramp, scenario.end(), scenario.seed), (Duration::ZERO, Duration::from_secs(5), 7));
    assert_eq!(scenario.target, Target::Dev { nodes: 2, workers: 0 });
    assert_eq!(scenario.rooms[0].users[0].video.as_ref().unwrap().encodings[0].bitrate, 300_000);
    assert_eq!((scenario.wan[0].both, scenario.wan[1].both), (true, false));
    assert_eq!(scenario.wan[1].to, PathEnd::Nodes("us".into()));
    assert_eq!((scenario.generator.open_every, scenario.generator.threads), (10, 2));
    let info = scenario.info();
    assert_eq!((info.users, info.rooms, info.ramp_ms, info.duration_ms), (150, 25, 0, 5000));
    assert_eq!(parse(&info.toml), Ok(scenario));
}

#[test]
fn flags_that_do_not_fit_are_told_by_their_names() {
    let node: TargetNode = "eu=ws://127.0.0.1:1,metrics=http://127.0.0.1:2/metrics,pid=3,insecure".parse().unwrap();
    assert_eq!((node.pid, node.insecure, node.region.as_str()), (Some(3), true, "eu"));
    let target = Overrides { targets: vec![node], ..Default::default() };
    let run =
        |name: &str, overrides: &Overrides| ScenarioFile::open(name).unwrap().with(overrides).unwrap_err().to_string();
    let faults = run("failover", &target);
    assert!(faults.starts_with("failover.toml:"), "{faults}");
    assert!(faults.ends_with("the target has no region us, only eu"), "{faults}");
    let paths = Overrides { wan: vec!["eu-ap=1ms".parse().unwrap()], ..Default::default() };
    assert_eq!(run("meeting", &paths), "--wan: the target has no region ap, only eu");
    let both = Overrides { dev: true, ..target.clone() };
    assert_eq!(run("meeting", &both), "--dev: a target given by --target runs already");
    let workers = Overrides { workers: Some(2), ..target };
    assert_eq!(run("meeting", &workers), "--workers: only of a mesh that the run starts (--dev)");
    let nothing = Overrides { duration: Some(Duration::ZERO), ..Default::default() };
    assert_eq!(run("meeting", &nothing), "--duration: 0s: allowed is a duration above 0");
    let long = Overrides { ramp: Some(Duration::MAX), ..Default::default() };
    assert!(run("meeting", &long).starts_with("--ramp: ramp = "), "{}", run("meeting", &long));
    let short = Overrides { duration: Some(Duration::from_secs(5)), ..Default::default() };
    assert!(run("failover", &short).ends_with(": at = \"20s\": the run ends after 15s"));
    let slow = Overrides { video_bitrate: Some(1), ..Default::default() };
    assert_eq!(run("meeting", &slow), "--video-bitrate: 1: allowed is an integer from 10000 to 100000000");
}

#[test]
fn flags_that_cannot_be_read_say_what_can() {
    let target = |text: &str| text.parse::<TargetNode>().unwrap_err();
    assert_eq!(target("eu=http://a"), "\"http://a\": allowed is a URL such as \"wss://sfu.example:4443\"");
    assert_eq!(target("ws://a,pid=x"), "pid \"x\" is no number");
    assert_eq!(
        target("ws://a,secure"),
        "\"secure\": allowed are metrics=URL, pid=N, query=TEXT, name=NAME and insecure"
    );
    let path = |text: &str| text.parse::<Path>().unwrap_err();
    let form = ": allowed is A-B=PATH or A>B=PATH, such as eu-us=80ms,1% or users:eu>eu=20ms";
    for wrong in ["eu-us", "eu=1ms", "eu-west-us-east=1ms", "eu-us west=1ms"] {
        assert_eq!(path(wrong), format!("{wrong:?}{form}"));
    }
    assert_eq!("eu-west<>us-east=1ms".parse::<Path>().map(|path| path.both), Ok(true));
    assert!(path("eu-us=quick").starts_with("\"quick\": allowed is a delay (80ms)"));
}

#[test]
fn faults_of_a_mesh_with_other_regions_are_told_by_line() {
    let text = format!("{LEAST}[target.dev]\nnodes = 2\n[[faults]]\nat = \"1s\"\nstop = \"us\"\n");
    let one = Overrides { nodes: Some(1), ..Default::default() };
    assert_eq!(with_flags(&text, &one), Err("my.toml:7: the target has no region us, only eu".into()));
}

#[test]
fn a_mesh_of_its_own_replaces_nodes_that_run_already() {
    let text = format!("{LEAST}[[target.nodes]]\nurl = \"ws://127.0.0.1:1\"\n");
    let own = Overrides { dev: true, nodes: Some(3), ..Default::default() };
    assert_eq!(with_flags(&text, &own).map(|scenario| scenario.target), Ok(Target::Dev { nodes: 3, workers: 1 }));
    let three = |name: &str| ScenarioFile::open(name).unwrap().with(&Overrides { dev: true, ..Default::default() });
    assert_eq!(three("global").map(|scenario| scenario.target), Ok(Target::Dev { nodes: 3, workers: 1 }));
}

#[test]
fn absurd_sizes_are_refused_before_they_overflow() {
    let text = "[[rooms]]\ncount = 1000000\n[[rooms.users]]\ncount = 1000000\naudio = true\n";
    let error = |overrides: &Overrides| with_flags(text, overrides).unwrap_err();
    assert_eq!(error(&Overrides::default()), "my.toml:1: too many users: allowed are 1000000 in all");
    let fewer = Overrides { users: Some(5), ..Default::default() };
    assert_eq!(with_flags(text, &fewer).map(|scenario| scenario.users()), Ok(5));
}
