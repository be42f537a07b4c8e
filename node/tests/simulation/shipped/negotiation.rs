//! What users and nodes say to each other about parameters: in JSON, as signalling carries it, so that each end's own
//! types and checks are in the play.

use rand::Rng;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_loadtest::media::Codec;
use sluice_loadtest::signalling::demo_v3::{self, Fingerprint};
use sluice_loadtest::signalling::ortc as client;
use sluice_loadtest::transport::TransportConfig;
use sluice_media::messages::RtpMapping;
use sluice_node::ortc as node;
use sluice_proto::ortc::{DtlsParameters, MediaKind, RtpCapabilities, RtpParameters};

/// What everybody can.
pub(super) struct Negotiation {
    router: client::RtpCapabilities,
    device: RtpCapabilities,
}

/// A producer as its client and its node see it.
pub(super) struct Production {
    pub(super) kind: MediaKind,
    pub(super) client: client::RtpParameters,
    pub(super) node: RtpParameters,
    pub(super) mapping: RtpMapping,
    pub(super) consumable: RtpParameters,
}

/// A consumer as its client and its node see it.
pub(super) struct Consumption {
    pub(super) client: client::RtpParameters,
    pub(super) node: RtpParameters,
}

impl Negotiation {
    pub(super) fn new() -> Self {
        let router: client::RtpCapabilities = said(node::router_rtp_capabilities());
        let device = said(&client::device_capabilities(&router));
        Self { router, device: node::parse_rtp_capabilities(device).expect("a client's own words") }
    }

    /// A producer of so many encodings.
    pub(super) fn produce(&self, codec: Codec, encodings: usize, cname: &str, rng: &mut impl Rng) -> Production {
        let (kind, mid) = if codec.is_video() { (MediaKind::Video, "1") } else { (MediaKind::Audio, "0") };
        let client = client::send_parameters(&self.router, (codec, encodings), mid, cname, rng);
        let client = client.expect("the router has the codec");
        let node = node::parse_rtp_parameters(said(&client)).expect("a client's own words");
        let node::Negotiated { mapping, consumable } =
            node::negotiate_producer(kind, &node, rng.next_u32(), cname).expect("it is the router's codec");
        Production { kind, client, node, mapping, consumable }
    }

    pub(super) fn consume(&self, consumable: &RtpParameters, mid: u32, ssrc: u32) -> Consumption {
        let node = node::consumer_rtp_parameters(consumable, &self.device, mid.to_string(), ssrc);
        let node = node.expect("every client can receive what clients send");
        Consumption { client: said(&node), node }
    }
}

/// What a client's transport says of its end.
pub(super) fn dtls_parameters(transport: &TransportConfig) -> DtlsParameters {
    let said = demo_v3::dtls_parameters(transport.dtls_role, transport.certificate.fingerprint());
    node::parse_dtls_parameters(&said).expect("a client's own words")
}

/// What nodes say of theirs.
pub(super) fn fingerprints() -> Vec<String> {
    let fingerprints: Vec<Fingerprint> = said(&crate::mesh::certificate().fingerprints());
    fingerprints.into_iter().map(|fingerprint| fingerprint.value).collect()
}

fn said<T: DeserializeOwned>(what: &impl Serialize) -> T {
    let json = serde_json::to_value(what).expect("parameters are JSON");
    serde_json::from_value(json).expect("the ends understand each other")
}
