//! A file in motion.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Frame, MediaFile};

/// Sends a file over and over. A key frame cannot be made where there is none: who asks for one makes the player jump
/// to the next in the file.
#[derive(Debug)]
pub(in crate::media) struct Player {
    file: Arc<MediaFile>,
    /// Index of the next frame.
    index: usize,
    /// When the file's begin was, or would have been.
    base: Instant,
    key_frame_wanted: bool,
}

impl Player {
    pub(in crate::media) fn new(now: Instant, file: Arc<MediaFile>) -> Self {
        Self { file, index: 0, base: now, key_frame_wanted: false }
    }

    pub(in crate::media) fn next(&self) -> Instant {
        self.base + self.frame().map_or(Duration::ZERO, |frame| frame.at)
    }

    pub(in crate::media) fn skip_to(&mut self, now: Instant) {
        self.base += now.saturating_duration_since(self.next());
    }

    pub(in crate::media) fn want_key_frame(&mut self) {
        self.key_frame_wanted = true;
    }

    /// The parts of the frame that is due at [`Self::next`], and whether it is a key frame.
    pub(in crate::media) fn take(&mut self) -> (bool, &[Bytes]) {
        let due = self.next();
        if std::mem::take(&mut self.key_frame_wanted) {
            let frames = &self.file.frames;
            let ahead = frames.iter().enumerate().skip(self.index);
            let key = ahead.chain(frames.iter().enumerate()).find(|(_, frame)| frame.key);
            self.index = key.map_or(0, |(index, _)| index);
            self.base = due - self.frame().map_or(Duration::ZERO, |frame| frame.at);
        }
        let taken = self.index;
        self.index += 1;
        if self.index == self.file.frames.len() {
            self.index = 0;
            self.base += self.file.duration;
        }
        self.file.frames.get(taken).map_or((false, &[]), |frame| (frame.key, &frame.parts))
    }

    fn frame(&self) -> Option<&Frame> {
        self.file.frames.get(self.index)
    }
}
