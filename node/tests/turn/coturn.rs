//! coturn's own client, which is none of ours, against the node: it allocates, binds channels, sends, and goes.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use sluice_loadtest::signalling::trust_anyone;
use sluice_loadtest::user::UserConfig;

use super::*;

/// Clients at once, each with an allocation, and what each of them sends.
const CLIENTS: u64 = 4;
const MESSAGES: u64 = 20;
const MESSAGE_BYTES: u64 = 300;

/// The media port's address, as the client knows it.
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const PORT: u16 = 4444;

/// Until it is through: it sends every 20 ms, and waits some seconds for what does not come back.
const THROUGH: Duration = Duration::from_secs(90);

/// What it prints, or `None` where it is not installed.
async fn uclient(node: &Node, credentials: &Credentials, by: &[&str]) -> Option<String> {
    let mut command = Command::new("turnutils_uclient");
    // Without pairs of ports for RTP and RTCP.
    command.args(["-c", "-u", credentials.username(), "-w", credentials.password()]).args(by);
    command.args(["-e", &HOST.to_string(), "-r", &PORT.to_string()]);
    command.args(["-m", &CLIENTS.to_string(), "-n", &MESSAGES.to_string(), "-l", &MESSAGE_BYTES.to_string()]);
    command.args(["-p", &node.config().users.listen.port().to_string(), "127.0.0.1"]);
    let output = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output());
    match timeout(THROUGH, output).await.expect("it ends").unwrap() {
        Ok(output) => Some(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("{error}"),
    }
}

/// The media port answers nothing but checks, so that nothing comes back; but all of it gets there.
async fn goes_through(tls: bool, by: &[&str]) {
    let node = lone_node_so(|config| {
        // It binds a channel to the next port, too.
        config.media.announced = [PORT, PORT + 1].map(|port| SocketAddr::from((HOST, port)).into()).into();
        if tls {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
            config.users.tls_cert = Some(Pem::Text(made.cert.pem()));
            config.users.tls_key = Some(Pem::Text(made.signing_key.serialize_pem()));
        }
    })
    .await;
    let scheme = if tls { "wss" } else { "ws" };
    let url = format!("{scheme}://{}", node.config().users.listen);
    let mut config = UserConfig::new(&url, "room", "alice", common::transport(), 1);
    config.tls = tls.then(|| trust_anyone().unwrap());
    let alice = User::join(&driver(), config).await.unwrap();
    match uclient(&node, &Credentials::of(&alice).await, by).await {
        Some(printed) => {
            let sent = CLIENTS * MESSAGES;
            assert!(printed.contains(&format!("tot_send_msgs={sent},")), "{printed}");
            assert_eq!(metric(&node, "received_bytes_total").await, sent * MESSAGE_BYTES, "{printed}");
            becomes(&node, "allocations", |allocations| allocations == 0).await;
        }
        None => eprintln!("skipped: turnutils_uclient (Debian: coturn) is not installed"),
    }
    node.shutdown().await;
}

#[tokio::test]
async fn coturns_client_goes_through_by_tcp() {
    goes_through(false, &["-t"]).await;
}

#[tokio::test]
async fn coturns_client_goes_through_by_tls() {
    goes_through(true, &["-t", "-S"]).await;
}
