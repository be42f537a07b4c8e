//! One direction of a path, in the hands of relays that carry it and of whoever changes it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::relay::clock;
use super::{Impairment, ImpairmentConfig, ImpairmentStats, Passage};

/// One direction of a path. Clones are the same one: relays of datagrams and of connections between the same two ends
/// share its bottleneck.
#[derive(Debug, Clone)]
pub struct Path(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// What could not pass may now.
    changed: Notify,
    overload: AtomicU64,
}

#[derive(Debug)]
struct State {
    impairment: Impairment,
    config: ImpairmentConfig,
    is_cut: bool,
}

impl Path {
    /// A path; `seed` decides what gets lost.
    pub fn new(config: ImpairmentConfig, seed: u64) -> Self {
        Self(Arc::new(Shared {
            state: Mutex::new(State { impairment: Impairment::new(config, seed), config, is_cut: false }),
            changed: Notify::new(),
            overload: AtomicU64::new(0),
        }))
    }

    /// Changes what the path is like, from the next packet on; while it is cut, from when it is healed.
    pub fn set_config(&self, config: ImpairmentConfig) {
        self.change(|state| state.config = config);
    }

    /// What the path is like when it is not cut.
    pub fn config(&self) -> ImpairmentConfig {
        self.state().config
    }

    /// Nothing passes any more, until [`heal`](Self::heal). What is under way arrives.
    pub fn cut(&self) {
        self.change(|state| state.is_cut = true);
    }

    /// The path is what it was before it was cut.
    pub fn heal(&self) {
        self.change(|state| state.is_cut = false);
    }

    /// What happened so far. Pieces of connections count as packets.
    pub fn stats(&self) -> ImpairmentStats {
        self.state().impairment.stats()
    }

    /// Packets that should have arrived but that a relay had no room for. More than 0 means that this machine was the
    /// bottleneck, not the path.
    pub fn overload(&self) -> u64 {
        self.0.overload.load(Ordering::Relaxed)
    }

    pub(super) fn count_overload(&self) {
        self.0.overload.fetch_add(1, Ordering::Relaxed);
    }

    /// For a batch of packets.
    pub(super) fn with<R>(&self, submit: impl FnOnce(&mut Impairment) -> R) -> R {
        submit(&mut self.state().impairment)
    }

    /// A piece of a connection enters the path as soon as anything passes.
    pub(super) async fn pass(&self, len: usize) -> Passage {
        loop {
            // Before the look, or a change between the two would be missed.
            let changed = self.0.changed.notified();
            if let Some(passage) = self.with(|impairment| impairment.submit_reliable(clock(), len)) {
                return passage;
            }
            changed.await;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state();
        change(&mut state);
        let blackout = state.config.blackout || state.is_cut;
        let config = ImpairmentConfig { blackout, ..state.config };
        state.impairment.set_config(config);
        drop(state);
        self.0.changed.notify_waiters();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Both directions between the one who comes to a relay and the one that it stands for.
#[derive(Debug, Clone)]
pub struct PathPair {
    /// To the relay's target.
    pub forward: Path,
    /// Back.
    pub backward: Path,
}

impl PathPair {
    /// A path that is the same both ways.
    pub fn new(config: ImpairmentConfig, seed: u64) -> Self {
        Self { forward: Path::new(config, seed), backward: Path::new(config, seed.wrapping_add(1)) }
    }
}
