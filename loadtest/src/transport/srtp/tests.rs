//! Our receiver against rtc-srtp: random packets, replays, forgeries, and round the sequence numbers.

use proptest::prelude::*;

use super::*;

const PROFILES: [SrtpProfile; 2] = [SrtpProfile::AeadAes128Gcm, SrtpProfile::AeadAes256Gcm];

fn session(profile: SrtpProfile, is_client: bool) -> SrtpSession {
    let bytes = (0..profile.keying_material_len()).map(|index| (index * 7 + 3) as u8).collect();
    SrtpSession::new(&KeyingMaterial { profile, bytes, is_client }).unwrap()
}

/// One end that seals by rtc-srtp, the other that opens by ours, and one that opens by rtc-srtp.
fn ends(profile: SrtpProfile) -> (SrtpSession, SrtpSession, SrtpSession) {
    let (sender, ours, theirs) = (session(profile, true), session(profile, false), session(profile, false));
    assert!(ours.gcm.is_some());
    (sender, ours, SrtpSession { gcm: None, ..theirs })
}

fn streams(session: &SrtpSession) -> usize {
    session.gcm.as_ref().map_or(0, GcmReceiver::streams)
}

fn open(session: &mut SrtpSession, sealed: &[u8]) -> Option<Vec<u8>> {
    session.open_rtp(&mut sealed.to_vec()).map(<[u8]>::to_vec)
}

fn rtp(ssrc: u32, sequence_number: u16, csrcs: u8, extension_words: Option<u8>, payload: &[u8]) -> Vec<u8> {
    let extension_bit = if extension_words.is_some() { 0x10 } else { 0 };
    let mut packet = vec![0x80 | csrcs | extension_bit, 96];
    packet.extend(sequence_number.to_be_bytes());
    packet.extend([1, 2, 3, 4]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(vec![5; 4 * usize::from(csrcs)]);
    if let Some(words) = extension_words {
        packet.extend([0xbe, 0xde, 0, words]);
        packet.extend(vec![0; 4 * usize::from(words)]);
    }
    packet.extend(payload);
    packet
}

proptest! {
    #[test]
    fn opens_what_rtc_srtp_opens(
        start in 0..0x8000_u16,
        packets in prop::collection::vec(
            (1..4_u32, 0..400_u16, 0..4_u8, prop::option::of(0..5_u8), prop::collection::vec(any::<u8>(), 0..1200)), 1..40),
        swap: bool,
    ) {
        for profile in PROFILES {
            let (mut sender, mut ours, mut theirs) = ends(profile);
            let mut newest = [start; 4];
            let mut sealed: Vec<_> = packets.iter().map(|(ssrc, step, csrcs, words, payload)| {
                let newest = &mut newest[*ssrc as usize];
                *newest = newest.wrapping_add(step + 1);
                let plain = rtp(*ssrc, *newest, *csrcs, *words, payload);
                (sender.seal_rtp(&plain).unwrap(), plain)
            }).collect();
            if swap {
                // The first of a stream comes first: before it nobody knows of a rollover.
                sealed[1..].chunks_exact_mut(2).for_each(|pair| pair.swap(0, 1));
            }
            for (sealed, plain) in &sealed {
                prop_assert_eq!(ours.without_tag(sealed).map(<[u8]>::len), Some(plain.len()));
                let opened = open(&mut ours, sealed);
                prop_assert_eq!(&opened, &open(&mut theirs, sealed));
                prop_assert_eq!(opened.as_ref(), Some(plain));
                prop_assert_eq!(open(&mut ours, sealed), None, "a replay");
            }
        }
    }

    #[test]
    fn a_changed_bit_is_noticed(
        payload in prop::collection::vec(any::<u8>(), 0..100),
        position in any::<prop::sample::Index>(),
        bit in 0..8,
    ) {
        for profile in PROFILES {
            let (mut sender, mut ours, _) = ends(profile);
            let sealed = sender.seal_rtp(&rtp(1, 1, 1, Some(1), &payload)).unwrap();
            let mut forged = sealed.to_vec();
            let at = position.index(forged.len());
            forged[at] ^= 1_u8 << bit;
            prop_assert_eq!(open(&mut ours, &forged), None);
            prop_assert_eq!(streams(&ours), 0, "a forgery leaves no trace");
            prop_assert!(open(&mut ours, &sealed).is_some());
        }
    }

    #[test]
    fn any_bytes_are_survived(mut bytes in prop::collection::vec(any::<u8>(), 1..200), first in 0x80..0xc0_u8) {
        bytes[0] = first;
        for profile in PROFILES {
            let (_, mut ours, _) = ends(profile);
            prop_assert_eq!(open(&mut ours, &bytes), None);
            prop_assert_eq!(streams(&ours), 0);
        }
    }
}

#[test]
fn rollover_counters_agree_through_loss_and_reordering() {
    for profile in PROFILES {
        let (mut sender, mut ours, mut theirs) = ends(profile);
        // Four times round, in steps of 7, every third pair swapped on the way.
        let mut sealed: Vec<_> = (0..40_000_u32)
            .map(|number| {
                let plain = rtp(9, (60_000 + 7 * number) as u16, 0, None, &number.to_be_bytes());
                (sender.seal_rtp(&plain).unwrap(), plain)
            })
            .collect();
        sealed.chunks_exact_mut(6).for_each(|chunk| chunk.swap(0, 1));
        for (index, (sealed, plain)) in sealed.iter().enumerate() {
            assert_eq!(open(&mut ours, sealed).as_ref(), Some(plain), "packet {index}");
            assert_eq!(open(&mut theirs, sealed).as_ref(), Some(plain), "packet {index}");
        }
    }
}

#[test]
fn late_packets_are_taken_once_and_ancient_ones_never() {
    let (mut sender, mut ours, _) = ends(SrtpProfile::AeadAes128Gcm);
    let sealed: Vec<_> = (0..3000_u16)
        .map(|number| sender.seal_rtp(&rtp(9, 65_000_u16.wrapping_add(number), 0, None, &[1])).unwrap())
        .collect();
    let mut opens = |index: usize| open(&mut ours, &sealed[index]).is_some();
    let newest = sealed.len() - 1;
    assert!(opens(0) && opens(newest) && opens(newest + 1 - REPLAY_WINDOW));
    assert!(!opens(newest + 1 - REPLAY_WINDOW), "a replay");
    assert!(!opens(newest - REPLAY_WINDOW), "nobody knows whether it came before");
}
