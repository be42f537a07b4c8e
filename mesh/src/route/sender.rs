//! The sending end of a route.

use sluice_proto::ids::{RouteEpoch, RouteId};

use super::REPAIR_WINDOW;

/// Numbers the packets of a route and finds them again when the other end misses them.
///
/// It holds no packet: what it remembers is the caller's *cookie*, by which the caller finds the packet in the
/// producer's cache.
#[derive(Debug)]
pub struct RouteSender {
    route: RouteId,
    epoch: RouteEpoch,
    next: u16,
    /// How many of the last sequence numbers have a cookie.
    remembered: u16,
    /// By sequence number modulo [`REPAIR_WINDOW`]. Takes up memory from the first packet on.
    cookies: Box<[u64]>,
}

impl RouteSender {
    /// A route that has carried nothing yet.
    pub fn new(route: RouteId, epoch: RouteEpoch) -> Self {
        Self { route, epoch, next: 0, remembered: 0, cookies: Box::default() }
    }

    /// The route.
    pub fn route(&self) -> RouteId {
        self.route
    }

    /// The use of the route id.
    pub fn epoch(&self) -> RouteEpoch {
        self.epoch
    }

    /// The pipe sequence number of the next packet. `cookie` is how the caller finds that packet again.
    pub fn next(&mut self, cookie: u64) -> u16 {
        if self.cookies.is_empty() {
            self.cookies = vec![0; usize::from(REPAIR_WINDOW)].into_boxed_slice();
        }
        let seq = self.next;
        if let Some(slot) = self.cookies.get_mut(usize::from(seq % REPAIR_WINDOW)) {
            *slot = cookie;
        }
        self.next = seq.wrapping_add(1);
        self.remembered = (self.remembered + 1).min(REPAIR_WINDOW);
        seq
    }

    /// None of the packets can be had again, and others may be long in coming: forgets them, and gives the memory back.
    /// Numbers go on.
    pub fn forget(&mut self) {
        self.remembered = 0;
        self.cookies = Box::default();
    }

    /// The packets that a `Nack` asks for and that are still remembered, with their cookies. The caller sends them with
    /// [`FrameFlags::retransmission`](crate::FrameFlags) set. Numbers never sent or too old are left out.
    pub fn on_nack<'a>(&'a self, seqs: &'a [u16]) -> impl Iterator<Item = (u16, u64)> + 'a {
        seqs.iter().take(usize::from(REPAIR_WINDOW)).filter_map(|&seq| {
            let age = self.next.wrapping_sub(seq);
            if age == 0 || age > self.remembered {
                return None;
            }
            self.cookies.get(usize::from(seq % REPAIR_WINDOW)).map(|&cookie| (seq, cookie))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_sent_and_nothing_else() {
        let mut sender = RouteSender::new(RouteId(1), RouteEpoch(0));
        assert_eq!(sender.on_nack(&[0, 1, 65535]).count(), 0);
        for cookie in 100..105 {
            sender.next(cookie);
        }
        let found: Vec<_> = sender.on_nack(&[0, 3, 4, 5, 65535]).collect();
        assert_eq!(found, [(0, 100), (3, 103), (4, 104)]);
    }

    #[test]
    fn what_is_forgotten_is_not_found_and_numbers_go_on() {
        let mut sender = RouteSender::new(RouteId(1), RouteEpoch(0));
        for round in 0..3_u16 {
            assert!(sender.cookies.is_empty());
            for seq in round * 2_000..(round + 1) * 2_000 {
                assert_eq!(sender.next(seq.into()), seq);
            }
            let newest = (round + 1) * 2_000 - 1;
            assert_eq!(sender.on_nack(&[newest]).collect::<Vec<_>>(), [(newest, newest.into())]);
            sender.forget();
            assert_eq!(sender.on_nack(&[newest, newest - 1, newest.wrapping_add(1)]).count(), 0);
        }
    }

    #[test]
    fn forgets_beyond_the_window_and_wraps() {
        let mut sender = RouteSender::new(RouteId(1), RouteEpoch(0));
        for cookie in 0..70_000_u64 {
            assert_eq!(sender.next(cookie), cookie as u16);
        }
        let newest = 69_999_u64 as u16;
        let oldest = newest.wrapping_sub(REPAIR_WINDOW - 1);
        let found: Vec<_> = sender.on_nack(&[oldest.wrapping_sub(1), oldest, newest]).collect();
        assert_eq!(found, [(oldest, 70_000 - u64::from(REPAIR_WINDOW)), (newest, 69_999)]);
    }
}
