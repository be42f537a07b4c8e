//! A TURN client over TCP or TLS (RFC 8656), as far as tests and benchmarks need one: a request at a time.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;

use rtc_dtls::crypto_provider::RTCCryptoProvider as _;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_stun::integrity::MessageIntegrity;
use serde_json::Value;
use sluice_loadtest::user::User;
use sluice_media::wire::stun::{IntegrityKey, Message, MessageWriter, attribute};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

pub(crate) const ALLOCATE: u16 = 3;
pub(crate) const REFRESH: u16 = 4;
pub(crate) const CREATE_PERMISSION: u16 = 8;
pub(crate) const CHANNEL_BIND: u16 = 9;
const ERROR: u16 = 0x110;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What a node tells a session.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    pub(crate) url: String,
    username: String,
    password: String,
}

impl Credentials {
    /// Of a user, who makes a transport for it.
    pub(crate) async fn of(user: &User) -> Self {
        let data = serde_json::json!({ "forceTcp": false, "producing": false, "consuming": false });
        let transport: Value = user.protoo().call("createWebRtcTransport", data).await.unwrap();
        let server = &transport["iceServers"][0];
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{transport}")).to_owned();
        let [url, username, password] = [&server["urls"][0], &server["username"], &server["credential"]].map(text);
        Self { url, username, password }
    }

    pub(crate) fn username(&self) -> &str {
        &self.username
    }

    pub(crate) fn password(&self) -> &str {
        &self.password
    }

    pub(crate) fn with_password(self, password: &str) -> Self {
        Self { password: password.to_owned(), ..self }
    }
}

/// One connection.
pub(crate) struct Client {
    stream: Box<dyn Stream>,
    unread: Vec<u8>,
    credentials: Credentials,
    /// What the server asks to be named.
    realm: Vec<u8>,
    nonce: Vec<u8>,
    key: Option<IntegrityKey>,
    /// Messages that answered nothing.
    others: VecDeque<Vec<u8>>,
    requests: u8,
}

impl Client {
    pub(crate) fn new(stream: impl Stream + 'static, credentials: Credentials) -> Self {
        Self {
            stream: Box::new(stream),
            unread: Vec::new(),
            credentials,
            realm: Vec::new(),
            nonce: Vec::new(),
            key: None,
            others: VecDeque::new(),
            requests: 0,
        }
    }

    /// Asks for an allocation, as clients do: without credentials first.
    pub(crate) async fn allocate(&mut self) -> Result<(), u16> {
        let transport = |request: MessageWriter| request.attribute(attribute::REQUESTED_TRANSPORT, &[17, 0, 0, 0]);
        let challenge = self.request(ALLOCATE, transport).await.unwrap_err();
        assert_eq!(challenge, 401);
        let Credentials { username, password, .. } = &self.credentials;
        let realm = String::from_utf8(self.realm.clone()).unwrap();
        let provider = AwsLcRsProvider::new();
        let key =
            MessageIntegrity::long_term_integrity_key(username.clone(), realm, password.clone(), provider.crypto());
        self.key = Some(IntegrityKey::of_digest(&key.unwrap()));
        self.request(ALLOCATE, transport).await
    }

    /// Makes a request, with credentials once the server has asked for them; the number of the error if it is refused.
    pub(crate) async fn request(
        &mut self,
        kind: u16,
        with: impl FnOnce(MessageWriter) -> MessageWriter,
    ) -> Result<(), u16> {
        self.requests += 1;
        let transaction = [self.requests; 12];
        let mut request = with(MessageWriter::new(kind, transaction));
        if self.key.is_some() {
            request = request.attribute(attribute::USERNAME, self.credentials.username.as_bytes());
            request = request.attribute(attribute::REALM, &self.realm).attribute(attribute::NONCE, &self.nonce);
        }
        self.write(&request.finish(self.key.as_ref())).await;
        loop {
            let message = self.read().await.expect("an answer");
            let Some(answer) = Message::parse(&message).filter(|answer| answer.transaction == transaction) else {
                self.others.push_back(message);
                continue;
            };
            let of = |kind| answer.attribute(kind).map(<[u8]>::to_vec);
            self.realm = of(attribute::REALM).unwrap_or(std::mem::take(&mut self.realm));
            self.nonce = of(attribute::NONCE).unwrap_or(std::mem::take(&mut self.nonce));
            assert!(answer.kind & ERROR == ERROR || answer.is_authentic(self.key.as_ref().unwrap()));
            return match of(attribute::ERROR_CODE) {
                Some(error) => Err(u16::from(error[2]) * 100 + u16::from(error[3])),
                None => Ok(()),
            };
        }
    }

    pub(crate) async fn bind(&mut self, channel: u16, peer: SocketAddr) -> Result<(), u16> {
        self.request(CHANNEL_BIND, |request| {
            let request = request.attribute(attribute::CHANNEL_NUMBER, &[&channel.to_be_bytes()[..], &[0, 0]].concat());
            request.xor_address(attribute::XOR_PEER_ADDRESS, peer)
        })
        .await
    }

    pub(crate) async fn permit(&mut self, peer: SocketAddr) -> Result<(), u16> {
        self.request(CREATE_PERMISSION, |request| request.xor_address(attribute::XOR_PEER_ADDRESS, peer)).await
    }

    pub(crate) async fn send(&mut self, channel: u16, datagram: &[u8]) {
        self.write(&channel_data(channel, datagram)).await;
    }

    pub(crate) async fn write(&mut self, message: &[u8]) {
        // An end is seen by reading.
        let _ = self.stream.write_all(message).await;
    }

    /// The next datagram that came by a channel.
    pub(crate) async fn recv(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let message = match self.others.pop_front() {
                Some(message) => message,
                None => self.read().await?,
            };
            if message[0] >= 0x40 {
                let len = usize::from(u16::from_be_bytes([message[2], message[3]]));
                return Ok(message[4..4 + len].to_vec());
            }
        }
    }

    /// Waits until the server has ended the connection.
    pub(crate) async fn ended(&mut self) {
        while self.read().await.is_ok() {}
    }

    async fn read(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(header) = self.unread.first_chunk::<4>() {
                let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let len = if header[0] < 0x40 { 20 + len } else { (4 + len).next_multiple_of(4) };
                if len <= self.unread.len() {
                    return Ok(self.unread.drain(..len).collect());
                }
            }
            if self.stream.read_buf(&mut self.unread).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// RFC 8656 section 12.4.
pub(crate) fn channel_data(channel: u16, datagram: &[u8]) -> Vec<u8> {
    let mut message = [&channel.to_be_bytes()[..], &(datagram.len() as u16).to_be_bytes(), datagram].concat();
    message.resize(message.len().next_multiple_of(4), 0);
    message
}
