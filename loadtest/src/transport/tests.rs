//! The whole of a client's transport against a small ICE-lite server, on virtual time.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::*;

struct Pair {
    now: Instant,
    client: ClientTransport,
    server: LiteServer,
    states: Vec<TransportState>,
    received: Vec<Vec<u8>>,
    sealed: Vec<Vec<u8>>,
}

impl Pair {
    fn new(client_role: DtlsRole, server_profiles: &[SrtpProfile], announced: Option<&str>) -> Self {
        let now = crate::clock::tests::instant();
        let certificate = Certificate::generate().unwrap();
        let server_role = if client_role == DtlsRole::Client { DtlsRole::Server } else { DtlsRole::Client };
        let server = LiteServer::new(now, server_role, server_profiles, certificate.fingerprint(), 7).unwrap();
        let mut remote = server.parameters(SocketAddr::from((Ipv4Addr::LOCALHOST, 4444)));
        if let Some(fingerprint) = announced {
            remote.fingerprints = vec![fingerprint.to_owned()];
        }
        let config = TransportConfig { dtls_role: client_role, ..TransportConfig::new(certificate) };
        let client = ClientTransport::new(now, &config, remote, 1).unwrap();
        Self { now, client, server, states: Vec::new(), received: Vec::new(), sealed: Vec::new() }
    }

    fn deliver(&mut self, datagram: &[u8]) {
        let mut datagram = datagram.to_vec();
        match self.client.handle_input(self.now, Input::Datagram(&mut datagram)) {
            Some(Received::Rtp(packet)) => self.received.push(packet.to_vec()),
            Some(Received::Rtcp(packet)) => self.received.push(packet.to_vec()),
            Some(Received::SealedRtp(packet)) => self.sealed.push(packet.to_vec()),
            None => {}
        }
    }

    /// Lets both talk until the given time is over. The server is deaf where `deaf` says so.
    fn run(&mut self, time: Duration, deaf: bool) {
        let end = self.now + time;
        loop {
            while let Some(output) = self.client.poll_output() {
                match output {
                    Output::Transmit(datagram) if !deaf => {
                        // A server that is refused has nothing to say.
                        for answer in self.server.handle(self.now, &datagram).unwrap_or_default() {
                            self.deliver(&answer);
                        }
                    }
                    Output::Transmit(_) => {}
                    Output::State(state) => self.states.push(state),
                }
            }
            match self.client.poll_timeout() {
                Some(at) if at <= end => self.now = at.max(self.now),
                _ => break,
            }
            self.client.handle_input(self.now, Input::Timeout);
        }
        self.now = end;
    }
}

const RTP: [u8; 20] = [0x80, 96, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6, 7, 8];

#[test]
fn connects_and_carries_media_under_every_profile() {
    for profile in SrtpProfile::CHROMIUM {
        let mut pair = Pair::new(DtlsRole::Client, &[profile], None);
        pair.run(Duration::from_secs(1), false);
        assert_eq!(pair.states, [TransportState::Connected(profile)]);

        pair.client.send_rtp(&RTP);
        let Some(Output::Transmit(sealed)) = pair.client.poll_output() else { panic!("nothing sent") };
        let server = &mut pair.server;
        assert_eq!(server.open_rtp(&mut sealed.to_vec()).unwrap(), &RTP);

        let sealed = server.seal_rtp(&RTP).unwrap();
        pair.deliver(&sealed);
        pair.deliver(&sealed);
        assert_eq!(pair.received, [RTP]);
        assert_eq!(pair.client.counters().dropped_srtp, 1, "the replay");
    }
}

/// A flight in the clear with record numbers that were not used yet (RFC 6347 section 4.2.4).
fn repeated(flight: &[u8]) -> Vec<u8> {
    let mut flight = flight.to_vec();
    let mut rest = &mut flight[..];
    while let Some((header, records)) = rest.split_at_mut_checked(13) {
        header[10] += 32;
        rest = &mut records[usize::from(u16::from_be_bytes([header[11], header[12]]))..];
    }
    flight
}

/// The server's repetition may come right before the client would have repeated its own flight.
#[test]
fn a_flight_that_was_lost_is_sent_again_whatever_the_server_repeats() {
    let mut pair = Pair::new(DtlsRole::Client, &[SrtpProfile::AeadAes128Gcm], None);
    pair.client.handle_input(pair.now, Input::Timeout);
    let mut servers: Vec<Vec<u8>> = Vec::new();
    // A check, a ClientHello, and another with the cookie: the answer to that is the server's flight.
    for _ in 0..3 {
        let Some(Output::Transmit(datagram)) = pair.client.poll_output() else { panic!("nothing to say") };
        servers = pair.server.handle(pair.now, &datagram).unwrap();
        servers.iter().for_each(|answer| pair.deliver(answer));
    }
    assert!(matches!(pair.client.poll_output(), Some(Output::Transmit(_))), "the answer to it, which gets lost");
    servers.iter().for_each(|flight| pair.deliver(&repeated(flight)));
    assert!(pair.client.poll_output().is_none());
    pair.run(Duration::from_secs(1), false);
    assert_eq!(pair.client.state(), &TransportState::Connected(SrtpProfile::AeadAes128Gcm));
}

#[test]
fn can_be_the_dtls_server() {
    let mut pair = Pair::new(DtlsRole::Server, &[SrtpProfile::AeadAes128Gcm], None);
    // The first flight was made before the client listened: it travels when ICE has its path.
    pair.run(Duration::from_millis(100), false);
    while let Some(flight) = pair.server.poll_transmit() {
        pair.deliver(&flight);
    }
    pair.run(Duration::from_secs(1), false);
    assert_eq!(pair.states, [TransportState::Connected(SrtpProfile::AeadAes128Gcm)]);
}

#[test]
fn a_server_with_another_certificate_is_refused() {
    let mut pair = Pair::new(DtlsRole::Client, &SrtpProfile::CHROMIUM, Some("00:11"));
    pair.run(Duration::from_secs(1), false);
    assert!(matches!(&pair.states[..], [TransportState::Failed(reason)] if reason.contains("fingerprint")));
    assert_eq!(pair.client.poll_timeout(), None);
}

#[test]
fn consent_is_asked_for_and_runs_out() {
    let mut pair = Pair::new(DtlsRole::Client, &[SrtpProfile::AeadAes128Gcm], None);
    pair.run(Duration::from_secs(60), false);
    assert!((22..=32).contains(&pair.server.checks()), "{} checks in a minute", pair.server.checks());
    pair.run(Duration::from_secs(26), true);
    assert_eq!(pair.client.state(), &TransportState::Connected(SrtpProfile::AeadAes128Gcm));
    pair.run(Duration::from_secs(6), true);
    assert_eq!(pair.client.state(), &TransportState::Disconnected);
}

#[test]
fn an_ice_restart_keeps_the_keys() {
    let mut pair = Pair::new(DtlsRole::Client, &[SrtpProfile::AeadAes128Gcm], None);
    pair.run(Duration::from_secs(1), false);
    let (old, checks) = (pair.client.local_ice().clone(), pair.server.checks());
    let remote = pair.server.restart_ice();
    pair.client.restart_ice(pair.now, remote);
    assert_ne!(pair.client.local_ice(), &old);
    pair.run(Duration::from_secs(1), false);
    assert_eq!(pair.server.checks(), checks + 1);
    let sealed = pair.server.seal_rtp(&RTP).unwrap();
    pair.deliver(&sealed);
    assert_eq!(pair.received.len(), 1);
}

#[test]
fn only_every_nth_packet_is_opened_when_asked_to() {
    let mut pair = Pair::new(DtlsRole::Client, &[SrtpProfile::AeadAes128Gcm], None);
    pair.client.open_every = 4;
    pair.run(Duration::from_secs(1), false);
    for number in 0..40 {
        let mut packet = RTP;
        packet[3] = number;
        let sealed = pair.server.seal_rtp(&packet).unwrap();
        pair.deliver(&sealed);
    }
    assert_eq!(
        pair.received.iter().map(|packet| packet[3]).collect::<Vec<_>>(),
        (0..40).step_by(4).collect::<Vec<_>>()
    );
    assert_eq!(pair.sealed.len(), 30);
    assert!(pair.sealed.iter().all(|packet| packet[..3] == RTP[..3] && packet.len() == RTP.len()));
}

mod any_bytes {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn are_counted_and_dropped(datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..20)) {
            let mut pair = Pair::new(DtlsRole::Client, &[SrtpProfile::AeadAes128Gcm], None);
            pair.run(Duration::from_secs(1), false);
            let sent = datagrams.len() as u64;
            for datagram in datagrams {
                pair.deliver(&datagram);
            }
            prop_assert!(pair.received.is_empty());
            prop_assert!(pair.client.counters().received >= sent);
        }
    }
}
