//! Each input that is refused, with the line that says so.

use super::*;

fn error(text: &str) -> String {
    let error = parse(text).unwrap_err();
    assert!(!error.contains('\n'), "more than one line: {error}");
    error
}

/// Of texts whose third line is wrong.
#[test]
fn what_is_wrong_by_itself_is_told_with_its_line() {
    let cases = [
        ("conut = 6", "unknown key conut; did you mean count?"),
        (
            "colour = \"red\"",
            "unknown key colour; allowed are name, count, regions, audio, video, data, watch, tcp, churn",
        ),
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
        ("video = { codec = \"av1\" }", "codec = \"av1\": allowed is \"vp8\", \"vp9\", \"h264\" or \"h265\""),
        (
            "video = { scalability_mode = \"L4T3\" }",
            "scalability_mode = \"L4T3\": allowed is a mode such as L1T3, L3T3_KEY or S2T1, of up to three layers",
        ),
        ("video = { fps = 30, encodings = [{ fps = 15 }] }", "fps belongs into the encodings when they are listed"),
        ("video = { encodings = [1] }", "encodings = 1: allowed is a list of tables"),
        (
            "watch = \"most\"",
            "watch = \"most\": allowed is \"all\", \"none\" or a number from 1, or a table of audio, video and data",
        ),
        ("watch = { data = 2 }", "data = 2: allowed is \"all\" or \"none\""),
        ("data = 10", "data = 10: allowed is true, false or a table"),
        (
            "data = { rate = 10 }",
            "unknown key rate; allowed are messages_per_second, message_bytes, ordered, max_retransmits, max_packet_lifetime",
        ),
        ("data = { messages_per_second = 0 }", "messages_per_second = 0: allowed is an integer from 1 to 10000"),
        ("data = { message_bytes = 31 }", "message_bytes = 31: allowed is an integer from 32 to 262144"),
        ("data = { ordered = 1 }", "ordered = 1: allowed is true or false"),
        ("data = { max_retransmits = 65536 }", "max_retransmits = 65536: allowed is an integer from 0 to 65535"),
        (
            "data = { max_packet_lifetime = \"66s\" }",
            "max_packet_lifetime = \"66s\": allowed is a duration of whole milliseconds, up to 65535ms",
        ),
        ("data = { max_packet_lifetime = \"0s\" }", "max_packet_lifetime = \"0s\": allowed is a duration above 0"),
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
            "my.toml:1: duration = 20: allowed is a duration in quotes, such as \"20s\", \"500ms\" or \"1m 30s\", up to 30days",
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
fn check(cases: &[(String, &str)]) {
    for (lines, expected) in cases {
        assert_eq!(error(&format!("{LEAST}{lines}\n")), *expected, "{lines}");
    }
}

#[test]
fn rooms_and_users_that_do_not_fit_are_told_with_their_lines() {
    let cases: [(String, &str); 20] = [
        ("regions = [\"eu\", \"us\"]".into(), "my.toml:5: the target has no region us, only eu"),
        (
            "[[rooms.users]]\naudio = true".into(),
            "my.toml:5: two kinds of users of one room are called user: give each a name of its own",
        ),
        (
            "[[rooms.users]]\nname = \"idle\"\nwatch = \"none\"".into(),
            "my.toml:5: the users idle send nothing and watch nothing",
        ),
        (
            "[[rooms]]\n[[rooms.users]]\naudio = true".into(),
            "my.toml:5: two kinds of rooms are called room: give each a name of its own",
        ),
        ("[[rooms]]\nname = \"empty\"".into(), "my.toml:5: the rooms empty have no users: add [[rooms.users]]"),
        ("[[rooms]]\nname = \"mute\"\n[[rooms.users]]".into(), "my.toml:5: nobody in the rooms mute sends anything"),
        (
            "[[rooms]]\nname = \"huge\"\ncount = 1000\n[[rooms.users]]\ncount = 1001\naudio = true".into(),
            "my.toml:1: too many users: allowed are 1000000 in all",
        ),
        ("video = { encodings = [{}, {}, {}, {}, {}] }".into(), "my.toml:5: 5 encodings: allowed are 4"),
        (
            "video = { encodings = [{ bitrate = 500000 }, { bitrate = 100000 }] }".into(),
            "my.toml:5: the encodings are listed from the lowest bitrate to the highest",
        ),
        ("video = { encodings = [{}, {}], file = \"a.ivf\" }".into(), "my.toml:5: a file has one encoding"),
        (
            "video = { codec = \"h264\", temporal_layers = 2 }".into(),
            "my.toml:5: H.264 is sent in one temporal layer: allowed is 1",
        ),
        (
            "video = { codec = \"vp9\", scalability_mode = \"L3T3\", temporal_layers = 2 }".into(),
            "my.toml:5: L3T3 is of synthetic VP9 in one encoding, without temporal_layers",
        ),
        ("video = { codec = \"vp9\", file = \"a.ivf\" }".into(), "my.toml:5: VP9 is not sent out of files"),
        ("video = { file = \"none.ivf\" }".into(), "my.toml:5: file = \"none.ivf\": there is no such file"),
        (
            "video = { file = \"a.ogg\" }".into(),
            "my.toml:5: file = \"a.ogg\": allowed is VP8 in a file that ends in .ivf or .webm",
        ),
        (
            "video = { codec = \"h264\", file = \"a.webm\" }".into(),
            "my.toml:5: file = \"a.webm\": allowed is H.264 in a file that ends in .ivf",
        ),
        ("[slo]\nfreezes_per_hour = 1".into(), "my.toml:6: freezes_per_hour cannot be measured: nobody receives video"),
        (
            "data = { max_retransmits = 1, max_packet_lifetime = \"1s\" }".into(),
            "my.toml:5: a data channel has either max_retransmits or max_packet_lifetime",
        ),
        ("[slo]\ndata_violations = 0".into(), "my.toml:6: data_violations cannot be measured: nobody receives data"),
        (
            "[[target.nodes]]\nname = \"a\"\nurl = \"ws://a:1\"\n[[target.nodes]]\nname = \"a\"\nurl = \"ws://b:1\""
                .into(),
            "my.toml:5: two nodes are called a",
        ),
    ];
    check(&cases);
}

#[test]
fn faults_that_do_not_fit_are_told_with_their_lines() {
    let dev = "[target.dev]\nnodes = 2\n";
    let cases: [(String, &str); 9] = [
        ("[[faults]]\nat = \"1s\"\nstop = \"us\"".into(), "my.toml:5: the target has no region us, only eu"),
        ("[[faults]]\nat = \"1s\"\nstart = \"eu\"".into(), "my.toml:5: the node of eu is not stopped"),
        ("[[faults]]\nat = \"70s\"\nstop = \"eu\"".into(), "my.toml:6: at = \"1m 10s\": the run ends after 1m 10s"),
        (
            "[[faults]]\nat = \"2s\"\nstop = \"eu\"\n[[faults]]\nat = \"1s\"\nstart = \"eu\"".into(),
            "my.toml:9: at = \"1s\": list what happens in order of time",
        ),
        (
            format!("{dev}[[faults]]\nat = \"1s\"\nheal = [\"us\", \"eu\"]"),
            "my.toml:7: the link of us and eu is not cut",
        ),
        (format!("{dev}[[faults]]\nat = \"1s\"\ncut = [\"eu\", \"eu\"]"), "my.toml:7: a link from eu to itself"),
        (
            format!(
                "{dev}[[faults]]\nat = \"1s\"\ncut = [\"eu\", \"us\"]\n[[faults]]\nat = \"2s\"\ncut = [\"us\", \"eu\"]"
            ),
            "my.toml:10: the link of us and eu is cut already",
        ),
        (
            "[[faults]]\nat = \"1s\"\nstop = \"eu\"\n[[faults]]\nat = \"1s\"\nstop = \"eu\"".into(),
            "my.toml:8: the node of eu is stopped already",
        ),
        (
            "[[faults]]\nat = \"1s\"\nstop = \"eu\"\n[[target.nodes]]\nregion = \"eu\"\nurl = \"ws://127.0.0.1:1\""
                .into(),
            "my.toml:5: faults need a mesh that the run starts (dev), not one that runs already",
        ),
    ];
    check(&cases);
}

#[test]
fn paths_that_do_not_fit_are_told_with_their_lines() {
    let dev = "[target.dev]\nnodes = 2\n";
    let cases: [(String, &str); 9] = [
        ("[[wan]]\nbetween = [\"eu\", \"ap\"]\npath = \"1ms\"".into(), "my.toml:5: the target has no region ap, only eu"),
        ("[[wan]]\nbetween = [\"eu\", \"eu\"]\npath = \"1ms\"".into(), "my.toml:5: a path between eu and eu is within one region"),
        (
            "[[rooms.users]]\nname = \"tcp\"\ntcp = true\n[[wan]]\nbetween = [\"users\", \"nodes\"]\npath = \"1ms\"".into(),
            "my.toml:8: users' paths cannot be impaired where media go by TCP, as those of tcp do",
        ),
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
            "my.toml:7: path: \"quick\": allowed is a delay (80ms), ±10ms, jitter=10ms, 1% or loss=1%, burst=1%/5, \
             reorder=1%/20ms, duplicate=0.1%, rate=5Mbps, queue=100ms, blackout",
        ),
        (
            "[[target.nodes]]\nregion=\"eu\"\nurl = \"ws://a:1\"\n[[target.nodes]]\nregion=\"us\"\nurl = \"ws://b:1\"\n[[wan]]\nbetween = [\"eu\", \"us\"]\npath = \"1ms\"".into(),
            "my.toml:11: paths between nodes can only be changed in a mesh that the run starts (dev)",
        ),
    ];
    check(&cases);
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
         rough, adaptive, failover, churn, data, or the path of a TOML file"
    );
    assert!(open("no/such.toml").starts_with("no/such.toml: No such file"), "{}", open("no/such.toml"));
}
