//! Whole ways of messages, from a publisher over cores that lose and routes that are moved to viewers whose paths lose
//! too: what is reliable arrives exactly once and in order, or its consumer says that it does not; what is not arrives
//! at most once.

use std::time::Duration;

use rand::RngExt;
use sluice_media::messages::Request;

use crate::client::BINARY;
use crate::seeds::for_each_seed;
use crate::world::{Losses, World, producer, reliable, unreliable};

/// Seeds that a plain `cargo test` tries: some seconds.
const DEFAULT_SEEDS: u64 = 12;

const CORES: usize = 3;

/// A chain of cores with a viewer each, of one reliable data producer and one that is not.
struct Chain {
    world: World,
    next_route: u32,
    /// The route into each core, of each producer.
    routes: [[u32; 2]; CORES],
    sent: [u32; 2],
}

impl Chain {
    fn new(seed: u64) -> Self {
        let mut world = World::new(CORES, seed);
        let publisher = world.add_client(0, true);
        world.produce(publisher, 1, reliable(0));
        world.produce(publisher, 2, unreliable(1));
        let mut chain = Self { world, next_route: 1, routes: [[0; 2]; CORES], sent: [0; 2] };
        for core in 0..CORES {
            let viewer = chain.world.add_client(core, true);
            for of in [1, 2] {
                if core > 0 {
                    chain.open(of, core);
                }
                let number = core as u8 * 2 + of;
                let stream = if of == 1 { reliable(10) } else { unreliable(11) };
                chain.world.consume(viewer, number, of, stream);
            }
        }
        chain.world.pass(Duration::from_secs(1));
        chain
    }

    /// A new route into a core.
    fn open(&mut self, of: u8, core: usize) {
        let route = self.next_route;
        self.next_route += 1;
        self.routes[core][usize::from(of) - 1] = route;
        let stream = if of == 1 { reliable(0) } else { unreliable(1) };
        self.world.route(of, (core - 1, core), route, stream);
    }

    fn close(&mut self, of: u8, core: usize) {
        let route = self.routes[core][usize::from(of) - 1];
        self.world.close_route((core - 1, core), route);
        self.world.request(core, Request::MovePipeProducer { producer: producer(of), route: None });
    }

    fn send(&mut self) {
        let of = self.world.rng.random_range(0..2_usize);
        let stream = if of == 0 { reliable(0) } else { unreliable(1) };
        if self.world.clients[0].buffered(stream.stream_id) > 500_000 {
            return;
        }
        let len = match self.world.rng.random_range(0..20) {
            0 => self.world.rng.random_range(1_000..100_000_usize),
            _ => self.world.rng.random_range(4..1_000),
        };
        let payload: Vec<u8> = self.sent[of].to_be_bytes().into_iter().cycle().take(len).collect();
        self.sent[of] += 1;
        self.world.act(0, |client, now| client.send(now, &stream, BINARY, &payload));
    }

    /// What a viewer got of a producer.
    fn came(&self, core: usize, of: usize) -> Vec<u32> {
        let stream = 10 + of as u16;
        let messages = self.world.clients[core + 1].received.iter().filter(|message| message.stream == stream);
        let number = |payload: &[u8]| {
            let number: [u8; 4] = payload[..4].try_into().expect("four bytes");
            assert!(payload.chunks(4).all(|part| number.starts_with(part)), "it was changed on the way");
            u32::from_be_bytes(number)
        };
        messages.map(|message| number(&message.payload)).collect()
    }
}

fn simulate(seed: u64) {
    let mut chain = Chain::new(seed);
    // Who is new begins with the first message that comes.
    while chain.sent.contains(&0) {
        chain.send();
    }
    chain.world.pass(Duration::from_secs(1));
    let rng = &mut chain.world.rng;
    chain.world.losses = Losses {
        datagrams: rng.random_range(0.0..0.05),
        messages: rng.random_range(0.0..0.05),
        feedback: rng.random_range(0.0..0.4),
    };
    // What the ends of a route tell each other overtakes the messages then.
    chain.world.pipe_rate = rng.random_bool(0.5).then(|| rng.random_range(100_000..2_000_000));
    for _ in 0..600 {
        chain.send();
        let (pause, what) = (chain.world.rng.random_range(0..20_u64), chain.world.rng.random_range(0..60_u32));
        chain.world.pass(Duration::from_millis(pause));
        let (core, of) = (chain.world.rng.random_range(1..CORES), chain.world.rng.random_range(1..3_u8));
        if what == 0 {
            // A pipe breaks, and another way is found after a while.
            chain.close(of, core);
            let gone = chain.world.rng.random_range(0..3_000);
            chain.world.pass(Duration::from_millis(gone));
            chain.open(of, core);
        }
    }
    chain.world.losses = Losses::default();
    chain.world.pass(Duration::from_secs(120));
    for core in 0..CORES {
        let (came, consumer) = (chain.came(core, 0), core as u8 * 2 + 1);
        let is_whole = came.iter().copied().eq(0..chain.sent[0]);
        assert!(came.iter().copied().eq(0..came.len() as u32), "in order, each once: {came:?}");
        assert!(is_whole || chain.world.is_closed(core, consumer), "core {core}: {} of {}", came.len(), chain.sent[0]);
        // Nothing here is gone for so long that it would have to be given up.
        assert!(is_whole, "core {core}: closed after {} of {}", came.len(), chain.sent[0]);

        let mut came = chain.came(core, 1);
        let count = came.len();
        came.sort_unstable();
        came.dedup();
        assert_eq!(came.len(), count, "each at most once");
        assert!(count > 0 && came.iter().all(|number| *number < chain.sent[1]));
        assert!(!chain.world.is_closed(core, consumer + 1));
    }
}

#[test]
fn reliable_messages_arrive_once_in_order_whatever_happens_on_the_way() {
    for_each_seed("data", DEFAULT_SEEDS, simulate);
}

#[test]
fn one_seed_is_one_story() {
    let story = || {
        let mut chain = Chain::new(7);
        chain.world.losses = Losses { datagrams: 0.05, messages: 0.2, feedback: 0.2 };
        (0..100).for_each(|_| {
            chain.send();
            chain.world.pass(Duration::from_millis(7));
        });
        let received = chain.world.clients.iter().map(|client| client.received.len());
        (received.collect::<Vec<_>>(), chain.world.snapshot(1).drops)
    };
    assert_eq!(story(), story());
}
