//! The parts that a node cannot do without: the end of one is the end of the node, never a quiet zombie.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells of the first of the vital parts that ended. Clones are the same ones.
#[derive(Debug, Clone, Default)]
pub(crate) struct Vitals {
    lost: Arc<watch::Sender<Option<&'static str>>>,
}

impl Vitals {
    /// Runs a task on the current runtime that shall never end; however it does, by itself or by a panic, it is told.
    pub(crate) fn spawn(&self, part: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let guard = Guard { vitals: self.clone(), part };
        tokio::spawn(async move {
            let _guard = guard;
            task.await;
        });
    }

    /// A vital part has ended. Only the first is remembered: the others follow from it, or from what is done about it.
    pub(crate) fn lose(&self, part: &'static str) {
        self.lost.send_if_modified(|lost| lost.is_none() && lost.replace(part).is_none());
    }

    /// The part that ended first, if one did.
    pub(crate) fn lost(&self) -> Option<&'static str> {
        *self.lost.borrow()
    }

    /// Waits for the end of the first part.
    pub(crate) async fn end(&self) -> &'static str {
        let mut lost = self.lost.subscribe();
        loop {
            if let Some(part) = *lost.borrow_and_update() {
                return part;
            }
            if lost.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

struct Guard {
    vitals: Vitals,
    part: &'static str,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.vitals.lose(self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_returns_is_told() {
        let vitals = Vitals::default();
        vitals.spawn("one", std::future::pending());
        assert_eq!(vitals.lost(), None);
        vitals.spawn("two", async {});
        assert_eq!(vitals.end().await, "two");
        vitals.lose("three");
        assert_eq!(vitals.lost(), Some("two"), "the first counts");
    }

    #[tokio::test]
    async fn a_part_that_panics_is_told() {
        let vitals = Vitals::default();
        vitals.spawn("one", async { panic!("as a test") });
        assert_eq!(vitals.end().await, "one");
    }
}
