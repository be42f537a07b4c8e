//! The receiving end of a connection's datagrams: decodes them in batches and hands their frames to the sinks of their routes.

use std::sync::Arc;

use bytes::Bytes;
use quinn::Connection;

use super::counters::DropReason;
use super::link::Link;
use super::routes::{NoRoute, RouteTable};
use super::sink::FrameSink;
use crate::Frame;
use crate::frame::{Reassembler, decode_datagram};

/// Datagrams that are decoded before their frames are delivered: what one GRO read brings, and no more than a fraction of a
/// millisecond's work.
const BATCH: usize = 64;

/// Runs until the connection ends.
pub(super) async fn run(link: Arc<Link>, connection: Connection, routes: Arc<RouteTable>) {
    let mut receiver = Receiver {
        link: &link,
        routes: &routes,
        halves: Reassembler::new(),
        evicted: 0,
        frames: Vec::new(),
        batches: Vec::new(),
    };
    while let Ok(datagram) = connection.read_datagram().await {
        receiver.receive(datagram);
        for _ in 1..BATCH {
            let next = tokio::select! {
                biased;
                next = connection.read_datagram() => next,
                () = std::future::ready(()) => break,
            };
            match next {
                Ok(datagram) => receiver.receive(datagram),
                Err(_) => break,
            }
        }
        receiver.deliver();
    }
}

struct Receiver<'a> {
    link: &'a Link,
    routes: &'a RouteTable,
    halves: Reassembler,
    evicted: u64,
    /// Of the datagram at hand.
    frames: Vec<Frame>,
    /// By sink. A node has as many sinks as workers, so a scan finds the right one.
    batches: Vec<(Arc<dyn FrameSink>, Vec<Frame>)>,
}

impl Receiver<'_> {
    fn receive(&mut self, datagram: Bytes) {
        self.link.counters.datagrams_received.add(1);
        let mut frames = std::mem::take(&mut self.frames);
        match decode_datagram(datagram, &mut frames) {
            Ok(None) => {}
            Ok(Some(half)) => {
                // A half of an unknown route must not wait for its other one at the cost of others'.
                let (route, epoch) = half.route();
                match self.routes.get(route, epoch) {
                    Ok(_) => frames.extend(self.halves.insert(half)),
                    Err(error) => self.count_unrouted(error),
                }
            }
            Err(_) => self.link.counters.drop(DropReason::Malformed, 1),
        }
        for frame in frames.drain(..) {
            self.sort(frame);
        }
        self.frames = frames;
    }

    fn sort(&mut self, frame: Frame) {
        let sink = match self.routes.get(frame.route, frame.epoch) {
            Ok(sink) => sink,
            Err(error) => return self.count_unrouted(error),
        };
        self.link.counters.frames_received.add(1);
        self.link.counters.frame_bytes_received.add(frame.packet.len() as u64);
        match self.batches.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &sink)) {
            Some((_, batch)) => batch.push(frame),
            None => self.batches.push((sink, vec![frame])),
        }
    }

    fn count_unrouted(&self, error: NoRoute) {
        let reason = match error {
            NoRoute::Unknown => DropReason::UnknownRoute,
            NoRoute::Epoch => DropReason::StaleEpoch,
        };
        self.link.counters.drop(reason, 1);
    }

    fn deliver(&mut self) {
        for (sink, batch) in &mut self.batches {
            if !batch.is_empty() {
                sink.deliver(self.link.key, batch);
                batch.clear();
            }
        }
        let evicted = self.halves.evicted();
        self.link.counters.drop(DropReason::HalfLost, evicted - self.evicted);
        self.evicted = evicted;
    }
}
