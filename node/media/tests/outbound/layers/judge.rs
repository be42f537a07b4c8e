//! A receiver that judges what it gets as a decoder's jitter buffer does: a frame is whole when all packets from its
//! first to its last came, and can be decoded when all frames that it refers to could be, by the numbers in its own
//! packets.

use std::collections::{BTreeMap, BTreeSet};

use sluice_media::wire::codec::Vp9Descriptor;
use sluice_media::wire::rtp::{DependencyDescriptor, ExtensionIds, RtpPacket, TemplateStructure};

use super::encoder::Told;

/// The ids that clients of these tests have.
pub(crate) const IDS: ExtensionIds = ExtensionIds::CANONICAL;

/// What a packet says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    timestamp: u32,
    marker: bool,
    starts: bool,
    ends: bool,
    frame: FrameId,
    refers_to: Vec<FrameId>,
    layers: (u8, u8),
}

/// A picture's number and spatial layer, or a frame's number and 0.
type FrameId = (u16, u8);

/// A frame that came whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) timestamp: u32,
    pub(crate) layers: (u8, u8),
    pub(crate) is_decodable: bool,
    pub(crate) ends_picture: bool,
}

pub(crate) struct Judge {
    told: Told,
    structure: Option<TemplateStructure>,
    /// By sequence number without the wrap.
    pieces: BTreeMap<u64, Piece>,
    newest: Option<u64>,
    /// The decode targets that it was told last are still sent.
    pub(crate) active_targets: Option<u32>,
}

impl Judge {
    pub(crate) fn new(told: Told) -> Self {
        Self { told, structure: None, pieces: BTreeMap::new(), newest: None, active_targets: None }
    }

    /// A packet came, `payload` behind what RTX adds.
    pub(crate) fn receive(&mut self, sequence_number: u16, packet: &RtpPacket<'_>, payload: &[u8]) {
        let piece = match self.told {
            Told::Vp9 => Some(of_vp9(packet, payload)),
            Told::Descriptor => self.of_descriptor(packet),
        };
        // What cannot be read before the structure is asked for again as if it had been lost.
        let Some(piece) = piece else { return };
        let newest = self.newest.unwrap_or(1 << 20 | u64::from(sequence_number));
        let ahead = i64::from(sequence_number.wrapping_sub(newest as u16).cast_signed());
        let sequence = newest.saturating_add_signed(ahead);
        self.newest = Some(newest.max(sequence));
        if let Some(before) = self.pieces.insert(sequence, piece) {
            assert_eq!(self.pieces.get(&sequence), Some(&before), "two packets under one number");
        }
    }

    /// Numbers that it has not got, up to the newest.
    pub(crate) fn missing(&self) -> Vec<u16> {
        let (Some(first), Some(newest)) = (self.pieces.keys().next(), self.newest) else { return Vec::new() };
        (*first..newest).filter(|sequence| !self.pieces.contains_key(sequence)).map(|missing| missing as u16).collect()
    }

    fn of_descriptor(&mut self, packet: &RtpPacket<'_>) -> Option<Piece> {
        let data = IDS.read(packet.extensions).carried.dependency_descriptor.expect("every packet has one");
        let descriptor = DependencyDescriptor::parse(data, self.structure.as_ref())?;
        if descriptor.structure.is_some() {
            let targets = descriptor.structure.as_ref().map(TemplateStructure::all_targets);
            self.active_targets = descriptor.active_targets.or(targets);
        }
        self.active_targets = descriptor.active_targets.or(self.active_targets);
        self.structure = descriptor.structure.or(self.structure.take());
        let number = descriptor.frame_number;
        let references = descriptor.frame.references.into_iter().filter(|back| *back != 0);
        Some(Piece {
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            starts: descriptor.frame_start,
            ends: descriptor.frame_end,
            frame: (number, 0),
            refers_to: references.map(|back| (number.wrapping_sub(back), 0)).collect(),
            layers: (descriptor.frame.spatial_layer, descriptor.frame.temporal_layer),
        })
    }

    /// The frames that came whole, in their order.
    pub(crate) fn frames(&self) -> Vec<Whole> {
        let mut decodable = BTreeSet::new();
        let mut frames = Vec::new();
        let mut expected = None;
        let mut starts: Option<&Piece> = None;
        for (sequence, piece) in &self.pieces {
            if expected != Some(*sequence) {
                starts = None;
            }
            expected = Some(sequence + 1);
            if piece.starts {
                starts = Some(piece);
            }
            let Some(first) = starts.filter(|first| piece.ends && first.frame == piece.frame) else { continue };
            let is_decodable = first.refers_to.iter().all(|frame| decodable.contains(frame));
            if is_decodable {
                decodable.insert(piece.frame);
            }
            let Piece { timestamp, layers, .. } = *first;
            frames.push(Whole { timestamp, layers, is_decodable, ends_picture: piece.marker });
            starts = None;
        }
        frames
    }

    /// How many frames began, or ended, and did not come whole.
    pub(crate) fn broken(&self) -> usize {
        let begun = self.pieces.values().filter(|piece| piece.starts).count();
        let ended = self.pieces.values().filter(|piece| piece.ends).count();
        begun.max(ended) - self.frames().len()
    }
}

fn of_vp9(packet: &RtpPacket<'_>, payload: &[u8]) -> Piece {
    let descriptor = Vp9Descriptor::parse(payload).expect("VP9");
    let picture = descriptor.pictures.picture_id.expect("every packet has an id").value;
    let layer = descriptor.spatial_layer;
    let back = descriptor.differences.into_iter().filter(|back| *back != 0);
    let mut refers_to: Vec<_> = back.map(|back| (picture.wrapping_sub(back.into()) & 0x7fff, layer)).collect();
    if descriptor.refers_down {
        refers_to.push((picture, layer - 1));
    }
    Piece {
        timestamp: packet.header.timestamp,
        marker: packet.header.marker,
        starts: descriptor.frame_start,
        ends: descriptor.frame_end,
        frame: (picture, layer),
        refers_to,
        layers: (layer, descriptor.temporal_layer),
    }
}
