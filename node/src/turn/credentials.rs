//! Who may allocate: sessions, each by a username and a password of its own, for as long as it lasts.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use md5::{Digest as _, Md5};
use sluice_media::wire::stun::IntegrityKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::protocol::REALM;
use crate::support::{lock, random_text};

/// Characters of a username and of a password: 120 and 160 bits.
const USERNAME_LEN: usize = 24;
const PASSWORD_LEN: usize = 32;

/// Allocations of one session at a time. Clients make one for each transport, and for each network that the device has;
/// when ICE is restarted new ones are made before the old ones end.
pub(super) const PER_SESSION: usize = 8;

/// The credentials of a node's sessions.
#[derive(Debug, Default)]
pub(super) struct Credentials {
    by_username: Mutex<HashMap<String, Arc<User>>>,
}

/// A session that has credentials.
#[derive(Debug)]
pub(super) struct User {
    pub(super) key: IntegrityKey,
    places: Arc<Semaphore>,
    /// The session has ended.
    pub(super) ended: CancellationToken,
}

impl User {
    /// A place among the session's allocations, if there is one.
    pub(super) fn place(&self) -> Option<OwnedSemaphorePermit> {
        self.places.clone().try_acquire_owned().ok()
    }
}

/// What a session got; dropping it ends its allocations, and nobody makes others.
#[derive(Debug)]
pub(crate) struct Issued {
    credentials: Arc<Credentials>,
    user: Arc<User>,
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Credentials {
    /// New ones.
    pub(super) fn issue(self: &Arc<Self>) -> Issued {
        let (username, password) = (random_text(USERNAME_LEN), random_text(PASSWORD_LEN));
        // RFC 8489 section 9.2.2.
        let key = IntegrityKey::of_digest(&Md5::digest(format!("{username}:{REALM}:{password}")));
        let user = User { key, places: Arc::new(Semaphore::new(PER_SESSION)), ended: CancellationToken::new() };
        let user = Arc::new(user);
        lock(&self.by_username).insert(username.clone(), user.clone());
        Issued { credentials: self.clone(), user, username, password }
    }

    /// The session that has this username.
    pub(super) fn user(&self, username: &str) -> Option<Arc<User>> {
        lock(&self.by_username).get(username).cloned()
    }
}

impl Drop for Issued {
    fn drop(&mut self) {
        lock(&self.credentials.by_username).remove(&self.username);
        self.user.ended.cancel();
    }
}
