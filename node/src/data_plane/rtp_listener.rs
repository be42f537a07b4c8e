//! Which producer a packet of a transport belongs to: by SSRC, or before that is known by the MID and RID that it carries
//! (RFC 8843 section 9.2). Each encoding learns at most one SSRC and one for its retransmissions, so what a client makes up cannot
//! grow the tables.

use rustc_hash::FxHashMap;

use super::keys::ProducerKey;
use super::rtp::ReceivedExtensions;

/// What a stream carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// Media.
    Media,
    /// Retransmissions in the format of RFC 4588.
    Rtx,
}

/// How a producer's encoding can be known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodingIdentity {
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

/// The streams of one transport.
#[derive(Debug, Default)]
pub struct RtpListener {
    by_ssrc: FxHashMap<u32, (ProducerKey, StreamKind)>,
    encodings: Vec<(ProducerKey, EncodingIdentity)>,
}

impl RtpListener {
    /// Adds a producer's encoding.
    ///
    /// # Errors
    /// What of it another producer has.
    pub fn add(&mut self, producer: ProducerKey, identity: EncodingIdentity) -> Result<(), String> {
        let ssrcs = [(identity.ssrc, StreamKind::Media), (identity.rtx_ssrc, StreamKind::Rtx)];
        for ssrc in ssrcs.iter().filter_map(|(ssrc, _)| *ssrc) {
            if self.by_ssrc.contains_key(&ssrc) {
                return Err(format!("SSRC {ssrc}"));
            }
        }
        let same =
            |(_, other): &&(ProducerKey, EncodingIdentity)| other.mid == identity.mid && other.rid == identity.rid;
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
                self.by_ssrc.insert(ssrc, (producer, kind));
            }
        }
        self.encodings.push((producer, identity));
        Ok(())
    }

    /// Forgets a producer.
    pub fn remove(&mut self, producer: ProducerKey) {
        self.by_ssrc.retain(|_, (key, _)| *key != producer);
        self.encodings.retain(|(key, _)| *key != producer);
    }

    /// The stream that a packet belongs to. Learns its SSRC if that is new and the packet says whose it is.
    pub fn find(
        &mut self,
        ssrc: u32,
        payload_type: u8,
        extensions: &ReceivedExtensions<'_>,
    ) -> Option<(ProducerKey, StreamKind)> {
        if let Some(found) = self.by_ssrc.get(&ssrc) {
            return Some(*found);
        }
        let mid = extensions.mid?;
        let rid = extensions.rid.or(extensions.repaired_rid);
        let (producer, identity) = self.encodings.iter_mut().find(|(_, identity)| {
            identity.mid.as_ref().is_some_and(|own| own.as_bytes() == mid)
                && identity.rid.as_ref().is_none_or(|own| Some(own.as_bytes()) == rid)
        })?;
        let (known, kind) = if identity.payload_types.contains(&payload_type) {
            (&mut identity.ssrc, StreamKind::Media)
        } else if identity.rtx_payload_types.contains(&payload_type) {
            (&mut identity.rtx_ssrc, StreamKind::Rtx)
        } else {
            return None;
        };
        if known.is_some() {
            return None;
        }
        *known = Some(ssrc);
        self.by_ssrc.insert(ssrc, (*producer, kind));
        Some((*producer, kind))
    }

    /// The producer whose media come with this SSRC.
    pub fn producer_of(&self, ssrc: u32) -> Option<ProducerKey> {
        self.by_ssrc.get(&ssrc).filter(|(_, kind)| *kind == StreamKind::Media).map(|(producer, _)| *producer)
    }

    /// The SSRC of a producer's media, once known.
    pub fn media_ssrc(&self, producer: ProducerKey) -> Option<u32> {
        self.encodings.iter().find(|(key, _)| *key == producer).and_then(|(_, identity)| identity.ssrc)
    }
}

#[cfg(test)]
mod tests {
    use slotmap::SlotMap;

    use super::*;

    fn identity(mid: &str) -> EncodingIdentity {
        let (payload_types, rtx_payload_types) = (vec![96], vec![97]);
        EncodingIdentity { mid: Some(mid.into()), payload_types, rtx_payload_types, ..Default::default() }
    }

    #[test]
    fn learns_one_ssrc_of_each_kind_by_mid() {
        let mut keys = SlotMap::with_key();
        let (a, b): (ProducerKey, ProducerKey) = (keys.insert(()), keys.insert(()));
        let mut listener = RtpListener::default();
        listener.add(a, identity("0")).unwrap();
        listener.add(b, identity("1")).unwrap();
        let with_mid = |mid: &'static [u8]| ReceivedExtensions { mid: Some(mid), ..Default::default() };
        assert_eq!(listener.find(1, 96, &ReceivedExtensions::default()), None);
        assert_eq!(listener.find(1, 96, &with_mid(b"1")), Some((b, StreamKind::Media)));
        assert_eq!(listener.find(2, 97, &with_mid(b"1")), Some((b, StreamKind::Rtx)));
        assert_eq!(listener.find(1, 96, &ReceivedExtensions::default()), Some((b, StreamKind::Media)));
        for ssrc in 1_000..301_000 {
            assert_eq!(listener.find(ssrc, 96, &with_mid(b"1")), None);
        }
        assert_eq!(listener.by_ssrc.len(), 2);
        listener.remove(b);
        assert_eq!(listener.find(1, 96, &with_mid(b"1")), None);
    }

    #[test]
    fn two_producers_share_neither_ssrc_nor_mid() {
        let mut keys = SlotMap::with_key();
        let (a, b): (ProducerKey, ProducerKey) = (keys.insert(()), keys.insert(()));
        let mut listener = RtpListener::default();
        listener.add(a, EncodingIdentity { ssrc: Some(5), ..identity("0") }).unwrap();
        assert_eq!(listener.add(b, EncodingIdentity { rtx_ssrc: Some(5), ..identity("1") }), Err("SSRC 5".into()));
        assert_eq!(listener.add(b, identity("0")), Err("MID \"0\"".into()));
        assert_eq!(listener.media_ssrc(a), Some(5));
    }
}
