//! The last packets of a producer's stream, where consumers and pipes send from and answer NACKs from: a packet lives
//! once, however many want it. What is known of each is in a ring by sequence number, its bytes are in [`Segments`].
//! Both are as large as what the stream sends in [`KEEP`] needs, so a steady stream allocates nothing. No number is put
//! in twice, also when the packet that had it was forgotten, since consumers count on getting each once.

use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_proto::ortc::MediaKind;

use crate::stream::packet::PacketName;
use crate::stream::segments::{Place, Segments};
use crate::wire::codec::{Codec, ParameterSets, PayloadInfo, PictureNumbers};
use crate::wire::rtp::{
    AudioLevel, CarriedExtensions, DependencyDescriptor, ExtensionIds, RtpHeader, RtpPacket, TemplateStructure,
    canonical_header_len, write_canonical_header,
};

/// How long a packet is kept, if there is room: no receiver waits longer for a retransmission.
pub(crate) const KEEP: Duration = Duration::from_secs(2);

/// Most packets of video: two seconds of 500 each, 5 Mbit/s, and what a pipe can ask for again.
pub(crate) const VIDEO_SLOTS: usize = 1024;

/// Most packets of audio: two seconds of 100 each, of 10 ms, and a little more.
const AUDIO_SLOTS: usize = 256;

/// Packets that a ring begins with: two seconds of 32 each.
const MIN_SLOTS: usize = 64;

/// Largest payload: what an MTU of 1,500 can carry, so that a packet has a known largest size.
pub(crate) const MAX_PAYLOAD_LEN: usize = 1_500;

/// Packets of a key frame that may come before its first slice: delimiter, parameter sets, supplemental information.
const MAX_BEFORE_SLICES: u64 = 16;

/// What of a cached packet is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// Its payload.
    Payload,
    /// The parameter sets for whoever begins with it, in a packet of their own.
    ParameterSets,
}

/// What is known of a packet in the mesh's canonical form, and was found out when it came in.
#[derive(Debug)]
pub(crate) struct PacketInfo {
    /// Its sequence number without the wrap.
    pub sequence: u64,
    /// The header as it is inside the mesh.
    pub header: RtpHeader,
    /// Volume, of audio.
    pub audio_level: Option<AudioLevel>,
    /// What the payload says about its frame.
    pub info: PayloadInfo,
    /// The packet belongs to a key frame.
    pub key_frame: bool,
    /// When it came in.
    pub received_at: Instant,
    /// A bit for each kind of [`CachedPacket::carried`] extension that it has.
    pub carries: u8,
    header_len: u8,
    place: Place,
    /// What whoever begins here must be sent before; `None` if nothing.
    parameter_sets: Option<Arc<[u8]>>,
    /// By which its dependency descriptor is read, if it has one.
    structure: Option<Arc<TemplateStructure>>,
}

/// A packet in the mesh's canonical form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CachedPacket<'a> {
    known: &'a PacketInfo,
    bytes: &'a [u8],
}

impl<'a> CachedPacket<'a> {
    /// The payload; empty when the publisher sent only padding.
    pub(crate) fn payload(&self) -> &'a [u8] {
        self.bytes.get(self.header_len()..).unwrap_or_default()
    }

    /// Whether whoever begins here must be sent [`Part::ParameterSets`] before.
    pub(crate) fn has_parameter_sets(&self) -> bool {
        self.known.parameter_sets.is_some()
    }

    /// The payload of a part of it.
    pub(crate) fn part(&self, part: Part) -> &'a [u8] {
        match part {
            Part::Payload => self.payload(),
            Part::ParameterSets => self.known.parameter_sets.as_deref().unwrap_or_default(),
        }
    }

    /// What goes with it to whoever gets it.
    pub(crate) fn carried(&self) -> CarriedExtensions<'a> {
        let packet = if self.known.carries != 0 { RtpPacket::parse(self.bytes) } else { None };
        packet.map(|packet| ExtensionIds::CANONICAL.read(packet.extensions).carried).unwrap_or_default()
    }

    /// By which its dependency descriptor is read, if it has one.
    pub(crate) fn structure(&self) -> Option<&'a TemplateStructure> {
        self.known.structure.as_deref()
    }

    /// The number that its dependency descriptor gives its frame.
    pub(crate) fn frame_number(&self) -> Option<u16> {
        Some(DependencyDescriptor::frame_number_of(self.carried().dependency_descriptor?)?.0)
    }

    /// The header as bytes.
    pub(crate) fn header_bytes(&self) -> &'a [u8] {
        self.bytes.get(..self.header_len()).unwrap_or_default()
    }

    fn header_len(&self) -> usize {
        self.known.header_len.into()
    }
}

impl Deref for CachedPacket<'_> {
    type Target = PacketInfo;

    fn deref(&self) -> &PacketInfo {
        self.known
    }
}

/// What a packet is put into the cache with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NewPacket<'a> {
    /// Its sequence number without the wrap.
    pub sequence: u64,
    /// The header as it is inside the mesh.
    pub header: RtpHeader,
    /// Volume, of audio.
    pub audio_level: Option<AudioLevel>,
    /// What goes with it to whoever gets it.
    pub carried: Option<&'a CarriedExtensions<'a>>,
    /// Pictures left out before it on purpose, by which its picture id is lessened.
    pub left_out_pictures: u16,
    /// The payload without padding, at most [`MAX_PAYLOAD_LEN`] bytes.
    pub payload: &'a [u8],
}

impl<'a> NewPacket<'a> {
    /// What the frame is to others, if its header says so.
    pub(crate) fn dependency_descriptor(&self) -> Option<&'a [u8]> {
        self.carried?.dependency_descriptor
    }

    /// Whether a receiver can begin with it.
    pub(crate) fn starts_key_frame(&self, codec: Codec) -> bool {
        match self.dependency_descriptor() {
            Some(descriptor) => DependencyDescriptor::brings_structure(descriptor),
            None => codec.inspect(self.payload).key_frame_start,
        }
    }
}

/// The ring.
#[derive(Debug)]
pub(crate) struct RtpCache {
    /// A power of two of them.
    slots: Vec<Option<PacketInfo>>,
    max_slots: usize,
    /// Of what is before this number some is forgotten: nobody can tell what was there.
    floor: u64,
    segments: Segments,
    /// Timestamp of the last key frame that began: all of its packets belong to it.
    key_frame_timestamp: Option<u32>,
    /// Of H.264 and H.265.
    parameter_sets: ParameterSets,
    /// By which dependency descriptors are read, and the number of the packet that brought it.
    structure: Option<(u64, Arc<TemplateStructure>)>,
}

impl RtpCache {
    /// An empty one, which takes up no memory before the first packet.
    pub(crate) fn new(kind: MediaKind) -> Self {
        // As many bytes as 1,024 packets of video can have, and as Opus at its best has in two seconds.
        let (max_slots, segments) = match kind {
            MediaKind::Video => (VIDEO_SLOTS, Segments::new(16 << 10, 96, KEEP)),
            MediaKind::Audio => (AUDIO_SLOTS, Segments::new(4 << 10, 40, KEEP)),
        };
        Self {
            slots: Vec::new(),
            max_slots,
            floor: 0,
            segments,
            key_frame_timestamp: None,
            parameter_sets: ParameterSets::default(),
            structure: None,
        }
    }

    fn index(&self, seq: u16) -> usize {
        usize::from(seq) & self.slots.len().wrapping_sub(1)
    }

    /// The packet with this number.
    #[inline]
    pub(crate) fn get(&self, sequence: u64) -> Option<CachedPacket<'_>> {
        self.find(sequence as u16, |known| known == sequence)
    }

    /// The packet that is so named, unless it is older than that.
    pub(crate) fn named(&self, name: PacketName, now: Instant, max_age: Duration) -> Option<CachedPacket<'_>> {
        let found = self.find(name.sequence_number(), |known| name.is_of(known));
        found.filter(|packet| now.saturating_duration_since(packet.received_at) <= max_age)
    }

    #[inline]
    fn find(&self, seq: u16, is_it: impl FnOnce(u64) -> bool) -> Option<CachedPacket<'_>> {
        let known = self.slots.get(self.index(seq))?.as_ref().filter(|known| is_it(known.sequence))?;
        Some(CachedPacket { known, bytes: self.segments.get(known.place)? })
    }

    /// Puts a packet where its sequence number belongs. The slot's former packet goes, unless that is the newer one:
    /// `None` then, and for a number that was put in before, or may have been.
    pub(crate) fn insert(&mut self, now: Instant, codec: Codec, packet: NewPacket<'_>) -> Option<CachedPacket<'_>> {
        let seq = packet.header.sequence_number;
        self.make_room(now, &packet)?;
        let carries = packet.carried.map_or(0, CarriedExtensions::kinds);
        let (mut info, structure) = match packet.dependency_descriptor() {
            None => {
                self.remember_parameter_sets(codec, packet.payload);
                (codec.inspect(packet.payload), None)
            }
            Some(descriptor) => self.read_descriptor(packet.sequence, descriptor),
        };
        let parameter_sets = if info.key_picture_start { self.parameter_sets_before(&packet) } else { None };
        info.key_frame_start |= parameter_sets.is_some();
        if info.key_frame_start || info.key_picture_start {
            self.key_frame_timestamp = Some(packet.header.timestamp);
        }
        let header_len = canonical_header_len(packet.audio_level, packet.carried);
        let place = self.segments.append(now, header_len + packet.payload.len(), |bytes| {
            write_canonical_header(packet.header, packet.audio_level, packet.carried, bytes);
            bytes.extend_from_slice(packet.payload);
        })?;
        if (packet.left_out_pictures > 0 || matches!(codec, Codec::Red(_)))
            && let Some(payload) = self.segments.get_mut(place).and_then(|bytes| bytes.get_mut(header_len..))
        {
            let left_out = PictureNumbers { picture: packet.left_out_pictures, base_layer: 0 };
            codec.lessen_picture_numbers(payload, left_out);
            codec.make_canonical(payload);
        }
        let key_frame = self.key_frame_timestamp == Some(packet.header.timestamp);
        // Each layer of a key picture may be what the next pictures of that layer refer to.
        info.unused_above &= !key_frame;
        let index = self.index(seq);
        let known = self.slots.get_mut(index)?.insert(PacketInfo {
            sequence: packet.sequence,
            header: packet.header,
            audio_level: packet.audio_level,
            info,
            key_frame,
            received_at: now,
            carries,
            header_len: header_len as u8,
            place,
            parameter_sets,
            structure,
        });
        Some(CachedPacket { known, bytes: self.segments.get(place)? })
    }

    /// What a dependency descriptor says of its packet, and by which structure. One that cannot be read, since none is
    /// known yet, says nothing: its packet is one of the base layer.
    #[cold]
    fn read_descriptor(&mut self, sequence: u64, data: &[u8]) -> (PayloadInfo, Option<Arc<TemplateStructure>>) {
        let known = self.structure.as_ref().map(|(_, known)| known);
        let Some(descriptor) = DependencyDescriptor::parse(data, known.map(|known| &**known)) else {
            return (PayloadInfo::default(), None);
        };
        let in_force = match (&descriptor.structure, known) {
            (None, None) => return (PayloadInfo::default(), None),
            (Some(brought), Some(known)) if *brought != **known => Arc::new(brought.clone()),
            (Some(brought), None) => Arc::new(brought.clone()),
            (_, Some(known)) => Arc::clone(known),
        };
        // One that comes late is not that of what comes next.
        if descriptor.structure.is_some() && self.structure.as_ref().is_none_or(|(since, _)| *since < sequence) {
            self.structure = Some((sequence, Arc::clone(&in_force)));
        }
        (PayloadInfo::from_descriptor(&descriptor, &in_force), Some(in_force))
    }

    /// Keeps the parameter sets that a payload has, whatever becomes of the packet.
    pub(crate) fn remember_parameter_sets(&mut self, codec: Codec, payload: &[u8]) {
        if codec.has_parameter_sets() {
            self.parameter_sets.remember(codec, payload);
        }
    }

    /// What must be told before a key frame's first slice if its own packets do not tell it: none of those between the
    /// slice and the picture before has parameter sets, nor is one missing that may have.
    fn parameter_sets_before(&self, packet: &NewPacket<'_>) -> Option<Arc<[u8]>> {
        let timestamp = packet.header.timestamp;
        if self.key_frame_timestamp == Some(timestamp) {
            return None;
        }
        for distance in 1..=MAX_BEFORE_SLICES {
            if self.get(packet.sequence.wrapping_sub(distance))?.header.timestamp != timestamp {
                return self.parameter_sets.payload().cloned();
            }
        }
        None
    }

    /// Sees to it that a packet has a slot: the ring grows where it would lose what is not old yet. `None` if it is not
    /// known to be new.
    fn make_room(&mut self, now: Instant, packet: &NewPacket<'_>) -> Option<()> {
        if packet.sequence < self.floor {
            return None;
        }
        if self.slots.is_empty() {
            self.slots.resize_with(MIN_SLOTS, || None);
        }
        while let Some(former) = self.slots.get(self.index(packet.header.sequence_number))? {
            if former.sequence >= packet.sequence {
                return None;
            }
            let is_old = || now.saturating_duration_since(former.received_at) >= KEEP;
            if self.slots.len() >= self.max_slots || self.segments.get(former.place).is_none() || is_old() {
                self.floor = self.floor.max(former.sequence + 1);
                break;
            }
            self.grow();
        }
        Some(())
    }

    fn grow(&mut self) {
        let len = self.slots.len() * 2;
        let former = std::mem::take(&mut self.slots);
        self.slots.resize_with(len, || None);
        for known in former.into_iter().flatten() {
            let index = self.index(known.header.sequence_number);
            if let Some(slot) = self.slots.get_mut(index) {
                *slot = Some(known);
            }
        }
    }

    /// Forgets everything: the publisher began to count anew, or is not heard for a while. Gives the memory back.
    /// Parameter sets stay: who tells them once will not tell them again.
    pub(crate) fn clear(&mut self) {
        let newest = std::mem::take(&mut self.slots).into_iter().flatten().map(|known| known.sequence).max();
        self.floor = self.floor.max(newest.map_or(0, |newest| newest + 1));
        self.segments.clear();
        self.key_frame_timestamp = None;
    }

    /// Bytes of memory that it takes up.
    #[cfg(test)]
    pub(crate) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Option<PacketInfo>>() + self.segments.memory()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::stream::packet::StreamIndex;

    fn packet(sequence: u64, timestamp: u32, payload: &[u8]) -> NewPacket<'_> {
        let sequence_number = sequence as u16;
        let header = RtpHeader { marker: false, payload_type: 101, sequence_number, timestamp, ssrc: 1 };
        NewPacket { sequence, header, audio_level: None, carried: None, left_out_pictures: 0, payload }
    }

    /// A stream of so many packets per second and bytes each, for a while. Returns the most memory that it took up.
    fn stream(
        cache: &mut RtpCache,
        from: (u64, Instant),
        seconds: u64,
        rate: u64,
        len: usize,
    ) -> (u64, Instant, usize) {
        let (mut sequence, mut now) = from;
        let mut most = 0;
        for _ in 0..seconds * rate {
            sequence += 1;
            now += Duration::from_micros(1_000_000 / rate);
            cache.insert(now, Codec::Opaque, packet(sequence, 0, &vec![sequence as u8; len])).unwrap();
            most = most.max(cache.memory());
        }
        (sequence, now, most)
    }

    #[test]
    fn two_seconds_are_kept_in_as_little_memory_as_they_need() {
        // Opus, a small and a large camera.
        for (kind, rate, len, at_most) in [
            (MediaKind::Audio, 50, 80, 32 << 10),
            (MediaKind::Audio, 100, 640, 180 << 10),
            (MediaKind::Video, 30, 800, 96 << 10),
            (MediaKind::Video, 200, 1_200, 600 << 10),
        ] {
            let mut cache = RtpCache::new(kind);
            assert_eq!(cache.memory(), 0);
            let (sequence, _, most) = stream(&mut cache, (65_000, Instant::now()), 20, rate, len);
            assert!(most <= at_most, "{most} bytes for {rate} packets of {len}");
            for sequence in sequence + 1 - 2 * rate..=sequence {
                let packet = cache.get(sequence).unwrap();
                assert_eq!((packet.sequence, packet.payload()), (sequence, &vec![sequence as u8; len][..]));
            }
        }
    }

    #[test]
    fn memory_follows_what_the_stream_sends() {
        let mut cache = RtpCache::new(MediaKind::Video);
        let high = stream(&mut cache, (0, Instant::now()), 10, 300, 1_200);
        let low = stream(&mut cache, (high.0, high.1), 20, 30, 1_200);
        let after = stream(&mut cache, (low.0, low.1), 1, 30, 1_200);
        assert!(after.2 < high.2 / 3, "{} bytes, before {}", after.2, high.2);
        cache.clear();
        assert_eq!(cache.memory(), 0);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        for (kind, at_most) in [(MediaKind::Audio, 190 << 10), (MediaKind::Video, 1_700 << 10)] {
            let (mut cache, now) = (RtpCache::new(kind), Instant::now());
            for sequence in 0..10_000_u64 {
                let len = if sequence % 3 == 0 { 0 } else { MAX_PAYLOAD_LEN };
                cache.insert(now, Codec::Opaque, packet(sequence * 64, 0, &vec![0; len]));
                assert!(cache.memory() <= at_most, "{}", cache.memory());
            }
        }
    }

    #[test]
    fn a_late_packet_takes_no_slot_of_a_newer_one() {
        let now = Instant::now();
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let mut cache = RtpCache::new(kind);
            let (lost, came): (Vec<u64>, Vec<u64>) = (65_000..67_000).partition(|sequence| sequence % 10 == 3);
            for sequence in came {
                cache.insert(now, Codec::Opaque, packet(sequence, 0, b"new")).unwrap();
            }
            for sequence in lost.into_iter().rev() {
                let is_recent = cache.get(sequence - 1).is_some();
                let stored = cache.insert(now, Codec::Opaque, packet(sequence, 0, b"old"));
                assert_eq!(stored.is_some(), is_recent, "{sequence}");
            }
            assert_eq!(cache.get(66_999).unwrap().payload(), b"new");
        }
    }

    #[test]
    fn a_packet_lost_in_a_burst_has_its_slot_when_it_comes() {
        let now = Instant::now();
        let mut cache = RtpCache::new(MediaKind::Video);
        for sequence in (0..300).filter(|sequence| sequence % 10 != 3) {
            cache.insert(now, Codec::Opaque, packet(sequence, 0, b"frame")).unwrap();
        }
        for sequence in (3..300).step_by(10) {
            assert!(cache.insert(now, Codec::Opaque, packet(sequence, 0, b"repair")).is_some(), "{sequence}");
        }
        assert!((0..300).all(|sequence| cache.get(sequence).is_some()));
    }

    proptest! {
        /// Against a map of everything: what is there is right, the newest is always there, and the last 64 of a second
        /// are.
        #[test]
        fn what_is_kept_is_what_came(
            steps in prop::collection::vec((-80_i64..100, 0_usize..1_500, 0_u64..30), 1..400),
            audio: bool,
        ) {
            let mut cache = RtpCache::new(if audio { MediaKind::Audio } else { MediaKind::Video });
            let (mut now, mut newest) = (Instant::now(), 100_000_u64);
            let mut came = BTreeMap::new();
            cache.insert(now, Codec::Opaque, packet(newest, 0, b"first"));
            for (index, (step, len, ms)) in steps.into_iter().enumerate() {
                now += Duration::from_millis(ms);
                let sequence = newest.saturating_add_signed(step);
                let payload = vec![index as u8; len];
                let stored = cache.insert(now, Codec::Opaque, packet(sequence, 0, &payload)).is_some();
                prop_assert!(stored || sequence <= newest);
                newest = newest.max(sequence);
                if stored {
                    prop_assert_eq!(came.insert(sequence, (payload, now)), None);
                }
                prop_assert!(cache.get(newest).is_some());
                for (sequence, (payload, at)) in came.range(newest.saturating_sub(500)..) {
                    match cache.get(*sequence) {
                        Some(packet) => prop_assert_eq!(packet.payload(), &payload[..]),
                        None => prop_assert!(*sequence + 64 <= newest || now - *at >= KEEP),
                    }
                }
            }
        }
    }

    #[test]
    fn what_was_there_and_is_forgotten_does_not_come_in_again() {
        let mut cache = RtpCache::new(MediaKind::Video);
        let (_, now, _) = stream(&mut cache, (0, Instant::now()), 1, 20, 1_000);
        // The bytes of the first twenty go when others need the room, a pause of the producer takes the slots too.
        let (newest, now, _) = stream(&mut cache, (20, now + 2 * KEEP), 1, 20, 1_000);
        let insert =
            |cache: &mut RtpCache, sequence| cache.insert(now, Codec::Opaque, packet(sequence, 0, b"again")).is_some();
        assert!(cache.get(5).is_none() && !insert(&mut cache, 5));
        cache.clear();
        assert!((1..=newest).all(|sequence| !insert(&mut cache, sequence)));
        assert!(insert(&mut cache, newest + 1));
    }

    #[test]
    fn age_is_told() {
        let now = Instant::now();
        let mut cache = RtpCache::new(MediaKind::Video);
        cache.insert(now, Codec::Opaque, packet(127, 0, b"new"));
        let max_age = Duration::from_secs(2);
        let named = |sequence, now| cache.named(PacketName::new(StreamIndex::ZERO, sequence), now, max_age);
        assert!(named(127, now + max_age).is_some());
        assert!(named(127, now + max_age + Duration::from_millis(1)).is_none());
        assert!(named(127 + 64, now).is_none() && named(127 + 65_536, now).is_none());
        assert!(cache.get(127 + 65_536).is_none());
    }

    #[test]
    fn the_first_slice_of_a_key_frame_is_a_beginning_if_its_sets_are_known() {
        let now = Instant::now();
        let mut cache = RtpCache::new(MediaKind::Video);
        let (sets, slice): (&[u8], _) = (&[0x78, 0, 5, 0x67, 0x42, 0xe0, 0x1f, 0x8c, 0, 2, 0x68, 0xce], &[0x65, 0x88]);
        let mut insert = |number, timestamp, payload: &[u8]| {
            let packet = cache.insert(now, Codec::H264, packet(number, timestamp, payload)).unwrap();
            (packet.info.key_frame_start, packet.part(Part::ParameterSets).to_vec())
        };
        assert_eq!(insert(1, 10, slice), (false, vec![]), "no sets are known");
        assert_eq!(insert(2, 20, sets), (true, vec![]));
        assert_eq!(insert(3, 20, slice), (false, vec![]), "the key frame has begun already");
        assert_eq!(insert(4, 30, &[0x41, 0x9a]), (false, vec![]));
        assert_eq!(insert(5, 40, slice), (true, sets.to_vec()));
        assert_eq!(insert(6, 40, &[0x65, 0x40]), (false, vec![]), "a later slice");
        assert_eq!(insert(8, 50, slice), (false, vec![]), "what is missing may be the sets of this key frame");
        assert_eq!(insert(9, 60, &[0x06, 0x05]), (false, vec![]));
        assert_eq!(insert(10, 60, slice), (true, sets.to_vec()), "behind supplemental information");
    }

    #[test]
    fn all_packets_of_a_key_frame_are_known_as_such() {
        let now = Instant::now();
        let mut cache = RtpCache::new(MediaKind::Video);
        cache.insert(now, Codec::Vp8, packet(1, 10, &[0x10, 0x50]));
        cache.insert(now, Codec::Vp8, packet(2, 10, &[0x00, 0x77]));
        cache.insert(now, Codec::Vp8, packet(3, 20, &[0x10, 0x51]));
        let flags = [1, 2, 3].map(|seq| cache.get(seq).map(|p| (p.key_frame, p.info.key_frame_start)).unwrap());
        assert_eq!(flags, [(true, true), (true, false), (false, false)]);
    }
}
