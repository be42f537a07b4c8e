//! What lies between users and nodes, and what users bring along.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sluice_loadtest::clock::Clock;
use sluice_loadtest::transport::{Certificate, TransportConfig};
use sluice_mesh::wan::{Impairment, ImpairmentConfig, Loss};
use tokio::time::Instant;

/// A path that nothing is wrong with.
const PERFECT: Duration = Duration::from_millis(5);

pub(super) struct Access {
    pub(super) rng: ChaCha8Rng,
    /// Everybody's, but for whose time it is.
    pub(super) clock: Clock,
    pub(super) transport: TransportConfig,
    next_port: u16,
    healed: bool,
}

impl Access {
    pub(super) fn new(seed: u64) -> Self {
        static CERTIFICATE: OnceLock<Arc<Certificate>> = OnceLock::new();
        let certificate = CERTIFICATE.get_or_init(|| Certificate::generate().unwrap()).clone();
        Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            clock: Clock::new(Instant::now().into_std(), Duration::from_secs(1_700_000_000)),
            transport: TransportConfig::new(certificate),
            next_port: 10_000,
            healed: false,
        }
    }

    /// One that nobody has had.
    pub(super) fn address(&mut self) -> SocketAddr {
        self.next_port += 1;
        SocketAddr::from(([10, 0, 0, 1], self.next_port))
    }

    /// Nothing is wrong with any path from now on.
    pub(super) fn heal(&mut self) {
        self.healed = true;
    }

    /// A path up and one down.
    pub(super) fn paths(&mut self) -> (Impairment, Impairment) {
        (Impairment::new(self.path(), self.draw()), Impairment::new(self.path(), self.draw()))
    }

    pub(super) fn path(&mut self) -> ImpairmentConfig {
        if self.healed {
            return ImpairmentConfig { delay: PERFECT, ..ImpairmentConfig::default() };
        }
        let mut ms = |range| Duration::from_millis(self.rng.random_range(range));
        let (delay, jitter, reorder_by) = (ms(1..40), ms(0..8), ms(1..15));
        ImpairmentConfig {
            delay,
            jitter,
            loss: Loss::Random(self.rng.random_range(0.0..0.03)),
            reorder: self.rng.random_range(0.0..0.02),
            reorder_by,
            duplicate: self.rng.random_range(0.0..0.02),
            ..ImpairmentConfig::default()
        }
    }

    pub(super) fn darkness(&self) -> ImpairmentConfig {
        ImpairmentConfig { blackout: true, ..ImpairmentConfig::default() }
    }

    pub(super) fn draw(&mut self) -> u64 {
        self.rng.random()
    }
}
