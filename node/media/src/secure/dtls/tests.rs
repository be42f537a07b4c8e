//! Hostile datagrams before, during and after a handshake with a client of rtc-dtls; media are the transport's tests.

mod parts;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use proptest::prelude::*;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_shared::TransportProtocol;
use sluice_proto::ortc::{DtlsFingerprint, DtlsParameters, DtlsRole};

use super::record::{MAX_DATAGRAM_LEN, handshake_record, records};
use super::*;
use crate::drop_reason::DropReason;

const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const CERTIFICATE: u8 = 11;

fn server_address() -> SocketAddr {
    ([192, 0, 2, 1], 4444).into()
}

/// A server and a client, and what is under way between them.
struct Pair {
    now: Instant,
    server: Association,
    client: Endpoint,
    client_role: DtlsRole,
    fingerprint: DtlsFingerprint,
    outcomes: Vec<Outcome>,
    to_server: VecDeque<Vec<u8>>,
    to_client: VecDeque<Vec<u8>>,
    client_done: bool,
    client_closed: bool,
    /// Application data that came to the client.
    client_data: Vec<Vec<u8>>,
}

impl Pair {
    /// A pair of which the client has not said hello, or for [`DtlsRole::Server`] is not called yet.
    #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn new(client_role: DtlsRole) -> Self {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["client".to_owned()], provider.crypto()).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificate.certificate[0]);
        let fingerprint = DtlsFingerprint::Sha256 { value: digest.as_ref().try_into().unwrap() };
        let is_client = client_role == DtlsRole::Client;
        let config = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(vec![
                SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
                SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            ])
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .build(is_client, Some(server_address()))
            .unwrap();
        let (config, now) = (Arc::new(config), Instant::now());
        let mut client = Endpoint::new(server_address(), TransportProtocol::UDP, (!is_client).then(|| config.clone()));
        if is_client {
            client.connect(now, server_address(), config, None).unwrap();
        }
        let mut pair = Self {
            now,
            server: Association::new(DtlsCertificate::generate().unwrap()),
            client,
            client_role,
            fingerprint,
            outcomes: Vec::new(),
            to_server: VecDeque::new(),
            to_client: VecDeque::new(),
            client_done: false,
            client_closed: false,
            client_data: Vec::new(),
        };
        pair.drain();
        pair
    }

    fn connect(&mut self) {
        let parameters = DtlsParameters { role: self.client_role, fingerprints: vec![self.fingerprint] };
        self.outcomes.extend(self.server.connect(self.now, &parameters, true));
        self.drain();
    }

    fn drain(&mut self) {
        self.to_server.extend(std::iter::from_fn(|| self.client.poll_transmit()).map(|sent| sent.message.to_vec()));
        self.to_client.extend(std::iter::from_fn(|| self.server.poll_transmit()).map(|sent| sent.to_vec()));
    }

    /// A datagram comes in from the client's address, whoever sent it.
    fn receive(&mut self, datagram: &[u8]) -> Result<(), DropReason> {
        let result = self.server.handle(self.now, datagram).map(|outcome| self.outcomes.extend(outcome));
        self.drain();
        result
    }

    fn deliver_to_client(&mut self) {
        while let Some(datagram) = self.to_client.pop_front() {
            let read = self.client.read(self.now, server_address(), None, BytesMut::from(&datagram[..]));
            for event in read.unwrap_or_default() {
                self.client_done |= matches!(event, EndpointEvent::HandshakeComplete);
                self.client_closed |= matches!(event, EndpointEvent::PeerClosed);
                if let EndpointEvent::ApplicationData(data) = event {
                    self.client_data.push(data.to_vec());
                }
            }
            self.drain();
        }
    }

    /// One flight of the client and the answer to it.
    fn round(&mut self) {
        for datagram in std::mem::take(&mut self.to_server) {
            let _ = self.receive(&datagram);
        }
        self.deliver_to_client();
    }

    /// Both ends talk until neither has anything to say.
    fn finish(&mut self) {
        while !self.to_server.is_empty() || !self.to_client.is_empty() {
            self.round();
        }
    }

    /// Time passes in steps of 10 ms, and timers fire.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(10);
            if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                self.outcomes.extend(self.server.handle_timeout(self.now));
            }
            let _ = self.client.handle_timeout(server_address(), self.now);
            self.drain();
            self.finish();
        }
    }

    fn assert_connected(&self) {
        assert!(matches!(self.outcomes[..], [Outcome::Connected(_)]), "{:?}", self.outcomes);
        assert!(self.client_done);
    }

    fn connected(client_role: DtlsRole) -> Self {
        let mut pair = Self::new(client_role);
        pair.connect();
        pair.finish();
        pair.assert_connected();
        pair
    }

    /// A pair whose handshake has come this many rounds far; the client's next flight is under way.
    fn underway(client_role: DtlsRole, rounds: usize) -> Self {
        let mut pair = Self::new(client_role);
        pair.connect();
        pair.deliver_to_client();
        (0..rounds).for_each(|_| pair.round());
        pair
    }

    /// What the client says, in records with one fragment of at most `len` bytes, one a datagram.
    fn cut(&mut self, len: usize) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.to_server).iter().flat_map(|datagram| cut(datagram, len)).collect()
    }
}

/// Makes records with a fragment each of a datagram's records; encrypted ones are left as they are.
fn cut(datagram: &[u8], len: usize) -> Vec<Vec<u8>> {
    let cut_record = |record: super::record::Record<'_>| -> Vec<Vec<u8>> {
        if (record.content, record.epoch) != (HANDSHAKE, 0) {
            return vec![record.whole.to_vec()];
        }
        let fragments = super::record::fragments(record.body);
        let pieces = fragments.flat_map(|whole| {
            // An empty message is one piece.
            (0..whole.body.len().div_ceil(len).max(1)).map(move |index| {
                let piece = &whole.body[index * len..((index + 1) * len).min(whole.body.len())];
                plain(&fragment(whole.kind, whole.total, whole.message, whole.offset + index * len, piece))
            })
        });
        pieces.collect()
    };
    records(datagram).unwrap().flat_map(cut_record).collect()
}

fn fragment(kind: u8, total: usize, message: u16, offset: usize, body: &[u8]) -> Vec<u8> {
    let u24 = |n: usize| (n as u32).to_be_bytes()[1..].to_vec();
    [vec![kind], u24(total), message.to_be_bytes().to_vec(), u24(offset), u24(body.len()), body.to_vec()].concat()
}

fn record(content: u8, epoch: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut record = vec![content, 0xfe, 0xfd];
    record.extend(epoch.to_be_bytes());
    record.extend([0, 0]);
    record.extend(sequence.to_be_bytes());
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn plain(body: &[u8]) -> Vec<u8> {
    record(HANDSHAKE, 0, 7, body)
}

/// `count` fragments of a byte each of one message, `per_datagram` records a datagram, the first one last or in order.
fn tiny_fragments(kind: u8, message: u16, count: usize, per_datagram: usize, first_last: bool) -> Vec<Vec<u8>> {
    let mut order: Vec<usize> = (0..count).collect();
    if first_last {
        order.rotate_left(1);
    }
    let records: Vec<_> = order.iter().map(|at| plain(&fragment(kind, count, message, *at, &[*at as u8]))).collect();
    records.chunks(per_datagram).map(|datagram| datagram.concat()).collect()
}

/// All that anybody can send without a key to an association, wherever it is.
fn hostile() -> Vec<Vec<u8>> {
    let mut datagrams = vec![
        record(ALERT, 0, 1, &[2, 40]),
        record(ALERT, 0, 2, &[1, 0]),
        record(ALERT, 0, u32::MAX, &[1, 90]),
        record(ALERT, 1, 3, &[7; 26]),
        record(ALERT, 1, 3, &[2, 40]),
        record(HANDSHAKE, 1, 4, &[7; 48]),
        record(HANDSHAKE, 1, 4, &fragment(20, 12, 5, 0, &[1; 12])),
        record(20, 0, 5, &[1]),
        record(23, 0, 6, b"data"),
        record(23, 1, 6, &[7; 40]),
        record(99, 0, 7, &[7; 40]),
        record(HANDSHAKE, 2, 8, &[7; 48]),
        // Numbers far ahead, so that the real ones look old.
        [HANDSHAKE, 0xfe, 0xfd, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 1].to_vec(),
        [HANDSHAKE, 0xfe, 0xfd, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 1, 1].to_vec(),
        vec![0; 40],
        vec![HANDSHAKE; 60_000],
    ];
    for message in [0, 1, 2, 3, 4, 5, 6, 9, u16::MAX] {
        for kind in [0, 1, 2, 3, 4, 11, 12, 13, 14, 16, 20, 99] {
            datagrams.push(plain(&fragment(kind, 3000, message, 0, &[1; 60])));
            datagrams.push(plain(&fragment(kind, 300, message, 290, &[1; 60])));
            datagrams.push(plain(&fragment(kind, 0x00ff_ffff, message, 0, &[1; 60])));
            datagrams.push(plain(&fragment(kind, 60, message, 0, &[])));
        }
    }
    datagrams
}

#[test]
fn tiny_fragments_cost_nothing_before_connect() {
    for (count, per_datagram, first_last) in [(30_000, 2_500, true), (30_000, 56, true), (14_000, 56, false)] {
        let mut pair = Pair::new(DtlsRole::Client);
        for datagram in tiny_fragments(CLIENT_HELLO, 0, count, per_datagram, first_last) {
            let _ = pair.receive(&datagram);
        }
        pair.connect();
        pair.finish();
        pair.assert_connected();
    }
}

#[test]
fn tiny_fragments_cost_nothing_during_the_handshake() {
    for rounds in 0..2 {
        for (count, per_datagram, first_last) in
            [(60_000, 2_500, true), (30_000, 56, true), (14_000, 56, false), (4_000, 56, false)]
        {
            let mut pair = Pair::underway(DtlsRole::Client, rounds);
            for message in 1..6 {
                for datagram in tiny_fragments(CERTIFICATE, message, count, per_datagram, first_last) {
                    let _ = pair.receive(&datagram);
                }
            }
            pair.finish();
            pair.pass(Duration::from_secs(2));
            pair.assert_connected();
        }
    }
}

#[test]
fn plaintext_neither_costs_nor_changes_anything_once_connected() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut pair = Pair::connected(role);
        pair.now += Duration::from_secs(1);
        for datagram in tiny_fragments(CERTIFICATE, 6, 30_000, 2_500, true)
            .into_iter()
            .chain(tiny_fragments(CERTIFICATE, 6, 14_000, 56, false))
            .chain(hostile())
        {
            if !records(&datagram).is_some_and(|mut records| records.any(|r| r.epoch == 1 && r.body.len() == 48)) {
                assert!(pair.receive(&datagram).is_err());
            }
        }
        assert!(pair.to_client.is_empty(), "nothing of it is answered");
        pair.client.close(pair.now).unwrap();
        pair.drain();
        pair.finish();
        assert_eq!(pair.outcomes.last(), Some(&Outcome::Closed), "the real goodbye is heard still");
    }
}

#[test]
fn nothing_without_a_key_fails_a_handshake() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        for datagram in hostile() {
            for rounds in 0..3 {
                let mut pair = Pair::underway(role, rounds);
                let _ = pair.receive(&datagram);
                pair.finish();
                pair.pass(Duration::from_secs(3));
                assert!(matches!(pair.outcomes[..], [Outcome::Connected(_)]), "{role:?} {rounds} {datagram:?}");
            }
        }
    }
}

#[test]
fn all_of_it_at_once_does_not_either() {
    for rounds in 0..3 {
        let mut pair = Pair::underway(DtlsRole::Client, rounds);
        for _ in 0..50 {
            for datagram in hostile() {
                let _ = pair.receive(&datagram);
            }
        }
        pair.finish();
        pair.pass(Duration::from_secs(3));
        assert!(pair.outcomes.len() == 1 && pair.client_done, "{rounds} {:?}", pair.outcomes);
    }
}

#[test]
fn a_certificate_of_somebody_else_is_not_taken_for_the_clients() {
    let mut pair = Pair::underway(DtlsRole::Client, 1);
    let forged = [&[0, 0, 103, 0, 0, 100][..], &[0x30; 100]].concat();
    assert_eq!(pair.receive(&handshake_record(9, CERTIFICATE, 2, &forged)), Ok(()));
    pair.finish();
    pair.assert_connected();
}

#[test]
fn a_hello_of_somebody_else_gives_way_to_the_clients() {
    for after_connect in [false, true] {
        let mut other = Pair::new(DtlsRole::Client);
        let mut pair = Pair::new(DtlsRole::Client);
        if after_connect {
            pair.connect();
        }
        pair.receive(&other.to_server.pop_front().unwrap()).unwrap();
        if !after_connect {
            pair.connect();
        }
        // Who has not said hello takes no answer.
        pair.to_client.clear();
        pair.finish();
        // The client's own comes within the time in which nothing is sent again, and is repeated.
        pair.pass(Duration::from_secs(2));
        pair.assert_connected();
    }
}

/// With the client's address somebody else says hello 20 times a second, while the client's own datagrams take up to
/// half a second.
#[test]
fn hellos_of_somebody_else_keep_no_client_out() {
    for (latency, profiles) in [(10, &[7][..]), (40, &[7]), (200, &[7]), (450, &[7]), (200, &[]), (450, &[])] {
        let latency = Duration::from_millis(latency);
        let mut pair = Pair::new(DtlsRole::Client);
        pair.connect();
        let (mut to_server, mut to_client) = (VecDeque::new(), VecDeque::new());
        for tick in 0..2_000_u16 {
            if tick % 5 == 0 {
                let mut forged = parts::client_hello(profiles, 1);
                forged[2..4].copy_from_slice(&tick.to_be_bytes());
                let _ = pair.receive(&handshake_record(tick.into(), CLIENT_HELLO, 0, &forged));
            }
            to_server.extend(pair.to_server.drain(..).map(|datagram| (pair.now + latency, datagram)));
            to_client.extend(pair.to_client.drain(..).map(|datagram| (pair.now + latency, datagram)));
            pair.now += Duration::from_millis(10);
            while let Some((_, datagram)) = to_server.pop_front_if(|(at, _)| *at <= pair.now) {
                let _ = pair.receive(&datagram);
            }
            while let Some((_, datagram)) = to_client.pop_front_if(|(at, _)| *at <= pair.now) {
                let _ = pair.client.read(pair.now, server_address(), None, BytesMut::from(&datagram[..]));
            }
            if pair.server.poll_timeout().is_some_and(|at| at <= pair.now) {
                pair.outcomes.extend(pair.server.handle_timeout(pair.now));
            }
            let _ = pair.client.handle_timeout(server_address(), pair.now);
            pair.drain();
        }
        assert!(matches!(pair.outcomes[..], [Outcome::Connected(_)]), "{latency:?} {profiles:?} {:?}", pair.outcomes);
    }
}

#[test]
fn who_was_taken_for_somebody_else_has_the_whole_time_again() {
    let mut pair = Pair::underway(DtlsRole::Client, 2);
    let forged = [&[0, 0, 103, 0, 0, 100][..], &[0x30; 100]].concat();
    pair.receive(&handshake_record(9, CERTIFICATE, 2, &forged)).unwrap();
    let mut datagrams = pair.cut(400);
    let rest = datagrams.split_off(2);
    for datagram in &datagrams {
        pair.receive(datagram).unwrap();
    }
    pair.now += Duration::from_secs(4);
    assert_eq!(pair.server.handle_timeout(pair.now), None);
    for datagram in &rest {
        let _ = pair.receive(datagram);
    }
    pair.finish();
    pair.assert_connected();
}

#[test]
fn any_number_of_hellos_is_answered_fifty_times_a_second() {
    let mut pair = Pair::new(DtlsRole::Client);
    pair.connect();
    for _ in 0..200 {
        let hello = Pair::new(DtlsRole::Client).to_server.pop_front().unwrap();
        let _ = pair.receive(&hello);
        let _ = pair.receive(&hello);
        pair.now += Duration::from_millis(1);
    }
    assert_eq!(pair.to_client.len(), 50 + 200 / 20 - 1, "fifty at once");
    assert!(pair.to_client.iter().all(|request| request.len() == 48 && request == &pair.to_client[0]), "one cookie");
}

#[test]
fn a_client_hello_in_many_datagrams_is_answered() {
    type Spoil = fn(&mut Vec<Vec<u8>>);
    let spoilt: [Spoil; 4] = [
        |_| {},
        |datagrams| datagrams.reverse(),
        |datagrams| *datagrams = datagrams.iter().flat_map(|datagram| [datagram.clone(), datagram.clone()]).collect(),
        |datagrams| drop(datagrams.remove(3)),
    ];
    for (which, spoil) in spoilt.iter().enumerate() {
        for before_connect in [false, true] {
            for len in [1, 8, 12] {
                let mut pair = Pair::new(DtlsRole::Client);
                let mut datagrams = pair.cut(len);
                assert!(datagrams.len() >= 8);
                if !before_connect {
                    pair.connect();
                }
                let again = datagrams.clone();
                spoil(&mut datagrams);
                datagrams.iter().for_each(|datagram| pair.receive(datagram).unwrap());
                if before_connect {
                    pair.connect();
                }
                if which == 3 {
                    assert!(pair.to_client.is_empty(), "one datagram is missing");
                    again.iter().for_each(|datagram| pair.receive(datagram).unwrap());
                }
                assert_eq!(pair.to_client.len(), 1, "{which} {before_connect} {len}");
                pair.finish();
                pair.assert_connected();
            }
        }
    }
}

#[test]
fn every_flight_may_come_in_pieces_and_in_any_order() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        for len in [20, 100, 400] {
            let mut pair = Pair::new(role);
            pair.connect();
            pair.deliver_to_client();
            while !pair.to_server.is_empty() {
                let mut datagrams = pair.cut(len);
                datagrams.reverse();
                for datagram in &datagrams {
                    let _ = pair.receive(datagram);
                }
                pair.deliver_to_client();
            }
            pair.assert_connected();
        }
    }
}

#[test]
fn a_missed_last_flight_is_sent_again_for_as_long_as_it_is_asked_for() {
    let mut pair = Pair::underway(DtlsRole::Client, 2);
    let flight = std::mem::take(&mut pair.to_server);
    for datagram in &flight {
        pair.receive(datagram).unwrap();
    }
    assert!(matches!(pair.outcomes[..], [Outcome::Connected(_)]));
    let lost = std::mem::take(&mut pair.to_client);
    for second in 0..100 {
        pair.now += Duration::from_secs(second % 2);
        let results: Vec<_> = flight.iter().map(|datagram| pair.receive(datagram)).collect();
        let expected: &[Vec<u8>] = if second % 2 == 0 { &[] } else { lost.as_slices().0 };
        assert_eq!(std::mem::take(&mut pair.to_client), expected, "{results:?}");
    }
    pair.now += Duration::from_secs(1);
    for datagram in &flight {
        let _ = pair.receive(datagram);
    }
    pair.deliver_to_client();
    assert!(pair.client_done);
}

#[test]
fn an_alert_without_the_key_closes_nothing() {
    let mut pair = Pair::connected(DtlsRole::Client);
    pair.client.close(pair.now).unwrap();
    let goodbye = pair.client.poll_transmit().unwrap().message.to_vec();
    for at in 0..goodbye.len() {
        let mut spoilt = goodbye.clone();
        spoilt[at] ^= 1;
        // The version is not authenticated by the length of its record, but by the tag.
        assert!(pair.receive(&spoilt).is_err(), "byte {at}");
    }
    assert_eq!(pair.outcomes.len(), 1);
    assert_eq!(pair.receive(&goodbye), Ok(()));
    assert_eq!(pair.outcomes.last(), Some(&Outcome::Closed));
    pair.deliver_to_client();
    assert_eq!(pair.receive(&goodbye), Err(DropReason::DtlsNotConnected));
}

impl Pair {
    /// A datagram with application data of the client.
    fn data_of_client(&mut self, data: &[u8]) -> Vec<u8> {
        self.client.write(self.now, server_address(), data).unwrap();
        self.client.poll_transmit().unwrap().message.to_vec()
    }

    fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        let mut record = vec![0; data.len() + Association::RECORD_OVERHEAD];
        self.server.seal_application_data(data, &mut record).unwrap();
        record
    }
}

#[test]
fn application_data_goes_both_ways_whoever_called() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut pair = Pair::connected(role);
        pair.server.accept_application_data();
        for number in 0..200_u8 {
            let data = vec![number; 6 * usize::from(number) + 1];
            let datagram = pair.data_of_client(&data);
            assert_eq!(pair.receive(&datagram), Ok(()));
            assert_eq!((pair.server.poll_application_data(), pair.server.poll_application_data()), (Some(data), None));
            let datagram = pair.seal(&[number; 1_191]);
            pair.to_client.push_back(datagram);
            pair.deliver_to_client();
            assert_eq!(pair.client_data.pop(), Some(vec![number; 1_191]));
        }
        // What was sealed last is newer than all of it.
        pair.server.close(pair.now);
        pair.drain();
        pair.deliver_to_client();
        assert!(pair.client_closed);
        assert_eq!(pair.server.seal_application_data(b"x", &mut [0; 38]), Err(DropReason::DtlsNotConnected));
    }
}

#[test]
fn application_data_is_taken_once_authentic_and_where_it_is_wanted() {
    let mut pair = Pair::connected(DtlsRole::Client);
    let unwanted = pair.data_of_client(b"nobody asked");
    assert_eq!(pair.receive(&unwanted), Err(DropReason::DtlsUnwanted));
    pair.server.accept_application_data();
    let first = pair.data_of_client(b"first");
    for at in 0..first.len() {
        let mut spoilt = first.clone();
        spoilt[at] ^= 1;
        assert!(pair.receive(&spoilt).is_err(), "byte {at}");
        assert_eq!(pair.server.poll_application_data(), None);
    }
    assert!(pair.receive(&record(23, 0, 9, b"plaintext")).is_err());
    assert_eq!(pair.receive(&first), Ok(()));
    assert_eq!(pair.receive(&first), Err(DropReason::DtlsUnwanted), "it came before");
    assert_eq!(pair.server.poll_application_data(), Some(b"first".to_vec()));
    // Several in one datagram, of which one comes late and one is forged.
    let several: Vec<_> = (0..6_u8).map(|number| pair.data_of_client(&[number])).collect();
    let mut forged = several[1].clone();
    *forged.last_mut().unwrap() ^= 1;
    let datagram = [&several[2][..], &forged, &several[0], &several[3], &several[4]].concat();
    assert_eq!(pair.receive(&datagram), Ok(()));
    let taken: Vec<_> = std::iter::from_fn(|| pair.server.poll_application_data()).collect();
    assert_eq!(taken, [[2], [0], [3]], "four are tried");
    assert_eq!(pair.server.seal_application_data(b"four", &mut [0; 40]), Err(DropReason::TooLarge));
}

#[test]
fn goodbye_is_said_once() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut pair = Pair::connected(role);
        pair.server.close(pair.now);
        pair.drain();
        assert_eq!(pair.to_client.len(), 1);
        pair.deliver_to_client();
        assert!(pair.client_closed);
        pair.server.close(pair.now);
        pair.drain();
        assert!(pair.to_client.is_empty());
    }
}

#[test]
fn a_datagram_is_no_longer_than_any_client_sends() {
    let mut pair = Pair::connected(DtlsRole::Client);
    let filler = record(23, 0, 1, &[0; MAX_DATAGRAM_LEN - 13]);
    assert_eq!(pair.receive(&filler), Err(DropReason::DtlsUnwanted));
    let filler = record(23, 0, 1, &[0; MAX_DATAGRAM_LEN - 12]);
    assert_eq!(pair.receive(&filler), Err(DropReason::DtlsMalformed));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes from the client's address between its real datagrams, in whole records so that it gets far.
    #[test]
    fn any_records_are_survived(
        role in prop::sample::select(vec![DtlsRole::Client, DtlsRole::Server]),
        junk in prop::collection::vec(
            (19_u8..25, 0_u16..3, any::<u32>(), prop::collection::vec(any::<u8>(), 1..150)),
            0..40,
        ),
        fragments in prop::collection::vec((0_u8..21, 0_usize..400, 0_u16..8, 0_usize..400, 0_usize..400), 0..40),
    ) {
        let mut datagrams: Vec<Vec<u8>> =
            junk.iter().map(|(content, epoch, sequence, body)| record(*content, *epoch, *sequence, body)).collect();
        datagrams.extend(fragments.iter().map(|(kind, total, message, offset, len)| {
            plain(&fragment(*kind, *total, *message, *offset, &vec![0x5a; *len]))
        }));
        let mut pair = Pair::new(role);
        for (index, datagram) in datagrams.iter().enumerate() {
            if index == 3 {
                pair.connect();
            }
            let _ = pair.receive(datagram);
            if index % 8 == 7 {
                pair.round();
                pair.now += Duration::from_millis(60);
            }
        }
        pair.finish();
    }

    /// What comes to an association that is connected, in records that it waits for.
    #[test]
    fn any_bytes_are_survived_once_connected(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..100), 0..40),
    ) {
        let mut pair = Pair::connected(DtlsRole::Client);
        for datagram in datagrams {
            let _ = pair.receive(&datagram);
            let _ = pair.receive(&record(ALERT, 1, 9, &datagram));
            let _ = pair.receive(&record(HANDSHAKE, 1, 9, &datagram));
        }
        prop_assert_eq!(pair.outcomes.len(), 1);
    }
}
