//! Tokens that are revoked while the node runs, beside those of the settings. None is forgotten as long as somebody may
//! come with it.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::token::LEEWAY;

/// Tokens of one tenant, 16 bytes each: more than anybody revokes one by one.
pub(super) const MAX_REVOKED: usize = 100_000;

/// The revoked tokens of a tenant.
#[derive(Debug, Default)]
pub(super) struct Revocations {
    /// By the hash of its id, the second, since the Unix epoch, from which on a token is of no use to anybody. A token
    /// that has the hash of another would be refused with it.
    until: HashMap<u64, u64>,
}

impl Revocations {
    /// Revokes a token, for good unless it is known when it expires. False if there are as many as there may be.
    pub(super) fn add(&mut self, id: &str, expires: Option<u64>, now: u64) -> bool {
        let (token, until) = (hash(id), expires.map_or(u64::MAX, |at| at.saturating_add(LEEWAY)));
        if let Some(known) = self.until.get_mut(&token) {
            *known = until.max(*known);
            return true;
        }
        if self.until.len() >= MAX_REVOKED {
            self.until.retain(|_, until| *until >= now);
        }
        let has_room = self.until.len() < MAX_REVOKED;
        if has_room {
            self.until.insert(token, until);
        }
        has_room
    }

    pub(super) fn contains(&self, id: &str) -> bool {
        self.until.contains_key(&hash(id))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.until.is_empty()
    }
}

fn hash(id: &str) -> u64 {
    xxh3_64(id.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_revoked_stays_so_until_it_has_expired() {
        let mut revocations = Revocations::default();
        assert!(revocations.add("for good", None, 0));
        assert!(revocations.add("for long", Some(50), 0));
        assert!(revocations.add("for longer", Some(50), 0));
        assert!(revocations.add("for longer", Some(2_000), 0) && revocations.add("for longer", Some(60), 0));
        for number in 3..MAX_REVOKED {
            assert!(revocations.add(&format!("{number}"), Some(1_000), 0), "{number}");
        }
        assert!(!revocations.add("one more", None, 50 + LEEWAY), "rather than forgetting another");
        assert!(revocations.add("for long", None, 0), "it is one of them");
        assert!(!revocations.add("one more", None, 1_000 + LEEWAY));
        assert!(revocations.add("one more", None, 1_001 + LEEWAY));
        for id in ["for good", "for long", "for longer", "one more"] {
            assert!(revocations.contains(id), "{id}");
        }
        assert!(!revocations.contains("3") && !revocations.contains("never seen"));
    }
}
