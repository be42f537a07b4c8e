//! What one client may cost, and that nobody else pays for it.

use std::time::Duration;

use sluice_media::DataLimits;
use sluice_media::drop_reason::DropReason;
use sluice_media::messages::{SctpState, WorkerEvent};

use crate::client::{BINARY, WINDOW};
use crate::world::{World, reliable, unreliable};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_reader_that_is_slow_delays_nobody_and_is_closed_when_it_loses() {
    let mut world = World::new(1, 1);
    let (publisher, slow, quick) = (world.add_client(0, true), world.add_client(0, true), world.add_client(0, true));
    world.produce(publisher, 1, reliable(0));
    world.consume(slow, 1, 1, reliable(9));
    world.consume(quick, 2, 1, reliable(9));
    world.clients[slow].reads = false;
    let mut sent = 0;
    while !world.is_closed(0, 1) {
        world.act(publisher, |client, now| client.send(now, &reliable(0), BINARY, &[7; 10_000]));
        sent += 1;
        world.pass(Duration::from_millis(20));
        assert!(sent < 1_000, "it takes all");
        assert!(world.clients[quick].received.len() + 5 > sent, "{} of {sent}", world.clients[quick].received.len());
    }
    let limits = DataLimits::default();
    let most = WINDOW + limits.send_window + limits.consumer_buffer;
    assert!((most / 2..most + 100_000).contains(&(sent * 10_000)), "closed after {sent}");
    world.pass(SECOND);
    assert_eq!(world.clients[quick].received.len(), sent);
    assert_eq!(world.drops(0, DropReason::DataConsumerFull), 1);
    assert_eq!(world.snapshot(0).data_consumers, 1);
}

#[test]
fn an_unreliable_channel_of_a_slow_reader_loses_what_does_not_fit() {
    let mut world = World::new(1, 1);
    let (publisher, slow) = (world.add_client(0, true), world.add_client(0, true));
    world.produce(publisher, 1, unreliable(0));
    world.consume(slow, 1, 1, unreliable(9));
    world.clients[slow].reads = false;
    for _ in 0..500 {
        world.act(publisher, |client, now| client.send(now, &unreliable(0), BINARY, &[7; 10_000]));
        world.pass(Duration::from_millis(20));
    }
    let stats = world.consumer_stats(0, 1);
    assert!(stats.dropped > 0 && stats.buffered <= DataLimits::default().consumer_buffer as u64, "{stats:?}");
    assert_eq!(world.drops(0, DropReason::DataConsumerFull), stats.dropped);
    assert!(!world.is_closed(0, 1));
    world.act(slow, |client, _| client.read());
    world.pass(60 * SECOND);
    let before = world.clients[slow].received.len();
    world.act(publisher, |client, now| client.send(now, &unreliable(0), BINARY, b"fresh"));
    world.pass(10 * SECOND);
    assert!(before > 50 && world.clients[slow].received.last().is_some_and(|message| message.payload == b"fresh"));
}

/// What reaches a viewer of a publisher that sends as much as it can of messages of so many bytes, after so long.
fn flood(len: usize, count: usize, time: Duration) -> (World, usize) {
    let mut world = World::new(1, 1);
    let (publisher, viewer) = (world.add_client(0, true), world.add_client(0, true));
    world.produce(publisher, 1, reliable(0));
    world.consume(viewer, 1, 1, reliable(9));
    let mut left = count;
    let until = world.now + time;
    while world.now < until {
        while left > 0 && world.clients[publisher].buffered(0) < 100_000 {
            let number = ((count - left) as u32).to_be_bytes();
            let payload: Vec<u8> = number.iter().copied().cycle().take(len).collect();
            world.act(publisher, |client, now| client.send(now, &reliable(0), BINARY, &payload));
            left -= 1;
        }
        world.pass(Duration::from_millis(10));
    }
    (world, count - left)
}

#[test]
fn a_flood_waits_at_its_client_and_nothing_of_it_is_lost() {
    for (len, most) in [(20_000, 5 * 50 + 60), (100, 5 * 1_000 + 1_000)] {
        let (world, sent) = flood(len, usize::MAX >> 1, 5 * SECOND);
        let came = world.clients[1].received.len();
        assert!(came <= most && came > most / 3, "{came} of {sent} messages of {len} bytes in 5 s");
        for (number, message) in world.clients[1].received.iter().enumerate() {
            assert_eq!(message.payload[..4], (number as u32).to_be_bytes());
            assert_eq!(message.payload.len(), len);
        }
    }
    for (len, count) in [(20_000, 300), (100, 4_000)] {
        let (mut world, sent) = flood(len, count, 10 * SECOND);
        world.pass(60 * SECOND);
        assert_eq!((sent, world.clients[1].received.len()), (count, count));
        assert!(!world.is_closed(0, 1));
    }
}

/// A DATA chunk of a client.
fn data(tsn: u32, stream: u16, flags: u8, user_data: &[u8]) -> Vec<u8> {
    let mut chunk = vec![0, flags];
    chunk.extend((16 + user_data.len() as u16).to_be_bytes());
    chunk.extend(tsn.to_be_bytes());
    chunk.extend(stream.to_be_bytes());
    chunk.extend([0, 0, 0, 0, 0, 53]);
    chunk.extend(user_data);
    chunk.resize(chunk.len().next_multiple_of(4), 0);
    chunk
}

/// What is learned of an association by the packets of its client.
struct Hijacked {
    world: World,
    header: Vec<u8>,
    tsn: u32,
}

impl Hijacked {
    /// A client whose next packets are made up.
    fn new() -> Self {
        let mut world = World::new(1, 1);
        let publisher = world.add_client(0, true);
        world.produce(publisher, 1, reliable(0));
        world.pass(SECOND);
        let (tag, tsn) = world.clients[publisher].outgoing();
        let mut header = vec![0x13, 0x88, 0x13, 0x88];
        header.extend(tag.to_be_bytes());
        // Without a checksum, RFC 9653.
        header.extend([0; 4]);
        Self { world, header, tsn }
    }

    fn send(&mut self, chunks: &[Vec<u8>]) {
        let packet = [&self.header[..], &chunks.concat()].concat();
        self.world.act(0, |client, _| client.send_raw(&packet));
        self.world.pass(Duration::from_millis(20));
    }

    fn failed(&self) -> bool {
        let is_it =
            |event: &WorkerEvent| matches!(event, WorkerEvent::SctpStateChanged { state: SctpState::Failed, .. });
        self.world.cores[0].events.iter().any(is_it)
    }
}

#[test]
fn fragments_that_come_to_nothing_are_kept_up_to_a_limit() {
    let mut client = Hijacked::new();
    // The beginning of a message and ever more of it, a byte each.
    for packet in 0..1_000_u32 {
        let first = client.tsn + packet * 50;
        let chunks: Vec<_> =
            (first..first + 50).map(|tsn| data(tsn, 0, if tsn == client.tsn { 2 } else { 0 }, b"x")).collect();
        client.send(&chunks);
        if client.failed() {
            assert!((100..300).contains(&packet), "after {packet} packets");
            return;
        }
    }
    panic!("it takes them all");
}

#[test]
fn an_association_that_uses_too_many_streams_ends() {
    let mut client = Hijacked::new();
    for packet in 0..200_u16 {
        let first = packet * 50;
        let tsn = client.tsn + u32::from(first);
        let chunks: Vec<_> =
            (first..first + 50).map(|stream| data(tsn + u32::from(stream - first), stream, 3, b"x")).collect();
        client.send(&chunks);
        if client.failed() {
            assert!((60..100).contains(&packet), "after {packet} packets");
            assert!(client.world.drops(0, DropReason::UnknownStream) > 1_000);
            return;
        }
        client.world.pass(Duration::from_millis(100));
    }
    panic!("it takes them all");
}

#[test]
fn what_no_client_needs_to_send_is_dropped() {
    let mut client = Hijacked::new();
    let heartbeat = vec![4, 0, 0, 8, 0, 1, 0, 4];
    client.send(&vec![heartbeat; 2]);
    client.send(&[vec![1, 2, 3]]);
    client.send(&[]);
    assert_eq!(client.world.drops(0, DropReason::SctpMalformed), 3);
    // DCEP, and a message on a stream of which nobody knows.
    let mut open = data(client.tsn, 0, 3, &[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    open[15] = 50;
    client.send(&[open, data(client.tsn + 1, 77, 3, b"x")]);
    assert_eq!(client.world.drops(0, DropReason::DcepUnwanted), 1);
    assert_eq!(client.world.drops(0, DropReason::UnknownStream), 1);
    assert!(!client.failed());
}
