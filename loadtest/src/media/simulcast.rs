//! What a user sends of one source: a stream for each encoding of it, of which congestion control and the server decide
//! which are worth sending.

use std::time::Instant;

use super::bandwidth::MIN_BITS_PER_SECOND;
use super::codec::Codec;
use super::publisher::Publisher;

/// An encoding is sent if at least this share of its bitrate is left for it: libwebrtc's `kSimulcastFormats` begin a
/// layer at a third to a half of what they give it at most.
const SMALLEST_SHARE: f64 = 0.5;

/// What is sent of one source; of one that is not simulcast one stream.
#[derive(Debug)]
pub(crate) struct Sending {
    /// Lowest first.
    encodings: Vec<Publisher>,
    /// Which of them somebody receives, as far as the server told.
    wanted: Vec<bool>,
    /// What congestion control allows of all of them together.
    allowed: Option<f64>,
}

impl Sending {
    /// Encodings of one source, lowest first.
    pub(crate) fn new(encodings: Vec<Publisher>) -> Self {
        let wanted = vec![true; encodings.len()];
        Self { encodings, wanted, allowed: None }
    }

    /// Its streams.
    pub(crate) fn encodings(&self) -> &[Publisher] {
        &self.encodings
    }

    /// Its streams.
    pub(crate) fn encodings_mut(&mut self) -> &mut [Publisher] {
        &mut self.encodings
    }

    /// Whether it is of video.
    pub(crate) fn is_video(&self) -> bool {
        self.encodings.first().map(Publisher::codec).is_some_and(Codec::is_video)
    }

    /// What it sends when nothing limits it, of what is wanted.
    pub(crate) fn full_bits_per_second(&self) -> f64 {
        let wanted = self.encodings.iter().zip(&self.wanted).filter(|(_, wanted)| **wanted);
        wanted.map(|(encoding, _)| encoding.full_bits_per_second()).sum()
    }

    /// Somebody receives these encodings, or would. The lowest is always sent, so that whoever comes sees something.
    pub(crate) fn set_wanted(&mut self, now: Instant, wanted: &[bool]) {
        for (index, own) in self.wanted.iter_mut().enumerate() {
            *own = index == 0 || wanted.get(index).copied().unwrap_or(true);
        }
        self.share(now);
    }

    /// Congestion control allows so much of all encodings together.
    pub(crate) fn allow(&mut self, now: Instant, bits_per_second: f64) {
        self.allowed = Some(bits_per_second);
        self.share(now);
    }

    /// The lower encodings have what they want before the higher ones get something.
    fn share(&mut self, now: Instant) {
        let mut left = self.allowed;
        for (index, (encoding, wanted)) in self.encodings.iter_mut().zip(&self.wanted).enumerate() {
            let full = encoding.full_bits_per_second();
            let fits = index == 0 || left.is_none_or(|left| left >= full * SMALLEST_SHARE);
            encoding.set_active(*wanted && fits);
            if !(*wanted && fits) {
                continue;
            }
            if let Some(left) = &mut left {
                encoding.allow(now, left.max(MIN_BITS_PER_SECOND));
                *left = (*left - full).max(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{SendParameters, Source, VideoSource};

    /// Which encodings are sent, and what each may use.
    fn sent(sending: &Sending) -> Vec<Option<f64>> {
        let used = |encoding: &Publisher| {
            encoding.allowed_bits_per_second().unwrap_or(f64::MAX).min(encoding.full_bits_per_second()).round()
        };
        sending.encodings.iter().map(|encoding| encoding.is_active().then(|| used(encoding))).collect()
    }

    #[test]
    fn the_lower_encodings_come_first() {
        let now = crate::clock::tests::instant();
        let encoding = |(ssrc, bitrate): (u32, u32)| {
            let parameters = SendParameters { ssrc, ..SendParameters::default() };
            Publisher::new(now, parameters, Source::Video(VideoSource::at_bitrate(bitrate)), 1)
        };
        let mut sending = Sending::new([(1, 150_000), (2, 600_000), (3, 1_500_000)].map(encoding).into());
        let full: Vec<_> = sent(&sending);
        assert!(full.iter().all(Option::is_some), "{full:?}");
        let [low, middle, _] = full[..] else { panic!("three encodings") };
        sending.allow(now, 1_000_000.0);
        assert_eq!(sent(&sending), [low, middle, None]);
        sending.allow(now, 500_000.0);
        assert_eq!(sent(&sending)[2], None);
        assert!(sent(&sending)[1].unwrap() < middle.unwrap());
        sending.allow(now, 10_000.0);
        assert_eq!(sent(&sending), [Some(MIN_BITS_PER_SECOND), None, None]);
        sending.allow(now, 5_000_000.0);
        assert_eq!(sent(&sending), full);

        sending.set_wanted(now, &[false, true, false]);
        assert_eq!(sent(&sending), [low, middle, None]);
        assert!((sending.full_bits_per_second() - 750_000.0).abs() < 5_000.0);
    }
}
