//! DTLS: a handshake with both of its ends, and what datagrams cost that nobody waits for.
//!
//! `cargo bench -p sluice-media --bench handshake`
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use sluice_media::secure::dtls::{Association, DtlsCertificate};
use sluice_proto::ortc::{DtlsParameters, DtlsRole};

#[allow(clippy::disallowed_methods, reason = "any instant will do")]
fn benchmark(criterion: &mut Criterion) {
    let (node, client) = (certificate(), certificate());
    let now = Instant::now();
    criterion.bench_function("handshake, both ends", |bencher| {
        bencher.iter(|| handshake(now, &node, &client));
    });

    // 56 fragments of a byte each fill an Ethernet frame.
    let tiny: Vec<u8> = (0..56).flat_map(|at| fragment(11, 4_000, 2, at, &[7])).collect();
    let large = fragment(11, 4_000, 2, 0, &[7; 1_400]);
    let alert: Vec<u8> = [[21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 26].to_vec(), vec![7; 26]].concat();
    for (name, datagram) in [("tiny fragments", tiny), ("a large fragment", large), ("a forged alert", alert)] {
        criterion.bench_function(&format!("{name}, in a handshake"), |bencher| {
            let start = || {
                let mut end = Association::new(node.clone());
                end.connect(now, &parameters(DtlsRole::Server, &client), true);
                end
            };
            let hit = |mut end: Association| {
                let _ = end.handle(now, black_box(&datagram));
                end
            };
            bencher.iter_batched(start, hit, BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("{name}, once connected"), |bencher| {
            let mut end = handshake(now, &node, &client);
            bencher.iter(|| end.handle(now, black_box(&datagram)));
        });
    }
}

fn certificate() -> Arc<DtlsCertificate> {
    DtlsCertificate::generate().expect("randomness")
}

fn parameters(role: DtlsRole, certificate: &DtlsCertificate) -> DtlsParameters {
    DtlsParameters { role, fingerprints: certificate.fingerprints() }
}

/// The server's end of an association between two nodes.
fn handshake(now: Instant, node: &Arc<DtlsCertificate>, client: &Arc<DtlsCertificate>) -> Association {
    let (mut server, mut caller) = (Association::new(node.clone()), Association::new(client.clone()));
    server.connect(now, &parameters(DtlsRole::Client, client), true);
    caller.connect(now, &parameters(DtlsRole::Server, node), true);
    loop {
        let mut quiet = true;
        while let Some(datagram) = caller.poll_transmit() {
            quiet = false;
            server.handle(now, &datagram).expect("it is in its turn");
        }
        while let Some(datagram) = server.poll_transmit() {
            quiet = false;
            caller.handle(now, &datagram).expect("it is in its turn");
        }
        if quiet {
            return server;
        }
    }
}

/// A plaintext record with a fragment of a handshake message.
fn fragment(kind: u8, total: u32, message: u16, offset: u32, body: &[u8]) -> Vec<u8> {
    let len = (12 + body.len()) as u16;
    let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 9];
    record.extend(len.to_be_bytes());
    record.push(kind);
    record.extend(&total.to_be_bytes()[1..]);
    record.extend(message.to_be_bytes());
    record.extend(&offset.to_be_bytes()[1..]);
    record.extend(&(body.len() as u32).to_be_bytes()[1..]);
    record.extend(body);
    record
}

criterion_group!(benches, benchmark);
criterion_main!(benches);
