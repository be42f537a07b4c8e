//! A [`LiteServer`] with an association behind it, for tests of data channels: it stays on the thread that made it.

use std::net::SocketAddr;
use std::time::Instant;

use super::sctp::Association;
use super::{
    Delivery, DtlsRole, LiteServer, RemoteParameters, SctpMessage, SctpParameters, SrtpProfile, TransportError,
};

const PARAMETERS: SctpParameters = SctpParameters { port: 5000, max_message_size: 262_144 };

pub(crate) struct DataServer {
    lite: LiteServer,
    /// Once DTLS is up.
    association: Option<Association>,
}

impl DataServer {
    pub(crate) fn new(
        now: Instant,
        role: DtlsRole,
        client_fingerprint: &str,
        seed: u64,
    ) -> Result<Self, TransportError> {
        let lite = LiteServer::new(now, role, &[SrtpProfile::AeadAes128Gcm], client_fingerprint, seed)?;
        Ok(Self { lite, association: None })
    }

    /// What signalling would tell a client that wants data channels.
    pub(crate) fn parameters(&self, candidate: SocketAddr) -> RemoteParameters {
        RemoteParameters { sctp: Some(PARAMETERS), ..self.lite.parameters(candidate) }
    }

    /// Takes a datagram, and returns what follows at once.
    pub(crate) fn handle(&mut self, now: Instant, datagram: &[u8]) -> Result<Vec<Vec<u8>>, TransportError> {
        let mut answers = self.lite.handle(now, datagram)?;
        if self.lite.is_connected() {
            let association = self.association.get_or_insert_with(|| Association::new(now, PARAMETERS));
            self.lite.application_data.drain(..).for_each(|packet| association.receive(now, &packet));
        }
        self.collect(now)?;
        answers.extend(std::iter::from_fn(|| self.poll_transmit()));
        Ok(answers)
    }

    pub(crate) fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.lite.poll_transmit().map(|record| record.to_vec())
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.poll_timeout()
    }

    /// Repeats what was not answered in time, of the association alone; it waits for [`Self::poll_transmit`].
    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Result<(), TransportError> {
        if let Some(association) = &mut self.association {
            association.handle_timeout(now);
        }
        self.collect(now)
    }

    /// Sends a message, as [`Self::handle_timeout`] does; whether there was room for it.
    pub(crate) fn send_message(
        &mut self,
        now: Instant,
        delivery: &Delivery,
        message: SctpMessage,
    ) -> Result<bool, TransportError> {
        let is_queued = self.association.as_mut().is_some_and(|association| association.send(now, delivery, message));
        self.collect(now)?;
        Ok(is_queued)
    }

    pub(crate) fn poll_message(&mut self) -> Option<SctpMessage> {
        self.association.as_mut()?.poll_message()
    }

    fn collect(&mut self, now: Instant) -> Result<(), TransportError> {
        while let Some(packet) = self.association.as_mut().and_then(Association::poll_transmit) {
            self.lite.dtls.send(now, &packet)?;
        }
        Ok(())
    }
}
