//! Tenants and tokens with the real program: `sluice token`, the door, the tenants' API, and settings that change.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::support::{
    Answer, Process, eventually, exchange, free_base_port, get, get_with, local, lone_node, run, text,
};

/// Writes the file of a node with one tenant, and what is said of it beside its key.
fn write(dir: &Path, more: &str) -> PathBuf {
    let path = dir.join("node.toml");
    let key = "[[namespaces.acme.keys]]\nid = \"k1\"\nalgorithm = \"HS256\"\nsecret = \"a-secret-of-thirty-two-characters\"\n";
    std::fs::write(&path, format!("[namespaces.acme]\n{more}\n{key}")).unwrap();
    path
}

fn start(file: &Path) -> (Process, u16) {
    let port = free_base_port(1);
    (lone_node(port, &["--config", file.to_str().unwrap()]), port)
}

/// What `sluice token` prints.
fn token(file: &Path, more: &[&str]) -> String {
    let mut args = vec!["token", "--config", file.to_str().unwrap(), "--namespace", "acme"];
    args.extend(more);
    let output = run(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let printed = text(&output.stdout);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    printed.trim().to_owned()
}

/// Joins, and gives the connection back.
fn join(port: u16, query: &str) -> WebSocket<std::net::TcpStream> {
    let mut request = format!("ws://127.0.0.1:{port}/?{query}").into_client_request().unwrap();
    request.headers_mut().insert("Sec-WebSocket-Protocol", "protoo".parse().unwrap());
    let stream = std::net::TcpStream::connect(local(port)).unwrap();
    let (mut socket, _) = tokio_tungstenite::tungstenite::client(request, stream).unwrap();
    let join = r#"{"request":true,"id":1,"method":"join","data":{"displayName":"A name"}}"#;
    socket.send(Message::text(join)).unwrap();
    loop {
        let message: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
        if message["id"] == 1 {
            assert_eq!(message["ok"], true, "{message}");
            return socket;
        }
    }
}

/// The code of the close frame that comes at last.
fn closed(socket: &mut WebSocket<std::net::TcpStream>) -> u16 {
    loop {
        if let Message::Close(Some(frame)) = socket.read().unwrap() {
            return frame.code.into();
        }
    }
}

fn call(port: u16, method: &str, path: &str, token: &str) -> Answer {
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
    );
    Answer::parse(&exchange(port, request.as_bytes()).unwrap()).unwrap()
}

#[test]
fn a_token_that_is_minted_lets_in_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "");
    let (_node, port) = start(&file);
    let good = token(&file, &["--room", "standup", "--identity", "ann", "--ttl", "1h"]);
    let ask = |query: &str, headers: &[(&str, &str)]| get_with(port, &format!("/v1/admission?{query}"), headers);
    assert_eq!(ask(&format!("roomId=standup&token={good}"), &[]).status, 204);
    let bearer = format!("Bearer {good}");
    assert_eq!(ask("roomId=standup", &[("Authorization", &bearer)]).status, 204);
    let missing = ask("roomId=standup&peerId=ann", &[]);
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(ask(&format!("roomId=other&token={good}"), &[]).status, 403);
    assert_eq!(ask(&format!("roomId=standup&peerId=ben&token={good}"), &[]).status, 403);
    let expired = token(&file, &["--ttl", "0s"]);
    // It is still within the leeway that clocks have.
    assert_eq!(ask(&format!("roomId=standup&peerId=ben&token={expired}"), &[]).status, 204);
    drop(join(port, &format!("roomId=standup&token={good}")));
}

#[test]
fn what_cannot_be_minted_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "");
    let config = file.to_str().unwrap();
    let cases: [(&[&str], &str); 4] = [
        (&["--namespace", "other"], "[namespaces.other]"),
        (&["--namespace", "acme", "--key", "k2"], "no key \"k2\""),
        (&["--namespace", "acme", "--grant", "fly"], "no grant"),
        (&["--namespace", "acme", "--metadata", "7"], "JSON object"),
    ];
    for (args, expected) in cases {
        let output = run(&[&["token", "--config", config], args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(text(&output.stderr).contains(expected), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
    for (toml, expected) in [
        ("", "needs keys"),
        ("open = true\nrooms = -1", "rooms"),
        ("open = true\nroom = 1", "unknown field"),
        ("open = true\nkeys = [{ id = \"k\", algorithm = \"HS256\", secret = \"short-but-visible\" }]", "32"),
        ("open = true\nkeys = [{ id = \"k\", algorithm = \"ES256\", public_key_file = \"/nowhere\" }]", "/nowhere"),
    ] {
        std::fs::write(&file, format!("[namespaces.acme]\n{toml}\n")).unwrap();
        let output = run(&["config", "check", "--config", config]);
        assert_eq!(output.status.code(), Some(2), "{toml}");
        let said = text(&output.stderr);
        assert!(said.contains(expected) && said.contains("acme"), "{toml}: {said}");
    }
}

#[test]
fn a_tenants_server_sees_and_does_what_is_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "");
    let (_node, port) = start(&file);
    let guest = token(&file, &["--room", "standup", "--identity", "ann"]);
    let admin = token(&file, &["--grant", "admin"]);
    let of_one_room = token(&file, &["--room", "standup", "--grant", "admin"]);
    let mut ann = join(port, &format!("roomId=standup&token={guest}"));
    let (rooms, peers) = ("/v1/rooms?namespace=acme", "/v1/rooms/acme/standup/peers");
    assert_eq!(call(port, "GET", rooms, &admin).json()["rooms"][0]["room"], "standup");
    assert_eq!(call(port, "GET", peers, &of_one_room).json()["peers"][0]["id"], "ann");
    for (path, token) in [
        (rooms, &guest),
        (peers, &guest),
        (rooms, &of_one_room),
        ("/v1/rooms/acme/other/peers", &of_one_room),
        ("/v1/rooms/default/standup/peers", &admin),
        ("/v1/rooms", &admin),
    ] {
        assert!(matches!(call(port, "GET", path, token).status, 401 | 403), "{path}");
    }
    assert_eq!(call(port, "GET", "/v1/namespaces", &admin).status, 404, "that is for operators");
    assert_eq!(call(port, "DELETE", "/v1/rooms/acme/standup/peers/ben", &admin).status, 404);
    assert_eq!(call(port, "DELETE", "/v1/rooms/acme/standup/peers/ann", &admin).status, 204);
    assert_eq!(closed(&mut ann), 4000);
    let description = get(port, "/v1/openapi.json").json();
    let removing = &description["paths"]["/v1/rooms/{namespace}/{room}/peers/{peer}"]["delete"];
    assert!(removing["responses"]["421"].is_object(), "{description}");
}

#[test]
fn a_tenants_server_behind_a_proxy_is_seen_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let (file, audit) = (write(dir.path(), ""), dir.path().join("audit.jsonl"));
    let port = free_base_port(1);
    let args = ["--config", file.to_str().unwrap(), "--audit-file", audit.to_str().unwrap()];
    let _node = lone_node(port, &[&args[..], &["--limits-sessions-per-minute-per-address", "2"]].concat());
    let admin = format!("bearer {}", token(&file, &["--grant", "admin"]));
    let ask = |token: &str, from: &str| {
        get_with(port, "/v1/rooms?namespace=acme", &[("Authorization", token), ("X-Forwarded-For", from)]).status
    };
    let asked = [ask(&admin, "192.0.2.9:5000"), ask("Bearer x", "192.0.2.9"), ask(&admin, "192.0.2.9")];
    assert_eq!(asked, [200, 401, 429]);
    assert_eq!(ask(&admin, "192.0.2.10"), 200);
    eventually("both are in the audit log", || {
        let log = std::fs::read_to_string(&audit).unwrap_or_default();
        let said = |event: &str| log.lines().any(|line| line.contains(event) && line.contains("\"192.0.2.9:"));
        (said("admin.call") && said("session.refused")).then_some(())
    });
}

#[test]
fn what_is_withdrawn_ends_sessions_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "");
    let (node, port) = start(&file);
    let join = |id: &str, jti: &str| {
        let token = token(&file, &["--identity", id, "--id", jti]);
        (join(port, &format!("roomId=room&token={token}")), token)
    };
    let ((mut ann, _), (mut ben, of_ben), (mut eve, _)) = (join("ann", "a"), join("ben", "b"), join("eve", "e"));
    write(dir.path(), "revoked = [\"a\"]");
    node.signal("HUP");
    assert_eq!(closed(&mut ann), 4001);
    // The operators' port revokes by itself, and shows what there is.
    let revoking = "PUT /v1/namespaces/acme/revoked/b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(Answer::parse(&exchange(port - 3, revoking.as_bytes()).unwrap()).unwrap().status, 204);
    assert_eq!(closed(&mut ben), 4001);
    assert_eq!(get(port, &format!("/v1/admission?roomId=room&token={of_ben}")).status, 401);
    eventually("the two have left", || {
        let namespaces = get(port - 3, "/v1/namespaces").json();
        (namespaces[0]["namespace"] == "acme" && namespaces[0]["peers"]["now"] == 1).then_some(())
    });
    // A file that makes no sense changes nothing.
    std::fs::write(&file, "[namespaces.acme]\n").unwrap();
    node.signal("HUP");
    eventually("that is said", || node.log().contains("cannot be used: the former stays").then_some(()));
    eve.send(Message::text(r#"{"request":true,"id":2,"method":"getRouterRtpCapabilities","data":{}}"#)).unwrap();
    assert!(eve.read().unwrap().is_text());
}
