//! Any bytes on any port: an answer that says no, or a closed connection; never the end of the node.

use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::support::{
    Answer, Dev, eventually, exchange, free_base_port, get, is_ready, local, lone_node, lone_node_with_open_files,
    try_get, within,
};

const SEED: u64 = 7;

fn junk(rng: &mut ChaCha8Rng, max: usize) -> Vec<u8> {
    let len = rng.random_range(1..max);
    (0..len).map(|_| rng.random()).collect()
}

#[test]
fn junk_on_every_port_changes_nothing() {
    let mut dev = Dev::start(1);
    println!("seed {SEED}");
    let mut rng = ChaCha8Rng::seed_from_u64(SEED);
    let udp = UdpSocket::bind(local(0)).unwrap();
    for _ in 0..100 {
        for port in [dev.users(0), dev.admin(0), dev.grpc(0)] {
            let mut stream = TcpStream::connect(local(port)).unwrap();
            // It may be closed in the middle.
            let _ = stream.write_all(&junk(&mut rng, 4_000));
        }
        for port in [dev.users(0) + 1, dev.mesh(0)] {
            udp.send_to(&junk(&mut rng, 1_400), local(port)).unwrap();
        }
    }
    for request in [
        &b"GET / HTTP/9.9\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        for port in [dev.users(0), dev.admin(0)] {
            let answer = exchange_to_end(port, request);
            if let Some(answer) = Answer::parse(&answer) {
                assert!(
                    (400..500).contains(&answer.status) || answer.status == 505 || answer.status == 200,
                    "{answer:?}"
                );
            }
        }
    }
    assert!(is_ready(dev.users(0)));
    let metrics = get(dev.admin(0), "/metrics").text();
    let failed = metrics.lines().find_map(|line| line.strip_prefix("sluice_users_connections_failed_total ")).unwrap();
    assert!(failed.parse::<u64>().unwrap() > 0, "{failed}");
    dev.process.signal("INT");
    assert_eq!(dev.process.wait().code(), Some(0));
    assert!(!dev.process.log().contains("panicked"), "{}", dev.process.log());
}

fn exchange_to_end(port: u16, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(local(port)).unwrap();
    let _ = stream.write_all(request);
    // Nothing more will come, so a server that waits for the rest ends, too.
    let _ = stream.shutdown(std::net::Shutdown::Write);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[test]
fn who_says_nothing_is_dropped() {
    let port = free_base_port(1);
    let _node = lone_node(port, &["--users-header-timeout-ms", "200"]);
    for half_a_request in [&b""[..], b"GET / HTTP/1.1\r\nX-Slow: "] {
        within(Duration::from_secs(5), "it is dropped", || exchange(port, half_a_request).ok());
    }
    // And after a first request, too.
    let answer = exchange(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    assert_eq!(Answer::parse(&answer).unwrap().status, 200);
    assert!(is_ready(port));
}

#[test]
fn connections_beyond_the_limit_are_told_so_and_health_is_still_answered() {
    let port = free_base_port(1);
    let _node = lone_node(port, &["--users-max-connections", "2"]);
    let held: Vec<_> = (0..2).map(|_| TcpStream::connect(local(port)).unwrap()).collect();
    eventually("both are counted", || {
        let metrics = get(port - 3, "/metrics").text();
        metrics.contains("\nsluice_users_connections 2\n").then_some(())
    });
    let refused = get(port, "/");
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("5")), "{refused:?}");
    assert_eq!(get(port, "/healthz").status, 200);
    assert!(is_ready(port));
    let metrics = get(port - 3, "/metrics").text();
    assert!(metrics.contains("\nsluice_users_connections_refused_total 3\n"), "{metrics}");
    drop(held);
    eventually("there is a place again", || (get(port, "/").status == 200).then_some(()));
}

#[test]
fn who_takes_no_answers_is_dropped() {
    let port = free_base_port(1);
    let silence = ["--limits-silence-ms", "2000", "--limits-ping-interval-ms", "1000"];
    let _node = lone_node(port, &[&["--users-max-connections", "2"], &silence[..]].concat());
    let greedy: Vec<_> = (0..2)
        .map(|_| {
            let mut stream = TcpStream::connect(local(port)).unwrap();
            stream.set_nonblocking(true).unwrap();
            // As much as the node reads while nothing is taken.
            let requests = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(5_000);
            let _ = stream.write(&requests);
            stream
        })
        .collect();
    eventually("there is a place again", || (get(port, "/").status == 200).then_some(()));
    drop(greedy);
}

#[test]
fn one_address_has_a_limit_of_its_own() {
    let port = free_base_port(1);
    let _node = lone_node(port, &["--users-proxies=", "--limits-connections-per-address", "2"]);
    let held: Vec<_> = (0..2).map(|_| TcpStream::connect(local(port)).unwrap()).collect();
    eventually("a third is closed without an answer", || try_get(port, "/", &[]).is_none().then_some(()));
    drop(held);
    eventually("there is a place again", || try_get(port, "/", &[]).filter(|answer| answer.status == 200));
}

#[test]
fn the_limit_of_open_files_is_raised() {
    let port = free_base_port(1);
    let node = lone_node_with_open_files(port, 128, 1_024);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", node.id())).unwrap();
    let limit = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(limit.split_whitespace().skip(3).take(2).collect::<Vec<_>>(), ["1024", "1024"]);
    let log = node.log();
    let told = "users.max_connections = 20000 and media.max_connections = 20000 need 40256 open files and the system allows 1024: 576 and 192";
    assert!(log.contains(told), "{log}");
}

#[test]
fn a_node_without_open_files_to_spare_answers_health_checks() {
    let port = free_base_port(1);
    let _node = lone_node_with_open_files(port, 300, 300);
    let held: Vec<_> = (0..200).map(|_| TcpStream::connect(local(port)).unwrap()).collect();
    // Those among them that were to be told so have said nothing, either.
    eventually("no more are taken", || try_get(port, "/", &[]).filter(|answer| answer.status == 503));
    assert!(is_ready(port));
    assert!(is_ready(port - 3), "the operators' port");
    drop(held);
    eventually("there is a place again", || (get(port, "/").status == 200).then_some(()));
}
