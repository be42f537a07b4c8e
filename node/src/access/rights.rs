//! What one peer may do, and for how long.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::time::Instant;

use super::namespaces::KeyDigest;
use super::token::{Claims, LEEWAY};
use super::{Grants, Namespace};
use crate::support::unix_ms;

/// Longer than any session.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What a peer may do, by its token or because its namespace is open.
#[derive(Debug, Clone)]
pub(crate) struct Rights {
    namespace: Arc<Namespace>,
    grants: Grants,
    token: Option<Token>,
}

/// What a token says of its bearer.
#[derive(Debug, Clone)]
struct Token {
    /// Of what it is signed with.
    key: KeyDigest,
    id: Option<String>,
    /// It says which peer it is of.
    names_peer: bool,
    name: Option<String>,
    metadata: Option<Map<String, Value>>,
    /// When it expires, its leeway included.
    until: Instant,
}

impl Rights {
    /// Of those who need no token.
    pub(super) fn open(namespace: Arc<Namespace>) -> Self {
        Self { namespace, grants: Grants::default(), token: None }
    }

    /// Of a token that was checked by a key.
    pub(super) fn of_token(namespace: Arc<Namespace>, key: KeyDigest, claims: Claims) -> Self {
        let Claims { sub, name, metadata, grants, exp, jti, .. } = claims;
        let remaining = exp.saturating_add(LEEWAY).saturating_mul(1000).saturating_sub(unix_ms());
        let until = Instant::now() + Duration::from_millis(remaining).min(LONGEST);
        let token = Token { key, id: jti, names_peer: sub.is_some(), name, metadata, until };
        Self { namespace, grants, token: Some(token) }
    }

    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        &self.namespace
    }

    pub(crate) fn grants(&self) -> &Grants {
        &self.grants
    }

    /// The same token with other grants.
    pub(crate) fn with_grants(&self, grants: Grants) -> Self {
        Self { grants, ..self.clone() }
    }

    /// Whether the tenant's server says who this is, so that no other secret has to.
    pub(crate) fn names_peer(&self) -> bool {
        self.token.as_ref().is_some_and(|token| token.names_peer)
    }

    /// The display name that the tenant's server gave.
    pub(crate) fn name(&self) -> Option<&str> {
        self.token.as_ref()?.name.as_deref()
    }

    /// What the tenant's server wants others to know of the peer.
    pub(crate) fn metadata(&self) -> Option<&Map<String, Value>> {
        self.token.as_ref()?.metadata.as_ref()
    }

    /// When the token expires, its leeway included; `None`: never.
    pub(crate) fn until(&self) -> Option<Instant> {
        Some(self.token.as_ref()?.until)
    }

    /// Why it is valid no longer, in words: it has expired, or the tenant's settings are others now.
    pub(crate) fn ended(&self) -> Option<&'static str> {
        if !self.namespace.is_served() {
            return Some("the namespace is not served here any more");
        }
        let Some(token) = &self.token else {
            return (!self.namespace.is_open()).then_some("the namespace is not open any more");
        };
        if token.until <= Instant::now() {
            return Some("the token has expired");
        }
        let is_known = self.namespace.has_key(&token.key);
        let is_revoked = token.id.as_deref().is_some_and(|id| self.namespace.is_revoked(id));
        (!is_known || is_revoked).then_some("the token was revoked")
    }
}
