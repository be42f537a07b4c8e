//! What users of one group sent and received in an interval, counted where their sessions live and added up on the way
//! to the results.

use std::time::Duration;

use crate::media::Histogram;
use crate::results::{DataReceived, DataSent, Durations, GroupSample, Received, Sent};

/// Counts of one interval.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Received audio.
    pub audio: ReceivedTally,
    /// Received video.
    pub video: ReceivedTally,
    /// Sent audio.
    pub sent_audio: SentTally,
    /// Sent video.
    pub sent_video: SentTally,
    /// What arrived on data channels.
    pub data: DataReceivedTally,
    /// What was sent on data channels.
    pub sent_data: DataSent,
}

/// What arrived of the streams of one kind.
#[derive(Debug, Clone, Default)]
pub struct ReceivedTally {
    /// Everything that is a plain sum; its durations and its jitter are left empty.
    pub sums: Received,
    /// Sum of the streams' jitter.
    pub jitter: Duration,
    /// One-way delay.
    pub delay: Histogram,
    /// Time to the first key frame, or the first packet of audio.
    pub first_frame: Histogram,
}

/// What was sent of the streams of one kind.
#[derive(Debug, Clone, Default)]
pub struct SentTally {
    /// Everything that is a plain sum; what is allowed is left empty.
    pub sums: Sent,
    /// Sum of what congestion control allows the streams, in bits per second.
    pub allowed_bits_per_second: f64,
}

/// What arrived on data channels.
#[derive(Debug, Clone, Default)]
pub struct DataReceivedTally {
    /// Everything that is a plain sum; its delay is left empty.
    pub sums: DataReceived,
    /// One-way delay.
    pub delay: Histogram,
}

impl Tally {
    /// Adds another user's counts of the same interval.
    pub fn merge(&mut self, other: &Self) {
        self.audio.merge(&other.audio, Streams::Sum);
        self.video.merge(&other.video, Streams::Sum);
        self.sent_audio.merge(&other.sent_audio, Streams::Sum);
        self.sent_video.merge(&other.sent_video, Streams::Sum);
        self.data.merge(&other.data, Streams::Sum);
        merge_data_sent(&mut self.sent_data, &other.sent_data, Streams::Sum);
    }

    /// Adds the counts of a later interval of the same users.
    pub fn append(&mut self, later: &Self) {
        self.audio.merge(&later.audio, Streams::Latest);
        self.video.merge(&later.video, Streams::Latest);
        self.sent_audio.merge(&later.sent_audio, Streams::Latest);
        self.sent_video.merge(&later.sent_video, Streams::Latest);
        self.data.merge(&later.data, Streams::Latest);
        merge_data_sent(&mut self.sent_data, &later.sent_data, Streams::Latest);
    }

    /// The last counts of a user who has left: what are states and not counts are no more.
    #[must_use]
    pub fn ended(mut self) -> Self {
        for received in [&mut self.audio, &mut self.video] {
            (received.sums.streams, received.jitter) = (0, Duration::ZERO);
        }
        for sent in [&mut self.sent_audio, &mut self.sent_video] {
            (sent.sums.streams, sent.allowed_bits_per_second) = (0, 0.0);
        }
        (self.data.sums.channels, self.sent_data.channels) = (0, 0);
        self
    }

    /// Adds of an interval before the one that is counted only how streams began.
    pub fn begin(&mut self, earlier: &Self) {
        self.audio.first_frame.merge(&earlier.audio.first_frame);
        self.video.first_frame.merge(&earlier.video.first_frame);
    }

    /// The counts as results have them.
    pub fn sample(&self, group: usize, interval: Duration) -> GroupSample {
        GroupSample {
            group,
            interval_s: interval.as_secs_f64(),
            audio: self.audio.received(),
            video: self.video.received(),
            sent_audio: self.sent_audio.sent(),
            sent_video: self.sent_video.sent(),
            data: self.data.received(),
            sent_data: self.sent_data.clone(),
        }
    }
}

/// What becomes of numbers that are states and not counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Streams {
    Sum,
    Latest,
}

impl ReceivedTally {
    fn merge(&mut self, other: &Self, streams: Streams) {
        let (mine, theirs) = (&mut self.sums, &other.sums);
        mine.packets += theirs.packets;
        mine.bytes += theirs.bytes;
        mine.expected += theirs.expected;
        mine.missing += theirs.missing;
        mine.repaired += theirs.repaired;
        mine.lost += theirs.lost;
        mine.frames += theirs.frames;
        mine.key_frames += theirs.key_frames;
        mine.freezes_200ms += theirs.freezes_200ms;
        mine.freezes_500ms += theirs.freezes_500ms;
        mine.frozen_ms += theirs.frozen_ms;
        mine.layer_switches += theirs.layer_switches;
        mine.nacked += theirs.nacked;
        mine.key_frame_requests += theirs.key_frame_requests;
        if streams == Streams::Sum {
            mine.streams += theirs.streams;
            self.jitter += other.jitter;
        } else {
            mine.streams = theirs.streams;
            self.jitter = other.jitter;
        }
        self.delay.merge(&other.delay);
        self.first_frame.merge(&other.first_frame);
    }

    fn received(&self) -> Received {
        let streams = f64::from(self.sums.streams.max(1));
        Received {
            jitter_ms: self.jitter.as_secs_f64() * 1000.0 / streams,
            delay: durations(&self.delay),
            first_frame: durations(&self.first_frame),
            ..self.sums.clone()
        }
    }
}

impl SentTally {
    fn merge(&mut self, other: &Self, streams: Streams) {
        let (mine, theirs) = (&mut self.sums, &other.sums);
        mine.packets += theirs.packets;
        mine.bytes += theirs.bytes;
        mine.frames += theirs.frames;
        mine.key_frames += theirs.key_frames;
        mine.key_frame_requests += theirs.key_frame_requests;
        mine.nacked += theirs.nacked;
        mine.retransmitted += theirs.retransmitted;
        if streams == Streams::Sum {
            mine.streams += theirs.streams;
            self.allowed_bits_per_second += other.allowed_bits_per_second;
        } else {
            mine.streams = theirs.streams;
            self.allowed_bits_per_second = other.allowed_bits_per_second;
        }
    }

    fn sent(&self) -> Sent {
        let streams = f64::from(self.sums.streams.max(1));
        Sent { allowed_bits_per_second: self.allowed_bits_per_second / streams, ..self.sums.clone() }
    }
}

impl DataReceivedTally {
    /// Adds what else came on the same transport in the same interval.
    pub(crate) fn add(&mut self, other: &Self) {
        self.merge(other, Streams::Sum);
    }

    fn merge(&mut self, other: &Self, streams: Streams) {
        let (mine, theirs) = (&mut self.sums, &other.sums);
        mine.messages += theirs.messages;
        mine.bytes += theirs.bytes;
        mine.expected += theirs.expected;
        mine.lost += theirs.lost;
        mine.duplicates += theirs.duplicates;
        mine.out_of_order += theirs.out_of_order;
        mine.violations += theirs.violations;
        mine.channels = if streams == Streams::Sum { mine.channels + theirs.channels } else { theirs.channels };
        self.delay.merge(&other.delay);
    }

    fn received(&self) -> DataReceived {
        DataReceived { delay: durations(&self.delay), ..self.sums.clone() }
    }
}

fn merge_data_sent(mine: &mut DataSent, theirs: &DataSent, streams: Streams) {
    mine.messages += theirs.messages;
    mine.bytes += theirs.bytes;
    mine.refused += theirs.refused;
    mine.channels = if streams == Streams::Sum { mine.channels + theirs.channels } else { theirs.channels };
}

/// A histogram as results have it.
pub fn durations(histogram: &Histogram) -> Durations {
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    let quantile = |quantile| histogram.quantile(quantile).map_or(0.0, ms);
    Durations {
        count: histogram.count(),
        p50_ms: quantile(0.5),
        p90_ms: quantile(0.9),
        p99_ms: quantile(0.99),
        max_ms: ms(histogram.max()),
    }
}
