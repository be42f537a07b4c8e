//! Gossip that no chitchat would send: each was a way to end gossip, or to fill the memory, of whoever read it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use sluice_placement::{Members, NodeFacts};

use crate::net::Net;
use crate::{addr, facts, instance, mesh, until};

const HEAD: [u8; 3] = [0x53, 0xb0, 0];

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_le_bytes()[..], text.as_bytes()].concat()
}

fn name(node: &str, incarnation: u64, addr: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = addr.ip() else { panic!("not IPv4") };
    [text(node), incarnation.to_le_bytes().to_vec(), vec![4], ip.octets().to_vec(), addr.port().to_le_bytes().to_vec()]
        .concat()
}

fn digest(entries: &[Vec<u8>]) -> Vec<u8> {
    [&(entries.len() as u16).to_le_bytes()[..], &entries.concat()].concat()
}

fn entry(node: &str, incarnation: u64, addr: SocketAddr) -> Vec<u8> {
    [name(node, incarnation, addr), [1_u64, 0, 0].iter().flat_map(|n| n.to_le_bytes()).collect()].concat()
}

/// A greeting that names nodes.
pub(crate) fn syn<'a>(nodes: impl Iterator<Item = &'a str>) -> Bytes {
    let entries: Vec<_> = nodes.map(|node| entry(node, 1, addr(1_000))).collect();
    [&HEAD[..], &[0], &digest(&entries), &text("test")].concat().into()
}

fn node_op(node: &str, incarnation: u64, addr: SocketAddr) -> Vec<u8> {
    [vec![0], name(node, incarnation, addr), vec![0; 16]].concat()
}

fn fact_op(key: &str, value: &str, version: u64) -> Vec<u8> {
    [vec![1], text(key), text(value), version.to_le_bytes().to_vec(), vec![0]].concat()
}

fn max_version_op(version: u64) -> Vec<u8> {
    [vec![2], version.to_le_bytes().to_vec()].concat()
}

/// The third message of an exchange, with a delta in one block.
fn ack(operations: &[Vec<u8>]) -> Bytes {
    let operations = operations.concat();
    let len = u16::try_from(operations.len()).unwrap().to_le_bytes();
    [&HEAD[..], &[2, 2], &len, &operations, &[0]].concat().into()
}

/// Facts that are packed well: this many blocks of zeros.
fn bomb(blocks: usize) -> Bytes {
    let block = zstd::bulk::compress(&[0; 65_535], 0).unwrap();
    let block = [&[1], &(block.len() as u16).to_le_bytes()[..], &block].concat();
    [&HEAD[..], &[2], &block.repeat(blocks), &[0]].concat().into()
}

/// Whether two nodes still gossip after one of them was sent something.
async fn survives(message: Bytes) {
    let net = Net::default();
    let nodes = mesh(&net, 2).await;
    net.send(addr(9), addr(0), message);
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    nodes[0].publish(NodeFacts { draining: true, ..facts(0) });
    nodes[1].publish(NodeFacts { draining: true, ..facts(1) });
    for (node, other) in [(0, 1), (1, 0)] {
        let told = |members: &Arc<Members>| members.get(&instance(other, 1).node).unwrap().facts.draining;
        until(&mut nodes[node].members(), told).await;
    }
}

#[tokio::test(start_paused = true)]
async fn versions_that_go_back_do_not_end_gossip() {
    let about = node_op("node-1", 1, addr(1));
    let high = fact_op("zone", "\"b\"", 1_000);
    survives(ack(&[about.clone(), high.clone(), max_version_op(1)])).await;
    survives(ack(&[about.clone(), high.clone(), max_version_op(1), fact_op("x", "1", 999)])).await;
    survives(ack(&[about.clone(), high, fact_op("x", "1", 999)])).await;
    survives(ack(&[about, fact_op("x", "1", u64::MAX), max_version_op(u64::MAX)])).await;
}

#[tokio::test(start_paused = true)]
async fn nobody_tells_a_node_its_own_facts() {
    survives(ack(&[node_op("node-0", 1, addr(0)), fact_op("zone", "\"b\"", 1 << 62)])).await;
    survives(ack(&[node_op("node-0", 1, addr(0)), max_version_op(u64::MAX)])).await;
}

#[tokio::test(start_paused = true)]
async fn facts_that_do_not_fit_are_not_taken() {
    let about = node_op("node-1", 1, addr(1));
    survives(ack(&[about.clone(), fact_op("x", &"y".repeat(60_000), 1_000)])).await;
    survives(ack(&[about.clone(), fact_op(&"x".repeat(60_000), "", 1_000)])).await;
    let many = (0..1_000).map(|n| fact_op(&n.to_string(), "1", 1_000 + n));
    survives(ack(&std::iter::once(about).chain(many).collect::<Vec<_>>())).await;
}

#[tokio::test(start_paused = true)]
async fn a_well_packed_message_is_not_unpacked_for_ever() {
    let bomb = bomb(3_000);
    println!("{} bytes stand for {}", bomb.len(), 3_000 * 65_535);
    survives(bomb).await;
}

#[tokio::test(start_paused = true)]
async fn nonsense_is_refused() {
    for nonsense in [
        Bytes::new(),
        Bytes::from_static(&[0x53, 0xb0]),
        Bytes::from_static(&[0x53, 0xb0, 9, 0]),
        Bytes::from_static(&[0x53, 0xb0, 0, 77]),
        Bytes::from_static(&[0x53, 0xb0, 0, 0, 255, 255]),
        ack(&[max_version_op(1)]),
        ack(&[fact_op("x", "1", 1)]),
        [&HEAD[..], &[0], &digest(&[entry("no such name!", 1, addr(1))]), &text("test")].concat().into(),
    ] {
        survives(nonsense).await;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_bytes_are_survived(kind in 0..4_u8, bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(survives([&HEAD[..], &[kind], &bytes].concat().into()));
    }
}
