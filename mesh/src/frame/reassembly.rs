//! Puts cut packets together again.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use super::Frame;
use super::decode::Half;

/// Halves that wait for their other one. They leave the sender back to back: more than a few wait only when datagrams
/// are lost or badly reordered, and 128 of them are at most 170 KB a link.
const CAPACITY: usize = 128;

/// Puts cut packets of one link together again. Bounded: the half that has waited longest makes room.
#[derive(Debug, Default)]
pub struct Reassembler {
    waiting: VecDeque<Half>,
    evicted: u64,
}

impl Reassembler {
    /// One without any halves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a half; gives the frame when its other half is here. A half of the same packet that was cut elsewhere is
    /// replaced: the path's MTU changed between a packet and its retransmission.
    pub fn insert(&mut self, half: Half) -> Option<Frame> {
        let same_packet = |other: &Half| {
            other.frame.seq == half.frame.seq
                && other.frame.route == half.frame.route
                && other.frame.epoch == half.frame.epoch
        };
        if let Some(other) = self.waiting.iter().position(same_packet).and_then(|index| self.waiting.remove(index)) {
            match (half.second, other.second) {
                (false, true) if half.cut == other.cut => return Some(join(half, &other)),
                (true, false) if half.cut == other.cut => return Some(join(other, &half)),
                _ => {}
            }
        }
        if self.waiting.len() >= CAPACITY {
            self.waiting.pop_front();
            self.evicted += 1;
        }
        self.waiting.push_back(half);
        None
    }

    /// Halves that were dropped to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

fn join(first: Half, second: &Half) -> Frame {
    let mut packet = BytesMut::with_capacity(first.frame.packet.len() + second.frame.packet.len());
    packet.put_slice(&first.frame.packet);
    packet.put_slice(&second.frame.packet);
    Frame { packet: packet.freeze(), ..first.frame }
}
