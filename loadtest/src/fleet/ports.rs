//! Ports for nodes that are stopped and started again: nobody must take them meanwhile.

use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the system gives to clients (from 32,768 on, on Linux), above those that programs commonly have.
const FIRST: u16 = 20_000;

/// Ports of one node and some to spare.
const BLOCK: u16 = 10;

/// Nodes that find room.
const BLOCKS: u32 = 1_200;

/// The ports of a node.
pub(super) struct Ports {
    pub(super) users: u16,
    pub(super) media: u16,
    pub(super) mesh: u16,
    pub(super) grpc: u16,
    pub(super) admin: u16,
}

impl Ports {
    /// Ports that are free at all addresses, and that no other call finds.
    pub(super) fn find() -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..BLOCKS {
            // Processes begin in different places.
            let block = std::process::id().wrapping_mul(31).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % BLOCKS;
            let first = FIRST + block as u16 * BLOCK;
            let ports = Self { users: first, media: first + 1, mesh: first + 2, grpc: first + 3, admin: first + 4 };
            if (first..=ports.admin).all(is_free) {
                return Ok(ports);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "none is left"))
    }
}

fn is_free(port: u16) -> bool {
    let everywhere = (Ipv4Addr::UNSPECIFIED, port);
    TcpListener::bind(everywhere).is_ok() && UdpSocket::bind(everywhere).is_ok()
}
