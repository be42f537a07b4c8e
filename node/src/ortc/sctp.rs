//! Data channels: what a client says of its association and of one channel, and what it is told. Both of mediasoup's
//! shapes of `sctpParameters` are one here, since no client minds what the other one has.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sluice_media::DataLimits;
use sluice_media::wire::sctp::PORT;
use sluice_proto::ortc::SctpStreamParameters;

use super::OrtcError;

/// Most streams of an association in either direction, as mediasoup's clients announce: RFC 8831 section 6.2 has
/// 65,535, but nobody has so many channels, and each is state at both ends.
const MAX_STREAMS: u16 = 1_024;

/// Longest label or protocol, in bytes: every node and every peer in the room gets them.
const MAX_TEXT_LEN: usize = 256;

/// A data channel as everybody in the room has to know it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DataChannel {
    /// The application's name for it.
    pub label: String,
    /// Of what is said on it, if the application named one.
    pub protocol: String,
    /// How its messages arrive, and on which stream of their sender.
    pub sctp_stream_parameters: SctpStreamParameters,
}

impl DataChannel {
    /// Checks one as a client gives it.
    ///
    /// # Errors
    /// [`OrtcError::Invalid`] says which part is wrong.
    pub fn parse(label: &Value, protocol: &Value, stream: &Value) -> Result<Self, OrtcError> {
        let channel = Self {
            label: text(label, "label")?,
            protocol: text(protocol, "protocol")?,
            sctp_stream_parameters: parse_stream(stream)?,
        };
        Ok(channel)
    }

    /// Reads one out of another node's roster.
    ///
    /// # Errors
    /// [`OrtcError::Invalid`] when that node speaks a dialect that this one does not know.
    pub fn parse_json(json: &str) -> Result<Self, OrtcError> {
        let value: Value =
            serde_json::from_str(json).map_err(|error| OrtcError::invalid("data channel", error.to_string()))?;
        let part = |name: &str| value.get(name).unwrap_or(&Value::Null);
        Self::parse(part("label"), part("protocol"), part("sctpStreamParameters"))
    }

    /// The same to a consumer, on a stream of its own transport.
    pub fn on_stream(&self, stream_id: u16) -> SctpStreamParameters {
        SctpStreamParameters { stream_id, ..self.sctp_stream_parameters }
    }
}

/// How many streams a client takes, if it says that it has data channels: mediasoup's `SctpCapabilities`.
///
/// # Errors
/// [`OrtcError::Invalid`] when they are not what they should be.
pub fn parse_sctp_capabilities(value: &Value) -> Result<Option<u16>, OrtcError> {
    const WHAT: &str = "sctpCapabilities";
    if value.is_null() {
        return Ok(None);
    }
    if !value.is_object() {
        return Err(OrtcError::invalid(WHAT, "they must be an object"));
    }
    match value.pointer("/numStreams/MIS") {
        None => Ok(Some(MAX_STREAMS)),
        Some(streams) => {
            let streams = streams.as_u64().filter(|streams| (1..=65_535).contains(streams));
            let streams = streams.ok_or_else(|| OrtcError::invalid(WHAT, "MIS must be a number from 1 to 65535"))?;
            Ok(Some(u16::try_from(streams).unwrap_or(MAX_STREAMS).min(MAX_STREAMS)))
        }
    }
}

/// What a client is told of its association, in both shapes at once: libmediasoupclient insists on the older one
/// (`OS`, `MIS`, `maxMessageSize`), clients since mediasoup 3.20 read the newer.
pub fn sctp_parameters(limits: &DataLimits) -> Value {
    let DataLimits { max_message_size, consumer_buffer, receive_window, .. } = *limits;
    json!({
        "port": PORT,
        "OS": MAX_STREAMS,
        "MIS": MAX_STREAMS,
        "maxMessageSize": max_message_size,
        "maxSendMessageSize": max_message_size,
        "maxReceiveMessageSize": max_message_size,
        "sendBufferSize": consumer_buffer,
        "perStreamSendQueueLimit": consumer_buffer,
        "maxReceiverWindowBufferSize": receive_window,
        "isDataChannel": true,
    })
}

fn text(value: &Value, what: &'static str) -> Result<String, OrtcError> {
    match value {
        Value::Null => Ok(String::new()),
        Value::String(text) if text.len() <= MAX_TEXT_LEN => Ok(text.clone()),
        _ => Err(OrtcError::invalid(what, format!("it must be a string of at most {MAX_TEXT_LEN} bytes"))),
    }
}

/// As mediasoup reads them: ordered where nothing is said, but not where messages may get lost.
fn parse_stream(value: &Value) -> Result<SctpStreamParameters, OrtcError> {
    const WHAT: &str = "sctpStreamParameters";
    let number = |name: &str| match value.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(number) => {
            let number = number.as_u64().and_then(|number| u16::try_from(number).ok());
            number.map(Some).ok_or_else(|| OrtcError::invalid(WHAT, format!("{name} must be a number up to 65535")))
        }
    };
    // RFC 8831 section 6.2: there is no stream 65,535.
    let stream_id = number("streamId")?.filter(|id| *id < u16::MAX);
    let stream_id = stream_id.ok_or_else(|| OrtcError::invalid(WHAT, "streamId must be a number up to 65534"))?;
    let (max_packet_life_time, max_retransmits) = (number("maxPacketLifeTime")?, number("maxRetransmits")?);
    if max_packet_life_time.is_some() && max_retransmits.is_some() {
        return Err(OrtcError::invalid(WHAT, "maxPacketLifeTime and maxRetransmits exclude each other"));
    }
    let may_lose = max_packet_life_time.is_some() || max_retransmits.is_some();
    if may_lose && value.get("ordered") == Some(&Value::Bool(true)) {
        return Err(OrtcError::invalid(WHAT, "what may get lost cannot be ordered"));
    }
    let ordered = match value.get("ordered") {
        None | Some(Value::Null) => !may_lose,
        Some(Value::Bool(ordered)) => *ordered,
        Some(_) => return Err(OrtcError::invalid(WHAT, "ordered must be true or false")),
    };
    Ok(SctpStreamParameters { stream_id, ordered, max_packet_life_time, max_retransmits })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_read_as_mediasoups_clients_say_it() {
        let stream = json!({"streamId": 3, "maxRetransmits": 1});
        let channel = DataChannel::parse(&json!("chat"), &Value::Null, &stream).unwrap();
        assert_eq!((channel.label.as_str(), channel.protocol.as_str()), ("chat", ""));
        assert!(!channel.sctp_stream_parameters.ordered, "what may get lost is not waited for");
        assert_eq!(channel.on_stream(9).stream_id, 9);
        let json = serde_json::to_string(&channel).unwrap();
        assert_eq!(DataChannel::parse_json(&json), Ok(channel));
        let reliable = parse_stream(&json!({"streamId": 0})).unwrap();
        assert!(reliable.ordered);
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for stream in [
            json!(null),
            json!({}),
            json!({"streamId": 65_535}),
            json!({"streamId": -1}),
            json!({"streamId": 1, "ordered": 1}),
            json!({"streamId": 1, "maxRetransmits": 1, "maxPacketLifeTime": 1}),
            json!({"streamId": 1, "ordered": true, "maxPacketLifeTime": 9}),
        ] {
            assert!(parse_stream(&stream).is_err(), "{stream}");
        }
        let long = json!("l".repeat(MAX_TEXT_LEN + 1));
        assert!(DataChannel::parse(&long, &Value::Null, &json!({"streamId": 1})).is_err());
        assert!(DataChannel::parse_json("not JSON").is_err());
    }

    #[test]
    fn who_says_nothing_of_streams_has_as_many_as_others() {
        assert_eq!(parse_sctp_capabilities(&Value::Null), Ok(None));
        assert_eq!(parse_sctp_capabilities(&json!({})), Ok(Some(1_024)));
        assert_eq!(parse_sctp_capabilities(&json!({"numStreams": {"OS": 16, "MIS": 16}})), Ok(Some(16)));
        assert_eq!(parse_sctp_capabilities(&json!({"numStreams": {"MIS": 65_535}})), Ok(Some(1_024)));
        assert!(parse_sctp_capabilities(&json!({"numStreams": {"MIS": 0}})).is_err());
        assert!(parse_sctp_capabilities(&json!(1)).is_err());
    }
}
