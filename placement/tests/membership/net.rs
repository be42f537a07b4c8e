//! A network in memory: messages as bytes, links that can be cut, processes that stall, and machines that answer for
//! them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use sluice_placement::{GossipTransport, NodeFacts, Witness};
use sluice_proto::ids::NodeInstance;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Messages that a node's socket holds.
const SOCKET: usize = 100;

/// Between two signs of life on a connection.
const KEEP_ALIVE: Duration = Duration::from_millis(500);

type Message = (SocketAddr, Bytes);

#[derive(Clone, Default)]
pub(crate) struct Net(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    sockets: HashMap<SocketAddr, mpsc::Sender<Message>>,
    cut: HashSet<(SocketAddr, SocketAddr)>,
    /// Processes that do not run now: what they would have sent or received.
    stalled: HashMap<SocketAddr, Stall>,
    /// Machines that answer nobody.
    unplugged: HashSet<SocketAddr>,
    /// Whether there are connections besides gossip.
    linked: bool,
}

struct Stall {
    since: Instant,
    messages: Vec<(SocketAddr, Message)>,
}

impl Net {
    pub(crate) fn open(&self, addr: SocketAddr) -> Port {
        let (sender, inbox) = mpsc::channel(SOCKET);
        assert!(self.state().sockets.insert(addr, sender).is_none(), "{addr} is taken");
        Port { net: self.clone(), addr, inbox }
    }

    pub(crate) fn witness(&self, addr: SocketAddr) -> Eyes {
        Eyes { net: self.clone(), addr, began: Instant::now() }
    }

    /// Whatever one says to the other is lost from now on, both ways.
    pub(crate) fn cut(&self, a: SocketAddr, b: SocketAddr) {
        self.state().cut.extend([(a, b), (b, a)]);
    }

    pub(crate) fn heal(&self, a: SocketAddr, b: SocketAddr) {
        self.state().cut.retain(|link| *link != (a, b) && *link != (b, a));
    }

    /// The process at an address stops, as by SIGSTOP: its sockets stay.
    pub(crate) fn stall(&self, addr: SocketAddr) {
        self.state().stalled.insert(addr, Stall { since: Instant::now(), messages: Vec::new() });
    }

    /// It goes on, with everything that waits in its sockets.
    pub(crate) fn go_on(&self, addr: SocketAddr) {
        let stall = self.state().stalled.remove(&addr).expect("it is stalled");
        for (to, (from, message)) in stall.messages {
            self.send(from, to, message);
        }
    }

    /// The machine at an address loses power: nobody says that nobody is there.
    pub(crate) fn unplug(&self, addr: SocketAddr) {
        self.state().unplugged.insert(addr);
    }

    /// The transport of a node ends.
    pub(crate) fn close(&self, addr: SocketAddr) {
        self.state().sockets.remove(&addr);
    }

    /// Nodes have connections with each other from now on.
    pub(crate) fn link(&self) {
        self.state().linked = true;
    }

    /// Sends as if from an address.
    pub(crate) fn send(&self, from: SocketAddr, to: SocketAddr, message: Bytes) {
        let mut state = self.state();
        if state.cut.contains(&(from, to)) {
            return;
        }
        for end in [from, to] {
            if let Some(stall) = state.stalled.get_mut(&end) {
                if stall.messages.len() < SOCKET {
                    stall.messages.push((to, (from, message)));
                }
                return;
            }
        }
        if let Some(socket) = state.sockets.get(&to) {
            // What does not fit is lost.
            let _ = socket.try_send((from, message));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

pub(crate) struct Port {
    net: Net,
    addr: SocketAddr,
    inbox: mpsc::Receiver<Message>,
}

impl GossipTransport for Port {
    fn send(&mut self, to: SocketAddr, message: Bytes) {
        assert!(message.len() <= 65_507, "{} bytes", message.len());
        self.net.send(self.addr, to, message);
    }

    async fn recv(&mut self) -> Option<Message> {
        self.inbox.recv().await
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.net.state().sockets.remove(&self.addr);
    }
}

/// What a node sees of the others besides gossip.
pub(crate) struct Eyes {
    net: Net,
    addr: SocketAddr,
    began: Instant,
}

impl Witness for Eyes {
    fn arrived(&self, instance: &NodeInstance) -> Option<u64> {
        let state = self.net.state();
        let other = crate::addr_of(&instance.node);
        if !state.linked || !state.sockets.contains_key(&other) {
            return None;
        }
        let silent_since = [self.addr, other].iter().filter_map(|end| state.stalled.get(end)).map(|s| s.since).min();
        let last = silent_since.unwrap_or_else(Instant::now);
        Some((last - self.began).as_millis() as u64 / KEEP_ALIVE.as_millis() as u64)
    }

    fn refuses(&self, facts: &NodeFacts) -> impl Future<Output = bool> + Send + 'static {
        let (net, from, to) = (self.net.clone(), self.addr, facts.grpc_addr);
        async move {
            let answers = {
                let state = net.state();
                !state.cut.contains(&(from, to)) && !state.unplugged.contains(&to)
            };
            if !answers {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            answers && !net.state().sockets.contains_key(&to)
        }
    }
}
