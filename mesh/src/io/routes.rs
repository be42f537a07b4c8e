//! The route table: where arriving frames go. Read without locks, once per frame; written when routes come and go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use sluice_proto::ids::{RouteEpoch, RouteId};

use super::sink::FrameSink;

/// One use of a route id.
pub(super) struct Route {
    epoch: RouteEpoch,
    pub(super) sink: Arc<dyn FrameSink>,
}

/// Why a frame has no sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoRoute {
    /// The id is not in use.
    Unknown,
    /// It is in use, but another use is meant.
    Epoch,
}

/// The routes of a node.
pub(super) struct RouteTable {
    routes: Box<[ArcSwapOption<Route>]>,
    /// Ids that are not in use with the epoch of their next use, the longest unused first: so a late frame meets an
    /// unused id or, 256 uses later, a matching epoch.
    free: Mutex<VecDeque<(u32, u8)>>,
}

impl RouteTable {
    pub(super) fn new(capacity: u32) -> Self {
        Self {
            routes: (0..capacity).map(|_| ArcSwapOption::empty()).collect(),
            free: Mutex::new((0..capacity).map(|id| (id, 0)).collect()),
        }
    }

    pub(super) fn allocate(&self, sink: Arc<dyn FrameSink>) -> Option<(RouteId, RouteEpoch)> {
        let (id, epoch) = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        let epoch = RouteEpoch(epoch);
        self.routes.get(id as usize)?.store(Some(Arc::new(Route { epoch, sink })));
        Some((RouteId(id), epoch))
    }

    pub(super) fn release(&self, route: RouteId) {
        let Some(slot) = self.routes.get(route.0 as usize) else { return };
        if let Some(former) = slot.swap(None) {
            let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
            free.push_back((route.0, former.epoch.0.wrapping_add(1)));
        }
    }

    pub(super) fn get(&self, route: RouteId, epoch: RouteEpoch) -> Result<Arc<dyn FrameSink>, NoRoute> {
        let slot = self.routes.get(route.0 as usize).ok_or(NoRoute::Unknown)?.load();
        match slot.as_deref() {
            None => Err(NoRoute::Unknown),
            Some(entry) if entry.epoch == epoch => Ok(entry.sink.clone()),
            Some(_) => Err(NoRoute::Epoch),
        }
    }

    /// Routes in use.
    pub(super) fn len(&self) -> usize {
        self.routes.len() - self.free.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataMessage, Frame, LinkKey};

    struct Ignore;

    impl FrameSink for Ignore {
        fn deliver(&self, _link: LinkKey, frames: &mut Vec<Frame>) {
            frames.clear();
        }

        fn feedback(&self, _link: LinkKey, _feedback: sluice_proto::pipe::RouteFeedback) {}

        fn data(&self, _link: LinkKey, _message: DataMessage) {}
    }

    #[test]
    fn another_use_has_another_epoch() {
        let table = RouteTable::new(2);
        let sink: Arc<dyn FrameSink> = Arc::new(Ignore);
        let (a, epoch_a) = table.allocate(sink.clone()).unwrap();
        let (b, _) = table.allocate(sink.clone()).unwrap();
        assert_ne!(a, b);
        assert!(table.allocate(sink.clone()).is_none(), "the limit");
        table.release(a);
        table.release(a);
        assert_eq!(table.get(a, epoch_a).err(), Some(NoRoute::Unknown));
        let (again, epoch) = table.allocate(sink).unwrap();
        assert_eq!((again, epoch), (a, RouteEpoch(1)));
        assert_eq!(table.get(a, epoch_a).err(), Some(NoRoute::Epoch));
        assert!(table.get(a, epoch).is_ok());
        assert_eq!(table.len(), 2);
        assert_eq!(table.get(RouteId(u32::MAX), epoch).err(), Some(NoRoute::Unknown));
    }
}
