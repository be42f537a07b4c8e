//! A scenario on its way from a file, or from those that come with the program, to a run.

use std::path::Path;

use serde::Deserialize;
use toml::Table;
use toml::de::{DeTable, Deserializer};

use super::places::{Places, line};
use super::section::nearest;
use super::shipped::{shipped, shipped_names};
use super::value::is_name;
use super::{Overrides, Scenario, check, read};

/// What is wrong with a scenario, in one line that begins with the file and the line in it, or with the flag.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct ScenarioError {
    place: String,
    what: String,
}

impl ScenarioError {
    pub(super) fn new(place: impl Into<String>, what: &str) -> Self {
        // Some parsers spread what they say over several lines.
        Self { place: place.into(), what: what.split_whitespace().collect::<Vec<_>>().join(" ") }
    }
}

/// A scenario whose values are fit each by itself. Whether they fit together shows when flags have had their say.
#[derive(Debug, Clone)]
pub struct ScenarioFile {
    scenario: Scenario,
    places: Places,
}

impl ScenarioFile {
    /// One that comes with the program, by its name, or a file, by its path: whatever has a slash in it or ends in
    /// `.toml`.
    ///
    /// # Errors
    /// When there is no such scenario, or the file is not fit to read.
    pub fn open(name: &str) -> Result<Self, ScenarioError> {
        if let Some(text) = shipped(name) {
            return Self::parse(&format!("{name}.toml"), text);
        }
        if !name.contains('/') && !name.ends_with(".toml") {
            return Err(unknown_name(name));
        }
        let text = std::fs::read_to_string(name).map_err(|error| ScenarioError::new(name, &error.to_string()))?;
        Self::parse(name, &text)
    }

    /// The text of a file, whose path gives the scenario its name unless the text does. Media files are sought from its
    /// folder.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let syntax = |error: toml::de::Error| {
            let place =
                error.span().map_or_else(|| file.to_owned(), |span| format!("{file}:{}", line(text, span.start)));
            ScenarioError::new(place, error.message())
        };
        let document = DeTable::parse(text).map_err(syntax)?;
        let places = Places::new(file, text, document.get_ref());
        let table = Table::deserialize(Deserializer::from(document)).map_err(syntax)?;
        let path = Path::new(file);
        let folder = path.parent().unwrap_or(Path::new(""));
        match read::scenario(table, &name_of(path), folder) {
            Ok(scenario) => Ok(Self { scenario, places }),
            Err(problem) => Err(places.error(problem)),
        }
    }

    /// The scenario with what flags say instead.
    ///
    /// # Errors
    /// What does not fit together, with the line or the flag that says it.
    pub fn with(&self, overrides: &Overrides) -> Result<Scenario, ScenarioError> {
        let Self { mut scenario, mut places } = self.clone();
        overrides.apply(&mut scenario, &mut places)?;
        match check::check(&scenario) {
            Ok(()) => Ok(scenario),
            Err(problem) => Err(places.error(problem)),
        }
    }
}

/// The name of a scenario whose file does not say one.
fn name_of(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem.chars().map(|c| if is_name(c.encode_utf8(&mut [0; 4])) { c } else { '-' }).collect();
    if is_name(&name) { name } else { "scenario".to_owned() }
}

fn unknown_name(name: &str) -> ScenarioError {
    let names: Vec<&str> = shipped_names().collect();
    let meant = nearest(name, &names).map_or_else(String::new, |nearest| format!("; did you mean {nearest}?"));
    let what = format!("no such scenario{meant}; there are {}, or the path of a TOML file", names.join(", "));
    ScenarioError::new(name, &what)
}
