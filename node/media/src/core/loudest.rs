//! Who is heard where only the loudest are (last-N): each router lets so many of its audio producers through, to its
//! users and by pipes. Those of other nodes that get here are the loudest there, so each node decides by itself, and a
//! new speaker is heard everywhere as soon as its own node and the next one have noticed.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::keys::ProducerKey;
use crate::transport::demux::TransportKey;
use crate::wire::rtp::AudioLevel;

/// Loudness follows the levels in this time: of a syllable, so that a cough is nobody's turn.
const SMOOTHING: Duration = Duration::from_millis(80);

/// Who says nothing for so long is as quiet as can be: longer than packets come late, shorter than a pause for breath.
const SILENCE: Duration = Duration::from_millis(400);

/// Quieter than this nobody takes another's place: -55 dBov, above the noise of rooms and below any voice.
const AUDIBLE: f32 = 127.0 - 55.0;

/// By so many dB somebody has to be louder than the quietest of those who are heard, or two of one loudness would take
/// turns all the time.
const MARGIN: f32 = 6.0;

/// The audio producers of a router.
#[derive(Debug)]
pub(crate) struct Loudest {
    limit: usize,
    voices: FxHashMap<ProducerKey, Voice>,
    /// Those that are heard.
    heard: Vec<ProducerKey>,
}

#[derive(Debug, Clone, Copy)]
struct Voice {
    /// In dB above silence, -127 dBov.
    loudness: f32,
    at: Instant,
    /// By which its client sends it, if it does that here.
    transport: Option<TransportKey>,
}

impl Voice {
    fn loudness_at(self, now: Instant) -> f32 {
        if now.saturating_duration_since(self.at) < SILENCE { self.loudness } else { 0.0 }
    }
}

/// Who is heard from now on, and who is not any more in its stead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    pub begins: ProducerKey,
    pub ends: Option<ProducerKey>,
}

impl Loudest {
    /// Of so many.
    pub(crate) fn new(limit: NonZeroU8) -> Self {
        Self { limit: limit.get().into(), voices: FxHashMap::default(), heard: Vec::new() }
    }

    /// Whether a producer is heard.
    pub(crate) fn is_heard(&self, producer: ProducerKey) -> bool {
        self.heard.contains(&producer)
    }

    /// A packet of a producer is so loud, which a client here sends by `transport`, or another node. Returns whose turn
    /// it is for that, if that is another one. A client has one place, whatever it sends.
    pub(crate) fn hear(
        &mut self,
        now: Instant,
        (producer, transport): (ProducerKey, Option<TransportKey>),
        level: AudioLevel,
    ) -> Option<Turn> {
        let level = f32::from(127 - level.level.min(127));
        let voice = self.voices.entry(producer).or_insert(Voice { loudness: 0.0, at: now, transport });
        let elapsed = now.saturating_duration_since(voice.at).max(Duration::from_millis(20));
        let before = voice.loudness_at(now);
        let weight = 1.0 - (-elapsed.as_secs_f32() / SMOOTHING.as_secs_f32()).exp();
        let loudness = before + weight.min(0.5) * (level - before);
        *voice = Voice { loudness, at: now, transport };
        if self.is_heard(producer) {
            return None;
        }
        let loudness_of =
            |producer: &ProducerKey| self.voices.get(producer).map_or(0.0, |voice| voice.loudness_at(now));
        let is_of_it = |heard: &ProducerKey| {
            transport.is_some() && self.voices.get(heard).is_some_and(|voice| voice.transport == transport)
        };
        let (index, loudness_there) = match self.heard.iter().position(is_of_it) {
            Some(index) => (index, loudness_of(self.heard.get(index)?)),
            None if self.heard.len() < self.limit => {
                self.heard.push(producer);
                return Some(Turn { begins: producer, ends: None });
            }
            None => self.heard.iter().map(loudness_of).enumerate().min_by(|(_, a), (_, b)| a.total_cmp(b))?,
        };
        if loudness < AUDIBLE || loudness < loudness_there + MARGIN {
            return None;
        }
        let ends = std::mem::replace(self.heard.get_mut(index)?, producer);
        Some(Turn { begins: producer, ends: Some(ends) })
    }

    /// A producer is no more.
    pub(crate) fn forget(&mut self, producer: ProducerKey) {
        self.voices.remove(&producer);
        self.heard.retain(|heard| *heard != producer);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use slotmap::SlotMap;

    use super::*;

    const PACKET: Duration = Duration::from_millis(20);

    struct Room {
        loudest: Loudest,
        people: Vec<ProducerKey>,
        now: Instant,
    }

    impl Room {
        fn new(people: usize, limit: u8) -> Self {
            let mut keys = SlotMap::<ProducerKey, ()>::with_key();
            let people = (0..people).map(|_| keys.insert(())).collect();
            Self { loudest: Loudest::new(NonZeroU8::new(limit).unwrap()), people, now: Instant::now() }
        }

        /// Everybody is so loud, in dBov below the loudest, for so many packets. Returns how often turns changed.
        fn speak(&mut self, packets: usize, levels: &[u8]) -> usize {
            let mut turns = 0;
            for _ in 0..packets {
                self.now += PACKET;
                for (person, level) in self.people.iter().zip(levels) {
                    let turn = self.loudest.hear(self.now, (*person, None), AudioLevel { voice: true, level: *level });
                    turns += usize::from(turn.is_some());
                }
            }
            turns
        }

        fn heard(&self) -> Vec<usize> {
            let is_heard = |person: &usize| self.loudest.is_heard(self.people[*person]);
            (0..self.people.len()).filter(is_heard).collect()
        }
    }

    #[test]
    fn everybody_is_heard_who_has_a_place() {
        let mut room = Room::new(3, 3);
        room.speak(1, &[127, 127, 127]);
        assert_eq!(room.heard(), [0, 1, 2]);
    }

    #[test]
    fn a_new_speaker_takes_the_place_of_the_quietest_within_200_ms() {
        let mut room = Room::new(4, 2);
        room.speak(50, &[30, 60, 127, 127]);
        assert_eq!(room.heard(), [0, 1]);
        room.speak(10, &[30, 60, 127, 35]);
        assert_eq!(room.heard(), [0, 3]);
    }

    #[test]
    fn noise_takes_nobodys_place_and_who_fell_silent_keeps_it_until_somebody_speaks() {
        let mut room = Room::new(3, 1);
        room.speak(50, &[30, 80, 127]);
        room.now += Duration::from_secs(10);
        room.people.rotate_left(1);
        assert_eq!(room.speak(500, &[80, 90]), 0, "the speaker has left off");
        room.speak(10, &[80, 40]);
        assert_eq!(room.heard(), [1]);
    }

    #[test]
    fn people_of_one_loudness_do_not_take_turns() {
        let mut room = Room::new(6, 3);
        room.speak(50, &[30, 31, 30, 32, 31, 30]);
        assert_eq!(room.speak(500, &[33, 31, 34, 30, 31, 32]), 0);
    }

    #[test]
    fn a_client_has_one_place_whatever_it_sends() {
        let mut room = Room::new(3, 2);
        let transport = SlotMap::<TransportKey, ()>::with_key().insert(());
        let mut hear = |people: &[(usize, Option<TransportKey>)]| {
            for _ in 0..20 {
                room.now += PACKET;
                for (person, transport) in people {
                    let from = (room.people[*person], *transport);
                    room.loudest.hear(room.now, from, AudioLevel { voice: true, level: 0 });
                }
            }
            room.heard()
        };
        let ours = Some(transport);
        assert_eq!(hear(&[(1, ours), (2, ours)]), [1]);
        assert_eq!(hear(&[(0, None), (1, ours), (2, ours)]), [0, 1]);
        assert_eq!(hear(&[(0, None), (2, ours)]), [0, 2], "what else it says takes its own place");
    }

    #[test]
    fn a_place_is_free_when_its_owner_is_gone() {
        let mut room = Room::new(2, 1);
        room.speak(50, &[30, 127]);
        let gone = room.people.remove(0);
        room.loudest.forget(gone);
        room.speak(1, &[127]);
        assert_eq!(room.heard(), [0]);
    }
}
