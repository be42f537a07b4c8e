//! `sluice dev`: starts, says where it is, ends as asked.

use std::net::TcpListener;

use crate::support::{Dev, Process, eventually, free_base_port, get, is_ready, local, run, text};

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
fn long_paths_are_told_with_the_table() {
    let mut dev = Dev::start_with(3, &["--wan", "eu-us=80ms,1%", "--wan", "ap>eu=5ms,rate=10Mbps"]);
    let table: Vec<_> = (0..4).map(|_| dev.process.line()).collect();
    // Where the nodes would be without.
    assert!(table[1].contains(&format!(" {} ", dev.mesh(0))), "{table:?}");
    let paths = [(); 3].map(|()| dev.process.line().split_whitespace().collect::<Vec<_>>().join(" "));
    assert_eq!(paths, ["eu > us 80ms,1%", "us > eu 80ms,1%", "ap > eu 5ms,rate=10Mbps,queue=100ms"]);
    eventually("the nodes meet", || {
        let cluster = get(dev.admin(0), "/v1/cluster").json();
        let members = cluster["members"].as_array()?;
        let announced = members.iter().all(|member| member["meshAddr"].as_str().unwrap().starts_with("127.0.0.1:"));
        (members.len() == 3 && announced).then_some(())
    });
    dev.process.signal("INT");
    assert_eq!(dev.process.wait().code(), Some(0));
    TcpListener::bind(local(dev.grpc(0))).expect("the relay's port is free again");
}

#[test]
fn a_path_that_makes_no_sense_is_one_line_and_exit_code_2() {
    let base_port = free_base_port(3).to_string();
    let ends = "allowed is REGION-REGION=PATH for both directions, REGION>REGION=PATH for one, such as eu-us=80ms,1%";
    for (path, expected) in [
        ("eu-mars=80ms", "--wan eu-mars=80ms: \"mars\": allowed are the regions eu, us, ap".to_owned()),
        ("eu-eu=80ms", "--wan eu-eu=80ms: \"eu-eu\": allowed are two different regions".to_owned()),
        ("80ms", format!("--wan 80ms: \"80ms\": {ends}")),
        ("eu-us=1%,lots", "--wan eu-us=1%,lots: \"lots\": allowed is a delay (80ms)".to_owned()),
        ("eu-us=200%", "--wan eu-us=200%: \"200%\": allowed is a share from 0% to 100%".to_owned()),
    ] {
        let output = run(&["dev", "--base-port", &base_port, "--workers", "1", "--wan", path]);
        assert_eq!(output.status.code(), Some(2), "{path}");
        let message = text(&output.stderr);
        assert!(message.starts_with(&format!("error: {expected}")), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn a_base_port_without_room_is_refused() {
    let output = run(&["dev", "--base-port", "65500"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--base-port 65500: allowed is"), "{}", text(&output.stderr));
}
