//! What operators decided of peers. It holds for the peer id, whoever comes with it and however often, until it is
//! taken back or the room has nobody on this node any more: leaving and joining again is no way out of it.

use std::collections::HashMap;

use sluice_proto::ids::PeerId;

use crate::access::Grants;
use crate::ortc::ProducerKind;

/// Peers whose decisions are kept, in 200 KB. Of more the oldest go, but for those of peers who are here: these are
/// bounded as the room is.
const MAX: usize = 1_024;

/// What is decided of the peers of a room.
#[derive(Debug, Default)]
pub(super) struct Impositions {
    by_peer: HashMap<PeerId, Imposed>,
    latest: u64,
}

/// What is decided of one of them.
#[derive(Debug, Default)]
pub(super) struct Imposed {
    /// What it may do whatever its token says.
    pub(super) grants: Option<Grants>,
    /// Of what it sends is muted, now and later.
    pub(super) muted: Vec<ProducerKind>,
    /// Of the latest decision; they are numbered in their order.
    number: u64,
}

impl Impositions {
    pub(super) fn contain(&self, peer: &PeerId) -> bool {
        self.by_peer.contains_key(peer)
    }

    pub(super) fn grants(&self, peer: &PeerId) -> Option<&Grants> {
        self.by_peer.get(peer)?.grants.as_ref()
    }

    pub(super) fn mute(&self, peer: &PeerId, kind: ProducerKind) -> bool {
        self.by_peer.get(peer).is_some_and(|imposed| imposed.muted.contains(&kind))
    }

    /// Something else is decided of a peer.
    pub(super) fn change(&mut self, peer: &PeerId, change: impl FnOnce(&mut Imposed)) {
        self.latest += 1;
        let imposed = self.by_peer.entry(peer.clone()).or_default();
        change(imposed);
        imposed.number = self.latest;
        if imposed.grants.is_none() && imposed.muted.is_empty() {
            self.by_peer.remove(peer);
        }
    }

    /// Forgets what is too much, of those who are not here.
    pub(super) fn trim(&mut self, is_here: impl Fn(&PeerId) -> bool) {
        while self.by_peer.len() > MAX {
            let away = self.by_peer.iter().filter(|(peer, _)| !is_here(peer));
            let Some((oldest, _)) = away.min_by_key(|(_, imposed)| imposed.number) else { return };
            let oldest = oldest.clone();
            self.by_peer.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_those_who_are_away_the_oldest_are_forgotten() {
        let peer = |number: usize| PeerId::new(format!("p{number}")).unwrap();
        let mut impositions = Impositions::default();
        for number in 0..MAX + 3 {
            impositions.change(&peer(number), |imposed| imposed.muted.push(ProducerKind::Audio));
        }
        // Something was decided of it again.
        impositions.change(&peer(2), |imposed| imposed.muted.push(ProducerKind::Video));
        impositions.trim(|id| *id == peer(0));
        let gone: Vec<usize> = (0..MAX + 3).filter(|number| !impositions.contain(&peer(*number))).collect();
        assert_eq!(gone, [1, 3, 4]);
        impositions.change(&peer(2), |imposed| imposed.muted.clear());
        assert!(!impositions.contain(&peer(2)), "nothing is left to remember");
    }
}
