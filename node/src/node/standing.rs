//! Whether this incarnation of the node is the one that the others believe in.

use std::time::Duration;

use sluice_mesh::Newer;
use sluice_proto::ids::NodeInstance;
use tokio::sync::watch;
use tokio::time::Instant;

/// A newer incarnation that nobody has had a connection with for this long is a thing of the past. Its node may have
/// been killed a moment ago, which the others need up to 2 s to see.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A newer incarnation that is still there after this long is another process.
const TWIN_AFTER: Duration = Duration::from_secs(10);

/// Waits until this node has to become a newer incarnation than the one that is returned: others remember that one, and
/// it is no more. They do when the clock was set back. While it lives, it is a twin, of which nothing but a warning
/// comes.
pub(super) async fn superseded(me: NodeInstance, mut newer: watch::Receiver<Option<Newer>>) -> u64 {
    let mut highest = me.incarnation;
    let (mut first_alive, mut last_alive) = (None, None::<Instant>);
    let mut is_told = false;
    loop {
        if newer.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        let Some(said) = *newer.borrow_and_update() else { continue };
        let now = Instant::now();
        if highest == me.incarnation {
            tracing::warn!(node = %me, newer = said.incarnation, alive = said.is_alive, "others know a newer incarnation of this node");
        }
        highest = highest.max(said.incarnation);
        if said.is_alive {
            last_alive = Some(now);
            let since = *first_alive.get_or_insert(now);
            if now.duration_since(since) >= TWIN_AFTER && !is_told {
                is_told = true;
                tracing::error!(
                    node = %me,
                    twin = said.incarnation,
                    "another process runs under this node's id, and the mesh believes in that one: give each its own"
                );
            }
        } else if last_alive.is_none_or(|last| now.duration_since(last) >= SETTLED_AFTER) {
            return highest;
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_proto::ids::NodeId;
    use tokio::time::{sleep, timeout};

    use super::*;

    /// Others say this each second; what comes of it within a minute.
    async fn said(says: impl Fn(u64) -> Newer) -> Option<(u64, u64)> {
        let me = NodeInstance { node: NodeId::new("n").unwrap(), incarnation: 5 };
        let (sender, newer) = watch::channel(None);
        let start = Instant::now();
        let saying = async {
            for second in 0.. {
                sender.send_replace(Some(says(second)));
                sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::select! {
            known = timeout(Duration::from_secs(60), superseded(me, newer)) => Some((known.ok()?, start.elapsed().as_secs())),
            () = saying => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_past_of_ones_own_is_overtaken() {
        let gone = |_| Newer { incarnation: 9, is_alive: false };
        assert_eq!(said(gone).await, Some((9, 0)));
        // It was killed a moment ago.
        let dying = |second| Newer { incarnation: 9, is_alive: second < 2 };
        assert_eq!(said(dying).await, Some((9, 3)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_living_twin_is_not() {
        assert_eq!(said(|_| Newer { incarnation: 9, is_alive: true }).await, None);
        // One of two does not reach it.
        assert_eq!(said(|second| Newer { incarnation: 9, is_alive: second % 2 == 0 }).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_highest_that_was_heard_of_is_overtaken() {
        let two = |second| Newer { incarnation: 9 - second, is_alive: second == 0 };
        assert_eq!(said(two).await, Some((9, 2)));
    }
}
