//! Node facts as gossip keys: each field of [`NodeFacts`] is a key, its value JSON.

use std::collections::BTreeMap;

use chitchat::NodeState;
use serde_json::{Map, Value};

use crate::members::NodeFacts;

/// Key by which a node says goodbye: `true`.
pub(super) const LEAVING: &str = "leaving";

/// The keys of a node's facts.
pub(super) fn to_keys(facts: &NodeFacts) -> BTreeMap<String, String> {
    match serde_json::to_value(facts) {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(key, value)| (key, value.to_string())).collect(),
        // A structure of plain fields always becomes an object.
        _ => BTreeMap::new(),
    }
}

/// The facts out of a node's keys; `None` while some are still missing, or when they make no sense. Keys that this
/// version does not know are ignored.
pub(super) fn from_keys(state: &NodeState) -> Option<NodeFacts> {
    let fields =
        state.key_values().filter_map(|(key, value)| Some((key.to_owned(), serde_json::from_str(value).ok()?)));
    serde_json::from_value(Value::Object(fields.collect::<Map<_, _>>())).ok()
}
