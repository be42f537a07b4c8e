//! What clients say. A request has the same name and data in both dialects, but that [`create_transport`] has a
//! direction in two ways.

use std::str::FromStr;

use serde_json::{Map, Value, json};
use sluice_proto::ids::{ConsumerId, PeerId, ProducerId};
use sluice_proto::ortc::MediaKind;
use sluice_proto::pipe::Layers;

use crate::ortc::{
    DataChannel, parse_dtls_parameters, parse_mid, parse_rtp_capabilities, parse_rtp_parameters,
    parse_sctp_capabilities,
};
use crate::rooms::api::{Join, PeerRequest, Refusal, Subscription};
use crate::support::plain;

/// Longest display name, in bytes; every peer of the room gets it.
const MAX_DISPLAY_NAME_LEN: usize = 256;

/// Longest JSON object that a client attaches to itself or a producer, in bytes; every node of the room gets it.
const MAX_OBJECT_LEN: usize = 4096;

/// Methods that the dialects have and this node has not.
const NOT_YET: [&str; 3] = ["applyNetworkThrottle", "resetNetworkThrottle", "stopNetworkThrottle"];

/// A request, read.
#[derive(Debug)]
pub(in crate::signalling) enum Request {
    /// The room answers it.
    OfRoom(PeerRequest),
    /// This is the answer.
    Answered(Value),
}

/// Reads a request.
pub(in crate::signalling) fn request(method: &str, data: Value) -> Result<Request, Refusal> {
    let mut data = Data(data);
    if let Some(command) = command(method, &data) {
        return command.map(Request::OfRoom);
    }
    Ok(Request::OfRoom(match method {
        // There is no server for statistics of clients. An error would end the join.
        "getRtcStatsUrl" => return Ok(Request::Answered(json!({}))),
        "getRouterRtpCapabilities" => PeerRequest::RouterRtpCapabilities,
        "createWebRtcTransport" => create_transport(&mut data)?,
        "connectWebRtcTransport" => {
            let dtls = parse_dtls_parameters(&data.take("dtlsParameters"))?;
            PeerRequest::ConnectTransport { transport: data.id("transportId")?, dtls }
        }
        "join" => PeerRequest::Join(Box::new(join(&mut data)?)),
        "restartIce" => PeerRequest::RestartIce { transport: data.id("transportId")? },
        "produce" => produce(&mut data)?,
        "produceData" => produce_data(&mut data)?,
        "subscribe" => PeerRequest::Subscribe { producer: data.id("producerId")?, mid: data.mid()? },
        "unsubscribe" => PeerRequest::Unsubscribe { producer: data.id("producerId")? },
        "getPeers" => get_peers(&data)?,
        "getTransportStats" => PeerRequest::TransportStats { transport: data.id("transportId")? },
        "getProducerStats" => PeerRequest::ProducerStats { producer: data.id("producerId")? },
        "getConsumerStats" => PeerRequest::ConsumerStats { consumer: data.id("consumerId")? },
        "getDataProducerStats" => PeerRequest::DataProducerStats { producer: data.id("dataProducerId")? },
        "getDataConsumerStats" => PeerRequest::DataConsumerStats { consumer: data.id("dataConsumerId")? },
        known if NOT_YET.contains(&known) => return Err(not_yet(known)),
        unknown => return Err(Refusal::new(404, format!("unknown method {unknown:?}"))),
    }))
}

/// Reads a notification, by which clients of the TypeScript server say what others ask for. `None` if it means nothing.
pub(in crate::signalling) fn notification(method: &str, data: Value) -> Option<Result<PeerRequest, Refusal>> {
    command(method, &Data(data))
}

/// Reads what is said by request in one dialect and by notification in the other.
fn command(method: &str, data: &Data) -> Option<Result<PeerRequest, Refusal>> {
    let producer = |command: fn(ProducerId) -> PeerRequest| data.id("producerId").map(command);
    let consumer = |command: fn(ConsumerId) -> PeerRequest| data.id("consumerId").map(command);
    Some(match method {
        "closeProducer" => producer(|producer| PeerRequest::CloseProducer { producer }),
        // An extension: clients of the dialects close the channel, and tell nobody.
        "closeDataProducer" => data.id("dataProducerId").map(|producer| PeerRequest::CloseProducer { producer }),
        "pauseProducer" => producer(|producer| PeerRequest::SetProducerPaused { producer, paused: true }),
        "resumeProducer" => producer(|producer| PeerRequest::SetProducerPaused { producer, paused: false }),
        "pauseConsumer" => consumer(|consumer| PeerRequest::SetConsumerPaused { consumer, paused: true }),
        "resumeConsumer" => consumer(|consumer| PeerRequest::SetConsumerPaused { consumer, paused: false }),
        "requestConsumerKeyFrame" => consumer(|consumer| PeerRequest::RequestKeyFrame { consumer }),
        "changeDisplayName" => data.display_name().map(|display_name| PeerRequest::ChangeDisplayName { display_name }),
        "setConsumerPreferredLayers" => preferred_layers(data),
        "setConsumerPriority" => priority(data),
        _ => return None,
    })
}

fn preferred_layers(data: &Data) -> Result<PeerRequest, Refusal> {
    let layer = |name: &str| {
        let layer = data.0.get(name).filter(|layer| !layer.is_null());
        let number = layer.map(|layer| layer.as_u64().and_then(|layer| u8::try_from(layer).ok()));
        number.map(|number| number.ok_or_else(|| Refusal::bad_request(format!("{name} must be a number")))).transpose()
    };
    let spatial = layer("spatialLayer")?.ok_or_else(|| Refusal::bad_request("spatialLayer must be a number"))?;
    let layers = Layers { spatial, temporal: layer("temporalLayer")?.unwrap_or(u8::MAX) };
    Ok(PeerRequest::SetPreferredLayers { consumer: data.id("consumerId")?, layers })
}

fn priority(data: &Data) -> Result<PeerRequest, Refusal> {
    let priority = data.0.get("priority").and_then(Value::as_u64).and_then(|priority| u8::try_from(priority).ok());
    let priority = priority.filter(|priority| *priority > 0);
    let priority = priority.ok_or_else(|| Refusal::bad_request("priority must be a number from 1 to 255"))?;
    Ok(PeerRequest::SetConsumerPriority { consumer: data.id("consumerId")?, priority })
}

fn not_yet(method: &str) -> Refusal {
    Refusal::new(501, format!("{method} is not supported"))
}

fn create_transport(data: &mut Data) -> Result<PeerRequest, Refusal> {
    let force_tcp = data.flag("forceTcp")?;
    data.flag("producing")?;
    let direction = data.0.pointer("/appData/direction").and_then(Value::as_str);
    let consuming = data.flag("consuming")? || direction == Some("consumer");
    let data_streams = parse_sctp_capabilities(&data.take("sctpCapabilities"))?;
    Ok(PeerRequest::CreateTransport { consuming, force_tcp, data_streams })
}

/// An extension: a large room is read a page at a time.
fn get_peers(data: &Data) -> Result<PeerRequest, Refusal> {
    let after = match data.0.get("after") {
        None | Some(Value::Null) => None,
        Some(id) => {
            let id = id.as_str().and_then(|id| PeerId::new(id).ok());
            Some(id.ok_or_else(|| Refusal::bad_request("after must be the id of a peer"))?)
        }
    };
    let limit = match data.0.get("limit") {
        None | Some(Value::Null) => None,
        Some(limit) => {
            let limit = limit.as_u64().and_then(|limit| usize::try_from(limit).ok());
            Some(limit.ok_or_else(|| Refusal::bad_request("limit must be a number"))?)
        }
    };
    Ok(PeerRequest::Peers { after, limit })
}

fn join(data: &mut Data) -> Result<Join, Refusal> {
    let rtp_capabilities = match data.take("rtpCapabilities") {
        Value::Null => None,
        capabilities => Some(parse_rtp_capabilities(capabilities)?),
    };
    let subscription = match data.0.get("subscription").map(Value::as_str) {
        None | Some(Some("everything")) => Subscription::Everything,
        Some(Some("onRequest")) => Subscription::OnRequest,
        Some(Some("stage")) => Subscription::Stage,
        Some(_) => return Err(Refusal::bad_request("subscription must be everything, onRequest or stage")),
    };
    let (display_name, device) = (data.display_name()?, data.object("device")?);
    let adapts_encodings = data.flag("adaptsEncodings")?;
    Ok(Join { display_name, device, rtp_capabilities, subscription, adapts_encodings })
}

fn produce(data: &mut Data) -> Result<PeerRequest, Refusal> {
    let kind = match data.0.get("kind").and_then(Value::as_str) {
        Some("audio") => MediaKind::Audio,
        Some("video") => MediaKind::Video,
        _ => return Err(Refusal::bad_request("kind must be audio or video")),
    };
    let transport = data.id("transportId")?;
    let app_data = data.object("appData")?;
    let rtp = Box::new(parse_rtp_parameters(data.take("rtpParameters"))?);
    Ok(PeerRequest::Produce { transport, kind, rtp, app_data })
}

fn produce_data(data: &mut Data) -> Result<PeerRequest, Refusal> {
    let transport = data.id("transportId")?;
    let app_data = data.object("appData")?;
    let (label, protocol) = (data.take("label"), data.take("protocol"));
    let channel = Box::new(DataChannel::parse(&label, &protocol, &data.take("sctpStreamParameters"))?);
    Ok(PeerRequest::ProduceData { transport, channel, app_data })
}

/// A request's data, read field by field.
struct Data(Value);

impl Data {
    fn take(&mut self, name: &str) -> Value {
        self.0.get_mut(name).map(Value::take).unwrap_or_default()
    }

    /// An id that this node gave. One that is not even an id is not found either.
    fn id<T: FromStr>(&self, name: &str) -> Result<T, Refusal> {
        let text = self.0.get(name).and_then(Value::as_str);
        let text = text.ok_or_else(|| Refusal::bad_request(format!("{name} must be a string")))?;
        text.parse().map_err(|_| Refusal::not_found(name, format!("{:?}", text.chars().take(64).collect::<String>())))
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Refusal::bad_request(format!("{name} must be true or false"))),
        }
    }

    fn mid(&self) -> Result<Option<String>, Refusal> {
        match self.0.get("mid") {
            None | Some(Value::Null) => Ok(None),
            Some(mid) => Ok(Some(parse_mid(mid)?)),
        }
    }

    fn display_name(&self) -> Result<String, Refusal> {
        match self.0.get("displayName") {
            None | Some(Value::Null) => Ok(String::new()),
            Some(Value::String(name)) if name.len() <= MAX_DISPLAY_NAME_LEN => Ok(plain(name)),
            Some(_) => Err(Refusal::bad_request(format!(
                "displayName must be a string of at most {MAX_DISPLAY_NAME_LEN} bytes"
            ))),
        }
    }

    fn object(&mut self, name: &str) -> Result<Value, Refusal> {
        match self.take(name) {
            Value::Null => Ok(Value::Object(Map::new())),
            object @ Value::Object(_) if object.to_string().len() <= MAX_OBJECT_LEN => Ok(object),
            _ => Err(Refusal::bad_request(format!("{name} must be an object of at most {MAX_OBJECT_LEN} bytes"))),
        }
    }
}
