//! One task that owns one socket and the sessions on it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::socket::BatchSocket;
use super::{Direction, DriverConfig, Filter};
use crate::session::Session;
use crate::transport::{Input, TransportState};

/// The first address that users on loopback get; everything up to 127.255.255.254 follows.
const FIRST_LOOPBACK: u32 = u32::from_be_bytes([127, 1, 0, 1]);
/// Batches that are read before timers and commands have their turn.
const MAX_BATCHES: usize = 64;

pub(super) type LaneId = usize;

/// Something to do where the session lives.
pub(super) type Action = Box<dyn FnOnce(&mut Session, Instant) + Send>;

pub(super) enum Command {
    Add(Box<Session>, watch::Sender<TransportState>, tokio::sync::oneshot::Sender<LaneId>),
    With(LaneId, Action),
    Raw(LaneId, Vec<u8>),
    SetFilter(LaneId, Option<Filter>),
    Remove(LaneId),
}

struct LaneState {
    session: Session,
    source: Option<IpAddr>,
    states: watch::Sender<TransportState>,
    filter: Option<Filter>,
    scheduled: Option<Instant>,
}

pub(super) struct Hub {
    socket: BatchSocket,
    /// Many users by their loopback addresses, or one user.
    shared: bool,
    lanes: Vec<Option<Box<LaneState>>>,
    timers: BinaryHeap<Reverse<(Instant, LaneId)>>,
    commands: mpsc::UnboundedReceiver<Command>,
    coalesce: Duration,
}

impl Hub {
    /// Binds a socket and spawns its task on the current runtime; it ends with the last sender of commands.
    pub(super) fn spawn(
        remote: IpAddr,
        shared: bool,
        config: &DriverConfig,
    ) -> io::Result<mpsc::UnboundedSender<Command>> {
        let socket = BatchSocket::bind(remote, config.receive_offload)?;
        // Commands come from the users' own tasks, a few per join: bounded by what those await.
        let (sender, commands) = mpsc::unbounded_channel();
        let hub =
            Self { socket, shared, lanes: Vec::new(), timers: BinaryHeap::new(), commands, coalesce: config.coalesce };
        tokio::spawn(hub.run());
        Ok(sender)
    }

    async fn run(mut self) {
        loop {
            let next = self.timers.peek().map(|Reverse((at, _))| *at);
            tokio::select! {
                biased;
                command = self.commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    None => return,
                },
                () = sleep_until(next) => {}
                readable = self.socket.readable() => if let Err(error) = readable {
                    tracing::error!(%error, port = self.socket.local_port(), "the socket failed");
                    return;
                },
            }
            if let Err(error) = self.receive() {
                tracing::error!(%error, port = self.socket.local_port(), "the socket failed");
                return;
            }
            self.fire_timers();
            if !self.coalesce.is_zero() {
                tokio::time::sleep(self.coalesce).await;
            }
        }
    }

    fn receive(&mut self) -> io::Result<()> {
        for _ in 0..MAX_BATCHES {
            let now = now();
            let Self { socket, shared, lanes, timers, .. } = self;
            let mut replies = Vec::new();
            let more = socket.receive(|local, _, datagram| {
                let id = if *shared { local.and_then(loopback_lane) } else { Some(0) };
                let Some(id) = id else { return };
                let Some(lane) = lanes.get_mut(id).and_then(Option::as_deref_mut) else { return };
                if lane.admits(Direction::In, datagram) {
                    lane.session.handle_input(now, Input::Datagram(&mut datagram.to_vec()));
                    while let Some(reply) = lane.session.poll_transmit() {
                        replies.push((id, reply));
                    }
                    lane.settle(id, timers);
                }
            })?;
            for (id, reply) in replies {
                self.transmit(id, &reply);
            }
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn fire_timers(&mut self) {
        let now = now();
        while let Some(&Reverse((at, id))) = self.timers.peek()
            && at <= now
        {
            self.timers.pop();
            let Some(lane) = self.lanes.get_mut(id).and_then(Option::as_deref_mut) else { continue };
            if lane.scheduled != Some(at) {
                continue;
            }
            lane.scheduled = None;
            lane.session.handle_input(now, Input::Timeout);
            self.drain(id, now);
        }
    }

    fn handle_command(&mut self, command: Command) {
        let now = now();
        match command {
            Command::Add(session, states, reply) => {
                let id = self.lanes.len();
                let source = self.shared.then(|| loopback_address(id));
                let lane = LaneState { session: *session, source, states, filter: None, scheduled: None };
                self.lanes.push(Some(Box::new(lane)));
                let _ = reply.send(id);
                self.drain(id, now);
            }
            Command::With(id, action) => {
                if let Some(lane) = self.lanes.get_mut(id).and_then(Option::as_deref_mut) {
                    action(&mut lane.session, now);
                    self.drain(id, now);
                }
            }
            Command::Raw(id, datagram) => self.transmit(id, &datagram),
            Command::SetFilter(id, filter) => {
                if let Some(lane) = self.lanes.get_mut(id).and_then(Option::as_deref_mut) {
                    lane.filter = filter;
                }
            }
            Command::Remove(id) => {
                if let Some(lane) = self.lanes.get_mut(id).and_then(Option::as_deref_mut) {
                    lane.session.transport_mut().close(now);
                    self.drain(id, now);
                    self.lanes[id] = None;
                }
            }
        }
    }

    fn drain(&mut self, id: LaneId, now: Instant) {
        while let Some(datagram) =
            self.lanes.get_mut(id).and_then(Option::as_deref_mut).and_then(|lane| lane.session.poll_transmit())
        {
            self.transmit(id, &datagram);
        }
        if let Some(lane) = self.lanes.get_mut(id).and_then(Option::as_deref_mut) {
            lane.settle(id, &mut self.timers);
        }
    }

    fn transmit(&mut self, id: LaneId, datagram: &[u8]) {
        let Some(lane) = self.lanes.get_mut(id).and_then(Option::as_deref_mut) else { return };
        if lane.admits(Direction::Out, datagram) {
            self.socket.send(lane.source, lane.session.transport().remote_address(), datagram);
        }
    }
}

impl LaneState {
    fn admits(&mut self, direction: Direction, datagram: &[u8]) -> bool {
        self.filter.as_mut().is_none_or(|filter| filter(direction, datagram))
    }

    /// Tells of changed states and keeps the timer.
    fn settle(&mut self, id: LaneId, timers: &mut BinaryHeap<Reverse<(Instant, LaneId)>>) {
        if let Some(state) = self.session.poll_states().pop() {
            self.states.send_replace(state);
        }
        if let Some(at) = self.session.poll_timeout()
            && self.scheduled.is_none_or(|scheduled| at < scheduled)
        {
            self.scheduled = Some(at);
            timers.push(Reverse((at, id)));
        }
    }
}

fn loopback_address(id: LaneId) -> IpAddr {
    Ipv4Addr::from_bits(FIRST_LOOPBACK + id as u32).into()
}

fn loopback_lane(address: IpAddr) -> Option<LaneId> {
    let IpAddr::V4(address) = address else { return None };
    address.to_bits().checked_sub(FIRST_LOOPBACK).map(|id| id as usize)
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

#[allow(clippy::disallowed_methods, reason = "the driver is where time comes from")]
fn now() -> Instant {
    Instant::now()
}
