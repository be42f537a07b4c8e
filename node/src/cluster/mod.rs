//! This node among the others: what joins it to mesh and placement, what it tells of itself, and by which clock.
//!
//! - [`wiring`]: the real workers, mesh and placement behind [`ports`](crate::ports); `gossip`: gossip over the mesh.
//! - [`clock`]: the clock by which sessions of one peer on several nodes are ordered.
//! - `facts`: what the node tells the others of itself; `links`: the pipes that it keeps up.
//! - `tenants`: whether the others know the same tenants.

pub(crate) mod clock;
pub(crate) mod facts;
pub(crate) mod gossip;
pub(crate) mod links;
pub(crate) mod tenants;
pub(crate) mod wiring;
