//! What the simulated clients send and do with what they receive.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use sluice_media::wire::codec::{Codec, PictureNumbers, Vp8Descriptor};
use sluice_media::wire::rtcp::{self, Compound, Packet, SenderInfo, duration_to_ntp};
use sluice_media::wire::rtp::{ExtensionIds, RtpPacket};
use sluice_mesh::wan::Loss;
use sluice_proto::ortc::MediaKind;

use crate::parameters::{MID_EXTENSION, ROUTER_OPUS, ROUTER_VP8, ROUTER_VP8_RTX, TRANSPORT_WIDE_CC_EXTENSION};
use crate::publication::Publication;
use crate::world::{Happening, World};

const TICK: Duration = Duration::from_millis(20);

impl World {
    pub(crate) fn publish(&mut self, index: usize) {
        if self.quiet {
            return;
        }
        let packets = self.mesh.rng.random_range(1..4);
        let publication = &mut self.publications[index];
        let numbers = publication.next_frame(self.mesh.now, packets);
        let (client, interval) = (publication.client, publication.interval());
        let wires: Vec<_> = numbers
            .map(|number| {
                let connection = &mut self.clients[client].sending;
                connection.transport_wide = connection.transport_wide.wrapping_add(1);
                connection.seal_rtp(publication.wire(number, connection.transport_wide))
            })
            .collect();
        for wire in wires {
            self.send_to_node(client, true, &wire);
        }
        self.mesh.schedule(self.mesh.now + interval, Happening::Publish { publication: index });
    }

    fn send_to_node(&mut self, client: usize, sending: bool, data: &[u8]) {
        let client = &self.clients[client];
        let connection = if sending { &client.sending } else { &client.receiving };
        self.mesh.send(connection.address, data);
    }

    /// Every 20 ms: what is due of NACKs and reports.
    pub(crate) fn client_tick(&mut self, client: usize) {
        self.mesh.schedule(self.mesh.now + TICK, Happening::ClientTick { client });
        let mut compound = Vec::new();
        let is_report = (self.mesh.now.as_millis() / 20 + client as u128).is_multiple_of(25);
        for subscription in self.subscriptions.iter_mut().filter(|s| s.client == client && !s.closed) {
            let missing = subscription.nack(self.mesh.now);
            if !missing.is_empty() {
                rtcp::nack(&mut compound, 1, subscription.ssrcs.media, missing.into_iter());
            }
            if let Some(report) = subscription.report(self.mesh.now).filter(|_| is_report) {
                rtcp::receiver_report(&mut compound, 1, &[report]);
            }
        }
        self.send_compound(client, false, compound);
        if is_report {
            let mut compound = Vec::new();
            for publication in self.publications.iter().filter(|p| p.client == client && !p.packets.is_empty()) {
                let info = SenderInfo {
                    ssrc: publication.ssrcs.media,
                    ntp: duration_to_ntp(self.mesh.now + publication.ntp_offset),
                    rtp_timestamp: publication.timestamp(self.mesh.now),
                    packets: publication.packets.len() as u32,
                    octets: 0,
                };
                rtcp::sender_report(&mut compound, &info);
            }
            self.send_compound(client, true, compound);
        }
    }

    fn send_compound(&mut self, client: usize, sending: bool, compound: Vec<u8>) {
        if compound.is_empty() {
            return;
        }
        let connections = &mut self.clients[client];
        let connection = if sending { &mut connections.sending } else { &mut connections.receiving };
        let sealed = connection.seal_rtcp(compound);
        self.send_to_node(client, sending, &sealed);
    }

    /// A subscriber says that it cannot decode.
    pub(crate) fn send_pli(&mut self, subscription: usize) {
        let subscription = &self.subscriptions[subscription];
        let mut compound = Vec::new();
        rtcp::pli(&mut compound, 1, subscription.ssrcs.media);
        self.send_compound(subscription.client, false, compound);
    }

    pub(crate) fn client_receives(&mut self, address: SocketAddr, mut data: Vec<u8>) {
        let is_rtcp = (192..=223).contains(&data[1]);
        let Some(connection) = self.connection(address) else { return };
        let Some(plain) = connection.open(&mut data).map(<[u8]>::to_vec) else { return };
        let client = (usize::from(address.port()) - 10_000) / 2;
        if !is_rtcp {
            return self.receive_rtp(client, &plain);
        }
        for packet in Compound::new(&plain) {
            match packet.expect("a node sends well-formed RTCP") {
                Packet::Nack { media_ssrc, items } => self.answer_nack(media_ssrc, items.sequence_numbers().collect()),
                Packet::Pli { media_ssrc } => {
                    let now = self.mesh.now;
                    if let Some(publication) = self.publications.iter_mut().find(|p| p.ssrcs.media == media_ssrc) {
                        publication.request_key_frame(now);
                    }
                }
                Packet::SenderReport { info, .. } => {
                    let now = self.mesh.now;
                    if let Some(subscription) = self.subscriptions.iter_mut().find(|s| s.ssrcs.media == info.ssrc) {
                        subscription.sender_report(now, info.ntp, info.rtp_timestamp);
                    }
                }
                _ => {}
            }
        }
    }

    fn answer_nack(&mut self, media_ssrc: u32, missing: Vec<u16>) {
        let Some(publication) = self.publications.iter_mut().find(|p| p.ssrcs.media == media_ssrc) else { return };
        let client = publication.client;
        let mut wires = Vec::new();
        for seq in missing {
            let connection = &mut self.clients[client].sending;
            connection.transport_wide = connection.transport_wide.wrapping_add(1);
            let wire = publication.wire_rtx(seq, connection.transport_wide).expect("it asks for what was sent");
            wires.push(connection.seal_rtp(wire));
        }
        for wire in wires {
            self.send_to_node(client, true, &wire);
        }
    }

    /// A packet is what was published, or the run fails here.
    fn receive_rtp(&mut self, client: usize, plain: &[u8]) {
        let packet = RtpPacket::parse(plain).expect("a node sends well-formed RTP");
        let (mut header, mut payload) = (packet.header, packet.payload);
        let found = self.subscriptions.iter().position(|s| s.ssrcs.media == header.ssrc || s.ssrcs.rtx == header.ssrc);
        let index = found.expect("a node sends only what was negotiated");
        let subscription = &mut self.subscriptions[index];
        let publication = &self.publications[subscription.publication];
        assert_eq!(subscription.client, client);
        let is_rtx = header.ssrc == subscription.ssrcs.rtx;
        let expected_type = match (publication.kind, is_rtx) {
            (MediaKind::Audio, _) => ROUTER_OPUS,
            (MediaKind::Video, false) => ROUTER_VP8,
            (MediaKind::Video, true) => ROUTER_VP8_RTX,
        };
        assert_eq!(header.payload_type, expected_type);
        let ids = ExtensionIds {
            mid: MID_EXTENSION,
            transport_wide_cc: TRANSPORT_WIDE_CC_EXTENSION,
            ..ExtensionIds::default()
        };
        let extensions = ids.read(packet.extensions);
        assert_eq!(extensions.mid, Some(subscription.mid.as_bytes()));
        assert!(extensions.transport_wide_cc.is_some());
        if is_rtx {
            let (original, rest) = payload.split_first_chunk().expect("a retransmission names its original");
            header.sequence_number = u16::from_be_bytes(*original);
            payload = rest;
        }
        let number = Publication::number_in(payload).expect("every payload has a number");
        let published = &publication.packets[number];
        let mut expected = published.payload.clone();
        if publication.kind == MediaKind::Video {
            // Its picture id is less by what was left out before.
            let [published, received] = [&expected, payload].map(picture_id);
            let by = PictureNumbers { picture: published.wrapping_sub(received), base_layer: 0 };
            Codec::Vp8.lessen_picture_numbers(&mut expected, by);
            subscription.pictures.insert(number, received);
        }
        assert_eq!(payload, expected, "packet {number} came out changed");
        assert_eq!((header.timestamp, header.marker), (published.header.timestamp, published.header.marker));
        let first = subscription.received.is_empty();
        let decodable = !first || publication.kind == MediaKind::Audio || published.key_frame_start;
        // The beginning itself may be what the path lost; then the decoder says so.
        assert!(decodable || self.client_path.loss != Loss::None, "begins with {number}");
        let again = subscription.receive(self.mesh.now, header.sequence_number, number, is_rtx);
        assert!(!again, "packet {number} came twice");
        if !decodable {
            self.send_pli(index);
        }
    }
}

fn picture_id(payload: &[u8]) -> u16 {
    let id = Vp8Descriptor::parse(payload).and_then(|descriptor| descriptor.pictures.picture_id);
    id.expect("every packet of video has a picture id").value
}
