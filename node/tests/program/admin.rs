//! The admin port: health, metrics, cluster, rooms.

use std::collections::HashSet;

use crate::support::{Dev, eventually, free_base_port, get, get_with, lone_node};

#[test]
fn the_cluster_shows_members_and_pipes() {
    let dev = Dev::start(3);
    let cluster = eventually("all members and pipes are there", || {
        let cluster = get(dev.admin(0), "/v1/cluster").json();
        let members = cluster["members"].as_array()?.iter().filter(|member| member["state"] == "live").count();
        let up = cluster["pipes"].as_array()?.iter().filter(|pipe| pipe["state"] == "up" && pipe["node"].is_string());
        (members == 3 && up.count() == 2).then_some(cluster)
    });
    assert_eq!(cluster["node"], "eu-1");
    let regions: Vec<_> = cluster["members"].as_array().unwrap().iter().map(|member| &member["region"]).collect();
    assert_eq!(regions, ["ap", "eu", "us"]);
    for member in cluster["members"].as_array().unwrap() {
        for fact in ["incarnation", "priority", "usersUrl", "meshAddr", "grpcAddr", "draining", "version"] {
            assert!(!member[fact].is_null(), "{fact} in {member}");
        }
        for load in ["cpu", "memory", "disk", "networkBps", "workers", "rooms", "users", "streams"] {
            assert!(member["load"][load].is_number(), "{load} in {member}");
        }
    }
    for pipe in cluster["pipes"].as_array().unwrap() {
        for number in ["rttMs", "sendBitrate", "recvBitrate", "packetsSent", "packetsLost", "congestionWindow"] {
            assert!(pipe[number].is_number(), "{number} in {pipe}");
        }
    }
    let url = format!("http://127.0.0.1:{}", dev.users(1));
    assert!(
        cluster["members"].as_array().unwrap().iter().any(|member| member["usersUrl"] == url.as_str()),
        "{cluster}"
    );
    eventually("load is published", || {
        let cluster = get(dev.admin(2), "/v1/cluster").json();
        let members = cluster["members"].as_array()?;
        members
            .iter()
            .all(|member| member["load"]["workers"] == 1 && member["load"]["memory"].as_f64() > Some(0.0))
            .then_some(())
    });
}

#[test]
fn rooms_are_listed() {
    let dev = Dev::start(1);
    let rooms = get(dev.admin(0), "/v1/rooms").json();
    assert_eq!(rooms["node"], "eu-1");
    assert_eq!(rooms["region"], "eu");
    assert_eq!(rooms["rooms"].as_array().unwrap().len(), 0);
}

#[test]
fn metrics_have_help_type_and_unit() {
    let dev = Dev::start(2);
    let answer = get(dev.admin(0), "/metrics");
    assert_eq!(answer.status, 200);
    assert!(answer.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    let metrics = answer.text();
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let described = |kind: &str| -> HashSet<String> {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(kind)?.split(' ').next());
        lines.map(str::to_owned).collect()
    };
    let (help, types) = (described("# HELP "), described("# TYPE "));
    assert_eq!(help, types);
    for name in [
        "sluice_node",
        "sluice_process_cpu_seconds",
        "sluice_process_resident_bytes",
        "sluice_worker_transports",
        "sluice_worker_received_bytes",
        "sluice_worker_dropped_packets",
        "sluice_rooms",
        "sluice_room_step_seconds",
        "sluice_control_lag_seconds",
        "sluice_membership_members",
        "sluice_users_connections",
        "sluice_media_connections",
    ] {
        assert!(help.contains(name), "{name} is missing in {metrics}");
    }
    assert!(metrics.contains("# UNIT sluice_process_resident_bytes bytes"), "{metrics}");
    let resident = metrics.lines().find_map(|line| line.strip_prefix("sluice_process_resident_bytes ")).unwrap();
    assert!(resident.parse::<u64>().unwrap() > 1_000_000, "{resident}");
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let bases = ["", "_total", "_info", "_bucket", "_sum", "_count", "_created"];
        assert!(bases.iter().any(|suffix| name.strip_suffix(suffix).is_some_and(|base| help.contains(base))), "{line}");
    }
}

#[test]
fn what_is_not_there_is_not_found() {
    let dev = Dev::start(1);
    assert_eq!(get(dev.admin(0), "/v2/cluster").status, 404);
    assert_eq!(get(dev.admin(0), "/healthz").status, 200);
    assert_eq!(get(dev.users(0), "/v1/rooms").status, 401, "strangers must not learn of rooms");
    assert_eq!(get(dev.users(0), "/metrics").status, 404);
}

#[test]
fn names_that_were_made_to_point_here_are_not_answered() {
    let dev = Dev::start(1);
    let host = |host: &str| get_with(dev.admin(0), "/v1/rooms", &[("Host", host)]).status;
    assert_eq!([host("evil.example"), host(&format!("evil.example:{}", dev.admin(0)))], [403, 403]);
    assert_eq!([host("127.0.0.1:4440"), host("[::1]:4440"), host("localhost")], [200, 200, 200]);
    assert_eq!(get_with(dev.admin(0), "/healthz", &[("Host", "evil.example")]).status, 200, "health is no secret");
}

#[test]
fn a_token_is_asked_for_everything_but_health() {
    let port = free_base_port(1);
    let _node = lone_node(port, &["--admin-token", "0123456789abcdef"]);
    let admin = port - 3;
    for path in ["/metrics", "/v1/cluster", "/v1/rooms"] {
        let refused = get(admin, path);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        for wrong in ["Bearer 0123456789abcdeX", "Bearer 0123456789abcde", "Basic 0123456789abcdef", "0123456789abcdef"]
        {
            assert_eq!(get_with(admin, path, &[("Authorization", wrong)]).status, 401, "{wrong}");
        }
        let right = [("Authorization", "Bearer 0123456789abcdef"), ("Host", "sluice.internal")];
        assert_eq!(get_with(admin, path, &right).status, 200, "{path}");
    }
    assert_eq!(get(admin, "/healthz").status, 200);
    assert_eq!(get(admin, "/readyz").status, 200);
}

#[test]
fn rooms_are_asked_for_by_name() {
    let dev = Dev::start(1);
    assert_eq!(get(dev.admin(0), "/v1/rooms?after=default/r").status, 200);
    assert_eq!(get(dev.admin(0), "/v1/rooms?after=default/r&limit=10").status, 200);
    assert_eq!(get(dev.admin(0), "/v1/rooms?after=nowhere").status, 400);
    assert_eq!(get(dev.admin(0), "/v1/rooms?limit=all").status, 400);
    let peers = "/v1/rooms/default/r/peers";
    assert_eq!(get(dev.admin(0), peers).status, 404, "nobody is in the room");
    assert_eq!(get(dev.admin(0), &format!("{peers}?limit=all")).status, 400);
    assert_eq!(get(dev.admin(0), &format!("{peers}?after=")).status, 400);
    let trace = |query: &str| get(dev.admin(0), &format!("{peers}/p/trace{query}"));
    assert_eq!([trace("").status, trace("?types=rtp&seconds=5").status], [404, 404]);
    for bad in ["?types=sli", "?types=", "?seconds=0", "?seconds=301", "?seconds=long"] {
        let refused = trace(bad);
        assert!(refused.status == 400 && !refused.text().is_empty(), "{bad}");
    }
}
