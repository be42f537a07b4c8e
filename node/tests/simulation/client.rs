//! A simulated user's connections: one transport to send by, one to receive by, each with its own address and keys.

use std::net::SocketAddr;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use sluice_media::TransportAddress;
use sluice_media::messages::SrtpKeys;
use sluice_media::secure::srtp::{SrtpProfile, SrtpReceiver, SrtpSender};
use sluice_proto::ids::TransportId;

/// One transport, seen from the client.
pub(crate) struct Connection {
    pub(crate) transport: TransportId,
    pub(crate) address: SocketAddr,
    pub(crate) node: usize,
    pub(crate) transport_wide: u16,
    sealer: SrtpSender,
    opener: SrtpReceiver,
}

/// Both connections of a user, and the counter of its media sections.
pub(crate) struct Client {
    pub(crate) sending: Connection,
    pub(crate) receiving: Connection,
    pub(crate) next_mid: u32,
}

impl Connection {
    /// A connection and the keys that the node needs for it.
    pub(crate) fn new(rng: &mut ChaCha8Rng, node: usize, address: SocketAddr) -> (Self, SrtpKeys) {
        let profile = if rng.random::<bool>() { SrtpProfile::AeadAes128Gcm } else { SrtpProfile::Aes128CmSha1_80 };
        let len = if profile == SrtpProfile::AeadAes128Gcm { 28 } else { 30 };
        let mut key = || (0..len).map(|_| rng.random::<u8>()).collect::<Vec<u8>>();
        let (remote, local) = (key(), key());
        let connection = Self {
            transport: TransportId::from_random_bytes(rng.random()),
            address,
            node,
            transport_wide: rng.random(),
            sealer: SrtpSender::new(profile, &remote).expect("the length is the profile's"),
            opener: SrtpReceiver::new(profile, &local).expect("the length is the profile's"),
        };
        (connection, SrtpKeys { profile, remote, local, remote_address: TransportAddress::Udp(address) })
    }

    pub(crate) fn seal_rtp(&mut self, packet: Vec<u8>) -> Vec<u8> {
        self.try_seal_rtp(packet).expect("every packet is new and whole")
    }

    pub(crate) fn seal_rtcp(&mut self, packet: Vec<u8>) -> Vec<u8> {
        self.try_seal_rtcp(packet).expect("every packet is whole")
    }

    /// `None` for what not even a client can seal.
    pub(crate) fn try_seal_rtp(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        packet.resize(packet.len() + self.sealer.lengths().rtp_overhead, 0);
        self.sealer.seal_rtp(&mut packet).ok().map(|_| packet)
    }

    /// `None` for what not even a client can seal.
    pub(crate) fn try_seal_rtcp(&mut self, mut packet: Vec<u8>) -> Option<Vec<u8>> {
        packet.resize(packet.len() + self.sealer.lengths().rtcp_overhead, 0);
        self.sealer.seal_rtcp(&mut packet).ok().map(|()| packet)
    }

    /// Opens a datagram; `None` if the network duplicated it.
    pub(crate) fn open<'d>(&mut self, datagram: &'d mut [u8]) -> Option<&'d [u8]> {
        let opened = if (192..=223).contains(&datagram[1]) {
            self.opener.open_rtcp(datagram)
        } else {
            self.opener.open_rtp(datagram)
        };
        opened.ok().map(|packet| &*packet)
    }
}
