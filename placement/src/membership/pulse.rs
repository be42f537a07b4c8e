//! Whether a node lives: the judge's rules for one node, on nothing but times.

use std::time::Duration;

use tokio::time::Instant;

use crate::members::MemberState;

/// How much silence means what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// A node that is silent for this long is suspected, which only means that its door is knocked at.
    pub(super) suspect_after: Duration,
    /// A suspect that is silent for this long is dead.
    pub(super) dead_after: Duration,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Pulse {
    heartbeat: u64,
    /// What arrived from it on the connection that this node has with it, if there is one.
    arrived: Option<u64>,
    heard_at: Instant,
    refused: bool,
    state: Option<(MemberState, Instant)>,
}

/// What the judge has to know besides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hints {
    /// The failure detector has heard enough heartbeats to take it for living.
    pub(super) is_live: bool,
    /// All its facts are here.
    pub(super) is_complete: bool,
    /// It said goodbye.
    pub(super) is_leaving: bool,
}

impl Pulse {
    pub(super) fn new(now: Instant, heartbeat: u64) -> Self {
        Self { heartbeat, arrived: None, heard_at: now, refused: false, state: None }
    }

    /// A heartbeat as gossip tells it, from whomever.
    pub(super) fn note_heartbeat(&mut self, now: Instant, heartbeat: u64) {
        if heartbeat != self.heartbeat {
            self.heartbeat = heartbeat;
            self.heard(now);
        }
    }

    /// How much arrived from it directly. A connection that is alive is evidence of life.
    pub(super) fn note_arrived(&mut self, now: Instant, arrived: Option<u64>) {
        if arrived.is_some() && arrived != self.arrived {
            self.heard(now);
        }
        self.arrived = arrived;
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        self.refused = false;
    }

    /// Its machine said that nobody is there, to a question of the given time.
    pub(super) fn note_refused(&mut self, asked: Instant) {
        self.refused |= self.heard_at <= asked;
    }

    /// This node itself did not listen for a while: that much silence was not the other's.
    pub(super) fn forgive(&mut self, now: Instant, missed: Duration) {
        self.heard_at = (self.heard_at + missed).min(now);
    }

    pub(super) fn state(&self) -> Option<(MemberState, Instant)> {
        self.state
    }

    pub(super) fn judge(&mut self, now: Instant, hints: Hints, patience: Patience) {
        let silent = now.duration_since(self.heard_at);
        let state = match self.state {
            None if hints.is_live && hints.is_complete && !hints.is_leaving => MemberState::Live,
            None => return,
            Some(_) if hints.is_leaving => MemberState::Dead,
            Some((MemberState::Dead, since)) if !hints.is_live || self.heard_at <= since => MemberState::Dead,
            Some(_) if self.refused || silent >= patience.dead_after => MemberState::Dead,
            Some(_) if silent >= patience.suspect_after => MemberState::Suspect,
            Some(_) => MemberState::Live,
        };
        if self.state.is_none_or(|(was, _)| was != state) {
            self.state = Some((state, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience { suspect_after: Duration::from_secs(1), dead_after: Duration::from_secs(5) };
    const WELL: Hints = Hints { is_live: true, is_complete: true, is_leaving: false };
    const LATE: Hints = Hints { is_live: false, ..WELL };

    /// A node that was heard a moment ago, and that moment.
    fn living() -> (Pulse, Instant) {
        let now = Instant::now();
        let mut pulse = Pulse::new(now, 1);
        pulse.judge(now, WELL, PATIENCE);
        (pulse, now)
    }

    fn after(pulse: &mut Pulse, now: Instant, hints: Hints) -> MemberState {
        pulse.judge(now, hints, PATIENCE);
        pulse.state().unwrap().0
    }

    #[test]
    fn silence_is_suspicion_after_one_second_and_death_after_five() {
        let (mut pulse, start) = living();
        let at = |ms| start + Duration::from_millis(ms);
        assert_eq!(after(&mut pulse, at(999), LATE), MemberState::Live, "the failure detector alone decides nothing");
        assert_eq!(after(&mut pulse, at(1_000), LATE), MemberState::Suspect);
        assert_eq!(after(&mut pulse, at(4_999), LATE), MemberState::Suspect);
        assert_eq!(after(&mut pulse, at(5_000), LATE), MemberState::Dead);
        pulse.note_heartbeat(at(6_000), 2);
        assert_eq!(after(&mut pulse, at(6_000), LATE), MemberState::Dead, "one heartbeat may be an old one");
        assert_eq!(after(&mut pulse, at(6_200), WELL), MemberState::Live);
    }

    #[test]
    fn a_living_connection_is_evidence_of_life() {
        let (mut pulse, start) = living();
        for second in 1..60 {
            let now = start + Duration::from_secs(second);
            pulse.note_arrived(now, Some(second));
            assert_eq!(after(&mut pulse, now, LATE), MemberState::Live);
        }
        // The connection is there, but nothing arrives on it.
        let now = start + Duration::from_secs(64);
        pulse.note_arrived(now, Some(59));
        assert_eq!(after(&mut pulse, now, LATE), MemberState::Dead);
    }

    #[test]
    fn a_node_whose_machine_refuses_is_dead_at_once() {
        let (mut pulse, start) = living();
        let asked = start + Duration::from_secs(1);
        pulse.note_refused(asked);
        assert_eq!(after(&mut pulse, asked, WELL), MemberState::Dead);
        assert_eq!(after(&mut pulse, asked, WELL), MemberState::Dead, "the failure detector has not noticed yet");
    }

    #[test]
    fn a_refusal_is_void_when_the_node_was_heard_after_the_question() {
        let (mut pulse, start) = living();
        let asked = start + Duration::from_secs(1);
        pulse.note_heartbeat(asked + Duration::from_millis(1), 2);
        pulse.note_refused(asked);
        assert_eq!(after(&mut pulse, asked + Duration::from_millis(2), WELL), MemberState::Live);
    }

    #[test]
    fn who_did_not_listen_does_not_condemn() {
        let (mut pulse, start) = living();
        let now = start + Duration::from_secs(60);
        pulse.forgive(now, Duration::from_millis(59_800));
        assert_eq!(after(&mut pulse, now, LATE), MemberState::Live);
        assert_eq!(after(&mut pulse, now + Duration::from_secs(5), LATE), MemberState::Dead, "patience begins anew");
    }

    #[test]
    fn a_goodbye_is_death_at_once() {
        let (mut pulse, start) = living();
        assert_eq!(after(&mut pulse, start, Hints { is_leaving: true, ..WELL }), MemberState::Dead);
    }
}
