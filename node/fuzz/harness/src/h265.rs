//! H.265 payloads, as those of H.264.

use sluice_media::wire::codec::Codec;

/// The bytes are payloads of one stream, each after its length.
pub fn run(data: &[u8]) {
    crate::h264::run_as(Codec::H265, data);
}

/// What encoders send: sets and slices by themselves, aggregated and cut, and temporal layers.
pub fn seeds() -> Vec<Vec<u8>> {
    let vps = [0x40, 0x01, 0x0c, 0x01, 0xff, 0xff];
    let sps = [0x42, 0x01, 0x01, 0x01, 0x60, 0, 0, 3, 0, 0x90, 0, 0, 3, 0, 0, 3, 0, 0x5d, 0xa0, 0x02];
    let pps = [0x44, 0x01, 0xc1, 0x72];
    let slice = [0x26, 0x01, 0xaf, 0x09];
    let mut aggregated = vec![0x60, 0x01];
    for unit in [&vps[..], &sps, &pps, &slice] {
        aggregated.extend((unit.len() as u16).to_be_bytes());
        aggregated.extend(unit);
    }
    let payloads = |payloads: &[&[u8]]| {
        payloads.iter().flat_map(|payload| [&[payload.len() as u8], *payload].concat()).collect::<Vec<u8>>()
    };
    vec![
        payloads(&[&vps, &sps, &pps, &slice, &[0x02, 0x01, 0xd0], &[0x04, 0x02, 0xd0]]),
        payloads(&[&aggregated, &[0x62, 0x01, 0x93, 0xaf], &[0x62, 0x01, 0x53, 1]]),
    ]
}
