//! The scenarios that loadtest ships, at reduced size: their plans against media cores, with loadtest's sessions as
//! users and direct requests in place of signalling.

mod expectations;
mod negotiation;
mod rooms;
mod run;
mod users;

use std::time::Duration;

use sluice_loadtest::results::{GroupSample, Sample};
use sluice_loadtest::scenario::{Overrides, shipped_names};

use self::run::Run;

/// So many users who join within 3 s, and 8 s of them all.
fn reduced(users: u32) -> Overrides {
    Overrides { users: Some(users), ramp: Some(seconds(3)), duration: Some(seconds(8)), ..Overrides::default() }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Runs a scenario in which nothing breaks.
fn plays_out(name: &str, overrides: Overrides) {
    let mut run = Run::new(name, overrides);
    run.run_until(run.plan.end);
    run.expect_everybody_joined();
    run.expect_everybody_receives();
    run.expect_delays();
    run.expect_losses();
    run.expect_nothing_superfluous();
    run.expect_passed();
    run.expect_nothing_left();
}

#[test]
fn each_shipped_scenario_has_its_test() {
    let tested =
        ["meeting", "meeting-one-room", "webinar", "audio-room", "global", "rough", "adaptive", "failover", "churn"];
    // No user of these simulations has data channels.
    assert_eq!(shipped_names().filter(|name| *name != "data").collect::<Vec<_>>(), tested);
}

#[test]
fn meeting() {
    plays_out("meeting", reduced(12));
}

#[test]
fn meeting_one_room() {
    plays_out("meeting-one-room", Overrides { nodes: Some(2), ..reduced(12) });
}

#[test]
fn webinar() {
    plays_out("webinar", Overrides { nodes: Some(2), ..reduced(13) });
}

#[test]
fn audio_room() {
    plays_out("audio-room", Overrides { nodes: Some(2), ..reduced(30) });
}

/// With seeds 3 and 12 the first packet of a key frame gets lost that somebody waits for.
#[test]
fn global() {
    for seed in [1, 3, 12] {
        plays_out("global", Overrides { seed: Some(seed), ..reduced(12) });
    }
}

/// Pipes' congestion control is not in the play here (`mesh/tests/rough_paths.rs` has it), so the narrow path is
/// clogged: what there is and who is there must be right all the same.
#[test]
fn rough() {
    let mut run = Run::new("rough", Overrides { duration: Some(seconds(20)), ..Overrides::default() });
    run.run_until(run.plan.end);
    run.expect_everybody_joined();
    run.expect_nothing_superfluous();
    run.expect_nothing_left();
}

/// One room. The way to each user carries 5, 1, 0.4 and again 5 Mbit/s, and three pictures of 1.2 Mbit/s are wanted.
#[test]
fn adaptive() {
    let mut run = Run::new("adaptive", Overrides { users: Some(4), ..Overrides::default() });
    run.run_until(run.plan.end);
    run.expect_everybody_joined();
    run.expect_everybody_receives();
    let phases = [(25..=29, 3_000_000..4_200_000), (38..=44, 400_000..950_000), (52..=59, 150_000..380_000)];
    let last = (80..=89, 2_000_000..4_200_000);
    for (time, expected) in phases.into_iter().chain([last]) {
        let rate = received_video(&run, time.clone());
        assert!(expected.contains(&rate), "{rate} bit/s to each user at {time:?} s, not {expected:?}");
    }
    run.expect_passed();
    run.expect_nothing_left();
}

/// Bits per second of video that each user received in these seconds.
fn received_video(run: &Run, seconds: std::ops::RangeInclusive<u64>) -> u64 {
    let samples = samples(run, seconds);
    let bytes: u64 = samples.iter().flat_map(|sample| &sample.groups).map(|group| group.video.bytes).sum();
    let users: u64 = samples.iter().map(|sample| u64::from(sample.users_joined)).sum();
    bytes * 8 / users.max(1)
}

#[test]
fn churn() {
    let duration = seconds(27);
    let mut run = Run::new("churn", Overrides { nodes: Some(2), duration: Some(duration), ..reduced(12) });
    let (mut left, mut came_again) = (0, 0);
    let mut wanted = 0;
    for second in 1..=run.plan.end.as_secs() {
        run.run_until(seconds(second));
        run.expect_nothing_superfluous();
        let now = run.recorder.samples().last().expect("it was just taken").users_wanted;
        left += u32::from(now < wanted);
        came_again += u32::from(now > wanted && second > 3);
        wanted = now;
    }
    assert!(left > 0 && came_again > 0, "{left} left, {came_again} came again");
    // Those who came last have their first frames.
    run.run_until(run.plan.end + seconds(1));
    run.expect_everybody_joined();
    run.expect_everybody_receives();
    run.expect_delays();
    run.expect_losses();
    run.expect_passed();
    run.expect_nothing_left();
}

/// One room of two users in each region. Those of `ap` try again at 21, 23, 27 and 35 s.
#[test]
fn failover() {
    let mut run = Run::new("failover", Overrides { users: Some(6), ..Overrides::default() });
    run.run_until(Duration::from_millis(19_900));
    run.expect_everybody_joined();
    run.expect_everybody_receives();
    run.expect_nothing_superfluous();

    // `ap` is gone: its users are, and the other four still have each other.
    run.run_until(seconds(29));
    let while_it_is_dead = samples(&run, 23..=29);
    assert!(while_it_is_dead.iter().all(|second| (second.users_joined, second.users_wanted) == (4, 6)));
    for (region, received) in [("eu", 6), ("us", 6), ("ap", 0)] {
        flows(&run, &while_it_is_dead, region, received, received);
    }

    run.run_until(seconds(44));
    let joins = run.recorder.joins();
    assert_eq!((joins.attempted, joins.failures()), (6 + 2 * 4, 2 * 3));
    run.expect_everybody_receives();
    run.expect_nothing_superfluous();
    for region in ["eu", "us", "ap"] {
        flows(&run, &samples(&run, 37..=44), region, 10, 10);
    }

    // `eu` and `us` do not reach each other: each goes on with itself and `ap`.
    run.run_until(seconds(54));
    for (region, received) in [("eu", 6), ("us", 6), ("ap", 10)] {
        flows(&run, &samples(&run, 47..=54), region, 10, received);
    }

    // By 57 s nobody waits any more for what the cut took.
    run.run_until(run.plan.end);
    for region in ["eu", "us", "ap"] {
        flows(&run, &samples(&run, 58..=run.plan.end.as_secs()), region, 10, 10);
    }
    run.expect_everybody_receives();
    run.expect_nothing_superfluous();
    run.expect_passed();
    run.expect_nothing_left();
}

/// Those that ended with these seconds.
fn samples(run: &Run, seconds: std::ops::RangeInclusive<u64>) -> Vec<Sample> {
    let samples = run.recorder.samples().iter();
    samples.filter(|sample| seconds.contains(&(sample.at_s.round() as u64))).cloned().collect()
}

/// In each of these seconds the users of a region have so many streams of video, and so many of them come in full, at
/// once and without a stop.
fn flows(run: &Run, seconds: &[Sample], region: &str, streams: u32, flowing: u32) {
    let group = run.plan.groups.iter().position(|group| group.region == region).expect("the region has users");
    let none = GroupSample::default();
    for second in seconds {
        let seen = second.groups.iter().find(|sample| sample.group == group).unwrap_or(&none);
        assert_eq!(seen.video.streams, streams, "{region} at {} s", second.at_s);
        let frames = u64::from(flowing * 29)..=u64::from(flowing * 31);
        assert!(frames.contains(&seen.video.frames), "{region} at {} s: {:?}", second.at_s, seen.video);
        assert_eq!(
            (seen.video.freezes_200ms, seen.video.lost),
            (0, 0),
            "{region} at {} s: {:?}",
            second.at_s,
            seen.video
        );
        assert!(seen.video.delay.p99_ms < 1.0, "{region} at {} s: {:?}", second.at_s, seen.video);
    }
}
