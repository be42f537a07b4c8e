//! What of the hellos is read before rtc-dtls reads them.
//!
//! rtc-dtls follows the client's order of SRTP profiles, and Chromium puts the slow one first. So the offer is read
//! here, and the association is then given the one profile that it shall choose.

use super::record::Reader;
use crate::secure::srtp::SrtpProfile;

/// Extensions of one hello. Browsers send about 20; rtc-dtls takes time for each that no length bounds.
const MAX_EXTENSIONS: usize = 64;

const EXTENSION_USE_SRTP: u16 = 14;

/// What is of interest in a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClientHello<'a> {
    /// What the client was asked to return, RFC 6347 section 4.2.1.
    pub(super) cookie: &'a [u8],
    /// The best profile that both ends know; `None` if there is none.
    pub(super) profile: Option<SrtpProfile>,
}

impl<'a> ClientHello<'a> {
    /// Reads the body of a ClientHello; `None` if it is none of DTLS 1.2.
    pub(super) fn parse(body: &'a [u8]) -> Option<Self> {
        let mut reader = Reader(body);
        if reader.take(2)? != [0xfe, 0xfd] {
            return None;
        }
        reader.take(32)?; // random
        reader.vector(1)?; // session id
        let cookie = reader.vector(1)?;
        reader.vector(2)?; // cipher suites
        reader.vector(1)?; // compression methods
        let mut profile = None;
        read_extensions(reader, |kind, value| {
            if kind == EXTENSION_USE_SRTP {
                profile = choose_profile(Reader(value).vector(2)?);
            }
            Some(())
        })?;
        Some(Self { cookie, profile })
    }
}

/// Whether the body of a ServerHello can be read.
pub(super) fn is_server_hello(body: &[u8]) -> bool {
    let read = || {
        let mut reader = Reader(body);
        reader.take(2 + 32)?; // version, random
        reader.vector(1)?; // session id
        reader.take(2 + 1)?; // cipher suite, compression method
        read_extensions(reader, |_, _| Some(()))
    };
    read().is_some()
}

fn read_extensions<'a>(mut rest: Reader<'a>, mut read: impl FnMut(u16, &'a [u8]) -> Option<()>) -> Option<()> {
    if rest.0.is_empty() {
        return Some(());
    }
    let mut extensions = Reader(rest.vector(2)?);
    for _ in 0..MAX_EXTENSIONS {
        if extensions.0.is_empty() {
            break;
        }
        read(extensions.u16()?, extensions.vector(2)?)?;
    }
    (extensions.0.is_empty() && rest.0.is_empty()).then_some(())
}

/// GCM before SHA1_80, whatever the client prefers.
fn choose_profile(offered: &[u8]) -> Option<SrtpProfile> {
    let offers = |id: [u8; 2]| offered.chunks_exact(2).any(|offer| offer == id);
    if offers([0, 7]) {
        Some(SrtpProfile::AeadAes128Gcm)
    } else if offers([0, 1]) {
        Some(SrtpProfile::Aes128CmSha1_80)
    } else {
        None
    }
}
