//! The containers: IVF, Ogg, and WebM, which is Matroska.

use std::fmt::Display;
use std::io::Cursor;
use std::time::Duration;

use bytes::{Buf, Bytes};
use matroska_demuxer::{DemuxError, MatroskaFile, TrackEntry, TrackType};
use ogg::PacketReader;

use super::ContentProblem;
use crate::media::codec::Codec;
use crate::media::nal::Syntax;

/// IVF's file header, <https://wiki.multimedia.cx/index.php/Duck_IVF>.
const IVF_HEADER: usize = 32;
/// Identification header of Opus in Ogg, RFC 7845 section 5.1.
const OPUS_HEAD: &[u8] = b"OpusHead";
/// Comment header, section 5.2.
const OPUS_TAGS: &[u8] = b"OpusTags";
/// Matroska keeps time in milliseconds: a packet within this of where the one before it ends follows at once.
const ROUNDING: Duration = Duration::from_millis(10);

/// What a container holds of one codec.
pub(super) struct Track {
    /// H.264's, if they are kept apart.
    pub(super) parameter_sets: Vec<Bytes>,
    pub(super) samples: Vec<Sample>,
}

pub(super) struct Sample {
    pub(super) at: Duration,
    pub(super) parts: Vec<Bytes>,
}

pub(super) enum ContainerError {
    Problem(ContentProblem),
    Broken(&'static str, String),
}

impl From<ContentProblem> for ContainerError {
    fn from(problem: ContentProblem) -> Self {
        Self::Problem(problem)
    }
}

/// Reads the first track of `codec`.
pub(super) fn read(contents: Bytes, codec: Codec) -> Result<Track, ContainerError> {
    match contents.first_chunk() {
        Some(b"DKIF") => read_ivf(contents, codec),
        Some(b"OggS") => read_ogg(contents, codec),
        Some(b"\x1a\x45\xdf\xa3") => read_matroska(contents, codec),
        _ => Err(ContentProblem::UnknownContainer.into()),
    }
}

/// How long an Opus packet plays, RFC 6716 section 3.1.
pub(super) fn opus_duration(packet: &[u8]) -> Duration {
    let Some(&toc) = packet.first() else { return Duration::ZERO };
    let configuration = usize::from(toc >> 3);
    let frame_us = match configuration {
        0..12 => [10_000, 20_000, 40_000, 60_000][configuration % 4],
        12..16 => [10_000, 20_000][configuration % 2],
        _ => [2_500, 5_000, 10_000, 20_000][configuration % 4],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => packet.get(1).map_or(0, |count| u32::from(count & 0x3f)),
    };
    Duration::from_micros(frame_us) * frames
}

fn no_track(codec: Codec, found: impl Display) -> ContainerError {
    ContentProblem::NoTrack { wanted: codec.mime_type(), found: found.to_string() }.into()
}

fn read_ivf(mut contents: Bytes, codec: Codec) -> Result<Track, ContainerError> {
    let broken = |reason: &str| ContainerError::Broken("IVF", reason.to_owned());
    let cut_short = || broken("the file is cut short");
    if contents.len() < IVF_HEADER {
        return Err(cut_short());
    }
    contents.advance(6);
    let header_len = usize::from(contents.get_u16_le());
    let four_cc = contents.split_to(4);
    contents.advance(4);
    let (denominator, numerator) = (contents.get_u32_le(), contents.get_u32_le());
    let found = match &four_cc[..] {
        b"VP80" => Some(Codec::Vp8),
        b"H264" => Some(Codec::H264),
        b"H265" => Some(Codec::H265),
        _ => None,
    };
    if found != Some(codec) {
        return Err(no_track(codec, String::from_utf8_lossy(&four_cc)));
    }
    if denominator == 0 || numerator == 0 {
        return Err(broken("the time base is zero"));
    }
    // The rest of the header: two reserved words, and whatever a longer header has.
    let rest = header_len.max(IVF_HEADER) - (IVF_HEADER - 8);
    if contents.len() < rest {
        return Err(cut_short());
    }
    contents.advance(rest);
    let mut samples = Vec::new();
    while !contents.is_empty() {
        if contents.len() < 12 {
            return Err(cut_short());
        }
        let (len, timestamp) = (contents.get_u32_le() as usize, contents.get_u64_le());
        if contents.len() < len {
            return Err(cut_short());
        }
        let seconds = timestamp as f64 * f64::from(numerator) / f64::from(denominator);
        let at = Duration::try_from_secs_f64(seconds).map_err(|_| broken("a timestamp is out of range"))?;
        let frame = contents.split_to(len);
        samples.push(Sample { at, parts: if Syntax::of(codec).is_some() { annex_b(&frame) } else { vec![frame] } });
    }
    Ok(Track { parameter_sets: Vec::new(), samples })
}

/// NAL units between start codes, annex B of H.264 and H.265.
fn annex_b(stream: &Bytes) -> Vec<Bytes> {
    let starts: Vec<usize> =
        stream.windows(3).enumerate().filter(|(_, code)| *code == [0, 0, 1]).map(|(at, _)| at).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let units = starts.iter().zip(ends).map(|(&start, end)| {
        let unit = stream.slice(start + 3..end.max(start + 3));
        // A longer start code, or padding: zeros are no part of the unit before them.
        let len = unit.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        unit.slice(..len)
    });
    units.filter(|unit| !unit.is_empty()).collect()
}

fn read_ogg(contents: Bytes, codec: Codec) -> Result<Track, ContainerError> {
    let broken = |reason: String| ContainerError::Broken("Ogg", reason);
    if codec != Codec::Opus {
        return Err(no_track(codec, "Ogg's audio"));
    }
    let mut reader = PacketReader::new(Cursor::new(contents));
    let mut serial = None;
    let mut at = Duration::ZERO;
    let mut samples = Vec::new();
    while let Some(packet) = reader.read_packet().map_err(|error| broken(error.to_string()))? {
        if serial.is_none() && packet.data.starts_with(OPUS_HEAD) {
            // RFC 7845 section 5.1.1: other families are several streams, which RTP has no room for.
            if packet.data.get(18) != Some(&0) {
                return Err(no_track(codec, "Opus of more than two channels"));
            }
            serial = Some(packet.stream_serial());
        } else if serial == Some(packet.stream_serial()) && !packet.data.starts_with(OPUS_TAGS) {
            let duration = opus_duration(&packet.data);
            samples.push(Sample { at, parts: vec![packet.data.into()] });
            at += duration;
        }
    }
    if serial.is_none() {
        return Err(no_track(codec, "another codec"));
    }
    Ok(Track { parameter_sets: Vec::new(), samples })
}

fn read_matroska(contents: Bytes, codec: Codec) -> Result<Track, ContainerError> {
    let broken = |error: DemuxError| {
        let reason = match error {
            // Its own words for these are those of their sources, which they do not have.
            DemuxError::IoError(error) => error.to_string(),
            other => other.to_string(),
        };
        ContainerError::Broken("WebM", reason)
    };
    let mut file = MatroskaFile::open(Cursor::new(contents)).map_err(broken)?;
    let Some(track) = file.tracks().iter().find(|track| codec_of(track) == Some(codec)) else {
        let found: Vec<&str> = file.tracks().iter().map(TrackEntry::codec_id).collect();
        return Err(no_track(codec, found.join(", ")));
    };
    let number = track.track_number().get();
    let avc = match (codec, track.codec_private()) {
        (Codec::H264, Some(private)) => Some(
            AvcConfiguration::parse(private)
                .ok_or_else(|| ContainerError::Broken("WebM", "the AVC configuration is cut short".to_owned()))?,
        ),
        _ => None,
    };
    let scale_ns = file.info().timestamp_scale().get();
    let mut frame = matroska_demuxer::Frame::default();
    let mut samples: Vec<Sample> = Vec::new();
    let mut follows = Duration::ZERO;
    while file.next_frame(&mut frame).map_err(broken)? {
        if frame.track != number {
            continue;
        }
        let data = Bytes::from(std::mem::take(&mut frame.data));
        let mut at = Duration::from_nanos(frame.timestamp.saturating_mul(scale_ns));
        if codec == Codec::Opus {
            if at.abs_diff(follows) <= ROUNDING {
                at = follows;
            }
            follows = at + opus_duration(&data);
        }
        let parts = match &avc {
            Some(avc) => avc.units(data),
            None if codec == Codec::H264 => annex_b(&data),
            None => vec![data],
        };
        samples.push(Sample { at, parts });
    }
    Ok(Track { parameter_sets: avc.map(|avc| avc.parameter_sets).unwrap_or_default(), samples })
}

fn codec_of(track: &TrackEntry) -> Option<Codec> {
    match (track.track_type(), track.codec_id()) {
        (TrackType::Video, "V_VP8") => Some(Codec::Vp8),
        (TrackType::Video, "V_MPEG4/ISO/AVC") => Some(Codec::H264),
        (TrackType::Audio, "A_OPUS") => Some(Codec::Opus),
        _ => None,
    }
}

/// `AVCDecoderConfigurationRecord`, ISO/IEC 14496-15 section 5.3.3.
struct AvcConfiguration {
    /// Bytes of the length in front of a NAL unit.
    length_size: usize,
    parameter_sets: Vec<Bytes>,
}

impl AvcConfiguration {
    fn parse(record: &[u8]) -> Option<Self> {
        let length_size = usize::from(record.get(4)? & 3) + 1;
        let mut parameter_sets = Vec::new();
        let mut rest = record.get(5..)?;
        // Sequence parameter sets, then picture parameter sets.
        for count_mask in [0x1f, 0xff] {
            let (&count, mut tail) = rest.split_first()?;
            for _ in 0..count & count_mask {
                let (&length, after) = tail.split_first_chunk::<2>()?;
                let (set, after) = after.split_at_checked(u16::from_be_bytes(length).into())?;
                parameter_sets.push(Bytes::copy_from_slice(set));
                tail = after;
            }
            rest = tail;
        }
        Some(Self { length_size, parameter_sets })
    }

    /// The NAL units of a sample; what follows one that is cut short is left out.
    fn units(&self, mut sample: Bytes) -> Vec<Bytes> {
        let mut units = Vec::new();
        while sample.len() > self.length_size {
            let length = sample.get_uint(self.length_size) as usize;
            if length == 0 || length > sample.len() {
                break;
            }
            units.push(sample.split_to(length));
        }
        units
    }
}
