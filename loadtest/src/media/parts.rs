//! What packetizers of all codecs share: the place of a frame, and its parts.

/// Place of a frame among temporal layers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Layer {
    /// 0 is the base.
    pub(super) temporal: u8,
    /// Refers to the base layer only.
    pub(super) sync: bool,
    /// Refers to no frame before it.
    pub(super) key: bool,
}

/// So many parts of a frame, as equal as whole bytes allow.
pub(super) fn parts(frame: &[u8], count: usize) -> impl Iterator<Item = &[u8]> {
    let cut = move |index| frame.len() * index / count.max(1);
    (0..count).map(move |index| frame.get(cut(index)..cut(index + 1)).unwrap_or_default())
}
