//! The name of a link.

/// A link to another node. No other link of this node's life has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkKey(pub u32);
