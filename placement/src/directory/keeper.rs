//! The holder's half of the directory: keeps this node's leases alive at the owners of its rooms, and learns from their
//! answers who else is there.
//!
//! Of one room and owner at most one call is under way, so that a release never overtakes a renewal.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use sluice_proto::ids::{NodeInstance, RoomKey};

use crate::owners::Ownership;

/// Rooms in one call: at most 70 KiB with the longest names, well below any message limit.
const MAX_ROOMS_PER_CALL: usize = 256;

/// Wait before an owner that failed is asked again: doubles from here up to the renewal interval.
const FIRST_RETRY: Duration = Duration::from_millis(100);

/// Names a [`Call`] so that its answer finds back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallId(u64);

/// What to ask of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    /// Take or renew the leases.
    Renew,
    /// Give them up.
    Release,
}

/// A call to be made. Exactly one [`Answer`] must come back for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) id: CallId,
    pub(crate) owner: NodeInstance,
    pub(crate) kind: CallKind,
    pub(crate) rooms: Vec<RoomKey>,
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The holders of each room of a renewal, in its order; empty for a release.
    Done(Vec<Vec<NodeInstance>>),
    /// The owner did not answer, or refused.
    Failed,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LeaseKeeper {
    renew: Duration,
    lease: Duration,
    rooms: FxHashMap<RoomKey, HeldRoom>,
    due: BTreeSet<(Instant, NodeInstance, RoomKey)>,
    calls: BTreeMap<CallId, Call>,
    next_call: u64,
    /// Rooms whose holders have to be looked at again.
    changed: BTreeSet<RoomKey>,
}

/// A room that is held, or that owners have still to be told is not.
#[derive(Debug, Default)]
struct HeldRoom {
    held: bool,
    owners: BTreeMap<NodeInstance, AtOwner>,
}

/// What is known of a room at one owner.
#[derive(Debug, Default)]
struct AtOwner {
    due: Option<Instant>,
    in_flight: bool,
    failures: u32,
    /// What it last said, and when that ceases to count.
    answer: Option<(Instant, Vec<NodeInstance>)>,
}

impl LeaseKeeper {
    pub(crate) fn new(lease: Duration, renew: Duration) -> Self {
        Self {
            renew,
            lease,
            rooms: FxHashMap::default(),
            due: BTreeSet::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            changed: BTreeSet::new(),
        }
    }

    /// Takes leases on a room.
    pub(crate) fn enter(&mut self, now: Instant, room: &RoomKey, ownership: &Ownership) {
        self.rooms.entry(room.clone()).or_default().held = true;
        self.ask_owners(now, room, ownership);
    }

    /// Gives the leases on a room up.
    pub(crate) fn leave(&mut self, now: Instant, room: &RoomKey) {
        let Some(held) = self.rooms.get_mut(room) else { return };
        held.held = false;
        for (owner, at) in &mut held.owners {
            if !at.in_flight {
                schedule(&mut self.due, owner, at, room, now);
            }
        }
        self.forget_if_done(room);
    }

    /// Members came or went: new owners are asked at once, the dead are forgotten.
    pub(crate) fn owners_changed(&mut self, now: Instant, ownership: &Ownership) {
        let rooms: Vec<RoomKey> = self.rooms.keys().cloned().collect();
        for room in rooms {
            if let Some(held) = self.rooms.get_mut(&room) {
                held.owners.retain(|owner, at| {
                    let stays = ownership.is_member(owner);
                    if !stays && let Some(due) = at.due {
                        self.due.remove(&(due, owner.clone(), room.clone()));
                    }
                    stays
                });
                if held.held {
                    self.ask_owners(now, &room, ownership);
                }
            }
            self.changed.insert(room.clone());
            self.forget_if_done(&room);
        }
    }

    /// The next call to make now. Rooms that are due at the same owner soon come along.
    pub(crate) fn poll_call(&mut self, now: Instant, ownership: &Ownership) -> Option<Call> {
        loop {
            let (at, owner, room) = self.due.first().filter(|(at, ..)| *at <= now)?.clone();
            self.due.remove(&(at, owner.clone(), room.clone()));
            let Some(kind) = self.take_due(now, &owner, &room, ownership) else { continue };
            let mut rooms = vec![room];
            let soon = now + self.renew / 4;
            let companions: Vec<_> = self
                .due
                .iter()
                .take_while(|(at, ..)| *at <= soon)
                .filter(|(_, other, room)| *other == owner && self.kind_of(room) == kind)
                .take(MAX_ROOMS_PER_CALL - 1)
                .cloned()
                .collect();
            for entry in companions {
                self.due.remove(&entry);
                if self.take_due(now, &owner, &entry.2, ownership).is_some() {
                    rooms.push(entry.2);
                }
            }
            let id = CallId(self.next_call);
            self.next_call += 1;
            let call = Call { id, owner, kind, rooms };
            self.calls.insert(id, call.clone());
            return Some(call);
        }
    }

    /// What came of a call. An answer to an unknown call is ignored.
    pub(crate) fn handle_answer(&mut self, now: Instant, call: CallId, answer: Answer) {
        let Some(call) = self.calls.remove(&call) else { return };
        let holders = match answer {
            Answer::Done(holders) if call.kind == CallKind::Release || holders.len() == call.rooms.len() => {
                Some(holders)
            }
            Answer::Done(_) | Answer::Failed => None,
        };
        for (index, room) in call.rooms.iter().enumerate() {
            let told = holders.as_ref().map(|holders| holders.get(index).cloned().unwrap_or_default());
            self.handle_room_answer(now, &call, room, told);
        }
    }

    /// A room whose holders may have changed, and who they are: everybody that an owner named within the last lease.
    /// `None` for the holders when the room is not held any more.
    pub(crate) fn poll_holders(&mut self, now: Instant) -> Option<(RoomKey, BTreeSet<NodeInstance>)> {
        loop {
            let room = self.changed.pop_first()?;
            let Some(held) = self.rooms.get(&room).filter(|held| held.held) else { continue };
            let answers = held.owners.values().filter_map(|at| at.answer.as_ref()).filter(|(until, _)| *until > now);
            let holders = answers.flat_map(|(_, holders)| holders.iter().cloned()).collect();
            return Some((room, holders));
        }
    }

    /// When [`Self::poll_call`] has the next call.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| *at)
    }

    fn handle_room_answer(&mut self, now: Instant, call: &Call, room: &RoomKey, told: Option<Vec<NodeInstance>>) {
        let Some(held) = self.rooms.get_mut(room) else { return };
        let Some(at) = held.owners.get_mut(&call.owner) else { return };
        at.in_flight = false;
        match (told, call.kind) {
            (Some(holders), CallKind::Renew) => {
                at.failures = 0;
                at.answer = Some((now + self.lease, holders));
                let next = if held.held { now + self.renew } else { now };
                schedule(&mut self.due, &call.owner, at, room, next);
                self.changed.insert(room.clone());
            }
            // Entered again meanwhile.
            (_, CallKind::Release) if held.held => schedule(&mut self.due, &call.owner, at, room, now),
            // A release that failed is not tried again: the lease runs out.
            (_, CallKind::Release) => drop(held.owners.remove(&call.owner)),
            (None, CallKind::Renew) if !held.held => drop(held.owners.remove(&call.owner)),
            (None, CallKind::Renew) => {
                let wait = FIRST_RETRY.saturating_mul(1 << at.failures.min(8)).min(self.renew);
                at.failures = at.failures.saturating_add(1);
                schedule(&mut self.due, &call.owner, at, room, now + wait);
                self.changed.insert(room.clone());
            }
        }
        self.forget_if_done(room);
    }

    /// Sees to it that everybody who is or was the room's owner within the last lease is asked.
    fn ask_owners(&mut self, now: Instant, room: &RoomKey, ownership: &Ownership) {
        let Some(held) = self.rooms.get_mut(room) else { return };
        for owner in ownership.old_and_new_owners(now, room) {
            let at = held.owners.entry(owner.clone()).or_default();
            // One that has answered is renewed in its time.
            if !at.in_flight && (at.answer.is_none() || at.due.is_none()) {
                schedule(&mut self.due, &owner, at, room, now);
            }
        }
    }

    /// Takes a due entry: what is to be said to this owner about this room now?
    fn take_due(
        &mut self,
        now: Instant,
        owner: &NodeInstance,
        room: &RoomKey,
        ownership: &Ownership,
    ) -> Option<CallKind> {
        let held = self.rooms.get_mut(room)?;
        let at = held.owners.get_mut(owner)?;
        at.due = None;
        if held.held && !ownership.old_and_new_owners(now, room).contains(owner) {
            // A former owner whom nobody asks any more: the lease there runs out.
            held.owners.remove(owner);
            return None;
        }
        at.in_flight = true;
        Some(if held.held { CallKind::Renew } else { CallKind::Release })
    }

    fn kind_of(&self, room: &RoomKey) -> CallKind {
        if self.rooms.get(room).is_some_and(|held| held.held) { CallKind::Renew } else { CallKind::Release }
    }

    fn forget_if_done(&mut self, room: &RoomKey) {
        if self.rooms.get(room).is_some_and(|held| !held.held && held.owners.is_empty()) {
            self.rooms.remove(room);
        }
    }
}

/// Sets the one time at which an owner is spoken to next about a room.
fn schedule(
    due: &mut BTreeSet<(Instant, NodeInstance, RoomKey)>,
    owner: &NodeInstance,
    at: &mut AtOwner,
    room: &RoomKey,
    when: Instant,
) {
    if let Some(former) = at.due.replace(when) {
        due.remove(&(former, owner.clone(), room.clone()));
    }
    due.insert((when, owner.clone(), room.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{instance, now, room};

    const LEASE: Duration = Duration::from_secs(6);
    const RENEW: Duration = Duration::from_secs(2);

    struct Bench {
        keeper: LeaseKeeper,
        ownership: Ownership,
        now: Instant,
    }

    impl Bench {
        fn new(members: &[&str]) -> Self {
            let now = now();
            let mut ownership = Ownership::new(LEASE, instance("me", 1));
            ownership.set_members(now, members.iter().map(|name| instance(name, 1)).collect());
            // The beginning is no former owner.
            Self { keeper: LeaseKeeper::new(LEASE, RENEW), ownership, now: now + LEASE }
        }

        fn calls(&mut self) -> Vec<Call> {
            std::iter::from_fn(|| self.keeper.poll_call(self.now, &self.ownership)).collect()
        }

        fn answer(&mut self, call: &Call, holders: &[NodeInstance]) {
            let holders = call.rooms.iter().map(|_| holders.to_vec()).collect();
            self.keeper.handle_answer(self.now, call.id, Answer::Done(holders));
        }

        fn set_members(&mut self, members: &[&str]) {
            self.ownership.set_members(self.now, members.iter().map(|name| instance(name, 1)).collect());
            self.keeper.owners_changed(self.now, &self.ownership);
        }
    }

    #[test]
    fn both_owners_are_asked_at_once_and_their_answers_united() {
        let mut bench = Bench::new(&["a", "b", "c"]);
        bench.keeper.enter(bench.now, &room("r"), &bench.ownership);
        let calls = bench.calls();
        let owners = bench.ownership.owners(&room("r"));
        assert!(calls.iter().all(|call| call.kind == CallKind::Renew && call.rooms == [room("r")]));
        assert_eq!(calls.iter().map(|call| &call.owner).collect::<BTreeSet<_>>(), owners.iter().collect());

        bench.answer(&calls[0], &[instance("x", 1)]);
        bench.answer(&calls[1], &[instance("y", 1)]);
        let (_, holders) = bench.keeper.poll_holders(bench.now).unwrap();
        assert_eq!(holders, BTreeSet::from([instance("x", 1), instance("y", 1)]));
        assert_eq!(bench.calls(), [], "renewed in its time");
        bench.now += RENEW;
        assert_eq!(bench.calls().len(), 2);
    }

    #[test]
    fn new_owners_are_asked_at_once_and_the_dead_forgotten() {
        let mut bench = Bench::new(&["a", "b"]);
        bench.keeper.enter(bench.now, &room("r"), &bench.ownership);
        for call in bench.calls() {
            bench.answer(&call, &[instance("x", 1)]);
        }
        bench.set_members(&["a", "c"]);
        let calls = bench.calls();
        assert_eq!(calls.iter().map(|call| &call.owner).collect::<Vec<_>>(), [&instance("c", 1)]);
        bench.now += RENEW;
        let due: Vec<_> = bench.calls().into_iter().map(|call| call.owner).collect();
        assert_eq!(due, [instance("a", 1)], "b is dead, c has not answered yet");
    }

    #[test]
    fn a_former_owner_is_asked_for_one_lease_and_then_no_more() {
        let mut bench = Bench::new(&["a", "b", "c", "d", "e", "f"]);
        let room = (0..).map(|i| room(&format!("r{i}"))).find(|room| {
            let owners = bench.ownership.owners(room);
            !owners.contains(&instance("a", 1)) && !owners.contains(&instance("b", 1))
        });
        let room = room.unwrap();
        bench.set_members(&["a", "b"]);
        bench.now += LEASE;
        bench.keeper.enter(bench.now, &room, &bench.ownership);
        bench.set_members(&["a", "b", "c", "d", "e", "f"]);
        let mut asked = Vec::new();
        for _ in 0..5 {
            let calls = bench.calls();
            calls.iter().for_each(|call| bench.answer(call, &[]));
            asked.push(calls.len());
            bench.now += RENEW;
        }
        assert_eq!(asked, [4, 4, 4, 2, 2]);
    }

    #[test]
    fn release_and_renewal_of_a_room_never_overtake_each_other() {
        let mut bench = Bench::new(&["a"]);
        bench.keeper.enter(bench.now, &room("r"), &bench.ownership);
        let renewal = bench.calls().remove(0);
        bench.keeper.leave(bench.now, &room("r"));
        assert_eq!(bench.calls(), [], "the renewal is still under way");
        bench.answer(&renewal, &[]);
        let release = bench.calls().remove(0);
        assert_eq!(release.kind, CallKind::Release);
        bench.keeper.enter(bench.now, &room("r"), &bench.ownership);
        assert_eq!(bench.calls(), [], "the release is still under way");
        bench.keeper.handle_answer(bench.now, release.id, Answer::Failed);
        assert_eq!(bench.calls().remove(0).kind, CallKind::Renew);
    }

    #[test]
    fn nothing_is_left_of_a_room_that_was_left() {
        let mut bench = Bench::new(&["a", "b"]);
        bench.keeper.enter(bench.now, &room("r"), &bench.ownership);
        for call in bench.calls() {
            bench.answer(&call, &[]);
        }
        bench.keeper.leave(bench.now, &room("r"));
        for call in bench.calls() {
            assert_eq!(call.kind, CallKind::Release);
            bench.answer(&call, &[]);
        }
        assert!(bench.keeper.rooms.is_empty() && bench.keeper.due.is_empty() && bench.keeper.calls.is_empty());
    }

    #[test]
    fn an_owner_that_fails_is_asked_again_soon_and_then_less_often() {
        let mut bench = Bench::new(&["a"]);
        bench.keeper.enter(bench.now, &room("r"), &bench.ownership);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let call = bench.calls().remove(0);
            bench.keeper.handle_answer(bench.now, call.id, Answer::Failed);
            let next = bench.keeper.poll_timeout().unwrap();
            waits.push((next - bench.now).as_millis());
            bench.now = next;
        }
        assert_eq!(waits, [100, 200, 400, 800, 1600, 2000, 2000]);
    }

    #[test]
    fn many_rooms_share_few_calls() {
        let mut bench = Bench::new(&["a"]);
        for i in 0..300 {
            bench.keeper.enter(bench.now, &room(&format!("r{i}")), &bench.ownership);
        }
        assert_eq!(bench.calls().iter().map(|call| call.rooms.len()).collect::<Vec<_>>(), [256, 44]);
    }
}
