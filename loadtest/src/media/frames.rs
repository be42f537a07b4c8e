//! Puts frames together from packets' headers, and tells which of them a decoder could show.

use std::collections::VecDeque;

use super::codec::Codec;
use super::nal::parse_nal_payload;
use super::vp8::parse_descriptor;
use super::vp9::parse_vp9_descriptor;

/// Frames that wait for packets: a second of 30 frames/s, longer than anything is asked for again.
const MAX_WAITING: usize = 32;

/// What a payload says about its frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct FrameHint {
    /// Certainly the first packet of its frame.
    pub(super) starts_frame: bool,
    pub(super) key: bool,
    /// What a decoder must know before it can begin: parameter sets, or where there are none the key frame itself.
    pub(super) parameter_sets: bool,
    pub(super) temporal_layer: Option<u8>,
    pub(super) spatial_layer: u8,
    /// Running index of base-layer frames.
    pub(super) tl0_pic_idx: Option<u8>,
}

impl FrameHint {
    /// Of audio nothing is said: each packet is a frame.
    pub(super) fn read(codec: Codec, payload: &[u8]) -> Self {
        match codec {
            Codec::Opus => None,
            Codec::Vp8 => parse_descriptor(payload).map(|descriptor| Self {
                starts_frame: descriptor.starts_frame,
                key: descriptor.key_frame,
                parameter_sets: descriptor.key_frame,
                temporal_layer: descriptor.temporal_layer,
                tl0_pic_idx: descriptor.tl0_pic_idx,
                ..Self::default()
            }),
            Codec::Vp9 => parse_vp9_descriptor(payload).map(|descriptor| Self {
                starts_frame: descriptor.starts_picture(),
                key: descriptor.starts_key_picture(),
                parameter_sets: descriptor.starts_key_picture(),
                temporal_layer: Some(descriptor.temporal_layer),
                spatial_layer: descriptor.spatial_layer,
                tl0_pic_idx: descriptor.tl0_pic_idx,
            }),
            Codec::H264 | Codec::H265 => parse_nal_payload(codec, payload).map(|unit| Self {
                starts_frame: unit.starts_frame,
                key: unit.key_frame,
                parameter_sets: unit.parameter_sets,
                ..Self::default()
            }),
        }
        .unwrap_or_default()
    }
}

/// What became of frames by one packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Frames that are complete now.
    pub(super) complete: u64,
    /// Key frames among them.
    pub(super) key_frames: u64,
    /// A newer frame can be shown than before.
    pub(super) shows: bool,
}

/// The frames of one stream.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// In the order of their packets' numbers.
    waiting: VecDeque<Frame>,
    shown: Option<Shown>,
    /// A decoder has been told parameter sets.
    has_parameter_sets: bool,
    /// Payloads were not looked at, so that key frames cannot be told: any frame that is complete can be shown.
    blind: bool,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    first: i64,
    timestamp: u32,
    /// Packets from the first to the last that came, and how many of them came.
    length: u16,
    packets: u16,
    starts: bool,
    ends: bool,
    key: bool,
    complete: bool,
    /// Its spatial layers, a bit each.
    layers: u8,
    /// Base-layer index, of base-layer frames and of others.
    base: Option<u8>,
    any: Option<u8>,
}

/// The newest frame that can be shown.
#[derive(Debug, Clone, Copy)]
struct Shown {
    last: i64,
    /// Its spatial layers, a bit each.
    layers: u8,
    tl0_pic_idx: Option<u8>,
}

impl Frames {
    /// A packet came for the first time; `hint` is `None` where its payload was not looked at.
    pub(super) fn on_packet(&mut self, number: i64, timestamp: u32, marker: bool, hint: Option<FrameHint>) -> Progress {
        self.blind |= hint.is_none();
        self.has_parameter_sets |= hint.is_some_and(|hint| hint.parameter_sets);
        if self.shown.is_some_and(|shown| number <= shown.last) {
            return Progress::default();
        }
        let index = self.insert(number, timestamp, marker, hint.unwrap_or_default());
        let mut progress = Progress::default();
        // The end of a frame is the begin of the next.
        for index in [index, index + 1] {
            if self.completes(index)
                && let Some(frame) = self.waiting.get_mut(index)
            {
                frame.complete = true;
                progress.complete += 1;
                progress.key_frames += u64::from(frame.key);
            }
        }
        while let Some(index) = self.waiting.iter().rposition(|frame| frame.complete && self.continues(frame)) {
            let Some(frame) = self.waiting.drain(..=index).next_back() else { break };
            let tl0_pic_idx = frame.any.or(self.shown.and_then(|shown| shown.tl0_pic_idx));
            self.shown = Some(Shown { last: frame.last(), layers: frame.layers, tl0_pic_idx });
            progress.shows = true;
        }
        progress
    }

    /// The highest spatial layer of the newest frame that can be shown.
    pub(super) fn spatial_layer(&self) -> Option<u8> {
        Some(self.shown?.layers.checked_ilog2()? as u8)
    }

    /// Index of the frame that the packet belongs to.
    fn insert(&mut self, number: i64, timestamp: u32, marker: bool, hint: FrameHint) -> usize {
        let known = self.waiting.iter().rposition(|frame| frame.timestamp == timestamp);
        let index = known.unwrap_or_else(|| {
            if self.waiting.len() == MAX_WAITING {
                self.waiting.pop_front();
            }
            let index = self.waiting.partition_point(|frame| frame.first < number);
            self.waiting.insert(index, Frame::new(number, timestamp));
            index
        });
        if let Some(frame) = self.waiting.get_mut(index) {
            frame.add(number, marker, hint);
        }
        index
    }

    fn completes(&self, index: usize) -> bool {
        let Some(frame) = self.waiting.get(index) else { return false };
        let before = index.checked_sub(1).and_then(|before| self.waiting.get(before));
        let follows = before.is_some_and(|before| before.ends && before.last() + 1 == frame.first)
            || self.shown.is_some_and(|shown| shown.last + 1 == frame.first);
        // Where nothing came before, what comes first is taken for a begin: a server starts a stream with one.
        let is_first = self.shown.is_none() && index == 0;
        !frame.complete && frame.ends && frame.packets == frame.length && (frame.starts || follows || is_first)
    }

    /// Whether a decoder that shows what was shown last can show this one.
    fn continues(&self, frame: &Frame) -> bool {
        let Some(shown) = self.shown else {
            return frame.key && self.has_parameter_sets || self.blind;
        };
        // A spatial layer refers to its own, or is begun with a key frame.
        let has_references = frame.layers & !shown.layers == 0;
        // Of a missing frame that is not of the base layer, no base-layer frame is made.
        let next_base = shown.tl0_pic_idx.zip(frame.base).is_some_and(|(shown, base)| base == shown.wrapping_add(1));
        frame.key || self.blind || has_references && (frame.first == shown.last + 1 || next_base)
    }
}

impl Frame {
    fn new(number: i64, timestamp: u32) -> Self {
        Self {
            first: number,
            timestamp,
            length: 0,
            packets: 0,
            starts: false,
            ends: false,
            key: false,
            complete: false,
            layers: 0,
            base: None,
            any: None,
        }
    }

    fn last(&self) -> i64 {
        self.first + i64::from(self.length) - 1
    }

    fn add(&mut self, number: i64, marker: bool, hint: FrameHint) {
        let last = self.last().max(number);
        if number < self.first {
            self.starts = false;
            self.first = number;
        }
        // Wider than 2^16 only where timestamps lie; such a frame is never complete.
        self.length = u16::try_from(last - self.first + 1).unwrap_or(u16::MAX);
        self.packets = self.packets.saturating_add(1);
        self.starts |= hint.starts_frame && number == self.first;
        self.ends |= marker;
        self.key |= hint.key;
        self.layers |= 1_u8.checked_shl(hint.spatial_layer.into()).unwrap_or(0);
        self.any = hint.tl0_pic_idx.or(self.any);
        if hint.temporal_layer == Some(0) {
            self.base = self.any;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::seq::SliceRandom;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    struct Packet {
        number: i64,
        timestamp: u32,
        marker: bool,
        hint: FrameHint,
    }

    /// Frames of so many packets each, in one layer; the first and each `key_every`th is a key frame.
    fn packets(sizes: &[u8], key_every: usize, codec: Codec) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut number = 100;
        for (frame, &size) in sizes.iter().enumerate() {
            let key = frame % key_every == 0;
            for index in 0..size {
                let starts_frame = index == 0 && codec == Codec::Vp8;
                let vp8 = codec == Codec::Vp8;
                let hint = FrameHint {
                    starts_frame,
                    key: key && (index == 0 || !vp8),
                    parameter_sets: key && index == 0,
                    temporal_layer: vp8.then_some(0),
                    spatial_layer: 0,
                    tl0_pic_idx: vp8.then_some(frame as u8),
                };
                packets.push(Packet { number, timestamp: frame as u32 * 3000, marker: index + 1 == size, hint });
                number += 1;
            }
        }
        packets
    }

    fn feed(frames: &mut Frames, packets: &[Packet]) -> (Progress, u64) {
        let mut sum = Progress::default();
        let mut shows = 0;
        for packet in packets {
            let progress = frames.on_packet(packet.number, packet.timestamp, packet.marker, Some(packet.hint));
            sum.complete += progress.complete;
            sum.key_frames += progress.key_frames;
            shows += u64::from(progress.shows);
        }
        (sum, shows)
    }

    proptest! {
        #[test]
        fn all_frames_complete_in_any_order(sizes in prop::collection::vec(1..6_u8, 1..20), h264: bool, seed: u64) {
            let codec = if h264 { Codec::H264 } else { Codec::Vp8 };
            let mut packets = packets(&sizes, usize::MAX, codec);
            let mut frames = Frames::default();
            // The first packet comes first: a stream's begin cannot be told otherwise.
            packets[1..].shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
            let (progress, _) = feed(&mut frames, &packets);
            prop_assert_eq!((progress.complete, progress.key_frames), (sizes.len() as u64, 1));
            prop_assert!(frames.waiting.is_empty());
        }
    }

    #[test]
    fn a_lost_packet_stops_the_picture_until_a_key_frame() {
        for codec in [Codec::Vp8, Codec::H264] {
            let mut packets = packets(&[2, 2, 2, 2, 3, 2], 4, codec);
            packets.remove(2);
            let mut frames = Frames::default();
            assert_eq!(feed(&mut frames, &packets[..2]).1, 1);
            let (progress, shows) = feed(&mut frames, &packets[2..7]);
            assert_eq!((progress.complete, shows), (2, 0), "{codec:?}");
            let (progress, shows) = feed(&mut frames, &packets[7..]);
            assert_eq!((progress.complete, progress.key_frames, shows), (2, 1, 2), "{codec:?}");
        }
    }

    #[test]
    fn key_frames_wait_for_parameter_sets() {
        let mut packets = packets(&[2, 2, 2], 1, Codec::H265);
        packets[..4].iter_mut().for_each(|packet| packet.hint.parameter_sets = false);
        let mut frames = Frames::default();
        assert_eq!(feed(&mut frames, &packets[..4]).1, 0);
        assert_eq!(feed(&mut frames, &packets[4..]).1, 2);
    }

    #[test]
    fn a_late_packet_shows_all_that_waited() {
        let packets = packets(&[1, 2, 2, 1], usize::MAX, Codec::H264);
        let mut frames = Frames::default();
        let (progress, shows) = feed(&mut frames, &[packets[0], packets[1], packets[3], packets[4], packets[5]]);
        assert_eq!((progress.complete, shows), (2, 1));
        let (progress, shows) = feed(&mut frames, &packets[2..3]);
        assert_eq!((progress.complete, shows), (2, 1));
        assert!(frames.waiting.is_empty());
    }

    #[test]
    fn the_base_layer_goes_on_without_the_upper_ones() {
        let frame = |number, layer, tl0| Packet {
            number,
            timestamp: number as u32 * 3000,
            marker: true,
            hint: FrameHint {
                starts_frame: true,
                key: number == 0,
                parameter_sets: number == 0,
                temporal_layer: Some(layer),
                spatial_layer: 0,
                tl0_pic_idx: Some(tl0),
            },
        };
        let mut frames = Frames::default();
        // Of 0-1-0-1 the first upper frame is lost, then a base frame.
        let shows = [frame(0, 0, 255), frame(2, 0, 0), frame(3, 1, 0), frame(5, 1, 1), frame(6, 0, 2)]
            .map(|packet| feed(&mut frames, &[packet]).1);
        assert_eq!(shows, [1, 1, 1, 0, 0]);
    }

    #[test]
    fn a_spatial_layer_is_begun_with_a_key_frame_and_ended_anywhere() {
        let mut frames = Frames::default();
        let mut shows = |picture: u32, layers: &[u8], key: bool| {
            let packet = |(index, layer): (usize, &u8)| Packet {
                number: i64::from(picture) * 3 + index as i64 + 3 - layers.len() as i64,
                timestamp: picture * 3000,
                marker: index + 1 == layers.len(),
                hint: FrameHint {
                    starts_frame: index == 0,
                    key: key && index == 0,
                    parameter_sets: key && index == 0,
                    temporal_layer: Some(0),
                    spatial_layer: *layer,
                    tl0_pic_idx: Some(picture as u8),
                },
            };
            feed(&mut frames, &layers.iter().enumerate().map(packet).collect::<Vec<_>>()).1 > 0
        };
        let pictures: [(&[u8], bool, bool); 7] = [
            (&[0, 1, 2], true, true),
            (&[2], false, true),
            (&[0], false, false),
            (&[0, 1], true, true),
            (&[0, 1], false, true),
            (&[0], false, true),
            (&[0, 1], false, false),
        ];
        for (number, (layers, key, expected)) in (0..).zip(pictures) {
            assert_eq!(shows(number, layers, key), expected, "picture {number}");
        }
        assert_eq!(frames.spatial_layer(), Some(0));
    }

    #[test]
    fn sealed_packets_make_frames_too() {
        let mut frames = Frames::default();
        let shows = [(0, 0, false), (1, 0, true), (3, 1, true), (4, 2, true)]
            .map(|(number, timestamp, marker)| frames.on_packet(number, timestamp, marker, None));
        assert_eq!(shows.map(|progress| progress.complete), [0, 1, 0, 1]);
        assert!(shows[3].shows);
    }
}
