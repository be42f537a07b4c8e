//! What protects the records of an association that is connected: AES-128-GCM (RFC 5288) with the numbers of records as
//! nonces, in the one epoch that there is.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use rtc_dtls::state::State;

use super::record::{RECORD_HEADER_LEN, Record};
use crate::drop_reason::DropReason;
use crate::secure::srtp::window::Window;

/// The epoch of all protected records: there is no second handshake.
const EPOCH: u64 = 1;

/// Of the nonce, in front of what it protects.
const EXPLICIT_NONCE_LEN: usize = 8;
const TAG_LEN: usize = 16;
const KEY_LEN: usize = 16;
const SALT_LEN: usize = 4;

/// What a record adds to its plaintext, in bytes.
pub(super) const OVERHEAD: usize = RECORD_HEADER_LEN + EXPLICIT_NONCE_LEN + TAG_LEN;

/// Numbers of records have 48 bits.
const MAX_SEQUENCE: u64 = (1 << 48) - 1;

/// Both directions of an association.
pub(super) struct Protection {
    sealing: Direction,
    /// The number of the next record of ours.
    next: u64,
    opening: Direction,
    /// Records of the client that came, RFC 6347 section 4.1.2.6.
    seen: Window<4>,
}

struct Direction {
    key: LessSafeKey,
    salt: [u8; SALT_LEN],
}

/// What rtc-dtls gives out of an association, field for field: it keeps its keys to itself.
#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Exported {
    local_epoch: u16,
    remote_epoch: u16,
    local_random: [u8; 32],
    remote_random: [u8; 32],
    cipher_suite_id: u16,
    master_secret: Vec<u8>,
    sequence_number: u64,
    srtp_protection_profile: u16,
    peer_certificates: Vec<Vec<u8>>,
    identity_hint: Vec<u8>,
    is_client: bool,
}

impl Protection {
    /// Of an association whose handshake is complete; `None` if rtc-dtls gives something else than it did.
    pub(super) fn of(state: &State) -> Option<Self> {
        let mut bytes = AlignedVec::<16>::new();
        bytes.extend_from_slice(&state.marshal_binary().ok()?);
        let exported = rkyv::from_bytes::<Exported, rancor::Error>(&bytes).ok()?;
        let (client_random, server_random) = match exported.is_client {
            true => (&exported.local_random, &exported.remote_random),
            false => (&exported.remote_random, &exported.local_random),
        };
        let block = key_block(&exported.master_secret, server_random, client_random);
        let (client_key, rest) = block.split_first_chunk::<KEY_LEN>()?;
        let (server_key, rest) = rest.split_first_chunk::<KEY_LEN>()?;
        let (client_salt, rest) = rest.split_first_chunk::<SALT_LEN>()?;
        let server_salt = rest.first_chunk::<SALT_LEN>()?;
        let (client, server) = (Direction::new(client_key, *client_salt)?, Direction::new(server_key, *server_salt)?);
        let (sealing, opening) = if exported.is_client { (client, server) } else { (server, client) };
        // Number 0 is the other end's Finished.
        Some(Self { sealing, next: exported.sequence_number, opening, seen: Window::starting_at(0) })
    }

    /// Writes a record around `plain` into `record`, which has [`OVERHEAD`] bytes more.
    ///
    /// # Errors
    /// [`DropReason::TooLarge`] if it has not, or all numbers are used up.
    pub(super) fn seal(&mut self, content: u8, plain: &[u8], record: &mut [u8]) -> Result<(), DropReason> {
        let len = u16::try_from(plain.len() + EXPLICIT_NONCE_LEN + TAG_LEN).map_err(|_| DropReason::TooLarge)?;
        if record.len() != plain.len() + OVERHEAD || self.next > MAX_SEQUENCE {
            return Err(DropReason::TooLarge);
        }
        let number = (EPOCH << 48 | self.next).to_be_bytes();
        self.next += 1;
        let (header, rest) = record.split_first_chunk_mut::<RECORD_HEADER_LEN>().ok_or(DropReason::TooLarge)?;
        let (explicit, rest) = rest.split_first_chunk_mut::<EXPLICIT_NONCE_LEN>().ok_or(DropReason::TooLarge)?;
        let (body, tag) = rest.split_at_mut_checked(plain.len()).ok_or(DropReason::TooLarge)?;
        let [type_, major, minor, numbers @ .., high, low] = header;
        (*type_, *major, *minor) = (content, 0xfe, 0xfd);
        numbers.copy_from_slice(&number);
        [*high, *low] = len.to_be_bytes();
        *explicit = number;
        body.copy_from_slice(plain);
        let aad = Aad::from(additional_data(number, [content, 0xfe, 0xfd], plain.len()));
        let sealed = self.sealing.key.seal_in_place_separate_tag(self.sealing.nonce(number), aad, body);
        tag.copy_from_slice(sealed.map_err(|_| DropReason::TooLarge)?.as_ref());
        Ok(())
    }

    /// What is in a record of the client; `None` if it is forged or came before.
    pub(super) fn open(&mut self, record: &Record<'_>) -> Option<Vec<u8>> {
        let [_, major, minor, number @ ..] = *record.whole.first_chunk::<11>()?;
        let sequence = u64::from_be_bytes(number) & MAX_SEQUENCE;
        if u64::from(record.epoch) != EPOCH || self.seen.has_seen(sequence) {
            return None;
        }
        let (explicit, sealed) = record.body.split_first_chunk::<EXPLICIT_NONCE_LEN>()?;
        let len = sealed.len().checked_sub(TAG_LEN)?;
        let mut plain = sealed.to_vec();
        let aad = Aad::from(additional_data(number, [record.content, major, minor], len));
        self.opening.key.open_in_place(self.opening.nonce(*explicit), aad, &mut plain).ok()?;
        plain.truncate(len);
        self.seen.mark(sequence);
        Some(plain)
    }
}

impl Direction {
    fn new(key: &[u8; KEY_LEN], salt: [u8; SALT_LEN]) -> Option<Self> {
        Some(Self { key: LessSafeKey::new(UnboundKey::new(&AES_128_GCM, key).ok()?), salt })
    }

    fn nonce(&self, explicit: [u8; EXPLICIT_NONCE_LEN]) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        let (salt, rest) = nonce.split_at_mut(SALT_LEN);
        salt.copy_from_slice(&self.salt);
        rest.copy_from_slice(&explicit);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// RFC 5246 section 6.2.3.3, with epoch and number in place of the number.
fn additional_data(number: [u8; 8], [content, major, minor]: [u8; 3], len: usize) -> [u8; 13] {
    let [a, b, c, d, e, f, g, h] = number;
    let [high, low] = (len as u16).to_be_bytes();
    [a, b, c, d, e, f, g, h, content, major, minor, high, low]
}

/// Keys and salts, RFC 5246 sections 5 and 6.3: the first two blocks of P_SHA256, of which 40 bytes are used.
fn key_block(master_secret: &[u8], server_random: &[u8; 32], client_random: &[u8; 32]) -> [u8; 64] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, master_secret);
    let seed = [&b"key expansion"[..], server_random, client_random].concat();
    let first = hmac::sign(&key, &seed);
    let second = hmac::sign(&key, first.as_ref());
    let mut block = [0; 64];
    for (part, a) in block.chunks_exact_mut(32).zip([first, second]) {
        part.copy_from_slice(hmac::sign(&key, &[a.as_ref(), &seed].concat()).as_ref());
    }
    block
}
