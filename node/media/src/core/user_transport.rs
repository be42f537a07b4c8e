//! A user's transport with the media that run over it: producers of what it receives, consumers of what it sends, and
//! the state that belongs to all of them together.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;
use sluice_proto::ids::TransportId;
use sluice_proto::ortc::MediaKind;

use crate::address::TransportAddress;
use crate::bandwidth::Bandwidth;
use crate::clock::Clock;
use crate::core::data_channels::DataChannels;
use crate::core::rtp_stream_send::SendParameters;
use crate::core::timers::{Timer, TimerKey, Timers};
use crate::drop_reason::DropReason;
use crate::io::Transmit;
use crate::keys::{ConsumerKey, ProducerKey, RouterKey};
use crate::messages::{EncodingScore, Flow, StreamStats, Traffic, TransportStats};
use crate::stream::header_template::Stamp;
use crate::stream::packet::StreamIndex;
use crate::stream::rate::RateMeter;
use crate::stream::sent_packets::Sealed;
use crate::trace::{Trace, TraceTypes, Traced};
use crate::transport::audio_allowance::AudioAllowance;
use crate::transport::buffer_pool::BufferPool;
use crate::transport::data_limits::DataLimits;
use crate::transport::demux::TransportKey;
use crate::transport::meters::{FlowMeter, LossShare};
use crate::transport::retransmission_budget::RetransmissionBudget;
use crate::transport::rtp_listener::{EncodingIdentity, Found, RtpListener, StreamKind};
use crate::transport::sctp_association::SctpAssociation;
use crate::transport::transport_feedback_generator::TransportFeedbackGenerator;
use crate::transport::webrtc_transport::WebRtcTransport;
use crate::wire::rtcp::TransportFeedback;
use crate::wire::rtp::{ExtensionIds, ReceivedExtensions, RtpPacket};

/// Time between two rounds of reports. Shorter than mediasoup's for audio (5 s), so that lip sync is right soon.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// A user's transport.
pub(crate) struct UserTransport {
    id: TransportId,
    router: RouterKey,
    /// ICE, DTLS and SRTP.
    webrtc: WebRtcTransport,
    /// Whether media could be sent when that was looked at last.
    writable: bool,
    /// Is in the list of those with something to flush.
    dirty: bool,
    /// What the client sends.
    producers: Vec<ProducerKey>,
    /// What the client receives.
    consumers: Vec<ConsumerKey>,
    /// By SSRC, retransmissions' too.
    consumers_by_ssrc: FxHashMap<u32, ConsumerKey>,
    /// If it may carry data channels.
    channels: Option<Box<DataChannels>>,
    /// Finds the producer of a packet.
    listener: RtpListener,
    /// The client's ids.
    extension_ids: ExtensionIds,
    /// From the first producer with transport-wide numbers on.
    feedback: Option<Box<TransportFeedbackGenerator>>,
    /// SSRC of the last packet, which feedback has to name.
    feedback_ssrc: u32,
    /// What this end calls itself in reports and feedback.
    rtcp_ssrc: u32,
    /// Next round of reports; `None` while there is nothing to report.
    reports_at: Option<Instant>,
    timer: Timer,
    transport_wide_seq: u16,
    /// While somebody looks.
    trace: Option<Box<Trace>>,
    retransmissions: RetransmissionBudget,
    audio: AudioAllowance,
    /// RTP that came in, media and retransmissions.
    received: [FlowMeter; 2],
    /// Of what is not sent again: the bytes are what earns retransmissions.
    sent_rate: RateMeter,
    /// What was sent again, and what was sent only to see whether it passes.
    sent_again: [FlowMeter; 2],
    /// Of what the client sends.
    uplink: LossShare,
    /// What the client's transport-wide feedback says about the way to it.
    downlink: LossShare,
    /// From the client's first feedback on.
    bandwidth: Option<Box<Bandwidth>>,
}

/// Why something is sent in a stream for retransmissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The client asked for it.
    Repair,
    /// To see whether it passes.
    Probation,
}

impl UserTransport {
    /// A transport without media.
    pub(crate) fn new(id: TransportId, router: RouterKey, webrtc: WebRtcTransport, rtcp_ssrc: u32) -> Self {
        Self {
            id,
            router,
            webrtc,
            writable: false,
            dirty: false,
            producers: Vec::new(),
            consumers: Vec::new(),
            consumers_by_ssrc: FxHashMap::default(),
            channels: None,
            listener: RtpListener::default(),
            extension_ids: ExtensionIds::default(),
            feedback: None,
            feedback_ssrc: 0,
            rtcp_ssrc,
            reports_at: None,
            timer: Timer::default(),
            transport_wide_seq: 0,
            trace: None,
            retransmissions: RetransmissionBudget::default(),
            audio: AudioAllowance::default(),
            received: Default::default(),
            sent_rate: RateMeter::default(),
            sent_again: Default::default(),
            uplink: LossShare::default(),
            downlink: LossShare::default(),
            bandwidth: None,
        }
    }

    /// It may carry data channels within these limits. `seed` is where the random numbers of SCTP come from.
    pub(crate) fn allow_data(&mut self, limits: DataLimits, seed: u64) {
        self.webrtc.allow_data(limits, seed);
        self.channels = Some(Box::default());
    }

    /// Its id.
    pub(crate) fn id(&self) -> TransportId {
        self.id
    }

    /// The room's media on this worker.
    pub(crate) fn router(&self) -> RouterKey {
        self.router
    }

    /// What this end calls itself in reports and feedback.
    pub(crate) fn rtcp_ssrc(&self) -> u32 {
        self.rtcp_ssrc
    }

    /// ICE, DTLS and SRTP.
    pub(crate) fn webrtc(&mut self) -> &mut WebRtcTransport {
        &mut self.webrtc
    }

    /// Its data channels, if it may carry any.
    pub(crate) fn channels(&mut self) -> Option<&mut DataChannels> {
        self.channels.as_deref_mut()
    }

    /// Its data channels and what carries them, once there is an association.
    pub(crate) fn data(&mut self) -> Option<(&mut SctpAssociation, &mut DataChannels)> {
        self.webrtc.sctp().zip(self.channels.as_deref_mut())
    }

    /// Whether the client was heard from at that address lately, so that nobody else may have it.
    pub(crate) fn is_alive_at(&self, now: Instant, address: TransportAddress) -> bool {
        self.webrtc.is_alive_at(now, address)
    }

    /// What the client sends.
    pub(crate) fn producers(&self) -> &[ProducerKey] {
        &self.producers
    }

    /// The client sends something more.
    ///
    /// # Errors
    /// What of its identity another producer has.
    pub(crate) fn add_producer(
        &mut self,
        now: Instant,
        key: ProducerKey,
        identities: Vec<EncodingIdentity>,
        extension_ids: ExtensionIds,
    ) -> Result<(), String> {
        for (stream, identity) in StreamIndex::first(identities.len()).zip(identities) {
            self.listener.add((key, stream), identity).inspect_err(|_| self.listener.remove(key))?;
        }
        self.extension_ids.merge(extension_ids);
        if self.extension_ids.transport_wide_cc != 0 {
            self.feedback.get_or_insert_with(|| Box::new(TransportFeedbackGenerator::new(now)));
        }
        self.producers.push(key);
        self.reports_at.get_or_insert(now + REPORT_INTERVAL);
        Ok(())
    }

    /// The client sends that no more.
    pub(crate) fn remove_producer(&mut self, key: ProducerKey) {
        self.listener.remove(key);
        self.producers.retain(|other| *other != key);
    }

    /// What the client receives.
    pub(crate) fn consumers(&self) -> &[ConsumerKey] {
        &self.consumers
    }

    /// Whether one of its consumers has one of these SSRCs, or one that is closed was sent to with it; that one.
    pub(crate) fn taken(&self, parameters: &SendParameters) -> Option<u32> {
        let is_taken = |ssrc: &u32| self.consumers_by_ssrc.contains_key(ssrc) || self.webrtc.is_used_up(*ssrc);
        parameters.ssrcs().find(is_taken)
    }

    /// The client receives something more, under SSRCs that are not [`taken`](Self::taken).
    pub(crate) fn add_consumer(&mut self, now: Instant, key: ConsumerKey, parameters: &SendParameters) {
        self.consumers_by_ssrc.extend(parameters.ssrcs().map(|ssrc| (ssrc, key)));
        self.consumers.push(key);
        self.reports_at.get_or_insert(now + REPORT_INTERVAL);
    }

    /// The client receives that no more.
    pub(crate) fn remove_consumer(&mut self, key: ConsumerKey, parameters: &SendParameters) {
        self.consumers.retain(|other| *other != key);
        self.consumers_by_ssrc.retain(|_, other| *other != key);
        parameters.ssrcs().for_each(|ssrc| self.webrtc.release_ssrc(ssrc));
    }

    /// Who sends with an SSRC, retransmissions' too.
    pub(crate) fn consumer_of(&self, ssrc: u32) -> Option<ConsumerKey> {
        self.consumers_by_ssrc.get(&ssrc).copied()
    }

    /// What the header extensions of a packet of the client say.
    #[inline]
    pub(crate) fn extensions_of<'a>(&self, packet: &RtpPacket<'a>) -> ReceivedExtensions<'a> {
        self.extension_ids.read(packet.extensions)
    }

    /// A packet of the client came, which has `len` bytes. Returns which stream it is of, as far as that is known.
    #[inline]
    pub(crate) fn receive_rtp(
        &mut self,
        now: Instant,
        key: TransportKey,
        (packet, len): (&RtpPacket<'_>, usize),
        extensions: &ReceivedExtensions<'_>,
        timers: &mut Timers,
    ) -> Option<Found> {
        let found = self.listener.find(packet.header.ssrc);
        if let (Some(feedback), Some(seq)) = (&mut self.feedback, extensions.transport_wide_cc) {
            feedback.receive(now, seq);
            let at = feedback.poll_timeout();
            timers.arm(&mut self.timer, TimerKey::Transport(key), at);
        }
        if let Some(found) = found {
            self.feedback_ssrc = packet.header.ssrc;
            self.received[found.kind as usize].add(len);
        }
        found
    }

    /// The stream of an SSRC that is not known yet, if the packet names it; and whether it takes the place of another
    /// SSRC. `heard` counts the packets of a stream.
    pub(crate) fn learn(
        &mut self,
        packet: &RtpPacket<'_>,
        extensions: &ReceivedExtensions<'_>,
        heard: impl FnOnce(Found) -> u64,
    ) -> Option<(Found, bool)> {
        let header = &packet.header;
        let learned = self.listener.learn(header.ssrc, header.payload_type, extensions, heard)?;
        self.feedback_ssrc = header.ssrc;
        Some(learned)
    }

    /// The client said that an SSRC is over. `heard` counts the packets of a stream.
    pub(crate) fn end_ssrc(&mut self, ssrc: u32, heard: impl FnOnce(Found) -> u64) {
        self.listener.end(ssrc, heard);
    }

    /// The stream whose media come with this SSRC.
    pub(crate) fn media_of(&self, ssrc: u32) -> Option<Found> {
        self.listener.find(ssrc).filter(|found| found.kind == StreamKind::Media)
    }

    /// Whether a packet of audio of `len` bytes may come, of so many bits per second that all of its audio may have.
    pub(crate) fn allows_audio(&mut self, now: Instant, len: usize, bits_per_second: u32) -> bool {
        self.audio.take(now, len, bits_per_second)
    }

    /// The score of one of the client's encodings, with what names it.
    pub(crate) fn encoding_score(&self, stream: (ProducerKey, StreamIndex), score: u8) -> Option<EncodingScore> {
        let identity = self.listener.identity(stream)?;
        let (encoding, rid) = (stream.1.position(), identity.rid.clone());
        Some(EncodingScore { encoding, ssrc: identity.ssrc?, rid, score })
    }

    /// Enters what names one of the client's encodings.
    pub(crate) fn name_stream(&self, stream: (ProducerKey, StreamIndex), stats: &mut StreamStats) {
        if let Some(identity) = self.listener.identity(stream) {
            (stats.rid, stats.rtx_ssrc) = (identity.rid.clone(), identity.rtx_ssrc);
        }
    }

    /// Writes what the client is to be told next of the packets that came, if it is time.
    pub(crate) fn write_feedback(&mut self, now: Instant, compound: &mut Vec<u8>) -> bool {
        let (from, about) = (self.rtcp_ssrc, self.feedback_ssrc);
        let told = self.feedback.as_mut().and_then(|feedback| feedback.write_next(now, compound, from, about));
        told.into_iter().for_each(|counts| self.uplink.add(counts));
        told.is_some()
    }

    /// Begins the next interval of reports if it is time.
    pub(crate) fn begin_reports(&mut self, now: Instant) -> bool {
        let is_due = self.reports_at.is_some_and(|at| at <= now);
        if is_due {
            self.reports_at = Some(now + REPORT_INTERVAL);
            self.received.iter_mut().chain(&mut self.sent_again).for_each(|flow| flow.sample(now));
            self.sent_rate.sample(now, self.retransmissions.earned());
            self.uplink.sample();
            self.trace.take_if(|trace| trace.is_over(now));
            self.downlink.sample();
        }
        is_due
    }

    /// The next reports are due then at the latest.
    pub(crate) fn report_by(&mut self, at: Instant) {
        self.reports_at = Some(self.reports_at.map_or(at, |due| due.min(at)));
    }

    /// Whether media could be sent when that was looked at last.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable
    }

    /// Looks whether media can be sent now. Returns whether that has changed.
    pub(crate) fn look_if_writable(&mut self) -> bool {
        let writable = self.webrtc.is_writable();
        std::mem::replace(&mut self.writable, writable) != writable
    }

    /// Something is about to be sent, in buffers of `pool`. Returns whether that is the first of what is to be flushed.
    #[inline]
    pub(crate) fn prepare(&mut self, pool: &mut BufferPool) -> bool {
        let is_first = !std::mem::replace(&mut self.dirty, true);
        if is_first {
            self.webrtc.prepare(pool);
        }
        is_first
    }

    /// Moves what is to be sent to `out`, in buffers for `pool`.
    pub(crate) fn flush(&mut self, now: Instant, out: &mut VecDeque<Transmit>, pool: &mut BufferPool) {
        self.dirty = false;
        self.webrtc.flush(now, out, pool);
    }

    /// Sends a packet of this kind and of `len` bytes, which `write` fills in with the stamp that it is told. Only a
    /// packet that carries a transport-wide sequence number takes one: to the client every number that it does not see
    /// is a loss.
    ///
    /// # Errors
    /// Why it did not go out; no number was used then.
    #[inline]
    pub(crate) fn send_rtp(
        &mut self,
        clock: &Clock,
        (kind, len): (MediaKind, usize),
        is_numbered: bool,
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<Sealed, DropReason> {
        let sealed = self.send_stamped(clock, (kind, len), is_numbered, write)?;
        self.retransmissions.earn(len);
        Ok(sealed)
    }

    #[inline]
    fn send_stamped(
        &mut self,
        clock: &Clock,
        (kind, len): (MediaKind, usize),
        is_numbered: bool,
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<Sealed, DropReason> {
        let stamp = Stamp { abs_send_time: clock.abs_send_time, transport_wide_seq: self.transport_wide_seq };
        let tag = self.webrtc.send_rtp((kind, len), |room| write(room, stamp))?;
        if is_numbered {
            if let Some(bandwidth) = &mut self.bandwidth {
                bandwidth.sent(clock, self.transport_wide_seq, len);
            }
            self.transport_wide_seq = self.transport_wide_seq.wrapping_add(1);
        }
        Ok(Sealed { stamp, tag })
    }

    /// The same for a packet of a retransmission stream.
    ///
    /// # Errors
    /// Why it did not go out: [`DropReason::RetransmissionLimit`] if the client has had its share.
    pub(crate) fn send_rtx(
        &mut self,
        clock: &Clock,
        (kind, len): (MediaKind, usize),
        (is_numbered, purpose): (bool, Purpose),
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<(), DropReason> {
        if !self.retransmissions.allows(len) {
            return Err(DropReason::RetransmissionLimit);
        }
        self.send_stamped(clock, (kind, len), is_numbered, write)?;
        self.retransmissions.spend(len);
        self.sent_again[purpose as usize].add(len);
        Ok(())
    }

    /// Sends a packet of a retransmission stream that has only padding.
    ///
    /// # Errors
    /// Why it did not go out.
    pub(crate) fn send_padding(
        &mut self,
        clock: &Clock,
        (kind, len): (MediaKind, usize),
        is_numbered: bool,
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<(), DropReason> {
        self.send_stamped(clock, (kind, len), is_numbered, write)?;
        self.sent_again[Purpose::Probation as usize].add(len);
        Ok(())
    }

    /// Sends a packet once more as it was sent before.
    ///
    /// # Errors
    /// Why it did not go out: [`DropReason::RetransmissionLimit`] if the client has had its share.
    pub(crate) fn send_again(
        &mut self,
        (kind, len): (MediaKind, usize),
        sealed: Sealed,
        write: impl FnOnce(&mut [u8], Stamp),
    ) -> Result<(), DropReason> {
        if !self.retransmissions.allows(len) {
            return Err(DropReason::RetransmissionLimit);
        }
        self.webrtc.send_rtp_again((kind, len), sealed.tag, |room| write(room, sealed.stamp))?;
        self.retransmissions.spend(len);
        self.sent_again[Purpose::Repair as usize].add(len);
        Ok(())
    }

    /// The client told which packets it got. At most `left` are looked at, which that lessens.
    pub(crate) fn receive_feedback(&mut self, clock: &Clock, feedback: &TransportFeedback<'_>, left: &mut usize) {
        self.downlink.add(feedback.counts());
        // Of whom nothing is sent to, nothing is to be known.
        if self.bandwidth.is_some() || !self.consumers.is_empty() {
            let bandwidth = self.bandwidth.get_or_insert_with(|| Box::new(Bandwidth::new()));
            bandwidth.receive_feedback(clock, feedback, left);
        }
    }

    /// The client told how much it thinks passes of the streams that it names, in bits per second.
    pub(crate) fn receive_remb(&mut self, clock: &Clock, bitrate: u64, named: impl Iterator<Item = u32>) {
        if self.bandwidth.is_some() || !self.consumers.is_empty() {
            let bandwidth = self.bandwidth.get_or_insert_with(|| Box::new(Bandwidth::new()));
            bandwidth.receive_remb(clock, bitrate, named);
        }
    }

    /// What is known of the way to the client, once it has told something of it.
    #[inline]
    pub(crate) fn bandwidth(&mut self) -> Option<&mut Bandwidth> {
        self.bandwidth.as_deref_mut()
    }

    /// Whether something is known of the way to the client.
    pub(crate) fn has_bandwidth(&self) -> bool {
        self.bandwidth.is_some()
    }

    /// Whether video may leave now.
    #[inline]
    pub(crate) fn has_room(&mut self, clock: &Clock) -> bool {
        self.bandwidth.as_mut().is_none_or(|bandwidth| bandwidth.has_room(clock))
    }

    /// Everything that is known of it.
    pub(crate) fn stats(&self, now: Instant) -> TransportStats {
        let [rtp_received, rtx_received] = self.received.each_ref().map(FlowMeter::flow);
        let [rtx_sent, probation_sent] = self.sent_again.each_ref().map(FlowMeter::flow);
        TransportStats {
            rtp_received,
            rtp_sent: Flow { bytes: self.retransmissions.earned(), bitrate: self.sent_rate.bits_per_second() },
            rtx_received,
            rtx_sent,
            probation_sent,
            recv_loss: self.uplink.loss(),
            send_loss: self.downlink.loss(),
            available_outgoing_bitrate: self.bandwidth.as_ref().and_then(|bandwidth| bandwidth.estimate()),
            ..self.webrtc.stats(now)
        }
    }

    /// Whether somebody looks at what happens.
    #[inline]
    pub(crate) fn is_traced(&self) -> bool {
        self.trace.is_some()
    }

    /// What happens to it, if somebody looks.
    pub(crate) fn trace(&mut self) -> Option<&mut Trace> {
        self.trace.as_deref_mut()
    }

    /// Gives what happened, and goes on tracing these types for so long. `epoch` is the core's, since the Unix epoch.
    pub(crate) fn go_on_tracing(
        &mut self,
        now: Instant,
        epoch: Duration,
        types: TraceTypes,
        within: Duration,
    ) -> Traced {
        let trace = self.trace.get_or_insert_with(|| Box::new(Trace::new(now, epoch)));
        let traced = trace.go_on(types, now + within);
        self.trace.take_if(|_| types == TraceTypes::NONE);
        traced
    }

    /// Number of the last packet that had a transport-wide one.
    pub(crate) fn last_transport_wide_seq(&self) -> u16 {
        self.transport_wide_seq.wrapping_sub(1)
    }

    /// What it has received and sent.
    pub(crate) fn traffic(&self) -> Traffic {
        self.webrtc.traffic()
    }

    /// Wakes the transport when it wants to be woken.
    pub(crate) fn arm(&mut self, key: TransportKey, timers: &mut Timers) {
        let feedback = self.feedback.as_ref().and_then(|feedback| feedback.poll_timeout());
        let read_at = self.channels.as_ref().and_then(|channels| channels.read_at);
        let at = [self.webrtc.poll_timeout(), self.reports_at, feedback, read_at].into_iter().flatten().min();
        timers.arm(&mut self.timer, TimerKey::Transport(key), at);
    }

    /// Wakes the transport when video that waits may leave, or a probe is due.
    #[inline]
    pub(crate) fn arm_bandwidth(&mut self, clock: &Clock, key: TransportKey, timers: &mut Timers) {
        // What cannot be sent is not waited for: it would be due for ever.
        if let Some(bandwidth) = self.bandwidth.as_ref().filter(|_| self.writable) {
            let at = bandwidth.poll_timeout(clock).map(|at| clock.now + at.saturating_sub(clock.since_epoch));
            timers.arm(&mut self.timer, TimerKey::Transport(key), at);
        }
    }

    /// Whether it waits for this time.
    pub(crate) fn fire(&mut self, at: Instant) -> bool {
        self.timer.fire(at)
    }

    /// Does what is due of ICE, DTLS and SCTP.
    ///
    /// # Errors
    /// [`DropReason::SctpFault`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), DropReason> {
        let is_due = self.webrtc.poll_timeout().is_some_and(|at| at <= now);
        if is_due { self.webrtc.handle_timeout(now) } else { Ok(()) }
    }
}
