//! A user floods the media port with what a user may send, and with what he may not: others lose nothing, on whichever
//! worker they live and by whichever socket their packets come.
#![allow(clippy::disallowed_methods, reason = "a flood has a rate in real time")]

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::Range;
use std::time::{Duration, Instant};

use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_stun::attributes::ATTR_USERNAME;
use rtc_stun::fingerprint::FINGERPRINT;
use rtc_stun::integrity::MessageIntegrity;
use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
use rtc_stun::textattrs::TextAttribute;
use serde_json::json;
use sluice_loadtest::signalling::demo_v3::TransportOptions;
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::user::User;
use sluice_node::Node;

use crate::ONE_AT_A_TIME;
use crate::common::{AUDIO, VIDEO, consumes, driver, join, lone_node_with, receives};

const BATCH: usize = 100;

/// How many datagrams of each kind come, and how fast.
#[derive(Clone, Copy)]
enum Pace {
    /// As fast as the node takes them: the kernel's buffer is never filled, whatever else the machine does.
    Taken(usize),
    /// A hundred each millisecond, whatever the node does.
    Fixed(usize),
}

/// What comes, and from which of his sockets.
struct Hostility {
    name: &'static str,
    datagram: Vec<u8>,
    sources: Range<usize>,
}

/// His addresses that the node may get to know, and one that nobody is known at.
const KNOWN: Range<usize> = 0..10;
const STRANGE: Range<usize> = 10..11;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_user_costs_others_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    flood(Pace::Taken(100_000)).await;
}

/// For release builds on a machine that does nothing else: `cargo test --release -p sluice-node --test flood --
/// --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it asserts what a busy machine or a debug build cannot keep"]
async fn a_hundred_thousand_hostile_datagrams_a_second_cost_others_nothing() {
    let _alone = ONE_AT_A_TIME.lock().await;
    flood(Pace::Fixed(500_000)).await;
}

async fn flood(pace: Pace) {
    let (node, driver) = (lone_node_with(2).await, driver());
    let (mut users, mut consumers) = (Vec::new(), Vec::new());
    // Two rooms, so that both workers have users.
    for room in ["first", "second"] {
        let (sender, receiver) =
            (join(&driver, &node, room, "sender").await, join(&driver, &node, room, "receiver").await);
        sender.produce(VIDEO).await.unwrap();
        sender.produce(AUDIO).await.unwrap();
        for kind in [Kind::Video, Kind::Audio] {
            let consumer = consumes(&receiver, "sender", kind).await;
            receives(&receiver, &consumer, "media before the flood", |stats| stats.packets > 50).await;
            consumers.push((users.len(), consumer));
        }
        users.push(receiver);
        users.push(sender);
    }
    let mallory = join(&driver, &node, "third", "mallory").await;
    let media = node.config().media.listen;
    let sockets: Vec<_> =
        (KNOWN.start..STRANGE.end).map(|_| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap()).collect();
    for Hostility { name, datagram, sources } in hostilities(&mallory, &sockets, media).await {
        let before = progress(&users, &consumers).await;
        let sources = sockets[sources].iter().map(|socket| socket.try_clone().unwrap()).collect();
        let taken = tokio::task::spawn_blocking(move || send(pace, sources, &datagram, media)).await.unwrap();
        println!("{name}: {taken:?}, {}", drops(&node).await);
        for ((user, consumer), before) in consumers.iter().zip(before) {
            let what = format!("media after {name}");
            let stats = receives(&users[*user], consumer, &what, |stats| stats.packets >= before + 20).await;
            assert_eq!(stats.lost(), 0, "{name}: {stats:?}");
        }
    }
    from_port_zero(media);
    let after = progress(&users, &consumers).await;
    for ((user, consumer), before) in consumers.iter().zip(after) {
        receives(&users[*user], consumer, "media in the end", |stats| stats.packets >= before + 20).await;
    }
    node.shutdown().await;
}

/// What the consumers have received so far.
async fn progress(users: &[User], consumers: &[(usize, String)]) -> Vec<u64> {
    let mut packets = Vec::new();
    for (user, consumer) in consumers {
        packets.push(users[*user].consumer_stats(consumer).await.unwrap().unwrap().packets);
    }
    packets
}

/// What the node says that it dropped.
async fn drops(node: &Node) -> String {
    let metrics = crate::common::admin(node, "/metrics").await;
    let lines = metrics.lines().filter(|line| line.starts_with("sluice_worker_dropped") && !line.ends_with(" 0"));
    lines.collect::<Vec<_>>().join("\n    ")
}

async fn hostilities(mallory: &User, sockets: &[UdpSocket], media: SocketAddr) -> Vec<Hostility> {
    let request = json!({ "forceTcp": false, "producing": true, "consuming": false });
    let options: TransportOptions = mallory.protoo().call("createWebRtcTransport", request).await.unwrap();
    let (ufrag, password) = (options.ice_parameters.username_fragment, options.ice_parameters.password);
    let own = check(&ufrag, &password);
    sockets[0].send_to(&own, media).unwrap();
    sockets[0].set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    sockets[0].recv(&mut [0; 200]).expect("a check that is answered");
    let hostility = |name, datagram, sources| Hostility { name, datagram, sources };
    let mut hello = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0, 0, 152, 1, 0, 0, 140, 0, 0, 0, 0, 0, 0, 0, 140, 0xfe];
    hello.resize(165, 7);
    let mut media = vec![0x80, 101];
    media.resize(1200, 7);
    vec![
        hostility("checks from ten ports in turn", own.clone(), KNOWN),
        hostility("checks from one port", own, 0..1),
        hostility("checks with a wrong password", check(&ufrag, "wrong"), STRANGE),
        hostility("checks for a stranger on the first worker", check("0000nobody", "wrong"), STRANGE),
        hostility("checks for a stranger on the second worker", check("0001nobody", "wrong"), STRANGE),
        hostility("DTLS from an address that he is known at", hello, 0..1),
        hostility("media from an address that he is known at", media, 0..1),
    ]
}

fn check(ufrag: &str, password: &str) -> Vec<u8> {
    let provider = AwsLcRsProvider::new();
    let username = TextAttribute::new(ATTR_USERNAME, format!("{ufrag}:mallory"));
    let integrity = MessageIntegrity::new_short_term_integrity_with_provider(password.to_owned(), provider.crypto());
    let setters: [Box<dyn Setter + '_>; 5] = [
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId([7; 12])),
        Box::new(username),
        Box::new(integrity),
        Box::new(FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw
}

/// Sends from the sockets in turn; how long it took.
fn send(pace: Pace, sources: Vec<UdpSocket>, datagram: &[u8], media: SocketAddr) -> Duration {
    let (Pace::Taken(count) | Pace::Fixed(count)) = pace;
    let start = Instant::now();
    for sent in 0..count {
        sources[sent % sources.len()].send_to(datagram, media).unwrap();
        if sent % BATCH == BATCH - 1 {
            match pace {
                Pace::Taken(_) => {
                    while waiting(media.port()) > 256 << 10 {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
                Pace::Fixed(_) => {
                    let due = start + Duration::from_micros(10) * sent as u32;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
            }
        }
    }
    start.elapsed()
}

/// Bytes that wait in the kernel for whoever has the port.
fn waiting(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap();
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let of_port = rows.filter(|row| row.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}"))));
    of_port.filter_map(|row| u64::from_str_radix(row.get(4)?.split_once(':')?.1, 16).ok()).max().unwrap_or(0)
}

/// Nobody can be answered there, and an attempt must spoil nothing. It takes a raw socket, and so root.
fn from_port_zero(media: SocketAddr) {
    let raw = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::UDP));
    let Ok(raw) = raw else { return println!("nothing is sent from port 0: {raw:?}") };
    for payload in [check("0000nobody", "wrong"), check("0001nobody", "wrong"), vec![0x80; 40]] {
        let mut packet = vec![0, 0];
        packet.extend(media.port().to_be_bytes());
        packet.extend((8 + payload.len() as u16).to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        raw.send_to(&packet, &SocketAddr::new(media.ip(), 0).into()).unwrap();
    }
}
