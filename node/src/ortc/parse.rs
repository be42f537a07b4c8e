//! JSON of clients into mediasoup's types.
//!
//! Clients differ in what they leave out and add: missing fields get the defaults that mediasoup gives them, feedback
//! and header extensions that no router knows are dropped, as a negotiation would drop them. What is left must be
//! sound.

use std::collections::HashSet;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sluice_proto::ortc::{
    DtlsFingerprint, DtlsParameters, DtlsRole, MimeType, RtpCapabilities, RtpEncodingParameters, RtpHeaderExtensionUri,
    RtpParameters,
};

use super::OrtcError;
use super::codec::Codec;

/// Most codecs, header extensions or encodings in one set of parameters. A browser announces about 40 codecs.
const MAX_ENTRIES: usize = 128;

/// Longest parameters of one producer as its client gives them, in bytes of JSON: all codecs of a browser have some 10
/// KiB.
const MAX_RTP_PARAMETERS_LEN: usize = 16 * 1024;

/// Longest consumable parameters of one producer, in bytes of JSON: every node and every viewer in the room gets them,
/// and real ones have under 2 KiB.
pub(super) const MAX_CONSUMABLE_LEN: usize = 4 * 1024;

/// Longest MID: what a one-byte header extension holds, RFC 8285 section 4.2.
const MAX_MID_LEN: usize = 16;

/// Most DTLS fingerprints, one per hash function.
const MAX_FINGERPRINTS: usize = 8;

/// What a client can receive.
///
/// # Errors
/// [`OrtcError::Invalid`] says which part is wrong.
pub fn parse_rtp_capabilities(mut value: Value) -> Result<RtpCapabilities, OrtcError> {
    const WHAT: &str = "rtpCapabilities";
    let fields = object(&mut value, WHAT)?;
    let codecs = array(fields, "codecs", WHAT)?;
    codecs.retain(|codec| mime_type(codec).is_some());
    for codec in codecs {
        let kind = match mime_type(codec) {
            Some(MimeType::Audio(_)) => "audio",
            _ => "video",
        };
        tidy_codec(codec);
        if let Value::Object(codec) = codec {
            codec.insert("kind".to_owned(), kind.into());
        }
    }
    let extensions = array(fields, "headerExtensions", WHAT)?;
    extensions.retain(known_extension);
    for extension in extensions {
        if let Value::Object(extension) = extension {
            if !matches!(extension.get("kind").and_then(Value::as_str), Some("audio" | "video")) {
                extension.insert("kind".to_owned(), "audio".into());
            }
            // Only the router's direction counts.
            extension.insert("direction".to_owned(), "sendrecv".into());
            extension.entry("preferredEncrypt").or_insert(false.into());
        }
    }
    deserialize(value, WHAT)
}

/// What a client sends, or wants to.
///
/// # Errors
/// [`OrtcError::Invalid`] says which part is wrong.
pub fn parse_rtp_parameters(mut value: Value) -> Result<RtpParameters, OrtcError> {
    const WHAT: &str = "rtpParameters";
    let fields = object(&mut value, WHAT)?;
    array(fields, "codecs", WHAT)?.iter_mut().for_each(tidy_codec);
    let extensions = array(fields, "headerExtensions", WHAT)?;
    extensions.retain(known_extension);
    for extension in extensions {
        if let Value::Object(extension) = extension {
            extension.entry("encrypt").or_insert(false.into());
        }
    }
    let has_mid = fields.get("mid").is_some_and(Value::is_string);
    let encodings = array(fields, "encodings", WHAT)?;
    encodings.iter_mut().for_each(tidy_encoding);
    if encodings.is_empty() && has_mid {
        // The MID alone says whose packets are whose.
        encodings.push(json!({}));
    }
    let rtcp = fields.entry("rtcp").or_insert_with(|| json!({}));
    object(rtcp, "rtpParameters.rtcp")?.entry("reducedSize").or_insert(true.into());
    if fields.get("mid").is_some_and(Value::is_null) {
        fields.remove("mid");
    }
    let parameters = deserialize(value, WHAT)?;
    check_rtp_parameters(&parameters)?;
    Ok(parameters)
}

/// The consumable RTP parameters of a producer on another node, out of its roster.
///
/// # Errors
/// [`OrtcError::Invalid`] when that node speaks a dialect that this one does not know.
pub fn parse_consumable_rtp_parameters(json: &str) -> Result<RtpParameters, OrtcError> {
    const WHAT: &str = "consumable RTP parameters";
    if json.len() > MAX_CONSUMABLE_LEN {
        return Err(OrtcError::invalid(WHAT, format!("they have {} bytes", json.len())));
    }
    let parameters: RtpParameters =
        serde_json::from_str(json).map_err(|error| OrtcError::invalid(WHAT, error.to_string()))?;
    if parameters.encodings.iter().any(|encoding| encoding.ssrc.is_none()) || parameters.encodings.is_empty() {
        return Err(OrtcError::invalid(WHAT, "an encoding has no SSRC"));
    }
    Ok(parameters)
}

/// A client's DTLS role and fingerprints.
///
/// # Errors
/// [`OrtcError::Invalid`] says which part is wrong.
pub fn parse_dtls_parameters(value: &Value) -> Result<DtlsParameters, OrtcError> {
    const WHAT: &str = "dtlsParameters";
    let role = match value.get("role").map(Value::as_str) {
        None | Some(Some("auto")) => DtlsRole::Auto,
        Some(Some("client")) => DtlsRole::Client,
        Some(Some("server")) => DtlsRole::Server,
        Some(_) => return Err(OrtcError::invalid(WHAT, "role must be auto, client or server")),
    };
    let fingerprints = value.get("fingerprints").and_then(Value::as_array);
    let fingerprints = fingerprints.ok_or_else(|| OrtcError::invalid(WHAT, "fingerprints must be an array"))?;
    if fingerprints.is_empty() || fingerprints.len() > MAX_FINGERPRINTS {
        return Err(OrtcError::invalid(WHAT, format!("there must be 1 to {MAX_FINGERPRINTS} fingerprints")));
    }
    let fingerprints = fingerprints.iter().map(parse_fingerprint).collect::<Result<_, _>>()?;
    Ok(DtlsParameters { role, fingerprints })
}

/// The MID that a client wants for a consumer, RFC 9143: a token of RFC 8866.
///
/// # Errors
/// [`OrtcError::Invalid`] when it is none, or too long for a header extension.
pub fn parse_mid(value: &Value) -> Result<String, OrtcError> {
    const WHAT: &str = "mid";
    let mid = value.as_str().ok_or_else(|| OrtcError::invalid(WHAT, "it must be a string"))?;
    check_mid(WHAT, mid)?;
    if !mid.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]".contains(&byte)) {
        return Err(OrtcError::invalid(WHAT, "it must be a token"));
    }
    Ok(mid.to_owned())
}

fn parse_fingerprint(value: &Value) -> Result<DtlsFingerprint, OrtcError> {
    const WHAT: &str = "dtlsParameters.fingerprints";
    let text = |name| value.get(name).and_then(Value::as_str);
    let (Some(algorithm), Some(hash)) = (text("algorithm"), text("value")) else {
        return Err(OrtcError::invalid(WHAT, "algorithm and value must be strings"));
    };
    // The type's own deserializer cuts the string by bytes and panics in the middle of a character.
    if !hash.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':') {
        return Err(OrtcError::invalid(WHAT, "value must be hexadecimal bytes separated by colons"));
    }
    let normal = json!({"algorithm": algorithm.to_ascii_lowercase(), "value": hash});
    serde_json::from_value(normal).map_err(|error| OrtcError::invalid(WHAT, error.to_string()))
}

/// What the types cannot express. The order of checks is the order in which a developer would look for the mistake.
fn check_rtp_parameters(parameters: &RtpParameters) -> Result<(), OrtcError> {
    const WHAT: &str = "rtpParameters";
    let invalid = |reason: String| Err(OrtcError::invalid(WHAT, reason));
    if parameters.codecs.is_empty() {
        return invalid("codecs is empty".to_owned());
    }
    if Codec::from(&parameters.codecs[0]).is_rtx() {
        return invalid("the first codec must not be RTX".to_owned());
    }
    let mut payload_types = HashSet::new();
    for codec in &parameters.codecs {
        let payload_type = codec.payload_type();
        if payload_type > 127 {
            return invalid(format!("payload type {payload_type} is above 127"));
        }
        if (64..=95).contains(&payload_type) {
            // RFC 5761 section 4: with the marker these are RTCP's, which shares the port.
            return invalid(format!("payload type {payload_type} is RTCP's"));
        }
        if !payload_types.insert(payload_type) {
            return invalid(format!("payload type {payload_type} is used twice"));
        }
    }
    let mut ids = HashSet::new();
    for extension in &parameters.header_extensions {
        if !(1..=255).contains(&extension.id) || extension.id == 15 {
            return invalid(format!("header extension id {} is not in 1..=14 or 16..=255", extension.id));
        }
        if !ids.insert(extension.id) {
            return invalid(format!("header extension id {} is used twice", extension.id));
        }
        if extension.encrypt {
            return Err(OrtcError::Unsupported("encrypted header extensions are not supported".to_owned()));
        }
    }
    parameters.mid.as_deref().map_or(Ok(()), |mid| check_mid(WHAT, mid))?;
    check_encodings(parameters)?;
    check_len(WHAT, parameters, MAX_RTP_PARAMETERS_LEN)
}

fn check_mid(what: &'static str, mid: &str) -> Result<(), OrtcError> {
    match mid.len() {
        1..=MAX_MID_LEN => Ok(()),
        _ => Err(OrtcError::invalid(what, format!("mid must have 1 to {MAX_MID_LEN} bytes"))),
    }
}

/// Refuses parameters that have more than `max` bytes as JSON.
pub(super) fn check_len(what: &'static str, parameters: &RtpParameters, max: usize) -> Result<(), OrtcError> {
    match serde_json::to_string(parameters).map(|json| json.len()) {
        Ok(len) if len <= max => Ok(()),
        Ok(len) => Err(OrtcError::invalid(what, format!("they have {len} bytes, at most {max} are allowed"))),
        Err(error) => Err(OrtcError::invalid(what, error.to_string())),
    }
}

fn check_encodings(parameters: &RtpParameters) -> Result<(), OrtcError> {
    const WHAT: &str = "rtpParameters.encodings";
    if parameters.encodings.is_empty() {
        return Err(OrtcError::invalid(WHAT, "it is empty"));
    }
    let (mut ssrcs, mut rids) = (HashSet::new(), HashSet::new());
    for encoding in &parameters.encodings {
        if parameters.encodings.len() > 1 && encoding.ssrc.is_none() && encoding.rid.is_none() {
            return Err(OrtcError::invalid(WHAT, "each of several encodings needs ssrc or rid"));
        }
        if let Some(rid) = encoding.rid.as_ref().filter(|rid| !rids.insert(*rid)) {
            return Err(OrtcError::invalid(WHAT, format!("rid {rid:?} is used twice")));
        }
        if encoding.ssrc.is_none() && encoding.rid.is_none() && parameters.mid.is_none() {
            return Err(OrtcError::invalid(WHAT, "an encoding needs ssrc or rid, or the parameters a mid"));
        }
        for ssrc in encoding.ssrc.into_iter().chain(encoding.rtx.map(|rtx| rtx.ssrc)) {
            if ssrc == 0 || !ssrcs.insert(ssrc) {
                return Err(OrtcError::invalid(WHAT, format!("SSRC {ssrc} is zero or used twice")));
            }
        }
        let payload_type = encoding.codec_payload_type;
        if let Some(unknown) =
            payload_type.filter(|wanted| !parameters.codecs.iter().any(|codec| codec.payload_type() == *wanted))
        {
            return Err(OrtcError::invalid(WHAT, format!("codecPayloadType {unknown} is not among the codecs")));
        }
        if encoding.rid.as_ref().is_some_and(|rid| rid.is_empty() || rid.len() > MAX_MID_LEN) {
            return Err(OrtcError::invalid(WHAT, format!("rid must have 1 to {MAX_MID_LEN} bytes")));
        }
    }
    Ok(())
}

fn tidy_codec(codec: &mut Value) {
    let audio = matches!(mime_type(codec), Some(MimeType::Audio(_)));
    let Value::Object(codec) = codec else { return };
    if audio {
        codec.entry("channels").or_insert(1.into());
    }
    match codec.get_mut("parameters") {
        Some(Value::Object(parameters)) => tidy_parameters(parameters),
        _ => drop(codec.insert("parameters".to_owned(), json!({}))),
    }
    let feedback = match codec.get("rtcpFeedback") {
        Some(Value::Array(feedback)) => feedback.iter().filter_map(tidy_feedback).collect(),
        _ => Vec::new(),
    };
    codec.insert("rtcpFeedback".to_owned(), feedback.into());
}

/// Format parameters are text in SDP: whatever is not a whole number becomes text again.
fn tidy_parameters(parameters: &mut Map<String, Value>) {
    parameters.retain(|_, value| matches!(value, Value::String(_) | Value::Number(_) | Value::Bool(_)));
    for value in parameters.values_mut() {
        match value {
            Value::Number(number) if number.as_u64().is_none_or(|number| u32::try_from(number).is_err()) => {
                *value = number.to_string().into();
            }
            Value::Bool(flag) => *value = u32::from(*flag).into(),
            _ => {}
        }
    }
}

fn tidy_feedback(feedback: &Value) -> Option<Value> {
    let kind = feedback.get("type")?.as_str()?;
    let parameter = feedback.get("parameter").and_then(Value::as_str).unwrap_or("");
    sluice_proto::ortc::RtcpFeedback::from_type_parameter(kind, parameter).ok()?;
    Some(json!({"type": kind, "parameter": parameter}))
}

/// Hints that are not understood are dropped: they say how the client encodes, which its packets say again.
fn tidy_encoding(encoding: &mut Value) {
    let Value::Object(encoding) = encoding else { return };
    let keep = |name: &str, value: &Value| match name {
        "scalabilityMode" => serde_json::from_value::<RtpEncodingParameters>(json!({name: value})).is_ok(),
        "maxBitrate" => value.is_u64(),
        "dtx" => value.is_boolean(),
        _ => !value.is_null(),
    };
    encoding.retain(|name, value| keep(name, value));
}

fn known_extension(extension: &Value) -> bool {
    extension.get("uri").and_then(Value::as_str).is_some_and(|uri| uri.parse::<RtpHeaderExtensionUri>().is_ok())
}

fn mime_type(codec: &Value) -> Option<MimeType> {
    // The type's parser wants its prefix in lower case, SDP allows any.
    codec.get("mimeType")?.as_str()?.to_ascii_lowercase().parse().ok()
}

fn object<'a>(value: &'a mut Value, what: &'static str) -> Result<&'a mut Map<String, Value>, OrtcError> {
    value.as_object_mut().ok_or_else(|| OrtcError::invalid(what, "it must be an object"))
}

/// The named array, an empty one when it is missing.
fn array<'a>(
    fields: &'a mut Map<String, Value>,
    name: &'static str,
    what: &'static str,
) -> Result<&'a mut Vec<Value>, OrtcError> {
    let array = fields.entry(name).or_insert_with(|| json!([])).as_array_mut();
    let array = array.ok_or_else(|| OrtcError::invalid(what, format!("{name} must be an array")))?;
    if array.len() > MAX_ENTRIES {
        return Err(OrtcError::invalid(
            what,
            format!("{name} has {} entries, at most {MAX_ENTRIES} are allowed", array.len()),
        ));
    }
    Ok(array)
}

fn deserialize<T: DeserializeOwned>(value: Value, what: &'static str) -> Result<T, OrtcError> {
    serde_json::from_value(value).map_err(|error| OrtcError::invalid(what, error.to_string()))
}
