//! Workers' events that must reach a room whose mailbox is full. They wait here, so that the other rooms' events need not.

use std::collections::HashMap;
use std::mem::discriminant;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use sluice_proto::ids::TransportId;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::TrySendError;

use super::context::RoomSender;
use super::room::RoomMessage;
use crate::data_plane::messages::WorkerEvent;

/// A place in a room's mailbox, or `None` when the room has ended.
type Place = (TransportId, Option<OwnedPermit<RoomMessage>>);

/// News of transports for rooms that are busy. Of each transport no more than the latest of each kind is kept, for it says all that
/// counts: so this is bounded by the transports of the node, and nothing of it is ever lost.
#[derive(Default)]
pub(super) struct Waiting {
    news: HashMap<TransportId, Vec<WorkerEvent>>,
    places: FuturesUnordered<BoxFuture<'static, Place>>,
}

impl Waiting {
    /// Hands an event to its room, now if it can take it, else when it can.
    pub(super) fn deliver(&mut self, room: &RoomSender, transport: TransportId, event: WorkerEvent) {
        if let Some(news) = self.news.get_mut(&transport) {
            let kind = discriminant(&event);
            news.retain(|former| discriminant(former) != kind);
            news.push(event);
            return;
        }
        // One that has ended has no transports.
        if let Err(TrySendError::Full(RoomMessage::Worker(event))) = room.try_send(RoomMessage::Worker(event)) {
            self.news.insert(transport, vec![event]);
            self.wait(room.clone(), transport);
        }
    }

    /// Waits for a busy room to take some of what waits for it, while there is such a room.
    pub(super) async fn go_on(&mut self) {
        match self.places.next().await {
            Some((transport, place)) => self.take_place(transport, place),
            None => std::future::pending().await,
        }
    }

    fn wait(&mut self, room: RoomSender, transport: TransportId) {
        self.places.push(Box::pin(async move { (transport, room.reserve_owned().await.ok()) }));
    }

    fn take_place(&mut self, transport: TransportId, place: Option<OwnedPermit<RoomMessage>>) {
        let Some(mut news) = self.news.remove(&transport) else { return };
        let Some(place) = place else { return };
        let room = place.send(RoomMessage::Worker(news.remove(0)));
        if !news.is_empty() {
            self.news.insert(transport, news);
            self.wait(room, transport);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::data_plane::messages::{DtlsState, IceState};

    fn transport(number: u8) -> TransportId {
        TransportId::from_random_bytes([number; 16])
    }

    fn ice(number: u8, state: IceState) -> WorkerEvent {
        WorkerEvent::IceStateChanged { transport: transport(number), state, remote: None }
    }

    fn dtls(number: u8, state: DtlsState) -> WorkerEvent {
        WorkerEvent::DtlsStateChanged { transport: transport(number), state }
    }

    fn shutdown() -> RoomMessage {
        RoomMessage::Shutdown(std::time::Duration::ZERO)
    }

    async fn next(room: &mut mpsc::Receiver<RoomMessage>) -> WorkerEvent {
        match room.recv().await {
            Some(RoomMessage::Worker(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_full_room_holds_up_nobody_and_misses_nothing_that_counts() {
        let (busy, mut busy_mailbox) = mpsc::channel(1);
        let (idle, mut idle_mailbox) = mpsc::channel(8);
        busy.try_send(shutdown()).unwrap();
        let mut waiting = Waiting::default();
        for _ in 0..1_000 {
            waiting.deliver(&busy, transport(1), ice(1, IceState::Connected));
            waiting.deliver(&busy, transport(1), ice(1, IceState::Disconnected));
        }
        waiting.deliver(&busy, transport(1), dtls(1, DtlsState::Closed));
        waiting.deliver(&busy, transport(2), dtls(2, DtlsState::Failed));
        waiting.deliver(&idle, transport(3), ice(3, IceState::Disconnected));
        assert!(matches!(next(&mut idle_mailbox).await, WorkerEvent::IceStateChanged { .. }));
        assert_eq!((waiting.news.len(), waiting.news[&transport(1)].len()), (2, 2), "bounded by transports");

        assert!(matches!(busy_mailbox.recv().await, Some(RoomMessage::Shutdown(_))));
        let mut heard = Vec::new();
        while heard.len() < 3 {
            tokio::select! {
                event = next(&mut busy_mailbox) => heard.push(event),
                () = waiting.go_on() => {}
            }
        }
        assert!(waiting.news.is_empty());
        let of = |number| {
            let of = |event: &&WorkerEvent| match event {
                WorkerEvent::IceStateChanged { transport: id, .. }
                | WorkerEvent::DtlsStateChanged { transport: id, .. } => *id == transport(number),
                _ => false,
            };
            heard.iter().filter(of).collect::<Vec<_>>()
        };
        assert!(matches!(
            of(1)[..],
            [
                WorkerEvent::IceStateChanged { state: IceState::Disconnected, .. },
                WorkerEvent::DtlsStateChanged { state: DtlsState::Closed, .. }
            ]
        ));
        assert!(matches!(of(2)[..], [WorkerEvent::DtlsStateChanged { state: DtlsState::Failed, .. }]));
    }

    #[tokio::test]
    async fn what_waits_for_a_room_ends_with_it() {
        let (room, mailbox) = mpsc::channel(1);
        room.try_send(shutdown()).unwrap();
        let mut waiting = Waiting::default();
        waiting.deliver(&room, transport(1), dtls(1, DtlsState::Failed));
        drop(mailbox);
        waiting.go_on().await;
        assert!(waiting.news.is_empty() && waiting.places.is_empty());
    }
}
