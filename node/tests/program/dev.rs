//! `sluice dev`: starts, says where it is, ends as asked.

use std::net::TcpListener;

use crate::support::{Dev, Process, eventually, free_base_port, is_ready, local, run, text};

#[test]
fn a_mesh_starts_tells_its_ports_and_ends_on_ctrl_c() {
    let mut dev = Dev::start(3);
    let header = dev.process.line();
    assert!(header.starts_with("region"), "{header}");
    for (index, region) in ["eu", "us", "ap"].into_iter().enumerate() {
        let line = dev.process.line();
        let users = dev.users(index as u16);
        let columns: Vec<_> = line.split_whitespace().collect();
        let ports = [users + 1, users + 2, users + 3].map(|port| port.to_string());
        assert_eq!(columns[0], region);
        assert_eq!(columns[2], format!("http://localhost:{users}/"));
        assert_eq!(columns[3], format!("http://localhost:{}/", users - 3));
        assert_eq!(columns[4..], ports);
    }
    dev.process.signal("INT");
    assert_eq!(dev.process.wait().code(), Some(0));
    TcpListener::bind(local(dev.users(0))).expect("the port is free again");
}

#[test]
fn sigterm_ends_it_too() {
    let mut dev = Dev::start(1);
    dev.process.signal("TERM");
    assert_eq!(dev.process.wait().code(), Some(0));
}

#[test]
fn a_taken_port_is_named_with_a_way_out() {
    let base_port = free_base_port(2);
    let taken = base_port + 100 - 3;
    let _other = TcpListener::bind(local(taken)).unwrap();
    let output = run(&["dev", "--nodes", "2", "--base-port", &base_port.to_string()]);
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert!(message.contains(&format!("port {taken} (admin of node 2) is taken")), "{message}");
    let (_, suggestion) = message.trim().split_once("try --base-port ").expect("a way out");

    let mut mesh = Process::spawn(&["dev", "--nodes", "2", "--workers", "1", "--base-port", suggestion]);
    let port: u16 = suggestion.parse().unwrap();
    eventually("it starts there", || is_ready(port + 100).then_some(()));
    mesh.signal("INT");
    assert_eq!(mesh.wait().code(), Some(0));
}

#[test]
fn a_base_port_without_room_is_refused() {
    let output = run(&["dev", "--base-port", "65500"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--base-port 65500: allowed is"), "{}", text(&output.stderr));
}
