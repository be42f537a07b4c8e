//! What an operator can set. Plain structs with defaults; [`NodeConfig::load`] is the only parse: a TOML file, then
//! `SLUICE_*` environment variables, then flags, each overriding the one before, checked once as a whole.
//!
//! # Layout
//! - `settings`: the table that fields, keys, variables, flags and sample come from.
//! - `value`: the types of values; `address`: those that are addresses.
//! - `namespaces`: the tenants, which only the file has.
//! - `load`: the three sources and their merging.
//! - `check`: what no single value can be blamed for.
//! - `sample`: the commented sample file.

mod address;
mod check;
mod load;
mod namespaces;
mod sample;
mod settings;
#[cfg(test)]
mod tests;
mod value;

use std::net::SocketAddr;
use std::path::PathBuf;

use sluice_media::{AudioLimits, DataLimits};
use sluice_proto::ids::{NodeId, Region};

use settings::{Settings, section};

pub use address::{Announced, Host, Network, TurnUrl};
pub use load::Sources;
pub use namespaces::{KeyAlgorithm, KeyConfig, NamespaceConfig, NamespacesConfig};
pub use sample::sample;
pub use settings::{Section, Setting, sections};
#[cfg(test)]
pub(crate) use value::SettingValue;
pub use value::{CodecName, HostPort, HttpUrl, Label, LogFilter, LogFormat, Origin, Pem, Secret};

/// Why a configuration is refused; one line that names the setting, the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

section! {
    /// Settings of a Sluice node. Each can also be given as an environment variable (`SLUICE_`, then section and name
    /// in capitals) and as a flag of `sluice node` (section and name joined by dashes); a flag overrides a variable, a
    /// variable this file.
    pub struct NodeConfig in "" {
        /// The node's name: unique in the mesh, and the one in its certificate.
        id: NodeId = NodeId::new("node-1").expect("a valid name"),
        /// The region it stands in; nodes of one region are near each other.
        region: Region = Region::new("local").expect("a valid name"),
        /// The zone within the region.
        zone: Label = "".parse().expect("a valid label"),
        /// The carrier (internet provider) whose users it serves best.
        carrier: Label = "".parse().expect("a valid label"),
        /// Preference among nodes that serve a user equally well; the higher is chosen.
        priority: u32 [0 ..= 1000] = 100,
        /// Directory for the little that outlives a restart. Unset: nothing does.
        data_dir: Option<PathBuf> = None,
        /// The least number that tells this life of the node from its former ones. Its start in milliseconds is used if
        /// that is more.
        incarnation: u64 [0 ..= 4611686018427387904] = 0,
        /// Media workers, a thread each. 0: one for each processor.
        workers: u16 [0 ..= 256] = 0,
        /// Serve users beyond this machine although anybody who reaches the port can enter any room.
        insecure_open: bool = false,
    }
    tables {
        /// The mesh that the node belongs to.
        cluster: ClusterConfig,
        /// Users' signalling and the room page.
        users: UsersConfig,
        /// Users' media.
        media: MediaConfig,
        /// Users' data channels.
        data: DataConfig,
        /// Users whose network lets no UDP out.
        turn: TurnConfig,
        /// Pipes and gossip.
        mesh: MeshConfig,
        /// Directory and rosters.
        grpc: GrpcConfig,
        /// Health, metrics and state.
        admin: AdminConfig,
        /// Who is told of what happens in rooms.
        webhooks: WebhooksConfig,
        /// Who came, who was refused, and what operators asked for.
        audit: AuditConfig,
        /// How much of everything there may be.
        limits: LimitsConfig,
        /// Logs and traces.
        telemetry: TelemetryConfig,
        /// Tenants, and who may enter their rooms.
        namespaces: NamespacesConfig,
    }
}

section! {
    /// The mesh that the node belongs to.
    pub struct ClusterConfig in "cluster." {
        /// The cluster's name: the same on all nodes and in their certificates.
        name: Label = "sluice".parse().expect("a valid label"),
        /// Mesh addresses of some nodes to find the others by. A node whose seeds are all down serves alone.
        seeds: Vec<HostPort> = Vec::new(),
    }
}

section! {
    /// Users: the room page and signalling over HTTP and WebSocket (TCP).
    pub struct UsersConfig in "users." {
        /// Address and port to listen on. Beyond loopback there must be namespaces, or insecure_open must be set.
        listen: SocketAddr = ([127, 0, 0, 1], 4443).into(),
        /// URL that users reach this node by, for the console and for other nodes. Unset: made of the address.
        url: Option<HttpUrl> = None,
        /// Certificate chain for HTTPS. Unset: plain HTTP, which browsers give a camera only on localhost.
        tls_cert: Option<Pem> = None,
        /// Private key of tls_cert.
        tls_key: Option<Pem> = None,
        /// Web pages of other hosts that may connect, by their origin; `*`: all. The pages of this host (and of url)
        /// always may, and so may programs, which name no origin. On a loopback address only address and localhost are
        /// this host, not its names.
        allowed_origins: Vec<Origin> = Vec::new(),
        /// Proxies that many users come through. They are believed for whom they come (X-Forwarded-For, and what
        /// proxy_protocol says), and limits for each address do not apply to theirs. What comes from this machine is
        /// among them by default, for a proxy beside the node and for load tests.
        proxies: Vec<Network> = Network::LOOPBACK.to_vec(),
        /// Each connection of one of the proxies begins with a header of the PROXY protocol, version 1 or 2.
        proxy_protocol: bool = false,
        /// Connections at a time; further ones are answered with 503. Each user has one, and a page's load a few for a
        /// moment. Less where the system allows fewer open files.
        max_connections: u32 [1 ..= 1000000] = 20_000,
        /// Time for a request's header to arrive whole, in milliseconds, and as much for its body.
        header_timeout_ms: u64 [100 ..= 600000] = 10_000,
    }
}

section! {
    /// Media of users: ICE, DTLS and SRTP on one port for all workers, over UDP and, where a network lets none out,
    /// over TCP.
    pub struct MediaConfig in "media." {
        /// Address and port to listen on.
        listen: SocketAddr = ([127, 0, 0, 1], 4444).into(),
        /// Addresses that users are told, in order of preference; needed behind a NAT or when listening on 0.0.0.0. A
        /// name is resolved when the node starts, and once a minute. Empty: the address listened on.
        announced: Vec<Announced> = Vec::new(),
        /// Listen on TCP too, under the same number, and tell clients so (ICE over TCP). It may be the number of
        /// users.listen: 443 for both is all that a user's network has to let out.
        tcp: bool = true,
        /// Connections over TCP at a time. A user whose media go by TCP has two; others have them for a moment, while
        /// they find out that UDP is better. Less where the system allows fewer open files.
        max_connections: u32 [1 ..= 1000000] = 20_000,
        /// Voices that are heard in a room at a time: of more people only so many, the loudest, get through to others
        /// and to other nodes, and those that somebody gives a higher priority. 0: all.
        last_n: u16 [0 ..= 255] = 0,
        /// Bits per second of audio that a user may send, all voices together, with what is around packets on the path.
        /// What is more is dropped: audio is never held back for want of room, so that much of it would leave none for
        /// video.
        audio_bitrate: u32 [16000 ..= 100000000] = AudioLimits::default().bitrate,
        /// MIME types of the codecs that may be sent, in the order in which clients that do not choose prefer them. The
        /// same on all nodes: what one allows another may not announce.
        codecs: Vec<CodecName> = CodecName::all(),
    }
}

section! {
    /// Data channels: messages of applications beside media, to everybody in the room.
    pub struct DataConfig in "data." {
        /// Let clients make them.
        enabled: bool = true,
        /// Bits per second of messages that a user may send, all channels together, after a second's worth at once.
        /// Whoever sends more is read no faster (SCTP flow control); nothing is lost by that.
        bitrate: u32 [8000 ..= 1000000000] = DataLimits::default().bitrate,
        /// Messages a second that a user may send, likewise.
        messages_per_second: u32 [1 ..= 1000000] = DataLimits::default().messages_per_second,
        /// Bytes of the longest message; clients are told.
        message_bytes: u32 [1024 ..= 262144] = DataLimits::default().max_message_size as u32,
        /// Bytes that may wait for a client that takes less than comes, of one channel. If it is full, a channel that
        /// may lose messages loses some, and another is closed and begins anew.
        buffer_bytes: u32 [65536 ..= 67108864] = DataLimits::default().consumer_buffer as u32,
    }
}

impl DataConfig {
    /// What a worker keeps to.
    pub(crate) fn limits(&self) -> DataLimits {
        DataLimits {
            bitrate: self.bitrate,
            messages_per_second: self.messages_per_second,
            max_message_size: self.message_bytes as usize,
            consumer_buffer: self.buffer_bytes as usize,
            ..DataLimits::default()
        }
    }
}

section! {
    /// TURN: users whose network lets out nothing but TCP, or TLS, reach the media port through the users' port.
    pub struct TurnConfig in "turn." {
        /// Serve it, and tell clients of it.
        enabled: bool = true,
        /// Where clients are told to find it. Empty: at the host and port of their own WebSocket, with TLS if that port
        /// has it (tls_cert), and nowhere if they come through one of users.proxies by HTTP, which lets no TURN pass.
        urls: Vec<TurnUrl> = Vec::new(),
        /// Allocations at a time. Clients try it beside UDP, with an allocation or two for each transport, and leave it
        /// unused for 30 s if they need none; each is a socket for each announced address. Less where the system allows
        /// fewer than 16 times as many open files.
        allocations: u32 [1 ..= 100000] = 2_000,
    }
}

section! {
    /// Other nodes: pipes and gossip over QUIC (UDP) with mutual TLS.
    pub struct MeshConfig in "mesh." {
        /// Address and port to listen on.
        listen: SocketAddr = ([127, 0, 0, 1], 4445).into(),
        /// Address that other nodes are told; needed behind a NAT or when listening on 0.0.0.0.
        announced: Option<Announced> = None,
        /// Certificate of the cluster's CA (`sluice ca init`). Unset, with cert and key: the node stays alone.
        ca: Option<Pem> = None,
        /// The node's certificate (`sluice ca issue`), for grpc too.
        cert: Option<Pem> = None,
        /// Private key of cert.
        key: Option<Pem> = None,
        /// Other nodes that are known at one time. One that is neither linked nor a member is forgotten after 5
        /// minutes; each costs some kilobytes.
        peers: u32 [1 ..= 100000] = 1_024,
        /// Routes of producers of other nodes into this one: one for each producer that somebody here receives. Beyond
        /// them producers wait.
        routes: u32 [1 ..= 1000000] = 16_384,
    }
}

section! {
    /// Other nodes: directory and rosters over gRPC (TCP) with the mesh's certificates.
    pub struct GrpcConfig in "grpc." {
        /// Address and port to listen on.
        listen: SocketAddr = ([127, 0, 0, 1], 4446).into(),
        /// Address that other nodes are told; needed behind a NAT or when listening on 0.0.0.0.
        announced: Option<Announced> = None,
    }
}

section! {
    /// Operators: health, metrics and the state of cluster and rooms over HTTP (TCP).
    pub struct AdminConfig in "admin." {
        /// Address and port to listen on. Beyond loopback token or insecure_open must be set.
        listen: SocketAddr = ([127, 0, 0, 1], 4440).into(),
        /// What a request must carry as `Authorization: Bearer`, but for health. Unset: nothing.
        token: Option<Secret> = None,
        /// Tell whoever reaches the port of rooms and of who is in them, without a token and beyond this machine.
        insecure_open: bool = false,
    }
}

section! {
    /// Webhooks: what happens in this node's rooms is posted to a receiver, see docs/webhooks.md.
    pub struct WebhooksConfig in "webhooks." {
        /// Where events are posted to, one a request. Unset: nowhere.
        url: Option<HttpUrl> = None,
        /// With which they are signed.
        key: Option<Secret> = None,
        /// Bytes of events that wait, in data_dir or else in memory. When it is full the oldest go. An event has about
        /// 350: this is 190,000 of them.
        queue_bytes: u64 [65536 ..= 1099511627776] = 67_108_864,
        /// How long the receiver may take to answer, in milliseconds.
        timeout_ms: u64 [100 ..= 600000] = 10_000,
        /// Events that are posted at a time, each of another room.
        concurrency: u32 [1 ..= 1024] = 16,
        /// How old an event may get, in milliseconds, before it is given up. A day.
        max_age_ms: u64 [1000 ..= 2592000000] = 86_400_000,
    }
}

section! {
    /// The audit log: sessions that were refused, came and went, and operators' requests, an object of JSON a line.
    pub struct AuditConfig in "audit." {
        /// The file, opened anew at SIGHUP. Unset: the log has it, with the target audit; sessions that come and go at
        /// level debug.
        file: Option<PathBuf> = None,
        /// Bytes of the file, after which it is continued in a new one.
        file_bytes: u64 [4096 ..= 1099511627776] = 67_108_864,
        /// Former files that are kept, as file.1 (the latest), file.2 and so on.
        files: u32 [0 ..= 1000] = 8,
    }
}

section! {
    /// How much of everything a node's rooms and signalling hold. What exceeds a limit is refused with an error that
    /// names it.
    pub struct LimitsConfig in "limits." {
        /// Connections of one address (of IPv6: of one /64) to the users' port; 0: as many as there are. A fifth of all
        /// that a node has: more than stand behind an office's one address, and not enough to keep everybody else out.
        connections_per_address: u32 [0 ..= 1000000] = 4_000,
        /// The same of connections to the media port.
        media_connections_per_address: u32 [0 ..= 1000000] = 4_000,
        /// WebSockets that one address may open a minute, all at once if need be; 0: any number. After a network's
        /// outage all of its users come back together.
        sessions_per_minute_per_address: u32 [0 ..= 1000000] = 4_000,
        /// What peers at one address may change a minute that others are told of, all at once if need be; 0: any
        /// number. A hundred times what one peer may.
        changes_per_minute_per_address: u32 [0 ..= 10000000] = 12_000,
        /// Rooms that exist at a time because somebody at one address came first; 0: any number. A tenth of all.
        rooms_per_address: u32 [0 ..= 1000000] = 1_000,
        /// Allocations of TURN of one address at a time; 0: any number. A fifth of all: two of each user behind it.
        allocations_per_address: u32 [0 ..= 1000000] = 400,
        /// Rooms of this node. A room is a task and a lease: ten thousand cost about 100 MB and 5,000 lease renewals a
        /// second spread over the owners.
        rooms: u32 [1 ..= 1000000] = 10_000,
        /// Peers of one room on this node.
        peers_per_room: u32 [1 ..= 100000] = 5_000,
        /// Peers of a room, wherever they are, up to which everybody is told of everybody, at once. In a larger one
        /// clients are told of those who publish, a few times a second: all of 5,000 would be 12 million notifications.
        small_room: u32 [1 ..= 100000] = 100,
        /// Peers that are listed at a time, for a client or an operator who asks who is in a room: some 15 KB.
        peers_per_page: u32 [1 ..= 10000] = 100,
        /// Transports of one peer. Clients make one per direction; two more leave room for a client that makes new ones
        /// before it closes the old. A further one takes the place of one that is dead.
        transports_per_peer: u32 [1 ..= 64] = 4,
        /// How long the network path of a transport may be gone, in milliseconds, before the transport ends with its
        /// producers and consumers. Until then the client can restart ICE, however long its network was away.
        transport_lost_ms: u64 [1000 ..= 86400000] = 300_000,
        /// How old a transport that never connected is, in milliseconds, when it may give way to a new one.
        transport_unused_ms: u64 [0 ..= 86400000] = 30_000,
        /// Producers of one peer: camera, microphone, screen with sound, as much again, and four of data.
        producers_per_peer: u32 [1 ..= 256] = 12,
        /// Consumers of one peer. Beyond it further producers are not shown to the peer: no browser decodes this many.
        consumers_per_peer: u32 [1 ..= 10000] = 512,
        /// Routes that other nodes may have out of this one, all together: one for each producer that one of them
        /// receives.
        routes_out: u32 [1 ..= 1000000] = 65_536,
        /// Routes that one other node may have out of this one. As many as it may have in (mesh.routes), so that none
        /// takes all.
        routes_out_per_node: u32 [1 ..= 1000000] = 16_384,
        /// Messages that wait for one room. A room handles one in microseconds: a full queue means that whoever sends
        /// must wait.
        room_queue: u32 [16 ..= 1000000] = 1_024,
        /// Requests that a client may send at once.
        request_burst: u32 [1 ..= 100000] = 200,
        /// Requests that a client may send a second after that; it is read no faster.
        requests_per_second: u32 [1 ..= 100000] = 100,
        /// What one peer may change a minute that others are told of, all at once if need be: a rename, a pause or an
        /// end of a producer is one change, a new producer six. Push-to-talk takes a few dozen.
        changes_per_minute: u32 [6 ..= 1000000] = 120,
        /// Bytes of one message that a client sends. The longest that clients send, capabilities and what they produce,
        /// have 15 KB; each WebSocket may hold this much that is not complete yet.
        message_bytes: u32 [4096 ..= 960000] = 65_536,
        /// Bytes of messages that a client may send a second, after four times as much at once; it is read no faster. A
        /// join takes 20 KB, and each producer another 5 KB.
        bytes_per_second: u32 [4096 ..= 10000000] = 65_536,
        /// How long a client may take to join, in milliseconds, from when its room knows of it. Browsers ask people for
        /// camera and microphone meanwhile, and people take their time.
        join_within_ms: u64 [100 ..= 86400000] = 600_000,
        /// How late the node may be, and how long a room may let newcomers wait, in milliseconds, before it asks others
        /// to come later: people wait that long without a thought, and nobody inside notices.
        admission_wait_ms: u64 [10 ..= 60000] = 500,
        /// Times that one client may ask to join; a client whose connection broke while it waited for its user asks
        /// twice.
        joins_per_session: u32 [1 ..= 1000] = 8,
        /// How long a peer has for a sign of life when another client wants its name without its secret, in
        /// milliseconds. Without one it gives way.
        sign_of_life_ms: u64 [100 ..= 60000] = 2_000,
        /// How long a peer whose connection broke keeps its place, in milliseconds, so that its client can go on. 0: it
        /// leaves at once.
        resume_within_ms: u64 [0 ..= 600000] = 15_000,
        /// Between pings, in milliseconds; proxies drop connections that are silent for longer, many after 30 or 60 s.
        ping_interval_ms: u64 [1000 ..= 3600000] = 20_000,
        /// How long nothing may be heard of a client, answers to pings included, before it counts as gone, in
        /// milliseconds.
        silence_ms: u64 [1000 ..= 3600000] = 60_000,
        /// How long one write to a WebSocket may take before the client counts as gone, in milliseconds.
        write_within_ms: u64 [100 ..= 600000] = 10_000,
        /// How long a node that stops goes on after it has said that it is not ready, in milliseconds, so that load
        /// balancers send nobody there who would be sent away.
        shutdown_pause_ms: u64 [0 ..= 600000] = 0,
        /// The time in which a node that stops sends its users away, in milliseconds; it takes less when there are
        /// fewer than a thousand for each second. They come back to other nodes, not all at once.
        shutdown_spread_ms: u64 [0 ..= 600000] = 5_000,
    }
}

section! {
    /// Logs and traces.
    pub struct TelemetryConfig in "telemetry." {
        /// What is logged, to standard error.
        level: LogFilter = "info".parse().expect("a valid filter"),
        /// How log lines look.
        format: LogFormat = LogFormat::Text,
        /// OTLP/gRPC endpoint that traces are exported to. Unset: none are.
        otlp_endpoint: Option<HttpUrl> = None,
    }
}

impl NodeConfig {
    /// Merges the sources, reads each setting and checks the whole.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let config = Self::read(&sources.merge()?)?;
        config.check()?;
        Ok(config)
    }

    /// Where users reach the node: what is configured, or else made of the address that it listens on.
    pub fn users_url(&self) -> String {
        if let Some(url) = &self.users.url {
            return url.to_string();
        }
        let scheme = if self.users.tls_cert.is_some() { "https" } else { "http" };
        let mut addr = self.users.listen;
        match self.media.announced.first().map(|announced| &announced.host) {
            Some(Host::Name(name)) if addr.ip().is_unspecified() => {
                return format!("{scheme}://{name}:{}", addr.port());
            }
            Some(Host::Ip(ip)) if addr.ip().is_unspecified() => addr.set_ip(*ip),
            _ => {}
        }
        format!("{scheme}://{addr}")
    }
}
