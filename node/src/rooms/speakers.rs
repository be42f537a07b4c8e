//! Who speaks loudest, over all routers of a room.

use std::collections::HashMap;

use sluice_proto::ids::{PeerId, ProducerId, RouterId};

use super::api::Speaker;
use super::room::Room;

/// The volumes that each router told last.
#[derive(Debug, Default)]
pub(super) struct Speakers {
    volumes: HashMap<RouterId, Vec<(ProducerId, i8)>>,
    /// What peers were told last.
    told: Option<ProducerId>,
}

impl Speakers {
    pub(super) fn forget(&mut self, router: RouterId) {
        self.volumes.remove(&router);
    }

    pub(super) fn forget_producer(&mut self, producer: ProducerId) {
        for volumes in self.volumes.values_mut() {
            volumes.retain(|(speaker, _)| *speaker != producer);
        }
    }

    /// Takes a router's volumes; answers with what peers shall be told, if anything. With several routers hearing the
    /// same producers, only news and the loudest one's own router count, so that peers hear once an interval.
    fn update(&mut self, router: RouterId, volumes: Vec<(ProducerId, i8)>) -> Option<Option<(ProducerId, i8)>> {
        let from_here = volumes.iter().copied().max_by_key(|(_, volume)| *volume);
        self.volumes.insert(router, volumes);
        let loudest = self.volumes.values().flatten().copied().max_by_key(|(_, volume)| *volume);
        let speaker = loudest.map(|(producer, _)| producer);
        let news = speaker != self.told || (loudest.is_some() && loudest == from_here);
        self.told = speaker;
        news.then_some(loudest)
    }
}

impl Room {
    pub(super) fn on_audio_levels(&mut self, router: RouterId, mut volumes: Vec<(ProducerId, i8)>) {
        volumes.retain(|(producer, _)| self.producers.contains_key(producer));
        let Some(loudest) = self.speakers.update(router, volumes) else { return };
        let owner = |producer| -> Option<PeerId> { self.producers.get(&producer)?.owner.clone() };
        let loudest = loudest.and_then(|(producer, volume)| Some(Speaker { peer: owner(producer)?, volume }));
        self.view.set_speaker(loudest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_hear_of_the_loudest_once_and_of_silence_once() {
        let mut speakers = Speakers::default();
        let router = |n| RouterId::from_random_bytes([n; 16]);
        let producer = |n| ProducerId::from_random_bytes([n; 16]);
        assert_eq!(
            speakers.update(router(1), vec![(producer(1), -30), (producer(2), -40)]),
            Some(Some((producer(1), -30)))
        );
        assert_eq!(speakers.update(router(2), vec![(producer(2), -40)]), None, "nothing louder, nothing new");
        assert_eq!(speakers.update(router(2), vec![(producer(2), -20)]), Some(Some((producer(2), -20))));
        assert_eq!(speakers.update(router(2), vec![]), Some(Some((producer(1), -30))));
        assert_eq!(speakers.update(router(1), vec![]), Some(None));
        assert_eq!(speakers.update(router(2), vec![]), None, "silence is told once");
    }
}
