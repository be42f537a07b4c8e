//! Small things that rooms, pipes and the ports to them have in common.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sluice_proto::ids::is_plain;

/// Counts one more.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Locks; a panic elsewhere while the lock was held left whole entries, since every change under these locks is one
/// call.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since the Unix epoch.
#[allow(clippy::disallowed_methods, reason = "rooms live in real time")]
pub(crate) fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

/// Whole milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Replaces a file at once: whoever reads it, after a crash too, finds the former text or this one whole.
///
/// # Errors
/// The system's.
pub(crate) fn replace_file(path: &Path, text: &[u8]) -> io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(next, path)
}

/// A name that people read, without what may not stand in one.
pub(crate) fn plain(name: &str) -> String {
    name.chars().filter(|c| is_plain(*c)).collect()
}

/// Lower-case letters and digits, as ICE credentials and CNAMEs are made of.
pub(crate) fn random_text(len: usize) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijkmnopqrstuvwxyz0123456";
    (0..len).map(|_| char::from(ALPHABET[usize::from(rand::random::<u8>() % 32)])).collect()
}
