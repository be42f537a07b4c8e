//! The three sources of settings and their merging: file, environment, flags.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde::de::DeserializeOwned;

use super::ConfigError;
use super::settings::{Setting, allowed, settings};
use super::value::{SettingValue, scalar};

/// Prefix of the environment variables.
const ENV_PREFIX: &str = "SLUICE_";

/// Names the file, besides `--config`; no setting of the file itself.
pub(crate) const CONFIG_ENV: &str = "SLUICE_CONFIG";

/// Where settings come from, weakest first.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The TOML file, if any.
    pub file: Option<PathBuf>,
    /// The environment; variables without the prefix `SLUICE_` are ignored.
    pub env: Vec<(OsString, OsString)>,
    /// Flags by the key of their setting.
    pub flags: Vec<(&'static str, String)>,
}

impl Sources {
    /// Merges the sources and refuses keys that are no settings.
    pub(super) fn merge(&self) -> Result<Layers, ConfigError> {
        let mut figment = Figment::new();
        if let Some(path) = &self.file {
            if !path.is_file() {
                return Err(ConfigError(format!(
                    "config = {path:?}: no such file; allowed is the path of a TOML file"
                )));
            }
            figment = figment.merge(Toml::file_exact(path));
        }
        let flags = self.flags.iter().map(|(key, text)| (*key, text.clone())).collect();
        figment = figment.merge(self.env_layer()?).merge(Layer { name: "a flag", values: flags });
        let layers = Layers::new(self.file.clone(), figment)?;
        layers.refuse_unknown()?;
        Ok(layers)
    }

    fn env_layer(&self) -> Result<Layer, ConfigError> {
        let known: BTreeMap<&str, &Setting> = settings().map(|setting| (setting.env.as_str(), setting)).collect();
        let mut values = Vec::new();
        for (name, value) in &self.env {
            let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX) && *name != CONFIG_ENV) else {
                continue;
            };
            let Some(setting) = known.get(name) else {
                return Err(ConfigError(format!("{name}: unknown setting{}", suggestion(name, known.keys().copied()))));
            };
            values.push((setting.key, value.to_string_lossy().into_owned()));
        }
        Ok(Layer { name: "the environment", values })
    }
}

/// Settings given as text.
struct Layer {
    name: &'static str,
    values: Vec<(&'static str, String)>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut dict = Dict::new();
        for (key, text) in &self.values {
            match key.split_once('.') {
                None => {
                    dict.insert((*key).to_owned(), Value::from(text.as_str()));
                }
                Some((section, name)) => {
                    let table = dict.entry(section.to_owned()).or_insert_with(|| Value::from(Dict::new()));
                    if let Value::Dict(_, table) = table {
                        table.insert(name.to_owned(), Value::from(text.as_str()));
                    }
                }
            }
        }
        Ok(Profile::Default.collect(dict))
    }
}

/// The merged sources.
pub(super) struct Layers {
    file: Option<PathBuf>,
    figment: Figment,
    merged: Value,
}

impl Layers {
    fn new(file: Option<PathBuf>, figment: Figment) -> Result<Self, ConfigError> {
        let merged = figment.extract::<Value>().map_err(|error| {
            // A syntax error of the file, told over several lines with an excerpt.
            let text = error.to_string();
            ConfigError(text.split_whitespace().collect::<Vec<_>>().join(" "))
        })?;
        Ok(Self { file, figment, merged })
    }

    /// One setting, or its default when no source has it.
    pub(super) fn read<T: SettingValue>(
        &self,
        key: &'static str,
        range: Option<(u64, u64)>,
        default: impl FnOnce() -> T,
    ) -> Result<T, ConfigError> {
        let Some(value) = self.merged.find_ref(key) else { return Ok(default()) };
        let parsed = T::read(value).filter(|parsed| match (range, parsed.as_number()) {
            (Some((min, max)), Some(number)) => (min..=max).contains(&number),
            _ => true,
        });
        parsed.ok_or_else(|| {
            let shown = scalar(value).unwrap_or_else(|| "(a table or list)".to_owned());
            let origin = self.origin(value);
            ConfigError(format!("{key} = {shown:?}{origin}: allowed is {}", allowed(range, T::ALLOWED)))
        })
    }

    /// A table that only the file has, with the file.
    pub(super) fn read_table<T: DeserializeOwned + Default>(
        &self,
        key: &str,
    ) -> Result<(Option<PathBuf>, T), ConfigError> {
        let Some(value) = self.merged.find_ref(key) else { return Ok((self.file.clone(), T::default())) };
        let table = T::deserialize(value).map_err(|error| {
            let path = error.path.join(".");
            ConfigError(format!("{key}.{path}{}: {}", self.origin(value), error.kind))
        })?;
        Ok((self.file.clone(), table))
    }

    fn refuse_unknown(&self) -> Result<(), ConfigError> {
        let Value::Dict(_, top) = &self.merged else { return Ok(()) };
        for (name, value) in top {
            match value {
                Value::Dict(_, table) if is_section(name) => {
                    for (inner, value) in table {
                        self.refuse_unless_known(&format!("{name}.{inner}"), value)?;
                    }
                }
                Value::Dict(..) if name == "namespaces" => {}
                value => self.refuse_unless_known(name, value)?,
            }
        }
        Ok(())
    }

    fn refuse_unless_known(&self, key: &str, value: &Value) -> Result<(), ConfigError> {
        if settings().any(|setting| setting.key == key) {
            return Ok(());
        }
        let suggestion = suggestion(key, settings().map(|setting| setting.key));
        Err(ConfigError(format!("{key}{}: unknown setting{suggestion}", self.origin(value))))
    }

    /// Where a value came from, in brackets.
    fn origin(&self, value: &Value) -> String {
        let Some(metadata) = self.figment.get_metadata(value.tag()) else { return String::new() };
        match metadata.source.as_ref().and_then(|source| source.file_path()) {
            Some(path) => format!(" (from {})", path.display()),
            None => format!(" (from {})", metadata.name),
        }
    }
}

fn is_section(name: &str) -> bool {
    super::sections().iter().any(|section| section.name == name && !name.is_empty())
}

/// "did you mean ...", when a known name is near.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let nearest = known.map(|known| (distance(name, known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 3 => format!("; did you mean {known}?"),
        _ => "; `sluice config sample` shows all".to_owned(),
    }
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.bytes()) {
            let above = *cell;
            left = (diagonal + usize::from(x != y)).min(above + 1).min(left + 1);
            diagonal = above;
            *cell = left;
        }
        row[0] = i + 1;
    }
    row.last().copied().unwrap_or(0)
}
