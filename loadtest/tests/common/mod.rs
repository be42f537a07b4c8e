//! A server on loopback that connects any number of users and sends them video: real sockets, no signalling.
#![allow(dead_code, reason = "each test binary uses a part of this")]
#![allow(clippy::disallowed_methods, reason = "a driver reads the clock")]

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use sluice_loadtest::clock::Clock;
use sluice_loadtest::driver::{Driver, Lane, LaneConfig};
use sluice_loadtest::media::{Codec, ReceiveParameters, write_stamp};
use sluice_loadtest::transport::{Certificate, DtlsRole, LiteServer, RemoteParameters, SrtpProfile, TransportConfig};

/// Nothing that is waited for takes this long, on any machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);
/// SSRC of every user's stream.
pub(crate) const SSRC: u32 = 0x5eed;
/// Id of the header extension with the transport-wide sequence number.
pub(crate) const TRANSPORT_CC: u8 = 5;
/// Packets of a burst of video, as an encoder sends a frame.
pub(crate) const BURST: usize = 10;

const PAYLOAD_TYPE: u8 = 96;
/// Users that shake hands at a time: more would wait for the processor until they send everything again.
const JOINING: usize = 20;
/// Bytes of the header, with a header extension.
pub(crate) const HEADER: usize = 20;
/// Bytes of a packet of video before sealing.
pub(crate) const VIDEO: usize = HEADER + 1200;

/// Bytes that sealing adds.
pub(crate) const TAG: usize = 16;

/// Where a packet stands in its stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Position {
    pub(crate) sequence_number: u16,
    pub(crate) frame: u32,
    pub(crate) starts: bool,
    pub(crate) ends: bool,
}

/// Writes a packet with the look of VP8, a send time, a transport-wide sequence number, and the SSRC that all of them
/// have. The first frame is a key frame.
pub(crate) fn write_packet(packet: &mut [u8], clock: &Clock, position: Position) {
    let Position { sequence_number, frame, starts, ends } = position;
    packet.fill(7);
    packet[..2].copy_from_slice(&[0x90, PAYLOAD_TYPE | if ends { 0x80 } else { 0 }]);
    packet[2..4].copy_from_slice(&sequence_number.to_be_bytes());
    packet[4..8].copy_from_slice(&frame.wrapping_mul(1800).to_be_bytes());
    packet[8..12].copy_from_slice(&SSRC.to_be_bytes());
    packet[12..17].copy_from_slice(&[0xbe, 0xde, 0, 1, TRANSPORT_CC << 4 | 1]);
    packet[17..19].copy_from_slice(&sequence_number.to_be_bytes());
    packet[19] = 0;
    // The descriptor has the picture's id; the frame's tag says whether it is a key frame.
    let picture = (frame as u16 | 0x8000).to_be_bytes();
    let head =
        [0x80 | if starts { 0x10 } else { 0 }, 0x80, picture[0], picture[1], if frame == 0 { 0x10 } else { 0x11 }];
    packet[HEADER..HEADER + head.len()].copy_from_slice(&head);
    write_stamp(&mut packet[HEADER..], clock.stamp(Instant::now()));
}

/// Users' other ends, all behind one socket.
pub(crate) struct Server {
    socket: UdpSocket,
    state: UdpSocketState,
    users: Vec<Peer>,
    addresses: HashMap<SocketAddr, usize>,
}

struct Peer {
    server: LiteServer,
    /// How the user name of a check for it begins.
    check: String,
    address: Option<SocketAddr>,
    position: Position,
}

impl Server {
    /// A server for `users` who all show `certificate`.
    pub(crate) fn new(users: usize, certificate: &Certificate) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
        state.set_send_buffer_size(UdpSockRef::from(&socket), 4 * 1024 * 1024).unwrap();
        let peer = |seed: usize| {
            let (profiles, fingerprint) = ([SrtpProfile::AeadAes128Gcm], certificate.fingerprint());
            let server = LiteServer::new(Instant::now(), DtlsRole::Server, &profiles, fingerprint, seed as u64);
            let server = server.unwrap();
            let check = format!("{}:", server.parameters(socket.local_addr().unwrap()).ice.ufrag);
            Peer { server, check, address: None, position: Position::default() }
        };
        let users = (0..users).map(peer).collect();
        Self { socket, state, users, addresses: HashMap::new() }
    }

    pub(crate) fn parameters(&self) -> Vec<RemoteParameters> {
        let candidate = self.socket.local_addr().unwrap();
        self.users.iter().map(|user| user.server.parameters(candidate)).collect()
    }

    /// Answers until everybody is connected.
    pub(crate) fn connect_all(&mut self) {
        let mut since = Instant::now();
        let mut connected = 0;
        while connected < self.users.len() {
            self.answer();
            let before = connected;
            connected = self.users.iter().filter(|user| user.server.is_connected()).count();
            if connected > before {
                since = Instant::now();
            }
            assert!(since.elapsed() < SOON, "{connected} of {} users connected", self.users.len());
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Answers what has come so far.
    pub(crate) fn answer(&mut self) {
        let mut buffer = [0; 2048];
        // The socket does not block.
        while let Ok((len, source)) = self.socket.recv_from(&mut buffer) {
            let datagram = &buffer[..len];
            let named = |user: &Peer| datagram.windows(user.check.len()).any(|bytes| bytes == user.check.as_bytes());
            let user = self.addresses.get(&source).copied().or_else(|| self.users.iter().position(named));
            let Some(user) = user else { continue };
            self.addresses.insert(source, user);
            self.users[user].address = Some(source);
            for answer in self.users[user].server.handle(Instant::now(), datagram).unwrap_or_default() {
                self.socket.send_to(&answer, source).unwrap();
            }
        }
    }

    /// Sends the user a frame of video, in one call.
    pub(crate) fn send_burst(&mut self, user: usize, clock: &Clock) {
        self.send(user, clock, BURST, VIDEO);
    }

    /// Sends the user packets of this length (before sealing), in one call.
    pub(crate) fn send(&mut self, user: usize, clock: &Clock, packets: usize, len: usize) {
        let Peer { server, address, position, .. } = &mut self.users[user];
        let mut burst = Vec::with_capacity(packets * (len + TAG));
        let mut packet = vec![0; len];
        for index in 0..packets {
            (position.starts, position.ends) = (index == 0, index + 1 == packets);
            write_packet(&mut packet, clock, *position);
            position.sequence_number = position.sequence_number.wrapping_add(1);
            let sealed = server.seal_rtp(&packet).expect("the user is connected");
            burst.extend_from_slice(&sealed);
        }
        position.frame += 1;
        let destination = address.expect("the user is connected");
        let segment_size = (packets > 1).then_some(len + TAG);
        let transmit = Transmit { destination, ecn: None, contents: &burst, segment_size, src_ip: None };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit).expect("the kernel has room");
    }
}

/// Connects a user for each of a server's and lets them receive its stream.
pub(crate) async fn connect(
    driver: &Driver,
    mut server: Server,
    transport: &TransportConfig,
    lane: impl Fn(usize) -> LaneConfig,
) -> (Server, Vec<Lane>) {
    let parameters = server.parameters();
    let connecting = std::thread::spawn(move || {
        server.connect_all();
        server
    });
    let mut lanes = Vec::new();
    for (user, remote) in parameters.into_iter().enumerate() {
        let lane = driver.open(transport, remote, lane(user)).await.unwrap();
        lane.with(|session, now| session.receive(now, stream())).await.unwrap();
        lanes.push(lane);
        if let Some(earlier) = lanes.iter().nth_back(JOINING) {
            earlier.connected(SOON).await.unwrap();
        }
    }
    for lane in &lanes {
        lane.connected(SOON).await.unwrap();
    }
    (connecting.join().unwrap(), lanes)
}

fn stream() -> ReceiveParameters {
    ReceiveParameters { ssrc: SSRC, payload_type: PAYLOAD_TYPE, rtx: None, codec: Codec::Vp8, nack: true, pli: true }
}

/// Packets that arrived at a user.
pub(crate) async fn received(lane: &Lane) -> u64 {
    lane.with(|session, _| session.stats().rtp_received).await.unwrap()
}

/// Waits until each user has received so many packets.
pub(crate) async fn all_received(lanes: &[Lane], packets: u64) {
    let start = Instant::now();
    for lane in lanes {
        loop {
            let received = received(lane).await;
            if received >= packets {
                break;
            }
            assert!(start.elapsed() < SOON, "{received} of {packets} packets arrived");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// User and system time of the calling thread.
pub(crate) fn thread_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "the thread's clock cannot be read");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
