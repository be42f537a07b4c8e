//! Who gets how much of what passes to one client: each of its videos has rungs, from the least that can be seen to the
//! best that is wanted, and goes as high as there is room for.
//!
//! First every video gets its lowest rung, those of higher priority before others; then they are raised in rounds, each
//! by as many rungs as its priority says. What a video has it keeps while there is room for about that; for more there
//! must be some to spare, so that it does not come and go.

use std::cmp::{Ordering, Reverse};

use sluice_proto::pipe::Layers;

/// Most rungs of a video: the temporal layers of its lowest stream, and the streams above.
pub(crate) const MAX_RUNGS: usize = 8;

/// A higher rung is taken where there is room for this much of it, in percent: encoders are not even.
const RAISE_PERCENT: u64 = 115;
/// And kept while there is room for this much: so is what is measured of them.
const KEEP_PERCENT: u64 = 90;

/// Something of a producer that can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rung {
    /// Up to these layers.
    pub layers: Layers,
    /// Bits per second.
    pub rate: u64,
}

/// The rungs of a video, the lowest first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ladder {
    rungs: [Rung; MAX_RUNGS],
    len: usize,
}

impl Ladder {
    /// Without a rung.
    pub(crate) const EMPTY: Self = Self { rungs: [Rung { layers: Layers::ALL, rate: 0 }; MAX_RUNGS], len: 0 };

    /// One more above the others; beyond [`MAX_RUNGS`] it takes the place of the highest.
    pub(crate) fn push(&mut self, rung: Rung) {
        self.len = (self.len + 1).min(MAX_RUNGS);
        if let Some(place) = self.rungs.get_mut(self.len - 1) {
            *place = rung;
        }
    }

    /// The lowest first.
    pub(crate) fn rungs(&self) -> &[Rung] {
        self.rungs.get(..self.len).unwrap_or_default()
    }
}

/// A video that is wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Demand {
    /// 1 to 255.
    pub priority: u8,
    /// What it can get.
    pub ladder: Ladder,
    /// Up to which layers it is sent; `None` if it is not, for want of room.
    pub current: Option<Layers>,
    /// How many rungs it gets.
    granted: usize,
}

impl Demand {
    /// Of a video with this state.
    pub(crate) fn new(priority: u8, ladder: Ladder, current: Option<Layers>) -> Self {
        Self { priority, ladder, current, granted: 0 }
    }

    /// What it gets, if anything.
    pub(crate) fn granted(&self) -> Option<Rung> {
        self.ladder.rungs().get(self.granted.checked_sub(1)?).copied()
    }

    /// What it is sent now, as far as that can be had.
    pub(crate) fn current_rate(&self) -> u64 {
        let rungs = self.ladder.rungs().iter();
        rungs.filter(|rung| self.has(rung)).map(|rung| rung.rate).next_back().unwrap_or_default()
    }

    /// Whether it gets more than it is sent now, or less.
    pub(crate) fn change(&self) -> Ordering {
        self.granted.cmp(&self.ladder.rungs().iter().filter(|rung| self.has(rung)).count())
    }

    /// Whether it has a rung, or one above.
    fn has(&self, rung: &Rung) -> bool {
        let order = |layers: Layers| (layers.spatial, layers.temporal);
        self.current.is_some_and(|current| order(rung.layers) <= order(current))
    }

    /// Room that must be there for so many rungs.
    fn room_for(&self, rungs: usize) -> u64 {
        let Some(rung) = rungs.checked_sub(1).and_then(|index| self.ladder.rungs().get(index)) else { return 0 };
        rung.rate * if self.has(rung) { KEEP_PERCENT } else { RAISE_PERCENT } / 100
    }
}

/// What all videos of a client come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// Bits per second that they get.
    pub granted: u64,
    /// That they would get without a limit.
    pub desired: u64,
    /// That must pass for the next of them to be raised, if any wants to be.
    pub next: Option<u64>,
}

/// Divides `room` bits per second among the demands, which it puts in order of priority; without a number all get what
/// they want. Nothing is raised above what it is unless `may_raise`.
pub(crate) fn allocate(
    demands: &mut [Demand],
    order: &mut Vec<usize>,
    room: Option<u64>,
    may_raise: bool,
) -> Allocation {
    order.clear();
    order.extend(0..demands.len());
    order.sort_by_key(|index| Reverse(demands.get(*index).map(|demand| demand.priority)));
    let (mut taken, mut next) = (0, None);
    for round in 0.. {
        let mut is_over = true;
        for index in &*order {
            let Some(demand) = demands.get_mut(*index) else { continue };
            let steps = if round == 0 { 1 } else { demand.priority.into() };
            for _ in 0..steps {
                match raise(demand, room.map(|room| room.saturating_sub(taken)), may_raise) {
                    Step::Raised(costs) => {
                        taken += costs;
                        is_over = false;
                    }
                    Step::Lacks(costs) => {
                        next.get_or_insert(taken + costs);
                        break;
                    }
                    Step::Top => break,
                }
            }
        }
        // Nobody goes higher in a round but the first, in which some may have nothing.
        if is_over && round > 0 {
            break;
        }
    }
    Allocation {
        granted: demands.iter().filter_map(Demand::granted).map(|rung| rung.rate).sum(),
        desired: demands.iter().filter_map(|demand| demand.ladder.rungs().last()).map(|rung| rung.rate).sum(),
        next,
    }
}

enum Step {
    /// It has one rung more, for which so much must be there.
    Raised(u64),
    /// It would take so much.
    Lacks(u64),
    /// There is no higher one.
    Top,
}

fn raise(demand: &mut Demand, left: Option<u64>, may_raise: bool) -> Step {
    let Some(rung) = demand.ladder.rungs().get(demand.granted) else { return Step::Top };
    let costs = demand.room_for(demand.granted + 1).saturating_sub(demand.room_for(demand.granted));
    if left.is_none_or(|left| costs <= left) && (may_raise || demand.has(rung)) {
        demand.granted += 1;
        Step::Raised(costs)
    } else {
        Step::Lacks(costs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers(spatial: u8) -> Layers {
        Layers { spatial, temporal: u8::MAX }
    }

    fn ladder(rates: &[u64]) -> Ladder {
        let mut ladder = Ladder::EMPTY;
        (0..).zip(rates).for_each(|(spatial, rate)| ladder.push(Rung { layers: layers(spatial), rate: *rate }));
        ladder
    }

    fn demand(priority: u8, current: Option<u8>) -> Demand {
        Demand::new(priority, ladder(&[150, 500, 2_000]), current.map(layers))
    }

    fn granted(demands: &mut [Demand], room: u64) -> Vec<u64> {
        allocate(demands, &mut Vec::new(), Some(room), true);
        demands.iter().map(|demand| demand.granted().map_or(0, |rung| rung.rate)).collect()
    }

    #[test]
    fn all_get_the_least_before_one_gets_more_and_then_in_rounds() {
        let three = || [demand(1, Some(2)), demand(1, Some(2)), demand(1, Some(2))];
        for (room, expected) in [
            (5_400, [2_000, 2_000, 2_000]),
            (5_399, [2_000, 2_000, 500]),
            (1_350, [500, 500, 500]),
            (1_000, [500, 150, 150]),
            (405, [150, 150, 150]),
            (404, [150, 150, 0]),
            (134, [0, 0, 0]),
        ] {
            assert_eq!(granted(&mut three(), room), expected, "{room}");
        }
    }

    #[test]
    fn priority_decides_who_is_first_and_how_fast() {
        let demands = || [demand(1, Some(2)), demand(2, Some(2)), demand(255, Some(2))];
        for (room, expected) in
            [(134, [0, 0, 0]), (135, [0, 0, 150]), (2_070, [150, 150, 2_000]), (3_735, [150, 2_000, 2_000])]
        {
            assert_eq!(granted(&mut demands(), room), expected, "{room}");
        }
    }

    #[test]
    fn what_there_is_is_kept_and_more_needs_some_to_spare() {
        for (current, room, expected) in [
            (Some(1), 2_299, 500),
            (Some(1), 2_300, 2_000),
            (Some(2), 1_800, 2_000),
            (Some(2), 1_799, 500),
            (Some(0), 574, 150),
            (Some(0), 575, 500),
            (None, 172, 150),
            (None, 171, 0),
        ] {
            assert_eq!(granted(&mut [demand(1, current)], room), [expected], "{current:?} {room}");
        }
        let mut demands = [demand(1, Some(1)), demand(1, None)];
        allocate(&mut demands, &mut Vec::new(), Some(10_000), false);
        assert_eq!(demands.map(|demand| demand.granted().map(|rung| rung.rate)), [Some(500), None]);
    }

    #[test]
    fn it_is_told_what_would_be_needed() {
        let mut demands = [demand(1, Some(0)), demand(1, Some(0))];
        let allocation = allocate(&mut demands, &mut Vec::new(), Some(700), true);
        assert_eq!(allocation, Allocation { granted: 300, desired: 4_000, next: Some(710) });
        for room in [Some(10_000), None] {
            let mut demands = [demand(1, Some(0)), demand(1, Some(0))];
            let allocation = allocate(&mut demands, &mut Vec::new(), room, true);
            assert_eq!(allocation, Allocation { granted: 4_000, desired: 4_000, next: None });
        }
    }

    #[test]
    fn a_ladder_has_an_end() {
        let mut long = ladder(&[1; MAX_RUNGS]);
        long.push(Rung { layers: layers(9), rate: 9 });
        assert_eq!((long.rungs().len(), long.rungs().last().map(|rung| rung.rate)), (MAX_RUNGS, Some(9)));
        assert_eq!(granted(&mut [Demand::new(1, Ladder::EMPTY, None)], 100), [0]);
    }
}
