//! The messages of mediasoup-demo's v3 JavaScript server, as far as a virtual user speaks them; what newer servers call
//! otherwise is understood too.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ortc::{Kind, RtpParameters};
use crate::transport::{self, Delivery, DtlsRole, IceCredentials, Protocol, RemoteParameters, SCTP_STREAMS};

/// The answer to `createWebRtcTransport`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct TransportOptions {
    pub id: String,
    pub ice_parameters: IceParameters,
    pub ice_candidates: Vec<IceCandidate>,
    pub dtls_parameters: DtlsParameters,
    /// Of a transport that was asked for with `sctpCapabilities`.
    #[serde(default)]
    pub sctp_parameters: Option<SctpParameters>,
}

/// The server's ICE credentials.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct IceParameters {
    pub username_fragment: String,
    pub password: String,
}

/// Where the server listens; older servers say `ip`, newer ones `address`, some both.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct IceCandidate {
    #[serde(default)]
    pub address: Option<String>,
    #[serde(default)]
    pub ip: Option<String>,
    pub port: u16,
    pub protocol: String,
}

/// The server's certificate.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct DtlsParameters {
    pub fingerprints: Vec<Fingerprint>,
}

/// A digest of a certificate.
#[derive(Debug, Clone, Deserialize)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct Fingerprint {
    pub algorithm: String,
    pub value: String,
}

/// The server's end of the association of data channels; older servers say `maxMessageSize`, newer ones
/// `maxReceiveMessageSize`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct SctpParameters {
    pub port: u16,
    #[serde(default)]
    pub max_message_size: Option<usize>,
    #[serde(default)]
    pub max_receive_message_size: Option<usize>,
}

impl SctpParameters {
    fn remote(&self) -> transport::SctpParameters {
        let said = self.max_receive_message_size.or(self.max_message_size);
        let max_message_size = said.unwrap_or(DEFAULT_MAX_MESSAGE_SIZE);
        transport::SctpParameters { port: self.port, max_message_size }
    }
}

/// mediasoup's.
const DEFAULT_MAX_MESSAGE_SIZE: usize = 262_144;

/// What a client says of its end of an association.
pub fn sctp_capabilities() -> Value {
    json!({ "numStreams": { "OS": SCTP_STREAMS, "MIS": SCTP_STREAMS } })
}

/// The stream of a data channel, and what becomes of its messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct SctpStreamParameters {
    pub stream_id: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordered: Option<bool>,
    /// Milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_packet_life_time: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_retransmits: Option<u16>,
}

impl SctpStreamParameters {
    /// Of a stream with such a delivery; lifetimes that signalling has no room for are its longest.
    pub fn new(stream_id: u16, delivery: &Delivery) -> Self {
        let ms = |lifetime: Duration| u16::try_from(lifetime.as_millis()).unwrap_or(u16::MAX);
        Self {
            stream_id,
            ordered: Some(delivery.ordered),
            max_packet_life_time: delivery.max_packet_lifetime.map(ms),
            max_retransmits: delivery.max_retransmits,
        }
    }

    /// What becomes of the messages. Who does not say whether they are in order has those in order that are reliable.
    pub fn delivery(&self) -> Delivery {
        let lifetime = self.max_packet_life_time.map(|ms| Duration::from_millis(ms.into()));
        let delivery = Delivery { ordered: true, max_retransmits: self.max_retransmits, max_packet_lifetime: lifetime };
        Delivery { ordered: self.ordered.unwrap_or(delivery.is_reliable()), ..delivery }
    }
}

impl TransportOptions {
    /// What a transport needs: a candidate of UDP, or else of TCP; `None` when there is neither.
    pub fn remote(&self) -> Option<RemoteParameters> {
        let of =
            |name: &str| self.ice_candidates.iter().find(|candidate| candidate.protocol.eq_ignore_ascii_case(name));
        let by_udp = of("udp").map(|candidate| (Protocol::Udp, candidate));
        let (protocol, candidate) = by_udp.or_else(|| Some((Protocol::Tcp, of("tcp")?)))?;
        let address = candidate.address.as_ref().or(candidate.ip.as_ref())?;
        let sha256 = self.dtls_parameters.fingerprints.iter().filter(|fingerprint| fingerprint.algorithm == "sha-256");
        Some(RemoteParameters {
            ice: self.ice_parameters.credentials(),
            candidate: SocketAddr::new(address.parse().ok()?, candidate.port),
            protocol,
            fingerprints: sha256.map(|fingerprint| fingerprint.value.clone()).collect(),
            sctp: self.sctp_parameters.as_ref().map(SctpParameters::remote),
        })
    }
}

impl IceParameters {
    /// As the ICE agent knows them.
    pub fn credentials(&self) -> IceCredentials {
        IceCredentials { ufrag: self.username_fragment.clone(), pwd: self.password.clone() }
    }
}

/// This client's `dtlsParameters`.
pub fn dtls_parameters(role: DtlsRole, fingerprint: &str) -> Value {
    let role = match role {
        DtlsRole::Client => "client",
        DtlsRole::Server => "server",
    };
    json!({ "role": role, "fingerprints": [{ "algorithm": "sha-256", "value": fingerprint }] })
}

/// The answer to `join`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct Joined {
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Sluice's: what the client shows to take its place again.
    #[serde(default)]
    pub peer_secret: Option<String>,
}

/// Another participant; what a server says beyond mediasoup-demo's fields is in `extra`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct Peer {
    #[serde(alias = "peerId")]
    pub id: String,
    #[serde(default)]
    pub display_name: String,
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The server's request `newConsumer`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct NewConsumer {
    pub peer_id: String,
    pub producer_id: String,
    #[serde(alias = "consumerId")]
    pub id: String,
    pub kind: Kind,
    pub rtp_parameters: RtpParameters,
    #[serde(default)]
    pub producer_paused: bool,
    #[serde(default)]
    pub app_data: Value,
}

/// The answer to `produceData`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct DataProduced {
    #[serde(alias = "dataProducerId")]
    pub id: String,
}

/// The server's request `newDataConsumer`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs, reason = "mediasoup's names")]
pub struct NewDataConsumer {
    /// `None`: the server itself sends.
    #[serde(default)]
    pub peer_id: Option<String>,
    pub data_producer_id: String,
    #[serde(alias = "dataConsumerId")]
    pub id: String,
    pub sctp_stream_parameters: SctpStreamParameters,
    #[serde(default)]
    pub label: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn data_channels_are_read_in_both_dialects() {
        let stream = json!({ "streamId": 3, "ordered": false, "maxRetransmits": 2 });
        let v3: NewDataConsumer = read(json!({
            "peerId": "alice", "dataProducerId": "p", "id": "c", "sctpStreamParameters": stream, "label": "chat",
            "protocol": "", "appData": {},
        }));
        let ts: NewDataConsumer = read(json!({
            "peerId": "alice", "transportId": "t", "dataConsumerId": "c", "dataProducerId": "p",
            "sctpStreamParameters": stream, "label": "chat", "protocol": "", "appData": { "channel": "chat" },
        }));
        assert_eq!(v3, ts);
        let expected = Delivery { ordered: false, max_retransmits: Some(2), max_packet_lifetime: None };
        assert_eq!((v3.sctp_stream_parameters.stream_id, v3.sctp_stream_parameters.delivery()), (3, expected));
        let bot: NewDataConsumer = read(json!({
            "peerId": null, "dataProducerId": "p", "id": "c", "sctpStreamParameters": { "streamId": 0 },
        }));
        assert_eq!((bot.peer_id, bot.sctp_stream_parameters.delivery()), (None, Delivery::default()));
        for answer in [json!({ "id": "p" }), json!({ "dataProducerId": "p" })] {
            assert_eq!(read::<DataProduced>(answer).id, "p");
        }
    }

    #[test]
    fn an_association_is_read_in_both_dialects() {
        let remote = |value| read::<SctpParameters>(value).remote();
        let v3 = remote(json!({ "port": 5000, "OS": 1024, "MIS": 1024, "maxMessageSize": 65_536 }));
        let ts = remote(json!({ "port": 5000, "maxSendMessageSize": 1, "maxReceiveMessageSize": 65_536 }));
        assert_eq!((v3, v3.port, v3.max_message_size), (ts, 5000, 65_536));
        assert_eq!(remote(json!({ "port": 5000 })).max_message_size, 262_144);
    }

    #[test]
    fn what_is_said_of_a_stream_is_what_is_meant() {
        let reliable = Delivery::default();
        let lossy = Delivery { ordered: false, max_retransmits: Some(0), ..reliable };
        let timely = Delivery { max_packet_lifetime: Some(Duration::from_millis(300)), ..reliable };
        for delivery in [reliable, lossy, timely] {
            let said = serde_json::to_value(SctpStreamParameters::new(7, &delivery)).unwrap();
            assert_eq!(read::<SctpStreamParameters>(said).delivery(), delivery);
        }
        let said = serde_json::to_value(SctpStreamParameters::new(7, &lossy)).unwrap();
        assert_eq!(said, json!({ "streamId": 7, "ordered": false, "maxRetransmits": 0 }));
        // The types of the contracts, which a Sluice node reads with, must be able to read it too.
        read::<sluice_proto::ortc::SctpStreamParameters>(said);
    }
}
