//! Whose is an address? Two workers on virtual time: all datagrams come to the first one's socket, and it passes on
//! what is not its own.
#![allow(clippy::disallowed_methods, reason = "an origin for virtual time")]

use super::*;
use crate::address::TransportAddress;
use crate::io::Datagram;
use crate::messages::{Account, Request, RequestError, RequestId, Response, WorkerSnapshot};
use crate::secure::ice::{IceCredentials, IceState};
use crate::transport::demux::make_ufrag;
use crate::wire::stun::tests::{PASSWORD, request};

const FIRST: usize = 0;
const SECOND: usize = 1;
const MEDIA: [u8; 40] = [0x80; 40];

struct Workers {
    now: Instant,
    workers: [Media; 2],
    answers: usize,
}

fn address(port: u16) -> TransportAddress {
    TransportAddress::Udp(([192, 0, 2, 33], port).into())
}

fn transport(number: u8) -> TransportId {
    TransportId::from_random_bytes([number; 16])
}

impl Workers {
    fn new() -> Self {
        let now = Instant::now();
        let certificate = DtlsCertificate::generate().unwrap();
        let worker = |index| {
            let epoch = (now, Duration::from_secs(1_700_000_000));
            Media::new(MediaConfig {
                worker: WorkerIndex(index),
                certificate: certificate.clone(),
                epoch,
                seed: 1,
                audio: AudioLimits::default(),
                data: DataLimits::default(),
            })
        };
        let mut workers = Self { now, workers: [worker(0), worker(1)], answers: 0 };
        for worker in [FIRST, SECOND] {
            workers.request(
                worker,
                Request::CreateRouter { router: RouterId::from_random_bytes([1; 16]), account: Account(0) },
            );
        }
        workers
    }

    fn request(&mut self, worker: usize, request: Request) -> Response {
        self.try_request(worker, request).unwrap()
    }

    fn try_request(&mut self, worker: usize, request: Request) -> Result<Response, RequestError> {
        let command = WorkerCommand::Request { id: RequestId(0), request };
        self.workers[worker].handle_input(self.now, Input::Command(command));
        let mut response = None;
        while let Some(output) = self.workers[worker].poll_output() {
            match output {
                Output::Event(WorkerEvent::Response { result, .. }) => response = Some(result),
                Output::AddressOwned { address, owned } => self.tell(worker, address, owned),
                _ => {}
            }
        }
        response.expect("every request is answered at once")
    }

    fn tell(&mut self, worker: usize, address: TransportAddress, owned: bool) {
        let TransportAddress::Udp(address) = address else { return };
        let input = Input::AddressOwned { address, worker: WorkerIndex(worker as u16), owned };
        self.workers[1 - worker].handle_input(self.now, input);
    }

    fn transport(&mut self, worker: usize, number: u8) -> Vec<u8> {
        let ufrag = make_ufrag(WorkerIndex(worker as u16), &format!("test{number}"));
        let check = request(&format!("{ufrag}:client"), PASSWORD, &[]);
        let router = RouterId::from_random_bytes([1; 16]);
        let ice = IceCredentials { ufrag, pwd: PASSWORD.to_owned() };
        self.request(
            worker,
            Request::CreateWebRtcTransport { router, transport: transport(number), ice, data_channels: false },
        );
        check
    }

    /// A datagram comes to the first worker's socket. Whether there was an answer.
    fn datagram(&mut self, source: TransportAddress, data: &[u8]) -> bool {
        self.answers = 0;
        self.receive(FIRST, source, data.to_vec());
        self.answers > 0
    }

    fn receive(&mut self, worker: usize, source: TransportAddress, mut data: Vec<u8>) {
        self.workers[worker].handle_input(self.now, Input::Datagrams(&mut [Datagram { source, data: &mut data }]));
        while let Some(output) = self.workers[worker].poll_output() {
            match output {
                Output::Transmit(_) => self.answers += 1,
                Output::Forward { to, source, data, .. } => {
                    self.receive(usize::from(to.0), TransportAddress::Udp(source), data);
                }
                // As the driver does: who needs to know is who passed the datagram on.
                Output::AddressOwned { address, owned } if !owned || worker == SECOND => {
                    self.tell(worker, address, owned)
                }
                _ => {}
            }
        }
    }

    fn dropped(&mut self, worker: usize, label: &str) -> u64 {
        let Response::Snapshot(snapshot) = self.request(worker, Request::Snapshot) else { panic!("no snapshot") };
        let WorkerSnapshot { drops, .. } = *snapshot;
        drops.iter().find(|(name, _)| *name == label).map_or(0, |(_, count)| *count)
    }

    /// Which worker has a transport that takes media from there: it has no keys yet, and so counts them.
    fn owner(&mut self, source: TransportAddress) -> Option<usize> {
        let count = |workers: &mut Self| [FIRST, SECOND].map(|worker| workers.dropped(worker, "dtls_not_connected"));
        let before = count(self);
        self.datagram(source, &MEDIA);
        let after = count(self);
        (0..2).find(|worker| after[*worker] > before[*worker])
    }
}

#[test]
fn nobody_takes_an_address_that_is_in_use() {
    for (victims, attackers) in [(FIRST, FIRST), (FIRST, SECOND), (SECOND, FIRST), (SECOND, SECOND)] {
        let mut workers = Workers::new();
        let (victim, attacker) = (workers.transport(victims, 1), workers.transport(attackers, 2));
        assert!(workers.datagram(address(1), &victim));
        for _ in 0..20 {
            workers.now += Duration::from_millis(2500);
            assert!(!workers.datagram(address(1), &attacker), "{victims} {attackers}");
            assert!(workers.datagram(address(1), &victim));
            assert_eq!(workers.owner(address(1)), Some(victims));
        }
        let dropped: u64 = [FIRST, SECOND].map(|worker| workers.dropped(worker, "address_taken")).iter().sum();
        // Where both belong to the worker that the check was passed on to, that one refuses.
        assert_eq!(dropped, 20, "{victims} {attackers}");
        let transport = transport(2);
        workers.request(attackers, Request::CloseTransport { transport });
        assert_eq!(workers.owner(address(1)), Some(victims));
    }
}

#[test]
fn an_address_that_fell_silent_is_free() {
    for (former, next) in [(FIRST, FIRST), (FIRST, SECOND), (SECOND, FIRST), (SECOND, SECOND)] {
        let mut workers = Workers::new();
        let (gone, new) = (workers.transport(former, 1), workers.transport(next, 2));
        assert!(workers.datagram(address(1), &gone));
        let mut waited = Duration::ZERO;
        while !workers.datagram(address(1), &new) {
            workers.now += Duration::from_secs(1);
            waited += Duration::from_secs(1);
        }
        assert!((20..=25).contains(&waited.as_secs()), "{former} {next}: {waited:?}");
        assert_eq!(workers.owner(address(1)), Some(next), "{former} {next}");
        // The end of the former owner is none of the new one's.
        workers.request(former, Request::CloseTransport { transport: transport(1) });
        assert_eq!(workers.owner(address(1)), Some(next), "{former} {next}");
        workers.request(next, Request::CloseTransport { transport: transport(2) });
        assert_eq!(workers.owner(address(1)), None);
    }
}

#[test]
fn one_client_takes_nobody_elses_uplink() {
    let mut workers = Workers::new();
    let (victim, attacker) = (workers.transport(SECOND, 1), workers.transport(SECOND, 2));
    assert!(workers.datagram(address(1), &victim));
    let start = workers.now;
    for check in 0..70_000_u32 {
        workers.now = start + Duration::from_micros(100) * check;
        workers.datagram(address(1000 + check as u16 % 10), &attacker);
    }
    assert_eq!(workers.owner(address(1)), Some(SECOND));
}

#[test]
fn whoever_forgot_an_address_hears_of_it_again() {
    let mut workers = Workers::new();
    let client = workers.transport(SECOND, 1);
    assert!(workers.datagram(address(1), &client));
    assert_eq!(workers.owner(address(1)), Some(SECOND));
    // The message was lost, or the entry had to go.
    workers.tell(SECOND, address(1), false);
    assert_eq!(workers.owner(address(1)), None);
    workers.now += Duration::from_secs(5);
    assert!(workers.datagram(address(1), &client));
    assert_eq!(workers.owner(address(1)), Some(SECOND));
}

#[test]
fn nobody_takes_a_ufrag_that_is_in_use() {
    let mut workers = Workers::new();
    let (router, own) = (RouterId::from_random_bytes([1; 16]), transport(1));
    let check = workers.transport(FIRST, 1);
    workers.transport(FIRST, 2);
    let ice = |number| {
        let ufrag = make_ufrag(WorkerIndex(0), &format!("test{number}"));
        IceCredentials { ufrag, pwd: PASSWORD.to_owned() }
    };
    let create = Request::CreateWebRtcTransport { router, transport: transport(3), ice: ice(1), data_channels: false };
    assert!(matches!(workers.try_request(FIRST, create), Err(RequestError::AlreadyExists(_))));
    let close = Request::CloseTransport { transport: transport(3) };
    assert!(matches!(workers.try_request(FIRST, close), Err(RequestError::TransportNotFound(_))), "nothing changed");
    let restart = Request::RestartIce { transport: transport(2), ice: ice(1) };
    assert!(matches!(workers.try_request(FIRST, restart), Err(RequestError::AlreadyExists(_))));
    workers.request(FIRST, Request::CloseTransport { transport: transport(2) });
    assert!(workers.datagram(address(1), &check));
    assert_eq!(workers.dropped(FIRST, "stun_unauthenticated"), 0);
    // A transport that keeps its ufrag is found by it, however often that is used before or after.
    for _ in 0..3 {
        workers.request(FIRST, Request::RestartIce { transport: own, ice: ice(1) });
        workers.request(FIRST, Request::RestartIce { transport: own, ice: ice(1) });
        assert!(workers.datagram(address(1), &check));
        assert!(workers.datagram(address(1), &check));
    }
    // What it gave up is free.
    workers.request(FIRST, Request::RestartIce { transport: own, ice: ice(4) });
    workers.request(FIRST, Request::RestartIce { transport: own, ice: ice(5) });
    assert!(workers.datagram(address(1), &check), "the former ones are good until the new ones are used");
    let create = Request::CreateWebRtcTransport { router, transport: transport(3), ice: ice(4), data_channels: false };
    workers.request(FIRST, create);
}

#[test]
fn a_connection_is_its_clients_until_it_ends_and_no_other_worker_hears_of_it() {
    let mut workers = Workers::new();
    let (check, other) = (workers.transport(FIRST, 1), workers.transport(FIRST, 2));
    let of_second = workers.transport(SECOND, 3);
    let connection = TransportAddress::Tcp(address(1).socket_addr());
    assert!(workers.datagram(connection, &check));
    assert!(!workers.datagram(connection, &other), "it is somebody's");
    assert!(!workers.datagram(connection, &of_second), "it is not passed on");
    assert!(workers.datagram(address(1), &other), "of UDP it is another address");
    assert_eq!(workers.owner(connection), Some(FIRST));
    workers.workers[FIRST].handle_input(workers.now, Input::ConnectionEnded(connection.socket_addr()));
    let outputs: Vec<_> = std::iter::from_fn(|| workers.workers[FIRST].poll_output()).collect();
    assert!(
        outputs.iter().any(|output| {
            matches!(output, Output::AddressOwned { address, owned: false } if *address == connection)
        })
    );
    assert!(outputs.iter().any(|output| {
        matches!(output, Output::Event(WorkerEvent::IceStateChanged { state: IceState::Disconnected, .. }))
    }));
    assert_eq!(workers.owner(connection), None);
    assert!(workers.datagram(connection, &other), "whoever connects from there next has it");
}
