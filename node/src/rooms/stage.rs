//! Of whom everybody in a room is told: in a small room of everybody, in a large one of those who publish. Whoever has
//! been told of stays so until it leaves.

use sluice_proto::ids::PeerId;

use super::api::PeerInfo;
use super::room::Room;

impl Room {
    /// Whether everybody is told of everybody.
    pub(super) fn is_small(&self) -> bool {
        self.size() <= self.context.limits.small_room
    }

    /// Joined peers, wherever they are.
    fn size(&self) -> usize {
        self.peers.joined_count() + self.elsewhere.len()
    }

    /// Tells everybody of a peer, who publishes or is in a small room.
    pub(super) fn show(&self, peer: &PeerId) {
        if !self.view.shows(peer)
            && let Some(info) = self.info(peer)
        {
            self.view.show(info);
        }
    }

    /// Tells everybody of a peer that came, unless the room is large.
    pub(super) fn show_if_small(&self, peer: &PeerId) {
        if self.is_small() {
            self.show(peer);
        }
    }

    /// Tells those who know of a peer that it left. A room that becomes small by it has not many to tell of.
    pub(super) fn hide(&self, peer: &PeerId) {
        self.view.remove(peer);
        if self.is_small() && self.view.len() < self.size() {
            self.peers.joined_ids().for_each(|peer| self.show(peer));
            self.elsewhere.peers().for_each(|(peer, _)| self.show(peer));
        }
    }

    /// `None` of one whom nobody is told of.
    fn info(&self, peer: &PeerId) -> Option<PeerInfo> {
        self.local_info(peer).or_else(|| Some(self.remote_info(peer, self.elsewhere.peer(peer)?)))
    }
}
