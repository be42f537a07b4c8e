//! What is sent to whom: 50,000 packets a second out, in several shapes.

use std::time::Duration;

use sluice_loadtest::media::{AudioSource, Source, VideoSource};

/// A load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) name: &'static str,
    pub(crate) rooms: usize,
    /// In each room.
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    pub(crate) media: Media,
}

/// What a publisher sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Media {
    /// VP8: so many packets with 1,200 bytes of payload at once, 500 a second.
    Video { burst: usize },
    /// Opus: 50 packets with 80 bytes of payload a second.
    Audio,
}

const PACKET: usize = 1200;

impl Load {
    pub(crate) const BURSTS_50: Self = Self::video("bursts-50", 50, 10);
    pub(crate) const ALL: [Self; 5] = [
        Self::BURSTS_50,
        Self::video("bursts-100", 100, 10),
        Self::video("spaced-50", 50, 1),
        Self::video("spaced-100", 100, 1),
        Self { name: "audio", rooms: 1, publishers: 10, subscribers: 100, media: Media::Audio },
    ];

    const fn video(name: &'static str, subscribers: usize, burst: usize) -> Self {
        Self { name, rooms: 100 / subscribers, publishers: 1, subscribers, media: Media::Video { burst } }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|load| load.name == name)
    }

    /// Those who send, in all rooms.
    pub(crate) fn all_publishers(&self) -> usize {
        self.rooms * self.publishers
    }

    /// Packets that a publisher sends at once.
    pub(crate) fn burst(&self) -> usize {
        match self.media {
            Media::Video { burst } => burst,
            Media::Audio => 1,
        }
    }

    /// From burst to burst of one publisher.
    pub(crate) fn interval(&self) -> Duration {
        match self.media {
            Media::Video { burst } => Duration::from_millis(2) * burst as u32,
            Media::Audio => Duration::from_millis(20),
        }
    }

    /// Out.
    pub(crate) fn packets_per_second(&self) -> f64 {
        let each = self.burst() as f64 / self.interval().as_secs_f64();
        (self.all_publishers() * self.subscribers) as f64 * each
    }

    pub(crate) fn payload(&self) -> usize {
        match self.media {
            Media::Video { .. } => PACKET,
            Media::Audio => AudioSource::default().packet_bytes,
        }
    }

    pub(crate) fn source(&self) -> Source {
        match self.media {
            Media::Video { burst } => {
                let bytes = burst * PACKET;
                let frames = VideoSource::constant(self.interval(), bytes, bytes);
                Source::Video(VideoSource { packet_bytes: PACKET, ..frames })
            }
            Media::Audio => Source::Audio(AudioSource::default()),
        }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, rooms, publishers, subscribers, .. } = self;
        let out = self.packets_per_second();
        write!(f, "{name}: {rooms} x {publishers} publishers and {subscribers} subscribers, {out:.0} packets/s out")
    }
}
