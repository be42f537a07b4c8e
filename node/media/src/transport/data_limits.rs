//! How much data channels may carry, and keep others waiting for.

/// Limits of data channels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataLimits {
    /// Bytes of the largest message, which signalling announces. Larger ones are dropped.
    pub max_message_size: usize,
    /// Bits per second that are read of all that one client sends by one transport, a second's worth at once. What is
    /// more waits at the client.
    pub bitrate: u32,
    /// Messages per second, likewise.
    pub messages_per_second: u32,
    /// Bytes that wait for the client of a data consumer at most, with some for each message.
    pub consumer_buffer: usize,
    /// Bytes that a client may have sent and nobody has read yet: what it is told as its window.
    pub receive_window: usize,
    /// Bytes that are on their way to a client at once, which it has not acknowledged.
    pub send_window: usize,
}

impl Default for DataLimits {
    /// Messages of 256 KiB, as browsers have them; 8 Mbit/s and 1,000 messages per second; 1 MiB waits for a client.
    /// The window has room for four of the largest messages. 512 KiB on their way are 40 Mbit/s on a path of 100 ms.
    fn default() -> Self {
        Self {
            max_message_size: 262_144,
            bitrate: 8_000_000,
            messages_per_second: 1_000,
            consumer_buffer: 1 << 20,
            receive_window: 1 << 20,
            send_window: 1 << 19,
        }
    }
}
