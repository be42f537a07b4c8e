//! What an operator is told by webhooks, the account of usage and the audit log, over a node that is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::leaving::join;
use crate::support::{Process, eventually, free_base_port, get, lone_node, try_get};

/// Takes events as the status says that it answers with.
struct Receiver {
    port: u16,
    status: Arc<AtomicU16>,
    events: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, status) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU16::new(200)));
        let events = Arc::<Mutex<Vec<Value>>>::default();
        let (answers, taken) = (status.clone(), events.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, taken) = (answers.clone(), taken.clone());
                std::thread::spawn(move || serve(stream.unwrap(), &answers, &taken));
            }
        });
        Self { port, status, events }
    }

    fn names(&self) -> Vec<String> {
        let events = self.events.lock().unwrap();
        events.iter().map(|event| event["event"].as_str().unwrap().to_owned()).collect()
    }
}

/// Answers the requests of a connection.
fn serve(stream: TcpStream, status: &AtomicU16, events: &Mutex<Vec<Value>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let (mut len, mut line) = (0, String::new());
        while line != "\r\n" {
            line.clear();
            if lines.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                len = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; len];
        lines.read_exact(&mut body).unwrap();
        let status = status.load(Ordering::Relaxed);
        if status == 200 {
            events.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
        }
        // The node may have been killed.
        let _ = stream.write_all(format!("HTTP/1.1 {status} As asked\r\nContent-Length: 0\r\n\r\n").as_bytes());
    }
}

fn start(base_port: u16, receiver: &Receiver, dir: &Path) -> Process {
    let (url, audit) = (format!("http://127.0.0.1:{}/", receiver.port), dir.join("audit.jsonl"));
    let settings = [
        "--webhooks-url",
        &url,
        "--webhooks-key",
        "a-key-for-the-tests",
        "--data-dir",
        dir.to_str().unwrap(),
        "--audit-file",
        audit.to_str().unwrap(),
    ];
    lone_node(base_port, &settings)
}

fn audited(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("audit.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn events_and_usage_outlive_a_node_that_is_killed() {
    let (receiver, dir, port) = (Receiver::start(), tempfile::tempdir().unwrap(), free_base_port(1));
    let admin = port - 3;
    receiver.status.store(500, Ordering::Relaxed);
    let node = start(port, &receiver, dir.path());
    let user = join(port);
    eventually("the receiver has refused something", || {
        let metrics = get(admin, "/metrics").text();
        metrics.contains("sluice_webhooks_pending 2").then_some(())
    });
    assert_eq!(receiver.names(), Vec::<String>::new());
    node.kill();
    drop(user);

    receiver.status.store(200, Ordering::Relaxed);
    let mut node = start(port, &receiver, dir.path());
    eventually("they are delivered", || (receiver.names() == ["room.started", "peer.joined"]).then_some(()));
    let user = join(port);
    let usage = get(admin, "/v1/usage").json();
    let [used] = &usage["namespaces"].as_array().unwrap()[..] else { panic!("{usage}") };
    assert_eq!((&used["namespace"], &used["peers"], &used["peakPeers"]), (&"default".into(), &1.into(), &1.into()));
    node.signal("TERM");
    drop(user);
    node.wait();
    assert_eq!(receiver.names()[2..], ["room.started", "peer.joined", "peer.left", "room.ended"]);
    let events = receiver.events.lock().unwrap().clone();
    assert_ne!(events[0]["incarnation"], events[2]["incarnation"], "which says that the first part is no more");

    let _node = start(port, &receiver, dir.path());
    let again = get(admin, "/v1/usage").json();
    assert_eq!(again["sinceMs"], usage["sinceMs"]);
    assert!(again["namespaces"][0]["participantMs"].as_u64() >= used["participantMs"].as_u64(), "{again}");
    let metrics = get(admin, "/metrics").text();
    assert!(metrics.contains("sluice_usage_participant_seconds_total{namespace=\"default\"}"), "{metrics}");
}

#[test]
fn who_came_who_was_refused_and_what_operators_asked_is_on_record() {
    let (receiver, dir, port) = (Receiver::start(), tempfile::tempdir().unwrap(), free_base_port(1));
    let mut node = start(port, &receiver, dir.path());
    drop(join(port));
    let upgrade = [("Connection", "Upgrade, close"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")];
    let refused = try_get(port, "/?roomId=r", &upgrade).unwrap();
    assert_eq!(get(port - 3, "/v1/rooms?after=nonsense").status, 400);
    get(port - 3, "/metrics");
    node.signal("TERM");
    node.wait();
    let lines = audited(dir.path());
    let of = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();
    for event in ["session.opened", "peer.joined", "peer.left"] {
        let found = of(event);
        assert!(matches!(found[..], [line] if line["peer"] == "p" && line["session"] == 0), "{event}: {lines:?}");
        assert!(found[0]["remote"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    let refusals = of("session.refused");
    assert!(matches!(refusals[..], [line] if line["status"] == refused.status), "{lines:?}");
    let calls = of("admin.call");
    assert!(matches!(calls[..], [line] if line["path"] == "/v1/rooms" && line["status"] == 400));
}
