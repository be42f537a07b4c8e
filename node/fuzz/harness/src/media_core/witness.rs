//! Sees everything that a core gives out, as those see it whom it is for.
//!
//! - What goes to a user goes to an address of theirs that was authenticated; others get answers to their checks and
//!   nothing else.
//! - A user opens all of it. RTP under a number that came before is the very packet that came then.
//! - A route's frames are numbered without a gap, and what comes again is what came before. So are messages of data,
//!   but for what is given up.
//! - What one input makes is bounded.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use sluice_media::messages::{PipeEnd, WorkerEvent, WorkerIndex};
use sluice_media::secure::srtp::SrtpReceiver;
use sluice_media::wire::rtcp::Compound;
use sluice_media::wire::rtp::RtpPacket;
use sluice_media::{Output, Transmit, TransportAddress};
use sluice_mesh::{DataMessage, Frame};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{FeedbackBody, MAX_STREAMS, RouteFeedback};

use super::cast::{Stream, USERS};

/// An Ethernet frame less its IPv4 and UDP headers.
const MAX_DATAGRAM_LEN: usize = 1_472;
/// A compound has 1,024 packets sent again at most; ten consumers and pipes that begin are sent 256 each.
const MAX_PACKETS: usize = 4_096;
/// The largest message of a data channel.
const MAX_MESSAGE_LEN: usize = 262_144;
/// Packets that a NACK names.
const MAX_NACKED: usize = 1_024;

/// What was seen.
#[derive(Default)]
pub(super) struct Witness {
    addresses: [HashSet<TransportAddress>; USERS],
    openers: [Option<SrtpReceiver>; USERS],
    streams: HashMap<u32, Received>,
    routes: HashMap<(PipeEnd, RouteId), Route>,
    /// Of the present input: its datagrams, and what it made.
    batch: Vec<(TransportAddress, Vec<u8>)>,
    made: usize,
    answers: usize,
}

/// A consumer's stream at its user.
struct Received {
    user: usize,
    payload_type: u8,
    is_rtx: bool,
    newest: u16,
    packets: HashSet<Vec<u8>>,
}

/// A route at its far end.
pub(super) struct Route {
    epoch: RouteEpoch,
    next: Option<u16>,
    frames: HashMap<u16, Bytes>,
    messages: HashMap<u64, (u32, Bytes)>,
}

impl Witness {
    /// The user may be sent to there from now on.
    pub(super) fn authenticate(&mut self, user: usize, address: TransportAddress) {
        self.addresses[user].insert(address);
    }

    /// The user has keys.
    pub(super) fn give_keys(&mut self, user: usize, opener: SrtpReceiver) {
        self.openers[user] = Some(opener);
    }

    /// The user is gone.
    pub(super) fn forget_user(&mut self, user: usize) {
        self.addresses[user].clear();
        self.openers[user] = None;
    }

    /// A consumer of the user may send under this SSRC, and if the stream has RTX under the one behind it.
    pub(super) fn expect_stream(&mut self, user: usize, ssrc: u32, stream: Stream) {
        let payload_type = stream.payload_type();
        let received =
            |payload_type, is_rtx| Received { user, payload_type, is_rtx, newest: 0, packets: HashSet::new() };
        self.streams.insert(ssrc, received(payload_type, false));
        if stream.has_rtx() {
            self.streams.insert(ssrc + 1, received(payload_type + 1, true));
        }
    }

    /// A route begins, in place of the one that is handed back.
    pub(super) fn expect_route(&mut self, to: PipeEnd, route: RouteId, epoch: RouteEpoch) -> Option<Route> {
        self.routes.insert((to, route), Route { epoch, next: None, frames: HashMap::new(), messages: HashMap::new() })
    }

    /// It did not: what there was goes on.
    pub(super) fn restore_route(&mut self, to: PipeEnd, route: RouteId, former: Option<Route>) {
        self.routes.remove(&(to, route));
        self.routes.extend(former.map(|former| ((to, route), former)));
    }

    /// The newest number that was sent under an SSRC.
    pub(super) fn newest(&self, ssrc: u32) -> u16 {
        self.streams.get(&ssrc).map_or(0, |stream| stream.newest)
    }

    /// The connection is over.
    pub(super) fn forget(&mut self, address: TransportAddress) {
        for known in &mut self.addresses {
            known.remove(&address);
        }
    }

    /// An input is about to be given, with these datagrams.
    pub(super) fn begin(&mut self, batch: Vec<(TransportAddress, Vec<u8>)>) {
        self.batch = batch;
        (self.made, self.answers) = (0, 0);
    }

    pub(super) fn see(&mut self, output: &Output) {
        match output {
            Output::Transmit(transmit) => self.see_transmit(transmit),
            Output::Frames { to, frames } => {
                assert!(!frames.is_empty());
                frames.iter().for_each(|frame| self.see_frame(*to, frame));
            }
            Output::Feedback { to, feedback } => self.see_feedback(*to, feedback),
            Output::Data { to, message } => self.see_data(*to, message),
            Output::Event(event) => self.see_event(event),
            Output::Forward { to, source, data, .. } => {
                assert_ne!(*to, WorkerIndex(0), "to itself");
                assert!(self.batch.iter().any(|(from, sent)| *from == TransportAddress::Udp(*source) && sent == data));
                self.count(1);
            }
            Output::AddressOwned { address, owned } => {
                assert!(!owned || self.is_authenticated(*address));
                self.count(1);
            }
        }
    }

    fn count(&mut self, packets: usize) {
        self.made += packets;
        assert!(self.made <= MAX_PACKETS, "one input makes {} outputs", self.made);
    }

    fn is_authenticated(&self, address: TransportAddress) -> bool {
        self.addresses.iter().any(|known| known.contains(&address))
    }

    fn see_transmit(&mut self, transmit: &Transmit) {
        let len = transmit.contents.len();
        let size = transmit.segment_size.unwrap_or(len);
        assert!(len > 0 && size > 0 && size <= MAX_DATAGRAM_LEN, "{size} of {len} bytes");
        for datagram in transmit.contents.chunks(size) {
            self.count(1);
            self.see_datagram(transmit.destination, datagram);
        }
    }

    fn see_datagram(&mut self, to: TransportAddress, datagram: &[u8]) {
        if datagram[0] <= 3 {
            self.answers += 1;
            assert!(self.answers <= self.batch.len() && self.batch.iter().any(|(source, _)| *source == to));
            return;
        }
        assert!(self.is_authenticated(to), "{to:?} was never authenticated");
        match datagram {
            [20..=63, ..] => {}
            [_, 192..=223, ..] => self.see_rtcp(to, datagram),
            [128..=191, ..] => self.see_rtp(to, datagram),
            _ => panic!("of no protocol"),
        }
    }

    /// Sender and reports are the transport's own, so it is one of those at this address.
    fn see_rtcp(&mut self, to: TransportAddress, datagram: &[u8]) {
        let users = self.addresses.iter().zip(&mut self.openers).filter(|(known, _)| known.contains(&to));
        let mut is_opened = false;
        for opener in users.filter_map(|(_, opener)| opener.as_mut()) {
            let mut datagram = datagram.to_vec();
            if let Ok(compound) = opener.open_rtcp(&mut datagram) {
                assert!(Compound::new(compound).all(|packet| packet.is_ok()));
                is_opened = true;
            }
        }
        assert!(is_opened, "nobody at {to:?} can open it");
    }

    fn see_rtp(&mut self, to: TransportAddress, datagram: &[u8]) {
        let sealed = RtpPacket::parse(datagram).expect("RTP");
        let stream = self.streams.get_mut(&sealed.header.ssrc).expect("it is a consumer's");
        assert!(self.addresses[stream.user].contains(&to), "it is another user's");
        let opener = self.openers[stream.user].as_mut().expect("keys");
        let mut plain = datagram.to_vec();
        if stream.packets.insert(datagram.to_vec()) {
            let plain = opener.open_rtp(&mut plain).expect("a number came before with another packet");
            let packet = RtpPacket::parse(plain).expect("RTP");
            // What is sent only to see whether it passes is padding, as a retransmission of nothing.
            assert!(!packet.malformed && (stream.is_rtx || !packet.payload.is_empty()));
            assert_eq!(packet.header.payload_type, stream.payload_type);
            stream.newest = packet.header.sequence_number;
        } else {
            assert!(opener.open_rtp(&mut plain).is_err(), "it came before");
        }
    }

    fn see_frame(&mut self, to: PipeEnd, frame: &Frame) {
        self.count(1);
        let route = self.routes.get_mut(&(to, frame.route)).expect("a route");
        assert_eq!(frame.epoch, route.epoch);
        assert!(!frame.is_shed() && RtpPacket::parse(&frame.packet).is_some_and(|packet| !packet.malformed));
        if frame.flags.retransmission {
            assert_eq!(route.frames.get(&frame.seq), Some(&frame.packet), "it is not what went out before");
        } else {
            assert!(route.next.is_none_or(|next| next == frame.seq), "a gap: {} for {:?}", frame.seq, route.next);
            route.next = Some(frame.seq.wrapping_add(1));
            route.frames.insert(frame.seq, frame.packet.clone());
        }
    }

    fn see_data(&mut self, to: PipeEnd, message: &DataMessage) {
        self.count(1);
        let route = self.routes.get_mut(&(to, message.route)).expect("a route");
        assert_eq!(message.epoch, route.epoch);
        assert!(message.payload.len() <= MAX_MESSAGE_LEN);
        let content = (message.ppid, message.payload.clone());
        let former = route.messages.insert(message.number, content.clone());
        assert!(former.is_none_or(|former| former == content), "it is not what went out before");
    }

    fn see_feedback(&mut self, to: PipeEnd, feedback: &RouteFeedback) {
        self.count(1);
        if let FeedbackBody::Nack(missing) = &feedback.body {
            assert!((1..=MAX_NACKED).contains(&missing.len()));
        }
        if !feedback.body.is_of_receiver() {
            let route = self.routes.get(&(to, RouteId(feedback.route))).expect("a route");
            assert_eq!(feedback.epoch, route.epoch.0);
        }
    }

    fn see_event(&mut self, event: &WorkerEvent) {
        self.count(1);
        match event {
            WorkerEvent::IceStateChanged { remote, .. } => {
                assert!(remote.is_none_or(|remote| self.is_authenticated(remote)));
            }
            WorkerEvent::ProducerScore { scores, .. } => {
                assert!(scores.len() <= MAX_STREAMS && scores.iter().all(|of| of.score <= 10));
            }
            WorkerEvent::ConsumerScore { scores, .. } => {
                assert!(scores.consumer <= 10 && scores.producer <= 10 && scores.streams.best() <= 10);
            }
            WorkerEvent::AudioLevels { volumes, .. } => {
                assert!(volumes.iter().all(|(_, volume)| (-127..=0).contains(volume)))
            }
            WorkerEvent::ConsumerLayersChanged { layers, .. } => {
                assert!(layers.is_none_or(|layers| usize::from(layers.spatial) < MAX_STREAMS));
            }
            WorkerEvent::DownlinkChanged { available_bitrate, .. } => assert!(*available_bitrate > 0),
            WorkerEvent::StreamsWanted { streams, .. } => assert!(*streams < 1 << MAX_STREAMS),
            WorkerEvent::Response { .. }
            | WorkerEvent::DtlsStateChanged { .. }
            | WorkerEvent::SctpStateChanged { .. }
            | WorkerEvent::DataProducerClosed { .. }
            | WorkerEvent::DataConsumerClosed { .. }
            | WorkerEvent::Overload { .. } => {}
        }
    }
}
