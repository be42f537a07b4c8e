//! The time of one batch, in all the forms that packets need it: read once, used for every packet.

use std::time::{Duration, Instant};

use crate::wire::rtcp::duration_to_ntp;

/// Seconds from the NTP epoch (1900) to the Unix epoch (1970).
const NTP_UNIX_OFFSET_SECS: u64 = 2_208_988_800;

/// One instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    /// On the monotonic clock.
    pub now: Instant,
    /// Since the core's epoch.
    pub since_epoch: Duration,
    /// The same in microseconds.
    pub micros: u64,
    /// As the abs-send-time extension says it: 24 bits, 6.18 fixed point seconds.
    pub abs_send_time: u32,
}

impl Clock {
    /// `epoch` is one instant on both clocks: the monotonic one, and time since the Unix epoch.
    pub(crate) fn new(now: Instant, epoch: (Instant, Duration)) -> Self {
        let since_epoch = now.saturating_duration_since(epoch.0);
        let ntp = duration_to_ntp(epoch.1 + since_epoch).wrapping_add(NTP_UNIX_OFFSET_SECS << 32);
        let micros = since_epoch.as_micros() as u64;
        Self { now, since_epoch, micros, abs_send_time: (ntp >> 14) as u32 & 0x00ff_ffff }
    }
}
