//! What may happen to users, network and nodes.

use std::time::Duration;

use rand::RngExt;
use sluice_loadtest::signalling::ortc::Kind;
use tokio::time::Instant;

use super::presence::{RECEIVING, SENDING};
use super::world::World;

/// Something happens in one step of so many.
const PAUSE: u32 = 25;

/// Most things that a user sends at a time.
const MAX_PRODUCTIONS: usize = 3;

impl World {
    /// Perhaps something happens.
    pub(super) fn act(&mut self) {
        if !self.rng.random_ratio(1, PAUSE) {
            return;
        }
        match self.rng.random_range(0..100) {
            0..72 => self.act_as_user(),
            72..88 => self.act_on_network(),
            _ => self.act_on_nodes(),
        }
    }

    fn soon(&mut self, most_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.rng.random_range(0..most_ms))
    }

    fn act_as_user(&mut self) {
        let number = self.rng.random_range(0..self.users.len());
        let node = self.any_node();
        let until = self.soon(2_500);
        let (rng, access) = (&mut self.rng, &mut self.access);
        let user = &mut self.users[number];
        let Some(presence) = &mut user.presence else {
            if user.comes_at.is_none() && rng.random_bool(0.5) {
                self.come(number, node);
            }
            return;
        };
        let production = (!presence.productions.is_empty()).then(|| rng.random_range(0..presence.productions.len()));
        match rng.random_range(0..100) {
            0..40 if presence.productions.len() < MAX_PRODUCTIONS => {
                let kind = if rng.random() { Kind::Audio } else { Kind::Video };
                presence.produce(kind, access);
            }
            40..54 => production.into_iter().for_each(|index| presence.toggle(index)),
            54..60 => production.into_iter().for_each(|index| presence.close(index)),
            60..67 if !presence.consumers.is_empty() => {
                let index = rng.random_range(0..presence.consumers.len());
                let id = presence.consumers.keys().nth(index).unwrap().clone();
                presence.toggle_consumer(&id);
            }
            67..80 => {
                let lanes: &[usize] = [&[SENDING], &[RECEIVING], &[SENDING, RECEIVING][..]][rng.random_range(0..3)];
                let noticed = rng.random();
                presence.roam(lanes, noticed, access);
            }
            80..86 => presence.go_dark(until, access),
            86..92 => {
                let silently = rng.random();
                self.go(number, silently);
            }
            92..100 => {
                // Elsewhere or here again: the former session may go on for a while.
                let silently = rng.random();
                self.go(number, silently);
                self.come(number, node);
            }
            _ => {}
        }
    }

    fn act_on_network(&mut self) {
        let pairs = self.pairs();
        if pairs.is_empty() {
            return;
        }
        let (a, b) = pairs[self.rng.random_range(0..pairs.len())];
        match self.rng.random_range(0..10) {
            0..3 => self.net.down(a, b),
            3..6 if !self.net.is_up(a, b) => self.net.up(a, b),
            6 if self.net.is_up(a, b) => self.net.up(a, b),
            7 => {
                self.net.down(a, b);
                self.rosters.cut(a, b);
            }
            8 => self.rosters.cut(a, b),
            _ => self.rosters.heal(a, b),
        }
    }

    fn act_on_nodes(&mut self) {
        let number = self.any_node();
        let (long, short) = (self.soon(2_000), self.soon(400));
        if self.alive().len() > 1 && self.rng.random_ratio(1, 15) {
            let restart = self.rng.random_bool(0.8).then(|| self.soon(5_000));
            return self.kill(number, restart);
        }
        let node = &mut self.nodes[number];
        let worker = self.rng.random_range(0..node.worker_count());
        match self.rng.random_range(0..10) {
            0..2 => node.stall(long),
            2..4 => node.pause_worker(worker, short),
            // This is how a room spreads over workers without hundreds of peers.
            _ => {
                let stuck = node.worker_count() > 1 && self.rng.random();
                (0..node.worker_count()).for_each(|other| node.set_stuck(other, stuck && other != worker));
            }
        }
    }
}
