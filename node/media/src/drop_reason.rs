//! Why a packet went no further. On the hot path that is a count and never an `Error`: what arrives by the thousand per
//! second must not allocate, and what an operator wants to know is how many and why.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident => $label:literal,)*) => {
        /// Why a packet was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[$doc])* $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The reason as metrics name it, in snake case.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                }
            }
        }
    };
}

drop_reasons! {
    /// The first byte belongs to no protocol of RFC 7983.
    UnknownProtocol => "unknown_protocol",
    /// Nobody can be answered at port 0.
    InvalidSource => "invalid_source",
    /// No STUN request from this address was ever authenticated.
    UnknownAddress => "unknown_address",
    /// A STUN request names a transport that does not exist.
    UnknownUfrag => "unknown_ufrag",
    /// Not a STUN message, or none that an ICE-lite agent has a use for.
    StunMalformed => "stun_malformed",
    /// A STUN request without valid credentials; it was answered with 400 or 401.
    StunUnauthenticated => "stun_unauthenticated",
    /// A STUN request with valid credentials that was answered with 420 or 487.
    StunRefused => "stun_refused",
    /// More connectivity checks than any client needs, with valid credentials; they are not answered.
    StunFlood => "stun_flood",
    /// A check from one new address too many for its transport; it is not answered.
    AddressFlood => "address_flood",
    /// A check from an address that is another transport's, which was heard from lately.
    AddressTaken => "address_taken",
    /// DTLS records that are cut short, or more than fit into a datagram of any client.
    DtlsMalformed => "dtls_malformed",
    /// DTLS records that nobody waits for: not in their turn, forged, or a repetition that was just answered.
    DtlsUnwanted => "dtls_unwanted",
    /// Media before keys are in place, or after they are gone.
    DtlsNotConnected => "dtls_not_connected",
    /// An SCTP packet that is cut short, or has what no client needs to send.
    SctpMalformed => "sctp_malformed",
    /// An SCTP packet without an association.
    SctpNotConnected => "sctp_not_connected",
    /// SCTP chunks beyond what is kept of a client: it sends them again when there is room. Or an association that
    /// takes too much was ended.
    SctpFlood => "sctp_flood",
    /// An SCTP packet over which the implementation failed. The association was ended.
    SctpFault => "sctp_fault",
    /// A message on a stream that no data producer has.
    UnknownStream => "unknown_stream",
    /// A message of the data channel establishment protocol: channels are announced by signalling.
    DcepUnwanted => "dcep_unwanted",
    /// A message that is empty, or larger than was announced.
    DataTooLarge => "data_too_large",
    /// A message for a client that takes less than comes.
    DataConsumerFull => "data_consumer_full",
    /// A message for a route whose other end acknowledges less than comes.
    DataRouteFull => "data_route_full",
    /// A message of a route before which others are missing. It is sent again.
    DataGap => "data_gap",
    /// A message of a route under a number that no message has.
    DataNumberTooLarge => "data_number_too_large",
    /// Nowhere to send to: ICE found no path yet, or consent ran out.
    IceNotConnected => "ice_not_connected",
    /// Too short for the headers that it claims to have.
    RtpMalformed => "rtp_malformed",
    /// Too short for the headers that it claims to have.
    RtcpMalformed => "rtcp_malformed",
    /// The authentication tag is wrong.
    SrtpUnauthenticated => "srtp_unauthenticated",
    /// Came before, or is too old to tell.
    SrtpReplayed => "srtp_replayed",
    /// As many streams as a transport may have are known already.
    SrtpTooManyStreams => "srtp_too_many_streams",
    /// Sending it would use a key and nonce twice.
    SrtpNonceReused => "srtp_nonce_reused",
    /// Larger than any datagram that is sent.
    TooLarge => "too_large",
    /// Larger than the way to its destination takes, where it may not be fragmented.
    PathMtu => "path_mtu",
    /// The kernel had no room: its receive buffer of the worker's socket was full.
    ReceiveBufferFull => "receive_buffer_full",
    /// The send buffer of the socket is full.
    SocketFull => "socket_full",
    /// The system refused to send it.
    SocketError => "socket_error",
    /// More was to be sent by a connection than waits for it.
    ConnectionFull => "connection_full",
    /// It waited for a connection for so long that nobody wants it any more.
    ConnectionLate => "connection_late",
    /// To a connection that is over.
    ConnectionGone => "connection_gone",
    /// A frame that is no datagram; its connection was closed.
    FrameMalformed => "frame_malformed",
    /// The queue to another worker is full.
    WorkerQueueFull => "worker_queue_full",
    /// No producer of the transport has this SSRC, or this MID and RID.
    UnknownSsrc => "unknown_ssrc",
    /// A payload type that was not negotiated.
    UnknownPayloadType => "unknown_payload_type",
    /// A sequence number far from all others of its stream.
    RtpSequenceJump => "rtp_sequence_jump",
    /// A retransmission of what is here already, or nobody would want any more.
    RtxUnwanted => "rtx_unwanted",
    /// A retransmission stream's padding: a probe of the publisher's congestion control.
    RtxPadding => "rtx_padding",
    /// Audio beyond what a client may send.
    AudioLimit => "audio_limit",
    /// Came when its producer was paused.
    ProducerPaused => "producer_paused",
    /// Not sent to a consumer that has to begin with a key frame.
    WaitingForKeyFrame => "waiting_for_key_frame",
    /// A retransmission, or a list of what is missing, beyond what a client may ask for.
    RetransmissionLimit => "retransmission_limit",
    /// Not sent because it had left the cache: what came with it took its place.
    Evicted => "evicted",
    /// Not sent to a consumer that has moved on.
    TooLate => "too_late",
    /// A frame of a route that does not exist.
    UnknownRoute => "unknown_route",
    /// A frame of a former use of its route.
    StaleRoute => "stale_route",
    /// What the other end of a route says, when the route is not there any more or is used anew.
    StaleFeedback => "stale_feedback",
    /// A frame that came before.
    PipeDuplicate => "pipe_duplicate",
    /// A frame that is not waited for any more.
    PipeTooOld => "pipe_too_old",
    /// A frame that the other end left out because the pipe cannot carry it.
    PipeShed => "pipe_shed",
    /// A frame that never came, in spite of NACKs.
    PipeLost => "pipe_lost",
    /// A packet of a temporal layer that the other end of a route does not want.
    UnwantedLayer => "unwanted_layer",
    /// Video that was not sent because the worker has more to do than it can.
    Overload => "overload",
    /// Audio that is not passed on because others are louder (last-N).
    NotLoudest => "not_loudest",
}

/// How many packets were dropped for each reason.
#[derive(Debug, Clone)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        Self([0; DropReason::ALL.len()])
    }
}

impl DropCounters {
    /// Counts one packet.
    pub fn count(&mut self, reason: DropReason) {
        self.count_many(reason, 1);
    }

    /// Counts several packets.
    pub fn count_many(&mut self, reason: DropReason, packets: u64) {
        if let Some(counter) = self.0.get_mut(reason as usize) {
            *counter += packets;
        }
    }

    /// Packets dropped for `reason`.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0.get(reason as usize).copied().unwrap_or(0)
    }

    /// Labels and counts of all reasons that occurred.
    pub fn nonzero(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        DropReason::ALL
            .iter()
            .zip(&self.0)
            .filter(|(_, count)| **count > 0)
            .map(|(reason, count)| (reason.label(), *count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_counts_are_kept_apart() {
        let mut labels: Vec<_> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), DropReason::ALL.len());

        let mut counters = DropCounters::default();
        counters.count(DropReason::SrtpReplayed);
        counters.count_many(DropReason::TooLarge, 3);
        assert_eq!(counters.nonzero().collect::<Vec<_>>(), [("srtp_replayed", 1), ("too_large", 3)]);
        assert_eq!(counters.get(DropReason::TooLarge), 3);
    }
}
