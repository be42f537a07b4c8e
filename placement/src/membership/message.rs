//! Reading chitchat's messages before chitchat does: whom they are about, and that nothing in them makes it panic or
//! fill the memory. The format is that of chitchat 0.11 (`serialize.rs`, `digest.rs`, `delta.rs`): integers are
//! little-endian, texts have a length of 16 bits.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Longest message: chitchat makes them fit into a UDP datagram.
const MAX_LEN: usize = 65_507;

/// Longest delta once it is unpacked. Facts shrink to a fifth, and what is packed fits into a message.
const MAX_UNPACKED: usize = 1024 * 1024;

/// One block of a delta, unpacked: what chitchat takes.
const MAX_BLOCK: usize = u16::MAX as usize;

/// Facts of a node in one delta: several times the fields of [`NodeFacts`](crate::NodeFacts).
const MAX_KEYS: usize = 64;

/// Longest name and value of a fact. A value that alone fills a message would keep all later ones from being told.
const MAX_KEY_LEN: usize = 64;
const MAX_VALUE_LEN: usize = 8 * 1024;

/// Above this a version is none that was counted: it leaves no room to count on.
const MAX_VERSION: u64 = 1 << 62;

/// Magic number and version of the protocol.
const HEAD: [u8; 3] = [0x53, 0xb0, 0];

/// Why a message does not reach chitchat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it is too long")]
    TooLong,
    #[error("it ends too soon")]
    Short,
    #[error("it is no message of this version of gossip")]
    Foreign,
    #[error("it has a field that makes no sense")]
    Field,
    #[error("it has more facts, or larger ones, than a node has")]
    TooLarge,
    #[error("its versions are out of order")]
    Versions,
    #[error("it claims to know this node's own facts better")]
    AboutOneself,
}

/// A node's name in gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Name<'a> {
    pub(super) node: &'a str,
    pub(super) incarnation: u64,
    pub(super) addr: SocketAddr,
}

/// A message that is safe to hand on.
#[derive(Debug)]
pub(super) struct Message<'a> {
    payload: &'a [u8],
    /// The part of the payload that lists nodes, if it has one: first the number of entries.
    digest: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Checks all of a message. `me` is this node.
    pub(super) fn read(payload: &'a [u8], me: Name<'_>) -> Result<Self, Malformed> {
        if payload.len() > MAX_LEN {
            return Err(Malformed::TooLong);
        }
        let mut input = Reader(payload);
        if input.array()? != HEAD {
            return Err(Malformed::Foreign);
        }
        let kind = input.u8()?;
        let mut digest = None;
        if matches!(kind, 0 | 1) {
            let start = input.0;
            for _ in 0..input.u16()? {
                read_entry(&mut input)?;
            }
            digest = Some(&start[..start.len() - input.0.len()]);
        }
        match kind {
            0 => drop(input.text()?),
            1 | 2 => check_delta(&unpack(&mut input)?, me)?,
            3 => {}
            _ => return Err(Malformed::Foreign),
        }
        Ok(Self { payload, digest })
    }

    /// The nodes that the sender knows of.
    pub(super) fn names(&self) -> impl Iterator<Item = Name<'a>> + use<'a> {
        self.entries().map(|(name, _)| name)
    }

    /// The message without the entries of some nodes.
    pub(super) fn retain(&self, mut keep: impl FnMut(&Name<'a>) -> bool) -> Cow<'a, [u8]> {
        let Some(digest) = self.digest else { return Cow::Borrowed(self.payload) };
        let kept: Vec<&[u8]> = self.entries().filter(|(name, _)| keep(name)).map(|(_, entry)| entry).collect();
        if kept.len() == self.entries().count() {
            return Cow::Borrowed(self.payload);
        }
        let head = HEAD.len() + 1;
        let mut shorter = self.payload[..head].to_vec();
        // No more than there were.
        shorter.extend((kept.len() as u16).to_le_bytes());
        kept.iter().for_each(|entry| shorter.extend_from_slice(entry));
        shorter.extend_from_slice(&self.payload[head + digest.len()..]);
        Cow::Owned(shorter)
    }

    fn entries(&self) -> impl Iterator<Item = (Name<'a>, &'a [u8])> + use<'a> {
        let mut input = Reader(self.digest.unwrap_or_default().get(2..).unwrap_or_default());
        std::iter::from_fn(move || {
            let start = input.0;
            let name = read_entry(&mut input).ok()?;
            Some((name, &start[..start.len() - input.0.len()]))
        })
    }
}

/// Bytes that a node's entry takes in a digest.
pub(super) fn entry_len(node: &str, addr: SocketAddr) -> usize {
    let ip = if addr.is_ipv4() { 4 } else { 16 };
    2 + node.len() + 8 + 1 + ip + 2 + 3 * 8
}

/// A node, its heartbeat, and how much of its facts the sender has.
fn read_entry<'a>(input: &mut Reader<'a>) -> Result<Name<'a>, Malformed> {
    let name = input.name()?;
    for _ in 0..3 {
        input.u64()?;
    }
    Ok(name)
}

/// The operations of a delta, out of their blocks.
fn unpack(input: &mut Reader<'_>) -> Result<Vec<u8>, Malformed> {
    let mut unpacked = Vec::new();
    loop {
        let kind = input.u8()?;
        if kind == 0 {
            return Ok(unpacked);
        }
        let len = input.u16()?;
        let block = input.bytes(usize::from(len))?;
        match kind {
            1 => {
                let block = zstd::bulk::decompress(block, MAX_BLOCK).map_err(|_| Malformed::Field)?;
                unpacked.extend_from_slice(&block);
            }
            2 => unpacked.extend_from_slice(block),
            _ => return Err(Malformed::Field),
        }
        if unpacked.len() > MAX_UNPACKED {
            return Err(Malformed::TooLarge);
        }
    }
}

/// chitchat asserts that the versions of a node's facts grow, and takes whatever it is told of itself.
fn check_delta(operations: &[u8], me: Name<'_>) -> Result<(), Malformed> {
    let mut input = Reader(operations);
    // Of the node that the operations are about: its highest version so far, and its facts.
    let mut about: Option<(u64, usize)> = None;
    while !input.0.is_empty() {
        match (input.u8()?, &mut about) {
            (0, about) => {
                if input.name()? == me {
                    return Err(Malformed::AboutOneself);
                }
                check_version(input.u64()?)?;
                check_version(input.u64()?)?;
                *about = Some((0, 0));
            }
            (1, Some((highest, keys))) => {
                let (key, value, version) = (input.text()?, input.text()?, input.u64()?);
                let status = input.u8()?;
                *keys += 1;
                if *keys > MAX_KEYS || key.len() > MAX_KEY_LEN || value.len() > MAX_VALUE_LEN {
                    return Err(Malformed::TooLarge);
                }
                if status > 2 {
                    return Err(Malformed::Field);
                }
                if version <= *highest {
                    return Err(Malformed::Versions);
                }
                *highest = check_version(version)?;
            }
            (2, Some((highest, _))) => {
                let version = check_version(input.u64()?)?;
                if version < *highest {
                    return Err(Malformed::Versions);
                }
                *highest = version;
            }
            _ => return Err(Malformed::Field),
        }
    }
    Ok(())
}

fn check_version(version: u64) -> Result<u64, Malformed> {
    if version <= MAX_VERSION { Ok(version) } else { Err(Malformed::Versions) }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn bytes(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.0.split_at_checked(len).ok_or(Malformed::Short)?;
        self.0 = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        self.bytes(N)?.try_into().map_err(|_| Malformed::Short)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, Malformed> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        let len = self.u16()?;
        std::str::from_utf8(self.bytes(usize::from(len))?).map_err(|_| Malformed::Field)
    }

    fn name(&mut self) -> Result<Name<'a>, Malformed> {
        let (node, incarnation) = (self.text()?, self.u64()?);
        let ip = match self.u8()? {
            4 => IpAddr::from(Ipv4Addr::from(self.array::<4>()?)),
            6 => IpAddr::from(Ipv6Addr::from(self.array::<16>()?)),
            _ => return Err(Malformed::Field),
        };
        Ok(Name { node, incarnation, addr: SocketAddr::new(ip, self.u16()?) })
    }
}
