//! Results as JSON files, and their schema.

use std::path::Path;
use std::{fs, io};

use serde::Deserialize;
use serde_json::error::Category;
use thiserror::Error;

use crate::results::{Results, SCHEMA_VERSION};

/// Why a file gives no results; one line, which begins with the file's name.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It cannot be read at all.
    #[error("{0}: {1}")]
    Io(String, io::Error),
    /// It is no JSON; says where, by line and column.
    #[error("{0}: not JSON: {1}")]
    NotJson(String, serde_json::Error),
    /// It is JSON, but of something else; says where, by line and column.
    #[error("{0}: not the results of a run: {1}")]
    NotResults(String, serde_json::Error),
    /// It was written by a later version of this program, whose results would be misunderstood.
    #[error("{0}: results of schema version {1}, and this program knows them up to {SCHEMA_VERSION}: use a later one")]
    Newer(String, u32),
}

/// Why results cannot be written: the file, and what the system says.
#[derive(Debug, Error)]
#[error("{0}: {1}")]
pub struct WriteError(String, io::Error);

/// The part of results that every version has.
#[derive(Deserialize)]
struct Versioned {
    schema_version: u32,
}

/// Reads a file of results, as [`save`] writes them.
pub fn load(path: impl AsRef<Path>) -> Result<Results, ReadError> {
    let name = || path.as_ref().display().to_string();
    let refused = |error: serde_json::Error| match error.classify() {
        Category::Data => ReadError::NotResults(name(), error),
        Category::Io | Category::Syntax | Category::Eof => ReadError::NotJson(name(), error),
    };
    let json = fs::read(&path).map_err(|error| ReadError::Io(name(), error))?;
    // First alone: later versions may differ in everything else.
    let Versioned { schema_version } = serde_json::from_slice(&json).map_err(refused)?;
    if schema_version > SCHEMA_VERSION {
        return Err(ReadError::Newer(name(), schema_version));
    }
    serde_json::from_slice(&json).map_err(refused)
}

/// Writes results as JSON, on one line.
pub fn save(path: impl AsRef<Path>, results: &Results) -> Result<(), WriteError> {
    serde_json::to_vec(results)
        .map_err(io::Error::from)
        .and_then(|json| fs::write(&path, json))
        .map_err(|error| WriteError(path.as_ref().display().to_string(), error))
}

/// The JSON Schema of such files, as `docs/results.schema.json` has it.
pub fn schema() -> String {
    format!("{:#}\n", schemars::schema_for!(Results).to_value())
}
