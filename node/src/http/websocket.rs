//! WebSockets (RFC 6455) as signalling needs them: thousands that are mostly silent, each of which costs little memory,
//! whatever was once sent over it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Sink, SinkExt, Stream, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::signalling::protoo::session::Closing;

/// Read at a time. The buffer is zeroed before each read, and a session is woken for each message that it sends.
const READ_BUFFER_BYTES: usize = 4 << 10;

/// What waits to be written, and the longest fragment that a message is cut into. The buffer keeps the capacity that
/// the longest fragment needed, so with whole messages every session would hold a copy of its longest until it ends:
/// the list of all peers.
const FRAGMENT_BYTES: usize = 4 << 10;

/// An open WebSocket. Messages longer than [`FRAGMENT_BYTES`] leave as fragments (RFC 6455 section 5.4).
pub(super) struct WebSocket<S> {
    stream: WebSocketStream<S>,
    /// What is left of the message that is being sent.
    rest: Bytes,
    /// The client sent something that is not to be read.
    broken: bool,
}

/// Whether the client asks for another protocol, which can only be this one.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// Whether the client offers the subprotocol.
pub(super) fn offers(headers: &HeaderMap, protocol: &str) -> bool {
    let offered = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offered.flat_map(|value| value.split(',')).any(|offer| offer.trim() == protocol)
}

/// What becomes a WebSocket once the client has been answered.
pub(super) struct Upgrade {
    upgraded: OnUpgrade,
}

impl Upgrade {
    /// The connection of a request, to be had when `response` has been sent.
    ///
    /// # Errors
    /// When the request is no opening handshake (RFC 6455 section 4.2.1); the reason in words.
    pub(super) fn accept(request: &mut Request, protocol: &'static str) -> Result<(Response, Self), String> {
        let mut response = create_response_with_body(request, Body::empty).map_err(|error| error.to_string())?;
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
        Ok((response, Self { upgraded: hyper::upgrade::on(request) }))
    }

    /// The WebSocket. A message of the client that is longer than `max_message_bytes`, or is announced to be, breaks
    /// it.
    ///
    /// # Errors
    /// When the client is gone.
    pub(super) async fn open(self, max_message_bytes: usize) -> hyper::Result<WebSocket<TokioIo<Upgraded>>> {
        Ok(WebSocket::new(TokioIo::new(self.upgraded.await?), max_message_bytes).await)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Closing>;

    /// Ends when the connection does, however that is. After an error everything that still comes is thrown away: a
    /// connection that is closed while something is unread is reset, and with it goes the close frame that says why.
    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.broken {
            return self.discard(context).map(|()| None);
        }
        let next = match ready!(self.stream.poll_next_unpin(context)) {
            // The network did it, and nobody is there to be told.
            Some(Err(Error::Io(_) | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => None,
            next => next.map(|next| next.map_err(|error| closing(&error))),
        };
        self.broken = matches!(next, Some(Err(_)));
        Poll::Ready(next)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            ready!(self.stream.poll_ready_unpin(context))?;
            if self.rest.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.send_fragment(Data::Continue)?;
        }
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        match message {
            Message::Text(text) if text.len() > FRAGMENT_BYTES => {
                self.rest = text.into();
                self.send_fragment(Data::Text)
            }
            message => self.stream.start_send_unpin(message),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_ready(context))?;
        self.stream.poll_flush_unpin(context)
    }

    fn poll_close(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_ready(context))?;
        self.stream.poll_close_unpin(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// The server's end of a connection on which the handshake is done.
    async fn new(io: S, max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(FRAGMENT_BYTES)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let stream = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
        Self { stream, rest: Bytes::new(), broken: false }
    }

    /// Ready when the client has closed its end.
    fn discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let mut bytes = [0; READ_BUFFER_BYTES];
            let mut read = ReadBuf::new(&mut bytes);
            let result = ready!(Pin::new(self.stream.get_mut()).poll_read(context, &mut read));
            if result.is_err() || read.filled().is_empty() {
                return Poll::Ready(());
            }
        }
    }

    fn send_fragment(&mut self, kind: Data) -> Result<(), Error> {
        let fragment = self.rest.split_to(self.rest.len().min(FRAGMENT_BYTES));
        let is_final = self.rest.is_empty();
        self.stream.start_send_unpin(Message::Frame(Frame::message(fragment, OpCode::Data(kind), is_final)))
    }
}

/// How a client is told what was wrong with what it sent (RFC 6455 section 7.4.1).
fn closing(error: &Error) -> Closing {
    match error {
        Error::Capacity(_) => Closing(1009, "the message is too large".to_owned()),
        Error::Utf8(_) => Closing(1007, "text must be UTF-8".to_owned()),
        error => Closing(1002, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const MAX_MESSAGE_BYTES: usize = 64 << 10;

    async fn pair() -> (WebSocket<DuplexStream>, DuplexStream) {
        // Less than a fragment, so that the server is held up in the middle of each.
        let (server, client) = tokio::io::duplex(1_000);
        (WebSocket::new(server, MAX_MESSAGE_BYTES).await, client)
    }

    /// A frame of the server: its first byte (FIN and opcode) and its payload.
    async fn frame(client: &mut DuplexStream) -> (u8, Vec<u8>) {
        let first = client.read_u8().await.unwrap();
        let len = match client.read_u8().await.unwrap() {
            126 => usize::from(client.read_u16().await.unwrap()),
            len => usize::from(len),
        };
        let mut payload = vec![0; len];
        client.read_exact(&mut payload).await.unwrap();
        (first, payload)
    }

    #[tokio::test]
    async fn long_messages_leave_in_fragments_and_in_order() {
        let (mut socket, mut client) = pair().await;
        let texts: Vec<String> = [10, 4_096, 4_097, 20_000, 8_192, 1]
            .iter()
            .enumerate()
            .map(|(i, len)| char::from(b'a' + i as u8).to_string().repeat(*len))
            .collect();
        let sent = texts.clone();
        let sending = tokio::spawn(async move {
            for text in sent {
                socket.feed(Message::Text(text.into())).await.unwrap();
            }
            socket.flush().await.unwrap();
            socket
        });
        for text in texts {
            let mut got = Vec::new();
            let mut opcode = 0x1;
            loop {
                let (first, payload) = frame(&mut client).await;
                assert!(payload.len() <= FRAGMENT_BYTES, "{}", payload.len());
                assert_eq!(first & 0x0f, opcode, "a text message, then continuations");
                got.extend(payload);
                opcode = 0x0;
                if first & 0x80 != 0 {
                    break;
                }
            }
            assert_eq!(String::from_utf8(got).unwrap(), text);
        }
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn a_message_that_is_announced_too_long_is_not_waited_for() {
        let (mut socket, mut client) = pair().await;
        // Final, text; masked, 64 bits of length.
        client.write_all(&[0x81, 0xff]).await.unwrap();
        client.write_u64(MAX_MESSAGE_BYTES as u64 + 1).await.unwrap();
        client.write_all(&[0; 4]).await.unwrap();
        assert!(matches!(socket.next().await, Some(Err(Closing(1009, _)))));
        // What it sends all the same is read and not looked at.
        let writing = tokio::spawn(async move {
            client.write_all(&[b'x'; 10_000]).await.unwrap();
            drop(client);
        });
        assert!(socket.next().await.is_none());
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn fragments_of_a_client_may_not_add_up_to_more() {
        let (mut socket, mut client) = pair().await;
        let writing = tokio::spawn(async move {
            for (first, len) in [(0x01, MAX_MESSAGE_BYTES as u64), (0x80, 1)] {
                client.write_all(&[first, 0xff]).await.unwrap();
                client.write_u64(len).await.unwrap();
                client.write_all(&[0; 4]).await.unwrap();
                client.write_all(&vec![b'x'; len as usize]).await.unwrap();
            }
            client
        });
        assert!(matches!(socket.next().await, Some(Err(Closing(1009, _)))));
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn a_client_is_told_what_was_wrong() {
        // Masked by zeros, so that the payload is as it stands.
        let cases: [(&[u8], u16); 6] = [
            (b"\x81\x82\0\0\0\0\xc3\x28", 1007),
            (b"\x81\x02hi", 1002),
            (b"\xc1\x82\0\0\0\0hi", 1002),
            (b"\x80\x82\0\0\0\0hi", 1002),
            (b"\x83\x82\0\0\0\0hi", 1002),
            (b"\x09\x80\0\0\0\0", 1002),
        ];
        for (bytes, code) in cases {
            let (mut socket, mut client) = pair().await;
            client.write_all(bytes).await.unwrap();
            let told = socket.next().await;
            assert!(matches!(&told, Some(Err(Closing(told, _))) if *told == code), "{bytes:?}: {told:?}");
        }
    }
}
