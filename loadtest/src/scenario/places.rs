//! Where in a file, or by which flag, each part of a scenario was said.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ScenarioError;
use super::section::Problem;

/// Origins by key, as [`Problem::at`] has it.
#[derive(Debug, Clone)]
pub(super) struct Places {
    file: String,
    by_key: BTreeMap<String, Place>,
}

#[derive(Debug, Clone, Copy)]
enum Place {
    Line(usize),
    Flag(&'static str),
}

impl Places {
    pub(super) fn new(file: &str, text: &str, document: &DeTable<'_>) -> Self {
        let mut by_key = BTreeMap::new();
        walk_table("", document, &mut |key, offset| {
            by_key.insert(key, Place::Line(line(text, offset)));
        });
        Self { file: file.to_owned(), by_key }
    }

    /// From now on a flag says what stands there.
    pub(super) fn set_flag(&mut self, at: &str, flag: &'static str) {
        self.by_key.insert(at.to_owned(), Place::Flag(flag));
    }

    /// A problem with the place that is nearest to its key.
    pub(super) fn error(&self, problem: Problem) -> ScenarioError {
        let place = match self.find(&problem.at) {
            Some(Place::Line(line)) => format!("{}:{line}", self.file),
            Some(Place::Flag(flag)) => flag.to_owned(),
            None => self.file.clone(),
        };
        ScenarioError::new(place, &problem.what)
    }

    fn find(&self, at: &str) -> Option<Place> {
        let mut key = at;
        loop {
            if let Some(place) = self.by_key.get(key) {
                return Some(*place);
            }
            // The table around it, or the list.
            key = &key[..key.rfind(['.', '['])?];
        }
    }
}

/// The line, counted from 1, of a byte of the text.
pub(super) fn line(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

fn walk_table(at: &str, table: &DeTable<'_>, found: &mut impl FnMut(String, usize)) {
    for (key, value) in table {
        let name = key.get_ref();
        let at = if at.is_empty() { name.to_string() } else { format!("{at}.{name}") };
        found(at.clone(), key.span().start);
        walk(&at, value, found);
    }
}

fn walk(at: &str, value: &Spanned<DeValue<'_>>, found: &mut impl FnMut(String, usize)) {
    match value.get_ref() {
        DeValue::Table(table) => walk_table(at, table, found),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let at = format!("{at}[{index}]");
                found(at.clone(), item.span().start);
                walk(&at, item, found);
            }
        }
        _ => {}
    }
}
