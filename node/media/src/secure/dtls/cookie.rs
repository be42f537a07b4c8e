//! The cookie that a client must return before anything is kept of its handshake (RFC 6347 section 4.2.1).
//!
//! It is the same for whoever says hello with the client's address, as often as they like: only the client is told it.
//! So hellos of others stand in nobody's way, however far away the client is.

use std::sync::Arc;

use bytes::BytesMut;
use rtc_dtls::crypto_provider::{CryptoError, RTCCrypto, RTCCryptoProvider, RTCRandom};

use super::inbound::HELLO_VERIFY_REQUEST;
use super::record::handshake_record;

/// The length that rtc-dtls gives cookies, in bytes.
const COOKIE_LEN: usize = 20;

/// The cookie of one association.
pub(super) type Cookie = [u8; COOKIE_LEN];

/// Asks for the cookie. A client that misses this says hello again.
pub(super) fn hello_verify_request(cookie: &Cookie) -> BytesMut {
    let body = [&[0xfe, 0xfd, COOKIE_LEN as u8], &cookie[..]].concat();
    BytesMut::from(&handshake_record(0, HELLO_VERIFY_REQUEST, 0, &body)[..])
}

/// What rtc-dtls draws its randomness from, so that the cookie that it draws is the one that the client was given.
/// Nothing else that it draws is as long.
pub(super) struct WithCookie {
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
    pub(super) cookie: Cookie,
}

impl RTCCryptoProvider for WithCookie {
    fn name(&self) -> &'static str {
        self.provider.name()
    }

    fn crypto(&self) -> &dyn RTCCrypto {
        self.provider.crypto()
    }

    fn random(&self) -> &dyn RTCRandom {
        self
    }
}

impl RTCRandom for WithCookie {
    fn fill(&self, output: &mut [u8]) -> Result<(), CryptoError> {
        if output.len() == COOKIE_LEN {
            output.copy_from_slice(&self.cookie);
            return Ok(());
        }
        self.provider.random().fill(output)
    }
}
