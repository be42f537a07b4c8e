//! SCTP packets (RFC 9260) as far as they are looked at before the SCTP implementation, dcsctp, gets them: their
//! outside, and what in them would make it do more than a packet may cost, or panic. All but the last of these were
//! read out of the source of dcsctp 0.1.16.
//!
//! - It answers each chunk that asks for something with a packet: 300 HEARTBEATs, INITs or unknown chunks in one packet
//!   with as many. So but for DATA each type comes once in a packet, and unknown ones that want a report not at all.
//! - `SctpPacketBuilder::add` asserts that a chunk fits into a packet, in release builds it leaves it out: of the
//!   cookie of an INIT ACK, which is echoed (`send_cookie_echo`), and of the answers to a RE-CONFIG (`handle_reconfig`)
//!   the length is the client's choice. So a cookie has a limit, and a RE-CONFIG at most two parameters, as in RFC 6525
//!   section 3.1.
//! - DATA without user data is answered with an ERROR each (`handle_data`); in RFC 9260 section 6.2 it is an error.
//! - Chunks of interleaving (RFC 8260), which is not negotiated, end the association (`validate_chunk`). They are
//!   unknown here.
//! - `handle_init` and others look at the state that earlier chunks of the packet may have changed: INIT, INIT ACK and
//!   SHUTDOWN COMPLETE are alone in their packet, and a COOKIE ECHO comes first, as RFC 9260 has it anyway.

/// Both ends' port, which signalling announces.
pub const PORT: u16 = 5_000;

/// Longest packet: what comes in a DTLS record of one datagram of a client.
const MAX_PACKET_LEN: usize = 4_096;

const COMMON_HEADER_LEN: usize = 12;
const CHUNK_HEADER_LEN: usize = 4;

/// Of DATA, before its user data.
const DATA_HEADER_LEN: usize = 16;

/// Longest INIT ACK. The cookie in it is to fit into a packet of ours, and those of usrsctp have some 500 bytes.
const MAX_INIT_ACK_LEN: usize = 1_024;

const DATA: u8 = 0;
const INIT: u8 = 1;
const INIT_ACK: u8 = 2;
const COOKIE_ECHO: u8 = 10;
const SHUTDOWN_COMPLETE: u8 = 14;
const RE_CONFIG: u8 = 130;
const FORWARD_TSN: u8 = 192;

/// Of an unknown chunk: it is to be reported, RFC 9260 section 3.2.
const REPORT_BIT: u8 = 0x40;

/// A packet that may be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SctpPacket<'a> {
    bytes: &'a [u8],
    data_chunks: usize,
    has_init: bool,
    has_cookie_echo: bool,
    re_config_len: usize,
    has_forward_tsn: bool,
}

/// What is left out of a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// DATA.
    pub data: bool,
    /// RE-CONFIG.
    pub re_config: bool,
    /// FORWARD TSN.
    pub forward_tsn: bool,
}

#[derive(Debug, Clone, Copy)]
struct Chunk<'a> {
    kind: u8,
    /// Behind its header.
    value: &'a [u8],
    /// With header and padding.
    whole: &'a [u8],
}

impl<'a> SctpPacket<'a> {
    /// Reads a packet; `None` if it is malformed, or is none that is handed on.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let ports = *bytes.first_chunk::<4>()?;
        let [a, b] = PORT.to_be_bytes();
        if bytes.len() > MAX_PACKET_LEN || ports != [a, b, a, b] {
            return None;
        }
        let mut packet = Self {
            bytes,
            data_chunks: 0,
            has_init: false,
            has_cookie_echo: false,
            re_config_len: 0,
            has_forward_tsn: false,
        };
        let (mut seen, mut count, mut read) = ([0_u64; 4], 0, COMMON_HEADER_LEN);
        for chunk in chunks(bytes) {
            packet.note(&chunk, count, &mut seen)?;
            count += 1;
            read += chunk.whole.len();
        }
        let is_alone = |kind: u8| !has(&seen, kind) || count == 1;
        let stands = is_alone(INIT) && is_alone(INIT_ACK) && is_alone(SHUTDOWN_COMPLETE);
        (count > 0 && read == bytes.len() && stands).then_some(packet)
    }

    /// Takes up a chunk before which so many came; `None` if the packet may not have it.
    fn note(&mut self, chunk: &Chunk<'_>, before: usize, seen: &mut [u64; 4]) -> Option<()> {
        let is_first = chunk.kind == DATA || !has(seen, chunk.kind);
        if let Some(bits) = seen.get_mut(usize::from(chunk.kind / 64)) {
            *bits |= 1 << (chunk.kind % 64);
        }
        let may_be = match chunk.kind {
            DATA => {
                self.data_chunks += 1;
                chunk.value.len() + CHUNK_HEADER_LEN > DATA_HEADER_LEN
            }
            INIT => {
                self.has_init = true;
                true
            }
            INIT_ACK => chunk.whole.len() <= MAX_INIT_ACK_LEN,
            COOKIE_ECHO => {
                self.has_cookie_echo = true;
                before == 0
            }
            RE_CONFIG => {
                self.re_config_len = chunk.value.len();
                has_few_parameters(chunk.value)
            }
            FORWARD_TSN => {
                self.has_forward_tsn = true;
                true
            }
            // SACK, HEARTBEAT and its ACK, ABORT, SHUTDOWN and its ACK, ERROR, COOKIE ACK.
            3..=9 | 11 | SHUTDOWN_COMPLETE => true,
            unknown => unknown & REPORT_BIT == 0,
        };
        (is_first && may_be).then_some(())
    }

    /// The packet.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// How many DATA chunks are in it.
    pub fn data_chunks(&self) -> usize {
        self.data_chunks
    }

    /// Whether it can begin an association: INIT, or COOKIE ECHO.
    pub fn can_begin(&self) -> bool {
        self.has_init || self.has_cookie_echo
    }

    /// Whether it has a RE-CONFIG.
    pub fn has_re_config(&self) -> bool {
        self.re_config_len > 0
    }

    /// How many streams a RE-CONFIG can name at most: two bytes each.
    pub fn named_streams(&self) -> usize {
        self.re_config_len / 2
    }

    /// Whether it has a FORWARD TSN.
    pub fn has_forward_tsn(&self) -> bool {
        self.has_forward_tsn
    }

    /// The streams of which the receiver will keep something: those of DATA, and those that a FORWARD TSN names.
    pub fn streams(&self) -> impl Iterator<Item = u16> + use<'a> {
        chunks(self.bytes).flat_map(|chunk| {
            // Behind the TSN there is one of DATA, and a list of FORWARD TSN, each with a sequence number.
            let named = match chunk.kind {
                DATA => chunk.value.get(4..8),
                FORWARD_TSN => chunk.value.get(4..),
                _ => None,
            };
            let (named, _) = named.unwrap_or_default().as_chunks::<4>();
            named.iter().map(|[high, low, ..]| u16::from_be_bytes([*high, *low]))
        })
    }

    /// The packet without some of its chunks; `None` if nothing is left. It has no checksum, which a receiver that
    /// announced that need not have: what is around it is DTLS (RFC 9653).
    pub fn without(&self, left_out: LeftOut) -> Option<Vec<u8>> {
        let (header, _) = self.bytes.split_first_chunk::<COMMON_HEADER_LEN>()?;
        let mut rest = header.to_vec();
        if let Some(checksum) = rest.get_mut(8..) {
            checksum.fill(0);
        }
        for chunk in chunks(self.bytes) {
            let is_left_out = match chunk.kind {
                DATA => left_out.data,
                RE_CONFIG => left_out.re_config,
                FORWARD_TSN => left_out.forward_tsn,
                _ => false,
            };
            if !is_left_out {
                rest.extend_from_slice(chunk.whole);
            }
        }
        (rest.len() > COMMON_HEADER_LEN).then_some(rest)
    }
}

/// The chunks of a packet, up to the first that is cut short. The padding of the last one may be missing.
fn chunks(bytes: &[u8]) -> impl Iterator<Item = Chunk<'_>> {
    let mut rest = bytes.get(COMMON_HEADER_LEN..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [kind, _, high, low] = *rest.first_chunk::<CHUNK_HEADER_LEN>()?;
        let len = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(CHUNK_HEADER_LEN..len)?;
        let (whole, behind) = rest.split_at_checked(len.next_multiple_of(4)).unwrap_or((rest, &[]));
        rest = behind;
        Some(Chunk { kind, value, whole })
    })
}

fn has(seen: &[u64; 4], kind: u8) -> bool {
    seen.get(usize::from(kind / 64)).is_some_and(|bits| bits & 1 << (kind % 64) != 0)
}

/// Whether these are one or two parameters, RFC 6525 section 3.1.
fn has_few_parameters(mut value: &[u8]) -> bool {
    let mut count = 0;
    while let Some([_, _, high, low]) = value.first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([*high, *low]));
        if len < 4 || len > value.len() {
            return false;
        }
        count += 1;
        value = value.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    (1..=2).contains(&count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(chunks: &[&[u8]]) -> Vec<u8> {
        [&[0x13, 0x88, 0x13, 0x88, 1, 2, 3, 4, 5, 6, 7, 8][..], &chunks.concat()].concat()
    }

    fn chunk(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut chunk = vec![kind, 3];
        chunk.extend((value.len() as u16 + 4).to_be_bytes());
        chunk.extend(value);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    }

    fn data(stream: u16, user_data: &[u8]) -> Vec<u8> {
        chunk(DATA, &[&[0, 0, 0, 1][..], &stream.to_be_bytes(), &[0, 7, 0, 0, 0, 51], user_data].concat())
    }

    fn is_taken(chunks: &[&[u8]]) -> bool {
        SctpPacket::parse(&packet(chunks)).is_some()
    }

    #[test]
    fn a_packet_is_whole_chunks() {
        let sack = chunk(3, &[0; 12]);
        assert!(is_taken(&[&sack]) && is_taken(&[&sack, &data(1, b"a"), &data(2, b"abcd")]));
        assert!(
            !is_taken(&[]) && !is_taken(&[&sack, &[0]]) && !is_taken(&[&[3, 0, 0, 3]]) && !is_taken(&[&[3, 0, 0, 9]])
        );
        let mut whole = packet(&[&data(1, b"a")]);
        assert!(SctpPacket::parse(whole.get(..whole.len() - 3).unwrap()).is_some(), "without padding");
        assert!(SctpPacket::parse(whole.get(..whole.len() - 4).unwrap()).is_none());
        whole[1] = 0;
        assert!(SctpPacket::parse(&whole).is_none(), "another port");
        assert!(!is_taken(&[&chunk(3, &[0; MAX_PACKET_LEN])]));
        assert!(SctpPacket::parse(&[]).is_none());
    }

    #[test]
    fn what_would_be_answered_again_and_again_comes_once() {
        for kind in [INIT, INIT_ACK, 3, 4, 9, COOKIE_ECHO, SHUTDOWN_COMPLETE, FORWARD_TSN] {
            let one = chunk(kind, &[0; 16]);
            assert!(is_taken(&[&one]) && !is_taken(&[&one, &one]), "{kind}");
        }
        let unknown: Vec<u8> = (0..=255).filter(|kind| is_taken(&[&chunk(*kind, &[0; 20])])).collect();
        assert!([13, 15, 132, 129].iter().all(|kind| unknown.contains(kind)), "nobody reports them");
        assert!([64, 65, 193, 194, 255].iter().all(|kind| !unknown.contains(kind)));
        assert!(!is_taken(&[&data(1, b"")]), "no user data");
    }

    #[test]
    fn chunks_stand_where_they_may() {
        let (cookie, sack) = (chunk(COOKIE_ECHO, &[0; 48]), chunk(3, &[0; 12]));
        assert!(is_taken(&[&cookie, &data(1, b"a")]) && !is_taken(&[&sack, &cookie]));
        for kind in [INIT, INIT_ACK, SHUTDOWN_COMPLETE] {
            assert!(!is_taken(&[&chunk(kind, &[0; 16]), &sack]), "{kind}");
        }
        assert!(is_taken(&[&chunk(INIT_ACK, &[0; 1_020])]) && !is_taken(&[&chunk(INIT_ACK, &[0; 1_021])]));
        let parameter = [0, 13, 0, 4];
        let re_config = |count: usize| is_taken(&[&chunk(RE_CONFIG, &parameter.repeat(count))]);
        assert!(!re_config(0) && re_config(1) && re_config(2) && !re_config(3));
        assert!(!is_taken(&[&chunk(RE_CONFIG, &[0, 13, 0, 3])]) && !is_taken(&[&chunk(RE_CONFIG, &[0, 13, 0, 9])]));
    }

    #[test]
    fn streams_are_named_by_data_and_by_forward_tsn() {
        let forward = chunk(FORWARD_TSN, &[0, 0, 0, 9, 0, 5, 0, 1, 0xff, 0xfe, 0, 2]);
        let bytes = packet(&[&data(7, b"a"), &chunk(3, &[0; 12]), &forward, &data(300, b"bc")]);
        let packet = SctpPacket::parse(&bytes).unwrap();
        assert_eq!(packet.streams().collect::<Vec<_>>(), [7, 5, 0xfffe, 300]);
        assert_eq!((packet.data_chunks(), packet.has_forward_tsn(), packet.has_re_config()), (2, true, false));
    }

    #[test]
    fn chunks_can_be_left_out() {
        let (sack, forward) = (chunk(3, &[9; 12]), chunk(FORWARD_TSN, &[0; 4]));
        let bytes = packet(&[&data(7, b"a"), &sack, &forward]);
        let parsed = SctpPacket::parse(&bytes).unwrap();
        let data_only = LeftOut { data: true, ..LeftOut::default() };
        let rest = parsed.without(data_only).unwrap();
        assert_eq!(rest, [&[0x13, 0x88, 0x13, 0x88, 1, 2, 3, 4, 0, 0, 0, 0][..], &sack, &forward].concat());
        let all = packet(&[&data(7, b"a")]);
        assert_eq!(SctpPacket::parse(&all).unwrap().without(data_only), None);
    }
}
