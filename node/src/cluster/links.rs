//! Which nodes this one keeps a pipe to: every member, so that the first subscription finds its pipe warm.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use sluice_mesh::{Mesh, PeerAddress};
use sluice_placement::Members;
use sluice_proto::ids::NodeId;
use tokio::sync::watch;

/// Connects to whoever becomes a member and gives up those who are gone, until membership ends.
pub(crate) async fn keep_links(mesh: Mesh, mut members: watch::Receiver<Arc<Members>>) {
    let mut linked = BTreeMap::<NodeId, SocketAddr>::new();
    loop {
        let wanted = wanted(&members.borrow_and_update());
        // Those are dead: they said goodbye, their machine says so, or nothing comes from them on the link either. A
        // link to a node that has another address now goes on for as long as it lives.
        for node in linked.keys().filter(|node| !wanted.contains_key(*node)) {
            mesh.disconnect(node);
        }
        for (node, addr) in &wanted {
            if linked.get(node) != Some(addr) {
                mesh.connect(PeerAddress { node: node.clone(), addr: *addr });
            }
        }
        linked = wanted;
        if members.changed().await.is_err() {
            return;
        }
    }
}

fn wanted(members: &Members) -> BTreeMap<NodeId, SocketAddr> {
    let others = members.present().filter(|member| member.instance.node != members.me().node);
    others.map(|member| (member.instance.node.clone(), member.facts.mesh_addr)).collect()
}
