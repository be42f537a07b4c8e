//! Events on their way to the operator's receiver: written down first, then delivered, again and again until they are
//! taken or too old. `docs/webhooks.md` says what a receiver can rely on.
//!
//! # Layout
//! - [`Webhooks`]: the way in; `delivery`: the task behind it.
//! - `queue`, made of `segment`s: events that wait, on disk.
//! - `lanes`: whose turn it is; pure.
//! - `post`: one delivery over HTTP.

mod delivery;
mod lanes;
mod post;
mod queue;
mod segment;
#[cfg(test)]
mod tests;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use sluice_proto::ids::RoomKey;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::delivery::{Delivery, DeliveryLimits};
use self::post::HttpReceiver;
use crate::config::WebhooksConfig;
use crate::support::count;
use crate::vitals::Vitals;

/// Events on their way to the disk, which takes a thousand at once: two seconds of a disk that stands still while a
/// node of 10,000 users comes and goes, 20 MB.
const QUEUE: usize = 32_768;

/// Of the data directory.
const DIR: &str = "webhooks";

/// What a node that stops gives its receiver to take the last events; the rest is delivered after the next start.
const SHUTDOWN_WITHIN: Duration = Duration::from_secs(2);

/// The delivery of events. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Webhooks {
    events: mpsc::Sender<Outgoing>,
    counters: Arc<WebhookCounters>,
    stop: CancellationToken,
    ended: CancellationToken,
}

/// An event on its way.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// In whose order it is.
    pub(super) room: RoomKey,
    /// What is sent.
    pub(crate) body: Bytes,
}

/// What happened to events since the start, and gauges.
#[derive(Debug, Default)]
pub(crate) struct WebhookCounters {
    /// Taken by the receiver.
    pub(crate) delivered: AtomicU64,
    /// Deliveries that the receiver did not take; each is tried again.
    pub(crate) failed: AtomicU64,
    /// Given up as too old.
    pub(crate) expired: AtomicU64,
    /// Given up as the queue was full.
    pub(crate) dropped: AtomicU64,
    /// Lost before they came to the disk, which stood still, or by the disk.
    pub(crate) lost: AtomicU64,
    /// Events that wait.
    pub(crate) pending: AtomicU64,
    /// Bytes of the queue.
    pub(crate) queue_bytes: AtomicU64,
}

impl Webhooks {
    /// Begins to deliver, with what a former life left in the data directory; `None` if no receiver is set. Must be
    /// called on a tokio runtime.
    ///
    /// # Errors
    /// The setting that cannot be used, and why.
    pub(super) fn start(
        config: &WebhooksConfig,
        data_dir: Option<&Path>,
        vitals: &Vitals,
    ) -> Result<Option<Self>, (&'static str, io::Error)> {
        let (Some(url), Some(key)) = (&config.url, &config.key) else { return Ok(None) };
        let receiver = HttpReceiver::new(url, key, Duration::from_millis(config.timeout_ms))
            .map_err(|error| ("webhooks.url", io::Error::other(error)))?;
        if data_dir.is_none() {
            tracing::warn!("webhooks.url is set without data_dir: events that wait are lost when the node ends");
        }
        let limits = DeliveryLimits {
            queue_bytes: config.queue_bytes,
            concurrency: config.concurrency as usize,
            max_age: Duration::from_millis(config.max_age_ms),
        };
        let (webhooks, events) = Self::unsent();
        let delivery = Delivery::open(data_dir.map(|dir| dir.join(DIR)), limits, receiver, webhooks.counters.clone())
            .map_err(|error| ("data_dir", error))?;
        let (stop, end) = (webhooks.stop.clone(), webhooks.ended.clone().drop_guard());
        vitals.spawn("the delivery of events", async move {
            let _end = end;
            delivery.run(events, stop).await;
        });
        Ok(Some(webhooks))
    }

    /// The way in, and where it leads.
    pub(super) fn unsent() -> (Self, mpsc::Receiver<Outgoing>) {
        let (events, outgoing) = mpsc::channel(QUEUE);
        let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
        (Self { events, counters: Arc::default(), stop, ended }, outgoing)
    }

    /// An event is to be delivered; never waits.
    pub(super) fn tell(&self, event: Outgoing) {
        if self.events.try_send(event).is_err() {
            count(&self.counters.lost);
            if self.counters.lost.load(Ordering::Relaxed).is_power_of_two() {
                tracing::error!("events are lost: the disk does not take them");
            }
        }
    }

    /// What happened.
    pub(crate) fn counters(&self) -> &WebhookCounters {
        &self.counters
    }

    /// Takes no more events, and gives the receiver a moment to take the last.
    pub(super) async fn shutdown(&self) {
        self.stop.cancel();
        if timeout(SHUTDOWN_WITHIN, self.ended.cancelled()).await.is_err() {
            tracing::info!("some events are not delivered yet");
        }
    }
}
