//! Emptied buffers of a worker, to be filled again: what makes sending a batch free of allocations.

/// Bytes that are kept: the packets of one batch for a thousand receivers of video. What comes back from a larger batch
/// is given up.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// The buffers, by no order but that the last one that came back, whose bytes are still near the processor, is used
/// first.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl BufferPool {
    /// A buffer with any contents; a new one if there is none.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        let buffer = self.buffers.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Takes a buffer back, best without being cleared: what it holds need not be written again to make room.
    pub(crate) fn give(&mut self, buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity > 0 && self.bytes + capacity <= MAX_BYTES {
            self.bytes += capacity;
            self.buffers.push(buffer);
        }
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn count(&self) -> usize {
        self.buffers.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_so_many_bytes_and_no_more() {
        let mut pool = BufferPool::default();
        let large = 64 * 1024;
        (0..1_000).for_each(|_| pool.give(Vec::with_capacity(large)));
        assert!(pool.count() <= MAX_BYTES / large);
        let kept = pool.count();
        for _ in 0..kept {
            assert!(pool.take().capacity() >= large);
        }
        assert_eq!((pool.take().capacity(), pool.bytes), (0, 0));
    }
}
