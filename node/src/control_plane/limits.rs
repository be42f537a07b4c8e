//! How much of everything a node's rooms hold, with the reason beside each number.

use std::time::Duration;

/// Limits of rooms and signalling. What exceeds one is refused with an error that names it.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Rooms of this node. A room is a task and a lease: ten thousand cost about 100 MB and 5,000 lease renewals a second
    /// spread over the owners.
    pub rooms: usize,
    /// Peers of one room on this node. Every peer hears of every other, so signalling grows with the square.
    pub peers_per_room: usize,
    /// Transports of one peer. Clients make one per direction; two more leave room for a client that makes new ones
    /// before it closes the old.
    pub transports_per_peer: usize,
    /// Producers of one peer: camera, microphone, screen with sound, and as much again.
    pub producers_per_peer: usize,
    /// Consumers of one peer. Beyond it further producers are not shown to the peer: no browser decodes this many.
    pub consumers_per_peer: usize,
    /// Routes that other nodes may have out of this one.
    pub routes_out: usize,
    /// Messages that wait for one WebSocket. A join into a full room queues a request and two notifications per consumer; a client that
    /// lets more pile up does not read, and is disconnected.
    pub outgoing_queue: usize,
    /// Messages that wait for one room. A room handles one in microseconds: a full queue means that whoever sends must wait.
    pub room_queue: usize,
    /// Requests that a client may send at once.
    pub request_burst: u32,
    /// Requests that a client may send a second after that; it is read no faster.
    pub requests_per_second: u32,
    /// How long a client may take from its WebSocket to `join`.
    pub join_within: Duration,
    /// Between pings; proxies drop connections that are silent for longer.
    pub ping_interval: Duration,
    /// How long one write to a WebSocket may take before the client counts as gone.
    pub write_within: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rooms: 10_000,
            peers_per_room: 500,
            transports_per_peer: 4,
            producers_per_peer: 8,
            consumers_per_peer: 512,
            routes_out: 65_536,
            outgoing_queue: 2_048,
            room_queue: 1_024,
            request_burst: 200,
            requests_per_second: 100,
            join_within: Duration::from_secs(10),
            ping_interval: Duration::from_secs(60),
            write_within: Duration::from_secs(10),
        }
    }
}
