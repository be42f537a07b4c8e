//! What can go wrong for a user, and how being one ends.

use std::time::Duration;

use super::RoomState;
use crate::driver::DriverError;
use crate::signalling::ProtooError;
use crate::signalling::ortc::OrtcError;
use crate::transport::{TransportError, TransportState};

/// Why a user could not do something.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Signalling refused or failed.
    #[error(transparent)]
    Signalling(#[from] ProtooError),
    /// Negotiation failed.
    #[error(transparent)]
    Ortc(#[from] OrtcError),
    /// A socket or transport failed.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The server's media port did not answer.
    #[error("no answer to connectivity checks")]
    Ice,
    /// The media port answered, but the handshake did not end well.
    #[error("the DTLS handshake failed: the transport is {0:?}")]
    Dtls(TransportState),
    /// The user joined without the transport that this needs.
    #[error("the user joined without a transport for this direction")]
    NoTransport,
    /// There is nothing to send.
    #[error("what is to be sent has no encoding")]
    NothingToSend,
    /// The server has no data channels.
    #[error("the server offers no data channels")]
    NoDataChannels,
    /// The server has no candidate that this client can reach.
    #[error("the server offers no UDP candidate with an IP address")]
    NoCandidate,
    /// The room was not as expected in time.
    #[error("waited {0:?} for {1}; the room is {2:?}")]
    Waited(Duration, String, Box<RoomState>),
}

impl UserError {
    /// What failed, in a word or two out of a small number of them: for counting failures by reason.
    pub fn step(&self) -> &'static str {
        match self {
            Self::Signalling(error) => error.step(),
            Self::Ortc(_) => "codecs",
            Self::Driver(DriverError::Transport(_)) | Self::NoCandidate => "transport parameters",
            Self::Driver(_) => "socket",
            Self::Ice => "ice",
            Self::Dtls(_) => "dtls",
            Self::NoTransport => "no transport",
            Self::NothingToSend => "nothing to send",
            Self::NoDataChannels => "no data channels",
            Self::Waited(..) => "room",
        }
    }
}

impl From<TransportError> for UserError {
    fn from(error: TransportError) -> Self {
        Self::Driver(error.into())
    }
}

/// What ended a user's session from without.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserEnd {
    /// The signalling connection ended, with the WebSocket close code if there was one.
    #[error("the server closed the connection{}", code(.0))]
    Closed(Option<u16>),
    /// The media port stopped answering (RFC 7675).
    #[error("the server's media port stopped answering")]
    Ice,
    /// The server closed a transport.
    #[error("the server closed a transport")]
    Transport,
}

fn code(code: &Option<u16>) -> String {
    code.map(|code| format!(" with code {code}")).unwrap_or_default()
}
