//! The agent alone, on virtual time: whom it answers, where it sends, and for how long.
#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]

use rtc_stun::attributes::{ATTR_PRIORITY, ATTR_USE_CANDIDATE, AttrType};

use super::*;
use crate::wire::stun::tests::{PASSWORD, request};

const UFRAG: &str = "0000first";
const CONSENT: Duration = Duration::from_secs(20);
const NOMINATION: AttrType = AttrType(0x0030);
const GOOG_NOMINATION: AttrType = AttrType(0xc001);

struct Client {
    now: Instant,
    agent: IceAgent,
    events: VecDeque<IceEvent>,
    ufrag: &'static str,
}

fn credentials(ufrag: &str) -> IceCredentials {
    IceCredentials { ufrag: ufrag.to_owned(), pwd: PASSWORD.to_owned() }
}

fn at(port: u16) -> TransportAddress {
    TransportAddress::Udp(([192, 0, 2, 33], port).into())
}

impl Client {
    fn new() -> Self {
        let agent = IceAgent::new(credentials(UFRAG), CONSENT);
        Self { now: Instant::now(), agent, events: VecDeque::new(), ufrag: UFRAG }
    }

    fn check_with(&mut self, source: TransportAddress, extra: &[(AttrType, Vec<u8>)]) -> Result<(), DropReason> {
        let message = request(&format!("{}:client", self.ufrag), PASSWORD, extra);
        let (answer, result) = self.agent.handle(self.now, source, &message, &mut self.events);
        assert_eq!(answer.is_some(), result.is_ok());
        result
    }

    fn check(&mut self, port: u16) {
        self.check_with(at(port), &[]).unwrap();
    }

    fn nominate(&mut self, port: u16, priority: u32) {
        let extra = [(ATTR_USE_CANDIDATE, vec![]), (ATTR_PRIORITY, priority.to_be_bytes().to_vec())];
        self.check_with(at(port), &extra).unwrap();
    }

    fn renominate(&mut self, port: u16, attribute: AttrType, number: u32) {
        self.check_with(at(port), &[(attribute, number.to_be_bytes().to_vec())]).unwrap();
    }

    fn media(&mut self, port: u16) {
        self.agent.receive_media(self.now, at(port), &mut self.events);
    }

    fn remote(&self) -> Option<u16> {
        self.agent.remote().map(|address| address.socket_addr().port())
    }

    /// Lets time pass in steps, with something done at each.
    fn pass(&mut self, time: Duration, mut step: impl FnMut(&mut Self)) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(500);
            self.agent.handle_timeout(self.now, &mut self.events);
            step(self);
        }
    }

    fn states(&mut self) -> Vec<IceState> {
        let events = self.events.drain(..);
        events
            .filter_map(|event| if let IceEvent::StateChanged { state, .. } = event { Some(state) } else { None })
            .collect()
    }
}

#[test]
fn the_first_check_connects_and_begins_consent() {
    let mut client = Client::new();
    client.check(1);
    assert_eq!((client.remote(), client.states()), (Some(1), vec![IceState::Connected]));
    assert_eq!(client.agent.poll_timeout(), Some(client.now + CONSENT));
    client.now += CONSENT;
    client.agent.handle_timeout(client.now, &mut client.events);
    assert_eq!((client.remote(), client.states()), (None, vec![IceState::Disconnected]));
    assert_eq!(client.agent.poll_timeout(), None);
}

#[test]
fn consent_is_renewed_on_the_selected_path_only() {
    let mut client = Client::new();
    client.nominate(1, 100);
    // Somebody else's address, that the client claimed once.
    client.nominate(2, 100);
    assert_eq!(client.remote(), Some(2));
    client.pass(Duration::from_secs(6), |client| client.check(1));
    assert_eq!(client.remote(), Some(2));
    client.pass(Duration::from_secs(3), |client| client.check(1));
    assert_eq!(client.remote(), Some(1), "media leave the address that is silent");
}

#[test]
fn consent_is_renewed_by_media() {
    let mut client = Client::new();
    client.check(1);
    client.pass(CONSENT * 3, |client| client.media(1));
    assert_eq!((client.remote(), client.states()), (Some(1), vec![IceState::Connected]));
    client.pass(CONSENT, |_| {});
    assert_eq!((client.remote(), client.states()), (None, vec![IceState::Disconnected]));
}

#[test]
fn a_disconnected_client_comes_back_by_any_sign_of_life() {
    type Sign = fn(&mut Client);
    let signs: [Sign; 5] = [
        |client| client.check(1),
        |client| client.check(2),
        |client| client.nominate(2, 0),
        |client| client.media(1),
        |client| {
            client.agent.restart(client.now, credentials("0000second"), &mut client.events);
            client.ufrag = "0000second";
            client.check(2);
        },
    ];
    for sign in signs {
        let mut client = Client::new();
        client.nominate(1, 100);
        client.pass(CONSENT + Duration::from_secs(30), |_| {});
        assert_eq!(client.states(), [IceState::Connected, IceState::Disconnected]);
        sign(&mut client);
        assert_eq!(client.states(), [IceState::Connected]);
        assert!(client.remote().is_some());
    }
    let mut client = Client::new();
    client.check(1);
    client.pass(CONSENT, |_| {});
    client.media(3);
    assert_eq!(client.remote(), None, "nobody ever checked from there");
}

#[test]
fn an_ice_restart_gives_the_client_its_whole_time_again() {
    let mut client = Client::new();
    client.nominate(1, 100);
    client.pass(Duration::from_secs(15), |_| {});
    client.agent.restart(client.now, credentials("0000second"), &mut client.events);
    client.pass(Duration::from_secs(19), |_| {});
    assert_eq!((client.remote(), client.states()), (Some(1), vec![IceState::Connected]));
    client.ufrag = "0000second";
    client.nominate(2, 1);
    assert_eq!(client.remote(), Some(2), "former nominations do not outrank those of a new session");
}

#[test]
fn a_restart_that_keeps_the_ufrag_retires_it_never() {
    let mut client = Client::new();
    let former = request(&format!("{UFRAG}:client"), PASSWORD, &[]);
    let pwd = "another password with 24 characters";
    let new = request(&format!("{UFRAG}:client"), pwd, &[]);
    let handle = |client: &mut Client, message: &[u8]| {
        let now = client.now;
        client.agent.handle(now, at(1), message, &mut client.events).1
    };
    assert_eq!(handle(&mut client, &former), Ok(()));
    let ice = IceCredentials { ufrag: UFRAG.to_owned(), pwd: pwd.to_owned() };
    client.agent.restart(client.now, ice, &mut client.events);
    assert_eq!(handle(&mut client, &former), Ok(()), "good until the new ones are used");
    assert_eq!(handle(&mut client, &new), Ok(()));
    assert_eq!(handle(&mut client, &former), Err(DropReason::StunUnauthenticated));
    assert!(!client.events.iter().any(|event| matches!(event, IceEvent::UfragRetired(_))), "{:?}", client.events);
}

#[test]
fn of_several_nominated_addresses_the_one_with_the_highest_priority_is_used() {
    let mut client = Client::new();
    client.pass(Duration::from_secs(30), |client| {
        client.nominate(1, 2_130_706_431);
        assert_eq!(client.remote(), Some(1));
        client.nominate(2, 1_000_000);
        assert_eq!(client.remote(), Some(1));
    });
    // One that is not nominated any more does not stand in the way.
    client.pass(Duration::from_secs(6), |client| client.nominate(2, 1_000_000));
    assert_eq!(client.remote(), Some(2));
    client.nominate(1, 2_130_706_431);
    assert_eq!(client.remote(), Some(1));
    // Of equals the newer.
    client.nominate(3, 2_130_706_431);
    assert_eq!(client.remote(), Some(3));
}

#[test]
fn counted_nominations_are_followed_in_their_own_order() {
    for attribute in [NOMINATION, GOOG_NOMINATION] {
        let mut client = Client::new();
        client.renominate(1, attribute, 1);
        assert_eq!(client.states(), [IceState::Connected]);
        client.check(2);
        assert_eq!(client.remote(), Some(1), "a plain check moves nothing");
        client.renominate(2, attribute, 2);
        assert_eq!(client.remote(), Some(2));
        client.check(1);
        client.renominate(1, attribute, 1);
        assert_eq!(client.remote(), Some(2), "a late one");
        client.renominate(1, attribute, 3);
        assert_eq!(client.remote(), Some(1));
        client.pass(CONSENT, |_| {});
        assert_eq!(client.remote(), None);
    }
}

#[test]
fn media_are_sent_to_where_media_come_from() {
    let mut client = Client::new();
    client.check(1);
    client.check(2);
    client.media(2);
    assert_eq!(client.remote(), Some(2));
    client.media(3);
    assert_eq!(client.remote(), Some(2), "only an authenticated address is followed");
    client.nominate(1, 0);
    client.media(2);
    assert_eq!(client.remote(), Some(1), "what is under way from the former address does not count");
    client.now += Duration::from_secs(2);
    client.media(2);
    assert_eq!(client.remote(), Some(2));
    client.agent.receive_handshake(client.now, at(1));
    assert_eq!(client.remote(), Some(1));
}

#[test]
fn a_client_that_never_nominates_is_followed_when_it_moves() {
    let mut client = Client::new();
    client.pass(Duration::from_secs(10), |client| client.check(1));
    client.pass(Duration::from_secs(10), |client| client.check(2));
    assert_eq!(client.remote(), Some(2));
    assert_eq!(client.states(), [IceState::Connected]);
}

#[test]
fn nominations_back_and_forth_are_no_events() {
    let mut client = Client::new();
    for _ in 0..1000 {
        client.now += Duration::from_millis(40);
        client.nominate(1, 100);
        client.nominate(2, 100);
        assert_eq!(client.remote(), Some(2));
    }
    assert_eq!(client.states(), [IceState::Connected]);
}

#[test]
fn new_addresses_are_learned_slowly_and_told_again() {
    let mut client = Client::new();
    let mut learned = 0;
    for port in 1..=200 {
        client.now += Duration::from_millis(100);
        learned += usize::from(client.check_with(at(port), &[]).is_ok());
        client.check(1);
    }
    assert_eq!(learned, 8 + 9, "eight at once, and one each 2 s");
    assert_eq!(client.remote(), Some(1));
    client.events.clear();
    let start = client.now;
    while client.now < start + Duration::from_secs(20) {
        client.now += Duration::from_millis(100);
        client.check(1);
        client.media(1);
    }
    assert_eq!(client.events, vec![IceEvent::AddressInUse(at(1)); 4]);
}

#[test]
fn an_ice_restart_tells_again_whose_the_address_is() {
    let mut client = Client::new();
    client.check(1);
    client.events.clear();
    client.now += Duration::from_secs(6);
    client.agent.restart(client.now, credentials("0000second"), &mut client.events);
    assert_eq!(client.events, [IceEvent::AddressInUse(at(1))]);
    client.media(1);
    assert_eq!(client.events.len(), 1, "once");
}

#[test]
fn checks_and_refusals_are_answered_at_a_bounded_rate() {
    let mut client = Client::new();
    let mut answered = (0, 0);
    for _ in 0..1000 {
        client.now += Duration::from_millis(1);
        match client.check_with(at(1), &[]) {
            Ok(()) => answered.0 += 1,
            Err(reason) => assert_eq!(reason, DropReason::StunFlood),
        }
        let forged = request(&format!("{UFRAG}:client"), "another password", &[]);
        let (answer, result) = client.agent.handle(client.now, at(2), &forged, &mut client.events);
        assert_eq!(result, Err(DropReason::StunUnauthenticated));
        answered.1 += usize::from(answer.is_some());
    }
    assert!((100..=150).contains(&answered.0) && (10..=20).contains(&answered.1), "{answered:?}");
}

#[test]
fn media_leave_a_connection_that_ended_for_the_path_that_was_heard_from_last() {
    let connection = TransportAddress::Tcp(at(1).socket_addr());
    let mut client = Client::new();
    client.check(1);
    client.check_with(connection, &[(ATTR_USE_CANDIDATE, vec![])]).unwrap();
    assert_eq!(client.agent.remote(), Some(connection), "it is not the address of UDP with the same numbers");
    client.events.clear();
    client.agent.forget(client.now, connection, &mut client.events);
    assert_eq!(client.agent.remote(), Some(at(1)));
    assert_eq!(client.events, [IceEvent::AddressForgotten(connection)]);
    client.agent.forget(client.now, connection, &mut client.events);
    assert_eq!(client.events.len(), 1, "it is not known any more");
}

#[test]
fn who_has_nothing_but_a_connection_is_gone_with_it_and_comes_back_by_another() {
    let connection = |port| TransportAddress::Tcp(at(port).socket_addr());
    let mut client = Client::new();
    client.check_with(connection(1), &[]).unwrap();
    client.check_with(connection(2), &[]).unwrap();
    client.agent.forget(client.now, connection(2), &mut client.events);
    assert_eq!(client.agent.remote(), Some(connection(1)), "the other one was not in use");
    client.agent.forget(client.now, connection(1), &mut client.events);
    assert_eq!((client.agent.remote(), client.agent.selected(), client.agent.poll_timeout()), (None, None, None));
    assert_eq!(client.states(), [IceState::Connected, IceState::Disconnected]);
    client.check_with(connection(3), &[]).unwrap();
    assert_eq!((client.agent.remote(), client.states()), (Some(connection(3)), vec![IceState::Connected]));
    // The path of UDP is there still, but nobody was heard from it for long.
    client.check(1);
    client.pass(CONSENT, |client| client.check_with(connection(3), &[]).unwrap());
    client.agent.forget(client.now, connection(3), &mut client.events);
    assert_eq!((client.agent.remote(), client.states()), (None, vec![IceState::Disconnected]));
}
