//! The streams of one client's association, by which its data channels are told apart.

use std::collections::HashSet;

/// Which streams are used. One that ended is used again as late as can be: its reset (RFC 6525) has to reach the client
/// first.
#[derive(Debug)]
pub(super) struct Streams {
    /// How many there are.
    limit: u16,
    used: HashSet<u16>,
    next: u16,
}

impl Streams {
    pub(super) fn new(limit: u16) -> Self {
        Self { limit, used: HashSet::new(), next: 0 }
    }

    /// One that is free; `None` if all are used.
    pub(super) fn take(&mut self) -> Option<u16> {
        if self.used.len() >= self.limit.into() {
            return None;
        }
        let free = (self.next..self.limit).chain(0..self.next).find(|stream| !self.used.contains(stream))?;
        self.next = if free + 1 < self.limit { free + 1 } else { 0 };
        self.used.insert(free);
        Some(free)
    }

    /// Takes one that the client chose. Whether it was free.
    pub(super) fn reserve(&mut self, stream: u16) -> bool {
        stream < self.limit && self.used.insert(stream)
    }

    pub(super) fn give_back(&mut self, stream: u16) {
        self.used.remove(&stream);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_used_once_and_again_as_late_as_can_be() {
        let mut streams = Streams::new(3);
        assert!(streams.reserve(1) && !streams.reserve(1) && !streams.reserve(3));
        assert_eq!([streams.take(), streams.take(), streams.take()], [Some(0), Some(2), None]);
        streams.give_back(2);
        streams.give_back(0);
        assert_eq!([streams.take(), streams.take(), streams.take()], [Some(0), Some(2), None]);
        streams.give_back(0);
        streams.give_back(1);
        assert_eq!(streams.take(), Some(0), "the one after the latest that is free");
    }
}
