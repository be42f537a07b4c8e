//! From client to client by one core.

use std::time::Duration;

use sluice_media::drop_reason::DropReason;
use sluice_media::messages::{Request, RequestError, SctpState, WorkerEvent};
use sluice_proto::ortc::SctpStreamParameters;

use crate::client::{BINARY, Client, Received, STRING};
use crate::world::{World, consumer, producer, reliable, unreliable};

const SECOND: Duration = Duration::from_secs(1);

/// A publisher and a viewer of what it sends on stream 0, which the viewer gets on stream 9.
fn pair(stream: fn(u16) -> SctpStreamParameters) -> World {
    let mut world = World::new(1, 1);
    let (publisher, viewer) = (world.add_client(0, true), world.add_client(0, true));
    world.produce(publisher, 1, stream(0));
    world.consume(viewer, 1, 1, stream(9));
    world
}

fn received(payload: &[u8]) -> Received {
    Received { stream: 9, ppid: BINARY, payload: payload.to_vec() }
}

#[test]
fn messages_pass_whole_in_order_and_with_their_kind() {
    let mut world = pair(reliable);
    let kinds = [(STRING, &b"text"[..]), (BINARY, b"bytes"), (56, &[0]), (57, &[0])];
    for (ppid, payload) in kinds {
        world.act(0, |client, now| client.send(now, &reliable(0), ppid, payload));
    }
    world.pass(SECOND);
    let expected: Vec<_> =
        kinds.iter().map(|(ppid, payload)| Received { stream: 9, ppid: *ppid, payload: payload.to_vec() }).collect();
    assert_eq!(world.clients[1].received, expected);
    assert!(world.clients[0].received.is_empty());

    let (sent, got) = (world.producer_stats(0, 1), world.consumer_stats(0, 1));
    assert_eq!((sent.messages, sent.bytes, got.messages, got.bytes, got.buffered, got.dropped), (4, 11, 4, 11, 0, 0));
    let snapshot = world.snapshot(0);
    let counts = [snapshot.data_messages_received, snapshot.data_messages_sent, snapshot.data_bytes_sent];
    assert_eq!((counts, snapshot.data_producers, snapshot.data_consumers), ([4, 4, 11], 1, 1));
    assert_eq!(world.transport_stats(0).sctp_state, Some(SctpState::Connected));
}

#[test]
fn whoever_calls_there_is_one_association() {
    // The client calls, the node, or both at once.
    for (client_calls, node_calls) in [(true, false), (false, true), (true, true)] {
        let mut world = World::new(1, 1);
        let (publisher, viewer) = (world.add_client(0, true), world.add_client(0, false));
        world.produce(publisher, 1, reliable(0));
        if node_calls {
            world.consume(viewer, 1, 1, reliable(9));
        }
        if client_calls {
            world.act(viewer, Client::connect);
        }
        // A message that comes before the client is there waits for it.
        world.act(publisher, |client, now| client.send(now, &reliable(0), BINARY, b"early"));
        world.pass(3 * SECOND);
        assert!(world.clients[viewer].is_connected());
        if node_calls {
            assert_eq!(world.clients[viewer].received, [received(b"early")]);
        }
        let connected =
            |event: &&WorkerEvent| matches!(event, WorkerEvent::SctpStateChanged { state: SctpState::Connected, .. });
        let count = world.cores[0].events.iter().filter(connected).count();
        assert_eq!(count, 2, "the publisher's and the viewer's");
    }
}

#[test]
fn the_largest_message_passes_and_a_larger_one_does_not() {
    let mut world = pair(reliable);
    let large: Vec<u8> = (0..262_144_u32).map(|number| (number * 7 % 251) as u8).collect();
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, &large));
    world.pass(5 * SECOND);
    assert_eq!(world.clients[1].received, [received(&large)]);
    let before = world.drops(0, DropReason::DataTooLarge);
    // The client ignores what was announced: its own limit is this, too.
    let limits = sluice_media::DataLimits { max_message_size: 1_000, ..Default::default() };
    let mut strict = World::with_limits(1, 1, limits);
    let (publisher, viewer) = (strict.add_client(0, true), strict.add_client(0, true));
    strict.produce(publisher, 1, reliable(0));
    strict.consume(viewer, 1, 1, reliable(9));
    for len in [1_001, 1_000] {
        strict.act(publisher, |client, now| client.send(now, &reliable(0), BINARY, &vec![1; len]));
    }
    strict.pass(SECOND);
    assert_eq!(strict.clients[viewer].received, [received(&[1; 1_000])]);
    assert_eq!((before, strict.drops(0, DropReason::DataTooLarge)), (0, 1));
}

#[test]
fn reliable_messages_pass_on_a_path_that_loses() {
    let mut world = pair(reliable);
    world.losses.datagrams = 0.1;
    for number in 0..200_u16 {
        world.act(0, |client, now| client.send(now, &reliable(0), BINARY, &number.to_be_bytes()));
        world.pass(Duration::from_millis(5));
    }
    world.pass(60 * SECOND);
    let expected: Vec<_> = (0..200_u16).map(|number| received(&number.to_be_bytes())).collect();
    assert_eq!(world.clients[1].received, expected);
}

#[test]
fn unreliable_messages_are_not_sent_again() {
    let mut world = pair(unreliable);
    world.losses.datagrams = 0.2;
    for number in 0..300_u16 {
        world.act(0, |client, now| client.send(now, &unreliable(0), BINARY, &number.to_be_bytes()));
        world.pass(Duration::from_millis(5));
    }
    world.pass(20 * SECOND);
    let mut numbers: Vec<_> =
        world.clients[1].received.iter().map(|m| u16::from_be_bytes([m.payload[0], m.payload[1]])).collect();
    assert!((100..280).contains(&numbers.len()), "{} of 300", numbers.len());
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "none comes twice");
    assert!(!world.is_closed(0, 1));
}

#[test]
fn nothing_is_kept_for_those_who_come_later() {
    let mut world = pair(reliable);
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, b"before"));
    world.pass(SECOND);
    let later = world.add_client(0, true);
    world.consume(later, 2, 1, reliable(9));
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, b"after"));
    world.pass(SECOND);
    assert_eq!(world.clients[1].received, [received(b"before"), received(b"after")]);
    assert_eq!(world.clients[later].received, [received(b"after")]);
}

#[test]
fn a_channel_that_one_end_closes_is_closed_at_the_other() {
    let mut world = pair(reliable);
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, b"last words"));
    world.act(0, |client, now| client.close(now, 0));
    world.pass(SECOND);
    let is_it = |event: &WorkerEvent| matches!(event, WorkerEvent::DataProducerClosed { producer: closed } if *closed == producer(1));
    assert!(world.cores[0].events.iter().any(is_it));
    assert_eq!(world.clients[1].received, [received(b"last words")]);
    // Both clients are told: the publisher in answer, the viewer because nothing more comes.
    assert_eq!((&world.clients[0].closed[..], &world.clients[1].closed[..]), (&[0][..], &[9][..]));
    assert!(!world.is_closed(0, 1), "who closed the producer knows of its consumers");
    // Its stream can be used again.
    world.produce(0, 2, reliable(0));
    world.consume(1, 2, 2, reliable(9));
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, b"again"));
    world.pass(SECOND);
    assert_eq!(world.clients[1].received.last(), Some(&received(b"again")));

    world.act(1, |client, now| client.close(now, 9));
    world.pass(SECOND);
    assert!(world.is_closed(0, 2));
    assert_eq!(world.snapshot(0).data_consumers, 0);
    world.request(0, Request::CloseProducer { producer: producer(2) });
    world.pass(SECOND);
    assert_eq!(world.clients[0].closed, [0, 0]);
    assert_eq!(world.snapshot(0).data_producers, 0);
}

/// Its client answers late that the former one is closed.
#[test]
fn a_channel_on_a_stream_of_a_former_one_stays() {
    let mut world = pair(reliable);
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, b"before"));
    world.pass(SECOND);
    world.request(0, Request::CloseConsumer { consumer: consumer(1) });
    world.consume(1, 2, 1, reliable(9));
    world.act(0, |client, now| client.send(now, &reliable(0), BINARY, b"after"));
    world.pass(SECOND);
    assert_eq!((world.clients[1].received.last(), world.is_closed(0, 2)), (Some(&received(b"after")), false));
    world.act(1, |client, now| client.close(now, 9));
    world.pass(SECOND);
    assert!(world.is_closed(0, 2));
}

#[test]
fn many_channels_are_closed_at_once() {
    let mut world = World::new(1, 1);
    let (publisher, viewer) = (world.add_client(0, true), world.add_client(0, true));
    world.produce(publisher, 1, reliable(0));
    let transport = world.clients[viewer].transport;
    for stream in 0..1_000_u16 {
        let [high, low] = stream.to_be_bytes();
        let consumer = sluice_proto::ids::ConsumerId::from_bytes([high, low, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let stream = reliable(stream);
        world.request(0, Request::ConsumeData { transport, consumer, producer: producer(1), stream, paused: false });
    }
    world.act(publisher, |client, now| client.send(now, &reliable(0), BINARY, b"to all"));
    world.pass(3 * SECOND);
    assert_eq!(world.clients[viewer].received.len(), 1_000);
    world.request(0, Request::CloseProducer { producer: producer(1) });
    world.pass(10 * SECOND);
    let mut closed = world.clients[viewer].closed.clone();
    closed.sort_unstable();
    assert!(closed.iter().copied().eq(0..1_000), "{} are closed", closed.len());
}

#[test]
fn channels_end_with_their_association_and_the_client_may_come_back() {
    let mut world = pair(reliable);
    world.act(0, Client::abort);
    world.pass(SECOND);
    let states = world.cores[0].events.iter().filter_map(|event| match event {
        WorkerEvent::SctpStateChanged { transport, state } if *transport == world.clients[0].transport => Some(*state),
        _ => None,
    });
    assert_eq!(states.collect::<Vec<_>>(), [SctpState::Connected, SctpState::Closed]);
    assert_eq!(world.transport_stats(0).sctp_state, Some(SctpState::Closed));
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.data_producers, snapshot.data_consumers), (0, 0));
    world.act(0, Client::connect);
    world.pass(SECOND);
    world.produce(0, 2, reliable(3));
    world.consume(1, 2, 2, reliable(9));
    world.act(0, |client, now| client.send(now, &reliable(3), BINARY, b"back"));
    world.pass(SECOND);
    assert_eq!(world.clients[1].received, [received(b"back")]);
}

#[test]
fn one_without_a_client_says_what_requests_say() {
    let mut world = World::new(1, 1);
    let viewer = world.add_client(0, true);
    let router = crate::world::ROUTER;
    world.request(0, Request::CreateDirectDataProducer { router, producer: producer(1), stream: reliable(0) });
    world.consume(viewer, 1, 1, reliable(9));
    let send =
        |payload: Vec<u8>| Request::SendData { producer: producer(1), to: None, ppid: BINARY, payload: payload.into() };
    world.request(0, send(b"said".to_vec()));
    assert!(matches!(world.try_request(0, send(Vec::new())), Err(RequestError::Invalid(_))));
    assert!(matches!(world.try_request(0, send(vec![0; 262_145])), Err(RequestError::Invalid(_))));
    world.pass(SECOND);
    assert_eq!(world.clients[viewer].received, [received(b"said")]);
    world.request(0, Request::CloseRouter { router });
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.data_producers, snapshot.data_consumers, snapshot.transports), (0, 0, 0));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let mut world = pair(reliable);
    let (publisher, viewer) = (world.clients[0].transport, world.clients[1].transport);
    let produce = |number, stream| Request::ProduceData { transport: publisher, producer: producer(number), stream };
    let consume = |number, of, stream| Request::ConsumeData {
        transport: viewer,
        consumer: consumer(number),
        producer: producer(of),
        stream,
        paused: false,
    };
    let ordered = SctpStreamParameters { ordered: true, ..unreliable(4) };
    for request in [produce(1, reliable(4)), consume(1, 1, reliable(4))] {
        assert!(matches!(world.try_request(0, request), Err(RequestError::AlreadyExists(_))));
    }
    for request in [produce(2, reliable(0)), consume(2, 1, reliable(9))] {
        assert!(matches!(world.try_request(0, request), Err(RequestError::StreamInUse(_))));
    }
    for request in
        [produce(2, ordered), Request::SendData { producer: producer(1), to: None, ppid: 51, payload: vec![1].into() }]
    {
        assert!(matches!(world.try_request(0, request), Err(RequestError::Invalid(_))));
    }
    assert_eq!(
        world.try_request(0, consume(2, 7, reliable(4))).err(),
        Some(RequestError::ProducerNotFound(producer(7)))
    );
    let snapshot = world.snapshot(0);
    assert_eq!((snapshot.data_producers, snapshot.data_consumers), (1, 1));
}
