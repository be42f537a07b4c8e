//! Who may do what: tenants, the tokens that their servers sign, and what these grant. It knows no rooms.
//!
//! # Layout
//! - [`Namespaces`]: the tenants of a node, their keys, and how much of the node each takes.
//! - `revocations`: tokens that are revoked while the node runs.
//! - `token`: JSON web tokens, made and checked.
//! - `grants`: what a token allows; `rights`: what one peer may do, and for how long.

mod grants;
mod namespaces;
mod revocations;
mod rights;
pub(crate) mod token;

pub(crate) use grants::{Grants, Publish, source};
pub(crate) use namespaces::{Namespace, NamespaceOverview, Namespaces, OPEN, Place, Quota, RevokeError};
pub(crate) use rights::Rights;
