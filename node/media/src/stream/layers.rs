//! Which layers inside a stream are sent to one consumer or by one route: those that are wanted, as soon as a packet
//! allows it. A higher spatial layer is taken up with a key picture. A lower one with the next picture, or also with a
//! key picture where nothing below was sent, as nothing that was sent needed it. Temporal layers come and go within
//! both.

use sluice_proto::pipe::{Layers, MAX_STREAMS};

use crate::stream::rtp_cache::CachedPacket;
use crate::wire::codec::PayloadInfo;

/// Highest spatial and temporal layer that are sent, in a byte: four bits each, all of them set where nothing is left
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UpTo(pub u8);

impl UpTo {
    /// Every layer.
    pub(crate) const ALL: Self = Self(u8::MAX);

    /// Up to these.
    pub(crate) fn new(layers: Layers) -> Self {
        Self(layers.spatial.min(0x0f) << 4 | layers.temporal.min(0x0f))
    }

    /// Both, unless every layer is sent.
    pub(crate) fn layers(self) -> Option<(u8, u8)> {
        (self != Self::ALL).then_some((self.0 >> 4, self.0 & 0x0f))
    }
}

/// The layers that are sent.
#[derive(Debug)]
pub(crate) struct SentLayers {
    /// They are cut again elsewhere: every layer below the highest one is sent, and a higher one with any picture.
    for_route: bool,
    /// The highest ones that are wanted, and that are sent now. Of a stream without spatial layers inside it every
    /// spatial layer is.
    target: Layers,
    current: Layers,
    /// The layers before the last change, which was at this timestamp: older packets may still come.
    former: Option<(u32, Layers)>,
    /// Frames of lower spatial layers were left out since the last key frame, as nothing that is sent needs them.
    skips_below: bool,
    changed: bool,
}

impl SentLayers {
    /// Every layer.
    pub(crate) fn new(for_route: bool) -> Self {
        let all = Layers::ALL;
        Self { for_route, target: all, current: all, former: None, skips_below: false, changed: false }
    }

    /// The highest ones that are sent.
    pub(crate) fn current(&self) -> Layers {
        self.current
    }

    /// The highest ones that are wanted.
    pub(crate) fn wanted(&self) -> Layers {
        self.target
    }

    /// These are wanted from now on.
    pub(crate) fn want(&mut self, layers: Layers) {
        self.target = layers;
    }

    /// Whether others are sent than when this was asked last.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether a key frame is needed to take up or to give up a spatial layer.
    pub(crate) fn need_key_frame(&self) -> bool {
        let (target, current) = (self.target.spatial, self.current.spatial);
        !self.for_route && (target > current || (target < current && self.skips_below))
    }

    /// Whether all that is wanted is sent, and nothing else.
    #[inline]
    pub(crate) fn are_settled(&self) -> bool {
        self.current == self.target
    }

    /// What comes next is of another stream, whose timestamps say nothing of this one's.
    pub(crate) fn change_stream(&mut self) {
        self.former = None;
    }

    /// All that is wanted is sent from this key frame on.
    pub(crate) fn begin(&mut self, packet: &CachedPacket<'_>) {
        self.take(packet, self.target);
        self.skips_below = false;
    }

    /// Follows what is wanted, as far as a packet allows it, which may be of a newer picture than all that was sent,
    /// and ahead of all packets that came.
    pub(crate) fn follow(&mut self, packet: &CachedPacket<'_>, is_newer: bool, is_ahead: bool) {
        let info = &packet.info;
        if info.key_frame_start {
            // What is behind one that came late may have been left out already.
            if is_ahead || self.send_all_below(self.target) {
                self.begin(packet);
            }
            return;
        }
        let mut layers = self.current;
        if info.frame_start && is_newer {
            layers.temporal = layers.temporal.min(self.target.temporal);
            if self.for_route || (self.target.spatial < layers.spatial && !self.skips_below) {
                layers.spatial = self.target.spatial;
            }
        }
        if info.frame_start && info.switches_up != 0 {
            layers.temporal = self.temporal_layer_from(info).unwrap_or(layers.temporal);
        }
        self.take(packet, layers);
    }

    /// A higher temporal layer that may be sent from a frame on, if that is wanted.
    fn temporal_layer_from(&self, info: &PayloadInfo) -> Option<u8> {
        let is_sent = info.temporal_layer <= self.current.temporal;
        let takes_up_its_own = info.switches_up >> info.temporal_layer.min(7) & 1 != 0 && info.spatial_layer == 0;
        let highest =
            (0..8).rev().find(|layer| *layer <= self.target.temporal && info.switches_up >> layer & 1 != 0)?;
        (highest > self.current.temporal && (is_sent || takes_up_its_own)).then_some(highest)
    }

    fn take(&mut self, packet: &CachedPacket<'_>, layers: Layers) {
        if layers != self.current {
            self.former = Some((packet.header.timestamp, self.current));
            self.current = layers;
            self.changed = true;
        }
    }

    /// The highest layers that are sent of a packet's picture; `None` if the packet is not.
    #[inline]
    pub(crate) fn of(&mut self, packet: &CachedPacket<'_>) -> Option<Layers> {
        if self.include(self.current, &packet.info) { Some(self.current) } else { self.formerly(packet) }
    }

    /// Below the highest spatial layer there may be frames that nothing of it needs: all but key pictures, of streams
    /// whose layers refer to each other in these alone.
    #[inline]
    fn include(&self, layers: Layers, info: &PayloadInfo) -> bool {
        let is_needed = info.spatial_layer >= layers.spatial || !info.unused_above || self.send_all_below(layers);
        info.temporal_layer <= layers.temporal && info.spatial_layer <= layers.spatial && is_needed
    }

    /// Where no choice was made among spatial layers, whatever comes may be the highest one.
    fn send_all_below(&self, layers: Layers) -> bool {
        self.for_route || usize::from(layers.spatial) >= MAX_STREAMS
    }

    /// A packet that is not of the layers of now may be late, and older than their last change.
    fn formerly(&mut self, packet: &CachedPacket<'_>) -> Option<Layers> {
        let is_older = |since: u32| packet.header.timestamp.wrapping_sub(since).cast_signed() < 0;
        let former = self.former.filter(|(since, layers)| is_older(*since) && self.include(*layers, &packet.info));
        if former.is_none() {
            self.skips_below |= packet.info.spatial_layer < self.current.spatial && packet.info.unused_above;
        }
        former.map(|(_, layers)| layers)
    }
}
