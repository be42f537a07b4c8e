//! What is written reads the same.

use proptest::prelude::*;
use sluice_mesh::wan::{Loss, Rate};

use super::*;

fn durations(most_ms: u64) -> impl Strategy<Value = Duration> {
    (1..=most_ms).prop_map(Duration::from_millis)
}

fn shares() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]
}

fn configs() -> impl Strategy<Value = ImpairmentConfig> {
    let loss = prop_oneof![
        Just(Loss::None),
        shares().prop_map(Loss::Random),
        [shares(), shares(), shares(), shares()].prop_map(|[to_bad, to_good, loss_good, loss_bad]| {
            Loss::GilbertElliott { to_bad, to_good, loss_good, loss_bad }
        }),
    ];
    let rate = (1..=8_000_000_000u64, durations(5000)).prop_map(|(rate, queue)| Rate::new(rate, queue));
    let times = [durations(5000), durations(100), durations(100)];
    (times, loss, [shares(), shares()], proptest::option::of(rate), any::<bool>()).prop_map(
        |([delay, jitter, reorder_by], loss, [reorder, duplicate], rate, blackout)| ImpairmentConfig {
            delay,
            jitter,
            loss,
            reorder,
            reorder_by,
            duplicate,
            rate,
            blackout,
        },
    )
}

fn data() -> impl Strategy<Value = Data> {
    let limit = prop_oneof![
        Just((None, None)),
        (0..=u16::MAX).prop_map(|times| (Some(times), None)),
        durations(65_535).prop_map(|lifetime| (None, Some(lifetime))),
    ];
    (1..=10_000u32, 32..=262_144u32, any::<bool>(), limit).prop_map(
        |(messages_per_second, message_bytes, ordered, (max_retransmits, max_packet_lifetime))| Data {
            messages_per_second,
            message_bytes,
            delivery: Delivery { ordered, max_retransmits, max_packet_lifetime },
        },
    )
}

fn users(name: &'static str) -> impl Strategy<Value = Users> {
    let audio = (6_000..=510_000u32, shares(), any::<bool>()).prop_map(|(bitrate, talk, dtx)| Audio {
        bitrate,
        talk,
        dtx,
        file: None,
    });
    let encoding = (10_000..=100_000_000u32, 1..=60u32, 1..=3u8, proptest::option::of(durations(10_000))).prop_map(
        |(bitrate, fps, temporal_layers, key_frame_interval)| VideoEncoding {
            bitrate,
            fps,
            temporal_layers,
            key_frame_interval,
        },
    );
    let video = proptest::collection::vec(encoding, 1..=4).prop_map(|mut encodings| {
        encodings.sort_by_key(|encoding| encoding.bitrate);
        Video { codec: VideoCodec::Vp8, encodings, scalability_mode: None, file: None }
    });
    let layered = prop_oneof![Just("L1T2"), Just("L3T3_KEY"), Just("S2T1")].prop_map(|mode| Video {
        codec: VideoCodec::Vp9,
        encodings: vec![VideoEncoding::default()],
        scalability_mode: mode.parse().ok(),
        file: None,
    });
    let video = prop_oneof![video, layered];
    let watch = || prop_oneof![Just(Watch::All), Just(Watch::None), (1..100u32).prop_map(Watch::First)];
    let churn = (1000..100_000u64, 0..10_000u64)
        .prop_map(|(stay, away)| Churn { stay: Duration::from_millis(stay), away: Duration::from_millis(away) });
    let regions = proptest::sample::subsequence(vec!["eu".to_owned(), "us".to_owned()], 0..=2);
    (
        1..100u32,
        regions,
        audio,
        proptest::option::of(video),
        watch(),
        watch(),
        (proptest::option::of(data()), any::<bool>()),
        (any::<bool>(), proptest::option::of(churn)),
    )
        .prop_map(move |(count, regions, audio, video, watch_audio, watch_video, data, (tcp, churn))| Users {
            name: name.to_owned(),
            count,
            regions,
            audio: Some(audio),
            video,
            data: data.0,
            watch_audio,
            watch_video,
            watch_data: data.1,
            tcp,
            churn,
        })
}

fn targets() -> impl Strategy<Value = Target> {
    let node = |region: &'static str| {
        (any::<bool>(), proptest::option::of(1..=u32::MAX), "[a-z=&\"\\\\ ]{0,8}").prop_map(
            move |(insecure, pid, query)| TargetNode {
                name: format!("{region}-x"),
                region: region.to_owned(),
                url: format!("wss://{region}.example:4443/path"),
                query,
                metrics: insecure.then(|| format!("http://{region}.example/metrics")),
                pid,
                insecure,
            },
        )
    };
    prop_oneof![
        (2..=64u16, 0..=8u16).prop_map(|(nodes, workers)| Target::Dev { nodes, workers }),
        [node("eu"), node("us")].prop_map(|nodes| Target::Nodes(nodes.to_vec())),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(
        (seed, ramp, duration, target) in (0..=i64::MAX as u64, 0..100_000u64, durations(100_000), targets()),
        kinds in (users("a"), users("b")),
        configs in [configs(), configs()],
        text in "[ -~äß]{0,40}",
        slo in (proptest::option::of(durations(10_000)), proptest::option::of(shares())),
    ) {
        let [first, second] = configs;
        let steps = [(Duration::ZERO, first), (Duration::from_nanos(1), second)];
        let path = Path {
            from: PathEnd::AllUsers,
            to: PathEnd::Nodes("us".into()),
            both: seed % 2 == 0,
            steps: steps.map(|(at, config)| PathStep { at, config }).to_vec(),
        };
        let is_by_tcp = kinds.0.tcp || kinds.1.tcp;
        let link = Path { from: PathEnd::Nodes("eu".into()), to: PathEnd::AllNodes, ..path.clone() };
        let fault = |action| Fault { at: Duration::from_nanos(7), action };
        let is_own = matches!(target, Target::Dev { .. });
        let faults = [
            FaultAction::Stop("eu".into()),
            FaultAction::Start("eu".into()),
            FaultAction::Cut("eu".into(), "us".into()),
            FaultAction::Heal("us".into(), "eu".into()),
        ];
        let scenario = Scenario {
            name: "written".into(),
            description: text,
            seed,
            ramp: Duration::from_micros(ramp),
            duration,
            target,
            rooms: vec![Rooms { name: "r".into(), count: 3, users: vec![kinds.0, kinds.1] }],
            wan: [(!is_by_tcp).then_some(path), is_own.then_some(link)].into_iter().flatten().collect(),
            faults: if is_own { faults.map(fault).to_vec() } else { Vec::new() },
            slo: Slo { join_p99: slo.0, failed_joins: slo.1, ..Default::default() },
            generator: GeneratorConfig { coalesce: Duration::from_micros(ramp), ..Default::default() },
        };
        let toml = scenario.to_toml();
        prop_assert_eq!(parse(&toml), Ok(scenario), "{}", toml);
    }
}
