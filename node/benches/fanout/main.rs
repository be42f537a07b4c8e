//! What a node's media plane costs, over real sockets, next to what it could cost at least.
//!
//! ```text
//! cargo bench -p sluice-node --bench fanout                 # everything
//! cargo bench -p sluice-node --bench fanout -- floor        # only the bare loops
//! cargo bench -p sluice-node --bench fanout -- fanout       # only the node
//! cargo bench -p sluice-node --bench fanout -- floor fanout --load spaced-100
//! cargo bench -p sluice-node --bench fanout -- ways         # only what other ways cost than UDP
//! cargo bench -p sluice-node --bench fanout -- far          # only how long joins from far away take
//! cargo bench -p sluice-node --bench fanout -- delay        # only what a pipe adds
//! cargo bench -p sluice-node --bench fanout -- start        # only the start of a node
//! cargo bench -p sluice-node --bench fanout -- joins        # only a room that fills up
//! cargo bench -p sluice-node --bench fanout -- storm        # only what that costs other rooms
//! cargo bench -p sluice-node --bench fanout -- death        # only what a large room notices of a node's end
//! cargo bench -p sluice-node --bench fanout -- listeners    # only what those cost who listen to one
//! cargo bench -p sluice-node --bench fanout -- idle         # only what costs something though it does nothing
//! ```
//!
//! **fanout**: `sluice node` as a process of its own with one worker; two rooms of one VP8 publisher (500 packets/s
//! with 1,200 bytes of payload, in bursts of 10) and 50 subscribers each, over ICE, DTLS and SRTP-GCM, each subscriber
//! sending transport-wide feedback every 100 ms and receiver reports every second: 50,000 packets/s out. All users live
//! in one thread of this process, each at an address of its own in 127/8. After a warm-up, the server's processor time
//! (user and system, `/proc/PID/stat`) is read over a window; packets are counted where they arrive. The result is
//! packets out per second of processor time. Beside it stands the delay from publisher to subscriber, which is sampled.
//! `--load` names other shapes of the same rate: one room of 100 subscribers, packets evenly spaced, 10 speakers.
//!
//! **floor**: a loop that only seals (AES-128-GCM of aws-lc-rs, 100 keys in turn) and sends packets of the same size to
//! 100 addresses in the same rhythm, with `sendto` and, of bursts, with GSO: processor time of its thread alone.
//!
//! **ways**: one such room, whose users all come by UDP, by TCP (RFC 6544), or by TURN over TLS, in turn. Of TURN the
//! clients live in a thread of this process, behind a socket that the node announces as its media port: what users send
//! there goes by a TLS connection to the node, and what comes by that goes back to them. A ratio of 0.5 is twice the
//! cost of UDP.
//!
//! **far**: joins, one by one, by UDP and by TCP in turn, over relays in this process that hold everything up for 25 ms
//! each way, and what comes first by a connection for its handshake too: until the transport is connected, and until
//! there is a picture.
//!
//! **delay**: two nodes joined by a pipe over loopback; one publisher, received on its own node and on the other one.
//! The send time travels in the payload; shown are p50 and p99 of both and their difference.
//!
//! **start**: from the start of a node's process to its first answer that it is ready, asked for each millisecond.
//!
//! **joins**: 5,000 users who only signal join one room, from this process; they come as fast as they are taken.
//!
//! **storm**: 2,000 such users come at once, while others enter rooms of their own one after the other, and somebody
//! receives what is published on another node. Those who come at once live in a thread of their own, behind which
//! nobody who is measured waits, and of a lower priority: they stand for other machines.
//!
//! **death**: two nodes with 2,500 such users each in one room, of which one is killed; a user of the other one asks
//! something every 2 ms meanwhile.
//!
//! **listeners**: 2,000 users join one room, then one begins to speak; and the same with one who shows video. Memory is
//! that of the whole process, over what it had at its start, when all receive. The time until the last is told of the
//! producer has the users' own work in it, which is on the same cores.
//!
//! **idle**: 1,000 consumers of paused producers, and 10,000 transports of 5,000 users in rooms of 5 that send nothing
//! but the consent checks of their clients: memory, and processor time over half a minute.
//!
//! Of rooms that fill up, stand or lose a node it is printed what the node says of itself: how long its rooms were busy
//! at a time, between two looks at their mailboxes, and how late its timers were.
//!
//! On loopback a sender pays for the receiver's softirq work too, and a receiver that wakes for each packet makes the
//! sender pay for the waking: receivers here sleep a millisecond between looks, as if they were other machines. With
//! `--gro` they take several datagrams in one piece, which spares the sender the cutting of GSO sends that a network
//! card would do, or the kernel before it.
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod busy;
mod death;
mod far;
mod floor;
mod idle;
mod joins;
mod listeners;
mod load;
mod meeting;
mod report;
mod server;
mod start;
mod storm;
mod usage;
mod ways;

use std::time::Duration;

use self::load::Load;

/// What the command line asks for.
#[derive(Debug, Clone, Copy)]
struct Options {
    runs: usize,
    window: Duration,
    gro: bool,
    load: Load,
}

const PARTS: [&str; 11] =
    ["floor", "fanout", "ways", "far", "delay", "start", "joins", "storm", "death", "listeners", "idle"];

fn main() {
    let mut options = Options { runs: 5, window: Duration::from_secs(5), gro: false, load: Load::BURSTS_50 };
    let mut parts = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // What `cargo bench` adds of its own accord.
            "--bench" => {}
            "--gro" => options.gro = true,
            "--runs" => options.runs = number(arguments.next(), "--runs").max(1),
            "--window" => options.window = Duration::from_secs(number(arguments.next(), "--window").max(1) as u64),
            "--load" => {
                let name = arguments.next().unwrap_or_default();
                let names = Load::ALL.map(|load| load.name).join(", ");
                options.load = Load::named(&name).unwrap_or_else(|| fail(&format!("--load: not one of {names}")));
            }
            part if PARTS.contains(&part) => parts.push(part.to_owned()),
            other => fail(&format!(
                "{other}: not one of {}, --load NAME, --gro, --runs N, --window SECONDS",
                PARTS.join(", ")
            )),
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|name| name == part);
    let mut rates = report::Rates::default();
    if wanted("floor") {
        floor::run(options, &mut rates);
    }
    if wanted("fanout") {
        meeting::block_on(meeting::fanout(options, &mut rates));
    }
    rates.print();
    if wanted("ways") {
        meeting::block_on(ways::run(options));
    }
    if wanted("far") {
        meeting::block_on(far::run(options));
    }
    if wanted("delay") {
        meeting::block_on(meeting::delay(options));
    }
    if wanted("start") {
        meeting::block_on(start::run(options));
    }
    if wanted("joins") {
        meeting::block_on(joins::run());
    }
    if wanted("storm") {
        meeting::block_on(storm::run());
    }
    if wanted("death") {
        meeting::block_on(death::run());
    }
    if wanted("listeners") {
        meeting::block_on(listeners::run());
    }
    if wanted("idle") {
        meeting::block_on(idle::run());
    }
}

fn number(argument: Option<String>, name: &str) -> usize {
    argument.and_then(|text| text.parse().ok()).unwrap_or_else(|| fail(&format!("{name}: a number is missing")))
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(2);
}
