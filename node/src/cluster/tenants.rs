//! Whether all nodes know the same tenants. A room spans nodes, and whom one of them refuses another lets in: a node
//! that was started without the file of the others opens all of their rooms.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sluice_placement::Members;
use sluice_proto::ids::NodeId;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::OPEN;

/// How long nodes that have tenants may differ: their files are changed one after the other.
const SETTLED_AFTER: Duration = Duration::from_secs(30);

/// Warns of each member that knows other tenants than this node, once, until membership ends.
pub(crate) async fn watch_tenants(mut members: watch::Receiver<Arc<Members>>) {
    let mut differing = Differing::default();
    loop {
        differing.look(&members.borrow_and_update(), Instant::now()).iter().for_each(Difference::warn);
        // Others say how busy they are each second.
        if members.changed().await.is_err() {
            return;
        }
    }
}

/// The members that differ, since when, and whether that was told.
#[derive(Debug, Default)]
struct Differing(BTreeMap<NodeId, (Instant, bool)>);

/// What is to be told of a member.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    node: NodeId,
    kind: DifferenceKind,
}

#[derive(Debug, PartialEq, Eq)]
enum DifferenceKind {
    /// This node has no tenants, the other has.
    OpenHere,
    /// The other has none, this node has.
    OpenThere,
    /// Both have some, and not the same.
    Others,
}

impl Differing {
    fn look(&mut self, members: &Members, now: Instant) -> Vec<Difference> {
        let is_open_here = members.get(&members.me().node).is_some_and(|me| me.facts.tenants == OPEN);
        let mut told = Vec::new();
        let mut differing = BTreeMap::new();
        for member in members.with_other_tenants() {
            let node = member.instance.node.clone();
            let (since, mut is_told) = self.0.get(&node).copied().unwrap_or((now, false));
            let kind = match member.facts.tenants == OPEN {
                _ if is_open_here => DifferenceKind::OpenHere,
                true => DifferenceKind::OpenThere,
                false => DifferenceKind::Others,
            };
            if !is_told && (kind != DifferenceKind::Others || now - since >= SETTLED_AFTER) {
                is_told = true;
                told.push(Difference { node: node.clone(), kind });
            }
            differing.insert(node, (since, is_told));
        }
        self.0 = differing;
        told
    }
}

impl Difference {
    fn warn(&self) {
        let Self { node, kind } = self;
        match kind {
            DifferenceKind::OpenHere => tracing::error!(
                %node,
                "this node has no namespaces and lets everybody into the rooms of another that has some: give it the same file"
            ),
            DifferenceKind::OpenThere => tracing::error!(
                %node,
                "another node has no namespaces and lets everybody into the rooms of this one: give it the same file"
            ),
            DifferenceKind::Others => tracing::warn!(
                %node,
                "another node has other namespaces than this one: give both the same file"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_placement::{Member, MemberState, NodeFacts};
    use sluice_proto::ids::NodeInstance;

    use super::*;

    /// Members by what they say of their tenants; the first is this node.
    fn members(tenants: &[&str]) -> Members {
        let instance = |number| NodeInstance { node: NodeId::new(format!("n{number}")).unwrap(), incarnation: 1 };
        let facts = |tenants: &str| NodeFacts {
            tenants: tenants.to_owned(),
            ..serde_json::from_value(serde_json::json!({
                "region": "eu", "mesh_addr": "192.0.2.1:1", "grpc_addr": "192.0.2.1:2",
            }))
            .unwrap()
        };
        let known = tenants.iter().enumerate().map(|(number, tenants)| Member {
            instance: instance(number),
            facts: facts(tenants),
            state: MemberState::Live,
            since: Instant::now().into_std(),
        });
        Members::new(instance(0), known)
    }

    /// What is told within minutes, in which the members say this one after the other.
    fn told(minutes: &[&[&str]]) -> Vec<(String, DifferenceKind)> {
        let (mut differing, mut now, mut told) = (Differing::default(), Instant::now(), Vec::new());
        for tenants in minutes {
            for _ in 0..60 {
                let differences = differing.look(&members(tenants), now);
                told.extend(differences.into_iter().map(|told| (told.node.to_string(), told.kind)));
                now += Duration::from_secs(1);
            }
        }
        told
    }

    #[test]
    fn who_has_other_tenants_is_told_of_once() {
        use DifferenceKind::{OpenHere, OpenThere, Others};
        let of = |number: u32, kind| (format!("n{number}"), kind);
        assert_eq!(told(&[&["a", "a", ""], &["", "a", OPEN]]), [], "who says nothing does not differ");
        assert_eq!(told(&[&["a", "b", OPEN], &["a", "b", OPEN]]), [of(2, OpenThere), of(1, Others)]);
        assert_eq!(told(&[&[OPEN, OPEN, "a"]]), [of(2, OpenHere)]);
        assert_eq!(told(&[&["a", "b"], &["a", "a"], &["a", "b"]]), [of(1, Others), of(1, Others)]);
    }

    #[test]
    fn files_may_change_one_after_the_other() {
        let (mut differing, now) = (Differing::default(), Instant::now());
        for second in 0..100 {
            let tenants = if second % 30 == 0 { ["a", "a"] } else { ["a", "b"] };
            assert_eq!(differing.look(&members(&tenants), now + Duration::from_secs(second)), []);
        }
    }
}
