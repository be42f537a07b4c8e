//! Why connections are closed, as the peer is told.

use quinn::{ApplicationClose, Connection, ConnectionError, VarInt};

use super::types::LinkDownReason;

/// Application error codes of `sluice/1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCode {
    /// The node stops.
    Shutdown,
    /// Another connection between the two nodes is kept.
    Duplicate,
    /// The certificate or hello is not what it should be.
    Identity,
    /// A newer incarnation of the peer is known.
    StaleIncarnation,
    /// The link is not wanted any more.
    Disconnected,
    /// What was said could not be understood, or the rules were broken.
    Protocol,
    /// More messages wait than the peer takes; both ends start over.
    Overflow,
    /// The node knows as many peers as it may.
    Limit,
}

impl CloseCode {
    fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }

    fn words(self) -> &'static str {
        match self {
            Self::Shutdown => "the node stops",
            Self::Duplicate => "another connection is kept",
            Self::Identity => "not who it should be",
            Self::StaleIncarnation => "a newer incarnation is known",
            Self::Disconnected => "the link is not wanted",
            Self::Protocol => "protocol violation",
            Self::Overflow => "too many messages wait",
            Self::Limit => "too many peers",
        }
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
