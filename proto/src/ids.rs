//! Identifiers: what the parts of the mesh call things when they talk to each other.
//!
//! Names that people or clients choose are bounded strings, checked where they enter; everything that a node makes is a
//! UUID. Inside a worker dense slot keys take their place.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Longest name, in bytes, that a namespace, room, peer, node, region or carrier may have.
///
/// Long enough for a UUID with a prefix or an e-mail address; short enough that ten thousand of them are no burden.
pub const MAX_NAME_LEN: usize = 128;

/// Why a string is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// The string is empty.
    #[error("is empty")]
    Empty,
    /// The string is longer than [`MAX_NAME_LEN`] bytes.
    #[error("has {0} bytes, at most {MAX_NAME_LEN} are allowed")]
    TooLong(usize),
    /// The string contains a character that is not plain ([`is_plain`]), or for node names one outside
    /// `[A-Za-z0-9._-]`.
    #[error("contains the character {0:?}, which is not allowed")]
    Character(char),
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $allowed:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a name.
            ///
            /// # Errors
            /// [`InvalidName`] when it is empty, too long or has a character that is not allowed.
            pub fn new(name: impl AsRef<str>) -> Result<Self, InvalidName> {
                let name = name.as_ref();
                check_name(name, $allowed)?;
                Ok(Self(name.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;
            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;
            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

fn check_name(name: &str, allowed: fn(char) -> bool) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if name.len() > MAX_NAME_LEN {
        return Err(InvalidName::TooLong(name.len()));
    }
    match name.chars().find(|&c| !allowed(c)) {
        Some(c) => Err(InvalidName::Character(c)),
        None => Ok(()),
    }
}

fn label(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn text(c: char) -> bool {
    is_plain(c)
}

/// Whether a character may stand in a name that people read, in a log or in a list: no control character, line or
/// paragraph separator, and none of those that turn the direction of what follows (Unicode's `Bidi_Control`).
pub fn is_plain(c: char) -> bool {
    let turns = matches!(c, '\u{061C}' | '\u{200E}' | '\u{200F}' | '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    !(c.is_control() || turns || matches!(c, '\u{2028}' | '\u{2029}'))
}

name!(
    /// A node of the mesh, as its operator named it. Part of its certificate: `URI:sluice:node/<id>`.
    NodeId,
    label
);
name!(
    /// A region such as `eu` or `us-east-1`.
    Region,
    label
);
name!(
    /// A tenant: rooms of two namespaces never meet.
    NamespaceId,
    label
);
name!(
    /// A room within its namespace, as the application named it.
    RoomId,
    text
);
name!(
    /// A participant within its room, as the application named it.
    PeerId,
    text
);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// Makes the identifier out of 16 random bytes; randomness is the caller's.
            pub const fn from_random_bytes(bytes: [u8; 16]) -> Self {
                Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
            }

            /// The identifier as it travels in pipe messages.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }

            /// The identifier out of a pipe message.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(id: &str) -> Result<Self, uuid::Error> {
                Uuid::from_str(id).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

uuid_id!(
    /// A router: a room's media on one worker.
    RouterId
);
uuid_id!(
    /// A WebRTC transport of one user.
    TransportId
);
uuid_id!(
    /// A source of audio or video. The same on every node of the mesh.
    ProducerId
);
uuid_id!(
    /// One user's reception of one producer.
    ConsumerId
);
uuid_id!(
    /// A source of data-channel messages. The same on every node of the mesh.
    DataProducerId
);

/// A room of a namespace: the unit that directory and rosters deal in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoomKey {
    /// The tenant.
    pub namespace: NamespaceId,
    /// The room within it.
    pub room: RoomId,
}

impl fmt::Display for RoomKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.room)
    }
}

/// One life of a node, from start to stop. What an earlier incarnation said is void once a newer one is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeInstance {
    /// The node.
    pub node: NodeId,
    /// Start time in milliseconds since the Unix epoch, at least the previous one + 1.
    pub incarnation: u64,
}

impl fmt::Display for NodeInstance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.node, self.incarnation)
    }
}

/// A producer's way into one node, allocated by that node because it indexes that node's route table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteId(pub u32);

/// Which use of a [`RouteId`] is meant: ids are used again, and a late packet of the former use must not be taken for
/// one of the present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RouteEpoch(pub u8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        assert_eq!(NodeId::new(""), Err(InvalidName::Empty));
        assert_eq!(NodeId::new("a b"), Err(InvalidName::Character(' ')));
        assert_eq!(RoomId::new("a\nb"), Err(InvalidName::Character('\n')));
        assert_eq!(PeerId::new("x".repeat(129)), Err(InvalidName::TooLong(129)));
        for turning in ['\u{202E}', '\u{2028}', '\u{2029}', '\u{200F}', '\u{2066}', '\u{85}'] {
            assert_eq!(PeerId::new(format!("a{turning}b")), Err(InvalidName::Character(turning)));
        }
        assert!(RoomId::new("عائلة 👩\u{200D}👧").is_ok(), "scripts and joined emoji stay");
        assert_eq!(RoomId::new("küche 1").unwrap().as_str(), "küche 1");
        assert!(serde_json::from_str::<NamespaceId>("\"a/b\"").is_err());
    }

    #[test]
    fn uuids_round_trip() {
        let id = ProducerId::from_random_bytes([7; 16]);
        assert_eq!(ProducerId::from_bytes(id.to_bytes()), id);
        assert_eq!(id.to_string().parse::<ProducerId>().unwrap(), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), format!("\"{id}\""));
    }
}
