//! Workers on virtual time: the real handles, mailboxes, drivers and cores, but no thread and no socket. Whoever
//! simulates them turns them, brings the datagrams that came and takes those that are sent.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Poll, Registry, Token};
use quinn_udp::RecvMeta;
use sluice_media::drop_reason::DropCounters;
use sluice_media::messages::{WorkerEvent, WorkerIndex};
use sluice_media::secure::dtls::DtlsCertificate;
use sluice_media::{AudioLimits, DataLimits, MediaConfig, Transmit};
use tokio::sync::mpsc;

use super::driver::{Driver, DriverConfig};
use super::mailbox::Mailbox;
use super::socket::{Batch, DatagramSocket, MAX_MESSAGES};
use super::{EVENT_QUEUE_LEN, FrameOut, WorkerHandle, now};

/// Room for a datagram.
const BUFFER_LEN: usize = 2048;

/// A worker, and the way in that its control plane has.
pub(crate) struct SimulatedWorker {
    driver: Driver<SimulatedSocket>,
    pub(crate) handle: WorkerHandle,
    turned_at: Instant,
}

/// The workers of a node, and what they tell.
pub(crate) fn workers(
    count: u16,
    certificate: &Arc<DtlsCertificate>,
    frame_out: &Arc<dyn FrameOut>,
    mut seed: impl FnMut() -> u64,
) -> (Vec<SimulatedWorker>, mpsc::Receiver<(WorkerIndex, WorkerEvent)>) {
    let polls: Vec<Poll> = (0..count).map(|_| Poll::new().unwrap()).collect();
    let mailboxes: Arc<[_]> = polls.iter().map(|poll| Arc::new(Mailbox::new(poll.registry()).unwrap())).collect();
    let (sender, events) = mpsc::channel(EVENT_QUEUE_LEN);
    let workers = (0..count).zip(polls).map(|(index, poll)| {
        let worker = WorkerIndex(index);
        let (mailboxes, frame_out) = (Arc::clone(&mailboxes), Arc::clone(frame_out));
        let handle = WorkerHandle::new(worker, Arc::clone(&mailboxes[usize::from(index)]));
        let socket = SimulatedSocket::default();
        let config = DriverConfig { worker, socket, poll, mailboxes, events: sender.clone(), frame_out };
        let epoch = (now(), Duration::from_secs(1_700_000_000));
        let media = MediaConfig {
            worker,
            certificate: Arc::clone(certificate),
            epoch,
            seed: seed(),
            audio: AudioLimits::default(),
            data: DataLimits::default(),
        };
        SimulatedWorker { driver: Driver::new(config, media).unwrap(), handle, turned_at: now() }
    });
    (workers.collect(), events)
}

impl SimulatedWorker {
    /// A datagram comes to the worker's socket.
    pub(crate) fn receive(&mut self, source: SocketAddr, data: Vec<u8>) {
        self.driver.socket.received.push_back((now(), source, data));
    }

    /// Lets the worker do what there is to do, and yields what it sends.
    pub(crate) fn turn(&mut self) -> Vec<Transmit> {
        self.driver.readable = true;
        let asleep_since = std::mem::replace(&mut self.turned_at, now());
        assert!(self.driver.turn(Some(asleep_since)), "nobody has stopped it");
        std::mem::take(&mut self.driver.socket.sent)
    }
}

struct SimulatedSocket {
    /// With the time of arrival.
    received: VecDeque<(Instant, SocketAddr, Vec<u8>)>,
    sent: Vec<Transmit>,
    buffers: Vec<u8>,
    metas: Vec<RecvMeta>,
}

impl Default for SimulatedSocket {
    fn default() -> Self {
        let (buffers, metas) = (vec![0; MAX_MESSAGES * BUFFER_LEN], Vec::new());
        Self { received: VecDeque::new(), sent: Vec::new(), buffers, metas }
    }
}

impl DatagramSocket for SimulatedSocket {
    fn register(&mut self, _: &Registry, _: Token) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, max_messages: usize, measured: bool) -> (Batch<'_>, bool) {
        let waited = self.received.front().map(|(at, ..)| now() - *at).filter(|_| measured);
        self.metas.clear();
        let count = self.received.len().min(max_messages).min(MAX_MESSAGES);
        for ((_, addr, data), buffer) in self.received.drain(..count).zip(self.buffers.chunks_mut(BUFFER_LEN)) {
            let len = data.len();
            buffer[..len].copy_from_slice(&data);
            self.metas.push(RecvMeta { addr, len, stride: len, ..RecvMeta::default() });
        }
        let (buffers, metas) = (&mut self.buffers[..], &self.metas[..]);
        (Batch { buffers, buffer_len: BUFFER_LEN, metas, waited }, !self.received.is_empty())
    }

    fn send(&mut self, transmit: Transmit) -> Option<Vec<u8>> {
        self.sent.push(transmit);
        None
    }

    fn send_waiting(&mut self) -> Option<Vec<u8>> {
        None
    }

    fn drops(&self) -> DropCounters {
        DropCounters::default()
    }
}
