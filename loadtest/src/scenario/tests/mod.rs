//! What a scenario says, and how the shipped ones and the reference hold to it.

mod bad_input;
mod flags;
mod round_trip;

use std::fs;

use super::*;

/// The least that is a scenario.
const LEAST: &str = "[[rooms]]\n[[rooms.users]]\ncount = 2\naudio = true\n";

fn parse(text: &str) -> Result<Scenario, String> {
    let file = ScenarioFile::parse("my.toml", text).map_err(|error| error.to_string())?;
    file.with(&Overrides::default()).map_err(|error| error.to_string())
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
    assert_eq!((users.data, users.watch_data), (None, false));
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
    assert_eq!(users("data = true"), users("data = { messages_per_second = 10, message_bytes = 200, ordered = true }"));
    assert_eq!(users("audio = true\ndata = false"), users("audio = true"));
}

#[test]
fn data_are_received_where_there_are_any_or_where_it_is_said() {
    let watching = |first: &str, second: &str| {
        let users = |name: &str, lines: &str| format!("[[rooms.users]]\nname = \"{name}\"\n{lines}\n");
        let scenario = parse(&format!("[[rooms]]\n{}{}", users("a", first), users("b", second))).unwrap();
        [0, 1].map(|index| scenario.rooms[0].users[index].watch_data)
    };
    assert_eq!(watching("audio = true", "audio = true"), [false, false]);
    assert_eq!(watching("data = true", "watch = 3"), [true, true]);
    assert_eq!(watching("data = true\nwatch = \"none\"", "watch = { data = \"none\" }"), [false, false]);
    assert_eq!(
        watching("audio = true", "watch = { audio = \"none\", video = \"none\", data = \"all\" }"),
        [false, true]
    );
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

const REFERENCE: &str = include_str!("../../../../docs/scenarios.md");

#[test]
fn the_examples_of_the_reference_are_fit() {
    let mut blocks = REFERENCE.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).peekable();
    assert!(blocks.peek().is_some());
    for block in blocks {
        let has = |table: &str| block.contains(table);
        // What an example leaves out, for it to be about something.
        let rooms =
            if has("[[rooms]]") { "" } else { "[[rooms]]\n[[rooms.users]]\ncount = 2\naudio = true\nvideo = true\n" };
        let target = if has("target") { "" } else { "[target.dev]\nnodes = 3\n" };
        assert_eq!(parse(&format!("{block}{rooms}{target}")).map(drop), Ok(()), "{block}");
    }
}

#[test]
fn the_reference_has_every_key() {
    use read::keys::*;
    let tables = [
        SCENARIO, TARGET, DEV, NODE, ROOMS, USERS, AUDIO, ENCODING, VIDEO, DATA, WATCH, CHURN, PATH, STEP, FAULT, SLO,
        GENERATOR,
    ];
    for key in tables.into_iter().flatten() {
        let is_there = [format!("`{key}`"), format!("[{key}]"), format!("[target.{key}]")];
        assert!(is_there.iter().any(|form| REFERENCE.contains(form)), "{key}");
    }
}
