//! Frames on their way out, gathered per destination for the length of one batch.

use bytes::{Bytes, BytesMut};
use sluice_mesh::Frame;

use crate::messages::PipeEnd;

/// Packets are copied into chunks of this size, so that the memory comes by the chunk and not by the packet: some 50 of
/// video.
const CHUNK_LEN: usize = 64 * 1024;

/// Emptied vectors that are kept for the next batch.
const MAX_SPARE: usize = 64;

/// What leaves by pipes.
#[derive(Debug, Default)]
pub(crate) struct FrameBatches {
    open: Vec<(PipeEnd, Vec<Frame>)>,
    spare: Vec<Vec<Frame>>,
    chunk: BytesMut,
}

impl FrameBatches {
    /// A copy of a packet's header and payload, changed by `patch`, that can be handed on without another one.
    pub(crate) fn copy(&mut self, header: &[u8], payload: &[u8], patch: impl FnOnce(&mut [u8])) -> Bytes {
        let len = header.len() + payload.len();
        if self.chunk.capacity() < len {
            // Takes the former chunk again if all of its packets are gone.
            self.chunk.reserve(CHUNK_LEN.max(len));
        }
        self.chunk.extend_from_slice(header);
        self.chunk.extend_from_slice(payload);
        patch(&mut self.chunk);
        self.chunk.split().freeze()
    }

    /// Adds a frame to its destination's batch.
    pub(crate) fn push(&mut self, to: PipeEnd, frame: Frame) {
        match self.open.iter_mut().find(|(end, _)| *end == to) {
            Some((_, frames)) => frames.push(frame),
            None => {
                let mut frames = self.spare.pop().unwrap_or_default();
                frames.push(frame);
                self.open.push((to, frames));
            }
        }
    }

    /// The batches, in the order in which they began.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (PipeEnd, Vec<Frame>)> {
        self.open.drain(..)
    }

    /// Takes a batch's vector back.
    pub(crate) fn recycle(&mut self, mut frames: Vec<Frame>) {
        frames.clear();
        if self.spare.len() < MAX_SPARE {
            self.spare.push(frames);
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_mesh::{FrameClass, FrameFlags, LinkKey};
    use sluice_proto::ids::{RouteEpoch, RouteId};

    use super::*;
    use crate::messages::WorkerIndex;

    #[test]
    fn batches_are_kept_apart_and_packets_whole() {
        let mut batches = FrameBatches::default();
        let ends = [PipeEnd::Node(LinkKey(1)), PipeEnd::Worker(WorkerIndex(1))];
        for seq in 0..300_u16 {
            let packet = batches.copy(&[seq as u8; 12], &[seq as u8; 988], |packet| packet[0] = 0xff);
            let (route, epoch, class) = (RouteId(0), RouteEpoch(0), FrameClass::Audio);
            let frame = Frame { route, epoch, seq, flags: FrameFlags::default(), class, packet };
            batches.push(ends[usize::from(seq % 2)], frame);
        }
        let drained: Vec<_> = batches.drain().collect();
        assert_eq!(
            drained.iter().map(|(to, frames)| (*to, frames.len())).collect::<Vec<_>>(),
            ends.map(|to| (to, 150))
        );
        for frame in drained.iter().flat_map(|(_, frames)| frames) {
            assert_eq!((frame.packet.len(), frame.packet[0], frame.packet[999]), (1_000, 0xff, frame.seq as u8));
        }
    }
}
