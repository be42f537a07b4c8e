//! Directory and rosters of one node, put together. Sans-IO: the driver (feature `io`) and the simulations feed it
//! alike.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use sluice_proto::ids::{NodeInstance, RoomKey};

use crate::directory::{Answer, Call, CallId, CallKind, LeaseKeeper, LeaseTable, RenewError, TableLimits};
use crate::owners::Ownership;
use crate::rosters::Rosters;

/// See the module. Whoever calls a method that changes something polls calls, holders' consequences and wakes until
/// there are none left.
#[derive(Debug)]
pub(crate) struct Core {
    me: NodeInstance,
    ownership: Ownership,
    table: LeaseTable,
    keeper: LeaseKeeper,
    pub(crate) rosters: Rosters,
}

impl Core {
    pub(crate) fn new(me: NodeInstance, lease: Duration, renew: Duration) -> Self {
        Self {
            ownership: Ownership::new(lease, me.clone()),
            table: LeaseTable::new(lease, TableLimits::default()),
            keeper: LeaseKeeper::new(lease, renew),
            rosters: Rosters::new(me.clone()),
            me,
        }
    }

    /// Who is there now, this node included or not.
    pub(crate) fn set_present(&mut self, now: Instant, mut present: BTreeSet<NodeInstance>) {
        present.insert(self.me.clone());
        let former: Vec<NodeInstance> = self.ownership.members().to_vec();
        if !self.ownership.set_members(now, present.iter().cloned().collect()) {
            return;
        }
        for gone in former.iter().filter(|instance| !present.contains(instance)) {
            self.table.node_gone(gone);
        }
        for instance in &present {
            self.table.see(instance);
        }
        self.keeper.owners_changed(now, &self.ownership);
        present.remove(&self.me);
        self.rosters.set_present(present);
        self.settle(now);
    }

    /// Enters a room. Returns whether this node was not in it before.
    pub(crate) fn enter(&mut self, now: Instant, room: &RoomKey, trace: Option<String>) -> bool {
        if !self.rosters.enter(room, trace) {
            return false;
        }
        self.keeper.enter(now, room, &self.ownership);
        true
    }

    /// Leaves a room.
    pub(crate) fn leave(&mut self, now: Instant, room: &RoomKey) {
        self.rosters.leave(room);
        self.keeper.leave(now, room);
    }

    /// The next call to another node. What this node owns itself is answered on the way.
    pub(crate) fn poll_call(&mut self, now: Instant) -> Option<Call> {
        loop {
            let call = self.keeper.poll_call(now, &self.ownership)?;
            if call.owner != self.me {
                return Some(call);
            }
            let answer = match call.kind {
                CallKind::Renew => self.table.renew(now, &self.me, &call.rooms).map_or(Answer::Failed, Answer::Done),
                CallKind::Release => {
                    self.table.release(&self.me, &call.rooms);
                    Answer::Done(Vec::new())
                }
            };
            self.handle_answer(now, call.id, answer);
        }
    }

    /// What came of a call.
    pub(crate) fn handle_answer(&mut self, now: Instant, call: CallId, answer: Answer) {
        self.keeper.handle_answer(now, call, answer);
        self.settle(now);
    }

    /// Another node takes or renews leases here.
    ///
    /// # Errors
    /// [`RenewError::Void`] when a newer incarnation of it is known.
    pub(crate) fn renew(
        &mut self,
        now: Instant,
        holder: &NodeInstance,
        rooms: &[RoomKey],
    ) -> Result<Vec<Vec<NodeInstance>>, RenewError> {
        self.rosters.see(holder).map_err(|void| RenewError::Void(void.0))?;
        self.table.renew(now, holder, rooms)
    }

    /// Another node gives leases up.
    pub(crate) fn release(&mut self, holder: &NodeInstance, rooms: &[RoomKey]) {
        self.table.release(holder, rooms);
    }

    /// Who holds leases on a room here.
    pub(crate) fn lookup(&self, now: Instant, room: &RoomKey) -> Vec<NodeInstance> {
        self.table.lookup(now, room)
    }

    /// The owners of a room, best first.
    pub(crate) fn owners(&self, room: &RoomKey) -> Vec<NodeInstance> {
        self.ownership.owners(room)
    }

    /// The leases kept for others.
    pub(crate) fn table(&self) -> &LeaseTable {
        &self.table
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_call`] has something to do.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        [self.keeper.poll_timeout(), self.table.poll_timeout()].into_iter().flatten().min()
    }

    /// Removes what ran out. Calls that are due come from [`Self::poll_call`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.table.handle_timeout(now);
    }

    /// Hands what the directory learned on to the rosters.
    fn settle(&mut self, now: Instant) {
        while let Some((room, holders)) = self.keeper.poll_holders(now) {
            self.rosters.set_holders(&room, &holders);
        }
    }
}
