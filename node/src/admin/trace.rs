//! A peer's trace events as lines of JSON, with mediasoup's types and fields, as long as an operator reads them.
//!
//! They are fetched from the media worker when there is room for them on the way to the reader, so nothing waits
//! between the two but one answer of it. What happens while a slow reader is waited for the worker keeps, up to a
//! limit; what is more it counts.

use std::collections::HashSet;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_media::trace::{TraceEvent, TraceInfo, TraceSubject, TraceType, TraceTypes, Traced, TracedPacket};
use sluice_proto::ids::{PeerId, RoomKey, TransportId};
use tokio::time::{Instant, sleep_until};
use utoipa::IntoParams;

use super::api::PeerPath;
use crate::entrance::Entrance;
use crate::http::HttpError;
use crate::rooms::Rooms;
use crate::rooms::traces::Tracing;
use crate::support::lock;

/// Peers that are traced at a time: an operator compares a publisher with some viewers. Each may have the node write a
/// thousand lines a second for each of its transports.
const MAX_TRACES: usize = 4;

/// How long a trace lasts if nothing else is said, and at most.
const DEFAULT_SECONDS: u64 = 30;
const MAX_SECONDS: u64 = 300;

/// How often what happened is fetched: soon enough for who looks.
const INTERVAL: Duration = Duration::from_millis(200);

const NDJSON: &str = "application/x-ndjson";

/// The peers of a node that are traced.
#[derive(Debug, Clone, Default)]
pub(crate) struct Traces(Arc<Mutex<HashSet<(RoomKey, PeerId)>>>);

/// A place among those, until it is dropped.
struct Traceable {
    traces: Traces,
    peer: (RoomKey, PeerId),
}

impl Drop for Traceable {
    fn drop(&mut self) {
        lock(&self.traces.0).remove(&self.peer);
    }
}

impl Traces {
    fn enter(&self, peer: (RoomKey, PeerId)) -> Result<Traceable, HttpError> {
        let mut traced = lock(&self.0);
        if traced.contains(&peer) {
            return Err(HttpError(StatusCode::CONFLICT, "the peer is traced already".to_owned()));
        }
        if traced.len() >= MAX_TRACES {
            let words = format!("{MAX_TRACES} peers are traced already");
            return Err(HttpError(StatusCode::TOO_MANY_REQUESTS, words));
        }
        traced.insert(peer.clone());
        Ok(Traceable { traces: self.clone(), peer })
    }

    /// Lines about a peer from now on, some at a time, until `asked` is over or the peer is gone. It ends when this is
    /// dropped.
    ///
    /// # Errors
    /// Why it is not traced.
    pub(crate) async fn begin(
        &self,
        rooms: &Rooms,
        (room, peer): (RoomKey, PeerId),
        asked: &Asked,
    ) -> Result<impl Stream<Item = Bytes> + Send + use<>, HttpError> {
        let (types, lasts) = (asked.types()?, asked.lasts()?);
        let traceable = self.enter((room.clone(), peer.clone()))?;
        let mut tracing = rooms.trace(room, peer, types);
        tracing.go_on(lasts).await?;
        let reading = Reading { tracing, until: Instant::now() + lasts, _traceable: traceable };
        Ok(stream::unfold(reading, async |mut reading| Some((reading.next().await?, reading))))
    }
}

/// What of a peer is traced, and for how long.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Asked {
    /// Some of `probation`, `bwe`, `rtp`, `keyframe`, `nack`, `pli`, `fir` and `sr`, with commas between them; without
    /// it all but `rtp`.
    types: Option<String>,
    /// 1 to 300; without it 30.
    seconds: Option<u64>,
}

impl Asked {
    #[cfg(test)]
    pub(crate) fn new(types: Option<&str>, seconds: Option<u64>) -> Self {
        Self { types: types.map(str::to_owned), seconds }
    }

    fn types(&self) -> Result<TraceTypes, HttpError> {
        let Some(names) = &self.types else {
            return Ok(TraceType::ALL.into_iter().filter(|kind| *kind != TraceType::Rtp).collect());
        };
        let named = |name: &str| {
            TraceType::ALL.into_iter().find(|kind| kind.label() == name).ok_or_else(|| {
                let words =
                    format!("{name:?} is none of the types {}", TraceType::ALL.map(TraceType::label).join(", "));
                HttpError(StatusCode::BAD_REQUEST, words)
            })
        };
        names.split(',').map(named).collect()
    }

    fn lasts(&self) -> Result<Duration, HttpError> {
        match self.seconds.unwrap_or(DEFAULT_SECONDS) {
            seconds @ 1..=MAX_SECONDS => Ok(Duration::from_secs(seconds)),
            _ => Err(HttpError(StatusCode::BAD_REQUEST, format!("seconds must be from 1 to {MAX_SECONDS}"))),
        }
    }
}

/// A trace that somebody reads.
struct Reading {
    tracing: Tracing,
    until: Instant,
    _traceable: Traceable,
}

impl Reading {
    /// The next lines, as soon as there are any. `None` when it is over.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let left = self.until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            sleep_until(Instant::now() + left.min(INTERVAL)).await;
            let left = self.until.saturating_duration_since(Instant::now());
            let traced = self.tracing.go_on(left).await.ok()?;
            let mut lines = String::new();
            for (transport, traced) in &traced {
                write_lines(&mut lines, *transport, traced);
            }
            if !lines.is_empty() {
                return Some(lines.into());
            }
        }
    }
}

fn write_lines(lines: &mut String, transport: TransportId, traced: &Traced) {
    for event in &traced.events {
        let _ = writeln!(lines, "{}", line(transport, event));
    }
    if traced.dropped > 0 {
        let _ = writeln!(lines, "{}", json!({"type": "dropped", "transportId": transport, "count": traced.dropped}));
    }
}

fn line(transport: TransportId, event: &TraceEvent) -> Value {
    let mut line = json!({
        "type": event.info.kind().label(),
        "timestamp": event.at.as_millis() as u64,
        "direction": if event.is_in() { "in" } else { "out" },
        "transportId": transport,
        "info": info(&event.info),
    });
    match event.subject {
        TraceSubject::Transport => {}
        TraceSubject::Producer(producer) => line["producerId"] = json!(producer),
        TraceSubject::Consumer(consumer) => line["consumerId"] = json!(consumer),
    }
    line
}

/// As mediasoup has it; of probes and NACKs, of which it says nothing, how much they are.
fn info(info: &TraceInfo) -> Value {
    match info {
        TraceInfo::Probation { packets } => json!({"packets": packets}),
        TraceInfo::Bwe { is_transport_wide, desired_bitrate, effective_desired_bitrate, available_bitrate } => json!({
            "bweType": if *is_transport_wide { "transport-cc" } else { "remb" },
            "desiredBitrate": desired_bitrate,
            "effectiveDesiredBitrate": effective_desired_bitrate,
            "availableBitrate": available_bitrate,
        }),
        TraceInfo::Rtp(packet) | TraceInfo::KeyFrame(packet) => packet_info(packet),
        TraceInfo::Nack { ssrc, packets } => json!({"ssrc": ssrc, "packets": packets}),
        TraceInfo::Pli { ssrc } | TraceInfo::Fir { ssrc } => json!({"ssrc": ssrc}),
        TraceInfo::Sr(report) => json!({
            "ssrc": report.ssrc,
            "ntpSec": report.ntp >> 32,
            "ntpFrac": report.ntp & u64::from(u32::MAX),
            "rtpTs": report.rtp_timestamp,
            "packetCount": report.packets,
            "octetCount": report.octets,
        }),
    }
}

fn packet_info(packet: &TracedPacket) -> Value {
    json!({
        "rtpPacket": {
            "payloadType": packet.header.payload_type,
            "sequenceNumber": packet.header.sequence_number,
            "timestamp": packet.header.timestamp,
            "marker": packet.header.marker,
            "ssrc": packet.header.ssrc,
            "isKeyFrame": packet.is_key_frame,
            "size": packet.size,
            "payloadSize": packet.payload_size,
            "spatialLayer": packet.spatial_layer,
            "temporalLayer": packet.temporal_layer,
            "wideSequenceNumber": packet.wide_sequence_number,
        },
        "isRtx": packet.is_rtx,
    })
}

/// What happens to a peer's packets from now on, a line of JSON an event, as mediasoup's `trace` events: `type`,
/// `timestamp` (milliseconds since the Unix epoch), `direction`, `info`, and `transportId` with `producerId` or
/// `consumerId`. Of each transport 500 packets and 500 other events a second are told; `{"type":"dropped"}` says with
/// `count` how many more there were. One reader a peer, four peers a node.
#[utoipa::path(
    get, path = "/v1/rooms/{namespace}/{room}/peers/{peer}/trace", params(PeerPath, Asked),
    responses(
        (status = 200, content_type = "application/x-ndjson", body = String),
        (status = 400),
        (status = 404),
        (status = 409, description = "Somebody reads it already."),
        (status = 421, description = "The peer is on another node, which is named."),
        (status = 429, description = "So many peers are traced already.")
    )
)]
pub(super) async fn trace(
    State(entrance): State<Entrance>,
    Extension(traces): Extension<Traces>,
    Path(path): Path<PeerPath>,
    Query(asked): Query<Asked>,
) -> Result<Response, HttpError> {
    let lines = traces.begin(entrance.rooms(), path.split(), &asked).await?;
    let body = Body::from_stream(futures_util::StreamExt::map(lines, Ok::<_, Infallible>));
    Ok(([(CONTENT_TYPE, NDJSON)], body).into_response())
}
