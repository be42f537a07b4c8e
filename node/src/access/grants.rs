//! What a token allows.

use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use sluice_proto::ortc::MediaKind;
use utoipa::ToSchema;

use crate::pipes::Content;

/// What a peer may do. A token that says nothing of something grants what people in a meeting need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields, remote = "Self")]
pub(crate) struct Grants {
    /// What it may send.
    pub(crate) publish: Publish,
    /// It may receive media.
    pub(crate) subscribe: bool,
    /// It may send data.
    pub(crate) publish_data: bool,
    /// Nobody is told of it. It sends nothing, whatever [`Self::publish`] says.
    pub(crate) hidden: bool,
    /// It is on the stage although it sends nothing: in a large room everybody is told of it.
    pub(crate) stage: bool,
    /// It may ask the admin API for what concerns its rooms.
    pub(crate) admin: bool,
}

/// Of an object alone. Serde would take a list too, in which what is missing has its default: `[]` would grant what
/// whoever wrote it took away.
impl<'de> Deserialize<'de> for Grants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let object = Map::deserialize(deserializer)?;
        Self::deserialize(Value::Object(object)).map_err(D::Error::custom)
    }
}

impl Serialize for Grants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Self::serialize(self, serializer)
    }
}

impl Default for Grants {
    fn default() -> Self {
        Self {
            publish: Publish::Everything(true),
            subscribe: true,
            publish_data: true,
            hidden: false,
            stage: false,
            admin: false,
        }
    }
}

/// What a peer may send: `true`, `false`, or a list such as `["audio", "video:screensharing"]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Publish {
    /// Everything or nothing.
    Everything(bool),
    /// Media of these kinds and sources.
    #[schema(value_type = Vec<String>)]
    Only(Vec<Medium>),
}

/// A kind of media, of any source or of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Medium {
    kind: MediaKind,
    /// What clients say of a producer in `appData.source`: `audio`, `video`, `screensharing`.
    source: Option<String>,
}

impl Grants {
    /// Whether a peer may have a producer of this, with this `appData`.
    pub(crate) fn may_produce(&self, content: &Content, app_data: &Value) -> bool {
        match content {
            Content::Media { kind, .. } => self.may_publish(*kind, app_data),
            Content::Data(_) => self.may_publish_data(),
        }
    }

    /// Whether a peer may send data.
    pub(crate) fn may_publish_data(&self) -> bool {
        self.publish_data && !self.hidden
    }

    /// Whether a peer may send media of this kind, with this `appData`.
    pub(crate) fn may_publish(&self, kind: MediaKind, app_data: &Value) -> bool {
        let source = source(kind, app_data);
        let matches = |medium: &Medium| medium.kind == kind && medium.source.as_deref().is_none_or(|of| of == source);
        !self.hidden
            && match &self.publish {
                Publish::Everything(everything) => *everything,
                Publish::Only(media) => media.iter().any(matches),
            }
    }
}

/// What mediasoup-demo's clients say of a producer. Version 3 says of a screen that it is shared and of the others
/// nothing.
pub(crate) fn source(kind: MediaKind, app_data: &Value) -> &str {
    let shares = || app_data.get("share") == Some(&Value::Bool(true));
    let other = match kind {
        MediaKind::Audio => "audio",
        MediaKind::Video if shares() => "screensharing",
        MediaKind::Video => "video",
    };
    app_data.get("source").and_then(Value::as_str).unwrap_or(other)
}

impl FromStr for Medium {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, source) = match text.split_once(':') {
            Some((kind, source)) => (kind, Some(source.to_owned())),
            None => (text, None),
        };
        let kind = match kind {
            "audio" => MediaKind::Audio,
            "video" => MediaKind::Video,
            _ => return Err(format!("{text:?} is no medium: audio, video, or one with a source such as video:video")),
        };
        Ok(Self { kind, source })
    }
}

impl TryFrom<String> for Medium {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Medium> for String {
    fn from(Medium { kind, source }: Medium) -> Self {
        let kind = match kind {
            MediaKind::Audio => "audio",
            MediaKind::Video => "video",
        };
        source.map_or_else(|| kind.to_owned(), |source| format!("{kind}:{source}"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_that_says_nothing_is_of_a_participant() {
        let grants: Grants = serde_json::from_value(json!({})).unwrap();
        assert_eq!(grants, Grants::default());
        assert!(grants.may_publish(MediaKind::Video, &json!({})));
        assert!(serde_json::from_value::<Grants>(json!({"pubish": false})).is_err(), "a slip would grant everything");
        assert!(serde_json::from_value::<Grants>(json!([])).is_err(), "nor does a list");
    }

    #[test]
    fn media_are_granted_by_kind_and_source() {
        let grants: Grants = serde_json::from_value(json!({"publish": ["audio", "video:screensharing"]})).unwrap();
        let (audio, video) = (MediaKind::Audio, MediaKind::Video);
        assert!(grants.may_publish(audio, &json!({"source": "anything"})));
        assert!(grants.may_publish(video, &json!({"source": "screensharing"})));
        assert!(grants.may_publish(video, &json!({"share": true})), "as version 3 of the demo says it");
        assert!(!grants.may_publish(video, &json!({"source": "video"})));
        assert!(!grants.may_publish(video, &json!({})));
        assert!(grants.may_publish(audio, &json!({"share": true})));
        let text = serde_json::to_value(&grants).unwrap();
        assert_eq!(text["publish"], json!(["audio", "video:screensharing"]));
        for nonsense in [json!({"publish": ["sound"]}), json!({"publish": "audio"}), json!({"publish": [1]})] {
            assert!(serde_json::from_value::<Grants>(nonsense.clone()).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn who_is_hidden_sends_nothing() {
        let grants = Grants { hidden: true, ..Grants::default() };
        assert!(!grants.may_publish(MediaKind::Audio, &json!({})));
    }
}
