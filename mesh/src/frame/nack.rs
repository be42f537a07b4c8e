//! What a receiving end misses, as a datagram: on the control stream it would wait for whatever was lost there before.

use bytes::{BufMut, Bytes, BytesMut};
use sluice_proto::ids::{RouteEpoch, RouteId};
use sluice_proto::pipe::{FeedbackBody, RouteFeedback};

use super::header::HEADER_LEN;

/// Where a frame has its flags: the class of audio, with a spatial layer, which no frame has.
const FLAGS: u8 = 0b0000_1111;

/// Bytes of a number behind the first one, which is in the header.
const SEQ_LEN: usize = 2;

/// Datagrams of at most `max_size` bytes that ask for packets of a route.
pub fn encode_nacks(
    route: RouteId,
    epoch: RouteEpoch,
    missing: &[u16],
    max_size: usize,
) -> impl Iterator<Item = Bytes> + '_ {
    let most = 1 + max_size.saturating_sub(HEADER_LEN) / SEQ_LEN;
    missing.chunks(most).filter_map(move |chunk| {
        let (first, rest) = chunk.split_first()?;
        let mut datagram = BytesMut::with_capacity(HEADER_LEN + rest.len() * SEQ_LEN);
        datagram.put_u32_le(route.0);
        datagram.put_u8(epoch.0);
        datagram.put_u16_le(*first);
        datagram.put_u8(FLAGS);
        rest.iter().for_each(|seq| datagram.put_u16_le(*seq));
        Some(datagram.freeze())
    })
}

/// What a datagram asks for; `None` if it is not of that kind.
pub fn decode_nack(datagram: &[u8]) -> Option<RouteFeedback> {
    let (&[r0, r1, r2, r3, epoch, s0, s1, FLAGS], rest) = datagram.split_first_chunk::<HEADER_LEN>()? else {
        return None;
    };
    let (rest, _) = rest.as_chunks::<SEQ_LEN>();
    let missing = std::iter::once(&[s0, s1]).chain(rest).map(|seq| u16::from_le_bytes(*seq)).collect();
    Some(RouteFeedback { route: u32::from_le_bytes([r0, r1, r2, r3]), epoch, body: FeedbackBody::Nack(missing) })
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeError, decode_datagram};
    use super::*;

    #[test]
    fn as_many_datagrams_as_it_takes_ask_for_all() {
        let missing: Vec<u16> = (65_000..65_535).chain(0..489).collect();
        for (max_size, count) in [(1_200, 2), (20, 147), (8, 1_024), (0, 1_024)] {
            let datagrams: Vec<_> = encode_nacks(RouteId(7), RouteEpoch(3), &missing, max_size).collect();
            assert_eq!(datagrams.len(), count);
            let mut asked = Vec::new();
            for datagram in datagrams {
                assert!(datagram.len() <= max_size.max(HEADER_LEN));
                let feedback = decode_nack(&datagram).unwrap();
                assert_eq!((feedback.route, feedback.epoch), (7, 3));
                let FeedbackBody::Nack(seqs) = feedback.body else { panic!("something else") };
                asked.extend(seqs);
                assert_eq!(decode_datagram(datagram, &mut Vec::new()), Err(DecodeError::Class), "it is no frame");
            }
            assert_eq!(asked, missing);
        }
    }
}
