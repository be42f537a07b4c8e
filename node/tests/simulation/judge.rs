//! Whether what came out is what went in.

use sluice_media::messages::{Request, Response};
use sluice_proto::ortc::MediaKind;

use crate::world::World;

impl World {
    pub(crate) fn drops(&mut self, node: usize, reason: &str) -> u64 {
        self.mesh.snapshot(node).drops.iter().find(|(label, _)| *label == reason).map_or(0, |(_, count)| *count)
    }

    /// Packets of a publication that its home node knows it never got.
    fn lost_on_the_way_in(&mut self, publication: usize) -> u64 {
        let (home, producer) = (self.home(publication), self.publications[publication].id);
        match self.mesh.request(home, Request::ProducerStats { producer }) {
            Ok(Response::ProducerStats(stats)) => stats.iter().map(|stream| stream.packets_lost).sum(),
            other => panic!("{other:?}"),
        }
    }

    /// Every subscription that lives has everything from its (last) beginning on, in order, but for what is accounted
    /// for as lost, and its sender reports tell the publisher's clock.
    pub(crate) fn judge(&mut self) {
        for index in 0..self.subscriptions.len() {
            self.judge_clock(index);
            self.judge_order(index);
            if !self.subscriptions[index].closed && !self.subscriptions[index].paused {
                self.judge_completeness(index);
            }
        }
    }

    fn judge_order(&self, index: usize) {
        let subscription = &self.subscriptions[index];
        let mut jumps = usize::from(!subscription.received.is_empty());
        let mut last: Option<(u64, usize)> = None;
        for (&seq, &number) in &subscription.received {
            if let Some((last_seq, last_number)) = last {
                assert!(number > last_number, "subscription {index}: {number} follows {last_number}");
                jumps += usize::from((number - last_number) as u64 != seq - last_seq);
            }
            last = Some((seq, number));
        }
        let allowed = subscription.allowed_jumps;
        assert!(jumps <= allowed, "subscription {index} began {jumps} times, {allowed} are explained");
    }

    fn judge_completeness(&mut self, index: usize) {
        let publication = self.subscriptions[index].publication;
        let kind = self.publications[publication].kind;
        let node = self.clients[self.subscriptions[index].client].receiving.node;
        let accounted =
            self.lost_on_the_way_in(publication) + self.drops(node, "pipe_lost") + self.subscriptions[index].given_up;
        let subscription = &self.subscriptions[index];
        let (&last_seq, &last) =
            subscription.received.last_key_value().unwrap_or_else(|| panic!("{index} got nothing"));
        let newest = self.publications[publication].packets.len() - 1;
        assert_eq!(last, newest, "subscription {index} ({kind:?}) misses the end");
        // From the last beginning on output numbers and publication numbers run in step.
        let in_step = |(seq, number): (&u64, &usize)| last_seq - seq == (last - number) as u64;
        let received = subscription.received.iter().rev().take_while(|(s, n)| in_step((s, n))).count() as u64;
        let (&first_seq, _) =
            subscription.received.iter().rev().take_while(|(s, n)| in_step((s, n))).last().expect("at least the last");
        let missing = last_seq - first_seq + 1 - received;
        assert!(missing <= accounted, "subscription {index} misses {missing}, {accounted} are accounted for");
    }

    fn judge_clock(&self, index: usize) {
        let subscription = &self.subscriptions[index];
        let publication = &self.publications[subscription.publication];
        for (ntp, rtp_timestamp) in &subscription.sender_reports {
            let since_epoch = std::time::Duration::from_nanos(
                (ntp >> 32) * 1_000_000_000 + (((ntp & 0xffff_ffff) * 1_000_000_000) >> 32),
            );
            let expected = publication.timestamp(since_epoch - publication.ntp_offset);
            let error = rtp_timestamp.wrapping_sub(expected).cast_signed().abs();
            let tolerance = if publication.kind == MediaKind::Video { 90 } else { 48 };
            assert!(error <= tolerance, "subscription {index}: the clock is off by {error} ticks");
        }
    }
}
