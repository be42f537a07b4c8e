//! A user of a crowd: a seat, what was asked for over it, and what its reader believes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::FutureExt;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use sluice_proto::ids::{ConsumerId, NamespaceId, PeerId, ProducerId, RoomId, RoomKey, TransportId};
use sluice_proto::ortc::MediaKind;
use tokio::time::Instant;

use crate::ortc::{parse_rtp_capabilities, parse_rtp_parameters};
use crate::rooms::api::{Census, Join, Notice, PeerReply, PeerRequest, Refusal, Subscription};
use crate::rooms::seat::{Answer, News, Seat};
use crate::tests::rtp;

/// The last so many users are in a small room.
const IN_SMALL_ROOM: u64 = 8;

/// One in so many publishes now and then, one in so many receives, and one in so many wants the stage alone.
const STARS: u64 = 25;
const RECEIVERS: u64 = 20;
const OF_STAGE: u64 = 5;

pub(super) struct User {
    pub(super) id: PeerId,
    pub(super) room: RoomKey,
    pub(super) is_star: bool,
    pub(super) receives: bool,
    pub(super) subscription: Subscription,
    pub(super) presence: Option<Presence>,
    pub(super) secret: Option<String>,
    /// When the user comes.
    pub(super) comes_at: Option<Instant>,
}

impl User {
    pub(super) fn new(number: u64, rng: &mut ChaCha8Rng, comes_at: Instant) -> Self {
        let room = if number < IN_SMALL_ROOM { "small" } else { "large" };
        Self {
            id: PeerId::new(format!("user-{number:04}")).unwrap(),
            room: RoomKey { namespace: NamespaceId::new("default").unwrap(), room: RoomId::new(room).unwrap() },
            is_star: number % STARS == 1,
            receives: rng.random_ratio(1, RECEIVERS as u32),
            subscription: match rng.random_ratio(1, OF_STAGE as u32) {
                true => Subscription::Stage,
                false => Subscription::Everything,
            },
            presence: None,
            secret: None,
            comes_at: Some(comes_at),
        }
    }

    /// Reads what is news, if it is time. True if the session is over by it.
    pub(super) async fn look(&mut self) -> bool {
        let Some(presence) = &mut self.presence else { return false };
        let over = presence.look(&self.id, &mut self.secret).await.is_err();
        if over {
            self.presence = None;
        }
        over
    }
}

/// A session that is over.
#[derive(Debug)]
pub(super) struct Over;

pub(super) struct Presence {
    pub(super) node: usize,
    seat: Seat,
    joining: Option<Answer>,
    pub(super) is_joined: bool,
    pub(super) receives: bool,
    pub(super) subscription: Subscription,
    pub(super) name: String,
    pub(super) producer: Option<ProducerId>,
    transport: Option<TransportId>,
    pub(super) is_asked: bool,
    pub(super) was_on_stage: bool,
    /// Who is there, as far as the user was told, by id.
    pub(super) peers: BTreeMap<PeerId, String>,
    /// Of whom each comes.
    pub(super) consumers: BTreeMap<ConsumerId, PeerId>,
    pub(super) census: Option<Census>,
    /// How often it looks.
    pace: Duration,
    looks_at: Instant,
}

impl Presence {
    /// Asks to join.
    pub(super) async fn open(
        node: usize,
        seat: Seat,
        (receives, subscription): (bool, Subscription),
        rng: &mut ChaCha8Rng,
    ) -> Self {
        let pace = match rng.random_range(0..20) {
            0 => 8_000,
            1..4 => 1_000,
            _ => 50,
        };
        let mut presence = Self {
            node,
            seat,
            joining: None,
            is_joined: false,
            receives,
            subscription,
            name: "a name".to_owned(),
            producer: None,
            transport: None,
            is_asked: false,
            was_on_stage: false,
            peers: BTreeMap::new(),
            consumers: BTreeMap::new(),
            census: None,
            pace: Duration::from_millis(pace),
            looks_at: Instant::now(),
        };
        if receives {
            // Of a room that takes nobody this comes to nothing.
            let _ = presence
                .ask(PeerRequest::CreateTransport { consuming: true, force_tcp: false, data_streams: None })
                .await;
        }
        let join = Join {
            display_name: presence.name.clone(),
            device: json!({"name": "a device"}),
            rtp_capabilities: receives.then(|| parse_rtp_capabilities(rtp::capabilities()).unwrap()),
            subscription,
            adapts_encodings: false,
        };
        presence.joining = presence.seat.ask(PeerRequest::Join(Box::new(join))).await.ok();
        presence
    }

    async fn ask(&self, request: PeerRequest) -> Result<PeerReply, Refusal> {
        let over = || Refusal::new(410, "it is over");
        self.seat.ask(request).await.map_err(|_| over())?.await.map_err(|_| over())?
    }

    /// Publishes, or ceases to. A session that ends meanwhile does neither.
    pub(super) async fn toggle_producer(&mut self) {
        if let Some(producer) = self.producer {
            if self.ask(PeerRequest::CloseProducer { producer }).await.is_ok() {
                self.producer = None;
            }
            return;
        }
        if self.transport.is_none()
            && let Ok(PeerReply::Transport(new)) =
                self.ask(PeerRequest::CreateTransport { consuming: false, force_tcp: false, data_streams: None }).await
        {
            self.transport = Some(new.id);
        }
        let Some(transport) = self.transport else { return };
        let rtp = Box::new(parse_rtp_parameters(rtp::opus(1)).unwrap());
        let request = PeerRequest::Produce { transport, kind: MediaKind::Audio, rtp, app_data: json!({}) };
        if let Ok(PeerReply::Produced(producer)) = self.ask(request).await {
            self.producer = Some(producer);
            self.was_on_stage = true;
        }
    }

    pub(super) async fn rename(&mut self, name: String) {
        let request = PeerRequest::ChangeDisplayName { display_name: name.clone() };
        if self.ask(request).await.is_ok() {
            self.name = name;
        }
    }

    async fn look(&mut self, id: &PeerId, secret: &mut Option<String>) -> Result<(), Over> {
        if let Some(answer) = self.joining.take_if(|_| true) {
            self.hear_answer(answer, id, secret)?;
        }
        let now = Instant::now();
        if now < self.looks_at {
            return Ok(());
        }
        self.looks_at = now + self.pace;
        while let Some(news) = self.seat.news().now_or_never() {
            self.hear(news.map_err(|_| Over)?, id).await?;
        }
        Ok(())
    }

    fn hear_answer(&mut self, mut answer: Answer, id: &PeerId, secret: &mut Option<String>) -> Result<(), Over> {
        use tokio::sync::oneshot::error::TryRecvError;
        match answer.try_recv() {
            Ok(Ok(PeerReply::Joined { others, secret: new, .. })) => {
                self.peers = others.peers.iter().map(|peer| (peer.id.clone(), peer.display_name.clone())).collect();
                assert!(!self.peers.contains_key(id), "nobody is told of themselves");
                self.is_joined = true;
                *secret = Some(new.text().to_owned());
            }
            Err(TryRecvError::Empty) => self.joining = Some(answer),
            Ok(_) | Err(TryRecvError::Closed) => return Err(Over),
        }
        Ok(())
    }

    async fn hear(&mut self, news: News, id: &PeerId) -> Result<(), Over> {
        if news.close.is_some() {
            return Err(Over);
        }
        for probe in news.probes {
            // Whoever asked may have given up.
            let _ = probe.send(());
        }
        for notice in news.closed {
            let Notice::ConsumerClosed { consumer } = notice else { panic!("{notice:?}") };
            assert!(self.consumers.remove(&consumer).is_some(), "a consumer goes once");
        }
        for announcement in news.announcements {
            self.hear_notice(announcement.notice(), id);
        }
        for question in news.questions {
            let peer = question.peer.clone().expect("a peer sends it");
            assert!(self.peers.contains_key(&peer), "{id} hears of {peer} before what it sends");
            assert!(self.consumers.insert(question.id, peer).is_none(), "a consumer comes once");
            self.seat.answer(question.id, true).await.map_err(|_| Over)?;
        }
        Ok(())
    }

    fn hear_notice(&mut self, notice: &Notice, id: &PeerId) {
        match notice {
            Notice::NewPeer(info) => {
                let before = self.peers.insert(info.id.clone(), info.display_name.clone());
                assert_eq!(before, None, "{id} is told of {} twice", info.id);
            }
            Notice::PeerClosed { peer } => {
                assert!(self.peers.remove(peer).is_some(), "{id} is told that {peer} went, of whom it never heard");
            }
            Notice::PeerRenamed { info, .. } => {
                let name = self.peers.get_mut(&info.id);
                *name.unwrap_or_else(|| panic!("{id} never heard of {}", info.id)) = info.display_name.clone();
            }
            Notice::Audience(census) => self.census = Some(census.clone()),
            other => panic!("{id} is told {other:?}"),
        }
    }
}
