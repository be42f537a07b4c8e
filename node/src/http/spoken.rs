//! What is spoken on a connection to the users' port: told by the first bytes that the client sends.

use std::io;

use sluice_media::wire::framing::MAX_FRAME_LEN;
use sluice_media::wire::stun::MAGIC_COOKIE;
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::rewound::{FIRST_LEN, Rewound};

/// The longest frame's length begins with it.
const MAX_FRAME: u8 = (MAX_FRAME_LEN >> 8) as u8;

/// A record of TLS's handshake begins with it, RFC 8446 section 5.1.
const HANDSHAKE: u8 = 22;

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Or something that HTTP refuses.
    Http,
    /// In which something is spoken again.
    Tls,
    /// Whose messages begin as those of STUN do.
    Turn,
    /// Datagrams in frames, RFC 4571.
    Media,
}

impl Spoken {
    /// As soon as there are enough bytes. HTTP begins with a letter; STUN with two zero bits, and has its cookie behind
    /// its length (RFC 8489 section 5), where a frame has it two bytes later or has something else.
    fn of(first: &[u8]) -> Option<Self> {
        match first.first()? {
            &HANDSHAKE => Some(Self::Tls),
            0..=MAX_FRAME if first.len() < FIRST_LEN => None,
            0..=MAX_FRAME if first[4..FIRST_LEN] != MAGIC_COOKIE.to_be_bytes() => Some(Self::Media),
            0..=MAX_FRAME => Some(Self::Turn),
            _ => Some(Self::Http),
        }
    }
}

/// Reads until it is known what is spoken; nothing of what was read is lost. `None` if the client went before.
///
/// # Errors
/// The system's.
pub(super) async fn listen<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<Option<(Spoken, Rewound<S>)>> {
    let (mut first, mut len) = ([0; FIRST_LEN], 0);
    loop {
        match stream.read(&mut first[len..]).await? {
            0 => return Ok(None),
            read => len += read,
        }
        if let Some(spoken) = Spoken::of(&first[..len]) {
            return Ok(Some((spoken, Rewound::new(first, len, stream))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_is_told_by_the_first_bytes() {
        let turn = [0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42];
        assert_eq!(Spoken::of(&turn), Some(Spoken::Turn));
        assert!((0..turn.len()).all(|len| Spoken::of(&turn[..len]).is_none()));
        let check = [0, 100, 0, 1, 0, 80, 0x21, 0x12];
        assert_eq!(Spoken::of(&check), Some(Spoken::Media));
        assert!((0..check.len()).all(|len| Spoken::of(&check[..len]).is_none()));
        assert_eq!(Spoken::of(b"G"), Some(Spoken::Http));
        assert_eq!(Spoken::of(&[22]), Some(Spoken::Tls));
        assert_eq!(Spoken::of(&[8, 0, 0, 8, 0x21, 0x12, 0xa4, 0x43]), Some(Spoken::Media), "2,048 bytes, the most");
        assert_eq!(Spoken::of(&[9]), Some(Spoken::Http));
    }

    #[tokio::test]
    async fn nothing_that_was_read_is_lost() {
        let request = b"\r\nGET / HTTP/1.1\r\n\r\n".as_slice();
        let (spoken, mut stream) = listen(request).await.unwrap().unwrap();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!((spoken, read.as_slice()), (Spoken::Http, request));
        assert!(listen([0_u8; 3].as_slice()).await.unwrap().is_none());
    }
}
