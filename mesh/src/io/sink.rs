//! Where frames go that arrive on a route.

use crate::Frame;

/// Takes the frames of the routes that were allocated for it.
pub trait FrameSink: Send + Sync {
    /// Frames of one link, in order of arrival, of any of the sink's routes. Takes them out of `frames`; must not block: what
    /// cannot be queued is dropped and counted by the sink.
    fn deliver(&self, link: u32, frames: &mut Vec<Frame>);
}
