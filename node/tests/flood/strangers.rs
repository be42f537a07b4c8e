//! Strangers flood the media port: nothing grows, and nobody else loses a packet.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use quinn_udp::{Transmit, UdpSockRef, UdpSocketState};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_loadtest::driver::{Direction, Lane};
use sluice_loadtest::media::RtpHeader;
use sluice_loadtest::session::Session;
use sluice_loadtest::signalling::ortc::Kind;

use crate::common::{VIDEO, consumes, driver, join, lone_node, receives};
use crate::{LIVE, ONE_AT_A_TIME};

const FORGED: u32 = 300_000;
/// Forged packets in one go; then a millisecond's rest, so that the flood is not the kernel's to drop.
const BATCH: u32 = 100;
/// What the test itself and the users' histories may take up meanwhile. State for each of 300,000 strangers would be
/// far above it, whatever the state: 14 bytes each.
const ALLOWED_GROWTH: usize = 4 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_leave_no_trace() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let (node, driver) = (lone_node().await, driver());
    let (alice, bob) = (join(&driver, &node, "room", "alice").await, join(&driver, &node, "room", "bob").await);
    alice.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    // The histories of publisher and node fill until here.
    receives(&bob, &consumer, "a full cache", |stats| stats.packets >= 1200).await;

    let media = node.config().media.listen;
    for (name, forge) in FORGERIES {
        let before = LIVE.load(Ordering::Relaxed);
        let start = bob.consumer_stats(&consumer).await.unwrap().unwrap().packets;
        let sent = tokio::task::spawn_blocking(move || flood(media, forge)).await.unwrap();
        let stats = receives(&bob, &consumer, "media during the flood", |stats| stats.packets >= start + 50).await;
        let grown = LIVE.load(Ordering::Relaxed).saturating_sub(before);
        println!("{name}: {sent} sent, {grown} bytes more");
        assert!(sent > FORGED * 99 / 100, "{name}: the kernel took only {sent}");
        assert!(grown < ALLOWED_GROWTH, "{name}: {grown} bytes grew");
        assert_eq!(stats.lost(), 0, "{name}: {stats:?}");
    }

    // An authenticated user who invents SSRCs is a stranger with keys. The first time nothing leaves: the client's own
    // SRTP library keeps state for every SSRC that it ever sent, and that shall not be counted.
    let lane = alice.lane(true).await.unwrap();
    lane.set_filter(Some(Box::new(|direction, datagram| direction == Direction::In || !is_invented(datagram))));
    invent_ssrcs(&lane).await;
    lane.set_filter(None);
    let before = LIVE.load(Ordering::Relaxed);
    invent_ssrcs(&lane).await;
    let stats = receives(&bob, &consumer, "media after the flood", |stats| stats.lost() == 0).await;
    let grown = LIVE.load(Ordering::Relaxed).saturating_sub(before);
    println!("authenticated SSRCs: {grown} bytes more, {stats:?}");
    assert!(grown < ALLOWED_GROWTH, "{grown} bytes grew");
    node.shutdown().await;
}

/// The first of the SSRCs that an authenticated user invents.
const INVENTED: u32 = 0x4000_0000;

fn is_invented(datagram: &[u8]) -> bool {
    RtpHeader::parse(datagram).is_some_and(|header| (INVENTED..INVENTED + FORGED).contains(&header.ssrc))
}

async fn invent_ssrcs(lane: &Lane) {
    for batch in 0..FORGED / BATCH {
        let forge = move |session: &mut Session, _| {
            for index in 0..BATCH {
                session.transport_mut().send_rtp(&rtp(INVENTED + batch * BATCH + index));
            }
        };
        lane.with(forge).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Makes one datagram.
type Forge = fn(u32, &mut ChaCha8Rng) -> Vec<u8>;

const FORGERIES: [(&str, Forge); 4] = [
    ("SRTP with an SSRC each", |index, _| rtp(index).to_vec()),
    ("random bytes", |_, rng| random_bytes(rng)),
    ("binding requests", |_, rng| binding_request(rng)),
    ("ClientHellos", |_, rng| client_hello(rng)),
];

/// Sends [`FORGED`] datagrams, each from an address of its own; how many the kernel took.
fn flood(destination: SocketAddr, forge: Forge) -> u32 {
    let seed = 11;
    println!("flood with seed {seed}");
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    let state = UdpSocketState::new(UdpSockRef::from(&socket)).unwrap();
    let mut sent = 0;
    for index in 0..FORGED {
        let contents = forge(index, &mut rng);
        let source: IpAddr = Ipv4Addr::from_bits(u32::from_be_bytes([127, 100, 0, 1]) + index).into();
        let transmit =
            Transmit { destination, ecn: None, contents: &contents, segment_size: None, src_ip: Some(source) };
        sent += u32::from(state.try_send(UdpSockRef::from(&socket), &transmit).is_ok());
        if index % BATCH == BATCH - 1 {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    sent
}

fn rtp(ssrc: u32) -> [u8; 60] {
    let mut packet = [0; 60];
    packet[..2].copy_from_slice(&[0x80, 101]);
    packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
    packet
}

fn random_bytes(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut bytes = vec![0; rng.random_range(0..200)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// A STUN request for a user who does not exist, with an integrity that nobody can know.
fn binding_request(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend_from_slice(&rng.random::<[u8; 12]>());
    let user = format!("0000{:08x}:abcd", rng.random::<u32>());
    message.extend_from_slice(&[0, 6, 0, user.len() as u8]);
    message.extend_from_slice(user.as_bytes());
    message.resize(message.len().next_multiple_of(4), 0);
    message.extend_from_slice(&[0, 8, 0, 20]);
    message.extend_from_slice(&rng.random::<[u8; 20]>());
    let length = (message.len() - 20) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    message
}

/// The beginning of a handshake, as long as a browser's.
fn client_hello(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut record =
        vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 152, 1, 0, 0, 140, 0, 0, 0, 0, 0, 0, 0, 140, 0xfe, 0xfd];
    record.resize(165, 0);
    rng.fill_bytes(&mut record[27..]);
    record
}
