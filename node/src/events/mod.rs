//! What an operator can bill by and react to: what happens in rooms, told to webhooks, added up by namespace, and
//! written to the audit log.
//!
//! # Layout
//! - [`Events`]: the way of rooms into all of it; `part`: what one room tells of its peers and producers.
//! - `event`: the vocabulary.
//! - `webhooks`: the delivery of events, from a queue on disk.
//! - `usage`: participant time and bytes of each namespace.
//! - `audit`: who came, who was refused, what operators asked for.

pub(crate) mod audit;
mod event;
mod part;
pub(crate) mod usage;
pub(crate) mod webhooks;

use std::io;
use std::sync::Arc;

use sluice_proto::ids::{NodeInstance, RoomKey};

use self::audit::Audit;
use self::usage::Usage;
use self::webhooks::{Outgoing, Webhooks};

pub(crate) use event::LeaveReason;
pub(crate) use part::{Attendance, Publication, RoomEvents, Session};

use crate::config::NodeConfig;
use crate::vitals::Vitals;

/// Where rooms tell what happens in them. Cheap to clone; telling never waits.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    node: Arc<NodeInstance>,
    usage: Arc<Usage>,
    audit: Audit,
    /// `None` if nobody is told.
    webhooks: Option<Webhooks>,
}

impl Events {
    /// Begins with what the data directory remembers. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// When a file cannot be read or made: the setting that names it, and the reason.
    pub(crate) fn start(
        config: &NodeConfig,
        node: &NodeInstance,
        vitals: &Vitals,
    ) -> Result<Self, (&'static str, io::Error)> {
        let usage = Usage::open(config.data_dir.as_deref()).map_err(|error| ("data_dir", error))?;
        let audit = Audit::start(&config.audit, &node.node, vitals).map_err(|error| ("audit.file", error))?;
        let webhooks = Webhooks::start(&config.webhooks, config.data_dir.as_deref(), vitals)?;
        Ok(Self { node: Arc::new(node.clone()), usage: Arc::new(usage), audit, webhooks })
    }

    /// What a room tells, from its beginning on.
    pub(crate) fn room(&self, key: &RoomKey) -> RoomEvents {
        RoomEvents::new(self.clone(), key.clone())
    }

    /// Participant time and bytes.
    pub(crate) fn usage(&self) -> &Arc<Usage> {
        &self.usage
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// The delivery of events, if there is one.
    pub(crate) fn webhooks(&self) -> Option<&Webhooks> {
        self.webhooks.as_ref()
    }

    fn tell(&self, event: &event::Event) {
        let Some(webhooks) = &self.webhooks else { return };
        match serde_json::to_vec(event) {
            Ok(body) => webhooks.tell(Outgoing { room: event.room_key(), body: body.into() }),
            // Its keys are strings and its values plain, so that this cannot be.
            Err(error) => tracing::error!(%error, "an event cannot be written"),
        }
    }

    /// Delivers what can be delivered in a moment, and writes the rest down.
    pub(crate) async fn shutdown(&self) {
        if let Some(webhooks) = &self.webhooks {
            webhooks.shutdown().await;
        }
        self.audit.flush().await;
    }
}

#[cfg(test)]
impl Events {
    /// Of a node that tells nobody.
    pub(crate) fn unheard(node: &NodeInstance) -> Self {
        let audit = Audit::to_log(&node.node);
        Self { node: Arc::new(node.clone()), usage: Arc::default(), audit, webhooks: None }
    }

    /// Of a node whose events and audit log somebody reads.
    pub(crate) fn heard(node: &NodeInstance) -> (Self, tokio::sync::mpsc::Receiver<Outgoing>, audit::Lines) {
        let (webhooks, outgoing) = Webhooks::unsent();
        let (audit, lines) = Audit::heard(&node.node);
        (Self { webhooks: Some(webhooks), audit, ..Self::unheard(node) }, outgoing, lines)
    }
}
