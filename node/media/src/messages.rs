//! What the control plane and a worker say to each other: commands in, events out (both reliable). Frames, and what the
//! two ends of a route say of them, are the third and only lossy thing to cross a worker's border, see
//! [`Input`](crate::Input) and [`Output`](crate::Output).
//!
//! Every id is made by the control plane, randomness included, so that most requests need no answer before the client
//! can be answered.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use sluice_mesh::LinkKey;
use sluice_proto::ids::{ConsumerId, ProducerId, RouteEpoch, RouteId, RouterId, TransportId};
use sluice_proto::ortc::{DtlsParameters, MediaKind, RtpParameters, SctpStreamParameters};
use sluice_proto::pipe::{Layers, MAX_STREAMS, Wanted};

use crate::address::TransportAddress;
use crate::secure::dtls::DtlsState;
use crate::secure::ice::{IceCredentials, IceState};
use crate::secure::srtp::SrtpProfile;
use crate::trace::{TraceTypes, Traced};

/// Index of a worker within its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerIndex(pub u16);

/// The far end of a route: another node, or another worker of this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PipeEnd {
    /// A node, over its pipe.
    Node(LinkKey),
    /// A worker of this node, over its queue.
    Worker(WorkerIndex),
}

/// The way of a producer's packets into a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteIn {
    /// Where they come from.
    pub from: PipeEnd,
    /// The route, as allocated here.
    pub route: RouteId,
    /// Which use of it. Each use begins a numbering of its own.
    pub epoch: RouteEpoch,
}

/// On whose account a router's traffic goes; the control plane numbers them from 0, with few gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Account(pub u16);

/// Correlates a [`Request`] with its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// Into a worker; reliable and in order.
#[derive(Debug)]
pub enum WorkerCommand {
    /// Answered by exactly one [`WorkerEvent::Response`].
    Request {
        /// Comes back in the answer.
        id: RequestId,
        /// What to do.
        request: Request,
    },
}

/// Out of a worker; reliable and in order.
#[derive(Debug)]
pub enum WorkerEvent {
    /// The answer to a request.
    Response {
        /// The request's id.
        id: RequestId,
        /// What came of it.
        result: Result<Response, RequestError>,
    },
    /// ICE found or lost its path.
    IceStateChanged {
        /// The transport.
        transport: TransportId,
        /// The new state.
        state: IceState,
        /// The client's address, once connected.
        remote: Option<TransportAddress>,
    },
    /// DTLS came up, failed or was closed by the client.
    DtlsStateChanged {
        /// The transport.
        transport: TransportId,
        /// The new state.
        state: DtlsState,
    },
    /// The association that carries a transport's data channels came up, failed or was ended by the client.
    SctpStateChanged {
        /// The transport.
        transport: TransportId,
        /// The new state.
        state: SctpState,
    },
    /// The client closed the data channel of a data producer.
    DataProducerClosed {
        /// The data producer, which is no more.
        producer: ProducerId,
    },
    /// A data consumer that loses nothing would have lost something: its client takes less than comes for too long, or
    /// the way from the publisher was gone for too long. Or its client closed the channel.
    DataConsumerClosed {
        /// The data consumer, which is no more.
        consumer: ConsumerId,
        /// Whether the client did it.
        by_client: bool,
    },
    /// Volumes of a router's audible producers, loudest first, every 800 ms while somebody is audible and once when
    /// everybody fell silent.
    AudioLevels {
        /// The router.
        router: RouterId,
        /// Producers with their volume in dBov, -127 (silent) to 0 (loudest).
        volumes: Vec<(ProducerId, i8)>,
    },
    /// Quality of a producer's reception changed.
    ProducerScore {
        /// The producer.
        producer: ProducerId,
        /// Of each of its encodings that came in.
        scores: Vec<EncodingScore>,
    },
    /// Quality of a consumer's reception changed, or its producer's.
    ConsumerScore {
        /// The consumer.
        consumer: ConsumerId,
        /// How good they are now.
        scores: ConsumerScores,
    },
    /// A consumer of a producer with several spatial layers is sent other layers than before, or nothing any more; or a
    /// consumer of video is sent nothing for want of room on the way to its client, or something again.
    ConsumerLayersChanged {
        /// The consumer.
        consumer: ConsumerId,
        /// The layers; `None` if nothing is sent.
        layers: Option<Layers>,
    },
    /// How much passes to a client has changed, or what would be sent to it. At most once a second.
    DownlinkChanged {
        /// Its transport.
        transport: TransportId,
        /// Bits per second that all that it receives would take.
        desired_bitrate: u64,
        /// The same of what it is sent, and of the next step if more is wanted.
        effective_desired_bitrate: u64,
        /// That pass, by the estimate.
        available_bitrate: u64,
    },
    /// Other spatial layers of a producer are wanted than before, by anybody anywhere.
    StreamsWanted {
        /// The producer.
        producer: ProducerId,
        /// A bit for each that is: a stream, or a layer inside the only one.
        streams: u8,
    },
    /// The worker has begun to shed video because it has more to do than it can, or has ended that.
    Overload {
        /// Whether it sheds.
        shedding: bool,
    },
}

/// State of the SCTP association of a transport.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SctpState {
    /// DTLS is not there yet, or nobody needs the association.
    #[default]
    New,
    /// Its handshake is under way.
    Connecting,
    /// Data can be sent.
    Connected,
    /// The client does not answer.
    Failed,
    /// The client ended it.
    Closed,
}

/// How well an encoding of a producer comes in from its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodingScore {
    /// Its place among the producer's encodings.
    pub encoding: usize,
    /// The client's SSRC.
    pub ssrc: u32,
    /// The client's name for it.
    pub rid: Option<String>,
    /// 0 (nothing arrives) to 10 (perfect).
    pub score: u8,
}

/// How well each stream of a producer comes in, in the order of its encodings: 0 (nothing arrives) to 10 (perfect).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamScores {
    scores: [u8; MAX_STREAMS],
    streams: u8,
}

impl StreamScores {
    /// Of each stream.
    pub fn as_slice(&self) -> &[u8] {
        self.scores.get(..self.streams.into()).unwrap_or_default()
    }

    /// The same, to change them.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        self.scores.get_mut(..self.streams.into()).unwrap_or_default()
    }

    /// Of the stream that comes in best.
    pub fn best(&self) -> u8 {
        self.as_slice().iter().copied().max().unwrap_or_default()
    }
}

impl FromIterator<u8> for StreamScores {
    /// What is beyond the most streams that there can be is left out.
    fn from_iter<I: IntoIterator<Item = u8>>(scores: I) -> Self {
        let mut all = Self::default();
        for (place, score) in all.scores.iter_mut().zip(scores) {
            *place = score;
            all.streams += 1;
        }
        all
    }
}

/// How well a consumer's stream arrives, and what it is made of: 0 (nothing arrives) to 10 (perfect).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerScores {
    /// At its client.
    pub consumer: u8,
    /// From the publisher, of the stream that it is made of.
    pub producer: u8,
    /// From the publisher, of all of the producer's streams.
    pub streams: StreamScores,
}

/// Why a request was refused. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No such router.
    #[error("router {0} not found")]
    RouterNotFound(RouterId),
    /// No such transport.
    #[error("transport {0} not found")]
    TransportNotFound(TransportId),
    /// No such producer on this worker.
    #[error("producer {0} not found")]
    ProducerNotFound(ProducerId),
    /// No such consumer.
    #[error("consumer {0} not found")]
    ConsumerNotFound(ConsumerId),
    /// The id is taken.
    #[error("{0} exists already")]
    AlreadyExists(String),
    /// `connect` was said before.
    #[error("transport {0} is connected already")]
    AlreadyConnected(TransportId),
    /// Another producer of the transport has this SSRC, or this MID and RID. A consumer's SSRC: another one has it, or
    /// had it and was sent to. Another data producer or data consumer of the transport has this stream.
    #[error("{0} is used by another stream of this transport")]
    StreamInUse(String),
    /// Parameters that the data plane cannot work with.
    #[error("{0}")]
    Invalid(String),
    /// The worker is gone or its queue is full.
    #[error("the media worker does not answer")]
    Unavailable,
}

/// SRTP keys of a transport that skips ICE and DTLS: simulations and benchmarks.
#[derive(Clone)]
pub struct SrtpKeys {
    /// The profile of both directions.
    pub profile: SrtpProfile,
    /// Master key and salt, concatenated, of what this end receives.
    pub remote: Vec<u8>,
    /// Master key and salt, concatenated, of what this end sends.
    pub local: Vec<u8>,
    /// The client's address.
    pub remote_address: TransportAddress,
}

/// Without the keys, which are nobody's business.
impl fmt::Debug for SrtpKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { profile, remote_address, .. } = self;
        f.debug_struct("SrtpKeys")
            .field("profile", profile)
            .field("remote_address", remote_address)
            .finish_non_exhaustive()
    }
}

/// How a producer's packets are named inside the mesh (mediasoup's `RtpMapping`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RtpMapping {
    /// Payload type as the client sends it, and the router's.
    pub codecs: Vec<(u8, u8)>,
    /// Per encoding of the client's `RtpParameters`, in order: the SSRC that the stream has inside the mesh.
    pub mapped_ssrcs: Vec<u32>,
}

/// What the control plane asks of a worker.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are the ids and parameters that their types name")]
pub enum Request {
    CreateRouter {
        router: RouterId,
        account: Account,
    },
    /// Closes everything in it.
    CloseRouter {
        router: RouterId,
    },
    CreateWebRtcTransport {
        router: RouterId,
        transport: TransportId,
        ice: IceCredentials,
        /// Whether it may carry data channels.
        data_channels: bool,
    },
    /// The client's DTLS role and fingerprints.
    ConnectWebRtcTransport {
        transport: TransportId,
        dtls: DtlsParameters,
    },
    /// In place of ICE and DTLS.
    ConnectWithSrtpKeys {
        transport: TransportId,
        keys: SrtpKeys,
    },
    RestartIce {
        transport: TransportId,
        ice: IceCredentials,
    },
    /// Closes its producers and consumers.
    CloseTransport {
        transport: TransportId,
    },
    /// `rtp` as the client sent it, checked by ORTC negotiation.
    Produce {
        transport: TransportId,
        producer: ProducerId,
        kind: MediaKind,
        rtp: RtpParameters,
        mapping: RtpMapping,
        paused: bool,
    },
    /// `rtp` as the client was told, with SSRCs that no consumer of the transport had before. The consumer lives on the
    /// producer's router.
    Consume {
        transport: TransportId,
        consumer: ConsumerId,
        producer: ProducerId,
        kind: MediaKind,
        rtp: RtpParameters,
        paused: bool,
    },
    /// A producer that lives elsewhere enters this router, by a route or by none yet. `rtp` are its consumable RTP
    /// parameters.
    CreatePipeProducer {
        router: RouterId,
        producer: ProducerId,
        kind: MediaKind,
        rtp: RtpParameters,
        route: Option<RouteIn>,
        paused: bool,
    },
    /// A data producer: what the client sends on a stream of its association.
    ProduceData {
        transport: TransportId,
        producer: ProducerId,
        stream: SctpStreamParameters,
    },
    /// A data consumer: what its producer sends from now on, on a stream that no other of the transport is on. It lives
    /// on the producer's router. While it is paused messages wait.
    ConsumeData {
        transport: TransportId,
        consumer: ConsumerId,
        producer: ProducerId,
        stream: SctpStreamParameters,
        paused: bool,
    },
    /// A data producer that lives elsewhere enters this router, by a route or by none yet. Of `stream` the id says
    /// nothing.
    CreatePipeDataProducer {
        router: RouterId,
        producer: ProducerId,
        stream: SctpStreamParameters,
        route: Option<RouteIn>,
    },
    /// A data producer with no client: what it sends is said by `SendData`. Of `stream` the id says nothing.
    CreateDirectDataProducer {
        router: RouterId,
        producer: ProducerId,
        stream: SctpStreamParameters,
    },
    /// A message of a direct data producer, to all of its consumers or to one.
    SendData {
        producer: ProducerId,
        to: Option<ConsumerId>,
        ppid: u32,
        payload: Bytes,
    },
    /// A producer that lives elsewhere comes by another route from now on, or by none for the time being. Its consumers
    /// stay.
    MovePipeProducer {
        producer: ProducerId,
        route: Option<RouteIn>,
    },
    /// A producer of this worker leaves by a route allocated at `to`. A route with the same id ends, whatever its
    /// epoch.
    CreatePipeConsumer {
        producer: ProducerId,
        to: PipeEnd,
        route: RouteId,
        epoch: RouteEpoch,
        wanted: Wanted,
    },
    ClosePipeConsumer {
        to: PipeEnd,
        route: RouteId,
        epoch: RouteEpoch,
    },
    /// Pipe producers and data producers too. Its consumers end with it, and those that feed its routes.
    CloseProducer {
        producer: ProducerId,
    },
    PauseProducer {
        producer: ProducerId,
    },
    ResumeProducer {
        producer: ProducerId,
    },
    CloseConsumer {
        consumer: ConsumerId,
    },
    PauseConsumer {
        consumer: ConsumerId,
    },
    /// Video asks for a key frame. A data consumer begins, and is not paused again.
    ResumeConsumer {
        consumer: ConsumerId,
    },
    RequestKeyFrame {
        consumer: ConsumerId,
    },
    /// The client wants layers up to these.
    SetPreferredLayers {
        consumer: ConsumerId,
        layers: Layers,
    },
    /// Whose video gets its share before that of others of its transport: 1, as at the beginning, to 255.
    SetConsumerPriority {
        consumer: ConsumerId,
        priority: u8,
    },
    TransportStats {
        transport: TransportId,
    },
    ProducerStats {
        producer: ProducerId,
    },
    ConsumerStats {
        consumer: ConsumerId,
    },
    DataProducerStats {
        producer: ProducerId,
    },
    DataConsumerStats {
        consumer: ConsumerId,
    },
    /// What happened to a transport, its producers and consumers since this was asked last, of the types that were
    /// named then. Those of now are traced for so long, or until it is asked again.
    Trace {
        transport: TransportId,
        types: TraceTypes,
        within: Duration,
    },
    /// Counters and gauges of the whole worker.
    Snapshot,
}

/// The answer to a [`Request`].
#[derive(Debug)]
pub enum Response {
    /// It is done.
    Done,
    /// Of `TransportStats`.
    TransportStats(Box<TransportStats>),
    /// Of `ProducerStats`: of each of its streams whose SSRC is known, in the order of its encodings.
    ProducerStats(Vec<StreamStats>),
    /// Of `ConsumerStats`.
    ConsumerStats(Box<ConsumerStats>),
    /// Of `DataProducerStats` and `DataConsumerStats`.
    DataStats(DataStats),
    /// Of `Trace`.
    Traced(Traced),
    /// Of `Snapshot`.
    Snapshot(Box<WorkerSnapshot>),
}

/// Statistics of a transport.
#[derive(Debug, Clone, Default)]
pub struct TransportStats {
    /// Bytes of datagrams that came in.
    pub bytes_received: u64,
    /// Bytes of datagrams that went out.
    pub bytes_sent: u64,
    /// RTP packets that came in.
    pub rtp_packets_received: u64,
    /// RTP packets that went out, retransmissions included.
    pub rtp_packets_sent: u64,
    /// Media that came in.
    pub rtp_received: Flow,
    /// Media that went out for the first time.
    pub rtp_sent: Flow,
    /// Retransmissions that came in.
    pub rtx_received: Flow,
    /// Retransmissions that went out because they were asked for.
    pub rtx_sent: Flow,
    /// What went out only to see whether it passes.
    pub probation_sent: Flow,
    /// Bits per second in, over the last second.
    pub recv_bitrate: u64,
    /// Bits per second out, over the last second.
    pub send_bitrate: u64,
    /// Share of the client's packets that were missing in the last second, by their transport-wide numbers.
    pub recv_loss: Option<f32>,
    /// Share of the sent packets that the client missed in the last second, by its transport-wide feedback.
    pub send_loss: Option<f32>,
    /// Bits per second that pass to the client, by the estimate; `None` while nothing is known.
    pub available_outgoing_bitrate: Option<u64>,
    /// The client's address.
    pub remote_address: Option<TransportAddress>,
    /// ICE.
    pub ice_state: Option<IceState>,
    /// DTLS.
    pub dtls_state: Option<DtlsState>,
    /// SCTP, if it may carry data channels.
    pub sctp_state: Option<SctpState>,
}

/// Statistics of a data producer or a data consumer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DataStats {
    /// Messages that came in, or were taken to be sent.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that wait to be sent.
    pub buffered: u64,
    /// Messages that were dropped: of channels that may lose some.
    pub dropped: u64,
}

/// RTP of one kind on a transport, headers included, without encryption.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Since the start.
    pub bytes: u64,
    /// Bits per second in the last report interval.
    pub bitrate: u64,
}

/// Statistics of a consumer.
#[derive(Debug, Clone, Default)]
pub struct ConsumerStats {
    /// The stream that its client gets.
    pub sent: StreamStats,
    /// The producer's stream that this is made of, as it comes in here.
    pub received: Option<StreamStats>,
}

/// Statistics of a producer's or consumer's RTP stream.
#[derive(Debug, Clone, Default)]
pub struct StreamStats {
    /// SSRC on the client's side; of what comes by a pipe, inside the mesh.
    pub ssrc: u32,
    /// SSRC of its retransmissions, if they have one.
    pub rtx_ssrc: Option<u32>,
    /// The publisher's name for the encoding.
    pub rid: Option<String>,
    /// RTP packets, retransmissions excluded.
    pub packets: u64,
    /// RTP payload bytes.
    pub bytes: u64,
    /// Packets lost on the client's link, RFC 3550.
    pub packets_lost: u64,
    /// Share lost of the last report interval, 0 to 255.
    pub fraction_lost: u8,
    /// Interarrival jitter in RTP timestamp units, RFC 3550 section 6.4.1.
    pub jitter: u32,
    /// Packets sent or received again.
    pub packets_retransmitted: u64,
    /// Packets that came only as retransmission.
    pub packets_repaired: u64,
    /// Packets that came and could not be used; of what is sent, retransmissions that the client was refused.
    pub packets_discarded: u64,
    /// Generic NACK messages, RFC 4585 section 6.2.1.
    pub nack_count: u64,
    /// Packets that those asked for.
    pub nack_packet_count: u64,
    /// Picture loss indications.
    pub pli_count: u64,
    /// Full intra requests.
    pub fir_count: u64,
    /// Key frames that went by.
    pub key_frames: u64,
    /// Bits per second over the last second.
    pub bitrate: u64,
    /// Of what comes in, if it has several layers.
    pub bitrate_by_layer: Vec<LayerBitrate>,
    /// Round trip time in milliseconds, from receiver reports.
    pub round_trip_time_ms: Option<f32>,
    /// Quality, 0 to 10.
    pub score: u8,
}

/// What it takes to send a stream on up to a layer, key frames left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerBitrate {
    /// Spatial layer inside the stream.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Bits per second on the path.
    pub bitrate: u64,
}

/// Bytes of datagrams' payload, connectivity checks and handshakes included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From users.
    pub received: u64,
    /// To users.
    pub sent: u64,
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.sent += other.sent;
    }
}

/// Counters and gauges of a worker since its start.
#[derive(Debug, Clone, Default)]
pub struct WorkerSnapshot {
    /// Open routers.
    pub routers: u64,
    /// Open transports.
    pub transports: u64,
    /// Transports by ICE connected and DTLS connected.
    pub transports_connected: u64,
    /// Open producers, pipe producers excluded.
    pub producers: u64,
    /// Open consumers, pipe consumers excluded.
    pub consumers: u64,
    /// Open pipe producers.
    pub pipe_producers: u64,
    /// Open pipe consumers.
    pub pipe_consumers: u64,
    /// Open data producers, those at the end of a route excluded.
    pub data_producers: u64,
    /// Open data consumers, the beginnings of routes excluded.
    pub data_consumers: u64,
    /// Open data producers at the end of a route, or of none for the time being.
    pub pipe_data_producers: u64,
    /// Open beginnings of routes of data.
    pub pipe_data_consumers: u64,
    /// Datagrams that came in from users.
    pub datagrams_received: u64,
    /// Datagrams that went out to users.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// RTP packets accepted from users.
    pub rtp_packets_received: u64,
    /// RTP packets sent to users, retransmissions included.
    pub rtp_packets_sent: u64,
    /// RTP packets that came in by pipes.
    pub pipe_packets_received: u64,
    /// RTP packets that went out by pipes.
    pub pipe_packets_sent: u64,
    /// Messages of data channels that users sent.
    pub data_messages_received: u64,
    /// Their bytes.
    pub data_bytes_received: u64,
    /// Messages of data channels that were sent to users.
    pub data_messages_sent: u64,
    /// Their bytes.
    pub data_bytes_sent: u64,
    /// Retransmissions sent to users.
    pub retransmissions_sent: u64,
    /// Key-frame requests sent to publishers.
    pub key_frame_requests: u64,
    /// The longest that a packet has waited for the worker in the last second or two, in microseconds.
    pub lag_us: u64,
    /// Whether the worker sheds video because it has more to do than it can.
    pub shedding: bool,
    /// Consumers and pipe consumers of video that are shed.
    pub shed_consumers: u64,
    /// What went to and from users on each account that there was a transport of, closed ones included.
    pub traffic: Vec<(Account, Traffic)>,
    /// Dropped packets by reason: a label in snake case and a count.
    pub drops: Vec<(&'static str, u64)>,
    /// Thread CPU time, in nanoseconds.
    pub cpu_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_a_request_gives_no_secret_away() {
        let (router, transport) = (RouterId::from_bytes([0; 16]), TransportId::from_bytes([0; 16]));
        let ice = IceCredentials { ufrag: "0000name".to_owned(), pwd: "a secret".to_owned() };
        let keys = SrtpKeys {
            profile: SrtpProfile::AeadAes128Gcm,
            remote: vec![201; 28],
            local: vec![202; 28],
            remote_address: TransportAddress::Udp(([192, 0, 2, 1], 1).into()),
        };
        let requests = [
            Request::CreateWebRtcTransport { router, transport, ice: ice.clone(), data_channels: true },
            Request::RestartIce { transport, ice },
            Request::ConnectWithSrtpKeys { transport, keys },
        ];
        for request in requests {
            let printed = format!("{request:?}");
            assert!(printed.contains("0000name") || printed.contains("AeadAes128Gcm"), "{printed}");
            for secret in ["a secret", "201", "202"] {
                assert!(!printed.contains(secret), "{printed}");
            }
        }
    }
}
