//! The path of a packet allocates nothing once every buffer has been used: not a byte while bursts go from a publisher
//! to its receivers, and less than one block a burst for a hop between nodes. A DTLS association keeps little once it
//! is connected.
#![allow(missing_docs, reason = "a test")]

mod associations;
#[path = "../data/client.rs"]
#[allow(dead_code, reason = "what others need of it")]
mod client;
mod fan_out;
#[path = "../data/world.rs"]
#[allow(dead_code, reason = "what others need of it")]
mod world;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use associations::Ends;
use fan_out::{BURST, Core, PRODUCER, Publisher, Video, receiver};
use sluice_media::messages::Request;
use sluice_mesh::Frame;
use world::World;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread has taken and not given back.
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    // A thread that ends has no counter any more, and no test either.
    let _ = LIVE.try_with(|live| live.set(live.get() + bytes));
    if bytes > 0 {
        let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
    }
}

// SAFETY: everything is the system allocator's, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(-(layout.size() as i64));
        count(size as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Forwards until the cache's ring has gone round, every second's reports have come, and who sends remembers as much as
/// it ever will.
fn warm(core: &mut Core, publisher: &mut Publisher, burst: &mut [Vec<u8>; BURST], frames: &mut Vec<Frame>) {
    for _ in 0..300 {
        publisher.seal(burst);
        core.forward(publisher, burst, frames);
        frames.clear();
    }
}

#[test]
fn a_connected_association_keeps_less_than_two_kilobytes() {
    let ends = Ends::new();
    for calls in [false, true] {
        drop(ends.connected(calls));
        let before = LIVE.with(Cell::get);
        let kept: Vec<_> = (0..16).map(|_| ends.connected(calls)).collect();
        let each = (LIVE.with(Cell::get) - before) / 16;
        drop(kept);
        assert!(each < 2_048, "{each} bytes");
        println!("{each} bytes; calls: {calls}");
    }
}

#[test]
fn an_association_under_attack_keeps_a_flight_and_no_more() {
    let ends = Ends::new();
    drop(ends.attacked());
    let before = LIVE.with(Cell::get);
    let attacked = ends.attacked();
    let kept = LIVE.with(Cell::get) - before;
    drop(attacked);
    assert!(kept < 65_536, "{kept} bytes");
}

/// What a core keeps of so many clients that are connected, by SCTP too if they call.
fn kept_of(clients: usize, calls: bool) -> i64 {
    let before = LIVE.with(Cell::get);
    let mut world = World::new(1, 1);
    for _ in 0..clients {
        world.add_client(0, calls);
    }
    world.forget_clients();
    LIVE.with(Cell::get) - before
}

#[test]
fn an_idle_association_of_sctp_keeps_less_than_four_kilobytes() {
    kept_of(1, true);
    let each = (kept_of(64, true) - kept_of(64, false)) / 64;
    println!("{each} bytes");
    assert!(each < 4_096, "{each} bytes");
}

#[test]
fn fan_out_allocates_nothing() {
    for video in [Video::Plain, Video::Layered] {
        let mut core = Core::new(video);
        let mut publisher = core.add_publisher(1_200);
        core.add_receivers(50);
        let (mut burst, mut frames) = (Default::default(), Vec::new());
        warm(&mut core, &mut publisher, &mut burst, &mut frames);
        let (before, datagrams) = (allocations(), core.datagrams);
        for _ in 0..500 {
            publisher.seal(&mut burst);
            core.forward(&publisher, &mut burst, &mut frames);
        }
        let sent = core.datagrams - datagrams;
        assert!(sent >= 500 * video.packets_sent() * 50, "{video:?}: {sent} packets went out");
        assert!(sent < 501 * (video.packets_sent() * 50 + 100), "{video:?}: {sent} packets went out");
        assert_eq!(allocations() - before, 0, "{video:?}");
    }
}

#[test]
fn a_paused_consumer_keeps_nothing_of_what_it_sent() {
    let mut core = Core::new(Video::Plain);
    let mut publisher = core.add_publisher(1_200);
    core.add_receivers(50);
    let (mut burst, mut frames) = (Default::default(), Vec::new());
    warm(&mut core, &mut publisher, &mut burst, &mut frames);
    let busy = LIVE.with(Cell::get);
    for number in 1..=50 {
        core.request(Request::PauseConsumer { consumer: receiver(number) });
    }
    let given_back = busy - LIVE.with(Cell::get);
    // Of each of its last 512 packets eight bytes.
    assert!(given_back >= 50 * 512 * 8, "{given_back} bytes");
    let datagrams = core.datagrams;
    publisher.seal(&mut burst);
    core.forward(&publisher, &mut burst, &mut frames);
    assert_eq!(core.datagrams, datagrams);
}

#[test]
fn a_route_of_a_paused_producer_keeps_nothing_of_what_it_carried() {
    let given_back = |has_route| {
        let mut core = Core::new(Video::Plain);
        let mut publisher = core.add_publisher(1_200);
        if has_route {
            core.add_route_out();
        }
        warm(&mut core, &mut publisher, &mut Default::default(), &mut Vec::new());
        let busy = LIVE.with(Cell::get);
        core.request(Request::PauseProducer { producer: PRODUCER });
        busy - LIVE.with(Cell::get)
    };
    // By which each of its last 1,024 packets would be found.
    assert!(given_back(true) - given_back(false) >= 1_024 * 8);
}

#[test]
fn a_hop_allocates_less_than_once_a_burst() {
    let (mut home, mut away) = (Core::new(Video::Plain), Core::new(Video::Plain));
    let mut publisher = home.add_publisher(1_200);
    home.add_route_out();
    away.add_route_in();
    let (mut burst, mut frames) = (Default::default(), Vec::new());
    let mut bursts = |count: usize| {
        for _ in 0..count {
            publisher.seal(&mut burst);
            home.forward(&publisher, &mut burst, &mut frames);
            assert_eq!(frames.len(), BURST);
            away.receive(&mut frames);
        }
    };
    bursts(300);
    let before = allocations();
    bursts(500);
    assert!(allocations() - before < 500, "{} allocations", allocations() - before);
}
