//! Where frames go that arrive on a route, and what is said about it.

use sluice_proto::pipe::RouteFeedback;

use crate::{DataMessage, Frame, LinkKey};

/// One end of routes: of those that were allocated for it, and of those that were opened for it.
pub trait FrameSink: Send + Sync {
    /// Frames of one link, in order of arrival, of any of the sink's routes. Takes them out of `frames`; must not
    /// block: what cannot be queued is dropped and counted by the sink.
    fn deliver(&self, link: LinkKey, frames: &mut Vec<Frame>);

    /// What the other end of one of the sink's routes says. Must not block either: what cannot be queued is dropped and
    /// counted.
    fn feedback(&self, link: LinkKey, feedback: RouteFeedback);

    /// A message of one of the sink's routes of data, in order of each route while the link lives. Must not block
    /// either: what cannot be queued is dropped and counted, and the other end is asked for it by its number.
    fn data(&self, link: LinkKey, message: DataMessage);
}
