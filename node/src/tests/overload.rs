//! Workers that have more to do than they can get no new users, and a node of such workers lets nobody new in.

use sluice_media::messages::{WorkerEvent, WorkerIndex};

use super::TestNode;
use super::fakes::World;
use crate::limits::Limits;

const BUSY: &str = "the server is too busy to take anybody new";

#[tokio::test(start_paused = true)]
async fn a_newcomer_is_placed_where_there_is_room() {
    let node = TestNode::start(&World::default(), "eu-1", 2);
    let mut alice = node.join("room", "alice").await;
    assert_eq!(node.workers[1].counts().0, 0);
    node.tell(0, WorkerEvent::Overload { shedding: true }).await;
    alice.settle().await;
    let bob = node.join("room", "bob").await;
    assert_eq!(node.workers[1].counts(), (1, 2, 0, 0), "away from the room's worker");
    node.tell(0, WorkerEvent::Overload { shedding: false }).await;
    alice.settle().await;
    node.join("room", "carol").await;
    assert_eq!(node.workers[0].counts().1, 4);
    drop(bob);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_placed_on_a_worker_that_does_not_answer() {
    let node = TestNode::start(&World::default(), "eu-1", 2);
    node.rooms.set_stuck(WorkerIndex(0), true);
    // However much less than the other it has to do.
    let mut clients = Vec::new();
    for number in 0..100 {
        clients.push(node.join("room", &format!("peer-{number}")).await);
    }
    assert_eq!((node.workers[0].counts().0, node.workers[1].counts().1), (0, 200));
    node.rooms.set_stuck(WorkerIndex(1), true);
    assert_eq!(node.open("room", "late").closed().await, (1013, BUSY.to_owned()));
    node.rooms.set_stuck(WorkerIndex(0), false);
    let late = node.join("room", "late").await;
    assert_eq!(node.workers[0].counts().1, 2);
    drop(late);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_too_busy_lets_nobody_new_in_and_nobody_lose_their_place() {
    let limits = Limits { rooms: 2, ..Limits::default() };
    let node = TestNode::start_with(&World::default(), "eu-1", 2, limits);
    let mut alice = node.join("room", "alice").await;
    for worker in 0..2 {
        node.tell(worker, WorkerEvent::Overload { shedding: true }).await;
    }
    alice.settle().await;
    let before = (node.workers[0].counts(), node.workers[1].counts());
    assert_eq!(node.open("room", "bob").closed().await, (1013, BUSY.to_owned()));
    assert_eq!(node.open("another", "bob").closed().await, (1013, BUSY.to_owned()));
    assert_eq!((node.workers[0].counts(), node.workers[1].counts()), before, "nothing was built for them");
    assert_eq!((node.rooms.snapshot().rooms, node.rooms.snapshot().sessions), (1, 1));

    let mut again = node.reopen("room", "alice", &alice.secret);
    again.join().await;
    assert_eq!(alice.closed().await.0, 4000, "replaced by itself");
    node.tell(1, WorkerEvent::Overload { shedding: false }).await;
    again.settle().await;
    node.join("room", "bob").await;
    assert_eq!(node.workers[1].counts().0, 1);
}
