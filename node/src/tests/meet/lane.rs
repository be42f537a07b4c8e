//! One transport of a user: loadtest's session, the address that it is at, and the path between there and the node.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use sluice_loadtest::media::{RtpHeader, Stamp};
use sluice_loadtest::session::Session;
use sluice_loadtest::transport::{Input, TransportState};
use sluice_mesh::wan::{Decision, Impairment, ImpairmentConfig};
use tokio::time::Instant;

pub(super) struct Lane {
    pub(super) session: Session,
    /// The node's id of the transport.
    pub(super) transport: String,
    pub(super) node: usize,
    pub(super) address: SocketAddr,
    pub(super) up: Impairment,
    pub(super) down: Impairment,
    pub(super) connected: bool,
    /// Packets that came, by the stream's SSRC.
    heard: BTreeMap<u32, Vec<Heard>>,
}

/// A packet that came for the first time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) sequence_number: u16,
    pub(super) stamp: Stamp,
    pub(super) again: bool,
}

/// Something that is on its way.
pub(super) enum Packet {
    ToNode { node: usize, source: SocketAddr, data: Vec<u8> },
    ToUser { address: SocketAddr, data: Vec<u8> },
}

impl Lane {
    pub(super) fn new(
        session: Session,
        transport: String,
        (node, address): (usize, SocketAddr),
        (up, down): (Impairment, Impairment),
    ) -> Self {
        Self { session, transport, node, address, up, down, connected: false, heard: BTreeMap::new() }
    }

    /// A datagram has come from the node.
    pub(super) fn receive(&mut self, data: &mut [u8]) {
        let now = Instant::now();
        // RTCP has no SSRC where RTP has one, and that of nobody.
        let header = RtpHeader::parse(data);
        let stream = header.and_then(|header| self.stream_of(header.ssrc));
        let packets = |lane: &mut Self| {
            stream.and_then(|ssrc| Some(lane.session.stream_mut(ssrc)?.stats().packets)).unwrap_or_default()
        };
        let before = packets(self);
        self.session.handle_input(now.into_std(), Input::Datagram(data));
        if let (Some(header), Some(ssrc)) = (header, stream)
            && packets(self) > before
        {
            let stamp = self.session.stream_mut(ssrc).and_then(|stream| stream.last_stamp());
            let stamp = stamp.expect("every packet is stamped");
            let (again, sequence_number) = (header.ssrc != ssrc, header.sequence_number);
            self.heard.entry(ssrc).or_default().push(Heard { at: now, sequence_number, stamp, again });
        }
    }

    /// What has been heard since the last look, by SSRC.
    pub(super) fn take_heard(&mut self) -> BTreeMap<u32, Vec<Heard>> {
        std::mem::take(&mut self.heard)
    }

    /// Lets the session do what is due, and yields what sets out for the node, with the time of arrival.
    pub(super) fn poll(&mut self) -> Vec<(Instant, Packet)> {
        let now = Instant::now().into_std();
        if self.session.poll_timeout().is_some_and(|at| at <= now) {
            self.session.handle_input(now, Input::Timeout);
        }
        let mut packets = Vec::new();
        while let Some(datagram) = self.session.poll_transmit() {
            let (node, source) = (self.node, self.address);
            for at in arrivals(self.up.submit(now, datagram.len())) {
                packets.push((at, Packet::ToNode { node, source, data: datagram.to_vec() }));
            }
        }
        packets
    }

    /// The changes of the transport's state since the last call.
    pub(super) fn states(&mut self) -> Vec<TransportState> {
        let states = self.session.poll_states();
        for state in &states {
            self.connected = matches!(state, TransportState::Connected(_));
        }
        states
    }

    pub(super) fn set_path(&mut self, config: ImpairmentConfig) {
        self.up.set_config(config);
        self.down.set_config(config);
    }

    /// The SSRC of the stream that packets with this one belong to.
    fn stream_of(&mut self, ssrc: u32) -> Option<u32> {
        if self.session.stream_mut(ssrc).is_some() {
            return Some(ssrc);
        }
        let streams = self.session.stream_stats();
        streams.into_iter().map(|(stream, _)| stream).find(|stream| {
            let stream = self.session.stream_mut(*stream);
            stream.is_some_and(|stream| stream.parameters().rtx.is_some_and(|(rtx, _)| rtx == ssrc))
        })
    }
}

pub(super) fn arrivals(decision: Decision) -> impl Iterator<Item = Instant> {
    let (at, again) = match decision {
        Decision::Deliver { at, again } => (Some(at), again),
        Decision::Drop(_) => (None, None),
    };
    at.into_iter().chain(again).map(Instant::from)
}
