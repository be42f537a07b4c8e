//! Gossip membership on paused time, over a network in memory.

#![cfg(feature = "io")]

mod hostile;
mod net;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use net::Net;
use sluice_placement::{MemberState, Members, Membership, MembershipConfig, NodeFacts, NodeLoad};
use sluice_proto::ids::{NodeId, NodeInstance, Region};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

fn addr(node: u16) -> SocketAddr {
    ([127, 0, 0, 1], 10_000 + node).into()
}

/// Of a node that [`instance`] made.
fn addr_of(node: &NodeId) -> SocketAddr {
    let number = node.as_str().rsplit('-').next().unwrap();
    addr(number.parse().unwrap())
}

fn instance(node: u16, incarnation: u64) -> NodeInstance {
    NodeInstance { node: NodeId::new(format!("node-{node}")).unwrap(), incarnation }
}

fn facts(node: u16) -> NodeFacts {
    NodeFacts {
        region: Region::new(format!("region-{node}")).unwrap(),
        zone: "a".into(),
        carrier: String::new(),
        priority: 3,
        users_url: format!("http://127.0.0.1:{}", 4443 + 100 * node),
        mesh_addr: addr(node),
        grpc_addr: addr(node),
        load: NodeLoad { workers: 2, ..NodeLoad::default() },
        clock_ms: 0,
        tenants: String::new(),
        draining: false,
        version: "0.1.0".into(),
    }
}

async fn start(net: &Net, node: u16, incarnation: u64, seeds: &[String]) -> Membership {
    let mut config = MembershipConfig::new(instance(node, incarnation), addr(node), "test".into());
    config.seeds = seeds.to_vec();
    Membership::spawn(config, facts(node), net.open(addr(node)), net.witness(addr(node))).await.unwrap()
}

/// A metric of a node's membership.
fn gauge(node: &Membership, name: &str) -> u64 {
    let mut registry = prometheus_client::registry::Registry::default();
    node.register_metrics(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name);
    line.parse().unwrap()
}

fn state(members: &Members, node: u16, incarnation: u64) -> Option<MemberState> {
    let instance = instance(node, incarnation);
    members.get(&instance.node).filter(|member| member.instance == instance).map(|member| member.state)
}

/// Waits for a view that satisfies the condition; returns how long it took.
async fn until(view: &mut watch::Receiver<Arc<Members>>, condition: impl FnMut(&Arc<Members>) -> bool) -> Duration {
    let began = Instant::now();
    let waited = timeout(Duration::from_secs(60), view.wait_for(condition)).await.map(drop);
    assert!(waited.is_ok(), "it does not come to pass: {:#?}", view.borrow());
    began.elapsed()
}

async fn mesh(net: &Net, nodes: u16) -> Vec<Membership> {
    let mut memberships = Vec::new();
    for node in 0..nodes {
        memberships.push(start(net, node, 1, &[addr(0).to_string()]).await);
    }
    for membership in &memberships {
        until(&mut membership.members(), |members| members.present().count() == usize::from(nodes)).await;
    }
    memberships
}

#[tokio::test(start_paused = true)]
async fn nodes_find_each_other_and_each_others_facts() {
    let net = Net::default();
    let began = Instant::now();
    let nodes = mesh(&net, 5).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let view = nodes[3].members().borrow().clone();
    assert_eq!(view.me(), &instance(3, 1));
    for node in 0..5 {
        assert_eq!(view.get(&instance(node, 1).node).unwrap().facts, facts(node));
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_fact_comes_through_within_a_second() {
    let net = Net::default();
    let nodes = mesh(&net, 3).await;
    let mut changed = facts(0);
    changed.draining = true;
    changed.load.users = 17;
    nodes[0].publish(changed.clone());
    let took =
        until(&mut nodes[2].members(), |members| members.get(&instance(0, 1).node).unwrap().facts == changed).await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    until(&mut nodes[0].members(), |members| members.get(&instance(0, 1).node).unwrap().facts == changed).await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_node_is_missed_within_two_seconds() {
    for size in [2, 3, 20] {
        for linked in [false, true] {
            let net = Net::default();
            let mut nodes = mesh(&net, size).await;
            if linked {
                net.link();
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            drop(nodes.pop());
            let view = &mut nodes[0].members();
            let took = until(view, |members| state(members, size - 1, 1) == Some(MemberState::Dead)).await;
            assert!(took < Duration::from_secs(2), "{size} nodes: {took:?}");
            let others = view.borrow().present().count();
            assert_eq!(others, usize::from(size) - 1, "nobody else is missed");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_machine_lost_power_is_missed_after_five_seconds() {
    for size in [2, 3, 20] {
        let net = Net::default();
        let mut nodes = mesh(&net, size).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        net.unplug(addr(size - 1));
        drop(nodes.pop());
        let view = &mut nodes[0].members();
        let took = until(view, |members| state(members, size - 1, 1) == Some(MemberState::Dead)).await;
        assert!((4_500..6_500).contains(&took.as_millis()), "{size} nodes: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_four_seconds_is_no_death() {
    for linked in [false, true] {
        for stall in [1_000, 2_000, 2_500, 4_000] {
            let net = Net::default();
            let nodes = mesh(&net, 3).await;
            if linked {
                net.link();
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
            let mut views: Vec<_> = nodes.iter().map(Membership::members).collect();
            net.stall(addr(1));
            tokio::time::sleep(Duration::from_millis(stall)).await;
            net.go_on(addr(1));
            let anybody_dead = |members: &Arc<Members>| members.iter().any(|member| member.state == MemberState::Dead);
            for node in [0, 2] {
                let dead = timeout(Duration::from_secs(30), views[node].wait_for(anybody_dead)).await;
                assert!(dead.is_err(), "{stall} ms, linked {linked}: {:#?}", nodes[node].members().borrow());
                let live = |member: &sluice_placement::Member| member.state == MemberState::Live;
                assert!(nodes[node].members().borrow().iter().all(live));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_beyond_five_seconds_is_death_and_return() {
    let net = Net::default();
    let nodes = mesh(&net, 3).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    net.stall(addr(1));
    until(&mut nodes[0].members(), |members| state(members, 1, 1) == Some(MemberState::Dead)).await;
    // Longer than chitchat remembers the dead.
    tokio::time::sleep(Duration::from_secs(60)).await;
    net.go_on(addr(1));
    let took = until(&mut nodes[0].members(), |members| state(members, 1, 1) == Some(MemberState::Live)).await;
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_living_connection_keeps_a_node_that_gossip_does_not_reach() {
    let net = Net::default();
    let nodes = mesh(&net, 2).await;
    net.link();
    tokio::time::sleep(Duration::from_secs(20)).await;
    net.cut(addr(0), addr(1));
    let mut view = nodes[0].members();
    let dead = |members: &Arc<Members>| state(members, 1, 1) != Some(MemberState::Live);
    assert!(timeout(Duration::from_secs(120), view.wait_for(dead)).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn nobody_is_taken_for_dead_while_all_are_well() {
    let net = Net::default();
    let nodes = mesh(&net, 3).await;
    let mut view = nodes[0].members();
    let all_live = |members: &Members| members.iter().all(|member| member.state == MemberState::Live);
    let watched = timeout(Duration::from_secs(120), view.wait_for(|members| !all_live(members))).await;
    assert!(watched.is_err(), "{:#?}", nodes[0].members().borrow());
}

#[tokio::test(start_paused = true)]
async fn a_newer_incarnation_voids_the_older_at_once() {
    let net = Net::default();
    let mut nodes = mesh(&net, 3).await;
    drop(nodes.pop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let restarted = start(&net, 2, 2, &[addr(0).to_string()]).await;
    for node in &nodes {
        let took = until(&mut node.members(), |members| state(members, 2, 2) == Some(MemberState::Live)).await;
        assert!(took < Duration::from_millis(1_000), "{took:?}");
        assert_eq!(state(&node.members().borrow(), 2, 1), None);
    }
    let view = restarted.members();
    assert_eq!(state(&view.borrow(), 2, 2), Some(MemberState::Live), "it does not take its former self for another");
}

#[tokio::test(start_paused = true)]
async fn a_node_whose_seeds_are_down_is_ready_alone_and_finds_them_later() {
    let net = Net::default();
    let began = Instant::now();
    let alone = start(&net, 1, 1, &[addr(0).to_string(), "no-such-host.invalid:1".into()]).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(alone.members().borrow().present().count(), 1);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let _seed = start(&net, 0, 1, &[]).await;
    let took = until(&mut alone.members(), |members| members.present().count() == 2).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_split_heals_without_help() {
    let net = Net::default();
    let nodes = mesh(&net, 4).await;
    for left in [0, 1] {
        for right in [2, 3] {
            net.cut(addr(left), addr(right));
        }
    }
    for (node, expected) in [(0, [2, 3]), (3, [0, 1])] {
        let dead =
            |members: &Arc<Members>| expected.iter().all(|&other| state(members, other, 1) == Some(MemberState::Dead));
        until(&mut nodes[node].members(), dead).await;
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    for left in [0, 1] {
        for right in [2, 3] {
            net.heal(addr(left), addr(right));
        }
    }
    for node in &nodes {
        until(&mut node.members(), |members| members.present().count() == 4).await;
    }
}

/// A node is started again and again, each life long enough to be heard of.
async fn churn(net: &Net, id: &NodeId, lives: u64, life: Duration) {
    for incarnation in 1..=lives {
        let instance = NodeInstance { node: id.clone(), incarnation };
        let place = addr_of(id);
        let mut config = MembershipConfig::new(instance, place, "test".into());
        config.seeds = vec![addr(0).to_string()];
        let facts = NodeFacts { mesh_addr: place, grpc_addr: place, ..facts(0) };
        let node = Membership::spawn(config, facts, net.open(place), net.witness(place)).await.unwrap();
        tokio::time::sleep(life).await;
        drop(node);
        // Its tasks end.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn two_thousand_incarnations_with_long_ids_do_not_end_gossip() {
    let net = Net::default();
    let nodes = mesh(&net, 2).await;
    let digest_len = |node: &Membership| gauge(node, "gossip_digest_bytes");
    let churning = (10..14_u16).map(|number| {
        let id = NodeId::new(format!("{}-{number}", "x".repeat(120))).unwrap();
        let net = net.clone();
        tokio::spawn(async move { churn(&net, &id, 500, Duration::from_millis(600)).await })
    });
    let churning: Vec<_> = churning.collect();
    let mut largest = 0;
    while !churning.iter().all(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        largest = nodes.iter().map(digest_len).max().unwrap().max(largest);
    }
    println!("largest digest: {largest} bytes");
    // Four ids of which four lives each are not forgotten yet.
    assert!((1_000..16 * 180 + 200).contains(&largest), "{largest}");
    // Gossip goes on: news travel, and the churned are gone.
    nodes[0].publish(NodeFacts { draining: true, ..facts(0) });
    for node in &nodes {
        let told = |members: &Arc<Members>| {
            members.get(&instance(0, 1).node).unwrap().facts.draining && members.present().count() == 2
        };
        until(&mut node.members(), told).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(nodes.iter().all(|node| digest_len(node) < 200), "they are forgotten");
}

#[tokio::test(start_paused = true)]
async fn more_nodes_than_a_digest_has_room_for_do_not_end_gossip() {
    let net = Net::default();
    let nodes = mesh(&net, 2).await;
    // A node that names 3,000 others, each with an id of 100 characters.
    let names: Vec<String> = (0..3_000).map(|n| format!("{n:0100}")).collect();
    for names in names.chunks(300) {
        for _ in 0..3 {
            net.send(addr(9), addr(0), hostile::syn(names.iter().map(String::as_str)));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    assert!((40_000..49_152).contains(&gauge(&nodes[0], "gossip_digest_bytes")));
    tokio::time::sleep(Duration::from_secs(5)).await;
    nodes[0].publish(NodeFacts { draining: true, ..facts(0) });
    let told = |members: &Arc<Members>| members.get(&instance(0, 1).node).unwrap().facts.draining;
    until(&mut nodes[1].members(), told).await;
}

#[tokio::test(start_paused = true)]
async fn of_twins_the_newer_is_the_member_and_stays() {
    let net = Net::default();
    let nodes = mesh(&net, 2).await;
    let mut config = MembershipConfig::new(instance(1, 7), addr(5), "test".into());
    config.seeds = vec![addr(0).to_string()];
    let _twin = Membership::spawn(config, facts(1), net.open(addr(5)), net.witness(addr(5))).await.unwrap();
    let mut view = nodes[0].members();
    until(&mut view, |members| state(members, 1, 7) == Some(MemberState::Live)).await;
    let other = |members: &Arc<Members>| state(members, 1, 7) != Some(MemberState::Live);
    assert!(timeout(Duration::from_secs(60), view.wait_for(other)).await.is_err(), "{:#?}", view.borrow());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_goodbye_is_gone_at_once() {
    let net = Net::default();
    let mut nodes = mesh(&net, 3).await;
    let leaving = nodes.pop().unwrap();
    let began = Instant::now();
    leaving.shutdown().await;
    for node in &nodes {
        until(&mut node.members(), |members| state(members, 2, 1) == Some(MemberState::Dead)).await;
    }
    assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_transport_is_the_end_of_membership() {
    let net = Net::default();
    let nodes = mesh(&net, 2).await;
    net.close(addr(0));
    let ended = timeout(Duration::from_secs(5), nodes[0].ended()).await;
    assert!(ended.is_ok());
    assert!(timeout(Duration::from_secs(5), nodes[1].ended()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn another_cluster_stays_away() {
    let net = Net::default();
    let ours = start(&net, 0, 1, &[]).await;
    let mut config = MembershipConfig::new(instance(1, 1), addr(1), "other".into());
    config.seeds = vec![addr(0).to_string()];
    let theirs = Membership::spawn(config, facts(1), net.open(addr(1)), net.witness(addr(1))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(ours.members().borrow().present().count(), 1);
    assert_eq!(theirs.members().borrow().present().count(), 1);
}
