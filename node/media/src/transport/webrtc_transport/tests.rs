//! A client of webrtc-rs's own parts (STUN, DTLS, SRTP) against the transport, on virtual packets and virtual time.

use bytes::BytesMut;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_dtls::state::State;
use rtc_shared::TransportProtocol;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use rtc_stun::attributes::{ATTR_ICE_CONTROLLED, ATTR_USE_CANDIDATE};
use sluice_proto::ortc::{DtlsFingerprint, DtlsRole};

use super::*;
use crate::secure::ice::IceState;
use crate::wire::stun::tests::{PASSWORD, check_integrity, decode, request};

/// The order in which Chromium offers its profiles.
const CHROMIUM: [SrtpProtectionProfile; 3] = [
    SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
    SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
    SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
];

fn address(port: u16) -> TransportAddress {
    TransportAddress::Udp(([192, 0, 2, 33], port).into())
}

fn server_address() -> std::net::SocketAddr {
    ([192, 0, 2, 1], 4444).into()
}

fn credentials(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.to_owned(), pwd: PASSWORD.to_owned() }
}

/// A transport and its client, and all that the transport told.
struct Pair {
    now: Instant,
    transport: WebRtcTransport,
    client: Endpoint,
    client_config: Arc<HandshakeConfig>,
    fingerprint: DtlsFingerprint,
    events: Vec<TransportEvent>,
    to_client: VecDeque<Transmit>,
    client_done: bool,
    client_closed: bool,
}

impl Pair {
    #[allow(clippy::disallowed_methods, reason = "any instant will do to begin with")]
    fn new(profiles: &[SrtpProtectionProfile]) -> Self {
        let provider: Arc<dyn RTCCryptoProvider> = Arc::new(AwsLcRsProvider::new());
        let certificate = Certificate::generate_self_signed(vec!["client".to_owned()], provider.crypto()).unwrap();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &certificate.certificate[0]);
        let fingerprint = DtlsFingerprint::Sha256 { value: digest.as_ref().try_into().unwrap() };
        let builder = ConfigBuilder::default()
            .with_crypto_provider(provider)
            .with_certificates(vec![certificate])
            .with_srtp_protection_profiles(profiles.to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_insecure_skip_verify(true)
            .with_flight_interval(Duration::from_millis(50));
        let client_config = Arc::new(builder.clone().build(true, Some(server_address())).unwrap());
        let server_side = Arc::new(builder.build(false, None).unwrap());
        let now = Instant::now();
        let id = TransportId::from_random_bytes([1; 16]);
        Self {
            now,
            transport: WebRtcTransport::new(id, credentials("0000first"), DtlsCertificate::generate().unwrap(), now),
            client: Endpoint::new(address(1).socket_addr(), TransportProtocol::UDP, Some(server_side)),
            client_config,
            fingerprint,
            events: Vec::new(),
            to_client: VecDeque::new(),
            client_done: false,
            client_closed: false,
        }
    }

    fn parameters(&self, role: DtlsRole) -> DtlsParameters {
        DtlsParameters { role, fingerprints: vec![self.fingerprint] }
    }

    fn connect(&mut self, role: DtlsRole) {
        let parameters = self.parameters(role);
        self.transport.connect(self.now, &parameters).unwrap();
        self.drain();
    }

    /// Collects what the transport has to say and to send.
    fn drain(&mut self) {
        while let Some(event) = self.transport.poll_event() {
            self.events.push(event);
        }
        self.transport.flush(self.now, &mut self.to_client, &mut BufferPool::default());
    }

    fn receive(&mut self, source: TransportAddress, data: &[u8]) -> Result<(), DropReason> {
        let result = self.transport.receive(self.now, source, &mut data.to_vec()).map(drop);
        self.drain();
        result
    }

    /// A connectivity check; yields the number of an error answer, 0 for success and `None` without an answer.
    fn check(&mut self, source: TransportAddress, ufrag: &str, password: &str, nominate: bool) -> Option<u16> {
        let extra: &[_] = if nominate { &[(ATTR_USE_CANDIDATE, vec![])] } else { &[] };
        let _ = self.receive(source, &request(&format!("{ufrag}:client"), password, extra));
        self.stun_answer(source)
    }

    fn stun_answer(&mut self, source: TransportAddress) -> Option<u16> {
        let at =
            self.to_client.iter().position(|t| t.destination == source && classify(&t.contents) == Protocol::Stun)?;
        let mut message = decode(&self.to_client.remove(at)?.contents);
        if message.typ.to_string().contains("success") {
            check_integrity(&mut message);
            return Some(0);
        }
        let mut code = rtc_stun::error_code::ErrorCodeAttribute::default();
        rtc_stun::message::Getter::get_from(&mut code, &message).unwrap();
        Some(code.code.0)
    }

    /// Lets both ends exchange DTLS datagrams from `source` until neither has any; `lose` picks some of the
    /// transport's.
    fn exchange(&mut self, source: TransportAddress, lose: &mut dyn FnMut() -> bool) {
        loop {
            let mut quiet = true;
            while let Some(transmit) = self.client.poll_transmit() {
                quiet = false;
                let _ = self.receive(source, &transmit.message);
            }
            while let Some(transmit) = self.to_client.pop_front() {
                quiet = false;
                if lose() {
                    continue;
                }
                let read = self.client.read(self.now, server_address(), None, BytesMut::from(&transmit.contents[..]));
                for event in read.unwrap_or_default() {
                    self.client_done |= matches!(event, EndpointEvent::HandshakeComplete);
                    self.client_closed |= matches!(event, EndpointEvent::PeerClosed);
                }
            }
            if quiet {
                return;
            }
        }
    }

    /// Lets time pass in steps of 10 ms, and timers fire.
    fn pass(&mut self, time: Duration, source: TransportAddress, lose: &mut dyn FnMut() -> bool) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(10);
            if self.transport.poll_timeout().is_some_and(|at| at <= self.now) {
                self.transport.handle_timeout(self.now).unwrap();
                self.drain();
            }
            if self.client.poll_timeout(&server_address()).is_some_and(|at| at <= self.now) {
                let _ = self.client.handle_timeout(server_address(), self.now);
            }
            self.exchange(source, lose);
        }
    }

    fn client_hello(&mut self) {
        self.client.connect(self.now, server_address(), self.client_config.clone(), None).unwrap();
    }

    fn dtls_states(&self) -> Vec<DtlsState> {
        let states = self.events.iter();
        states.filter_map(|event| if let TransportEvent::Dtls(state) = event { Some(*state) } else { None }).collect()
    }

    /// A connected pair, the client being the DTLS client.
    fn connected(profiles: &[SrtpProtectionProfile]) -> Self {
        let mut pair = Self::new(profiles);
        assert_eq!(pair.check(address(1), "0000first", PASSWORD, true), Some(0));
        pair.connect(DtlsRole::Client);
        pair.client_hello();
        pair.exchange(address(1), &mut || false);
        assert!(pair.client_done && pair.transport.is_writable());
        pair
    }

    /// The client's SRTP contexts: sending and receiving.
    fn client_srtp(&self, profile: ProtectionProfile) -> (Context, Context) {
        let state: &State = self.client.get_connection_state(server_address()).unwrap();
        let (key, salt) = (profile.key_len(), profile.salt_len());
        let exported = state.export_keying_material("EXTRACTOR-dtls_srtp", &[], 2 * (key + salt)).unwrap().into_bytes();
        let context = |index: usize| {
            let (keys, salts) = exported.split_at(2 * key);
            let (key, salt) = (&keys[index * key..][..key], &salts[index * salt..][..salt]);
            Context::new(key, salt, profile, None, None, AwsLcRsProvider::new().crypto()).unwrap()
        };
        let ours = usize::from(!state.is_client());
        (context(ours), context(1 - ours))
    }

    /// Media both ways.
    fn assert_media_flows(&mut self, profile: ProtectionProfile, source: TransportAddress) {
        let (mut sender, mut receiver) = self.client_srtp(profile);
        let packet = [&[0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9][..], b"payload"].concat();
        let mut sealed = sender.encrypt_rtp(&packet).unwrap().to_vec();
        match self.transport.receive(self.now, source, &mut sealed.clone()).unwrap() {
            Received::Rtp(plain) => assert_eq!(plain, packet),
            other => panic!("{other:?}"),
        }
        assert_eq!(self.receive(source, &sealed), Err(DropReason::SrtpReplayed));
        sealed[20] ^= 1;
        sealed[3] ^= 2;
        assert_eq!(self.receive(source, &sealed), Err(DropReason::SrtpUnauthenticated));

        let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
        let mut sealed = sender.encrypt_rtcp(&report).unwrap().to_vec();
        match self.transport.receive(self.now, source, &mut sealed).unwrap() {
            Received::Rtcp(plain) => assert_eq!(plain, report),
            other => panic!("{other:?}"),
        }

        self.transport.send_rtp((MediaKind::Audio, packet.len()), |room| room.copy_from_slice(&packet)).unwrap();
        self.transport.send_rtcp(&report).unwrap();
        self.drain();
        let sent: Vec<_> = self.to_client.drain(..).collect();
        let size = sent[0].segment_size.unwrap_or(sent[0].contents.len());
        let datagrams: Vec<&[u8]> =
            sent.iter().flat_map(|t| t.contents.chunks(t.segment_size.unwrap_or(size.max(t.contents.len())))).collect();
        assert!(sent.iter().all(|transmit| transmit.destination == source));
        assert_eq!(&receiver.decrypt_rtp(datagrams[0]).unwrap()[..], &packet[..]);
        assert_eq!(&receiver.decrypt_rtcp(datagrams[1]).unwrap()[..], &report[..]);
    }
}

#[test]
fn gcm_is_agreed_on_with_chromiums_order() {
    let mut pair = Pair::connected(&CHROMIUM);
    assert_eq!(pair.dtls_states(), [DtlsState::Connected(SrtpProfile::AeadAes128Gcm)]);
    pair.assert_media_flows(ProtectionProfile::AeadAes128Gcm, address(1));
    let stats = pair.transport.stats(pair.now);
    assert_eq!((stats.rtp_packets_received, stats.rtp_packets_sent), (1, 1));
    assert_eq!(stats.remote_address, Some(address(1)));
    assert!(stats.bytes_received > 500 && stats.bytes_sent > 500 && stats.send_bitrate == 8 * stats.bytes_sent);
}

#[test]
fn a_client_without_gcm_gets_sha1() {
    let mut pair = Pair::connected(&CHROMIUM[..1]);
    assert_eq!(pair.dtls_states(), [DtlsState::Connected(SrtpProfile::Aes128CmSha1_80)]);
    pair.assert_media_flows(ProtectionProfile::Aes128CmHmacSha1_80, address(1));
}

#[test]
fn a_client_without_a_common_profile_is_refused() {
    let mut pair = Pair::new(&CHROMIUM[1..2]);
    pair.check(address(1), "0000first", PASSWORD, true);
    pair.connect(DtlsRole::Client);
    pair.client_hello();
    // It may be somebody else's hello: the client's own has its time to come.
    pair.pass(Duration::from_secs(2), address(1), &mut || false);
    assert_eq!(pair.dtls_states(), []);
    pair.pass(Duration::from_secs(2), address(1), &mut || false);
    assert_eq!(pair.dtls_states(), [DtlsState::Failed]);
    assert!(!pair.transport.is_writable());
}

#[test]
fn a_client_hello_before_connect_is_kept() {
    let mut pair = Pair::new(&CHROMIUM);
    pair.check(address(1), "0000first", PASSWORD, true);
    pair.client_hello();
    pair.exchange(address(1), &mut || false);
    pair.pass(Duration::from_millis(300), address(1), &mut || false);
    assert!(pair.dtls_states().is_empty());
    pair.connect(DtlsRole::Auto);
    pair.exchange(address(1), &mut || false);
    assert_eq!(pair.dtls_states(), [DtlsState::Connected(SrtpProfile::AeadAes128Gcm)]);
}

#[test]
fn a_client_that_is_dtls_server_is_called() {
    for connect_first in [true, false] {
        let mut pair = Pair::new(&CHROMIUM);
        if connect_first {
            pair.connect(DtlsRole::Server);
            assert!(pair.to_client.is_empty(), "nothing is sent before the client has an address");
            pair.check(address(1), "0000first", PASSWORD, true);
        } else {
            pair.check(address(1), "0000first", PASSWORD, true);
            pair.connect(DtlsRole::Server);
        }
        pair.exchange(address(1), &mut || false);
        assert!(pair.client_done);
        assert_eq!(pair.dtls_states(), [DtlsState::Connected(SrtpProfile::AeadAes128Gcm)]);
        pair.assert_media_flows(ProtectionProfile::AeadAes128Gcm, address(1));
    }
}

#[test]
fn a_wrong_fingerprint_fails_in_both_roles() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut pair = Pair::new(&CHROMIUM);
        pair.check(address(1), "0000first", PASSWORD, true);
        pair.fingerprint = DtlsFingerprint::Sha256 { value: [7; 32] };
        pair.connect(role);
        if role == DtlsRole::Client {
            pair.client_hello();
        }
        pair.pass(Duration::from_secs(1), address(1), &mut || false);
        assert_eq!(pair.dtls_states(), [], "{role:?}: the right certificate may come");
        pair.pass(Duration::from_secs(3), address(1), &mut || false);
        assert_eq!(pair.dtls_states(), [DtlsState::Failed], "{role:?}");
        assert!(!pair.client_done && !pair.transport.is_writable());
    }
}

#[test]
fn connect_is_said_once_and_with_a_fingerprint() {
    let mut pair = Pair::new(&CHROMIUM);
    let nothing = DtlsParameters { role: DtlsRole::Client, fingerprints: vec![] };
    assert!(matches!(pair.transport.connect(pair.now, &nothing), Err(RequestError::Invalid(_))));
    pair.connect(DtlsRole::Client);
    let again = pair.parameters(DtlsRole::Client);
    let id = TransportId::from_random_bytes([1; 16]);
    assert_eq!(pair.transport.connect(pair.now, &again), Err(RequestError::AlreadyConnected(id)));
}

#[test]
fn the_handshake_outlives_loss_and_a_slow_start() {
    // The client of this test gives up after 400 ms: a quarter arriving would be too little for it.
    for every in 2..4 {
        let mut pair = Pair::new(&CHROMIUM);
        pair.check(address(1), "0000first", PASSWORD, true);
        pair.connect(DtlsRole::Client);
        pair.client_hello();
        let mut count = 0;
        let mut lose = || {
            count += 1;
            count % every != 0
        };
        pair.pass(Duration::from_secs(8), address(1), &mut lose);
        assert_eq!(pair.dtls_states(), [DtlsState::Connected(SrtpProfile::AeadAes128Gcm)], "every {every}th arrives");
    }
}

#[test]
fn an_unanswered_handshake_is_given_up() {
    let mut pair = Pair::new(&CHROMIUM);
    pair.check(address(1), "0000first", PASSWORD, true);
    pair.connect(DtlsRole::Server);
    let begun = pair.now;
    let mut sent = Vec::new();
    while pair.dtls_states().is_empty() {
        sent.extend(pair.to_client.drain(..).map(|_| (pair.now - begun).as_millis()));
        pair.now = pair.transport.poll_timeout().unwrap();
        pair.transport.handle_timeout(pair.now).unwrap();
        pair.drain();
    }
    assert_eq!(sent, [0, 100, 300, 700, 1500, 3100, 6100, 9100]);
    assert_eq!(pair.dtls_states(), [DtlsState::Failed]);
    assert!(pair.now - begun < Duration::from_secs(30));
}

#[test]
fn both_ends_can_say_goodbye() {
    let mut pair = Pair::connected(&CHROMIUM);
    pair.client.close(pair.now).unwrap();
    pair.exchange(address(1), &mut || false);
    assert_eq!(pair.dtls_states().last(), Some(&DtlsState::Closed));
    assert!(!pair.transport.is_writable());

    let mut pair = Pair::connected(&CHROMIUM);
    pair.transport.close(pair.now);
    pair.drain();
    pair.exchange(address(1), &mut || false);
    assert!(pair.client_closed);
    let gone = [
        TransportEvent::Ice(IceEvent::AddressForgotten(address(1))),
        TransportEvent::Ice(IceEvent::UfragRetired("0000first".to_owned())),
    ];
    assert!(gone.iter().all(|event| pair.events.contains(event)));
    assert_eq!(pair.transport.send_rtp((MediaKind::Audio, 12), |_| {}), Err(DropReason::DtlsNotConnected));
}

#[test]
fn dtls_and_media_of_strangers_are_dropped() {
    let mut pair = Pair::new(&CHROMIUM);
    pair.client_hello();
    let hello = pair.client.poll_transmit().unwrap().message;
    assert_eq!(pair.receive(address(1), &hello), Err(DropReason::UnknownAddress));
    assert_eq!(pair.receive(address(1), &[0x80; 40]), Err(DropReason::UnknownAddress));
    pair.check(address(1), "0000first", PASSWORD, true);
    assert_eq!(pair.receive(address(1), &[0x80; 40]), Err(DropReason::DtlsNotConnected));
    assert_eq!(pair.receive(address(1), &[22; 40]), Err(DropReason::DtlsMalformed));
    assert_eq!(pair.receive(address(1), &[70; 40]), Err(DropReason::UnknownProtocol));
    assert_eq!(pair.receive(address(1), &hello), Ok(()));
    assert_eq!(pair.receive(address(2), &hello), Err(DropReason::UnknownAddress));
}

#[test]
fn checks_are_refused_as_the_rfcs_say() {
    let mut pair = Pair::new(&CHROMIUM);
    assert_eq!(pair.check(address(1), "0000first", "wrong", true), Some(401));
    assert_eq!(pair.check(address(1), "0000other", PASSWORD, true), Some(401));
    assert!(pair.events.is_empty() && pair.transport.poll_timeout().is_none());

    let controlled =
        request("0000first:client", PASSWORD, &[(ATTR_ICE_CONTROLLED, vec![0; 8]), (ATTR_USE_CANDIDATE, vec![])]);
    assert_eq!(pair.receive(address(1), &controlled), Err(DropReason::StunRefused));
    assert_eq!(pair.stun_answer(address(1)), Some(487));
    let unknown = request("0000first:client", PASSWORD, &[(rtc_stun::attributes::AttrType(0x7777), vec![0; 4])]);
    assert_eq!(pair.receive(address(1), &unknown), Err(DropReason::StunRefused));
    assert_eq!(pair.stun_answer(address(1)), Some(420));
    let mut bare = request("0000first:client", PASSWORD, &[]);
    bare.truncate(bare.len() - 32);
    let len = (bare.len() - 20) as u16;
    bare[2..4].copy_from_slice(&len.to_be_bytes());
    assert_eq!(pair.receive(address(1), &bare), Err(DropReason::StunUnauthenticated));
    assert_eq!(pair.stun_answer(address(1)), Some(400));
    assert!(pair.events.is_empty());
    pair.connect(DtlsRole::Server);
    assert_eq!(pair.receive(address(1), &controlled), Err(DropReason::StunRefused));
    assert_eq!(pair.stun_answer(address(1)), Some(487));
    assert!(pair.to_client.is_empty() && pair.transport.poll_timeout().is_none(), "a refused client is not called");
}

#[test]
fn the_path_follows_the_newest_nomination() {
    let mut pair = Pair::connected(&CHROMIUM);
    pair.events.clear();
    assert_eq!(pair.check(address(2), "0000first", PASSWORD, false), Some(0));
    assert_eq!(pair.events, [TransportEvent::Ice(IceEvent::AddressInUse(address(2)))]);
    pair.assert_media_flows(ProtectionProfile::AeadAes128Gcm, address(1));
    assert_eq!(pair.check(address(2), "0000first", PASSWORD, true), Some(0));
    assert_eq!(pair.events.len(), 1, "the control plane need not know");
    pair.transport.send_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 9]).unwrap();
    pair.drain();
    assert_eq!(pair.to_client.pop_back().unwrap().destination, address(2));
    assert_eq!(pair.check(address(1), "0000first", PASSWORD, true), Some(0));
    assert_eq!(pair.transport.stats(pair.now).remote_address, Some(address(1)));
}

#[test]
fn a_client_has_a_bounded_number_of_addresses() {
    let mut pair = Pair::connected(&CHROMIUM);
    for port in 2..300 {
        pair.now += Duration::from_secs(2);
        assert_eq!(pair.check(address(port), "0000first", PASSWORD, false), Some(0));
        pair.check(address(1), "0000first", PASSWORD, false);
    }
    let own = TransportEvent::Ice(IceEvent::AddressInUse(address(1)));
    let is_other =
        |event: &&TransportEvent| matches!(event, TransportEvent::Ice(IceEvent::AddressInUse(_))) && **event != own;
    let learned = pair.events.iter().filter(is_other).count();
    let forgotten =
        pair.events.iter().filter(|event| matches!(event, TransportEvent::Ice(IceEvent::AddressForgotten(_)))).count();
    assert_eq!((learned, forgotten), (298, 291));
    assert!(
        !pair.events.contains(&TransportEvent::Ice(IceEvent::AddressForgotten(address(1)))),
        "the selected address stays"
    );
}

#[test]
fn an_ice_restart_takes_over_when_it_is_used() {
    let mut pair = Pair::connected(&CHROMIUM);
    pair.events.clear();
    pair.transport.restart_ice(pair.now, credentials("0000second"));
    pair.drain();
    assert!(pair.events.is_empty());
    assert_eq!(pair.check(address(1), "0000first", PASSWORD, true), Some(0), "the old credentials are good still");
    pair.assert_media_flows(ProtectionProfile::AeadAes128Gcm, address(1));

    pair.transport.restart_ice(pair.now, credentials("0000third"));
    pair.drain();
    assert_eq!(
        pair.events,
        [TransportEvent::Ice(IceEvent::UfragRetired("0000second".to_owned()))],
        "it was never used"
    );
    pair.events.clear();
    assert_eq!(pair.check(address(2), "0000third", PASSWORD, false), Some(0));
    let expected = [
        TransportEvent::Ice(IceEvent::UfragRetired("0000first".to_owned())),
        TransportEvent::Ice(IceEvent::AddressInUse(address(2))),
    ];
    assert_eq!(pair.events, expected);
    assert_eq!(
        pair.transport.stats(pair.now).remote_address,
        Some(address(1)),
        "the old path carries media until a nomination"
    );
    assert_eq!(pair.check(address(1), "0000first", PASSWORD, true), Some(401));
    assert_eq!(pair.check(address(2), "0000third", PASSWORD, true), Some(0));
    assert_eq!(pair.transport.stats(pair.now).remote_address, Some(address(2)));
}

#[test]
fn consent_runs_out_and_comes_back() {
    let mut pair = Pair::connected(&CHROMIUM);
    pair.events.clear();
    pair.now += Duration::from_secs(19);
    pair.transport.handle_timeout(pair.now).unwrap();
    assert!(pair.transport.is_writable());
    assert_eq!(pair.check(address(1), "0000first", PASSWORD, false), Some(0));
    pair.now = pair.transport.poll_timeout().unwrap();
    pair.transport.handle_timeout(pair.now).unwrap();
    pair.drain();
    let lost = TransportEvent::Ice(IceEvent::StateChanged { state: IceState::Disconnected, remote: Some(address(1)) });
    assert_eq!(pair.events, [TransportEvent::Ice(IceEvent::AddressInUse(address(1))), lost]);
    assert!(!pair.transport.is_writable() && pair.transport.poll_timeout().is_none());
    assert_eq!(pair.transport.send_rtp((MediaKind::Audio, 12), |_| {}), Err(DropReason::IceNotConnected));
    assert_eq!(pair.check(address(1), "0000first", PASSWORD, false), Some(0));
    assert!(pair.transport.is_writable());
}

#[test]
fn given_keys_take_the_place_of_ice_and_dtls() {
    let mut pair = Pair::new(&CHROMIUM);
    let keys = |len| SrtpKeys {
        profile: SrtpProfile::AeadAes128Gcm,
        remote: vec![1; len],
        local: vec![1; len],
        remote_address: address(5),
    };
    assert!(matches!(pair.transport.connect_with_srtp_keys(pair.now, keys(27)), Err(RequestError::Invalid(_))));
    pair.transport.connect_with_srtp_keys(pair.now, keys(28)).unwrap();
    assert!(matches!(
        pair.transport.connect_with_srtp_keys(pair.now, keys(28)),
        Err(RequestError::AlreadyConnected(_))
    ));
    for sequence_number in 0..10 {
        let packet = [0x80, 96, 0, sequence_number, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3];
        pair.transport.send_rtp((MediaKind::Audio, packet.len()), |room| room.copy_from_slice(&packet)).unwrap();
    }
    assert_eq!(pair.transport.send_rtp((MediaKind::Audio, 1460), |_| {}), Err(DropReason::TooLarge));
    pair.drain();
    let sent: Vec<_> = pair.to_client.drain(..).collect();
    assert_eq!(sent.len(), 1, "ten packets of one size leave together");
    for sealed in sent[0].contents.chunks(sent[0].segment_size.unwrap()) {
        assert_eq!(pair.receive(address(5), sealed), Ok(()));
    }
    assert_eq!(pair.transport.stats(pair.now).rtp_packets_received, 10);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever an authenticated client sends in the place of a handshake, and spoils of a real one.
    #[test]
    fn any_dtls_is_survived(
        junk in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..120), 0..12),
        spoil in proptest::collection::vec((0_usize..12, proptest::prelude::any::<proptest::sample::Index>(), proptest::prelude::any::<u8>()), 0..6),
    ) {
        let mut pair = Pair::new(&CHROMIUM);
        pair.check(address(1), "0000first", PASSWORD, true);
        pair.connect(DtlsRole::Client);
        pair.client_hello();
        let mut count = 0;
        for _ in 0..6 {
            while let Some(transmit) = pair.client.poll_transmit() {
                let mut message = transmit.message.to_vec();
                for (_, at, byte) in spoil.iter().filter(|(which, _, _)| *which == count) {
                    let at = at.index(message.len());
                    message[at] = *byte;
                }
                let _ = pair.receive(address(1), &message);
                if let Some(body) = junk.get(count) {
                    // Well framed, so that it reaches the library: handshake, alert, change cipher spec, data, or none
                    // of them.
                    let mut record = vec![20 + (count % 5) as u8, 0xfe, 0xfd, 0, (count % 2) as u8, 0, 0, 0, 0, 9, count as u8];
                    record.extend((body.len() as u16).to_be_bytes());
                    record.extend(body);
                    let _ = pair.receive(address(1), &record);
                }
                count += 1;
            }
            while let Some(transmit) = pair.to_client.pop_front() {
                let _ = pair.client.read(pair.now, server_address(), None, BytesMut::from(&transmit.contents[..]));
            }
            pair.now += Duration::from_millis(200);
            let _ = pair.client.handle_timeout(server_address(), pair.now);
            pair.transport.handle_timeout(pair.now).unwrap();
            pair.drain();
        }
    }
}
