//! Those who come and go all the time cost the others of a room no more than those who stay.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::time::sleep;

use super::TestNode;
use super::client::Client;
use super::fakes::World;

const VISITORS: usize = 2_000;

/// Somebody who keeps account of whom it is told.
struct Observer {
    client: Client,
    present: BTreeSet<String>,
    told: usize,
}

impl Observer {
    async fn look(&mut self) {
        for message in self.client.settle().await {
            let data = &message["data"];
            match message["method"].as_str().unwrap() {
                "newPeer" => assert!(self.present.insert(data["id"].as_str().unwrap().to_owned())),
                "peerClosed" => assert!(self.present.remove(data["peerId"].as_str().unwrap())),
                _ => continue,
            }
            self.told += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_and_goes_all_the_time_is_hardly_told_of() {
    let world = World::default();
    let [eu, us] = ["eu-1", "us-1"].map(|name| TestNode::start(&world, name, 1));
    world.link_up(&eu.instance, &us.instance);
    let mut observers = Vec::new();
    for node in [&eu, &us] {
        let client = node.join("room", &format!("observer-{}", node.instance.node)).await;
        observers.push(Observer { client, present: BTreeSet::new(), told: 0 });
    }
    for visitor in 0..VISITORS {
        let client = eu.join("room", &format!("visitor-{visitor}")).await;
        sleep(Duration::from_millis(5)).await;
        drop(client);
        if visitor % 100 == 0 {
            for observer in &mut observers {
                observer.look().await;
            }
        }
    }
    let _stays = eu.join("room", "resident").await;
    for observer in &mut observers {
        observer.look().await;
        observer.present.retain(|peer| !peer.starts_with("observer"));
        assert_eq!(observer.present, BTreeSet::from(["resident".to_owned()]));
        assert!(observer.told < VISITORS / 2, "of each of {VISITORS} there are two things to tell: {}", observer.told);
    }
}
