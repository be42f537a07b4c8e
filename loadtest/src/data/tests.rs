//! Two users with the whole client half, and between them a server that passes on what comes, over paths that lose some
//! of it, on virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::clock::Clock;
use crate::results::DataReceived;
use crate::scenario::Data;
use crate::session::Session;
use crate::tally::Tally;
use crate::transport::{
    Certificate, DataServer, Delivery, DtlsRole, Input, SctpMessage, TransportConfig, TransportState,
};

const DELAY: Duration = Duration::from_millis(20);
const SEED: u64 = 7;
/// The second user's, of what the first sends.
const STREAM: u16 = 5;

/// A user and the server's end of their transport.
struct Line {
    session: Session,
    server: DataServer,
}

impl Line {
    fn new(now: Instant, role: DtlsRole, seed: u64, wants_data: bool) -> Self {
        let certificate = Certificate::generate().unwrap();
        let servers = if role == DtlsRole::Client { DtlsRole::Server } else { DtlsRole::Client };
        let server = DataServer::new(now, servers, certificate.fingerprint(), seed).unwrap();
        let mut remote = server.parameters(([127, 0, 0, 1], 4444).into());
        remote.sctp = remote.sctp.filter(|_| wants_data);
        let clock = Clock::new(now, Duration::from_secs(1_800_000_000));
        let config = TransportConfig { dtls_role: role, ..TransportConfig::new(certificate) };
        Self { session: Session::new(now, clock, &config, remote, seed).unwrap(), server }
    }
}

#[derive(Clone, Copy)]
enum To {
    User(usize),
    Server(usize),
}

/// The first user sends, and the second receives.
struct Meeting {
    now: Instant,
    lines: [Line; 2],
    data: Data,
    /// Share of the datagrams that get lost, each way of each user. The handshakes of DTLS are not what is tested here:
    /// nothing is lost before they are done.
    loss: [f64; 2],
    under_way: BTreeMap<(Instant, u64), (To, Vec<u8>)>,
    sent: u64,
    rng: ChaCha8Rng,
}

impl Meeting {
    fn new(data: Data, role: DtlsRole) -> Self {
        eprintln!("seed {SEED}");
        let now = crate::clock::tests::instant();
        let mut meeting = Self {
            now,
            lines: [1, 2].map(|seed| Line::new(now, role, seed, true)),
            data,
            loss: [0.0; 2],
            under_way: BTreeMap::new(),
            sent: 0,
            rng: ChaCha8Rng::seed_from_u64(SEED),
        };
        meeting.lines[0].session.send_data(now, 0, data, SEED);
        meeting.lines[1].session.receive_data(STREAM, data.delivery);
        meeting
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let timeouts = self.lines.iter().flat_map(|line| [line.session.poll_timeout(), line.server.poll_timeout()]);
            let arrival = self.under_way.keys().next().map(|(at, _)| *at);
            match timeouts.chain([arrival]).flatten().min() {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            while let Some(arrival) = self.under_way.first_entry().filter(|arrival| arrival.key().0 <= self.now) {
                let (to, datagram) = arrival.remove();
                self.arrive(to, datagram);
            }
            for line in &mut self.lines {
                if line.session.poll_timeout().is_some_and(|at| at <= self.now) {
                    line.session.handle_input(self.now, Input::Timeout);
                }
                if line.server.poll_timeout().is_some_and(|at| at <= self.now) {
                    line.server.handle_timeout(self.now).unwrap();
                }
            }
        }
        self.now = end;
    }

    fn arrive(&mut self, to: To, mut datagram: Vec<u8>) {
        match to {
            To::User(user) => self.lines[user].session.handle_input(self.now, Input::Datagram(&mut datagram)),
            To::Server(user) => {
                for answer in self.lines[user].server.handle(self.now, &datagram).unwrap() {
                    self.send(To::User(user), answer);
                }
            }
        }
    }

    /// What is to be sent is, and the server passes on what came from the first user to the second.
    fn settle(&mut self) {
        while let Some(SctpMessage { payload, .. }) = self.lines[0].server.poll_message() {
            let message = SctpMessage { stream: STREAM, payload };
            assert!(self.lines[1].server.send_message(self.now, &self.data.delivery, message).unwrap());
        }
        for user in [0, 1] {
            while let Some(datagram) = self.lines[user].session.poll_transmit() {
                self.send(To::Server(user), datagram.to_vec());
            }
            while let Some(record) = self.lines[user].server.poll_transmit() {
                self.send(To::User(user), record);
            }
            for state in self.lines[user].session.poll_states() {
                assert!(matches!(state, TransportState::Connected(_)), "user {user}: {state:?}");
            }
        }
    }

    fn send(&mut self, to: To, datagram: Vec<u8>) {
        let (To::User(user) | To::Server(user)) = to;
        if !self.rng.random_bool(self.loss[user]) {
            self.under_way.insert((self.now + DELAY, self.sent), (to, datagram));
            self.sent += 1;
        }
    }

    /// What the first user sent, and what came of it to the second.
    fn tallies(&mut self) -> (Tally, Tally) {
        let [first, second] = &mut self.lines;
        (first.session.tally(self.now), second.session.tally(self.now))
    }
}

const DATA: Data = Data {
    messages_per_second: 20,
    message_bytes: 200,
    delivery: Delivery { ordered: true, max_retransmits: None, max_packet_lifetime: None },
};

/// Runs for a minute with loss, and 15 s without it for what was late.
fn meeting(delivery: Delivery, loss: f64) -> (Tally, DataReceived) {
    let mut meeting = Meeting::new(Data { delivery, ..DATA }, DtlsRole::Client);
    meeting.run(Duration::from_secs(1));
    meeting.loss = [loss; 2];
    meeting.run(Duration::from_secs(60));
    meeting.loss = [0.0; 2];
    meeting.run(Duration::from_secs(15));
    let (sent, received) = meeting.tallies();
    eprintln!("{:?} {:?} {:?}", sent.sent_data, received.data.sums, received.data.delay);
    assert_eq!((sent.sent_data.channels, sent.sent_data.refused), (1, 0));
    assert!(received.data.delay.quantile(0.0).unwrap() >= 2 * DELAY, "{:?}", received.data.delay);
    assert_eq!(meeting.lines[1].session.stats().unknown_messages, 0);
    (sent, received.data.sums)
}

#[test]
fn reliable_messages_all_come_once_and_in_order() {
    let (sent, received) = meeting(DATA.delivery, 0.1);
    let messages = sent.sent_data.messages;
    assert!(messages > 60 * 20, "{messages} messages");
    assert!(messages - received.messages <= 2, "what is still under way");
    assert_eq!((received.expected, received.channels), (received.messages, 1));
    assert_eq!([received.lost, received.duplicates, received.out_of_order, received.violations], [0; 4]);
    assert_eq!(received.bytes, received.messages * 200);
}

#[test]
fn reliable_messages_may_overtake_each_other_where_they_need_not_wait() {
    let (_, received) = meeting(Delivery { ordered: false, ..DATA.delivery }, 0.1);
    assert!(received.out_of_order > 0, "{received:?}");
    assert_eq!([received.lost, received.duplicates, received.violations], [0; 3]);
}

#[test]
fn messages_that_are_sent_once_get_lost() {
    for ordered in [true, false] {
        let (_, received) = meeting(Delivery { ordered, max_retransmits: Some(0), ..DATA.delivery }, 0.1);
        assert_eq!(received.messages + received.lost, received.expected);
        let lost = received.lost as f64 / received.expected as f64;
        // Two ways of 10%, over the 60 s of 76 in which they lose.
        assert!((0.08..0.25).contains(&lost), "{lost} of {received:?}");
        assert_eq!((received.duplicates, received.violations), (0, 0));
    }
}

#[test]
fn messages_on_streams_that_nobody_announced_are_not_anybodys() {
    let mut meeting = Meeting::new(DATA, DtlsRole::Client);
    meeting.lines[1].session.stop_receiving_data(STREAM);
    meeting.run(Duration::from_secs(2));
    let (_, received) = meeting.tallies();
    assert_eq!((received.data.sums.messages, received.data.sums.channels), (0, 0));
    assert!(meeting.lines[1].session.stats().unknown_messages > 20);
}

#[test]
fn large_messages_come_whole_in_either_role_of_dtls() {
    for role in [DtlsRole::Client, DtlsRole::Server] {
        let mut meeting = Meeting::new(Data { message_bytes: 100_000, ..DATA }, role);
        meeting.run(Duration::from_secs(5));
        let (sent, received) = meeting.tallies();
        let (messages, data) = (sent.sent_data.messages, received.data.sums);
        assert!(data.messages > 50 && messages - data.messages < 50, "{role:?}: {messages} sent, {data:?}");
        assert_eq!((data.bytes, data.violations), (data.messages * 100_000, 0), "{role:?}");
    }
}

#[test]
fn who_cannot_send_refuses_what_has_no_room() {
    let mut meeting = Meeting::new(Data { message_bytes: 100_000, ..DATA }, DtlsRole::Client);
    meeting.run(Duration::from_secs(2));
    // Nothing of the sender's passes, and a megabyte may wait besides what is under way.
    meeting.loss = [1.0, 0.0];
    meeting.run(Duration::from_secs(5));
    let (sent, _) = meeting.tallies();
    assert!((50..100).contains(&sent.sent_data.refused), "{:?}", sent.sent_data);
    meeting.loss = [0.0; 2];
    meeting.run(Duration::from_secs(20));
    let (_, received) = meeting.tallies();
    let data = received.data.sums;
    assert!(data.messages > 20 * 10, "it goes on: {data:?}");
    assert_eq!((data.lost, data.violations), (0, 0), "what was refused is not missed");
}

#[test]
fn who_wants_no_data_has_no_association() {
    let mut meeting = Meeting::new(DATA, DtlsRole::Client);
    meeting.lines[0] = Line::new(meeting.now, DtlsRole::Client, 3, false);
    meeting.lines[0].session.send_data(meeting.now, 0, DATA, SEED);
    meeting.run(Duration::from_secs(2));
    let transport = meeting.lines[0].session.transport();
    assert!(!transport.is_associated());
    assert!(transport.counters().dropped_unknown > 0, "the server tries to associate");
    let (sent, _) = meeting.tallies();
    assert_eq!((sent.sent_data.channels, sent.sent_data.messages), (0, 0));
}
