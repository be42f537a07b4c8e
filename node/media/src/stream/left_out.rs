//! Pictures that are left out of a stream on purpose: those behind them move up, as [`SeqManager`](crate::stream::seq_manager::SeqManager)
//! does it for packets. A VP8 decoder waits for a picture whose id it misses.

/// Counts them. Packets reordered across more than the latest of them get a picture id that is one too low; none is ever lost by it.
#[derive(Debug, Default)]
pub(crate) struct LeftOutPictures {
    count: u16,
    /// Where the latest of them began; for what is older the count was `count_before`.
    since: u64,
    count_before: u16,
}

impl LeftOutPictures {
    /// The picture that begins with this packet is left out.
    pub(crate) fn add(&mut self, sequence: u64) {
        self.count_before = self.count;
        self.count = self.count.wrapping_add(1);
        self.since = sequence;
    }

    /// Packets are numbered anew: whatever comes is behind all that was left out.
    pub(crate) fn restart(&mut self) {
        self.since = 0;
    }

    /// How many were left out before this packet, modulo 2^16.
    pub(crate) fn before(&self, sequence: u64) -> u16 {
        if sequence < self.since { self.count_before } else { self.count }
    }
}
