//! What waits for one connection because the kernel takes no more: little, and nothing for long. Who is behind with a
//! second of media never catches up by getting all of it later.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use sluice_media::Transmit;
use sluice_media::drop_reason::{DropCounters, DropReason};

use crate::worker::socket::datagrams;

/// Bytes that wait: 400 ms of 5 Mbit/s.
const MAX_BYTES: usize = 256 << 10;

/// How long video waits. What comes later still, receivers have given up; they ask for a key frame.
const VIDEO_TIME: Duration = Duration::from_millis(300);

/// How long everything else waits: as long as the buffers of receivers may become for audio. Handshakes and reports are
/// said again.
const OTHER_TIME: Duration = Duration::from_secs(1);

/// Frames that leave together.
#[derive(Debug)]
struct Waiting {
    frames: Vec<u8>,
    datagrams: usize,
    since: Instant,
}

/// The queue of one connection.
#[derive(Debug, Default)]
pub(super) struct SendQueue {
    /// A part of it has left, and so all of it must; and how much has.
    begun: Option<(Waiting, usize)>,
    video: VecDeque<Waiting>,
    /// Leaves before video.
    others: VecDeque<Waiting>,
    bytes: usize,
}

impl SendQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.begun.is_none() && self.video.is_empty() && self.others.is_empty()
    }

    /// The frames of `transmit` wait, of which `written` bytes have left. What there is no room for is given up: the
    /// oldest, and video before anything else.
    pub(super) fn push(
        &mut self,
        now: Instant,
        transmit: &Transmit,
        (frames, written): (Vec<u8>, usize),
        drops: &mut DropCounters,
    ) {
        self.bytes += frames.len();
        let waiting = Waiting { frames, datagrams: datagrams(transmit), since: now };
        match transmit.is_video {
            _ if written > 0 => self.begun = Some((waiting, written)),
            true => self.video.push_back(waiting),
            false => self.others.push_back(waiting),
        }
        self.expire(now, drops);
        while self.bytes > MAX_BYTES
            && let Some(given_up) = self.video.pop_front().or_else(|| self.others.pop_front())
        {
            self.give_up(&given_up, DropReason::ConnectionFull, drops);
        }
    }

    /// What is to be written next.
    pub(super) fn front(&mut self, now: Instant, drops: &mut DropCounters) -> Option<&[u8]> {
        if self.begun.is_none() {
            self.expire(now, drops);
            let next = self.others.pop_front().or_else(|| self.video.pop_front())?;
            self.begun = Some((next, 0));
        }
        let (waiting, written) = self.begun.as_ref()?;
        waiting.frames.get(*written..)
    }

    /// So much of [`front`](Self::front) has left.
    pub(super) fn advance(&mut self, written: usize) {
        let Some((waiting, before)) = &mut self.begun else { return };
        *before += written;
        if *before >= waiting.frames.len() {
            self.bytes -= waiting.frames.len();
            self.begun = None;
        }
    }

    fn expire(&mut self, now: Instant, drops: &mut DropCounters) {
        let late = |queue: &mut VecDeque<Waiting>, time| {
            queue.pop_front_if(|waiting| now.saturating_duration_since(waiting.since) > time)
        };
        while let Some(given_up) = late(&mut self.video, VIDEO_TIME).or_else(|| late(&mut self.others, OTHER_TIME)) {
            self.give_up(&given_up, DropReason::ConnectionLate, drops);
        }
    }

    fn give_up(&mut self, waiting: &Waiting, reason: DropReason, drops: &mut DropCounters) {
        self.bytes -= waiting.frames.len();
        drops.count_many(reason, waiting.datagrams as u64);
    }
}

#[cfg(test)]
mod tests {
    use sluice_media::TransportAddress;

    use super::*;

    struct Queue {
        queue: SendQueue,
        drops: DropCounters,
        now: Instant,
    }

    impl Queue {
        #[allow(clippy::disallowed_methods, reason = "an origin for virtual time")]
        fn new() -> Self {
            Self { queue: SendQueue::default(), drops: DropCounters::default(), now: Instant::now() }
        }

        /// A datagram of so many times this byte.
        fn push(&mut self, is_video: bool, byte: u8, len: usize, written: usize) {
            let destination = TransportAddress::Tcp(([192, 0, 2, 1], 1).into());
            let transmit = Transmit { destination, is_video, segment_size: None, contents: vec![byte; len] };
            self.queue.push(self.now, &transmit, (transmit.contents.clone(), written), &mut self.drops);
            assert!(
                self.queue.bytes <= MAX_BYTES + self.queue.begun.as_ref().map_or(0, |(begun, _)| begun.frames.len())
            );
        }

        /// What leaves: each byte, and how often.
        fn drain(&mut self) -> Vec<(u8, usize)> {
            let mut left = Vec::new();
            while let Some(front) = self.queue.front(self.now, &mut self.drops) {
                let (byte, len) = (front[0], front.len());
                left.push((byte, len));
                self.queue.advance(len);
            }
            assert!(self.queue.is_empty());
            assert_eq!(self.queue.bytes, 0);
            left
        }

        fn dropped(&self) -> [u64; 2] {
            [DropReason::ConnectionFull, DropReason::ConnectionLate].map(|reason| self.drops.get(reason))
        }
    }

    #[test]
    fn what_was_begun_leaves_first_then_what_is_no_video() {
        let mut queue = Queue::new();
        queue.push(true, 1, 100, 40);
        queue.push(true, 2, 100, 0);
        queue.push(false, 3, 100, 0);
        assert_eq!(queue.drain(), [(1, 60), (3, 100), (2, 100)]);
        assert_eq!(queue.dropped(), [0, 0]);
    }

    #[test]
    fn a_full_queue_gives_up_the_oldest_video_and_only_then_anything_else() {
        let mut queue = Queue::new();
        let len = MAX_BYTES / 8;
        queue.push(false, 1, len, 0);
        (2..9).for_each(|byte| queue.push(true, byte, len, 0));
        queue.push(false, 9, len, 0);
        assert_eq!(queue.dropped(), [1, 0]);
        (10..18).for_each(|byte| queue.push(false, byte, len, 0));
        assert_eq!(queue.dropped(), [9, 0], "all video, the first two of the others");
        assert_eq!(queue.drain().iter().map(|(byte, _)| *byte).collect::<Vec<_>>(), (10..18).collect::<Vec<_>>());
        // What was begun is no choice, however long it is.
        queue.push(true, 1, 2 * MAX_BYTES, 1);
        queue.push(false, 2, 1, 0);
        assert_eq!(queue.drain(), [(1, 2 * MAX_BYTES - 1)]);
    }

    #[test]
    fn nothing_waits_for_long_and_video_least() {
        let mut queue = Queue::new();
        queue.push(false, 1, 100, 0);
        queue.push(true, 2, 100, 0);
        queue.now += VIDEO_TIME + Duration::from_millis(1);
        queue.push(true, 3, 100, 0);
        assert_eq!(queue.dropped(), [0, 1]);
        queue.now += OTHER_TIME - VIDEO_TIME;
        assert_eq!(queue.drain(), []);
        assert_eq!(queue.dropped(), [0, 3]);
        // But for what was begun.
        queue.push(true, 4, 100, 1);
        queue.now += OTHER_TIME * 2;
        assert_eq!(queue.drain(), [(4, 99)]);
    }
}
