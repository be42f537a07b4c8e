//! The tenants of a node: their keys, and how much of the node each takes.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{SHA256, digest};
use jsonwebtoken::DecodingKey;
use serde::Serialize;
use sluice_media::rate_limit::RateLimit;
use sluice_proto::ids::{NamespaceId, Region};
use tokio::time::Instant;
use utoipa::ToSchema;
use xxhash_rust::xxh3::xxh3_64;

use super::Rights;
use super::revocations::{MAX_REVOKED, Revocations};
use super::token::{self, Claims, TokenError};
use crate::config::{KeyAlgorithm, KeyConfig, NamespaceConfig, NamespacesConfig};
use crate::events::usage::{NamespaceUsage, NodeUsage};
use crate::support::{lock, millis, unix_ms};

const SECOND: Duration = Duration::from_secs(1);

/// The namespace of those who name none.
const DEFAULT: &str = "default";

/// What a node without tenants says of them: whoever reaches it enters any room.
pub(crate) const OPEN: &str = "open";

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NamespacesError {
    /// A key is none of its algorithm.
    #[error("namespaces.{namespace}: the key {key:?} is no public key of its algorithm: {error}")]
    Key { namespace: NamespaceId, key: String, error: jsonwebtoken::errors::Error },
    /// Who is inside of a node where everything is open has shown nothing.
    #[error("a node that was started without namespaces has to be started again to have some")]
    Open,
    /// That is how a file looks that was lost, or is being written.
    #[error(
        "the file has no namespaces any more; a node that had some has to be started again to be open to everybody"
    )]
    Gone,
}

/// Why a token is not revoked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RevokeError {
    #[error("there is no namespace {0}")]
    Unknown(NamespaceId),
    #[error(
        "{MAX_REVOKED} tokens of the namespace are revoked that may not have expired: list this one as `revoked` in \
         the file, or take another key"
    )]
    Full,
}

/// The tenants of a node.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// Of the node.
    region: Region,
    /// Every namespace is open, and what is counted of one is counted of all.
    everything: Option<Arc<Namespace>>,
    by_name: Mutex<HashMap<NamespaceId, Arc<Namespace>>>,
}

/// A tenant.
#[derive(Debug)]
pub(crate) struct Namespace {
    policy: ArcSwap<Policy>,
    rooms: AtomicU32,
    peers: AtomicU32,
    producers: AtomicU32,
    joins: Mutex<Rate>,
    changes: Mutex<Rate>,
    traffic: Mutex<Traffic>,
    revoked: Mutex<Revocations>,
}

/// A tenant as operators see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NamespaceOverview {
    #[schema(value_type = String)]
    namespace: NamespaceId,
    /// People may enter without a token.
    open: bool,
    /// Ids of the keys that its tokens are signed with.
    keys: Vec<String>,
    rooms: Occupancy,
    peers: Occupancy,
    producers: Occupancy,
    /// In bits per second; measured only where somebody has a limit.
    bitrate: Occupancy,
    /// 0: any number.
    joins_per_second: u32,
    changes_per_second: u32,
}

/// How many there are on this node, and how many there may be; 0: any number.
#[derive(Debug, Serialize, ToSchema)]
struct Occupancy {
    now: u64,
    limit: u64,
}

/// What tells a key from others, and nothing of it.
pub(super) type KeyDigest = Arc<[u8]>;

/// What a tenant's settings say.
#[derive(Debug, Default)]
struct Policy {
    config: NamespaceConfig,
    /// Nodes of this region serve it.
    is_served: bool,
    keys: HashMap<String, Key>,
    revoked: BTreeSet<String>,
}

#[derive(Clone)]
struct Key {
    algorithm: KeyAlgorithm,
    key: DecodingKey,
    /// By which it is known from another one, of the same id or with the same secret.
    digest: KeyDigest,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key({:?})", self.algorithm)
    }
}

/// How often something may happen in a second.
#[derive(Debug, Default)]
struct Rate {
    per_second: u32,
    limit: Option<RateLimit>,
}

impl Rate {
    fn allow(&mut self, count: u32, per_second: u32) -> bool {
        if self.per_second != per_second {
            *self = Self { per_second, limit: RateLimit::per(per_second, SECOND) };
        }
        self.limit.as_mut().is_none_or(|limit| limit.allow_many(count, Instant::now().into_std()))
    }
}

/// What a tenant's users send and receive.
#[derive(Debug, Default)]
struct Traffic {
    /// When it was counted last, and how many bytes there were until then.
    counted: Option<(Instant, u64)>,
    /// Between the last two counts.
    bits_per_second: u64,
}

impl Traffic {
    fn count(&mut self, bytes: u64) {
        let now = Instant::now();
        if let Some((at, before)) = self.counted.replace((now, bytes)) {
            let millis = millis(now.saturating_duration_since(at)).max(1);
            self.bits_per_second = bytes.saturating_sub(before).saturating_mul(8 * 1_000) / millis;
        }
    }
}

/// What a tenant has a limited number of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    Room,
    Peer,
    Producer,
}

/// One of what a tenant has a limited number of; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Place {
    namespace: Arc<Namespace>,
    quota: Quota,
}

impl Namespaces {
    /// The tenants that the settings name, on a node of this region. Without any, all are open.
    ///
    /// # Errors
    /// When a key cannot be used.
    pub(crate) fn new(config: &NamespacesConfig, region: Region) -> Result<Self, NamespacesError> {
        let everything = config.by_name.is_empty().then(|| {
            let config = NamespaceConfig { open: true, ..NamespaceConfig::default() };
            Arc::new(Namespace::new(Policy { config, is_served: true, ..Policy::default() }))
        });
        let namespaces = Self { region, everything, by_name: Mutex::default() };
        namespaces.set(config)?;
        Ok(namespaces)
    }

    /// Takes other settings for tenants. One that they no longer name lets nobody in and has no valid tokens.
    ///
    /// # Errors
    /// When they cannot be used: nothing has changed then.
    pub(crate) fn set(&self, config: &NamespacesConfig) -> Result<(), NamespacesError> {
        if self.everything.is_some() && !config.by_name.is_empty() {
            return Err(NamespacesError::Open);
        }
        if self.everything.is_none() && config.by_name.is_empty() {
            return Err(NamespacesError::Gone);
        }
        let policies = config.by_name.iter().map(|(name, config)| Ok((name, Policy::new(name, config, &self.region)?)));
        let policies = policies.collect::<Result<Vec<_>, NamespacesError>>()?;
        let mut by_name = lock(&self.by_name);
        by_name.retain(|name, namespace| {
            let is_kept = config.by_name.contains_key(name);
            if !is_kept {
                namespace.policy.store(Arc::default());
            }
            // What is revoked is so still when the settings name it again.
            is_kept || !lock(&namespace.revoked).is_empty()
        });
        for (name, policy) in policies {
            match by_name.get(name) {
                Some(namespace) => namespace.policy.store(Arc::new(policy)),
                None => drop(by_name.insert(name.clone(), Arc::new(Namespace::new(policy)))),
            }
        }
        Ok(())
    }

    /// Revokes a token by its id until the node ends, or until it has expired if it is known when that is.
    ///
    /// # Errors
    /// When it cannot be remembered.
    pub(crate) fn revoke(&self, name: &NamespaceId, token: &str, expires: Option<u64>) -> Result<(), RevokeError> {
        let namespace = lock(&self.by_name).get(name).filter(|namespace| namespace.is_known()).cloned();
        let namespace = namespace.ok_or_else(|| RevokeError::Unknown(name.clone()))?;
        let is_remembered = lock(&namespace.revoked).add(token, expires, unix_ms() / 1_000);
        is_remembered.then_some(()).ok_or(RevokeError::Full)
    }

    /// What tells nodes with these tenants from nodes with others: [`OPEN`], or a digest of their names and of which
    /// are open.
    pub(crate) fn digest(&self) -> String {
        if self.everything.is_some() {
            return OPEN.to_owned();
        }
        let by_name = lock(&self.by_name);
        let known = by_name.iter().filter(|(_, namespace)| namespace.is_known());
        let mut names: Vec<_> = known.map(|(name, namespace)| format!("{name} {}\n", namespace.is_open())).collect();
        names.sort_unstable();
        format!("{:016x}", xxh3_64(names.concat().as_bytes()))
    }

    /// Whether it has to be known how much traffic any tenant has.
    pub(crate) fn limit_traffic(&self) -> bool {
        lock(&self.by_name).values().any(|namespace| namespace.policy.load().config.bitrate > 0)
    }

    /// What tenants have used until now. Their traffic in a second is taken from one call to the next; those for whom
    /// there is no account are not told from each other, and have no limit.
    pub(crate) fn note_traffic(&self, used: &NodeUsage) {
        let by_name = lock(&self.by_name);
        for NamespaceUsage { namespace, bytes_received, bytes_sent, .. } in &used.namespaces {
            if let Some(namespace) = namespace.as_ref().and_then(|name| by_name.get(name)) {
                lock(&namespace.traffic).count(bytes_received + bytes_sent);
            }
        }
    }

    /// Where the node stands.
    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    /// The tenants by name.
    pub(crate) fn overview(&self) -> Vec<NamespaceOverview> {
        let by_name = lock(&self.by_name);
        let known = by_name.iter().filter(|(_, namespace)| namespace.is_known());
        let mut overview: Vec<_> = known.map(|(name, namespace)| namespace.overview(name.clone())).collect();
        overview.sort_by(|a, b| a.namespace.cmp(&b.namespace));
        overview
    }

    /// Who comes with this token, or without one, to a namespace that is named or that the token names. An unknown
    /// namespace is refused as a known one is, so that nobody learns which there are.
    pub(crate) fn authenticate(
        &self,
        named: Option<NamespaceId>,
        token: Option<&str>,
    ) -> Result<(NamespaceId, Rights, Option<Claims>), TokenError> {
        // Where everything is open a token says nothing: nobody could tell whether it is true.
        let token = token.filter(|_| self.everything.is_none());
        let unverified = token.map(token::peek).transpose()?;
        let named = named.or_else(|| unverified.as_ref()?.namespace.clone());
        let name = named.unwrap_or_else(default_name);
        let namespace = match &self.everything {
            Some(everything) => Some(everything.clone()),
            None => lock(&self.by_name).get(&name).cloned(),
        };
        let (Some(token), Some(unverified)) = (token, unverified) else {
            let open = namespace.filter(|namespace| namespace.is_open()).ok_or(TokenError::Missing)?;
            return Ok((name, Rights::open(open), None));
        };
        if unverified.namespace.is_some_and(|of_token| of_token != name) {
            return Err(TokenError::UnknownKey);
        }
        let namespace = namespace.ok_or(TokenError::UnknownKey)?;
        let policy = namespace.policy.load_full();
        let key = policy.key(unverified.key.as_deref()).ok_or(TokenError::UnknownKey)?;
        if unverified.algorithm != key.algorithm.into() {
            return Err(TokenError::WrongAlgorithm);
        }
        let claims = token::verify(token, key.algorithm.into(), &key.key)?;
        if claims.jti.as_ref().is_some_and(|id| namespace.is_revoked(id)) {
            return Err(TokenError::Revoked);
        }
        Ok((name, Rights::of_token(namespace, key.digest.clone(), claims.clone()), Some(claims)))
    }
}

fn default_name() -> NamespaceId {
    NamespaceId::new(DEFAULT).expect("a valid name")
}

impl Policy {
    fn new(name: &NamespaceId, config: &NamespaceConfig, region: &Region) -> Result<Self, NamespacesError> {
        let keys = config.keys.iter().map(|key| Ok((key.id.clone(), Key::load(name, key)?)));
        let keys = keys.collect::<Result<_, NamespacesError>>()?;
        let is_served = config.regions.is_empty() || config.regions.contains(region);
        Ok(Self { is_served, keys, revoked: config.revoked.iter().cloned().collect(), config: config.clone() })
    }

    /// A token that names no key is of the only one.
    fn key(&self, id: Option<&str>) -> Option<&Key> {
        match id {
            Some(id) => self.keys.get(id),
            None => self.keys.values().next().filter(|_| self.keys.len() == 1),
        }
    }
}

impl Key {
    fn load(namespace: &NamespaceId, config: &KeyConfig) -> Result<Self, NamespacesError> {
        let KeyConfig { id, algorithm, secret, public_key, .. } = config;
        let key = match algorithm {
            KeyAlgorithm::HS256 => {
                let secret = secret.as_ref().map(|secret| secret.reveal()).unwrap_or_default();
                Ok(DecodingKey::from_secret(secret.as_bytes()))
            }
            KeyAlgorithm::ES256 => DecodingKey::from_ec_pem(public_key.as_bytes()),
            KeyAlgorithm::EdDSA => DecodingKey::from_ed_pem(public_key.as_bytes()),
        };
        let key = key.map_err(|error| NamespacesError::Key { namespace: namespace.clone(), key: id.clone(), error })?;
        let text = secret.as_ref().map_or(public_key.as_str(), |secret| secret.reveal());
        let digest = digest(&SHA256, format!("{id}\n{text}").as_bytes()).as_ref().into();
        Ok(Self { algorithm: *algorithm, key, digest })
    }
}

impl Namespace {
    fn new(policy: Policy) -> Self {
        Self {
            policy: ArcSwap::from_pointee(policy),
            rooms: AtomicU32::new(0),
            peers: AtomicU32::new(0),
            producers: AtomicU32::new(0),
            joins: Mutex::default(),
            changes: Mutex::default(),
            traffic: Mutex::default(),
            revoked: Mutex::default(),
        }
    }

    /// Whether anybody may enter: the settings name it.
    fn is_known(&self) -> bool {
        let policy = self.policy.load();
        policy.config.open || !policy.keys.is_empty()
    }

    /// Whether people may enter without a token.
    pub(super) fn is_open(&self) -> bool {
        self.policy.load().config.open
    }

    pub(super) fn has_key(&self, digest: &KeyDigest) -> bool {
        self.policy.load().keys.values().any(|key| key.digest == *digest)
    }

    pub(super) fn is_revoked(&self, token: &str) -> bool {
        self.policy.load().revoked.contains(token) || lock(&self.revoked).contains(token)
    }

    fn overview(&self, namespace: NamespaceId) -> NamespaceOverview {
        let policy = self.policy.load();
        let NamespaceConfig { open, rooms, peers, producers, bitrate, joins_per_second, changes_per_second, .. } =
            policy.config;
        let usage = |quota, limit: u32| Occupancy {
            now: self.counter(quota).load(Ordering::Relaxed).into(),
            limit: limit.into(),
        };
        NamespaceOverview {
            namespace,
            open,
            keys: policy.config.keys.iter().map(|key| key.id.clone()).collect(),
            rooms: usage(Quota::Room, rooms),
            peers: usage(Quota::Peer, peers),
            producers: usage(Quota::Producer, producers),
            bitrate: Occupancy { now: lock(&self.traffic).bits_per_second, limit: bitrate },
            joins_per_second,
            changes_per_second,
        }
    }

    /// Whether nodes of this region serve it.
    pub(crate) fn is_served(&self) -> bool {
        self.policy.load().is_served
    }

    /// The MIME types that may be sent; empty: all.
    pub(crate) fn codecs(&self) -> Vec<String> {
        self.policy.load().config.codecs.clone()
    }

    /// A place for another peer.
    ///
    /// # Errors
    /// When there is none, or too many come at once; in words.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Place, &'static str> {
        let per_second = self.policy.load().config.joins_per_second;
        if !lock(&self.joins).allow(1, per_second) {
            return Err("too many come into the namespace at once");
        }
        self.take(Quota::Peer)
    }

    /// Whether so much may change now that everybody in a room is told of.
    pub(crate) fn allow_changes(&self, count: u32) -> bool {
        let per_second = self.policy.load().config.changes_per_second;
        lock(&self.changes).allow(count, per_second)
    }

    /// One more of something.
    ///
    /// # Errors
    /// When the tenant has all that it may, in words.
    pub(crate) fn take(self: &Arc<Self>, quota: Quota) -> Result<Place, &'static str> {
        let policy = self.policy.load();
        let NamespaceConfig { rooms, peers, producers, bitrate, .. } = policy.config;
        if bitrate > 0 && lock(&self.traffic).bits_per_second > bitrate {
            return Err("the namespace sends and receives more than it may: try again later");
        }
        let (limit, words) = match quota {
            Quota::Room => (rooms, "the namespace has all the rooms that it may"),
            Quota::Peer => (peers, "the namespace has all the peers that it may"),
            Quota::Producer => (producers, "the namespace has all the producers that it may"),
        };
        let one_more = |taken: u32| (limit == 0 || taken < limit).then_some(taken + 1);
        let taken = self.counter(quota).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map(|_| Place { namespace: self.clone(), quota }).map_err(|_| words)
    }

    fn counter(&self, quota: Quota) -> &AtomicU32 {
        match quota {
            Quota::Room => &self.rooms,
            Quota::Peer => &self.peers,
            Quota::Producer => &self.producers,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.namespace.counter(self.quota).fetch_sub(1, Ordering::Relaxed);
    }
}
