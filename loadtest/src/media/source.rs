//! What a publisher sends, before it is in motion: synthetic speech, synthetic pictures, or a file.

use std::sync::Arc;
use std::time::Duration;

use super::codec::Codec;
use super::file::{MediaFile, MediaFileError};
use crate::scenario::{Audio, ScalabilityMode, Video, VideoCodec, VideoEncoding};

/// With RTP's header, extensions and SRTP's tag a packet stays within the 1,200 bytes that libwebrtc sends at most.
const PACKET_BYTES: usize = 1150;
/// A key frame may take as much as this much time of the bitrate: half of libvpx's optimal buffer of 600 ms, which is
/// what libwebrtc's `MaxIntraTarget` allows.
const KEY_FRAME_TIME: Duration = Duration::from_millis(300);
/// And at least as many times a mean frame, after the same function.
const MIN_KEY_FRAME: usize = 3;
/// Standard deviation of the logarithm of frame sizes, an assumption: two thirds of the frames lie within 0.7 and 1.4
/// of their median.
const SIZE_VARIATION: f64 = 0.35;

/// Opus-like speech, in packets of 20 ms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AudioSource {
    /// Bytes of a packet; Opus speech at 32 kbit/s and 20 ms has 80.
    pub packet_bytes: usize,
    /// Loudness of speech, 0 (loudest) to 126, as RFC 6464 counts it: -dBov. It varies by 10 dB both ways; silence has
    /// 127.
    pub level: u8,
    /// Share of the time (0 to 1) that is speech.
    pub talk: f64,
    /// Discontinuous transmission (RFC 7587 section 3.1.3): of silence only a packet each 400 ms is sent.
    pub dtx: bool,
}

impl AudioSource {
    /// Somebody who never stops talking.
    pub const fn continuous(packet_bytes: usize, level: u8) -> Self {
        Self { packet_bytes, level, talk: 1.0, dtx: false }
    }
}

impl Default for AudioSource {
    fn default() -> Self {
        Self::continuous(80, 30)
    }
}

/// Pictures of a size that rate control keeps to a bitrate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VideoSource {
    /// Codec.
    pub codec: VideoCodec,
    /// From frame to frame.
    pub frame_interval: Duration,
    /// Payload bytes of a frame, in the mean over all frames.
    pub frame_bytes: usize,
    /// Payload bytes of a key frame; the frames after it are smaller until that is made up for.
    pub key_frame_bytes: usize,
    /// Standard deviation of the logarithm of frame sizes; 0: they do not vary.
    pub size_variation: f64,
    /// Largest payload of a packet.
    pub packet_bytes: usize,
    /// Its layers: temporal ones in the pattern 0, 0-1, 0-2-1-2, spatial ones of VP9.
    pub scalability_mode: ScalabilityMode,
    /// Between key frames that nobody asked for; `None`: only the first and those asked for.
    pub key_frame_interval: Option<Duration>,
}

impl VideoSource {
    /// VP8 of 30 frames a second with the sizes of a camera's picture.
    pub fn at_bitrate(bits_per_second: u32) -> Self {
        let encoding =
            VideoEncoding { bitrate: bits_per_second, fps: 30, temporal_layers: 1, key_frame_interval: None };
        Self::camera(VideoCodec::Vp8, &encoding)
    }

    /// Frames that are all of one size but for the key frames.
    pub const fn constant(frame_interval: Duration, frame_bytes: usize, key_frame_bytes: usize) -> Self {
        Self {
            codec: VideoCodec::Vp8,
            frame_interval,
            frame_bytes,
            key_frame_bytes,
            size_variation: 0.0,
            packet_bytes: PACKET_BYTES,
            scalability_mode: ScalabilityMode::temporal(1),
            key_frame_interval: None,
        }
    }

    /// The benchmark's stream: each 20 ms a burst of 10 packets with 1,200 bytes of payload, 500 packets a second.
    pub const fn bursts() -> Self {
        Self { packet_bytes: 1200, ..Self::constant(Duration::from_millis(20), 12_000, 12_000) }
    }

    /// A camera's picture: sizes vary, and a key frame takes 300 ms of the bitrate, but no less than 3 frames' worth.
    fn camera(codec: VideoCodec, encoding: &VideoEncoding) -> Self {
        let frame_interval = Duration::from_secs(1) / encoding.fps.max(1);
        let bytes = |time: Duration| (f64::from(encoding.bitrate) / 8.0 * time.as_secs_f64()) as usize;
        let frame_bytes = bytes(frame_interval).max(64);
        Self {
            codec,
            frame_interval,
            frame_bytes,
            key_frame_bytes: bytes(KEY_FRAME_TIME).max(frame_bytes * MIN_KEY_FRAME),
            size_variation: SIZE_VARIATION,
            packet_bytes: PACKET_BYTES,
            scalability_mode: ScalabilityMode::temporal(encoding.temporal_layers),
            key_frame_interval: encoding.key_frame_interval,
        }
    }
}

/// What a publisher sends.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Synthetic audio.
    Audio(AudioSource),
    /// Synthetic video.
    Video(VideoSource),
    /// What is in a file, over and over. It has its own bitrate, whatever congestion control says.
    File(Arc<MediaFile>),
}

/// Why a scenario's media cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file does not do.
    #[error(transparent)]
    File(#[from] MediaFileError),
}

impl Source {
    /// A scenario's audio. A file is read here: once, for all users that get a clone.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn from_audio(audio: &Audio) -> Result<Self, SourceError> {
        if let Some(path) = &audio.file {
            return Ok(Self::File(Arc::new(MediaFile::read(path, Codec::Opus)?)));
        }
        // 50 packets a second.
        let packet_bytes = (audio.bitrate / 8 / 50) as usize;
        Ok(Self::Audio(AudioSource { packet_bytes, talk: audio.talk, dtx: audio.dtx, ..AudioSource::default() }))
    }

    /// The encodings of a scenario's video. A file is read here: once, for all users that get a clone.
    ///
    /// # Errors
    /// [`SourceError::File`].
    pub fn from_video(video: &Video) -> Result<Vec<Self>, SourceError> {
        if let Some(path) = &video.file {
            return Ok(vec![Self::File(Arc::new(MediaFile::read(path, video.codec.into())?))]);
        }
        let camera = |encoding| {
            let camera = VideoSource::camera(video.codec, encoding);
            let scalability_mode = video.scalability_mode.unwrap_or(camera.scalability_mode);
            Self::Video(VideoSource { scalability_mode, ..camera })
        };
        Ok(video.encodings.iter().map(camera).collect())
    }

    /// Codec.
    pub fn codec(&self) -> Codec {
        match self {
            Self::Audio(_) => Codec::Opus,
            Self::Video(video) => video.codec.into(),
            Self::File(file) => file.codec(),
        }
    }

    /// Its layers, of a codec whose servers must be told of them.
    pub fn scalability_mode(&self) -> Option<ScalabilityMode> {
        match self {
            Self::Video(video) if video.codec == VideoCodec::Vp9 => Some(video.scalability_mode),
            Self::Audio(_) | Self::Video(_) | Self::File(_) => None,
        }
    }

    /// The bitrate of the payload that it has when nothing limits it; of audio while somebody speaks.
    pub fn bits_per_second(&self) -> f64 {
        match self {
            Self::Audio(audio) => audio.packet_bytes as f64 * 8.0 * 50.0,
            Self::Video(video) => video.frame_bytes as f64 * 8.0 / video.frame_interval.as_secs_f64(),
            Self::File(file) => file.bits_per_second(),
        }
    }
}
