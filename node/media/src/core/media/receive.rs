//! What users send: datagrams, and in them RTP and RTCP.

use std::net::SocketAddr;

use slotmap::SlotMap;
use sluice_proto::ortc::MediaKind;

use super::Media;
use crate::address::TransportAddress;
use crate::clock::Clock;
use crate::core::producer::Producer;
use crate::drop_reason::DropReason;
use crate::io::{Datagram, Output};
use crate::keys::{ConsumerKey, ProducerKey};
use crate::messages::{WorkerEvent, WorkerIndex};
use crate::secure::ice::IceEvent;
use crate::stream::Stream;
use crate::trace::{TraceInfo, TraceSubject};
use crate::transport::demux::{Destination, Protocol, TransportKey, classify};
use crate::transport::rtp_listener::{Found, StreamKind};
use crate::transport::webrtc_transport::{Received, TransportEvent};
use crate::wire::rtcp::{Compound, NackItems, Packet, ReportBlock, SenderInfo};
use crate::wire::rtp::{ReceivedExtensions, RtpPacket};

/// Missing packets that one compound may name, as many as any receiver's list holds (libwebrtc: 1,000). More cannot be
/// found again.
const MAX_NACKED_BY_CLIENT: usize = 1_024;

/// Packets of which one compound may tell what became of them. Browsers tell of those of 50 to 250 ms, 2,000 of 10
/// Mbit/s at most.
const MAX_TOLD_BY_CLIENT: usize = 2_048;

impl Media {
    pub(super) fn receive_datagrams(&mut self, clock: &Clock, datagrams: &mut [Datagram<'_>]) {
        for datagram in datagrams {
            self.counters.datagrams_received += 1;
            self.counters.bytes_received += datagram.data.len() as u64;
            match self.destination(clock, datagram) {
                Destination::Transport(key) => self.receive_datagram(clock, key, datagram.source, datagram.data),
                Destination::Worker(to) => {
                    let mut data = self.buffers.take();
                    data.clear();
                    data.extend_from_slice(datagram.data);
                    let known = self.demux.route_by_address(datagram.source) == Destination::Worker(to);
                    let source = datagram.source.socket_addr();
                    self.outputs.push_back(Output::Forward { to, source, known, data });
                }
                Destination::Drop(reason) => self.counters.drops.count(reason),
            }
        }
    }

    /// Where a datagram goes. A check from an address that somebody else uses goes nowhere: it would take that address
    /// over.
    fn destination(&mut self, clock: &Clock, datagram: &Datagram<'_>) -> Destination {
        let to = self.demux.route(datagram.source, datagram.data);
        match to {
            Destination::Transport(_) | Destination::Worker(_)
                if classify(datagram.data) == Protocol::Stun && self.is_taken(clock, datagram.source, to) =>
            {
                Destination::Drop(DropReason::AddressTaken)
            }
            _ => to,
        }
    }

    /// Whether the address is in use, but not by `whom`.
    fn is_taken(&self, clock: &Clock, address: TransportAddress, whom: Destination) -> bool {
        if let Some(owner) = self.demux.transport_at(address) {
            return whom != Destination::Transport(owner) && self.is_alive_at(clock, owner, address);
        }
        self.demux.worker_at(clock.now, address).is_some_and(|owner| whom != Destination::Worker(owner))
    }

    fn is_alive_at(&self, clock: &Clock, owner: TransportKey, address: TransportAddress) -> bool {
        self.transports.get(owner).is_some_and(|transport| transport.is_alive_at(clock.now, address))
    }

    /// Another worker speaks of an address.
    pub(super) fn receive_address(&mut self, clock: &Clock, address: SocketAddr, worker: WorkerIndex, owned: bool) {
        if !owned {
            return self.demux.remove_foreign_address(address, worker);
        }
        // Both may have authenticated it before either could know: who had it first keeps it.
        let ours = TransportAddress::Udp(address);
        let ours = self.demux.transport_at(ours).is_some_and(|owner| self.is_alive_at(clock, owner, ours));
        if !ours {
            self.demux.add_foreign_address(clock.now, address, worker);
        }
    }

    /// The connection with `remote` is over.
    pub(super) fn end_connection(&mut self, clock: &Clock, remote: SocketAddr) {
        let address = TransportAddress::Tcp(remote);
        let Some(key) = self.demux.transport_at(address) else { return };
        if let Some(transport) = self.transports.get_mut(key) {
            transport.webrtc().end_connection(clock.now, address);
            self.after_transport(clock, key);
        }
    }

    fn receive_datagram(&mut self, clock: &Clock, key: TransportKey, source: TransportAddress, data: &mut [u8]) {
        let Some(transport) = self.transports.get_mut(key) else {
            return self.counters.drops.count(DropReason::UnknownAddress);
        };
        let received = transport.webrtc().receive(clock.now, source, data);
        // Even what is refused may have an answer: STUN errors, DTLS alerts. Media has none.
        let is_media = matches!(received, Ok(Received::Rtp(_) | Received::Rtcp(_)));
        if !is_media || transport.webrtc().has_events() {
            self.after_transport(clock, key);
        }
        match received {
            Ok(Received::Rtp(packet)) => self.receive_rtp(clock, key, packet),
            Ok(Received::Rtcp(compound)) => self.receive_rtcp(clock, key, compound),
            Ok(Received::Handled) => {}
            Err(reason) => self.counters.drops.count(reason),
        }
    }

    fn receive_rtp(&mut self, clock: &Clock, key: TransportKey, data: &[u8]) {
        let Some(packet) = RtpPacket::parse(data) else {
            return self.counters.drops.count(DropReason::RtpMalformed);
        };
        let Some(transport) = self.transports.get_mut(key) else { return };
        let (extensions, is_traced) = (transport.extensions_of(&packet), transport.is_traced());
        let found = transport.receive_rtp(clock.now, key, (&packet, data.len()), &extensions, &mut self.timers);
        let Some(found) = found.or_else(|| self.learn_ssrc(key, &packet, &extensions)) else {
            return self.counters.drops.count(DropReason::UnknownSsrc);
        };
        let Some(producer) = self.producers.get_mut(found.producer) else { return };
        if producer.kind() == MediaKind::Audio
            && let Some(transport) = self.transports.get_mut(key)
            && !transport.allows_audio(clock.now, data.len(), self.config.audio.bitrate)
        {
            return self.counters.drops.count(DropReason::AudioLimit);
        }
        match producer.receive_rtp(clock, (found.stream, found.kind), &packet, &extensions) {
            Ok(()) => {
                self.counters.rtp_packets_received += 1;
                if is_traced {
                    self.trace_received(clock, key, found, data);
                }
            }
            Err(reason) => {
                if found.kind == StreamKind::Media && reason != DropReason::ProducerPaused {
                    producer.stream_mut(found.stream).into_iter().for_each(Stream::count_discarded);
                }
                self.counters.drops.count(reason);
            }
        }
        if let Some(level) = extensions.audio_level {
            self.hear(clock, found.producer, level);
        }
        self.touch_producer(clock, found.producer);
    }

    /// The stream of an SSRC that is not known yet, if the packet names it. One whose client goes on with another SSRC
    /// begins anew.
    #[cold]
    fn learn_ssrc(
        &mut self,
        key: TransportKey,
        packet: &RtpPacket<'_>,
        extensions: &ReceivedExtensions<'_>,
    ) -> Option<Found> {
        let transport = self.transports.get_mut(key)?;
        let (found, replaces) = transport.learn(packet, extensions, packets_heard(&self.producers))?;
        if replaces && found.kind == StreamKind::Media {
            self.producers.get_mut(found.producer)?.stream_mut(found.stream)?.begin_anew();
        }
        Some(found)
    }

    /// A producer got something: it is to be routed, at once if it can take no more.
    pub(super) fn touch_producer(&mut self, clock: &Clock, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        if producer.touch() {
            self.touched_producers.push(key);
        }
        if producer.has_audio_level()
            && let Some(router) = self.routers.get_mut(producer.router())
        {
            router.observe(clock.now, producer.router(), &mut self.timers);
        }
        if producer.is_full() {
            self.route(clock, key);
        }
    }

    fn receive_rtcp(&mut self, clock: &Clock, key: TransportKey, data: &[u8]) {
        let (mut nacked, mut told) = (MAX_NACKED_BY_CLIENT, MAX_TOLD_BY_CLIENT);
        for packet in Compound::new(data) {
            match packet {
                Ok(Packet::SenderReport { info, reports }) => {
                    self.receive_sender_report(clock, key, &info);
                    reports.for_each(|report| self.receive_report(clock, key, &report));
                }
                Ok(Packet::ReceiverReport { reports }) => {
                    reports.for_each(|report| self.receive_report(clock, key, &report));
                }
                Ok(Packet::Nack { media_ssrc, items }) => {
                    self.receive_nack(clock, key, media_ssrc, items, &mut nacked);
                }
                Ok(Packet::Pli { media_ssrc }) => self.receive_key_frame_request(clock, key, media_ssrc, None),
                Ok(Packet::Fir { entries }) => {
                    for (media_ssrc, number) in entries {
                        self.receive_key_frame_request(clock, key, media_ssrc, Some(number));
                    }
                }
                Ok(Packet::TransportFeedback(feedback)) => {
                    if let Some(transport) = self.transports.get_mut(key) {
                        transport.receive_feedback(clock, &feedback, &mut told);
                        self.look_at_estimate(clock, key);
                    }
                }
                Ok(Packet::Remb { bitrate, streams }) => {
                    if let Some(transport) = self.transports.get_mut(key) {
                        let named = streams.iter().map(|ssrc| u32::from_be_bytes(*ssrc));
                        transport.receive_remb(clock, bitrate, named);
                        self.look_at_estimate(clock, key);
                    }
                }
                Ok(Packet::Bye { sources }) => self.receive_goodbye(key, sources),
                Ok(Packet::Other) => {}
                Err(_) => self.counters.drops.count(DropReason::RtcpMalformed),
            }
        }
    }

    fn receive_sender_report(&mut self, clock: &Clock, key: TransportKey, info: &SenderInfo) {
        let Some(found) = self.transports.get(key).and_then(|transport| transport.media_of(info.ssrc)) else { return };
        self.trace_producer(clock, found.producer, TraceInfo::Sr(*info));
        let Some(producer) = self.producers.get(found.producer) else { return };
        if let Some(info) = producer.map_sender_info(clock.now, found.stream, info) {
            self.set_producer_clock(clock, found.producer, found.stream, &info);
        }
    }

    /// Streams end. What that means for their producers signalling decides, which knows why.
    fn receive_goodbye(&mut self, key: TransportKey, sources: &[u8]) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        for ssrc in sources.as_chunks().0 {
            transport.end_ssrc(u32::from_be_bytes(*ssrc), packets_heard(&self.producers));
        }
    }

    fn receive_report(&mut self, clock: &Clock, key: TransportKey, report: &ReportBlock) {
        let Some(transport) = self.transports.get(key) else { return };
        let Some(consumer_key) = transport.consumer_of(report.ssrc) else { return };
        let Some(consumer) = self.consumers.get_mut(consumer_key) else { return };
        // Retransmissions are reported on too, but their loss is none of the stream's.
        if consumer.parameters().ssrc != report.ssrc {
            return;
        }
        consumer.receive_report(clock, report);
        self.tell_consumer_score(clock, consumer_key);
    }

    /// Tells how good a consumer's stream is on its two ways, if that has changed.
    pub(super) fn tell_consumer_score(&mut self, clock: &Clock, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get(consumer.producer()) else { return };
        if let Some(scores) = consumer.take_scores(producer.scores(clock.now)) {
            let consumer = consumer.id();
            self.event(WorkerEvent::ConsumerScore { consumer, scores });
        }
    }

    /// `left` is how many packets the compound may still name.
    fn receive_nack(
        &mut self,
        clock: &Clock,
        key: TransportKey,
        media_ssrc: u32,
        items: NackItems<'_>,
        left: &mut usize,
    ) {
        if *left == 0 {
            return self.counters.drops.count(DropReason::RetransmissionLimit);
        }
        self.mark_dirty(key);
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(consumer) = transport.consumer_of(media_ssrc) else { return };
        let Some(consumer) = self.consumers.get_mut(consumer) else { return };
        let Some(producer) = self.producers.get(consumer.producer()) else { return };
        if let Some(trace) = transport.trace() {
            let packets = items.clone().sequence_numbers().take(*left).count() as u64;
            let info = TraceInfo::Nack { ssrc: media_ssrc, packets };
            trace.add(clock, TraceSubject::Consumer(consumer.id()), info);
        }
        let missing = items.sequence_numbers().take(*left).inspect(|_| *left -= 1);
        consumer.receive_nack(missing, producer, transport, clock, &mut self.counters);
    }

    fn receive_key_frame_request(&mut self, clock: &Clock, key: TransportKey, media_ssrc: u32, fir: Option<u8>) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        let Some(key) = transport.consumer_of(media_ssrc) else { return };
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        if let Some(trace) = transport.trace() {
            let ssrc = media_ssrc;
            let info = if fir.is_some() { TraceInfo::Fir { ssrc } } else { TraceInfo::Pli { ssrc } };
            trace.add(clock, TraceSubject::Consumer(consumer.id()), info);
        }
        if consumer.receive_key_frame_request(fir) {
            self.request_key_frame_for(clock, key);
        }
    }

    /// Passes on what a transport has to tell and to send.
    pub(super) fn after_transport(&mut self, clock: &Clock, key: TransportKey) {
        self.tell_transport(clock, key);
        self.read_channels(clock, key);
        self.send_channels(clock, key);
        self.mark_dirty(key);
        self.arm_transport(key);
        let Some(transport) = self.transports.get_mut(key) else { return };
        if transport.look_if_writable() {
            for consumer in transport.consumers().to_vec() {
                self.refresh_consumer(clock, consumer);
            }
            self.note_allocation(key);
        }
    }

    /// Passes on what a transport has to tell.
    pub(super) fn tell_transport(&mut self, clock: &Clock, key: TransportKey) {
        while let Some(transport) = self.transports.get_mut(key)
            && let Some(event) = transport.webrtc().poll_event()
        {
            let id = transport.id();
            match event {
                TransportEvent::Ice(IceEvent::StateChanged { state, remote }) => {
                    self.event(WorkerEvent::IceStateChanged { transport: id, state, remote });
                }
                TransportEvent::Dtls(state) => {
                    self.event(WorkerEvent::DtlsStateChanged { transport: id, state });
                    self.open_sctp(clock, key);
                }
                TransportEvent::Sctp(state) => {
                    self.event(WorkerEvent::SctpStateChanged { transport: id, state });
                    self.end_channels(clock, key, state);
                }
                TransportEvent::Ice(IceEvent::AddressInUse(address)) => {
                    self.demux.add_address(address, key);
                    self.outputs.push_back(Output::AddressOwned { address, owned: true });
                }
                TransportEvent::Ice(IceEvent::AddressForgotten(address)) => {
                    if self.demux.remove_address(address, key) {
                        self.outputs.push_back(Output::AddressOwned { address, owned: false });
                    }
                }
                TransportEvent::Ice(IceEvent::UfragRetired(ufrag)) => self.demux.remove_ufrag(&ufrag, key),
            }
        }
    }
}

/// How many packets of a stream came.
fn packets_heard(producers: &SlotMap<ProducerKey, Producer>) -> impl Fn(Found) -> u64 {
    |found| {
        let stream = producers.get(found.producer).and_then(|producer| producer.stream(found.stream));
        let (media, retransmissions) = stream.map(Stream::packets_heard).unwrap_or_default();
        if found.kind == StreamKind::Media { media } else { retransmissions }
    }
}
