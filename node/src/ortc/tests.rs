//! Negotiation with the parameters of real clients, and with broken ones.

use serde_json::{Value, json};
use sluice_proto::ortc::{MediaKind, RtpCapabilities, RtpHeaderExtensionUri, RtpParameters};

use super::*;

/// What mediasoup-client 3 announces in Chromium after loading the router's capabilities.
fn chromium() -> RtpCapabilities {
    parse_rtp_capabilities(json!({
        "codecs": [
            {"mimeType": "audio/opus", "kind": "audio", "preferredPayloadType": 100, "clockRate": 48000, "channels": 2,
             "parameters": {"minptime": 10, "useinbandfec": 1},
             "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}, {"type": "nack", "parameter": ""}]},
            {"mimeType": "video/VP8", "kind": "video", "preferredPayloadType": 101, "clockRate": 90000, "parameters": {},
             "rtcpFeedback": [{"type": "goog-remb", "parameter": ""}, {"type": "transport-cc", "parameter": ""},
                {"type": "ccm", "parameter": "fir"}, {"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}]},
            {"mimeType": "video/rtx", "kind": "video", "preferredPayloadType": 102, "clockRate": 90000,
             "parameters": {"apt": 101}, "rtcpFeedback": []},
            {"mimeType": "video/H264", "kind": "video", "preferredPayloadType": 103, "clockRate": 90000,
             "parameters": {"packetization-mode": 1, "level-asymmetry-allowed": 1, "profile-level-id": "42e01f"},
             "rtcpFeedback": [{"type": "nack", "parameter": ""}, {"type": "nack", "parameter": "pli"}]},
            {"mimeType": "video/rtx", "kind": "video", "preferredPayloadType": 104, "clockRate": 90000,
             "parameters": {"apt": 103}, "rtcpFeedback": []},
        ],
        "headerExtensions": [
            {"kind": "audio", "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "preferredId": 1, "preferredEncrypt": false, "direction": "sendrecv"},
            {"kind": "video", "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "preferredId": 1, "preferredEncrypt": false, "direction": "sendrecv"},
            {"kind": "audio", "uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "preferredId": 4},
            {"kind": "video", "uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "preferredId": 4},
            {"kind": "video", "uri": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", "preferredId": 5},
            {"kind": "audio", "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "preferredId": 10},
            {"kind": "video", "uri": "urn:example:unknown", "preferredId": 12},
        ],
    }))
    .unwrap()
}

fn vp8() -> Value {
    json!({
        "mid": "1",
        "codecs": [
            {"mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000, "parameters": {"x-google-start-bitrate": 1000},
             "rtcpFeedback": [{"type": "nack", "parameter": "pli"}, {"type": "unheard-of"}]},
            {"mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000, "parameters": {"apt": 96}, "rtcpFeedback": []},
        ],
        "headerExtensions": [
            {"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false, "parameters": {}},
            {"uri": "urn:example:unknown", "id": 9},
        ],
        "encodings": [{"ssrc": 1111, "rtx": {"ssrc": 2222}, "dtx": false, "scalabilityMode": "L1T3", "maxBitrate": 1_000_000}],
        "rtcp": {"cname": "their-cname", "reducedSize": true, "mux": true},
    })
}

fn opus() -> Value {
    json!({
        "mid": "0",
        "codecs": [{"mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2,
            "parameters": {"minptime": 10, "useinbandfec": 1, "sprop-stereo": 1, "usedtx": 1},
            "rtcpFeedback": [{"type": "transport-cc", "parameter": ""}, {"type": "nack"}]}],
        "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 1}],
        "encodings": [{"ssrc": 3333, "dtx": true}],
        "rtcp": {},
    })
}

fn h264(profile: Value, mode: u32) -> Value {
    json!({
        "mid": "2",
        "codecs": [{"mimeType": "video/H264", "payloadType": 107, "clockRate": 90000,
            "parameters": {"packetization-mode": mode, "level-asymmetry-allowed": 1, "profile-level-id": profile}}],
        "encodings": [{"ssrc": 5}],
    })
}

fn negotiate(kind: MediaKind, rtp: Value) -> Result<Negotiated, OrtcError> {
    negotiate_producer(kind, &parse_rtp_parameters(rtp)?, 7000, "made-up")
}

#[test]
fn a_vp8_producer_becomes_a_consumer_with_rtx() {
    let negotiated = negotiate(MediaKind::Video, vp8()).unwrap();
    assert_eq!(negotiated.mapping.codecs, [(96, 101), (97, 102)]);
    assert_eq!(negotiated.mapping.mapped_ssrcs, [7000]);
    let consumable = &negotiated.consumable;
    assert_eq!(consumable.rtcp.cname.as_deref(), Some("their-cname"));
    assert_eq!((consumable.encodings[0].ssrc, consumable.encodings[0].rtx), (Some(7000), None));

    let consumer = consumer_rtp_parameters(consumable, &chromium(), "7".to_owned(), 42).unwrap();
    assert_eq!(consumer.mid.as_deref(), Some("7"));
    assert_eq!(consumer.codecs.iter().map(|codec| codec.payload_type()).collect::<Vec<_>>(), [101, 102]);
    assert_eq!((consumer.encodings[0].ssrc, consumer.encodings[0].rtx.unwrap().ssrc), (Some(42), 43));
    let feedback = serde_json::to_value(consumer.codecs[0].rtcp_feedback()).unwrap();
    assert!(!feedback.to_string().contains("goog-remb"), "transport-wide feedback makes REMB superfluous: {feedback}");
    assert!(feedback.to_string().contains("transport-cc") && feedback.to_string().contains("fir"));
    let ids: Vec<_> = consumer.header_extensions.iter().map(|extension| (extension.uri, extension.id)).collect();
    use RtpHeaderExtensionUri::{AbsSendTime, Mid, TransportWideCcDraft01};
    assert_eq!(ids, [(Mid, 1), (AbsSendTime, 4), (TransportWideCcDraft01, 5)]);
}

#[test]
fn consumable_parameters_survive_the_roster() {
    for (kind, rtp) in [(MediaKind::Video, vp8()), (MediaKind::Audio, opus())] {
        let consumable = negotiate(kind, rtp).unwrap().consumable;
        let json = serde_json::to_string(&consumable).unwrap();
        assert_eq!(parse_consumable_rtp_parameters(&json).unwrap(), consumable);
    }
    assert!(parse_consumable_rtp_parameters("{}").is_err());
    assert!(parse_consumable_rtp_parameters(&"x".repeat(100_000)).is_err());
}

#[test]
fn opus_keeps_the_clients_parameters_and_gets_a_cname() {
    let consumable = negotiate(MediaKind::Audio, opus()).unwrap().consumable;
    assert_eq!(consumable.rtcp.cname.as_deref(), Some("made-up"));
    let json = serde_json::to_value(&consumable).unwrap();
    assert_eq!(json["codecs"][0]["payloadType"], 100);
    assert_eq!(json["codecs"][0]["parameters"]["usedtx"], 1);
    let consumer =
        serde_json::to_value(consumer_rtp_parameters(&consumable, &chromium(), "0".to_owned(), 9).unwrap()).unwrap();
    assert_eq!(consumer["encodings"], json!([{"ssrc": 9, "dtx": true}]), "Opus has no RTX");
    assert_eq!(
        consumer["codecs"][0]["rtcpFeedback"],
        json!([{"type": "nack", "parameter": ""}]),
        "no transport-wide numbers on audio"
    );
}

#[test]
fn h264_needs_the_same_profile_and_packetization_mode() {
    assert!(negotiate(MediaKind::Video, h264("42e01f".into(), 1)).is_ok());
    assert!(negotiate(MediaKind::Video, h264("42e034".into(), 1)).is_ok(), "another level");
    for (profile, mode) in [("640c1f", 1), ("640c1f", 0), ("f4001f", 1)] {
        let refused = negotiate(MediaKind::Video, h264(profile.into(), mode)).unwrap_err().to_string();
        let (asked, supported) = refused.split_once(", supported: ").unwrap();
        assert!(asked.contains(profile) && asked.ends_with("(payload type 107)"), "{asked}");
        let first =
            "video/H264/90000 {\"level-asymmetry-allowed\":1,\"packetization-mode\":1,\"profile-level-id\":\"42e01f\"}";
        assert!(supported.starts_with(first), "{supported}");
        assert_eq!(supported.matches("video/H264").count(), 8, "four profiles in two modes");
    }
    let negotiated = negotiate(MediaKind::Video, h264(json!(640_032), 1)).unwrap();
    assert_eq!(negotiated.mapping.codecs, [(107, 111)], "a number is understood, and is high profile");
}

#[test]
fn a_client_without_the_codec_cannot_consume() {
    let consumable = negotiate(MediaKind::Video, h264("42e01f".into(), 1)).unwrap().consumable;
    assert!(can_consume(&consumable, &chromium()));
    let vp8_only = parse_rtp_capabilities(json!({"codecs": [
        {"mimeType": "video/VP8", "preferredPayloadType": 101, "clockRate": 90000},
        {"mimeType": "video/rtx", "preferredPayloadType": 102, "clockRate": 90000, "parameters": {"apt": 101}},
        {"mimeType": "video/never-heard-of", "clockRate": 90000},
    ]}))
    .unwrap();
    assert!(!can_consume(&consumable, &vp8_only), "RTX alone is nothing");
    assert!(consumer_rtp_parameters(&consumable, &vp8_only, "0".to_owned(), 1).is_err());
}

#[test]
fn rtx_that_the_client_lacks_is_left_out() {
    let consumable = negotiate(MediaKind::Video, vp8()).unwrap().consumable;
    let no_rtx = parse_rtp_capabilities(json!({
        "codecs": [{"mimeType": "video/vp8", "clockRate": 90000, "rtcpFeedback": [{"type": "goog-remb"}, {"type": "transport-cc"}]}],
        "headerExtensions": [{"uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "preferredId": 4}],
    }))
    .unwrap();
    let consumer = consumer_rtp_parameters(&consumable, &no_rtx, "0".to_owned(), 1).unwrap();
    assert_eq!(consumer.codecs.len(), 1);
    assert_eq!(consumer.encodings[0].rtx, None);
    let feedback = serde_json::to_value(consumer.codecs[0].rtcp_feedback()).unwrap();
    assert_eq!(feedback, json!([{"type": "goog-remb", "parameter": ""}]), "send time only, so REMB");
}

#[test]
fn several_encodings_are_spatial_layers_of_one_stream() {
    let encodings = |count: usize| -> Vec<Value> {
        (0..count).map(|number| json!({"rid": format!("r{number}"), "scalabilityMode": "L1T3"})).collect()
    };
    let mut rtp = vp8();
    rtp["encodings"] = json!(encodings(3));
    let negotiated = negotiate(MediaKind::Video, rtp.clone()).unwrap();
    assert_eq!(negotiated.mapping.mapped_ssrcs, [7000, 7001, 7002]);
    let consumer = consumer_rtp_parameters(&negotiated.consumable, &chromium(), "7".to_owned(), 42).unwrap();
    let consumer = serde_json::to_value(consumer).unwrap();
    assert_eq!(consumer["encodings"], json!([{"ssrc": 42, "rtx": {"ssrc": 43}, "scalabilityMode": "L3T3"}]));

    rtp["rtcp"]["cname"] = json!("");
    let unnamed = negotiate(MediaKind::Video, rtp.clone()).unwrap().consumable;
    assert_eq!(unnamed.rtcp.cname.as_deref(), Some("made-up"), "of simulcast Chromium names none");

    rtp["encodings"] = json!(encodings(5));
    let refused = negotiate(MediaKind::Video, rtp).unwrap_err().to_string();
    assert_eq!(refused, "Video has at most 4 encodings, rtpParameters has 5");
    let mut audio = opus();
    audio["encodings"] = json!(encodings(2));
    assert!(negotiate(MediaKind::Audio, audio).is_err());
}

#[test]
fn broken_rtp_parameters_are_refused_with_their_reason() {
    type Break = fn(&mut Value);
    let cases: [(&str, Break); 17] = [
        ("must be an object", |rtp| *rtp = json!([])),
        ("codecs must be an array", |rtp| rtp["codecs"] = json!("VP8")),
        ("codecs is empty", |rtp| rtp["codecs"] = json!([])),
        ("at most 128", |rtp| rtp["codecs"] = vec![rtp["codecs"][0].clone(); 200].into()),
        ("first codec must not be RTX", |rtp| rtp["codecs"].as_array_mut().unwrap().reverse()),
        ("payload type 200 is above 127", |rtp| rtp["codecs"][0]["payloadType"] = json!(200)),
        ("payload type 72 is RTCP's", |rtp| rtp["codecs"][0]["payloadType"] = json!(72)),
        ("payload type 96 is used twice", |rtp| rtp["codecs"][1]["payloadType"] = json!(96)),
        ("repairs no codec", |rtp| rtp["codecs"][1]["parameters"]["apt"] = json!(55)),
        ("did not match", |rtp| rtp["codecs"][0]["clockRate"] = json!(0)),
        ("header extension id 0", |rtp| rtp["headerExtensions"][0]["id"] = json!(0)),
        ("encrypted header extensions", |rtp| rtp["headerExtensions"][0]["encrypt"] = json!(true)),
        ("encodings: it is empty", |rtp| {
            rtp["encodings"] = json!([]);
            rtp["mid"] = Value::Null;
        }),
        ("used twice", |rtp| rtp["encodings"][0]["rtx"]["ssrc"] = json!(1111)),
        ("codecPayloadType 99", |rtp| rtp["encodings"][0]["codecPayloadType"] = json!(99)),
        ("mid must have 1 to 16 bytes", |rtp| rtp["mid"] = json!("x".repeat(17))),
        ("unsupported Video codec video/ulpfec", |rtp| rtp["codecs"][0]["mimeType"] = json!("video/ulpfec")),
    ];
    for (expected, break_it) in cases {
        let mut rtp = vp8();
        break_it(&mut rtp);
        let refused = negotiate(MediaKind::Video, rtp).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused:?} does not say {expected:?}");
    }
    let mut rtp = vp8();
    rtp["codecs"][0]["parameters"]["long"] = json!("x".repeat(20_000));
    assert!(negotiate(MediaKind::Video, rtp.clone()).unwrap_err().to_string().contains("at most 16384"));
    rtp["codecs"][0]["parameters"]["long"] = json!("x".repeat(4_000));
    assert!(negotiate(MediaKind::Video, rtp).unwrap_err().to_string().contains("at most 4096"));
    let refused = negotiate(MediaKind::Audio, vp8()).unwrap_err().to_string();
    assert!(refused.contains("unsupported Audio codec"), "{refused}");
    assert!(
        refused.ends_with("supported: audio/opus/48000/2, audio/red/48000/2, audio/PCMU/8000/1, audio/PCMA/8000/1"),
        "{refused}"
    );
}

#[test]
fn others_are_told_of_each_codec_once() {
    let mut rtp = vp8();
    let codec = |payload_type: u8| {
        let mut codec = rtp["codecs"][0].clone();
        codec["payloadType"] = json!(payload_type);
        codec
    };
    let mut codecs: Vec<Value> = (0..64).chain(98..128).map(codec).collect();
    codecs.extend_from_slice(rtp["codecs"].as_array().unwrap());
    rtp["codecs"] = codecs.into();
    let negotiated = negotiate(MediaKind::Video, rtp).unwrap();
    assert_eq!(negotiated.mapping.codecs.len(), 96, "the client may send any of them");
    let told: Vec<u8> = negotiated.consumable.codecs.iter().map(|codec| codec.payload_type()).collect();
    assert_eq!(told, [101, 102]);
}

#[test]
fn odd_values_that_clients_send_are_taken() {
    let mut rtp = vp8();
    rtp["encodings"][0]["maxBitrate"] = json!(1.5e6);
    rtp["encodings"][0]["scalabilityMode"] = json!("nonsense");
    rtp["encodings"][0]["rid"] = Value::Null;
    rtp["codecs"][0]["parameters"] = json!({"a": 1.5, "b": -1, "c": true, "d": null, "e": 5_000_000_000_u64});
    let parsed: RtpParameters = parse_rtp_parameters(rtp).unwrap();
    assert_eq!(
        serde_json::to_value(parsed.codecs[0].parameters()).unwrap(),
        json!({"a": "1.5", "b": "-1", "c": 1, "e": "5000000000"})
    );
    assert_eq!(parsed.encodings[0].max_bitrate, None);
}

#[test]
fn a_mid_without_encodings_is_one_encoding() {
    for encodings in [None, Some(json!([]))] {
        let mut rtp = vp8();
        match encodings {
            None => drop(rtp.as_object_mut().unwrap().remove("encodings")),
            Some(empty) => rtp["encodings"] = empty,
        }
        let negotiated = negotiate(MediaKind::Video, rtp).unwrap();
        assert_eq!(negotiated.mapping.mapped_ssrcs, [7000]);
        let consumer = consumer_rtp_parameters(&negotiated.consumable, &chromium(), "7".to_owned(), 42).unwrap();
        assert_eq!((consumer.encodings.len(), consumer.encodings[0].ssrc), (1, Some(42)));
    }
}

#[test]
fn viewers_are_told_the_publishers_msid() {
    let msid_of = |msid: Option<&str>| {
        let mut rtp = vp8();
        msid.inspect(|msid| rtp["msid"] = json!(msid));
        let consumable = negotiate(MediaKind::Video, rtp).unwrap().consumable;
        // Nodes tell each other in JSON.
        let told = parse_consumable_rtp_parameters(&serde_json::to_string(&consumable).unwrap()).unwrap();
        consumer_rtp_parameters(&told, &chromium(), "7".to_owned(), 42).unwrap().msid
    };
    assert_eq!(msid_of(Some("their-stream their-track")).as_deref(), Some("their-stream their-track"));
    assert_eq!(msid_of(None), None);
}

#[test]
fn dtls_parameters_are_checked() {
    let hash = ["AB"; 32].join(":");
    let good = json!({"role": "client", "fingerprints": [{"algorithm": "SHA-256", "value": hash}]});
    assert_eq!(parse_dtls_parameters(&good).unwrap().fingerprints[0].value_string(), hash);
    assert!(
        parse_dtls_parameters(&json!({"fingerprints": [{"algorithm": "sha-256", "value": hash}]})).is_ok(),
        "role defaults"
    );
    // 95 bytes, but not 95 characters.
    let cut = format!("{}é{}", "A", "A".repeat(92));
    for broken in [
        json!(null),
        json!({"role": "auto"}),
        json!({"role": "both", "fingerprints": [{"algorithm": "sha-256", "value": hash}]}),
        json!({"fingerprints": []}),
        json!({"fingerprints": vec![json!({"algorithm": "sha-256", "value": hash}); 9]}),
        json!({"fingerprints": ["sha-256"]}),
        json!({"fingerprints": [{"algorithm": "sha-256", "value": "AB"}]}),
        json!({"fingerprints": [{"algorithm": "sha-256", "value": cut}]}),
        json!({"fingerprints": [{"algorithm": "md5", "value": hash}]}),
    ] {
        assert!(parse_dtls_parameters(&broken).is_err(), "{broken}");
    }
}

fn video(mime_type: &str, parameters: Value, mode: &str) -> Value {
    json!({
        "mid": "3",
        "codecs": [{"mimeType": mime_type, "payloadType": 45, "clockRate": 90000, "parameters": parameters},
            {"mimeType": "video/rtx", "payloadType": 46, "clockRate": 90000, "parameters": {"apt": 45}}],
        "headerExtensions": [],
        "encodings": [{"ssrc": 5, "scalabilityMode": mode}],
    })
}

#[test]
fn every_codec_of_browsers_is_known_by_its_profile() {
    for (mime_type, parameters, payload_type) in [
        ("video/VP9", json!({"profile-id": 0}), 105),
        ("video/vp9", json!({}), 105),
        ("video/VP9", json!({"profile-id": 2}), 107),
        ("video/AV1", json!({"level-idx": 5, "profile": 0, "tier": 0}), 109),
        ("video/H264", json!({"profile-level-id": "640c1f", "packetization-mode": 1}), 0),
        ("video/H264", json!({"profile-level-id": "640032", "packetization-mode": 1}), 111),
        ("video/H264", json!({"profile-level-id": "42e01f", "packetization-mode": 0}), 113),
        ("video/H264", json!({"profile-level-id": "64001f"}), 115),
        ("video/H264", json!({"profile-level-id": "42001f", "packetization-mode": 1}), 122),
        ("video/H264", json!({"profile-level-id": "42001f"}), 124),
        ("video/H264", json!({"profile-level-id": "4d001f", "packetization-mode": 1}), 126),
        ("video/H264", json!({"profile-level-id": "4d0032", "packetization-mode": 0}), 96),
        ("video/H265", json!({"profile-id": 1, "tier-flag": 0, "level-id": 93}), 117),
        ("video/H265", json!({"profile-id": 2}), 0),
        ("video/AV1", json!({"profile": 1}), 120),
        ("video/AV1", json!({"profile": 2}), 0),
    ] {
        let negotiated = negotiate(MediaKind::Video, video(mime_type, parameters.clone(), "L1T3"));
        let mapped = negotiated.map_or(0, |negotiated| negotiated.mapping.codecs[0].1);
        assert_eq!(mapped, payload_type, "{mime_type} {parameters}");
    }
    for (mime_type, payload_type) in [("audio/PCMU", 0_u8), ("audio/PCMA", 8)] {
        let mut rtp = opus();
        rtp["codecs"] = json!([{"mimeType": mime_type, "payloadType": payload_type, "clockRate": 8000}]);
        let consumable = negotiate(MediaKind::Audio, rtp).unwrap().consumable;
        assert_eq!(consumable.codecs[0].payload_type(), payload_type);
    }
}

#[test]
fn redundant_audio_comes_with_what_it_carries() {
    let mut rtp = opus();
    let red = json!({"mimeType": "audio/red", "payloadType": 63, "clockRate": 48000, "channels": 2});
    rtp["codecs"].as_array_mut().unwrap().insert(0, red.clone());
    let negotiated = negotiate(MediaKind::Audio, rtp.clone()).unwrap();
    assert_eq!(negotiated.mapping.codecs, [(63, 119), (111, 100)]);
    let consumer = consumer_rtp_parameters(&negotiated.consumable, &chromium(), "0".to_owned(), 1).unwrap();
    assert_eq!(
        consumer.codecs.iter().map(|codec| codec.payload_type()).collect::<Vec<_>>(),
        [100],
        "it knows Opus only"
    );
    rtp["codecs"] = json!([red]);
    let refused = negotiate(MediaKind::Audio, rtp).unwrap_err().to_string();
    assert!(refused.contains("audio/opus that it carries"), "{refused}");
}

#[test]
fn surround_sound_is_refused_in_words() {
    let mut rtp = opus();
    rtp["codecs"][0]["mimeType"] = json!("audio/multiopus");
    rtp["codecs"][0]["channels"] = json!(6);
    let refused = negotiate(MediaKind::Audio, rtp).unwrap_err().to_string();
    assert!(refused.contains("unsupported Audio codec audio/multiopus/48000/6"), "{refused}");
}

#[test]
fn lost_audio_can_be_asked_for_and_how_it_is_made_is_told() {
    let mut rtp = opus();
    rtp["codecs"][0]["parameters"] = json!({"useinbandfec": 1, "usedtx": 1, "sprop-stereo": 1, "stereo": 1});
    let consumable = negotiate(MediaKind::Audio, rtp).unwrap().consumable;
    let consumer = consumer_rtp_parameters(&consumable, &chromium(), "0".to_owned(), 1).unwrap();
    let consumer = serde_json::to_value(consumer).unwrap();
    assert_eq!(consumer["codecs"][0]["rtcpFeedback"], json!([{"type": "nack", "parameter": ""}]));
    let told = json!({"useinbandfec": 1, "usedtx": 1, "sprop-stereo": 1, "stereo": 1});
    assert_eq!(consumer["codecs"][0]["parameters"], told);
}

#[test]
fn layers_inside_a_stream_are_those_of_its_scalability_mode() {
    for (mime_type, mode, layers, count) in [
        ("video/VP9", "L3T3_KEY", Layering::Svc, 3),
        ("video/AV1", "S2T1", Layering::Svc, 2),
        ("video/VP9", "L1T3", Layering::None, 1),
        ("video/H264", "L3T3", Layering::None, 1),
    ] {
        let negotiated = negotiate(MediaKind::Video, video(mime_type, json!({}), mode)).unwrap();
        let consumable = &negotiated.consumable;
        assert_eq!((layering(consumable), spatial_layers(consumable)), (layers, count), "{mime_type} {mode}");
    }
    let mut simulcast = video("video/VP9", json!({}), "L1T3");
    simulcast["encodings"] = json!([{"rid": "a"}, {"rid": "b"}]);
    let consumable = negotiate(MediaKind::Video, simulcast).unwrap().consumable;
    assert_eq!((layering(&consumable), spatial_layers(&consumable)), (Layering::Simulcast, 2));
}

#[test]
fn dependency_descriptors_go_with_all_video_but_vp8() {
    let has_descriptor = |consumable: &RtpParameters| {
        let mut uris = consumable.header_extensions.iter().map(|extension| extension.uri);
        uris.any(|uri| uri == RtpHeaderExtensionUri::DependencyDescriptor)
    };
    for (mime_type, expected) in [("video/AV1", true), ("video/VP9", true), ("video/H264", true), ("video/VP8", false)]
    {
        let negotiated =
            negotiate(MediaKind::Video, video(mime_type, json!({"packetization-mode": 1}), "L1T3")).unwrap();
        assert_eq!(has_descriptor(&negotiated.consumable), expected, "{mime_type}");
    }
}
