//! TURN on the users' port: users behind it meet others, and nobody gets anything else from it.

mod client;
#[path = "../common/mod.rs"]
mod common;
mod coturn;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use client::{ALLOCATE, CREATE_PERMISSION, Client, Credentials, REFRESH, channel_data};
use common::{SOON, VIDEO, admin, consumes, driver, join, lone_node, lone_node_so, receives};
use serde_json::{Value, json};
use sluice_loadtest::driver::Driver;
use sluice_loadtest::signalling::ortc::Kind;
use sluice_loadtest::user::User;
use sluice_media::wire::stun::attribute;
use sluice_node::Node;
use sluice_node::config::{NodeConfig, Pem};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

/// What tests send by.
const CHANNEL: u16 = 0x4000;

async fn connect(node: &Node, credentials: &Credentials) -> Client {
    Client::new(TcpStream::connect(node.config().users.listen).await.unwrap(), credentials.clone())
}

/// A metric of the node.
async fn metric(node: &Node, name: &str) -> u64 {
    let metrics = admin(node, "/metrics").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(&format!("sluice_turn_{name} ")));
    value.unwrap_or_else(|| panic!("{name} in {metrics}")).parse().unwrap()
}

/// Waits until a metric is as wanted.
#[allow(clippy::disallowed_methods, reason = "what is waited for is waited for in real time")]
async fn becomes(node: &Node, name: &str, is: impl Fn(u64) -> bool) {
    let start = Instant::now();
    while !is(metric(node, name).await) {
        assert!(start.elapsed() < SOON, "{name} is not as wanted: {}", metric(node, name).await);
        sleep(Duration::from_millis(20)).await;
    }
}

/// What has users' transports go through TURN: they are told to send to a socket of the test, which has a TURN client
/// for each address that sends there.
struct Detour {
    socket: Arc<UdpSocket>,
    /// Whether TURN clients read.
    reads: watch::Sender<bool>,
}

impl Detour {
    /// A node whose users come by it.
    async fn of_node() -> (Self, Node) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let announced = socket.local_addr().unwrap();
        let node = lone_node_so(|config| config.media.announced = vec![announced.into()]).await;
        (Self { socket: Arc::new(socket), reads: watch::Sender::new(true) }, node)
    }

    /// Lets datagrams pass, with the credentials of a user.
    async fn open(&self, node: &Node, user: &User) {
        let (socket, reads, credentials) = (self.socket.clone(), self.reads.clone(), Credentials::of(user).await);
        let server = node.config().users.listen;
        tokio::spawn(async move {
            let (mut clients, mut datagram) = (HashMap::<SocketAddr, mpsc::Sender<Vec<u8>>>::new(), vec![0; 2048]);
            loop {
                let (len, source) = socket.recv_from(&mut datagram).await.unwrap();
                let client = clients.entry(source).or_insert_with(|| {
                    let (sender, datagrams) = mpsc::channel(256);
                    let (socket, reads, credentials) = (socket.clone(), reads.subscribe(), credentials.clone());
                    tokio::spawn(async move { go_round(server, credentials, socket, source, datagrams, reads).await });
                    sender
                });
                let _ = client.try_send(datagram[..len].to_vec());
            }
        });
    }
}

async fn go_round(
    server: SocketAddr,
    credentials: Credentials,
    socket: Arc<UdpSocket>,
    source: SocketAddr,
    mut datagrams: mpsc::Receiver<Vec<u8>>,
    mut reads: watch::Receiver<bool>,
) {
    let tcp = TcpSocket::new_v4().unwrap();
    tcp.set_recv_buffer_size(4096).unwrap();
    let mut client = Client::new(tcp.connect(server).await.unwrap(), credentials);
    client.allocate().await.unwrap();
    client.bind(CHANNEL, socket.local_addr().unwrap()).await.unwrap();
    loop {
        let reading = *reads.borrow_and_update();
        tokio::select! {
            _ = reads.changed() => {}
            datagram = datagrams.recv() => match datagram {
                Some(datagram) => client.send(CHANNEL, &datagram).await,
                None => return,
            },
            datagram = client.recv(), if reading => match datagram {
                Ok(datagram) => drop(socket.send_to(&datagram, source).await),
                Err(_) => return,
            },
        }
    }
}

/// Alice sends video and bob receives it, through the detour; and his consumer of it.
async fn meet(detour: &Detour, node: &Node, driver: &Driver) -> (User, User, String) {
    let (alice, bob) = (join(driver, node, "room", "alice").await, join(driver, node, "room", "bob").await);
    detour.open(node, &alice).await;
    alice.produce(VIDEO).await.unwrap();
    let consumer = consumes(&bob, "alice", Kind::Video).await;
    (alice, bob, consumer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meeting_goes_through_turn() {
    let ((detour, node), driver) = (Detour::of_node().await, driver());
    let (alice, bob, consumer) = meet(&detour, &node, &driver).await;
    receives(&bob, &consumer, "video", |stats| stats.packets >= 300).await;
    assert!(metric(&node, "allocations").await >= 2);
    assert!(metric(&node, "received_bytes_total").await > 100_000 && metric(&node, "sent_bytes_total").await > 100_000);
    // Her allocations are all that there is.
    alice.leave().await;
    becomes(&node, "allocations", |allocations| allocations == 0).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_loses_what_it_does_not_take() {
    let ((detour, node), driver) = (Detour::of_node().await, driver());
    let (_alice, bob, consumer) = meet(&detour, &node, &driver).await;
    receives(&bob, &consumer, "video", |stats| stats.packets >= 50).await;
    detour.reads.send(false).unwrap();
    becomes(&node, "dropped_packets_total{reason=\"slow_client\"}", |dropped| dropped > 20).await;
    // What it sends is relayed all the same, and it hears again.
    detour.reads.send(true).unwrap();
    let before = bob.consumer_stats(&consumer).await.unwrap().unwrap().packets;
    receives(&bob, &consumer, "video again", |stats| stats.packets >= before + 200).await;
    node.shutdown().await;
}

/// A check of the way to the media port, as webrtc-rs makes it, of somebody whom the node knows or not.
fn check(transport: &Value) -> Vec<u8> {
    use rtc_dtls::crypto_provider::{RTCCryptoProvider as _, providers::AwsLcRsProvider};
    use rtc_stun::attributes::ATTR_USERNAME;
    use rtc_stun::message::{BINDING_REQUEST, Message, Setter, TransactionId};
    let provider = AwsLcRsProvider::new();
    let ice = |name: &str| transport["iceParameters"][name].as_str().unwrap().to_owned();
    let username = format!("{}:client", ice("usernameFragment"));
    let integrity = rtc_stun::integrity::MessageIntegrity::new_short_term_integrity_with_provider(
        ice("password"),
        provider.crypto(),
    );
    let setters: [Box<dyn Setter + '_>; 5] = [
        Box::new(BINDING_REQUEST),
        Box::new(TransactionId([9; 12])),
        Box::new(rtc_stun::textattrs::TextAttribute::new(ATTR_USERNAME, username)),
        Box::new(integrity),
        Box::new(rtc_stun::fingerprint::FINGERPRINT),
    ];
    let mut message = Message::new();
    message.build(&setters).unwrap();
    message.raw
}

#[tokio::test]
async fn the_media_port_is_reached_over_tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let node = lone_node_so(|config| {
        config.users.tls_cert = Some(Pem::Text(made.cert.pem()));
        config.users.tls_key = Some(Pem::Text(made.signing_key.serialize_pem()));
    })
    .await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = Arc::new(tls.with_root_certificates(roots).with_no_client_auth());

    let users = node.config().users.listen;
    let mut config = sluice_loadtest::user::UserConfig::new(
        &format!("wss://localhost:{}", users.port()),
        "room",
        "alice",
        common::transport(),
        1,
    );
    config.tls = Some(tls.clone());
    let driver = driver();
    let alice = User::join(&driver, config).await.unwrap();
    let data = json!({ "forceTcp": false, "producing": true, "consuming": false });
    let transport: Value = alice.protoo().call("createWebRtcTransport", data).await.unwrap();
    let credentials = Credentials::of(&alice).await;
    assert_eq!(credentials.url, format!("turns:localhost:{}?transport=tcp", users.port()));

    let stream = TcpStream::connect(users).await.unwrap();
    let mut tls = Arc::unwrap_or_clone(tls);
    tls.alpn_protocols = vec![b"stun.turn".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let mut client =
        Client::new(connector.connect("localhost".try_into().unwrap(), stream).await.unwrap(), credentials);
    client.allocate().await.unwrap();
    client.bind(CHANNEL, node.config().media.listen).await.unwrap();
    client.send(CHANNEL, &check(&transport)).await;
    let answer = timeout(SOON, client.recv()).await.unwrap().unwrap();
    assert_eq!((&answer[..2], &answer[8..20]), (&[1, 1][..], &[9; 12][..]), "a success");
    node.shutdown().await;
}

#[tokio::test]
async fn credentials_are_a_sessions_as_long_as_it_lasts() {
    let (node, driver) = (lone_node().await, driver());
    let alice = join(&driver, &node, "room", "alice").await;
    let credentials = Credentials::of(&alice).await;
    assert_eq!(credentials.url, format!("turn:{}?transport=tcp", node.config().users.listen));
    let mut forged = connect(&node, &credentials.clone().with_password("guessed")).await;
    assert_eq!(forged.allocate().await, Err(401));
    let mut clients = Vec::new();
    for _ in 0..8 {
        let mut client = connect(&node, &credentials).await;
        client.allocate().await.unwrap();
        clients.push(client);
    }
    let mut ninth = connect(&node, &credentials).await;
    assert_eq!(ninth.allocate().await, Err(486));
    // Another session has its own.
    let bob = join(&driver, &node, "room", "bob").await;
    let mut of_bob = connect(&node, &Credentials::of(&bob).await).await;
    of_bob.allocate().await.unwrap();
    clients[0].request(REFRESH, |request| request.attribute(attribute::LIFETIME, &[0; 4])).await.unwrap();
    ninth.request(ALLOCATE, |request| request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0])).await.unwrap();
    assert_eq!(metric(&node, "allocations").await, 9);
    assert_eq!(
        (metric(&node, "unauthenticated_total").await, metric(&node, "allocations_refused_total").await),
        (1, 1)
    );

    alice.leave().await;
    for client in clients.iter_mut().skip(1) {
        timeout(SOON, client.ended()).await.expect("the server ends the connection");
    }
    let mut late = connect(&node, &credentials).await;
    assert_eq!(late.allocate().await, Err(401));
    of_bob.permit(node.config().media.listen).await.unwrap();
    becomes(&node, "allocations", |allocations| allocations == 1).await;
    node.shutdown().await;
    timeout(SOON, of_bob.ended()).await.expect("the node ends the connection");
}

#[tokio::test]
async fn a_node_has_so_many_allocations_and_says_when_it_has_none_left() {
    let (node, driver) = (lone_node_so(|config| config.turn.allocations = 1).await, driver());
    let alice = join(&driver, &node, "room", "alice").await;
    let credentials = Credentials::of(&alice).await;
    let (mut first, mut second) = (connect(&node, &credentials).await, connect(&node, &credentials).await);
    first.allocate().await.unwrap();
    assert_eq!(second.allocate().await, Err(508));
    drop(first);
    becomes(&node, "allocations", |allocations| allocations == 0).await;
    second
        .request(ALLOCATE, |request| request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]))
        .await
        .unwrap();
    node.shutdown().await;
}

#[tokio::test]
async fn no_other_peer_is_reached() {
    let (node, driver) = (lone_node().await, driver());
    let alice = join(&driver, &node, "room", "alice").await;
    let credentials = Credentials::of(&alice).await;
    let mut client = connect(&node, &credentials).await;
    client.allocate().await.unwrap();
    let (media, victim) = (node.config().media.listen, UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let victim_address = victim.local_addr().unwrap();
    assert_eq!(client.bind(CHANNEL, victim_address).await, Err(403), "another port of the media port's address");
    for (peer, number) in [
        ("127.0.0.2:4444", 403),
        ("169.254.169.254:80", 403),
        ("192.0.2.1:53", 403),
        ("0.0.0.0:1", 403),
        ("[::1]:4444", 443),
        ("[::ffff:127.0.0.1]:4444", 443),
    ] {
        assert_eq!(client.permit(peer.parse().unwrap()).await, Err(number), "{peer}");
        assert_eq!(client.bind(CHANNEL, peer.parse().unwrap()).await, Err(number), "{peer}");
    }
    client.permit(media).await.unwrap();
    let send = sluice_media::wire::stun::MessageWriter::new(0x16, [1; 12]);
    let send = send.xor_address(attribute::XOR_PEER_ADDRESS, victim_address).attribute(attribute::DATA, b"data");
    client.write(&send.finish(None)).await;
    client.write(&channel_data(CHANNEL, b"data")).await;
    // By the answer to this, both are over.
    client.bind(CHANNEL, media).await.unwrap();
    assert_eq!(victim.try_recv(&mut [0; 8]).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(metric(&node, "foreign_peers_total").await, 9);
    assert_eq!(metric(&node, "dropped_packets_total{reason=\"foreign_peer\"}").await, 1);
    assert_eq!(metric(&node, "dropped_packets_total{reason=\"no_permission\"}").await, 1);
    assert_eq!(client.request(CREATE_PERMISSION, |request| request).await, Err(400));
    node.shutdown().await;
}

#[tokio::test]
async fn who_speaks_nonsense_or_nothing_is_sent_away() {
    let node = lone_node_so(|config| config.users.header_timeout_ms = 300).await;
    let users = node.config().users.listen;
    let answer = async |bytes: &[u8]| {
        let mut stream = TcpStream::connect(users).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // The node may end it with a reset.
        let _ = timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an end");
        answer
    };
    let cookie = [0x21, 0x12, 0xa4, 0x42];
    let binding = [&[0, 1, 0, 0][..], &cookie, &[5; 12]].concat();
    for nonsense in [
        [&[0, 1, 0xff, 0xfc][..], &cookie].concat(),
        [&[0, 1, 0, 7][..], &cookie, &[0; 40]].concat(),
        [&[0, 3, 0, 8][..], &cookie, &[0xff; 200]].concat(),
        [&binding, &b"\xff\xff\xff\xff"[..]].concat(),
        binding[..10].to_vec(),
        binding[..3].to_vec(),
        Vec::new(),
    ] {
        assert!(answer(&nonsense).await.is_empty(), "{nonsense:?}");
    }
    assert_eq!(answer(&binding).await[..2], [1, 1], "which is answered, and then too little");
    assert!(answer(&[0, 1, 0, 0, 0, 0, 0, 0, 13, 10]).await.starts_with(b"HTTP/1.1 400"));
    assert!(
        answer(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.starts_with(b"HTTP/1.1 200")
    );
    assert_eq!(metric(&node, "allocations_made_total").await, 0);
    node.shutdown().await;
}

#[tokio::test]
async fn clients_are_told_what_is_set_or_nothing() {
    let servers = async |change: fn(&mut NodeConfig)| {
        let (node, driver) = (lone_node_so(change).await, driver());
        let user = join(&driver, &node, "room", "alice").await;
        let data = json!({ "forceTcp": false, "producing": true, "consuming": false });
        let transport: Value = user.protoo().call("createWebRtcTransport", data).await.unwrap();
        node.shutdown().await;
        transport["iceServers"].clone()
    };
    assert_eq!(servers(|config| config.turn.enabled = false).await, Value::Null);
    let told = servers(|config| config.turn.urls = vec!["turns:turn.example:443?transport=tcp".parse().unwrap()]).await;
    assert_eq!(told[0]["urls"], json!(["turns:turn.example:443?transport=tcp"]));
}
