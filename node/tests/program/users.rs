//! The users' port: the room page, and who may open a WebSocket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, HandshakeError, Message, WebSocket};

use crate::support::{
    Answer, Dev, eventually, free_base_port, get, get_with, is_ready, local, lone_node, run, text, try_get,
};

const UPGRADE: [(&str, &str); 4] = [
    // After a refusal the connection is of no more use.
    ("Connection", "Upgrade, close"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

fn upgrade(port: u16, path: &str, protocol: Option<&str>) -> Answer {
    let protocol = protocol.map(|protocol| ("Sec-WebSocket-Protocol", protocol));
    let headers: Vec<_> = UPGRADE.into_iter().chain(protocol).collect();
    get_with(port, path, &headers)
}

#[test]
fn the_page_and_its_files_are_served() {
    let dev = Dev::start(1);
    for path in ["/", "/?roomId=r&displayName=n", "/index.html"] {
        let page = get(dev.users(0), path);
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
        assert!(page.header("content-security-policy").unwrap().contains("default-src 'self'"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        assert!(page.text().contains("app.js"));
    }
    for (path, content_type) in [
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/app.css", "text/css; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
    ] {
        let file = get(dev.users(0), path);
        assert_eq!((file.status, file.header("content-type")), (200, Some(content_type)));
        let etag = file.header("etag").unwrap().to_owned();
        let again = get_with(dev.users(0), path, &[("If-None-Match", &format!("\"other\", W/{etag}"))]);
        assert_eq!((again.status, again.body.len()), (304, 0));
        let changed = get_with(dev.users(0), path, &[("If-None-Match", "\"other\"")]);
        assert_eq!(changed.status, 200);
    }
    for path in ["/nothing", "/../Cargo.toml", "/app.js/", "//app.js"] {
        let answer = get(dev.users(0), path);
        assert!(matches!(answer.status, 400 | 404) || path == "//app.js", "{path}: {}", answer.status);
    }
}

#[test]
fn a_websocket_needs_the_protocol_and_both_ids() {
    let dev = Dev::start(1);
    let port = dev.users(0);
    let ids = "/?roomId=r&peerId=p";
    assert_eq!(upgrade(port, ids, None).status, 403);
    assert_eq!(upgrade(port, ids, Some("chat")).status, 403);
    for (path, words) in [
        ("/?roomId=r", "lacks peerId"),
        ("/?peerId=p", "lacks roomId"),
        ("/?roomId=&peerId=p", "roomId is empty"),
        ("/?roomId=r&peerId=p&namespace=a/b", "namespace contains the character '/'"),
        ("/?roomId=a%0Ab&peerId=p", "roomId contains the character"),
    ] {
        let answer = upgrade(port, path, Some("protoo"));
        assert_eq!(answer.status, 400, "{path}");
        assert!(answer.text().contains(words), "{path}: {}", answer.text());
    }
    let long = upgrade(port, &format!("/?roomId={}&peerId=p", "x".repeat(129)), Some("protoo"));
    assert_eq!(long.status, 400);
    assert!(long.text().contains("at most 128"), "{}", long.text());
}

#[test]
fn a_broken_upgrade_is_refused() {
    let dev = Dev::start(1);
    let no_key: Vec<_> = UPGRADE.into_iter().filter(|(name, _)| *name != "Sec-WebSocket-Key").collect();
    assert_eq!(get_with(dev.users(0), "/?roomId=r&peerId=p", &no_key).status, 400);
    let old = UPGRADE.map(|(name, value)| (name, if value == "13" { "8" } else { value }));
    assert_eq!(get_with(dev.users(0), "/?roomId=r&peerId=p", &old).status, 400);
    assert!(is_ready(dev.users(0)));
}

/// What a page of this origin gets that opens a WebSocket: its status, and the reason if it is refused.
fn upgrade_from(port: u16, origin: &str, host: &str) -> (u16, String) {
    let mut request = format!("ws://{host}/?roomId=r&peerId=p").into_client_request().unwrap();
    for (name, value) in [("Sec-WebSocket-Protocol", "protoo"), ("Origin", origin)] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    match tokio_tungstenite::tungstenite::client(request, TcpStream::connect(local(port)).unwrap()) {
        Ok((_, answer)) => (answer.status().as_u16(), String::new()),
        Err(HandshakeError::Failure(Error::Http(answer))) => {
            (answer.status().as_u16(), text(answer.body().as_deref().unwrap_or_default()))
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn only_pages_of_this_host_may_connect_unless_others_are_listed() {
    let port = free_base_port(1);
    let _node = lone_node(
        port,
        &["--users-allowed-origins", "https://app.example", "--users-allowed-origins", "https://b.example"],
    );
    for host in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        assert_eq!(upgrade_from(port, &format!("http://{host}"), &host).0, 101, "{host}");
        for listed in ["https://app.example", "https://b.example"] {
            assert_eq!(upgrade_from(port, listed, &host).0, 101, "{listed}");
        }
        let refused = upgrade_from(port, "https://evil.example", &host);
        assert_eq!(refused.0, 403);
        assert!(refused.1.contains("users.allowed_origins"), "{}", refused.1);
    }
    let rebound = upgrade_from(port, &format!("http://evil.example:{port}"), &format!("evil.example:{port}"));
    assert_eq!(rebound.0, 403, "a name that points here");
}

#[test]
fn one_address_opens_so_many_websockets_a_minute() {
    let port = free_base_port(1);
    let _node = lone_node(port, &["--users-proxies=", "--limits-sessions-per-minute-per-address", "2"]);
    let open: Vec<_> = (0..2).map(|_| open(port)).collect();
    assert_eq!(upgrade(port, "/?roomId=r&peerId=p", Some("protoo")).status, 429);
    assert_eq!(get(port, "/").status, 200, "the page is no WebSocket");
    drop(open);
}

#[test]
fn one_address_makes_so_many_rooms() {
    let port = free_base_port(1);
    let _node = lone_node(port, &["--users-proxies=", "--limits-rooms-per-address", "1"]);
    let first = open_room(port, "first");
    let mut second = open_room(port, "second");
    let closed = second.read().unwrap();
    assert!(matches!(&closed, Message::Close(Some(frame)) if u16::from(frame.code) == 1013), "{closed:?}");
    let mut again = open_room(port, "first");
    assert!(again.read().unwrap().is_text(), "into the room that there is");
    drop((first, again));
    eventually("the room has ended", || open_room(port, "second").read().unwrap().is_text().then_some(()));
}

/// An open WebSocket of signalling.
fn open(port: u16) -> WebSocket<TcpStream> {
    open_room(port, "r")
}

fn open_room(port: u16, room: &str) -> WebSocket<TcpStream> {
    let mut request = format!("ws://localhost:{port}/?roomId={room}&peerId=p").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "protoo".parse().unwrap());
    tokio_tungstenite::tungstenite::client(request, TcpStream::connect(local(port)).unwrap()).unwrap().0
}

#[test]
fn messages_have_a_limit() {
    let dev = Dev::start(1);
    let mut socket = open(dev.users(0));
    socket.send(Message::text("x".repeat(64 << 10))).unwrap();
    let refusal = loop {
        match socket.read().unwrap().to_string() {
            answer if answer.contains("response") => break answer,
            _ => {}
        }
    };
    assert!(refusal.contains("\"errorCode\":400"), "{refusal}");
    socket.send(Message::text("x".repeat((64 << 10) + 1))).unwrap();
    let closed = socket.read().unwrap();
    assert!(matches!(&closed, Message::Close(Some(frame)) if u16::from(frame.code) == 1009), "{closed:?}");
}

#[test]
fn headers_have_a_limit() {
    let dev = Dev::start(1);
    let long = "x".repeat(20_000);
    let answer = try_get(dev.users(0), "/", &[("X-Long", &long)]);
    assert!(answer.is_none_or(|answer| answer.status == 431));
    let many: Vec<_> = (0..100).map(|i| format!("X-{i}")).collect();
    let many: Vec<_> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let answer = try_get(dev.users(0), "/", &many);
    assert!(answer.is_none_or(|answer| answer.status == 431));
    assert!(is_ready(dev.users(0)));
}

#[test]
fn https_is_served_with_a_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (cert, key) = (file("cert.pem", made.cert.pem()), file("key.pem", made.signing_key.serialize_pem()));
    let port = free_base_port(1);
    let _node = lone_node(port, &["--users-tls-cert", &cert, "--users-tls-key", &key]);

    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let connection = rustls::ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, TcpStream::connect(local(port)).unwrap());
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The end may come without TLS's goodbye.
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(Answer::parse(&answer).expect("an answer").status, 200);

    assert!(try_get(port, "/readyz", &[]).is_none(), "plain HTTP is not spoken there");
    assert!(is_ready(port - 3));
    let url = get(port - 3, "/v1/cluster").json()["members"][0]["usersUrl"].clone();
    assert_eq!(url, format!("https://127.0.0.1:{port}"));
}

#[test]
fn a_certificate_that_is_none_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cert.pem");
    std::fs::write(&path, "this is no certificate").unwrap();
    let path = path.to_str().unwrap();
    let port = free_base_port(1);
    let listens = [("users", 3), ("admin", 0), ("media", 4), ("mesh", 5), ("grpc", 6)];
    let listens = listens.map(|(section, offset)| format!("--{section}-listen={}", local(port - 3 + offset)));
    let mut args = vec!["node", "--users-tls-cert", path, "--users-tls-key", "/nowhere.key"];
    args.extend(listens.iter().map(String::as_str));
    let output = run(&args);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains("users.tls_key = \"/nowhere.key\"") || message.contains("users.tls_cert"), "{message}");
}
