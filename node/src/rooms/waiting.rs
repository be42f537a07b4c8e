//! Workers' events that must reach a room whose mailbox is full. They wait here, so that the other rooms' events need
//! not.

use std::collections::HashMap;
use std::mem::discriminant;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use sluice_media::messages::WorkerEvent;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::mpsc::error::TrySendError;

use super::context::{RoomSender, Subject};
use super::room::RoomMessage;

/// A place in a room's mailbox, or `None` when the room has ended.
type Reservation = (Subject, Option<OwnedPermit<RoomMessage>>);

/// News for rooms that are busy. Of each subject no more than the latest of each kind is kept, for it says all that
/// counts: so this is bounded by what the node has of transports, producers and consumers, and nothing of it is ever
/// lost.
#[derive(Default)]
pub(super) struct Waiting {
    news: HashMap<Subject, Vec<WorkerEvent>>,
    places: FuturesUnordered<BoxFuture<'static, Reservation>>,
}

impl Waiting {
    /// Hands an event to its room, now if it can take it, else when it can.
    pub(super) fn deliver(&mut self, room: &RoomSender, subject: Subject, event: WorkerEvent) {
        if let Some(news) = self.news.get_mut(&subject) {
            let kind = discriminant(&event);
            news.retain(|former| discriminant(former) != kind);
            news.push(event);
            return;
        }
        // One that has ended has nothing that this is about.
        if let Err(TrySendError::Full(RoomMessage::Worker(event))) = room.try_send(RoomMessage::Worker(event)) {
            self.news.insert(subject, vec![event]);
            self.wait(room.clone(), subject);
        }
    }

    /// Waits for a busy room to take some of what waits for it, while there is such a room.
    pub(super) async fn go_on(&mut self) {
        match self.places.next().await {
            Some((subject, place)) => self.take_place(subject, place),
            None => std::future::pending().await,
        }
    }

    fn wait(&mut self, room: RoomSender, subject: Subject) {
        self.places.push(Box::pin(async move { (subject, room.reserve_owned().await.ok()) }));
    }

    fn take_place(&mut self, subject: Subject, place: Option<OwnedPermit<RoomMessage>>) {
        let Some(mut news) = self.news.remove(&subject) else { return };
        let Some(place) = place else { return };
        let room = place.send(RoomMessage::Worker(news.remove(0)));
        if !news.is_empty() {
            self.news.insert(subject, news);
            self.wait(room, subject);
        }
    }
}

#[cfg(test)]
mod tests {
    use sluice_media::secure::dtls::DtlsState;
    use sluice_media::secure::ice::IceState;
    use sluice_proto::ids::TransportId;
    use tokio::sync::mpsc;

    use super::*;

    fn transport(number: u8) -> TransportId {
        TransportId::from_random_bytes([number; 16])
    }

    fn about(number: u8) -> Subject {
        Subject::Transport(transport(number))
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
            waiting.deliver(&busy, about(1), ice(1, IceState::Connected));
            waiting.deliver(&busy, about(1), ice(1, IceState::Disconnected));
        }
        waiting.deliver(&busy, about(1), dtls(1, DtlsState::Closed));
        waiting.deliver(&busy, about(2), dtls(2, DtlsState::Failed));
        waiting.deliver(&idle, about(3), ice(3, IceState::Disconnected));
        assert!(matches!(next(&mut idle_mailbox).await, WorkerEvent::IceStateChanged { .. }));
        assert_eq!((waiting.news.len(), waiting.news[&about(1)].len()), (2, 2), "bounded by transports");

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
        waiting.deliver(&room, about(1), dtls(1, DtlsState::Failed));
        drop(mailbox);
        waiting.go_on().await;
        assert!(waiting.news.is_empty() && waiting.places.is_empty());
    }
}
