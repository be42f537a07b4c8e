//! A room as the control plane holds it: the handle that publishes, and the pump of events.

use std::sync::Arc;

use sluice_proto::ids::RoomKey;
use tokio::sync::{Notify, mpsc};

use super::driver::Shared;
use crate::rosters::{PartDelta, RosterEvent};

/// Events on their way to the reader. Few, because more wait as one difference per node.
const EVENTS: usize = 16;

/// This node's presence in a room; dropping it leaves the room and tells the others at once.
#[derive(Debug)]
pub struct RoomHandle {
    room: RoomKey,
    shared: Arc<Shared>,
}

impl RoomHandle {
    pub(super) fn new(shared: Arc<Shared>, room: RoomKey) -> Self {
        Self { room, shared }
    }

    /// The room.
    pub fn room(&self) -> &RoomKey {
        &self.room
    }

    /// Changes this node's part, at the cost of the change. The others are told; nothing is said of what is as it was.
    /// What is too large is cut: a peer of more than 4 MiB is told without its producers. Of more than 64 MiB
    /// altogether the audience becomes a number, then producers are left out. That is counted and logged.
    pub fn publish(&self, delta: PartDelta) {
        let cut = self.shared.step(|state, _| state.core.rosters.publish(&self.room, delta));
        if cut > 0 {
            self.shared.metrics.part_too_large();
            tracing::error!(room = %self.room, peers = cut, "this node's part of the room is too large to be told whole");
        }
    }
}

impl Drop for RoomHandle {
    fn drop(&mut self) {
        self.shared.step(|state, now| {
            state.core.leave(now, &self.room);
            // The reader finds that it is not its turn any more.
            if let Some(reader) = state.readers.remove(&self.room) {
                reader.notify_one();
            }
        });
    }
}

/// Begins to read a room's events. `reader` is registered for this stay in the room.
pub(super) fn spawn_reader(shared: &Arc<Shared>, room: RoomKey, reader: Arc<Notify>) -> mpsc::Receiver<RosterEvent> {
    let (events_tx, events) = mpsc::channel(EVENTS);
    let shared = Arc::clone(shared);
    let runtime = shared.runtime.clone();
    runtime.spawn(async move {
        let _vital = shared.vital();
        loop {
            let turn = shared.step(|state, _| {
                let ours = state.readers.get(&room).is_some_and(|current| Arc::ptr_eq(current, &reader));
                ours.then(|| state.core.rosters.poll_event(&room))
            });
            match turn {
                None => return,
                Some(Some(event)) => {
                    if events_tx.send(event).await.is_err() {
                        return;
                    }
                }
                Some(None) => reader.notified().await,
            }
        }
    });
    events
}
