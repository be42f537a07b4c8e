//! A table of a scenario file while it is read: knows where it stands, and which keys may stand in it.

use toml::{Table, Value};

use super::value::Parsed;

/// Names that differ in more than this many letters are no typing errors of each other.
const MAX_TYPING_ERRORS: usize = 3;

/// What is wrong, and at which key: `rooms[0].users[1].audio.talk`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) at: String,
    pub(super) what: String,
}

impl Problem {
    pub(super) fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }
}

pub(super) struct Section {
    at: String,
    table: Table,
}

impl Section {
    /// A table in which only `keys` may stand.
    pub(super) fn new(at: String, table: Table, keys: &[&str]) -> Result<Self, Problem> {
        match table.keys().find(|key| !keys.contains(&key.as_str())) {
            None => Ok(Self { at, table }),
            Some(key) => {
                let advice = nearest(key, keys).map_or_else(
                    || format!("allowed are {}", keys.join(", ")),
                    |nearest| format!("did you mean {nearest}?"),
                );
                Err(Problem::new(join(&at, key), format!("unknown key {key}; {advice}")))
            }
        }
    }

    /// Where a key stands, or would.
    pub(super) fn at(&self, key: &str) -> String {
        join(&self.at, key)
    }

    /// Something is wrong with the table as a whole.
    pub(super) fn problem(&self, what: impl Into<String>) -> Problem {
        Problem::new(self.at.clone(), what)
    }

    pub(super) fn take_raw(&mut self, key: &str) -> Option<Value> {
        self.table.remove(key)
    }

    pub(super) fn take<T>(&mut self, key: &str, read: impl FnOnce(&Value) -> Parsed<T>) -> Result<Option<T>, Problem> {
        let Some(value) = self.take_raw(key) else { return Ok(None) };
        read(&value).map(Some).map_err(|allowed| not_allowed(self.at(key), key, &value, &allowed))
    }

    pub(super) fn require<T>(&mut self, key: &str, read: impl FnOnce(&Value) -> Parsed<T>) -> Result<T, Problem> {
        self.take(key, read)?.ok_or_else(|| self.problem(format!("{key} is missing")))
    }

    pub(super) fn take_section(&mut self, key: &str, keys: &[&str]) -> Result<Option<Self>, Problem> {
        match self.take_raw(key) {
            None => Ok(None),
            Some(Value::Table(table)) => Self::new(self.at(key), table, keys).map(Some),
            Some(other) => Err(not_allowed(self.at(key), key, &other, "a table")),
        }
    }

    pub(super) fn take_sections(&mut self, key: &str, keys: &[&str]) -> Result<Vec<Self>, Problem> {
        let items = match self.take_raw(key) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(not_allowed(self.at(key), key, &other, "a list of tables")),
        };
        let at = self.at(key);
        let section = |(index, item)| match item {
            Value::Table(table) => Self::new(format!("{at}[{index}]"), table, keys),
            other => Err(not_allowed(format!("{at}[{index}]"), key, &other, "a list of tables")),
        };
        items.into_iter().enumerate().map(section).collect()
    }
}

/// A value is not what may stand there.
pub(super) fn not_allowed(at: String, key: &str, value: &Value, allowed: &str) -> Problem {
    let shown = match value {
        Value::Table(_) => "(a table)".to_owned(),
        Value::Array(_) => "(a list)".to_owned(),
        scalar => scalar.to_string(),
    };
    Problem::new(at, format!("{key} = {shown}: allowed is {allowed}"))
}

/// The known name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let distance = |known: &&str| strsim::osa_distance(name, known);
    known.iter().copied().min_by_key(distance).filter(|nearest| distance(nearest) <= MAX_TYPING_ERRORS)
}

fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}
