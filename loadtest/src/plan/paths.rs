//! From the paths of a scenario, which name regions, to legs between the nodes that there are.

use std::collections::BTreeMap;

use super::Leg;
use crate::scenario::{NodeName, Path, PathEnd, PathStep};

/// What is said of each leg; where several paths say something, the last one's word.
pub(super) fn paths(wan: &[Path], nodes: &[NodeName]) -> BTreeMap<Leg, Vec<PathStep>> {
    let mut paths = BTreeMap::new();
    for path in wan {
        let back = path.both.then_some((&path.to, &path.from));
        for (from, to) in [(&path.from, &path.to)].into_iter().chain(back) {
            paths.extend(legs(from, to, nodes).into_iter().map(|leg| (leg, path.steps.clone())));
        }
    }
    paths
}

fn legs(from: &PathEnd, to: &PathEnd, nodes: &[NodeName]) -> Vec<Leg> {
    let all = 0..nodes.len();
    let own = all.clone().filter(|&node| is_at(from, &nodes[node]) && is_at(to, &nodes[node]));
    match (from.is_users(), to.is_users()) {
        (true, true) => Vec::new(),
        (true, false) => own.map(Leg::Up).collect(),
        (false, true) => own.map(Leg::Down).collect(),
        (false, false) => {
            let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
            pairs
                .filter(|&(a, b)| is_at(from, &nodes[a]) && is_at(to, &nodes[b]) && nodes[a].region != nodes[b].region)
                .map(|(from, to)| Leg::Nodes { from, to })
                .collect()
        }
    }
}

/// Whether a node, or its users, are what is meant.
fn is_at(end: &PathEnd, node: &NodeName) -> bool {
    end.region().is_none_or(|region| region == node.region)
}
