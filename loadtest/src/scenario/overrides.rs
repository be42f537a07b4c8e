//! What flags say instead of a scenario's file.

use std::str::FromStr;
use std::time::Duration;

use sluice_mesh::wan::SpecError;
use toml::Value;

use super::check::MAX_USERS;
use super::places::Places;
use super::read::{
    AUDIO_BITRATES, DEFAULT_REGION, MAX_DEV_NODES, MAX_OPEN_EVERY, MAX_THREADS, VIDEO_BITRATES, name_nodes,
};
use super::value::{http_url, is_name, web_socket_url};
use super::{Path, PathEnd, PathStep, Rooms, Scenario, ScenarioError, Target, TargetNode};

/// Flags of the common case; what is `None` or empty stays as the file has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Overrides {
    /// `--users`: how many in all, see [`Scenario::scale`].
    pub users: Option<u32>,
    /// `--rooms`: how many, of a scenario with one kind of rooms.
    pub rooms: Option<u32>,
    /// `--duration`.
    pub duration: Option<Duration>,
    /// `--ramp`.
    pub ramp: Option<Duration>,
    /// `--seed`.
    pub seed: Option<u64>,
    /// `--target`: nodes that run already, instead of the scenario's target.
    pub targets: Vec<TargetNode>,
    /// `--dev`: a mesh that the run starts, instead of nodes that run already.
    pub dev: bool,
    /// `--nodes`: how many nodes that mesh has.
    pub nodes: Option<u16>,
    /// `--workers`: media workers of each of its nodes.
    pub workers: Option<u16>,
    /// `--video-bitrate`: of everybody who sends video, in bits per second.
    pub video_bitrate: Option<u32>,
    /// `--audio-bitrate`: of everybody who sends audio, in bits per second.
    pub audio_bitrate: Option<u32>,
    /// `--wan`: paths besides the scenario's; where both say something of one direction, these hold.
    pub wan: Vec<Path>,
    /// `--open-every`.
    pub open_every: Option<u32>,
    /// `--threads`.
    pub threads: Option<u16>,
}

impl Overrides {
    pub(super) fn apply(&self, scenario: &mut Scenario, places: &mut Places) -> Result<(), ScenarioError> {
        self.apply_target(scenario, places)?;
        self.apply_sizes(scenario)?;
        self.apply_times(scenario, places)?;
        let rooms = scenario.rooms.iter_mut();
        for users in rooms.flat_map(|rooms| &mut rooms.users) {
            if let (Some(bitrate), Some(audio)) = (self.audio_bitrate, &mut users.audio) {
                audio.bitrate = within("--audio-bitrate", bitrate, AUDIO_BITRATES)?;
            }
            for encoding in users.video.iter_mut().flat_map(|video| &mut video.encodings) {
                if let Some(bitrate) = self.video_bitrate {
                    encoding.bitrate = within("--video-bitrate", bitrate, VIDEO_BITRATES)?;
                }
            }
        }
        for path in &self.wan {
            places.set_flag(&format!("wan[{}]", scenario.wan.len()), "--wan");
            scenario.wan.push(path.clone());
        }
        if let Some(every) = self.open_every {
            scenario.generator.open_every = within("--open-every", every, 1..=MAX_OPEN_EVERY)?;
        }
        if let Some(threads) = self.threads {
            scenario.generator.threads = within("--threads", threads, 1..=MAX_THREADS)?;
        }
        Ok(())
    }

    fn apply_target(&self, scenario: &mut Scenario, places: &mut Places) -> Result<(), ScenarioError> {
        if !self.targets.is_empty() {
            let mut nodes = self.targets.clone();
            name_nodes(&mut nodes);
            scenario.target = Target::Nodes(nodes);
            places.set_flag("target", "--target");
        }
        if self.dev && !scenario.is_own_mesh() {
            if !self.targets.is_empty() {
                return Err(ScenarioError::new("--dev", "a target given by --target runs already"));
            }
            scenario.target = Target::default();
            places.set_flag("target", "--dev");
        }
        let Target::Dev { nodes, workers } = &mut scenario.target else {
            let flags = [("--nodes", self.nodes), ("--workers", self.workers)];
            return match flags.into_iter().find(|(_, count)| count.is_some()) {
                None => Ok(()),
                Some((flag, _)) => Err(ScenarioError::new(flag, "only of a mesh that the run starts (--dev)")),
            };
        };
        if let Some(count) = self.nodes {
            *nodes = within("--nodes", count, 1..=MAX_DEV_NODES)?;
        }
        if let Some(count) = self.workers {
            *workers = within("--workers", count, 0..=MAX_THREADS)?;
        }
        Ok(())
    }

    fn apply_sizes(&self, scenario: &mut Scenario) -> Result<(), ScenarioError> {
        if let Some(count) = self.rooms {
            let count = within("--rooms", count, 1..=MAX_USERS)?;
            match scenario.rooms.as_mut_slice() {
                [rooms] => rooms.count = count,
                _ => return Err(ScenarioError::new("--rooms", "the scenario has several kinds of rooms, or none")),
            }
        }
        match self.users {
            None => Ok(()),
            Some(users) => {
                let users = within("--users", users, 1..=MAX_USERS)?;
                let scaled = match (self.rooms, scenario.rooms.as_mut_slice()) {
                    (Some(_), [rooms]) => resize(rooms, users.div_ceil(rooms.count)),
                    _ => scenario.scale(users),
                };
                scaled.map_err(|what| ScenarioError::new("--users", &what))
            }
        }
    }

    fn apply_times(&self, scenario: &mut Scenario, places: &mut Places) -> Result<(), ScenarioError> {
        if let Some(duration) = self.duration {
            if duration.is_zero() {
                return Err(ScenarioError::new("--duration", "0s: allowed is a duration above 0"));
            }
            scenario.duration = duration;
            places.set_flag("duration", "--duration");
        }
        if let Some(ramp) = self.ramp {
            scenario.ramp = ramp;
            places.set_flag("ramp", "--ramp");
        }
        if let Some(seed) = self.seed {
            scenario.seed = seed;
            places.set_flag("seed", "--seed");
        }
        Ok(())
    }
}

impl Scenario {
    /// Changes the number of users to `users`. A scenario of several rooms gets more or fewer rooms of the same size,
    /// as many as it takes; a scenario of one room, or one that is left with less than a room, a room of that size, of
    /// which the largest kind of users is made smaller or larger.
    ///
    /// # Errors
    /// When the other kinds alone are too many.
    pub fn scale(&mut self, users: u32) -> Result<(), String> {
        let now = u64::from(self.users());
        let share = |count: u32| u64::from(count) * u64::from(users);
        match self.rooms.as_mut_slice() {
            [] => Err("the scenario has no rooms".to_owned()),
            [rooms] if rooms.count == 1 => resize(rooms, users),
            [rooms] if users < rooms.size() => {
                rooms.count = 1;
                resize(rooms, users)
            }
            several => {
                for rooms in several {
                    rooms.count = u32::try_from(share(rooms.count).div_ceil(now.max(1))).unwrap_or(u32::MAX).max(1);
                }
                Ok(())
            }
        }
    }
}

/// Makes the largest kind of users smaller or larger, until a room has `size` of them.
fn resize(rooms: &mut Rooms, size: u32) -> Result<(), String> {
    let now = rooms.size();
    let largest = rooms.users.iter_mut().max_by_key(|users| users.count).ok_or("the room has no users")?;
    let others = now - largest.count;
    match size.checked_sub(others) {
        Some(count @ 1..) => {
            largest.count = count;
            Ok(())
        }
        _ => Err(format!("{size} in a room: it has {others} besides the users {}", largest.name)),
    }
}

fn within<T>(flag: &str, number: T, range: std::ops::RangeInclusive<T>) -> Result<T, ScenarioError>
where
    T: PartialOrd + std::fmt::Display,
{
    match range.contains(&number) {
        true => Ok(number),
        false => {
            let what = format!("{number}: allowed is an integer from {} to {}", range.start(), range.end());
            Err(ScenarioError::new(flag, &what))
        }
    }
}

impl FromStr for TargetNode {
    type Err = String;

    /// `[REGION=]URL[,metrics=URL][,pid=N][,query=TEXT][,name=NAME][,insecure]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        let (region, url) = match first.split_once('=') {
            Some((region, url)) if is_name(region) => (region, url),
            _ => (DEFAULT_REGION, first),
        };
        let checked = |read: fn(&Value) -> Result<String, String>, text: &str| {
            read(&text.into()).map_err(|allowed| format!("{text:?}: allowed is {allowed}"))
        };
        let mut node = Self {
            name: String::new(),
            region: region.to_owned(),
            url: checked(web_socket_url, url)?,
            query: String::new(),
            metrics: None,
            pid: None,
            insecure: false,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("metrics", url)) => node.metrics = Some(checked(http_url, url)?),
                Some(("pid", pid)) => node.pid = Some(pid.parse().map_err(|_| format!("pid {pid:?} is no number"))?),
                Some(("query", query)) => node.query = query.to_owned(),
                Some(("name", name)) if is_name(name) => node.name = name.to_owned(),
                None if part == "insecure" => node.insecure = true,
                _ => {
                    return Err(format!(
                        "{part:?}: allowed are metrics=URL, pid=N, query=TEXT, name=NAME and insecure"
                    ));
                }
            }
        }
        Ok(node)
    }
}

impl FromStr for Path {
    type Err = String;

    /// `eu-us=80ms,1%` both ways, `eu>us=80ms,1%` one way. With dashes in their names: `eu-west<>us-east=80ms,1%`.
    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?}: allowed is A-B=PATH or A>B=PATH, such as eu-us=80ms,1% or users:eu>eu=20ms");
        let (ends, path) = text.split_once('=').ok_or_else(form)?;
        let (from, to, both) = match (ends.split_once("<>"), ends.split_once('>'), ends.split_once('-')) {
            (Some((from, to)), ..) => (from, to, true),
            (_, Some((from, to)), _) => (from, to, false),
            (.., Some((from, to))) if !to.contains('-') => (from, to, true),
            _ => return Err(form()),
        };
        let end = |end: &str| end.trim().parse::<PathEnd>().map_err(|()| form());
        let config = path.parse().map_err(|error: SpecError| error.to_string())?;
        Ok(Self { from: end(from)?, to: end(to)?, both, steps: vec![PathStep { at: Duration::ZERO, config }] })
    }
}
