//! Where packets of one client wait for the end of the batch, laid out as they will be sent: those of one size, one
//! behind the other, leave in one system call.

use std::collections::VecDeque;

use crate::address::TransportAddress;
use crate::io::Transmit;
use crate::transport::buffer_pool::BufferPool;

/// Datagrams that Linux takes in one call (UDP_MAX_SEGMENTS before 6.9).
const MAX_SEGMENTS: usize = 64;

/// Bytes that Linux takes in one call: 65,535 less the IPv6 and UDP headers.
const MAX_CONTENTS_LEN: usize = 65_535 - 40 - 8;

/// Emptied buffers that a transport borrows for a batch: a burst of video, and audio and reports in between.
const MAX_BORROWED: usize = 4;

/// The send buffer of one transport. Between two batches it is empty: however large a burst was, what it took up is
/// there for others.
#[derive(Debug, Default)]
pub(super) struct SendBuffer {
    run: Option<Run>,
    finished: VecDeque<Transmit>,
    borrowed: Vec<Vec<u8>>,
    /// Buffers that one batch needed at most of late, and since the last tick.
    needed: usize,
    needed_since: usize,
}

#[derive(Debug)]
struct Run {
    destination: TransportAddress,
    /// Whether all of it is video.
    is_video: bool,
    segment_size: usize,
    segments: usize,
    /// A shorter datagram ends a run.
    ended: bool,
    /// Bytes of `contents` that are used. What is behind is left from earlier, so that it need not be zeroed each time.
    used: usize,
    contents: Vec<u8>,
}

impl Run {
    /// Over UDP packets are lost singly, and a run has what comes. From what waits for a connection video is taken out.
    fn takes(&self, destination: TransportAddress, is_video: bool, len: usize) -> bool {
        !self.ended
            && self.destination == destination
            && (self.is_video == is_video || !destination.is_tcp())
            && len <= self.segment_size
            && self.segments < MAX_SEGMENTS
            && self.used + len <= MAX_CONTENTS_LEN
    }

    fn append(&mut self, is_video: bool, len: usize) -> &mut [u8] {
        let start = self.used;
        self.is_video &= is_video;
        self.used += len;
        self.segments += 1;
        self.ended = len < self.segment_size;
        if self.contents.len() < self.used {
            self.contents.resize(self.used, 0);
        }
        &mut self.contents[start..self.used]
    }

    /// Takes the last datagram back.
    fn retract(&mut self, len: usize) {
        self.used -= len;
        self.segments -= 1;
        self.ended = false;
    }

    fn finish(mut self) -> Transmit {
        self.contents.truncate(self.used);
        let segment_size = (self.segments > 1).then_some(self.segment_size);
        Transmit { destination: self.destination, is_video: self.is_video, segment_size, contents: self.contents }
    }
}

impl SendBuffer {
    /// Room for a datagram of `len` bytes, of video or something else, which has any contents. If `fill` fails it is
    /// not sent.
    // A call would have all that `fill` takes with it written to memory first.
    #[inline(always)]
    pub(super) fn push<T, E>(
        &mut self,
        destination: TransportAddress,
        (is_video, len): (bool, usize),
        fill: impl FnOnce(&mut [u8]) -> Result<T, E>,
    ) -> Result<T, E> {
        if !self.run.as_ref().is_some_and(|run| run.takes(destination, is_video, len)) {
            self.finish_run();
        }
        let run = self.run.get_or_insert_with(|| Run {
            destination,
            is_video,
            segment_size: len,
            segments: 0,
            ended: false,
            used: 0,
            contents: self.borrowed.pop().unwrap_or_default(),
        });
        let filled = fill(run.append(is_video, len));
        if filled.is_err() {
            run.retract(len);
        }
        filled
    }

    /// Queues a datagram that comes in its own buffer and is no media.
    pub(super) fn push_single(&mut self, destination: TransportAddress, contents: Vec<u8>) {
        self.finished.push_back(Transmit { destination, is_video: false, segment_size: None, contents });
    }

    fn finish_run(&mut self) {
        match self.run.take() {
            Some(run) if run.used > 0 => self.finished.push_back(run.finish()),
            Some(run) => self.borrowed.push(run.contents),
            None => {}
        }
    }

    /// A batch begins: takes as many buffers from `pool` as one has needed of late.
    pub(super) fn borrow(&mut self, pool: &mut BufferPool) {
        while self.borrowed.len() < self.needed {
            self.borrowed.push(pool.take());
        }
    }

    /// Moves everything to `out`, and gives `pool` back what was not needed. Returns how many bytes that are.
    pub(super) fn flush(&mut self, out: &mut VecDeque<Transmit>, pool: &mut BufferPool) -> usize {
        self.finish_run();
        self.needed_since = self.needed_since.max(self.finished.len().min(MAX_BORROWED));
        self.needed = self.needed.max(self.needed_since);
        let mut bytes = 0;
        while let Some(transmit) = self.finished.pop_front() {
            bytes += transmit.contents.len();
            out.push_back(transmit);
        }
        self.borrowed.drain(..).for_each(|buffer| pool.give(buffer));
        bytes
    }

    /// Called every few seconds: what was not needed since will not be.
    pub(super) fn tick(&mut self) {
        self.needed = std::mem::take(&mut self.needed_since);
        if self.needed == 0 {
            self.finished.shrink_to_fit();
            self.borrowed.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(port: u16) -> TransportAddress {
        TransportAddress::Udp(([127, 0, 0, 1], port).into())
    }

    fn push(buffer: &mut SendBuffer, port: u16, len: usize, fill: u8) {
        buffer
            .push(address(port), (true, len), |room| {
                room.fill(fill);
                Ok::<_, ()>(())
            })
            .unwrap();
    }

    fn flush(buffer: &mut SendBuffer) -> Vec<Transmit> {
        let mut out = VecDeque::new();
        buffer.flush(&mut out, &mut BufferPool::default());
        out.into()
    }

    #[test]
    fn equal_sizes_leave_together_and_a_shorter_one_ends_the_run() {
        let mut buffer = SendBuffer::default();
        for (len, fill) in [(100, 1), (100, 2), (60, 3), (60, 4), (100, 5)] {
            push(&mut buffer, 1, len, fill);
        }
        push(&mut buffer, 2, 100, 6);
        let sent = flush(&mut buffer);
        let shapes: Vec<_> =
            sent.iter().map(|t| (t.destination.socket_addr().port(), t.segment_size, t.contents.len())).collect();
        assert_eq!(shapes, [(1, Some(100), 260), (1, None, 60), (1, None, 100), (2, None, 100)]);
        assert_eq!(sent[0].contents, [vec![1; 100], vec![2; 100], vec![3; 60]].concat());
    }

    #[test]
    fn what_goes_by_a_connection_is_video_or_something_else_and_never_both() {
        let sent_to = |destination: TransportAddress| {
            let mut buffer = SendBuffer::default();
            for (is_video, len) in [(true, 100), (true, 100), (false, 60), (false, 50), (true, 40), (false, 40)] {
                buffer.push(destination, (is_video, len), |_| Ok::<_, ()>(())).unwrap();
            }
            buffer.push_single(destination, vec![0; 20]);
            flush(&mut buffer).iter().map(|t| (t.is_video, t.contents.len())).collect::<Vec<_>>()
        };
        let connection = TransportAddress::Tcp(address(1).socket_addr());
        assert_eq!(sent_to(connection), [(true, 200), (false, 110), (true, 40), (false, 20), (false, 40)]);
        assert_eq!(sent_to(address(1)), [(false, 260), (false, 90), (false, 20), (false, 40)]);
    }

    #[test]
    fn a_failed_datagram_leaves_no_trace() {
        let mut buffer = SendBuffer::default();
        push(&mut buffer, 1, 100, 1);
        assert_eq!(buffer.push(address(1), (true, 50), |_| Err::<(), _>(7)), Err(7));
        push(&mut buffer, 1, 100, 2);
        assert_eq!(flush(&mut buffer)[0].contents, [vec![1; 100], vec![2; 100]].concat());
        assert_eq!(buffer.push(address(1), (true, 50), |_| Err::<(), _>(7)), Err(7));
        assert!(flush(&mut buffer).is_empty());
    }

    #[test]
    fn buffers_are_borrowed_for_a_batch_and_none_is_kept() {
        let mut buffer = SendBuffer::default();
        let (mut out, mut pool) = (VecDeque::new(), BufferPool::default());
        (0..9).for_each(|_| pool.give(vec![9; 500]));
        // The first one of this kind takes nobody by surprise but itself.
        let mut batch = |buffer: &mut SendBuffer, datagrams: u16, borrowed: usize| {
            buffer.borrow(&mut pool);
            assert_eq!(buffer.borrowed.len(), borrowed);
            (0..datagrams).for_each(|port| push(buffer, port, 100, 7));
            buffer.flush(&mut out, &mut pool);
            let sent: Vec<Transmit> = out.drain(..).collect();
            assert!(sent.iter().all(|transmit| transmit.contents == [7; 100]));
            let own = sent.iter().filter(|transmit| transmit.contents.capacity() >= 500).count();
            assert_eq!((own, buffer.borrowed.len()), (borrowed.min(sent.len()), 0));
            sent.into_iter().take(own).for_each(|transmit| pool.give(transmit.contents));
            assert_eq!(pool.count(), 9);
        };
        batch(&mut buffer, 3, 0);
        batch(&mut buffer, 3, 3);
        batch(&mut buffer, 1, 3);
        buffer.tick();
        batch(&mut buffer, 1, 3);
        buffer.tick();
        batch(&mut buffer, 9, 1);
        batch(&mut buffer, 9, MAX_BORROWED);
        buffer.tick();
        buffer.tick();
        batch(&mut buffer, 0, 0);
        assert_eq!(buffer.borrowed.capacity() + buffer.finished.capacity(), 0);
        // What waits to be sent is not touched.
        buffer.push_single(address(1), vec![1]);
        buffer.tick();
        assert_eq!(flush(&mut buffer).len(), 1);
    }

    proptest! {
        #[test]
        fn everything_comes_out_once_and_in_order(packets in prop::collection::vec((1_u16..3, 1_usize..1400), 0..300)) {
            let mut buffer = SendBuffer::default();
            for (index, (port, len)) in packets.iter().enumerate() {
                push(&mut buffer, *port, *len, index as u8);
            }
            let mut received = Vec::new();
            for transmit in flush(&mut buffer) {
                let size = transmit.segment_size.unwrap_or(transmit.contents.len());
                prop_assert!(transmit.contents.len() <= MAX_CONTENTS_LEN && transmit.contents.len().div_ceil(size) <= MAX_SEGMENTS);
                received.extend(transmit.contents.chunks(size).map(|c| (transmit.destination.socket_addr().port(), c.to_vec())));
            }
            let expected: Vec<_> = packets.iter().enumerate().map(|(i, (port, len))| (*port, vec![i as u8; *len])).collect();
            prop_assert_eq!(received, expected);
        }
    }
}
