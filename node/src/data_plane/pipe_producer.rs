//! The end of a route: where a producer that lives elsewhere enters this worker. What it adds to a producer is the account of
//! the route's frames and the way back to the other end.

use std::time::{Duration, Instant};

use sluice_mesh::{Accept, Frame, REPAIR_WINDOW, RouteReceiver};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{PipeBody, PipeMessage};

use super::drop_reason::DropReason;
use super::left_out::LeftOutPictures;
use super::messages::PipeEnd;
use super::rtp::RtpHeader;
use super::seq::extend;
use super::seq_manager::SeqManager;

/// Round-trip time of a pipe to assume until a repair was seen.
const ASSUMED_RTT: Duration = Duration::from_millis(100);

/// Time between two messages of statistics.
const STATS_INTERVAL: Duration = Duration::from_secs(1);

/// The end of a route.
#[derive(Debug)]
pub struct PipeProducer {
    /// Where the producer lives.
    pub from: PipeEnd,
    /// The route.
    pub route: RouteId,
    /// Which use of it.
    pub epoch: RouteEpoch,
    /// SSRC inside the mesh.
    pub ssrc: u32,
    /// The other end said that the route is over. The control plane closes the producer in its own time.
    pub closed: bool,
    /// The other end said that the pipe has no room for this route. It asks for a key frame itself when it has again.
    pub starved: bool,
    receiver: RouteReceiver,
    stats_at: Option<Instant>,
    shed: Option<Shed>,
}

/// Closes the gaps of what the other end shed. It exists from the first packet on that was not.
#[derive(Debug)]
struct Shed {
    seq: SeqManager,
    pictures: LeftOutPictures,
    /// Sequence number and timestamp of the newest packet, shed or not, as the other end counts.
    newest: (u64, u32),
}

/// What a frame is to its producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It came by itself.
    Regular,
    /// It had to be asked for.
    Repaired,
}

impl PipeProducer {
    /// The end of a route on which nothing came yet.
    pub fn new(now: Instant, from: PipeEnd, route: RouteId, epoch: RouteEpoch, ssrc: u32) -> Self {
        let receiver = RouteReceiver::new(now);
        Self { from, route, epoch, ssrc, closed: false, starved: false, receiver, stats_at: None, shed: None }
    }

    /// A frame of the route came.
    ///
    /// # Errors
    /// Why it is not to be used.
    pub fn receive(&mut self, now: Instant, frame: &Frame) -> Result<Arrival, DropReason> {
        let accept = self.receiver.receive(now, frame.seq, frame.flags.retransmission);
        self.stats_at.get_or_insert(now + STATS_INTERVAL);
        let arrival = match accept {
            Accept::New => Arrival::Regular,
            Accept::Repaired => Arrival::Repaired,
            Accept::Duplicate => return Err(DropReason::PipeDuplicate),
            Accept::TooOld => return Err(DropReason::PipeTooOld),
        };
        if frame.is_shed() {
            self.leave_out(&frame.packet);
            return Err(DropReason::PipeShed);
        }
        Ok(arrival)
    }

    /// The sequence number of a packet that the other end did not shed, with the number of pictures that it shed before it. `None`
    /// for what comes too late.
    pub fn renumber(&mut self, header: &RtpHeader) -> Option<(u16, u16)> {
        let seq = header.sequence_number;
        let shed = self.shed.get_or_insert_with(|| Shed::new(seq));
        let sequence = shed.advance(seq, header.timestamp).0;
        Some((shed.seq.input(sequence)?, shed.pictures.before(sequence)))
    }

    fn leave_out(&mut self, head: &[u8]) {
        let (Some(shed), Some(&[_, _, high, low, ref timestamp @ ..])) = (&mut self.shed, head.first_chunk::<8>())
        else {
            return;
        };
        let (sequence, begins) = shed.advance(u16::from_be_bytes([high, low]), u32::from_be_bytes(*timestamp));
        shed.seq.drop_input(sequence);
        if begins {
            shed.pictures.add(sequence);
        }
    }

    /// Frames given up since the last call.
    pub fn take_lost(&mut self) -> u64 {
        self.receiver.take_lost()
    }

    /// What is to be said to the other end now.
    pub fn poll_message(&mut self, now: Instant) -> Option<PipeMessage> {
        if self.closed {
            return None;
        }
        if let Some(missing) = self.receiver.poll_nack(now, ASSUMED_RTT) {
            return Some(self.message(PipeBody::Nack(missing)));
        }
        if self.stats_at.is_some_and(|at| at <= now) {
            self.stats_at = Some(now + STATS_INTERVAL);
            return Some(self.message(PipeBody::Stats(self.receiver.stats())));
        }
        None
    }

    /// When [`poll_message`](Self::poll_message) has something to say next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        [self.receiver.poll_timeout(), self.stats_at].into_iter().flatten().min()
    }

    /// A message to the other end.
    pub fn message(&self, body: PipeBody) -> PipeMessage {
        PipeMessage { route: self.route.0, epoch: self.epoch.0, body }
    }
}

impl Shed {
    /// With this packet; until something is shed numbers stay as they are. What it has overtaken, or what had to be asked for, may be
    /// before it.
    fn new(first: u16) -> Self {
        let sequence = extend(None, first);
        let mut seq = SeqManager::new(first.wrapping_sub(REPAIR_WINDOW + 1));
        seq.sync(sequence - u64::from(REPAIR_WINDOW));
        // No picture has begun: the first one does with whatever timestamp it has.
        Self { seq, pictures: LeftOutPictures::default(), newest: (sequence, 0) }
    }

    /// The number without its wrap, and whether the packet is the first of a picture.
    fn advance(&mut self, seq: u16, timestamp: u32) -> (u64, bool) {
        let sequence = extend(Some(self.newest.0), seq);
        if sequence < self.newest.0 {
            return (sequence, false);
        }
        let begins = self.newest.1 != timestamp;
        self.newest = (sequence, timestamp);
        (sequence, begins)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
    use sluice_mesh::{FrameClass, FrameFlags};

    use super::super::messages::LinkKey;
    use super::*;

    #[test]
    fn what_the_other_end_sheds_leaves_no_gap() {
        let now = Instant::now();
        let (route, epoch) = (RouteId(1), RouteEpoch(1));
        let mut producer = PipeProducer::new(now, PipeEnd::Node(LinkKey(1)), route, epoch, 7);
        let mut came_out = Vec::new();
        // Pictures of two packets each, close to the wrap; every other picture of the middle is shed.
        for packet in 0..40_u16 {
            let picture = packet / 2;
            let header = RtpHeader {
                marker: packet % 2 == 1,
                payload_type: 101,
                sequence_number: 65_520_u16.wrapping_add(packet),
                timestamp: u32::from(picture) * 3000,
                ssrc: 7,
            };
            let class = FrameClass::Video { temporal: (picture % 2) as u8, spatial: 0, key: false };
            let flags = FrameFlags::default();
            let bytes = header.to_bytes(false).to_vec().into();
            let mut frame = Frame { route, epoch, seq: packet, flags, class, packet: bytes };
            if (10..30).contains(&packet) && picture % 2 == 1 {
                frame.shed();
            }
            match producer.receive(now, &frame) {
                Ok(_) => came_out.push((packet, producer.renumber(&header).unwrap())),
                Err(reason) => assert_eq!(reason, DropReason::PipeShed),
            }
        }
        assert_eq!(came_out.len(), 30);
        for (index, (packet, (seq, left_out_pictures))) in came_out.into_iter().enumerate() {
            assert_eq!(seq, 65_520_u16.wrapping_add(index as u16));
            assert_eq!(packet / 2 - left_out_pictures, index as u16 / 2);
        }
    }

    #[test]
    fn what_was_lost_at_the_very_beginning_and_repaired_is_used() {
        let now = Instant::now();
        let (route, epoch) = (RouteId(1), RouteEpoch(1));
        let mut producer = PipeProducer::new(now, PipeEnd::Node(LinkKey(1)), route, epoch, 7);
        for (packet, retransmission) in [(1, false), (0, true), (2, false)] {
            let sequence_number = 65_535_u16.wrapping_add(packet);
            let header = RtpHeader { marker: true, payload_type: 101, sequence_number, timestamp: 0, ssrc: 7 };
            let class = FrameClass::Video { temporal: 0, spatial: 0, key: true };
            let flags = FrameFlags { retransmission };
            let bytes = header.to_bytes(false).to_vec().into();
            producer.receive(now, &Frame { route, epoch, seq: packet, flags, class, packet: bytes }).unwrap();
            assert_eq!(producer.renumber(&header), Some((sequence_number, 0)));
        }
    }
}
