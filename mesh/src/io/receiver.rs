//! The receiving end of a connection's datagrams: decodes them in batches and hands their frames to the sinks of their
//! routes.

use std::sync::Arc;

use bytes::Bytes;
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::RouteFeedback;

use super::clock;
use super::counters::DropReason;
use super::link::{Current, Link};
use super::routes::{NoRoute, RouteTable};
use super::sink::FrameSink;
use super::unknown::UnknownRoutes;
use crate::Frame;
use crate::frame::{Reassembler, decode_datagram, decode_nack};

/// Datagrams that are decoded before their frames are delivered: what one GRO read brings, and no more than a fraction
/// of a millisecond's work.
const BATCH: usize = 64;

/// Runs until the connection ends.
pub(super) async fn run(link: Arc<Link>, current: Arc<Current>, routes: Arc<RouteTable>) {
    let connection = &current.connection;
    let mut receiver = Receiver {
        link: &link,
        current: &current,
        routes: &routes,
        unknown: UnknownRoutes::new(clock()),
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
    current: &'a Current,
    routes: &'a RouteTable,
    unknown: UnknownRoutes,
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
        if let Some(nack) = decode_nack(&datagram) {
            return self.hear_nack(nack);
        }
        let mut frames = std::mem::take(&mut self.frames);
        match decode_datagram(datagram, &mut frames) {
            Ok(None) => {}
            Ok(Some(half)) => {
                // A half of an unknown route must not wait for its other one at the cost of others'.
                let (route, epoch) = half.route();
                match self.routes.get(route, epoch) {
                    Ok(_) => frames.extend(self.halves.insert(half)),
                    Err(error) => self.refuse(route, epoch, error),
                }
            }
            Err(_) => self.link.counters.drop(DropReason::Malformed, 1),
        }
        for frame in frames.drain(..) {
            self.sort(frame);
        }
        self.frames = frames;
    }

    /// One of a route that is none is not answered: nobody asks for long for what does not come, and what else is said
    /// of that route is.
    fn hear_nack(&self, nack: RouteFeedback) {
        if !self.current.hear_of_route_out(nack) {
            self.link.counters.drop(DropReason::UnknownRoute, 1);
        }
    }

    fn sort(&mut self, frame: Frame) {
        let sink = match self.routes.get(frame.route, frame.epoch) {
            Ok(sink) => sink,
            Err(error) => return self.refuse(frame.route, frame.epoch, error),
        };
        self.link.counters.frames_received.add(1);
        self.link.counters.frame_bytes_received.add(frame.packet.len() as u64);
        match self.batches.iter_mut().find(|(of, _)| Arc::ptr_eq(of, &sink)) {
            Some((_, batch)) => batch.push(frame),
            None => self.batches.push((sink, vec![frame])),
        }
    }

    fn refuse(&mut self, route: RouteId, epoch: RouteEpoch, error: NoRoute) {
        self.link.refuse(self.current, &mut self.unknown, (route, epoch), error);
    }

    fn deliver(&mut self) {
        for (sink, batch) in &mut self.batches {
            if !batch.is_empty() {
                sink.deliver(self.current.key, batch);
                batch.clear();
            }
        }
        let evicted = self.halves.evicted();
        self.link.counters.drop(DropReason::HalfLost, evicted - self.evicted);
        self.evicted = evicted;
    }
}
