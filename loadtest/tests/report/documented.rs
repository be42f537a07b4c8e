//! What is written about the results' files is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use sluice_loadtest::report::schema;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

#[test]
fn the_schema_is_that_of_the_program() {
    let fresh = Path::new(env!("CARGO_TARGET_TMPDIR")).join("results.schema.json");
    fs::write(&fresh, schema()).unwrap();
    let kept = fs::read_to_string(format!("{DOCS}/results.schema.json")).unwrap_or_default();
    assert!(kept == schema(), "docs/results.schema.json is stale: copy {} over it", fresh.display());
}

/// A type has a heading of its own (`## Sample`), and under it a row for each of its fields (`| `at_s` | ...`).
#[test]
fn every_field_is_described_and_no_other() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let mut fields: BTreeSet<(String, String)> = fields_of("Results", &schema);
    for (name, definition) in schema["$defs"].as_object().unwrap() {
        fields.extend(fields_of(name, definition));
    }
    let page = fs::read_to_string(format!("{DOCS}/results.md")).unwrap();
    let described = described_in(&page);
    let missing: Vec<_> = fields.difference(&described).collect();
    let invented: Vec<_> = described.difference(&fields).collect();
    assert!(missing.is_empty() && invented.is_empty(), "missing: {missing:?}; not in the schema: {invented:?}");
}

/// Fields of a type, in all of its variants.
fn fields_of(name: &str, definition: &Value) -> BTreeSet<(String, String)> {
    let variants = definition["oneOf"].as_array().cloned().unwrap_or_default();
    let all = variants.iter().chain([definition]).filter_map(|variant| variant["properties"].as_object());
    all.flat_map(|fields| fields.keys().map(|field| (name.to_owned(), field.clone()))).collect()
}

fn described_in(page: &str) -> BTreeSet<(String, String)> {
    let mut described = BTreeSet::new();
    let mut name = String::new();
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            heading.clone_into(&mut name);
        } else if let Some(row) = line.strip_prefix("| `") {
            let field = row.split('`').next().unwrap_or_default();
            described.insert((name.clone(), field.to_owned()));
        }
    }
    described
}
