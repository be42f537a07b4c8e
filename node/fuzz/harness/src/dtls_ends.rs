//! Two ends of a DTLS handshake on virtual time. A node is the client too: it knows both roles.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sluice_media::secure::dtls::{Association, DtlsCertificate, Outcome, SrtpKeyMaterial};
use sluice_proto::ortc::{DtlsParameters, DtlsRole};

use crate::reader::Reader;

/// Datagrams and bytes that one input may make an end send: a flight with a certificate, and goodbye.
const MAX_FLIGHT: usize = 8;
const MAX_FLIGHT_LEN: usize = 4_096;

/// The certificates of both ends. They are made once: that takes longer than a handshake.
fn certificates() -> &'static [Arc<DtlsCertificate>; 2] {
    static CERTIFICATES: OnceLock<[Arc<DtlsCertificate>; 2]> = OnceLock::new();
    CERTIFICATES.get_or_init(|| [(); 2].map(|()| DtlsCertificate::generate().expect("randomness")))
}

/// Where virtual time begins.
pub(crate) fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    #[allow(clippy::disallowed_methods, reason = "an arbitrary origin of virtual time")]
    *ORIGIN.get_or_init(Instant::now)
}

/// The certificate of a node.
pub(crate) fn certificate() -> Arc<DtlsCertificate> {
    certificates()[0].clone()
}

/// The certificate of a client.
pub(crate) fn client_certificate() -> Arc<DtlsCertificate> {
    certificates()[1].clone()
}

/// One end.
pub(crate) struct End {
    association: Association,
    /// What it has sent and nobody has taken yet.
    pub(crate) sent: VecDeque<Vec<u8>>,
    pub(crate) outcomes: Vec<Outcome>,
}

impl End {
    /// An end that knows what to expect of the other one, which has the given role.
    fn new(certificate: usize, other: DtlsRole, now: Instant) -> Self {
        let own = &certificates()[certificate];
        let fingerprints = certificates()[1 - certificate].fingerprints();
        let mut end = Self { association: Association::new(own.clone()), sent: VecDeque::new(), outcomes: Vec::new() };
        let outcome = end.association.connect(now, &DtlsParameters { role: other, fingerprints }, true);
        end.after(outcome);
        end
    }

    /// A datagram comes in. Returns how many bytes that made it send.
    pub(crate) fn receive(&mut self, now: Instant, datagram: &[u8]) -> usize {
        let outcome = self.association.handle(now, datagram);
        self.after(outcome.ok().flatten())
    }

    fn after(&mut self, outcome: Option<Outcome>) -> usize {
        self.outcomes.extend(outcome);
        assert!(self.outcomes.len() <= 2, "an association begins and ends once: {:?}", self.outcomes);
        let before = self.sent.len();
        self.sent.extend(std::iter::from_fn(|| self.association.poll_transmit()).map(|sent| sent.to_vec()));
        let len = self.sent.iter().skip(before).map(Vec::len).sum();
        assert!(self.sent.len() - before <= MAX_FLIGHT && len <= MAX_FLIGHT_LEN, "{len} bytes at once");
        len
    }

    fn wake(&mut self, now: Instant) {
        if self.association.poll_timeout().is_some_and(|at| at <= now) {
            let outcome = self.association.handle_timeout(now);
            self.after(outcome);
            assert!(self.association.poll_timeout().is_none_or(|at| at > now), "it would be woken for ever");
        }
    }

    /// Its keys, if it came to some.
    pub(crate) fn keys(&self) -> Option<&SrtpKeyMaterial> {
        self.outcomes.iter().find_map(|outcome| match outcome {
            Outcome::Connected(keys) => Some(keys),
            _ => None,
        })
    }
}

/// Both, and the time that they know.
pub(crate) struct Ends {
    pub(crate) now: Instant,
    pub(crate) node: End,
    pub(crate) client: End,
}

impl Ends {
    /// Ends of which the node waits, or calls.
    pub(crate) fn new(node_calls: bool) -> Self {
        let now = origin();
        let (node, client) =
            if node_calls { (DtlsRole::Server, DtlsRole::Client) } else { (DtlsRole::Client, DtlsRole::Server) };
        Self { now, node: End::new(0, node, now), client: End::new(1, client, now) }
    }

    /// Time passes, and timers fire when they are due.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let ends = [&self.node, &self.client];
        let mut next = ends.iter().filter_map(|end| end.association.poll_timeout()).min();
        while let Some(at) = next.filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.node.wake(self.now);
            self.client.wake(self.now);
            next = [&self.node, &self.client].iter().filter_map(|end| end.association.poll_timeout()).min();
        }
        self.now = end;
    }

    /// Both get all that the other sends, for as long as it takes them to repeat what was lost.
    pub(crate) fn finish(&mut self) {
        for _ in 0..100 {
            while !self.node.sent.is_empty() || !self.client.sent.is_empty() {
                for datagram in std::mem::take(&mut self.client.sent) {
                    self.node.receive(self.now, &datagram);
                }
                for datagram in std::mem::take(&mut self.node.sent) {
                    self.client.receive(self.now, &datagram);
                }
            }
            if self.node.keys().is_some() && self.client.keys().is_some() {
                return;
            }
            self.pass(Duration::from_millis(250));
        }
    }

    /// What one end believes to be the other's is that, if both believe anything.
    pub(crate) fn check_keys(&self) {
        if let (Some(node), Some(client)) = (self.node.keys(), self.client.keys()) {
            assert!(node.profile == client.profile && node.local == client.remote && node.remote == client.local);
        }
    }

    pub(crate) fn assert_connected(&self) {
        assert!(self.node.keys().is_some(), "the node: {:?}", self.node.outcomes);
        assert!(self.client.keys().is_some(), "the client: {:?}", self.client.outcomes);
        self.check_keys();
    }
}

/// A plaintext record.
pub(crate) fn record(content: u8, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1];
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

/// A plaintext record with a fragment of a handshake message.
pub(crate) fn fragment(kind: u8, message: u16, total: usize, offset: usize, body: &[u8]) -> Vec<u8> {
    let u24 = |number: usize| (number as u32).to_be_bytes();
    let mut fragment = vec![kind];
    fragment.extend(&u24(total)[1..]);
    fragment.extend(message.to_be_bytes());
    fragment.extend(&u24(offset)[1..]);
    fragment.extend(&u24(body.len())[1..]);
    fragment.extend(body);
    record(22, &fragment)
}

/// A whole handshake message, in one record or in two.
pub(crate) fn handshake(reader: &mut Reader<'_>, kind: u8, message: u16, body: &[u8]) -> Vec<Vec<u8>> {
    let at = usize::from(reader.u8()) * 4;
    match body.split_at_checked(at) {
        Some((head, tail)) if at > 0 => {
            vec![fragment(kind, message, body.len(), at, tail), fragment(kind, message, body.len(), 0, head)]
        }
        _ => vec![fragment(kind, message, body.len(), 0, body)],
    }
}
