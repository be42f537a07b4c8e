//! The media core of a worker, with everything that may come to it: requests, datagrams that are sealed with a client's
//! keys or are anything, frames and feedback of other nodes, the time.
//!
//! # Layout
//! - `cast`: who there may be: a few of everything, by number.
//! - `world`: a core with them, and the time that it knows.
//! - `witness`: sees everything that the core gives out, and what must be true of it.
//! - `packets`: RTP and RTCP of choices; `steps`: what happens next.

mod cast;
mod packets;
mod steps;
mod witness;
mod world;

use self::cast::Stream;
use crate::reader::Reader;

pub(crate) use self::world::World;

/// What a run may have: it is to take some milliseconds.
const MAX_STEPS: usize = 300;

/// The bytes are what there is to begin with, and what happens then.
pub fn run(data: &[u8]) {
    let mut reader = Reader::new(data);
    let mut world = World::new();
    set_up(&mut world, reader.u8());
    for _ in 0..MAX_STEPS {
        if reader.is_empty() {
            break;
        }
        steps::step(&mut reader, &mut world);
    }
    world.finish();
}

/// A room that is worth to begin with.
fn set_up(world: &mut World, scene: u8) {
    if scene & 7 == 0 {
        return;
    }
    world.create_router(0);
    for user in 0..3 {
        world.create_transport(0, user);
        world.connect(user, user % 2 == 0);
    }
    let stream = Stream::ALL[usize::from(scene >> 3) % Stream::ALL.len()];
    match scene & 7 {
        1 | 2 => {
            world.produce(0, 0, stream, Some(0), false);
            world.consume(1, 0, 0, stream, false);
            world.consume(2, 1, 0, stream, false);
        }
        3 => {
            world.produce(0, 0, stream, Some(0), false);
            world.open_route_out(0, 0, 0, 1);
            world.consume(1, 0, 0, stream, false);
        }
        4 => {
            world.create_pipe_producer(0, 0, stream, Some((0, 0, 1)), false);
            world.consume(0, 0, 0, stream, false);
            world.open_route_out(0, 1, 1, 1);
        }
        5 => {
            world.produce(0, 0, Stream::Opus, Some(0), false);
            world.produce(0, 1, stream, Some(1), false);
            world.produce(1, 2, stream, None, false);
            world.consume(1, 0, 0, Stream::Opus, false);
            world.consume(1, 1, 1, stream, false);
            world.consume(2, 2, 2, stream, false);
        }
        6 => {
            world.create_transport(0, 3);
            world.connect_by_dtls(3, scene & 8 == 0);
        }
        _ => {
            world.produce(0, 0, stream, None, false);
            world.consume(1, 0, 0, stream, true);
            world.open_route_out(0, 0, 0, 1);
        }
    }
}

/// A stream that is received, asked for again, paused and carried on; users that come and go.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for scene in [1, 2, 3, 4, 5, 7] {
        for stream in 0..Stream::ALL.len() as u8 {
            let [key, delta] = if stream < 3 { [1, 0] } else { [4, 6] };
            let mut seed = vec![scene | stream << 3];
            steps::write_stream(&mut seed, scene == 4, key, delta);
            seeds.push(seed);
        }
    }
    seeds.push(vec![6, 12, 3, 0, 1, 0, 13, 4, 0, 16, 22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 3, 1, 0, 0, 8, 9]);
    seeds.push(vec![14, 12, 3, 0, 1, 0, 8, 9, 8, 9, 8, 12]);
    seeds
}
