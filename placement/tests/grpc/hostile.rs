//! Those who should not get in, and what should not be said.

use std::time::Duration;

use sluice_placement::PlacementTls;
use sluice_proto::placement::directory_client::DirectoryClient;
use sluice_proto::placement::rosters_client::RostersClient;
use sluice_proto::placement::{FollowRequest, LookupRequest, NodeInstance, ReleaseRequest, RenewRequest, RoomKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Status};

use super::cluster::{Ca, Cluster, TestNode, changed, instance, part, room, until};

/// A connection to a node with a certificate of one's choice.
fn dial(node: &TestNode, ca: &Ca, tls: Option<&PlacementTls>) -> Channel {
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ca.pem)).domain_name("mesh.test");
    if let Some(tls) = tls {
        config = config.identity(Identity::from_pem(&tls.cert_pem, &tls.key_pem));
    }
    let addr = node.placement.local_addr();
    Endpoint::from_shared(format!("https://{addr}")).unwrap().tls_config(config).unwrap().connect_lazy()
}

fn claim(node: &str, incarnation: u64) -> Option<NodeInstance> {
    Some(NodeInstance { node: node.into(), incarnation })
}

fn rooms(count: usize) -> Vec<RoomKey> {
    (0..count).map(|i| RoomKey { namespace: "default".into(), room: format!("r{i}") }).collect()
}

async fn renew(channel: &Channel, holder: Option<NodeInstance>, rooms: Vec<RoomKey>) -> Result<usize, Status> {
    let mut client = DirectoryClient::new(channel.clone());
    client.renew(RenewRequest { holder, rooms }).await.map(|response| response.into_inner().rooms.len())
}

async fn follow(channel: &Channel, follower: Option<NodeInstance>) -> Result<(), Status> {
    let request = FollowRequest { follower, follow: rooms(1), ..FollowRequest::default() };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::once(request), tokio_stream::pending());
    let mut updates = RostersClient::new(channel.clone()).follow(requests).await?.into_inner();
    updates.message().await.map(drop)
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}

/// There was no answer: in TLS 1.3 a client learns only after the handshake that it is refused, in the midst of
/// anything.
fn is_cut<T>(result: &Result<T, Status>) -> bool {
    let cut = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled];
    result.as_ref().is_err_and(|status| cut.contains(&status.code()))
}

/// Waits until the counter has been raised.
async fn counted(node: &TestNode, reason: &str) {
    let name = format!("placement_refused_total{{reason=\"{reason}\"}}");
    let waited = timeout(Duration::from_secs(10), async {
        while node.metric(&name) == 0 {
            sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "{reason} is not counted:\n{}", node.metrics());
}

/// The node still serves those who belong.
async fn works(cluster: &Cluster) {
    let (_a, mut at_a) = cluster.placement("a").enter(room("proof")).unwrap();
    let (b, _at_b) = cluster.placement("b").enter(room("proof")).unwrap();
    b.publish(part(&["bob"]));
    until(&mut at_a, &changed(&instance("b", 1), &["bob"])).await;
}

#[tokio::test]
async fn strangers_are_refused() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let (a, strangers) = (cluster.node("a"), Ca::new());
    let channel = dial(a, &cluster.ca, Some(&strangers.issue_node("b")));
    assert!(is_cut(&renew(&channel, claim("b", 1), rooms(1)).await), "another CA's certificate");
    let channel = dial(a, &cluster.ca, None);
    assert!(is_cut(&renew(&channel, claim("b", 1), rooms(1)).await), "no certificate");
    counted(a, "Handshake").await;
    let channel = dial(a, &strangers, Some(&cluster.ca.issue_node("b")));
    assert!(is_cut(&renew(&channel, claim("b", 1), rooms(1)).await), "the server is a stranger");
    works(&cluster).await;
}

#[tokio::test]
async fn nobody_speaks_for_another() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let a = cluster.node("a");
    let channel = dial(a, &cluster.ca, Some(&cluster.ca.issue_node("c")));
    assert_eq!(renew(&channel, claim("c", 5), rooms(2)).await.unwrap(), 2);
    assert_eq!(code(renew(&channel, claim("b", 1), rooms(1)).await), Code::PermissionDenied);
    assert_eq!(code(follow(&channel, claim("b", 1)).await), Code::PermissionDenied);
    let release = ReleaseRequest { holder: claim("b", 1), rooms: rooms(1) };
    assert_eq!(code(DirectoryClient::new(channel.clone()).release(release).await), Code::PermissionDenied);
    counted(a, "OtherNode").await;

    assert_eq!(code(renew(&channel, claim("c", 4), rooms(1)).await), Code::FailedPrecondition, "an older incarnation");
    assert_eq!(code(follow(&channel, claim("c", 4)).await), Code::FailedPrecondition);
    counted(a, "Void").await;

    for uris in [&[][..], &["https://example.org"], &["sluice:node/"], &["sluice:node/b", "sluice:node/c"]] {
        let channel = dial(a, &cluster.ca, Some(&cluster.ca.issue(uris)));
        assert_eq!(code(renew(&channel, claim("b", 1), rooms(1)).await), Code::Unauthenticated, "{uris:?}");
        let lookup = DirectoryClient::new(channel.clone()).lookup(LookupRequest { rooms: rooms(1) }).await;
        assert_eq!(code(lookup), Code::Unauthenticated, "{uris:?}");
        assert_eq!(code(follow(&channel, claim("b", 1)).await), Code::Unauthenticated, "{uris:?}");
    }
    counted(a, "NoNode").await;
    works(&cluster).await;
}

#[tokio::test]
async fn malformed_and_oversized_messages_are_answered_with_an_error() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let a = cluster.node("a");
    let channel = dial(a, &cluster.ca, Some(&cluster.ca.issue_node("c")));
    assert_eq!(code(renew(&channel, None, rooms(1)).await), Code::InvalidArgument, "nobody asks");
    assert_eq!(code(renew(&channel, claim("c d", 1), rooms(1)).await), Code::InvalidArgument, "no node's name");
    let nameless = vec![RoomKey { namespace: "default".into(), room: String::new() }];
    assert_eq!(code(renew(&channel, claim("c", 1), nameless).await), Code::InvalidArgument, "no room's name");
    assert_eq!(code(renew(&channel, claim("c", 1), rooms(1_025)).await), Code::InvalidArgument, "too many rooms");
    assert_eq!(code(follow(&channel, None).await), Code::InvalidArgument, "nobody follows");
    counted(a, "Malformed").await;

    let huge = vec![RoomKey { namespace: "default".into(), room: "x".repeat(300 * 1024) }];
    assert_eq!(code(renew(&channel, claim("c", 1), huge).await), Code::OutOfRange, "too long");
    assert_eq!(renew(&channel, claim("c", 1), rooms(1_024)).await.unwrap(), 1_024, "the connection lives on");
    works(&cluster).await;
}

#[tokio::test]
async fn any_bytes_on_the_port_are_counted_and_dropped() {
    let cluster = Cluster::start(&["a", "b"]).await;
    let a = cluster.node("a");
    let garbage: [&[u8]; 4] = [b"GET / HTTP/1.1\r\n\r\n", &[0; 4096], &[0xff; 512], b"\x16\x03\x01\x40\x00\x01"];
    for bytes in garbage {
        let mut stream = TcpStream::connect(a.placement.local_addr()).await.unwrap();
        // Either may fail, as the node hangs up.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("the node hangs up");
    }
    counted(a, "Handshake").await;
    works(&cluster).await;
}
