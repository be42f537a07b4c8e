//! JSON web tokens (RFC 7519): by which a tenant's server says who may enter its rooms, and what they may do there.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use sluice_proto::ids::{NamespaceId, PeerId, Region};

use super::Grants;
use crate::config::KeyAlgorithm;
use crate::support::plain;

/// Longest token, in bytes. Servers and proxies take header lines of 8 KB.
const MAX_TOKEN_LEN: usize = 4096;

/// Longest metadata, in bytes as JSON; everybody in the room gets them.
const MAX_METADATA_LEN: usize = 2048;

/// Longest display name, in bytes; everybody in the room gets it.
const MAX_NAME_LEN: usize = 256;

/// How far the clocks of node and server may be apart, in seconds.
pub(crate) const LEEWAY: u64 = 30;

/// What a token says. Other claims mean nothing here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Claims {
    /// Of what tenant the room is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<NamespaceId>,
    /// The room, or a pattern in which `*` is any text. Without it: all rooms of the namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) room: Option<String>,
    /// Who it is: the peer's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sub: Option<PeerId>,
    /// The display name, instead of what the client says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// What others are told of the peer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) metadata: Option<Map<String, Value>>,
    /// Nodes of which region let it in; without it: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) region: Option<Region>,
    #[serde(default)]
    pub(crate) grants: Grants,
    /// Until when it is valid, in seconds since the Unix epoch.
    #[serde(deserialize_with = "numeric_date")]
    pub(crate) exp: u64,
    /// From when on.
    #[serde(default, deserialize_with = "optional_date", skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<u64>,
    /// When it was made.
    #[serde(default, deserialize_with = "optional_date", skip_serializing_if = "Option::is_none")]
    pub(crate) iat: Option<u64>,
    /// By which it can be revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) jti: Option<String>,
}

/// A time as RFC 7519 section 2 has it: its seconds may have a fraction.
fn numeric_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    f64::deserialize(deserializer).map(|seconds| seconds as u64)
}

fn optional_date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let seconds = Option::<f64>::deserialize(deserializer)?;
    Ok(seconds.map(|seconds| seconds as u64))
}

/// Why a token is not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    /// There is none, and one is needed.
    #[error("a token is needed: as `Authorization: Bearer`, or as `token` in the query")]
    Missing,
    #[error("the token has {0} bytes, at most {MAX_TOKEN_LEN} are allowed")]
    TooLong(usize),
    #[error("the token is no JSON web token: {0}")]
    Malformed(String),
    #[error("the token's header demands extensions (`crit`), and none are known here")]
    Critical,
    #[error("the token's key is not known")]
    UnknownKey,
    #[error("the token's algorithm is not its key's")]
    WrongAlgorithm,
    #[error("the token's signature is wrong")]
    WrongSignature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYetValid,
    #[error("the token was revoked")]
    Revoked,
    #[error("the token's claims are not understood: {0}")]
    Claims(String),
}

/// What a token says of itself before it is known whether that is true.
pub(super) struct Unverified {
    /// `kid`.
    pub(super) key: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) namespace: Option<NamespaceId>,
}

/// Reads what has to be known to check a token.
pub(super) fn peek(token: &str) -> Result<Unverified, TokenError> {
    #[derive(Deserialize)]
    struct Namespace {
        namespace: Option<NamespaceId>,
    }
    if token.len() > MAX_TOKEN_LEN {
        return Err(TokenError::TooLong(token.len()));
    }
    let unsure = jsonwebtoken::dangerous::insecure_decode::<Namespace>(token);
    let unsure = unsure.map_err(|error| TokenError::Malformed(error.to_string()))?;
    // RFC 7515 section 4.1.11.
    if unsure.header.crit.is_some() {
        return Err(TokenError::Critical);
    }
    Ok(Unverified { key: unsure.header.kid, algorithm: unsure.header.alg, namespace: unsure.claims.namespace })
}

/// Checks a token by the key that it names.
pub(super) fn verify(token: &str, algorithm: Algorithm, key: &DecodingKey) -> Result<Claims, TokenError> {
    use jsonwebtoken::errors::ErrorKind;
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.validate_aud = false;
    let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map(|token| token.claims);
    let claims = claims.map_err(|error| match error.kind() {
        ErrorKind::InvalidAlgorithm => TokenError::WrongAlgorithm,
        ErrorKind::InvalidSignature => TokenError::WrongSignature,
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::NotYetValid,
        ErrorKind::Json(error) => TokenError::Claims(error.to_string()),
        _ => TokenError::Claims(error.to_string()),
    })?;
    claims.check().map_err(TokenError::Claims)?;
    Ok(Claims { name: claims.name.as_deref().map(plain), ..claims })
}

/// Makes a token, signed by the key of this id.
///
/// # Errors
/// When it would not be taken, or the key cannot sign, in words.
pub(crate) fn sign(
    claims: &Claims,
    key_id: &str,
    algorithm: KeyAlgorithm,
    key: &EncodingKey,
) -> Result<String, String> {
    claims.check()?;
    let header = Header { kid: Some(key_id.to_owned()), ..Header::new(algorithm.into()) };
    let token = jsonwebtoken::encode(&header, claims, key).map_err(|error| error.to_string())?;
    match token.len() {
        len if len > MAX_TOKEN_LEN => Err(TokenError::TooLong(len).to_string()),
        _ => Ok(token),
    }
}

impl Claims {
    /// Whether they let into a room of this name.
    pub(crate) fn is_for_room(&self, room: &str) -> bool {
        self.room.as_deref().is_none_or(|pattern| matches(pattern, room))
    }

    fn check(&self) -> Result<(), String> {
        let metadata_len = self.metadata.as_ref().map_or(0, |object| Value::from(object.clone()).to_string().len());
        if metadata_len > MAX_METADATA_LEN {
            return Err(format!("metadata have {metadata_len} bytes, at most {MAX_METADATA_LEN} are allowed"));
        }
        match self.name.as_ref().map_or(0, String::len) {
            len if len > MAX_NAME_LEN => Err(format!("name has {len} bytes, at most {MAX_NAME_LEN} are allowed")),
            _ => Ok(()),
        }
    }
}

impl From<KeyAlgorithm> for Algorithm {
    fn from(algorithm: KeyAlgorithm) -> Self {
        match algorithm {
            KeyAlgorithm::HS256 => Self::HS256,
            KeyAlgorithm::ES256 => Self::ES256,
            KeyAlgorithm::EdDSA => Self::EdDSA,
        }
    }
}

/// Whether a text is what a pattern says, in which `*` is any text. It goes over both once.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(first) else { return false };
    let Some((middle, last)) = rest.rsplit_once('*') else { return text.ends_with(rest) };
    for part in middle.split('*') {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_any_text() {
        let cases = [
            ("standup", "standup", true),
            ("standup", "standups", false),
            ("*", "", true),
            ("team-*", "team-a", true),
            ("team-*", "a-team-a", false),
            ("*-eu", "a-eu", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "x", true),
            ("é*é", "éé", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }
}
