//! Gossip membership on paused time, over chitchat's in-memory transport.

#![cfg(feature = "io")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::transport::ChannelTransport;
use sluice_placement::{MemberState, Members, Membership, MembershipConfig, NodeFacts, NodeLoad};
use sluice_proto::ids::{NodeId, NodeInstance, Region};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

fn addr(node: u16) -> SocketAddr {
    ([127, 0, 0, 1], 10_000 + node).into()
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
        draining: false,
        version: "0.1.0".into(),
    }
}

async fn start(transport: &ChannelTransport, node: u16, incarnation: u64, seeds: &[String]) -> Membership {
    let mut config = MembershipConfig::new(instance(node, incarnation), addr(node), "test".into());
    config.seeds = seeds.to_vec();
    Membership::spawn(config, facts(node), transport).await.unwrap()
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

async fn mesh(transport: &ChannelTransport, nodes: u16) -> Vec<Membership> {
    let mut memberships = Vec::new();
    for node in 0..nodes {
        memberships.push(start(transport, node, 1, &[addr(0).to_string()]).await);
    }
    for membership in &memberships {
        until(&mut membership.members(), |members| members.present().count() == usize::from(nodes)).await;
    }
    memberships
}

#[tokio::test(start_paused = true)]
async fn nodes_find_each_other_and_each_others_facts() {
    let transport = ChannelTransport::default();
    let began = Instant::now();
    let nodes = mesh(&transport, 5).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    let view = nodes[3].members().borrow().clone();
    assert_eq!(view.me(), &instance(3, 1));
    for node in 0..5 {
        assert_eq!(view.get(&instance(node, 1).node).unwrap().facts, facts(node));
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_fact_comes_through_within_a_second() {
    let transport = ChannelTransport::default();
    let nodes = mesh(&transport, 3).await;
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
async fn death_takes_between_one_and_a_half_and_two_and_a_half_seconds() {
    for size in [2, 3, 20] {
        let transport = ChannelTransport::default();
        let mut nodes = mesh(&transport, size).await;
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(nodes.pop());
        let view = &mut nodes[0].members();
        let took = until(view, |members| state(members, size - 1, 1) == Some(MemberState::Dead)).await;
        assert!((1_500..2_500).contains(&took.as_millis()), "{size} nodes: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_taken_for_dead_while_all_are_well() {
    let transport = ChannelTransport::default();
    let nodes = mesh(&transport, 3).await;
    let mut view = nodes[0].members();
    let all_live = |members: &Members| members.iter().all(|member| member.state == MemberState::Live);
    let watched = timeout(Duration::from_secs(120), view.wait_for(|members| !all_live(members))).await;
    assert!(watched.is_err(), "{:#?}", nodes[0].members().borrow());
}

#[tokio::test(start_paused = true)]
async fn a_newer_incarnation_voids_the_older_at_once() {
    let transport = ChannelTransport::default();
    let mut nodes = mesh(&transport, 3).await;
    drop(nodes.pop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    let restarted = start(&transport, 2, 2, &[addr(0).to_string()]).await;
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
    let transport = ChannelTransport::default();
    let began = Instant::now();
    let alone = start(&transport, 1, 1, &[addr(0).to_string(), "no-such-host.invalid:1".into()]).await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert_eq!(alone.members().borrow().present().count(), 1);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let _seed = start(&transport, 0, 1, &[]).await;
    let took = until(&mut alone.members(), |members| members.present().count() == 2).await;
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_split_heals_without_help() {
    let transport = ChannelTransport::default();
    let nodes = mesh(&transport, 4).await;
    for left in [0, 1] {
        for right in [2, 3] {
            transport.remove_link(addr(left), addr(right)).await;
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
            transport.add_link(addr(left), addr(right)).await;
        }
    }
    for node in &nodes {
        until(&mut node.members(), |members| members.present().count() == 4).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_says_goodbye_is_gone_at_once() {
    let transport = ChannelTransport::default();
    let mut nodes = mesh(&transport, 3).await;
    let leaving = nodes.pop().unwrap();
    let began = Instant::now();
    leaving.shutdown().await;
    for node in &nodes {
        until(&mut node.members(), |members| state(members, 2, 1) == Some(MemberState::Dead)).await;
    }
    assert!(began.elapsed() < Duration::from_millis(800), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn another_cluster_stays_away() {
    let transport = ChannelTransport::default();
    let ours = start(&transport, 0, 1, &[]).await;
    let mut config = MembershipConfig::new(instance(1, 1), addr(1), "other".into());
    config.seeds = vec![addr(0).to_string()];
    let theirs = Membership::spawn(config, facts(1), &transport).await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(ours.members().borrow().present().count(), 1);
    assert_eq!(theirs.members().borrow().present().count(), 1);
}
