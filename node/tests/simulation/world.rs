//! Nodes, and clients that are given their keys, on virtual time. All chance comes out of one seed: the same seed is
//! the same run, to the last encrypted byte.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use sluice_media::make_ufrag;
use sluice_media::messages::{Account, Request, WorkerIndex};
use sluice_media::secure::ice::IceCredentials;
use sluice_mesh::wan::ImpairmentConfig;
use sluice_proto::ids::{ConsumerId, ProducerId, RouterId};
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::{FeedbackBody, Layers, RouteFeedback};

use crate::client::{Client, Connection};
use crate::mesh::{Mesh, Route, Source, UserEvent};
use crate::parameters::{self, Ssrcs};
use crate::publication::Publication;
use crate::subscription::Subscription;

/// Room for frames in a datagram of a pipe: so little that many packets are cut in two, as at a small MTU.
const MAX_PIPE_DATAGRAM: usize = 280;

pub(crate) enum Happening {
    Publish { publication: usize },
    ClientTick { client: usize },
    Act { action: usize },
}

pub(crate) struct World {
    pub(crate) mesh: Mesh<Happening>,
    /// Of each node.
    pub(crate) routers: Vec<RouterId>,
    pub(crate) clients: Vec<Client>,
    pub(crate) publications: Vec<Publication>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) client_path: ImpairmentConfig,
    /// Nothing is published any more.
    pub(crate) quiet: bool,
    port: u16,
    next_ssrc: u32,
}

impl World {
    pub(crate) fn new(seed: u64, nodes: usize, pipe: ImpairmentConfig, client_path: ImpairmentConfig) -> Self {
        let mut mesh = Mesh::new(seed, nodes, pipe, MAX_PIPE_DATAGRAM);
        let routers = (0..nodes)
            .map(|node| {
                let router = RouterId::from_random_bytes(mesh.rng.random());
                mesh.request(node, Request::CreateRouter { router, account: Account(0) }).expect("a new router");
                router
            })
            .collect();
        Self {
            mesh,
            routers,
            clients: Vec::new(),
            publications: Vec::new(),
            subscriptions: Vec::new(),
            client_path,
            quiet: false,
            port: 10_000,
            next_ssrc: 1_000,
        }
    }

    /// Lets time pass.
    pub(crate) fn run_until(&mut self, end: Duration, mut act: impl FnMut(&mut Self, usize)) {
        while let Some(event) = self.mesh.next(end) {
            match event {
                UserEvent::Datagram { address, data } => self.client_receives(address, data),
                UserEvent::Own(Happening::Publish { publication }) => self.publish(publication),
                UserEvent::Own(Happening::ClientTick { client }) => self.client_tick(client),
                UserEvent::Own(Happening::Act { action }) => act(self, action),
            }
        }
    }

    pub(crate) fn connection(&mut self, address: SocketAddr) -> Option<&mut Connection> {
        let index = usize::from(address.port()).checked_sub(10_000)?;
        let client = self.clients.get_mut(index / 2)?;
        Some(if index % 2 == 0 { &mut client.sending } else { &mut client.receiving })
    }

    pub(crate) fn add_client(&mut self, node: usize) -> usize {
        let (sending, receiving) = (self.connect(node), self.connect(node));
        self.clients.push(Client { sending, receiving, next_mid: 0 });
        let client = self.clients.len() - 1;
        self.mesh.schedule(self.mesh.now + Duration::from_millis(10), Happening::ClientTick { client });
        client
    }

    fn connect(&mut self, node: usize) -> Connection {
        let address = SocketAddr::from(([10, 0, 0, 1], self.port));
        self.port += 1;
        self.mesh.connect(address, node, self.client_path, self.client_path);
        let (connection, keys) = Connection::new(&mut self.mesh.rng, node, address);
        let (router, transport) = (self.routers[node], connection.transport);
        let random: u64 = self.mesh.rng.random();
        let ice = IceCredentials { ufrag: make_ufrag(WorkerIndex(0), &format!("{random:016x}")), pwd: "p".repeat(24) };
        self.mesh
            .request(node, Request::CreateWebRtcTransport { router, transport, ice, data_channels: true })
            .expect("a new transport");
        self.mesh.request(node, Request::ConnectWithSrtpKeys { transport, keys }).expect("it is not connected yet");
        connection
    }

    pub(crate) fn add_publication(&mut self, client: usize, kind: MediaKind) -> usize {
        let (ssrcs, mapped) = (self.ssrcs(), self.ssrcs().media);
        let id = ProducerId::from_random_bytes(self.mesh.rng.random());
        let mid = self.next_mid(client);
        let random = self.mesh.rng.random();
        let Connection { node, transport, .. } = self.clients[client].sending;
        let rtp = parameters::client(kind, &mid, ssrcs);
        let request = Request::Produce {
            transport,
            producer: id,
            kind,
            rtp,
            mapping: parameters::mapping(mapped),
            paused: false,
        };
        self.mesh.request(node, request).expect("a new producer");
        self.publications.push(Publication::new(id, client, kind, mid, ssrcs, random));
        let publication = self.publications.len() - 1;
        self.mesh.schedule(self.mesh.now, Happening::Publish { publication });
        publication
    }

    pub(crate) fn next_mid(&mut self, client: usize) -> String {
        self.clients[client].next_mid += 1;
        self.clients[client].next_mid.to_string()
    }

    fn ssrcs(&mut self) -> Ssrcs {
        self.next_ssrc += 2;
        Ssrcs { media: self.next_ssrc, rtx: self.next_ssrc + 1 }
    }

    /// Lets a client receive a publication, over a pipe if it is on another node.
    pub(crate) fn add_subscription(&mut self, client: usize, publication: usize) -> usize {
        let Connection { node, transport, .. } = self.clients[client].receiving;
        let (producer, kind) = (self.publications[publication].id, self.publications[publication].kind);
        self.ensure_route(publication, node);
        let (consumer, ssrcs) = (ConsumerId::from_random_bytes(self.mesh.rng.random()), self.ssrcs());
        let mid = self.next_mid(client);
        let rtp = parameters::router(kind, &mid, ssrcs);
        self.mesh
            .request(node, Request::Consume { transport, consumer, producer, kind, rtp, paused: true })
            .expect("a new consumer");
        self.mesh.request(node, Request::ResumeConsumer { consumer }).expect("it exists");
        let mut subscription = Subscription::new(consumer, client, publication, mid, ssrcs);
        // It may begin with what was repaired of the time before the pause.
        subscription.allowed_jumps += usize::from(self.publications[publication].was_paused);
        self.subscriptions.push(subscription);
        self.subscriptions.len() - 1
    }

    /// The node that a publication's publisher is on.
    pub(crate) fn home(&self, publication: usize) -> usize {
        self.clients[self.publications[publication].client].sending.node
    }

    fn ensure_route(&mut self, publication: usize, node: usize) {
        let Publication { id: producer, kind, .. } = self.publications[publication];
        let rtp = parameters::router(kind, "0", Ssrcs { media: 77, rtx: 78 });
        let source = Source { producer, kind, rtp, home: self.home(publication) };
        self.mesh.open_route(&source, node, self.routers[node]);
    }

    /// What a pipe's sending end says to its receiving end about a publication's route.
    pub(crate) fn say_carried(&mut self, publication: usize, node: usize, carried: Option<Layers>) {
        let Route { id, epoch, home } = self.mesh.routes[&(self.publications[publication].id, node)];
        let feedback = RouteFeedback { route: id.0, epoch: epoch.0, body: FeedbackBody::LayersCarried(carried) };
        self.mesh.say_feedback(home, node, feedback);
    }

    /// Ends a route from its receiving end, its consumers too.
    pub(crate) fn close_route(&mut self, publication: usize, node: usize) {
        if !self.mesh.close_route(self.publications[publication].id, node) {
            return;
        }
        let clients = &self.clients;
        for subscription in &mut self.subscriptions {
            if subscription.publication == publication && clients[subscription.client].receiving.node == node {
                subscription.closed = true;
            }
        }
    }
}
