//! `sluice node` processes: they find each other by a seed address, and those that are killed are missed soon and
//! welcome back.

use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use crate::support::{Process, eventually, exchange, free_base_port, get, is_ready, local, run, try_get, within};

/// A cluster's certificates, and processes made with them.
pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    base_port: u16,
}

impl Cluster {
    pub(crate) fn new(nodes: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let cluster = Self { base_port: free_base_port(nodes), dir };
        assert!(run(&["ca", "init", "--dir", cluster.path()]).status.success());
        for index in 0..nodes {
            assert!(run(&["ca", "issue", "--dir", cluster.path(), "--node", &id(index)]).status.success());
        }
        cluster
    }

    fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    pub(crate) fn users(&self, index: u16) -> u16 {
        self.base_port + 100 * index
    }

    pub(crate) fn admin(&self, index: u16) -> u16 {
        self.users(index) - 3
    }

    /// Writes a node's file and starts it; node 0 is everybody's seed. Returns when it is ready.
    pub(crate) fn start(&self, index: u16) -> Process {
        let data_dir = format!("--data-dir={}/{}", self.path(), id(index));
        let node = self.spawn(index, index, &[&data_dir]);
        self.is_ready(index);
        node
    }

    fn is_ready(&self, index: u16) {
        eventually("the node is ready", || is_ready(self.users(index)).then_some(()));
    }

    /// Waits until the node says why it is not ready.
    fn is_not_ready(&self, index: u16, why: &str) {
        eventually(why, || {
            let answer = try_get(self.users(index), "/readyz", &[])?;
            (answer.status == 503 && answer.text().contains(why)).then_some(())
        });
    }

    /// Starts a node on the ports of another one, or on its own.
    fn spawn(&self, index: u16, index_of_ports: u16, more: &[&str]) -> Process {
        let users = self.users(index_of_ports);
        let (dir, id) = (self.path(), id(index));
        let listens =
            [("users", users), ("admin", users - 3), ("media", users + 1), ("mesh", users + 2), ("grpc", users + 3)];
        let mut toml = format!("id = \"{id}\"\nregion = \"{id}\"\nworkers = 1\n");
        for (section, port) in listens {
            toml.push_str(&format!("{section}.listen = \"{}\"\n", local(port)));
        }
        toml.push_str(&format!(
            "mesh.ca = \"{dir}/ca.pem\"\nmesh.cert = \"{dir}/{id}.pem\"\nmesh.key = \"{dir}/{id}.key\"\n"
        ));
        toml.push_str(&format!("cluster.seeds = [\"{}\"]\n", local(self.users(0) + 2)));
        let file = Path::new(dir).join(format!("{id}-{index_of_ports}.toml"));
        std::fs::write(&file, toml).unwrap();
        Process::spawn(&[&["node", "--config", file.to_str().unwrap()], more].concat())
    }

    fn members(&self, index: u16) -> Vec<Value> {
        get(self.admin(index), "/v1/cluster").json()["members"].as_array().unwrap().clone()
    }

    pub(crate) fn sees_alive(&self, index: u16, count: usize) {
        eventually("everybody is a member", || {
            (self.members(index).iter().filter(|member| member["state"] == "live").count() == count).then_some(())
        });
    }

    fn incarnation(&self, seen_from: u16, of: u16) -> Option<u64> {
        let members = self.members(seen_from);
        let member = members.iter().find(|member| member["node"] == id(of).as_str() && member["state"] == "live")?;
        member["incarnation"].as_u64()
    }
}

fn id(index: u16) -> String {
    format!("node-{index}")
}

/// A client that joins and sends no media.
struct Peer {
    socket: WebSocket<TcpStream>,
    seen: Vec<Value>,
    /// By which it is known again.
    secret: String,
}

impl Peer {
    fn join(users_port: u16, room: &str, id: &str) -> Self {
        Self::come_back(users_port, room, id, "")
    }

    /// Joins, and shows what it was given the last time.
    fn come_back(users_port: u16, room: &str, id: &str, secret: &str) -> Self {
        let url = format!("ws://localhost:{users_port}/?roomId={room}&peerId={id}&peerSecret={secret}");
        let mut request = url.into_client_request().unwrap();
        request.headers_mut().insert("Sec-WebSocket-Protocol", "protoo".parse().unwrap());
        let stream = TcpStream::connect(local(users_port)).unwrap();
        let (socket, _) = tokio_tungstenite::tungstenite::client(request, stream).unwrap();
        // What is asked for later is asked again and again.
        socket.get_ref().set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        let mut peer = Self { socket, seen: Vec::new(), secret: String::new() };
        let device = json!({"flag": "chrome", "name": "Chrome", "version": "1"});
        let data = json!({"displayName": id, "device": device});
        let join = json!({"request": true, "id": 1, "method": "join", "data": data});
        peer.socket.send(Message::text(join.to_string())).unwrap();
        let answer = peer.eventually_sees(|message| message["response"] == true && message["id"] == 1);
        assert_eq!(answer["ok"], true, "{answer}");
        peer.secret = answer["data"]["peerSecret"].as_str().unwrap().to_owned();
        // Those that are there already are told in the answer.
        for other in answer["data"]["peers"].as_array().unwrap() {
            peer.seen.push(json!({"method": "newPeer", "data": other}));
        }
        peer
    }

    fn sees(&mut self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        while let Ok(message) = self.socket.read() {
            if let Message::Text(text) = message {
                self.seen.push(serde_json::from_str(&text).unwrap());
            }
        }
        let index = self.seen.iter().position(wanted)?;
        Some(self.seen.remove(index))
    }

    #[track_caller]
    fn eventually_sees(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        eventually("a message", || self.sees(&wanted))
    }

    #[track_caller]
    fn meets(&mut self, other: &str) {
        self.eventually_sees(|message| message["method"] == "newPeer" && message["data"]["id"] == other);
    }
}

#[test]
fn nodes_find_each_other_by_a_seed() {
    let cluster = Cluster::new(3);
    // The seed comes last: nobody waits for it.
    let _nodes = [2, 1, 0].map(|index| cluster.start(index));
    for index in 0..3 {
        cluster.sees_alive(index, 3);
    }
    let mut a = Peer::join(cluster.users(0), "r", "a");
    let mut b = Peer::join(cluster.users(2), "r", "b");
    a.meets("b");
    b.meets("a");
    eventually("both are in the room's list", || {
        let rooms = get(cluster.admin(0), "/v1/rooms").json();
        let peers = rooms["rooms"][0]["peers"].as_array()?.clone();
        let of = |id: &str| peers.iter().find(|peer| peer["id"] == id).map(|peer| peer["node"].clone());
        (of("a") == Some(json!("node-0")) && of("b") == Some(json!("node-2"))).then_some(())
    });
    let peers = "/v1/rooms/default/r/peers";
    let page = get(cluster.admin(0), &format!("{peers}?limit=1")).json();
    assert_eq!((&page["total"], &page["peers"][0]["id"], &page["next"]), (&json!(2), &json!("a"), &json!("a")));
    let page = get(cluster.admin(0), &format!("{peers}?after=a")).json();
    assert_eq!((&page["peers"][0]["id"], &page["next"]), (&json!("b"), &json!(null)));
    let put_on_stage = |peer: &str| {
        let head = format!("PUT {peers}/{peer}/stage HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        String::from_utf8(exchange(cluster.admin(0), head.as_bytes()).unwrap()).unwrap()
    };
    assert!(put_on_stage("a").starts_with("HTTP/1.1 204"));
    assert!(put_on_stage("b").starts_with("HTTP/1.1 421"), "it is on another node");
    eventually("a is on the stage for all nodes", || {
        let page = get(cluster.admin(2), peers).json();
        (page["peers"][0]["onStage"] == true && page["stage"] == 1).then_some(())
    });
}

#[test]
fn peers_of_a_killed_node_are_gone_within_2_seconds() {
    let cluster = Cluster::new(3);
    let [_first, _second, third] = [0, 1, 2].map(|index| cluster.start(index));
    for index in 0..3 {
        cluster.sees_alive(index, 3);
    }
    let mut a = Peer::join(cluster.users(0), "r", "a");
    let mut b = Peer::join(cluster.users(1), "r", "b");
    let _c = Peer::join(cluster.users(2), "r", "c");
    for peer in [&mut a, &mut b] {
        peer.meets("c");
    }
    third.kill();
    for peer in [&mut a, &mut b] {
        within(Duration::from_secs(2), "c is told to be gone", || {
            peer.sees(|message| message["method"] == "peerClosed" && message["data"]["peerId"] == "c")
        });
    }
    // The others go on undisturbed.
    let _d = Peer::join(cluster.users(1), "r", "d");
    a.meets("d");
    assert!(a.sees(|message| message["method"] == "peerClosed").is_none());
    let _third = cluster.start(2);
    cluster.sees_alive(0, 3);
    let mut e = Peer::join(cluster.users(2), "r", "e");
    e.meets("a");
    a.meets("e");
}

#[test]
fn a_node_that_stalls_for_less_than_5_seconds_is_not_left() {
    let cluster = Cluster::new(3);
    let nodes = [0, 1, 2].map(|index| cluster.start(index));
    for index in 0..3 {
        cluster.sees_alive(index, 3);
    }
    let mut peers = [0, 1, 2].map(|index| Peer::join(cluster.users(index), "r", &format!("p{index}")));
    for (index, peer) in peers.iter_mut().enumerate() {
        (0..3).filter(|other| *other != index).for_each(|other| peer.meets(&format!("p{other}")));
    }
    for stall in [2_000, 4_000] {
        nodes[1].signal("STOP");
        std::thread::sleep(Duration::from_millis(stall));
        nodes[1].signal("CONT");
        for index in 0..3 {
            cluster.sees_alive(index, 3);
        }
        // Somebody who comes now is told of by all; whatever was said before has arrived by then.
        let witness = format!("w{stall}");
        let _witness = Peer::join(cluster.users(1), "r", &witness);
        for peer in &mut peers {
            peer.meets(&witness);
            let left = peer.seen.iter().find(|message| {
                message["method"] == "peerClosed" && message["data"]["peerId"].as_str().unwrap().starts_with('p')
            });
            assert!(left.is_none(), "after {stall} ms: {left:?}");
        }
    }
}

#[test]
fn a_user_of_a_stalled_node_who_comes_back_elsewhere_is_not_waited_for() {
    let cluster = Cluster::new(2);
    let [_first, second] = [0, 1].map(|index| cluster.start(index));
    cluster.sees_alive(0, 2);
    let mut a = Peer::join(cluster.users(0), "r", "a");
    let x = Peer::join(cluster.users(1), "r", "x");
    a.meets("x");
    second.signal("STOP");
    let _x = Peer::come_back(cluster.users(0), "r", "x", &x.secret);
    within(Duration::from_secs(2), "the old session of x is gone", || {
        a.sees(|message| message["method"] == "peerClosed" && message["data"]["peerId"] == "x")
    });
    a.meets("x");
    second.signal("CONT");
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the second that it names")]
fn a_node_killed_and_back_within_a_second_leaves_nothing_of_its_former_self() {
    let cluster = Cluster::new(2);
    let [_first, second] = [0, 1].map(|index| cluster.start(index));
    cluster.sees_alive(0, 2);
    let mut a = Peer::join(cluster.users(0), "r", "a");
    let _b = Peer::join(cluster.users(1), "r", "b");
    a.meets("b");
    let before = cluster.incarnation(0, 1).unwrap();

    let killed = Instant::now();
    second.kill();
    let _second = cluster.start(1);
    println!("killed and back in {} ms", killed.elapsed().as_millis());
    let after = eventually("it is a member again", || cluster.incarnation(0, 1).filter(|now| *now != before));
    assert!(after > before);
    within(Duration::from_secs(5), "b is told to be gone", || {
        a.sees(|message| message["method"] == "peerClosed" && message["data"]["peerId"] == "b")
    });
    let mut c = Peer::join(cluster.users(1), "r", "c");
    c.meets("a");
    a.meets("c");
    let rooms = get(cluster.admin(0), "/v1/rooms").json();
    let ids: Vec<_> = rooms["rooms"][0]["peers"].as_array().unwrap().iter().map(|peer| peer["id"].clone()).collect();
    assert!(!ids.contains(&json!("b")), "{rooms}");
    let other = get(cluster.admin(1), "/v1/rooms").json();
    assert!(!other.to_string().contains("\"b\""), "{other}");
}

#[test]
fn a_foreign_certificate_is_no_way_in() {
    let (cluster, foreign) = (Cluster::new(2), Cluster::new(1));
    let _node = cluster.start(0);
    // The second node has a certificate of another cluster's CA.
    assert!(run(&["ca", "issue", "--dir", foreign.path(), "--node", "node-1"]).status.success());
    for file in ["ca.pem", "node-1.pem", "node-1.key"] {
        std::fs::copy(foreign.dir.path().join(file), cluster.dir.path().join(file)).unwrap();
    }
    let stranger = cluster.spawn(1, 1, &[]);
    cluster.is_not_ready(1, "no node of the mesh lets this one in");
    eventually("it is refused, and says so", || {
        let log = stranger.log();
        (log.contains("WARN") && log.contains("certificate")).then_some(())
    });
    assert_eq!(cluster.members(0).len(), 1);
}

/// Milliseconds since the Unix epoch, some minutes from now.
#[allow(clippy::disallowed_methods, reason = "a clock that is ahead")]
fn minutes_ahead(minutes: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("--incarnation={}", now.as_millis() as u64 + minutes * 60_000)
}

#[test]
fn a_node_whose_clock_was_set_back_comes_back_as_a_newer_one() {
    let cluster = Cluster::new(2);
    let _first = cluster.start(0);
    // Nothing outlives its restart: it has no data directory.
    let second = cluster.spawn(1, 1, &[&minutes_ahead(10)]);
    cluster.sees_alive(0, 2);
    let before = cluster.incarnation(0, 1).unwrap();
    second.kill();
    let second = cluster.spawn(1, 1, &[]);
    cluster.is_not_ready(1, "newer incarnation");
    let after = eventually("it is a member again", || cluster.incarnation(0, 1).filter(|now| *now != before));
    assert_eq!(after, before + 1);
    cluster.is_ready(1);
    cluster.sees_alive(1, 2);
    assert!(second.log().contains("others know a newer incarnation of this node"));
    let mut a = Peer::join(cluster.users(0), "r", "a");
    let mut b = Peer::join(cluster.users(1), "r", "b");
    a.meets("b");
    b.meets("a");
}

#[test]
fn of_two_processes_with_one_id_the_displaced_one_is_not_ready_and_says_so() {
    let cluster = Cluster::new(3);
    let _first = cluster.start(0);
    let older = cluster.spawn(1, 1, &[]);
    cluster.is_ready(1);
    cluster.sees_alive(0, 2);
    // With the ports of another node.
    let newer = cluster.spawn(1, 2, &[&minutes_ahead(1)]);
    cluster.is_not_ready(1, "newer incarnation");
    cluster.is_ready(2);
    eventually("an error is logged", || {
        older.log().lines().any(|line| line.contains("ERROR") && line.contains("another process runs")).then_some(())
    });
    assert!(is_ready(cluster.users(2)));
    // The newer one goes: the older takes its place.
    newer.kill();
    cluster.is_ready(1);
    cluster.sees_alive(0, 2);
}

#[test]
fn the_mesh_gets_certificates_of_another_authority_while_it_runs() {
    let cluster = Cluster::new(3);
    let nodes = [0, 1].map(|index| cluster.start(index));
    cluster.sees_alive(0, 2);
    let mut a = Peer::join(cluster.users(0), "r", "a");
    let mut b = Peer::join(cluster.users(1), "r", "b");
    a.meets("b");
    b.meets("a");
    let renewed = Cluster::new(3);
    for file in ["ca.pem", "node-0.pem", "node-0.key", "node-1.pem", "node-1.key", "node-2.pem", "node-2.key"] {
        std::fs::copy(renewed.dir.path().join(file), cluster.dir.path().join(file)).unwrap();
    }
    for node in &nodes {
        node.signal("HUP");
        eventually("they are in use", || node.log().contains("what was renewed is in use").then_some(()));
    }
    let _third = cluster.start(2);
    for index in 0..3 {
        cluster.sees_alive(index, 3);
    }
    let mut c = Peer::join(cluster.users(2), "r", "c");
    for peer in [&mut a, &mut b] {
        peer.meets("c");
        assert!(peer.seen.iter().all(|message| message["method"] != "peerClosed"));
    }
    c.meets("a");
    c.meets("b");
}
