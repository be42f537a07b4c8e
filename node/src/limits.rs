//! How much of everything a node's rooms hold.

use std::time::Duration;

use crate::config::LimitsConfig;
use crate::pipes::OutletLimits;

/// Limits of rooms and signalling, as [`LimitsConfig`] has them, with the reason for each.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "the setting's name and documentation")]
pub(crate) struct Limits {
    pub rooms: usize,
    pub peers_per_room: usize,
    pub small_room: usize,
    pub peers_per_page: usize,
    pub transports_per_peer: usize,
    pub transport_lost: Duration,
    pub transport_unused: Duration,
    pub producers_per_peer: usize,
    pub consumers_per_peer: usize,
    pub outlets: OutletLimits,
    pub room_queue: usize,
    pub request_burst: u32,
    pub requests_per_second: u32,
    pub changes_per_minute: u32,
    pub message_bytes: usize,
    pub bytes_per_second: u32,
    pub join_within: Duration,
    pub admission_wait: Duration,
    pub joins_per_session: u32,
    pub sign_of_life: Duration,
    pub resume_within: Duration,
    pub ping_interval: Duration,
    pub silence: Duration,
    pub write_within: Duration,
    pub shutdown_pause: Duration,
    pub shutdown_spread: Duration,
}

impl From<&LimitsConfig> for Limits {
    fn from(config: &LimitsConfig) -> Self {
        Self {
            rooms: config.rooms as usize,
            peers_per_room: config.peers_per_room as usize,
            small_room: config.small_room as usize,
            peers_per_page: config.peers_per_page as usize,
            transports_per_peer: config.transports_per_peer as usize,
            transport_lost: Duration::from_millis(config.transport_lost_ms),
            transport_unused: Duration::from_millis(config.transport_unused_ms),
            producers_per_peer: config.producers_per_peer as usize,
            consumers_per_peer: config.consumers_per_peer as usize,
            outlets: OutletLimits { all: config.routes_out as usize, of_one_node: config.routes_out_per_node as usize },
            room_queue: config.room_queue as usize,
            request_burst: config.request_burst,
            requests_per_second: config.requests_per_second,
            changes_per_minute: config.changes_per_minute,
            message_bytes: config.message_bytes as usize,
            bytes_per_second: config.bytes_per_second,
            join_within: Duration::from_millis(config.join_within_ms),
            admission_wait: Duration::from_millis(config.admission_wait_ms),
            joins_per_session: config.joins_per_session,
            sign_of_life: Duration::from_millis(config.sign_of_life_ms),
            resume_within: Duration::from_millis(config.resume_within_ms),
            ping_interval: Duration::from_millis(config.ping_interval_ms),
            silence: Duration::from_millis(config.silence_ms),
            write_within: Duration::from_millis(config.write_within_ms),
            shutdown_pause: Duration::from_millis(config.shutdown_pause_ms),
            shutdown_spread: Duration::from_millis(config.shutdown_spread_ms),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(&LimitsConfig::default())
    }
}
