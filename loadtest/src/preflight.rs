//! Whether this machine's limits let a run take place: open files, ports, socket buffers. Asked before the ramp, so
//! that no run ends half-way for want of a file descriptor.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;

use rlimit::Resource;
use tokio_tungstenite::tungstenite::http::Uri;

use crate::driver::RECEIVE_BUFFER;
use crate::plan::Plan;
use crate::scenario::{Scenario, Target};

/// Files besides those of users: the runtime's, logs and results, relays and children of a mesh that the run starts.
const SPARE_FILES: u64 = 256;
/// Sockets of a user towards a server that is not on loopback, besides the WebSocket: one to send and one to receive.
const MEDIA_SOCKETS: u64 = 2;

const PORT_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
const RMEM_MAX: &str = "/proc/sys/net/core/rmem_max";

/// Something that a run can do without, and that will probably be missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning(String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a run cannot take place here. Each says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Too few files may be open.
    #[error(
        "{users} users need {needed} open files, and this process may have {allowed}: raise the hard limit (`ulimit -Hn {needed}` as root), or use fewer users"
    )]
    OpenFiles {
        /// Users of the scenario.
        users: usize,
        /// What they need.
        needed: u64,
        /// The hard limit.
        allowed: u64,
    },
    /// There are too few local ports.
    #[error(
        "{what} need {needed} local ports, and there are {available}: widen them with \
         `sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, or use fewer users"
    )]
    Ports {
        /// Who needs them.
        what: String,
        /// How many.
        needed: u64,
        /// How many there are.
        available: u64,
    },
}

/// Raises what this process may raise itself, and checks that the rest is enough.
///
/// # Errors
/// [`LimitError`] when the run would fail half-way.
pub fn check(scenario: &Scenario) -> Result<Vec<Warning>, LimitError> {
    Limits::raise_and_read().check(&Needs::of(scenario))
}

/// What a scenario takes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Needs {
    users: usize,
    /// Users by the address that they connect to.
    by_destination: BTreeMap<String, u64>,
    /// Users whose media have sockets of their own.
    with_own_sockets: u64,
}

impl Needs {
    fn of(scenario: &Scenario) -> Self {
        let plan = Plan::new(scenario);
        let mut needs = Self { users: plan.users.len(), by_destination: BTreeMap::new(), with_own_sockets: 0 };
        for user in &plan.users {
            let (destination, is_loopback) = destination(scenario, user.node);
            *needs.by_destination.entry(destination).or_default() += 1;
            needs.with_own_sockets += u64::from(!is_loopback);
        }
        needs
    }

    fn files(&self) -> u64 {
        SPARE_FILES + self.users as u64 + self.media_sockets()
    }

    fn media_sockets(&self) -> u64 {
        self.with_own_sockets * MEDIA_SOCKETS
    }

    fn shares_a_socket(&self) -> bool {
        self.with_own_sockets < self.users as u64
    }
}

/// The address of a node, and whether its users share sockets, as those of a server on loopback do.
fn destination(scenario: &Scenario, node: usize) -> (String, bool) {
    match &scenario.target {
        Target::Dev { .. } => (format!("node {}", node + 1), true),
        Target::Nodes(nodes) => {
            let uri = nodes.get(node).and_then(|node| node.url.parse::<Uri>().ok()).unwrap_or_default();
            let host = uri.host().unwrap_or_default();
            let is_loopback = host == "localhost" || host.parse().is_ok_and(|ip: std::net::Ipv4Addr| ip.is_loopback());
            (uri.authority().map(ToString::to_string).unwrap_or_default(), is_loopback)
        }
    }
}

/// What this machine allows; `None` where it does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Limits {
    open_files: Option<u64>,
    ports: Option<RangeInclusive<u16>>,
    receive_buffer: Option<usize>,
}

impl Limits {
    fn raise_and_read() -> Self {
        // What cannot be raised is found out by reading it.
        let _ = rlimit::increase_nofile_limit(u64::MAX);
        let read = |path| std::fs::read_to_string(path).ok();
        Self {
            open_files: rlimit::getrlimit(Resource::NOFILE).ok().map(|(soft, _)| soft),
            ports: read(PORT_RANGE).and_then(|text| parse_range(&text)),
            receive_buffer: read(RMEM_MAX).and_then(|text| text.trim().parse().ok()),
        }
    }

    fn check(&self, needs: &Needs) -> Result<Vec<Warning>, LimitError> {
        let needed = needs.files();
        if let Some(allowed) = self.open_files.filter(|allowed| *allowed < needed) {
            return Err(LimitError::OpenFiles { users: needs.users, needed, allowed });
        }
        if let Some(ports) = &self.ports {
            check_ports(needs, ports.len() as u64)?;
        }
        let wanted = RECEIVE_BUFFER;
        let too_small = self.receive_buffer.filter(|buffer| *buffer < wanted && needs.shares_a_socket());
        let warning = |buffer| {
            Warning(format!(
                "all users share sockets whose buffer holds {buffer} bytes, and may lose packets at high rates: enlarge it with \
                 `sysctl -w net.core.rmem_max={wanted}`"
            ))
        };
        Ok(too_small.map(warning).into_iter().collect())
    }
}

/// A connection needs a port that no other one to the same address has; a UDP socket one that no other socket has.
fn check_ports(needs: &Needs, available: u64) -> Result<(), LimitError> {
    let connections = needs.by_destination.iter().map(|(to, users)| (format!("{users} users of {to}"), *users));
    let sockets = (format!("the media of {} users", needs.with_own_sockets), needs.media_sockets());
    match connections.chain([sockets]).find(|(_, needed)| *needed > available) {
        None => Ok(()),
        Some((what, needed)) => Err(LimitError::Ports { what, needed, available }),
    }
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut bounds = text.split_whitespace().map(|bound| bound.parse().ok());
    Some(bounds.next()??..=bounds.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Overrides, ScenarioFile};

    const PLENTY: Limits =
        Limits { open_files: Some(1_000_000), ports: Some(1024..=65_535), receive_buffer: Some(RECEIVE_BUFFER) };

    fn needs(users: u32, targets: &[&str]) -> Needs {
        let targets = targets.iter().map(|target| target.parse().unwrap()).collect();
        let overrides = Overrides { users: Some(users), targets, ..Default::default() };
        Needs::of(&ScenarioFile::open("audio-room").unwrap().with(&overrides).unwrap())
    }

    #[test]
    fn users_on_loopback_need_one_file_each_and_others_three() {
        assert_eq!(needs(1000, &[]).files(), SPARE_FILES + 1000);
        assert_eq!(needs(1000, &["ws://127.0.0.1:4443"]).files(), SPARE_FILES + 1000);
        assert_eq!(needs(1000, &["wss://localhost:4443/ws"]).files(), SPARE_FILES + 1000);
        assert_eq!(needs(1000, &["wss://sfu.example:4443"]).files(), SPARE_FILES + 3000);
        let mixed = needs(1000, &["eu=ws://127.0.0.1:1", "us=ws://192.0.2.1:2"]);
        assert_eq!(mixed.files(), SPARE_FILES + 2000);
        let expected = [("127.0.0.1:1".to_owned(), 500), ("192.0.2.1:2".to_owned(), 500)];
        assert_eq!(mixed.by_destination, BTreeMap::from(expected));
    }

    #[test]
    fn too_few_files_are_told_with_the_remedy() {
        let limits = Limits { open_files: Some(1024), ..PLENTY };
        assert_eq!(limits.check(&needs(768, &[])), Ok(Vec::new()));
        assert_eq!(
            limits.check(&needs(769, &[])).unwrap_err().to_string(),
            "769 users need 1025 open files, and this process may have 1024: raise the hard limit (`ulimit -Hn 1025` as root), or use fewer users"
        );
    }

    #[test]
    fn ports_are_counted_by_destination_and_those_of_media_all_together() {
        let limits = Limits { ports: Some(32_768..=60_999), ..PLENTY };
        let told = |users, targets: &[&str]| limits.check(&needs(users, targets)).map_err(|error| error.to_string());
        let remedy = "`sysctl -w net.ipv4.ip_local_port_range=\"1024 65535\"`, or use fewer users";
        assert_eq!(told(28_232, &[]), Ok(Vec::new()));
        assert_eq!(
            told(28_233, &[]),
            Err(format!("28233 users of node 1 need 28233 local ports, and there are 28232: widen them with {remedy}"))
        );
        assert_eq!(told(40_000, &["eu=ws://127.0.0.1:1", "us=ws://127.0.0.1:2"]), Ok(Vec::new()));
        assert_eq!(
            told(20_000, &["ws://192.0.2.1:1"]),
            Err(format!(
                "the media of 20000 users need 40000 local ports, and there are 28232: widen them with {remedy}"
            ))
        );
    }

    #[test]
    fn a_small_buffer_is_worth_a_warning_where_all_share_it() {
        let limits = Limits { receive_buffer: Some(212_992), ..PLENTY };
        let warnings = limits.check(&needs(20, &[])).unwrap();
        let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        assert_eq!(shown.len(), 1);
        assert!(shown[0].contains("212992 bytes") && shown[0].ends_with("rmem_max=8388608`"), "{shown:?}");
        assert_eq!(limits.check(&needs(20, &["ws://192.0.2.1:1"])), Ok(Vec::new()));
    }

    #[test]
    fn this_machine_tells_its_limits() {
        let limits = Limits::raise_and_read();
        let (soft, hard) = rlimit::getrlimit(Resource::NOFILE).unwrap();
        assert_eq!((limits.open_files, soft), (Some(soft), hard));
        assert!(limits.ports.is_some_and(|ports| !ports.is_empty()));
        assert_eq!(parse_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_range("32768"), None);
        let scenario = ScenarioFile::open("meeting").unwrap().with(&Overrides::default()).unwrap();
        assert!(check(&scenario).is_ok());
    }
}
