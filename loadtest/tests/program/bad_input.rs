//! What cannot be run is told in one line, with exit code 2.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_loadtest::fleet::{Fleet, FleetConfig};
use sluice_loadtest::results::Verdict;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::StatusCode;

use crate::binary::sluice;
use crate::support::{error, loadtest, run};

fn refused(args: &[&str]) -> String {
    error(&loadtest(args).output().unwrap())
}

#[test]
fn a_scenario_that_makes_no_sense_is_told_with_its_line() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let path = file.path().to_str().unwrap();
    for (toml, line, what) in [
        ("duration = \"9s\"\nrampp = \"3s\"\n", 2, "did you mean ramp"),
        ("duration = \n", 1, ""),
        ("duration = \"9s\"\n[[rooms]]\nname = \"a\"\n[[rooms.users]]\nname = \"b\"\nwatch = \"none\"\n", 4, "nothing"),
    ] {
        std::fs::write(path, toml).unwrap();
        let message = refused(&["run", path]);
        assert!(message.starts_with(&format!("error: {path}:{line}: ")) && message.contains(what), "{message}");
    }
    let message = refused(&["run", "meting"]);
    assert!(message.contains("did you mean meeting") && message.contains("audio-room"), "{message}");
    let message = refused(&["run", "failover", "--target", "ws://127.0.0.1:1"]);
    assert!(message.contains("failover.toml:"), "{message}");
}

#[test]
fn a_server_that_is_not_there_or_refuses_is_named() {
    let message = refused(&["run", "meeting", "--target", "ws://127.0.0.1:1"]);
    assert!(message.contains("ws://127.0.0.1:1") && message.contains("refused"), "{message}");

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n").unwrap();
    });
    let message = refused(&["run", "meeting", "--target", &format!("ws://{address}")]);
    assert!(message.contains("refuses the WebSocket") && message.contains("403"), "{message}");
    server.join().unwrap();
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_told() {
    let identity = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(identity.signing_key.serialize_der().into());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![identity.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut tls = rustls::ServerConnection::new(std::sync::Arc::new(config)).unwrap();
        // The client hangs up when it has seen the certificate.
        while tls.complete_io(&mut stream).is_ok() && tls.is_handshaking() {}
    });
    let message = refused(&["run", "meeting", "--target", &format!("wss://localhost:{port}")]);
    assert!(message.contains("TLS with localhost") && message.contains("certificate"), "{message}");
    server.join().unwrap();
}

#[test]
fn limits_are_checked_before_the_ramp() {
    let program = env!("CARGO_BIN_EXE_sluice-loadtest");
    let command = format!("ulimit -n 64; exec {program} run audio-room --target ws://127.0.0.1:1");
    let message = error(&std::process::Command::new("sh").args(["-c", &command]).output().unwrap());
    assert!(message.contains("open files") || message.contains("ulimit"), "{message}");
}

#[test]
fn results_that_are_none_are_refused() {
    let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
    std::fs::write(file.path(), "{\"schema_version\": 99}").unwrap();
    let path = file.path().to_str().unwrap();
    let message = refused(&["compare", path, path]);
    assert!(message.contains(path) && message.contains("99"), "{message}");
    assert!(refused(&["report", "/nowhere.json"]).contains("/nowhere.json"));
}

/// Until Sluice has tokens, a front that has: it lets so many connections pass to a real node and refuses the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_expires_in_the_run_is_told() {
    let config = FleetConfig { sluice: sluice(), nodes: 1, workers: 1, paths: Vec::new(), seed: 1, log_dir: None };
    let fleet = Fleet::start(config).await.unwrap_or_else(|error| panic!("{error}"));
    let node = fleet.nodes()[0].url.clone();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let front = tokio::spawn(expire_after(3, listener, node));

    let target = format!("ws://{address}");
    let args = ["webinar", "--users", "6", "--ramp", "2s", "--duration", "3s", "--target", &target];
    let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
    let run = tokio::task::spawn_blocking(move || run(&args.iter().map(String::as_str).collect::<Vec<_>>()));
    let run = run.await.unwrap();
    assert_eq!(run.results.joins.succeeded, 2, "{:?}", run.results.joins);
    assert!(run.results.joins.failed["unauthorized"] >= 4, "{:?}", run.results.joins);
    let told: Vec<_> = run.results.events.iter().filter(|event| event.what.contains("unauthorized")).collect();
    assert_eq!(told.len(), 1, "once, not once a user: {told:?}");
    assert!(told[0].what.contains("401"), "{told:?}");
    assert_ne!(run.results.verdict, Verdict::Passed);
    front.abort();
    fleet.shutdown().await;
}

/// The probe before the run counts too.
async fn expire_after(connections: usize, listener: tokio::net::TcpListener, node: String) {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    loop {
        let (stream, _): (_, SocketAddr) = listener.accept().await.unwrap();
        let expired = SEEN.fetch_add(1, Ordering::Relaxed) >= connections;
        let node = node.clone();
        tokio::spawn(async move {
            let mut query = String::new();
            #[expect(clippy::result_large_err, reason = "tungstenite's signature")]
            let answer = |request: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
                query = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
                if expired {
                    let mut refusal = ErrorResponse::new(Some("the token has expired".to_owned()));
                    *refusal.status_mut() = StatusCode::UNAUTHORIZED;
                    return Err(refusal);
                }
                response.headers_mut().insert("Sec-WebSocket-Protocol", "protoo".parse().unwrap());
                Ok(response)
            };
            if let Ok(client) = tokio_tungstenite::accept_hdr_async(stream, answer).await {
                pass_on(client, &format!("{node}{query}")).await;
            }
        });
    }
}

async fn pass_on(client: tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>, url: &str) {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "protoo".parse().unwrap());
    let (node, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let ((mut to_client, mut from_client), (mut to_node, mut from_node)) = (client.split(), node.split());
    loop {
        let passed = tokio::select! {
            Some(Ok(message)) = from_client.next() => to_node.send(message).await,
            Some(Ok(message)) = from_node.next() => to_client.send(message).await,
            else => break,
        };
        if passed.is_err() {
            break;
        }
    }
    let _ = to_node.send(Message::Close(None)).await;
}
