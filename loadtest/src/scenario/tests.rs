use std::fs;

use proptest::prelude::*;
use sluice_mesh::wan::{Loss, Rate};

use super::*;

/// The least that is a scenario.
const LEAST: &str = "[[rooms]]\n[[rooms.users]]\ncount = 2\naudio = true\n";

fn parse(text: &str) -> Result<Scenario, String> {
    let file = ScenarioFile::parse("my.toml", text).map_err(|error| error.to_string())?;
    file.with(&Overrides::default()).map_err(|error| error.to_string())
}

fn error(text: &str) -> String {
    let error = parse(text).unwrap_err();
    assert!(!error.contains('\n'), "more than one line: {error}");
    error
}

fn with_flags(text: &str, overrides: &Overrides) -> Result<Scenario, String> {
    ScenarioFile::parse("my.toml", text).unwrap().with(overrides).map_err(|error| error.to_string())
}

#[test]
fn the_shipped_scenarios_are_fit() {
    for name in shipped_names() {
        let scenario = ScenarioFile::open(name).unwrap().with(&Overrides::default()).unwrap();
        assert_eq!(scenario.name, name);
        assert!(!scenario.description.is_empty(), "{name}");
        assert_ne!(scenario.slo, Slo::default(), "{name}");
    }
}

#[test]
fn shipped_scenarios_have_the_sizes_that_others_publish() {
    let users = |name| ScenarioFile::open(name).unwrap().with(&Overrides::default()).unwrap().users();
    assert_eq!(users("meeting"), 150);
    assert_eq!(users("meeting-one-room"), 150);
    assert_eq!(users("webinar"), 1001);
    assert_eq!(users("audio-room"), 3010);
}

#[test]
fn the_least_scenario_has_the_documented_defaults() {
    let scenario = parse(LEAST).unwrap();
    assert_eq!((scenario.name.as_str(), scenario.seed), ("my", 1));
    assert_eq!((scenario.ramp, scenario.duration), (Duration::from_secs(10), Duration::from_secs(60)));
    assert_eq!(scenario.target, Target::Dev { nodes: 1, workers: 1 });
    assert_eq!(scenario.generator, GeneratorConfig::default());
    assert_eq!((scenario.rooms[0].name.as_str(), scenario.rooms[0].count), ("room", 1));
    let users = &scenario.rooms[0].users[0];
    assert_eq!(users.audio, Some(Audio { bitrate: 32_000, talk: 1.0, dtx: true, file: None }));
    assert_eq!((users.watch_audio, users.watch_video, users.churn), (Watch::All, Watch::All, None));
}

#[test]
fn the_short_forms_say_what_the_long_ones_say() {
    let users = |line: &str| {
        parse(&format!("[[rooms]]\n[[rooms.users]]\ncount = 2\n{line}\n")).unwrap().rooms[0].users[0].clone()
    };
    assert_eq!(users("audio = \"64kbps\""), users("audio = { bitrate = 64000 }"));
    assert_eq!(users("video = true"), users("video = { codec = \"vp8\", bitrate = \"1Mbps\", fps = 30 }"));
    assert_eq!(users("video = true"), users("video = { encodings = [{ bitrate = \"1Mbps\" }] }"));
    assert_eq!(users("audio = true\nwatch = 3"), users("audio = true\nwatch = { audio = 3, video = 3 }"));
    assert_eq!(users("audio = true\nvideo = false"), users("audio = true"));
    let scenario = |wan: &str| {
        parse(&format!("{LEAST}[target.dev]\nnodes = 2\n[[wan]]\nbetween = [\"eu\", \"us\"]\n{wan}")).unwrap()
    };
    assert_eq!(scenario("path = \"80ms,1%\"").wan, scenario("path = { delay = \"80ms\", loss = 0.01 }").wan);
}

/// Of texts whose third line is wrong.
#[test]
fn what_is_wrong_by_itself_is_told_with_its_line() {
    let cases = [
        ("conut = 6", "unknown key conut; did you mean count?"),
        ("colour = \"red\"", "unknown key colour; allowed are name, count, regions, audio, video, watch, churn"),
        ("count = \"six\"", "count = \"six\": allowed is an integer from 1 to 1000000"),
        ("count = 0", "count = 0: allowed is an integer from 1 to 1000000"),
        ("audio = 1.5", "audio = 1.5: allowed is true, false, a bitrate or a table"),
        ("audio = { talk = 1.5 }", "talk = 1.5: allowed is a share such as \"0.5%\", or a number from 0 to 1"),
        ("audio = { talk = nan }", "talk = nan: allowed is a share such as \"0.5%\", or a number from 0 to 1"),
        (
            "audio = \"1kbps\"",
            "bitrate = \"1kbps\": allowed is a bitrate from 6kbps to 510kbps, such as \"1.5Mbps\" or \"32kbps\", or an integer of bits per second",
        ),
        ("video = { temporal_layers = 4 }", "temporal_layers = 4: allowed is an integer from 1 to 3"),
        ("video = { codec = \"av1\" }", "codec = \"av1\": allowed is \"vp8\" or \"h264\""),
        ("video = { fps = 30, encodings = [{ fps = 15 }] }", "fps belongs into the encodings when they are listed"),
        ("video = { encodings = [1] }", "encodings = 1: allowed is a list of tables"),
        (
            "watch = \"most\"",
            "watch = \"most\": allowed is \"all\", \"none\" or a number from 1, or a table of audio and video",
        ),
        ("watch = { audio = 0 }", "audio = 0: allowed is \"all\", \"none\" or a number from 1"),
        ("churn = { stay = \"1ms\" }", "stay = \"1ms\": allowed is a duration of at least 1s"),
        ("churn = { away = \"1s\" }", "stay is missing"),
        ("churn = \"1s\"", "churn = \"1s\": allowed is a table"),
        ("regions = \"eu\"", "regions = \"eu\": allowed is a list of names, such as [\"eu\", \"us\"]"),
        (
            "name = \"a b\"",
            "name = \"a b\": allowed is a name in quotes, up to 64 letters, digits, dots, dashes and underscores, such as \"eu-1\"",
        ),
        ("count = = 6", "extra `=`, expected nothing"),
    ];
    for (line, expected) in cases {
        assert_eq!(error(&format!("[[rooms]]\n[[rooms.users]]\n{line}\n")), format!("my.toml:3: {expected}"), "{line}");
    }
}

/// Of texts whose first lines are fit and are followed by others.
#[test]
fn what_is_wrong_at_the_top_is_told_with_its_line() {
    let cases = [
        ("duration = \"0s\"", "my.toml:1: duration = \"0s\": allowed is a duration above 0"),
        (
            "duration = 20",
            "my.toml:1: duration = 20: allowed is a duration in quotes, such as \"20s\", \"500ms\" or \"1m 30s\"",
        ),
        ("seed = -1", "my.toml:1: seed = -1: allowed is an integer from 0 to 9223372036854775807"),
        ("[target]", "my.toml:1: the target is dev or a list of nodes, and neither is there"),
        ("[target.dev]\nnodes = 0", "my.toml:2: nodes = 0: allowed is an integer from 1 to 64"),
        ("[[target.nodes]]\nregion = \"eu\"", "my.toml:1: url is missing"),
        (
            "[[target.nodes]]\nurl = \"https://sfu.example\"",
            "my.toml:2: url = \"https://sfu.example\": allowed is a URL such as \"wss://sfu.example:4443\"",
        ),
        ("[target]\ndev = {}\nnodes = [{ url = \"ws://a:1\" }]", "my.toml:1: the target is either dev or nodes"),
        ("[[faults]]\nat = \"1s\"", "my.toml:1: a fault is one of stop, start, cut and heal"),
        (
            "[[faults]]\nat = \"1s\"\nstop = \"eu\"\nstart = \"eu\"",
            "my.toml:1: a fault is one of stop, start, cut and heal",
        ),
        (
            "[[faults]]\nat = \"1s\"\ncut = [\"eu\"]",
            "my.toml:3: cut = (a list): allowed is a list of two, such as [\"eu\", \"us\"]",
        ),
        ("[[wan]]\nfrom = \"eu\"\npath = \"1ms\"", "my.toml:1: a path is between two ends, or from one to another"),
        ("[[wan]]\nbetween = [\"eu\", \"us\"]", "my.toml:1: path is missing"),
        (
            "[[wan]]\nbetween = [\"eu\", \"users:\"]",
            "my.toml:2: between = (a list): allowed is a region, \"nodes\" for all of them, \"users\" or \"users:REGION\"",
        ),
        (
            "[slo]\nresidual_loss = \"101%\"",
            "my.toml:2: residual_loss = \"101%\": allowed is a share such as \"0.5%\", or a number from 0 to 1",
        ),
        ("[slo]\nfreezes_per_hour = -1", "my.toml:2: freezes_per_hour = -1: allowed is a number, 0 or more"),
        ("[slo]\njoin_p98 = \"1s\"", "my.toml:2: unknown key join_p98; did you mean join_p99?"),
        ("[generator]\nopen_every = 0", "my.toml:2: open_every = 0: allowed is an integer from 1 to 1000"),
        ("[generator]\ncoalesce = \"1s\"", "my.toml:2: coalesce = \"1s\": allowed is a duration of up to 100ms"),
    ];
    for (lines, expected) in cases {
        assert_eq!(error(&format!("{lines}\n{LEAST}")), expected, "{lines}");
    }
}

/// Of texts that go on after the least scenario's four lines.
#[test]
fn what_does_not_fit_together_is_told_with_its_line() {
    let dev = "[target.dev]\nnodes = 2\n";
    let cases = [
        ("regions = [\"eu\", \"us\"]".to_owned(), "my.toml:5: the target has no region us, only eu"),
        ("[[rooms.users]]\naudio = true".into(), "my.toml:5: two kinds of users of one room are called user: give each a name of its own"),
        ("[[rooms.users]]\nname = \"idle\"\nwatch = \"none\"".into(), "my.toml:5: the users idle send nothing and watch nothing"),
        ("[[rooms]]\n[[rooms.users]]\naudio = true".into(), "my.toml:5: two kinds of rooms are called room: give each a name of its own"),
        ("[[rooms]]\nname = \"empty\"".into(), "my.toml:5: the rooms empty have no users: add [[rooms.users]]"),
        ("[[rooms]]\nname = \"mute\"\n[[rooms.users]]".into(), "my.toml:5: nobody in the rooms mute sends anything"),
        (
            "[[rooms]]\nname = \"huge\"\ncount = 1000\n[[rooms.users]]\ncount = 1001\naudio = true".into(),
            "my.toml:1: 1001002 users: allowed are up to 1000000",
        ),
        ("video = { encodings = [{}, {}] }".into(), "my.toml:5: 2 encodings: not carried by nodes yet, allowed is one"),
        (
            "video = { codec = \"h264\", temporal_layers = 2 }".into(),
            "my.toml:5: H.264 does not tell its temporal layers: allowed is 1",
        ),
        ("video = { file = \"none.ivf\" }".into(), "my.toml:5: file = \"none.ivf\": there is no such file"),
        ("video = { file = \"a.ogg\" }".into(), "my.toml:5: file = \"a.ogg\": allowed is VP8 in a file that ends in .ivf or .webm"),
        (
            "video = { codec = \"h264\", file = \"a.webm\" }".into(),
            "my.toml:5: file = \"a.webm\": allowed is H.264 in a file that ends in .ivf",
        ),
        ("[slo]\nfreezes_per_hour = 1".into(), "my.toml:6: freezes_per_hour cannot be measured: nobody receives video"),
        ("[[faults]]\nat = \"1s\"\nstop = \"us\"".into(), "my.toml:5: the target has no region us, only eu"),
        ("[[faults]]\nat = \"1s\"\nstart = \"eu\"".into(), "my.toml:5: the node of eu is not stopped"),
        ("[[faults]]\nat = \"70s\"\nstop = \"eu\"".into(), "my.toml:6: at = \"1m 10s\": the run ends after 1m 10s"),
        (
            "[[faults]]\nat = \"2s\"\nstop = \"eu\"\n[[faults]]\nat = \"1s\"\nstart = \"eu\"".into(),
            "my.toml:9: at = \"1s\": list what happens in order of time",
        ),
        (format!("{dev}[[faults]]\nat = \"1s\"\nheal = [\"us\", \"eu\"]"), "my.toml:7: the link of us and eu is not cut"),
        (format!("{dev}[[faults]]\nat = \"1s\"\ncut = [\"eu\", \"eu\"]"), "my.toml:7: a link from eu to itself"),
        (
            format!("{dev}[[faults]]\nat = \"1s\"\ncut = [\"eu\", \"us\"]\n[[faults]]\nat = \"2s\"\ncut = [\"us\", \"eu\"]"),
            "my.toml:10: the link of us and eu is cut already",
        ),
        (
            "[[faults]]\nat = \"1s\"\nstop = \"eu\"\n[[faults]]\nat = \"1s\"\nstop = \"eu\"".into(),
            "my.toml:8: the node of eu is stopped already",
        ),
        (
            "[[faults]]\nat = \"1s\"\nstop = \"eu\"\n[[target.nodes]]\nregion = \"eu\"\nurl = \"ws://127.0.0.1:1\"".into(),
            "my.toml:5: faults need a mesh that the run starts (dev), not one that runs already",
        ),
        ("[[wan]]\nbetween = [\"eu\", \"ap\"]\npath = \"1ms\"".into(), "my.toml:5: the target has no region ap, only eu"),
        ("[[wan]]\nbetween = [\"eu\", \"eu\"]\npath = \"1ms\"".into(), "my.toml:5: a path between eu and eu is within one region"),
        ("[[wan]]\nbetween = [\"nodes\", \"nodes\"]\npath = \"1ms\"".into(), "my.toml:5: a path between nodes needs at least two regions"),
        (
            "[[wan]]\nbetween = [\"users\", \"users:eu\"]\npath = \"1ms\"".into(),
            "my.toml:5: no path leads between users and users:eu: users reach each other through nodes",
        ),
        (
            format!("{dev}[[wan]]\nbetween = [\"users:eu\", \"us\"]\npath = \"1ms\""),
            "my.toml:7: no path leads between users:eu and us: users connect to nodes of their own region",
        ),
        (
            "[[wan]]\nbetween = [\"users\", \"nodes\"]\npath = \"1ms\"\nthen = [{ at = \"2m\", path = \"1%\" }]".into(),
            "my.toml:8: at = \"2m\": the run ends after 1m 10s",
        ),
        (
            "[[wan]]\nbetween = [\"users\", \"nodes\"]\npath = \"quick\"".into(),
            "my.toml:7: path = \"quick\": \"quick\" is neither a delay nor a loss",
        ),
        (
            "[[wan]]\nbetween = [\"users\", \"nodes\"]\npath = { queue_bytes = 1 }".into(),
            "my.toml:7: queue_bytes is the queue of a rate, which is missing",
        ),
        (
            "[[target.nodes]]\nname = \"a\"\nurl = \"ws://a:1\"\n[[target.nodes]]\nname = \"a\"\nurl = \"ws://b:1\"".into(),
            "my.toml:5: two nodes are called a",
        ),
        (
            "[[target.nodes]]\nregion=\"eu\"\nurl = \"ws://a:1\"\n[[target.nodes]]\nregion=\"us\"\nurl = \"ws://b:1\"\n[[wan]]\nbetween = [\"eu\", \"us\"]\npath = \"1ms\"".into(),
            "my.toml:11: paths between nodes can only be changed in a mesh that the run starts (dev)",
        ),
    ];
    for (lines, expected) in cases {
        assert_eq!(error(&format!("{LEAST}{lines}\n")), expected, "{lines}");
    }
}

#[test]
fn a_scenario_needs_rooms_and_somebody_who_receives_what_is_judged() {
    assert_eq!(error(""), "my.toml: there are no rooms: a scenario needs [[rooms]] with [[rooms.users]]");
    let alone = "[[rooms]]\n[[rooms.users]]\naudio = true\n[slo]\ndelay_p99 = \"1s\"\n";
    assert_eq!(error(alone), "my.toml:5: delay_p99 cannot be measured: nobody receives anything");
}

#[test]
fn an_unknown_scenario_is_told_with_those_that_there_are() {
    let open = |name| ScenarioFile::open(name).unwrap_err().to_string();
    assert_eq!(
        open("meting"),
        "meting: no such scenario; did you mean meeting?; there are meeting, meeting-one-room, webinar, audio-room, global, \
         failover, churn, or the path of a TOML file"
    );
    assert!(open("no/such.toml").starts_with("no/such.toml: No such file"), "{}", open("no/such.toml"));
}

#[test]
fn media_files_are_sought_from_the_scenarios_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("talk.ogg"), "").unwrap();
    let file = folder.path().join("my own.toml");
    fs::write(&file, LEAST.replace("true", "{ file = \"talk.ogg\" }")).unwrap();
    let scenario = ScenarioFile::open(file.to_str().unwrap()).unwrap().with(&Overrides::default()).unwrap();
    let audio = scenario.rooms[0].users[0].audio.as_ref().unwrap();
    assert_eq!(audio.file, Some(folder.path().join("talk.ogg")));
    assert_eq!(scenario.name, "my-own");
    assert_eq!(parse(&scenario.to_toml()), Ok(scenario));
}

#[test]
fn nodes_without_names_are_called_after_their_regions() {
    let node = |region| format!("[[target.nodes]]\nregion = \"{region}\"\nurl = \"wss://sfu.example/\"\n");
    let scenario = parse(&format!("{LEAST}{}{}{}", node("eu"), node("us"), node("eu"))).unwrap();
    let names: Vec<String> = scenario.target.nodes().into_iter().map(|node| node.name).collect();
    assert_eq!(names, ["eu-1", "us", "eu-2"]);
    assert_eq!(scenario.target.regions(), ["eu", "us"]);
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
        dev: Some(2),
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
    let both = Overrides { dev: Some(2), ..target.clone() };
    assert_eq!(run("meeting", &both), "--dev: a target given by --target runs already");
    let workers = Overrides { workers: Some(2), ..target };
    assert_eq!(run("meeting", &workers), "--workers: only a mesh that the run starts (--dev) can be told");
    let nothing = Overrides { duration: Some(Duration::ZERO), ..Default::default() };
    assert_eq!(run("meeting", &nothing), "--duration: 0s: allowed is a duration above 0");
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
    assert_eq!(path("eu-us=quick"), "\"eu-us=quick\": \"quick\" is neither a delay nor a loss");
}

#[test]
fn faults_of_a_mesh_with_other_regions_are_told_by_line() {
    let text = format!("{LEAST}[target.dev]\nnodes = 2\n[[faults]]\nat = \"1s\"\nstop = \"us\"\n");
    let one = Overrides { dev: Some(1), ..Default::default() };
    assert_eq!(with_flags(&text, &one), Err("my.toml:7: the target has no region us, only eu".into()));
}

fn durations(most_ms: u64) -> impl Strategy<Value = Duration> {
    (1..=most_ms).prop_map(Duration::from_millis)
}

fn shares() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]
}

fn configs() -> impl Strategy<Value = ImpairmentConfig> {
    let loss = prop_oneof![
        Just(Loss::None),
        shares().prop_map(Loss::Random),
        [shares(), shares(), shares(), shares()].prop_map(|[to_bad, to_good, loss_good, loss_bad]| {
            Loss::GilbertElliott { to_bad, to_good, loss_good, loss_bad }
        }),
    ];
    let rate = (0..10_000_000_000u64, 0..1_000_000usize)
        .prop_map(|(bits_per_second, queue_bytes)| Rate { bits_per_second, queue_bytes });
    let times = [durations(5000), durations(100), durations(100)];
    (times, loss, [shares(), shares()], proptest::option::of(rate), any::<bool>()).prop_map(
        |([delay, jitter, reorder_by], loss, [reorder, duplicate], rate, blackout)| ImpairmentConfig {
            delay,
            jitter,
            loss,
            reorder,
            reorder_by,
            duplicate,
            rate,
            blackout,
        },
    )
}

fn users(name: &'static str) -> impl Strategy<Value = Users> {
    let audio = (6_000..=510_000u32, shares(), any::<bool>()).prop_map(|(bitrate, talk, dtx)| Audio {
        bitrate,
        talk,
        dtx,
        file: None,
    });
    let video = (10_000..=100_000_000u32, 1..=60u32, 1..=3u8, proptest::option::of(durations(10_000))).prop_map(
        |(bitrate, fps, temporal_layers, key_frame_interval)| Video {
            codec: VideoCodec::Vp8,
            encodings: vec![VideoEncoding { bitrate, fps, temporal_layers, key_frame_interval }],
            file: None,
        },
    );
    let watch = || prop_oneof![Just(Watch::All), Just(Watch::None), (1..100u32).prop_map(Watch::First)];
    let churn = (1000..100_000u64, 0..10_000u64)
        .prop_map(|(stay, away)| Churn { stay: Duration::from_millis(stay), away: Duration::from_millis(away) });
    let regions = proptest::sample::subsequence(vec!["eu".to_owned(), "us".to_owned()], 0..=2);
    (1..100u32, regions, audio, proptest::option::of(video), watch(), watch(), proptest::option::of(churn)).prop_map(
        move |(count, regions, audio, video, watch_audio, watch_video, churn)| Users {
            name: name.to_owned(),
            count,
            regions,
            audio: Some(audio),
            video,
            watch_audio,
            watch_video,
            churn,
        },
    )
}

fn targets() -> impl Strategy<Value = Target> {
    let node = |region: &'static str| {
        (any::<bool>(), proptest::option::of(1..=u32::MAX), "[a-z=&\"\\\\ ]{0,8}").prop_map(
            move |(insecure, pid, query)| TargetNode {
                name: format!("{region}-x"),
                region: region.to_owned(),
                url: format!("wss://{region}.example:4443/path"),
                query,
                metrics: insecure.then(|| format!("http://{region}.example/metrics")),
                pid,
                insecure,
            },
        )
    };
    prop_oneof![
        (2..=64u16, 0..=8u16).prop_map(|(nodes, workers)| Target::Dev { nodes, workers }),
        [node("eu"), node("us")].prop_map(|nodes| Target::Nodes(nodes.to_vec())),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        (seed, ramp, duration, target) in (0..=i64::MAX as u64, 0..100_000u64, durations(100_000), targets()),
        kinds in (users("a"), users("b")),
        configs in [configs(), configs()],
        text in "[ -~äß]{0,40}",
        slo in (proptest::option::of(durations(10_000)), proptest::option::of(shares())),
    ) {
        let [first, second] = configs;
        let steps = [(Duration::ZERO, first), (Duration::from_nanos(1), second)];
        let path = Path {
            from: PathEnd::AllUsers,
            to: PathEnd::Nodes("us".into()),
            both: seed % 2 == 0,
            steps: steps.map(|(at, config)| PathStep { at, config }).to_vec(),
        };
        let link = Path { from: PathEnd::Nodes("eu".into()), to: PathEnd::AllNodes, ..path.clone() };
        let fault = |action| Fault { at: Duration::from_nanos(7), action };
        let is_own = matches!(target, Target::Dev { .. });
        let faults = [
            FaultAction::Stop("eu".into()),
            FaultAction::Start("eu".into()),
            FaultAction::Cut("eu".into(), "us".into()),
            FaultAction::Heal("us".into(), "eu".into()),
        ];
        let scenario = Scenario {
            name: "written".into(),
            description: text,
            seed,
            ramp: Duration::from_micros(ramp),
            duration,
            target,
            rooms: vec![Rooms { name: "r".into(), count: 3, users: vec![kinds.0, kinds.1] }],
            wan: if is_own { vec![path, link] } else { vec![path] },
            faults: if is_own { faults.map(fault).to_vec() } else { Vec::new() },
            slo: Slo { join_p99: slo.0, failed_joins: slo.1, ..Default::default() },
            generator: GeneratorConfig { coalesce: Duration::from_micros(ramp), ..Default::default() },
        };
        let toml = scenario.to_toml();
        prop_assert_eq!(parse(&toml), Ok(scenario), "{}", toml);
    }
}
