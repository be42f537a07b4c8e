//! One question to a node's admin port.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// On this machine an answer takes milliseconds.
const TIMEOUT: Duration = Duration::from_secs(2);

/// No answer that is asked for here is longer.
const MAX_ANSWER: u64 = 16 * 1024 * 1024;

/// The body of the answer to `GET path`.
///
/// # Errors
/// When there is none in time, or it is not one of success.
pub(super) async fn get(addr: SocketAddr, path: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.take(MAX_ANSWER).read_to_string(&mut answer).await?;
        Ok(answer)
    };
    let answer: io::Result<String> = tokio::time::timeout(TIMEOUT, exchange).await?;
    let answer = answer?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(answer.lines().next().unwrap_or("no answer").to_owned())),
    }
}
