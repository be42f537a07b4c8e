//! The first ClientHello: what SRTP profiles does the client offer?
//!
//! rtc-dtls follows the client's order of profiles, and Chromium puts the slow one first. So the offer is read here, and the
//! association is then given the one profile that it shall choose. Nothing is decided by what is read but that choice.

use sluice_proto::ortc::DtlsRole;

use crate::data_plane::messages::SrtpProfile;

/// Datagrams of one ClientHello that are kept: with post-quantum key shares it has under 2 KiB, which are 2 or 3 datagrams.
const MAX_DATAGRAMS: usize = 4;

/// Largest ClientHello that is read, in bytes.
const MAX_HELLO_LEN: usize = 8192;

const CONTENT_HANDSHAKE: u8 = 22;
const HANDSHAKE_CLIENT_HELLO: u8 = 1;
const EXTENSION_USE_SRTP: u16 = 14;

/// Keeps the newest ClientHello until somebody knows what to do with it.
#[derive(Debug, Default)]
pub struct HelloCollector {
    datagrams: Vec<Vec<u8>>,
}

/// What is of interest in a ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientHello {
    /// The best profile that both ends know; `None` if there is none.
    pub profile: Option<SrtpProfile>,
}

impl HelloCollector {
    /// Keeps a datagram if it is part of a ClientHello; one that begins anew takes the place of the last. Returns whether it is.
    pub fn push(&mut self, datagram: &[u8]) -> bool {
        let Some(first) = hello_fragments(datagram).next() else { return false };
        if first.offset == 0 && self.fragments().any(|fragment| fragment.offset == 0)
            || self.datagrams.len() >= MAX_DATAGRAMS
        {
            self.datagrams.clear();
        }
        self.datagrams.push(datagram.to_vec());
        true
    }

    /// What the ClientHello offers, once it is whole and can be read.
    pub fn hello(&self) -> Option<ClientHello> {
        let first = self.fragments().find(|fragment| fragment.offset == 0)?;
        if first.total > MAX_HELLO_LEN {
            return None;
        }
        let mut fragments: Vec<_> =
            self.fragments().filter(|f| f.message == first.message && f.total == first.total).collect();
        fragments.sort_by_key(|fragment| fragment.offset);
        let mut body = Vec::with_capacity(first.total);
        for fragment in fragments {
            if let Some(new) = body.len().checked_sub(fragment.offset).and_then(|known| fragment.body.get(known..)) {
                body.extend_from_slice(new);
            }
        }
        if body.len() != first.total {
            return None;
        }
        parse_body(&body)
    }

    /// The datagrams, in the order of their arrival; the collector is empty then.
    pub fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.datagrams)
    }

    /// Whether nothing came yet.
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    fn fragments(&self) -> impl Iterator<Item = Fragment<'_>> {
        self.datagrams.iter().flat_map(|datagram| hello_fragments(datagram))
    }
}

/// The role of this end, given that of the client. RFC 5763 section 5 lets the answerer choose to be active; browsers wait for
/// whoever is passive, so `auto` makes this end the server, as with mediasoup's defaults.
pub(super) fn is_dtls_client(remote: DtlsRole) -> bool {
    remote == DtlsRole::Server
}

#[derive(Debug, Clone, Copy)]
struct Fragment<'a> {
    message: u16,
    total: usize,
    offset: usize,
    body: &'a [u8],
}

/// The ClientHello fragments of a datagram, RFC 6347 sections 4.1 and 4.2.2.
fn hello_fragments(datagram: &[u8]) -> impl Iterator<Item = Fragment<'_>> {
    let mut reader = Reader(datagram);
    std::iter::from_fn(move || reader.record())
        .filter(|(content, epoch, _)| *content == CONTENT_HANDSHAKE && *epoch == 0)
        .flat_map(|(_, _, body)| {
            let mut reader = Reader(body);
            std::iter::from_fn(move || reader.fragment())
        })
        .filter_map(|(kind, fragment)| (kind == HANDSHAKE_CLIENT_HELLO).then_some(fragment))
}

/// Whether a datagram consists of whole records and nothing else.
pub(super) fn is_well_framed(datagram: &[u8]) -> bool {
    let mut reader = Reader(datagram);
    while reader.record().is_some() {}
    !datagram.is_empty() && reader.0.is_empty()
}

/// Whether a datagram holds a handshake record of the plaintext epoch.
pub(super) fn has_plain_handshake(datagram: &[u8]) -> bool {
    let mut reader = Reader(datagram);
    std::iter::from_fn(move || reader.record()).any(|(content, epoch, _)| content == CONTENT_HANDSHAKE && epoch == 0)
}

fn parse_body(body: &[u8]) -> Option<ClientHello> {
    let mut reader = Reader(body);
    reader.take(2 + 32)?; // version, random
    reader.vector8()?; // session id
    reader.vector8()?; // cookie
    reader.vector16()?; // cipher suites
    reader.vector8()?; // compression methods
    let mut extensions = Reader(reader.vector16().unwrap_or_default());
    let mut profile = None;
    while !extensions.0.is_empty() {
        let kind = extensions.u16()?;
        let value = extensions.vector16()?;
        if kind == EXTENSION_USE_SRTP {
            profile = choose_profile(Reader(value).vector16()?);
        }
    }
    Some(ClientHello { profile })
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

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, len: usize) -> Option<usize> {
        Some(self.take(len)?.iter().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    }

    fn u16(&mut self) -> Option<u16> {
        self.number(2).map(|number| number as u16)
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = self.number(1)?;
        self.take(len)
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.number(2)?;
        self.take(len)
    }

    /// Content type, epoch and body of the next record; nothing is consumed unless it is whole.
    fn record(&mut self) -> Option<(u8, u16, &'a [u8])> {
        let mut ahead = Reader(self.0);
        let content = ahead.number(1)? as u8;
        ahead.take(2)?; // version
        let epoch = ahead.u16()?;
        ahead.take(6)?; // sequence number
        // rtc-dtls takes a record without a body for one that is cut short.
        let body = ahead.vector16().filter(|body| !body.is_empty())?;
        self.0 = ahead.0;
        Some((content, epoch, body))
    }

    fn fragment(&mut self) -> Option<(u8, Fragment<'a>)> {
        let kind = self.number(1)? as u8;
        let total = self.number(3)?;
        let message = self.u16()?;
        let offset = self.number(3)?;
        let len = self.number(3)?;
        Some((kind, Fragment { message, total, offset, body: self.take(len)? }))
    }
}
