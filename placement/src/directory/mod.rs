//! The directory: room -> nodes that have peers in it. Small, soft and leased.
//!
//! [`LeaseTable`] is the owner's half, [`LeaseKeeper`] the holder's. Both are sans-IO: time is an argument, calls come
//! out and answers go in.

mod keeper;
mod table;

pub(crate) use keeper::{Answer, Call, CallId, CallKind, LeaseKeeper};
pub(crate) use table::{LeaseTable, RenewError, TableLimits};
