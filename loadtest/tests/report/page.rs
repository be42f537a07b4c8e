//! The page without a browser; `loadtest/report/e2e` opens what is written here.

use std::fs;
use std::path::Path;

use sluice_loadtest::report::html;
use sluice_loadtest::results::Results;

use crate::fixture::{TODAY, TOMORROW, run, stillborn};

#[test]
fn pages_for_the_browsers() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report");
    fs::create_dir_all(&folder).unwrap();
    let pages: [(&str, &[Results]); 3] = [
        ("run.html", &[run(1, TODAY)]),
        ("comparison.html", &[run(1, TODAY), run(2, TOMORROW)]),
        ("stillborn.html", &[stillborn()]),
    ];
    for (name, runs) in pages {
        fs::write(folder.join(name), html(runs)).unwrap();
    }
}

#[test]
fn the_page_asks_nobody_for_anything_and_is_small() {
    let page = html(&[]);
    assert!(page.len() < 200_000, "{} bytes", page.len());
    for asks in [" src=", " href=\"http", "@import", "url(http"] {
        assert!(!page.contains(asks), "{asks}");
    }
}

#[test]
fn no_text_in_the_results_becomes_a_part_of_the_page() {
    let evil = "</script><script>alert(1)</script><!-- \u{2028}\u{2029} \"DATA\" $& \\";
    let mut results = stillborn();
    results.scenario.description = evil.into();
    let page = html(&[results]);
    assert!(!page.contains("alert(1)</script>"));
    assert!(!page.contains(['\u{2028}', '\u{2029}']));
    let (_, data) = page.split_once("type=\"application/json\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["runs"][0]["scenario"]["description"], evil);
    assert_eq!(data["figures"][0]["values"], serde_json::json!([null]));
}
