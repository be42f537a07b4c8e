//! Where a client is that comes through a proxy: what the proxy says of it before everything else (the PROXY protocol
//! of HAProxy, versions 1 and 2), or in a header. Only listed proxies are believed.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::HeaderMap;
use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::config::Network;

/// What a header is told by: all of version 2's signature, and less than the shortest header of version 1.
const SIGNATURE_LEN: usize = 12;

/// Longest header of version 1, section 2.1 of the protocol.
const MAX_V1_LEN: usize = 107;

/// Bytes before the addresses of version 2, section 2.2.
const V2_LEN: usize = 16;

/// Longest header of version 2 that is read: the addresses with what proxies add, certificates of clients aside.
const MAX_V2_LEN: usize = 2048;

/// A client of whom its proxy does not say where it is.
const UNKNOWN: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Reads the header that a proxy sends first, and nothing of what follows it. `None`: the proxy speaks for itself, as
/// in a health check.
///
/// # Errors
/// When there is no such header, or it is longer than it may be.
pub(super) async fn read_proxy_header(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Option<SocketAddr>> {
    let mut header = vec![0; SIGNATURE_LEN];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(V2_LEN, 0);
        stream.read_exact(&mut header[SIGNATURE_LEN..]).await?;
        let len = V2_LEN + usize::from(u16::from_be_bytes([header[V2_LEN - 2], header[V2_LEN - 1]]));
        if len > MAX_V2_LEN {
            return Err(invalid("a PROXY header is too long"));
        }
        header.resize(len, 0);
        stream.read_exact(&mut header[V2_LEN..]).await?;
    } else {
        while !header.ends_with(b"\r\n") {
            if header.len() >= MAX_V1_LEN || !header.starts_with(b"PROXY ") {
                return Err(invalid("a PROXY header was expected"));
            }
            header.push(stream.read_u8().await?);
        }
    }
    source(&HeaderResult::parse(&header))
}

fn source(header: &HeaderResult<'_>) -> std::io::Result<Option<SocketAddr>> {
    if header.is_incomplete() {
        return Err(invalid("a PROXY header is broken"));
    }
    match header {
        HeaderResult::V1(Ok(header)) => Ok(match header.addresses {
            v1::Addresses::Tcp4(of) => Some((of.source_address, of.source_port).into()),
            v1::Addresses::Tcp6(of) => Some((of.source_address, of.source_port).into()),
            v1::Addresses::Unknown => None,
        }),
        HeaderResult::V2(Ok(header)) if header.command == v2::Command::Local => Ok(None),
        HeaderResult::V2(Ok(header)) => Ok(match header.addresses {
            v2::Addresses::IPv4(of) => Some((of.source_address, of.source_port).into()),
            v2::Addresses::IPv6(of) => Some((of.source_address, of.source_port).into()),
            v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
        }),
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(invalid("a PROXY header is broken")),
    }
}

fn invalid(reason: &'static str) -> Error {
    Error::new(ErrorKind::InvalidData, reason)
}

/// Whose request it is that came from this address: the last one in `X-Forwarded-For` that is no proxy, as long as
/// proxies say so. What stands before it the client may have written itself. Those of whom a proxy says nothing that is
/// an address count as one client, so that limits hold for them too.
pub(super) fn client(remote: IpAddr, headers: &HeaderMap, proxies: &[Network]) -> IpAddr {
    let is_proxy = |address: IpAddr| proxies.iter().any(|proxy| proxy.contains(address));
    if !is_proxy(remote) {
        return remote;
    }
    let lines = headers.get_all("x-forwarded-for").into_iter().rev();
    // What a client wrote there may be no text at all.
    let named = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let mut client = remote;
    for name in named.filter(|name| !name.is_empty()) {
        let Some(address) = address(name) else { return UNKNOWN };
        client = address;
        if !is_proxy(address) {
            break;
        }
    }
    client
}

/// An address as proxies write it: alone or with a port, one of IPv6 in brackets or not.
fn address(name: &[u8]) -> Option<IpAddr> {
    let name = str::from_utf8(name).ok()?;
    let in_brackets = || name.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    let with_port = || name.parse().ok().map(|address: SocketAddr| address.ip());
    name.parse().ok().or_else(with_port).or_else(in_brackets)
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    async fn read(bytes: &[u8]) -> (std::io::Result<Option<SocketAddr>>, Vec<u8>) {
        let mut stream = bytes;
        let read = read_proxy_header(&mut stream).await;
        (read, stream.to_vec())
    }

    fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([0x20 | command, family]);
        header.extend((addresses.len() as u16).to_be_bytes());
        header.extend(addresses);
        header
    }

    #[tokio::test]
    async fn both_versions_say_where_the_client_is_and_leave_the_rest() {
        let client: SocketAddr = "192.0.2.7:5000".parse().unwrap();
        let v1 = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\nGET / HTTP/1.1";
        let (of_v1, rest) = read(v1).await;
        assert_eq!((of_v1.unwrap(), rest.as_slice()), (Some(client), b"GET / HTTP/1.1".as_slice()));
        let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0x13, 0x88, 1, 0xbb];
        let mut bytes = v2(1, 0x11, &addresses);
        bytes.extend(b"GET");
        let (of_v2, rest) = read(&bytes).await;
        assert_eq!((of_v2.unwrap(), rest.as_slice()), (Some(client), b"GET".as_slice()));
        let (v6, _) = read(b"PROXY TCP6 2001:db8::1 2001:db8::2 5000 443\r\n").await;
        assert_eq!(v6.unwrap(), Some("[2001:db8::1]:5000".parse().unwrap()));
        for of_itself in [b"PROXY UNKNOWN\r\n".to_vec(), v2(0, 0, &[]), v2(1, 0, &[])] {
            assert_eq!(read(&of_itself).await.0.unwrap(), None);
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused_soon() {
        let endless = [b"PROXY ".as_slice(), &[b'x'; 4096]].concat();
        let mut huge = v2(1, 0x11, &[]);
        huge[14..16].copy_from_slice(&u16::MAX.to_be_bytes());
        huge.extend([0; 4096]);
        let cases: [&[u8]; 7] = [
            b"GET / HTTP/1.1\r\n\r\n",
            b"PROXY TCP4 nonsense\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
            b"PROX",
            &endless,
            &huge,
        ];
        for bytes in cases {
            assert!(read(bytes).await.0.is_err(), "{bytes:?}");
        }
        assert!(read(&endless).await.1.len() > 3_900, "it was not read to its end");
    }

    #[test]
    fn only_proxies_are_believed_and_only_what_they_saw() {
        let proxies = ["10.0.0.0/8".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        let of = |remote: &str, lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append("x-forwarded-for", HeaderValue::from_bytes(line.as_bytes()).unwrap());
            }
            client(remote.parse().unwrap(), &headers, &proxies).to_string()
        };
        assert_eq!(of("192.0.2.1", &["198.51.100.1"]), "192.0.2.1", "anybody can send a header");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(
            of("127.0.0.1", &["203.0.113.9, 198.51.100.1, 10.1.1.1"]),
            "198.51.100.1",
            "not what the client says"
        );
        assert_eq!(of("10.0.0.1", &["203.0.113.9", "198.51.100.1, 10.1.1.1"]), "198.51.100.1");
        assert_eq!(of("10.0.0.1", &["\u{ff}, 198.51.100.1"]), "198.51.100.1", "whatever the client wrote before it");
        for nonsense in ["198.51.100.1, nonsense", "nonsense, 10.0.0.2", "unknown", "198.51.100.1:port", "[10.0.0.2"] {
            assert_eq!(of("10.0.0.1", &[nonsense]), "0.0.0.0", "{nonsense}");
        }
        for (written, meant) in [
            ("192.0.2.98:5", "192.0.2.98"),
            ("[2001:db8::1]:99", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("192.0.2.98:5,10.0.0.2:8080 ", "192.0.2.98"),
            ("192.0.2.98, ", "192.0.2.98"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(of("10.0.0.1", &[written]), meant, "{written}");
        }
    }
}
