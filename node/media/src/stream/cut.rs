//! What of a producer's stream leaves, for one consumer or one route, and under which numbers. To whoever gets it, it
//! is a stream without a gap, whatever was left out: what cannot be decoded yet, layers that are not wanted, what the
//! worker is too busy for, padding.

use std::ops::RangeInclusive;
use std::time::Instant;

use sluice_proto::pipe::Layers;

use crate::drop_reason::DropReason;
use crate::stream::Stream;
use crate::stream::layers::{SentLayers, UpTo};
use crate::stream::numbering::Numbering;
use crate::stream::packet::{PacketName, StreamIndex};
use crate::stream::rtp_cache::{CachedPacket, Part};
use crate::stream::succession::{Numbers, Shift, Shifts, Succession};
use crate::wire::codec::{Codec, PictureNumbers};

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
    /// By how much its picture number is less: pictures that were left out before it, and what came of other streams.
    pub left_out_pictures: u16,
    /// Nothing more of its picture is sent.
    pub ends_picture: bool,
    /// Highest layers that are sent.
    pub up_to: UpTo,
}

/// Changes a payload of the publisher's to what it is in its place in a cut.
#[inline]
pub(crate) fn rewrite(place: Place, shift: Shift, codec: Codec, payload: &mut [u8]) {
    if place.left_out_pictures > 0 || shift.base_layer > 0 {
        let by = PictureNumbers { picture: place.left_out_pictures, base_layer: shift.base_layer };
        codec.lessen_picture_numbers(payload, by);
    }
}

/// A cut.
#[derive(Debug)]
pub(crate) struct Cut {
    /// The producer's stream that it is made of.
    stream: StreamIndex,
    /// The one that it is to be made of, as soon as that begins with a key frame.
    next: Option<StreamIndex>,
    /// How it goes on from the stream that it was made of, until the next one begins.
    succession: Option<Box<Succession>>,
    shifts: Shifts,
    /// Of the newest packet that was sent: its timestamp, as the stream has it, and when it came.
    newest_sent: Option<(u32, Instant)>,
    /// Somebody wants it.
    wanted: bool,
    codec: Codec,
    /// It is for others to cut again, who count the publisher's packets: padding is sent too.
    for_route: bool,
    /// The next packet begins anew; of video only a key frame can.
    sync_required: bool,
    /// Whoever gets it cannot decode: it may have missed parameter sets that the publisher does not repeat.
    parameter_sets_wanted: bool,
    /// The number that it began (anew) with last.
    begun: u16,
    layers: SentLayers,
    shed: Shed,
    numbers: Numbering,
}

impl Cut {
    /// A cut of a stream, of which nothing was sent yet. Its first sequence number is the one behind `before_first`.
    pub(crate) fn new(stream: StreamIndex, codec: Codec, before_first: u16, for_route: bool) -> Self {
        Self {
            stream,
            next: None,
            succession: None,
            shifts: Shifts::default(),
            newest_sent: None,
            wanted: true,
            codec,
            for_route,
            sync_required: true,
            parameter_sets_wanted: false,
            begun: before_first,
            layers: SentLayers::new(for_route),
            shed: Shed::No,
            numbers: Numbering::new(before_first),
        }
    }

    /// The producer's stream that it is made of.
    pub(crate) fn stream(&self) -> StreamIndex {
        self.stream
    }

    /// The one that it is to be made of, as soon as that begins with a key frame.
    pub(crate) fn next_stream(&self) -> Option<StreamIndex> {
        self.next
    }

    /// The stream that it is made of, or is to be.
    pub(crate) fn aimed_stream(&self) -> StreamIndex {
        self.next.unwrap_or(self.stream)
    }

    /// It is to be made of this stream as soon as that begins with a key frame. Until then it goes on as it is.
    pub(crate) fn aim(&mut self, stream: StreamIndex) {
        self.next = (stream != self.stream).then_some(stream);
    }

    /// It is made of the stream that it is aimed at from now on, which `to` is; `from` is what it was made of.
    pub(crate) fn switch(&mut self, from: &Stream, to: &Stream) {
        let Some(next) = self.next.take() else { return };
        // Of several changes without a packet in between, the last packet is from before the first.
        match &mut self.succession {
            Some(succession) => succession.is_of(to),
            None => {
                let numbers = self.newest_numbers(from).unwrap_or_default();
                let new = |newest| Box::new(Succession::new((from, to), newest, self.shifts.now(), numbers));
                self.succession = self.newest_sent.take().map(new);
            }
        }
        if matches!(self.shed, Shed::After(_)) {
            // The picture that was to be finished is of the former stream.
            self.shed = Shed::Yes;
        }
        self.stream = next;
        self.layers.change_stream();
        self.sync_required = true;
        self.numbers.change_inputs();
    }

    /// The numbers of the newest frame, as they were sent, if that is still kept.
    fn newest_numbers(&self, from: &Stream) -> Option<Numbers> {
        let newest = from.cache().get(self.numbers.highest_input()?)?;
        let (picture, shift) = (self.numbers.pictures_before(newest.sequence), self.shifts.now());
        let by = PictureNumbers { picture, base_layer: shift.base_layer };
        let Numbers { pictures, frame } = Numbers::of(self.codec, &newest);
        Some(Numbers {
            pictures: pictures.map(|pictures| pictures.since(by)),
            frame: frame.map(|frame| frame.wrapping_sub(shift.frame)),
        })
    }

    /// How its packets differ from the stream's, from now on.
    #[inline]
    pub(crate) fn shift(&self) -> Shift {
        self.shifts.now()
    }

    /// The same of what was sent.
    pub(crate) fn shifts(&self) -> &Shifts {
        &self.shifts
    }

    /// Whether anybody wants it.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether nothing up to this packet of its stream was sent or left out yet.
    pub(crate) fn is_ahead(&self, sequence: u64) -> bool {
        self.numbers.is_ahead(sequence)
    }

    /// Whether whoever gets it can do without this number: it has begun anew since.
    pub(crate) fn is_past(&self, output: u16) -> bool {
        output.wrapping_sub(self.begun).cast_signed() < 0
    }

    /// The highest number that was sent.
    pub(crate) fn highest_output(&self) -> u16 {
        self.numbers.highest_output()
    }

    /// Which layers of it are sent.
    pub(crate) fn layers(&self) -> &SentLayers {
        &self.layers
    }

    /// Whether other layers are sent than when this was asked last.
    pub(crate) fn take_layers_changed(&mut self) -> bool {
        self.layers.take_changed()
    }

    /// Whether it waits for a key frame to take up or to give up a spatial layer, and meanwhile goes on as it is.
    pub(crate) fn waits_for_layer(&self) -> bool {
        self.layers.need_key_frame() && !self.sync_required && self.wanted && self.shed != Shed::Yes
    }

    /// What was sent last has nothing to do with what comes next.
    pub(crate) fn require_sync(&mut self) {
        self.sync_required = true;
    }

    /// The next key frame is to come with its parameter sets.
    pub(crate) fn want_parameter_sets(&mut self) {
        self.parameter_sets_wanted = self.codec.has_parameter_sets();
    }

    /// Other layers are wanted, or none. Fewer take effect with the next picture, more with the next one that allows
    /// it. Spatial layers inside a stream are all wanted, or a choice of those that there are.
    pub(crate) fn set_wanted(&mut self, layers: Option<Layers>) {
        self.layers.want(layers.unwrap_or(self.layers.wanted()));
        let was_wanted = std::mem::replace(&mut self.wanted, layers.is_some());
        self.sync_required |= self.wanted && !was_wanted;
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
    pub(crate) fn catch_up(
        &self,
        source: &Stream,
        now: Instant,
        since: Instant,
        is_limited: bool,
    ) -> Option<RangeInclusive<u64>> {
        source.catch_up(now, since, is_limited).filter(|packets| self.numbers.is_ahead(*packets.start()))
    }

    /// Whether it waits for a key frame.
    pub(crate) fn waits_for_key_frame(&self) -> bool {
        self.sync_required && self.wanted && self.shed != Shed::Yes && self.codec.has_key_frames()
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
        mut send: impl FnMut(Place, Shift) -> Result<(), DropReason>,
    ) -> Result<(), DropReason> {
        if self.sync_required || self.parameter_sets_wanted || self.shed != Shed::No {
            self.begin(packet, &mut send)?;
        }
        if !self.for_route && packet.payload().is_empty() {
            self.numbers.drop_input(packet.sequence);
            return Ok(());
        }
        if !self.layers.are_settled() || packet.info.key_frame_start {
            let is_newer = self.is_newer(packet.header.timestamp);
            self.layers.follow(packet, is_newer, self.numbers.is_ahead(packet.sequence));
        }
        let Some(layers) = self.layers.of(packet) else {
            let begins_picture = packet.info.frame_start && self.codec.counts_pictures();
            self.numbers.leave_out(packet.sequence, begins_picture);
            return Err(DropReason::UnwantedLayer);
        };
        let output = self.numbers.output(packet.sequence).ok_or(DropReason::TooLate)?;
        let place = self.place(packet, Part::Payload, output as u16, layers);
        send(place, self.shifts.now()).inspect_err(|_| self.numbers.drop_input(packet.sequence))?;
        self.sync_required = false;
        self.numbers.sent(packet.sequence, output);
        let timestamp = packet.header.timestamp;
        if self.is_newer(timestamp) {
            self.newest_sent = Some((timestamp, packet.received_at));
        }
        Ok(())
    }

    /// Lets the cut begin (anew) with a packet, if it can, or end before it.
    fn begin(
        &mut self,
        packet: &CachedPacket<'_>,
        send: &mut impl FnMut(Place, Shift) -> Result<(), DropReason>,
    ) -> Result<(), DropReason> {
        if self.shed.ends_before(packet.header.timestamp) {
            self.shed = Shed::Yes;
        }
        if self.shed == Shed::Yes {
            return Err(DropReason::Overload);
        }
        let is_beginning = !self.codec.has_key_frames() || packet.info.key_frame_start;
        let is_sent = self.for_route || !packet.payload().is_empty();
        if !is_beginning || !is_sent || !self.numbers.is_ahead(packet.sequence) {
            return if self.sync_required { Err(DropReason::WaitingForKeyFrame) } else { Ok(()) };
        }
        self.parameter_sets_wanted = false;
        if self.sync_required {
            self.begun = self.numbers.next_output();
        }
        self.take_over(packet);
        if packet.has_parameter_sets() {
            self.sync_required = true;
            let output = self.numbers.next_output();
            send(self.place(packet, Part::ParameterSets, output, self.layers.wanted()), self.shifts.now())?;
            self.numbers.inserted();
        }
        if self.sync_required {
            self.numbers.sync(packet.sequence);
            self.layers.begin(packet);
        }
        Ok(())
    }

    /// This is the first packet of another stream, if that is due.
    fn take_over(&mut self, packet: &CachedPacket<'_>) {
        let Some(succession) = self.succession.take() else { return };
        let taken = succession.take(self.codec, packet);
        self.shifts.begin(self.numbers.next_output(), taken.shift);
        self.numbers.set_pictures_before(packet.sequence, taken.pictures.unwrap_or_default());
    }

    fn place(&self, packet: &CachedPacket<'_>, part: Part, output: u16, layers: Layers) -> Place {
        let info = &packet.info;
        Place {
            input: PacketName::new(self.stream, packet.sequence),
            part,
            output,
            left_out_pictures: self.numbers.pictures_before(packet.sequence),
            ends_picture: info.frame_end && info.spatial_layer == layers.spatial,
            up_to: UpTo::new(layers),
        }
    }

    /// Whether a packet is of a newer picture than all that was sent.
    fn is_newer(&self, timestamp: u32) -> bool {
        self.newest_sent.is_none_or(|(newest, _)| timestamp.wrapping_sub(newest).cast_signed() > 0)
    }
}
