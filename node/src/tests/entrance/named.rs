//! Peers whom tokens name: their names are nobody's without such a token, on no node.

use super::*;

const TAKEN: &str = "the peer is in the room already";

/// Alice, whom a token names.
fn named() -> Opening {
    with(&token(json!({})))
}

/// Somebody who says that it is alice, with a token that does not say who it is of.
fn stranger() -> Opening {
    Opening { token: Some(token(json!({"sub": null}))), ..opening("room", "alice", None) }
}

fn enter(gate: &Gate, opening: Opening) -> Client {
    Client::admit(&gate.entrance, opening).unwrap()
}

async fn join(gate: &Gate, opening: Opening) -> Client {
    let mut client = enter(gate, opening);
    client.join().await;
    client
}

/// What somebody is answered who joins and does not wait for long.
async fn asked(gate: &Gate, opening: Opening) -> Value {
    let mut client = enter(gate, opening);
    client.ask_to_join().await;
    client.join_answer().await
}

fn gates(world: &World) -> [Gate; 2] {
    let gates = ["eu-1", "us-1"].map(|name| gate_in(world, name, &acme("")));
    world.link_up(&gates[0].node.instance, &gates[1].node.instance);
    gates
}

#[tokio::test(start_paused = true)]
async fn whom_a_token_names_gives_way_to_nobody_without_one_on_any_node() {
    let world = World::default();
    let [eu, us] = gates(&world);
    let mut alice = join(&eu, named()).await;
    let secret = alice.secret.clone();
    let refused = |answer: Value| assert_eq!(answer["errorReason"], TAKEN, "{answer}");
    let shows = || Opening { secret: Some(secret.clone()), ..stranger() };
    let _watcher = join(&us, with(&token(json!({"sub": "watcher"})))).await;
    for gate in [&eu, &us] {
        refused(asked(gate, stranger()).await);
        refused(asked(gate, shows()).await);
    }
    // Nor when its connection is broken, or its node says nothing.
    alice.break_off();
    for gate in [&eu, &us] {
        refused(asked(gate, stranger()).await);
    }
    enter(&eu, Opening { resumes: true, ..shows() }).next_notification("notResumed").await;
    world.set_mute();
    refused(asked(&us, stranger()).await);
    world.set_split(false);
    let mut again = enter(&eu, Opening { resumes: true, ..named() });
    again.next_notification("resumed").await;
    let mut elsewhere = join(&us, named()).await;
    assert_eq!(again.closed().await.0, 4000);
    assert_eq!(elsewhere.wait(SOON).await, None);
}

#[tokio::test(start_paused = true)]
async fn whoever_took_the_name_where_it_was_not_known_to_be_taken_gives_it_back() {
    let world = World::default();
    let [eu, us] = gates(&world);
    let mut alice = join(&eu, named()).await;
    world.set_split(true);
    let mut thief = join(&us, stranger()).await;
    world.set_split(false);
    assert_eq!(thief.closed().await, (4000, "the same peer is on another node".to_owned()));
    assert_eq!(alice.wait(SOON).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_a_newer_token_gives_is_as_safe_and_so_is_one_that_is_claimed_meanwhile() {
    let world = World::default();
    let [eu, us] = gates(&world);
    let mut alice = join(&eu, stranger()).await;
    let _watcher = join(&us, with(&token(json!({"sub": "watcher"})))).await;
    let mut thief = enter(&us, stranger());
    thief.ask_to_join().await;
    assert_eq!(thief.wait(Duration::from_millis(500)).await, None, "it may be a ghost");
    alice.request("renewToken", json!({"token": token(json!({}))})).await.unwrap();
    assert_eq!(thief.join_answer().await["errorReason"], TAKEN);
    alice.break_off();
    assert_eq!(asked(&us, stranger()).await["errorReason"], TAKEN);
}

#[tokio::test(start_paused = true)]
async fn whom_a_token_names_inherits_nothing_of_a_stranger() {
    let world = World::default();
    let [eu, us] = gates(&world);
    for gate in [&eu, &us] {
        let mut other = join(&eu, stranger()).await;
        other.produce("audio", rtp::opus(1)).await;
        let mut alice = enter(gate, Opening { resumes: true, ..named() });
        alice.next_notification("notResumed").await;
        alice.join().await;
        assert_eq!(other.closed().await.0, 4000);
        assert_eq!(eu.node.workers[0].counts().2, 0, "nothing of what it sent is left");
        alice.hang_up();
        tokio::time::sleep(SOON).await;
    }
    // Its own it has by its secret.
    let mut alice = join(&eu, stranger()).await;
    alice.break_off();
    let own = Opening { resumes: true, secret: Some(alice.secret.clone()), ..named() };
    enter(&eu, own).next_notification("resumed").await;
}
