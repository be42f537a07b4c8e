//! The requests of a client, some parts of which may be others.

use serde_json::{Value, json};

use crate::reader::Reader;

/// What may stand in place of anything.
const OTHERS: [&str; 24] = [
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "15",
    "96",
    "127",
    "128",
    "255",
    "256",
    "4294967295",
    "4294967296",
    "1.5",
    r#""""#,
    r#""0""#,
    r#""\u0000\ud83d\ude00""#,
    r#""video/rtx""#,
    r#""audio/opus""#,
    r#""video/H264""#,
    r#""urn:ietf:params:rtp-hdrext:sdes:mid""#,
    "[]",
    "{}",
];

/// All requests of a client, from the first to the last, with up to eight changes.
pub(super) fn messages(reader: &mut Reader<'_>) -> Vec<Value> {
    let mut messages = requests();
    for _ in 0..8 {
        if reader.is_empty() {
            break;
        }
        let message = reader.below(messages.len());
        let copy = messages[reader.below(messages.len())]["data"].clone();
        change(&mut messages[message], &copy, reader);
    }
    messages
}

/// Goes down into a value for as long as is chosen, and changes what is found there.
fn change(value: &mut Value, copy: &Value, reader: &mut Reader<'_>) {
    let choice = reader.u8();
    let stops = choice & 0x80 != 0;
    let at = usize::from(choice & 0x7f);
    match value {
        Value::Array(items) if !stops && !items.is_empty() => {
            let at = at % items.len();
            match reader.u8() {
                250.. => items.push(items[at].clone()),
                240..250 => drop(items.remove(at)),
                _ => change(&mut items[at], copy, reader),
            }
        }
        Value::Object(fields) if !stops && !fields.is_empty() => {
            let at = at % fields.len();
            let name = fields.keys().nth(at).cloned().unwrap_or_default();
            match reader.u8() {
                240.. => drop(fields.remove(&name)),
                _ => change(&mut fields[&name], copy, reader),
            }
        }
        Value::Number(_) if choice & 1 != 0 => *value = reader.u32().into(),
        Value::String(_) if choice & 1 != 0 => *value = String::from_utf8_lossy(reader.short()).into(),
        _ if at == 0x7f => *value = copy.clone(),
        _ => *value = serde_json::from_str(OTHERS[at % OTHERS.len()]).expect("JSON"),
    }
}

fn requests() -> Vec<Value> {
    let id = "01234567-89ab-4def-8123-456789abcdef";
    let request = |method: &str, data: Value| json!({"request": true, "id": 7, "method": method, "data": data});
    let about = |method: &str, name: &str| request(method, json!({name: id}));
    vec![
        request("join", json!({"displayName": "Ann", "device": {"name": "x"}, "rtpCapabilities": capabilities()})),
        request("produce", json!({"transportId": id, "kind": "audio", "rtpParameters": opus(), "appData": {"a": 1}})),
        request("produce", json!({"transportId": id, "kind": "video", "rtpParameters": video("VP8", json!({}))})),
        request("produce", json!({"transportId": id, "kind": "video", "rtpParameters": video("H264", h264())})),
        request(
            "connectWebRtcTransport",
            json!({"transportId": id, "dtlsParameters": {"role": "client", "fingerprints": [
            {"algorithm": "sha-256", "value": vec!["A9"; 32].join(":")}, {"algorithm": "sha-1", "value": vec!["09"; 20].join(":")}]}}),
        ),
        request("createWebRtcTransport", json!({"forceTcp": false, "producing": true, "consuming": false})),
        request("getRouterRtpCapabilities", json!({})),
        request("changeDisplayName", json!({"displayName": "Ben"})),
        about("restartIce", "transportId"),
        about("pauseProducer", "producerId"),
        about("closeProducer", "producerId"),
        about("resumeConsumer", "consumerId"),
        about("getConsumerStats", "consumerId"),
    ]
}

fn capabilities() -> Value {
    let feedback =
        json!([{"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}, {"type": "transport-cc"}]);
    let codec = |mime: &str, payload_type: u8, parameters: Value| {
        json!({"mimeType": mime, "kind": "video",
        "preferredPayloadType": payload_type, "clockRate": 90_000, "parameters": parameters, "rtcpFeedback": feedback})
    };
    let extension = |kind: &str, uri: &str, id: u8| json!({"kind": kind, "uri": uri, "preferredId": id});
    json!({
        "codecs": [
            {"mimeType": "audio/opus", "kind": "audio", "preferredPayloadType": 100, "clockRate": 48_000, "channels": 2,
                "parameters": {"minptime": 10}, "rtcpFeedback": [{"type": "nack"}]},
            codec("video/VP8", 101, json!({})),
            codec("video/rtx", 102, json!({"apt": 101})),
            codec("video/H264", 103, h264()),
            codec("video/rtx", 104, json!({"apt": 103})),
        ],
        "headerExtensions": [
            extension("audio", "urn:ietf:params:rtp-hdrext:sdes:mid", 1),
            extension("video", "urn:ietf:params:rtp-hdrext:sdes:mid", 1),
            extension("video", "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", 5),
            extension("audio", "urn:ietf:params:rtp-hdrext:ssrc-audio-level", 10),
        ],
    })
}

fn opus() -> Value {
    json!({
        "mid": "0",
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48_000, "channels": 2,
            "parameters": {"minptime": 10, "usedtx": 1}, "rtcpFeedback": [{"type": "transport-cc"}, {"type": "nack"}]}],
        "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1}],
        "encodings": [{"ssrc": 3_333, "dtx": true}],
        "rtcp": {},
    })
}

fn video(codec: &str, parameters: Value) -> Value {
    json!({
        "mid": "1",
        "codecs": [
            {"mimeType": format!("video/{codec}"), "payloadType": 96, "clockRate": 90_000, "parameters": parameters,
                "rtcpFeedback": [{"type": "nack", "parameter": "pli"}, {"type": "nack"}]},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90_000, "parameters": {"apt": 96}, "rtcpFeedback": []},
        ],
        "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false, "parameters": {}}],
        "encodings": [{"ssrc": 1_111, "rtx": {"ssrc": 2_222}, "scalabilityMode": "L1T3", "maxBitrate": 1_000_000}],
        "rtcp": {"cname": "theirs", "reducedSize": true, "mux": true},
    })
}

fn h264() -> Value {
    json!({"packetization-mode": 1, "level-asymmetry-allowed": 1, "profile-level-id": "42e01f"})
}
