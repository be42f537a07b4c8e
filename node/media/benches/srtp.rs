//! SRTP per packet: ours against rtc-srtp, with 500 keys in turn as a fan-out to 500 users has them, 1,200-byte
//! packets, the copy of the plaintext included.
//!
//! `cargo bench -p sluice-media --bench srtp`
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use rtc_dtls::crypto_provider::RTCCryptoProvider;
use rtc_dtls::crypto_provider::providers::AwsLcRsProvider;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile;
use sluice_media::secure::srtp::{MASTER_KEY_LEN, SrtpProfile, SrtpReceiver, SrtpSender, profile_lengths};

const USERS: usize = 500;
const PACKET_LEN: usize = 1200;

fn benchmark(criterion: &mut Criterion) {
    for (name, profile, library) in [
        ("AEAD_AES_128_GCM", SrtpProfile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm),
        ("AES_CM_128_HMAC_SHA1_80", SrtpProfile::Aes128CmSha1_80, ProtectionProfile::Aes128CmHmacSha1_80),
    ] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        seal(&mut group, profile, library);
        open(&mut group, profile, library);
        group.finish();
    }
}

fn seal(group: &mut BenchmarkGroup<'_, WallTime>, profile: SrtpProfile, library: ProtectionProfile) {
    let mut senders: Vec<_> =
        (0..USERS).map(|user| SrtpSender::new(profile, &master(profile, user)).unwrap()).collect();
    let mut room = vec![0; PACKET_LEN + profile_lengths(profile).rtp_overhead];
    let mut packet = packet();
    let mut turn = 0;
    group.bench_function("seal", |bencher| {
        bencher.iter(|| {
            next(&mut packet, &mut turn);
            room[..PACKET_LEN].copy_from_slice(&packet);
            senders[turn % USERS].seal_rtp(black_box(&mut room)).unwrap();
        });
    });

    let mut senders: Vec<_> = (0..USERS).map(|user| oracle(profile, library, user)).collect();
    group.bench_function("seal, rtc-srtp", |bencher| {
        bencher.iter(|| {
            next(&mut packet, &mut turn);
            black_box(senders[turn % USERS].encrypt_rtp(black_box(&packet)).unwrap());
        });
    });
}

fn open(group: &mut BenchmarkGroup<'_, WallTime>, profile: SrtpProfile, library: ProtectionProfile) {
    let mut sender = SrtpSender::new(profile, &master(profile, 0)).unwrap();
    let mut packet = packet();
    let mut turn = 0;
    let sealed: Vec<Vec<u8>> = (0..60_000)
        .map(|_| {
            next(&mut packet, &mut turn);
            let mut room = packet.clone();
            room.resize(PACKET_LEN + profile_lengths(profile).rtp_overhead, 0);
            sender.seal_rtp(&mut room).unwrap();
            room
        })
        .collect();
    let mut room = vec![0; sealed[0].len()];
    let mut index = 0;
    let fresh = || SrtpReceiver::new(profile, &master(profile, 0)).unwrap();
    let mut receiver = fresh();
    group.bench_function("open", |bencher| {
        bencher.iter(|| {
            // A packet is taken once: after the last one a new receiver begins.
            if index == sealed.len() {
                (index, receiver) = (0, fresh());
            }
            room.copy_from_slice(&sealed[index]);
            black_box(receiver.open_rtp(black_box(&mut room)).unwrap());
            index += 1;
        });
    });

    let mut receiver = oracle(profile, library, 0);
    group.bench_function("open, rtc-srtp", |bencher| {
        bencher.iter(|| {
            if index == sealed.len() {
                (index, receiver) = (0, oracle(profile, library, 0));
            }
            black_box(receiver.decrypt_rtp(black_box(&sealed[index])).unwrap());
            index += 1;
        });
    });
}

fn master(profile: SrtpProfile, user: usize) -> Vec<u8> {
    (0..MASTER_KEY_LEN + profile_lengths(profile).salt).map(|i| (i * 31 + user * 7) as u8).collect()
}

fn oracle(profile: SrtpProfile, library: ProtectionProfile, user: usize) -> Context {
    let master = master(profile, user);
    let (key, salt) = master.split_at(MASTER_KEY_LEN);
    Context::new(key, salt, library, None, None, AwsLcRsProvider::new().crypto()).unwrap()
}

fn packet() -> Vec<u8> {
    let mut packet = vec![7; PACKET_LEN];
    packet[..12].copy_from_slice(&[0x80, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
    packet
}

/// The next packet of the stream; each user sees a rising sequence number.
fn next(packet: &mut [u8], turn: &mut usize) {
    *turn += 1;
    packet[2..4].copy_from_slice(&(*turn as u16).to_be_bytes());
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
