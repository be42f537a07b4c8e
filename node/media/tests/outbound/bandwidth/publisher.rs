//! A publisher of three encodings with three temporal layers each, whose pictures vary in size as an encoder's do.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_media::wire::rtp::RtpHeader;

use crate::core::{Core, Stream, User, header_of, key_frame_requests};

/// Bits per second of the encodings.
pub(super) const RATES: [u32; 3] = [150_000, 500_000, 2_000_000];

const PICTURES_PER_SECOND: u32 = 30;

/// How much larger a key frame is than a picture on average.
const KEY_FRAME: f64 = 5.0;

/// Temporal layers of four pictures, and their sizes: 40% of the bytes are of the base layer, 20% of the next.
const PATTERN: [(u8, f64); 4] = [(0, 1.6), (2, 0.8), (1, 0.8), (2, 0.8)];

const MAX_PAYLOAD: usize = 1_150;

/// The publisher.
pub(super) struct Publisher {
    user: User,
    rng: ChaCha8Rng,
    picture: u32,
    base_layer: [u8; 3],
    sequence: [u16; 3],
    key_frame_due: [bool; 3],
    is_wanted: [bool; 3],
}

impl Publisher {
    pub(super) fn new(core: &mut Core, user: User, number: u8, seed: u64) -> (Self, sluice_proto::ids::ProducerId) {
        let producer = core.publish_as(&user, Stream::Vp8Simulcast, number);
        let rng = ChaCha8Rng::seed_from_u64(seed ^ 0x70b1);
        let (key_frame_due, is_wanted) = ([true; 3], [true; 3]);
        let publisher = Self { user, rng, picture: 0, base_layer: [0; 3], sequence: [0; 3], key_frame_due, is_wanted };
        (publisher, producer)
    }

    /// When it sends its next picture, in milliseconds after the start.
    pub(super) fn due_ms(&self) -> u64 {
        u64::from(self.picture) * 1_000 / u64::from(PICTURES_PER_SECOND)
    }

    /// Sends the next picture of each encoding, a key frame where one was asked for.
    pub(super) fn send(&mut self, core: &mut Core) {
        // It takes each request for one of all encodings, as some do.
        if key_frame_requests(&core.received_rtcp(&mut self.user)) > 0 {
            self.key_frame_due = [true; 3];
        }
        for encoding in 0..3 {
            if self.is_wanted[encoding] {
                let packets = self.picture_of(encoding);
                core.rtp_batch(&mut self.user, &packets);
            }
        }
        self.picture += 1;
    }

    fn picture_of(&mut self, encoding: usize) -> Vec<(RtpHeader, Vec<u8>)> {
        let is_key_frame = std::mem::take(&mut self.key_frame_due[encoding]);
        let (mut temporal, mut factor) = PATTERN[self.picture as usize % PATTERN.len()];
        if is_key_frame {
            (temporal, factor) = (0, KEY_FRAME);
        }
        if temporal == 0 {
            self.base_layer[encoding] = self.base_layer[encoding].wrapping_add(1);
        }
        let average = f64::from(RATES[encoding]) / 8.0 / f64::from(PICTURES_PER_SECOND);
        let mut left = (average * factor * self.rng.random_range(0.8..1.2)) as usize;
        let (mut packets, mut is_first) = (Vec::new(), true);
        while left > 0 {
            let len = left.clamp(40, MAX_PAYLOAD);
            left = left.saturating_sub(len);
            let mut header =
                header_of(encoding as u32, self.sequence[encoding], self.picture * 90_000 / PICTURES_PER_SECOND);
            header.marker = left == 0;
            self.sequence[encoding] = self.sequence[encoding].wrapping_add(1);
            packets.push((header, self.payload(encoding, temporal, (is_first, is_key_frame), len)));
            is_first = false;
        }
        packets
    }

    fn payload(&self, encoding: usize, temporal: u8, (is_first, is_key_frame): (bool, bool), len: usize) -> Vec<u8> {
        let [high, low] = (self.picture as u16 | 0x8000).to_be_bytes();
        let first = if is_first { 0x90 } else { 0x80 };
        let sync = u8::from(temporal > 0) << 5;
        let picture = if is_key_frame { 0x50 } else { 0x51 };
        let mut payload =
            vec![first, 0xe0, high, low, self.base_layer[encoding], temporal << 6 | sync, picture, encoding as u8];
        payload.resize(len, 0xab);
        payload
    }
}
