//! A transport with the media and the data channels on it: what one user sends to or receives from one server over one
//! path. Sans-IO.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_rtcp::packet::Packet as RtcpPacket;
use rtc_rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc_rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_rtcp::receiver_report::ReceiverReport;
use rtc_rtcp::sender_report::SenderReport;
use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;
use rtc_rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rustc_hash::FxHashMap;

use crate::clock::Clock;
use crate::data::Channels;
use crate::media::{
    BandwidthController, Codec, Incoming, MIN_BITS_PER_SECOND, Outgoing, Publisher, PublisherStats, ReceiveParameters,
    RtpHeader, SendParameters, Sending, Source, StreamReceiver, StreamStats, TwccReceiver,
};
use crate::scenario::Data;
use crate::tally::{ReceivedTally, SentTally, Tally};
use crate::transport::{
    ClientTransport, Delivery, Input, Output, Received, RemoteParameters, TransportConfig, TransportCounters,
    TransportError, TransportState,
};

/// Between receiver reports: libwebrtc's for video.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Chromium reports under SSRC 1 where it sends nothing itself.
const REPORTER_SSRC: u32 = 1;
/// Report blocks that one RR has room for, RFC 3550 section 6.4.2.
const MAX_REPORTS: usize = 31;

/// What a session as a whole saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Datagrams.
    pub transport: TransportCounters,
    /// RTP packets with an SSRC that was not announced.
    pub unknown_ssrc: u64,
    /// Transport-wide feedback messages received about what was sent.
    pub feedback_received: u64,
    /// Packets that those call received.
    pub feedback_packets: u64,
    /// Transport-wide feedback messages sent.
    pub feedback_sent: u64,
    /// RTP packets received, whatever their stream.
    pub rtp_received: u64,
    /// Messages on data channels that were not announced, or that are no virtual user's.
    pub unknown_messages: u64,
}

/// One transport of one user, with its streams.
pub struct Session {
    transport: ClientTransport,
    clock: Clock,
    /// What is sent, by source.
    sendings: Vec<Sending>,
    streams: Vec<StreamReceiver>,
    /// SSRC to index in `streams`, and whether it is the one of retransmissions.
    ssrcs: FxHashMap<u32, (usize, bool)>,
    /// When the first of the streams has something to ask for.
    streams_due: Option<Instant>,
    channels: Channels,
    bandwidth: BandwidthController,
    transport_cc_id: Option<u8>,
    twcc: TwccReceiver,
    next_report: Instant,
    states: Vec<TransportState>,
    stats: SessionStats,
    /// What was not told yet of streams that are no more, and the durations of all.
    tally: Tally,
}

impl Session {
    /// A session whose transport begins its checks at `now`.
    ///
    /// # Errors
    /// Those of [`ClientTransport::new`].
    pub fn new(
        now: Instant,
        clock: Clock,
        config: &TransportConfig,
        remote: RemoteParameters,
        seed: u64,
    ) -> Result<Self, TransportError> {
        Ok(Self {
            transport: ClientTransport::new(now, config, remote, seed)?,
            clock,
            sendings: Vec::new(),
            streams: Vec::new(),
            ssrcs: FxHashMap::default(),
            streams_due: None,
            channels: Channels::default(),
            bandwidth: BandwidthController::new(seed as u16),
            transport_cc_id: None,
            twcc: TwccReceiver::new(now),
            next_report: now + REPORT_INTERVAL,
            states: Vec::new(),
            stats: SessionStats::default(),
            tally: Tally::default(),
        })
    }

    /// The transport below.
    pub fn transport(&self) -> &ClientTransport {
        &self.transport
    }

    /// The transport below, for what a session has no words for (tests of bad input, ICE restarts).
    pub fn transport_mut(&mut self) -> &mut ClientTransport {
        &mut self.transport
    }

    /// Begins to publish the encodings of one source, lowest first; packets flow once the transport is connected.
    pub fn publish(&mut self, now: Instant, encodings: impl IntoIterator<Item = (SendParameters, Source)>, seed: u64) {
        let publisher =
            |(index, (parameters, source))| Publisher::new(now, parameters, source, seed.wrapping_add(index));
        self.sendings.push(Sending::new((0..).zip(encodings).map(publisher).collect()));
        self.share_bandwidth(now);
    }

    /// The publisher that sends under this SSRC.
    pub fn publisher_mut(&mut self, ssrc: u32) -> Option<&mut Publisher> {
        self.publishers_mut().find(|publisher| publisher.ssrc() == ssrc)
    }

    /// Somebody receives these of the encodings that are published, or would, the first of which has this SSRC.
    pub fn set_encodings_wanted(&mut self, now: Instant, ssrc: u32, wanted: &[bool]) {
        if let Some(sending) = self.sendings.iter_mut().find(|sending| has_ssrc(sending, ssrc)) {
            sending.set_wanted(now, wanted);
            self.share_bandwidth(now);
        }
    }

    /// Ends a publication, with all of its encodings.
    pub fn unpublish(&mut self, now: Instant, ssrc: u32) {
        let ended = self.sendings.extract_if(.., |sending| has_ssrc(sending, ssrc));
        for mut sending in ended {
            for publisher in sending.encodings_mut() {
                publisher.tally(sent_of(&mut self.tally, publisher.codec()));
            }
        }
        self.share_bandwidth(now);
    }

    fn publishers(&self) -> impl Iterator<Item = &Publisher> {
        self.sendings.iter().flat_map(Sending::encodings)
    }

    fn publishers_mut(&mut self) -> impl Iterator<Item = &mut Publisher> {
        self.sendings.iter_mut().flat_map(Sending::encodings_mut)
    }

    /// Listens for a stream.
    pub fn receive(&mut self, now: Instant, parameters: ReceiveParameters) {
        self.streams.push(StreamReceiver::new(now, parameters));
        self.index_streams();
    }

    /// Ends listening; what the stream saw is the last word about it.
    pub fn stop_receiving(&mut self, now: Instant, ssrc: u32) -> Option<StreamStats> {
        let index = self.streams.iter().position(|stream| stream.parameters().ssrc == ssrc)?;
        let mut stream = self.streams.remove(index);
        self.index_streams();
        // Its counts are told with those of the interval, but it is no stream any more.
        stream.set_paused(now, true);
        stream.tally(now, None, received_of(&mut self.tally, stream.parameters().codec));
        Some(stream.stats())
    }

    /// Somebody paused a received stream on purpose, or resumed it: what does not arrive meanwhile is not missed.
    pub fn set_stream_paused(&mut self, now: Instant, ssrc: u32, paused: bool) {
        if let Some(stream) = self.stream_mut(ssrc) {
            stream.set_paused(now, paused);
        }
    }

    /// Begins to send messages on a stream of the association; they flow once the transport is connected.
    pub fn send_data(&mut self, now: Instant, stream: u16, data: Data, seed: u64) {
        self.channels.send(now, stream, data, seed);
    }

    /// Listens for the messages of a data producer on a stream of the association.
    pub fn receive_data(&mut self, stream: u16, delivery: Delivery) {
        self.channels.receive(stream, delivery, &mut self.tally);
    }

    /// Ends listening to a stream of the association.
    pub fn stop_receiving_data(&mut self, stream: u16) {
        self.channels.stop_receiving(stream, &mut self.tally);
    }

    /// What happened since the last call.
    pub fn tally(&mut self, now: Instant) -> Tally {
        let mut tally = std::mem::take(&mut self.tally);
        let heard = self.streams.iter().filter_map(StreamReceiver::last_arrival).max();
        for stream in &mut self.streams {
            stream.tally(now, heard, received_of(&mut tally, stream.parameters().codec));
        }
        for publisher in self.publishers_mut() {
            let sent = sent_of(&mut tally, publisher.codec());
            publisher.tally(sent);
            sent.sums.streams += u32::from(publisher.is_active());
            sent.allowed_bits_per_second += publisher.allowed_bits_per_second().unwrap_or(0.0);
        }
        self.channels.tally(now, self.transport.is_associated(), &mut tally);
        tally
    }

    /// The stream received under this SSRC.
    pub fn stream_mut(&mut self, ssrc: u32) -> Option<&mut StreamReceiver> {
        self.streams.iter_mut().find(|stream| stream.parameters().ssrc == ssrc)
    }

    /// The id under which packets of a received stream carry their transport-wide sequence number, if they do; they are
    /// reported from then on. All streams that do have the same.
    pub fn set_transport_cc(&mut self, id: Option<u8>) {
        self.transport_cc_id = id.or(self.transport_cc_id);
    }

    /// What the session saw as a whole.
    pub fn stats(&self) -> SessionStats {
        SessionStats { transport: self.transport.counters(), ..self.stats }
    }

    /// What each publisher sent.
    pub fn publisher_stats(&self) -> Vec<(u32, PublisherStats)> {
        self.publishers().map(|publisher| (publisher.ssrc(), publisher.stats())).collect()
    }

    /// What arrived of each stream.
    pub fn stream_stats(&self) -> Vec<(u32, StreamStats)> {
        self.streams.iter().map(|stream| (stream.parameters().ssrc, stream.stats())).collect()
    }

    /// Takes what came in, or that time passed. Drain [`Self::poll_transmit`] and [`Self::poll_states`] afterwards.
    pub fn handle_input(&mut self, now: Instant, input: Input<'_>) {
        let is_timeout = matches!(input, Input::Timeout);
        match self.transport.handle_input(now, input) {
            Some(Received::Rtp(packet)) => self.on_rtp(now, packet, true),
            Some(Received::SealedRtp(packet)) => self.on_rtp(now, packet, false),
            Some(Received::Rtcp(packet)) => self.on_rtcp(now, packet),
            None => {}
        }
        while let Some(message) = self.transport.poll_message() {
            self.stats.unknown_messages += u64::from(!self.channels.on_message(now, &self.clock, &message));
        }
        if is_timeout {
            self.handle_timeout(now);
        }
    }

    /// The next datagram for the server.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        loop {
            match self.transport.poll_output()? {
                Output::Transmit(datagram) => return Some(datagram),
                Output::State(state) => self.states.push(state),
            }
        }
    }

    /// The changes of the transport's state since the last call.
    pub fn poll_states(&mut self) -> Vec<TransportState> {
        std::mem::take(&mut self.states)
    }

    /// When [`Input::Timeout`] is due; `None` once the transport is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let transport = self.transport.poll_timeout()?;
        if !self.is_connected() {
            return Some(transport);
        }
        let publishers = self.publishers().filter_map(Publisher::poll_timeout);
        let report = (!self.streams.is_empty()).then_some(self.next_report);
        let others = [self.streams_due, self.channels.poll_timeout(), self.twcc.poll_timeout(), report];
        publishers.chain(others.into_iter().flatten()).chain([transport]).min()
    }

    fn is_connected(&self) -> bool {
        matches!(self.transport.state(), TransportState::Connected(_))
    }

    fn index_streams(&mut self) {
        self.ssrcs.clear();
        for (index, stream) in self.streams.iter().enumerate() {
            self.ssrcs.insert(stream.parameters().ssrc, (index, false));
            if let Some((rtx, _)) = stream.parameters().rtx {
                self.ssrcs.insert(rtx, (index, true));
            }
        }
        self.streams_due = self.streams.iter().filter_map(StreamReceiver::poll_timeout).min();
    }

    /// What congestion control allows, less what audio takes, is shared by the streams of video in proportion to what
    /// they want.
    fn share_bandwidth(&mut self, now: Instant) {
        let wanted = |video: bool| -> f64 {
            let kind = self.sendings.iter().filter(|sending| sending.is_video() == video);
            kind.map(Sending::full_bits_per_second).sum()
        };
        let (audio, video) = (wanted(false), wanted(true));
        self.bandwidth.set_wanted(audio + video);
        let Some(allowed) = self.bandwidth.allowed() else { return };
        for sending in self.sendings.iter_mut().filter(|sending| sending.is_video()) {
            let share = sending.full_bits_per_second() / video;
            sending.allow(now, ((allowed - audio) * share).max(MIN_BITS_PER_SECOND));
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if !self.is_connected() {
            return;
        }
        let Self { transport, clock, sendings, bandwidth, .. } = self;
        for publisher in sendings.iter_mut().flat_map(Sending::encodings_mut) {
            let mut send = |packet: &[u8]| transport.send_rtp(packet);
            publisher.poll(now, &mut Outgoing { clock, bandwidth, send: &mut send });
            if let Some(report) = publisher.poll_report(now, clock) {
                send_rtcp(transport, &report);
            }
        }
        self.channels.poll(now, &self.clock, &mut self.transport);
        if self.streams_due.is_some_and(|due| now >= due) {
            self.send_requests(now);
        }
        if let Some(feedback) = self.twcc.poll_feedback(now, REPORTER_SSRC) {
            self.stats.feedback_sent += 1;
            send_rtcp(&mut self.transport, &[Box::new(feedback)]);
        }
        if now >= self.next_report && !self.streams.is_empty() {
            self.next_report = now + REPORT_INTERVAL;
            self.send_reports(now);
        }
    }

    fn send_requests(&mut self, now: Instant) {
        for stream in &mut self.streams {
            let requests = stream.poll_requests(now);
            let media_ssrc = stream.parameters().ssrc;
            if !requests.nack.is_empty() {
                let nacks = nack_pairs_from_sequence_numbers(&requests.nack);
                let nack = TransportLayerNack { sender_ssrc: REPORTER_SSRC, media_ssrc, nacks };
                send_rtcp(&mut self.transport, &[Box::new(nack)]);
            }
            if requests.key_frame {
                let pli = PictureLossIndication { sender_ssrc: REPORTER_SSRC, media_ssrc };
                send_rtcp(&mut self.transport, &[Box::new(pli)]);
            }
        }
        self.streams_due = self.streams.iter().filter_map(StreamReceiver::poll_timeout).min();
    }

    fn send_reports(&mut self, now: Instant) {
        let reports: Vec<_> = self.streams.iter_mut().filter_map(|stream| stream.report(now)).collect();
        for reports in reports.chunks(MAX_REPORTS) {
            let report = ReceiverReport { ssrc: REPORTER_SSRC, reports: reports.to_vec(), ..ReceiverReport::default() };
            send_rtcp(&mut self.transport, &[Box::new(report)]);
        }
    }

    fn on_rtp(&mut self, now: Instant, packet: &[u8], opened: bool) {
        let Some(header) = RtpHeader::parse(packet) else { return };
        self.stats.rtp_received += 1;
        let transport_wide = self.transport_cc_id.and_then(|id| header.extension(packet, id));
        if let Some(&[high, low]) = transport_wide {
            self.twcc.on_packet(now, u16::from_be_bytes([high, low]), header.ssrc);
        }
        let Some(&(index, is_retransmission)) = self.ssrcs.get(&header.ssrc) else {
            self.stats.unknown_ssrc += 1;
            return;
        };
        let Some(stream) = self.streams.get_mut(index) else { return };
        let tally = received_of(&mut self.tally, stream.parameters().codec);
        let payload = opened.then(|| header.payload(packet));
        match (is_retransmission, payload) {
            (false, payload) => {
                let payload_len = payload.map_or(packet.len().saturating_sub(header.payload_offset()), <[u8]>::len);
                stream.on_packet(now, &self.clock, Incoming { header: &header, payload, payload_len }, tally);
            }
            (true, Some(payload)) => stream.on_retransmission(now, &header, payload, tally),
            (true, None) => {}
        }
        self.streams_due = self.streams_due.into_iter().chain(stream.poll_timeout()).min();
    }

    fn on_rtcp(&mut self, now: Instant, packet: BytesMut) {
        let Ok(packets) = rtc_rtcp::packet::unmarshal(&mut packet.freeze()) else { return };
        for packet in packets {
            self.on_rtcp_packet(now, packet.as_ref());
        }
    }

    fn on_rtcp_packet(&mut self, now: Instant, packet: &dyn RtcpPacket) {
        let any = packet.as_any();
        if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            let Self { transport, clock, sendings, bandwidth, .. } = self;
            let mut publishers = sendings.iter_mut().flat_map(Sending::encodings_mut);
            if let Some(publisher) = publishers.find(|publisher| publisher.ssrc() == nack.media_ssrc) {
                let mut send = |packet: &[u8]| transport.send_rtp(packet);
                let mut out = Outgoing { clock, bandwidth, send: &mut send };
                publisher.on_nack(now, nack.nacks.iter().flat_map(|&pair| pair), &mut out);
            }
        } else if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            if let Some(publisher) = self.publisher_mut(pli.media_ssrc) {
                publisher.on_key_frame_request(now);
            }
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                if let Some(publisher) = self.publisher_mut(entry.ssrc) {
                    publisher.on_key_frame_request(now);
                }
            }
        } else if let Some(report) = any.downcast_ref::<SenderReport>() {
            if let Some(stream) = self.stream_mut(report.ssrc) {
                stream.on_sender_report(now, report.ntp_time);
            }
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            for block in &report.reports {
                if let Some(publisher) = self.publisher_mut(block.ssrc) {
                    publisher.on_receiver_report(block.fraction_lost);
                }
            }
        } else if let Some(feedback) = any.downcast_ref::<TransportLayerCc>() {
            self.stats.feedback_received += 1;
            self.stats.feedback_packets += feedback.recv_deltas.len() as u64;
            self.bandwidth.on_feedback(now, feedback);
            self.share_bandwidth(now);
        } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
            self.bandwidth.on_remb(remb.bitrate.into());
            self.share_bandwidth(now);
        }
    }
}

fn has_ssrc(sending: &Sending, ssrc: u32) -> bool {
    sending.encodings().iter().any(|publisher| publisher.ssrc() == ssrc)
}

fn send_rtcp(transport: &mut ClientTransport, packets: &[Box<dyn RtcpPacket>]) {
    if let Ok(compound) = rtc_rtcp::packet::marshal(packets) {
        transport.send_rtcp(&compound);
    }
}

fn received_of(tally: &mut Tally, codec: Codec) -> &mut ReceivedTally {
    if codec.is_video() { &mut tally.video } else { &mut tally.audio }
}

fn sent_of(tally: &mut Tally, codec: Codec) -> &mut SentTally {
    if codec.is_video() { &mut tally.sent_video } else { &mut tally.sent_audio }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{AudioSource, VideoSource};
    use crate::transport::{Certificate, IceCredentials, Protocol};

    fn session(now: Instant) -> Session {
        let remote = RemoteParameters {
            protocol: Protocol::Udp,
            ice: IceCredentials { ufrag: "server".to_owned(), pwd: "password-of-the-server".to_owned() },
            candidate: ([127, 0, 0, 1], 4444).into(),
            fingerprints: Vec::new(),
            sctp: None,
        };
        let config = TransportConfig::new(Certificate::generate().unwrap());
        Session::new(now, Clock::new(now, Duration::from_secs(1_800_000_000)), &config, remote, 1).unwrap()
    }

    fn publish(session: &mut Session, now: Instant, ssrc: u32, source: Source) {
        session.publish(now, [(SendParameters { ssrc, ..SendParameters::default() }, source)], ssrc.into());
    }

    fn receive(session: &mut Session, now: Instant, ssrc: u32, codec: Codec) {
        let parameters = ReceiveParameters { ssrc, payload_type: 96, rtx: None, codec, nack: true, pli: true };
        session.receive(now, parameters);
    }

    #[test]
    fn what_is_allowed_is_shared_by_video() {
        let now = crate::clock::tests::instant();
        let mut session = session(now);
        publish(&mut session, now, 1, Source::Video(VideoSource::at_bitrate(1_500_000)));
        publish(&mut session, now, 2, Source::Video(VideoSource::at_bitrate(500_000)));
        publish(&mut session, now, 3, Source::Audio(AudioSource::default()));
        let allowed = |session: &mut Session| session.tally(now).sent_video.allowed_bits_per_second;
        assert_eq!(allowed(&mut session), 0.0, "nothing limits them");

        let remb = |bits| ReceiverEstimatedMaximumBitrate { bitrate: bits, ..Default::default() };
        session.on_rtcp_packet(now, &remb(1_032_000.0));
        let shares = |session: &mut Session| {
            [1, 2, 3].map(|ssrc| session.publisher_mut(ssrc).unwrap().allowed_bits_per_second().map(f64::round))
        };
        // Audio has its 32 kbit/s.
        assert_eq!(shares(&mut session), [Some(750_000.0), Some(250_000.0), None]);
        assert!((allowed(&mut session) - 1_000_000.0).abs() < 1.0);
        session.unpublish(now, 1);
        assert_eq!(session.publisher_mut(2).unwrap().allowed_bits_per_second().map(f64::round), Some(1_000_000.0));
        session.on_rtcp_packet(now, &remb(1000.0));
        assert_eq!(session.publisher_mut(2).unwrap().allowed_bits_per_second(), Some(MIN_BITS_PER_SECOND));
    }

    #[test]
    fn streams_that_are_paused_or_over_are_not_counted() {
        let now = crate::clock::tests::instant();
        let mut session = session(now);
        receive(&mut session, now, 10, Codec::Vp8);
        receive(&mut session, now, 11, Codec::H264);
        receive(&mut session, now, 12, Codec::Opus);
        let streams = |session: &mut Session| {
            let tally = session.tally(now);
            (tally.audio.sums.streams, tally.video.sums.streams)
        };
        assert_eq!(streams(&mut session), (1, 2));
        session.set_stream_paused(now, 10, true);
        assert_eq!(streams(&mut session), (1, 1));
        session.set_stream_paused(now, 10, false);
        assert_eq!(session.stop_receiving(now, 11), Some(StreamStats::default()));
        assert_eq!(session.stop_receiving(now, 11), None);
        assert_eq!(streams(&mut session), (1, 1));
    }
}
