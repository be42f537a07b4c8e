//! Media files: what their containers hold, ready to be sent over and over.

mod container;
mod player;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;

use super::codec::Codec;
use super::nal::Syntax;
use super::vp8;

use self::container::{ContainerError, Track};
pub(super) use self::player::Player;

/// A file is kept in memory, once for all users that send it: an hour of 1 Mbit/s has 450 MB.
const MAX_BYTES: u64 = 1 << 30;

/// Why a file cannot be sent. One line each.
#[derive(Debug, thiserror::Error)]
pub enum MediaFileError {
    /// It cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is larger than a gibibyte.
    #[error("{}: {bytes} bytes are more than the {MAX_BYTES} that a media file may have", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// What is in it does not do.
    #[error("{}: {problem}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: ContentProblem,
    },
}

/// What is wrong with a file's contents.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ContentProblem {
    /// None of the containers that are known.
    #[error("neither IVF, Ogg nor WebM (Matroska)")]
    UnknownContainer,
    /// The container is broken.
    #[error("broken {container}: {reason}")]
    Broken {
        /// Its format.
        container: &'static str,
        /// Where it breaks.
        reason: String,
    },
    /// It holds something else.
    #[error("has no {wanted}, but {found}")]
    NoTrack {
        /// What was looked for.
        wanted: &'static str,
        /// What it has instead.
        found: String,
    },
    /// Nobody could begin to watch it.
    #[error("has no key frame")]
    NoKeyFrame,
    /// Pictures are in another order than they are shown in: B-frames, which WebRTC does not know.
    #[error("has frames out of the order of time (B-frames?)")]
    OutOfOrder,
    /// It ends when it begins.
    #[error("has no duration")]
    NoDuration,
}

/// Media out of a file.
#[derive(Debug, PartialEq)]
pub struct MediaFile {
    codec: Codec,
    frames: Vec<Frame>,
    duration: Duration,
}

#[derive(Debug, PartialEq)]
struct Frame {
    /// Since the begin.
    at: Duration,
    key: bool,
    /// One part, or of H.264 and H.265 one for each NAL unit.
    parts: Vec<Bytes>,
}

impl MediaFile {
    /// Reads the file's first track of `codec`: VP8, H.264 or H.265 out of IVF, Opus out of Ogg, any but
    /// H.265 out of WebM and Matroska.
    ///
    /// # Errors
    /// [`MediaFileError`].
    pub fn read(path: &Path, codec: Codec) -> Result<Self, MediaFileError> {
        let failed = |error| MediaFileError::Read { path: path.to_owned(), error };
        let bytes = std::fs::metadata(path).map_err(failed)?.len();
        if bytes > MAX_BYTES {
            return Err(MediaFileError::TooLarge { path: path.to_owned(), bytes });
        }
        let contents = std::fs::read(path).map_err(failed)?;
        Self::parse(contents.into(), codec)
            .map_err(|problem| MediaFileError::Contents { path: path.to_owned(), problem })
    }

    /// The media in the contents of a file.
    ///
    /// # Errors
    /// [`ContentProblem`].
    pub fn parse(contents: Bytes, codec: Codec) -> Result<Self, ContentProblem> {
        let Track { parameter_sets, samples } = container::read(contents, codec).map_err(|error| match error {
            ContainerError::Problem(problem) => problem,
            ContainerError::Broken(container, reason) => ContentProblem::Broken { container, reason },
        })?;
        let mut frames: Vec<Frame> = samples
            .into_iter()
            .map(|sample| {
                let (key, parts) = decodable(codec, &parameter_sets, sample.parts);
                Frame { at: sample.at, key, parts }
            })
            .skip_while(|frame| !frame.key)
            .collect();
        let first = frames.first().ok_or(ContentProblem::NoKeyFrame)?.at;
        if !frames.is_sorted_by_key(|frame| frame.at) {
            return Err(ContentProblem::OutOfOrder);
        }
        for frame in &mut frames {
            frame.at -= first;
        }
        let duration = duration(codec, &frames).ok_or(ContentProblem::NoDuration)?;
        Ok(Self { codec, frames, duration })
    }

    /// Codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// How long it is, after which it begins anew.
    pub fn duration(&self) -> Duration {
        self.duration
    }

    /// Mean bitrate.
    pub fn bits_per_second(&self) -> f64 {
        let bytes: usize = self.frames.iter().flat_map(|frame| &frame.parts).map(Bytes::len).sum();
        bytes as f64 * 8.0 / self.duration.as_secs_f64()
    }
}

/// Whether a frame is a key frame, and its parts; parameter sets that the container keeps apart are put before key
/// frames.
fn decodable(codec: Codec, parameter_sets: &[Bytes], parts: Vec<Bytes>) -> (bool, Vec<Bytes>) {
    if let Some(syntax) = Syntax::of(codec) {
        let units = || parts.iter().map(|unit| &unit[..]);
        let key = syntax.is_key_frame(units());
        if key && !syntax.has_parameter_sets(units()) {
            return (true, [parameter_sets, &parts].concat());
        }
        return (key, parts);
    }
    let is_key = codec == Codec::Opus || parts.first().is_some_and(|frame| vp8::is_key_frame(frame));
    (is_key, parts)
}

/// The time until the last frame is over: of video, as long as the one before it.
fn duration(codec: Codec, frames: &[Frame]) -> Option<Duration> {
    let (last, before) = match frames {
        [.., before, last] => (last, before.at),
        [last] => (last, Duration::ZERO),
        [] => return None,
    };
    let length = match codec {
        Codec::Opus => container::opus_duration(last.parts.first()?),
        Codec::Vp8 | Codec::Vp9 | Codec::H264 | Codec::H265 => last.at - before,
    };
    Some(last.at + length).filter(|duration| !duration.is_zero())
}

#[cfg(test)]
mod tests;
