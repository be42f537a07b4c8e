//! What the control planes do for rooms: who is told of which producer, and what is opened and closed for that.

use std::collections::BTreeMap;
use std::rc::Rc;

use sluice_loadtest::scenario::Watch;
use sluice_media::messages::{Account, Request};
use sluice_proto::ids::{ConsumerId, ProducerId, RouterId};
use sluice_proto::ortc::MediaKind;

use super::run::{Happening, Run};
use super::users::Reception;
use crate::mesh::Source;

pub(super) struct Producer {
    pub(super) source: Source,
    pub(super) room: String,
    /// The publisher's number in the plan.
    pub(super) user: usize,
}

/// All rooms on all nodes.
pub(super) struct Rooms {
    pub(super) producers: BTreeMap<ProducerId, Rc<Producer>>,
    /// What each node knows of those in its rooms, which is what it was told last.
    known: BTreeMap<(usize, ProducerId), Rc<Producer>>,
    /// Of each node, by room.
    pub(super) routers: Vec<BTreeMap<String, RouterId>>,
}

impl Rooms {
    pub(super) fn new(nodes: usize) -> Self {
        Self { producers: BTreeMap::new(), known: BTreeMap::new(), routers: vec![BTreeMap::new(); nodes] }
    }

    /// All that a node knew is gone with it.
    pub(super) fn forget_node(&mut self, node: usize) {
        self.routers[node].clear();
        self.known.retain(|(of, _), _| *of != node);
    }

    fn known_to(&self, node: usize, is_meant: impl Fn(&Producer) -> bool) -> Vec<Rc<Producer>> {
        let known = self.known.iter().filter(|((of, _), producer)| *of == node && is_meant(producer));
        known.map(|(_, producer)| producer.clone()).collect()
    }

    /// What there is on a node that another does not know of yet.
    fn news(&self, node: usize, from: usize) -> Vec<Rc<Producer>> {
        let is_news = |producer: &&Rc<Producer>| {
            producer.source.home == from
                && self.routers[node].contains_key(&producer.room)
                && !self.known.contains_key(&(node, producer.source.producer))
        };
        self.producers.values().filter(is_news).cloned().collect()
    }
}

impl Run {
    /// The router of a room, made for the first of its users on a node, which then asks the other nodes.
    pub(super) fn enter(&mut self, node: usize, room: &str) -> RouterId {
        if let Some(router) = self.rooms.routers[node].get(room) {
            return *router;
        }
        let router = RouterId::from_random_bytes(self.draw());
        self.mesh.request(node, Request::CreateRouter { router, account: Account(0) }).expect("a new router");
        self.rooms.routers[node].insert(room.to_owned(), router);
        for from in (0..self.mesh.len()).filter(|from| *from != node) {
            self.tell(from, node);
        }
        router
    }

    /// Something changed on a node: there it is known at once, elsewhere when word has come there.
    pub(super) fn announce(&mut self, node: usize) {
        self.hear(node, node);
        for other in (0..self.mesh.len()).filter(|other| *other != node) {
            self.tell(node, other);
        }
    }

    /// One node sends word to another. What is lost in a cut is made up for when it heals.
    pub(super) fn tell(&mut self, from: usize, node: usize) {
        if !self.mesh.is_running(from) {
            return;
        }
        if let Some(at) = self.mesh.control_passage(from, node) {
            self.mesh.schedule(at, Happening::Hear { node, from });
        }
    }

    pub(super) fn hear(&mut self, node: usize, from: usize) {
        let gone = self.rooms.known_to(node, |producer| {
            producer.source.home == from && !self.rooms.producers.contains_key(&producer.source.producer)
        });
        for producer in gone {
            self.forget(node, &producer);
        }
        for producer in self.rooms.news(node, from) {
            self.rooms.known.insert((node, producer.source.producer), producer.clone());
            for user in self.users_of(node, &producer.room) {
                self.offer(user, &producer);
            }
        }
    }

    pub(super) fn offer_everything(&mut self, user: usize) {
        let planned = &self.plan.users[user];
        let (node, room) = (planned.node, planned.room.clone());
        for producer in self.rooms.known_to(node, |producer| producer.room == room) {
            self.offer(user, &producer);
        }
    }

    /// Lets a user receive a producer. What it does not want to watch stays paused.
    fn offer(&mut self, user: usize, producer: &Producer) {
        let node = self.plan.users[user].node;
        let wanted = self.is_wanted(user, producer);
        let Some(present) = self.seats[user].present.as_mut().filter(|_| producer.user != user) else { return };
        let Some((address, transport)) = present.receiving else { return };
        let Source { producer: id, kind, .. } = producer.source;
        let (mid, ssrc) = present.next_stream();
        let told = self.negotiation.consume(&producer.source.rtp, mid, ssrc);
        present.receptions.insert(id, Reception { ssrc, kind });

        self.mesh.open_route(&producer.source, node, self.rooms.routers[node][&producer.room]);
        let consumer = ConsumerId::from_random_bytes(self.draw());
        let request = Request::Consume { transport, consumer, producer: id, kind, rtp: told.node, paused: true };
        self.mesh.request(node, request).expect("a new consumer");
        let parameters = told.client.to_receive().expect("the parameters are whole");
        self.drive(address, |session, now| {
            session.receive(now, parameters);
            session.set_transport_cc(told.client.transport_cc());
            session.set_stream_paused(now, ssrc, !wanted);
        });
        if wanted {
            self.mesh.request(node, Request::ResumeConsumer { consumer }).expect("it exists");
        }
    }

    fn is_wanted(&self, user: usize, producer: &Producer) -> bool {
        let (kind, planned) = (producer.source.kind, &self.plan.users[user].kind);
        let watch = if kind == MediaKind::Video { planned.watch_video } else { planned.watch_audio };
        match watch {
            Watch::All => true,
            Watch::None => false,
            Watch::First(most) => {
                let receptions = self.seats[user].present.iter().flat_map(|present| present.receptions.values());
                receptions.filter(|reception| reception.kind == kind).count() < most as usize
            }
        }
    }

    /// A producer is no more: whoever received it on this node is told.
    fn forget(&mut self, node: usize, producer: &Producer) {
        let id = producer.source.producer;
        self.rooms.known.remove(&(node, id));
        self.mesh.close_route(id, node);
        for user in self.users_of(node, &producer.room) {
            let Some(present) = &mut self.seats[user].present else { continue };
            let (Some(reception), Some((address, _))) = (present.receptions.remove(&id), present.receiving) else {
                continue;
            };
            self.drive(address, |session, now| session.stop_receiving(now, reception.ssrc));
        }
    }

    /// A user has left a node: what nobody there needs any more is given back.
    pub(super) fn give_back(&mut self, node: usize, room: &str) {
        let users = self.users_of(node, room);
        for producer in self.rooms.known_to(node, |producer| producer.room == room) {
            let id = producer.source.producer;
            let receives = |user: &usize| {
                let present = self.seats[*user].present.as_ref();
                present.is_some_and(|present| present.receptions.contains_key(&id))
            };
            if users.is_empty() {
                self.forget(node, &producer);
            } else if !users.iter().any(receives) {
                self.mesh.close_route(id, node);
            }
        }
        if users.is_empty()
            && let Some(router) = self.rooms.routers[node].remove(room)
        {
            self.mesh.request(node, Request::CloseRouter { router }).expect("it exists");
        }
    }

    /// Those who are in a room on a node.
    fn users_of(&self, node: usize, room: &str) -> Vec<usize> {
        let is_there = |user: &usize| {
            let planned = &self.plan.users[*user];
            planned.node == node && planned.room == room && self.seats[*user].present.is_some()
        };
        (0..self.seats.len()).filter(is_there).collect()
    }
}
