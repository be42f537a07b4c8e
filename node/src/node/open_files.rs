//! Open files: each connection is one, and a process that has none left can neither accept a connection nor close it
//! politely.

use rlimit::Resource;

/// Open files besides users' connections: sockets and wake-ups of the workers, QUIC, operators, logs, and two
/// connections with each other node.
const OTHERS: u64 = 256;

/// Lets the process open as many files as it is allowed to. Shells give it 1,024 unless it asks for more.
pub(crate) fn raise_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}

/// As many connections as are wanted, or as there can be.
pub(super) fn connections(wanted: u32) -> usize {
    let wanted = wanted as usize;
    let Ok((allowed, _)) = rlimit::getrlimit(Resource::NOFILE) else { return wanted };
    let possible = possible(allowed);
    if possible < wanted {
        let needed = wanted as u64 + OTHERS;
        tracing::warn!(
            "users.max_connections = {wanted} needs {needed} open files and the system allows {allowed}: {possible} connections are \
             taken; raise its limit (LimitNOFILE, ulimit -n)"
        );
    }
    wanted.min(possible)
}

/// Where even the others may not have what they need, users have half.
fn possible(allowed: u64) -> usize {
    allowed.saturating_sub(OTHERS).max(allowed / 2).try_into().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_files_are_left_for_everything_else() {
        assert_eq!([256, 512, 1_024, 65_536].map(possible), [128, 256, 768, 65_280]);
    }
}
