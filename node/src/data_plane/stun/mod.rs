//! STUN.

/// The receiver's half of USERNAME.
pub(crate) fn local_ufrag(_data: &[u8]) -> Option<&str> {
    todo!()
}
