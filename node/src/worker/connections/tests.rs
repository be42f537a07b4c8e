use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;

use mio::{Events, Poll};
use tokio::sync::Semaphore;

use super::*;
use crate::address_limits::AddressLimits;
use crate::config::NodeConfig;
use crate::worker::now;

struct World {
    poll: Poll,
    connections: Connections,
    listener: TcpListener,
    limits: Arc<AddressLimits>,
    places: Arc<Semaphore>,
}

impl World {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        Self {
            connections: Connections::new(poll.registry().try_clone().unwrap()),
            poll,
            listener: listen((Ipv4Addr::LOCALHOST, 0).into()).unwrap(),
            limits: AddressLimits::new(&NodeConfig::default()),
            places: Arc::new(Semaphore::new(100)),
        }
    }

    /// A connection that says to come from `remote`.
    fn add(&mut self, now: Instant, remote: SocketAddr) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        let stream = self.listener.accept().unwrap().0;
        stream.set_nonblocking(true).unwrap();
        let permit = || self.places.clone().try_acquire_owned().unwrap();
        let place = Place::new(&Arc::default(), permit(), None);
        let newcomer = Newcomer::new(permit(), self.limits.newcomer(remote.ip()).unwrap());
        self.connections.add(now, NewConnection { stream, remote, first: vec![7; 20], place, newcomer });
        client
    }

    fn ended(&mut self) -> Vec<SocketAddr> {
        std::iter::from_fn(|| self.connections.next_ended()).collect()
    }

    /// Lets the connections write what waits.
    fn flush(&mut self, now: Instant) {
        let mut events = Events::with_capacity(8);
        self.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        events.iter().for_each(|event| self.connections.ready(now, event));
    }
}

fn remote(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn is_closed(client: &mut TcpStream) -> bool {
    matches!(client.read(&mut [0; 1]), Ok(0) | Err(_))
}

#[test]
fn what_nobody_authenticates_in_time_is_closed() {
    let (mut world, start) = (World::new(), now());
    let mut strange = world.add(start, remote(1));
    let _proven = world.add(start, remote(2));
    let later = start + Duration::from_secs(1);
    let _late = world.add(later, remote(3));
    world.connections.set_owned(remote(2), true);
    let (datagrams, _) = world.connections.receive(start, MAX_CHUNKS);
    let sources: Vec<_> = datagrams.iter().map(|datagram| datagram.source).collect();
    assert_eq!(sources, [1, 2, 3].map(|port| TransportAddress::Tcp(remote(port))), "the first checks");
    assert_eq!(world.connections.poll_timeout(), Some(start + PROOF_TIME));
    world.connections.handle_timeout(start + PROOF_TIME);
    assert_eq!(world.ended(), [remote(1)]);
    assert!(is_closed(&mut strange));
    assert_eq!(world.connections.poll_timeout(), Some(later + PROOF_TIME));
    world.connections.handle_timeout(later + PROOF_TIME);
    assert_eq!((world.ended(), world.connections.poll_timeout()), (vec![remote(3)], None));
    assert_eq!(world.places.available_permits(), 99, "one is left, which is no newcomer");
}

#[test]
fn nothing_is_kept_of_those_who_come_and_go() {
    let (mut world, start) = (World::new(), now());
    let kept = world.add(start, remote(1));
    for _ in 0..2 * MAX_UNPROVEN {
        world.add(start, remote(2));
        assert!(world.connections.unproven.len() <= MAX_UNPROVEN);
        world.connections.receive(start, MAX_CHUNKS);
        world.ended();
    }
    world.connections.handle_timeout(start + PROOF_TIME);
    assert!(world.ended().contains(&remote(1)) && world.connections.unproven.is_empty());
    drop(kept);
}

#[test]
fn whoever_has_the_address_of_another_takes_its_place_and_keeps_it() {
    let (mut world, start) = (World::new(), now());
    let mut former = world.add(start, remote(1));
    world.connections.set_owned(remote(1), true);
    let mut next = world.add(start, remote(1));
    assert_eq!(world.ended(), [remote(1)]);
    assert!(is_closed(&mut former));
    // The core has forgotten the former, and says so.
    world.connections.set_owned(remote(1), false);
    assert!(world.ended().is_empty());
    next.write_all(&[0, 12]).unwrap();
    world.connections.set_owned(remote(1), true);
    world.connections.set_owned(remote(1), false);
    assert_eq!(world.ended(), [remote(1)]);
    assert!(is_closed(&mut next));
}

#[test]
fn to_who_does_not_read_video_is_given_up_first_and_what_leaves_is_whole() {
    const DATAGRAMS: usize = 20;
    const LEN: usize = 1_000;
    let (mut world, now) = (World::new(), now());
    let mut client = world.add(now, remote(1));
    client.set_nonblocking(true).unwrap();
    let transmit = |byte: u8, is_video| Transmit {
        destination: TransportAddress::Tcp(remote(1)),
        is_video,
        segment_size: Some(LEN),
        contents: vec![byte; DATAGRAMS * LEN],
    };
    // More than both kernels' buffers take.
    for number in 0..1_000_u32 {
        world.connections.send(now, &transmit(number as u8 % 100, true));
    }
    let full = |world: &World| world.connections.drops().get(DropReason::ConnectionFull);
    let given_up = full(&world);
    assert!(given_up > 0 && given_up % DATAGRAMS as u64 == 0, "{given_up}");
    for number in 0..5 {
        world.connections.send(now, &transmit(100 + number, false));
    }
    assert_eq!(full(&world), given_up + 5 * DATAGRAMS as u64, "as much video goes");
    let mut received = Vec::new();
    let expected = 1_005 * DATAGRAMS - full(&world) as usize;
    while received.len() < expected * (LENGTH_LEN + LEN) {
        let mut buffer = [0; 65_536];
        match client.read(&mut buffer) {
            Ok(len) => received.extend_from_slice(&buffer[..len]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        world.flush(now);
    }
    let mut frames = Frames::new(&mut received);
    let frames: Vec<u8> = frames
        .by_ref()
        .map(|frame| {
            assert!(frame.len() == LEN && frame.iter().all(|byte| *byte == frame[0]));
            frame[0]
        })
        .collect();
    let others: Vec<_> = frames.iter().copied().filter(|byte| *byte >= 100).collect();
    assert!(others.is_sorted() && others.len() == 5 * DATAGRAMS);
    assert_eq!(frames.len(), expected, "nothing is lost uncounted");
    assert_eq!(world.connections.drops().get(DropReason::ConnectionLate), 0);

    drop(client);
    while world.ended().is_empty() {
        world.connections.send(now, &transmit(1, true));
    }
    world.connections.send(now, &transmit(1, true));
    assert!(world.connections.drops().get(DropReason::ConnectionGone) >= DATAGRAMS as u64);
}
