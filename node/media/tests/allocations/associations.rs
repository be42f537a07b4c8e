//! Two ends of a DTLS handshake, so that what one of them keeps can be weighed.

use std::sync::Arc;
use std::time::Instant;

use sluice_media::secure::dtls::{Association, DtlsCertificate, Outcome};
use sluice_proto::ortc::{DtlsParameters, DtlsRole};

/// A node and a client, which is a node too.
pub(crate) struct Ends {
    now: Instant,
    node: Arc<DtlsCertificate>,
    client: Arc<DtlsCertificate>,
}

impl Ends {
    #[allow(clippy::disallowed_methods, reason = "any instant will do")]
    pub(crate) fn new() -> Self {
        let certificate = || DtlsCertificate::generate().expect("randomness");
        Self { now: Instant::now(), node: certificate(), client: certificate() }
    }

    /// The node's end of an association that is connected; it waits for the client's hello, or calls.
    pub(crate) fn connected(&self, calls: bool) -> Association {
        let (mut end, mut peer) = (Association::new(self.node.clone()), Association::new(self.client.clone()));
        let (role, peer_role) =
            if calls { (DtlsRole::Server, DtlsRole::Client) } else { (DtlsRole::Client, DtlsRole::Server) };
        peer.connect(self.now, &parameters(peer_role, &self.node), true);
        end.connect(self.now, &parameters(role, &self.client), true);
        let mut connected = false;
        while !exchange(self.now, &mut end, &mut peer, &mut connected) {}
        assert!(connected);
        end
    }

    /// An association that was asked for its certificate, and got all that can be sent without the answer.
    pub(crate) fn attacked(&self) -> Association {
        let (mut end, mut peer) = (Association::new(self.node.clone()), Association::new(self.client.clone()));
        peer.connect(self.now, &parameters(DtlsRole::Server, &self.node), true);
        end.connect(self.now, &parameters(DtlsRole::Client, &self.client), true);
        // Hello, request to verify it, hello.
        for _ in 0..2 {
            while let Some(datagram) = peer.poll_transmit() {
                end.handle(self.now, &datagram).expect("a hello");
            }
            while let Some(datagram) = end.poll_transmit() {
                peer.handle(self.now, &datagram).expect("in its turn");
            }
        }
        for (message, kind, offset) in (0..8).flat_map(|m| [1, 11, 15, 16].map(|kind| (m, kind, m * kind % 100))) {
            for offset in [offset, offset + 1] {
                let _ = end.handle(self.now, &fragment(kind, message, offset));
            }
        }
        let finished = [&[22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 48][..], &[7; 48]].concat();
        for _ in 0..1_000 {
            let _ = end.handle(self.now, &finished);
        }
        end
    }
}

fn parameters(role: DtlsRole, certificate: &DtlsCertificate) -> DtlsParameters {
    DtlsParameters { role, fingerprints: certificate.fingerprints() }
}

/// A plaintext record with a byte of a handshake message of 8 KiB.
fn fragment(kind: u8, message: u8, offset: u8) -> Vec<u8> {
    let head = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9, 0, 13];
    [&head[..], &[kind, 0, 32, 0, 0, message, 0, 0, offset, 0, 0, 1, offset]].concat()
}

/// Lets both ends take what the other has sent. Yields whether nothing was.
fn exchange(now: Instant, end: &mut Association, peer: &mut Association, connected: &mut bool) -> bool {
    let mut quiet = true;
    while let Some(datagram) = peer.poll_transmit() {
        quiet = false;
        *connected |= matches!(end.handle(now, &datagram), Ok(Some(Outcome::Connected(_))));
    }
    while let Some(datagram) = end.poll_transmit() {
        quiet = false;
        let _ = peer.handle(now, &datagram);
    }
    quiet
}
