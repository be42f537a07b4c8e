//! What a user sends and receives.

use serde_json::{Value, json};
use sluice_loadtest::media::{AudioSource, Source, VideoSource};
use sluice_loadtest::signalling::demo_v3::NewConsumer;
use sluice_loadtest::signalling::ortc::{Kind, RtpParameters, send_parameters};
use tokio::time::Instant;

use super::super::access::Access;
use super::{Asked, Presence, RECEIVING, SENDING, name};

/// Pictures of two packets, and key frames of several.
const VIDEO: VideoSource =
    VideoSource { packet_bytes: 400, ..VideoSource::constant(std::time::Duration::from_millis(100), 600, 1_500) };

/// Something that a user sends.
pub(in super::super) struct Production {
    /// As the node calls it, once it has answered.
    pub(in super::super) id: Option<String>,
    pub(in super::super) kind: Kind,
    ssrc: u32,
    pub(in super::super) paused: bool,
}

/// Something that a user receives.
#[derive(Debug)]
pub(in super::super) struct Consumer {
    pub(in super::super) producer: String,
    pub(in super::super) peer: String,
    pub(in super::super) kind: Kind,
    pub(in super::super) ssrc: u32,
    /// Its producer is, as far as the user was told.
    pub(in super::super) producer_paused: bool,
    /// The user does not want it for the time being.
    pub(in super::super) paused: bool,
}

impl Presence {
    /// Begins to send.
    pub(in super::super) fn produce(&mut self, kind: Kind, access: &mut Access) {
        let Some(lane) = self.lanes[SENDING].as_ref().filter(|lane| self.joined && lane.connected) else { return };
        let transport = lane.transport.clone();
        self.next_mid += 1;
        let (mid, cname) = (self.next_mid.to_string(), name(self.number));
        let rtp = send_parameters(&self.router, (source(kind).codec(), 1), &mid, &cname, &mut access.rng).unwrap();
        let data = json!({"transportId": transport, "kind": kind, "rtpParameters": rtp, "appData": {}});
        let ssrc = rtp.encodings[0].ssrc.unwrap();
        self.productions.push(Production { id: None, kind, ssrc, paused: false });
        self.ask("produce", data, Asked::Produce { ssrc, rtp: Box::new(rtp) });
    }

    pub(super) fn on_produced(&mut self, ssrc: u32, rtp: &RtpParameters, id: &str, access: &mut Access) {
        let production = self.productions.iter_mut().find(|production| production.ssrc == ssrc).unwrap();
        production.id = Some(id.to_owned());
        let parameters = rtp.to_send().unwrap();
        let (now, seed) = (Instant::now().into_std(), access.draw());
        if let Some(lane) = &mut self.lanes[SENDING] {
            lane.session.publish(now, parameters.into_iter().zip([source(production.kind)]), seed);
        }
    }

    /// Ends something that is sent.
    pub(in super::super) fn close(&mut self, index: usize) {
        let Some(id) = self.productions[index].id.clone() else { return };
        let ssrc = self.productions.remove(index).ssrc;
        if let Some(lane) = &mut self.lanes[SENDING] {
            lane.session.unpublish(Instant::now().into_std(), ssrc);
        }
        self.ask("closeProducer", json!({"producerId": id}), Asked::Done);
    }

    /// Pauses something that is sent, or goes on with it.
    pub(in super::super) fn toggle(&mut self, index: usize) {
        let production = &mut self.productions[index];
        let Some(id) = production.id.clone() else { return };
        production.paused = !production.paused;
        let (paused, ssrc) = (production.paused, production.ssrc);
        if let Some(publisher) = self.lanes[SENDING].as_mut().and_then(|lane| lane.session.publisher_mut(ssrc)) {
            publisher.set_paused(paused);
        }
        let method = if paused { "pauseProducer" } else { "resumeProducer" };
        self.ask(method, json!({"producerId": id}), Asked::Done);
    }

    /// Pauses something that is received, or goes on with it.
    pub(in super::super) fn toggle_consumer(&mut self, id: &str) {
        let Some(consumer) = self.consumers.get_mut(id) else { return };
        consumer.paused = !consumer.paused;
        let method = if consumer.paused { "pauseConsumer" } else { "resumeConsumer" };
        self.ask(method, json!({"consumerId": id}), Asked::Perhaps);
        self.apply_pause(id);
    }

    pub(super) fn on_new_consumer(&mut self, new: NewConsumer) {
        let (now, user) = (Instant::now().into_std(), self.number);
        assert_ne!(new.peer_id, name(user), "nobody receives themselves");
        let parameters = new.rtp_parameters.to_receive().unwrap();
        let ssrc = parameters.ssrc;
        let lane = self.lanes[RECEIVING].as_mut().expect("consumers come after the transport");
        lane.session.receive(now, parameters);
        lane.session.set_transport_cc(new.rtp_parameters.transport_cc());
        let consumer = Consumer {
            producer: new.producer_id,
            peer: new.peer_id,
            kind: new.kind,
            ssrc,
            producer_paused: new.producer_paused,
            paused: false,
        };
        let former = self.consumers.values().find(|former| former.producer == consumer.producer);
        assert!(former.is_none(), "user {user} is told of {consumer:?} beside {former:?}");
        self.consumers.insert(new.id.clone(), consumer);
        self.apply_pause(&new.id);
    }

    pub(super) fn on_notification(&mut self, method: &str, data: &Value) {
        let text = |field: &str| data[field].as_str().unwrap().to_owned();
        match method {
            "newPeer" => assert!(self.peers.insert(text("id")), "user {} is told of {data} again", self.number),
            "peerClosed" => {
                assert!(self.peers.remove(&text("peerId")), "user {} is told of the end of {data}", self.number)
            }
            "consumerClosed" => {
                let consumer = self.consumers.remove(&text("consumerId"));
                if let (Some(Consumer { ssrc, .. }), Some(lane)) = (consumer, &mut self.lanes[RECEIVING]) {
                    lane.session.stop_receiving(Instant::now().into_std(), ssrc);
                }
            }
            "consumerPaused" | "consumerResumed" => {
                let id = text("consumerId");
                if let Some(consumer) = self.consumers.get_mut(&id) {
                    consumer.producer_paused = method == "consumerPaused";
                    self.apply_pause(&id);
                }
            }
            _ => {}
        }
    }

    fn apply_pause(&mut self, id: &str) {
        let Consumer { ssrc, producer_paused, paused, .. } = self.consumers[id];
        if let Some(lane) = &mut self.lanes[RECEIVING] {
            lane.session.set_stream_paused(Instant::now().into_std(), ssrc, producer_paused || paused);
        }
    }
}

fn source(kind: Kind) -> Source {
    match kind {
        Kind::Audio => Source::Audio(AudioSource::default()),
        Kind::Video => Source::Video(VIDEO),
    }
}
