//! The two ends of a route: sequence numbers, repair, and the account of what was lost.

mod arrivals;
mod receiver;
mod sender;

pub use receiver::{Accept, RouteReceiver};
pub use sender::RouteSender;

/// How many packets back a route can be repaired: the sender remembers that many, the receiver asks for no older one.
///
/// 1,024 packets are over a second of a 10 Mbit/s video, and as many as one `Nack` may name.
pub const REPAIR_WINDOW: u16 = 1024;
