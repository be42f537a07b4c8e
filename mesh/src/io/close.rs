//! Why connections are closed, as the peer is told.

use std::borrow::Cow;

use quinn::{ApplicationClose, Connection, ConnectionError, VarInt};

use super::types::{LinkDownReason, Newer};

const STALE_INCARNATION: u32 = 3;
const LIMIT: u32 = 7;

/// The last word of the reason when a connection with the newer incarnation is up.
const ALIVE: &str = "alive";

/// Application error codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// The node stops.
    Shutdown,
    /// Another connection between the two nodes is kept.
    Duplicate,
    /// The certificate or hello is not what it should be.
    Identity,
    /// A newer incarnation of the peer is known, and whether there is a connection with it. Told to the peer, in the
    /// last two words of the reason, so that it can tell a twin from its own past.
    StaleIncarnation { known: u64, is_alive: bool },
    /// The link is not wanted any more.
    Disconnected,
    /// What was said could not be understood, or the rules were broken.
    Protocol,
    /// More connections wait than this end has come to use.
    Overflow,
    /// The node knows as many peers as it may.
    Limit,
    /// A task of this end has failed, without which the connection only looks alive.
    Broken,
}

impl CloseCode {
    fn code(self) -> VarInt {
        VarInt::from_u32(match self {
            Self::Shutdown => 0,
            Self::Duplicate => 1,
            Self::Identity => 2,
            Self::StaleIncarnation { .. } => STALE_INCARNATION,
            Self::Disconnected => 4,
            Self::Protocol => 5,
            Self::Overflow => 6,
            Self::Limit => LIMIT,
            Self::Broken => 8,
        })
    }

    fn words(self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Shutdown => "the node stops",
            Self::Duplicate => "another connection is kept",
            Self::Identity => "not who it should be",
            Self::StaleIncarnation { known, is_alive } => {
                let state = if is_alive { ALIVE } else { "gone" };
                return Cow::Owned(format!("a newer incarnation is known: {known} {state}"));
            }
            Self::Disconnected => "the link is not wanted",
            Self::Protocol => "protocol violation",
            Self::Overflow => "too many connections wait",
            Self::Limit => "too many peers",
            Self::Broken => "this end has failed",
        })
    }

    /// Closes a connection, unless it is closed: why it first was is what counts.
    pub(super) fn close(self, connection: &Connection) {
        if connection.close_reason().is_none() {
            connection.close(self.code(), self.words().as_bytes());
        }
    }

    pub(super) fn close_endpoint(self, endpoint: &quinn::Endpoint) {
        endpoint.close(self.code(), self.words().as_bytes());
    }

    /// Whether the peer closed the connection with this code.
    pub(super) fn is(self, error: &ConnectionError) -> bool {
        matches!(error, ConnectionError::ApplicationClosed(close) if close.error_code == self.code())
    }
}

/// What a peer that closed a connection knows of this node, if it closed it because this incarnation is an older one.
pub(super) fn newer_known(error: &ConnectionError) -> Option<Newer> {
    let ConnectionError::ApplicationClosed(close) = error else { return None };
    if close.error_code != VarInt::from_u32(STALE_INCARNATION) {
        return None;
    }
    let reason = std::str::from_utf8(&close.reason).ok()?;
    let (reason, state) = reason.rsplit_once(' ')?;
    let (_, incarnation) = reason.rsplit_once(' ')?;
    Some(Newer { incarnation: incarnation.parse().ok()?, is_alive: state == ALIVE })
}

pub(super) fn down_reason(error: &ConnectionError) -> LinkDownReason {
    match error {
        ConnectionError::TimedOut => LinkDownReason::TimedOut,
        ConnectionError::ApplicationClosed(ApplicationClose { reason, .. }) => {
            LinkDownReason::ClosedByPeer(String::from_utf8_lossy(reason).into_owned())
        }
        ConnectionError::LocallyClosed => LinkDownReason::ClosedHere,
        other => LinkDownReason::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_an_old_incarnation_names_the_newer() {
        for (known, is_alive) in [(1_700_000_000_000, true), (u64::MAX, false)] {
            let code = CloseCode::StaleIncarnation { known, is_alive };
            let reason = code.words().into_owned().into_bytes().into();
            let error = ConnectionError::ApplicationClosed(ApplicationClose { error_code: code.code(), reason });
            assert_eq!(newer_known(&error), Some(Newer { incarnation: known, is_alive }));
        }
    }

    #[test]
    fn other_reasons_name_nothing() {
        for (code, reason) in [(3, ""), (3, "a newer incarnation is known"), (3, "x alive"), (0, "known: 7 alive")] {
            let close = ApplicationClose { error_code: VarInt::from_u32(code), reason: reason.as_bytes().into() };
            assert_eq!(newer_known(&ConnectionError::ApplicationClosed(close)), None);
        }
    }
}
