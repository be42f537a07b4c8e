//! Users who are sent away, and what is told of those who come.

use std::net::TcpStream;

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::support::{eventually, free_base_port, get, local, lone_node};

/// A client that has joined.
pub(crate) fn join(port: u16) -> WebSocket<TcpStream> {
    let mut request = format!("ws://localhost:{port}/?roomId=r&peerId=p").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "protoo".parse().unwrap());
    let stream = TcpStream::connect(local(port)).unwrap();
    let mut socket = tokio_tungstenite::tungstenite::client(request, stream).unwrap().0;
    assert_eq!(ask(&mut socket, "join")["ok"], true);
    socket
}

fn ask(socket: &mut WebSocket<TcpStream>, method: &str) -> Value {
    let request = json!({"request": true, "id": 1, "method": method, "data": {}});
    socket.send(Message::text(request.to_string())).unwrap();
    loop {
        if let Message::Text(text) = socket.read().unwrap() {
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["response"] == true {
                return message;
            }
        }
    }
}

#[test]
fn a_node_that_stops_says_so_before_it_sends_its_users_away() {
    let port = free_base_port(1);
    // Far longer than the test takes.
    let node = lone_node(port, &["--limits-shutdown-pause-ms", "600000"]);
    let mut user = join(port);
    node.signal("TERM");
    eventually("it is not ready any more", || (get(port, "/readyz").status == 503).then_some(()));
    assert_eq!(ask(&mut user, "getRouterRtpCapabilities")["ok"], true, "its users are served meanwhile");
}

#[test]
fn users_of_a_node_that_stops_are_told_to_come_back() {
    let port = free_base_port(1);
    let mut node = lone_node(port, &[]);
    let mut user = join(port);
    let from = user.get_ref().local_addr().unwrap().to_string();
    let log = node.log();
    let told: Vec<&str> = log.lines().filter(|line| line.contains("a session has opened")).collect();
    assert!(matches!(told[..], [line] if line.contains(&from)), "who comes is told once, and from where: {log}");
    node.signal("TERM");
    let closed = loop {
        if let Message::Close(Some(frame)) = user.read().unwrap() {
            break u16::from(frame.code);
        }
    };
    assert_eq!(closed, 1012);
    drop(user);
    assert_eq!(node.wait().code(), Some(0));
}
