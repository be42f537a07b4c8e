//! Files of results, good and bad.

use std::fs;
use std::path::PathBuf;

use sluice_loadtest::report::text::summary;
use sluice_loadtest::report::{load, save};

use crate::fixture::{TODAY, run, stillborn};

fn file(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("results");
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// What is said about a file with this content, without the folder's name.
fn refusal(name: &str, content: &[u8]) -> String {
    let path = file(name);
    fs::write(&path, content).unwrap();
    let error = load(&path).unwrap_err().to_string();
    assert_eq!(error.lines().count(), 1, "{error}");
    let folder = format!("{}/", path.parent().unwrap().display());
    error.strip_prefix(&folder).expect("the message begins with the file").to_owned()
}

#[test]
fn results_are_read_as_they_were_written() {
    save(file("stillborn.json"), &stillborn()).unwrap();
    assert_eq!(load(file("stillborn.json")).unwrap(), stillborn());
    // Numbers with all their digits may differ in the last one, of which no summary tells.
    save(file("run.json"), &run(1, TODAY)).unwrap();
    assert_eq!(summary(&load(file("run.json")).unwrap()), summary(&run(1, TODAY)));
}

#[test]
fn a_bad_file_gets_one_line_that_says_where() {
    assert_eq!(
        refusal("cut.json", b"{\"schema_version\": 1,\n \"tool"),
        "cut.json: not JSON: EOF while parsing a string at line 2 column 6"
    );
    assert_eq!(refusal("empty.json", b""), "empty.json: not JSON: EOF while parsing a value at line 1 column 0");
    assert_eq!(refusal("binary.json", &[0xff, 0]), "binary.json: not JSON: expected value at line 1 column 1");
    let package = refusal("package.json", b"{\n  \"name\": \"sluice\"\n}");
    assert_eq!(package, "package.json: not the results of a run: missing field `schema_version` at line 3 column 1");
    let half = refusal("half.json", b"{\"schema_version\": 1}");
    assert_eq!(half, "half.json: not the results of a run: missing field `tool_version` at line 1 column 21");
    let newer = refusal("newer.json", b"{\"schema_version\": 2, \"everything\": \"is different\"}");
    assert_eq!(newer, "newer.json: results of schema version 2, and this program knows them up to 1: use a later one");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = load("no/such.json").unwrap_err().to_string();
    assert_eq!(error, "no/such.json: No such file or directory (os error 2)");
    let error = save("no/such.json", &stillborn()).unwrap_err().to_string();
    assert_eq!(error, "no/such.json: No such file or directory (os error 2)");
}

#[test]
fn fields_that_a_later_version_added_are_ignored() {
    let json = serde_json::to_string(&stillborn()).unwrap().replacen('{', "{\"weather\": \"fair\",", 1);
    fs::write(file("later.json"), json).unwrap();
    assert_eq!(load(file("later.json")).unwrap(), stillborn());
}

#[test]
fn results_of_before_there_were_data_channels_are_read() {
    let mut json = serde_json::to_value(run(1, TODAY)).unwrap();
    let seconds = json["samples"].as_array_mut().unwrap().iter_mut();
    let groups = seconds.flat_map(|second| second["groups"].as_array_mut().unwrap());
    groups.for_each(|group| {
        ["data", "sent_data"].iter().for_each(|field| drop(group.as_object_mut().unwrap().remove(*field)))
    });
    fs::write(file("earlier.json"), json.to_string()).unwrap();
    let earlier = load(file("earlier.json")).unwrap();
    assert!(earlier.samples.iter().flat_map(|second| &second.groups).all(|group| group.data.channels == 0));
}
