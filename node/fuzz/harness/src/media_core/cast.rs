//! Who there may be in a world: a few of everything, by number.

use std::sync::OnceLock;

use sluice_media::TransportAddress;
use sluice_media::messages::{PipeEnd, WorkerIndex};
use sluice_mesh::LinkKey;
use sluice_proto::ids::{ConsumerId, ProducerId, RouterId, TransportId};
use sluice_proto::ortc::{MediaKind, RtpEncodingParametersRtx, RtpParameters};

pub(super) const ROUTERS: usize = 2;
pub(super) const USERS: usize = 4;
pub(super) const PRODUCERS: usize = 4;
pub(super) const CONSUMERS: usize = 6;
pub(super) const ROUTES: usize = 3;
pub(super) const EPOCHS: usize = 4;
/// Those of users, and of others.
pub(super) const ADDRESSES: usize = USERS + 4;
/// SSRCs that users may send with; the odd ones are of retransmissions.
pub(super) const SSRCS: usize = 16;

/// The far ends of routes.
pub(super) const ENDS: [PipeEnd; 2] = [PipeEnd::Node(LinkKey(1)), PipeEnd::Worker(WorkerIndex(1))];

/// What is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Opus,
    Vp8,
    /// Whose receiver has no RTX.
    Vp8Plain,
    H264,
    /// Whose receiver has no RTX.
    H264Plain,
}

impl Stream {
    pub(super) const ALL: [Self; 5] = [Self::Opus, Self::Vp8, Self::Vp8Plain, Self::H264, Self::H264Plain];

    pub(super) fn kind(self) -> MediaKind {
        if self == Self::Opus { MediaKind::Audio } else { MediaKind::Video }
    }

    pub(super) fn payload_type(self) -> u8 {
        match self {
            Self::Opus => 100,
            Self::Vp8 | Self::Vp8Plain => 101,
            Self::H264 | Self::H264Plain => 103,
        }
    }

    /// Whether who receives it has a stream for retransmissions. Publishers of video have one.
    pub(super) fn has_rtx(self) -> bool {
        matches!(self, Self::Vp8 | Self::H264)
    }

    /// Parameters of one encoding, whose retransmissions have the SSRC behind its own.
    pub(super) fn parameters(self, mid: &str, ssrc: Option<u32>, has_rtx: bool) -> RtpParameters {
        static PARAMETERS: OnceLock<Vec<RtpParameters>> = OnceLock::new();
        let all = PARAMETERS.get_or_init(|| Self::ALL.map(Self::base).into());
        let mut parameters = all[self as usize].clone();
        parameters.mid = Some(mid.to_owned());
        if !has_rtx {
            parameters.codecs.truncate(1);
        }
        parameters.encodings[0].ssrc = ssrc;
        let rtx = ssrc.filter(|_| has_rtx).map(|ssrc| RtpEncodingParametersRtx { ssrc: ssrc + 1 });
        parameters.encodings[0].rtx = rtx;
        parameters
    }

    fn base(self) -> RtpParameters {
        let payload_type = self.payload_type();
        let (mime, clock_rate, channels) = match self {
            Self::Opus => ("audio/opus", 48_000, r#""channels": 2,"#),
            Self::Vp8 | Self::Vp8Plain => ("video/VP8", 90_000, ""),
            Self::H264 | Self::H264Plain => ("video/H264", 90_000, ""),
        };
        let rtx = payload_type + 1;
        let json = format!(
            r#"{{"codecs": [
                {{"mimeType": "{mime}", "payloadType": {payload_type}, "clockRate": {clock_rate}, {channels} "rtcpFeedback": [
                    {{"type": "nack", "parameter": ""}}, {{"type": "nack", "parameter": "pli"}}]}},
                {{"mimeType": "video/rtx", "payloadType": {rtx}, "clockRate": 90000, "parameters": {{"apt": {payload_type}}}}}],
            "headerExtensions": [
                {{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 1, "encrypt": false}},
                {{"uri": "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", "id": 4, "encrypt": false}},
                {{"uri": "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01", "id": 5, "encrypt": false}},
                {{"uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "id": 10, "encrypt": false}}],
            "encodings": [{{}}], "rtcp": {{"cname": "c", "reducedSize": true}}}}"#
        );
        serde_json::from_str(&json).expect("valid parameters")
    }
}

pub(super) fn router(number: usize) -> RouterId {
    RouterId::from_bytes([0x10 + number as u8; 16])
}

pub(super) fn transport(number: usize) -> TransportId {
    TransportId::from_bytes([0x20 + number as u8; 16])
}

pub(super) fn producer(number: usize) -> ProducerId {
    ProducerId::from_bytes([0x30 + number as u8; 16])
}

pub(super) fn consumer(number: usize) -> ConsumerId {
    ConsumerId::from_bytes([0x40 + number as u8; 16])
}

/// The address of a user, or of somebody else, every other one a connection's; the last is one that cannot be answered.
pub(super) fn address(number: usize) -> TransportAddress {
    let port = if number + 1 == ADDRESSES { 0 } else { 1_000 };
    let address = ([10, 0, 0, number as u8], port).into();
    if number.is_multiple_of(2) { TransportAddress::Udp(address) } else { TransportAddress::Tcp(address) }
}

/// An SSRC that users send with.
pub(super) fn ssrc(number: usize) -> u32 {
    1_000 + number as u32
}

/// The SSRC of a producer inside the mesh.
pub(super) fn mapped_ssrc(producer: usize) -> u32 {
    700 + producer as u32
}

pub(super) fn mid(producer: usize) -> String {
    producer.to_string()
}
