//! Directory and rosters over loopback gRPC with real certificates.
#![cfg(feature = "io")]

mod cluster;
mod hostile;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sluice_placement::{EnterError, PartDelta, PlacementTls, RosterEvent, TraceHooks};
use sluice_proto::placement::PeerEntry;
use tokio::time::{sleep, timeout};

use cluster::{Ca, Cluster, changed, gone, instance, member, next, part, room, until};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn a_join_a_change_and_a_leave_show_on_the_other_node() {
    // No lease is renewed within the time that is waited for anything.
    let cluster = Cluster::start_with(&["a", "b", "c"], |config| (config.lease, config.renew) = (3 * HOUR, HOUR)).await;
    let (a, mut at_a) = cluster.placement("a").enter(room("r")).unwrap();
    a.publish(part(&["ann"]));
    let (b, mut at_b) = cluster.placement("b").enter(room("r")).unwrap();
    b.publish(part(&["bob"]));
    assert_eq!(next(&mut at_b).await, changed(&instance("a", 1), &["ann"]));
    until(&mut at_a, &changed(&instance("b", 1), &["bob"])).await;

    a.publish(part(&["ann", "amy"]));
    assert_eq!(next(&mut at_b).await, changed(&instance("a", 1), &["amy"]));
    let rooms = cluster.placement("b").rooms();
    assert_eq!(rooms.len(), 1);
    assert_eq!(rooms[0].owners, cluster.placement("a").owners(&room("r")));
    assert_eq!(rooms[0].parts[0].0, instance("b", 1), "its own part first");
    assert_eq!(rooms[0].parts[1].1.len(), 2);

    drop(a);
    assert_eq!(next(&mut at_b).await, gone(&instance("a", 1)));
    assert_eq!(at_a.recv().await, None, "the room ended for its own reader");
    assert_eq!(cluster.placement("a").rooms().len(), 0);
}

#[tokio::test]
async fn a_node_is_in_a_room_once() {
    let cluster = Cluster::start(&["a"]).await;
    let placement = cluster.placement("a");
    let (first, _events) = placement.enter(room("r")).unwrap();
    assert_eq!(placement.enter(room("r")).unwrap_err(), EnterError::AlreadyEntered);
    drop(first);
    let (_again, _events) = placement.enter(room("r")).unwrap();
    placement.shutdown().await;
    assert_eq!(placement.enter(room("s")).unwrap_err(), EnterError::ShutDown);
}

#[tokio::test]
async fn a_room_goes_on_when_both_its_owners_are_killed() {
    let mut cluster = Cluster::start(&["a", "b", "c", "d"]).await;
    let owned_by_others = |name: &String| {
        let owners = cluster.placement("a").owners(&room(name));
        owners.iter().all(|owner| ["c", "d"].contains(&owner.node.as_str()))
    };
    let name = (0..).map(|i| format!("r{i}")).find(owned_by_others).unwrap();
    let (a, mut at_a) = cluster.placement("a").enter(room(&name)).unwrap();
    let (b, mut at_b) = cluster.placement("b").enter(room(&name)).unwrap();
    b.publish(part(&["bob"]));
    until(&mut at_a, &changed(&instance("b", 1), &["bob"])).await;
    until(&mut at_b, &changed(&instance("a", 1), &[])).await;

    cluster.kill("c");
    cluster.kill("d");
    a.publish(part(&["ann"]));
    assert_eq!(next(&mut at_b).await, changed(&instance("a", 1), &["ann"]), "before anybody knows");
    cluster.tell();
    b.publish(part(&["bob", "ben"]));
    assert_eq!(next(&mut at_a).await, changed(&instance("b", 1), &["ben"]));

    // Who comes now finds them, by the new owners.
    let config = cluster.config("e", 1);
    cluster.add(config).await;
    cluster.tell();
    let (_e, mut at_e) = cluster.placement("e").enter(room(&name)).unwrap();
    let mut found = vec![next(&mut at_e).await, next(&mut at_e).await];
    found.sort_by_key(|event| format!("{event:?}").contains("bob"));
    assert_eq!(found, [changed(&instance("a", 1), &["ann"]), changed(&instance("b", 1), &["ben", "bob"])]);
    until(&mut at_a, &changed(&instance("e", 1), &[])).await;
}

#[tokio::test]
async fn a_killed_node_comes_back_as_somebody_new() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    let (_a, mut at_a) = cluster.placement("a").enter(room("r")).unwrap();
    let (b, _at_b) = cluster.placement("b").enter(room("r")).unwrap();
    b.publish(part(&["bob"]));
    until(&mut at_a, &changed(&instance("b", 1), &["bob"])).await;

    let addr = cluster.kill("b");
    let mut config = cluster.config("b", 2);
    config.grpc_listen = addr;
    cluster.add(config).await;
    cluster.tell();
    assert_eq!(next(&mut at_a).await, gone(&instance("b", 1)));
    let (b, mut at_b) = cluster.placement("b").enter(room("r")).unwrap();
    b.publish(part(&["bea"]));
    until(&mut at_a, &changed(&instance("b", 2), &["bea"])).await;
    until(&mut at_b, &changed(&instance("a", 1), &[])).await;
}

#[tokio::test]
async fn a_node_that_shuts_down_tells_the_others() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let (_a, mut at_a) = cluster.placement("a").enter(room("r")).unwrap();
    let (b, mut at_b) = cluster.placement("b").enter(room("r")).unwrap();
    b.publish(part(&["bob"]));
    until(&mut at_a, &changed(&instance("b", 1), &["bob"])).await;
    timeout(Duration::from_secs(3), cluster.placement("b").shutdown()).await.expect("it does not take long");
    until(&mut at_a, &gone(&instance("b", 1))).await;
    while at_b.recv().await.is_some() {}
}

#[tokio::test]
async fn a_slow_reader_misses_states_but_never_the_last() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let (a, mut at_a) = cluster.placement("a").enter(room("r")).unwrap();
    let (_b, mut at_b) = cluster.placement("b").enter(room("r")).unwrap();
    until(&mut at_a, &changed(&instance("b", 1), &[])).await;
    for i in 0..2_000 {
        a.publish(PartDelta { removed: vec![format!("p{i}")], ..part(&[&format!("p{}", i + 1)]) });
    }
    let mut events = 1;
    let known = |event: &RosterEvent| match event {
        RosterEvent::PartChanged { delta, .. } => delta.upserted.iter().any(|peer| peer.id == "p2000"),
        _ => false,
    };
    while !known(&next(&mut at_b).await) {
        events += 1;
    }
    assert!(events < 2_000, "{events}");
}

#[tokio::test]
async fn many_rooms_and_a_late_node() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    let rooms: Vec<_> = (0..300).map(|i| room(&format!("r{i}"))).collect();
    let at_a: Vec<_> = rooms.iter().map(|room| cluster.placement("a").enter(room.clone()).unwrap()).collect();
    at_a.iter().for_each(|(handle, _)| handle.publish(part(&[handle.room().room.as_str()])));
    let config = cluster.config("c", 1);
    cluster.add(config).await;
    cluster.tell();
    let mut at_c: Vec<_> = rooms.iter().map(|room| cluster.placement("c").enter(room.clone()).unwrap()).collect();
    for (handle, events) in &mut at_c {
        until(events, &changed(&instance("a", 1), &[handle.room().room.as_str()])).await;
    }
    assert_eq!(cluster.node("c").metric("roster_parts_followed"), 300);
}

#[tokio::test]
async fn a_node_dials_from_the_address_that_it_listens_on() {
    let mut cluster = Cluster::start(&[]).await;
    let mut config = cluster.config("a", 1);
    config.grpc_listen = ([127, 0, 0, 2], 0).into();
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let members = [member(&instance("b", 1), other.local_addr().unwrap())];
    cluster.add_knowing(config, members).await;
    let (_, from) = timeout(Duration::from_secs(10), other.accept()).await.expect("it dials").unwrap();
    assert_eq!(from.ip(), std::net::Ipv4Addr::new(127, 0, 0, 2));
}

const JOIN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
static PARENTS: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

#[tokio::test]
async fn the_trace_of_a_join_reaches_owners_and_followed_nodes() {
    let subscriber = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::INFO).finish();
    // Spans must exist to be named; other tests do not mind.
    let _ = tracing::subscriber::set_global_default(subscriber);
    let mut cluster = Cluster::start(&[]).await;
    let hooks = TraceHooks {
        inject: || Some(JOIN.to_owned()),
        set_parent: |span, parent| {
            let name = span.metadata().map_or("", |metadata| metadata.name());
            PARENTS.lock().unwrap().push((name.to_owned(), parent.to_owned()));
        },
    };
    for node in ["a", "b"] {
        let mut config = cluster.config(node, 1);
        config.trace = hooks;
        cluster.add(config).await;
    }
    cluster.tell();
    let join = tracing::info_span!("join").entered();
    let (_a, mut at_a) = cluster.placement("a").enter(room("r")).unwrap();
    let (_b, mut at_b) = cluster.placement("b").enter(room("r")).unwrap();
    drop(join);
    until(&mut at_a, &changed(&instance("b", 1), &[])).await;
    until(&mut at_b, &changed(&instance("a", 1), &[])).await;
    let seen = |name: &str| PARENTS.lock().unwrap().contains(&(name.to_owned(), JOIN.to_owned()));
    for name in ["directory.renew", "rosters.follow"] {
        let waited = timeout(Duration::from_secs(5), async {
            while !seen(name) {
                sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "{name}: {:?}", PARENTS.lock().unwrap());
    }
}

#[tokio::test]
async fn a_part_of_twenty_megabytes_is_told_and_taken_back() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let (a, mut at_a) = cluster.placement("a").enter(room("r")).unwrap();
    let (_b, mut at_b) = cluster.placement("b").enter(room("r")).unwrap();
    until(&mut at_a, &changed(&instance("b", 1), &[])).await;
    until(&mut at_b, &changed(&instance("a", 1), &[])).await;
    let peer = |i| Arc::new(PeerEntry { id: format!("{i:05}"), device: "x".repeat(4_000), ..PeerEntry::default() });
    let whole = PartDelta { upserted: (0..5_000).map(peer).collect(), removed: Vec::new() };
    a.publish(whole.clone());
    let told = |event| match event {
        RosterEvent::PartChanged { delta, .. } => delta,
        other => panic!("{other:?} came instead"),
    };
    assert_eq!(told(next(&mut at_b).await), whole);
    let removed: Vec<String> = whole.upserted[1..].iter().map(|peer| peer.id.clone()).collect();
    a.publish(PartDelta { upserted: Vec::new(), removed: removed.clone() });
    assert_eq!(told(next(&mut at_b).await).removed, removed);
    // Somebody who comes later gets it as a snapshot.
    a.publish(whole.clone());
    drop((_b, at_b));
    let (_again, mut at_b) = cluster.placement("b").enter(room("r")).unwrap();
    assert_eq!(told(next(&mut at_b).await), whole);
}

#[tokio::test]
async fn certificates_of_another_ca_are_taken_into_use_while_streams_go_on() {
    let mut cluster = Cluster::start(&["a", "b"]).await;
    let (a, _at_a) = cluster.placement("a").enter(room("r")).unwrap();
    let (_b, mut at_b) = cluster.placement("b").enter(room("r")).unwrap();
    a.publish(part(&["ann"]));
    until(&mut at_b, &changed(&instance("a", 1), &["ann"])).await;
    cluster.ca = Ca::new();
    for node in ["a", "b"] {
        let tls = cluster.ca.issue_node(node);
        let broken = PlacementTls { key_pem: "nonsense".into(), ..tls.clone() };
        assert!(cluster.placement(node).read_tls(&broken).is_err());
        let take_into_use = cluster.placement(node).read_tls(&tls).unwrap();
        take_into_use();
    }
    a.publish(part(&["ann", "amy"]));
    assert_eq!(next(&mut at_b).await, changed(&instance("a", 1), &["amy"]), "the stream is up");
    assert_eq!(cluster.node("b").metric("roster_streams_broken_total"), 0);
    // A newcomer has a certificate of the new authority only.
    let config = cluster.config("c", 1);
    cluster.add(config).await;
    cluster.tell();
    let (c, mut at_c) = cluster.placement("c").enter(room("r")).unwrap();
    c.publish(part(&["cas"]));
    until(&mut at_b, &changed(&instance("c", 1), &["cas"])).await;
    until(&mut at_c, &changed(&instance("a", 1), &["amy", "ann"])).await;
}
