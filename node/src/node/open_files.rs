//! Open files: each connection is one, and a process that has none left can neither accept a connection nor close it
//! politely.

use rlimit::Resource;

use crate::config::NodeConfig;

/// Open files besides users' connections: UDP sockets and wake-ups of the workers, QUIC, operators, logs, two
/// connections with each other node, and TURN's sockets.
const OTHERS: u64 = 256;

/// Lets the process open as many files as it is allowed to. Shells give it 1,024 unless it asks for more.
pub(crate) fn raise_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// How many connections each of the users' ports takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Connections {
    /// To `users.listen`.
    pub(super) users: usize,
    /// To `media.listen`, over TCP.
    pub(super) media: usize,
}

/// As many connections as are wanted, or as there can be.
pub(super) fn connections(config: &NodeConfig) -> Connections {
    let media = if config.media.tcp { config.media.max_connections as usize } else { 0 };
    let wanted = Connections { users: config.users.max_connections as usize, media };
    let Ok((allowed, _)) = rlimit::getrlimit(Resource::NOFILE) else { return wanted };
    let possible = possible(wanted, allowed);
    if possible != wanted {
        let Connections { users, media } = wanted;
        let needed = (users + media) as u64 + OTHERS;
        tracing::warn!(
            "users.max_connections = {users} and media.max_connections = {media} need {needed} open files and the system allows \
             {allowed}: {} and {} connections are taken; raise its limit (LimitNOFILE, ulimit -n)",
            possible.users,
            possible.media,
        );
    }
    possible
}

/// Where even the others may not have what they need, users have half. Signalling comes first: without it there is no
/// use for media, of which most go by UDP. Media have a quarter.
fn possible(wanted: Connections, allowed: u64) -> Connections {
    let both = allowed.saturating_sub(OTHERS).max(allowed / 2).try_into().unwrap_or(usize::MAX);
    let media = wanted.media.min(both.saturating_sub(wanted.users).max(both / 4));
    Connections { users: wanted.users.min(both - media), media }
}

/// As many TURN allocations as are wanted, or as there can be, if each has so many sockets. Where files are few, users'
/// connections have most of them, and these are out of what is left for others.
pub(super) fn allocations(wanted: u32, sockets: usize) -> usize {
    let wanted = wanted as usize;
    let Ok((allowed, _)) = rlimit::getrlimit(Resource::NOFILE) else { return wanted };
    wanted.min(possible_allocations(allowed, sockets))
}

/// A sixteenth of all files, so that enough are left for everything else.
fn possible_allocations(allowed: u64, sockets: usize) -> usize {
    usize::try_from(allowed / 16).unwrap_or(usize::MAX) / sockets.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_left_for_everything_else() {
        let of = |wanted_users, wanted_media, allowed| {
            let possible = possible(Connections { users: wanted_users, media: wanted_media }, allowed);
            (possible.users, possible.media)
        };
        let all = 1_000_000;
        assert_eq!([256, 512, 1_024, 65_536].map(|allowed| of(all, 0, allowed).0), [128, 256, 768, 65_280]);
        assert_eq!([256, 1_024].map(|allowed| of(all, all, allowed)), [(96, 32), (576, 192)]);
        assert_eq!(of(100, all, 1_024), (100, 668));
        assert_eq!(of(all, 100, 1_024), (668, 100));
        assert_eq!(of(20_000, 20_000, 65_536), (20_000, 20_000));
        assert_eq!([256, 1_024, 65_536].map(|allowed| possible_allocations(allowed, 2)), [8, 32, 2_048]);
    }
}
