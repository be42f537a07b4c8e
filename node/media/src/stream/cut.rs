//! What of a producer's stream leaves, for one consumer or one route, and under which numbers. To whoever gets it, it
//! is a stream without a gap, whatever was left out: what cannot be decoded yet, layers that are not wanted, what the
//! worker is too busy for, padding.

use std::ops::RangeInclusive;

use sluice_proto::pipe::Layers;

use crate::clock::Clock;
use crate::drop_reason::DropReason;
use crate::stream::Stream;
use crate::stream::numbering::Numbering;
use crate::stream::packet::{PacketName, StreamIndex};
use crate::stream::rtp_cache::{CachedPacket, Part};
use crate::wire::codec::Codec;

/// Whether the worker is too busy for a cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Shed {
    /// It is not.
    #[default]
    No,
    /// It is, but the picture with this timestamp is sent to its end, so that what was begun can be shown.
    After(u32),
    /// It is: nothing is sent.
    Yes,
}

impl Shed {
    /// Whether the sending ends before a packet of this timestamp. Packets of the picture, and older ones that come
    /// late, are still sent.
    fn ends_before(self, timestamp: u32) -> bool {
        matches!(self, Self::After(last) if timestamp.wrapping_sub(last).cast_signed() > 0)
    }
}

/// What a packet is within a cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The producer's packet that it is made of.
    pub input: PacketName,
    /// The part of it.
    pub part: Part,
    /// Its sequence number.
    pub output: u16,
    /// Pictures that were left out before it, by which its picture number is less.
    pub left_out_pictures: u16,
}

impl Place {
    /// Changes a payload of the publisher's to what it is in the cut.
    pub(crate) fn rewrite(&self, codec: Codec, payload: &mut [u8]) {
        if self.left_out_pictures > 0 {
            codec.lessen_picture_id(payload, self.left_out_pictures);
        }
    }
}

/// A cut.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The producer's stream that it is made of.
    stream: StreamIndex,
    codec: Codec,
    /// Padding is sent too: whoever gets it counts the publisher's packets.
    with_padding: bool,
    /// The next packet begins anew; of video only a key frame can.
    sync_required: bool,
    /// Whoever gets it cannot decode: it may have missed parameter sets that the publisher does not repeat.
    parameter_sets_wanted: bool,
    /// Highest temporal layer that is wanted, and that is sent now.
    target_temporal: u8,
    current_temporal: u8,
    shed: Shed,
    numbers: Numbering,
}

impl Cut {
    /// A cut of which nothing was sent yet. Its first sequence number is the one behind `before_first`.
    pub(crate) fn new(codec: Codec, before_first: u16, with_padding: bool) -> Self {
        Self {
            stream: StreamIndex::ZERO,
            codec,
            with_padding,
            sync_required: true,
            parameter_sets_wanted: false,
            target_temporal: u8::MAX,
            current_temporal: u8::MAX,
            shed: Shed::No,
            numbers: Numbering::new(before_first),
        }
    }

    /// The producer's stream that it is made of.
    pub(crate) fn stream(&self) -> StreamIndex {
        self.stream
    }

    /// What its payloads are.
    pub(crate) fn codec(&self) -> Codec {
        self.codec
    }

    /// What was sent last has nothing to do with what comes next.
    pub(crate) fn require_sync(&mut self) {
        self.sync_required = true;
    }

    /// The next key frame is to come with its parameter sets.
    pub(crate) fn want_parameter_sets(&mut self) {
        self.parameter_sets_wanted = self.codec.has_parameter_sets();
    }

    /// Other layers are wanted. Fewer take effect with the next picture, more with the next one that allows it.
    pub(crate) fn set_target(&mut self, layers: Layers) {
        self.target_temporal = layers.temporal;
    }

    /// Whether the worker is too busy for it.
    pub(crate) fn is_shed(&self) -> bool {
        self.shed != Shed::No
    }

    /// Whether nothing is sent because the worker is too busy.
    pub(crate) fn is_shed_wholly(&self) -> bool {
        self.shed == Shed::Yes
    }

    /// The worker is too busy for it from now on: it ends at once, or with the picture that is being sent and has this
    /// timestamp.
    pub(crate) fn shed(&mut self, unfinished: Option<u32>) {
        self.shed = unfinished.map_or(Shed::Yes, Shed::After);
    }

    /// The worker is not too busy for it any more.
    pub(crate) fn unshed(&mut self) {
        self.shed = Shed::No;
    }

    /// What of the stream that it is made of lets it begin at once, if there is such and nothing of it was ever sent.
    pub(crate) fn catch_up(&self, source: &Stream, clock: &Clock) -> Option<RangeInclusive<u64>> {
        source.catch_up(clock.now).filter(|packets| self.numbers.is_ahead(*packets.start()))
    }

    /// Whether it waits for a key frame.
    pub(crate) fn waits_for_key_frame(&self) -> bool {
        self.sync_required && self.shed != Shed::Yes && self.codec.has_key_frames()
    }

    /// Has a packet sent, if it belongs in the cut, after the parameter sets that must be known before it.
    ///
    /// # Errors
    /// Why it was not sent, maybe by `send`. It used no number then, but parameter sets may have been sent before it,
    /// under their own.
    #[inline]
    pub(crate) fn pass(
        &mut self,
        packet: &CachedPacket<'_>,
        mut send: impl FnMut(Place) -> Result<(), DropReason>,
    ) -> Result<(), DropReason> {
        if self.sync_required || self.parameter_sets_wanted || self.shed != Shed::No {
            self.begin(packet, &mut send)?;
        }
        if !self.with_padding && packet.payload().is_empty() {
            self.numbers.drop_input(packet.sequence);
            return Ok(());
        }
        self.choose_layer(packet);
        if packet.info.temporal_layer > self.current_temporal {
            self.numbers.leave_out(packet.sequence, packet.info.frame_start);
            return Err(DropReason::UnwantedLayer);
        }
        let output = self.numbers.output(packet.sequence).ok_or(DropReason::TooLate)?;
        let place = self.place(packet, Part::Payload, output as u16);
        send(place).inspect_err(|_| self.numbers.drop_input(packet.sequence))?;
        self.sync_required = false;
        self.numbers.sent(packet.sequence, output);
        Ok(())
    }

    /// Lets the cut begin (anew) with a packet, if it can, or end before it.
    fn begin(
        &mut self,
        packet: &CachedPacket<'_>,
        send: &mut impl FnMut(Place) -> Result<(), DropReason>,
    ) -> Result<(), DropReason> {
        if self.shed.ends_before(packet.header.timestamp) {
            self.shed = Shed::Yes;
        }
        if self.shed == Shed::Yes {
            return Err(DropReason::Overload);
        }
        let is_beginning = !self.codec.has_key_frames() || packet.info.key_frame_start;
        let is_sent = self.with_padding || !packet.payload().is_empty();
        if !is_beginning || !is_sent || !self.numbers.is_ahead(packet.sequence) {
            return if self.sync_required { Err(DropReason::WaitingForKeyFrame) } else { Ok(()) };
        }
        self.parameter_sets_wanted = false;
        if packet.has_parameter_sets() {
            self.sync_required = true;
            send(self.place(packet, Part::ParameterSets, self.numbers.next_output()))?;
            self.numbers.inserted();
        }
        if self.sync_required {
            self.numbers.sync(packet.sequence);
            self.current_temporal = self.target_temporal;
        }
        Ok(())
    }

    fn place(&self, packet: &CachedPacket<'_>, part: Part, output: u16) -> Place {
        let input = PacketName::new(self.stream, packet.sequence);
        Place { input, part, output, left_out_pictures: self.numbers.pictures_before(packet.sequence) }
    }

    fn choose_layer(&mut self, packet: &CachedPacket<'_>) {
        let info = packet.info;
        if info.key_frame_start || (info.frame_start && self.target_temporal < self.current_temporal) {
            self.current_temporal = self.target_temporal;
        } else if info.layer_sync
            && info.frame_start
            && info.temporal_layer > self.current_temporal
            && info.temporal_layer <= self.target_temporal
        {
            self.current_temporal = info.temporal_layer;
        }
    }
}
