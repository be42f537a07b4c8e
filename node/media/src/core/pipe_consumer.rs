//! The beginning of a route: sends a producer's packets, one copy of each, to another node or worker, however many want them
//! there.

use std::time::{Duration, Instant};

use sluice_mesh::{Frame, FrameClass, FrameFlags, REPAIR_WINDOW, RouteSender};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::{Layers, RouteStats};

use crate::core::frames::FrameBatches;
use crate::core::overload::Shed;
use crate::drop_reason::DropReason;
use crate::keys::ProducerKey;
use crate::messages::PipeEnd;
use crate::stream::left_out::LeftOutPictures;
use crate::stream::rtp_cache::{CachedPacket, Part, RtpCache};
use crate::stream::seq_manager::SeqManager;
use crate::wire::codec::{Codec, shift_picture_id};

/// No repair of what is older. Behind a pipe that was dark for a while everything is missing at once: what was said and shown then
/// is of no use any more, and would come all at once in the way of what is said now.
const MAX_REPAIR_AGE: Duration = Duration::from_secs(1);

/// What [`RouteSender`] remembers of a packet: how to make the same frame again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cookie {
    /// The publisher's sequence number: where the packet is in the producer's cache.
    input: u16,
    /// The sequence number that it travels with.
    output: u16,
    /// Frames left out before it, by which its picture id is less.
    pictures: u16,
    /// How often the publisher had begun to count anew, modulo 2^8: inputs of another time are other packets.
    generation: u8,
    /// What of the packet was sent.
    part: Part,
}

impl Cookie {
    fn to_u64(self) -> u64 {
        u64::from(self.part == Part::ParameterSets) << 56
            | u64::from(self.generation) << 48
            | u64::from(self.input) << 32
            | u64::from(self.output) << 16
            | u64::from(self.pictures)
    }

    fn from_u64(cookie: u64) -> Self {
        Self {
            part: if cookie >> 56 == 0 { Part::Payload } else { Part::ParameterSets },
            generation: (cookie >> 48) as u8,
            input: (cookie >> 32) as u16,
            output: (cookie >> 16) as u16,
            pictures: cookie as u16,
        }
    }
}

/// The beginning of a route.
#[derive(Debug)]
pub(crate) struct PipeConsumer {
    /// Whose packets it sends.
    pub producer: ProducerKey,
    /// Where it sends them.
    pub to: PipeEnd,
    /// What the other end measured.
    pub remote: RouteStats,
    /// Audio or video.
    pub kind: MediaKind,
    /// Whether the worker is too busy for it.
    pub shed: Shed,
    codec: Codec,
    sender: RouteSender,
    /// Highest temporal layer that somebody behind the pipe wants, and that is sent now.
    wanted_temporal: u8,
    current_temporal: u8,
    sync_required: bool,
    /// Somebody behind the pipe cannot decode: parameter sets that the publisher does not repeat may have been lost on it.
    parameter_sets_wanted: bool,
    seq: SeqManager,
    left_out: LeftOutPictures,
    generation: u8,
    /// Packets that may be sent again: as many as were sent, and no more of them at once than can be asked for.
    repairs: u16,
}

impl PipeConsumer {
    /// The beginning of a route that carried nothing yet.
    pub(crate) fn new(
        producer: ProducerKey,
        to: PipeEnd,
        route: RouteId,
        epoch: RouteEpoch,
        kind: MediaKind,
        codec: Codec,
    ) -> Self {
        Self {
            producer,
            to,
            remote: RouteStats::default(),
            kind,
            shed: Shed::No,
            codec,
            sender: RouteSender::new(route, epoch),
            wanted_temporal: u8::MAX,
            current_temporal: u8::MAX,
            sync_required: true,
            parameter_sets_wanted: false,
            seq: SeqManager::new(0),
            left_out: LeftOutPictures::default(),
            generation: 0,
            repairs: 0,
        }
    }

    /// The route.
    pub(crate) fn route(&self) -> RouteId {
        self.sender.route()
    }

    /// Which use of it.
    pub(crate) fn epoch(&self) -> RouteEpoch {
        self.sender.epoch()
    }

    /// The other end wants other layers. Fewer take effect with the next frame, more with the next frame that allows it.
    pub(crate) fn set_wanted(&mut self, layers: Layers) {
        self.wanted_temporal = layers.temporal;
    }

    /// What was sent last has nothing to do with what comes next.
    pub(crate) fn require_sync(&mut self) {
        self.sync_required = true;
    }

    /// The publisher counts anew.
    pub(crate) fn restart(&mut self) {
        self.sync_required = true;
        self.seq.restart();
        self.left_out.restart();
        self.generation = self.generation.wrapping_add(1);
    }

    /// The producer is silent, and its cache is empty: nothing can be sent again. Gives the memory back.
    pub(crate) fn forget_sent(&mut self) {
        self.sender.forget();
    }

    /// Whether all of this was never sent, so that it may begin here.
    pub(crate) fn may_begin_at(&self, sequence: u64) -> bool {
        self.seq.is_ahead(sequence)
    }

    /// The next key frame is to come with its parameter sets.
    pub(crate) fn want_parameter_sets(&mut self) {
        self.parameter_sets_wanted = self.codec == Codec::H264;
    }

    /// Whether it waits for a key frame.
    pub(crate) fn waits_for_key_frame(&self) -> bool {
        self.sync_required && self.shed != Shed::Yes && self.codec.has_key_frames()
    }

    /// Sends a packet of the producer, if the other end wants its layer. Returns how many frames that made: two with parameter sets.
    ///
    /// # Errors
    /// Why it did not go out.
    pub(crate) fn send_rtp(&mut self, packet: &CachedPacket<'_>, out: &mut FrameBatches) -> Result<u64, DropReason> {
        let is_special = self.sync_required || self.parameter_sets_wanted || self.shed != Shed::No;
        let has_parameter_sets = is_special && self.begin(packet, out)?;
        self.choose_layer(packet);
        if packet.info.temporal_layer > self.current_temporal {
            self.leave_out(packet);
            return Err(DropReason::UnwantedLayer);
        }
        let output = self.seq.input(packet.sequence).ok_or(DropReason::TooLate)?;
        self.transmit(packet, Part::Payload, output, out);
        Ok(1 + u64::from(has_parameter_sets))
    }

    /// Lets the route begin (anew) with a packet, if it can, or end before it. Returns whether parameter sets were sent before it.
    fn begin(&mut self, packet: &CachedPacket<'_>, out: &mut FrameBatches) -> Result<bool, DropReason> {
        if self.shed.ends_before(packet.header.timestamp) {
            self.shed = Shed::Yes;
        }
        if self.shed == Shed::Yes {
            return Err(DropReason::Overload);
        }
        let is_beginning = !self.codec.has_key_frames() || packet.info.key_frame_start;
        if !is_beginning || !self.seq.is_ahead(packet.sequence) {
            return if self.sync_required { Err(DropReason::WaitingForKeyFrame) } else { Ok(false) };
        }
        self.parameter_sets_wanted = false;
        let has_parameter_sets = packet.has_parameter_sets();
        if has_parameter_sets {
            self.transmit(packet, Part::ParameterSets, self.seq.next_output(), out);
            self.seq.inserted();
        }
        if has_parameter_sets || self.sync_required {
            self.sync_required = false;
            self.seq.sync(packet.sequence);
            self.current_temporal = self.wanted_temporal;
        }
        Ok(has_parameter_sets)
    }

    fn transmit(&mut self, packet: &CachedPacket<'_>, part: Part, output: u16, out: &mut FrameBatches) {
        let (input, generation) = (packet.header.sequence_number, self.generation);
        let cookie = Cookie { input, output, pictures: self.left_out.before(packet.sequence), generation, part };
        let seq = self.sender.next(cookie.to_u64());
        self.repairs = (self.repairs + 1).min(REPAIR_WINDOW);
        self.push(packet, cookie, seq, FrameFlags::default(), out);
    }

    fn choose_layer(&mut self, packet: &CachedPacket) {
        let info = packet.info;
        if info.key_frame_start || (info.frame_start && self.wanted_temporal < self.current_temporal) {
            self.current_temporal = self.wanted_temporal;
        } else if info.layer_sync
            && info.frame_start
            && info.temporal_layer > self.current_temporal
            && info.temporal_layer <= self.wanted_temporal
        {
            self.current_temporal = info.temporal_layer;
        }
    }

    fn leave_out(&mut self, packet: &CachedPacket) {
        self.seq.drop_input(packet.sequence);
        if packet.info.frame_start {
            self.left_out.add(packet.sequence);
        }
    }

    /// The other end misses these frames: those that the producer's cache still has, and that are not too old to be of use, go out again. Returns how many did.
    pub(crate) fn receive_nack(
        &mut self,
        now: Instant,
        missing: &[u16],
        cache: &RtpCache,
        out: &mut FrameBatches,
    ) -> u64 {
        let mut sent = 0;
        for (seq, cookie) in self.sender.on_nack(missing).take(self.repairs.into()) {
            let cookie = Cookie::from_u64(cookie);
            if cookie.generation != self.generation {
                continue;
            }
            if let Some(packet) = cache.get_recent(cookie.input, now, MAX_REPAIR_AGE) {
                self.push(&packet, cookie, seq, FrameFlags { retransmission: true }, out);
                sent += 1;
            }
        }
        self.repairs -= sent;
        sent.into()
    }

    fn push(&self, packet: &CachedPacket<'_>, cookie: Cookie, seq: u16, flags: FrameFlags, out: &mut FrameBatches) {
        let class = match self.kind {
            MediaKind::Audio => FrameClass::Audio,
            MediaKind::Video => {
                FrameClass::Video { temporal: packet.info.temporal_layer, spatial: 0, key: packet.key_frame }
            }
        };
        let header = packet.header_bytes();
        let bytes = out.copy(header, packet.part(cookie.part), |bytes| {
            if let Some([_, marker, number @ ..]) = bytes.first_chunk_mut::<4>() {
                *marker &= if cookie.part == Part::ParameterSets { 0x7f } else { 0xff };
                *number = cookie.output.to_be_bytes();
            }
            if let (1.., Codec::Vp8, Some(payload)) = (cookie.pictures, self.codec, bytes.get_mut(header.len()..)) {
                shift_picture_id(payload, cookie.pictures);
            }
        });
        let (route, epoch) = (self.sender.route(), self.sender.epoch());
        out.push(self.to, Frame { route, epoch, seq, flags, class, packet: bytes });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use sluice_mesh::LinkKey;

    use super::*;
    use crate::stream::rtp_cache::NewPacket;
    use crate::wire::codec::Vp8Descriptor;
    use crate::wire::rtp::{RtpHeader, RtpPacket};

    /// One packet a frame: a key frame, then the layers 0 2 1 2 in turn, of which the layer 2 behind a 1 builds on it.
    fn frame(number: u16) -> (Vec<u8>, u8) {
        let (layer, sync) = [(0, false), (2, true), (1, true), (2, false)][usize::from(number % 4)];
        let [high, low] = (number | 0x8000).to_be_bytes();
        let key = if number == 0 { 0x50 } else { 0x51 };
        (vec![0x90, 0xe0, high, low, 0, layer << 6 | u8::from(sync) << 5, key], layer)
    }

    #[test]
    fn unwanted_layers_leave_no_trace() {
        let (mut cache, mut out) = (RtpCache::new(MediaKind::Video), FrameBatches::default());
        let to = PipeEnd::Node(LinkKey(1));
        let mut consumer =
            PipeConsumer::new(ProducerKey::default(), to, RouteId(1), RouteEpoch(2), MediaKind::Video, Codec::Vp8);
        let mut layers = Vec::new();
        for number in 0..40 {
            consumer.set_wanted(Layers { spatial: 0, temporal: if number < 20 { 1 } else { 2 } });
            let (payload, layer) = frame(number);
            let header = RtpHeader {
                marker: true,
                payload_type: 101,
                sequence_number: 65_530_u16.wrapping_add(number),
                timestamp: 0,
                ssrc: 1,
            };
            let packet = NewPacket {
                sequence: u64::from(number),
                header,
                audio_level: None,
                left_out_pictures: 0,
                payload: &payload,
            };
            let packet = cache.insert(Instant::now(), Codec::Vp8, packet).unwrap();
            if consumer.send_rtp(&packet, &mut out).is_ok() {
                layers.push(layer);
            }
        }
        assert_eq!(layers[..10], [0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
        assert_eq!(layers[10..], [0, 2, 1, 2, 0, 2, 1, 2, 0, 2, 1, 2, 0, 2, 1, 2, 0, 2, 1, 2]);

        let later = Instant::now() + MAX_REPAIR_AGE * 2;
        assert_eq!(consumer.receive_nack(later, &[3, 12], &cache, &mut out), 0, "nobody waits that long");
        assert_eq!(consumer.receive_nack(Instant::now(), &[3, 12], &cache, &mut out), 2);
        let (_, frames) = out.drain().next().unwrap();
        let (sent, again) = frames.split_at(layers.len());
        for (index, frame) in sent.iter().enumerate() {
            let packet = RtpPacket::parse(&frame.packet).unwrap();
            assert_eq!((usize::from(frame.seq), usize::from(packet.header.sequence_number)), (index, index + 1));
            let picture = Vp8Descriptor::parse(packet.payload).unwrap().picture_id.unwrap();
            assert_eq!(usize::from(picture.value), index);
        }
        for frame in again {
            assert!(frame.flags.retransmission);
            assert_eq!(frame.packet, sent[usize::from(frame.seq)].packet);
        }
        // However often it is asked for the same: no more is sent again than was sent.
        let everything: Vec<u16> = (0..layers.len() as u16).collect();
        let ask = || consumer.receive_nack(Instant::now(), &everything, &cache, &mut out);
        let again: u64 = std::iter::repeat_with(ask).take(100).sum();
        assert_eq!(again, layers.len() as u64 - 2);
    }
}
