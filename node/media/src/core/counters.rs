//! What a worker counts. Gauges are counted when they are asked for.

use crate::drop_reason::DropCounters;

/// Counters since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Datagrams that came in from users.
    pub datagrams_received: u64,
    /// Datagrams that went out to users.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// RTP packets accepted from users.
    pub rtp_packets_received: u64,
    /// RTP packets sent to users, retransmissions included.
    pub rtp_packets_sent: u64,
    /// RTP packets that came in by pipes.
    pub pipe_packets_received: u64,
    /// RTP packets that went out by pipes, retransmissions included.
    pub pipe_packets_sent: u64,
    /// Retransmissions sent to users.
    pub retransmissions_sent: u64,
    /// Key-frame requests sent to publishers and up pipes.
    pub key_frame_requests: u64,
    /// Messages of data channels that users sent.
    pub data_messages_received: u64,
    /// Their bytes.
    pub data_bytes_received: u64,
    /// Messages of data channels that were sent to users.
    pub data_messages_sent: u64,
    /// Their bytes.
    pub data_bytes_sent: u64,
    /// Packets that went no further.
    pub drops: DropCounters,
}
