use std::net::UdpSocket;
use std::time::Duration;

use sluice_media::TransportAddress;

use super::*;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

fn client() -> UdpSocket {
    let client = UdpSocket::bind(ANY).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client
}

/// Receives until `count` datagrams are there; the kernel hands them over on its own time.
fn receive(socket: &mut MediaSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut received = Vec::new();
    for _ in 0..10_000_000 {
        let (batch, _) = socket.receive(MAX_MESSAGES, false);
        received.extend(batch.into_datagrams().map(|(source, data)| (source, data.to_vec())));
        if received.len() >= count {
            return received;
        }
        std::thread::yield_now();
    }
    panic!("{} of {count} datagrams", received.len());
}

fn transmit(destination: SocketAddr, segment_size: Option<usize>, len: usize) -> Transmit {
    Transmit {
        destination: TransportAddress::Udp(destination),
        is_video: true,
        segment_size,
        contents: (0..len).map(|at| (at / 100) as u8).collect(),
    }
}

#[test]
fn workers_share_the_port_and_strangers_do_not() {
    let sockets = bind_all(ANY, 3, 1 << 20).unwrap();
    let addr = sockets[0].local_addr().unwrap();
    assert!(sockets.iter().all(|socket| socket.local_addr().unwrap() == addr));
    drop(sockets);

    // Somebody who bound the port alone keeps it, and one who shares it by the option gets no company unnoticed.
    let alone = UdpSocket::bind(ANY).unwrap();
    assert_eq!(bind_all(alone.local_addr().unwrap(), 2, 1 << 20).err().unwrap().kind(), ErrorKind::AddrInUse);
    let node = bind_all(ANY, 2, 1 << 20).unwrap();
    assert_eq!(bind_all(node[0].local_addr().unwrap(), 2, 1 << 20).err().unwrap().kind(), ErrorKind::AddrInUse);
}

/// A client of IPv4 reaches a node that listens on all addresses of IPv6, and gets its answers.
#[test]
fn all_addresses_of_ipv6_are_those_of_ipv4_too() {
    let client = client();
    let Ok(mut sockets) = bind_all("[::]:0".parse().unwrap(), 1, 1 << 20) else {
        return println!("no IPv6 here");
    };
    let socket = &mut sockets[0];
    let port = socket.local_addr().unwrap().port();
    client.send_to(b"from IPv4", ("127.0.0.1", port)).unwrap();
    let (source, data) = receive(socket, 1).remove(0);
    assert_eq!(data, b"from IPv4");
    assert!(socket.send(transmit(source, Some(100), 250)).is_some());
    let mut buffer = [0; 2000];
    let answers: Vec<_> = (0..3).map(|_| client.recv_from(&mut buffer).unwrap()).collect();
    assert_eq!(answers, [100, 100, 50].map(|len| (len, SocketAddr::from(([127, 0, 0, 1], port)))));
    assert_eq!(socket.drops().nonzero().count(), 0);
}

#[test]
fn runs_leave_as_single_datagrams_and_merged_ones_are_cut() {
    let client = client();
    let mut sockets = bind_all(ANY, 1, 1 << 20).unwrap();
    let socket = &mut sockets[0];
    let emptied = socket.send(transmit(client.local_addr().unwrap(), Some(100), 950));
    assert_eq!(emptied.unwrap().len(), 950);
    let mut buffer = [0; 2000];
    for index in 0..10 {
        let (len, source) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(source, socket.local_addr().unwrap());
        assert_eq!(buffer[..len], [index; 100][..if index == 9 { 50 } else { 100 }]);
    }

    // To itself: segmentation offload on the way out, merging on the way in where the kernel does it.
    let own = socket.local_addr().unwrap();
    assert!(socket.send(transmit(own, Some(100), 950)).is_some());
    let received = receive(socket, 10);
    for (index, (source, data)) in received.iter().enumerate() {
        assert_eq!(*source, own);
        assert_eq!(data[..], [index as u8; 100][..if index == 9 { 50 } else { 100 }]);
    }
    assert_eq!(socket.drops().nonzero().count(), 0);
}

#[test]
fn what_cannot_be_segmented_leaves_one_by_one() {
    let client = client();
    let sockets = bind_all(ANY, 1, 1 << 20).unwrap();
    let mut sender = Sender::new(1);
    let transmit = transmit(client.local_addr().unwrap(), Some(100), 250);
    assert_eq!(sender.send(&sockets[0].socket, &transmit), Sent::Done);
    let lens: Vec<_> = (0..3).map(|_| client.recv(&mut [0; 2000]).unwrap()).collect();
    assert_eq!(lens, [100, 100, 50]);
    assert_eq!(sender.drops().nonzero().count(), 0);
}

/// Sends a run to itself, and tells how many buffers it came back in: one, if it left in one.
fn buffers_of_a_run(socket: &mut MediaSocket) -> usize {
    let own = socket.local_addr().unwrap();
    assert!(socket.send(transmit(own, Some(100), 1000)).is_some());
    let (mut buffers, mut datagrams) = (0, 0);
    while datagrams < 10 {
        let (batch, _) = socket.receive(MAX_MESSAGES, false);
        buffers += batch.metas.len();
        datagrams += batch.into_datagrams().count();
        std::thread::yield_now();
    }
    buffers
}

#[test]
fn a_destination_that_takes_no_runs_leaves_segmentation_to_the_others() {
    let mut sockets = bind_all(ANY, 1, 1 << 20).unwrap();
    let socket = &mut sockets[0];
    let usual = buffers_of_a_run(socket);
    let nowhere = || transmit("127.0.0.1:0".parse().unwrap(), Some(100), 1000);
    for _ in 0..100 {
        assert!(socket.send(nowhere()).is_some());
        assert_eq!(buffers_of_a_run(socket), usual);
    }
    assert_eq!(socket.drops().get(DropReason::SocketError), 100 * 10);
    // If nothing but refusals comes, segmentation is given up, and comes back.
    (0..100).for_each(|_| drop(socket.send(nowhere())));
    let tries = (0..1000).find(|_| buffers_of_a_run(socket) == usual);
    assert!(tries.is_some());
    assert_eq!(buffers_of_a_run(socket), usual);
}

#[test]
fn what_the_system_refuses_is_counted() {
    let mut sockets = bind_all(ANY, 1, 1 << 20).unwrap();
    // IPv6 has no way out of an IPv4 socket.
    assert!(sockets[0].send(transmit("[::1]:9".parse().unwrap(), Some(100), 250)).is_some());
    assert_eq!(sockets[0].drops().get(DropReason::SocketError), 3);
}

#[test]
fn many_datagrams_are_received_in_bounded_turns() {
    let client = client();
    let mut sockets = bind_all(ANY, 1, 4 << 20).unwrap();
    let socket = &mut sockets[0];
    for index in 0..200_u8 {
        client.send_to(&[index; 50], socket.local_addr().unwrap()).unwrap();
    }
    let received = receive(socket, 200);
    assert!(received.iter().enumerate().all(|(index, (_, data))| data[..] == [index as u8; 50]));
}

#[test]
fn an_error_of_an_earlier_packet_leaves_the_socket_readable() {
    let client = client();
    let mut sockets = bind_all(ANY, 1, 1 << 20).unwrap();
    let socket = &mut sockets[0];
    options::set(socket.socket.as_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, 1).unwrap();
    let closed = UdpSocket::bind(ANY).unwrap().local_addr().unwrap();
    let own = socket.local_addr().unwrap();
    assert!(socket.send(transmit(closed, None, 10)).is_some());
    client.send_to(&[7; 10], own).unwrap();
    let (batch, more) = socket.receive(MAX_MESSAGES, false);
    assert_eq!(batch.into_datagrams().count(), 0, "the port is closed, says the kernel");
    assert!(more);
    assert_eq!(receive(socket, 1), [(client.local_addr().unwrap(), vec![7; 10])]);
    assert!(!socket.receive(MAX_MESSAGES, false).1);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the kernel stamps by the clock")]
fn it_is_known_how_long_the_first_datagram_has_waited() {
    let client = client();
    let mut sockets = bind_all(ANY, 1, 1 << 20).unwrap();
    let socket = &mut sockets[0];
    let waits = Duration::from_millis(2);
    // The kernel begins to stamp a moment after it is told to.
    let is_known = (0..100).any(|_| {
        client.send_to(&[0; 50], socket.local_addr().unwrap()).unwrap();
        let sent = std::time::Instant::now();
        while sent.elapsed() < waits {
            std::thread::yield_now();
        }
        client.send_to(&[1; 50], socket.local_addr().unwrap()).unwrap();
        let (batch, more) = socket.receive(MAX_MESSAGES, true);
        let waited = batch.waited;
        assert_eq!((batch.into_datagrams().count(), more), (2, false));
        // The clocks differ, but not by a fifth.
        waited.is_some_and(|waited| waited >= waits * 4 / 5)
    });
    assert!(is_known);

    for index in 0..3 {
        client.send_to(&[index; 50], socket.local_addr().unwrap()).unwrap();
    }
    for left in [true, true, true, false] {
        let (batch, more) = socket.receive(1, false);
        assert_eq!((batch.waited, batch.into_datagrams().count(), more), (None, usize::from(left), left));
    }
}

#[test]
fn buffers_that_the_system_cuts_are_noticed() {
    let modest = unbound(ANY, Type::DGRAM, 4096).unwrap();
    assert_eq!(clamped(&modest, 1024).unwrap(), []);
    let asked = 1 << 30;
    let greedy = unbound(ANY, Type::DGRAM, asked).unwrap();
    let clamped = clamped(&greedy, asked).unwrap();
    let sysctls: Vec<_> = clamped.iter().map(|clamped| clamped.sysctl).collect();
    assert_eq!(sysctls, ["net.core.rmem_max", "net.core.wmem_max"]);
    let granted: usize = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap().trim().parse().unwrap();
    assert_eq!((clamped[0].asked, clamped[0].granted), (asked, granted));
}

#[test]
fn what_overflows_the_kernels_buffer_is_counted() {
    let client = client();
    let mut sockets = bind_all(ANY, 1, 4096).unwrap();
    let socket = &mut sockets[0];
    for _ in 0..200 {
        client.send_to(&[0; 1000], socket.local_addr().unwrap()).unwrap();
    }
    let mut received = 0;
    while let Some(count) =
        Some(socket.receive(MAX_MESSAGES, false).0.into_datagrams().count()).filter(|count| *count > 0)
    {
        received += count as u64;
    }
    let lost = socket.drops().get(DropReason::ReceiveBufferFull);
    assert!(lost > 0 && received > 0);
    assert_eq!(received + lost, 200);
}

/// A thread's own network: this end, a router, and a viewer behind a link of 1,280 bytes. Needs root and iproute2.
struct NarrowPath {
    router: std::process::Child,
    viewer: std::process::Child,
}

impl NarrowPath {
    fn new() -> Option<Self> {
        // SAFETY: it gives this thread a network namespace of its own, and touches no memory.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            return None;
        }
        let namespace = || {
            let sleep = ["-n", "sh", "-c", "echo made; exec sleep 120"];
            let mut child =
                std::process::Command::new("unshare").args(sleep).stdout(std::process::Stdio::piped()).spawn().ok()?;
            let mut made = [0; 5];
            std::io::Read::read_exact(child.stdout.as_mut()?, &mut made).ok()?;
            Some(child)
        };
        let path = Self { router: namespace()?, viewer: namespace()? };
        let (router, viewer) = (path.router.id(), path.viewer.id());
        let here = [
            format!("ip link add wide type veth peer name wide netns {router}"),
            "ip addr add 10.98.0.1/24 dev wide; ip -6 addr add fd98::1/64 dev wide nodad".to_owned(),
            "ip link set wide up; ip link set lo up".to_owned(),
            "ip route add default via 10.98.0.2; ip -6 route add default via fd98::2".to_owned(),
        ];
        let at_router = [
            format!("ip link add narrow mtu 1280 type veth peer name narrow mtu 1280 netns {viewer}"),
            "ip addr add 10.98.0.2/24 dev wide; ip -6 addr add fd98::2/64 dev wide nodad".to_owned(),
            "ip addr add 10.99.0.2/24 dev narrow; ip -6 addr add fd99::2/64 dev narrow nodad".to_owned(),
            "ip link set wide up; ip link set narrow up".to_owned(),
            "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding".to_owned(),
        ];
        let at_viewer = [
            "ip addr add 10.99.0.1/24 dev narrow; ip -6 addr add fd99::1/64 dev narrow nodad".to_owned(),
            "ip link set narrow up".to_owned(),
            "ip route add default via 10.99.0.2; ip -6 route add default via fd99::2".to_owned(),
        ];
        let run = |inside: Option<u32>, command: &str| {
            let enter = inside.map_or(String::new(), |pid| format!("nsenter -t {pid} -n "));
            let status = std::process::Command::new("sh").args(["-ec", &format!("{enter}sh -ec '{command}'")]).status();
            assert!(status.is_ok_and(|status| status.success()), "{enter}{command}");
        };
        here.iter().for_each(|command| run(None, command));
        at_router.iter().for_each(|command| run(Some(router), command));
        at_viewer.iter().for_each(|command| run(Some(viewer), command));
        Some(path)
    }

    /// A socket in the viewer's network.
    fn viewer_socket(&self, address: SocketAddr) -> UdpSocket {
        let namespace = std::fs::File::open(format!("/proc/{}/ns/net", self.viewer.id())).unwrap();
        let bind = move || {
            // SAFETY: the descriptor is open; it moves this thread, which ends soon, into a network namespace.
            assert_eq!(unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&namespace), libc::CLONE_NEWNET) }, 0);
            UdpSocket::bind(address).unwrap()
        };
        let socket = std::thread::spawn(bind).join().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }
}

impl Drop for NarrowPath {
    fn drop(&mut self) {
        for child in [&mut self.router, &mut self.viewer] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn packets_above_the_mtu_of_a_path_arrive() {
    let over = |path: &NarrowPath, from: &str, to: &str| {
        let viewer = path.viewer_socket(to.parse().unwrap());
        let mut sockets = bind_all(from.parse().unwrap(), 1, 1 << 20).unwrap();
        let to = viewer.local_addr().unwrap();
        let mut buffer = [0; 2000];
        // IPv6 has to be told of the path by its first packet, which is lost: such are the rules (RFC 8201).
        if to.is_ipv6() {
            sockets[0].send(transmit(to, None, 1400));
            viewer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            let _ = viewer.recv(&mut buffer);
            viewer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        for len in [1200, 1252, 1253, 1400, 1472] {
            for segments in [1, 3] {
                let size = Some(len).filter(|_| segments > 1);
                assert!(sockets[0].send(transmit(to, size, len * segments)).is_some());
                (0..segments).for_each(|_| assert_eq!(viewer.recv(&mut buffer).unwrap(), len));
            }
        }
        assert_eq!(sockets[0].drops().nonzero().count(), 0);
    };
    // The namespace is the thread's and ends with it.
    let test = std::thread::spawn(move || {
        let Some(path) = NarrowPath::new() else {
            return println!("not run: it takes root, unshare and ip");
        };
        over(&path, "10.98.0.1:0", "10.99.0.1:0");
        over(&path, "0.0.0.0:0", "10.99.0.1:0");
        over(&path, "[fd98::1]:0", "[fd99::1]:0");
        over(&path, "[::]:0", "[fd99::1]:0");
    });
    test.join().unwrap();
}
