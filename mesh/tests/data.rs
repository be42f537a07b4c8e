//! Messages of data: in order and whole, and no route waits for another.
#![cfg(feature = "io")]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use common::raw::RawPeer;
use common::{
    Cluster, Collect, Linked, Node, control, data, linked_impatiently, linked_over, linked_pair, until, within,
};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use sluice_mesh::wan::{ImpairmentConfig, Rate};
use sluice_mesh::{
    DataDecoder, DataMessage, LinkDownReason, LinkKey, MAX_DATA_PAYLOAD_LEN, MeshEvent, encode_data_message,
    encode_data_route, encode_message,
};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{ControlBody, PipeMessage};

type Route = (RouteId, RouteEpoch);

/// What a stream of data begins with.
const DATA: u8 = 1;

fn payload(number: u64, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at as u64 + number) as u8).collect()
}

fn received(sink: &Collect) -> usize {
    sink.data.lock().unwrap().len()
}

/// What came on a route, in order.
fn of(sink: &Collect, route: Route) -> Vec<DataMessage> {
    let data = sink.data.lock().unwrap();
    data.iter()
        .filter(|(_, message)| (message.route, message.epoch) == route)
        .map(|(_, message)| message.clone())
        .collect()
}

/// Fills the queue of a route until something is dropped; gives the numbers that were taken.
fn flood(node: &Node, key: LinkKey, route: Route) -> Vec<u64> {
    let mut taken = Vec::new();
    for number in 0.. {
        let before = node.dropped("data_full");
        node.mesh.send_data(key, data(route, number, payload(number, 16_000)));
        if node.dropped("data_full") > before {
            break;
        }
        taken.push(number);
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_many_routes_come_in_order_both_ways() {
    let (a, key_of_b, b, key_of_a) = linked_pair(&Cluster::new()).await;
    let ((at_a, _), (at_b, _)) = (Collect::new(), Collect::new());
    let to_a: Vec<Route> = (0..40).map(|_| a.mesh.allocate_route(at_a.clone()).unwrap()).collect();
    let to_b: Vec<Route> = (0..40).map(|_| b.mesh.allocate_route(at_b.clone()).unwrap()).collect();
    let len = |number: u64| (number * 37 % 3000) as usize;
    for number in 0..100 {
        to_b.iter().for_each(|route| a.mesh.send_data(key_of_b, data(*route, number, payload(number, len(number)))));
        to_a.iter().for_each(|route| b.mesh.send_data(key_of_a, data(*route, number, payload(number, len(number)))));
    }
    for (sink, routes, key) in [(&at_a, &to_a, key_of_b), (&at_b, &to_b, key_of_a)] {
        until("all have come", || received(sink) >= 40 * 100).await;
        assert!(sink.data.lock().unwrap().iter().all(|(from, _)| *from == key));
        for route in routes {
            let wanted: Vec<_> = (0..100).map(|number| data(*route, number, payload(number, len(number)))).collect();
            assert_eq!(of(sink, *route), wanted);
        }
    }
    assert_eq!((a.metric("mesh_link_data_sent_total"), b.metric("mesh_link_data_received_total")), (4000.0, 4000.0));
}

#[tokio::test]
async fn the_longest_message_comes_whole_and_a_longer_one_is_not_sent() {
    let (a, key_of_b, b, _) = linked_pair(&Cluster::new()).await;
    let (sink, _frames) = Collect::new();
    let route = b.mesh.allocate_route(sink.clone()).unwrap();
    let lens = [0, 256 * 1024, 1, MAX_DATA_PAYLOAD_LEN];
    let messages: Vec<_> = (0..).zip(lens).map(|(number, len)| data(route, number, payload(number, len))).collect();
    messages.iter().for_each(|message| a.mesh.send_data(key_of_b, message.clone()));
    a.mesh.send_data(key_of_b, data(route, 9, payload(9, MAX_DATA_PAYLOAD_LEN + 1)));
    until("all have come", || received(&sink) >= lens.len()).await;
    assert_eq!(of(&sink, route), messages);
    assert_eq!(a.dropped("too_large"), 1);
}

/// More in all than may be under way, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_consumed_makes_room_for_more() {
    let (a, key_of_b, b, _) = linked_pair(&Cluster::new()).await;
    let (sink, _frames) = Collect::new();
    let routes: Vec<Route> = (0..8).map(|_| b.mesh.allocate_route(sink.clone()).unwrap()).collect();
    for number in 0..8 {
        for route in &routes {
            a.mesh.send_data(key_of_b, data(*route, number, payload(number, 100_000)));
        }
        let all = (number as usize + 1) * routes.len();
        until("all have come", || received(&sink) >= all).await;
    }
    assert_eq!(received(&sink), 64);
    assert!(a.status("b").unwrap().drops.is_empty());
}

/// More routes than a connection has streams: those that have said what they had to give way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_routes_share_the_streams() {
    let (a, key_of_b, b, _) = linked_pair(&Cluster::new()).await;
    let (sink, _frames) = Collect::new();
    let routes: Vec<Route> = (0..2_000).map(|_| b.mesh.allocate_route(sink.clone()).unwrap()).collect();
    for number in 0..3 {
        routes.iter().for_each(|route| a.mesh.send_data(key_of_b, data(*route, number, payload(number, 50))));
        let all = (number as usize + 1) * routes.len();
        until("all have come", || received(&sink) >= all).await;
    }
    for route in routes {
        assert_eq!(of(&sink, route).iter().map(|message| message.number).collect::<Vec<_>>(), [0, 1, 2]);
    }
    assert!(a.status("b").unwrap().drops.is_empty());
}

/// A node, and the endpoint of another one that does what the test wants.
fn node_and_peer(cluster: &Cluster) -> (Node, RawPeer) {
    (cluster.node("a"), RawPeer::new(cluster, Some(cluster.certificate("b"))))
}

/// The next stream of data of a node, read up to its route.
async fn accept(connection: &Connection) -> (RecvStream, DataDecoder, Route) {
    let mut stream = within("a stream", connection.accept_uni()).await.unwrap();
    let mut head = [0; 6];
    within("its beginning", stream.read_exact(&mut head)).await.unwrap();
    let [kind, r0, r1, r2, r3, epoch] = head;
    assert_eq!(kind, DATA);
    let mut decoder = DataDecoder::new();
    assert_eq!(decoder.decode(&mut &head[1..]), Ok(None));
    (stream, decoder, (RouteId(u32::from_le_bytes([r0, r1, r2, r3])), RouteEpoch(epoch)))
}

/// Reads so many messages of a stream.
async fn read(stream: &mut RecvStream, decoder: &mut DataDecoder, count: usize) -> Vec<DataMessage> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let chunk = within("a message", stream.read_chunk(usize::MAX, true)).await.unwrap().expect("more to come");
        let mut input = chunk.bytes.as_ref();
        while let Some(message) = decoder.decode(&mut input).unwrap() {
            messages.push(message);
        }
    }
    messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_does_not_move_holds_up_nobody_else() {
    let (mut node, peer) = node_and_peer(&Cluster::new());
    let (connection, (_send, mut control_stream), key) = peer.link(&mut node, "b").await;
    let (stuck, other) = ((RouteId(7), RouteEpoch(1)), (RouteId(8), RouteEpoch(1)));
    // The peer reads nothing of it: first the stream fills, then the queue.
    node.mesh.send_data(key, data(stuck, u64::MAX, "first"));
    let (mut stream, mut decoder, route) = accept(&connection).await;
    assert_eq!(route, stuck);
    let mut taken = flood(&node, key, stuck);
    within("nothing moves any more", async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let more = flood(&node, key, stuck);
            if more.is_empty() {
                break;
            }
            taken.extend(more);
        }
    })
    .await;
    assert!(node.dropped("data_full") > 0);
    // Other routes and messages pass.
    for number in 0..10 {
        node.mesh.send_data(key, data(other, number, payload(number, 1000)));
    }
    let (mut others, mut others_decoder, route) = accept(&connection).await;
    assert_eq!(route, other);
    let heard = read(&mut others, &mut others_decoder, 10).await;
    assert_eq!(heard, (0..10).map(|number| data(other, number, payload(number, 1000))).collect::<Vec<_>>());
    assert!(node.mesh.send_control(key, control(other, ControlBody::Unsubscribe)));
    within("a control message", control_stream.read_chunk(1000, true)).await.unwrap().unwrap();
    // Of what was taken nothing is lost.
    let heard = read(&mut stream, &mut decoder, taken.len() + 1).await;
    assert_eq!(heard.iter().skip(1).map(|message| message.number).collect::<Vec<_>>(), taken);
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn what_waits_is_dropped_with_its_route_and_with_its_link() {
    let (mut node, peer) = node_and_peer(&Cluster::new());
    let (connection, _control, key) = peer.link(&mut node, "b").await;
    // Nothing runs in between: all of it waits.
    let (one, other) = ((RouteId(7), RouteEpoch(1)), (RouteId(8), RouteEpoch(1)));
    for route in [one, other] {
        (0..5).for_each(|number| node.mesh.send_data(key, data(route, number, "x")));
    }
    assert_eq!(node.metric("mesh_link_queue_data"), 10.0);
    node.mesh.close_route_out(key, one.0, RouteEpoch(2));
    assert_eq!(node.dropped("route_closed"), 0);
    node.mesh.close_route_out(key, one.0, one.1);
    assert_eq!(node.dropped("route_closed"), 5);
    connection.close(VarInt::from_u32(0), b"");
    node.link_down().await;
    let under_way = node.metric("mesh_link_data_sent_total") as u64;
    assert_eq!(node.dropped("link_down") + under_way, 5);
    node.mesh.send_data(key, data(other, 9, "x"));
    assert_eq!(node.dropped("link_down") + under_way, 6);
    node.mesh.send_data(LinkKey(key.0 + 77), data(other, 9, "x"));
    assert_eq!(node.metric("mesh_unknown_link_dropped_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_ends_and_another_follows() {
    let (mut node, peer) = node_and_peer(&Cluster::new());
    let (connection, _control, key) = peer.link(&mut node, "b").await;
    let route = (RouteId(7), RouteEpoch(1));
    for number in 0..2 {
        node.mesh.send_data(key, data(route, number, "x"));
        let (mut stream, mut decoder, of) = accept(&connection).await;
        assert_eq!((of, read(&mut stream, &mut decoder, 1).await), (route, vec![data(route, number, "x")]));
        let end = within("its end", stream.read_chunk(usize::MAX, true)).await.unwrap();
        assert!(end.is_none());
        assert_eq!(decoder.finish(), Ok(()));
    }
}

/// It would lose what it takes as sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_stops_a_stream_is_closed() {
    let (mut node, peer) = node_and_peer(&Cluster::new());
    let (connection, _control, key) = peer.link(&mut node, "b").await;
    node.mesh.send_data(key, data((RouteId(7), RouteEpoch(1)), 0, "x"));
    let (mut stream, ..) = accept(&connection).await;
    stream.stop(VarInt::from_u32(0)).unwrap();
    node.link_down().await;
    within("its close", connection.closed()).await;
}

/// A narrow path with more data waiting than QUIC has room for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_delays_neither_another_route_nor_control_messages() {
    let path = ImpairmentConfig {
        delay: Duration::from_millis(20),
        rate: Some(Rate::new(30_000_000, Duration::from_millis(200))),
        ..ImpairmentConfig::default()
    };
    let Linked { a, key_of_b, b, .. } = &mut linked_over(&Cluster::new(), path, 1).await;
    let (sink, _frames) = Collect::new();
    let mut routes = (0..13).map(|_| b.mesh.allocate_route(sink.clone()).unwrap());
    let other = routes.next().unwrap();
    let floods: Vec<(Route, Vec<u64>)> = routes.map(|route| (route, flood(a, *key_of_b, route))).collect();
    let all: usize = floods.iter().map(|(_, taken)| taken.len()).sum();
    a.mesh.send_data(*key_of_b, data(other, 0, "x"));
    assert!(a.mesh.send_control(*key_of_b, control(other, ControlBody::Unsubscribe)));
    let MeshEvent::Control { .. } = b.event().await else { panic!("not a message") };
    assert!(received(&sink) < all / 2, "the message came before the data");
    until("the other route's message", || of(&sink, other).len() == 1).await;
    assert!(received(&sink) < all / 2, "it came before the other data");
    until("all have come", || received(&sink) > all).await;
    for (route, taken) in floods {
        assert_eq!(of(&sink, route).iter().map(|message| message.number).collect::<Vec<_>>(), taken);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_link_has_streams_of_its_own() {
    let Linked { mut a, key_of_b: key, mut b, key_of_a: key_at_b, path, _relay } =
        linked_impatiently(&Cluster::new()).await;
    let (sink, _frames) = Collect::new();
    let route = b.mesh.allocate_route(sink.clone()).unwrap();
    a.mesh.send_data(key, data(route, 0, "x"));
    until("the first", || received(&sink) == 1).await;
    path.forward.cut();
    path.backward.cut();
    // What is under way when a link goes down is lost with it.
    (1..5).for_each(|number| a.mesh.send_data(key, data(route, number, "lost")));
    assert_eq!(a.link_down().await, (key, LinkDownReason::TimedOut));
    path.forward.heal();
    path.backward.heal();
    let (again, _) = a.link_up().await;
    b.link_down().await;
    let (again_at_b, _) = b.link_up().await;
    a.mesh.send_data(key, data(route, 5, "for a link that was"));
    (6..9).for_each(|number| a.mesh.send_data(again, data(route, number, "x")));
    until("those of the next link", || received(&sink) == 4).await;
    let heard: Vec<_> = sink.data.lock().unwrap().iter().map(|(link, message)| (*link, message.number)).collect();
    assert_eq!(heard, [(key_at_b, 0), (again_at_b, 6), (again_at_b, 7), (again_at_b, 8)]);
    assert_eq!(a.metric("mesh_unknown_link_dropped_total"), 1.0);
}

#[tokio::test]
async fn data_of_a_route_that_is_none_is_counted_and_answered() {
    let (mut a, key_of_b, b, _) = linked_pair(&Cluster::new()).await;
    let (sink, _frames) = Collect::new();
    let route = b.mesh.allocate_route(sink.clone()).unwrap();
    a.mesh.send_data(key_of_b, data(route, 0, "x"));
    until("the first", || received(&sink) == 1).await;
    // It ends while its stream is open; and one that never was.
    b.mesh.release_route(route.0);
    let never = (RouteId(u32::MAX), RouteEpoch(3));
    for unknown in [route, never] {
        (0..100).for_each(|number| a.mesh.send_data(key_of_b, data(unknown, number, "x")));
        let MeshEvent::Control { key, message } = a.event().await else { panic!("not a message") };
        assert_eq!((key, message), (key_of_b, control(unknown, ControlBody::Unsubscribe)));
    }
    until("all are counted", || b.dropped("unknown_route") == 200).await;
    assert!(b.metric("mesh_link_unknown_routes_answered_total") < 10.0);
    let (known, epoch) = b.mesh.allocate_route(sink.clone()).unwrap();
    a.mesh.send_data(key_of_b, data((known, RouteEpoch(epoch.0 + 1)), 0, "x"));
    until("a former use", || b.dropped("stale_epoch") == 1).await;
    assert_eq!(received(&sink), 1);
}

/// A stream of data of a route that no node has, with its first bytes.
async fn open(connection: &Connection) -> SendStream {
    let mut bytes = BytesMut::new();
    bytes.put_u8(DATA);
    encode_data_route(RouteId(1), RouteEpoch(0), &mut bytes);
    let mut stream = within("a stream", connection.open_uni()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream
}

fn head(length: usize) -> [u8; 16] {
    let mut head = [0; 16];
    head[..4].copy_from_slice(&(length as u32).to_le_bytes());
    head
}

#[tokio::test]
async fn a_peer_whose_data_is_nonsense_is_closed() {
    let cluster = Cluster::new();
    for nonsense in 0..6 {
        let (mut node, peer) = node_and_peer(&cluster);
        let (connection, (mut send, _recv), _) = peer.link(&mut node, "b").await;
        println!("nonsense {nonsense}");
        // A stream with nothing wrong.
        let mut fine = open(&connection).await;
        let mut bytes = BytesMut::new();
        encode_data_message(&data((RouteId(1), RouteEpoch(0)), 0, "x"), &mut bytes).unwrap();
        fine.write_all(&bytes).await.unwrap();
        fine.finish().unwrap();
        until("it is read", || node.dropped("unknown_route") == 1).await;
        assert!(connection.close_reason().is_none());
        let mut streams = Vec::new();
        match nonsense {
            0 => {
                let mut stream = open(&connection).await;
                stream.write_all(&head(MAX_DATA_PAYLOAD_LEN + 1)).await.unwrap();
                streams.push(stream);
            }
            1 => {
                let mut stream = open(&connection).await;
                stream.write_all(&head(100)[..9]).await.unwrap();
                stream.finish().unwrap();
                streams.push(stream);
            }
            2 => {
                let mut stream = open(&connection).await;
                stream.write_all(&bytes).await.unwrap();
                until("it is read", || node.dropped("unknown_route") == 2).await;
                stream.reset(VarInt::from_u32(0)).unwrap();
                streams.push(stream);
            }
            3 => {
                let mut stream = connection.open_uni().await.unwrap();
                stream.write_all(&[77, 1, 2, 3]).await.unwrap();
                streams.push(stream);
            }
            // More is begun than may be under way.
            4 => {
                for _ in 0..17 {
                    let mut stream = open(&connection).await;
                    stream.write_all(&head(MAX_DATA_PAYLOAD_LEN)).await.unwrap();
                    stream.write_all(&[7; 100]).await.unwrap();
                    streams.push(stream);
                }
            }
            // The node has sent nothing.
            _ => send.write_all(&encode_message(&PipeMessage::DataConsumed(1)).unwrap()).await.unwrap(),
        }
        match within("the node closes the connection", connection.closed()).await {
            quinn::ConnectionError::ApplicationClosed(close) => assert_eq!(close.reason, "protocol violation"),
            other => panic!("{nonsense}: {other}"),
        }
        assert_eq!(node.link_down().await.1, LinkDownReason::ClosedHere, "{nonsense}");
    }
}

/// A peer may begin streams and say nothing on them: its link serves on.
#[tokio::test]
async fn streams_that_say_nothing_cost_nobody_else() {
    let (mut node, peer) = node_and_peer(&Cluster::new());
    let (connection, _control, _) = peer.link(&mut node, "b").await;
    let mut silent = HashMap::new();
    for number in 0..500 {
        silent.insert(number, open(&connection).await);
    }
    let (sink, _frames) = Collect::new();
    let route = node.mesh.allocate_route(Arc::clone(&sink) as _).unwrap();
    let mut bytes = BytesMut::new();
    bytes.put_u8(DATA);
    encode_data_route(route.0, route.1, &mut bytes);
    encode_data_message(&data(route, 0, "x"), &mut bytes).unwrap();
    let mut stream = connection.open_uni().await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    until("it has come", || received(&sink) == 1).await;
}
