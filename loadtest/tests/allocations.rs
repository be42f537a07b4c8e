//! Receiving allocates nothing for a packet: what little there is comes of timers (reports, consent), whose number has
//! nothing to do with the packets'.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use common::{BURST, Server, all_received, connect};
use sluice_loadtest::driver::{Driver, DriverConfig, Lane, LaneConfig};
use sluice_loadtest::transport::{Certificate, TransportConfig};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends has no counter any more.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: everything is the system allocator's, which keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const USERS: usize = 10;
const BURSTS: usize = 200;

/// Allocations of the thread that the session lives on.
async fn allocations(lane: &Lane) -> u64 {
    lane.with(|_, _| ALLOCATIONS.get()).await.unwrap()
}

#[tokio::test]
async fn a_received_packet_allocates_nothing() {
    let driver = Driver::new(DriverConfig::default());
    let certificate = Certificate::generate().unwrap();
    for open_every in [1, 10] {
        let server = Server::new(USERS, &certificate);
        let transport = TransportConfig { open_every, ..TransportConfig::new(certificate.clone()) };
        let (mut server, lanes) = connect(&driver, server, &transport, |_| LaneConfig::default()).await;
        let mut packets = 0;
        let mut counted = Vec::new();
        // The first time everything that grows grows.
        for _ in 0..2 {
            let before = allocations(&lanes[0]).await;
            for _ in 0..BURSTS {
                (0..USERS).for_each(|user| server.send_burst(user, &driver.clock()));
                tokio::time::sleep(Duration::from_micros(500)).await;
            }
            packets += (BURSTS * BURST) as u64;
            all_received(&lanes, packets).await;
            counted.push(allocations(&lanes[0]).await - before);
        }
        println!("{counted:?} allocations for {} packets, open_every {open_every}", USERS * BURSTS * BURST);
        assert!(counted[1] < (USERS * BURSTS * BURST / 20) as u64, "{counted:?} allocations");
    }
}
