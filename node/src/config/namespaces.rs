//! `[namespaces.NAME]`: the tenants of a node. They are in the file alone, which is read again when it changes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};
use sluice_proto::ids::{NamespaceId, Region};

use super::load::Layers;
use super::settings::Settings;
use super::value::SettingValue;
use super::{ConfigError, Secret, Section, Sources};

/// What stands at the end of the sample file: there is no flag and no variable for it.
pub(super) const SAMPLE: &str = r#"
# Tenants, a table each. As soon as there is one, nobody enters without a token of one of its keys (`sluice token` makes
# one), and there are no other namespaces. Read again at SIGHUP and when the file changes: who has lost the right to be
# there is sent away. A node that was started without any has to be started again to have some, and one that was
# started with some to have none: a file that has lost them all is taken for a slip, and what was in use stays. The same
# on all nodes of a mesh: one that has none lets everybody into any room. Limits are of this node; 0: as much as the node
# allows.
# [namespaces.NAME]
#
# Whether people may enter without a token.
# open = false
#
# Rooms, peers and producers that there may be at a time, and peers that may come in a second.
# rooms = 0
# peers = 0
# producers = 0
# joins_per_second = 0
#
# Bits per second that its users may send to the node and receive from it, together, as /v1/usage counts bytes. It is
# measured every 2 s: above it nobody new comes in and nothing new is published; those inside keep what they have.
# bitrate = 0
#
# Changes of all peers in a second that others are told of, as limits.changes_per_minute counts them; at least 6.
# changes_per_second = 0
#
# MIME types that may be sent. Empty: all that the node knows.
# codecs = ["audio/opus", "video/VP8", "video/H264"]
#
# Regions whose nodes serve the namespace. Empty: all.
# regions = []
#
# Ids (jti) of tokens that are no longer valid.
# revoked = []
#
# Keys that tokens are signed with. HS256 has a secret of 32 characters or more, ES256 and EdDSA a public key (PEM).
# [[namespaces.NAME.keys]]
# id = "2026-11"
# algorithm = "HS256"
# secret = "at-least-32-characters-that-nobody-guesses"
#
# [[namespaces.NAME.keys]]
# id = "app-server"
# algorithm = "EdDSA"
# public_key_file = "/etc/sluice/app-server.pem"
"#;

/// Shortest secret of an HS256 key, RFC 7518 section 3.2: as long as the digest.
const MIN_HMAC_SECRET_LEN: usize = 32;

/// The tenants that a node knows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NamespacesConfig {
    /// The file that they are in.
    file: Option<PathBuf>,
    /// Without any every namespace is open.
    pub by_name: BTreeMap<NamespaceId, NamespaceConfig>,
}

/// A tenant: who may enter its rooms, and how much of the node they may take. A limit of 0 is none.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamespaceConfig {
    /// People may enter without a token.
    pub open: bool,
    /// What tokens are signed with.
    pub keys: Vec<KeyConfig>,
    /// Rooms that there may be at a time.
    pub rooms: u32,
    /// Peers that there may be at a time.
    pub peers: u32,
    /// Producers that there may be at a time.
    pub producers: u32,
    /// Peers that may come in a second.
    pub joins_per_second: u32,
    /// Bits per second of all that its users send and receive, above which nothing more is begun.
    pub bitrate: u64,
    /// Changes of all peers in a second that others are told of.
    pub changes_per_second: u32,
    /// MIME types that may be sent; empty: all.
    pub codecs: Vec<String>,
    /// Regions whose nodes serve it; empty: all.
    pub regions: Vec<Region>,
    /// Ids of tokens that are no longer valid.
    pub revoked: Vec<String>,
}

/// A key that tokens are signed with.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// `kid` of tokens.
    pub id: String,
    /// How it signs.
    pub algorithm: KeyAlgorithm,
    /// Of HS256.
    #[serde(default, deserialize_with = "secret")]
    pub secret: Option<Secret>,
    /// Of ES256 and EdDSA, PEM.
    #[serde(default)]
    pub public_key_file: Option<PathBuf>,
    /// What the file holds.
    #[serde(skip)]
    pub public_key: String,
}

/// How tokens are signed: `alg` of RFC 7518 section 3.1 and RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl NamespacesConfig {
    /// What the file says now.
    ///
    /// # Errors
    /// When it cannot be read, or says what is not allowed.
    pub fn read_again(&self) -> Result<Self, ConfigError> {
        let sources = Sources { file: self.file.clone(), ..Sources::default() };
        Self::read(&sources.merge()?)
    }
}

impl Settings for NamespacesConfig {
    /// No flags, no variables: see [`SAMPLE`].
    fn describe(_: &mut Vec<Section>) {}

    fn read(layers: &Layers) -> Result<Self, ConfigError> {
        let (file, mut by_name): (_, BTreeMap<NamespaceId, NamespaceConfig>) = layers.read_table("namespaces")?;
        for (name, namespace) in &mut by_name {
            namespace
                .check()
                .and_then(|()| namespace.load_keys())
                .map_err(|reason| ConfigError(format!("namespaces.{name}: {reason}")))?;
        }
        Ok(Self { file, by_name })
    }
}

impl NamespaceConfig {
    fn check(&self) -> Result<(), String> {
        if !self.open && self.keys.is_empty() {
            return Err("needs keys, or open = true: nobody could enter".to_owned());
        }
        if (1..6).contains(&self.changes_per_second) {
            return Err("changes_per_second is 0 or at least 6: a new producer counts as six changes".to_owned());
        }
        for (index, key) in self.keys.iter().enumerate() {
            key.check().map_err(|reason| format!("the key {:?} {reason}", key.id))?;
            if self.keys.iter().take(index).any(|other| other.id == key.id) {
                return Err(format!("two keys have the id {:?}", key.id));
            }
        }
        Ok(())
    }

    fn load_keys(&mut self) -> Result<(), String> {
        for key in &mut self.keys {
            let Some(path) = &key.public_key_file else { continue };
            let text = std::fs::read_to_string(path);
            key.public_key = text.map_err(|error| format!("the key {:?}: {}: {error}", key.id, path.display()))?;
        }
        Ok(())
    }
}

impl KeyConfig {
    fn check(&self) -> Result<(), String> {
        if self.id.is_empty() {
            return Err("needs an id".to_owned());
        }
        match (self.algorithm, &self.secret, &self.public_key_file) {
            (KeyAlgorithm::HS256, Some(secret), None) if secret.reveal().len() >= MIN_HMAC_SECRET_LEN => Ok(()),
            (KeyAlgorithm::HS256, Some(_), None) => {
                Err(format!("needs a secret of at least {MIN_HMAC_SECRET_LEN} characters"))
            }
            (KeyAlgorithm::HS256, ..) => Err("needs a secret and nothing else: its algorithm is HS256".to_owned()),
            (_, None, Some(_)) => Ok(()),
            (algorithm, ..) => Err(format!("needs public_key_file and nothing else: its algorithm is {algorithm:?}")),
        }
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let secret = Secret::parse(&text);
    secret.map(Some).ok_or_else(|| serde::de::Error::custom(format!("a secret is {}", Secret::ALLOWED)))
}
