//! Which producer a packet of a transport belongs to: by SSRC, or before that is known by the MID and RID that it
//! carries (RFC 8843 section 9.2). Each encoding has at most one SSRC and one for its retransmissions at a time, so
//! what a client makes up cannot grow the tables. A client may go on with another SSRC, but never with one that another
//! producer has.

use rustc_hash::FxHashMap;

use crate::keys::ProducerKey;
use crate::stream::packet::StreamIndex;
use crate::wire::rtp::ReceivedExtensions;

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamKind {
    /// Media.
    Media,
    /// Retransmissions in the format of RFC 4588.
    Rtx,
}

/// A stream that a packet is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Whose it is.
    pub producer: ProducerKey,
    /// Which of that.
    pub stream: StreamIndex,
    /// What it carries.
    pub kind: StreamKind,
}

/// How a producer's encoding can be known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EncodingIdentity {
    /// Signalled or learned.
    pub ssrc: Option<u32>,
    /// Signalled or learned.
    pub rtx_ssrc: Option<u32>,
    /// Media section.
    pub mid: Option<String>,
    /// Encoding within it.
    pub rid: Option<String>,
    /// Payload types of its media.
    pub payload_types: Vec<u8>,
    /// Payload types of its retransmissions.
    pub rtx_payload_types: Vec<u8>,
}

/// Packets in a row, while the SSRC that was known is silent, after which another one that names the same MID and RID
/// takes its place: fewer could be strays of a change back and forth, and clients may name the MID on their first few
/// packets only.
const LATCH_PACKETS: u8 = 3;

/// The streams of one transport.
#[derive(Debug, Default)]
pub(crate) struct RtpListener {
    by_ssrc: FxHashMap<u32, Found>,
    encodings: Vec<Encoding>,
}

#[derive(Debug)]
struct Encoding {
    producer: ProducerKey,
    stream: StreamIndex,
    identity: EncodingIdentity,
    media: Succession,
    rtx: Succession,
}

/// What may take the place of an SSRC that is known.
#[derive(Debug, Default)]
struct Succession {
    /// The newcomer, and its packets in a row.
    newcomer: Option<(u32, u8)>,
    /// Packets of the known SSRC when the newcomer came.
    heard: u64,
    /// Packets of the known SSRC when the client said that it is over.
    ended_at: Option<u64>,
}

impl Succession {
    /// A packet of an unknown SSRC came, when `heard` packets of the known one had come. Returns whether it takes its
    /// place.
    fn claim(&mut self, ssrc: u32, heard: u64) -> bool {
        let in_a_row = match self.newcomer {
            Some((newcomer, packets)) if newcomer == ssrc && self.heard == heard => packets + 1,
            _ => 1,
        };
        if in_a_row >= LATCH_PACKETS || self.ended_at == Some(heard) {
            *self = Self::default();
            return true;
        }
        (self.newcomer, self.heard) = (Some((ssrc, in_a_row)), heard);
        false
    }
}

impl RtpListener {
    /// Adds a producer's encoding.
    ///
    /// # Errors
    /// What of it another producer has.
    pub(crate) fn add(
        &mut self,
        (producer, stream): (ProducerKey, StreamIndex),
        identity: EncodingIdentity,
    ) -> Result<(), String> {
        let ssrcs = [(identity.ssrc, StreamKind::Media), (identity.rtx_ssrc, StreamKind::Rtx)];
        for ssrc in ssrcs.iter().filter_map(|(ssrc, _)| *ssrc) {
            if self.by_ssrc.contains_key(&ssrc) {
                return Err(format!("SSRC {ssrc}"));
            }
        }
        let same = |other: &&Encoding| {
            // Encodings of one producer may be told apart by SSRC alone.
            let are_told_apart = other.producer == producer && identity.ssrc.is_some() && identity.rid.is_none();
            other.identity.mid == identity.mid && other.identity.rid == identity.rid && !are_told_apart
        };
        if let Some(mid) = &identity.mid
            && self.encodings.iter().find(same).is_some()
        {
            return Err(match &identity.rid {
                Some(rid) => format!("MID {mid:?} with RID {rid:?}"),
                None => format!("MID {mid:?}"),
            });
        }
        for (ssrc, kind) in ssrcs {
            if let Some(ssrc) = ssrc {
                self.by_ssrc.insert(ssrc, Found { producer, stream, kind });
            }
        }
        let (media, rtx) = Default::default();
        self.encodings.push(Encoding { producer, stream, identity, media, rtx });
        Ok(())
    }

    /// Forgets a producer.
    pub(crate) fn remove(&mut self, producer: ProducerKey) {
        self.by_ssrc.retain(|_, found| found.producer != producer);
        self.encodings.retain(|encoding| encoding.producer != producer);
    }

    /// The stream of a known SSRC.
    #[inline]
    pub(crate) fn find(&self, ssrc: u32) -> Option<Found> {
        self.by_ssrc.get(&ssrc).copied()
    }

    /// How a stream is known by now.
    pub(crate) fn identity(&self, stream: (ProducerKey, StreamIndex)) -> Option<&EncodingIdentity> {
        let found = self.encodings.iter().find(|encoding| (encoding.producer, encoding.stream) == stream);
        found.map(|encoding| &encoding.identity)
    }

    /// The stream of an unknown SSRC, if the packet says whose it is, and whether it takes the place of another SSRC.
    /// It is known from then on. `heard` counts the packets of a stream.
    pub(crate) fn learn(
        &mut self,
        ssrc: u32,
        payload_type: u8,
        extensions: &ReceivedExtensions<'_>,
        heard: impl FnOnce(Found) -> u64,
    ) -> Option<(Found, bool)> {
        let mid = extensions.mid?;
        let rid = extensions.rid.or(extensions.repaired_rid);
        let mut named = self.encodings.iter_mut().filter(|encoding| {
            let identity = &encoding.identity;
            identity.mid.as_ref().is_some_and(|own| own.as_bytes() == mid)
                && identity.rid.as_ref().is_none_or(|own| Some(own.as_bytes()) == rid)
        });
        let Encoding { producer, stream, identity, media, rtx } = named.next()?;
        // Of several encodings that only their SSRCs tell apart it may be any.
        if named.next().is_some() {
            return None;
        }
        let (producer, stream) = (*producer, *stream);
        let (known, succession, kind) = if identity.payload_types.contains(&payload_type) {
            (&mut identity.ssrc, media, StreamKind::Media)
        } else if identity.rtx_payload_types.contains(&payload_type) {
            (&mut identity.rtx_ssrc, rtx, StreamKind::Rtx)
        } else {
            return None;
        };
        let found = Found { producer, stream, kind };
        if known.is_some() && !succession.claim(ssrc, heard(found)) {
            return None;
        }
        let former = known.replace(ssrc);
        if let Some(former) = former {
            self.by_ssrc.remove(&former);
        }
        self.by_ssrc.insert(ssrc, found);
        Some((found, former.is_some()))
    }

    /// The client said that an SSRC is over, RFC 3550 section 6.6: another one need not prove that. `heard` counts the
    /// packets of a stream. The SSRC stays known, for clients that go on with it after all.
    pub(crate) fn end(&mut self, ssrc: u32, heard: impl FnOnce(Found) -> u64) {
        let Some(found) = self.find(ssrc) else { return };
        let of_stream = |encoding: &&mut Encoding| match found.kind {
            StreamKind::Media => encoding.identity.ssrc == Some(ssrc),
            StreamKind::Rtx => encoding.identity.rtx_ssrc == Some(ssrc),
        };
        let Some(encoding) = self.encodings.iter_mut().find(of_stream) else { return };
        let succession = if found.kind == StreamKind::Media { &mut encoding.media } else { &mut encoding.rtx };
        succession.ended_at = Some(heard(found));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use slotmap::SlotMap;

    use super::*;

    const FIRST: StreamIndex = StreamIndex::ZERO;

    fn found(producer: ProducerKey, kind: StreamKind) -> Found {
        Found { producer, stream: FIRST, kind }
    }

    fn identity(mid: &str) -> EncodingIdentity {
        let (payload_types, rtx_payload_types) = (vec![96], vec![97]);
        EncodingIdentity { mid: Some(mid.into()), payload_types, rtx_payload_types, ..Default::default() }
    }

    fn with_mid(mid: &'static [u8]) -> ReceivedExtensions<'static> {
        ReceivedExtensions { mid: Some(mid), ..Default::default() }
    }

    fn two_producers(listener: &mut RtpListener) -> [ProducerKey; 2] {
        let mut keys = SlotMap::with_key();
        ["0", "1"].map(|mid| {
            let key = keys.insert(());
            listener.add((key, FIRST), identity(mid)).unwrap();
            key
        })
    }

    #[test]
    fn learns_one_ssrc_of_each_kind_by_mid() {
        let mut listener = RtpListener::default();
        let [_, b] = two_producers(&mut listener);
        let learned = |kind| Some((found(b, kind), false));
        assert_eq!(listener.learn(1, 96, &ReceivedExtensions::default(), |_| 0), None);
        assert_eq!(listener.learn(1, 96, &with_mid(b"1"), |_| 0), learned(StreamKind::Media));
        assert_eq!(listener.learn(2, 97, &with_mid(b"1"), |_| 0), learned(StreamKind::Rtx));
        assert_eq!(
            (listener.find(1), listener.find(2)),
            (Some(found(b, StreamKind::Media)), Some(found(b, StreamKind::Rtx)))
        );
        for ssrc in 1_000..301_000 {
            assert_eq!(listener.learn(ssrc, 96, &with_mid(b"1"), |_| 9), None);
        }
        assert_eq!(listener.by_ssrc.len(), 2);
        listener.remove(b);
        assert_eq!(listener.learn(1, 96, &with_mid(b"1"), |_| 0), None);
    }

    #[test]
    fn another_ssrc_takes_the_place_of_one_that_is_silent_only() {
        let mut listener = RtpListener::default();
        let [a, b] = two_producers(&mut listener);
        for (producer, ssrc, mid) in [(a, 1, b"0"), (b, 2, b"1")] {
            assert_eq!(listener.learn(ssrc, 96, &with_mid(mid), |_| 0).unwrap().0.producer, producer);
        }
        let mut claim = |ssrc, heard| listener.learn(ssrc, 96, &with_mid(b"0"), |_| heard).is_some();
        // While the known one goes on, and while two take turns, nothing changes.
        assert!((1..100).all(|heard| !claim(3, heard)));
        assert!((0..100).all(|packet| !claim(3 + packet % 2, 100)));
        assert_eq!([0; 3].map(|_| claim(3, 101)), [false, false, true]);
        assert_eq!((listener.find(1), listener.find(3)), (None, Some(found(a, StreamKind::Media))));
        assert_eq!(listener.find(2), Some(found(b, StreamKind::Media)), "the other producer keeps its own");
    }

    #[test]
    fn after_a_goodbye_another_ssrc_need_not_prove_anything() {
        let mut listener = RtpListener::default();
        let [a, _] = two_producers(&mut listener);
        listener.learn(1, 96, &with_mid(b"0"), |_| 0);
        listener.end(1, |_| 7);
        assert_eq!(listener.find(1), Some(found(a, StreamKind::Media)), "it may go on after all");
        assert_eq!(listener.learn(3, 96, &with_mid(b"0"), |_| 8), None, "as it did");
        listener.end(1, |_| 8);
        let replaced = Some((found(a, StreamKind::Media), true));
        assert_eq!(listener.learn(3, 96, &with_mid(b"0"), |_| 8), replaced);
        assert_eq!(listener.learn(4, 96, &with_mid(b"0"), |_| 8), None, "once");
    }

    proptest! {
        /// Whatever a client sends, a known SSRC stays its producer's until another one of the same producer takes its
        /// place.
        #[test]
        fn no_stream_changes_its_producer(
            packets in prop::collection::vec((1_u32..12, 95_u8..99, 0_usize..3, 0_u64..3, any::<bool>()), 0..200),
        ) {
            let mut listener = RtpListener::default();
            let producers = two_producers(&mut listener);
            let mut owners = FxHashMap::default();
            for (ssrc, payload_type, mid, heard, ends) in packets {
                if ends {
                    listener.end(ssrc, |_| heard);
                } else if listener.find(ssrc).is_none() {
                    let mid = [&b"0"[..], b"1", b"2"][mid];
                    let extensions = ReceivedExtensions { mid: Some(mid), ..Default::default() };
                    if let Some((learned, _)) = listener.learn(ssrc, payload_type, &extensions, |_| heard) {
                        prop_assert_eq!(Some(&learned.producer), producers.get(usize::from(mid[0] - b'0')));
                        owners.insert(ssrc, learned.producer);
                    }
                }
                prop_assert!(listener.by_ssrc.len() <= 4);
                for (ssrc, found) in &listener.by_ssrc {
                    prop_assert_eq!(owners.get(ssrc), Some(&found.producer));
                }
            }
        }
    }

    #[test]
    fn two_producers_share_neither_ssrc_nor_mid() {
        let mut keys = SlotMap::with_key();
        let (a, b): (ProducerKey, ProducerKey) = (keys.insert(()), keys.insert(()));
        let mut listener = RtpListener::default();
        listener.add((a, FIRST), EncodingIdentity { ssrc: Some(5), ..identity("0") }).unwrap();
        assert_eq!(
            listener.add((b, FIRST), EncodingIdentity { rtx_ssrc: Some(5), ..identity("1") }),
            Err("SSRC 5".into())
        );
        assert_eq!(listener.add((b, FIRST), identity("0")), Err("MID \"0\"".into()));
        assert_eq!(listener.find(5), Some(found(a, StreamKind::Media)));
    }
}
