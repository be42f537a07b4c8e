//! Whether the parts of a scenario fit together.

use std::collections::HashSet;
use std::path::Path as FilePath;
use std::time::Duration;

use sluice_proto::pipe::MAX_STREAMS;

use super::read::MAX_SEED;
use super::section::Problem;
use super::value::MAX_DURATION;
use super::{Fault, FaultAction, Path, PathEnd, Rooms, Scenario, Target, Users, Video, VideoCodec, Watch};

/// Far beyond what one generator can carry.
pub(super) const MAX_USERS: u32 = 1_000_000;

/// The first thing that does not fit.
pub(super) fn check(scenario: &Scenario) -> Result<(), Problem> {
    let regions = scenario.target.regions();
    if scenario.seed > MAX_SEED {
        return Err(Problem::new("seed", format!("seed = {}: allowed is an integer up to {MAX_SEED}", scenario.seed)));
    }
    for (key, time) in [("ramp", scenario.ramp), ("duration", scenario.duration)] {
        if time > MAX_DURATION {
            let shown = humantime::format_duration(time);
            return Err(Problem::new(key, format!("{key} = \"{shown}\": allowed are up to 30days")));
        }
    }
    check_target(&scenario.target)?;
    check_rooms(scenario, &regions)?;
    for (index, path) in scenario.wan.iter().enumerate() {
        check_path(path, &format!("wan[{index}]"), scenario, &regions)?;
    }
    check_faults(scenario, &regions)?;
    check_slo(scenario)
}

fn check_target(target: &Target) -> Result<(), Problem> {
    let mut names = HashSet::new();
    match target.nodes().into_iter().find(|node| !names.insert(node.name.clone())) {
        None => Ok(()),
        Some(node) => Err(Problem::new("target", format!("two nodes are called {}", node.name))),
    }
}

fn check_rooms(scenario: &Scenario, regions: &[String]) -> Result<(), Problem> {
    if scenario.rooms.is_empty() {
        return Err(Problem::new("", "there are no rooms: a scenario needs [[rooms]] with [[rooms.users]]"));
    }
    let mut names = HashSet::new();
    for (index, rooms) in scenario.rooms.iter().enumerate() {
        let at = format!("rooms[{index}]");
        if !names.insert(&rooms.name) {
            return Err(Problem::new(
                at,
                format!("two kinds of rooms are called {}: give each a name of its own", rooms.name),
            ));
        }
        check_room(rooms, &at, regions)?;
        // Others may send in the rooms of nodes that run already.
        if scenario.is_own_mesh() && !rooms.users.iter().any(Users::sends) {
            return Err(Problem::new(at, format!("nobody in the rooms {} sends anything", rooms.name)));
        }
    }
    if scenario.users() > MAX_USERS {
        return Err(Problem::new("rooms", format!("too many users: allowed are {MAX_USERS} in all")));
    }
    Ok(())
}

fn check_room(rooms: &Rooms, at: &str, regions: &[String]) -> Result<(), Problem> {
    if rooms.users.is_empty() {
        return Err(Problem::new(at, format!("the rooms {} have no users: add [[rooms.users]]", rooms.name)));
    }
    let mut names = HashSet::new();
    for (index, users) in rooms.users.iter().enumerate() {
        let at = format!("{at}.users[{index}]");
        if !names.insert(&users.name) {
            let what = format!("two kinds of users of one room are called {}: give each a name of its own", users.name);
            return Err(Problem::new(at, what));
        }
        check_users(users, &at, regions)?;
    }
    Ok(())
}

fn check_users(users: &Users, at: &str, regions: &[String]) -> Result<(), Problem> {
    if !users.sends() && !users.watches() {
        return Err(Problem::new(at, format!("the users {} send nothing and watch nothing", users.name)));
    }
    if let Some(region) = users.regions.iter().find(|region| !regions.contains(region)) {
        return Err(unknown_region(format!("{at}.regions"), region, regions));
    }
    if let Some(audio) = users.audio.as_ref().and_then(|audio| audio.file.as_deref()) {
        check_media(audio, &["ogg", "opus", "webm"], "Opus", &format!("{at}.audio.file"))?;
    }
    if let Some(data) = &users.data
        && data.delivery.max_retransmits.is_some()
        && data.delivery.max_packet_lifetime.is_some()
    {
        let what = "a data channel has either max_retransmits or max_packet_lifetime";
        return Err(Problem::new(format!("{at}.data.max_packet_lifetime"), what));
    }
    match &users.video {
        Some(video) => check_video(video, &format!("{at}.video")),
        None => Ok(()),
    }
}

fn check_video(video: &Video, at: &str) -> Result<(), Problem> {
    let encodings = video.encodings.len();
    if encodings > MAX_STREAMS {
        let message = format!("{encodings} encodings: allowed are {MAX_STREAMS}");
        return Err(Problem::new(format!("{at}.encodings"), message));
    }
    if encodings > 1 && video.file.is_some() {
        return Err(Problem::new(format!("{at}.encodings"), "a file has one encoding"));
    }
    if !video.encodings.is_sorted_by_key(|encoding| encoding.bitrate) {
        return Err(Problem::new(
            format!("{at}.encodings"),
            "the encodings are listed from the lowest bitrate to the highest",
        ));
    }
    let layers = video.encodings.iter().any(|encoding| encoding.temporal_layers > 1);
    let (extensions, codec): (&[&str], _) = match video.codec {
        VideoCodec::Vp8 => (&["ivf", "webm"], "VP8"),
        VideoCodec::Vp9 => (&[], "VP9"),
        VideoCodec::H264 => (&["ivf"], "H.264"),
        VideoCodec::H265 => (&["ivf"], "H.265"),
    };
    if let Some(mode) = video.scalability_mode
        && (video.codec != VideoCodec::Vp9 || encodings > 1 || layers || video.file.is_some())
    {
        let message = format!("{mode} is of synthetic VP9 in one encoding, without temporal_layers");
        return Err(Problem::new(format!("{at}.scalability_mode"), message));
    }
    if video.codec == VideoCodec::Vp9 && video.file.is_some() {
        return Err(Problem::new(format!("{at}.file"), "VP9 is not sent out of files"));
    }
    if layers && !matches!(video.codec, VideoCodec::Vp8 | VideoCodec::Vp9) {
        let message = format!("{codec} is sent in one temporal layer: allowed is 1");
        return Err(Problem::new(format!("{at}.temporal_layers"), message));
    }
    video.file.as_deref().map_or(Ok(()), |file| check_media(file, extensions, codec, &format!("{at}.file")))
}

fn check_media(file: &FilePath, extensions: &[&str], codec: &str, at: &str) -> Result<(), Problem> {
    let extension = file.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    if !extensions.contains(&extension.as_str()) {
        let allowed = extensions.join(" or .");
        return Err(Problem::new(at, format!("file = {file:?}: allowed is {codec} in a file that ends in .{allowed}")));
    }
    match file.is_file() {
        true => Ok(()),
        false => Err(Problem::new(at, format!("file = {file:?}: there is no such file"))),
    }
}

fn check_path(path: &Path, at: &str, scenario: &Scenario, regions: &[String]) -> Result<(), Problem> {
    check_ends(&path.from, &path.to, scenario, regions).map_err(|what| Problem::new(at, what))?;
    let by_tcp = scenario.rooms.iter().flat_map(|rooms| &rooms.users).find(|users| users.tcp);
    if (path.from.is_users() || path.to.is_users())
        && let Some(users) = by_tcp
    {
        let what = format!("users' paths cannot be impaired where media go by TCP, as those of {} do", users.name);
        return Err(Problem::new(at, what));
    }
    let mut before = None;
    for (index, step) in path.steps.iter().enumerate() {
        // The first is the path's own.
        let at = if index == 0 { at.to_owned() } else { format!("{at}.then[{}]", index - 1) };
        check_time(step.at, before, scenario, &at)?;
        before = Some(step.at);
    }
    Ok(())
}

fn check_ends(from: &PathEnd, to: &PathEnd, scenario: &Scenario, regions: &[String]) -> Result<(), String> {
    let named = [from, to].into_iter().filter_map(PathEnd::region);
    if let Some(region) = named.clone().find(|region| !regions.iter().any(|known| known == region)) {
        return Err(no_region(region, regions));
    }
    let is_same = from.region().is_some() && from.region() == to.region();
    match (from.is_users(), to.is_users()) {
        (true, true) => Err(format!("no path leads between {from} and {to}: users reach each other through nodes")),
        (false, false) if is_same => Err(format!("a path between {from} and {to} is within one region")),
        (false, false) if regions.len() < 2 => Err("a path between nodes needs at least two regions".to_owned()),
        (false, false) if !scenario.is_own_mesh() => {
            Err("paths between nodes can only be changed in a mesh that the run starts (dev)".to_owned())
        }
        (false, false) => Ok(()),
        _ if named.count() == 2 && !is_same => {
            Err(format!("no path leads between {from} and {to}: users connect to nodes of their own region"))
        }
        _ => Ok(()),
    }
}

fn check_faults(scenario: &Scenario, regions: &[String]) -> Result<(), Problem> {
    let mut stopped = HashSet::new();
    let mut cut = HashSet::new();
    let mut before = None;
    for (index, fault) in scenario.faults.iter().enumerate() {
        let at = format!("faults[{index}]");
        if !scenario.is_own_mesh() {
            return Err(Problem::new(at, "faults need a mesh that the run starts (dev), not one that runs already"));
        }
        // Several may happen at once.
        check_time(fault.at, before, scenario, &at)?;
        before = Some(fault.at);
        check_fault(fault, regions, &mut stopped, &mut cut).map_err(|what| Problem::new(at, what))?;
    }
    Ok(())
}

fn check_fault<'a>(
    fault: &'a Fault,
    regions: &[String],
    stopped: &mut HashSet<&'a str>,
    cut: &mut HashSet<[&'a str; 2]>,
) -> Result<(), String> {
    let known = |region: &str| match regions.iter().any(|known| known == region) {
        true => Ok(()),
        false => Err(no_region(region, regions)),
    };
    let link = |a: &'a String, b: &'a String| {
        known(a)?;
        known(b)?;
        match a.cmp(b) {
            std::cmp::Ordering::Less => Ok([a.as_str(), b.as_str()]),
            std::cmp::Ordering::Greater => Ok([b.as_str(), a.as_str()]),
            std::cmp::Ordering::Equal => Err(format!("a link from {a} to itself")),
        }
    };
    match &fault.action {
        FaultAction::Stop(region) => {
            known(region)?;
            stopped.insert(region).then_some(()).ok_or_else(|| format!("the node of {region} is stopped already"))
        }
        FaultAction::Start(region) => {
            known(region)?;
            stopped.remove(region.as_str()).then_some(()).ok_or_else(|| format!("the node of {region} is not stopped"))
        }
        FaultAction::Cut(a, b) => {
            cut.insert(link(a, b)?).then_some(()).ok_or_else(|| format!("the link of {a} and {b} is cut already"))
        }
        FaultAction::Heal(a, b) => {
            cut.remove(&link(a, b)?).then_some(()).ok_or_else(|| format!("the link of {a} and {b} is not cut"))
        }
    }
}

fn check_slo(scenario: &Scenario) -> Result<(), Problem> {
    let slo = &scenario.slo;
    let receives = |sends: fn(&Users) -> bool, watches: fn(&Users) -> bool| {
        scenario.rooms.iter().any(|rooms| {
            let senders: u32 = rooms.users.iter().filter(|users| sends(users)).map(|users| users.count).sum();
            let mut watchers = rooms.users.iter().filter(|users| watches(users));
            // Nobody receives their own.
            watchers.any(|users| senders > u32::from(sends(users) && users.count == 1))
        })
    };
    let video = receives(|users| users.video.is_some(), |users| users.watch_video != Watch::None);
    let audio = receives(|users| users.audio.is_some(), |users| users.watch_audio != Watch::None);
    let data = receives(|users| users.data.is_some(), |users| users.watch_data);
    let unmeasured = [
        ("freezes_per_hour", slo.freezes_per_hour.is_some() && !video, "receives video"),
        ("delay_p99", slo.delay_p99.is_some() && !video && !audio, "receives anything"),
        ("residual_loss", slo.residual_loss.is_some() && !video && !audio, "receives anything"),
        ("data_delay_p99", slo.data_delay_p99.is_some() && !data, "receives data"),
        ("data_loss", slo.data_loss.is_some() && !data, "receives data"),
        ("data_violations", slo.data_violations.is_some() && !data, "receives data"),
    ];
    match unmeasured.into_iter().find(|(_, is_unmeasured, _)| *is_unmeasured) {
        None => Ok(()),
        Some((key, _, what)) => {
            Err(Problem::new(format!("slo.{key}"), format!("{key} cannot be measured: nobody {what}")))
        }
    }
}

/// Something happens within the run, and not before what stands `before` it.
fn check_time(time: Duration, before: Option<Duration>, scenario: &Scenario, at: &str) -> Result<(), Problem> {
    let shown = humantime::format_duration(time);
    if before.is_some_and(|before| before > time) {
        return Err(Problem::new(format!("{at}.at"), format!("at = \"{shown}\": list what happens in order of time")));
    }
    if time >= scenario.end() {
        let end = humantime::format_duration(scenario.end());
        return Err(Problem::new(format!("{at}.at"), format!("at = \"{shown}\": the run ends after {end}")));
    }
    Ok(())
}

fn unknown_region(at: impl Into<String>, region: &str, regions: &[String]) -> Problem {
    Problem::new(at, no_region(region, regions))
}

fn no_region(region: &str, regions: &[String]) -> String {
    format!("the target has no region {region}, only {}", regions.join(", "))
}
